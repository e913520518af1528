package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/secret"
	"runner/engine/template"
	"runner/engine/transport"
)

// forward creates: connect, look, store what will be changed, change it, prove
// that the account works, activate. Whatever goes wrong after the first byte
// that could change the device ends in a removal.
func (w *work) forward(ctx context.Context) error {
	hand, err := w.unseal()
	if err != nil {
		return w.fail(ctx, err, false, handedOn{})
	}
	tpl, err := w.e.pinned(ctx, w.c.Grant.Plan.Forward)
	if err != nil {
		return w.fail(ctx, err, false, handedOn{})
	}
	w.exec.Template = string(tpl.Kind) + "/" + tpl.Name + "@" + tpl.Hash[:12]
	ctx, cancel := w.untilEnded(ctx)
	defer cancel()
	for try := 0; ; try++ {
		res, err := w.create(ctx, tpl, hand)
		if errors.Is(err, errUIDTaken) && try < uidTries {
			if err = w.otherUID(ctx, tpl); err == nil {
				continue
			}
		}
		sent := res != nil && res.Sent
		said, serr := w.handOn(tpl, res)
		if err == nil {
			err = serr
		}
		if err != nil {
			return w.fail(ctx, err, sent, said)
		}
		if err := w.prove(ctx, hand); err != nil {
			return w.fail(ctx, fmt.Errorf("the account was made but cannot log in: %w", err), true, said)
		}
		if said, err = w.elevateToo(ctx, said); err != nil {
			return w.fail(ctx, fmt.Errorf("the account was made but not elevated: %w", err), true, said)
		}
		return w.activate(ctx, said)
	}
}

// errUIDTaken says that the device still knows the reserved uid.
var errUIDTaken = errors.New("the uid is in use on the device")

// create runs the template.
func (w *work) create(ctx context.Context, tpl *template.Template, hand *handover) (*executor.Result, error) {
	conn, cn, err := w.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := w.recognise(ctx, conn.Peer()); err != nil {
		return nil, err
	}
	params, err := w.params(tpl, hand)
	if err != nil {
		return nil, err
	}
	have, err := w.e.Store.Changes(ctx, w.c.Grant.ID)
	if err != nil {
		return nil, err
	}
	g := &w.c.Grant
	env := lang.Env{"params": params, "grant": grantEnv(g, 0), "device": deviceEnv(&cn.Connection, 0)}
	if err := w.keepVars(ctx, tpl, env, func(p *pins) *map[string]any { return &p.Vars }); err != nil {
		return nil, err
	}
	if !g.Creates {
		if err := w.rehearseOwn(ctx, conn, cn, &second{tpl: tpl, grant: *g}, env); err != nil {
			return nil, err
		}
	}
	run := executor.Run{
		Steps: tpl.Steps, Become: tpl.Become, Timeout: tpl.Timeout, KeepGoing: tpl.OnDisconnect == "continue", Env: env,
		Conn: conn, Modules: w.e.Modules, ID: w.exec.ID, Scope: g.ID, Record: w.newRecorder(have), Observe: w.obs, Lease: w.begin, Until: w.until(),
	}
	sent := w.e.Now()
	if run.Before = platforms[cn.Platform].call(w.e.Modules, g, ""); run.Before != nil {
		run.Probed = func(_ context.Context, calls map[string]map[string]any) error {
			return w.probed(env, cn, calls["surface"], sent)
		}
	}
	w.exec.Steps = count(tpl.Steps)
	what := "creating"
	if !g.Creates {
		what = "elevating"
	}
	w.say(fmt.Sprintf("%s account %s on %s", what, g.Account, cn.Device))
	return executor.Do(ctx, run)
}

