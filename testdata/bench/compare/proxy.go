package main

import (
	"context"
	"net"
	"sync"
	"time"
)

// proxy carries TCP connections to one address as a network with a round-trip time
// would: half of it each way, and a whole one before the first byte, which stands for
// the handshake that the local side of the proxy answers at once. It never limits
// how much is under way.
type proxy struct {
	listener net.Listener
	target   string
	rtt      time.Duration
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(ctx context.Context, target string, rtt time.Duration) (*proxy, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, target: target, rtt: rtt}
	p.wg.Go(p.accept)
	return p, nil
}

// Addr returns where to connect to.
func (p *proxy) Addr() string { return p.listener.Addr().String() }

// Close ends all connections and waits for their goroutines.
func (p *proxy) Close() {
	p.listener.Close()
	p.mu.Lock()
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		opened := time.Now()
		far, err := net.Dial("tcp4", p.target)
		if err != nil {
			near.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, near, far)
		p.mu.Unlock()
		p.wg.Go(func() { p.carry(near, far, opened) })
		p.wg.Go(func() { p.carry(far, near, opened) })
	}
}

// chunk is bytes on their way and when they arrive; none means the end.
type chunk struct {
	bytes []byte
	due   time.Time
}

func (p *proxy) carry(from, to net.Conn, opened time.Time) {
	way := make(chan chunk, 1024)
	p.wg.Go(func() {
		defer close(way)
		for {
			buf := make([]byte, 32<<10)
			n, err := from.Read(buf)
			due := time.Now().Add(p.rtt / 2)
			if first := opened.Add(p.rtt); due.Before(first) {
				due = first
			}
			way <- chunk{buf[:n], due}
			if err != nil {
				return
			}
		}
	})
	timer := time.NewTimer(0)
	defer timer.Stop()
	var failed bool
	for c := range way { // also after a failed write: the reader must not block
		timer.Reset(time.Until(c.due))
		<-timer.C
		if len(c.bytes) > 0 && !failed {
			_, err := to.Write(c.bytes)
			failed = err != nil
		}
	}
	if t, ok := to.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
}
