package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/journal"
	"runner/engine/lang"
	"runner/engine/secret"
	"runner/engine/template"
	"runner/engine/transport"
)

// AdHoc is a run of a template without any grant.
type AdHoc struct {
	Template   *template.Template
	Connection *inventory.Connection
	// Dialled, when it is there, returns the connection that was begun before
	// the template was read.
	Dialled  func() (transport.Conn, error)
	Params   map[string]any
	Defaults map[string]*lang.Value // params of the credential, which Params beat
	Mode     transport.Mode
	// Account and UID stand in for those of a grant; without them the params
	// username and uid do.
	Account  string
	UID      int64
	NoFuse   bool
	FromStep int
	Diff     bool // have the steps tell what objects were and are
	// Only and Except select steps by their tags.
	Only, Except []string

	// A repetition stands in for a grant and has its parameters.
	grant  *grant.Grant
	params map[string]any
}

// AdHocResult is what became of one.
type AdHocResult struct {
	Execution grant.Execution
	Steps     []grant.StepResult
	Outputs   map[string]any
	Undone    []string // objects put back after a failure
	Conflicts []string // objects that somebody else changed since: left alone
	Diffs     []StepDiff
}

// StepDiff is an object that a step changed, or in check mode would change. The
// texts have passed the mask.
type StepDiff struct {
	N int
	executor.Diff
}

// RunTemplate runs a template on a device. There is no grant, so nothing
// removes what it makes: on failure the changes are undone here, unless the
// template says on_failure: keep. The execution is stored when it has taken a
// second, and when it is over; the error is that of the run.
func (e *Engine) RunTemplate(ctx context.Context, a AdHoc) (AdHocResult, error) {
	cn := &connection{Connection: *a.Connection}
	w := &work{e: e, mask: &secret.Mask{}, exec: grant.Execution{
		ID: e.newID("x"), Kind: grant.Kind(a.Template.Kind), Device: cn.Device, Node: e.Node,
		Attempt: 1, Started: e.Now(), Template: string(a.Template.Kind) + "/" + a.Template.Name + "@" + a.Template.Hash[:12], Steps: count(a.Template.Steps),
	}}
	w.log = journal.New(e.Store, w.exec.ID, w.mask, journal.Options{}) //nolint:contextcheck // a log is written to its end also when ctx is over
	w.obs = newObserver(w)
	g := adHocGrant(a, e.Now())
	if a.grant != nil {
		g = *a.grant
	}
	env := lang.Env{"grant": grantEnv(&g, 0), "device": deviceEnv(a.Connection, 0), "created": createdEnv(&g, nil, a.Template.StepsRead())}
	res, out, err := w.adHoc(ctx, a, env)
	out.Outputs = map[string]any{}
	if res != nil {
		for _, o := range a.Template.Outputs {
			if v, verr := o.Value.Eval(res.Env); verr == nil {
				out.Outputs[o.Name] = v
			}
		}
	}
	outcome, msg := "ok", ""
	if err != nil {
		outcome, msg = "failed", err.Error()
		if te, is := errors.AsType[*transport.Error](err); is {
			outcome = "unreachable"
			if !te.SafeToRetry {
				outcome = "interrupted"
			}
		}
	}
	w.ended(ctx, outcome, msg)
	if serr := e.Store.PutExecution(context.WithoutCancel(ctx), grant.Fence{}, w.exec, w.obs.steps...); serr != nil {
		e.Log.Error("the end of an execution is not stored", slog.String("execution", w.exec.ID), slog.Any("error", serr))
	} else {
		w.measure()
	}
	out.Execution, out.Steps = w.exec, w.obs.steps
	return out, err
}