// probed looks at what was on the device before: nothing may bear the
// account's name or uid, and the clock must be near ours. The surface is
// stored with the grant before anything is changed (keepFound).
func (w *work) probed(env lang.Env, cn *connection, surface map[string]any, sent time.Time) error {
	g := &w.c.Grant
	var items []string
	if g.Creates { // of what was there before an elevation its intents tell
		items = lines(surface["items"])
	}
	for _, it := range items {
		if platforms[cn.Platform].taken(it, g.Account) {
			return fmt.Errorf("an account or group named %s is already on %s: it was there before and was not touched", g.Account, cn.Device)
		}
	}
	if free, is := surface["uid_free"].(bool); is && !free && g.Creates {
		return errUIDTaken
	}
	skew, err := skewOf(surface, sent, w.e.Now())
	if err != nil {
		return fmt.Errorf("%s: %w", cn.Device, err)
	}
	env["grant"], env["device"] = grantEnv(g, skew), deviceEnv(&cn.Connection, skew)
	w.found = &grant.Receipt{Device: cn.Device, Peer: w.exec.Peer, Before: items, Known: true}
	w.found.Machine, _ = surface["machine"].(string)
	return nil
}

// keepFound stores what was on the device before, and the intents that come first
// with it.
func (w *work) keepFound(ctx context.Context, intents ...grant.Change) error {
	c, err := w.e.change(ctx, w.c.Grant.ID, func(c *grant.Case) error {
		if err := c.Holds(w.fence); err != nil {
			return err
		}
		c.Grant.Receipt = w.found
		c.Ran = &grant.Ran{Execution: w.exec, Changes: intents}
		return nil
	})
	if err == nil {
		w.c, w.found = c, nil
	}
	return err
}

// begin is asked before each batch that may change the device.
func (w *work) begin(ctx context.Context) error {
	if w.found != nil { // nothing was intended
		if err := w.keepFound(ctx); err != nil {
			return err
		}
	}
	return w.lease(ctx)
}

// skewOf compares the device's clock with the interval in which it was read, and
// refuses one that is off too far.
func skewOf(surface map[string]any, from, to time.Time) (time.Duration, error) {
	skew, err := anySkew(surface, from, to)
	if err == nil && skew.Abs() > MaxSkew {
		return 0, fmt.Errorf("its clock is off by %s: set it right first, or its own expiries cannot be trusted (at most %s is allowed)", skew, MaxSkew)
	}
	return skew, err
}

// anySkew is how far a device's clock is ahead.
func anySkew(surface map[string]any, from, to time.Time) (time.Duration, error) {
	epoch, _ := surface["clock"].(int64)
	if epoch == 0 {
		return 0, errors.New("its clock could not be read")
	}
	at := time.Unix(epoch, 0)
	var skew time.Duration
	switch {
	case at.Before(from.Add(-time.Second)):
		skew = at.Sub(from)
	case at.After(to.Add(time.Second)):
		skew = at.Sub(to)
	}
	return skew.Round(time.Second), nil
}

// otherUID gives the grant another uid when the device still knows the first.
func (w *work) otherUID(ctx context.Context, tpl *template.Template) error {
	g := &w.c.Grant
	cn, err := pinnedConnection(g.Plan)
	if err != nil {
		return err
	}
	now := w.e.Now()
	if err := w.e.Store.BurnUID(ctx, g.Device, g.UID, now); err != nil {
		return err
	}
	uid, err := w.e.Store.ReserveUID(ctx, g.Device, cn.UIDs.First, cn.UIDs.Last, now)
	if err != nil {
		return err
	}
	w.log.Note(0, fmt.Sprintf("uid %d is still known on %s; using %d", g.UID, g.Device, uid))
	moved := *g
	moved.UID = uid
	params, err := withUID(tpl, &moved)
	if err != nil {
		return err
	}
	c, err := w.e.change(ctx, g.ID, func(c *grant.Case) error {
		if err := c.Holds(w.fence); err != nil {
			return err
		}
		c.Grant.UID, c.Grant.Plan.Params = uid, params
		return nil
	})
	if err == nil {
		w.c = c
	}
	return err
}

