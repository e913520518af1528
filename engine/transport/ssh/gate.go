package ssh

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// loginWrite is which write after the host key was accepted begins the login: the
// first ends the key exchange (NEWKEYS, RFC 4253 section 7.3), the second asks for
// the login service (RFC 4253 section 10), the third names the account (RFC 4252
// section 5). A server looks the account up at the third.
const loginWrite = 3

// gate keeps a connection from naming its account until that is there.
type gate struct {
	open    chan struct{} // closed when the login may begin
	opening sync.Once

	mu      sync.Mutex
	late    *time.Timer // ends an attempt that takes too long
	limit   time.Duration
	waiting bool
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

// pass lets the login begin.
func (g *gate) pass() {
	g.opening.Do(func() {
		g.mu.Lock()
		if g.waiting && g.late != nil {
			g.late.Reset(g.limit)
		}
		g.mu.Unlock()
		close(g.open)
	})
}

// within bounds an attempt to log in; the time at the gate does not count.
func (g *gate) within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if g == nil {
		return context.WithTimeout(ctx, limit)
	}
	ctx, cancel := context.WithCancel(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit, g.late = limit, time.AfterFunc(limit, cancel)
	return ctx, cancel
}

// wait returns when the login may begin, or with ended.
func (g *gate) wait(ended <-chan struct{}) {
	select {
	case <-g.open:
		return
	default:
	}
	g.mu.Lock()
	g.waiting = true
	g.late.Stop()
	g.mu.Unlock()
	select {
	case <-g.open:
	case <-ended:
	}
}

// gated counts what is sent on one connection.
type gated struct {
	gate  *gate
	known atomic.Bool // the host key was accepted
	sent  atomic.Int32
	ended chan struct{}
	once  sync.Once
}

// before is called before each write.
func (g *gated) before() {
	if g != nil && g.known.Load() && g.sent.Add(1) == loginWrite {
		g.gate.wait(g.ended)
	}
}

// accepted notes that the host is the right one.
func (g *gated) accepted() {
	if g != nil {
		g.known.Store(true)
	}
}

func (g *gated) close() {
	if g != nil {
		g.once.Do(func() { close(g.ended) })
	}
}
