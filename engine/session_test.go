package engine_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/store"
)

// A session whose account takes long to be made is not taken for abandoned while its
// program lives, and is as soon as it does not.
func TestASessionLivesAsLongAsItsProgram(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := store.NewMemory()
		e := &engine.Engine{Store: s, Node: "n-1", Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		c := grant.New(grant.Grant{ID: "g-1", Requester: "ada", Caller: "ada", Credential: "admin", Device: "box", Account: "jit-a", Creates: true, For: time.Hour}, "j-1", "j-2", time.Now())
		c.Open(grant.Session{ID: "s-1", Kind: grant.SessionShell, Node: "n-1"}, time.Now())
		must(t, s.Create(ctx, c, nil))
		state := func() (grant.Session, grant.State) {
			t.Helper()
			x, err := s.Session(ctx, "s-1")
			must(t, err)
			now, err := s.Case(ctx, "g-1")
			must(t, err)
			return x, now.Grant.State
		}
		reap := func() {
			t.Helper()
			_, err := e.Reap(ctx)
			must(t, err)
		}

		alive, die := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); e.Beat(alive, *c.Opens) }()
		<-time.After(time.Minute)
		reap()
		if x, g := state(); !x.Ended.IsZero() || g != grant.Requested {
			t.Fatalf("ended by %q while it lived; the grant is %s", x.EndedBy, g)
		}
		die()
		<-done
		<-time.After(grant.SessionPatience - 3*time.Second)
		reap()
		if x, _ := state(); !x.Ended.IsZero() {
			t.Fatal("ended too soon")
		}
		<-time.After(3 * time.Second)
		reap()
		x, g := state()
		if x.EndedBy != grant.SessionGone || g != grant.Cancelled {
			t.Errorf("ended by %q, the grant is %s", x.EndedBy, g)
		}
		// its program comes back and finds that out
		err := e.Attend(ctx, x, time.Now().Add(time.Hour), func(time.Time) {})
		if over, is := errors.AsType[*engine.SessionOverError](err); !is || over.By != grant.SessionGone {
			t.Errorf("attending it: %v", err)
		}
	})
}

// still is a store whose reader stands still after it was told of open sessions.
type still struct{ engine.Store }

func (s still) Sessions(ctx context.Context, f grant.Filter) ([]grant.Session, error) {
	list, err := s.Store.Sessions(ctx, f)
	<-time.After(time.Minute)
	return list, err
}

// A server that was suspended does not end the sessions of people whose programs lived
// all the time.
func TestAServerThatStoodStillEndsNoLivingSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		e := &engine.Engine{Store: s, Node: "n-1", Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		c := grant.New(grant.Grant{ID: "g-1", Requester: "ada", Caller: "ada", Credential: "admin", Device: "box", Account: "jit-a", Creates: true, For: time.Hour}, "j-1", "j-2", time.Now())
		c.Open(grant.Session{ID: "s-1", Kind: grant.SessionShell, Node: "n-1"}, time.Now())
		must(t, s.Create(t.Context(), c, nil))
		alive, die := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); e.Beat(alive, *c.Opens) }()
		server := &engine.Engine{Store: still{s}, Node: "n-2", Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		_, err := server.Reap(t.Context())
		must(t, err)
		if x, err := s.Session(t.Context(), "s-1"); err != nil || !x.Ended.IsZero() {
			t.Errorf("ended by %q while it lived (%v)", x.EndedBy, err)
		}
		die()
		<-done
	})
}
