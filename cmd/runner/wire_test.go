package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"runner/engine/grant"
	"runner/engine/store/pgtest"
)

// wire is a bad way between this host and a network: each packet takes its time, some
// are lost, and none arrives while it is cut.
type wire struct{ state atomic.Pointer[weather] }

type weather struct {
	lost  float64
	takes time.Duration
}

// bad lays a wire into the network of a cable and returns the address of this end.
func (c *cable) bad(is weather) (w *wire, address string) {
	c.t.Helper()
	id := (os.Getpid() + 1237*int(plugged.Add(1))) % 10000
	net4 := fmt.Sprintf("10.%d.%d", 150+id/250%50, id%250)
	w = &wire{}
	w.state.Store(&is)
	here, there := fmt.Sprintf("rw%da", id), fmt.Sprintf("rw%db", id)
	near, far := c.tun(here), c.tun(there)
	c.ip("addr", "add", net4+".1/30", "dev", here)
	c.ip("link", "set", here, "up")
	c.ip("link", "set", there, "netns", c.ns)
	c.ip("-n", c.ns, "addr", "add", net4+".2/30", "dev", there)
	c.ip("-n", c.ns, "link", "set", there, "up")
	go w.pass(near, far)
	go w.pass(far, near)
	return w, net4 + ".1"
}

// tun makes a network device whose packets are read and written here; it ends with the
// test.
func (c *cable) tun(name string) *os.File {
	c.t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := unix.NewIfreq(name)
	if err == nil {
		r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), name)
	c.t.Cleanup(func() { _ = f.Close() })
	return f
}

func (w *wire) pass(from, to *os.File) {
	for {
		packet := make([]byte, 2048)
		n, err := from.Read(packet)
		if err != nil {
			return
		}
		is := w.state.Load()
		if mathrand.Float64() < is.lost {
			continue
		}
		time.AfterFunc(is.takes, func() { _, _ = to.Write(packet[:n]) })
	}
}

// certify writes a certificate for an address, and its key.
func certify(t *testing.T, address string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: address}, IPAddresses: []net.IP{net.ParseIP(address)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	der, err := x509.CreateCertificate(rand.Reader, &c, &c, k.Public(), k)
	if err == nil {
		err = os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if der, err = x509.MarshalPKCS8PrivateKey(k); err == nil {
		err = os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// A server whose way to the database is bad works. When the way is cut for longer than
// its lease it stops by itself, another one takes over, and when the way is back it
// works on as another node: nothing is done twice, and nothing is left.
func TestABadWayToTheDatabase(t *testing.T) {
	t.Parallel()
	s := newCrashSite(t)
	c, device, port := plug(t, s.box.Addr)
	poor, terrible, cut := weather{0.02, 20 * time.Millisecond}, weather{0.2, 100 * time.Millisecond}, weather{lost: 1}
	w, address := c.bad(poor)
	all, err := os.ReadFile(filepath.Join(s.dir, "inventories", "all.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("inventories/all.yaml", strings.NewReplacer("address: 127.0.0.1", "address: "+device, fmt.Sprintf("port: %d", s.box.Port), fmt.Sprintf("port: %d", port)).Replace(string(all)))
	url := databaseAt(t, s, address)

	db := s.opened(url)
	far := s.serveHere("ip", "netns", "exec", c.ns)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(far.errs.String())
		}
	})
	var g grant.Grant
	for n := 0; g.State != grant.Active; n++ { // or its worker could not renew its lease
		s.request(n)
		id := s.grantOf(n).ID
		s.until("it is made or not", time.Minute, func() bool {
			c, err := db.Case(t.Context(), id)
			g = c.Grant
			return err != nil || g.State != grant.Requested && g.State != grant.Creating
		})
		t.Logf("%s after %v", g.State, db.Now().Sub(g.Requested).Round(10*time.Millisecond))
	}
	s.sh("rm -f /run/trap/*; : >/run/trap/userdel.before; chmod 666 /run/trap/*")
	id := g.ID
	if err := db.Change(t.Context(), id, func(c *grant.Case) error { return c.End(db.Now(), "ops", "end") }); err != nil {
		t.Fatal(err)
	}
	s.until("the removal comes to the account", time.Minute, func() bool { return strings.Contains(s.sh("ls /run/trap"), "hit") })
	w.state.Store(&terrible)
	near := s.another()
	w.state.Store(&cut)
	first := far.node()
	took := s.until("the other one takes over", 10*time.Second, func() bool { j := s.removal(db, id); return j.Node == near.node() })
	t.Logf("taken over after %v", took.Round(10*time.Millisecond))
	s.letGo()
	w.state.Store(&poor)
	s.until("the one behind the cut has stopped", 30*time.Second, func() bool { return strings.Contains(far.errs.String(), "the lease of node "+first+" is lost") })
	s.until("it works on as another node", 30*time.Second, func() bool { return far.node() != first })
	s.until("nothing is left", time.Minute, func() bool { return !strings.Contains(s.sh("cat /etc/passwd"), g.Account) })
	events, err := db.Audit(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	claimed := map[string]int{}
	for _, e := range events {
		if e.Action == "job.claimed" {
			claimed[e.Detail["job"]+" "+e.Detail["attempt"]]++
		}
	}
	for what, times := range claimed {
		if times != 1 {
			t.Errorf("%s was claimed %d times", what, times)
		}
	}
	if err := db.VerifyAudit(t.Context()); err != nil {
		t.Error(err)
	}
	if err := far.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	<-far.done
}

// databaseAt makes the workspace one whose database is at an address, with TLS and a
// password, and returns another way to it.
func databaseAt(t *testing.T, s *crashSite, address string) (url string) {
	t.Helper()
	cert, key := certify(t, address)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", address+":0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	server, err := pgtest.StartTLS(t.Context(), address, port, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, stmt := range []string{`CREATE ROLE ada LOGIN PASSWORD 'canary'`, `CREATE DATABASE shared OWNER ada`} {
		if err := server.SQL(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	s.write("password", "canary\n")
	s.write("runner.yaml", fmt.Sprintf("schema: runner/v1\nkind: workspace\ndatabase:\n  url: postgres://ada@%s:%d/shared?sslrootcert=%s\n  secret_from: {file: %s/password}\n", address, port, cert, s.dir))
	if out, errs, code := s.run("sweep"); code != 0 { // makes the key
		t.Fatalf("sweep: exit %d: %s%s", code, out, errs)
	}
	return server.URL("shared")
}
