package krb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"runner/engine/transport"
)

// Bounds of what is asked where.
const (
	maxKDCs  = 16               // of a realm
	keepSRV  = 10 * time.Minute // what DNS said
	kdcPort  = "88"
	srvLimit = 5 * time.Second // for one question to DNS
)

// located is where the KDCs of a realm are.
type located struct {
	addrs  []string
	source string
	until  time.Time // zero: for ever
}

// locate lists the KDCs of a realm, the one that answered last first.
func (c *Client) locate(ctx context.Context, realm string) ([]string, error) {
	c.mu.Lock()
	l, ok := c.found[realm]
	last := c.last[realm]
	c.mu.Unlock()
	if !ok || !l.until.IsZero() && c.cfg.Clock().After(l.until) {
		var err error
		if l, err = c.search(ctx, realm); err != nil {
			return nil, err
		}
		c.mu.Lock()
		c.found[realm] = l
		c.mu.Unlock()
	}
	trace(ctx, Event{What: "kdcs", Realm: realm, KDCs: l.addrs, Source: l.source})
	addrs := slices.Clone(l.addrs)
	if i := slices.Index(addrs, last.addr); i > 0 {
		addrs = slices.Insert(slices.Delete(addrs, i, i+1), 0, last.addr)
	}
	return addrs, nil
}

func (c *Client) search(ctx context.Context, realm string) (located, error) {
	if realm == c.realm && len(c.cfg.KDCs) > 0 {
		return located{addrs: withPorts(c.cfg.KDCs), source: "given"}, nil
	}
	if kdcs := c.cfg.Conf.Realms[realm]; len(kdcs) > 0 {
		return located{addrs: withPorts(kdcs), source: "krb5.conf"}, nil
	}
	unknown := func(err error) (located, error) {
		return located{}, &Error{
			Phase: transport.PhaseResolve, Code: "kdc.unknown", Err: fmt.Errorf("no KDC of realm %s is known: %w", realm, err),
			Hint: "write kdcs in the inventory, or additional_information: {\"KDC\": \"host\"} at the device; the realm is the domain's DNS name",
		}
	}
	if c.cfg.Conf.NoDNS {
		return unknown(errors.New("krb5.conf says not to ask DNS"))
	}
	var last error
	for _, proto := range []string{"tcp", "udp"} {
		asking, cancel := context.WithTimeout(ctx, srvLimit)
		_, records, err := c.cfg.LookupSRV(asking, "kerberos", proto, strings.ToLower(realm))
		cancel()
		var addrs []string
		for _, r := range records {
			if host := strings.TrimSuffix(r.Target, "."); host != "" && len(addrs) < maxKDCs {
				addrs = append(addrs, net.JoinHostPort(host, strconv.Itoa(int(r.Port))))
			}
		}
		if len(addrs) > 0 {
			return located{addrs: addrs, source: "DNS", until: c.cfg.Clock().Add(keepSRV)}, nil
		}
		if last = err; err == nil {
			last = fmt.Errorf("DNS has no _kerberos._%s.%s", proto, strings.ToLower(realm))
		}
		if ctx.Err() != nil {
			return located{}, cancelled(ctx, "DNS for the KDCs of "+realm)
		}
	}
	return unknown(last)
}

func withPorts(hosts []string) []string {
	var addrs []string
	for _, h := range hosts[:min(len(hosts), maxKDCs)] {
		if _, _, err := net.SplitHostPort(h); err != nil {
			h = net.JoinHostPort(strings.Trim(h, "[]"), kdcPort)
		}
		addrs = append(addrs, h)
	}
	return addrs
}

func cancelled(ctx context.Context, what string) *Error {
	return &Error{Phase: transport.PhaseAuth, Code: "auth.cancelled", Err: fmt.Errorf("waiting for %s: %w", what, ctx.Err())}
}
