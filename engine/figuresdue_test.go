package engine_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"runner/engine/grant"
	"runner/engine/store"
	"runner/engine/store/bell"
	"runner/engine/store/pgtest"
)

// withBells is a fleet whose store is on a PostgreSQL that waits for its disk, that
// server, and the URL of its database.
func withBells(b *testing.B, devices int, bells store.Bell) (f *fleet, s *counted, server *pgtest.Server, url string) {
	b.Helper()
	var err error
	server, err = pgtest.Start(b.Context(), "fsync = on")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := server.Stop(); err != nil {
			b.Error(err)
		}
	})
	if url, err = server.Database(b.Context()); err != nil {
		b.Fatal(err)
	}
	st, err := store.OpenPostgres(b.Context(), store.Postgres{URL: url, Bell: bells})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = st.Close() })
	f, s = joined(b, st, devices)
	f.Now, f.Until = st.Now, st.Until
	return f, s, server, url
}

// crowd is a fleet with more grants than could be requested in the time of a figure.
type crowd struct {
	*fleet

	s    *counted
	db   *sql.DB // another connection to the store
	size string  // statement that returns how much its tables take up; "": look at files
	path string  // the file
}

// crowds runs a benchmark on both stores.
func crowds(b *testing.B, devices int, measure func(*testing.B, *crowd)) {
	b.Helper()
	figures(b)
	b.Run("sqlite", func(b *testing.B) {
		c := &crowd{}
		c.fleet, c.s, c.path = onDisk(b, devices)
		c.open(b, "sqlite", c.path+"?_pragma=busy_timeout(10000)")
		measure(b, c)
	})
	b.Run("postgres", func(b *testing.B) {
		bells, err := bell.New()
		if err != nil {
			b.Fatal(err)
		}
		c := &crowd{size: `SELECT pg_total_relation_size('grants') + pg_total_relation_size('jobs')`}
		var url string
		c.fleet, c.s, _, url = withBells(b, devices, bells)
		c.open(b, "pgx", url+"&search_path=runner")
		measure(b, c)
	})
}

func (c *crowd) open(b *testing.B, driver, name string) {
	b.Helper()
	var err error
	if c.db, err = sql.Open(driver, name); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.db.Close() })
}

// serve serves until stop is called, woken as runner serve is.
func (c *crowd) serve(b *testing.B) (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 2)
	heard := make(chan error, 1)
	close(heard)
	if c.s.Shared() {
		wake := make(chan struct{})
		c.Wake = wake
		heard = make(chan error, 1)
		go func() {
			heard <- c.s.Hear(ctx, store.Hearing{Node: "figures", Log: slog.New(slog.DiscardHandler), Wake: wake})
		}()
	}
	go func() { done <- c.Serve(ctx, 16, time.Minute) }()
	return func() {
		b.Helper()
		cancel()
		for _, from := range []chan error{done, heard} {
			if err := <-from; err != nil {
				b.Error(err)
			}
		}
	}
}

// filler makes n active grants with their removals, due at a time, out of one.
const filler = `
WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < %[2]d)
INSERT INTO grants SELECT %[1]s FROM i, grants g WHERE g.id = '%[3]s';
WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < %[2]d)
INSERT INTO jobs SELECT %[4]s FROM i, jobs j WHERE j.grant_id = '%[3]s';`

// multiply makes n grants like one, whose removals are due at a time, without
// the engine: that would take too long.
func (c *crowd) multiply(b *testing.B, like *grant.Case, n int, due time.Time) {
	b.Helper()
	at := strconv.FormatInt(due.UnixMilli(), 10)
	g := c.columns(b, "grants", map[string]string{"id": "id || '-' || n", "requester": "requester || '-' || n", "account": "account || '-' || n", "uid": "uid + 100000 + n", "expires_at": at})
	j := c.columns(b, "jobs", map[string]string{
		"id": "id || '-' || n", "grant_id": "grant_id || '-' || n",
		"due_at":   "CASE WHEN removal = 1 THEN " + at + " ELSE due_at END",
		"ready_at": "CASE WHEN removal = 1 THEN " + at + " END",
	})
	if _, err := c.db.ExecContext(b.Context(), fmt.Sprintf(filler, g, n, like.Grant.ID, j)); err != nil {
		b.Fatal(err)
	}
}

// columns returns those of a table, some of which are computed.
func (c *crowd) columns(b *testing.B, table string, other map[string]string) string {
	b.Helper()
	rows, err := c.db.QueryContext(b.Context(), `SELECT * FROM `+table+` WHERE 1 = 0`)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	list, err := rows.Columns()
	if err := errors.Join(err, rows.Err()); err != nil {
		b.Fatal(err)
	}
	for i, name := range list {
		if as, is := other[name]; is {
			list[i] = as
		}
	}
	return strings.Join(list, ", ")
}

