package store_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"runner/engine/store"
)

func TestOnlyScratchOfTheDeadIsRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, f := range []string{".s-old/runner.db", ".s-dead/unfinished", ".s-dead/runner.db", "s-other/unfinished", ".s-file"} {
		ok(t, os.MkdirAll(filepath.Dir(path(f)), 0o700))
		ok(t, os.WriteFile(path(f), []byte("x"), 0o600))
	}
	ok(t, os.Mkdir(path(".s-empty"), 0o700))
	ok(t, os.Mkdir(path("elsewhere"), 0o700))
	ok(t, os.Symlink("elsewhere", path(".s-link")))
	living := must[*store.Scratch](t)(store.NewScratch(dir, ".s-"))
	whole := must[*store.Scratch](t)(store.NewScratch(dir, ".s-"))
	ok(t, os.WriteFile(filepath.Join(whole.Dir, "runner.db"), nil, 0o600))
	ok(t, whole.Finish())
	removed, left, err := store.SweepScratch(dir, ".s-")
	ok(t, err)
	same(t, removed, []string{path(".s-dead"), path(".s-empty")})
	slices.Sort(left)
	wanted := []string{path(".s-old"), whole.Dir}
	slices.Sort(wanted)
	same(t, left, wanted)
	for _, there := range []string{living.Dir, whole.Dir, path(".s-old"), path("s-other"), path(".s-file"), path("elsewhere")} {
		if _, err := os.Stat(there); err != nil {
			t.Error(err)
		}
	}
	ok(t, living.Remove())
	whole.Dir = ""
	ok(t, whole.Remove())
	if _, err := os.Stat(living.Dir); err == nil {
		t.Error("what its owner removed is there")
	}
}

// A process that is killed has given its lock back, whatever else it did.
func TestScratchOfAKilledProcessIsRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ok(t, os.Mkdir(filepath.Join(dir, ".s-1"), 0o700))
	lock := filepath.Join(dir, ".s-1", "unfinished")
	ok(t, os.WriteFile(lock, nil, 0o600))
	c := exec.CommandContext(t.Context(), "flock", "--exclusive", "--no-fork", lock, "sh", "-c", "echo held; exec sleep 100")
	out := must[io.ReadCloser](t)(c.StdoutPipe())
	ok(t, c.Start())
	_, err := out.Read(make([]byte, 10))
	ok(t, err)
	removed, left, err := store.SweepScratch(dir, ".s-")
	ok(t, err)
	same(t, len(removed)+len(left), 0)
	ok(t, c.Process.Kill())
	_ = c.Wait()
	removed, _, err = store.SweepScratch(dir, ".s-")
	ok(t, err)
	same(t, removed, []string{filepath.Join(dir, ".s-1")})
}

// Whoever removes a folder can be killed, too: what says that nobody needs it goes last.
func TestAScratchFolderIsKnownUntilItIsRemoved(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(*testing.T, *store.Scratch){
		"its owner": func(t *testing.T, s *store.Scratch) { ok(t, s.Remove()) },
		"a sweep": func(t *testing.T, s *store.Scratch) {
			dir := s.Dir
			s.Dir = ""
			ok(t, s.Remove())
			removed, _, err := store.SweepScratch(filepath.Dir(dir), ".s-")
			ok(t, err)
			same(t, removed, []string{dir})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := must[*store.Scratch](t)(store.NewScratch(t.TempDir(), ".s-"))
			for _, f := range []string{"aaa", "runner.db", "zzz", "deep/er"} {
				path := filepath.Join(s.Dir, f)
				ok(t, os.MkdirAll(filepath.Dir(path), 0o700))
				ok(t, os.WriteFile(path, nil, 0o600))
			}
			gone := deletions(t, s.Dir)
			remove(t, s)
			order := gone()
			same(t, len(order), 5)
			same(t, order[len(order)-1], "unfinished")
		})
	}
}

// deletions watches a folder, and returns the names that went from it in their order.
func deletions(t *testing.T, dir string) func() []string {
	t.Helper()
	fd := must[int](t)(unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC))
	must[int](t)(unix.InotifyAddWatch(fd, dir, unix.IN_DELETE))
	return func() (names []string) {
		defer func() { _ = unix.Close(fd) }()
		all := make([]byte, 64<<10)
		n := must[int](t)(unix.Read(fd, all))
		for at := 0; at < n; {
			// wd, mask, cookie and len of 4 bytes each, then the name and its padding: inotify(7)
			size := int(binary.NativeEndian.Uint32(all[at+12:]))
			if binary.NativeEndian.Uint32(all[at+4:])&unix.IN_DELETE != 0 {
				names = append(names, string(bytes.TrimRight(all[at+16:at+16+size], "\x00")))
			}
			at += 16 + size
		}
		return names
	}
}

// Who makes a folder while another one sweeps gets one that stays.
func TestScratchIsNotSweptAwayWhileItIsMade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var makers, sweeper sync.WaitGroup
	done := make(chan struct{})
	sweeper.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				if _, _, err := store.SweepScratch(dir, ".s-"); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for range 4 {
		makers.Go(func() {
			for range 50 {
				s, err := store.NewScratch(dir, ".s-")
				if err == nil {
					err = os.WriteFile(filepath.Join(s.Dir, "x"), nil, 0o600)
				}
				if err == nil {
					err = s.Remove()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	makers.Wait()
	close(done)
	sweeper.Wait()
}
