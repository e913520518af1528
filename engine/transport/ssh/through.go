package ssh

import (
	"context"
	"net"
	"sync"
	"time"
)

// Through returns a function that connects from the last of hops, outermost
// first: for what is not SSH itself, such as WinRM behind a jump host. Names are
// resolved there. Its connections keep those of the hops open until they are
// closed, and know deadlines by ending at them. Its errors are *transport.Error.
func (d *Dialer) Through(hops []Config) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		hop := hops[len(hops)-1].withDefaults()
		hop.Jump = hops[:len(hops)-1]
		e, err := d.tunnel(ctx, hop)
		if err != nil {
			return nil, err
		}
		c, err := e.client.DialContext(ctx, network, address)
		if err != nil {
			d.release(e, true)
			to := hop
			to.Address = address
			return nil, dialError(ctx, to, err)
		}
		return &tunnelled{Conn: c, done: func() { d.release(e, true) }}, nil
	}
}

// tunnelled is a connection through a hop.
type tunnelled struct {
	net.Conn
	once sync.Once
	done func()

	mu   sync.Mutex
	late *time.Timer
}

// Close ends the connection and gives the hop back.
func (t *tunnelled) Close() error {
	_ = t.SetDeadline(time.Time{})
	err := t.Conn.Close()
	t.once.Do(t.done)
	return err
}

// SetDeadline ends the connection at that time: a channel of SSH knows none.
func (t *tunnelled) SetDeadline(at time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.late != nil {
		t.late.Stop()
		t.late = nil
	}
	if !at.IsZero() {
		t.late = time.AfterFunc(time.Until(at), func() { _ = t.Conn.Close() })
	}
	return nil
}

// SetReadDeadline is SetDeadline.
func (t *tunnelled) SetReadDeadline(at time.Time) error { return t.SetDeadline(at) }

// SetWriteDeadline is SetDeadline.
func (t *tunnelled) SetWriteDeadline(at time.Time) error { return t.SetDeadline(at) }
