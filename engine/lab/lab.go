// Package lab owns throw-away machines: for the demo, for tests, for checking a
// template before it meets a real device.
//
// A machine is a process tree in mount, pid, uts and ipc namespaces of its own. Its
// root is an overlay of the host's root whose upper layer is in memory, so that
// every program of the host is there and nothing written inside reaches the host.
// It has its own accounts, /etc, /home, /root, /tmp, /var/tmp, /run, /dev and
// /proc, and a real sshd on a free port of 127.0.0.1. The network is the host's.
//
// It needs Linux and root, neither systemd nor a container runtime. It keeps
// accidents in, not attackers: root inside a machine is root of the host's kernel.
//
// The package knows nothing of SSH as a client; it refuses to run without the
// programs that [Require] names rather than leave something out.
package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrNotRunning says that the machine's processes are gone.
var ErrNotRunning = errors.New("lab: the machine is not running")

// Sudo says what an account may do through sudo.
type Sudo string

// The kinds of sudo access an [Account] can have.
const (
	SudoNone     Sudo = ""         // no rule at all
	SudoFree     Sudo = "free"     // every command, no password asked
	SudoPassword Sudo = "password" // every command, sudo asks for the account's password
	SudoTTY      Sudo = "tty"      // every command, no password, but only with a terminal (requiretty)
)

// Account is a login of a machine. All accounts but root accept the same admin
// key; root accepts nothing else.
type Account struct {
	Name     string
	Password string // "": no password login
	Shell    string // absolute path inside the machine; "": /bin/bash or, without it, /bin/sh
	Sudo     Sudo
}

// Config describes a machine. The zero value is a usable machine named "lab".
type Config struct {
	Name     string    // host name, [a-z0-9-]; "": "lab"
	Shell    string    // program put at /bin/sh: dash, bash, busybox, ... ; "": the host's
	Accounts []Account // besides those of [DefaultAccounts]
	Hide     []string  // further absolute host folders that are empty inside
	Dir      string    // where keys, log and state go; it must exist. "": a temporary folder that Stop removes
	SizeMB   int       // limit of what may be written inside, in MiB; 0: 512
}

// Machine is a started machine. Its methods may be used by several goroutines.
type Machine struct {
	Name    string
	Addr    string // "127.0.0.1:port" of its sshd
	Host    string // "127.0.0.1"
	Port    int
	HostKey string // sshd's public key, as in an authorized_keys line: "ssh-ed25519 AAAA..."
	// Dir holds id_ed25519 (the admin key, with .pub), user_ca (an SSH CA that sshd
	// trusts, with .pub), known_hosts and log.
	Dir      string
	Accounts []Account

	proc     process
	temp     bool          // Dir is ours to remove
	done     chan struct{} // closed when the child was reaped; nil for a machine somebody else started
	detached bool
}

// KeyFile returns the path of the private key that every account accepts.
func (m *Machine) KeyFile() string { return filepath.Join(m.Dir, "id_ed25519") }

// KnownHostsFile returns the path of a known_hosts file with this machine only.
func (m *Machine) KnownHostsFile() string { return filepath.Join(m.Dir, "known_hosts") }

// KnownHostsLine returns the line of a known_hosts file for this machine.
func (m *Machine) KnownHostsLine() string {
	return fmt.Sprintf("[%s]:%d %s", m.Host, m.Port, m.HostKey)
}

// Password returns the password of an account of this machine, "" for none.
func (m *Machine) Password(account string) string {
	for _, a := range m.Accounts {
		if a.Name == account {
			return a.Password
		}
	}
	return ""
}

// Pid returns the host's process id of the machine's first process, its sshd.
// Killing it with SIGKILL ends every process and mount of the machine.
func (m *Machine) Pid() int { return m.proc.Pid }

