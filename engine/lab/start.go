package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

//go:embed machine.sh
var machineScript string

//go:embed second.sh
var secondScript string

const (
	startWait = 30 * time.Second
	startPoll = 3 * time.Millisecond
	portTries = 5
)

var errPortTaken = errors.New("the port was taken meanwhile")

var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// Start starts a machine and returns when its sshd listens, about half a second
// later. The machine ends with [Machine.Stop], and also when this process ends in
// whatever way. ctx bounds the start only.
func Start(ctx context.Context, cfg Config) (*Machine, error) {
	m, err := start(ctx, cfg, false)
	if err != nil {
		return nil, fmt.Errorf("lab: start %s: %w", cfg.name(), err)
	}
	return m, nil
}

func (c Config) name() string {
	if c.Name == "" {
		return "lab"
	}
	return c.Name
}

func (c Config) check() error {
	if len(c.name()) > 63 || !nameForm.MatchString(c.name()) {
		return fmt.Errorf("host name %q: want a-z, 0-9 and -", c.Name)
	}
	if c.Shell != "" {
		if _, ok := find(c.Shell); !ok {
			return fmt.Errorf("shell %q is not installed", c.Shell)
		}
	}
	for _, d := range c.Hide {
		if !filepath.IsAbs(d) || filepath.Clean(d) == "/" || strings.Contains(d, "\n") {
			return fmt.Errorf("hide %q: want an absolute path below /", d)
		}
	}
	for _, a := range c.Accounts {
		if len(a.Name) > 32 || !accountForm.MatchString(a.Name) || strings.ContainsAny(a.Password+a.Shell, "\n") || strings.Contains(a.Shell, ":") {
			return fmt.Errorf("account %q: not a possible account", a.Name)
		}
	}
	return missing()
}

func start(ctx context.Context, cfg Config, detached bool) (m *Machine, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	m = &Machine{Name: cfg.name(), Host: "127.0.0.1", Dir: cfg.Dir, detached: detached}
	if m.Dir == "" {
		if m.Dir, err = os.MkdirTemp("", "runner-lab-"); err != nil {
			return nil, err
		}
		m.temp = true
	}
	if m.Dir, err = filepath.Abs(m.Dir); err != nil {
		return nil, err
	}
	defer func() {
		os.RemoveAll(filepath.Join(m.Dir, "stage")) // holds passwords in clear
		if err != nil {
			_ = m.Stop()
			m = nil
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	if err = m.makeKeys(ctx); err != nil {
		return m, err
	}
	for range portTries {
		if m.Port, err = freePort(ctx); err != nil {
			return m, err
		}
		m.Addr = fmt.Sprintf("%s:%d", m.Host, m.Port)
		if err = m.launch(ctx, cfg); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		return m, err
	}
	return m, os.WriteFile(m.KnownHostsFile(), []byte(m.KnownHostsLine()+"\n"), 0o600)
}

// freePort asks the kernel; somebody else may still get it before sshd does.
func freePort(ctx context.Context) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// makeKeys makes the admin key, the CA and the host key at the same time.
func (m *Machine) makeKeys(ctx context.Context) error {
	keygen, _ := find("ssh-keygen")
	names := []string{"id_ed25519", "user_ca", "host_key"}
	var cmds []*exec.Cmd
	for _, name := range names {
		path := filepath.Join(m.Dir, name)
		for _, p := range []string{path, path + ".pub"} {
			if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		cmd := exec.CommandContext(ctx, keygen, "-q", "-t", "ed25519", "-N", "", "-C", m.Name+"-"+name, "-f", path)
		if err := cmd.Start(); err != nil {
			return err
		}
		cmds = append(cmds, cmd)
	}
	var errs []error
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("ssh-keygen %s: %w", names[i], err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	pub, err := os.ReadFile(filepath.Join(m.Dir, "host_key.pub"))
	if f := strings.Fields(string(pub)); err == nil && len(f) >= 2 {
		m.HostKey = f[0] + " " + f[1]
	}
	return err
}

// launch starts the first process and waits for its sshd.
func (m *Machine) launch(ctx context.Context, cfg Config) error {
	if err := m.writeStage(cfg); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(m.Dir, "fs"), 0o700); err != nil {
		return err
	}
	hide, mounts, err := hostLayout(cfg.Hide)
	if err != nil {
		return err
	}
	size := cfg.SizeMB
	if size == 0 {
		size = 512
	}
	shell := ""
	if cfg.Shell != "" {
		shell, _ = find(cfg.Shell)
	}
	logFile, err := os.OpenFile(filepath.Join(m.Dir, "log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close() // the child has its own
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", filepath.Join(m.Dir, "stage", "machine.sh"))
	cmd.Env = []string{
		"LAB_DIR=" + m.Dir, "LAB_SHELL=" + shell, fmt.Sprintf("LAB_SIZE=%dm", size),
		"LAB_HIDE=" + strings.Join(hide, "\n"), "LAB_MOUNTS=" + strings.Join(mounts, "\n"),
	}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if m.proc, m.done, err = spawn(cmd, m.detached); err != nil {
		return fmt.Errorf("new namespaces: %w", err)
	}
	return m.ready(ctx)
}

// ready waits until this machine's own sshd says that it listens: the port alone
// could be answered by somebody else.
func (m *Machine) ready(ctx context.Context) error {
	tick := time.NewTicker(startPoll)
	defer tick.Stop()
	listening := fmt.Sprintf("Server listening on %s port %d.", m.Host, m.Port)
	for {
		select {
		case <-m.done:
			text := strings.TrimSpace(m.Log())
			if strings.Contains(text, "Address already in use") {
				return errPortTaken
			}
			return fmt.Errorf("it ended while starting: %s", text)
		case <-ctx.Done():
			err := m.proc.kill()
			return errors.Join(fmt.Errorf("sshd does not listen: %w: %s", context.Cause(ctx), strings.TrimSpace(m.Log())), err)
		case <-tick.C:
			if strings.Contains(m.Log(), listening) {
				return nil
			}
		}
	}
}
