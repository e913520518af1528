package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/lang"
	"runner/engine/secret"
	"runner/engine/template"
	"runner/engine/transport"
)

// RequestPlan is what a request would do now, and what its removal would do.
type RequestPlan struct {
	Credential, Device, Address string
	Requester, Caller           string
	Because                     string // why the requester may
	Pattern                     string // of account names
	Creates                     bool   // the account is made for the grant
	Account                     string // that is changed, or an example
	UID                         int64  // the next free one; 0 where the device itself numbers accounts
	For                         time.Duration
	Expires                     time.Time // if the account were made at once
	Backstop                    time.Time // when the device itself ends the access, in our clock; zero: it does not
	DeviceBackstop              time.Time // the same moment by the device's clock
	Skew                        time.Duration
	Secret                      string // what the requester gets
	Peer                        string // who answered
	Create, Remove              TemplatePlan
	// Problems are what would make the request fail; Notes what it would get round.
	Problems, Notes []string
}

// TemplatePlan is what a template of the grant would do.
type TemplatePlan struct {
	Template string // kind/name@hash
	Params   []ExplainedValue
	Vars     []ExplainedValue
	Plan     *executor.Plan
	// Steps are the results of check mode; Diffs what it would change. Of a
	// removal there are none: there is nothing to remove yet.
	Steps []executor.StepResult
	Diffs []StepDiff
}

// PlanRequest says what Request and the creation would do, and later the
// removal. It connects, looks, and runs the creation in check mode: nothing is
// changed, neither on the device nor in the store. Errors: those of Request,
// and *transport.Error.
func (e *Engine) PlanRequest(ctx context.Context, a Ask) (*RequestPlan, error) {
	now := e.Now()
	q, g, err := e.consider(ctx, a, now)
	if err != nil {
		return nil, err
	}
	if g.Creates && platforms[q.dev.Platform].numbered {
		if g.UID, err = e.Store.NextUID(ctx, q.dev.Name, q.dev.UIDs.First, q.dev.UIDs.Last, now); err != nil {
			return nil, err
		}
	}
	v, err := e.values(&g, q, a, unmade)
	if err != nil {
		return nil, err
	}
	g.Requested, g.Expires = now, now.Add(g.For)
	p := &RequestPlan{
		Credential: q.cred.Name, Device: q.dev.Name, Address: q.conn.Address, Requester: a.Requester, Caller: a.Caller, Because: because(q, a),
		Pattern: q.cred.AccountText, Creates: g.Creates, Account: g.Account, UID: g.UID, For: g.For, Expires: g.Expires, Backstop: g.Backstop, Secret: v.hand.what(a),
	}
	conn, err := e.Dialer.Dial(ctx, q.conn)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	p.Peer = conn.Peer().Address + " " + conn.Peer().Identity
	if q.elevate != nil {
		p.Notes = append(p.Notes, fmt.Sprintf("then the account is elevated by elevate/%s, which is not tried here because there is no such account yet; the removal begins with the section revert of elevate/%s", q.elevate.Name, q.revert.Name))
	}
	if err := e.planCreate(ctx, p, conn, q, &g, v); err != nil {
		return nil, err
	}
	if !g.Backstop.IsZero() {
		p.DeviceBackstop = g.Backstop.Add(p.Skew)
	}
	return p, e.planRemove(ctx, p, q, &g, v)
}

// because says by which entry of the credential the requester may.
func because(q asked, a Ask) string {
	for _, r := range q.cred.Requesters {
		if r == a.Requester {
			return "credential " + q.cred.Name + " names " + r
		}
		if group, is := strings.CutPrefix(r, "@"); is && inGroup(a.Requester, group) {
			return "credential " + q.cred.Name + " names " + r + ", and " + a.Requester + " is in it"
		}
	}
	return "credential " + q.cred.Name + " names nobody, and " + a.Caller + " is an operator"
}

// what says what a requester gets.
func (h *handover) what(a Ask) string {
	switch {
	case h.PrivateKey != "":
		return "a private key"
	case a.Params["public_key"] != nil:
		return "nothing: the key is the requester's own"
	case h.Secrets["password"] != "":
		return "a password"
	}
	return "nothing"
}

