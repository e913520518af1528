// Command crash shows what the same accidents leave behind with a playbook that has
// always: and with runner, beside which a runner serve runs as it does where it is
// used, on throw-away machines. It needs root, bin/runner and ansible-playbook.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"runner/engine/lab"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
}

// accident happens to a tool while a device has an account of its making.
type accident struct {
	name    string
	happens func(cmd *exec.Cmd, c *cable) error
}

var accidents = []accident{
	{"nothing", func(*exec.Cmd, *cable) error { return nil }},
	{"controller killed (kill -9)", func(cmd *exec.Cmd, _ *cable) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }},
	{"connection lost, device away for 20 s", func(_ *exec.Cmd, c *cable) error {
		c.pull()
		time.AfterFunc(20*time.Second, c.plug)
		return nil
	}},
}

func run(ctx context.Context) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "accident\ttool\tleft on the device a minute later\tand after the tool is run again")
	for _, a := range accidents {
		for _, tool := range []string{"ansible", "runner"} {
			soon, again, err := try(ctx, a, tool)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", tool, a.name, err)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", a.name, tool, soon, again)
		}
	}
	return w.Flush()
}

// try lets an accident happen and looks at the device.
func try(ctx context.Context, a accident, tool string) (soon, again string, err error) {
	m, err := lab.Start(ctx, lab.Config{Name: "box"})
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, m.Stop()) }()
	dir, err := os.MkdirTemp("", "crash-")
	if err != nil {
		return "", "", err
	}
	defer os.RemoveAll(dir)
	c, err := lay(ctx, m.Addr)
	if err != nil {
		return "", "", err
	}
	defer c.close()
	before, err := look(ctx, m)
	if err != nil {
		return "", "", err
	}
	begin, repeat, err := commands(ctx, tool, dir, m, c)
	if err != nil {
		return "", "", err
	}
	if tool == "runner" {
		serve := exec.CommandContext(ctx, begin.Args[3], "--workspace", dir, "serve")
		if err := serve.Start(); err != nil {
			return "", "", err
		}
		defer func() { _ = serve.Process.Signal(syscall.SIGTERM); _ = serve.Wait() }()
	}
	if err := begin.Start(); err != nil {
		return "", "", err
	}
	for tries := 0; !strings.Contains(soon, "sudo rule"); tries++ {
		if tries == 1000 {
			return "", "", errors.New("no account was made")
		}
		pause(ctx, 20*time.Millisecond)
		if soon, err = left(ctx, m, before); err != nil {
			return "", "", err
		}
	}
	if err := a.happens(begin, c); err != nil {
		return "", "", err
	}
	_ = begin.Wait() // what it says is not asked; the device is
	pause(ctx, time.Minute)
	if soon, err = left(ctx, m, before); err != nil {
		return "", "", err
	}
	_ = repeat.Run()
	again, err = left(ctx, m, before)
	return soon, again, err
}

// pause waits, unless somebody stops the program: then what follows fails.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// commands are what is begun, and what an administrator runs later.
func commands(ctx context.Context, tool, dir string, m *lab.Machine, c *cable) (begin, repeat *exec.Cmd, err error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, nil, err
	}
	host, port, _ := strings.Cut(c.addr(), ":")
	known := filepath.Join(dir, "known_hosts")
	if err := os.WriteFile(known, []byte(fmt.Sprintf("[%s]:%s %s\n", host, port, m.HostKey)), 0o600); err != nil {
		return nil, nil, err
	}
	group := func(cmd *exec.Cmd) *exec.Cmd {
		cmd.SysProcAttr, cmd.Dir = &syscall.SysProcAttr{Setpgid: true}, dir
		return cmd
	}
	if tool == "ansible" {
		make := func() *exec.Cmd {
			cmd := exec.CommandContext(ctx, "ansible-playbook", "-i", host+",", "-u", "root", "-e", "ansible_port="+port, "--private-key", m.KeyFile(),
				"--ssh-common-args", "-o UserKnownHostsFile="+known+" -o ControlMaster=no -o ConnectTimeout=5", filepath.Join(root, "testdata/bench/crash/session.yml"))
			cmd.Env = append(os.Environ(), "ANSIBLE_CONFIG="+filepath.Join(root, "testdata/bench/ansible/ansible.cfg"), "ANSIBLE_LOCALHOST_WARNING=False")
			return group(cmd)
		}
		return make(), make(), nil
	}
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "testdata/bench/workspace"))); err != nil {
		return nil, nil, err
	}
	file := filepath.Join(dir, "inventories", "bench.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	filled := strings.NewReplacer("{host}", host, "{port}", port, "{host_key}", m.HostKey, "{key}", m.KeyFile(), "name: bench\ndevice: bench\n", "name: bench\ndevice: bench\nparams: {sudo: 'ALL=(ALL:ALL) NOPASSWD: ALL'}\n").Replace(string(text))
	if err := os.WriteFile(file, []byte(filled), 0o600); err != nil {
		return nil, nil, err
	}
	runner := filepath.Join(root, "bin/runner")
	session := `id=$("$0" --workspace "$1" grant request bench --for 5m -o json | grep -o '"g-[a-z0-9]*"' | head -n 1 | tr -d '"'); sleep 5; "$0" --workspace "$1" grant end "$id"`
	return group(exec.CommandContext(ctx, "sh", "-c", session, runner, dir)), group(exec.CommandContext(ctx, runner, "--workspace", dir, "sweep")), nil
}

// look lists what bears on accounts.
func look(ctx context.Context, m *lab.Machine) (string, error) {
	return m.Shell(ctx, "sed 's,:.*,,; s,^,account ,' /etc/passwd; find /etc/sudoers.d /home -mindepth 1 -maxdepth 1")
}

// left says what is there that was not before.
func left(ctx context.Context, m *lab.Machine, before string) (string, error) {
	after, err := look(ctx, m)
	if err != nil {
		return "", err
	}
	was := map[string]bool{}
	for l := range strings.SplitSeq(before, "\n") {
		was[l] = true
	}
	var kinds []string
	for l := range strings.SplitSeq(after, "\n") {
		switch {
		case was[l]:
		case strings.HasPrefix(l, "account"):
			kinds = append(kinds, "account")
		case strings.Contains(l, "sudoers"):
			kinds = append(kinds, "sudo rule")
		default:
			kinds = append(kinds, "home")
		}
	}
	if kinds == nil {
		return "nothing", nil
	}
	return strings.Join(kinds, ", "), nil
}

// cable carries connections to an address until it is pulled.
type cable struct {
	net.Listener

	target string
	mu     sync.Mutex
	out    bool
	conns  []net.Conn
}

func lay(ctx context.Context, target string) (*cable, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &cable{Listener: l, target: target}
	go c.serve()
	return c, nil
}

func (c *cable) addr() string { return c.Addr().String() }

func (c *cable) serve() {
	for {
		near, err := c.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp4", c.target)
		c.mu.Lock()
		if c.out || err != nil {
			near.Close()
		} else {
			c.conns = append(c.conns, near, far)
			pass := func(to, from net.Conn) { _, _ = io.Copy(to, from); to.Close(); from.Close() }
			go pass(near, far)
			go pass(far, near)
		}
		c.mu.Unlock()
	}
}

func (c *cable) pull() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = true
	for _, n := range c.conns {
		n.Close()
	}
}

func (c *cable) plug() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = false
}

func (c *cable) close() {
	c.pull()
	c.Listener.Close()
}
