package engine_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/lab"
)

// hasty is a store with a worker beside it that takes every job first.
type hasty struct {
	engine.Store
	other *engine.Engine
	took  map[string]chan error
}

// Change has the other worker claim a job that is about to be claimed.
func (h *hasty) Change(ctx context.Context, id string, fn func(*grant.Case) error) error {
	faster := errors.New("somebody else is faster")
	var claimed string
	err := h.Store.Change(ctx, id, func(c *grant.Case) error {
		if err := fn(c); err != nil {
			return err
		}
		for _, j := range c.Jobs {
			if j.State == grant.Running && h.took[j.ID] == nil {
				claimed = j.ID
				return faster
			}
		}
		return nil
	})
	if claimed == "" {
		return err
	}
	ran := make(chan error, 1)
	h.took[claimed] = ran
	go func() {
		_, err := h.other.RunJob(context.WithoutCancel(ctx), claimed)
		ran <- err
	}()
	for attempt := 0; attempt == 0; { // until it is theirs
		j, err := h.Job(ctx, claimed)
		if err != nil {
			return err
		}
		attempt = j.Attempt
	}
	return h.Store.Change(ctx, id, fn)
}

// Who is asked to do something at once waits for the worker that was woken by it
// and was faster, and tells what came of it.
func TestAFasterWorkerIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	c := w.active("ada", nil)
	h := &hasty{Store: w.Store, other: openWorld(t, w.box, w.dir).Engine, took: map[string]chan error{}}
	w.Store = h
	was := c.Grant.Expires
	c, err := w.Extend(t.Context(), c.Grant.ID, 2*time.Hour, "ada")
	must(t, err)
	if !c.Grant.Expires.Equal(was.Add(2 * time.Hour)) {
		t.Errorf("expires %v, was %v", c.Grant.Expires, was)
	}
	if c, err = w.End(t.Context(), c.Grant.ID, "ada", "end"); err != nil {
		t.Fatal(err)
	}
	c, err = w.RunNow(t.Context(), *c.Removal(), "ops")
	must(t, err)
	w.gone(c)
	if len(h.took) != 2 {
		t.Errorf("the other worker took %d jobs", len(h.took))
	}
	for _, ran := range h.took {
		must(t, <-ran)
	}
}
