package ssh

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"runner/engine/lab"
	"runner/engine/secret"
	"runner/engine/transport"
)

// newKey returns a new key as authorized line and as PEM.
func newKey(t *testing.T, passphrase string) (line, private string) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sshPub, err := gossh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	block, err := gossh.MarshalPrivateKey(priv, "")
	if passphrase != "" {
		block, err = gossh.MarshalPrivateKeyWithPassphrase(priv, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(gossh.MarshalAuthorizedKey(sshPub))), string(pem.EncodeToMemory(block))
}

// dialOnce dials and closes.
func dialOnce(t *testing.T, cfg Config) (*transport.Error, transport.Peer) {
	t.Helper()
	d := &Dialer{}
	defer func() { _ = d.Close() }()
	c, err := d.Dial(t.Context(), cfg)
	if err != nil {
		te, ok := errors.AsType[*transport.Error](err)
		if !ok {
			t.Fatalf("error is %T", err)
		}
		return te, transport.Peer{}
	}
	p := c.Peer()
	_ = c.Close()
	return nil, p
}

func TestLoginMethods(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	base := config(t, m, "jitadm")
	admin := base.Auth.PrivateKey
	line, locked := newKey(t, "open sesame")
	_, stranger := newKey(t, "")
	if _, err := m.Shell(t.Context(), "echo '"+line+"' >>~plain/.ssh/authorized_keys"); err != nil {
		t.Fatal(err)
	}
	cert := certificate(t, m, line, "jitadm")
	password := secret.New(m.Password("jitadm"))
	for _, c := range []struct {
		name string
		user string
		auth Auth
		want string
	}{
		{"key", "jitadm", Auth{PrivateKey: admin}, ""},
		{"key with passphrase", "plain", Auth{PrivateKey: secret.New(locked), Passphrase: secret.New("open sesame")}, ""},
		{"passphrase that is not needed", "jitadm", Auth{PrivateKey: admin, Passphrase: secret.New("x")}, ""},
		{"no passphrase", "plain", Auth{PrivateKey: secret.New(locked)}, "auth.passphrase_required"},
		{"wrong passphrase", "plain", Auth{PrivateKey: secret.New(locked), Passphrase: secret.New("x")}, "auth.bad_key"},
		{"not a key", "plain", Auth{PrivateKey: secret.New("hello")}, "auth.bad_key"},
		{"certificate", "jitadm", Auth{PrivateKey: secret.New(locked), Passphrase: secret.New("open sesame"), Certificate: cert, Methods: []string{MethodCertificate}}, ""},
		{"certificate for another account", "jitpw", Auth{PrivateKey: secret.New(locked), Passphrase: secret.New("open sesame"), Certificate: cert}, "auth.refused"},
		{"certificate of another key", "jitadm", Auth{PrivateKey: admin, Certificate: cert}, "auth.bad_certificate"},
		{"password", "jitadm", Auth{Password: password}, ""},
		{"keyboard-interactive", "jitadm", Auth{Password: password, Methods: []string{MethodInteractive}}, ""},
		{"strange key, then password", "jitadm", Auth{PrivateKey: secret.New(stranger), Password: password}, ""},
		{"strange key, password not allowed", "jitadm", Auth{PrivateKey: secret.New(stranger), Password: password, Methods: []string{MethodPublicKey}}, "auth.refused"},
		{"nothing", "jitadm", Auth{}, "auth.nothing"},
		{"unknown method", "jitadm", Auth{PrivateKey: admin, Methods: []string{"telepathy"}}, "auth.bad_method"},
		{"root has no password", "root", Auth{Password: secret.New("x"), Methods: []string{MethodPassword}}, "auth.refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := base
			cfg.User, cfg.Auth = c.user, c.auth
			te, peer := dialOnce(t, cfg)
			if te == nil {
				if c.want != "" {
					t.Fatalf("logged in, want %s", c.want)
				}
				if want := fingerprint(t, m.HostKey); peer.Identity != want || peer.Address != m.Addr || !strings.Contains(peer.Software, "OpenSSH") {
					t.Errorf("peer is %+v", peer)
				}
				return
			}
			if te.Code != c.want || te.Phase != transport.PhaseAuth || te.Hint == "" || !te.SafeToRetry {
				t.Errorf("error is %+v, want %s", te, c.want)
			}
		})
	}
}