// withUID returns the pinned parameters of g with those computed again whose
// default is made of the uid.
func withUID(tpl *template.Template, g *grant.Grant) ([]byte, error) {
	pinned, err := readPins(g.Plan)
	if err != nil {
		return nil, err
	}
	env := lang.Env{"grant": grantEnv(g, 0)}
	for _, p := range tpl.Params {
		if p.Default == nil || !slices.ContainsFunc(p.Default.Refs(), func(path []string) bool { return slices.Equal(path, []string{"grant", "uid"}) }) {
			continue
		}
		v, err := p.Default.Eval(env)
		if err != nil {
			return nil, fmt.Errorf("param %s: %w", p.Name, err)
		}
		pinned.Forward[p.Name] = v
		if _, shared := pinned.Removal[p.Name]; shared {
			pinned.Removal[p.Name] = v
		}
	}
	return json.Marshal(pinned)
}

// prove logs in as the account, once.
func (w *work) prove(ctx context.Context, hand *handover) error {
	if !w.c.Grant.Creates {
		return nil // its login is its own affair
	}
	cn, err := pinnedConnection(w.c.Grant.Plan)
	if err != nil {
		return err
	}
	l := Login{Account: w.c.Grant.Account}
	var how string
	if hand.PrivateKey != "" {
		l.PrivateKey, how = secret.New(hand.PrivateKey), "with its key"
	} else if pw := hand.Secrets["password"]; pw != "" {
		l.Password, how = secret.New(pw), "with its password"
	} else {
		pinned, err := readPins(w.c.Grant.Plan)
		if err != nil {
			return err
		}
		l.PublicKey, _ = pinned.Forward["public_key"].(string)
		if l.PublicKey == "" {
			w.log.Note(0, "the template gives no password and no key, so there is no login to prove")
			return nil
		}
		how = "by asking whether its public key is accepted"
	}
	r := grant.StepResult{
		N: w.exec.Steps + 1, Name: "The account can log in", Module: "login", Status: "ok", Attempts: 1,
		Started: w.e.Now(), LogFrom: w.log.Offset(), Message: how,
	}
	w.say("proving that the account can log in, " + how)
	if by := platforms[cn.Platform].prove; by != "" {
		r.Module = by
		r.Message, err = w.proveBy(ctx, by, l)
	} else {
		err = w.e.Dialer.Prove(ctx, &cn.Connection, l)
	}
	r.Took = w.e.Now().Sub(r.Started)
	if err != nil {
		r.Status, r.Message = "failed", w.log.Text(err.Error())
	}
	w.log.Note(r.N, r.Name+": "+r.Status+" "+r.Message)
	r.LogTo = w.log.Offset()
	w.obs.add(r) //nolint:contextcheck // the result is stored also when ctx is over
	return err
}

