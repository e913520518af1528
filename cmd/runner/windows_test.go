package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"runner/engine/lab"
	"runner/engine/lab/labtest"
	"runner/engine/transport/winrm/gsstest"
	"runner/engine/transport/winrm/krb/etype"
	"runner/engine/transport/winrm/krb/krbtest"
	"runner/engine/transport/winrm/winrmtest"
	"runner/engine/transport/winrm/wsmantest"
)

const (
	svcPassword  = "canary-Svc-Password-1"
	hostPassword = "host-key-1"
)

// winSite is a workspace, a KDC of MIT, and a Windows host over HTTP whose
// accounts are a model.
type winSite struct {
	site
	*winrmtest.Accounts

	kdc     *krbtest.MIT
	win     *winrmtest.Windows
	server  *wsmantest.Server
	service *gsstest.Service
	tap     *tap
}

// tap is a relay that keeps what passes.
type tap struct {
	mu   sync.Mutex
	seen bytes.Buffer
}

func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.Write(b)
}

func (p *tap) holds(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Contains(p.seen.Bytes(), []byte(text))
}

// listen relays a port of the loopback to an address.
func (p *tap) listen(t *testing.T, to string) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			here, err := l.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", to)
			if err != nil {
				_ = here.Close()
				continue
			}
			copied := func(a, b net.Conn) {
				_, _ = io.Copy(io.MultiWriter(a, p), b)
				_ = a.Close()
				_ = b.Close()
			}
			wg.Go(func() { copied(here, there) })
			wg.Go(func() { copied(there, here) })
		}
	})
	return l.Addr().(*net.TCPAddr).Port
}

