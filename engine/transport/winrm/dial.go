package winrm

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"sync"
	"time"

	"runner/engine/transport"
	"runner/engine/transport/winrm/psrp"
	"runner/engine/transport/winrm/runspace"
)

// Defaults of a Config's and a Dialer's zero values.
const (
	DefaultDialTimeout = 30 * time.Second
	DefaultStepTimeout = 60 * time.Second
	DefaultMaxOutput   = 256 << 20
	DefaultRunspaces   = 4
	DefaultIdleTTL     = 60 * time.Second
)

// Config says what to use on a device and within which limits. How to get there
// and who to be is the business of Device.
type Config struct {
	Device  Device
	Address string // host:port, for messages
	Shell   string // ShellPSRP (also when empty) or ShellCmd
	User    string // login account, for messages and batches that name theirs

	DialTimeout time.Duration // until the pool is open; 0: 30 s
	StepTimeout time.Duration // of a step that has none; 0: 60 s
	MaxOutput   int64         // bytes that a step may write in all; 0: 256 MiB
	Runspaces   int           // pipelines at the same time; 0: 4
	MaxEnvelope int           // bytes, where the host's MaxEnvelopeSizekb is known; 0: what every host takes
}

// Device is a host as one identity on one endpoint sees it.
type Device interface {
	runspace.Opener
	// Key identifies host, identity and endpoint: two devices of one key may
	// share a pool. It holds no secret.
	Key() string
	// Peer says who answered. It is asked after a shell was opened.
	Peer() transport.Peer
	// Release ends the connections that nobody uses any more.
	Release()
}

func (c Config) withDefaults() Config {
	if c.DialTimeout <= 0 {
		c.DialTimeout = DefaultDialTimeout
	}
	if c.StepTimeout <= 0 {
		c.StepTimeout = DefaultStepTimeout
	}
	if c.MaxOutput <= 0 {
		c.MaxOutput = DefaultMaxOutput
	}
	if c.Runspaces <= 0 {
		c.Runspaces = DefaultRunspaces
	}
	return c
}

// fail returns an error from before anything was sent that could change the device.
func (c Config) fail(p transport.Phase, code string, err error, hint string) *transport.Error {
	return &transport.Error{Phase: p, Device: c.Address, Code: code, SafeToRetry: true, Step: -1, Err: err, Hint: hint}
}

// Dialer keeps runspace pools: one for each device, identity and endpoint. Its
// zero value is ready. Close ends them.
type Dialer struct {
	// IdleTTL is how long a pool that nobody uses is kept; 0: a minute.
	IdleTTL time.Duration

	mu     sync.Mutex
	closed bool
	pools  map[string]*entry // that take more work
	open   map[*entry]bool   // that are not finished
	wg     sync.WaitGroup
	key    keyOnce
}

// keyOnce makes the key pair that protects session keys: one for all pools, the
// first time that a secret has to travel.
type keyOnce struct {
	once sync.Once
	key  *rsa.PrivateKey
	err  error
}

func (k *keyOnce) get() (*rsa.PrivateKey, error) {
	k.once.Do(func() { k.key, k.err = rsa.GenerateKey(rand.Reader, psrp.KeyBits) })
	return k.key, k.err
}

// entry is a pool. What is below ready is guarded by the Dialer's mutex; pool,
// close, peer and err are set before ready is closed.
type entry struct {
	key    string
	device Device
	pool   *runspace.Pool
	close  func() // tells the device that the pool is not wanted any more
	peer   transport.Peer
	err    error
	ready  chan struct{}

	uses int
	idle *time.Timer
}

