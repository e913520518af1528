package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
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
}

// RunJob claims a due job and runs it to its end. The error is about this
// process, the store or the claim (grant.ErrNotDue, grant.ErrBusy); what
// happened on the device is in the case and its execution.
func (e *Engine) RunJob(ctx context.Context, id string) (grant.Case, error) {
	j, err := e.Store.Job(ctx, id)
	if err != nil {
		return grant.Case{}, err
	}
	w := &work{e: e, exec: grant.Execution{ID: e.newID("x"), JobID: j.ID, GrantID: j.GrantID, Kind: j.Kind, Device: j.Device, Node: e.Node, Started: e.Now()}}
	w.c, err = e.change(ctx, j.GrantID, func(c *grant.Case) error {
		w.fence, err = c.Claim(j.ID, e.Node, w.exec.ID, e.Now())
		return err
	})
	if err = w.unclear(ctx, err); err != nil {
		return grant.Case{}, err
	}
	w.job = *w.c.Job(j.ID)
	w.exec.Attempt = w.job.Attempt
	return w.run(ctx)
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

// run does the job and writes the end of its execution.
func (w *work) run(ctx context.Context) (grant.Case, error) {
	w.mask = &secret.Mask{}
	w.log = journal.New(w.e.Store, w.exec.ID, w.mask, journal.Options{}) //nolint:contextcheck // a log is written to its end also when ctx is over
	defer w.closeLog(ctx)
	w.obs = newObserver(w)
	err := w.e.Store.PutExecution(ctx, w.fence, w.exec)
	if err == nil {
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
	}
	w.closeLog(ctx)
	switch {
	case errors.Is(err, grant.ErrLeaseLost):
		w.e.Log.Warn("another worker took the job over", slog.String("job", w.job.ID), slog.String("execution", w.exec.ID))
	case err != nil:
		err = w.handBack(ctx, err)
	}
	c, lerr := w.e.Store.Case(context.WithoutCancel(ctx), w.c.Grant.ID)
	return c, errors.Join(err, lerr)
}

// handBack takes the job away from this process, which cannot go on with it but
// lives: nobody else would.
func (w *work) handBack(ctx context.Context, cause error) error {
	err := w.settle(ctx, func(c *grant.Case) error { return c.Interrupted(w.fence, w.e.Now()) })
	if errors.Is(err, grant.ErrLeaseLost) {
		err = nil // its end is stored
	}
	return errors.Join(cause, err)
}

// ended writes what became of the execution. It is called before the state of
// the job changes, because afterwards the fence no longer holds. Only a lost
// lease is an error: what cannot be written here must not keep the state of
// the job from being written.
func (w *work) ended(ctx context.Context, outcome, msg string) error {
	ctx = context.WithoutCancel(ctx)
	w.closeLog(ctx) // only then is it known how much of it is kept
	w.exec.Ended, w.exec.Outcome, w.exec.Error = w.e.Now(), outcome, w.log.Text(msg)
	w.exec.LogBytes, w.exec.Dropped = w.log.Offset(), w.log.Dropped()
	err := w.e.Store.PutExecution(ctx, w.fence, w.exec, w.obs.steps...)
	if err != nil && !errors.Is(err, grant.ErrLeaseLost) {
		w.e.Log.Error("the end of an execution is not stored", slog.String("execution", w.exec.ID), slog.Any("error", err))
		return nil
	}
	return err
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

// settle changes the case at the end of the execution. It is tried until it is
// written or the lease is lost: a result must not be forgotten because the
// store was busy or its disk was full for a while.
func (w *work) settle(ctx context.Context, fn func(*grant.Case) error) error {
	ctx = context.WithoutCancel(ctx)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		c, err := w.e.change(ctx, w.c.Grant.ID, fn)
		if err == nil {
			w.c = c
			return nil
		}
		if errors.Is(err, grant.ErrLeaseLost) || errors.Is(err, grant.ErrNotFound) {
			return err
		}
		if _, is := errors.AsType[*grant.StateError](err); is {
			return err
		}
		w.e.Log.Error("result not stored yet", slog.String("job", w.job.ID), slog.Any("error", err))
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

// lease refuses to go on when the job was taken away or a creation is to stop.
func (w *work) lease(ctx context.Context) error {
	c, err := w.e.Store.Case(ctx, w.job.GrantID) // not of w.c, which the job's goroutine replaces
	if err != nil {
		return err
	}
	if err := c.Holds(w.fence); err != nil {
		return err
	}
	if !w.job.Kind.Removal() && !c.Grant.Ended.IsZero() {
		return errEnded
	}
	return nil
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
	conn, err := w.e.Dialer.Dial(ctx, &cn.Connection)
	w.exec.Connect = w.e.Now().Sub(start)
	if err != nil {
		return nil, cn, err
	}
	p := conn.Peer()
	w.exec.Peer = p.Address + " " + p.Identity
	w.log.Note(0, fmt.Sprintf("connected to %s (%s, %s) in %s", p.Address, w.log.Text(p.Software), identity(p), w.exec.Connect.Round(time.Millisecond)))
	return conn, cn, nil
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
		// The execution first: its fence holds only while the job runs.
		if err := e.interrupted(ctx, f, j.Execution); err != nil {
			errs = errors.Join(errs, err)
		}
		err := e.Store.Change(ctx, j.GrantID, func(c *grant.Case) error { return c.Interrupted(f, e.Now()) })
		switch {
		case err == nil:
			n++
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

// interrupted writes the end of an execution whose worker cannot any more. A
// worker that died between claiming and its first write left none.
func (e *Engine) interrupted(ctx context.Context, f grant.Fence, id string) error {
	x, err := e.Store.Execution(ctx, id)
	if errors.Is(err, grant.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	x.Ended, x.Outcome, x.Error = e.Now(), "interrupted", "the worker that ran it died"
	if err := e.Store.PutExecution(ctx, f, x); !errors.Is(err, grant.ErrLeaseLost) {
		return err
	}
	return nil
}

// Serve works until ctx ends: it takes jobs from dead workers, ends what has
// expired, and runs what is due, at most limit jobs at once. It looks for work
// of other processes once a second and sleeps otherwise. What is under way
// when ctx ends is given grace to finish; then it is cut off, and handed back: at
// once when the cause of ctx is grant.ErrLeaseLost, because others take it over.
func (e *Engine) Serve(ctx context.Context, limit int, grace time.Duration) error {
	var wg sync.WaitGroup
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	slots := make(chan struct{}, limit)
	for {
		if err := e.round(ctx, hard, slots, &wg); err != nil && ctx.Err() == nil {
			e.Log.Error("cannot look for work", slog.Any("error", err))
		}
		if wait(ctx, e.nap(ctx)) != nil {
			break
		}
	}
	if errors.Is(context.Cause(ctx), grant.ErrLeaseLost) {
		cut()
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		cut()
		<-done
	}
	return nil
}

// nap returns how long to sleep until work of this or another process may be due.
func (e *Engine) nap(ctx context.Context) time.Duration {
	d := time.Second
	if next, ok, err := e.Store.NextDue(ctx, e.Now()); err == nil && ok {
		d = min(d, max(next.Sub(e.Now()), 10*time.Millisecond))
	}
	return d
}

// round starts everything that is due and has a slot.
func (e *Engine) round(ctx, hard context.Context, slots chan struct{}, wg *sync.WaitGroup) error {
	if _, err := e.Reap(ctx); err != nil {
		return err
	}
	if err := e.expire(ctx); err != nil {
		return err
	}
	due, err := e.Store.Due(ctx, e.Now(), cap(slots))
	if err != nil {
		return err
	}
	for _, j := range due {
		select {
		case slots <- struct{}{}:
		default:
			return nil // all busy: the next round takes it
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if _, err := e.RunJob(hard, j.ID); err != nil && !passing(err) {
				e.Log.Error("job not run", slog.String("job", j.ID), slog.Any("error", err))
			}
		})
	}
	return nil
}

// passing reports whether an error only says that somebody else was faster.
func passing(err error) bool {
	if _, is := errors.AsType[*grant.StateError](err); is {
		return true
	}
	return errors.Is(err, grant.ErrNotDue) || errors.Is(err, grant.ErrBusy) || errors.Is(err, grant.ErrLeaseLost)
}

// expire cancels requests that nobody started in time.
func (e *Engine) expire(ctx context.Context) error {
	cs, err := e.Store.Cases(ctx, grant.Filter{States: []string{string(grant.Requested), string(grant.WaitingApproval)}})
	if err != nil {
		return err
	}
	for i := range cs {
		if e.Now().Before(cs[i].Grant.Expires) {
			continue
		}
		if err := e.Store.Change(ctx, cs[i].Grant.ID, func(c *grant.Case) error { c.Expire(e.Now()); return nil }); err != nil {
			return err
		}
	}
	return nil
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
