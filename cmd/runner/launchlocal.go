package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/lang"
)

// local is a program of the person's machine that a launch runs instead of a shell
// on the device.
type local struct {
	named   string // profile
	argv    []string
	path    string
	profile *profile
}

// hangUp is how long a program may take to end after it was told to.
const hangUp = 5 * time.Second

// find looks for the program and its profile, before anything is requested.
func (p *local) find(a *app) error {
	if len(p.argv) == 0 {
		return usagef("after -- there has to be a command")
	}
	var err error
	if p.path, err = exec.LookPath(p.argv[0]); err != nil {
		return usagef("%s cannot be run: %v", p.argv[0], errors.Unwrap(err))
	}
	p.profile, err = a.profileFor(p.named, p.argv[0])
	return err
}

// runLocal runs the program with the account at hand, to its end.
func (l *launch) runLocal(ctx context.Context, c *grant.Case, s *engine.Secret) (int, error) {
	cn, err := l.eng.Inventory.Resolve(c.Grant.Credential)
	if err != nil {
		return exitFailed, err
	}
	h, err := l.program.profile.hand(lang.Env{
		"account": s.Account, "password": s.Password, "private_key": s.PrivateKey, "address": s.Address, "port": int64(s.Port),
		"device": c.Grant.Device, "known_hosts": knownHosts(cn),
	})
	if err != nil {
		return exitFailed, err
	}
	defer func() {
		if err := h.discard(); err != nil {
			l.app.warn("the files for %s are left: %s", l.program.argv[0], problem(err))
		}
	}()
	cmd := exec.Command(l.program.path, append(h.args, l.program.argv[1:]...)...) //nolint:noctx // the person's own command; it is told to stop below
	cmd.Env = append(os.Environ(), h.env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = l.app.stdin, l.app.stdout, l.app.stderr
	if h.piped {
		cmd.Stdin = strings.NewReader(h.stdin)
		if l.app.stdin != nil && !l.onTTY() {
			cmd.Stdin = io.MultiReader(cmd.Stdin, l.app.stdin)
		}
	}
	return l.accompany(ctx, c, cmd)
}

// onTTY reports whether somebody types.
func (l *launch) onTTY() bool {
	in, is := l.app.stdin.(*os.File)
	return is && term.IsTerminal(int(in.Fd()))
}

// accompany waits for a program, and tells it to stop when the session is over.
// Ctrl-C is the program's own: its terminal sends it.
func (l *launch) accompany(ctx context.Context, c *grant.Case, cmd *exec.Cmd) (int, error) {
	told := make(chan os.Signal, 4)
	signal.Notify(told, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(told)
	if err := cmd.Start(); err != nil {
		return exitFailed, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	watch, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	var why error
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		l.calm()
		near := warnings{view: &sessionView{app: l.app}}
		why = l.eng.Attend(watch, l.held, c.Grant.Expires, func(expires time.Time) { near.look(l.app.now(), expires) })
	}()
	defer func() { cut(nil); <-watched }()
	var (
		cause error
		late  <-chan time.Time
		over  <-chan struct{} = watched
	)
	for {
		select {
		case err := <-ended:
			if cause != nil {
				return 255, cause
			}
			return localStatus(cmd, err), nil
		case sig := <-told:
			if sig == syscall.SIGINT {
				if !l.onTTY() {
					_ = cmd.Process.Signal(sig) // it may have ended
				}
				continue
			}
			cause, late = context.Canceled, l.hangUp(cmd)
		case <-over:
			cause, late, over = why, l.hangUp(cmd), nil
		case <-late:
			_ = cmd.Process.Kill()
		}
	}
}

// hangUp tells a program to stop, and says when its patience is over.
func (l *launch) hangUp(cmd *exec.Cmd) <-chan time.Time {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	return time.After(hangUp)
}

// localStatus is the exit status of a program, as shells have it.
func localStatus(cmd *exec.Cmd, err error) int {
	if cmd.ProcessState == nil {
		return exitFailed
	}
	if ws, is := cmd.ProcessState.Sys().(syscall.WaitStatus); is && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	if code := cmd.ProcessState.ExitCode(); code > 0 || err == nil {
		return code
	}
	return exitFailed
}

// knownHosts writes the host keys of a connection as ssh reads them. Fingerprints
// cannot be written so.
func knownHosts(c *inventory.Connection) string {
	var b strings.Builder
	for _, k := range c.HostKeys {
		mark, rest, _ := strings.Cut(k, " ")
		if strings.HasPrefix(k, "SHA256:") {
			continue
		}
		if strings.HasPrefix(mark, "@") {
			b.WriteString(mark + " ")
			k = rest
		}
		where := c.Address
		if c.Port != 22 {
			where = fmt.Sprintf("[%s]:%d", c.Address, c.Port)
		}
		b.WriteString(where + " " + k + "\n")
	}
	return b.String()
}

// programName is what the store and lists call a program.
func programName(argv []string) string { return filepath.Base(argv[0]) }
