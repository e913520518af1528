package store_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"runner/engine/grant"
	"runner/engine/store"
	"runner/engine/store/pgtest"
)

// TestMain makes the test binary a worker process when it is asked to be one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == workerArg {
		worker(os.Args[2:], os.Stdin, os.Stdout)
		return
	}
	m.Run()
	if err := pgtest.Close(); err != nil {
		panic(err)
	}
}

// t0 is a time with a part below the millisecond, in a zone: stores drop both.
var t0 = time.Date(2031, 5, 6, 7, 8, 9, 123456789, time.FixedZone("east", 3600))

func at(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }

// kept is what a store makes of a time.
func kept(t time.Time) time.Time { return time.UnixMilli(t.UnixMilli()).UTC() }

// openStore opens a new store that is closed with the test.
func openStore(tb testing.TB) *store.Store {
	tb.Helper()
	return openIn(tb, tb.TempDir()+"/state")
}

func openIn(tb testing.TB, dir string) *store.Store {
	tb.Helper()
	s, err := store.Open(tb.Context(), dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// openShared opens a new store on PostgreSQL that is closed with the test.
func openShared(tb testing.TB) *store.Store {
	tb.Helper()
	return openAt(tb, pgtest.Database(tb))
}

func openAt(tb testing.TB, url string) *store.Store {
	tb.Helper()
	s, err := store.OpenPostgres(tb.Context(), store.Postgres{URL: url})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// opened is a new store of every kind.
var opened = map[string]func(testing.TB) *store.Store{"sqlite": openStore, "postgres": openShared}

// newCase returns a requested grant of its own requester, account and uid with
// a create job due at t0 and a delete job due a minute later.
func newCase(n int, device string) grant.Case {
	id := fmt.Sprintf("g-%04d", n)
	c := grant.Case{
		Grant: grant.Grant{
			ID: id, State: grant.Requested, Requester: fmt.Sprint("user", n), Caller: "root", Credential: "admin", Device: device,
			Account: fmt.Sprint("jit-", n), UID: int64(70000 + n), Creates: true, Requested: t0, Expires: at(60), For: time.Hour,
		},
		Jobs: []grant.Job{
			{ID: fmt.Sprintf("j-%04d-c", n), GrantID: id, Kind: grant.Create, State: grant.Waiting, Device: device, Due: t0},
			{ID: fmt.Sprintf("j-%04d-d", n), GrantID: id, Kind: grant.Delete, State: grant.Waiting, Device: device, Due: at(60)},
		},
	}
	c.Events = []grant.Event{{At: t0, Actor: "root", Action: "grant.requested", Grant: id, Detail: map[string]string{"device": device}}}
	return c
}

// run makes the i-th job of a case run on a node.
func run(i int, node string) func(*grant.Case) error {
	return func(c *grant.Case) error {
		j := &c.Jobs[i]
		j.State, j.Node = grant.Running, node
		j.Attempt++
		return nil
	}
}
