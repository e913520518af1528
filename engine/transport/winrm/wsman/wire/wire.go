// Package wire is one authenticated connection to a WinRM listener: one TCP or
// TLS connection, one security context, one request at a time. It owns HTTP/1.1,
// sealed bodies, certificates and what a listener says that is not SOAP. It
// refuses proxies, redirects, plain bodies over plain HTTP, to send anything
// twice, and to know WS-Man.
package wire

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"runner/engine/secret"
	"runner/engine/transport"
	"runner/engine/transport/winrm/gss"
)

// Defaults and limits.
const (
	DefaultDialTimeout = 15 * time.Second
	maxHead            = 64 << 10 // bytes of an answer before its body
	maxLegs            = 4        // messages of one side in an authentication
	maxInterim         = 4        // 1xx answers before the real one
)

// DialFunc opens a connection to host:port.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Config says how to reach a listener and who to be there.
type Config struct {
	Address string // host:port to dial, through Dial
	Host    string // name of the host: for its service principal and its certificate; empty: that of Address
	Path    string // of the service; empty: /wsman
	TLS     *TLS   // nil: HTTP, with sealed bodies

	Mechanism gss.Mechanism // Kerberos or Negotiate; nil: Basic
	SPN       string        // see gss.Target
	Service   string        // see gss.Target
	Basic     *Basic        // only over TLS

	Dial        DialFunc      // nil: TCP
	DialTimeout time.Duration // of each: TCP, TLS, authentication; 0: 15 s
	MaxAnswer   int64         // bytes of a body; 0: 4 MiB
}

// Basic is a user name and password that the host sees.
type Basic struct {
	User     string
	Password secret.Value
}

// Reply is an answer in SOAP: of a request that was done, or a fault.
type Reply struct {
	Status int // 200 or 500
	Body   []byte
}

// Check says what is wrong with a configuration, or nil.
func (c Config) Check() error {
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return fmt.Errorf("address %q: write host:port", c.Address)
	}
	switch {
	case c.Mechanism == nil && c.Basic == nil:
		return fmt.Errorf("%s: there is nothing to log in with", c.Address)
	case c.Mechanism != nil && c.Basic != nil:
		return fmt.Errorf("%s: one way to log in, not two", c.Address)
	case c.Basic != nil && c.TLS == nil:
		return fmt.Errorf("%s: basic authentication sends the password as it is: only over https", c.Address)
	case c.TLS != nil:
		return c.TLS.check()
	}
	return nil
}

// withDefaults returns c with its zero values replaced.
func (c Config) withDefaults() Config {
	if c.Host == "" {
		c.Host, _, _ = net.SplitHostPort(c.Address)
	}
	if c.Path == "" {
		c.Path = "/wsman"
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Control: giveUp}).DialContext
	}
	if c.DialTimeout <= 0 {
		c.DialTimeout = DefaultDialTimeout
	}
	if c.MaxAnswer <= 0 {
		c.MaxAnswer = 4 << 20
	}
	return c
}

// fail is an error from before a request was sent.
func (c Config) fail(p transport.Phase, code string, err error, hint string) *transport.Error {
	return &transport.Error{Phase: p, Device: c.Address, Code: code, SafeToRetry: true, Step: -1, Err: err, Hint: hint}
}

// Open dials and logs in. ctx bounds that and not the connection, which the
// caller closes. The error is a *transport.Error; one of a login is never
// followed by another attempt.
func Open(ctx context.Context, cfg Config) (*Conn, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Check(); err != nil {
		return nil, cfg.fail(transport.PhaseDial, "dial.config", err, "")
	}
	raw, err := cfg.connect(ctx)
	if err != nil {
		return nil, err
	}
	nc := raw
	var binding []byte
	shown := ""
	if cfg.TLS != nil {
		tc, err := cfg.handshake(ctx, raw)
		if err != nil {
			_ = raw.Close()
			return nil, err
		}
		binding, shown, nc = endPoint(tc), fingerprint(tc), tc
	}
	c := newConn(cfg, raw, nc, shown)
	limited, cancel := context.WithTimeoutCause(ctx, cfg.DialTimeout, errLate)
	defer cancel()
	if err := c.login(limited, binding); err != nil {
		_ = c.Close()
		return nil, cfg.late(ctx, transport.PhaseAuth, err)
	}
	return c, nil
}

// connect opens the TCP connection.
func (c Config) connect(ctx context.Context) (net.Conn, error) {
	limited, cancel := context.WithTimeoutCause(ctx, c.DialTimeout, errLate)
	defer cancel()
	nc, err := c.Dial(limited, "tcp", c.Address)
	if err != nil {
		return nil, c.dialError(ctx, err)
	}
	return nc, nil
}

// handshake starts TLS. It ends by closing the connection when ctx ends, since
// not every connection knows deadlines.
func (c Config) handshake(ctx context.Context, nc net.Conn) (*tls.Conn, error) {
	limited, cancel := context.WithTimeoutCause(ctx, c.DialTimeout, errLate)
	defer cancel()
	stop := context.AfterFunc(limited, func() { _ = nc.Close() })
	defer stop()
	tc := tls.Client(nc, c.TLS.config(c.Host))
	if err := tc.HandshakeContext(limited); err != nil {
		if limited.Err() != nil {
			err = context.Cause(limited)
		}
		return nil, c.tlsError(ctx, err)
	}
	return tc, nil
}