// RootDir returns the folder under which this host sees the machine's files, its
// own mounts and /proc included. Absolute links in it lead to the host's files.
func (m *Machine) RootDir() string { return "/proc/" + strconv.Itoa(m.proc.Pid) + "/root" }

// Log returns what start-up and sshd have written so far, "" when unreadable.
func (m *Machine) Log() string {
	b, _ := os.ReadFile(filepath.Join(m.Dir, "log"))
	return string(b)
}

// ExecError is a command inside a machine that ran and failed.
type ExecError struct {
	Argv   []string
	Code   int // exit status, 128+n for signal n
	Stderr string
}

func (e *ExecError) Error() string {
	msg := fmt.Sprintf("lab: %s: exit %d", e.Argv[0], e.Code)
	if s := strings.TrimSpace(e.Stderr); s != "" {
		msg += ": " + s
	}
	return msg
}

// Exec runs a program as root inside all namespaces of the machine, with a clean
// environment and without input, and returns what it wrote to standard output.
// A non-zero exit is an [*ExecError]; a stopped machine is [ErrNotRunning]. When
// ctx ends, the program is killed.
func (m *Machine) Exec(ctx context.Context, argv ...string) (string, error) {
	return m.run(ctx, "", argv)
}

// Shell runs a script by the machine's /bin/sh, otherwise like [Machine.Exec]. It
// does not stop at the first failing command: say `set -e` for that.
func (m *Machine) Shell(ctx context.Context, script string) (string, error) {
	return m.run(ctx, script, []string{"/bin/sh", "-s"})
}

func (m *Machine) run(ctx context.Context, stdin string, argv []string) (string, error) {
	if len(argv) == 0 {
		return "", errors.New("lab: no program given")
	}
	if !m.proc.alive() {
		return "", ErrNotRunning
	}
	args := []string{"-t", strconv.Itoa(m.proc.Pid), "-m", "-u", "-i", "-p", "-r", "-w", "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(args, argv...)...)
	cmd.Env = append(environment(), "TERM=dumb")
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	killGroup(cmd)
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return out.String(), fmt.Errorf("lab: %s: %w", argv[0], context.Cause(ctx))
	}
	if x, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), &ExecError{Argv: argv, Code: exitCode(x), Stderr: errOut.String()}
	}
	if err != nil {
		return out.String(), fmt.Errorf("lab: %s: %w", argv[0], err)
	}
	return out.String(), nil
}

// exitCode is the status of a program that did not end well, as a shell tells it.
func exitCode(x *exec.ExitError) int {
	if ws, ok := x.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return x.ExitCode()
}

// environment is what programs inside start with.
func environment() []string {
	shell := "/bin/sh"
	if _, ok := find("bash"); ok {
		shell = "/bin/bash"
	}
	return []string{"PATH=" + binPath, "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=" + shell, "LANG=C.UTF-8"}
}

// Session is a program inside a machine with the streams of the caller.
type Session struct {
	Argv           []string // empty: a login shell in root's home
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Size returns the size of the caller's terminal; it is asked again whenever
	// that changes. With it the program gets a terminal of the machine, to which
	// Stdin and Stdout belong, and the caller's is to pass on every key. nil: the
	// streams are the program's own.
	Size func() (cols, rows int)
	Term string // kind of the caller's terminal
}

// Stop ends every process and mount of the machine and, when they were temporary,
// removes its files. It returns when that is done; stopping twice is no error.
func (m *Machine) Stop() error {
	if err := m.proc.kill(); err != nil {
		return fmt.Errorf("lab: stop %s: %w", m.Name, err)
	}
	if m.done != nil {
		<-m.done
	}
	if m.detached {
		if err := os.Remove(filepath.Join(m.Dir, stateFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("lab: stop %s: %w", m.Name, err)
		}
	}
	if m.temp {
		if err := os.RemoveAll(m.Dir); err != nil {
			return fmt.Errorf("lab: stop %s: %w", m.Name, err)
		}
	}
	return nil
}
