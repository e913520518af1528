package wsman_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"runner/engine/secret"
	"runner/engine/transport"
	"runner/engine/transport/ssh"
	"runner/engine/transport/winrm"
	"runner/engine/transport/winrm/gss"
	"runner/engine/transport/winrm/gsstest"
	"runner/engine/transport/winrm/krb"
	"runner/engine/transport/winrm/krb/etype"
	"runner/engine/transport/winrm/krb/krbtest"
	"runner/engine/transport/winrm/wsman/wire"
	"runner/engine/transport/winrm/wsmantest"
)

// mitLogin is the host's side of a context by MIT Kerberos (python3-gssapi).
type mitLogin struct {
	a    *krbtest.Acceptor
	done atomic.Bool
}

func (m *mitLogin) ask(verb string, data []byte) ([][]byte, error) {
	words, err := m.a.Ask(verb, data)
	if err != nil {
		return nil, err
	}
	if verb == "step" {
		m.done.Store(words[1] == "1")
		if !m.done.Load() {
			err = errors.New(words[2])
		}
		words = words[:1]
	}
	out := make([][]byte, len(words))
	for i, w := range words {
		out[i], _ = hex.DecodeString(strings.TrimPrefix(w, "-")) // the rest of unwrap is numbers
	}
	return out, err
}

func (m *mitLogin) Done() bool { return m.done.Load() }

func (m *mitLogin) Next(in []byte) ([]byte, error) {
	out, err := m.ask("step", in)
	if len(out) == 0 {
		return nil, err
	}
	return out[0], err
}

func (m *mitLogin) Seal(plain []byte) (header, body []byte, err error) {
	out, err := m.ask("seal", plain)
	if err != nil {
		return nil, nil, err
	}
	return out[0], out[1], nil
}

func (m *mitLogin) Open(header, body []byte) ([]byte, error) {
	out, err := m.ask("unwrap", append(append([]byte{}, header...), body...))
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// mitHost is a host whose security is MIT's, and a client of a KDC of MIT's that is
// reached through dial (nil: directly).
func mitHost(t *testing.T, k *krbtest.MIT, dial wire.DialFunc) *host {
	t.Helper()
	h := newHost(t)
	h.Scheme = "Negotiate"
	h.Login = func(binding []byte) wsmantest.Login {
		return &mitLogin{a: krbtest.StartAcceptor(t, k.Env(), filepath.Join(k.Dir, "host.keytab"), binding)}
	}
	tickets, err := krb.New(krb.Config{Realm: k.Realm, User: "ops", Password: secret.New("Pass 1"), KDCs: []string{k.Addr}, Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tickets.Close)
	h.cfg.Mechanism = &gss.Kerberos{Tickets: tickets}
	h.cfg.Dial = dial
	return h
}

// The whole way with a KDC and an acceptor of MIT's: batches over sealed HTTP and
// over HTTPS bound to the certificate, directly, through a SOCKS5 proxy and
// through an SSH jump host, which carry the KDC, too.
func TestMITSealsAndBinds(t *testing.T) {
	t.Parallel()
	k := krbtest.StartMIT(t, "CORP.TEST", etype.Name(etype.AES256SHA1)+":normal", nil,
		krbtest.Principal{Name: "ops", Password: "Pass 1"}, krbtest.Principal{Name: "HTTP/win1.example", Keytab: "host.keytab"})
	for _, way := range []string{"directly", "socks5", "ssh"} {
		for _, tls := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %t", way, tls), func(t *testing.T) {
				t.Parallel()
				var listener atomic.Value
				to := func(asked string) string { // every other name is the host
					if asked == k.Addr {
						return asked
					}
					s, _ := listener.Load().(string)
					return s
				}
				h := mitHost(t, k, connect(t, way, to))
				if tls {
					h.secure(t)
				}
				address, err := h.Listen(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if listener.Store(address); way == "directly" {
					h.cfg.Address, h.cfg.Host = address, "win1.example"
				}
				did := h.counting()
				defer h.Close() // before the acceptors end with the test
				dialer := &winrm.Dialer{}
				defer func() { _ = dialer.Close() }()
				c, err := dialer.Dial(t.Context(), winrm.Config{Device: h.device(t), Address: h.cfg.Address})
				for i := 0; i < 3 && err == nil; i++ {
					err = c.Run(t.Context(), step(body("count", "x")), func(transport.Event) {})
				}
				if err != nil || did.value() != 3 || c.Peer().Identity != "HTTP/win1.example@CORP.TEST" {
					t.Fatalf("the step was done %d times: %v", did.value(), err)
				}
				_ = c.Close()
			})
		}
	}
}

