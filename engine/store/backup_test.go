package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"runner/engine/grant"
	"runner/engine/store"
)

// saved takes a backup into a new folder.
func saved(t *testing.T, s *store.Store) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	ok(t, os.Mkdir(dir, 0o700))
	ok(t, s.Backup(t.Context(), dir))
	return dir
}

// A writer puts each grant before its log: a backup that took the two files at
// different moments would have a log without its grant, or two grants without one.
func TestABackupIsOfOneMomentWhileOthersWrite(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	s, other := openIn(t, dir), openIn(t, dir)
	var writing sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer writing.Wait()
	defer stop()
	begun := make(chan struct{})
	writing.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			c := newCase(n, "db1")
			if err := other.Create(t.Context(), c, nil); err != nil { //nolint:contextcheck // a write that has begun is finished
				t.Error(err)
				return
			}
			if err := other.AppendLog(t.Context(), []grant.Chunk{chunk("x-1", int64(n), "a")}); err != nil { //nolint:contextcheck // likewise
				t.Error(err)
				return
			}
			if n == 3 {
				close(begun)
			}
		}
	})
	<-begun
	last := 0
	for range 5 {
		b := openIn(t, saved(t, s))
		cases := must[[]grant.Case](t)(b.Cases(t.Context(), grant.Filter{Limit: 1 << 20}))
		logs := must[[]grant.Chunk](t)(b.ReadLog(t.Context(), "x-1", 0, 1<<20))
		if d := len(cases) - len(logs); d != 0 && d != 1 || len(cases) < last {
			t.Fatalf("%d grants and %d logs, after %d grants", len(cases), len(logs), last)
		}
		last = len(cases)
		ok(t, b.Close())
	}
}

func TestABackupIsWholeAndItsOwnersOnly(t *testing.T) {
	t.Parallel()
	s := openIn(t, filepath.Join(t.TempDir(), "state"))
	c := newCase(1, "db1")
	ok(t, s.Create(t.Context(), c, nil))
	dir := saved(t, s)
	files := must[[]os.DirEntry](t)(os.ReadDir(dir))
	if len(files) != 2 {
		t.Errorf("there are %v: a copy is one file each", files)
	}
	for _, f := range files {
		info := must[os.FileInfo](t)(f.Info())
		same(t, info.Mode().Perm(), os.FileMode(0o600))
	}
	for _, name := range []string{"runner.db", "logs.db"} {
		if v := must[int64](t)(store.CheckCopy(t.Context(), dir, name)); v < 1 {
			t.Errorf("%s has version %d", name, v)
		}
	}
	same(t, must[grant.Case](t)(openIn(t, dir).Case(t.Context(), c.Grant.ID)).Grant.Account, c.Grant.Account)
}

func TestABackupStopsWhenItIsToldTo(t *testing.T) {
	t.Parallel()
	s := openIn(t, filepath.Join(t.TempDir(), "state"))
	ctx, stop := context.WithCancel(t.Context())
	stop()
	want(t, s.Backup(ctx, t.TempDir()), context.Canceled)
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil)) // and holds nobody up
}

func TestABackupWithoutRoomSaysSo(t *testing.T) {
	t.Parallel()
	s := openIn(t, filepath.Join(t.TempDir(), "state"))
	full := t.TempDir()
	ok(t, unix.Mount("tmpfs", full, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { ok(t, unix.Unmount(full, unix.MNT_DETACH)) })
	err := s.Backup(t.Context(), full)
	want(t, err, grant.ErrDiskFull)
	if !strings.Contains(err.Error(), "make room on the disk of "+full) {
		t.Error(err)
	}
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
}

func TestDamagedAndNewerCopiesAreRefused(t *testing.T) {
	t.Parallel()
	s := openIn(t, filepath.Join(t.TempDir(), "state"))
	for n := range 5 {
		ok(t, s.Create(t.Context(), newCase(n+1, "db1"), nil))
	}
	dir := saved(t, s)
	path := filepath.Join(dir, "runner.db")
	text := must[[]byte](t)(os.ReadFile(path))
	for name, damage := range map[string][]byte{
		"cut":    text[:len(text)/2],
		"no db":  []byte("hello"),
		"broken": append(append(append([]byte{}, text[:8192]...), make([]byte, 16384)...), text[8192+16384:]...),
	} {
		ok(t, os.WriteFile(path, damage, 0o600))
		if _, err := store.CheckCopy(t.Context(), dir, "runner.db"); err == nil {
			t.Errorf("%s: taken as whole", name)
		}
	}
	_, err := s.Raw().ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`)
	ok(t, err)
	want(t, s.Backup(t.Context(), t.TempDir()), grant.ErrNewerSchema)
}

func TestAStateFolderIsQuietWhenNobodyHasItOpen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	s, err := store.Open(t.Context(), dir)
	ok(t, err)
	_, err = store.Quiet(t.Context(), dir)
	want(t, err, grant.ErrBusy)
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	ok(t, s.Close())
	release, err := store.Quiet(t.Context(), dir)
	ok(t, err)
	_, err = store.Quiet(t.Context(), dir)
	want(t, err, grant.ErrBusy)
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, err := store.Open(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("somebody got in: %v", err)
	}
	aside, err := store.OpenAside(dir)
	ok(t, err)
	same(t, len(must[[]grant.Case](t)(aside.Cases(t.Context(), grant.Filter{}))), 1)
	ok(t, aside.Close())
	release()
	openIn(t, dir)
}

// A state that an older runner wrote is brought up to date, with what is in it.
func TestGrantsOfAnOlderSchemaStay(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	ok(t, os.Mkdir(dir, 0o700))
	ok(t, store.OldRunner(t.Context(), filepath.Join(dir, "runner.db"), 1,
		`INSERT INTO grants (id, state, requester, caller, reason, credential, device, account, uid, creates, requested_at, expires_at, for_ns, ended_by, failure, plan_longest_ns)
		 VALUES ('g-old', 'active', 'ana', 'ana', 'INC-1', 'web', 'db1', 'jit-x', 70001, 1, 1000, 2000, 60000000000, '', '', 0)`))
	version := must[int64](t)(store.CheckCopy(t.Context(), dir, "runner.db"))
	same(t, version, int64(1))
	s := openIn(t, dir)
	var account string
	ok(t, s.Raw().QueryRowContext(t.Context(), `SELECT account FROM grants WHERE id = 'g-old'`).Scan(&account))
	same(t, account, "jit-x")
	got := must[grant.Case](t)(s.Case(t.Context(), "g-old"))
	same(t, got.Grant.Requester, "ana")
	ok(t, s.Create(t.Context(), newCase(2, "db2"), nil))
	version = must[int64](t)(store.CheckCopy(t.Context(), saved(t, s), "runner.db"))
	if version < 2 {
		t.Errorf("the schema has version %d", version)
	}
}
