package store_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"runner/engine/grant"
	"runner/engine/store"
)

func TestStateIsForItsOwnerOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a b%?#", "state") // an awkward path, too
	s := openIn(t, dir)
	n, err := s.Join(t.Context(), "here")
	ok(t, err)
	defer func() { ok(t, n.Leave()) }()
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	ok(t, s.AppendLog(t.Context(), []grant.Chunk{chunk("x-1", 0, "a")}))
	found := map[string]bool{}
	ok(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		found[d.Name()] = true
		return err
	}))
	for _, name := range []string{"runner.db", "runner.db-wal", "runner.db-shm", "logs.db", "logs.db-wal", "nodes", n.ID() + ".lock"} {
		if !found[name] {
			t.Errorf("%s is not in %v", name, found)
		}
	}
}

func TestOpenRefusesStateThatOthersMayEnter(t *testing.T) {
	t.Parallel()
	for _, mode := range []os.FileMode{0o750, 0o701, 0o720} {
		dir := t.TempDir()
		ok(t, os.Chmod(dir, mode))
		_, err := store.Open(t.Context(), dir)
		if err == nil || !strings.Contains(err.Error(), "chmod 700 "+dir) {
			t.Errorf("mode %v: got %v", mode, err)
		}
		if _, err := os.Stat(dir + "/runner.db"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a database was created in it: %v", err)
		}
	}
}

func TestOpenTightensACopiedDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/state"
	ok(t, must[*store.Store](t)(store.Open(t.Context(), dir)).Close())
	ok(t, os.Chmod(dir+"/runner.db", 0o644))
	openIn(t, dir)
	info, err := os.Stat(dir + "/runner.db")
	ok(t, err)
	same(t, info.Mode().Perm(), os.FileMode(0o600))
}

