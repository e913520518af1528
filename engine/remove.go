package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/lang"
	"runner/engine/template"
	"runner/engine/transport"
)

// remove runs the removal ladder and proves the result. It never ends in an
// error of the job: what is in the way is stored, and the job waits for its
// next attempt.
func (w *work) remove(ctx context.Context) error {
	which := w.c.Grant.Plan.Removal
	tpl, err := w.e.pinned(ctx, which)
	if err != nil {
		return w.again(ctx, err, "", nil)
	}
	w.exec.Template = string(tpl.Kind) + "/" + tpl.Name + "@" + tpl.Hash[:12]
	steps := tpl.Steps
	if tpl.Kind == template.Elevate {
		steps = tpl.Revert
	}
	conn, cn, err := w.dial(ctx)
	if err != nil {
		return w.again(ctx, err, notReached(err), nil)
	}
	defer conn.Close()
	res, err := w.ladder(ctx, tpl, steps, conn, cn)
	w.locked = lockedAt(res)
	if err != nil {
		if ctx.Err() != nil {
			return w.yield(ctx, err)
		}
		return w.again(ctx, err, blocker(err), w.receipt(res, cn))
	}
	receipt := w.receipt(res, cn)
	if !receipt.Empty() {
		return w.again(ctx, errors.New("not everything is as it was before the grant"), blocking(receipt), receipt)
	}
	if err := w.allUndone(ctx); err != nil {
		return err
	}
	if err := w.ended(ctx, "ok", ""); err != nil {
		return err
	}
	return w.settle(ctx, func(c *grant.Case) error {
		c.LockedOut(w.locked)
		return c.Removed(w.fence, w.exec.Started, w.e.Now(), receipt)
	})
}

// ladder runs the steps of the removal and reads the surface back.
func (w *work) ladder(ctx context.Context, tpl *template.Template, steps []*template.Step, conn transport.Conn, cn *connection) (*executor.Result, error) {
	g := &w.c.Grant
	changes, err := w.changes(ctx)
	if err != nil {
		return nil, err
	}
	sid := sidOf(g, changes)
	about := grantEnv(g, 0)
	about["sid"] = sid
	created, err := w.created(ctx, tpl)
	if err != nil {
		return nil, err
	}
	env := lang.Env{"grant": about, "device": deviceEnv(&cn.Connection, 0), "created": created}
	params, err := w.removalParams(tpl, env)
	if err != nil {
		return nil, err
	}
	env["params"] = params
	vars := func() error { return evalVars(tpl, env) }
	if tpl.Kind == template.Elevate { // the variables are those of the elevation
		vars = func() error { return keptVars(tpl, g.Plan, env) }
	}
	if err := vars(); err != nil {
		return nil, err
	}
	run := executor.Run{
		Steps: steps, Become: tpl.Become, Timeout: tpl.Timeout, KeepGoing: tpl.OnDisconnect == "continue", Env: env,
		Conn: conn, Modules: w.e.Modules, ID: w.exec.ID, Scope: g.ID, Takeover: true, Observe: w.obs, Lease: w.lease, Until: w.until(),
		Recorded: changes, Undone: w.undone,
	}
	run.After = platforms[cn.Platform].call(w.e.Modules, g, sid)
	w.exec.Steps = count(steps)
	w.say(fmt.Sprintf("removing account %s from %s", g.Account, cn.Device))
	return executor.Do(ctx, run)
}

// allUndone closes the recorded changes: the receipt has proven that nothing
// of them is left.
func (w *work) allUndone(ctx context.Context) error {
	if w.onceMore() {
		return nil
	}
	have, err := w.e.Store.Changes(ctx, w.c.Grant.ID)
	if err != nil {
		return err
	}
	var open []grant.Change
	for _, c := range have {
		if c.State == executor.Done || c.State == executor.Intended {
			c.State = executor.Undone
			open = append(open, c)
		}
	}
	if len(open) == 0 {
		return nil
	}
	return w.e.Store.PutChanges(ctx, w.fence, w.c.Grant.ID, open)
}

