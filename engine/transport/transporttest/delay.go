// Package transporttest holds what every transport is tested with: a suite of
// behaviours, network connections that fail on purpose, and a long way over
// loopback. It refuses to know a protocol.
package transporttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy on loopback that holds every byte for a fixed time in
// each direction. It keeps as much in flight as is sent, so a long distance
// costs round trips and not throughput.
type Proxy struct {
	Addr string // where it listens

	target string
	oneWay time.Duration
	ln     net.Listener
	mu     sync.Mutex
	open   map[net.Conn]bool
	frozen chan struct{} // closed while nothing passes
	turns  int
	wg     sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
}

// NewDelay starts a proxy in front of target. Close ends it.
func NewDelay(target string, oneWay time.Duration) (*Proxy, error) {
	ctx, cancel := context.WithCancel(context.Background())
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		cancel()
		return nil, fmt.Errorf("delay: %w", err)
	}
	p := &Proxy{Addr: ln.Addr().String(), target: target, oneWay: oneWay, ln: ln, open: map[net.Conn]bool{}, frozen: make(chan struct{}), ctx: ctx, cancel: cancel}
	p.wg.Go(p.serve)
	return p, nil
}

// DelayProxy starts a proxy that ends with the test.
func DelayProxy(tb testing.TB, target string, oneWay time.Duration) *Proxy {
	tb.Helper()
	p, err := NewDelay(target, oneWay)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.Close() })
	return p
}

// Turns returns how often the direction of the conversation has turned to the
// target so far, in all connections: the number of round trips that something
// waited for.
func (p *Proxy) Turns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.turns
}

// Freeze lets no byte pass from now on, as a network that has gone away does.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.frozen:
	default:
		close(p.frozen)
	}
}

// Cut resets every connection. New ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		_ = c.Close()
	}
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() error {
	p.cancel()
	err := p.ln.Close()
	p.Cut()
	p.wg.Wait()
	if err != nil {
		return fmt.Errorf("delay: %w", err)
	}
	return nil
}

func (p *Proxy) serve() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.join(c) })
	}
}

// track registers c for Cut, unless the proxy has ended.
func (p *Proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		_ = c.Close()
		return false
	}
	p.open[c] = true
	return true
}

func (p *Proxy) forget(cs ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range cs {
		delete(p.open, c)
		_ = c.Close()
	}
}

func (p *Proxy) join(near net.Conn) {
	var d net.Dialer
	far, err := d.DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		_ = near.Close()
		return
	}
	if !p.track(near) || !p.track(far) {
		p.forget(near, far)
		return
	}
	defer p.forget(near, far)
	var last struct {
		sync.Mutex
		fromFar bool
	}
	last.fromFar = true
	note := func(fromFar bool) {
		last.Lock()
		turned := last.fromFar && !fromFar
		last.fromFar = fromFar
		last.Unlock()
		if turned {
			p.mu.Lock()
			p.turns++
			p.mu.Unlock()
		}
	}
	var both sync.WaitGroup
	both.Go(func() { p.carry(far, near, func() { note(false) }) })
	both.Go(func() { p.carry(near, far, func() { note(true) }) })
	both.Wait()
}

// piece is what was read at once, and when it may go on.
type piece struct {
	b  []byte
	at time.Time
}

// carry copies src to dst, each piece late by oneWay.
func (p *Proxy) carry(dst, src net.Conn, note func()) {
	queue := make(chan piece, 4096)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(queue)
		buf := make([]byte, 64<<10)
		for {
			n, err := src.Read(buf)
			if n > 0 {
				note()
				select {
				case queue <- piece{append([]byte(nil), buf[:n]...), time.Now().Add(p.oneWay)}:
				case <-p.ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	defer reader.Wait()
	ok := true
	for it := range queue {
		if ok && !p.deliver(dst, it) {
			ok = false
			_ = src.Close()
		}
	}
	if t, is := dst.(*net.TCPConn); is && ok {
		_ = t.CloseWrite()
		return
	}
	_ = dst.Close()
}

func (p *Proxy) deliver(dst net.Conn, it piece) bool {
	if wait := time.Until(it.at); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-p.ctx.Done():
			return false
		}
	}
	select {
	case <-p.frozen:
		<-p.ctx.Done()
		return false
	default:
	}
	_, err := dst.Write(it.b)
	return err == nil
}

// Fault says where a connection fails.
type Fault struct {
	CutAfter     int64 // bytes read, then the connection ends; 0: never
	StallAfter   int64 // bytes read, then reads wait until Close; 0: never
	CorruptAfter int64 // the byte at this offset of what is read is changed; 0: never
	CutWrites    int64 // bytes written, then the connection ends; 0: never
}

// ErrCut is what a faulty connection says when it was cut.
var ErrCut = errors.New("transporttest: the connection was cut")

// Faulty returns c with f. It is safe for one reader and one writer.
func Faulty(c net.Conn, f Fault) net.Conn {
	return &faulty{Conn: c, f: f, closed: make(chan struct{})}
}

type faulty struct {
	net.Conn
	f             Fault
	read, written int64
	closed        chan struct{}
	once          sync.Once
}

func (c *faulty) Read(b []byte) (int, error) {
	if c.f.StallAfter > 0 && c.read >= c.f.StallAfter {
		<-c.closed
		return 0, net.ErrClosed
	}
	if c.f.CutAfter > 0 && c.read >= c.f.CutAfter {
		_ = c.Close()
		return 0, io.EOF
	}
	for _, limit := range []int64{c.f.StallAfter, c.f.CutAfter} {
		if room := limit - c.read; limit > 0 && room < int64(len(b)) {
			b = b[:room]
		}
	}
	n, err := c.Conn.Read(b)
	if at := c.f.CorruptAfter - c.read; c.f.CorruptAfter > 0 && at >= 0 && at < int64(n) {
		b[at] ^= 0x20
	}
	c.read += int64(n)
	return n, err
}

func (c *faulty) Write(b []byte) (int, error) {
	if c.f.CutWrites == 0 || c.written+int64(len(b)) <= c.f.CutWrites {
		n, err := c.Conn.Write(b)
		c.written += int64(n)
		return n, err
	}
	n, _ := c.Conn.Write(b[:max(0, c.f.CutWrites-c.written)])
	c.written += int64(n)
	_ = c.Close()
	return n, ErrCut
}

func (c *faulty) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
