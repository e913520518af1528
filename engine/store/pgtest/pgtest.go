// Package pgtest starts PostgreSQL servers for tests and measurements: each has a
// folder of its own, a unix socket in it instead of a port, and an owner who is not
// root. A server ends with its process in whatever way that ends. What it holds is
// lost with it: it does not wait for the disk.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// startWithin is how long a server may take to answer, on a busy machine.
const startWithin = time.Minute

// Server is a running PostgreSQL.
type Server struct {
	dir  string
	bin  string
	attr syscall.SysProcAttr
	log  string
	cert string // file; "": no TLS
	key  string
	port string // part of the name of the socket

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// Start makes a new server with an empty database cluster, whose order of text is
// not that of bytes, as is usual. settings are lines of postgresql.conf. The caller
// stops it.
func Start(ctx context.Context, settings ...string) (*Server, error) {
	s := &Server{}
	err := s.start(ctx, settings)
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// StartTLS makes a server that also listens on a port of an address, with a certificate
// and its key, and wants passwords there.
func StartTLS(ctx context.Context, address string, port int, cert, key string) (*Server, error) {
	s := &Server{cert: cert, key: key, port: strconv.Itoa(port)}
	err := s.start(ctx, []string{"listen_addresses = '" + address + "'", "port = " + s.port, "ssl = on", "ssl_cert_file = 'cert.pem'", "ssl_key_file = 'key.pem'"})
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// present gives the server its certificate.
func (s *Server) present() error {
	if s.cert == "" {
		return nil
	}
	if err := appendFile(filepath.Join(s.data(), "pg_hba.conf"), "hostssl all all all scram-sha-256\n"); err != nil {
		return err
	}
	for from, to := range map[string]string{s.cert: "cert.pem", s.key: "key.pem"} {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		path := filepath.Join(s.data(), to)
		if err := os.WriteFile(path, b, 0o600); err != nil { //nolint:gosec // a folder of ours
			return err
		}
		if c := s.attr.Credential; c != nil {
			if err := os.Chown(path, int(c.Uid), int(c.Gid)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Server) start(ctx context.Context, settings []string) (err error) {
	if s.bin, err = programs(); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "pg-"); err != nil {
		return err
	}
	s.log = filepath.Join(s.dir, "log")
	if err := s.ownedBy(); err != nil {
		return err
	}
	initdb := exec.CommandContext(ctx, filepath.Join(s.bin, "initdb"), "--no-sync", "--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256",
		"--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en", s.data())
	initdb.SysProcAttr, initdb.Dir = &s.attr, s.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("pgtest: initdb: %w: %s", err, out)
	}
	if err := s.present(); err != nil {
		return err
	}
	conf := strings.Join(append([]string{"listen_addresses = ''", "unix_socket_directories = '" + s.dir + "'", "fsync = off", "max_connections = 300", "shared_buffers = 32MB"}, settings...), "\n")
	if err := appendFile(filepath.Join(s.data(), "postgresql.conf"), conf+"\n"); err != nil {
		return err
	}
	return s.run(ctx)
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// programs returns the folder of the newest PostgreSQL that is installed.
func programs() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	best, newest := "", 0
	for _, path := range found {
		dir := filepath.Dir(path)
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(dir))); err == nil && n > newest {
			best, newest = dir, n
		}
	}
	if best == "" {
		return "", errors.New("pgtest: no PostgreSQL below /usr/lib/postgresql: run testdata/setup/packages.sh test")
	}
	return best, nil
}

// ownedBy gives the folder to the user postgres when this is root, whom PostgreSQL
// refuses.
func (s *Server) ownedBy() error {
	s.attr = syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	s.attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)} //nolint:gosec // ids have 32 bits
	return os.Chown(s.dir, uid, gid)
}

// run starts the server and waits until it answers.
func (s *Server) run(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, startWithin)
	defer stop()
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data()) //nolint:noctx // it lives until Stop
	attr := s.attr
	attr.Pdeathsig = syscall.SIGQUIT // ends it at once, and what it has started
	cmd.SysProcAttr, cmd.Dir = &attr, s.dir
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	started, done := make(chan error), make(chan struct{})
	go func() {
		defer close(done)
		// The kernel takes the end of the thread that forked for the parent's death.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in the log
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.mu.Lock()
	s.cmd, s.done = cmd, done
	s.mu.Unlock()
	return s.ready(ctx, done)
}

