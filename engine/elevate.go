package engine

import (
	"cmp"
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

// slots finds the templates of the credential.
func (e *Engine) slots(q *asked) (err error) {
	j := &q.cred.JIT
	get := func(kind template.Kind, name string) *template.Template {
		if err != nil {
			return nil
		}
		t, gerr := e.Templates.Get(kind, name)
		switch {
		case gerr != nil:
			err = badInput(gerr)
		case !t.Enabled:
			err = &InputError{Reason: fmt.Sprintf("template %s/%s is not enabled", t.Kind, t.Name)}
		}
		return t
	}
	if !j.Creates() {
		q.forward = get(template.Elevate, j.Elevate)
		q.removal = get(template.Elevate, cmp.Or(j.Revert, j.Elevate))
		return err
	}
	if q.forward = get(template.Create, j.Create); err != nil {
		return err
	}
	q.removal = get(template.Delete, cmp.Or(j.Delete, q.forward.Removal))
	if j.Elevate != "" {
		q.elevate = get(template.Elevate, j.Elevate)
		q.revert = get(template.Elevate, cmp.Or(j.Revert, j.Elevate))
	}
	return err
}

// share gives each template the params of a request that it takes. What none
// takes goes to the first, which says so.
func (q *asked) share(a Ask) (forward, elevate map[string]any, err error) {
	forward, elevate = map[string]any{}, map[string]any{}
	for name, v := range a.Params {
		too := q.elevate != nil && takes(q.elevate, name)
		if too {
			elevate[name] = v
		}
		if !too || takes(q.forward, name) {
			forward[name] = v
		}
	}
	if q.elevate != nil {
		if err := q.elevate.MaySet(elevate, a.Operator); err != nil {
			return nil, nil, err
		}
	}
	return forward, elevate, q.forward.MaySet(forward, a.Operator)
}

// elevation is what a grant pins to elevate the account that it makes.
type elevation struct {
	Forward string         `json:"forward"`        // template hash
	Removal string         `json:"removal"`        // likewise: its section revert is run
	Params  map[string]any `json:"params"`         // all of them
	Given   map[string]any `json:"given"`          // those of the removal that are not its defaults
	Vars    map[string]any `json:"vars,omitempty"` // from when it began
}

// elevation resolves the params of the template that elevates a new account.
func (q *asked) elevation(given map[string]any, env lang.Env) (*elevation, error) {
	defaults := map[string]*lang.Value{}
	for name, v := range q.cred.Params {
		if takes(q.elevate, name) {
			defaults[name] = v
		}
	}
	params, err := q.elevate.Resolve(defaults, given, env, generate)
	if err != nil {
		return nil, badInput(err)
	}
	for name, v := range params {
		if _, is := v.(secret.Value); is {
			return nil, &InputError{Reason: fmt.Sprintf("template %s/%s takes the secret %s: it cannot elevate an account that is made for the grant", q.elevate.Kind, q.elevate.Name, name)}
		}
	}
	out := &elevation{Forward: q.elevate.Hash, Removal: q.revert.Hash, Params: params}
	out.Given, err = removalPins(q.revert, params, q.cred.Params, env)
	return out, err
}

// second is a part of a grant with a template of its own, above all the one that
// elevates the account which the grant made; grant is as the template sees it.
type second struct {
	tpl   *template.Template
	grant grant.Grant
	// base is the number of the last step before those of this part.
	base int
}

// second returns the part that elevates, or nil. back is for its removal.
func (w *work) second(ctx context.Context, back bool) (*second, error) {
	pinned, err := readPins(w.c.Grant.Plan)
	if err != nil || pinned.Elevation == nil {
		return nil, err
	}
	first, err := w.e.pinned(ctx, w.c.Grant.Plan.Forward)
	if err != nil {
		return nil, err
	}
	l := pinned.Elevation
	p := &second{grant: w.c.Grant, base: count(first.Steps) + 1} // and the proof of the login
	hash := l.Forward
	if back {
		hash = l.Removal
	}
	if p.tpl, err = w.e.pinned(ctx, hash); err != nil {
		return nil, err
	}
	g := &p.grant
	g.Outputs = elevationOutputs(g.Outputs)
	g.Plan.Forward, g.Plan.Removal = l.Forward, l.Removal
	if g.Plan.Params, err = json.Marshal(pins{Forward: l.Params, Removal: l.Given, Vars: l.Vars}); err != nil {
		return nil, fmt.Errorf("engine: params: %w", err)
	}
	return p, nil
}

// elevationKey is where the outputs of an elevation are among those of the
// creation; no output can have that name.
const elevationKey = "+elevation"

func elevationOutputs(all json.RawMessage) json.RawMessage {
	var out map[string]json.RawMessage
	if json.Unmarshal(all, &out) != nil {
		return nil
	}
	return out[elevationKey]
}

// withElevation puts the outputs of an elevation beside those of the creation.
func withElevation(all, own []byte) []byte {
	var out map[string]json.RawMessage
	if json.Unmarshal(all, &out) != nil || out == nil {
		out = map[string]json.RawMessage{}
	}
	out[elevationKey] = own
	b, err := json.Marshal(out)
	if err != nil {
		return all
	}
	return b
}

// elevateToo elevates the account that was just made, when the grant does both,
// and adds what that hands on to said.
func (w *work) elevateToo(ctx context.Context, said handedOn) (handedOn, error) {
	p, err := w.second(ctx, false)
	if err != nil || p == nil {
		return said, err
	}
	own, err := w.elevateNew(ctx, p)
	said.outputs = withElevation(said.outputs, own)
	pinned, perr := readPins(grant.Plan{Params: said.params})
	now, nerr := readPins(w.c.Grant.Plan)
	if perr != nil || nerr != nil {
		return said, errors.Join(err, perr, nerr)
	}
	pinned.Elevation = now.Elevation // with its variables
	params, merr := json.Marshal(pinned)
	if merr == nil {
		said.params = params
	}
	return said, errors.Join(err, merr)
}

// elevateNew runs the template that elevates, and returns what it hands on.
func (w *work) elevateNew(ctx context.Context, p *second) ([]byte, error) {
	conn, cn, err := w.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	params, err := pinnedParams(p.tpl, p.grant.Plan, nil)
	if err != nil {
		return nil, err
	}
	have, err := w.e.Store.Changes(ctx, w.c.Grant.ID)
	if err != nil {
		return nil, err
	}
	skew, err := w.skew(ctx, conn, cn)
	if err != nil {
		return nil, err
	}
	env := lang.Env{"params": params, "grant": grantEnv(&p.grant, skew), "device": deviceEnv(&cn.Connection, skew)}
	if err := w.keepVars(ctx, p.tpl, env, func(v *pins) *map[string]any { return &v.Elevation.Vars }); err != nil {
		return nil, err
	}
	if err := w.rehearseOwn(ctx, conn, cn, p, env); err != nil {
		return nil, err
	}
	record := w.newRecorder(have)
	record.step = p.base
	w.obs.base = p.base
	defer func() { w.obs.base = 0 }()
	w.exec.Steps += count(p.tpl.Steps)
	w.say(fmt.Sprintf("elevating account %s on %s", p.grant.Account, cn.Device))
	res, err := executor.Do(ctx, executor.Run{
		Steps: p.tpl.Steps, Become: p.tpl.Become, Timeout: p.tpl.Timeout, KeepGoing: p.tpl.OnDisconnect == "continue", Env: env,
		Conn: conn, Modules: w.e.Modules, ID: w.exec.ID + "-e", Scope: p.grant.ID, Record: record, Observe: w.obs, Lease: w.lease, Until: w.until(),
	})
	out, oerr := outputsOf(p.tpl, res)
	if err == nil { // after a failure there may be less of them
		err = oerr
	}
	return out, err
}

// skew measures the device's clock.
func (w *work) skew(ctx context.Context, conn transport.Conn, cn *connection) (time.Duration, error) {
	calls := platforms[cn.Platform].call(w.e.Modules, &grant.Grant{Account: w.c.Grant.Account}, "")
	if calls == nil {
		return 0, nil
	}
	sent := w.e.Now()
	res, err := executor.Do(ctx, executor.Run{Conn: conn, Modules: w.e.Modules, ID: w.exec.ID + "-c", Scope: w.c.Grant.ID, Env: lang.Env{}, After: calls})
	if err != nil {
		return 0, err
	}
	return skewOf(res.Calls["surface"], sent, w.e.Now())
}

// found notes what the device said about the objects of an elevation, now that
// it was taken back.
func found(r *grant.Receipt, seen []executor.Seen) {
	for _, s := range seen {
		c := &s.Change
		if c.Before != absent {
			r.Before = append(r.Before, c.Object+"\t"+c.Before)
		}
		if s.Known && s.Now != absent {
			r.After = append(r.After, c.Object+"\t"+s.Now)
		}
		switch {
		case len(c.Others) > 0:
			for _, id := range c.Others {
				r.Held = append(r.Held, c.Object+" by "+id)
			}
		case !s.Known:
			r.Left = append(r.Left, c.Object+"\tthe device does not say what it is")
		case s.Now == c.Before:
		case s.Now == absent:
			r.Conflicts = append(r.Conflicts, c.Object+": it was there before the grant, and somebody else took it away")
		case c.Undo.Restore != "" && (c.State != executor.Intended && s.Now != c.After || none(s.Now) && none(c.Before)):
			r.Conflicts = append(r.Conflicts, c.Object+": somebody else changed it to "+s.Now)
		default:
			r.Left = append(r.Left, c.Object+"\t"+s.Now)
		}
	}
}

// absent is the state of what is not there.
const absent = "absent"

// none reports whether a state says that what a step gives is not there.
func none(state string) bool { return strings.HasPrefix(state, absent) }
