package store_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"runner/engine/grant"
	"runner/engine/store"
	"runner/engine/store/pgtest"
)

// lined has changes wait in line, in their order, and returns what came of each. The
// context of those for which gives is set ends while they wait.
func lined(t *testing.T, s *store.Store, changes []func(*grant.Case) error, gives map[int]bool) []error {
	t.Helper()
	release := must[func() error](t)(s.HoldWriteLock(t.Context()))
	said := make([]chan error, len(changes))
	for i, fn := range changes {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		said[i] = make(chan error, 1)
		before := s.Line()
		go func() {
			err := errors.New("it never returned")
			defer func() { said[i] <- err }()
			err = s.Change(ctx, newCase(i, "").Grant.ID, fn)
		}()
		for s.Line() == before {
			runtime.Gosched()
		}
		if gives[i] {
			stop()
			for s.Line() != before {
				runtime.Gosched()
			}
		}
	}
	ok(t, release())
	errs := make([]error, len(changes))
	for i := range said {
		errs[i] = <-said[i]
	}
	return errs
}

// made stores n grants; the first two are on one device.
func made(t *testing.T, s *store.Store, n int) {
	t.Helper()
	for i := range n {
		ok(t, s.Create(t.Context(), newCase(i, []string{"a", "a", "b", "c", "d", "e", "f", "g"}[i]), nil))
	}
}

func reason(text string) func(*grant.Case) error {
	return func(c *grant.Case) error {
		c.Grant.Failure = text
		c.Events = append(c.Events, grant.Event{At: t0, Action: text})
		return nil
	}
}

func TestChangesThatWaitShareATransaction(t *testing.T) {
	t.Parallel()
	for name, open := range opened {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			made(t, s, 7)
			mine := errors.New("mine")
			failure := func(i int) string {
				return must[grant.Case](t)(s.Case(t.Context(), newCase(i, "").Grant.ID)).Grant.Failure
			}
			seen := "not run"
			errs := lined(t, s, []func(*grant.Case) error{
				run(0, "n-1"),
				run(0, "n-2"), // the device is taken, which the database says
				func(c *grant.Case) error { _ = reason("two")(c); return mine },
				reason("three"),
				reason("four"),
				func(c *grant.Case) error { seen = failure(3); return reason("five")(c) },
				func(c *grant.Case) error {
					c.Ran = &grant.Ran{
						Execution: grant.Execution{ID: "x-6", JobID: c.Jobs[0].ID, GrantID: c.Grant.ID, Started: t0},
						Changes:   []grant.Change{{Seq: 1, Object: "group x", State: "intended", Before: "absent", Hold: true}},
					}
					return nil
				},
			}, map[int]bool{4: true})
			for i, wanted := range []error{nil, grant.ErrBusy, mine, nil, context.Canceled, nil, nil} {
				if !errors.Is(errs[i], wanted) {
					t.Errorf("change %d: %v, want %v", i, errs[i], wanted)
				}
			}
			same(t, seen, "") // the one before it was not kept yet
			for i, wanted := range []string{"", "", "", "three", "", "five", ""} {
				same(t, failure(i), wanted)
			}
			same(t, must[grant.Case](t)(s.Case(t.Context(), "g-0000")).Jobs[0].State, grant.Running)
			same(t, must[grant.Case](t)(s.Case(t.Context(), "g-0001")).Jobs[0].State, grant.Waiting)
			same(t, len(must[[]grant.Hold](t)(s.Holds(t.Context(), "g-0006"))), 1)
			same(t, len(must[[]grant.Event](t)(s.Audit(t.Context(), ""))), 7+2)
			ok(t, s.VerifyAudit(t.Context()))
			same(t, s.Line(), 0)
		})
	}
}

// noneKept fails when a change is kept, or is said to be, and when there can be none
// after them.
func noneKept(t *testing.T, s *store.Store, errs []error) {
	t.Helper()
	for i, err := range errs {
		if err == nil {
			t.Errorf("change %d is said to be kept", i)
		}
		same(t, must[grant.Case](t)(s.Case(t.Context(), newCase(i, "").Grant.ID)).Grant.Failure, "")
	}
	ok(t, s.Change(t.Context(), "g-0000", reason("again")))
}

// What shares a transaction that breaks is not kept, and is not said to be.
func TestABrokenTransactionKeepsNothing(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	made(t, s, 4)
	errs := lined(t, s, []func(*grant.Case) error{
		reason("zero"),
		reason("one"),
		func(c *grant.Case) error {
			_, err := s.RawRead().ExecContext(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'`)
			return errors.Join(err, reason("two")(c))
		},
		reason("three"),
	}, nil)
	noneKept(t, s, errs)
	ok(t, s.VerifyAudit(t.Context()))
}

// A change whose goroutine ends in the middle takes those that share its transaction
// with it, but nobody waits for ever.
func TestAChangeThatNeverReturnsHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	for name, open := range opened {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			made(t, s, 3)
			errs := lined(t, s, []func(*grant.Case) error{
				reason("zero"),
				func(*grant.Case) error { runtime.Goexit(); return nil },
				reason("two"),
			}, nil)
			noneKept(t, s, errs)
		})
	}
}

// Changes that wait for a server that is away wait side by side, not one after the other.
func TestAllGiveUpAServerThatIsAwayAtOnce(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(t.Context())
	ok(t, err)
	t.Cleanup(func() { ok(t, server.Stop()) })
	url, err := server.Database(t.Context())
	ok(t, err)
	s := openAt(t, url)
	made(t, s, 6)
	server.Crash()
	begun := time.Now()
	said := make(chan error)
	for i := range 6 {
		go func() { said <- s.Change(t.Context(), newCase(i, "").Grant.ID, reason("x")) }()
	}
	for range 6 {
		if <-said == nil {
			t.Error("kept by a server that is away")
		}
	}
	if took := time.Since(begun); took > 3*store.Away {
		t.Errorf("six changes were given up after %s", took)
	}
}
