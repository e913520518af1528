package executor_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/transport"
)

const twoPuts = `
  - {name: one, put: {name: a, value: x}}
  - {name: two, put: {name: b, value: x}}
`

// bounded runs steps whose batches may begin within a second.
func bounded(t *testing.T, d *device, more func(*executor.Run)) (*executor.Result, error) {
	t.Helper()
	return start(t, d, "delete", twoPuts, func(r *executor.Run) {
		r.Takeover, r.Scope = true, "g-1"
		r.Lease = func(context.Context) error { return nil }
		r.Until = func() time.Time { return time.Now().Add(time.Second) }
		if more != nil {
			more(r)
		}
	})
}

func TestBatchesSayWhenItIsTooLate(t *testing.T) {
	t.Parallel()
	d := newDevice()
	if res, err := bounded(t, d, nil); err != nil || len(res.Steps) != 2 || len(d.objects) != 2 {
		t.Fatalf("%v, %v", err, d.objects)
	}
	if len(d.batches) != 2 || d.batches[0].Takeover || d.batches[0].Guarded || !d.batches[1].Takeover || !d.batches[1].Guarded {
		t.Errorf("want a look at the watch, then a guarded batch that takes over: %+v", d.batches)
	}
	// What looks before it acts reads the watch as it does so.
	d = newDevice()
	n := &notes{d: d}
	if _, err := bounded(t, d, func(r *executor.Run) { r.Takeover, r.Record = false, n }); err != nil || len(d.batches) != 2 || !d.batches[1].Guarded {
		t.Errorf("%v; %+v", err, d.batches)
	}
}

func TestNothingIsDoneTooLate(t *testing.T) {
	t.Parallel()
	d := newDevice()
	d.slow = 11
	res, err := bounded(t, d, nil)
	te, is := errors.AsType[*transport.Error](err)
	if !is || te.Code != "exec.late" || !te.SafeToRetry || !te.Stopped || len(d.objects) != 0 || res.Sent {
		t.Fatalf("error %+v, objects %v, sent %v", err, d.objects, res.Sent)
	}
	if got := len(d.batches); got != 4 {
		t.Errorf("%d batches: a look and three tries were expected", got)
	}
	if s := res.Steps[0]; s.Status != executor.Unreachable || !strings.Contains(s.Message, "too late") || res.Steps[1].Status != executor.Skipped {
		t.Errorf("steps: %+v", res.Steps)
	}
}

// A worker that lost its job meanwhile does not try again.
func TestLateBatchesOfOthersAreNotSentAgain(t *testing.T) {
	t.Parallel()
	d := newDevice()
	d.slow = 11
	asked := 0
	_, err := bounded(t, d, func(r *executor.Run) {
		r.Lease = func(context.Context) error {
			if asked++; asked > 1 {
				return grant.ErrLeaseLost
			}
			return nil
		}
	})
	if !errors.Is(err, grant.ErrLeaseLost) || len(d.batches) != 2 || len(d.objects) != 0 {
		t.Errorf("%v after %d batches", err, len(d.batches))
	}
}

// A lease that is over is not tried at all on the device's side.
func TestOverIsOver(t *testing.T) {
	t.Parallel()
	d := newDevice()
	_, err := bounded(t, d, func(r *executor.Run) { r.Until = func() time.Time { return time.Now().Add(-time.Hour) } })
	if te, is := errors.AsType[*transport.Error](err); !is || te.Code != "exec.late" || len(d.objects) != 0 {
		t.Errorf("%v", err)
	}
}

// A device whose watch makes no sense gets nothing that changes it.
func TestStrangeWatch(t *testing.T) {
	t.Parallel()
	d := newDevice()
	d.watch = -500
	_, err := bounded(t, d, nil)
	if te, is := errors.AsType[*transport.Error](err); !is || te.Code != "exec.no_watch" || !te.SafeToRetry || len(d.objects) != 0 {
		t.Errorf("%v", err)
	}
}
