package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"

	"runner/engine/transport"
)

// errLate is the cause of a deadline of our own.
var errLate = errors.New("no answer in time")

// late words err with the deadline that it may come from.
func (c Config) late(ctx context.Context, phase transport.Phase, err error) error {
	if ctx.Err() != nil {
		return c.fail(phase, "cancelled", context.Cause(ctx), "")
	}
	if errors.Is(err, errLate) {
		return c.fail(phase, "dial.timeout", fmt.Errorf("no answer within %s: %w", c.DialTimeout, context.DeadlineExceeded), "a firewall that drops packets, or a host that is overloaded")
	}
	return err
}

func (c Config) dialError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return c.late(ctx, transport.PhaseDial, err)
	}
	if e, is := errors.AsType[*transport.Error](err); is { // of a connector
		return e
	}
	if e, is := errors.AsType[*net.DNSError](err); is && !e.IsTimeout {
		return c.fail(transport.PhaseResolve, "dial.resolve", fmt.Errorf("the name %q is not known", Clean(e.Name, 200)), "check the address of the device and the name servers of this machine")
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return c.late(ctx, transport.PhaseDial, errLate)
	case errors.Is(err, syscall.ECONNREFUSED):
		return c.fail(transport.PhaseDial, "dial.refused", errors.New("nothing listens on this port"), "winrm quickconfig on the host makes the listener; HTTP is port 5985 and HTTPS 5986 unless changed")
	}
	return c.fail(transport.PhaseDial, "dial.unreachable", errors.New(Clean(err.Error(), 300)), "is the host up, and does the firewall let this machine through?")
}

// lost words the end of a connection in the middle of a request.
func (c *Conn) lost(ctx context.Context, phase transport.Phase, err error, unsent bool) error {
	e := c.cfg.fail(phase, "http.lost", fmt.Errorf("the connection ended before the answer: %s", Clean(err.Error(), 200)), "the service was restarted, the host rebooted, or something on the way cut the connection")
	e.SafeToRetry = unsent
	switch {
	case ctx.Err() != nil:
		e.Code, e.Err, e.Hint = "cancelled", context.Cause(ctx), ""
		if errors.Is(e.Err, errLate) {
			e.Code, e.Err = "http.timeout", fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
			e.Hint = "the port is open and nobody answers: is it WinRM's, and is the host overloaded?"
		}
	case errors.Is(err, errTooMuch):
		e.Code, e.Err, e.Hint = "http.giant", fmt.Errorf("%w: more than %d bytes", errTooMuch, c.cfg.MaxAnswer), ""
	case errors.Is(err, errHTTP):
		e.Code, e.Err, e.Hint = "http.form", err, "is this the WinRM port of the device?"
	}
	return e
}

// refused words an answer that is not SOAP.
func (c *Conn) refused(phase transport.Phase, a *answer) error {
	said := Clean(string(a.body[:min(len(a.body), 2000)]), 200)
	if said != "" {
		said = ": " + said
	}
	e := c.cfg.fail(phase, "http.status", fmt.Errorf("the host answered HTTP %d%s", a.status, said), "")
	e.SafeToRetry = phase == transport.PhaseAuth
	switch a.status {
	case http.StatusUnauthorized:
		if c.basic != "" {
			_, offered := challenge(a.header, "Basic")
			return c.denied(offered, false)
		}
		e.Code, e.Err, e.Hint = "auth.forgotten", errors.New("the host does not accept the login of this connection any more"), "the ticket expired, or something on the way moved the connection to another host"
	case http.StatusForbidden:
		e.Code, e.Hint = "auth.forbidden", "a firewall or proxy answers, or the IP filter of the listener (winrm get winrm/config/service) leaves this machine out"
	case http.StatusNotFound:
		e.Code, e.Hint = "http.not_found", "this is a web server, but not WinRM: check the port"
	case http.StatusServiceUnavailable:
		e.Code, e.Hint = "http.unavailable", "the WinRM service is starting, stopping or overloaded"
	case http.StatusBadRequest:
		e.Code, e.Hint = "http.bad_request", "the host could not read the sealed message: its log Microsoft-Windows-WinRM/Operational has the reason"
	case http.StatusProxyAuthRequired:
		e.Code, e.Hint = "http.proxy", "a proxy answers: runner uses none"
	case http.StatusOK, http.StatusInternalServerError:
		switch {
		case c.sealed && len(a.body) > 0:
			e.Code, e.Err = "seal.missing", fmt.Errorf("the answer is not sealed, so that anybody may have written it%s", said)
			e.Hint = "something on the way answers, or the host could not read the request"
		case c.sealed:
			e.Code, e.Hint = "http.empty", "the host could not read the sealed message: its log Microsoft-Windows-WinRM/Operational has the reason"
		default:
			e.Code, e.Hint = "http.empty", "this is not an answer of WinRM: check the port"
		}
	}
	return e
}

// Clean returns at most limit bytes of what a peer said, on one line and without
// control characters, for use in errors.
func Clean(s string, limit int) string {
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))), " ")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