func fingerprint(t *testing.T, line string) string {
	t.Helper()
	k, _, _, _, err := gossh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	return gossh.FingerprintSHA256(k)
}

// certificate lets the machine's authority sign a key for an account.
func certificate(t *testing.T, m *lab.Machine, line, account string) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "id.pub")
	if err := os.WriteFile(name, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-s", filepath.Join(m.Dir, "user_ca"), "-I", "test", "-n", account, name).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cert, err := os.ReadFile(strings.TrimSuffix(name, ".pub") + "-cert.pub")
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestAgent(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	cfg := config(t, m, "plain")
	key, err := gossh.ParseRawPrivateKey([]byte(cfg.Auth.PrivateKey.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "agent") //nolint:usetesting // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(ring, c) }()
		}
	}()
	cfg.Auth = Auth{AgentSocket: ln.Addr().String()}
	if te, _ := dialOnce(t, cfg); te != nil {
		t.Errorf("key of an agent: %v", te)
	}
	signer, err := gossh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Auth.Certificate = certificate(t, m, string(gossh.MarshalAuthorizedKey(signer.PublicKey())), "plain")
	cfg.Auth.Methods = []string{MethodCertificate}
	if te, _ := dialOnce(t, cfg); te != nil {
		t.Errorf("certificate for a key of an agent: %v", te)
	}
	cfg.Auth = Auth{AgentSocket: filepath.Join(dir, "none")}
	if te, _ := dialOnce(t, cfg); te == nil || te.Code != "auth.refused" || !strings.Contains(te.Error(), "agent") {
		t.Errorf("without an agent: %v", te)
	}
}

// One wrong password is one failed attempt on the device, whatever the methods.
func TestWrongLoginPasswordIsOneFailure(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	cfg := config(t, m, "jitpw")
	cfg.Auth = Auth{Password: secret.New("wrong")}
	te, _ := dialOnce(t, cfg)
	if te == nil || te.Code != "auth.refused" || strings.Contains(te.Error(), "wrong") {
		t.Fatalf("error is %v", te)
	}
	log := m.Log()
	if n := strings.Count(log, "Failed "); n != 1 {
		t.Errorf("%d failures in the log of sshd:\n%s", n, log)
	}
}

func TestProve(t *testing.T) {
	t.Parallel()
	m, d := labMachine(t, lab.Config{Accounts: []lab.Account{{Name: "noshell", Password: "no-shell-1", Shell: "/usr/sbin/nologin"}}}), dialer(t)
	cfg := config(t, m, "noshell")
	if err := d.Prove(t.Context(), cfg); err != nil {
		t.Errorf("key: %v", err)
	}
	cfg.Auth = Auth{Password: secret.New("no-shell-1")}
	if err := d.Prove(t.Context(), cfg); err != nil {
		t.Errorf("password: %v", err)
	}
	cfg.Auth.Password = secret.New("not it")
	if err := d.Prove(t.Context(), cfg); code(err) != "auth.refused" {
		t.Errorf("wrong password: %v", err)
	}
	if len(d.groups) != 0 {
		t.Error("a proof left a connection in the pool")
	}
}

func TestProveKey(t *testing.T) {
	t.Parallel()
	m, d := machine(t, ""), dialer(t)
	line, _ := newKey(t, "")
	stranger, _ := newKey(t, "")
	if _, err := m.Shell(t.Context(), "echo '"+line+"' >>~plain/.ssh/authorized_keys"); err != nil {
		t.Fatal(err)
	}
	cfg := config(t, m, "plain")
	cfg.Auth = Auth{}
	if err := d.ProveKey(t.Context(), cfg, line); err != nil {
		t.Errorf("an accepted key: %v", err)
	}
	if err := d.ProveKey(t.Context(), cfg, stranger); code(err) != "auth.refused" {
		t.Errorf("a strange key: %v", err)
	}
	if err := d.ProveKey(t.Context(), cfg, "nonsense"); code(err) != "auth.bad_key" {
		t.Errorf("no key: %v", err)
	}
	if log := m.Log(); strings.Contains(log, "Accepted") {
		t.Errorf("somebody logged in:\n%s", log)
	}
}

