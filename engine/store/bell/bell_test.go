package bell_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"runner/engine/grant"
	"runner/engine/store"
	"runner/engine/store/bell"
	"runner/engine/store/pgtest"
)

func TestMain(m *testing.M) {
	m.Run()
	if err := pgtest.Close(); err != nil {
		panic(err)
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// machine is one that hears bells.
type machine struct {
	*store.Store
	wake   chan struct{}
	chores atomic.Int64
	later  atomic.Int64 // those that are not done at the start
	stop   func()
}

func open(t *testing.T, url string) *store.Store {
	t.Helper()
	s := must[*store.Store](t)(store.OpenPostgres(t.Context(), store.Postgres{URL: url, Bell: must[*bell.Bells](t)(bell.New())}))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func hear(t *testing.T, url, node string) *machine {
	t.Helper()
	m := &machine{Store: open(t, url), wake: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- m.Hear(ctx, store.Hearing{Node: node, Log: slog.New(slog.DiscardHandler), Wake: m.wake, Chores: []store.Chore{
			{Name: "count", Every: time.Second, Do: func(context.Context) error { m.chores.Add(1); return nil }},
			{Name: "later", Every: time.Hour, Later: true, Do: func(context.Context) error { m.later.Add(1); return nil }},
		}})
	}()
	m.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	return m
}

const soon = 20 * time.Second

// created makes a grant whose creation is due at a time.
func created(t *testing.T, s *store.Store, n int, due time.Time) string {
	t.Helper()
	id := fmt.Sprint("g-", n)
	c := grant.Case{
		Grant: grant.Grant{ID: id, State: grant.Requested, Requester: id, Credential: "c", Device: id, Account: id, Creates: true, Requested: due, Expires: due.Add(time.Hour)},
		Jobs:  []grant.Job{{ID: fmt.Sprint("j-", n), GrantID: id, Kind: grant.Create, State: grant.Waiting, Device: id, Due: due}},
	}
	if err := s.Create(t.Context(), c, nil); err != nil {
		t.Fatal(err)
	}
	return id
}

// woken waits for a machine to be woken.
func woken(t *testing.T, by string, ms ...*machine) {
	t.Helper()
	ms = append(ms, &machine{})
	start := time.Now()
	defer func() { t.Logf("%s: heard after %v", by, time.Since(start).Round(time.Millisecond)) }()
	select {
	case <-ms[0].wake:
	case <-ms[1].wake:
	case <-time.After(soon):
		t.Fatalf("nobody was woken by %s", by)
	}
}

func TestAMachineIsWokenWhenAJobBecomesReady(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	a, b, asks := hear(t, url, "n-a"), hear(t, url, "n-b"), open(t, url)
	defer a.stop()
	defer b.stop()
	now := asks.Now()
	created(t, asks, 1, now)
	woken(t, "a job that is due", a, b)

	later := created(t, asks, 2, now.Add(time.Hour))
	failed := errors.New("no")
	due := func(fails error) func(*grant.Case) error {
		return func(c *grant.Case) error {
			c.Jobs[0].Due = now
			return fails
		}
	}
	if err := asks.Change(t.Context(), later, due(failed)); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	select {
	case <-a.wake:
		t.Error("a machine was woken by what is not due, or was not stored")
	case <-b.wake:
		t.Error("a machine was woken by what is not due, or was not stored")
	case <-time.After(500 * time.Millisecond):
	}
	if err := asks.Change(t.Context(), later, due(nil)); err != nil {
		t.Fatal(err)
	}
	woken(t, "a job that was brought forward", a, b)

	// b has no room: it does not receive
	created(t, asks, 3, now)
	created(t, asks, 4, now)
	woken(t, "a job while another machine has no room", a)
}

func TestOneMachineDoesAChoreAndAnotherOneAfterIt(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	a, b := hear(t, url, "n-a"), hear(t, url, "n-b")
	done := func() int64 { return a.chores.Load() + b.chores.Load() }
	await := func(n int64) {
		t.Helper()
		ctx, stop := context.WithTimeout(t.Context(), soon)
		defer stop()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for done() < n {
			select {
			case <-ctx.Done():
				t.Fatalf("done %d times, want %d", done(), n)
			case <-tick.C:
			}
		}
	}
	start := time.Now()
	await(3)
	if most := int64(time.Since(start)/time.Second) + 2; done() > most {
		t.Errorf("done %d times in %v", done(), time.Since(start))
	}
	a.stop() // the leader or not
	was := b.chores.Load()
	await(done() + 2)
	if b.chores.Load() < was+2 {
		t.Error("a machine that stopped goes on")
	}
	b.stop()
	if n := a.later.Load() + b.later.Load(); n > 0 {
		t.Errorf("what is to be done later was done %d times", n)
	}
}

func TestBellsAreHungOnceByMachinesThatOpenAtOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	errs := make(chan error)
	for range 5 {
		go func() {
			b, err := bell.New()
			if err == nil {
				var s *store.Store
				if s, err = store.OpenPostgres(context.Background(), store.Postgres{URL: url, Bell: b}); err == nil {
					err = s.Close()
				}
			}
			errs <- err
		}()
	}
	for range 5 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestBellsAreHeardAgainAfterTheServerCrashed(t *testing.T) {
	t.Parallel()
	server := must[*pgtest.Server](t)(pgtest.Start(t.Context()))
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	url := must[string](t)(server.Database(t.Context()))
	a, asks := hear(t, url, "n-a"), open(t, url)
	defer a.stop()
	created(t, asks, 1, asks.Now())
	woken(t, "a job", a)
	server.Crash()
	if err := server.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	created(t, asks, 2, asks.Now())
	woken(t, "a job after the crash", a)
	created(t, asks, 3, asks.Now())
	woken(t, "another job", a)
}

func TestBellsAreHeardThroughAPooler(t *testing.T) {
	t.Parallel()
	server := must[*pgtest.Server](t)(pgtest.Start(t.Context()))
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := server.SQL(t.Context(), `CREATE DATABASE shared`); err != nil {
		t.Fatal(err)
	}
	p := must[*pgtest.Pooler](t)(server.Pool(t.Context(), "pool_mode = session"))
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	url := p.URL("shared")
	a, asks := hear(t, url, "n-a"), open(t, url)
	defer a.stop()
	created(t, asks, 1, asks.Now())
	woken(t, "a job", a)
}
