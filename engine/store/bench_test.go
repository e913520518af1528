package store_test

import (
	"testing"
	"time"

	"runner/engine/grant"
	"runner/engine/store"
	"runner/engine/store/pgtest"
)

// onEvery runs a benchmark on a new store of every kind. The server of this one waits
// for the disk.
func onEvery(b *testing.B, bench func(*testing.B, *store.Store)) {
	b.Helper()
	b.Run("sqlite", func(b *testing.B) { bench(b, openStore(b)) })
	b.Run("postgres", func(b *testing.B) {
		server, err := pgtest.Start(b.Context(), "fsync = on")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := server.Stop(); err != nil {
				b.Error(err)
			}
		})
		url, err := server.Database(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		bench(b, openAt(b, url))
	})
}

// BenchmarkBareTx is the yardstick of the others: a durable transaction that
// changes one row.
func BenchmarkBareTx(b *testing.B) {
	onEvery(b, func(b *testing.B, s *store.Store) {
		b.Helper()
		n := 0
		for b.Loop() {
			n++
			if err := s.BareTx(b.Context(), n); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkCreate stores a grant, two jobs, a template and an event.
func BenchmarkCreate(b *testing.B) {
	onEvery(b, func(b *testing.B, s *store.Store) {
		b.Helper()
		n := 0
		for b.Loop() {
			n++
			c := newCase(n, itoa(n%100))
			tpl := snap("t", "body")
			c.Grant.Plan.Removal = tpl.Hash
			if err := s.Create(b.Context(), c, []grant.Snapshot{tpl}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkChange claims and hands back.
func BenchmarkChange(b *testing.B) {
	onEvery(b, func(b *testing.B, s *store.Store) {
		b.Helper()
		if err := s.Create(b.Context(), newCase(1, "db1"), nil); err != nil {
			b.Fatal(err)
		}
		n := 0
		for b.Loop() {
			n++
			err := s.Change(b.Context(), "g-0001", func(c *grant.Case) error {
				if c.Jobs[0].State == grant.Waiting {
					return run(0, "n-1")(c)
				}
				c.Jobs[0].State, c.Jobs[0].Node = grant.Waiting, ""
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkDead asks with one live node.
func BenchmarkDead(b *testing.B) {
	onEvery(b, func(b *testing.B, s *store.Store) {
		b.Helper()
		n, err := s.Join(b.Context(), "n")
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := s.Dead(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		_ = n.Leave()
	})
}

// BenchmarkReady asks an idle store.
func BenchmarkReady(b *testing.B) {
	onEvery(b, func(b *testing.B, s *store.Store) {
		b.Helper()
		for b.Loop() {
			if _, err := s.Ready(b.Context(), grant.Want{Removal: true, Now: time.Now(), Limit: 10}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