func newWinSite(t *testing.T) *winSite {
	t.Helper()
	s := &winSite{site: site{dir: filepath.Join(t.TempDir(), "w")}, Accounts: winrmtest.NewAccounts("WIN-1"), tap: &tap{}}
	s.Now = time.Now().UTC().Truncate(time.Second)
	s.kdc = krbtest.StartMIT(t, "CORP.EXAMPLE", "aes256-cts-hmac-sha1-96:normal", nil,
		krbtest.Principal{Name: "svc-runner", Password: svcPassword, Keytab: "svc.keytab"}, krbtest.Principal{Name: "HTTP/localhost", Password: hostPassword})
	key, err := etype.FromPassword(etype.AES256SHA1, hostPassword, "CORP.EXAMPLEHTTPlocalhost", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.service = &gsstest.Service{Name: "HTTP/localhost", Key: key}
	s.win = &winrmtest.Windows{Accounts: s.Accounts}
	s.server = &wsmantest.Server{
		Host: &winrmtest.Host{Handler: s.win.Handle, OperationTimeout: time.Second}, Scheme: "Negotiate",
		Login: func([]byte) wsmantest.Login { return s.service.Accept(gsstest.Faults{}) },
	}
	t.Cleanup(s.server.Close)
	addr, err := s.server.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	port := s.tap.listen(t, addr)
	if _, text, code := s.as(t, "root", "init", s.dir); code != 0 {
		t.Fatal(text)
	}
	s.file(t, "password", svcPassword+"\n")
	s.file(t, "wrong", "not-the-password\n")
	s.file(t, "svc.keytab", s.kdc.File(t, "svc.keytab"))
	docs := fmt.Sprintf(`schema: runner/v1
kind: inventory
name: Windows-PSRP-Kerberos
transport: winrm
winrm: {operation_timeout: 2s}
---
schema: runner/v1
kind: device
name: win-1
address: localhost
port: %d
platform: windows
inventory: Windows-PSRP-Kerberos
additional_information: '{"KDC": "%s"}'
`, port, s.kdc.Addr)
	for name, secret := range map[string]string{"win-admin": "{file: " + s.path("password") + "}", "win-keytab": "{keytab: " + s.path("svc.keytab") + "}", "win-wrong": "{file: " + s.path("wrong") + "}"} {
		docs += fmt.Sprintf(`---
schema: runner/v1
kind: credential
name: %s
device: win-1
domain: corp.example
USE_KERBEROS: "true"
authentication: {user: svc-runner, secret_from: %s}
requesters: [ana, bo]
jit: {create: windows-local-user}
`, name, secret)
	}
	s.write(t, "inventories/windows.yaml", docs)
	return s
}

// change changes the host while nothing of it runs any more.
func (s *winSite) change(f func()) {
	s.settle()
	f()
	s.settle()
}

func (s *winSite) profiles() []*winrmtest.Profile {
	s.settle()
	return s.Profiles
}

// settle waits until the host has seen the end of every connection.
func (s *winSite) settle() {
	for s.server.Connections() > 0 {
		runtime.Gosched()
	}
	s.User("")
}

func (s *winSite) path(name string) string { return filepath.Join(filepath.Dir(s.dir), name) }

func (s *winSite) file(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tickets counts the tickets that the KDC gave, by kind of request.
func (s *winSite) tickets() (as, tgs int) {
	for line := range strings.Lines(s.kdc.Log()) {
		if strings.Contains(line, "ISSUE") && strings.Contains(line, "AS_REQ") {
			as++
		}
		if strings.Contains(line, "ISSUE") && strings.Contains(line, "TGS_REQ") {
			tgs++
		}
	}
	return as, tgs
}

// The whole way of a grant on Windows over real HTTP, with tickets of MIT's KDC,
// as its requester sees it.
func TestWindowsGrantOverHTTPWithAKDC(t *testing.T) {
	t.Parallel()
	s := newWinSite(t)
	for _, credential := range []string{"win-admin", "win-keytab"} {
		as, tgs := s.tickets()
		ana := must[secretJSON](t, &s.site, 0, "ana", "grant", "request", credential, "--for", "1h", "--reason", "INC-42")
		s.settle()
		u := s.User(ana.Account)
		if u == nil || u.Password != ana.Password || ana.Platform != "windows" || !u.Enabled {
			t.Fatalf("%s: handed over %+v, the account is %+v", credential, ana, u)
		}
		if as2, tgs2 := s.tickets(); as2-as != 1 || tgs2-tgs != 1 {
			t.Errorf("%s: %d logins at the KDC and %d tickets, want one of each", credential, as2-as, tgs2-tgs)
		}
		s.LogOn(ana.Account, 2)
		if _, text, code := s.as(t, "ana", "grant", "end", ana.Grant); code != 0 || s.User(ana.Account) != nil || len(s.profiles()) != 0 {
			t.Fatalf("%s: end: exit %d, %s", credential, code, text)
		}
		out, text, _ := s.as(t, "ana", "grant", "show", ana.Grant)
		if !strings.Contains(out, "removed") {
			t.Errorf("%s: %s%s", credential, out, text)
		}
		for _, canary := range []string{ana.Password, svcPassword} {
			if s.tap.holds(canary) || strings.Contains(out, canary) {
				t.Errorf("%s: %q is seen", credential, canary)
			}
		}
	}
	for _, canary := range []string{"LocalUser", "<s:Envelope", "schemas.xmlsoap", "svc-runner"} {
		if s.tap.holds(canary) {
			t.Errorf("%q travels in clear", canary)
		}
	}
	if !s.tap.holds("application/HTTP-SPNEGO-session-encrypted") {
		t.Error("nothing is sealed")
	}
	if twice := s.server.Twice(); len(twice) > 0 {
		t.Errorf("sent twice: %v", twice)
	}
}

// The checkup goes all the way, and tells at which stage it ended and what to do.
func TestDeviceCheckOfWindows(t *testing.T) {
	t.Parallel()
	check := func(s *winSite, code int, credential string) (map[string]stageJSON, checkJSON) {
		v := must[[]checkJSON](t, &s.site, code, "root", "device", "check", "win-1", "--credential", credential)[0]
		out := map[string]stageJSON{}
		for _, st := range v.Stages {
			out[st.Stage] = st
		}
		return out, v
	}
	s := newWinSite(t)
	stages, v := check(s, 0, "win-admin")
	for name, want := range map[string]string{
		"tcp": "127.0.0.1:", "kdc": s.kdc.Addr + " answers", "tgt": "aes256-cts-hmac-sha1-96, until", "ticket": "for HTTP/localhost@CORP.EXAMPLE",
		"authentication": "as svc-runner@CORP.EXAMPLE to", "pipeline": "PowerShell 5.1", "language": "FullLanguage", "rights": "with the rights of an administrator",
	} {
		if st := stages[name]; st.Status != "ok" || !strings.Contains(st.Detail, want) {
			t.Errorf("%s: %+v, want %q", name, st, want)
		}
	}
	if !v.OK || v.Facts["local_accounts"] != true || slices.ContainsFunc(v.Stages, func(s stageJSON) bool { return s.Status != "ok" }) {
		t.Errorf("%+v", v)
	}
	fails := func(name, credential, stage, code, hint string) {
		t.Helper()
		stages, v := check(s, exitUnreached, credential)
		st := stages[stage]
		if st.Status != "failed" || st.Code != code || hint != "" && !strings.Contains(st.Hint, hint) {
			t.Errorf("%s: %+v, want code %s and %q\n%+v", name, st, code, hint, v.Stages)
		}
		if text := fmt.Sprint(v); strings.Contains(text, svcPassword) || strings.Contains(text, "not-the-password") {
			t.Errorf("%s: a secret is shown: %s", name, text)
		}
	}
	fails("a wrong password", "win-wrong", "tgt", "auth.password", "not tried again")
	if n := strings.Count(s.kdc.Log(), "PREAUTH_FAILED"); n > 1 {
		t.Errorf("%d failed logins for one wrong password", n)
	}
	s.change(func() { s.Ordinary = true })
	fails("no administrator", "win-admin", "rights", "rights.administrator", "virtual account")
	s.change(func() { s.Ordinary, s.DomainRole = false, 5 })
	fails("a domain controller", "win-admin", "rights", "rights.controller", "")
	good := s.service.Key
	s.change(func() { s.DomainRole, s.service.Key = 3, etype.New(etype.AES256SHA1) })
	fails("the name is of another account", "win-admin", "authentication", "auth.spn_account", "")
	s.change(func() { s.service.Key = good })
	text, err := os.ReadFile(filepath.Join(s.dir, "inventories/windows.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) {
		t.Helper()
		if !strings.Contains(string(text), old) {
			t.Fatalf("no %q", old)
		}
		s.write(t, "inventories/windows.yaml", strings.Replace(string(text), old, new, 1))
	}
	edit("\nplatform: windows", "\nplatform: windows\nspn: HTTP/nobody.corp.example")
	fails("no such name", "win-admin", "ticket", "auth.spn_unknown", "")
	edit("address: localhost", "address: no-such-host.invalid")
	fails("no such host", "win-admin", "name", "dial.name", "full name")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := closed.Addr().(*net.TCPAddr).Port
	_ = closed.Close()
	edit(s.kdc.Addr, "127.0.0.1:"+strconv.Itoa(port))
	fails("no KDC", "win-admin", "kdc", "kdc.unreachable", "")
}

// socksProxy is a SOCKS5 proxy (RFC 1928) without login; it counts connections.
func socksProxy(t *testing.T, asked *atomic.Int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	serve := func(c net.Conn) {
		defer c.Close()
		b := make([]byte, 262)
		read := func(n int) []byte {
			_, _ = io.ReadFull(c, b[:n])
			return slices.Clone(b[:n])
		}
		read(int(read(2)[1]))
		_, _ = c.Write([]byte{5, 0})
		var host string
		if read(4)[3] == 1 {
			host = net.IP(read(4)).String()
		} else {
			host = string(read(int(read(1)[0])))
		}
		port := read(2)
		there, err := net.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(int(port[0])<<8|int(port[1]))))
		if err != nil {
			return
		}
		defer there.Close()
		asked.Add(1)
		_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		done := make(chan struct{})
		go func() { defer close(done); _, _ = io.Copy(there, c); _ = there.Close() }()
		_, _ = io.Copy(c, there)
		_ = c.Close()
		<-done
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(c) })
		}
	})
	return l.Addr().String()
}