// Repeat runs the creation of an active grant once more, with what was pinned
// for it and its secrets as far as they were not collected, as an ad hoc run:
// the grant does not move, and when a step fails what this run changed is
// undone. It is how a template is asked whether a second run harms.
func (e *Engine) Repeat(ctx context.Context, id string) (AdHocResult, error) {
	c, err := e.Store.Case(ctx, id)
	if err != nil {
		return AdHocResult{}, err
	}
	tpl, err := e.pinned(ctx, c.Grant.Plan.Forward)
	if err != nil {
		return AdHocResult{}, err
	}
	cn, err := pinnedConnection(c.Grant.Plan)
	if err != nil {
		return AdHocResult{}, err
	}
	hand := &handover{}
	if len(c.Grant.Sealed) > 0 {
		if hand, err = (&work{e: e, c: c, mask: &secret.Mask{}}).unseal(); err != nil {
			return AdHocResult{}, err
		}
	}
	params, err := pinnedParams(tpl, c.Grant.Plan, hand.Secrets)
	if err != nil {
		return AdHocResult{}, err
	}
	return e.RunTemplate(ctx, AdHoc{Template: tpl, Connection: &cn.Connection, grant: &c.Grant, params: params})
}

// Mask hides the secrets of a grant that were not collected yet.
func (e *Engine) Mask(c grant.Case) (*secret.Mask, error) {
	w := &work{e: e, c: c, mask: &secret.Mask{}}
	if len(c.Grant.Sealed) == 0 {
		return w.mask, nil
	}
	_, err := w.unseal()
	return w.mask, err
}

// adHocGrant stands in for the grant that templates read.
func adHocGrant(a AdHoc, now time.Time) grant.Grant {
	g := grant.Grant{ID: "adhoc", Device: a.Connection.Device, Requested: now}
	g.Expires = now.Add(time.Hour)
	g.Backstop = g.Expires
	g.Account, g.UID = a.Account, a.UID
	if g.Account == "" {
		g.Account, _ = a.Params["username"].(string)
	}
	if text, is := a.Params["uid"].(string); is && g.UID == 0 {
		g.UID, _ = strconv.ParseInt(text, 10, 64) // what is no number is told of with the params
	}
	return g
}

func (w *work) adHoc(ctx context.Context, a AdHoc, env lang.Env) (*executor.Result, AdHocResult, error) {
	var out AdHocResult
	params := a.params
	if params == nil {
		var err error
		if params, err = a.Template.Resolve(a.Defaults, a.Params, env, generate); err != nil {
			return nil, out, badInput(err)
		}
	}
	for _, v := range params {
		if s, is := v.(secret.Value); is && !s.IsZero() {
			if err := w.mask.Add(s); err != nil {
				return nil, out, badInput(err)
			}
		}
	}
	env["params"] = params
	if err := evalVars(a.Template, env); err != nil {
		return nil, out, badInput(err)
	}
	start := w.e.Now()
	dial := a.Dialled
	if dial == nil {
		dial = func() (transport.Conn, error) { return w.e.Dialer.Dial(ctx, a.Connection) }
	}
	conn, err := dial()
	w.exec.Connect = w.e.Now().Sub(start)
	if err != nil {
		return nil, out, err
	}
	defer conn.Close()
	w.exec.Peer = conn.Peer().Address + " " + conn.Peer().Identity
	run := executor.Run{
		Steps: a.Template.Steps, Become: a.Template.Become, Timeout: a.Template.Timeout, KeepGoing: a.Template.OnDisconnect == "continue",
		Env: env, Conn: conn, Modules: w.e.Modules, ID: w.exec.ID, Mode: a.Mode, NoFuse: a.NoFuse, FromStep: a.FromStep, Only: a.Only, Except: a.Except, Observe: w.obs, Diff: a.Diff,
	}
	res, err := executor.Do(ctx, run)
	for _, s := range res.Steps {
		for _, d := range s.Diffs {
			d.Object, d.Before, d.After = w.mask.String(d.Object), w.mask.String(d.Before), w.mask.String(d.After)
			out.Diffs = append(out.Diffs, StepDiff{N: s.N, Diff: d})
		}
	}
	if _, step := errors.AsType[*executor.StepError](err); step && a.Template.OnFailure != "keep" && a.Mode == transport.Apply {
		run.Recorded, run.ID = res.Changes, w.exec.ID+"-undo"
		var uerr error
		out.Undone, out.Conflicts, uerr = executor.Revert(ctx, run)
		if uerr != nil {
			err = errors.Join(err, fmt.Errorf("undoing it: %w", uerr))
		}
	}
	return res, out, err
}
