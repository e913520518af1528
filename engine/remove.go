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
		return w.again(ctx, err, itself, nil)
	}
	w.exec.Template = string(tpl.Kind) + "/" + tpl.Name + "@" + tpl.Hash[:12]
	steps := tpl.Steps
	if tpl.Kind == template.Elevate {
		steps = tpl.Revert
	}
	conn, cn, err := w.dial(ctx)
	if err != nil {
		return w.again(ctx, err, w.notReached(err), nil)
	}
	defer conn.Close()
	back, err := w.second(ctx, true)
	if err != nil {
		return w.again(ctx, err, itself, nil)
	}
	var reverted error
	var elevation *executor.Result // how it was taken back
	if back != nil {
		// It comes first, but what keeps it from working must not keep the account.
		if elevation, reverted = w.ladder(ctx, rung{tpl: back.tpl, steps: back.tpl.Revert, grant: &back.grant, after: back.base}, conn, cn); stopsAll(reverted) {
			return w.notYet(ctx, reverted, nil)
		}
	}
	res, err := w.ladder(ctx, rung{tpl: tpl, steps: steps, grant: &w.c.Grant, last: true}, conn, cn)
	w.locked = lockedAt(res)
	if err != nil {
		return w.notYet(ctx, err, w.receipt(res, cn))
	}
	receipt := w.receipt(res, cn)
	if !w.c.Grant.Creates {
		elevation, receipt = res, w.newReceipt(cn)
	}
	if elevation != nil {
		if err := w.lookBack(ctx, receipt, elevation, conn, cn, tpl.Become); err != nil {
			return w.notYet(ctx, err, nil)
		}
	}
	if !receipt.Empty() {
		return w.again(ctx, errors.New("not everything is as it was before the grant"), blocking(receipt), receipt)
	}
	if reverted != nil {
		return w.again(ctx, reverted, blocker(reverted), receipt)
	}
	undone, err := w.allUndone(ctx)
	if err != nil {
		return err
	}
	w.ended(ctx, "ok", "")
	return w.settle(ctx, func(c *grant.Case) error {
		c.LockedOut(w.locked)
		return c.Removed(w.fence, w.exec.Started, w.e.Now(), receipt)
	}, undone...)
}

// rung is a list of steps of a removal.
type rung struct {
	tpl   *template.Template
	steps []*template.Step
	grant *grant.Grant // as the template sees it
	after int          // of the recorded changes only those of later steps
	last  bool
}

// ladder runs the steps of the removal and reads the surface back.
func (w *work) ladder(ctx context.Context, l rung, conn transport.Conn, cn *connection) (*executor.Result, error) {
	g, tpl := l.grant, l.tpl
	changes, err := w.changes(ctx)
	if err != nil {
		return nil, err
	}
	changes = slices.DeleteFunc(changes, func(c executor.Change) bool { return c.Step <= l.after })
	sid := sidOf(g, changes)
	about := grantEnv(g, 0)
	about["sid"] = sid
	created, err := w.created(ctx, l)
	if err != nil {
		return nil, err
	}
	env := lang.Env{"grant": about, "device": deviceEnv(&cn.Connection, 0), "created": created}
	params, err := removalParams(tpl, g.Plan, env)
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
		Steps: l.steps, Become: tpl.Become, Timeout: tpl.Timeout, KeepGoing: tpl.OnDisconnect == "continue" || tpl.Kind == template.Elevate, Env: env,
		Conn: conn, Modules: w.e.Modules, ID: w.exec.ID, Scope: g.ID, Takeover: true, Observe: w.obs, Lease: w.lease, Until: w.until(),
		Recorded: changes, Undone: w.undone,
	}
	what := "taking back the elevation of account %s on %s"
	if g.Creates && l.last {
		run.After = platforms[cn.Platform].call(w.e.Modules, g, sid)
		what = "removing account %s from %s"
	}
	if w.job.Kind == grant.Lock {
		what = "locking account %s on %s"
	}
	w.nextPart(&run, l.steps)
	defer func() { w.obs.base = 0 }()
	w.say(fmt.Sprintf(what, g.Account, cn.Device))
	return executor.Do(ctx, run)
}

