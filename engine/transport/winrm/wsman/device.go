package wsman

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"runner/engine/transport"
	"runner/engine/transport/winrm/cmdshell"
	"runner/engine/transport/winrm/runspace"
	"runner/engine/transport/winrm/wsman/envelope"
	"runner/engine/transport/winrm/wsman/wire"
)

// Defaults of a Config's zero values.
const (
	DefaultOperationTimeout = 20 * time.Second
	// grace is how much longer than OperationTimeout an answer may take: the way
	// there and back, a host under load.
	grace = 30 * time.Second
)

// Config says what to use on a host.
type Config struct {
	wire.Config

	// Identity tells logins of the same host apart: who and with which secret,
	// such as the id of a credential and its version. Devices of the same
	// address, endpoint and Identity share what they have open. It holds no
	// secret. Empty: shared with nobody.
	Identity string
	User     string // login account, for messages
	// Configuration is the session configuration (JEA endpoint); empty:
	// Microsoft.PowerShell.
	Configuration string
	// OperationTimeout is how long the host may wait for output before it says
	// that there is none yet; 0: 20 s.
	OperationTimeout time.Duration
	MaxEnvelope      int // bytes of an answer; 0: what every host takes
}

// Device is a host as one identity on one endpoint sees it. Its calls may be
// made by any goroutine.
type Device struct {
	cfg     Config
	key     string
	url     string
	session string
	conns   pool

	mu       sync.Mutex
	peer     transport.Peer
	tidying  sync.WaitGroup // shells being deleted of which nobody knows whether they exist
	software string
}

// New returns a device. Nothing is dialled yet. Release ends its connections.
func New(cfg Config) (*Device, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.OperationTimeout <= 0 {
		cfg.OperationTimeout = DefaultOperationTimeout
	}
	if cfg.MaxEnvelope <= 0 {
		cfg.MaxEnvelope = envelope.MinMaxEnvelope
	}
	if cfg.MaxEnvelope < 8192 || cfg.MaxEnvelope > 16<<20 {
		return nil, fmt.Errorf("an envelope of %d bytes: between 8192 and 16777216", cfg.MaxEnvelope)
	}
	if cfg.Configuration == "" {
		cfg.Configuration = "Microsoft.PowerShell"
	}
	if cfg.MaxAnswer <= 0 {
		cfg.MaxAnswer = max(4<<20, 2*int64(cfg.MaxEnvelope))
	}
	scheme := "http"
	if cfg.TLS != nil {
		scheme = "https"
	}
	path := cfg.Path
	if path == "" {
		path = "/wsman"
	}
	d := &Device{cfg: cfg, session: envelope.NewID(), conns: pool{cfg: cfg.Config}}
	d.url = scheme + "://" + cfg.Address + path
	identity := cfg.Identity
	if identity == "" {
		identity = d.session
	}
	d.key = strings.Join([]string{"winrm", d.url, cfg.Host, cfg.Configuration, identity}, "|")
	d.peer = transport.Peer{Address: cfg.Address}
	return d, nil
}

// Key identifies host, endpoint and identity.
func (d *Device) Key() string { return d.key }

// Peer says who answered. It is asked after a shell was opened.
func (d *Device) Peer() transport.Peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.peer
	if d.software != "" {
		p.Software = d.software
	}
	return p
}

// Release ends the connections that nobody uses and waits for shells that are
// being deleted.
func (d *Device) Release() {
	d.tidying.Wait()
	d.conns.drain()
}

