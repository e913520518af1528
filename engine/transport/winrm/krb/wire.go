package krb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"

	"runner/engine/transport"
)

// How long a KDC is waited for.
const (
	waitUDP  = time.Second      // datagrams get lost, TCP is tried next
	waitDial = 5 * time.Second  // for a connection
	waitTCP  = 10 * time.Second // for an answer on it
	maxUDP   = 1400             // bytes of a request: what fits a packet anywhere
)

// kdc is the KDC that answered.
type kdc struct {
	addr string
	mute bool // not over UDP
}

// exchange asks the KDCs of a realm one after the other, each over UDP and then over
// TCP, until one answers. Asking again must do no harm.
func (c *Client) exchange(ctx context.Context, realm string, msg []byte) ([]byte, error) {
	addrs, err := c.locate(ctx, realm)
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, addr := range addrs {
		b, err := c.askKDC(ctx, realm, addr, msg)
		if err == nil {
			if a, ok := ReadError(b); !ok || a.Number != errorcode.KDC_ERR_SVC_UNAVAILABLE || addr == addrs[len(addrs)-1] {
				return b, nil
			}
			err = fmt.Errorf("%s: it is out of service", addr)
		}
		if ctx.Err() != nil {
			return nil, cancelled(ctx, "the KDC "+addr+" of "+realm)
		}
		failed = append(failed, err)
	}
	return nil, unreachable(realm, failed)
}

func (c *Client) askKDC(ctx context.Context, realm, addr string, msg []byte) ([]byte, error) {
	c.mu.Lock()
	mute := c.last[realm] == kdc{addr, true}
	c.mu.Unlock()
	var first error
	if c.connector() == nil && !mute && len(msg) <= maxUDP {
		b, _, err := c.ask(ctx, realm, "udp", addr, msg)
		if a, ok := ReadError(b); err == nil && (!ok || a.Number != errorcode.KRB_ERR_RESPONSE_TOO_BIG) {
			c.answered(realm, addr, false)
			return b, nil
		}
		if first = err; ctx.Err() != nil {
			return nil, first
		}
	}
	b, _, err := c.ask(ctx, realm, "tcp", addr, msg)
	if err == nil {
		c.answered(realm, addr, true)
		return b, nil
	}
	return nil, errors.Join(first, err)
}

// once asks a KDC something that must not be asked twice: with a wrong password each
// time is an attempt. TCP comes first, since there it is known whether anything was
// sent; another KDC is asked only while nothing was.
func (c *Client) once(ctx context.Context, realm string, msg []byte) ([]byte, error) {
	addrs, err := c.locate(ctx, realm)
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, addr := range addrs {
		for _, network := range []string{"tcp", "udp"} {
			if network == "udp" && (c.connector() != nil || len(msg) > maxUDP) {
				continue
			}
			b, sent, err := c.ask(ctx, realm, network, addr, msg)
			switch {
			case err == nil:
				return b, nil
			case sent:
				return nil, &Error{
					Phase: transport.PhaseDial, Code: "kdc.unreachable", Err: fmt.Errorf("no answer to a login: %w", err),
					Hint: "it is not tried again by itself, so that the account is not locked if the password is wrong",
				}
			case ctx.Err() != nil:
				return nil, cancelled(ctx, "the KDC "+addr+" of "+realm)
			}
			failed = append(failed, err)
		}
	}
	return nil, unreachable(realm, failed)
}

func (c *Client) answered(realm, addr string, mute bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last[realm] = kdc{addr, mute}
}

func unreachable(realm string, failed []error) *Error {
	var all []string
	for _, err := range failed {
		all = append(all, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return &Error{
		Phase: transport.PhaseDial, Code: "kdc.unreachable",
		Err:  fmt.Errorf("no KDC of %s answers: %s", realm, strings.Join(all, "; ")),
		Hint: "open port 88 (TCP and UDP) to the domain controllers, or name others by kdcs in the inventory",
	}
}

// ask sends msg to one KDC once. sent is false when nothing left this machine.
func (c *Client) ask(ctx context.Context, realm, network, addr string, msg []byte) (b []byte, sent bool, err error) {
	start := time.Now()
	limit := waitTCP
	if network == "udp" {
		limit = waitUDP
	}
	defer func() {
		e := Event{What: "ask", Realm: realm, KDC: addr, Network: network, Took: time.Since(start), Err: err}
		if a, ok := ReadError(b); ok && a.Number != errorcode.KDC_ERR_PREAUTH_REQUIRED && a.Number != errorcode.KRB_ERR_RESPONSE_TOO_BIG {
			e.Err = a
		}
		trace(ctx, e)
	}()
	nc, err := c.dial(ctx, network, addr)
	if err != nil {
		return nil, false, plainError(ctx, addr, network, waitDial, err)
	}
	defer nc.Close()
	asking, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(asking, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })()
	if network == "udp" {
		b, err = talkUDP(nc, msg)
	} else {
		b, err = talkTCP(nc, msg)
	}
	if err != nil {
		return nil, true, plainError(ctx, addr, network, limit, err)
	}
	return b, true, nil
}

// connector is what carries our connections, or nil.
func (c *Client) connector() func(ctx context.Context, network, address string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cfg.Dial
}

func (c *Client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, waitDial)
	defer cancel()
	if through := c.connector(); through != nil {
		return through(ctx, network, addr)
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// plainError says in words what the net package says in operations and addresses.
func plainError(ctx context.Context, addr, network string, limit time.Duration, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s (%s): no answer within %s", addr, network, limit)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return fmt.Errorf("%s (%s): %w", addr, network, err)
}

func talkUDP(nc net.Conn, msg []byte) ([]byte, error) {
	if _, err := nc.Write(msg); err != nil {
		return nil, err
	}
	b := make([]byte, 64<<10)
	n, err := nc.Read(b)
	return b[:n], err
}

// talkTCP puts the length before a message (RFC 4120 section 7.2.2).
func talkTCP(nc net.Conn, msg []byte) ([]byte, error) {
	if _, err := nc.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(msg))), msg...)); err != nil { //nolint:gosec // our own request
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(nc, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxAnswer {
		return nil, fmt.Errorf("it announces an answer of %d bytes, the most is %d", n, maxAnswer)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(nc, b)
	return b, err
}
