package ssh

import (
	"io"
	"os/exec"
	"strings"
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
	read := make(chan struct{}, 2)
	for i, r := range []io.Reader{p, p.stderr} {
		go func() { c.read(i, r); read <- struct{}{} }()
	}
	t.Cleanup(func() {
		c.close()
		<-read
		<-read
		_ = cmd.Wait()
	})
	go close(c.exited)
	var _ gossh.Channel = p
	cfg := Config{Address: "local:22", User: "me"}.withDefaults()
	return &conn{d: &Dialer{}, cfg: cfg, ent: &entry{link: &link{}, dead: true}, runs: map[string]*coordinator{"me": c}, tty: map[string]bool{}}
}

// shells are the interpreters that may be /bin/sh on a device: those that must
// be here, and others when they are installed. yash is not among them: it holds
// text as wide characters and loses bytes.
func shells(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{"dash": "dash", "bash": "bash --posix", "busybox": "busybox sh"}
	for name := range out {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("the tests need %s: %v", name, err)
		}
	}
	for _, name := range []string{"ksh93", "mksh"} {
		if _, err := exec.LookPath(name); err == nil {
			out[name] = name
		}
	}
	if _, err := exec.LookPath("zsh"); err == nil {
		out["zsh"] = "zsh --emulate sh"
	}
	return out
}

func hasProgram(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}