func TestHostKeys(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	other, _ := newKey(t, "")
	ours := fingerprint(t, m.HostKey)
	key, _, _, _, err := gossh.ParseAuthorizedKey([]byte(m.HostKey))
	if err != nil {
		t.Fatal(err)
	}
	otherKey, _, _, _, err := gossh.ParseAuthorizedKey([]byte(other))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted(t, m, 5) }) // only the five good cases may log in
	host := knownhosts.Normalize(m.Addr)
	plain, hashed := host+" "+m.HostKey+"\n", knownhosts.Line([]string{knownhosts.HashHostname(host)}, key)+"\n"
	elsewhere := host + " " + other + "\n"
	for _, c := range []struct {
		name string
		keys HostKeys
		file string
		want string
		says string // in error or hint
	}{
		{"known line", HostKeys{Known: []string{m.HostKey}}, "", "", ""},
		{"known fingerprint", HostKeys{Known: []string{ours}}, "", "", ""},
		{"one of several", HostKeys{Known: []string{other, ours}}, "", "", ""},
		{"plain file", HostKeys{}, plain, "", ""},
		{"hashed file", HostKeys{}, hashed, "", ""},
		{"nothing known", HostKeys{}, "", "hostkey.unknown", m.HostKey},
		{"nothing known in a file", HostKeys{}, "# empty\n", "hostkey.unknown", knownhosts.Line([]string{m.Addr}, key)},
		{"another line", HostKeys{Known: []string{other}}, "", "hostkey.changed", gossh.FingerprintSHA256(otherKey)},
		{"another fingerprint", HostKeys{Known: []string{gossh.FingerprintSHA256(otherKey)}}, "", "hostkey.changed", ours},
		{"another in the file", HostKeys{}, elsewhere, "hostkey.changed", "line 1"},
		{"another in the file, trusting", HostKeys{Policy: PolicyTrustOnFirstUse}, elsewhere, "hostkey.changed", ours},
		{"document against the file", HostKeys{Known: []string{other}}, plain, "hostkey.changed", "document"},
		{"revoked in the file", HostKeys{Known: []string{m.HostKey}}, "@revoked * " + m.HostKey + "\n", "hostkey.revoked", ours},
		{"revoked in the document", HostKeys{Known: []string{m.HostKey, "@revoked " + m.HostKey}}, "", "hostkey.revoked", ours},
		{"another type", HostKeys{Known: []string{"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg="}}, "", "hostkey.type", "ecdsa-sha2-nistp256"},
		{"not a key", HostKeys{Known: []string{"ssh-ed25519 nonsense"}}, "", "hostkey.bad_known", "SHA256"},
		{"trusting without a file", HostKeys{Policy: PolicyTrustOnFirstUse}, "", "hostkey.no_file", "known_hosts"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, m, "root")
			cfg.HostKeys = c.keys
			if c.file != "" {
				cfg.HostKeys.File = filepath.Join(t.TempDir(), "known_hosts")
				if err := os.WriteFile(cfg.HostKeys.File, []byte(c.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			te, _ := dialOnce(t, cfg)
			switch {
			case te == nil && c.want == "":
			case te == nil:
				t.Errorf("accepted, want %s", c.want)
			case te.Code != c.want || te.Phase != transport.PhaseHostKey || !strings.Contains(te.Error()+te.Hint, c.says):
				t.Errorf("error is %v\nhint %s\nwant %s", te, te.Hint, c.want)
			}
			if c.file != "" {
				if b, err := os.ReadFile(cfg.HostKeys.File); err != nil || string(b) != c.file {
					t.Errorf("the file became %q, %v", b, err)
				}
			}
		})
	}
}

