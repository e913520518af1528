package wire

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"runner/engine/transport"
	"runner/engine/transport/winrm/gss"
)

// login proves who we are, with empty bodies: a real one would be refused for
// being in the clear, or be sent to who did not prove anything yet.
func (c *Conn) login(ctx context.Context, binding []byte) error {
	if b := c.cfg.Basic; b != nil {
		c.basic = "Basic " + base64.StdEncoding.EncodeToString([]byte(b.User+":"+b.Password.Reveal()))
		return nil // the first request tells
	}
	m := c.cfg.Mechanism
	g, err := m.Initiate(ctx, gss.Target{Host: c.cfg.Host, Service: c.cfg.Service, SPN: c.cfg.SPN, Binding: binding, Confidential: c.cfg.TLS == nil})
	if err != nil {
		return c.security(transport.PhaseAuth, err, true)
	}
	var in []byte
	last := &answer{status: http.StatusOK}
	for range maxLegs {
		out, err := g.Next(in)
		switch {
		case err != nil:
			return c.unproven(binding, err)
		case g.Done() && len(out) == 0 && last.status == http.StatusOK:
			c.proven(g)
			return nil
		case len(out) == 0: // proven, and refused all the same
			return c.denied([]string{m.Scheme()}, binding != nil)
		}
		if last, _, err = c.exchange(ctx, "Authorization: "+m.Scheme()+" "+base64.StdEncoding.EncodeToString(out)+"\r\n", nil); err != nil {
			return c.lost(ctx, transport.PhaseAuth, err, true)
		}
		token, offered := challenge(last.header, m.Scheme())
		switch ok := last.status == http.StatusOK; {
		case !ok && last.status != http.StatusUnauthorized:
			return c.refused(transport.PhaseAuth, last)
		case !ok && len(token) == 0:
			return c.denied(offered, binding != nil)
		case ok && len(token) == 0 && !g.Done():
			return c.cfg.fail(transport.PhaseAuth, "auth.mutual", errors.New("the host did not prove that it is who was asked for"), "a proxy or another service may answer on this port")
		case ok && len(token) == 0:
			c.proven(g)
			return nil
		}
		in = token // of a refusal, too: it may hold the reason
	}
	return c.cfg.fail(transport.PhaseAuth, "auth.endless", errors.New("the login does not come to an end"), "")
}

// proven notes the context that holds from here.
func (c *Conn) proven(g gss.Context) {
	c.ctx, c.sealed, c.label = g, c.cfg.TLS == nil, label(c.cfg.Mechanism.Scheme())
}

// challenge returns the token that the host sent under a scheme, and all schemes
// that it offers.
func challenge(h http.Header, scheme string) (token []byte, offered []string) {
	for _, v := range h.Values("Www-Authenticate") {
		word, rest, _ := strings.Cut(strings.TrimSpace(v), " ")
		offered = append(offered, Clean(word, 40))
		if strings.EqualFold(word, scheme) && token == nil {
			token, _ = base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
		}
	}
	return token, offered
}

// denied words a 401 without a token.
func (c *Conn) denied(offered []string, bound bool) error {
	scheme := "Basic"
	if c.cfg.Mechanism != nil {
		scheme = c.cfg.Mechanism.Scheme()
	}
	has := false
	for _, o := range offered {
		has = has || strings.EqualFold(o, scheme)
	}
	if !has {
		what := "nothing"
		if len(offered) > 0 {
			what = Clean(strings.Join(offered, ", "), 200)
		}
		return c.cfg.fail(transport.PhaseAuth, "auth.not_offered", fmt.Errorf("the host does not offer %s; it offers %s", scheme, what),
			"winrm get winrm/config/service/auth on the host says what is allowed; or a proxy answers on this port")
	}
	hint := "the service principal name, the clock or a logon policy; the Security log of the host has the reason (event 4625)"
	if bound {
		hint += "; if it works over HTTP only, TLS is intercepted on the way or CbtHardeningLevel is Strict"
	}
	if c.cfg.Basic != nil {
		hint = "the password, or the account is locked or no local account of the host; not tried again, to avoid a lockout"
	}
	return c.cfg.fail(transport.PhaseAuth, "auth.refused", errors.New("the host refused the logon"), hint)
}

// unproven words a token that does not do.
func (c *Conn) unproven(binding []byte, err error) error {
	e := c.security(transport.PhaseAuth, err, true)
	if binding != nil && e.Code == "auth.refused" {
		e.Hint = strings.TrimPrefix(e.Hint+"; if it works over HTTP only, TLS is intercepted on the way or CbtHardeningLevel is Strict", "; ")
	}
	return e
}

// security turns an error of package gss into one of the transport.
func (c *Conn) security(phase transport.Phase, err error, unsent bool) *transport.Error {
	e := c.cfg.fail(phase, "seal.form", err, "")
	e.SafeToRetry = unsent
	if g, is := errors.AsType[*gss.Error](err); is {
		e.Code, e.Err, e.Hint = g.Code, g.Err, g.Hint
		if phase == transport.PhaseAuth {
			e.Phase = g.Phase
		}
	}
	if errors.Is(err, errLabel) {
		e.Code = "seal.label"
	}
	return e
}
