package wsman_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"

	"runner/engine/secret"
	"runner/engine/transport"
	"runner/engine/transport/transporttest"
	"runner/engine/transport/winrm"
	"runner/engine/transport/winrm/gsstest"
	"runner/engine/transport/winrm/winrmtest"
	"runner/engine/transport/winrm/wsman"
	"runner/engine/transport/winrm/wsman/wire"
	"runner/engine/transport/winrm/wsmantest"
)

// host is a Windows host behind its listener.
type host struct {
	*wsmantest.Server
	win *winrmtest.Windows
	toy *wsmantest.Toy
	cfg wsman.Config
}

// newHost returns one with sealed HTTP. It ends with the test, after everything
// that was dialled.
func newHost(t *testing.T) *host {
	t.Helper()
	win, toy := &winrmtest.Windows{}, &wsmantest.Toy{}
	h := &host{win: win, toy: toy, Server: &wsmantest.Server{Host: &winrmtest.Host{Handler: win.Handle}, Scheme: toy.Scheme(), Login: toy.Accept}}
	h.cfg = wsman.Config{Config: wire.Config{Address: "win1.example:5985", Mechanism: toy, Dial: h.Dial}, User: "ops"}
	t.Cleanup(h.Close)
	return h
}

// secure makes it HTTPS with a certificate of its own.
func (h *host) secure(t *testing.T) {
	t.Helper()
	cert, leaf := certificate(t, "win1.example")
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	sum := sha256.Sum256(leaf.Raw)
	h.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	h.Binding = append([]byte("tls-server-end-point:"), sum[:]...)
	h.cfg.TLS, h.cfg.Address = &wire.TLS{Roots: roots}, "win1.example:5986"
}

func (h *host) device(t *testing.T) *wsman.Device {
	t.Helper()
	d, err := wsman.New(h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Release)
	return d
}

// dial returns a connection that ends with the test.
func (h *host) dial(t *testing.T, cfg winrm.Config) (transport.Conn, error) {
	t.Helper()
	dialer := &winrm.Dialer{}
	t.Cleanup(func() { _ = dialer.Close() })
	cfg.Device, cfg.Address = h.device(t), h.cfg.Address
	c, err := dialer.Dial(t.Context(), cfg)
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

func body(name, text string) transport.Body { return transport.Body{Name: name, Text: text} }

var psBodies = transporttest.Bodies{
	Mode:   body("mode", `_write ($M + [char]10)`),
	Echo:   body("echo", `_write $a.text`),
	Warn:   body("warn", `_warn $a.text`),
	Fact:   body("fact", `_out 'value' $a.text`),
	Change: body("change", "_changed\n_state 0 'present'"),
	Fail:   body("fail", `_fail 3 'on purpose'`),
	Hang:   body("hang", `while ($true) { Start-Sleep -Milliseconds 1000 }`),
}

// What holds for every transport holds over every way to a host.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*testing.T, *host){
		"sealed HTTP":     func(*testing.T, *host) {},
		"HTTPS and bound": func(t *testing.T, h *host) { t.Helper(); h.secure(t) },
		"HTTPS and basic": func(t *testing.T, h *host) {
			t.Helper()
			h.secure(t)
			h.User, h.Password, h.Login, h.cfg.Mechanism = "ops", "p:w", nil, nil
			h.cfg.Basic = &wire.Basic{User: "ops", Password: secret.New("p:w")}
		},
		"Kerberos":                         func(_ *testing.T, h *host) { h.kerberos(gsstest.Faults{}) },
		"sealed HTTP, raw Kerberos tokens": func(_ *testing.T, h *host) { h.toy.Word, h.Scheme = "Kerberos", "Kerberos" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transporttest.Suite(t, func(t *testing.T) transport.Conn {
				t.Helper()
				h := newHost(t)
				change(t, h)
				c, err := h.dial(t, winrm.Config{})
				if err != nil {
					t.Fatal(err)
				}
				return c
			}, psBodies)
		})
	}
}

// step is a batch of one step that counts how often it is done.
func step(b transport.Body) transport.Batch {
	return transport.Batch{ID: "x1", Scope: "g-1", Steps: []transport.Step{{N: 1, Name: "one", Body: b}}}
}

// counting has the host count how often the step is done.
func (h *host) counting() *counter {
	n := &counter{}
	h.win.Bodies = map[string]winrmtest.Body{"count": func(ctx context.Context, s *winrmtest.Step) error {
		n.add()
		return s.Changed(ctx)
	}}
	return n
}

func code(err error) string {
	if e, is := errors.AsType[*transport.Error](err); is {
		return string(e.Phase) + " " + e.Code
	}
	return ""
}

func TestPeerAndIdentify(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c, err := h.dial(t, winrm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if p := c.Peer(); p.Identity != "HTTP/win1.example" || p.Address != "win1.example:5985" || p.Software != "Microsoft-HTTPAPI/2.0" {
		t.Errorf("the peer is %+v", p)
	}
	d := h.device(t)
	p, err := d.Identify(t.Context())
	if err != nil || p.Version != "OS: 10.0.20348 SP: 0.0 Stack: 3.0" {
		t.Errorf("Identify says %+v, %v", p, err)
	}
	if s := d.Peer().Software; s != "Microsoft Corporation OS: 10.0.20348 SP: 0.0 Stack: 3.0" {
		t.Errorf("the peer is %q", s)
	}
}

// One device and one identity share a pool; everything that could make a
// difference keeps them apart.
func TestKeyTellsLoginsApart(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	key := func(change func(*wsman.Config)) string {
		cfg := h.cfg
		cfg.Identity = "c-1"
		change(&cfg)
		d, err := wsman.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return d.Key()
	}
	same := key(func(*wsman.Config) {})
	if same != key(func(*wsman.Config) {}) {
		t.Error("two equal configurations have two keys")
	}
	for name, change := range map[string]func(*wsman.Config){
		"identity":    func(c *wsman.Config) { c.Identity = "c-2" },
		"no identity": func(c *wsman.Config) { c.Identity = "" },
		"endpoint":    func(c *wsman.Config) { c.Configuration = "runner.jea" },
		"host":        func(c *wsman.Config) { c.Host = "other" },
		"TLS":         func(c *wsman.Config) { c.TLS = &wire.TLS{} },
	} {
		if key(change) == same {
			t.Errorf("another %s has the same key", name)
		}
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for want, change := range map[string]func(*wsman.Config){
		`address "win1": write host:port`:               func(c *wsman.Config) { c.Address = "win1" },
		"win1.example:5985: there is nothing to log in": func(c *wsman.Config) { c.Mechanism = nil },
		"win1.example:5985: basic authentication sends the password as it is: only over https": func(c *wsman.Config) {
			c.Mechanism, c.Basic = nil, &wire.Basic{User: "ops"}
		},
		"win1.example:5985: one way to log in, not two":                                      func(c *wsman.Config) { c.Basic = &wire.Basic{} },
		`fingerprint "12:34": write the SHA-256 of the certificate as 64 hexadecimal digits`: func(c *wsman.Config) { c.TLS = &wire.TLS{Fingerprint: "12:34"} },
		"an envelope of 100 bytes: between 8192 and 16777216":                                func(c *wsman.Config) { c.MaxEnvelope = 100 },
	} {
		cfg := h.cfg
		change(&cfg)
		if _, err := wsman.New(cfg); err == nil || len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
			t.Errorf("the error is %v\nwant %s", err, want)
		}
	}
}
