package engine_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/store"
	"runner/engine/store/pgtest"
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

// onServer is a fleet whose store is on a PostgreSQL that waits for its disk.
func onServer(b *testing.B, devices int) (*fleet, *counted) {
	b.Helper()
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
	st, err := store.OpenPostgres(b.Context(), store.Postgres{URL: url})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = st.Close() })
	return joined(b, st, devices)
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
// devices on which everything takes no time, and in turns writes as many bare
// transactions as those made: one row each, as durable.
func BenchmarkGrants(b *testing.B) {
	figures(b)
	const at = 16
	b.Run("sqlite", func(b *testing.B) {
		f, s, _ := onDisk(b, at)
		throughput(b, f, s, at)
	})
	b.Run("postgres", func(b *testing.B) {
		f, s := onServer(b, at)
		throughput(b, f, s, at)
	})
}

func throughput(b *testing.B, f *fleet, s *counted, at int) {
	b.Helper()
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
		n := int(s.writes.Load())
		writes += n
		base := time.Now()
		bare += spread(n, at, func(worker, i int) {
			if err := s.Mark(b.Context(), fmt.Sprint("bare", worker), base.Add(time.Duration(i)*time.Millisecond)); err != nil {
				b.Error(err)
			}
		})
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(made)/grants.Seconds(), "grants/s")
	b.ReportMetric(float64(writes)/bare.Seconds(), "bare-tx/s")
	b.ReportMetric(float64(writes)/float64(made), "tx/grant")
	b.ReportMetric(bare.Seconds()/grants.Seconds(), "of-bare")
}

// filler makes n active grants with their removals, due at a time, out of one.
const filler = `
WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < %[2]d)
INSERT INTO grants SELECT %[1]s FROM i, grants g WHERE g.id = '%[3]s';
WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < %[2]d)
INSERT INTO jobs SELECT %[4]s FROM i, jobs j WHERE j.grant_id = '%[3]s';`

// multiply makes n grants like one, whose removals are due at a time, without
// the engine: that would take too long.
func multiply(b *testing.B, path string, like *grant.Case, n int, due time.Time) {
	b.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	columns := func(table string, other map[string]string) string {
		rows, err := db.QueryContext(b.Context(), `SELECT name FROM pragma_table_info('`+table+`') ORDER BY cid`)
		if err != nil {
			b.Fatal(err)
		}
		defer rows.Close()
		var list string
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				b.Fatal(err)
			}
			as, is := other[name]
			if !is {
				as = name
			}
			list += ", " + as
		}
		if err := rows.Err(); err != nil {
			b.Fatal(err)
		}
		return list[2:]
	}
	at := strconv.FormatInt(due.UnixMilli(), 10)
	g := columns("grants", map[string]string{"id": "id || '-' || n", "requester": "requester || '-' || n", "account": "account || '-' || n", "uid": "uid + 100000 + n", "expires_at": at})
	j := columns("jobs", map[string]string{
		"id": "id || '-' || n", "grant_id": "grant_id || '-' || n",
		"due_at":   "CASE WHEN removal = 1 THEN " + at + " ELSE due_at END",
		"ready_at": "CASE WHEN removal = 1 THEN " + at + " END",
	})
	if _, err := db.ExecContext(b.Context(), fmt.Sprintf(filler, g, n, like.Grant.ID, j)); err != nil {
		b.Fatal(err)
	}
}

// percentile of durations.
func percentile(ds []time.Duration, p float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	slices.Sort(ds)
	return ds[min(len(ds)-1, int(float64(len(ds))*p))]
}

