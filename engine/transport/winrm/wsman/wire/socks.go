package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/net/proxy"

	"runner/engine/transport"
)

// SOCKS5 dials through the proxy at host:port, which resolves the names. Errors
// are *transport.Error: nothing reached the device.
func SOCKS5(address string) DialFunc {
	return func(ctx context.Context, network, to string) (net.Conn, error) {
		met := &forward{}
		d, err := proxy.SOCKS5(network, address, nil, met)
		if err != nil {
			return nil, err
		}
		through, is := d.(proxy.ContextDialer)
		if !is {
			return nil, errors.New("the SOCKS5 client knows no deadlines")
		}
		c, err := through.DialContext(ctx, network, to)
		if err == nil || ctx.Err() != nil {
			return c, err
		}
		e := &transport.Error{
			Phase: transport.PhaseDial, Device: to, Code: "dial.proxy_refused", SafeToRetry: true, Step: -1, Err: errors.New(said(err)),
			Hint: "the SOCKS5 proxy at " + address + " answers, but does not reach the device: its rules, its name servers and its route decide",
		}
		if !met.ok {
			e.Code, e.Hint = "dial.proxy", "is the SOCKS5 proxy at "+address+" up, and is this its address?"
			e.Err = fmt.Errorf("the SOCKS5 proxy at %s does not answer: %s", address, Clean(met.err.Error(), 200))
		}
		return nil, e
	}
}

// said is the reason that the proxy gave.
func said(err error) string {
	if oe, is := errors.AsType[*net.OpError](err); is && oe.Err != nil {
		err = oe.Err
	}
	return "the SOCKS5 proxy says: " + strings.TrimPrefix(Clean(err.Error(), 200), "unknown error ")
}

// forward dials the proxy itself, and notes whether that worked.
type forward struct {
	ok  bool
	err error
}

func (f *forward) Dial(network, address string) (net.Conn, error) {
	return f.DialContext(context.Background(), network, address)
}

// DialContext dials.
func (f *forward) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	f.ok, f.err = err == nil, err
	return c, err
}
