package ssh

import (
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	gossh "golang.org/x/crypto/ssh"
)

// process is a local process in place of a session on a device.
type process struct {
	io.Reader
	io.WriteCloser
	stderr io.Reader
	cmd    *exec.Cmd
}

func (p *process) Read(b []byte) (int, error)  { return p.Reader.Read(b) }
func (p *process) Write(b []byte) (int, error) { return p.WriteCloser.Write(b) }
func (p *process) CloseWrite() error           { return p.WriteCloser.Close() }
func (p *process) Stderr() io.ReadWriter {
	return struct {
		io.Reader
		io.Writer
	}{p.stderr, io.Discard}
}
func (p *process) SendRequest(string, bool, []byte) (bool, error) { return true, nil }
func (p *process) Close() error                                   { return p.WriteCloser.Close() }

// localConn is a conn whose coordinator is a local process: argv gets the exec
// line as its last argument, in which sh stands for /bin/sh.
func localConn(t *testing.T, sh string, argv ...string) *conn {
	t.Helper()
	c := &coordinator{
		id: token(8), nonce: token(12), have: sent{}, status: -1,
		items: make(chan item), quit: make(chan struct{}), exited: make(chan struct{}),
	}
	line := strings.Replace("exec /bin/sh -c '"+loop(c.id, false)+"'", "/bin/sh", sh, 1)
	cmd := exec.CommandContext(t.Context(), argv[0], append(argv[1:], line)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{Reader: out, WriteCloser: in, stderr: errs, cmd: cmd}
	c.ch = p
	var streams sync.WaitGroup
	for i, r := range []io.Reader{p, p.stderr} {
		streams.Go(func() { c.read(i, r) })
	}
	go func() {
		streams.Wait()
		if _ = cmd.Wait(); cmd.ProcessState.Exited() {
			c.status = cmd.ProcessState.ExitCode()
		}
		close(c.exited)
	}()
	t.Cleanup(func() {
		c.close()
		<-c.exited
	})
	var _ gossh.Channel = p
	cfg := Config{Address: "local:22", User: "me"}.withDefaults()
	return &conn{d: &Dialer{}, cfg: cfg, ent: &entry{link: &link{}, dead: true}, runs: map[string]*coordinator{"me": c}, tty: map[string]bool{}}
}

// shells are the interpreters that may be /bin/sh on a device.
func shells(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{
		"dash": "dash", "bash": "bash", "bash posix": "bash --posix", "busybox": "busybox sh",
		"ksh93": "ksh93", "mksh": "mksh", "zsh": "zsh --emulate sh", "posh": "posh",
	}
	for _, line := range all {
		need(t, line)
	}
	return all
}

// yash is apart from the others: it holds text as characters and cannot keep a
// byte that is none.
func yash(t *testing.T) string {
	t.Helper()
	need(t, "yash")
	return "yash --posixly-correct"
}

// need fails the test when the shell of a command line is not installed.
func need(t *testing.T, line string) {
	t.Helper()
	name, _, _ := strings.Cut(line, " ")
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("the tests need %s: %v; make deps/test installs it", name, err)
	}
}