// BenchmarkDelay ends grants while 100,000 others wait for their time, and measures
// how long after that their removals begin; and what a waiting grant takes up.
func BenchmarkDelay(b *testing.B) {
	figures(b)
	const devices, waiting, ended = 50, 100_000, 300
	f, s, path := onDisk(b, devices)
	var cs []grant.Case
	for i := range ended {
		cs = append(cs, f.made(b, i%devices, i, 10*time.Hour))
	}
	size := fileSize(b, path)
	for i := range devices {
		multiply(b, path, &cs[i], waiting/devices, time.Now().Add(5*time.Hour))
	}
	disk := float64(fileSize(b, path)-size) / waiting
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- f.Serve(ctx, 16, time.Minute) }()
	<-time.After(2 * time.Second)
	runtime.GC()
	runtime.ReadMemStats(&after)
	for i := range cs {
		if _, err := f.End(b.Context(), cs[i].Grant.ID, "root", "end"); err != nil {
			b.Fatal(err)
		}
		<-time.After(50 * time.Millisecond)
	}
	delays := drained(b, s, cs)
	stop()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(percentile(delays, 0.5)), "ms-p50")
	b.ReportMetric(ms(percentile(delays, 0.99)), "ms-p99")
	b.ReportMetric(disk, "disk-bytes/grant")
	b.ReportMetric(max(0, float64(after.HeapAlloc)-float64(before.HeapAlloc))/waiting, "heap-bytes/grant")
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func fileSize(b *testing.B, path string) int64 {
	b.Helper()
	var n int64
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(path + suffix); err == nil {
			n += info.Size()
		}
	}
	return n
}

// drained waits until grants are removed, and returns how long after their end the
// removals began.
func drained(b *testing.B, s *counted, cs []grant.Case) []time.Duration {
	b.Helper()
	var delays []time.Duration
	for i := range cs {
		for {
			c, err := s.Case(b.Context(), cs[i].Grant.ID)
			if err != nil {
				b.Fatal(err)
			}
			if c.Grant.State != grant.Removed {
				<-time.After(20 * time.Millisecond)
				continue
			}
			xs, err := s.Executions(b.Context(), grant.Filter{Job: c.Removal().ID})
			if err != nil {
				b.Fatal(err)
			}
			delays = append(delays, xs[len(xs)-1].Started.Sub(c.Grant.Ended))
			break
		}
	}
	return delays
}

// BenchmarkExpiry has 15,000 grants on 100 devices expire at once, and requests new
// ones on the same devices meanwhile.
func BenchmarkExpiry(b *testing.B) {
	figures(b)
	const devices, expiring = 100, 15_000
	f, s, path := onDisk(b, devices)
	f.devices.takes[""] = 5 * time.Millisecond
	var first []grant.Case
	for i := range devices {
		first = append(first, f.made(b, i, i, 10*time.Hour))
	}
	due := time.Now()
	for i := range first {
		multiply(b, path, &first[i], expiring/devices, due)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error)
	var waits []time.Duration
	begin := time.Now()
	go func() { done <- f.Serve(ctx, 16, time.Minute) }()
	for n := 0; ; n++ {
		begun := time.Now()
		c := f.ask(b, n%devices, 10_000+n, time.Hour)
		for c.Grant.State != grant.Active {
			<-time.After(10 * time.Millisecond)
			var err error
			if c, err = s.Case(b.Context(), c.Grant.ID); err != nil {
				b.Fatal(err)
			}
		}
		waits = append(waits, time.Since(begun))
		_, left, err := s.Overdue(b.Context(), time.Now(), 1)
		if err != nil {
			b.Fatal(err)
		}
		if left == 0 {
			break
		}
		<-time.After(200 * time.Millisecond)
	}
	took := time.Since(begin)
	stop()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	f.devices.mu.Lock()
	defer f.devices.mu.Unlock()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(expiring/took.Seconds(), "removals/s")
	b.ReportMetric(took.Seconds(), "s-drained")
	b.ReportMetric(float64(len(waits)), "requests")
	b.ReportMetric(ms(percentile(waits, 0.5)), "ms-request-p50")
	b.ReportMetric(ms(percentile(waits, 1)), "ms-request-max")
	b.ReportMetric(float64(f.devices.most), "connections")
}

var _ engine.Store = (*counted)(nil)