// connect returns how to dial in a way.
func connect(t *testing.T, way string, to func(string) string) wire.DialFunc {
	t.Helper()
	switch way {
	case "socks5":
		return wire.SOCKS5(socks(t, to, make(chan string, 1000)))
	case "ssh":
		hop, key := jump(t, to)
		d := &ssh.Dialer{}
		t.Cleanup(func() { _ = d.Close() })
		return d.Through([]ssh.Config{{Address: hop, User: "hop", Auth: ssh.Auth{Password: secret.New("hop")}, HostKeys: ssh.HostKeys{Known: []string{key}}}})
	}
	return nil
}

// MIT refuses who is bound to another certificate, and we say so.
func TestMITRefusesAnotherBinding(t *testing.T) {
	t.Parallel()
	k := krbtest.StartMIT(t, "CORP.TEST", etype.Name(etype.AES256SHA1)+":normal", nil,
		krbtest.Principal{Name: "ops", Password: "Pass 1"}, krbtest.Principal{Name: "HTTP/win1.example", Keytab: "host.keytab"})
	h := mitHost(t, k, nil)
	h.secure(t)
	h.Binding = append([]byte("tls-server-end-point:"), make([]byte, 32)...)
	h.cfg.Dial = h.Dial
	defer h.Close()
	_, err := h.device(t).Identify(t.Context())
	if e, is := errors.AsType[*transport.Error](err); !is || e.Phase != transport.PhaseAuth || !strings.Contains(e.Hint+e.Error(), "TLS") {
		t.Errorf("the error is %v", err)
	}
}

// kerberos gives a host the login of gsstest.
func (h *host) kerberos(f gsstest.Faults) *gsstest.Tickets {
	service := gsstest.NewService("HTTP/win1.example", 0)
	tickets := &gsstest.Tickets{Service: service, User: "ops"}
	h.Scheme, h.cfg.Mechanism = "Negotiate", &gss.Kerberos{Tickets: tickets}
	h.Login = func([]byte) wsmantest.Login { return service.Accept(f) }
	return tickets
}

// What a host does wrong with Kerberos has a name, and nothing is done.
func TestFaultsOfKerberos(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		faults gsstest.Faults
		want   string
	}{
		{gsstest.Faults{}, ""},
		{gsstest.Faults{MIC: true, NoSubkey: true}, ""},
		{gsstest.Faults{Refuse: 37}, "auth auth.clock"},
		{gsstest.Faults{Refuse: 41}, "auth auth.spn_account"},
		{gsstest.Faults{WrongKey: true}, "auth auth.mutual"},
		{gsstest.Faults{Silent: true}, "auth auth.refused"},
		{gsstest.Faults{TamperAPRep: true}, "auth auth.mutual"},
		{gsstest.Faults{WrongTime: true}, "auth auth.mutual"},
		{gsstest.Faults{TamperSeal: true}, "shell seal.tampered"},
		{gsstest.Faults{RepeatSeal: true}, "exec seal.order"},
		{gsstest.Faults{SkipSeal: true}, "shell seal.order"},
	} {
		t.Run(fmt.Sprintf("%+v", c.faults), func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.kerberos(c.faults)
			d := h.device(t)
			s, err := d.Open(t.Context(), "C189B341-BB56-44CA-BB69-05F0CAC14125", nil)
			if err == nil {
				err = s.Command(t.Context(), "C189B341-BB56-44CA-BB69-05F0CAC14126", nil)
				if e, is := errors.AsType[*transport.Error](err); is && e.Code == "exec.fault" {
					err = nil // an empty message is none
				}
				_ = s.Close(context.WithoutCancel(t.Context()))
			}
			if got := code(err); got != c.want {
				t.Errorf("the error is %q: %v\nwant %q", got, err, c.want)
			}
		})
	}
}
