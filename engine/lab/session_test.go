package lab_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"runner/engine/lab"
	"runner/engine/lab/labtest"
)

func TestASessionPassesStreamsAndStatusOn(t *testing.T) {
	t.Parallel()
	m := labtest.StartT(t, lab.Config{Name: "inside"})
	for _, x := range []struct {
		argv         []string
		in, out, err string
		code         int
	}{
		{argv: []string{"sh", "-c", "hostname; cat; echo no >&2; exit 7"}, in: "abc", out: "inside\nabc", err: "no\n", code: 7},
		{argv: []string{"sh", "-c", "kill -TERM $$"}, code: 128 + 15},
		{argv: nil, in: "pwd; id -u; exit 3\n", out: "/root\n0\n", code: 3},
		{argv: []string{"tty"}, out: "not a tty\n", code: 1},
	} {
		var out, errOut bytes.Buffer
		code, err := m.Attach(t.Context(), lab.Session{Argv: x.argv, Stdin: strings.NewReader(x.in), Stdout: &out, Stderr: &errOut, Term: "dumb"})
		if err != nil || code != x.code || out.String() != x.out || errOut.String() != x.err {
			t.Errorf("%q: status %d, %v; stdout %q, stderr %q", x.argv, code, err, out.String(), errOut.String())
		}
	}
}

// What is typed goes to a terminal of the machine, whose size is the caller's;
// control keys reach the program that is in front there.
func TestASessionHasATerminalOfTheMachine(t *testing.T) {
	t.Parallel()
	m := labtest.StartT(t, lab.Config{})
	in, keys := io.Pipe()
	out, shown := io.Pipe()
	type end struct {
		code int
		err  error
	}
	ended := make(chan end, 1)
	go func() {
		code, err := m.Attach(t.Context(), lab.Session{
			Argv:  []string{"sh", "-c", `tty; stty size; echo "$TERM"; trap 'echo interrupted; exit 5' INT; echo ready; sleep 1000 & wait`},
			Stdin: in, Stdout: shown, Size: func() (int, int) { return 101, 33 }, Term: "vt100",
		})
		_ = shown.Close()
		ended <- end{code, err}
	}()
	var text strings.Builder
	buf := make([]byte, 1024)
	for typed := false; ; {
		n, err := out.Read(buf)
		text.Write(buf[:n])
		if err != nil {
			break
		}
		if !typed && strings.Contains(text.String(), "ready") {
			typed = true
			if _, err := keys.Write([]byte{3}); err != nil { // ^C
				t.Error(err)
			}
		}
	}
	e := <-ended
	_ = keys.Close()
	if e.err != nil || e.code != 5 {
		t.Errorf("status %d, %v", e.code, e.err)
	}
	for _, want := range []string{"/dev/pts/0\r\n", "33 101\r\n", "vt100\r\n", "interrupted\r\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in %q", want, text.String())
		}
	}
}

func TestASessionEndsWithItsContextAndItsMachine(t *testing.T) {
	t.Parallel()
	m := labtest.StartT(t, lab.Config{})
	for name, size := range map[string]func() (int, int){"streams": nil, "terminal": func() (int, int) { return 80, 24 }} {
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("stop it")
		in, keys := io.Pipe()
		_, err := m.Attach(ctx, lab.Session{
			Argv: []string{"sh", "-c", "echo ready; sleep 1000"}, Stdin: in, Size: size,
			Stdout: writer(func([]byte) { cancel(stop) }), Stderr: io.Discard,
		})
		_ = keys.Close()
		if !errors.Is(err, stop) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := m.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Attach(t.Context(), lab.Session{Argv: []string{"true"}}); !errors.Is(err, lab.ErrNotRunning) {
		t.Errorf("in a stopped machine: %v", err)
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }
