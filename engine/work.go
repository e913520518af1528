package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"runner/engine/grant"
	"runner/engine/journal"
	"runner/engine/secret"
	"runner/engine/transport"
)

// work is one execution of a job, while it runs.
type work struct {
	e     *Engine
	c     grant.Case
	job   grant.Job
	fence grant.Fence
	exec  grant.Execution
	mask  *secret.Mask
	log   *journal.Log
	obs   *observer

	locked time.Time // when a removal had ended the access; zero: not yet
	closed bool      // the log

	found *grant.Receipt // what a creation found on the device, until it is stored

	slow    func()  // is called when the device takes long to answer
	contact contact // what was learned of the device
}

// RunJob claims a due job and runs it to its end. The error is about this
// process, the store or the claim (grant.ErrNotDue, grant.ErrBusy); what
// happened on the device is in the case and its execution.
func (e *Engine) RunJob(ctx context.Context, id string) (grant.Case, error) {
	j, err := e.Store.Job(ctx, id)
	if err != nil {
		return grant.Case{}, err
	}
	c, _, err := e.runJob(ctx, j.GrantID, j.ID, func() {})
	return c, err
}

// contact is what an execution learned about whether its device answers.
type contact struct {
	answered bool
	silence  grant.Silence // when it did not
}

// runJob is RunJob of a job of a grant; slow is called when the device takes long to
// answer.
func (e *Engine) runJob(ctx context.Context, grantID, id string, slow func()) (grant.Case, contact, error) {
	w := &work{e: e, slow: slow, exec: grant.Execution{ID: e.newID("x"), JobID: id, GrantID: grantID, Node: e.Node, Started: e.Now()}}
	var was grant.Job
	var err error
	w.c, err = e.change(ctx, grantID, func(c *grant.Case) error {
		if j := c.Job(id); j != nil {
			was = *j
		}
		if w.fence, err = c.Claim(id, e.Node, w.exec.ID, e.Now()); err != nil {
			return err
		}
		w.exec.Kind, w.exec.Device, w.exec.Attempt = was.Kind, was.Device, w.fence.Attempt
		c.Ran = &grant.Ran{Execution: w.exec}
		return nil
	})
	if _, is := errors.AsType[*grant.StateError](err); is && was.Kind.Removal() {
		// Nobody began with the request in time: there is nothing to remove.
		err = errors.Join(err, e.Store.Change(ctx, grantID, func(c *grant.Case) error { c.Expire(e.Now()); return nil }))
	}
	if err = w.unclear(ctx, err); err != nil {
		return grant.Case{}, contact{}, err
	}
	if was.State == grant.Waiting {
		e.Meter.Observe(metricDelay, max(0, w.exec.Started.Sub(was.Due)), "kind", string(was.Kind))
	}
	w.job = *w.c.Job(id)
	err = w.run(ctx)
	return w.c, w.contact, err
}

// unclear finds out whether a claim counts whose answer was lost with the
// connection to the store: otherwise a job would run on a worker that does not run
// it. It returns cause when the claim does not count.
func (w *work) unclear(ctx context.Context, cause error) error {
	if cause == nil || w.fence == (grant.Fence{}) || errors.Is(cause, grant.ErrBusy) || errors.Is(cause, grant.ErrDiskFull) {
		return cause
	}
	ctx = context.WithoutCancel(ctx)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		c, err := w.e.Store.Case(ctx, w.exec.GrantID)
		switch {
		case err == nil && c.Holds(w.fence) == nil:
			w.c = c
			return nil
		case err == nil, errors.Is(err, grant.ErrNotFound):
			return cause
		}
		w.e.Log.Error("it is not known yet whether a job is claimed", slog.String("job", w.fence.Job), slog.Any("error", err))
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

// run does the job and writes the end of its execution. When w.c is not as it was
// stored last it is read again.
func (w *work) run(ctx context.Context) error {
	w.mask = &secret.Mask{}
	w.log = journal.New(w.e.Store, w.exec.ID, w.mask, journal.Options{}) //nolint:contextcheck // a log is written to its end also when ctx is over
	defer w.closeLog(ctx)
	w.obs = newObserver(w)
	var err error
	switch w.job.Kind {
	case grant.Create, grant.Elevate:
		err = w.forward(ctx)
	case grant.Delete, grant.Revert:
		err = w.remove(ctx)
	case grant.Renew:
		err = w.renew(ctx)
	case grant.Lock:
		err = w.lock(ctx)
	}
	w.closeLog(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, grant.ErrLeaseLost):
		w.e.Meter.Add(metricFenced, 1)
		w.e.Log.Warn("another worker took the job over", slog.String("job", w.job.ID), slog.String("execution", w.exec.ID))
	default:
		err = w.handBack(ctx, err)
	}
	c, lerr := w.e.Store.Case(context.WithoutCancel(ctx), w.c.Grant.ID)
	w.c = c
	return errors.Join(err, lerr)
}