// removalParams resolves the parameters of a removal: those that are pinned
// have the pinned values, the others their defaults.
func (w *work) removalParams(tpl *template.Template, env lang.Env) (map[string]any, error) {
	pinned, err := readPins(w.c.Grant.Plan)
	if err != nil {
		return nil, err
	}
	given := map[string]any{}
	for _, p := range tpl.Params {
		if v, ok := pinned.Removal[p.Name]; ok {
			given[p.Name] = typedJSON(p.Type, v)
		}
	}
	return tpl.Resolve(nil, given, env, generate)
}

// receipt compares the surface with the one before the grant.
func (w *work) receipt(res *executor.Result, cn *connection) *grant.Receipt {
	if res == nil || res.Calls["surface"] == nil {
		return nil
	}
	r := &grant.Receipt{At: w.e.Now(), Device: cn.Device, Peer: w.exec.Peer, Left: []string{}, Missing: []string{}, After: lines(res.Calls["surface"]["items"])}
	if old := w.c.Grant.Receipt; old != nil {
		r.Before, r.Known = old.Before, old.Known
		r.Session = old.Session
	}
	for _, it := range r.After {
		if !slices.Contains(r.Before, it) {
			r.Left = append(r.Left, it)
		}
	}
	for _, it := range r.Before {
		if !slices.Contains(r.After, it) {
			r.Missing = append(r.Missing, it)
		}
	}
	for _, what := range platforms[cn.Platform].left(res.Steps) {
		r.Session = append(r.Session, w.log.Text(what))
	}
	return r
}

// lockedAt returns when the step tagged no_access was done.
func lockedAt(res *executor.Result) time.Time {
	if res == nil {
		return time.Time{}
	}
	for _, s := range res.Steps {
		if slices.Contains(s.Tags, "no_access") && (s.Status == executor.OK || s.Status == executor.Changed) {
			return s.Ended
		}
	}
	return time.Time{}
}

// notReached names what kept runner from talking to the device.
func notReached(err error) string {
	te, is := errors.AsType[*transport.Error](err)
	switch {
	case !is:
		return "runner itself"
	case te.Code == secretCode:
		return "the secret that runner logs in with cannot be read"
	case te.Phase == transport.PhaseResolve, te.Phase == transport.PhaseDial:
		return "device not reached"
	}
	return "device refuses runner (" + string(te.Phase) + ")"
}

// blocker names what kept a removal from finishing.
func blocker(err error) string {
	if te, is := errors.AsType[*transport.Error](err); is {
		return "connection lost (" + string(te.Phase) + ")"
	}
	if se, is := errors.AsType[*executor.StepError](err); is {
		return fmt.Sprintf("step %q: %s", se.Name, se.Msg)
	}
	return ""
}

// blocking names the first things that are left or missing.
func blocking(r *grant.Receipt) string {
	var s []string
	for _, it := range r.Left {
		s = append(s, strings.ReplaceAll(it, "\t", " "))
	}
	for _, it := range r.Missing {
		s = append(s, "missing: "+strings.ReplaceAll(it, "\t", " "))
	}
	if len(s) > 5 {
		s = append(s[:5], fmt.Sprintf("and %d more", len(s)-5))
	}
	return strings.Join(s, "; ")
}

// again ends this attempt and plans the next.
func (w *work) again(ctx context.Context, cause error, blockedBy string, receipt *grant.Receipt) error {
	outcome := "failed"
	if te, is := errors.AsType[*transport.Error](cause); is {
		outcome = "unreachable"
		if !te.SafeToRetry {
			outcome = "interrupted"
		}
	}
	why := w.log.Text(cause.Error())
	w.log.Note(0, "not removed yet: "+why)
	if err := w.ended(ctx, outcome, why); err != nil {
		return err
	}
	return w.settle(ctx, func(c *grant.Case) error {
		c.LockedOut(w.locked) // what is left may take its time: the access is over
		return c.Retry(w.fence, w.e.Now(), why, w.log.Text(blockedBy), receipt, w.e.jitter())
	})
}

// yield hands the job back because this process is told to stop.
func (w *work) yield(ctx context.Context, cause error) error {
	if err := w.ended(ctx, "interrupted", "runner was stopped: "+cause.Error()); err != nil {
		return err
	}
	return w.settle(ctx, func(c *grant.Case) error { return c.Yield(w.fence, w.e.Now()) })
}
