package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"runner/engine/transport"
)

// Limits of connections.
const (
	maxChannels = 8 // sessions per connection; sshd's MaxSessions is 10
	maxDials    = 4 // at once per host; sshd's MaxStartups begins to refuse at 10
	idleTTL     = 120 * time.Second
	maxBanner   = 4096
)

// Dialer opens connections and keeps them for a while. Connections are shared
// by Conns whose Configs are equal in everything that identifies a connection.
// The zero value is ready; it may be used from several goroutines. Close ends
// every connection.
type Dialer struct {
	// DialContext replaces net.Dialer; nil: TCP.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)

	// IdleTTL is how long a connection that nobody uses is kept; 0: 120 s.
	IdleTTL time.Duration

	once     sync.Once
	mu       sync.Mutex
	groups   map[string]*group        // by everything that identifies a connection
	hosts    map[string]chan struct{} // by address: running dials
	keySeed  []byte                   // makes pool keys useless to anybody else
	closed   bool
	learning sync.Mutex
	wg       sync.WaitGroup
}

// Dial returns a Conn to the device. It logs in unless a connection is at hand;
// the account change of Become happens with the first batch. Errors are
// *transport.Error: nothing that could change the device was sent.
// A failed login is never repeated, here or by callers: Phase is PhaseAuth.
func (d *Dialer) Dial(ctx context.Context, cfg Config) (transport.Conn, error) {
	cfg = cfg.withDefaults()
	e, reused, err := d.acquire(ctx, cfg, false)
	if err != nil {
		return nil, err
	}
	return &conn{d: d, cfg: cfg, ent: e, reused: reused, peer: e.peer, runs: map[string]*coordinator{}, tty: map[string]bool{}}, nil
}

// link is a logged-in connection.
type link struct {
	client *gossh.Client
	peer   transport.Peer
	banner string
}