// ready waits until the server takes connections.
func (s *Server) ready(ctx context.Context, done <-chan struct{}) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-done:
			return fmt.Errorf("pgtest: the server did not start: %s", s.Log())
		case <-ctx.Done():
			return fmt.Errorf("pgtest: the server does not answer: %w: %s", err, s.Log())
		case <-tick.C:
		}
	}
}

// Follow makes a standby of the server, which has what was committed here before that is
// acknowledged when wait says so. The caller stops it.
func (s *Server) Follow(ctx context.Context, wait bool) (*Server, error) {
	f := &Server{bin: s.bin}
	var err error
	if f.dir, err = os.MkdirTemp("", "pg-"); err != nil {
		return nil, err
	}
	f.log = filepath.Join(f.dir, "log")
	if err := f.ownedBy(); err != nil {
		return nil, errors.Join(err, f.Stop())
	}
	copied := exec.CommandContext(ctx, filepath.Join(s.bin, "pg_basebackup"), "--no-sync", "--checkpoint=fast", "--write-recovery-conf", "--username=postgres", "--host="+s.dir, "--pgdata="+f.data())
	copied.SysProcAttr, copied.Dir = &f.attr, f.dir
	if out, err := copied.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("pgtest: pg_basebackup: %w: %s", err, out), f.Stop())
	}
	err = appendFile(filepath.Join(f.data(), "postgresql.conf"), "unix_socket_directories = '"+f.dir+"'\n")
	if err == nil {
		err = f.run(ctx)
	}
	for _, stmt := range []string{`ALTER SYSTEM SET synchronous_standby_names = '*'`, `SELECT pg_reload_conf()`} {
		if err == nil && wait {
			err = s.SQL(ctx, stmt)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Stop())
	}
	return f, nil
}

// Both names a database for which there are two servers.
func (s *Server) Both(other *Server, database string) string {
	q := url.Values{"host": {s.dir + "," + other.dir}, "user": {"postgres"}}
	return (&url.URL{Scheme: "postgres", Path: "/" + database, RawQuery: q.Encode()}).String()
}

// Log returns what the server has said.
func (s *Server) Log() string {
	b, _ := os.ReadFile(s.log)
	return string(b)
}

// URL names a database of the server.
func (s *Server) URL(database string) string {
	q := url.Values{"host": {s.dir}, "user": {"postgres"}}
	if s.port != "" {
		q.Set("port", s.port)
	}
	u := url.URL{Scheme: "postgres", Path: "/" + database, RawQuery: q.Encode()}
	return u.String()
}

// Database makes an empty database and returns its URL.
func (s *Server) Database(ctx context.Context) (string, error) {
	name := "t" + strings.ToLower(rand.Text())
	err := s.SQL(ctx, `CREATE DATABASE `+name)
	return s.URL(name), err
}

// SQL runs a statement in the database postgres.
func (s *Server) SQL(ctx context.Context, stmt string) error {
	c, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, stmt)
	return errors.Join(err, c.Close(ctx))
}

// Crash ends the server as a power failure that spares the disk would, and
// Resume brings it back.
func (s *Server) Crash() { s.signal(syscall.SIGQUIT) }

// Resume starts a server that was crashed.
func (s *Server) Resume(ctx context.Context) error { return s.run(ctx) }

// Stop ends the server and removes what it kept.
func (s *Server) Stop() error {
	s.signal(syscall.SIGQUIT)
	if s.dir == "" {
		return nil
	}
	return os.RemoveAll(s.dir)
}

// signal sends sig and waits for the end of the server.
func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(sig) // one that has ended is ended
		<-s.done
		s.cmd = nil
	}
}

func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// shared is the server of this process, started when it is first asked for.
var shared struct {
	mu     sync.Mutex
	server *Server
}

// TB is what is needed of a test.
type TB interface {
	Helper()
	Fatal(args ...any)
	Context() context.Context
}

// Database returns the URL of a new database on the server that all tests of this
// process share; Close in TestMain ends that.
func Database(tb TB) string {
	tb.Helper()
	s, err := sharedServer()
	if err != nil {
		tb.Fatal(err)
	}
	u, err := s.Database(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

func sharedServer() (*Server, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server != nil {
		return shared.server, nil
	}
	var err error
	shared.server, err = Start(context.Background())
	return shared.server, err
}

// Close ends the shared server, if there is one.
func Close() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil {
		return nil
	}
	return shared.server.Stop()
}
