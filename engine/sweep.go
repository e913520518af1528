package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"runner/engine/grant"
)

// SweepParallel is how many removals a sweep runs at once.
const SweepParallel = 16

// Swept is what a sweep did and found.
type Swept struct {
	Reaped  int          // jobs taken from dead workers
	Removed []grant.Case // grants whose removal was proven
	Open    []grant.Case // removals that are due and not done: overdue or blocked
	Waiting int          // removals that are not due yet
	Errors  []error      // what kept this process from trying
}

// Plan returns the grants whose removal, or lock, a sweep would run now, and changes
// nothing.
func (e *Engine) Plan(ctx context.Context) ([]grant.Case, error) {
	cs, err := e.Store.Cases(ctx, grant.Filter{States: []string{string(grant.Active), string(grant.Creating), string(grant.Ending)}, Limit: 1 << 20})
	if err != nil {
		return nil, err
	}
	var due []grant.Case
	for _, c := range cs {
		if c.DueJob(e.Now()) != nil {
			due = append(due, c)
		}
	}
	return due, nil
}

// Sweep finishes what was left: it takes jobs from dead workers, cancels
// abandoned requests and tries every due removal once. It never creates.
func (e *Engine) Sweep(ctx context.Context) (Swept, error) {
	var (
		s   Swept
		err error
	)
	if s.Reaped, err = e.Reap(ctx); err != nil {
		return s, err
	}
	if err := e.expire(ctx); err != nil {
		return s, err
	}
	due, err := e.Plan(ctx)
	if err != nil {
		return s, err
	}
	e.sweepAll(ctx, due, &s)
	open, err := e.Store.Cases(ctx, grant.Filter{States: []string{string(grant.Active), string(grant.Creating), string(grant.Ending)}, Limit: 1 << 20})
	if err != nil {
		return s, err
	}
	for _, c := range open {
		if c.Grant.State == grant.Ending || c.Overdue(e.Now()) > 0 {
			s.Open = append(s.Open, c)
		} else {
			s.Waiting++
		}
	}
	return s, nil
}

// sweepAll tries each removal once, a device at a time, several devices at once.
func (e *Engine) sweepAll(ctx context.Context, due []grant.Case, s *Swept) {
	byDevice := map[string][]grant.Case{}
	for _, c := range due {
		byDevice[c.Grant.Device] = append(byDevice[c.Grant.Device], c)
	}
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		slots = make(chan struct{}, SweepParallel)
	)
	for _, cs := range byDevice {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			for _, c := range cs {
				if ctx.Err() != nil {
					return
				}
				out, err := e.patient(ctx, c)
				mu.Lock()
				if err != nil {
					s.Errors = append(s.Errors, err)
				} else if out.Grant.State == grant.Removed {
					s.Removed = append(s.Removed, out)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// patient runs a removal, or a lock, and waits a while for the device when another worker
// is busy there.
func (e *Engine) patient(ctx context.Context, c grant.Case) (grant.Case, error) {
	for range 50 {
		j := c.DueJob(e.Now())
		if j == nil {
			return c, nil
		}
		out, err := e.RunJob(ctx, j.ID)
		if !errors.Is(err, grant.ErrBusy) {
			if err != nil && passing(err) {
				return e.Store.Case(ctx, c.Grant.ID)
			}
			return out, err
		}
		if err := wait(ctx, 200*time.Millisecond); err != nil {
			return c, err
		}
	}
	return c, nil
}