// takes returns how many bytes the store takes up on disk.
func (c *crowd) takes(b *testing.B) (n int64) {
	b.Helper()
	if c.size != "" {
		if err := c.db.QueryRowContext(b.Context(), c.size).Scan(&n); err != nil {
			b.Fatal(err)
		}
		return n
	}
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(c.path + suffix); err == nil {
			n += info.Size()
		}
	}
	return n
}

// percentile of durations.
func percentile(ds []time.Duration, p float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	slices.Sort(ds)
	return ds[min(len(ds)-1, int(float64(len(ds))*p))]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// BenchmarkDelay ends grants while 100,000 others wait for their time, and measures
// how long after that their removals begin; and what a waiting grant takes up.
func BenchmarkDelay(b *testing.B) {
	const devices, waiting, ended = 50, 100_000, 300
	crowds(b, devices, func(b *testing.B, c *crowd) {
		var cs []grant.Case
		for i := range ended {
			cs = append(cs, c.made(b, i%devices, i, 10*time.Hour))
		}
		size := c.takes(b)
		for i := range devices {
			c.multiply(b, &cs[i], waiting/devices, c.Now().Add(5*time.Hour))
		}
		disk := float64(c.takes(b)-size) / waiting
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		stop := c.serve(b)
		<-time.After(2 * time.Second)
		runtime.GC()
		runtime.ReadMemStats(&after)
		for i := range cs {
			if _, err := c.End(b.Context(), cs[i].Grant.ID, "root", "end"); err != nil {
				b.Fatal(err)
			}
			<-time.After(50 * time.Millisecond)
		}
		delays := c.drained(b, cs)
		stop()
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(ms(percentile(delays, 0.5)), "ms-p50")
		b.ReportMetric(ms(percentile(delays, 0.99)), "ms-p99")
		b.ReportMetric(disk, "disk-bytes/grant")
		b.ReportMetric(max(0, float64(after.HeapAlloc)-float64(before.HeapAlloc))/waiting, "heap-bytes/grant")
	})
}

// drained waits until grants are removed, and returns how long after their end the
// removals began.
func (c *crowd) drained(b *testing.B, cs []grant.Case) []time.Duration {
	b.Helper()
	var delays []time.Duration
	for i := range cs {
		for {
			is, err := c.s.Case(b.Context(), cs[i].Grant.ID)
			if err != nil {
				b.Fatal(err)
			}
			if is.Grant.State != grant.Removed {
				<-time.After(20 * time.Millisecond)
				continue
			}
			xs, err := c.s.Executions(b.Context(), grant.Filter{Job: is.Removal().ID})
			if err != nil {
				b.Fatal(err)
			}
			delays = append(delays, xs[len(xs)-1].Started.Sub(is.Grant.Ended))
			break
		}
	}
	return delays
}

// BenchmarkExpiry has 15,000 grants on 100 devices expire at once, and requests new
// ones on the same devices meanwhile.
func BenchmarkExpiry(b *testing.B) {
	const devices, expiring = 100, 15_000
	crowds(b, devices, func(b *testing.B, c *crowd) {
		c.devices.takes[""] = 5 * time.Millisecond
		var first []grant.Case
		for i := range devices {
			first = append(first, c.made(b, i, i, 10*time.Hour))
		}
		due := c.Now()
		for i := range first {
			c.multiply(b, &first[i], expiring/devices, due)
		}
		begin := time.Now()
		stop := c.serve(b)
		waits := c.asking(b, devices)
		took := time.Since(begin)
		stop()
		c.devices.mu.Lock()
		defer c.devices.mu.Unlock()
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(expiring/took.Seconds(), "removals/s")
		b.ReportMetric(took.Seconds(), "s-drained")
		b.ReportMetric(float64(len(waits)), "requests")
		b.ReportMetric(ms(percentile(waits, 0.5)), "ms-request-p50")
		b.ReportMetric(ms(percentile(waits, 1)), "ms-request-max")
		b.ReportMetric(float64(c.devices.most), "connections")
	})
}

// asking requests grants one after the other until nothing is overdue, and returns how
// long each of them had to wait.
func (c *crowd) asking(b *testing.B, devices int) []time.Duration {
	b.Helper()
	var waits []time.Duration
	for n := 0; ; n++ {
		begun := time.Now()
		is := c.ask(b, n%devices, 10_000+n, time.Hour)
		for is.Grant.State != grant.Active {
			<-time.After(10 * time.Millisecond)
			var err error
			if is, err = c.s.Case(b.Context(), is.Grant.ID); err != nil {
				b.Fatal(err)
			}
		}
		waits = append(waits, time.Since(begun))
		_, left, err := c.s.Overdue(b.Context(), c.Now(), 1)
		if err != nil {
			b.Fatal(err)
		}
		if left == 0 {
			return waits
		}
		<-time.After(200 * time.Millisecond)
	}
}
