package source

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const canary = "canary-5ecret"

// file writes a file into a directory that only the caller can use.
func file(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSecretIsReadWithoutOneNewline(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		canary:               canary,
		canary + "\n":        canary,
		canary + "\r\n":      canary,
		canary + "\n\n":      canary + "\n",
		" " + canary + " \n": " " + canary + " ",
		"a\nb\n":             "a\nb",
	} {
		for _, mode := range []os.FileMode{0o600, 0o400} {
			v, err := Read(t.Context(), Spec{File: file(t, text, mode)})
			if err != nil || v.Reveal() != want {
				t.Errorf("file %q: got %q, %v", text, v.Reveal(), err)
			}
		}
		v, err := Read(t.Context(), Spec{Command: []string{"printf", "%s", text}})
		if err != nil || v.Reveal() != want {
			t.Errorf("command %q: got %q, %v", text, v.Reveal(), err)
		}
	}
}

// links makes the symbolic links file, rel and dir in a directory of the given
// mode: to a good file, to it by a relative path, and to its directory.
func links(t *testing.T, mode os.FileMode) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "links")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	to := file(t, canary, 0o600)
	rel, err := filepath.Rel(dir, to)
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"file": to, "rel": rel, "dir": filepath.Dir(to)} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLinksAreFollowedWhereOnlyTheirOwnerCanWrite(t *testing.T) {
	t.Parallel()
	for _, mode := range []os.FileMode{0o700, 0o755, 0o777, os.ModeSticky | 0o777} {
		dir := links(t, mode)
		target, err := os.Readlink(dir + "/dir")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/file", "/rel", "/dir/password", "/dir/../" + filepath.Base(target) + "/./password"} {
			v, err := Read(t.Context(), Spec{File: dir + path})
			switch {
			case mode.Perm()&0o002 == 0 && (err != nil || v.Reveal() != canary):
				t.Errorf("%v %s: %q, %v", mode, path, v.Reveal(), err)
			case mode.Perm()&0o002 != 0 && (err == nil || !strings.Contains(err.Error(), "everybody can write")):
				t.Errorf("%v %s: got %v, want a refusal", mode, path, err)
			}
		}
	}
}

func TestFilesThatOthersMayHaveReadOrPlantedAreRefused(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	loop := filepath.Join(t.TempDir(), "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ path, want string }{
		"group may read":         {file(t, canary, 0o640), "chmod 600"},
		"all may write":          {file(t, canary, 0o602), "chmod 600"},
		"executable":             {file(t, canary, 0o700), "chmod 600"},
		"missing":                {filepath.Join(t.TempDir(), "none"), "does not exist"},
		"directory":              {t.TempDir(), "not a regular file"},
		"named pipe":             {pipe, "not a regular file"},
		"device":                 {"/dev/null", "not a regular file"},
		"empty":                  {file(t, "\n", 0o600), "is empty"},
		"over 1 MiB":             {file(t, strings.Repeat("x", maxSecret+1), 0o600), "over 1 MiB"},
		"loop":                   {loop, "symbolic links"},
		"no file and no command": {"", "give a file or a command"},
		"below something no dir": {filepath.Join(file(t, canary, 0o600), "x"), "not a directory"},
		"name with a line in it": {"/nowhere/a\nb", "does not exist"},
	}
	if os.Geteuid() == 0 {
		path := file(t, canary, 0o600)
		if err := os.Chown(path, 12345, 0); err != nil {
			t.Fatal(err)
		}
		tests["of another user"] = struct{ path, want string }{path, "belongs to uid 12345"}
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := Read(t.Context(), Spec{File: tt.path})
			if err == nil || !v.IsZero() {
				t.Fatal("it was read")
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), canary) {
				t.Errorf("got %q, want %q in it", err, tt.want)
			}
		})
	}
}

func TestCommandRunsWithoutShellAndTerminal(t *testing.T) {
	t.Parallel()
	v, err := Read(t.Context(), Spec{Command: []string{"printf", "%s", "$HOME;`id`|x"}})
	if err != nil || v.Reveal() != "$HOME;`id`|x" {
		t.Errorf("got %q, %v", v.Reveal(), err)
	}
	v, err = Read(t.Context(), Spec{Command: []string{"sh", "-c", "cat; (: </dev/tty) 2>/dev/null && echo asked || echo secret-value"}})
	if err != nil || v.Reveal() != "secret-value" {
		t.Errorf("got %q, %v", v.Reveal(), err)
	}
}

