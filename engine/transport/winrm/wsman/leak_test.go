package wsman_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"runner/engine/secret"
	"runner/engine/transport"
	"runner/engine/transport/winrm"
	"runner/engine/transport/winrm/wsman/wire"
	"runner/engine/transport/winrm/wsmantest"
)

// After the connections of a thousand grants nothing of them is left, whatever
// became of each: goroutines, connections, shells.
func TestNothingIsLeftOfAThousandGrants(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // which fails when a goroutine outlives it
		h := newHost(t)
		h.Host.OperationTimeout = time.Second
		troubles := []wsmantest.Trouble{wsmantest.None, wsmantest.None, wsmantest.DropBefore, wsmantest.DropAfter, wsmantest.Hang, wsmantest.Tamper, wsmantest.Unauthorized}
		now := wsmantest.None
		h.Trouble = func(r wsmantest.Request) wsmantest.Trouble {
			if r.Operation == "Delete" || r.Operation == "Login" {
				return wsmantest.None
			}
			return now
		}
		s, err := h.device(t).Open(t.Context(), "C189B341-BB56-44CA-BB69-05F0CAC14125", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		const per = 25
		for i := range 1000 {
			d := h.device(t)
			now = troubles[i%len(troubles)]
			s, err := d.Open(t.Context(), "C189B341-BB56-44CA-BB69-05F0CAC14125", nil)
			if err == nil {
				_, _ = s.Receive(t.Context(), "")
				err = s.Close(t.Context())
			}
			if err == nil && now != wsmantest.None {
				t.Fatalf("grant %d: no error in spite of trouble %d", i, now)
			}
			d.Release()
			if i%per == per-1 {
				synctest.Wait()
				if h.Connections() > 0 || h.Host.Shells() > 0 {
					t.Fatalf("after %d grants %d connections and %d shells are left", i+1, h.Connections(), h.Host.Shells())
				}
			}
		}
	})
}

// A wrong password of Basic is one attempt.
func TestAWrongPasswordIsTriedOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.secure(t)
	h.User, h.Password, h.Login, h.cfg.Mechanism = "ops", "right", nil, nil
	h.cfg.Basic = &wire.Basic{User: "ops", Password: secret.New("canary-wrong")}
	_, err := h.dial(t, winrm.Config{})
	if code(err) != "auth auth.refused" || strings.Contains(err.Error(), "canary") {
		t.Errorf("the error is %q: %v", code(err), err)
	}
	if n := h.Requests(); n != 1 {
		t.Errorf("%d attempts were made", n)
	}
}

// Which certificates are refused, and what is said about them; and ports that are
// something else.
func TestCertificatesAndPorts(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*testing.T, *host){
		"host key dial.certificate":      func(_ *testing.T, h *host) { h.cfg.TLS = &wire.TLS{} },
		"host key dial.certificate_name": func(_ *testing.T, h *host) { h.cfg.Host = "win2.example" },
		"host key dial.pin":              func(_ *testing.T, h *host) { h.cfg.TLS = &wire.TLS{Fingerprint: strings.Repeat("ab", 32)} },
		"dial dial.no_tls":               func(_ *testing.T, h *host) { h.cfg.Dial = noTLS },
		"dial dial.timeout":              func(_ *testing.T, h *host) { h.cfg.DialTimeout, h.cfg.Dial = 50*time.Millisecond, silent },
		"dial dial.refused":              func(_ *testing.T, h *host) { h.cfg.Dial, h.cfg.Address = nil, "127.0.0.1:1" },
		"resolve dial.resolve":           func(_ *testing.T, h *host) { h.cfg.Dial, h.cfg.Address = nil, "win1.invalid:5986" },
		"auth auth.not_offered": func(_ *testing.T, h *host) {
			h.Login, h.User, h.Password = nil, "ops", "x"
		},
		"auth auth.refused": func(_ *testing.T, h *host) { h.Binding = []byte("tls-server-end-point:of another") },
		"":                  func(_ *testing.T, h *host) { h.cfg.TLS.Roots = nil; h.cfg.TLS.Fingerprint = pinOf(h) },
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.secure(t)
			address := ""
			h.cfg.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}
			change(t, h)
			var err error
			if address, err = h.Listen(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err = h.device(t).Identify(t.Context())
			if got := code(err); got != want {
				t.Errorf("the error is %q: %v\nwant %q", got, err, want)
			}
			if err != nil && !transport.SafeToRetry(err) {
				t.Errorf("nothing was sent, and the error does not say so: %v", err)
			}
		})
	}
}

// Proxies of the environment are for other programs.
func TestEnvironmentProxiesAreNotUsed(t *testing.T) {
	asked := make(chan string, 10)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "http_proxy"} {
		t.Setenv(name, "socks5://"+socks(t, always("127.0.0.1:1"), asked))
	}
	h := newHost(t)
	address, err := h.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.cfg.Dial, h.cfg.Address = nil, address
	if _, err := h.device(t).Identify(context.Background()); err != nil || len(asked) > 0 {
		t.Errorf("%v; the proxy was asked %d times", err, len(asked))
	}
}