func TestOpenRefusesRemoteFileSystems(t *testing.T) {
	t.Parallel()
	for name, magic := range map[string]uint32{"nfs": 0x6969, "cifs": 0xff534d42, "smb2": 0xfe534d42, "fuse": 0x65735546, "9p": 0x01021997} {
		err := store.RefuseRemote(magic)
		if err == nil || !strings.Contains(err.Error(), "/state is on a "+name+" file system") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for name, magic := range map[string]uint32{"ext": 0xef53, "xfs": 0x58465342, "btrfs": 0x9123683e, "tmpfs": 0x01021994, "overlay": 0x794c7630, "zfs": 0x2fc12fc1} {
		if err := store.RefuseRemote(magic); err != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestOpenRefusesANewerSchemaAndLeavesItAlone(t *testing.T) {
	t.Parallel()
	for file, folder := range map[string]string{"runner.db": "runner", "logs.db": "logs"} {
		dir := t.TempDir() + "/state"
		s, err := store.Open(t.Context(), dir)
		ok(t, err)
		db := s.Raw()
		if file == "logs.db" {
			db = s.RawLogs()
		}
		_, err = db.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`)
		ok(t, err)
		ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
		ok(t, s.Close())
		_, err = store.Open(t.Context(), dir)
		want(t, err, grant.ErrNewerSchema)
		if !strings.Contains(err.Error(), "it has schema 99 and this runner knows up to "+latest(t, folder)) {
			t.Errorf("got %v", err)
		}
	}
}

// latest is the number of the last migration.
func latest(t *testing.T, folder string) string {
	t.Helper()
	files := must[[]os.DirEntry](t)(os.ReadDir("migrations/" + folder))
	number, _, _ := strings.Cut(files[len(files)-1].Name(), "_")
	return strings.TrimLeft(number, "0")
}

func TestAnOlderSchemaIsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/state"
	ok(t, store.MakeFirst(t.Context(), dir))
	s := openIn(t, dir)
	same(t, must[time.Time](t)(s.Marked(t.Context(), "first")), time.UnixMilli(7).UTC())
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	ok(t, s.PutVerification(t.Context(), store.Verification{Template: "a", At: t0}))
	same(t, len(must[[]store.Verification](t)(s.Verifications(t.Context()))), 1)
}

func TestWhatWasStoredIsThereAfterReopening(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/state"
	s, err := store.Open(t.Context(), dir)
	ok(t, err)
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	ok(t, s.AppendLog(t.Context(), []grant.Chunk{chunk("x-1", 0, "abc")}))
	ok(t, s.Close())
	s = openIn(t, dir)
	same(t, must[grant.Case](t)(s.Case(t.Context(), "g-0001")).Grant.Requester, "user1")
	same(t, readLog(t, s, "x-1", 0, 0), "0:abc")
	ok(t, s.VerifyAudit(t.Context()))
}

func TestSettingsOfTheConnections(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for pragma, wanted := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var got string
		ok(t, s.Raw().QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got))
		same(t, pragma+" "+got, pragma+" "+wanted)
	}
	var got string
	ok(t, s.RawLogs().QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&got))
	same(t, got, "1")
}

// A process may open a store twice, for instance a test beside a server:
// opening and closing the second must not take the locks of the first away.
func TestTwoStoresOnOneDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/state"
	a := openIn(t, dir)
	release, err := a.HoldWriteLock(t.Context())
	ok(t, err)
	b, err := store.Open(t.Context(), dir)
	ok(t, err)
	ok(t, b.Close())
	b = openIn(t, dir)

	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
	defer cancel()
	err = b.Create(ctx, newCase(1, "db1"), nil)
	want(t, err, context.DeadlineExceeded)
	if _, err := b.Cases(t.Context(), grant.Filter{}); err != nil {
		t.Errorf("readers wait for the writer: %v", err)
	}
	done := make(chan error)
	go func() { done <- b.Create(t.Context(), newCase(1, "db1"), nil) }()
	ok(t, release())
	ok(t, <-done)
	ok(t, a.Change(t.Context(), "g-0001", run(0, "n-1")))
	same(t, len(must[[]grant.Job](t)(b.Running(t.Context()))), 1)
}

func TestAFullDiskSaysSoAndLeavesNothingHalfWritten(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ctx := t.Context()
	ok(t, s.Create(ctx, newCase(1, "db1"), nil))
	var pages int
	ok(t, s.Raw().QueryRowContext(ctx, `PRAGMA page_count`).Scan(&pages))
	limit := func(n int) {
		t.Helper()
		_, err := s.Raw().ExecContext(ctx, `PRAGMA max_page_count = `+itoa(n))
		ok(t, err)
	}
	limit(pages)
	body := strings.Repeat("a very long template\n", 10_000)
	c := newCase(2, "db2")
	c.Grant.Plan.Forward = snap("t", body).Hash
	err := s.Create(ctx, c, []grant.Snapshot{snap("t", body)})
	want(t, err, grant.ErrDiskFull)
	err = s.Change(ctx, "g-0001", func(c *grant.Case) error {
		c.Grant.State = grant.Active
		c.Grant.Failure = body
		return nil
	})
	want(t, err, grant.ErrDiskFull)
	same(t, must[grant.Case](t)(s.Case(ctx, "g-0001")).Grant.State, grant.Requested)
	_, err = s.Case(ctx, "g-0002")
	want(t, err, grant.ErrNotFound)
	limit(1 << 20)
	ok(t, s.Create(ctx, c, []grant.Snapshot{snap("t", body)}))
	ok(t, s.VerifyAudit(ctx))
}

// What a caller forgets, the database does not allow either.
func TestTheSchemaItselfForbids(t *testing.T) {
	t.Parallel()
	for kind, open := range opened {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			forbids(t, open(t))
		})
	}
}

func forbids(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	ok(t, s.Create(ctx, newCase(1, "db1"), nil))
	ok(t, s.Create(ctx, newCase(2, "db1"), nil))
	ok(t, s.Change(ctx, "g-0001", run(0, "n-1")))
	for _, stmt := range []string{
		`UPDATE grants SET requester = 'user1' WHERE id = 'g-0002'`,
		`UPDATE grants SET account = 'jit-1' WHERE id = 'g-0002'`,
		`UPDATE grants SET uid = 70001 WHERE id = 'g-0002'`,
		`UPDATE grants SET plan_removal = 'none' WHERE id = 'g-0002'`,
		`UPDATE jobs SET state = 'running', node = 'n' WHERE id = 'j-0002-c'`,
		`UPDATE jobs SET state = 'running', node = 'n', device = 'other' WHERE id = 'j-0001-d'`,
		`UPDATE jobs SET state = 'running', device = 'other' WHERE id = 'j-0002-d'`,
		`DELETE FROM grants WHERE id = 'g-0001'`,
		`INSERT INTO steps SELECT 'x-none', 1, '', '', '', 0, 0, 0, 0, '', '', 0, 0`,
	} {
		if _, err := s.Raw().ExecContext(ctx, stmt); err == nil || !strings.Contains(err.Error(), "constraint") {
			t.Errorf("%s: got %v", stmt, err)
		}
	}
}
