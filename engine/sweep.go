package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"runner/engine/grant"
)

const (
	// SweepParallel is how many removals a sweep runs at once.
	SweepParallel = 16
	// sweepShown is how many open removals a sweep tells one by one.
	sweepShown = 1000
	// sweepIdle is how long a sweep waits for devices and logins that others use.
	sweepIdle = 10 * time.Second
)

// Swept is what a sweep did and found.
type Swept struct {
	Reaped  int          // jobs taken from dead workers
	Removed []grant.Case // grants whose removal was proven
	Open    []grant.Case // removals that are due and not done, the longest overdue first: at most a thousand
	Overdue int          // how many there are of them
	Waiting int          // removals that are not due yet
	Errors  []error      // what kept this process from trying
}

// Plan returns the grants whose removal, or lock, a sweep would run now, and changes
// nothing.
func (e *Engine) Plan(ctx context.Context) ([]grant.Case, error) {
	var due []grant.Case
	w := grant.Want{Removal: true, Now: e.Now(), Limit: scanPage}
	for {
		list, err := e.Store.Ready(ctx, w)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			c, err := e.Store.Case(ctx, r.Grant)
			if err != nil {
				return nil, err
			}
			if s := c.Grant.State; s == grant.Active || s == grant.Creating || s == grant.Ending {
				due = append(due, c)
			}
		}
		if len(list) < scanPage {
			return due, nil
		}
		w.After = list[len(list)-1]
	}
}

// Sweep finishes what was left: it takes jobs from dead workers, cancels
// abandoned requests and tries every due removal and lock once, except on devices that
// did not answer just before. It never creates.
func (e *Engine) Sweep(ctx context.Context) (Swept, error) {
	var (
		s   Swept
		err error
	)
	if s.Reaped, err = e.Reap(ctx); err != nil {
		return s, err
	}
	if err := e.sweepAll(ctx, &s); err != nil {
		return s, err
	}
	if s.Open, s.Overdue, err = e.Store.Overdue(ctx, e.Now().Add(time.Millisecond), sweepShown); err != nil {
		return s, err
	}
	t, err := e.Store.Tally(ctx)
	for kind, states := range t.Jobs {
		if kind.Removal() {
			s.Waiting += states[grant.Waiting] + states[grant.Running] + states[grant.Paused]
		}
	}
	s.Waiting = max(0, s.Waiting-s.Overdue)
	return s, err
}

// sweepAll tries each removal once.
func (e *Engine) sweepAll(ctx context.Context, s *Swept) error {
	d := newDispatcher(e, SweepParallel)
	d.shares.each = d.shares.all
	d.sweep = &sweeping{s: s, ctx: ctx, busy: map[string]int{}, yielded: map[string]bool{}}
	err := d.scan(ctx, true, true, e.Now())
	idle := e.Now()
	for err == nil {
		if now := e.Now(); now.Sub(d.second) >= lookEvery {
			d.second = now
			err = d.others(ctx)
			clear(d.q.elsewhere) // a sweep waits for them
		}
		err = errors.Join(err, d.fill(ctx))
		d.start(ctx)
		if d.load.all+d.load.aside > 0 {
			idle = e.Now()
		} else if _, others := d.q.waiting(e.Now()); others == 0 || e.Now().Sub(idle) > sweepIdle {
			break
		}
		if !d.await(ctx, d.nap(ctx)) {
			break
		}
	}
	d.wg.Wait()
	for len(d.events) > 0 {
		d.heard(<-d.events)
	}
	return err
}

// sweeping is what a sweep keeps while a dispatcher runs it.
type sweeping struct {
	s       *Swept
	ctx     context.Context //nolint:containedctx // that of the sweep, which it does not outlive
	busy    map[string]int  // how often a job found its device busy
	yielded map[string]bool // creations that were let go first
}

// patience is how often a sweep comes back to a device that is busy.
const patience = 40

// again reports whether a job that found its device busy is tried again.
func (s *sweeping) again(r *running) bool {
	s.busy[r.Job]++
	return s.busy[r.Job] < patience
}

// over notes what became of a job. None is tried twice.
func (s *sweeping) over(d *dispatcher, r *running, ev event) {
	d.q.known[r.Job] = true
	if ev.err != nil && !passing(ev.err) {
		s.s.Errors = append(s.s.Errors, ev.err)
	} else if ev.err == nil && ev.out.Grant.State == grant.Removed {
		s.s.Removed = append(s.s.Removed, ev.out)
	}
	s.yield(d, r.Device)
}

// yield lets a creation go first that somebody waits for on a device, once.
func (s *sweeping) yield(d *dispatcher, device string) {
	list, err := d.e.Store.Ready(s.ctx, grant.Want{Device: device, Now: d.e.Now(), Limit: 4})
	if err != nil {
		return // the next look-up says it
	}
	if i := slices.IndexFunc(list, func(r grant.Ready) bool { return !s.yielded[r.Job] }); i >= 0 {
		s.yielded[list[i].Job] = true
		d.q.rest[device] = d.e.Now().Add(2 * restFor)
	}
}
