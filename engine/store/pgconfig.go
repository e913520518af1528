package store

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"runner/engine/secret"
)

// Postgres says where a database is that several machines share.
type Postgres struct {
	// URL is postgres://USER@HOST/DATABASE with the options of libpq, and without a
	// password. The way has to be safe from others: sslmode=verify-full is what
	// applies when nothing is said, verify-ca may be said, and less only for a unix
	// socket or an address of this machine.
	URL string
	// Password is for servers that ask for one. Without it, the password file of
	// libpq (~/.pgpass) or a certificate is used.
	Password secret.Value
	// Bell wakes workers of other machines. nil: they look once a second.
	Bell Bell
	// Lease is how long a node lives after it was last heard of. 0: [LeaseTTL].
	Lease time.Duration
}

// LeaseTTL is how long a node lives after it was last heard of, by the clock of the
// database.
const LeaseTTL = 5 * time.Second

func (p Postgres) lease() time.Duration {
	if p.Lease > 0 {
		return p.Lease
	}
	return LeaseTTL
}

// Times that keep one machine from holding up the others, and this one from
// waiting for a server that is gone.
const (
	dialWithin      = 5 * time.Second
	hostWithin      = 2 * time.Second // where there are others
	statementWithin = 15 * time.Second
	// A process that stands still in a transaction holds everybody up. It is
	// shorter than a lease, so that its jobs can be taken over at once.
	idleWithin   = 3 * time.Second
	silentWithin = 10 * time.Second // bytes that are not acknowledged
)

// Check refuses what nobody could connect by, or not safely; it connects nowhere.
func (p Postgres) Check() error {
	_, err := p.parse()
	return err
}

// parse checks p and returns how to connect.
func (p Postgres) parse() (*pgx.ConnConfig, error) {
	u, err := url.Parse(p.URL)
	if err != nil {
		return nil, errors.New("the URL of the database cannot be read; it looks like postgres://runner@db.example/runner") // err would show a password
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, fmt.Errorf("the database is %q: only postgres://USER@HOST/DATABASE can be shared", u.Redacted())
	}
	q := u.Query()
	if _, has := u.User.Password(); has || q.Has("password") {
		return nil, fmt.Errorf("the URL of the database holds a password: take it out (%s) and name a file that holds it", withoutPassword(*u))
	}
	if err := protect(u, q); err != nil {
		return nil, err
	}
	if attrs := q.Get("target_session_attrs"); attrs != "" && attrs != "read-write" && attrs != "primary" {
		return nil, fmt.Errorf("target_session_attrs=%s of the URL of the database would be content with a standby: leave it out, or use read-write", attrs)
	}
	q.Del("target_session_attrs") // always, where there are several hosts
	u.RawQuery = q.Encode()
	cfg, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, fmt.Errorf("the URL of the database: %w", err)
	}
	if pw := p.Password.Reveal(); pw != "" {
		cfg.Password = pw
	}
	cfg.ConnectTimeout = dialWithin
	cfg.DialFunc = (&net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 3 * time.Second, Interval: 2 * time.Second, Count: 3},
		Control:         giveUp,
	}).DialContext
	for name, d := range map[string]time.Duration{
		"statement_timeout":                   statementWithin,
		"idle_in_transaction_session_timeout": idleWithin,
		"client_connection_check_interval":    time.Second, // a waiting statement ends with its client
	} {
		cfg.RuntimeParams[name] = strconv.FormatInt(d.Milliseconds(), 10)
	}
	cfg.RuntimeParams["application_name"] = "runner"
	if several(cfg) {
		cfg.ConnectTimeout = hostWithin
		cfg.ValidateConnect = (&line{}).primary
	}
	return cfg, nil
}

// withoutPassword returns u for people.
func withoutPassword(u url.URL) string {
	u.User = url.User(u.User.Username())
	q := u.Query()
	q.Del("password")
	u.RawQuery = q.Encode()
	return u.String()
}

// protect sets what the URL does not say about encryption, and refuses less than
// the way needs.
func protect(u *url.URL, q url.Values) error {
	hosts := strings.Split(u.Host, ",")
	for i, h := range hosts {
		if host, _, err := net.SplitHostPort(h); err == nil {
			hosts[i] = host
		}
	}
	if h := q.Get("host"); h != "" {
		hosts = strings.Split(h, ",")
	}
	here := !slices.ContainsFunc(hosts, func(h string) bool { return !local(h) })
	switch mode := q.Get("sslmode"); {
	case mode == "" && here:
		q.Set("sslmode", "disable")
	case mode == "":
		q.Set("sslmode", "verify-full")
	case !here && mode != "verify-full" && mode != "verify-ca":
		return fmt.Errorf("sslmode=%s lets others take the place of %s: use sslmode=verify-full, with sslrootcert=FILE for a certificate authority of your own", mode, u.Host)
	}
	return nil
}

// local reports whether a host of a URL is this machine. An empty one is the socket
// of libpq.
func local(host string) bool {
	if host == "" || host == "localhost" || strings.HasPrefix(host, "/") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// giveUp bounds how long the kernel tries to send to a machine that is gone.
func giveUp(network, _ string, c syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var err error
	cerr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silentWithin.Milliseconds()))
	})
	return errors.Join(cerr, err)
}
