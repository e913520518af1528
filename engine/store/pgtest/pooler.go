package pgtest

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Pooler is a running PgBouncer.
type Pooler struct {
	dir  string
	cmd  *exec.Cmd
	done chan struct{}
}

// Pool starts a PgBouncer in front of the server. settings are lines of pgbouncer.ini,
// such as pool_mode = session. The caller stops it.
func (s *Server) Pool(ctx context.Context, settings ...string) (*Pooler, error) {
	p := &Pooler{done: make(chan struct{})}
	var err error
	if p.dir, err = os.MkdirTemp("", "pg-"); err != nil {
		return nil, err
	}
	ini := append([]string{
		"[databases]", "* = host=" + s.dir, "[pgbouncer]", "listen_addr =", "listen_port = 5432", "unix_socket_dir = " + p.dir,
		"auth_type = trust", "auth_file = " + filepath.Join(p.dir, "users"), "logfile = " + filepath.Join(p.dir, "log"),
	}, settings...)
	for name, text := range map[string]string{"ini": strings.Join(ini, "\n") + "\n", "users": "\"postgres\" \"\"\n"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644)) //nolint:gosec // its owner is another
	}
	if c := s.attr.Credential; c != nil && err == nil {
		err = os.Chown(p.dir, int(c.Uid), int(c.Gid))
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.dir))
	}
	attr := s.attr
	p.cmd = exec.Command("/usr/sbin/pgbouncer", "-q", filepath.Join(p.dir, "ini")) //nolint:noctx // it lives until Stop
	p.cmd.SysProcAttr, p.cmd.Dir = &attr, p.dir
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.dir))
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	front := &Server{dir: p.dir, log: filepath.Join(p.dir, "log")}
	wait, stop := context.WithTimeout(ctx, startWithin)
	defer stop()
	if err := front.ready(wait, p.done); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// URL names a database behind the pooler.
func (p *Pooler) URL(database string) string {
	u := url.URL{Scheme: "postgres", Path: "/" + database, RawQuery: url.Values{"host": {p.dir}, "user": {"postgres"}}.Encode()}
	return u.String()
}

// Stop ends the pooler.
func (p *Pooler) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // one that has ended is ended
	<-p.done
	return os.RemoveAll(p.dir)
}