func TestFailingCommandShowsItsErrorButNeverItsOutput(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		script string
		want   string
	}{
		"says why":            {"echo " + canary + "; echo vault is sealed >&2; exit 3", `source: command "sh": exit status 3: vault is sealed`},
		"repeats the secret":  {"echo " + canary + "; echo bad: " + canary + " >&2; exit 1", `source: command "sh": exit status 1: bad: ***`},
		"repeats a word":      {"echo user pin1 " + canary + "; echo pin1=" + canary + " >&2; exit 1", `source: command "sh": exit status 1: ***=***`},
		"between escapes":     {"echo " + canary + `; printf 'canary\033-5ecret' >&2; exit 1`, `source: command "sh": exit status 1: ***`},
		"drives the terminal": {`printf 'a\033]0;x\007b\nc\233' >&2; exit 1`, `source: command "sh": exit status 1: a]0;xb c`},
		"silent":              {"exit 4", `source: command "sh": exit status 4; it wrote nothing to standard error: try it by hand`},
		"empty":               {"echo", "source: the output of sh is empty: it has to hold the secret"},
		"much output":         {"head -c 5000 /dev/zero | tr '\\0' x; echo why >&2; exit 1", `source: command "sh": exit status 1: (standard error is not shown: it might repeat the output)`},
		"endless output":      {"exec cat /dev/zero", `source: command "sh": over 1 MiB: (standard error is not shown: it might repeat the output)`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := Read(t.Context(), Spec{Command: []string{"sh", "-c", tt.script}})
			if err == nil || !v.IsZero() {
				t.Fatal("it gave a secret")
			}
			got := strings.ReplaceAll(err.Error(), "�", "")
			if got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
	_, err := Read(t.Context(), Spec{Command: []string{"sh", "-c", "echo " + canary + "; head -c 100000 /dev/zero | tr '\\0' y >&2; echo " + canary + " >&2; exit 1"}})
	failed, ok := errors.AsType[*CommandError](err)
	if !ok || len(failed.Stderr) > maxStderr+8 || strings.Contains(err.Error(), canary) || !strings.HasSuffix(failed.Stderr, "yyy ***") && !strings.HasSuffix(failed.Stderr, "yyy***") {
		t.Errorf("long standard error: %v", err)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		t.Errorf("the cause is lost: %v", err)
	}
	if _, err := Read(t.Context(), Spec{Command: []string{"no-such-program-here"}}); err == nil || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("missing program: %v", err)
	}
	if _, err := Read(t.Context(), Spec{File: "/x", Command: []string{"y"}}); err == nil {
		t.Error("both a file and a command were accepted")
	}
}

// running reports whether a process exists and is no zombie.
func running(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return len(rest) > 0 && rest[0] != 'Z' && rest[0] != 'X'
}

func TestCommandThatHangsIsKilledWithItsChildren(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(script []string) error{
		"time limit": func(argv []string) error {
			_, err := run(t.Context(), argv, 300*time.Millisecond)
			return err
		},
		"caller gives up": func(argv []string) error {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err := run(ctx, argv, time.Hour)
			return err
		},
		"left behind": func(argv []string) error {
			argv[2] = strings.ReplaceAll(argv[2], "wait", "exit 0")
			_, err := run(t.Context(), argv, time.Hour)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pids := filepath.Join(t.TempDir(), "pids")
			err := stop([]string{"sh", "-c", "trap '' TERM; sleep 3600 & echo $$ $! > " + pids + "; echo part-of-" + canary + "; wait"})
			if err == nil || strings.Contains(err.Error(), canary) {
				t.Fatalf("got %v", err)
			}
			text, err := os.ReadFile(pids)
			if err != nil {
				t.Fatal(err)
			}
			for word := range strings.FieldsSeq(string(text)) {
				pid, err := strconv.Atoi(word)
				if err != nil {
					t.Fatal(err)
				}
				deadline := time.After(10 * time.Second)
				tick := time.NewTicker(5 * time.Millisecond)
				for running(pid) {
					select {
					case <-deadline:
						t.Fatalf("process %d still runs", pid)
					case <-tick.C:
					}
				}
				tick.Stop()
			}
		})
	}
}
