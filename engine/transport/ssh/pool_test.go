package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"runner/engine/secret"
	"runner/engine/transport"
	"runner/engine/transport/transporttest"
)

func TestConnectionsAreShared(t *testing.T) {
	t.Parallel()
	m, d := machine(t, ""), dialer(t)
	cfg := config(t, m, "root")
	var wg sync.WaitGroup
	var conns [12]transport.Conn
	for i := range conns {
		wg.Go(func() {
			var err error
			if conns[i], err = d.Dial(t.Context(), cfg); err != nil {
				t.Error(err)
				return
			}
			var r record
			if err := conns[i].Run(t.Context(), transport.Batch{Steps: steps(2)}, r.sink); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	accepted(t, m, 2)
	for _, c := range conns {
		_ = c.Close()
		_ = c.Close()
	}
	c := connTo(t, d, cfg)
	_ = c.Close()
	accepted(t, m, 2)
	for name, change := range map[string]func(*Config){
		"user":     func(c *Config) { c.User = "plain" },
		"password": func(c *Config) { c.Auth.Password = secret.New("x") },
		"host key": func(c *Config) { c.HostKeys.Known = append(c.HostKeys.Known, fingerprint(t, m.HostKey)) },
		"methods":  func(c *Config) { c.Auth.Methods = []string{MethodPublicKey} },
	} {
		other := config(t, m, "root")
		change(&other)
		if d.poolKey(other) == d.poolKey(cfg) {
			t.Errorf("another %s shares the connection", name)
		}
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	d := &Dialer{IdleTTL: 50 * time.Millisecond}
	defer func() { _ = d.Close() }()
	cfg := config(t, m, "root")
	c, err := d.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	e := c.(*conn).ent
	select {
	case <-e.done:
		t.Fatal("a connection in use was ended")
	case <-time.After(200 * time.Millisecond):
	}
	_ = c.Close()
	select {
	case <-e.done:
	case <-time.After(10 * time.Second):
		t.Fatal("the idle connection stays")
	}
}

// The server went away while the connection was idle: the next user gets
// another one and notices nothing.
func TestStaleConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	m, d := machine(t, ""), dialer(t)
	cfg, _ := far(t, m, "root", 0)
	var stall atomic.Bool
	d.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		var nd net.Dialer
		c, err := nd.DialContext(ctx, network, address)
		return &stalling{Conn: c, stall: &stall}, err
	}
	cfg.DialTimeout = time.Second
	c := connTo(t, d, cfg)
	_ = c.Close()
	stall.Store(true)
	c = connTo(t, d, cfg)
	stall.Store(true)
	var r record
	err := c.Run(t.Context(), transport.Batch{Steps: steps(1)}, func(e transport.Event) { r.sink(e) })
	if err != nil {
		t.Fatal(err)
	}
	accepted(t, m, 2)
}

// stalling swallows what is written on connections that were open when stall
// was set.
type stalling struct {
	net.Conn
	stall *atomic.Bool
	n     int
}

func (s *stalling) Write(b []byte) (int, error) {
	if s.n++; s.n == 1 {
		s.stall.Store(false) // a new connection works
	}
	if s.stall.Load() {
		return len(b), nil
	}
	return s.Conn.Write(b)
}

func TestServerWithFewSessions(t *testing.T) {
	t.Parallel()
	m, d := machine(t, ""), dialer(t)
	if _, err := m.Shell(t.Context(), "sed -i 's/^MaxSessions.*/MaxSessions 1/' /etc/ssh/sshd_config"); err != nil {
		t.Fatal(err)
	}
	cfg := config(t, m, "root")
	cfg.Address = secondServer(t, m)
	a, b := connTo(t, d, cfg), connTo(t, d, cfg)
	for _, c := range []transport.Conn{a, b, a} {
		var r record
		if err := c.Run(t.Context(), transport.Batch{Steps: steps(1)}, r.sink); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDialerClosed(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	d := &Dialer{}
	c, err := d.Dial(t.Context(), config(t, m, "root"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	err = c.Run(t.Context(), transport.Batch{Steps: steps(1)}, func(transport.Event) { t.Error("an event") })
	if !transport.SafeToRetry(err) {
		t.Errorf("run on a closed dialer: %v", err)
	}
	if _, err := d.Dial(t.Context(), config(t, m, "root")); code(err) != "closed" {
		t.Errorf("dial on a closed dialer: %v", err)
	}
	_ = c.Close()
}

func TestRefusedSession(t *testing.T) {
	t.Parallel()
	_, hostKey := newKey(t, "")
	signer, err := parseKey(Auth{PrivateKey: secret.New(hostKey)})
	if err != nil {
		t.Fatal(err)
	}
	_, key := newKey(t, "")
	cfg := Config{Address: handshaker(t, []sshSigner{signer}), User: "x", Auth: Auth{PrivateKey: secret.New(key)}, HostKeys: HostKeys{Known: []string{describeFingerprint(signer)}}}
	err = connTo(t, dialer(t), cfg).Run(t.Context(), transport.Batch{Steps: steps(1)}, func(transport.Event) { t.Error("an event") })
	if code(err) != "exec.rejected" || !transport.SafeToRetry(err) || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("error is %q", err)
	}
}

// Wherever the connection breaks, Run ends, says so, and never claims that
// nothing was sent when the program may have run.
func TestFaultsAnywhere(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	base := config(t, m, "root")
	base.DialTimeout, base.StepTimeout, base.Keepalive = 2*time.Second, 2*time.Second, 400*time.Millisecond
	for at := int64(1); at < 6000; at += 397 {
		for kind, f := range map[string]transporttest.Fault{
			"cut": {CutAfter: at}, "stall": {StallAfter: at}, "corrupt": {CorruptAfter: at}, "cut writes": {CutWrites: at * 3},
		} {
			t.Run(fmt.Sprintf("%s at %d", kind, at), func(t *testing.T) {
				t.Parallel()
				d := dialer(t)
				d.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					var nd net.Dialer
					c, err := nd.DialContext(ctx, network, address)
					if err != nil {
						return nil, err
					}
					return transporttest.Faulty(c, f), nil
				}
				c, err := d.Dial(t.Context(), base)
				if err != nil {
					if !transport.SafeToRetry(err) {
						t.Errorf("dial: %v", err)
					}
					return
				}
				defer func() { _ = c.Close() }()
				var r record
				err = c.Run(t.Context(), transport.Batch{ID: "x-1", Steps: []transport.Step{sh(1, "echo a; echo b >&2"), sh(2, "echo c")}}, r.sink)
				te, ok := errors.AsType[*transport.Error](err)
				switch {
				case err == nil:
					if got := r.trace(); got != "B1; E1 rc=0; B2; E2 rc=0" {
						t.Errorf("no error and events %s", got)
					}
				case !ok:
					t.Errorf("error is %T", err)
				case te.SafeToRetry && r.trace() != "":
					t.Errorf("%v claims that nothing was sent; events %s", err, r.trace())
				}
			})
		}
	}
}