// planCreate looks at the device and runs the creation in check mode.
func (e *Engine) planCreate(ctx context.Context, p *RequestPlan, conn transport.Conn, q asked, g *grant.Grant, v *values) error {
	tpl := q.forward
	env := lang.Env{"params": v.params, "grant": grantEnv(g, 0), "device": deviceEnv(q.conn, 0)}
	if err := evalVars(tpl, env); err != nil {
		return badInput(err)
	}
	run := executor.Run{
		Steps: tpl.Steps, Become: tpl.Become, Timeout: tpl.Timeout, Env: env, Conn: conn, Modules: e.Modules, ID: e.newID("x"), Mode: transport.Check, Diff: true,
	}
	if !g.Creates {
		h := rehearsal{forward: tpl, back: q.removal, grant: g, env: env, id: run.ID + "-rehearsal"}
		if err := e.rehearsePlan(ctx, conn, q, h, v); err != nil {
			if _, step := errors.AsType[*executor.StepError](err); !step {
				return err
			}
			p.Problems = append(p.Problems, err.Error())
		}
	}
	sent := e.Now()
	if run.Before = platforms[q.conn.Platform].call(e.Modules, g, ""); run.Before != nil {
		run.Probed = func(_ context.Context, calls map[string]map[string]any) error {
			p.surface(g, calls["surface"], sent, e.Now())
			env["grant"], env["device"] = grantEnv(g, p.Skew), deviceEnv(q.conn, p.Skew)
			return nil
		}
	}
	res, err := executor.Do(ctx, run)
	step, failed := errors.AsType[*executor.StepError](err)
	if err != nil && !failed {
		return err
	}
	if failed {
		p.Problems = append(p.Problems, step.Error())
	}
	p.Create = e.templatePlan(tpl, explainParams(tpl, q.cred.Params, v.given, v.params), env)
	p.Create.Steps = res.Steps
	mask := &secret.Mask{}
	for _, s := range v.hand.Secrets {
		if s != "" && s != madeLater {
			if err := mask.Add(secret.New(s)); err != nil {
				return badInput(err)
			}
		}
	}
	for _, s := range res.Steps {
		for _, d := range s.Diffs {
			d.Object, d.Before, d.After = mask.String(d.Object), mask.String(d.Before), mask.String(d.After)
			p.Create.Diffs = append(p.Create.Diffs, StepDiff{N: s.N, Diff: d})
		}
	}
	run.Conn, run.Mode, run.Before, run.Probed = nil, transport.Apply, nil, nil
	run.Env = env
	p.Create.Plan, err = executor.Explain(ctx, run)
	return err
}

// rehearsePlan rehearses the elevation of a request that is not stored.
func (e *Engine) rehearsePlan(ctx context.Context, conn transport.Conn, q asked, h rehearsal, v *values) error {
	params, err := json.Marshal(pins{Forward: v.open, Removal: v.removal})
	if err != nil {
		return fmt.Errorf("engine: params: %w", err)
	}
	g := *h.grant
	g.Plan.Params, h.grant = params, &g
	return rehearse(ctx, e.Modules, conn, q.conn, h)
}

// surface notes what is on the device already, and its clock.
func (p *RequestPlan) surface(g *grant.Grant, surface map[string]any, from, to time.Time) {
	if free, is := surface["uid_free"].(bool); is && !free && g.Creates {
		p.Notes = append(p.Notes, fmt.Sprintf("uid %d is still known on %s; the request takes another one then", g.UID, p.Device))
	}
	skew, err := skewOf(surface, from, to)
	if err != nil {
		p.Problems = append(p.Problems, fmt.Sprintf("%s: %v", p.Device, err))
	}
	p.Skew = skew
}

// templatePlan is what is known of a template before its steps.
func (e *Engine) templatePlan(t *template.Template, params []ExplainedValue, env lang.Env) TemplatePlan {
	return TemplatePlan{Template: string(t.Kind) + "/" + t.Name + "@" + t.Hash[:12], Params: params, Vars: explainVars(t, env)}
}

// planRemove says what the removal would do; what the creation would have
// changed stands in for what is recorded then.
func (e *Engine) planRemove(ctx context.Context, p *RequestPlan, q asked, g *grant.Grant, v *values) error {
	tpl, steps := q.removal, q.removal.Steps
	if tpl.Kind == template.Elevate {
		steps = tpl.Revert
	}
	env := lang.Env{"grant": grantEnv(g, p.Skew), "device": deviceEnv(q.conn, p.Skew), "created": createdEnv(g, nil, nil)}
	params, err := tpl.Resolve(nil, v.removal, env, unmade)
	if err != nil {
		return badInput(err)
	}
	env["params"] = params
	if err := evalVars(tpl, env); err != nil {
		return badInput(err)
	}
	shown := explainParams(tpl, nil, v.removal, params)
	for i := range shown {
		shown[i].From = removalOrigin(shown[i], p.Create.Params, q)
	}
	p.Remove = e.templatePlan(tpl, shown, env)
	delete(env, "created") // known when the removal runs
	var changes []executor.Change
	for _, s := range p.Create.Plan.Steps {
		for _, o := range s.Objects {
			changes = append(changes, executor.Change{Seq: len(changes), Step: s.N, Module: s.Module, Object: o.ID, State: executor.Done, Before: "absent", After: "?", Undo: o.Undo})
		}
	}
	p.Remove.Plan, err = executor.Explain(ctx, executor.Run{
		Steps: steps, Become: tpl.Become, Timeout: tpl.Timeout, KeepGoing: tpl.OnDisconnect == "continue", Env: env, Modules: e.Modules, ID: "plan", Recorded: changes,
	}, "created")
	return err
}

// removalOrigin says who set a param of the removal: what it shares with the
// creation is what that had.
func removalOrigin(v ExplainedValue, create []ExplainedValue, q asked) string {
	if v.From != template.FromRequest { // it was not pinned
		return v.From
	}
	for _, c := range create {
		if c.Name == v.Name {
			return c.From
		}
	}
	if q.cred.Params[v.Name] != nil {
		return template.FromCredential
	}
	return v.From
}