// Dial returns a connection to the device, on a pool that is open already if
// there is one. The caller closes it. The error is a *transport.Error.
func (d *Dialer) Dial(ctx context.Context, cfg Config) (transport.Conn, error) {
	cfg = cfg.withDefaults()
	if cfg.Shell == ShellCmd {
		return d.dialCmd(ctx, cfg)
	}
	e, err := d.acquire(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &conn{d: d, cfg: cfg, e: e, peer: e.peer}, nil
}

// acquire reserves a place on a pool, opening it when there is none. Who comes
// while another opens it waits for that one.
func (d *Dialer) acquire(ctx context.Context, cfg Config) (*entry, error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, cfg.fail(transport.PhaseDial, "closed", errors.New("the dialer is closed"), "")
	}
	key := cfg.Device.Key()
	e := d.pools[key]
	if e != nil && e.useless() {
		if d.drop(e); e.uses == 0 {
			d.finish(e)
		}
		e = nil
	}
	if e == nil {
		e = &entry{key: key, device: cfg.Device, ready: make(chan struct{})}
		if d.pools == nil {
			d.pools, d.open = map[string]*entry{}, map[*entry]bool{}
		}
		d.pools[key], d.open[e] = e, true
		d.wg.Go(func() { d.start(context.WithoutCancel(ctx), cfg, e) })
	}
	e.uses++
	if e.idle != nil {
		e.idle.Stop()
		e.idle = nil
	}
	d.mu.Unlock()
	select {
	case <-e.ready:
	case <-ctx.Done():
		d.release(e)
		return nil, cfg.fail(transport.PhaseDial, "cancelled", ctx.Err(), "")
	}
	if e.err != nil {
		d.release(e)
		return nil, cfg.opening(e.err)
	}
	return e, nil
}

// useless reports whether e was opened and can take no more work. The mutex is held.
func (e *entry) useless() bool {
	select {
	case <-e.ready:
		return e.err != nil || e.pool.Err() != nil
	default:
		return false
	}
}

// start opens the pool of e. It does not end with whoever came first: others may
// wait for it.
func (d *Dialer) start(ctx context.Context, cfg Config, e *entry) {
	defer close(e.ready)
	opening, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	e.pool, e.err = runspace.Open(opening, cfg.Device, runspace.Config{Max: cfg.Runspaces, Key: d.key.get, MaxEnvelope: cfg.MaxEnvelope})
	if e.err == nil {
		e.peer = cfg.Device.Peer()
		e.close = func() { _ = e.pool.Close(ctx) }
	}
}

// opening explains why no pool was opened.
func (c Config) opening(err error) error {
	if te, is := errors.AsType[*transport.Error](err); is {
		e := *te
		e.Step, e.SafeToRetry = -1, true // a shell changes nothing that lasts
		return &e
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return c.fail(transport.PhaseDial, "dial.timeout", fmt.Errorf("no runspace pool within %s", c.DialTimeout), "")
	}
	return c.fail(transport.PhaseExec, "exec.open", fmt.Errorf("open a runspace pool: %w", err), "")
}

// drop keeps e from taking more work. The mutex is held.
func (d *Dialer) drop(e *entry) {
	if d.pools[e.key] == e {
		delete(d.pools, e.key)
	}
}

// release gives a place on e back. The last one closes what is of no use, and
// has the rest closed later.
func (d *Dialer) release(e *entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.uses--; e.uses > 0 || !d.open[e] {
		return
	}
	if d.pools[e.key] != e || e.useless() {
		d.finish(e)
		return
	}
	ttl := d.IdleTTL
	if ttl <= 0 {
		ttl = DefaultIdleTTL
	}
	e.idle = time.AfterFunc(ttl, func() { d.expire(e) })
}

// expire closes a pool that nobody came back to.
func (d *Dialer) expire(e *entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.uses == 0 && d.open[e] {
		d.finish(e)
	}
}

// finish closes the pool of e beside what goes on. The mutex is held.
func (d *Dialer) finish(e *entry) {
	d.drop(e)
	delete(d.open, e)
	if e.idle != nil {
		e.idle.Stop()
	}
	d.wg.Go(func() {
		<-e.ready
		if e.close != nil {
			e.close()
		}
		e.device.Release()
	})
}

// Close closes every pool, also those in use, and waits until the devices were
// told. Later dials fail.
func (d *Dialer) Close() error {
	d.mu.Lock()
	d.closed = true
	for e := range d.open {
		d.finish(e)
	}
	d.mu.Unlock()
	d.wg.Wait()
	return nil
}