// handBack takes the job away from this process, which cannot go on with it but
// lives: nobody else would.
func (w *work) handBack(ctx context.Context, cause error) error {
	if w.exec.Ended.IsZero() {
		w.ended(ctx, "interrupted", cause.Error())
	}
	err := w.settle(ctx, func(c *grant.Case) error { return c.Interrupted(w.fence, w.e.Now()) })
	if errors.Is(err, grant.ErrLeaseLost) {
		err = nil // its end is stored
	}
	return errors.Join(cause, err)
}

// ended notes what became of the execution; settle stores it.
func (w *work) ended(ctx context.Context, outcome, msg string) {
	w.closeLog(ctx) // only then is it known how much of it is kept
	w.exec.Ended, w.exec.Outcome, w.exec.Error = w.e.Now(), outcome, w.log.Text(msg)
	w.exec.LogBytes, w.exec.Dropped = w.log.Offset(), w.log.Dropped()
}

// logPatience bounds how long the end of a job waits for its log to be stored.
const logPatience = 10 * time.Second

// closeLog stores what is left of the log, once. A log that cannot be stored
// does not keep a job from ending.
func (w *work) closeLog(ctx context.Context) {
	if w.log == nil || w.closed {
		return
	}
	w.closed = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logPatience)
	defer cancel()
	if err := w.log.Close(ctx); err != nil {
		w.e.Log.Warn("execution log incomplete", slog.String("execution", w.exec.ID), slog.Any("error", err))
	}
}

// wholeTries is how often the end of an execution is stored with all that it said,
// before what became of the grant is stored without.
const wholeTries = 3

