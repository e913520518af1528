package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"runner/engine/grant"
	"runner/engine/secret"
	"runner/engine/store"
	"runner/engine/store/pgtest"
)

func TestMachinesThatOpenAnEmptyDatabaseAtOnceDoNotMeet(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	var (
		wg   sync.WaitGroup
		errs [6]error
	)
	for i := range errs {
		wg.Go(func() {
			s, err := store.OpenPostgres(context.Background(), store.Postgres{URL: url})
			if err == nil {
				err = errors.Join(s.Create(context.Background(), newCase(i, "db1"), nil), s.Close())
			}
			errs[i] = err
		})
	}
	wg.Wait()
	ok(t, errors.Join(errs[:]...))
	s := openAt(t, url)
	same(t, len(must[[]grant.Case](t)(s.Cases(t.Context(), grant.Filter{}))), len(errs))
	ok(t, s.VerifyAudit(t.Context()))
}

func TestANewerSchemaOnPostgreSQLIsRefusedAndLeftAlone(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s := openAt(t, url)
	_, err := s.RawLogs().ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)`)
	ok(t, err)
	_, err = store.OpenPostgres(t.Context(), store.Postgres{URL: url})
	want(t, err, grant.ErrNewerSchema)
	if !strings.Contains(err.Error(), "it has schema 99 and this runner knows up to "+latest(t, "logs")) {
		t.Errorf("got %v", err)
	}
}

// What is not said about a database is what is safe; what is said wrongly tells
// what would have been right, and never a password.
func TestTheURLOfADatabase(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stop() // nothing is to be reached
	for url, want := range map[string]string{
		"postgres://runner@db.example/runner":                                   "",
		"postgres://runner@db.example/runner?sslmode=verify-ca":                 "",
		"postgresql://runner@127.0.0.1/runner?sslmode=disable":                  "",
		"postgres:///runner?host=/run/postgresql":                               "",
		"postgres://runner@localhost/runner":                                    "",
		"postgres://runner@a.example,b.example:5433/runner":                     "",
		"postgres://runner@127.0.0.1,127.0.0.1:5433/runner?sslmode=disable":     "",
		"postgres://runner@127.0.0.1,b.example/runner?sslmode=disable":          "use sslmode=verify-full",
		"postgres://runner@a.example,b.example/runner?target_session_attrs=any": "leave it out, or use read-write",
		"postgres://runner@db.example/runner?sslmode=require":                   "use sslmode=verify-full",
		"postgres://runner@db.example/runner?sslmode=disable":                   "use sslmode=verify-full",
		"postgres://runner@db.example/runner?sslmode=prefer":                    "use sslmode=verify-full",
		"postgres:///runner?host=127.0.0.1,db.example&sslmode=disable":          "use sslmode=verify-full",
		"postgres://runner:canary@db.example/runner":                            "take it out (postgres://runner@db.example/runner)",
		"postgres://runner@db.example/runner?password=canary":                   "take it out (postgres://runner@db.example/runner)",
		"mysql://runner:canary@db.example/runner":                               "only postgres://USER@HOST/DATABASE",
		"postgres://runner:canary@db.example:port/runner":                       "it looks like postgres://",
		"postgres://runner@db.example/runner?sslrootcert=/none/canary.pem":      "unable to read CA file",
	} {
		_, err := store.OpenPostgres(ctx, store.Postgres{URL: url, Password: secret.New("canary2")})
		switch {
		case want == "" && !errors.Is(err, context.Canceled):
			t.Errorf("%s: got %v", url, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want %q", url, err, want)
		case strings.Contains(err.Error(), "canary2") || strings.Contains(url, ":canary@") && strings.Contains(err.Error(), "canary"):
			t.Errorf("%s: the password is in %v", url, err)
		}
	}
}

func TestADatabaseThatDoesNotAnswerIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := store.OpenPostgres(t.Context(), store.Postgres{URL: "postgres:///runner?user=runner&host=" + dir})
	if err == nil || !strings.Contains(err.Error(), "the database runner on "+dir+" does not answer") {
		t.Errorf("got %v", err)
	}
}

// A process that stands still in the middle of a change holds up all others, of all
// machines, until the database ends what it began.
func TestAProcessThatStandsStillInAChangeIsPutOut(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	frozen, s := openAt(t, url), openAt(t, url)
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	in, out := make(chan struct{}), make(chan struct{})
	froze := make(chan error)
	go func() {
		froze <- frozen.Change(context.Background(), "g-0001", func(c *grant.Case) error {
			close(in)
			<-out
			return run(0, "n-frozen")(c)
		})
	}()
	<-in
	start := time.Now()
	ok(t, s.Change(t.Context(), "g-0001", run(0, "n-1")))
	if took := time.Since(start); took > store.LeaseTTL {
		t.Errorf("others were held up for %v", took)
	}
	close(out)
	if err := <-froze; err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("what it wrote afterwards counts: %v", err)
	}
	same(t, must[grant.Case](t)(s.Case(t.Context(), "g-0001")).Jobs[0].Node, "n-1")
	ok(t, frozen.Change(t.Context(), "g-0001", func(c *grant.Case) error { c.Grant.Reason = "back"; return nil }))
}

// A caller that gives up while others write does not leave its place in the queue.
func TestAWaitForOtherMachinesEndsWithItsContext(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	a, b := openAt(t, url), openAt(t, url)
	ok(t, a.Create(t.Context(), newCase(1, "db1"), nil))
	release, err := a.HoldWriteLock(t.Context())
	ok(t, err)
	ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	want(t, b.Change(ctx, "g-0001", run(0, "n-1")), context.DeadlineExceeded)
	if _, err := b.Cases(t.Context(), grant.Filter{}); err != nil {
		t.Errorf("readers wait for the writer: %v", err)
	}
	ok(t, release())
	ok(t, b.Change(t.Context(), "g-0001", run(0, "n-1")))
}

// The server goes down in the middle of work and comes back: what was acknowledged
// is there, and nothing has to be opened again.
func TestADatabaseThatCrashesAndComesBackIsUsedOn(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(t.Context())
	ok(t, err)
	t.Cleanup(func() { ok(t, server.Stop()) })
	s := openAt(t, must[string](t)(server.Database(t.Context())))
	done, created := make(chan struct{}), make(chan []string)
	var made atomic.Int64
	for w := range 3 {
		go func() {
			var ids []string
			for n := 0; ; n++ {
				select {
				case <-done:
					created <- ids
					return
				default:
				}
				c := newCase(1000*w+n, "db1")
				if err := s.Create(context.Background(), c, nil); err == nil {
					ids = append(ids, c.Grant.ID)
					made.Add(1)
				}
			}
		}()
	}
	for round := range 3 {
		for made.Load() < int64(5*(round+1)) { // crashed in the middle of work
			ok(t, store.Pause(t.Context(), 10*time.Millisecond))
		}
		server.Crash()
		ok(t, server.Resume(t.Context()))
	}
	ok(t, s.Create(t.Context(), newCase(9999, "db1"), nil))
	close(done)
	for range 3 {
		for _, id := range <-created {
			if _, err := s.Case(t.Context(), id); err != nil {
				t.Errorf("%s was acknowledged: %v", id, err)
			}
		}
	}
	ok(t, s.VerifyAudit(t.Context()))
}

// Text is ordered by its bytes, whatever the database was made for: prefixes of ids
// are looked up by order.
func TestTheOrderOfTextIsThatOfBytes(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	var less bool
	ok(t, s.Raw().QueryRowContext(t.Context(), `SELECT 'B' < 'a'`).Scan(&less))
	if less {
		t.Fatal("the database of this test orders by bytes anyway")
	}
	rows, err := s.Raw().QueryContext(t.Context(), `SELECT table_schema || '.' || table_name || '.' || column_name FROM information_schema.columns
		WHERE table_schema IN ('runner', 'runner_logs') AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'
		AND table_name <> 'goose_db_version'`)
	ok(t, err)
	defer rows.Close()
	for rows.Next() {
		var column string
		ok(t, rows.Scan(&column))
		t.Errorf("%s is ordered as the database likes", column)
	}
	ok(t, rows.Err())
}

func TestMigrationsAreNumberedOnce(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"migrations/runner", "migrations/logs"} {
		files := must[[]os.DirEntry](t)(os.ReadDir(dir))
		seen := map[string]string{}
		for _, f := range files {
			number, _, _ := strings.Cut(f.Name(), "_")
			if other := seen[number]; other != "" {
				t.Errorf("%s and %s have one number", filepath.Join(dir, other), f.Name())
			}
			seen[number] = f.Name()
		}
	}
}
