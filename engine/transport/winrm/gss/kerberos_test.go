package gss_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"

	"runner/engine/transport/winrm/gss"
	"runner/engine/transport/winrm/gsstest"
	"runner/engine/transport/winrm/krb/etype"
)

const host = "srv1.corp.test"

var target = gss.Target{Host: host, Confidential: true}

// meet leads the dialogue of a user's tickets with a service.
func meet(tb testing.TB, tickets *gsstest.Tickets, t gss.Target, f gsstest.Faults, bare bool) (gss.Context, *gsstest.Acceptor, error) {
	tb.Helper()
	k := &gss.Kerberos{Tickets: tickets, Bare: bare}
	c, err := k.Initiate(tb.Context(), t)
	if err != nil {
		return nil, nil, err
	}
	tok, err := c.Next(nil)
	if err != nil {
		return nil, nil, err
	}
	if c.Done() || c.Peer() != "" {
		tb.Fatal("done before the host said anything")
	}
	a := tickets.Service.Accept(f)
	out, refused := a.Next(tok)
	if out == nil {
		return nil, nil, refused
	}
	more, err := c.Next(out)
	if (err == nil) != c.Done() || more != nil {
		tb.Fatalf("done %v with error %v and %d bytes more", c.Done(), err, len(more))
	}
	return c, a, err
}

func user(id int32) *gsstest.Tickets {
	return &gsstest.Tickets{Service: gsstest.NewService("HTTP/"+host, id), User: "ops"}
}

// code is the Code of err, which is an *Error.
func code(tb testing.TB, err error) string {
	tb.Helper()
	e, ok := errors.AsType[*gss.Error](err)
	if !ok {
		tb.Errorf("not an *Error: %v", err)
		return ""
	}
	return e.Code
}

func TestBothSidesKnowEachOtherAndTalk(t *testing.T) {
	t.Parallel()
	for _, id := range etype.All() {
		for _, f := range []gsstest.Faults{{}, {NoSubkey: true}, {MIC: true}} {
			for _, bare := range []bool{false, true} {
				if bare && f.MIC {
					continue
				}
				c, a, err := meet(t, user(id), target, f, bare)
				if err != nil {
					t.Fatalf("%s %+v bare %v: %v", etype.Name(id), f, bare, err)
				}
				if a.Client() != "ops@CORP.TEST" || c.Peer() != "HTTP/srv1.corp.test@CORP.TEST" || !a.Confidential() {
					t.Errorf("client %s, peer %s", a.Client(), c.Peer())
				}
				for n := range 20 {
					plain := bytes.Repeat([]byte("x"), n*n)
					h, b, err := c.Seal(plain)
					if err != nil || len(b) != len(plain) {
						t.Fatal(err)
					}
					if got, err := a.Open(h, b); err != nil || !bytes.Equal(got, plain) {
						t.Fatal(err)
					}
					if h, b, err = a.Seal(plain); err != nil {
						t.Fatal(err)
					}
					if got, err := c.Open(h, b); err != nil || !bytes.Equal(got, plain) {
						t.Fatal(err)
					}
				}
			}
		}
	}
}

func TestAHostThatDoesNotProveItselfIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault gsstest.Faults
		want  string
	}{
		{gsstest.Faults{WrongKey: true}, "auth.mutual"},
		{gsstest.Faults{TamperAPRep: true}, "auth.mutual"},
		{gsstest.Faults{WrongTime: true}, "auth.mutual"},
		{gsstest.Faults{WrongMIC: true}, "auth.mutual"},
		{gsstest.Faults{Silent: true}, "auth.refused"},
		{gsstest.Faults{OtherMech: true}, "auth.refused"},
		{gsstest.Faults{Incomplete: true}, "auth.refused"},
		{gsstest.Faults{Refuse: errorcode.KRB_AP_ERR_MODIFIED}, "auth.spn_account"},
		{gsstest.Faults{Refuse: errorcode.KRB_AP_ERR_NOKEY}, "auth.spn_account"},
		{gsstest.Faults{Refuse: errorcode.KRB_AP_ERR_NOT_US}, "auth.spn_host"},
		{gsstest.Faults{Refuse: errorcode.KRB_AP_ERR_SKEW}, "auth.clock"},
		{gsstest.Faults{Refuse: errorcode.KRB_ERR_GENERIC}, "auth.refused"},
	} {
		ctx, _, err := meet(t, user(0), target, c.fault, false)
		if err == nil {
			t.Errorf("%+v: accepted", c.fault)
			continue
		}
		if got := code(t, err); got != c.want {
			t.Errorf("%+v: %s, want %s: %v", c.fault, got, c.want, err)
		}
		if ctx == nil {
			continue
		}
		if _, _, err := ctx.Seal([]byte("x")); err == nil || ctx.Peer() != "" {
			t.Errorf("%+v: seals for somebody unknown", c.fault)
		}
		if _, err := ctx.Next([]byte{1}); err == nil {
			t.Errorf("%+v: goes on", c.fault)
		}
	}
}

func TestMessagesThatAreNotTheNextAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault gsstest.Faults
		want  string
	}{
		{gsstest.Faults{TamperSeal: true}, "seal.tampered"},
		{gsstest.Faults{RepeatSeal: true}, "seal.order"},
		{gsstest.Faults{SkipSeal: true}, "seal.order"},
	} {
		ctx, a, err := meet(t, user(0), target, c.fault, false)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			h, b, serr := a.Seal([]byte("<s:Envelope/>"))
			if serr != nil {
				t.Fatal(serr)
			}
			if _, err = ctx.Open(h, b); err != nil {
				break
			}
		}
		if err == nil || code(t, err) != c.want {
			t.Errorf("%+v: %v, want %s", c.fault, err, c.want)
		}
	}
}

func TestTheServiceSeesWhenAndWhereATicketIsUsed(t *testing.T) {
	t.Parallel()
	binding := append([]byte("tls-server-end-point:"), bytes.Repeat([]byte{7}, 32)...)
	for _, c := range []struct {
		name    string
		change  func(*gsstest.Tickets)
		binding []byte
		want    string // code, or words of the service
	}{
		{"over", func(u *gsstest.Tickets) { u.Life = -time.Hour }, nil, "auth.ticket_expired"},
		{"clock ahead", func(u *gsstest.Tickets) { u.Skew = 6 * time.Minute }, nil, "auth.clock"},
		{"clock behind", func(u *gsstest.Tickets) { u.Skew = -6 * time.Minute }, nil, "auth.clock"},
		{"other host", func(u *gsstest.Tickets) { u.Service.Name = "HTTP/srv2.corp.test" }, nil, "auth.spn_host"},
		{"right binding", func(u *gsstest.Tickets) { u.Service.Binding = binding }, binding, ""},
		{"no binding", func(u *gsstest.Tickets) { u.Service.Binding = binding }, nil, "channel binding"},
		{"wrong binding", func(u *gsstest.Tickets) { u.Service.Binding = binding }, append(binding, 1), "channel binding"},
		{"RC4", func(u *gsstest.Tickets) { u.Session = 23 }, nil, "auth.etype"},
	} {
		u := user(0)
		c.change(u)
		_, _, err := meet(t, u, gss.Target{Host: host, Binding: c.binding}, gsstest.Faults{}, false)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case strings.Contains(c.want, "."):
			if err == nil || code(t, err) != c.want {
				t.Errorf("%s: %v, want %s", c.name, err, c.want)
			}
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

func TestAnAPReqIsGoodOnce(t *testing.T) {
	t.Parallel()
	u := user(0)
	u.Stuck = true
	if _, _, err := meet(t, u, target, gsstest.Faults{}, false); err != nil {
		t.Fatal(err)
	}
	_, _, err := meet(t, u, target, gsstest.Faults{}, false)
	if err == nil || code(t, err) != "auth.refused" || !strings.Contains(err.Error(), "KRB_AP_ERR_REPEAT") {
		t.Errorf("the same authenticator again: %v", err)
	}
}

func TestNamesAreTriedInOrderOnlyWhenUnknown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		target  gss.Target
		unknown []string
		asked   []string
		want    string
	}{
		{gss.Target{Host: "SRV1.corp.test."}, nil, []string{"HTTP/srv1.corp.test"}, ""},
		{gss.Target{Host: host}, []string{"HTTP/" + host}, []string{"HTTP/" + host, "WSMAN/" + host}, ""},
		{gss.Target{Host: host}, []string{"HTTP/" + host, "WSMAN/" + host, "HOST/" + host}, []string{"HTTP/" + host, "WSMAN/" + host, "HOST/" + host}, "auth.spn_unknown"},
		{gss.Target{Host: host, Service: "WSMAN"}, []string{"WSMAN/" + host}, []string{"WSMAN/" + host}, "auth.spn_unknown"},
		{gss.Target{Host: "10.0.0.7", SPN: "WSMAN/alias.corp.test"}, nil, []string{"WSMAN/alias.corp.test"}, ""},
		{gss.Target{Host: "10.0.0.7"}, nil, nil, "auth.spn_unknown"},
		{gss.Target{Host: host, SPN: "HTTP"}, nil, nil, "auth.spn_unknown"},
	} {
		u := user(0)
		u.Unknown = c.unknown
		_, err := (&gss.Kerberos{Tickets: u}).Initiate(t.Context(), c.target)
		if diff := cmp.Diff(c.asked, u.Asked()); diff != "" {
			t.Errorf("%+v (-want +asked):\n%s", c.target, diff)
		}
		if (err != nil) != (c.want != "") || err != nil && code(t, err) != c.want {
			t.Errorf("%+v: %v, want %q", c.target, err, c.want)
		}
	}
}