// settle changes the case at the end of the execution, and stores what the execution
// came to with it. It is tried until it is written or the lease is lost: a result
// must not be forgotten because the store was busy or its disk was full for a while.
func (w *work) settle(ctx context.Context, fn func(*grant.Case) error, changed ...grant.Change) error {
	ctx = context.WithoutCancel(ctx)
	for try, pause := 1, 50*time.Millisecond; ; try, pause = try+1, min(2*pause, 5*time.Second) {
		c, err := w.e.change(ctx, w.c.Grant.ID, func(c *grant.Case) error {
			if try <= wholeTries {
				c.Ran = &grant.Ran{Execution: w.exec, Steps: w.obs.steps, Changes: changed}
			}
			return fn(c)
		})
		if err == nil {
			w.c = c
			w.measure()
			return nil
		}
		if errors.Is(err, grant.ErrLeaseLost) || errors.Is(err, grant.ErrNotFound) || errors.Is(err, grant.ErrStoreGone) {
			return err
		}
		if _, is := errors.AsType[*grant.StateError](err); is {
			return err
		}
		w.e.Meter.Add(metricStoreErrors, 1)
		w.e.Log.Error("result not stored yet", slog.String("job", w.job.ID), slog.Any("error", err))
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

// lease refuses to go on when the job was taken away or a creation is to stop.
func (w *work) lease(ctx context.Context) error {
	ended, err := w.e.Store.Held(ctx, w.fence)
	if err == nil && ended && !w.job.Kind.Removal() {
		return errEnded
	}
	return err
}

// until bounds when a batch may begin on the device; nil: never.
func (w *work) until() func() time.Time {
	if w.e.Until == nil {
		return nil
	}
	return func() time.Time { return w.e.Until(w.fence.Node) }
}

// errEnded stops a creation whose grant was ended meanwhile.
var errEnded = errors.New("the grant was ended while it was being created")

// dial connects and notes who answered.
func (w *work) dial(ctx context.Context) (transport.Conn, *connection, error) {
	cn, err := pinnedConnection(w.c.Grant.Plan)
	if err != nil {
		return nil, nil, err
	}
	w.say("connecting to " + cn.Device)
	start := w.e.Now()
	late := time.AfterFunc(slowDial, w.slow)
	conn, err := w.e.Dialer.Dial(ctx, &cn.Connection)
	late.Stop()
	w.exec.Connect = w.e.Now().Sub(start)
	w.met(ctx, cn.Device, err)
	if err != nil {
		return nil, cn, err
	}
	p := conn.Peer()
	w.exec.Peer = p.Address + " " + p.Identity
	w.log.Note(0, fmt.Sprintf("connected to %s (%s, %s) in %s", p.Address, w.log.Text(p.Software), identity(p), w.exec.Connect.Round(time.Millisecond)))
	return conn, cn, nil
}

// met notes whether the device answered, so that others need not find out. That
// it cannot be noted does not matter to the job.
func (w *work) met(ctx context.Context, device string, cause error) {
	ctx = context.WithoutCancel(ctx)
	var err error
	switch {
	case cause == nil:
		w.contact = contact{answered: true}
		err = w.e.Store.Answered(ctx, device, w.e.Now())
	case silent(cause):
		w.e.Meter.Add(metricMissed, 1)
		w.contact.silence, err = w.e.Store.Missed(ctx, device, w.log.Text(cause.Error()), w.e.Now(), w.e.jitter())
	}
	if err != nil {
		w.e.Log.Warn("cannot note whether a device answers", slog.String("device", device), slog.Any("error", err))
	}
}

// silent reports whether an error says that a device does not answer, or does
// not let runner in: then it is not asked again for a while. It is not when
// runner itself gave up, or has no secret to log in with.
func silent(err error) bool {
	te, is := errors.AsType[*transport.Error](err)
	if !is || te.Code == "cancelled" || te.Code == secretCode {
		return false
	}
	return te.Phase == transport.PhaseResolve || te.Phase == transport.PhaseDial || te.Phase == transport.PhaseAuth
}

// identity says in words who answered.
func identity(p transport.Peer) string {
	if strings.HasPrefix(p.Identity, "SHA256:") {
		return "host key " + p.Identity
	}
	return p.Identity
}

func (w *work) say(text string) {
	w.e.say(Progress{Grant: w.c.Grant, Job: w.job, Text: text})
}

// Reap takes jobs away from dead workers. It returns how many there were.
func (e *Engine) Reap(ctx context.Context) (int, error) {
	dead, err := e.Store.Dead(ctx)
	if err != nil {
		return 0, err
	}
	// Before dead nodes are forgotten: a session is its node's.
	if err := e.endAbandoned(ctx, dead); err != nil || len(dead) == 0 {
		return 0, err
	}
	running, err := e.Store.Running(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	var errs error
	for _, j := range running {
		if !slices.Contains(dead, j.Node) {
			continue
		}
		f := grant.Fence{Job: j.ID, Attempt: j.Attempt, Node: j.Node}
		x, err := e.interrupted(ctx, j.Execution)
		if err == nil {
			err = e.Store.Change(ctx, j.GrantID, func(c *grant.Case) error {
				c.Ran = x
				return c.Interrupted(f, e.Now())
			})
		}
		switch {
		case err == nil:
			n++
			e.Meter.Add(metricReaped, 1)
			e.Log.Warn("took a job away from a dead worker", slog.String("job", j.ID), slog.String("kind", string(j.Kind)), slog.String("grant", j.GrantID), slog.String("node", j.Node))
		case !errors.Is(err, grant.ErrLeaseLost): // else somebody else was faster
			errs = errors.Join(errs, err)
		}
	}
	if errs == nil {
		for _, id := range dead {
			errs = errors.Join(errs, e.Store.Forget(ctx, id))
		}
	}
	return n, errs
}

// interrupted returns the end of an execution whose worker cannot write it any more;
// nil: there is no execution.
func (e *Engine) interrupted(ctx context.Context, id string) (*grant.Ran, error) {
	x, err := e.Store.Execution(ctx, id)
	if errors.Is(err, grant.ErrNotFound) {
		return nil, nil //nolint:nilnil // there is nothing to write
	}
	if err != nil {
		return nil, err
	}
	x.Ended, x.Outcome, x.Error = e.Now(), "interrupted", "the worker that ran it died"
	return &grant.Ran{Execution: x}, nil
}

// passing reports whether an error only says that somebody else was faster.
func passing(err error) bool {
	if _, is := errors.AsType[*grant.StateError](err); is {
		return true
	}
	return errors.Is(err, grant.ErrNotDue) || errors.Is(err, grant.ErrBusy) || errors.Is(err, grant.ErrLeaseLost)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
