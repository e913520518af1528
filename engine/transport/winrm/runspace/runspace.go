// Package runspace keeps a runspace pool on a device: it drives the codec of
// psrp over a Shell, which somebody else brings. It owns opening, the exchange
// of keys, pipelines from start to last word, stopping them in time, and
// disconnecting. It refuses to know HTTP and authentication, what scripts are
// for, and to repeat anything that may have reached the device.
package runspace

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"sync"
	"time"

	"runner/engine/transport/winrm/clixml"
	"runner/engine/transport/winrm/psrp"
)

// Opener makes shells on one device.
type Opener interface {
	// Open creates a shell with that id for the runspace pool that creationXML
	// describes ([MS-WSMV] 3.1.4.5.2). Its error is from before or after the
	// device made the shell; only the Opener can tell.
	Open(ctx context.Context, id string, creationXML []byte) (Shell, error)
}

// Shell is a shell on a device. Every call is made at most once. Several calls
// may be made at the same time; a Receive that waits keeps none of the others
// waiting. After the context of a call has ended, what became of it is not
// known.
type Shell interface {
	// Command creates the command with that id ([MS-WSMV] 3.1.4.11), with the
	// first packet as its argument. Its error wraps ErrGone when the device said
	// that there is no such shell (any more), and is a *transport.Error that is
	// safe to retry when nothing was sent.
	Command(ctx context.Context, id string, first []byte) error
	// Send writes a packet to a stream of a command, or of the shell ("").
	Send(ctx context.Context, command, stream string, packet []byte) error
	// Receive waits for output of a command, or of the shell (""), as long as
	// the device wants to wait. Nothing yet is an empty answer and no error.
	Receive(ctx context.Context, command string) (Received, error)
	// Signal sends SignalStop or SignalEnd to a command.
	Signal(ctx context.Context, command, signal string) error
	// Close deletes the shell and all that runs in it; calls that wait return.
	Close(ctx context.Context) error
}

// Parker is a Shell that can wait for its client ([MS-WSMV] 3.1.4.12 to 14).
type Parker interface {
	Disconnect(ctx context.Context) error
	Reconnect(ctx context.Context) error
}

// Received is a piece of output.
type Received struct {
	Data []byte
	Done bool // the command has ended: nothing more comes
}

// Signals of WS-Man for PowerShell's commands.
const (
	// SignalStop stops a pipeline, which then says its last words.
	SignalStop = "powershell/signal/ctrl_c"
	// SignalEnd frees what the device keeps of a pipeline.
	SignalEnd = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/signal/terminate"
)

// DefaultGrace is how long a device may take to stop a pipeline.
const DefaultGrace = 20 * time.Second

// Config describes a pool.
type Config struct {
	Min, Max int // runspaces; 0: 1
	// Key returns the key pair that protects the session key. It is called when
	// the first secret has to travel.
	Key func() (*rsa.PrivateKey, error)
	// Grace is how long stopping and closing may take; 0: DefaultGrace.
	Grace       time.Duration
	MaxEnvelope int // see psrp.ClientConfig
	MaxObject   int
}

// Pool is an open runspace pool. Its calls may be made by any goroutine.
type Pool struct {
	cfg   Config
	shell Shell
	slots chan struct{} // one for each pipeline that may run
	keys  chan struct{} // held by who exchanges keys
	work  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	client *psrp.Client
	server clixml.Dict
	closed bool
	broken error
}

// Error says why a pipeline did not come to a good end although it could be
// asked.
type Error struct {
	State  psrp.PipelineState // Failed or Stopped
	Record *psrp.ErrorRecord  // may be nil
}

// Error says what PowerShell says.
func (e *Error) Error() string {
	if e.Record == nil {
		return "the pipeline was " + e.State.String()
	}
	return e.Record.Text()
}

// NotStartedError says that the device was asked nothing: a repeat is safe.
type NotStartedError struct{ Err error }

// Error returns the cause.
func (e *NotStartedError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *NotStartedError) Unwrap() error { return e.Err }

// Open opens a pool. The caller closes it. After an error nothing is left on
// the device, unless the device could not be told any more.
func Open(ctx context.Context, o Opener, cfg Config) (*Pool, error) {
	if cfg.Grace <= 0 {
		cfg.Grace = DefaultGrace
	}
	c := psrp.NewClient(psrp.ClientConfig{Min: cfg.Min, Max: cfg.Max, MaxEnvelope: cfg.MaxEnvelope, MaxObject: cfg.MaxObject})
	_, most := c.Runspaces()
	p := &Pool{cfg: cfg, client: c, slots: make(chan struct{}, most), keys: make(chan struct{}, 1)}
	b, err := c.Open()
	if err != nil {
		return nil, err
	}
	if p.shell, err = o.Open(ctx, c.ID().String(), b); err != nil {
		return nil, err
	}
	err = p.await(ctx, func() bool { return c.State() == psrp.PoolOpened })
	if err != nil {
		return nil, errors.Join(err, p.Close(ctx))
	}
	return p, nil
}

