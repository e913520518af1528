package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"runner/engine/grant"
	"runner/engine/store"
	"runner/engine/store/pgtest"
)

// savedSite is a workspace whose state takes a while to save.
func savedSite(t *testing.T, bin string, size int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "w")
	if out, err := exec.Command(bin, "init", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s, err := store.Open(t.Context(), filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	var chunks []grant.Chunk
	for n := range size {
		chunks = append(chunks, grant.Chunk{Execution: "x-1", Offset: int64(n * len(data)), At: time.UnixMilli(1), Stream: "stdout", Data: data})
	}
	if err := s.AppendLog(t.Context(), chunks); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// keepSecret stores an active grant whose secret nobody has.
func keepSecret(t *testing.T, s *store.Store, id string) {
	t.Helper()
	g := grant.Grant{ID: id, Requester: "ada", Caller: "root", Credential: "web", Device: "web", Account: "jit-aaaaaaaaaa", UID: 70000, Creates: true, For: time.Hour, Sealed: []byte("box")}
	c := grant.New(g, "j-1", "j-2", time.Now())
	err := s.Create(t.Context(), c, nil)
	if err == nil {
		err = s.Change(t.Context(), id, func(c *grant.Case) error {
			f, err := c.Claim("j-1", "n-1", "x-1", time.Now())
			return errors.Join(err, c.Activate(f, time.Now(), nil))
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// noSecret fails when the secret of a grant is still handed out.
func noSecret(t *testing.T, s *store.Store, id string) {
	t.Helper()
	err := s.Change(t.Context(), id, func(c *grant.Case) error {
		_, err := c.Collect(time.Now(), "ada")
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "put back to an earlier state") {
		t.Errorf("the secret of a restored grant: %v", err)
	}
}

// runIn runs the program in a workspace and returns what it says and its exit code.
func runIn(t *testing.T, bin, dir string, args ...string) (said string, code int) {
	t.Helper()
	c := exec.Command(bin, append([]string{"--workspace", dir}, args...)...)
	out, _ := c.CombinedOutput()
	return string(out), c.ProcessState.ExitCode()
}

func TestABackupThatIsKilledLeavesNoHalfFile(t *testing.T) {
	t.Parallel()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := savedSite(t, bin, 300)
	began := time.Now()
	whole := filepath.Join(t.TempDir(), "whole.tar")
	if out, code := runIn(t, bin, dir, "backup", whole); code != 0 {
		t.Fatal(out)
	}
	takes := time.Since(began)
	to := t.TempDir()
	left := func() []string {
		list, err := filepath.Glob(filepath.Join(to, ".runner-backup-*"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	killed := 0
	for n := range 8 {
		file := filepath.Join(to, "b"+string(rune('0'+n))+".tar")
		c := exec.Command(bin, "--workspace", dir, "backup", file)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(takes*time.Duration(n+1)/9, func() { _ = c.Process.Signal(syscall.SIGKILL) })
		_ = c.Wait()
		timer.Stop()
		if f, err := os.Open(file); err == nil {
			if _, err := unpack(t.Context(), f, ""); err != nil {
				t.Errorf("a half file has its final name: %v", err)
			}
			_ = f.Close()
		}
		if len(left()) > 1 {
			t.Errorf("what the ones before left is there: %v", left())
		}
		killed += len(left())
	}
	if killed == 0 {
		t.Error("none of the backups was killed in the middle of its work")
	}
	was := len(left())
	out, code := runIn(t, bin, dir, "backup", filepath.Join(to, "after.tar"))
	if code != 0 || strings.Count(out, "which a backup that was killed left behind") != was || len(left()) != 0 {
		t.Errorf("exit %d, left %v: %s", code, left(), out)
	}
}

func TestABackupWithoutRoomLeavesNothing(t *testing.T) {
	t.Parallel()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := savedSite(t, bin, 10) // 640 KiB
	for _, size := range []string{"size=256k", "size=1m", "size=1300k"} {
		full := t.TempDir()
		if err := unix.Mount("tmpfs", full, "tmpfs", 0, size); err != nil {
			t.Fatal(err)
		}
		out, code := runIn(t, bin, dir, "backup", filepath.Join(full, "b.tar"))
		left, _ := os.ReadDir(full)
		if err := unix.Unmount(full, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		if code != exitFailed || !strings.Contains(out, "make room on the disk of "+full) || len(left) != 0 {
			t.Errorf("%s: exit %d, %v is left: %s", size, code, left, out)
		}
	}
}

func TestARestorationWaitsForNobodyAndIsRemembered(t *testing.T) {
	t.Parallel()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := savedSite(t, bin, 1)
	serve := exec.Command(bin, "--workspace", dir, "serve")
	heard, err := serve.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	served := make([]byte, 1)
	if _, err := heard.Read(served); err != nil { // it says that it serves
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	keepSecret(t, s, "g-1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "b.tar")
	if out, code := runIn(t, bin, dir, "backup", file); code != 0 {
		t.Errorf("backup beside serve: %s", out)
	}
	out, code := runIn(t, bin, dir, "restore", file)
	if code != exitUsage || !strings.Contains(out, "is in use: nothing was changed") {
		t.Errorf("restore beside serve: exit %d: %s", code, out)
	}
	_ = serve.Process.Signal(syscall.SIGTERM)
	go func() { _, _ = heard.Read(make([]byte, 1<<16)) }()
	_ = serve.Wait()
	machine := filepath.Join(dir, "state", "lab", "box") // is no part of a backup, and still there
	if err := errors.Join(os.MkdirAll(machine, 0o700), os.WriteFile(filepath.Join(machine, "id"), []byte("x"), 0o600), os.WriteFile(filepath.Join(dir, "state", "more"), []byte("y"), 0o600)); err != nil {
		t.Fatal(err)
	}
	began := time.Now().Add(-time.Second)
	out, code = runIn(t, bin, dir, "restore", file, "-o", "json")
	var v restoreJSON
	if err := json.Unmarshal([]byte(out[:strings.LastIndex(out, "}")+1]), &v); err != nil || code != 0 {
		t.Fatalf("exit %d, %v: %s", code, err, out)
	}
	if _, err := os.Stat(filepath.Join(v.Aside, "runner.db")); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"lab/box/id": "x", "more": "y"} {
		if got, err := os.ReadFile(filepath.Join(dir, "state", name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	if v.Withheld != 1 {
		t.Errorf("%d grants are withheld", v.Withheld)
	}
	if s, err = store.Open(t.Context(), filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	noSecret(t, s, "g-1")
	if at, err := s.Marked(t.Context(), grant.MarkRestored); err != nil || at.Before(began) {
		t.Errorf("restored at %v, %v", at, err)
	}
}

func TestARestorationThatIsKilledLeavesAState(t *testing.T) {
	t.Parallel()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := savedSite(t, bin, 100)
	file := filepath.Join(t.TempDir(), "b.tar")
	if out, code := runIn(t, bin, dir, "backup", file); code != 0 {
		t.Fatal(out)
	}
	began := time.Now()
	if out, code := runIn(t, bin, dir, "restore", file); code != 0 {
		t.Fatal(out)
	}
	takes := time.Since(began)
	for n := range 6 {
		c := exec.Command(bin, "--workspace", dir, "restore", file)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(takes*time.Duration(n+1)/6, func() { _ = c.Process.Signal(syscall.SIGKILL) })
		_ = c.Wait()
		timer.Stop()
		s, err := store.Open(t.Context(), filepath.Join(dir, "state"))
		if err != nil {
			t.Fatal(err)
		}
		if stored, _, err := s.LogSize(t.Context(), "x-1"); err != nil || stored != 100<<16 {
			t.Errorf("%d bytes are there, %v", stored, err)
		}
		if at, err := s.Marked(t.Context(), grant.MarkRestored); err != nil || at.IsZero() {
			t.Errorf("it is forgotten that the store was restored: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if out, code := runIn(t, bin, dir, "sweep"); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	// What is left now is a whole state: killed at the very end.
	left, err := filepath.Glob(filepath.Join(dir, ".state-restored-*"))
	for _, path := range left {
		if !exists(filepath.Join(path, "runner.db")) || exists(filepath.Join(path, "unfinished")) {
			t.Errorf("%s is left", path)
		}
	}
	if err != nil || exists(filepath.Join(dir, "state", "unfinished")) {
		t.Errorf("the state is said to be unfinished, %v", err)
	}
}

// What is said about a store on PostgreSQL does what it says.
func TestADatabaseServerIsSavedAsToldAndPutBack(t *testing.T) {
	t.Parallel()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "w")
	if out, err := exec.Command(bin, "init", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	u := pgtest.Database(t)
	if err := os.WriteFile(filepath.Join(dir, "runner.yaml"), []byte("schema: runner/v1\nkind: workspace\ndatabase:\n  url: "+u+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() *store.Store {
		s, err := store.OpenPostgres(t.Context(), store.Postgres{URL: u})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	mark := func(at time.Time) {
		s := open()
		if err := errors.Join(s.Mark(t.Context(), "x", at), s.AppendLog(t.Context(), []grant.Chunk{{Execution: "x-1", Offset: at.Unix(), At: at, Stream: "stdout", Data: []byte("said")}}), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "saved")
	told := func(args ...string) {
		t.Helper()
		out, code := runIn(t, bin, dir, args...)
		_, line, _ := strings.Cut(out, "hint: pg_")
		line, _, _ = strings.Cut(line, " saves it")
		line, _, _ = strings.Cut(line, " puts it back")
		if code != exitUsage || line == "" {
			t.Fatalf("%v: exit %d: %s", args, code, out)
		}
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", "pg_"+line).CombinedOutput(); err != nil {
			t.Fatalf("pg_%s: %v: %s", line, err, out)
		}
	}
	then := time.UnixMilli(1_000_000).UTC()
	before := open()
	keepSecret(t, before, "g-1")
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	mark(then)
	told("backup", file)
	mark(then.Add(time.Hour))
	told("restore", file)
	s := open()
	defer func() { _ = s.Close() }()
	noSecret(t, s, "g-1")
	if at, err := s.Marked(t.Context(), "x"); err != nil || !at.Equal(then) {
		t.Errorf("%v, %v", at, err)
	}
	if log, err := s.ReadLog(t.Context(), "x-1", 0, 100); err != nil || len(log) != 1 {
		t.Errorf("the log has %d chunks: %v", len(log), err)
	}
}