func TestOnlyAContextThatWasAskedToSeals(t *testing.T) {
	t.Parallel()
	c, a, err := meet(t, user(0), gss.Target{Host: host}, gsstest.Faults{}, false)
	if err != nil || a.Confidential() {
		t.Fatalf("asked for sealing: %v, %v", a.Confidential(), err)
	}
	if _, _, err := c.Seal([]byte("x")); err == nil || code(t, err) != "seal.form" {
		t.Errorf("sealed: %v", err)
	}
}

func TestExpiryIsThatOfTheTicket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := user(0)
		u.Life = time.Hour
		c, _, err := meet(t, u, target, gsstest.Faults{}, false)
		if err != nil || !c.Expires().Equal(time.Now().Add(time.Hour)) {
			t.Errorf("expires %v, %v", c.Expires(), err)
		}
	})
}

func TestTheSchemeSaysWhetherSPNEGOIsSpoken(t *testing.T) {
	t.Parallel()
	for bare, want := range map[bool]string{false: "Negotiate", true: "Kerberos"} {
		var m gss.Mechanism = &gss.Kerberos{Tickets: user(0), Bare: bare}
		if m.Scheme() != want || m.Name() != "Kerberos as ops@CORP.TEST" {
			t.Errorf("bare %v: scheme %s, name %s", bare, m.Scheme(), m.Name())
		}
	}
}

func TestNoTicketIsNoContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := (&gss.Kerberos{Tickets: user(0)}).Initiate(ctx, target)
	if err == nil || code(t, err) != "auth.cancelled" || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func FuzzAnswerOfAHost(f *testing.F) {
	for _, fault := range []gsstest.Faults{{}, {MIC: true}, {Refuse: 37}} {
		u := user(0)
		c, err := (&gss.Kerberos{Tickets: u}).Initiate(f.Context(), target)
		if err != nil {
			f.Fatal(err)
		}
		tok, err := c.Next(nil)
		if err != nil {
			f.Fatal(err)
		}
		out, _ := u.Service.Accept(fault).Next(tok)
		f.Add(out)
	}
	u := user(0)
	f.Fuzz(func(t *testing.T, answer []byte) {
		for _, bare := range []bool{false, true} {
			c, err := (&gss.Kerberos{Tickets: u, Bare: bare}).Initiate(t.Context(), target)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Next(nil); err != nil {
				t.Fatal(err)
			}
			if answer == nil {
				answer = []byte{}
			}
			if _, err := c.Next(answer); err == nil || c.Done() || c.Peer() != "" {
				t.Errorf("%x is the proof of a host without the key", answer)
			}
		}
	})
}
