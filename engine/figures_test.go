package engine_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/store"
)

// The figures of README.md. Ratios count: what they are made of is measured in turns
// in one run.

// figures says whether they are asked for: they take minutes.
func figures(b *testing.B) {
	b.Helper()
	if os.Getenv("FIGURES") == "" {
		b.Skip("FIGURES=1 asks for it; make bench does")
	}
}

// counted counts the transactions that write.
type counted struct {
	*store.Store

	writes atomic.Int64
}

func (c *counted) Create(ctx context.Context, g grant.Case, snaps []grant.Snapshot) error {
	c.writes.Add(1)
	return c.Store.Create(ctx, g, snaps)
}

func (c *counted) Change(ctx context.Context, id string, fn func(*grant.Case) error) error {
	c.writes.Add(1)
	return c.Store.Change(ctx, id, fn)
}

func (c *counted) PutExecution(ctx context.Context, f grant.Fence, e grant.Execution, steps ...grant.StepResult) error {
	c.writes.Add(1)
	return c.Store.PutExecution(ctx, f, e, steps...)
}

func (c *counted) PutChanges(ctx context.Context, f grant.Fence, id string, cs []grant.Change) error {
	c.writes.Add(1)
	return c.Store.PutChanges(ctx, f, id, cs)
}

func (c *counted) ReserveUID(ctx context.Context, device string, first, last int64, now time.Time) (int64, error) {
	c.writes.Add(1)
	return c.Store.ReserveUID(ctx, device, first, last, now)
}

// onDisk is a fleet whose store is on disk, and the path of its database.
func onDisk(b *testing.B, devices int) (f *fleet, s *counted, db string) {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "state")
	st, err := store.Open(b.Context(), dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = st.Close() })
	f, s = joined(b, st, devices)
	return f, s, filepath.Join(dir, "runner.db")
}

// joined is a fleet on a store.
func joined(b *testing.B, st *store.Store, devices int) (*fleet, *counted) {
	b.Helper()
	n, err := st.Join(b.Context(), "figures")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = n.Leave() })
	s := &counted{Store: st}
	f := newFleet(b, s, devices, "")
	f.Node = n.ID()
	return f, s
}

// spread runs n pieces of work, so many at once, and returns how long they took.
func spread(n, at int, do func(worker, i int)) time.Duration {
	begin := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for worker := range at {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(worker, i)
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}

// BenchmarkGrants takes grants from the request to the receipt, 16 at a time, on
// devices on which everything takes no time, and in turns has the floor write the
// same number: the bare transactions that they need, as durable, into an empty store
// of the same kind.
func BenchmarkGrants(b *testing.B) {
	figures(b)
	const at = 16
	b.Run("sqlite", func(b *testing.B) {
		f, s, path := onDisk(b, at)
		dir := filepath.Join(b.TempDir(), "floor")
		empty, err := store.Open(b.Context(), dir)
		if err := errors.Join(err, empty.Close()); err != nil {
			b.Fatal(err)
		}
		open := func(dir, file, synchronous string) *sql.DB {
			return pool(b, "sqlite", filepath.Join(dir, file)+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_pragma=synchronous("+synchronous+")", 1)
		}
		bare := &floor{db: open(dir, "runner.db", "FULL"), logs: open(dir, "logs.db", "NORMAL")}
		from := filepath.Dir(path)
		throughput(b, f, s, at, bare, open(from, "runner.db", "FULL"), open(from, "logs.db", "NORMAL"))
	})
	b.Run("postgres", func(b *testing.B) {
		f, s, server, url := withBells(b, at, nil)
		other, err := server.Database(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		empty, err := store.OpenPostgres(b.Context(), store.Postgres{URL: other})
		if err := errors.Join(err, empty.Close()); err != nil {
			b.Fatal(err)
		}
		open := func(url, schema, synchronous string) *sql.DB {
			return pool(b, "pgx", url+"&search_path="+schema+"&synchronous_commit="+synchronous, at)
		}
		bare := &floor{db: open(other, "runner", "on"), logs: open(other, "runner_logs", "off")}
		throughput(b, f, s, at, bare, open(url, "runner", "on"), open(url, "runner_logs", "off"))
	})
}

func throughput(b *testing.B, f *fleet, s *counted, at int, floor *floor, db, logs *sql.DB) {
	b.Helper()
	first := f.made(b, 0, 1_000_000, time.Hour)
	first, err := f.End(b.Context(), first.Grant.ID, "root", "end")
	if err == nil {
		first, err = f.Remove(b.Context(), first)
	}
	if err != nil || first.Grant.State != grant.Removed {
		b.Fatal(first.Grant.State, err)
	}
	floor.learn(b, db, logs, first.Grant.ID)
	const turns = 8
	var grants, bare time.Duration
	var made, writes, who int
	for range turns {
		s.writes.Store(0)
		first := who
		grants += spread(4*at, at, func(worker, i int) {
			c := f.made(b, worker, first+i, time.Hour)
			c, err := f.End(b.Context(), c.Grant.ID, "root", "end")
			if err == nil {
				c, err = f.Remove(b.Context(), c)
			}
			if err != nil || c.Grant.State != grant.Removed {
				b.Errorf("grant is %s: %v", c.Grant.State, err)
			}
		})
		who += 4 * at
		made += 4 * at
		writes += int(s.writes.Load())
		bare += spread(4*at, at, func(int, int) { floor.one(b) })
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(made)/grants.Seconds(), "grants/s")
	b.ReportMetric(float64(made)/bare.Seconds(), "bare-grants/s")
	b.ReportMetric(float64(made*transactions)/bare.Seconds(), "bare-tx/s")
	b.ReportMetric(float64(writes)/float64(made), "tx/grant")
	b.ReportMetric(bare.Seconds()/grants.Seconds(), "of-bare")
}

var _ engine.Store = (*counted)(nil)