// Identify asks what the host is; it needs a login, but no rights.
func (d *Device) Identify(ctx context.Context) (envelope.Product, error) {
	limit := d.cfg.DialTimeout
	if limit <= 0 {
		limit = wire.DefaultDialTimeout
	}
	a, err := d.call(ctx, transport.PhaseShell, limit, envelope.Identify(), "")
	if err != nil {
		return envelope.Product{}, err
	}
	if a.Product.Protocol == "" {
		return envelope.Product{}, d.fail(transport.PhaseShell, "http.form", errors.New("the host did not identify itself"), "is this the WinRM port of the device?")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.software = strings.TrimSpace(clean(a.Product.Vendor+" "+a.Product.Version, 200))
	return a.Product, nil
}

func (d *Device) client(resource string) envelope.Client {
	return envelope.Client{To: d.url, Resource: resource, Session: d.session, Timeout: d.cfg.OperationTimeout, MaxEnvelope: d.cfg.MaxEnvelope}
}

// Open creates a shell for a runspace pool.
func (d *Device) Open(ctx context.Context, id string, creationXML []byte) (runspace.Shell, error) {
	c := d.client(envelope.PowerShell + d.cfg.Configuration)
	a, err := d.Call(ctx, transport.PhaseShell, c.Create(id, creationXML), "CreateResponse")
	if err != nil {
		d.tidy(ctx, c, id, err)
		return nil, err
	}
	if a.ShellID == "" {
		a.ShellID = id
	}
	return newShell(d, c, a.ShellID), nil
}

// tidy deletes a shell of which it is not known whether it was made: the id is
// ours. Nobody waits for it but Release.
func (d *Device) tidy(ctx context.Context, c envelope.Client, id string, err error) {
	if f, is := errors.AsType[*envelope.FaultError](err); is && f.Refused() || transport.SafeToRetry(err) {
		return
	}
	d.tidying.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_, _ = d.Call(ctx, transport.PhaseShell, c.Delete(id), "DeleteResponse")
	})
}

// OpenCmd creates a cmd shell, for programs.
func (d *Device) OpenCmd(ctx context.Context) (*cmdshell.Shell, error) {
	return cmdshell.Open(ctx, d, d.url, d.cfg.OperationTimeout, d.cfg.MaxEnvelope)
}

// Call sends a message, once, and reads the answer, whose action ends in want.
func (d *Device) Call(ctx context.Context, phase transport.Phase, m envelope.Message, want string) (*envelope.Answer, error) {
	return d.call(ctx, phase, d.cfg.OperationTimeout+grace, m, want)
}

// call is Call within a time.
func (d *Device) call(ctx context.Context, phase transport.Phase, limit time.Duration, m envelope.Message, want string) (*envelope.Answer, error) {
	reply, c, err := d.conns.do(ctx, phase, limit, m.XML)
	if err != nil {
		return nil, err
	}
	d.met(c)
	a, err := envelope.Parse(reply.Body)
	if err != nil {
		return nil, d.lost(phase, "http.form", errors.New(clean(err.Error(), 300)))
	}
	switch {
	case a.Fault != nil:
		return a, d.fault(phase, a.Fault)
	case a.RelatesTo != "" && m.ID != "" && !strings.EqualFold(a.RelatesTo, m.ID):
		return nil, d.lost(phase, "http.form", errors.New("the answer belongs to another request"))
	case want != "" && !strings.HasSuffix(a.Action, "/"+want):
		return nil, d.lost(phase, "http.form", fmt.Errorf("the host answered with %q", clean(a.Action, 200)))
	}
	return a, nil
}

// met notes who answered.
func (d *Device) met(c *wire.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.peer.Identity = c.Peer()
	d.peer.Software = c.Server()
}

// fail is an error from before anything was sent.
func (d *Device) fail(p transport.Phase, code string, err error, hint string) *transport.Error {
	return &transport.Error{Phase: p, Device: d.cfg.Address, Code: code, SafeToRetry: true, Step: -1, Err: err, Hint: hint}
}

// lost is an error from after something was sent.
func (d *Device) lost(p transport.Phase, code string, err error) *transport.Error {
	return &transport.Error{Phase: p, Device: d.cfg.Address, Code: code, Step: -1, Err: err}
}

// name is the host without its port.
func (d *Device) name() string {
	if host, _, err := net.SplitHostPort(d.cfg.Address); err == nil {
		return host
	}
	return d.cfg.Address
}

func clean(s string, limit int) string { return wire.Clean(s, limit) }
