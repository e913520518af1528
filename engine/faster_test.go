package engine_test

import (
	"context"
	"sync"
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

	mu   sync.Mutex
	took map[string]chan error
}

func (h *hasty) Job(ctx context.Context, id string) (grant.Job, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.took[id] == nil {
		ran := make(chan error, 1)
		h.took[id] = ran
		was, err := h.Store.Job(ctx, id)
		if err != nil {
			return was, err
		}
		go func() {
			_, err := h.other.RunJob(context.WithoutCancel(ctx), id)
			ran <- err
		}()
		for j := was; j.Attempt == was.Attempt; { // until it is theirs
			if j, err = h.Store.Job(ctx, id); err != nil {
				return j, err
			}
		}
	}
	return h.Store.Job(ctx, id)
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
