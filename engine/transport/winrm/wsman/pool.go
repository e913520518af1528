package wsman

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"runner/engine/transport"
	"runner/engine/transport/winrm/wsman/wire"
)

// Limits of the connections to one host.
const (
	maxConns = 16 // a Receive that waits holds one
	// idleTTL is shorter than what hosts allow: after about two minutes they end
	// connections whose messages are sealed.
	idleTTL = 90 * time.Second
	// renewal is how long before the end of its login a connection is not used
	// any more.
	renewal = 2 * time.Minute
)

// pool is the connections to one host.
type pool struct {
	cfg wire.Config

	mu    sync.Mutex
	turns chan struct{} // one for each connection that may be in use
	idle  []*idleConn   // used last comes last
	using sync.WaitGroup
}

type idleConn struct {
	*wire.Conn
	timer *time.Timer
}

// do sends a message on a connection that is free, or on a new one. A message of
// which nothing was written, because the connection had ended while it was idle,
// goes over the next one; no other is sent again.
func (p *pool) do(ctx context.Context, phase transport.Phase, limit time.Duration, soap []byte) (wire.Reply, *wire.Conn, error) {
	if err := p.turn(ctx); err != nil {
		return wire.Reply{}, nil, &transport.Error{Phase: phase, Device: p.cfg.Address, Code: "cancelled", SafeToRetry: true, Step: -1, Err: err}
	}
	defer func() { <-p.turns }()
	for {
		c, used := p.take(time.Now())
		if c == nil {
			var err error
			if c, err = wire.Open(ctx, p.cfg); err != nil {
				return wire.Reply{}, nil, err
			}
		}
		reply, err := c.Do(ctx, phase, limit, soap)
		if err == nil {
			p.put(c)
			return reply, c, nil
		}
		_ = c.Close()
		if !used || ctx.Err() != nil || !idleDeath(err) {
			return wire.Reply{}, nil, err
		}
	}
}

// idleDeath reports whether nothing was wrong but the connection.
func idleDeath(err error) bool {
	e, is := errors.AsType[*transport.Error](err)
	return is && e.SafeToRetry && e.Code == "http.lost"
}

// turn waits until one more connection may be used.
func (p *pool) turn(ctx context.Context) error {
	p.mu.Lock()
	if p.turns == nil {
		p.turns = make(chan struct{}, maxConns)
	}
	turns := p.turns
	p.mu.Unlock()
	select {
	case turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// take returns the connection that was used last and still lives, or nil.
func (p *pool) take(now time.Time) (*wire.Conn, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		i := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if i.timer.Stop() && i.Usable(now.Add(renewal)) {
			return i.Conn, true
		}
		p.using.Go(func() { _ = i.Close() })
	}
	return nil, false
}

// put keeps a connection for a while.
func (p *pool) put(c *wire.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := &idleConn{Conn: c}
	i.timer = time.AfterFunc(idleTTL, func() { p.expire(i) })
	p.idle = append(p.idle, i)
}

// expire ends a connection that nobody came back to.
func (p *pool) expire(i *idleConn) {
	p.mu.Lock()
	at := slices.Index(p.idle, i)
	if at >= 0 {
		p.idle = slices.Delete(p.idle, at, at+1)
	}
	p.mu.Unlock()
	if at >= 0 {
		_ = i.Close()
	}
}

// drain ends the connections that nobody uses, and waits until they are gone.
func (p *pool) drain() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, i := range idle {
		i.timer.Stop()
		_ = i.Close()
	}
	p.using.Wait()
}