// connect dials and logs in; via is the connection to come through, or nil.
func (d *Dialer) connect(ctx context.Context, cfg Config, via *entry) (*link, error) {
	l, err := newLogin(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer l.close()
	h, err := newHostKeys(cfg, &d.learning)
	if err != nil {
		return nil, err
	}
	return d.connectAs(ctx, cfg, via, h, l.next, func(err error) error { return l.explain(err) })
}

// connectAs dials until the host has a key type that decides. No login is
// attempted before the host key was accepted, so this repeats none.
func (d *Dialer) connectAs(ctx context.Context, cfg Config, via *entry, h *hostKeys, next gossh.ClientAuthCallback, explain func(error) error) (*link, error) {
	algos := h.algorithms()
	var first error
	for {
		lk, err := d.attempt(ctx, cfg, via, h, algos, next, explain)
		if err == nil {
			return lk, nil
		}
		te, _ := errors.AsType[*transport.Error](err)
		if first != nil && te != nil && te.Code == "hostkey.type" {
			return nil, first
		}
		rest := h.otherTypes(algos)
		if len(rest) == 0 || len(rest) == len(algos) {
			return nil, err
		}
		if first == nil {
			first = err
		}
		algos = rest
	}
}

// attempt makes one TCP connection, key exchange and login.
func (d *Dialer) attempt(ctx context.Context, cfg Config, via *entry, h *hostKeys, algos []string, next gossh.ClientAuthCallback, explain func(error) error) (*link, error) {
	outer := ctx
	ctx, cancel := cfg.hold.within(ctx, cfg.DialTimeout)
	defer cancel()
	raw, err := d.open(ctx, cfg, via)
	if err != nil {
		return nil, dialError(outer, cfg, err)
	}
	nc := &wire{Conn: raw, rearm: quickAck(raw)}
	if cfg.hold != nil {
		nc.gated = &gated{gate: cfg.hold, ended: make(chan struct{})}
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	lk := &link{}
	h.err, h.seen = nil, nil
	conf := &gossh.ClientConfig{
		User: cfg.User,
		HostKeyCallback: func(host string, addr net.Addr, key gossh.PublicKey) error {
			if err := h.check(host, addr, key); err != nil {
				return err
			}
			nc.gated.accepted()
			return nil
		},
		HostKeyAlgorithms: algos,
		ClientVersion:     "SSH-2.0-runner",
		BannerCallback: func(m string) error {
			if room := maxBanner - len(lk.banner); room > 0 {
				lk.banner += m[:min(len(m), room)]
			}
			return nil
		},
		AuthCallback: next,
	}
	cc, chans, reqs, err := gossh.NewClientConn(nc, cfg.Address, conf)
	if !stop() && err == nil {
		_ = cc.Close()
		err = ctx.Err()
	}
	if err != nil {
		return nil, handshakeError(outer, ctx, cfg, h, explain, err)
	}
	lk.client = gossh.NewClient(cc, chans, reqs)
	lk.peer = transport.Peer{Address: cfg.Address, Software: clean(string(cc.ServerVersion()), 255)}
	if h.seen != nil {
		lk.peer.Identity = gossh.FingerprintSHA256(h.seen)
	}
	return lk, nil
}

func (d *Dialer) open(ctx context.Context, cfg Config, via *entry) (net.Conn, error) {
	switch {
	case via != nil:
		return via.client.DialContext(ctx, "tcp", cfg.Address)
	case d.DialContext != nil:
		return d.DialContext(ctx, "tcp", cfg.Address)
	}
	var nd net.Dialer
	return nd.DialContext(ctx, "tcp", cfg.Address)
}

func dialError(outer context.Context, cfg Config, err error) error {
	if outer.Err() != nil {
		return cfg.fail(transport.PhaseDial, "cancelled", outer.Err(), "")
	}
	if oe, ok := errors.AsType[*gossh.OpenChannelError](err); ok {
		return cfg.fail(transport.PhaseDial, "dial.jump_refused", fmt.Errorf("the jump host refused to connect: %s (%s)", oe.Reason, clean(oe.Message, 200)),
			"check AllowTcpForwarding and the route on the jump host")
	}
	if de, ok := errors.AsType[*net.DNSError](err); ok {
		return cfg.fail(transport.PhaseResolve, "dial.resolve", de, "check the address of the device")
	}
	code := "dial.unreachable"
	if errors.Is(err, context.DeadlineExceeded) {
		code, err = "dial.timeout", fmt.Errorf("no answer within %s: %w", cfg.DialTimeout, context.DeadlineExceeded)
	}
	return cfg.fail(transport.PhaseDial, code, err, "is the device up, and is this its SSH port?")
}

// handshakeError says how far the connection came.
func handshakeError(outer, ctx context.Context, cfg Config, h *hostKeys, explain func(error) error, err error) error {
	phase := transport.PhaseDial
	if h.seen != nil {
		phase = transport.PhaseAuth
	}
	cause := errors.New(clean(strings.TrimPrefix(err.Error(), "ssh: handshake failed: "), 400))
	switch {
	case h.err != nil:
		return h.err
	case outer.Err() != nil:
		return cfg.fail(phase, "cancelled", outer.Err(), "")
	case ctx.Err() != nil:
		return cfg.fail(phase, "dial.timeout", fmt.Errorf("no end of the login within %s: %w", cfg.DialTimeout, context.DeadlineExceeded), "")
	case phase == transport.PhaseAuth && gone(err):
		return cfg.fail(phase, "auth.lost", fmt.Errorf("the connection ended during the login: %w", cause), "the log of the device's sshd says why")
	case phase == transport.PhaseAuth:
		return explain(err)
	}
	if ne, ok := errors.AsType[*gossh.AlgorithmNegotiationError](err); ok {
		if strings.Contains(ne.Error(), "host key") {
			known := &HostKeyError{Host: cfg.Address, Presented: "another type of key"}
			for _, k := range h.lines {
				known.Known = append(known.Known, describe(k))
			}
			for _, w := range h.want {
				known.Known = append(known.Known, describe(w.Key))
			}
			return cfg.fail(transport.PhaseHostKey, "hostkey.type", fmt.Errorf("the device has no host key of a known type: %w (%w)", known, cause),
				"add the device's present key after comparing it on its console")
		}
		return cfg.fail(phase, "dial.algorithms", cause, "the device's SSH software is too old, or restricted to algorithms that runner does not accept")
	}
	if gone(err) {
		return cfg.fail(phase, "dial.dropped", fmt.Errorf("the connection ended before the key exchange: %w", cause),
			"sshd drops connections beyond MaxStartups; a firewall or PerSourcePenalties can do it too")
	}
	return cfg.fail(phase, "dial.protocol", cause, "is this the SSH port of the device?")
}

// explain words a failed login.
func (l *login) explain(err error) error {
	tried := "nothing"
	if len(l.tried) > 0 {
		tried = strings.Join(l.tried, ", ")
	}
	said := errRefused
	switch {
	case l.failure != nil:
		said = fmt.Errorf("%w: %w", errRefused, l.failure)
	case !errors.Is(err, errRefused):
		said = fmt.Errorf("%w: %s", errRefused, clean(strings.TrimPrefix(err.Error(), "ssh: handshake failed: "), 300))
	}
	code, hint := "auth.refused", "check the account, its key or password and whether it is locked"
	if len(l.tried) == 0 {
		code, hint = "auth.no_method", "allow one of these in the inventory's methods and give the credential what it needs"
	}
	return l.cfg.fail(transport.PhaseAuth, code,
		fmt.Errorf("%w (user %s; tried %s; the device accepts %s)", said, clean(l.cfg.User, 64), tried, clean(strings.Join(l.offered, ", "), 200)), hint)
}

// gone says that err is the other side, or the way to it, going away.
func gone(err error) bool {
	_, network := errors.AsType[*net.OpError](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// wire is the network connection under SSH: it asks for quick acknowledgements,
// and stops at a gate.
type wire struct {
	net.Conn
	rearm func()
	gated *gated
}

func (w *wire) Write(p []byte) (int, error) {
	w.gated.before()
	return w.Conn.Write(p)
}

// Close ends the connection, also one that waits.
func (w *wire) Close() error {
	w.gated.close()
	return w.Conn.Close()
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err == nil {
		w.rearm()
	}
	return n, err
}
