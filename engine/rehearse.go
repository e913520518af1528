package engine

import (
	"context"
	"errors"
	"fmt"

	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/template"
	"runner/engine/transport"
)

// rehearsal is an elevation that has not been made yet, and how it would be
// taken back.
type rehearsal struct {
	forward, back *template.Template
	grant         *grant.Grant // as both see it
	env           lang.Env     // of the elevation
	id            string
}

// rehearse takes an elevation back in check mode, before it is made: by the login
// that will have to do it, as the accounts that its steps run as, looking at the
// objects that will have been changed. Nothing is changed. What cannot be taken
// back is not given.
func rehearse(ctx context.Context, mods *module.Registry, conn transport.Conn, cn *inventory.Connection, h rehearsal) error {
	plan, err := executor.Explain(ctx, executor.Run{Steps: h.forward.Steps, Become: h.forward.Become, Timeout: h.forward.Timeout, Env: h.env, Modules: mods, ID: h.id})
	if err != nil {
		return err
	}
	var changes []executor.Change
	for _, s := range plan.Steps {
		for _, o := range s.Objects {
			changes = append(changes, executor.Change{Seq: len(changes), Step: s.N, Module: s.Module, Object: o.ID, State: executor.Done, Before: absent, After: "?", Undo: o.Undo})
		}
	}
	env := lang.Env{"grant": h.env["grant"], "device": deviceEnv(cn, 0), "created": createdEnv(h.grant, nil, h.back.StepsRead())}
	params, err := removalParams(h.back, h.grant.Plan, env)
	if err != nil {
		return err
	}
	env["params"], env["vars"] = params, h.env["vars"]
	if h.back.Hash != h.forward.Hash {
		if err := evalVars(h.back, env); err != nil {
			return err
		}
	}
	_, err = executor.Do(ctx, executor.Run{
		Steps: h.back.Revert, Become: h.back.Become, Timeout: h.back.Timeout, Env: env, Conn: conn, Modules: mods, ID: h.id, Scope: h.grant.ID,
		Mode: transport.Check, Recorded: changes,
	})
	if step, is := errors.AsType[*executor.StepError](err); is {
		return fmt.Errorf("the login %s could not take it back, so it was not given: %w", cn.User, step)
	}
	return err
}

// rehearseOwn rehearses an elevation of the grant in this execution.
func (w *work) rehearseOwn(ctx context.Context, conn transport.Conn, cn *connection, p *second, env lang.Env) error {
	back, err := w.e.pinned(ctx, p.grant.Plan.Removal)
	if err != nil {
		return err
	}
	err = rehearse(ctx, w.e.Modules, conn, &cn.Connection, rehearsal{forward: p.tpl, back: back, grant: &p.grant, env: env, id: w.exec.ID + "-rehearsal"})
	if err == nil {
		w.log.Note(0, "rehearsed: the same login can take it back")
	}
	return err
}