// lookBack reads back what the elevation changed, and notes it on the receipt.
func (w *work) lookBack(ctx context.Context, r *grant.Receipt, elevation *executor.Result, conn transport.Conn, cn *connection, become string) error {
	changes, err := w.changes(ctx)
	if err != nil {
		return err
	}
	if w.c.Grant.Creates { // the rest went with the account, which the surface tells
		p, err := w.second(ctx, true)
		if err != nil {
			return err
		}
		changes = slices.DeleteFunc(changes, func(c executor.Change) bool { return c.Step <= p.base })
	}
	seen, err := executor.Look(ctx, executor.Run{
		Become: become, Conn: conn, Modules: w.e.Modules, ID: w.exec.ID + "-look", Scope: w.c.Grant.ID, Env: lang.Env{}, Recorded: changes, Until: w.until(),
	})
	if err != nil {
		return err
	}
	if old := w.c.Grant.Receipt; old != nil {
		r.Conflicts = append(r.Conflicts, old.Conflicts...)
	}
	r.Conflicts = append(r.Conflicts, already(elevation, w.job.Attempt > 1)...)
	if !w.c.Grant.Creates {
		for _, what := range platforms[cn.Platform].left(elevation.Steps) {
			r.Session = append(r.Session, w.log.Text(what))
		}
	}
	surface := r.Before
	found(r, seen)
	if w.c.Grant.Creates { // the next attempt holds the surface against it, which knows nothing of those objects
		r.Before = surface
	}
	slices.Sort(r.Conflicts)
	r.Conflicts = slices.Compact(r.Conflicts)
	return nil
}

// already tells of what was no longer as the grant left it. Of a second attempt
// the first may have done that.
func already(res *executor.Result, again bool) []string {
	var out []string
	who := "somebody else took it back before the grant did"
	if again {
		who = "it was taken back before this attempt"
	}
	for _, s := range res.Steps {
		if s.Module != "revert" {
			continue
		}
		for _, object := range lines(s.Values["already"]) {
			out = append(out, object+": "+who)
		}
		for _, object := range lines(s.Values["conflicts"]) {
			out = append(out, object+": somebody else changed it, and it is left alone")
		}
	}
	return out
}

// stopsAll reports whether nothing more can be done in this attempt.
func stopsAll(err error) bool {
	_, step := errors.AsType[*executor.StepError](err)
	return err != nil && !step
}

// allUndone returns the recorded changes that are open, closed: the receipt has
// proven that nothing of them is left.
func (w *work) allUndone(ctx context.Context) (open []grant.Change, err error) {
	if w.onceMore() {
		return nil, nil
	}
	have, err := w.e.Store.Changes(ctx, w.c.Grant.ID)
	if err != nil {
		return nil, err
	}
	for _, c := range have {
		if c.State == executor.Done || c.State == executor.Intended {
			c.State = executor.Undone
			open = append(open, c)
		}
	}
	return open, nil
}

// removalParams resolves the parameters of a removal: those that are pinned
// have the pinned values, the others their defaults.
func removalParams(tpl *template.Template, plan grant.Plan, env lang.Env) (map[string]any, error) {
	pinned, err := readPins(plan)
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

// newReceipt is one on which nothing is noted yet.
func (w *work) newReceipt(cn *connection) *grant.Receipt {
	return &grant.Receipt{At: w.e.Now(), Device: cn.Device, Peer: w.exec.Peer, Left: []string{}, Missing: []string{}, Known: !w.c.Grant.Creates}
}

// receipt compares the surface with the one before the grant.
func (w *work) receipt(res *executor.Result, cn *connection) *grant.Receipt {
	if res == nil || res.Calls["surface"] == nil {
		return nil
	}
	r := w.newReceipt(cn)
	r.After = lines(res.Calls["surface"]["items"])
	if old := w.c.Grant.Receipt; old != nil {
		r.Before, r.Known, r.Machine = old.Before, old.Known, old.Machine
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

// notReached names what kept runner from talking to the device, and since when.
func (w *work) notReached(err error) string {
	why := notReached(err)
	if s := w.contact.silence; s.Missed > 0 {
		why += " since " + s.Since.UTC().Format(time.RFC3339)
	}
	return why
}

// notReached names what kept runner from talking to the device.
func notReached(err error) string {
	te, is := errors.AsType[*transport.Error](err)
	switch {
	case !is:
		return itself
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
	return itself
}

// itself is in the way when the reason is not on the device.
const itself = "runner itself"

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
	w.ended(ctx, outcome, why)
	return w.settle(ctx, func(c *grant.Case) error {
		c.LockedOut(w.locked) // what is left may take its time: the access is over
		now := w.e.Now()
		if s := w.contact.silence; s.Missed > 0 {
			return c.Unanswered(w.fence, now, why, w.log.Text(blockedBy), s.Until)
		}
		next := now.Add(grant.Backoff(c.Job(w.fence.Job).Tried(), w.e.jitter()))
		return c.Retry(w.fence, now, why, w.log.Text(blockedBy), receipt, next)
	})
}

// notYet ends an attempt that something kept from ending well.
func (w *work) notYet(ctx context.Context, cause error, receipt *grant.Receipt) error {
	if ctx.Err() != nil {
		return w.yield(ctx, cause)
	}
	return w.again(ctx, cause, blocker(cause), receipt)
}

// yield hands the job back because this process is told to stop.
func (w *work) yield(ctx context.Context, cause error) error {
	w.ended(ctx, "interrupted", "runner was stopped: "+cause.Error())
	return w.settle(ctx, func(c *grant.Case) error { return c.Yield(w.fence, w.e.Now()) })
}