func TestTrustOnFirstUse(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	cfg := config(t, m, "root")
	cfg.HostKeys = HostKeys{Policy: PolicyTrustOnFirstUse, File: filepath.Join(t.TempDir(), "sub", "known_hosts")}
	d := dialer(t)
	done := make(chan error)
	for range 4 { // first uses at once
		go func() { done <- d.Prove(t.Context(), cfg) }()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	b, err := os.ReadFile(cfg.HostKeys.File)
	if want := m.KnownHostsLine() + "\n"; err != nil || string(b) != want {
		t.Errorf("the file has %q, want %q; %v", b, want, err)
	}
	if err := os.WriteFile(cfg.HostKeys.File, []byte("example.org "+m.HostKey), 0o600); err != nil { // without a line end
		t.Fatal(err)
	}
	if te, _ := dialOnce(t, cfg); te != nil {
		t.Error(te)
	}
	b, err = os.ReadFile(cfg.HostKeys.File)
	if want := "example.org " + m.HostKey + "\n" + m.KnownHostsLine() + "\n"; err != nil || string(b) != want {
		t.Errorf("the file has %q, %v", b, err)
	}
}

// hostSigner is a new host key of a type.
func hostSigner(t *testing.T, private any) gossh.Signer {
	t.Helper()
	s, err := gossh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A fingerprint does not tell the type of its key, so the types are asked for
// one after the other; a host certificate needs its authority.
func TestHostKeyTypes(t *testing.T) {
	t.Parallel()
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, caKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed, ec, rs, ca := hostSigner(t, edKey), hostSigner(t, ecKey), hostSigner(t, rsaKey), hostSigner(t, caKey)
	cert := &gossh.Certificate{Key: ed.PublicKey(), CertType: gossh.HostCert, ValidPrincipals: []string{"127.0.0.1"}, ValidBefore: gossh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	certified, err := gossh.NewCertSigner(cert, ed)
	if err != nil {
		t.Fatal(err)
	}
	line := func(s gossh.Signer) string { return string(gossh.MarshalAuthorizedKey(s.PublicKey())) }
	mark := func(s gossh.Signer) string { return gossh.FingerprintSHA256(s.PublicKey()) }
	_, client := newKey(t, "")
	for _, c := range []struct {
		name   string
		server []gossh.Signer
		known  []string
		file   string
		want   string
	}{
		{"fingerprint of the last type", []gossh.Signer{ed, ec, rs}, []string{mark(rs)}, "", ""},
		{"fingerprint of the middle type", []gossh.Signer{ed, ec, rs}, []string{mark(ec)}, "", ""},
		{"fingerprint of none", []gossh.Signer{ed, ec, rs}, []string{mark(ca)}, "", "hostkey.changed"},
		{"RSA line", []gossh.Signer{ed, rs}, []string{line(rs)}, "", ""},
		{"only RSA here, ed25519 known", []gossh.Signer{rs}, []string{line(ed)}, "", "hostkey.type"},
		{"authority", []gossh.Signer{certified, rs}, []string{"@cert-authority " + line(ca)}, "", ""},
		{"another authority", []gossh.Signer{certified, rs}, []string{"@cert-authority " + line(ec)}, "", "hostkey.certificate"},
		{"authority in the file", []gossh.Signer{certified, rs}, nil, "@cert-authority HOST " + line(ca), ""},
		{"certificate of no known authority", []gossh.Signer{certified}, nil, "@cert-authority HOST " + line(ec), "hostkey.certificate"},
		{"revoked authority", []gossh.Signer{certified}, nil, "@cert-authority HOST " + line(ca) + "@revoked * " + line(ca), "hostkey.certificate"},
		{"certificate of no known authority, known key", []gossh.Signer{certified}, nil, "@cert-authority HOST " + line(ec) + "HOST " + line(ed), ""},
		{"certificate for a key from the document", []gossh.Signer{certified}, []string{line(ed), "@cert-authority " + line(ec)}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr := handshaker(t, c.server)
			cfg := Config{Address: addr, User: "x", Auth: Auth{PrivateKey: secret.New(client)}, HostKeys: HostKeys{Known: c.known}}
			if c.file != "" {
				cfg.HostKeys.File = filepath.Join(t.TempDir(), "known_hosts")
				if err := os.WriteFile(cfg.HostKeys.File, []byte(strings.ReplaceAll(c.file, "HOST", knownhosts.Normalize(addr))), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			te, _ := dialOnce(t, cfg)
			switch {
			case te == nil && c.want == "":
			case te == nil:
				t.Errorf("accepted, want %s", c.want)
			case te.Code != c.want:
				t.Errorf("error is %s: %v\nwant %s", te.Code, te, c.want)
			}
		})
	}
}

// handshaker is a server that lets everybody in and does nothing more.
func handshaker(t *testing.T, keys []gossh.Signer) string {
	t.Helper()
	conf := &gossh.ServerConfig{PublicKeyCallback: func(gossh.ConnMetadata, gossh.PublicKey) (*gossh.Permissions, error) { return nil, nil }}
	for _, k := range keys {
		conf.AddHostKey(k)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				sc, chans, reqs, err := gossh.NewServerConn(c, conf)
				if err != nil {
					_ = c.Close()
					return
				}
				go gossh.DiscardRequests(reqs)
				for ch := range chans {
					_ = ch.Reject(gossh.Prohibited, "no\x1b[31m shell")
				}
				_ = sc.Close()
			}()
		}
	}()
	return ln.Addr().String()
}

func TestJumpHosts(t *testing.T) {
	t.Parallel()
	first, second, last := machine(t, ""), machine(t, ""), machine(t, "")
	d := dialer(t)
	cfg := config(t, last, "root")
	cfg.Jump = []Config{config(t, first, "plain"), config(t, second, "jitadm")}
	c := connTo(t, d, cfg)
	var r record
	if err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{sh(1, "echo ${SSH_CONNECTION%% *} arrived")}}, r.sink); err != nil {
		t.Fatal(err)
	}
	if got := r.output(1, transport.Stdout); got != "127.0.0.1 arrived\n" {
		t.Errorf("got %q", got)
	}
	for _, m := range []*lab.Machine{first, second, last} {
		accepted(t, m, 1)
	}
	cfg.Jump[1].HostKeys.Known = []string{first.HostKey}
	if te, _ := dialOnce(t, cfg); te == nil || te.Code != "hostkey.changed" || te.Device != second.Addr {
		t.Errorf("a wrong key of the second hop: %v", te)
	}
	cfg = config(t, last, "root")
	cfg.Address = "127.0.0.1:1"
	cfg.Jump = []Config{config(t, first, "plain")}
	if te, _ := dialOnce(t, cfg); te == nil || te.Code != "dial.jump_refused" || !te.SafeToRetry {
		t.Errorf("a closed port behind the hop: %v", te)
	}
}

