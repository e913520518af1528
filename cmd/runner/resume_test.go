package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"runner/engine/grant"
	"runner/engine/store"
	"runner/engine/store/pgtest"
)

// resumes is how often each is measured.
const resumes = 5

// BenchmarkResume kills a runner serve in the middle of a removal, and measures how
// long it takes until the removal runs again: in the process that is started at once in
// its place, in another one of the machine, and on another machine.
func BenchmarkResume(b *testing.B) {
	if os.Getenv("FIGURES") == "" {
		b.Skip("FIGURES=1 asks for it; make bench does")
	}
	b.Run("sqlite-restarted", func(b *testing.B) {
		s := newCrashSite(b)
		s.resume(b, 1, s.opened(""), func() *server { return s.serveHere() })
	})
	b.Run("sqlite-another", func(b *testing.B) {
		s := newCrashSite(b)
		s.resume(b, 2, s.opened(""), func() *server { return s.serveHere() })
	})
	b.Run("postgres-another", func(b *testing.B) {
		s, url := newCrashSite(b), pgtest.Database(b)
		s.onDatabase(url)
		s.resume(b, 2, s.opened(url), s.another)
	})
}

// opened is the store of the workspace, or the one that a URL names.
func (s *crashSite) opened(url string) *store.Store {
	s.t.Helper()
	var db *store.Store
	var err error
	if url == "" {
		db, err = store.Open(s.t.Context(), filepath.Join(s.dir, "state"))
	} else {
		db, err = store.OpenPostgres(s.t.Context(), store.Postgres{URL: url})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = db.Close() })
	return db
}

// resume kills one of so many servers again and again, each time while it runs a
// removal.
func (s *crashSite) resume(b *testing.B, servers int, db *store.Store, start func() *server) {
	b.Helper()
	running := map[string]*server{}
	var took []time.Duration
	for n := range resumes {
		for len(running) < servers {
			v := start()
			running[v.node()] = v
		}
		s.sh("rm -f /run/trap/*")
		s.request(n)
		s.until("a grant is active", time.Minute, func() bool { return s.state(n) == "active" })
		s.sh(": >/run/trap/userdel.before; chmod 666 /run/trap/*")
		id := s.grantOf(n).ID
		if err := db.Change(b.Context(), id, func(c *grant.Case) error { return c.End(db.Now(), "ops", "end") }); err != nil {
			b.Fatal(err)
		}
		s.until("the removal comes to the account", time.Minute, func() bool { return strings.Contains(s.sh("ls /run/trap"), "hit") })
		was := s.removal(db, id)
		v := running[was.Node]
		if v == nil {
			b.Fatalf("the removal runs on %s, which is none of the servers", was.Node)
		}
		delete(running, was.Node)
		killed := db.Now()
		_ = v.cmd.Process.Kill()
		<-v.done
		if servers == 1 {
			v := start()
			running[v.node()] = v
		}
		s.until("the removal runs again", time.Minute, func() bool { return s.removal(db, id).Attempt > was.Attempt })
		x, err := db.Execution(b.Context(), s.removal(db, id).Execution)
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, x.Started.Sub(killed))
		s.letGo()
		s.until("nothing runs any more", time.Minute, func() bool { return s.removal(db, id).State != grant.Running })
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(took[len(took)/2].Seconds(), "s-p50")
	b.ReportMetric(took[len(took)-1].Seconds(), "s-max")
}

// removal returns the removal job of a grant.
func (s *crashSite) removal(db *store.Store, id string) grant.Job {
	s.t.Helper()
	c, err := db.Case(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return *c.Removal()
}