// await reads the pool's own stream until done, which is asked under the lock.
func (p *Pool) await(ctx context.Context, done func() bool) error {
	for {
		p.mu.Lock()
		ok := done()
		p.mu.Unlock()
		if ok {
			return nil
		}
		got, err := p.shell.Receive(ctx, "")
		if err != nil {
			return p.fail(err)
		}
		events, err := p.take(clixml.GUID{}, got.Data)
		if err != nil {
			return err
		}
		for _, e := range events {
			switch e := e.(type) {
			case psrp.PrivateData:
				p.mu.Lock()
				p.server = e.Data
				p.mu.Unlock()
			case psrp.PoolChanged:
				if e.State == psrp.PoolBroken || e.State == psrp.PoolClosed {
					return p.fail(poolError(e))
				}
			case psrp.HostCalled:
				if err := p.refuse(ctx, e.Call); err != nil {
					return err
				}
			}
		}
		if got.Done {
			return p.fail(errors.New("the shell has ended"))
		}
	}
}

func poolError(e psrp.PoolChanged) error {
	if e.Err == nil {
		return fmt.Errorf("the runspace pool is %s", e.State)
	}
	return fmt.Errorf("the runspace pool is %s: %s", e.State, e.Err.Text())
}

// fail notes that the pool is of no use any more, and returns err.
func (p *Pool) fail(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken == nil {
		p.broken = err
	}
	return err
}

// Err returns why the pool can take no more work, or nil.
func (p *Pool) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.broken != nil:
		return p.broken
	case p.closed:
		return errClosed
	}
	return nil
}

// ErrGone says that the device does not know the shell: it was idle for too
// long, or the service was restarted. What was asked of it was not done.
var ErrGone = errors.New("the device does not know the shell any more")

var errClosed = errors.New("the runspace pool is closed")

// Server returns what the device tells about itself, such as PSVersion, or "".
func (p *Pool) Server(key string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	table, _ := clixml.Entries(p.server.Get("PSVersionTable"))
	return clixml.Text(table.Get(key))
}

// take hands bytes of a stream to the codec.
func (p *Pool) take(stream clixml.GUID, b []byte) ([]psrp.Event, error) {
	p.mu.Lock()
	events, err := p.client.Receive(stream, b)
	p.mu.Unlock()
	if err != nil {
		return nil, p.fail(err)
	}
	return events, nil
}

// send sends packets in order.
func (p *Pool) send(ctx context.Context, ps []psrp.Packet) error {
	for _, x := range ps {
		if err := p.shell.Send(ctx, command(x.Pipeline), x.Stream, x.Data); err != nil {
			return p.fail(err)
		}
	}
	return nil
}

// command is the name of a pipeline's command, or of the shell.
func command(id clixml.GUID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

// exchange makes sure that secrets can travel.
func (p *Pool) exchange(ctx context.Context) error {
	select {
	case p.keys <- struct{}{}:
		defer func() { <-p.keys }()
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	ready := p.client.HasKeys()
	p.mu.Unlock()
	if ready {
		return nil
	}
	if p.cfg.Key == nil {
		return errors.New("secrets cannot be sent: no key pair was given")
	}
	key, err := p.cfg.Key()
	if err != nil {
		return err
	}
	p.mu.Lock()
	ps, err := p.client.ExchangeKeys(key)
	p.mu.Unlock()
	if err != nil {
		return err
	}
	if err := p.send(ctx, ps); err != nil {
		return err
	}
	return p.await(ctx, func() bool { return p.client.HasKeys() })
}

// refuse answers a host call that waits for a person.
func (p *Pool) refuse(ctx context.Context, call psrp.HostCall) error {
	if !call.WantsAnswer() {
		return nil
	}
	p.mu.Lock()
	ps, err := p.client.Answer(call, nil, psrp.NotInteractive(call))
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return p.send(ctx, ps)
}

// Disconnect tells the device to keep the pool, and what runs in it, for later.
// It fails when the shell cannot do that.
func (p *Pool) Disconnect(ctx context.Context) error {
	return p.park(ctx, (*psrp.Client).Disconnect, Parker.Disconnect)
}

// Reconnect takes the pool up again.
func (p *Pool) Reconnect(ctx context.Context) error {
	return p.park(ctx, (*psrp.Client).Reconnect, Parker.Reconnect)
}

func (p *Pool) park(ctx context.Context, note func(*psrp.Client) error, tell func(Parker, context.Context) error) error {
	k, ok := p.shell.(Parker)
	if !ok {
		return errors.New("this shell cannot be disconnected")
	}
	p.mu.Lock()
	err := note(p.client)
	p.mu.Unlock()
	if err != nil {
		return err
	}
	if err := tell(k, ctx); err != nil {
		return p.fail(err)
	}
	return nil
}

// Close deletes the shell and waits for what the pool still does. It takes at
// most the grace, whatever became of ctx: a shell that stays counts against the
// quota of its user. Pipelines that run are lost.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.client.Close()
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.Grace)
	defer cancel()
	err := p.shell.Close(ctx)
	p.work.Wait()
	return err
}