func TestDialErrorsSayThePhase(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	serve := func(say string) string {
		ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				_, _ = c.Write([]byte(say))
				if say == "" {
					defer func() { _ = c.Close() }() // silent until the test ends
					continue
				}
				_ = c.Close()
			}
		}()
		return ln.Addr().String()
	}
	closed := serve("x")
	for _, c := range []struct {
		name, address, want string
		phase               transport.Phase
	}{
		{"nobody listens", "127.0.0.1:1", "dial.unreachable", transport.PhaseDial},
		{"no such name", "nowhere.invalid:22", "dial.resolve", transport.PhaseResolve},
		{"another protocol", serve("HTTP/1.1 400 Bad Request\x1b[31m\r\n\r\n"), "dial.dropped", transport.PhaseDial},
		{"silence", serve(""), "dial.timeout", transport.PhaseDial},
		{"MaxStartups", serve("Exceeded MaxStartups\r\n"), "dial.dropped", transport.PhaseDial},
		{"drops at once", closed, "dial.dropped", transport.PhaseDial},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, key := newKey(t, "")
			te, _ := dialOnce(t, Config{Address: c.address, User: "x", Auth: Auth{PrivateKey: secret.New(key)}, DialTimeout: 500 * 1e6})
			if te == nil || te.Code != c.want || te.Phase != c.phase || !te.SafeToRetry || te.Step != -1 {
				t.Fatalf("error is %+v, want %s", te, c.want)
			}
			if strings.ContainsAny(te.Error(), "\x1b\r\n") {
				t.Errorf("control characters in %q", te.Error())
			}
		})
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	got := clean("a\x1b[31m\nb\x00\u202ec\xff"+strings.Repeat("x", 50), 20)
	if strings.ContainsAny(got, "\x1b\n\x00\u202e") || len(got) > 24 || !strings.HasSuffix(got, "…") {
		t.Errorf("got %q", got)
	}
}

type sshSigner = gossh.Signer

func describeFingerprint(s gossh.Signer) string { return gossh.FingerprintSHA256(s.PublicKey()) }

// secondServer runs another sshd in the machine, with its present
// configuration, and returns its address.
func secondServer(t *testing.T, m *lab.Machine) string {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	_, port, _ := net.SplitHostPort(addr)
	if _, err := m.Shell(t.Context(), "sed '/^Port/d;/^ListenAddress/d;/^PidFile/d' /etc/ssh/sshd_config >/etc/ssh/second; /usr/sbin/sshd -f /etc/ssh/second -o ListenAddress=127.0.0.1:"+port+" -o PidFile=none </dev/null 2>&1"); err != nil {
		t.Fatal(err)
	}
	wait(t, m, "ssh-keyscan -T 1 -p "+port+" 127.0.0.1 2>/dev/null | grep -q ssh-") // it listens after it has gone to the background
	return addr
}
