package wsman_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"runner/engine/secret"
	"runner/engine/transport"
	"runner/engine/transport/ssh"
	"runner/engine/transport/winrm"
	"runner/engine/transport/winrm/wsman/wire"
)

// listen serves a port of the loopback until the test ends.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(t.Context(), func() { _ = c.Close() })
			wg.Go(func() { defer func() { _ = c.Close() }(); serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

// always is one address for every name.
func always(address string) func(string) string { return func(string) string { return address } }

// splice copies both ways until one side ends.
func splice(a, b io.ReadWriteCloser) {
	done := make(chan struct{})
	go func() { defer close(done); _, _ = io.Copy(a, b); _ = a.Close() }()
	_, _ = io.Copy(b, a)
	_ = b.Close()
	<-done
}

// socks is a SOCKS5 proxy (RFC 1928); to says what a name is.
func socks(t *testing.T, to func(string) string, asked chan<- string) string {
	t.Helper()
	return listen(t, func(c net.Conn) {
		b := make([]byte, 262)
		read := func(n int) []byte {
			if _, err := io.ReadFull(c, b[:n]); err != nil {
				return make([]byte, n)
			}
			return b[:n]
		}
		read(int(read(2)[1]))
		_, _ = c.Write([]byte{5, 0})
		name := ""
		switch read(4)[3] {
		case 1:
			name = net.IP(read(4)).String()
		case 3:
			name = string(read(int(read(1)[0])))
		}
		name = net.JoinHostPort(name, strconv.Itoa(int(binary.BigEndian.Uint16(read(2)))))
		asked <- name
		there, err := net.Dial("tcp", to(name))
		if err != nil {
			_, _ = c.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0})
			return
		}
		_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		splice(c, there)
	})
}

// The whole way through a SOCKS5 proxy, which resolves the name.
func TestThroughSOCKS5(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.secure(t)
	address, err := h.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 100)
	h.cfg.Dial = wire.SOCKS5(socks(t, always(address), asked))
	did := h.counting()
	c, err := h.dial(t, winrm.Config{})
	if err == nil {
		err = c.Run(t.Context(), step(body("count", "x")), func(transport.Event) {})
	}
	if err != nil || did.value() != 1 || len(asked) == 0 {
		t.Fatalf("%v; the proxy was asked %d times", err, len(asked))
	}
	if to := <-asked; to != "win1.example:5986" {
		t.Errorf("the proxy was asked for %s", to)
	}
}

func TestErrorsOfAProxy(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 100)
	for want, dial := range map[string]wire.DialFunc{
		"dial.proxy_refused: the SOCKS5 proxy says: host unreachable":           wire.SOCKS5(socks(t, always("127.0.0.1:1"), asked)),
		"dial.proxy: the SOCKS5 proxy at 127.0.0.1:1 does not answer: dial tcp": wire.SOCKS5("127.0.0.1:1"),
	} {
		h := newHost(t)
		h.cfg.Dial = dial
		_, err := h.device(t).Identify(t.Context())
		e, is := errors.AsType[*transport.Error](err)
		if !is || e.Phase != transport.PhaseDial || !e.SafeToRetry || !strings.HasPrefix(e.Code+": "+e.Err.Error(), want) {
			t.Errorf("the error is %#v\nwant %s", err, want)
		}
	}
}

// jump is an SSH server that forwards connections; to says what a name is. It
// returns its own address and its host key.
func jump(t *testing.T, to func(string) string) (address, hostKey string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := gossh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	conf := &gossh.ServerConfig{PasswordCallback: func(_ gossh.ConnMetadata, p []byte) (*gossh.Permissions, error) {
		if string(p) != "hop" {
			return nil, errors.New("no")
		}
		return nil, nil
	}}
	conf.AddHostKey(signer)
	address = listen(t, func(c net.Conn) {
		_, chans, reqs, err := gossh.NewServerConn(c, conf)
		if err != nil {
			return
		}
		go gossh.DiscardRequests(reqs)
		for ch := range chans {
			if ch.ChannelType() != "direct-tcpip" {
				_ = ch.Reject(gossh.UnknownChannelType, "no")
				continue
			}
			var name struct {
				Host string
				Port uint32
				From string
				By   uint32
			}
			_ = gossh.Unmarshal(ch.ExtraData(), &name)
			there, err := net.Dial("tcp", to(net.JoinHostPort(name.Host, strconv.Itoa(int(name.Port)))))
			if err != nil {
				_ = ch.Reject(gossh.ConnectionFailed, "connect failed")
				continue
			}
			here, more, err := ch.Accept()
			if err != nil {
				return
			}
			go gossh.DiscardRequests(more)
			go splice(here, there)
		}
	})
	return address, strings.TrimSpace(string(gossh.MarshalAuthorizedKey(signer.PublicKey())))
}

// The whole way through an SSH jump host, which resolves the name; deadlines hold
// although a channel of SSH knows none.
func TestThroughAnSSHJumpHost(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	address, err := h.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hop, key := jump(t, always(address))
	d := &ssh.Dialer{}
	t.Cleanup(func() { _ = d.Close() })
	cfg := ssh.Config{Address: hop, User: "hop", Auth: ssh.Auth{Password: secret.New("hop")}, HostKeys: ssh.HostKeys{Known: []string{key}}}
	h.cfg.Dial = d.Through([]ssh.Config{cfg})
	did := h.counting()
	c, err := h.dial(t, winrm.Config{})
	if err == nil {
		err = c.Run(t.Context(), step(body("count", "x")), func(transport.Event) {})
	}
	if err != nil || did.value() != 1 {
		t.Fatalf("%v; the step was done %d times", err, did.value())
	}
	h.Host.OperationTimeout = time.Minute
	within(t, 300*time.Millisecond, func(ctx context.Context) {
		began := time.Now()
		err := c.Run(ctx, step(psBodies.Hang), func(transport.Event) {})
		if e, is := errors.AsType[*transport.Error](err); !is || e.Code != "cancelled" || time.Since(began) > 20*time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
	plain, err := h.cfg.Dial(t.Context(), "tcp", "win1.example:88")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	_ = plain.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := plain.Read(make([]byte, 1)); err == nil {
		t.Error("a read outlives its deadline")
	}
	cfg.Auth.Password = secret.New("wrong")
	h.cfg.Dial = d.Through([]ssh.Config{cfg})
	_, err = h.device(t).Identify(t.Context())
	if e, is := errors.AsType[*transport.Error](err); !is || e.Phase != transport.PhaseAuth || e.Device != hop {
		t.Errorf("the error of the jump host is %#v", err)
	}
}
