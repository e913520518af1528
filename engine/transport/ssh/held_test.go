package ssh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"runner/engine/lab"
	"runner/engine/secret"
	"runner/engine/transport"
)

// account makes an account with a key and returns its configuration.
func heldAccount(t *testing.T, m *lab.Machine, name string) (Config, func()) {
	t.Helper()
	line, private := newKey(t, "")
	cfg := config(t, m, name)
	cfg.Auth = Auth{PrivateKey: secret.New(private)}
	return cfg, func() {
		t.Helper()
		_, err := m.Shell(t.Context(), "useradd -m -s /bin/bash "+name+" && install -d -m 700 -o "+name+" ~"+name+"/.ssh && echo '"+line+"' >~"+name+"/.ssh/authorized_keys && chown "+name+" ~"+name+"/.ssh/authorized_keys")
		if err != nil {
			t.Fatal(err)
		}
	}
}

// reachedGate waits until the connection waits for its account.
func reachedGate(t *testing.T, h *Held) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		h.gate.mu.Lock()
		waits := h.gate.waiting
		h.gate.mu.Unlock()
		if waits {
			return
		}
		select {
		case <-h.done:
			t.Fatalf("the connection ended: %v", h.err)
		case <-tick.C:
		}
	}
	t.Fatal("the connection never came to the gate")
}

func TestALoginWaitsForItsAccount(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	cfg, create := heldAccount(t, m, "late")
	cfg.DialTimeout = 2 * time.Second
	h := dialer(t).Hold(t.Context(), cfg)
	defer func() { _ = h.Close() }()
	reachedGate(t, h)
	create() // an account that is looked up before is never found by this connection
	if err := h.Login(t.Context(), cfg.Auth); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(shell(t, m, "cat /proc/net/tcp"), "\n"); n == 0 {
		t.Fatal("no connections at all")
	}
	var out bytes.Buffer
	status, err := h.Run(t.Context(), Session{Command: "id -un; exit 7", Stdin: strings.NewReader(""), Stdout: &out, Stderr: io.Discard})
	if err != nil || status != 7 || out.String() != "late\n" {
		t.Fatalf("status %d, %v, output %q", status, err, out.String())
	}
}

func shell(t *testing.T, m *lab.Machine, script string) string {
	t.Helper()
	out, err := m.Shell(t.Context(), script)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAHeldConnectionThatWasLostIsReplaced(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	cfg, create := heldAccount(t, m, "lost")
	d := dialer(t)
	h := d.Hold(t.Context(), cfg)
	defer func() { _ = h.Close() }()
	reachedGate(t, h)
	create()
	shell(t, m, "pkill -f 'sshd: unknown|sshd.*\\[net\\]|sshd.*\\[preauth\\]' || true")
	if err := h.Login(t.Context(), cfg.Auth); err != nil {
		t.Fatal(err)
	}
	status, err := h.Run(t.Context(), Session{Command: "true", Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard})
	if status != 0 || err != nil {
		t.Fatalf("status %d, %v", status, err)
	}
}

func TestAHeldLoginThatIsRefusedIsTriedOnce(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	cfg, create := heldAccount(t, m, "wrong")
	_, stranger := newKey(t, "")
	h := dialer(t).Hold(t.Context(), cfg)
	defer func() { _ = h.Close() }()
	create()
	err := h.Login(t.Context(), Auth{PrivateKey: secret.New(stranger)})
	te, is := errors.AsType[*transport.Error](err)
	if !is || te.Phase != transport.PhaseAuth || te.Code != "auth.refused" {
		t.Fatalf("got %v", err)
	}
}

func TestAHeldConnectionThatNobodyUsesEnds(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	cfg, _ := heldAccount(t, m, "never")
	h := dialer(t).Hold(t.Context(), cfg)
	reachedGate(t, h)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAHostThatIsAnotherIsNotLoggedInto(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	cfg, create := heldAccount(t, m, "other")
	line, _ := newKey(t, "")
	cfg.HostKeys = HostKeys{Known: []string{line}}
	h := dialer(t).Hold(t.Context(), cfg)
	defer func() { _ = h.Close() }()
	create()
	err := h.Login(t.Context(), cfg.Auth)
	te, is := errors.AsType[*transport.Error](err)
	if !is || te.Phase != transport.PhaseHostKey {
		t.Fatalf("got %v", err)
	}
}

func TestASessionHasATerminalAndPassesOnWhatHappensToIt(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	cfg := config(t, m, "jitadm")
	h := dialer(t).Hold(t.Context(), cfg)
	defer func() { _ = h.Close() }()
	if err := h.Login(t.Context(), cfg.Auth); err != nil {
		t.Fatal(err)
	}
	size := [2]int{100, 30}
	resized := make(chan struct{})
	in, keys := io.Pipe()
	out := &talk{said: make(chan string, 100)}
	type end struct {
		status int
		err    error
	}
	ended := make(chan end, 1)
	go func() {
		status, err := h.Run(t.Context(), Session{
			Command: "trap 'stty size; exit 9' WINCH; stty size; tty; read -r line; echo got $line; while :; do sleep 0.1; done", Term: "xterm", Stdin: in, Stdout: out, Stderr: io.Discard,
			Size: func() (int, int) { return size[0], size[1] }, Resized: resized,
		})
		ended <- end{status, err}
	}()
	out.expect(t, "30 100")
	out.expect(t, "/dev/pts/")
	if _, err := io.WriteString(keys, "hello\n"); err != nil {
		t.Fatal(err)
	}
	out.expect(t, "got hello")
	size = [2]int{120, 40}
	resized <- struct{}{}
	out.expect(t, "40 120")
	if e := <-ended; e.status != 9 || e.err != nil {
		t.Fatalf("status %d, %v", e.status, e.err)
	}
}

func TestASessionEndsWithItsContext(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	cfg := config(t, m, "jitadm")
	h := dialer(t).Hold(t.Context(), cfg)
	defer func() { _ = h.Close() }()
	if err := h.Login(t.Context(), cfg.Auth); err != nil {
		t.Fatal(err)
	}
	over := errors.New("time is over")
	ctx, cancel := context.WithCancelCause(t.Context())
	out := &talk{said: make(chan string, 100)}
	go func() {
		out.expect(t, "ready")
		cancel(over)
	}()
	in, keys := io.Pipe()
	defer func() { _ = keys.Close() }()
	_, err := h.Run(ctx, Session{Command: "echo ready; exec sleep 1000", Stdin: in, Stdout: out, Stderr: io.Discard})
	if !errors.Is(err, over) {
		t.Fatalf("got %v", err)
	}
}

// talk is what a session says.
type talk struct {
	said chan string
	all  strings.Builder
}

func (k *talk) Write(p []byte) (int, error) {
	k.said <- string(p)
	return len(p), nil
}

// expect waits until what was said holds a text.
func (k *talk) expect(t *testing.T, text string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for !strings.Contains(k.all.String(), text) {
		select {
		case s := <-k.said:
			k.all.WriteString(s)
		case <-late:
			t.Errorf("no %q in %q", text, k.all.String())
			return
		}
	}
}