// The same templates work over the cmd shell, and through connectors, which carry
// the way to the KDC, too.
func TestWindowsOverTheCmdShellAndConnectors(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	proxy := socksProxy(t, &asked)
	box := labtest.StartT(t, lab.Config{Name: "snc", Dir: t.TempDir()})
	jump := labYAML(box)
	for name, more := range map[string]string{
		"cmd": "winrm: {operation_timeout: 2s, shell: cmd}", "socks5": "winrm: {operation_timeout: 2s}\nsocks5: " + proxy,
		"jump": "winrm: {operation_timeout: 2s}\njump: [{device: snc, credential: snc-admin}]",
	} {
		t.Run(name, func(t *testing.T) {
			s := newWinSite(t)
			s.change(func() { s.server.Program = s.win.Program })
			text, err := os.ReadFile(filepath.Join(s.dir, "inventories/windows.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			docs := strings.Replace(string(text), "winrm: {operation_timeout: 2s}", more, 1)
			if name == "jump" {
				docs += "---\n" + jump
			}
			s.write(t, "inventories/windows.yaml", docs)
			v := must[[]checkJSON](t, &s.site, 0, "root", "device", "check", "win-1", "--credential", "win-admin")[0]
			if !v.OK {
				t.Fatalf("%+v", v)
			}
			if around := name != "cmd"; around != (v.Stages[1].Detail == "looked up by the connector") || around == strings.Contains(v.Stages[3].Detail, "answers by udp") {
				t.Errorf("the way is %+v", v.Stages)
			}
			ana := must[secretJSON](t, &s.site, 0, "ana", "grant", "request", "win-admin")
			s.settle()
			if u := s.User(ana.Account); u == nil || u.Password != ana.Password {
				t.Fatalf("handed over %+v, the account is %+v", ana, u)
			}
			s.LogOn(ana.Account, 2)
			if _, text, code := s.as(t, "ana", "grant", "end", ana.Grant); code != 0 || s.User(ana.Account) != nil || len(s.profiles()) != 0 {
				t.Fatalf("end: exit %d, %s", code, text)
			}
			if n := len(s.win.Scripts()); n < 4 {
				t.Errorf("%d scripts", n)
			}
			for _, script := range s.win.Scripts() {
				for _, canary := range []string{ana.Password, ana.Account, svcPassword} {
					if strings.Contains(script, canary) {
						t.Errorf("a script holds %q", canary)
					}
				}
			}
			if s.tap.holds(ana.Password) || s.tap.holds(svcPassword) {
				t.Error("a secret travels in clear")
			}
		})
	}
	if asked.Load() < 6 {
		t.Errorf("%d connections through the proxy: those to the KDC go there, too", asked.Load())
	}
}