// proveBy logs in as the account by a module of the platform. When the template
// has done that already it is not done twice, because a login too many can lock
// an account; when the template was told not to, it is not done at all.
func (w *work) proveBy(ctx context.Context, name string, l Login) (string, error) {
	for _, s := range w.obs.steps {
		if s.Module != name {
			continue
		}
		if s.Status == string(executor.Skipped) {
			return "not tried: step " + strconv.Itoa(s.N) + " of the template was skipped", nil
		}
		return "as step " + strconv.Itoa(s.N) + " of the template did, with its password", nil
	}
	conn, _, err := w.dial(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	res, err := executor.Do(ctx, executor.Run{
		Conn: conn, Modules: w.e.Modules, ID: w.exec.ID + "-login", Scope: w.c.Grant.ID, Env: lang.Env{},
		After: []executor.Call{{Name: "login", Module: w.e.Modules.Lookup(name), Args: module.Args{"name": l.Account, "password": l.Password}}},
	})
	if err != nil {
		return "", err
	}
	if res.Calls["login"]["valid"] != true {
		return "", fmt.Errorf("the device refuses it: %v", res.Calls["login"]["reason"])
	}
	return "with its password", nil
}

// activate stores the end of a creation that worked.
func (w *work) activate(ctx context.Context, said handedOn) error {
	w.ended(ctx, "ok", "")
	return w.settle(ctx, func(c *grant.Case) error {
		if err := c.Activate(w.fence, w.e.Now(), said.outputs); err != nil {
			return err
		}
		c.Grant.Plan.Params = said.params
		return nil
	})
}

// fail stores the end of a creation that did not.
func (w *work) fail(ctx context.Context, cause error, sent bool, said handedOn) error {
	outcome := "failed"
	te, lost := errors.AsType[*transport.Error](cause)
	lingers := lost && !te.SafeToRetry && !te.Stopped // of batches before that one the end was seen
	if lost {
		outcome = "unreachable"
		if sent {
			outcome = "interrupted"
		}
	}
	if errors.Is(cause, errEnded) || errors.Is(context.Cause(ctx), errEnded) {
		outcome, cause = "interrupted", errEnded
	}
	w.log.Note(0, "creation stopped: "+w.log.Text(cause.Error()))
	w.ended(ctx, outcome, cause.Error())
	why := w.log.Text(cause.Error())
	return w.settle(ctx, func(c *grant.Case) error {
		if lingers {
			c.MayLinger(w.e.Now())
		}
		if err := c.Fail(w.fence, w.e.Now(), why, sent, said.outputs); err != nil {
			return err
		}
		if said.params != nil {
			c.Grant.Plan.Params = said.params
		}
		return nil
	})
}

// untilEnded ends the context of a creation at its last moment, or as soon as
// somebody ends the grant.
func (w *work) untilEnded(ctx context.Context) (context.Context, func()) {
	ctx, cut := context.WithDeadlineCause(ctx, w.c.Grant.Expires, fmt.Errorf("the creation took longer than %s", grant.CreationWindow))
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for wait(ctx, time.Second) == nil {
			if err := w.lease(ctx); errors.Is(err, errEnded) || errors.Is(err, grant.ErrLeaseLost) {
				cancel(err)
				return
			}
		}
	}()
	return ctx, func() { cancel(nil); cut(); <-done }
}

// unseal opens the secrets of the grant and has them masked from here on.
func (w *work) unseal() (*handover, error) {
	plain, err := w.e.Key.Unseal(w.c.Grant.Sealed, w.c.Grant.ID)
	if err != nil {
		return nil, fmt.Errorf("the grant's secrets cannot be opened: %w", err)
	}
	var h handover
	if err := json.Unmarshal(plain, &h); err != nil {
		return nil, errors.New("the grant's secrets cannot be read")
	}
	for _, s := range h.Secrets {
		if s == "" {
			continue
		}
		if err := w.mask.Add(secret.New(s)); err != nil {
			return nil, err
		}
	}
	if h.PrivateKey != "" {
		if err := w.mask.Add(secret.New(h.PrivateKey)); err != nil {
			return nil, err
		}
	}
	return &h, nil
}

// params puts the pinned parameters and the secrets together, typed.
func (w *work) params(tpl *template.Template, hand *handover) (map[string]any, error) {
	return pinnedParams(tpl, w.c.Grant.Plan, hand.Secrets)
}

// evalVars computes the variables of a template, in order.
func evalVars(tpl *template.Template, env lang.Env) error {
	vars := map[string]any{}
	env["vars"] = vars
	for _, v := range tpl.Vars {
		val, err := v.Value.Eval(env)
		if err != nil {
			return fmt.Errorf("vars.%s: %w", v.Name, err)
		}
		vars[v.Name] = val
	}
	return nil
}

// count returns how many module calls steps hold.
func count(steps []*template.Step) int {
	n := 0
	for _, s := range steps {
		if s.Module != nil {
			n++
		}
		n += count(s.Block) + count(s.Rescue) + count(s.Always)
	}
	return n
}

// lines returns the elements of a list output.
func lines(v any) []string {
	l, _ := v.([]any)
	out := make([]string, 0, len(l))
	for _, e := range l {
		out = append(out, fmt.Sprint(e))
	}
	return out
}
