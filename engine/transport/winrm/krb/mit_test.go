package krb_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"runner/engine/secret"
	"runner/engine/transport/winrm/krb"
	"runner/engine/transport/winrm/krb/etype"
	"runner/engine/transport/winrm/krb/krbtest"
)

const (
	realm    = "CORP.TEST"
	password = "Pass wörd 1"
	allAES   = "aes256-cts-hmac-sha1-96:normal,aes128-cts-hmac-sha1-96:normal,aes256-cts-hmac-sha384-192:normal,aes128-cts-hmac-sha256-128:normal"
	oneAES   = "aes256-cts-hmac-sha1-96:normal"
	spn      = "HTTP/srv1.corp.test"
)

func startMIT(t *testing.T, more ...krbtest.Principal) *krbtest.MIT {
	t.Helper()
	return krbtest.StartMIT(t, realm, oneAES, nil, append(more,
		krbtest.Principal{Name: "ops", Password: password, Keytab: "ops.keytab"},
		krbtest.Principal{Name: spn}, krbtest.Principal{Name: "WSMAN/srv1.corp.test"})...)
}

func config(k *krbtest.MIT) krb.Config {
	return krb.Config{Realm: strings.ToLower(realm), User: "ops", Password: secret.New(password), KDCs: []string{k.Addr}}
}

func client(t *testing.T, cfg krb.Config) *krb.Client {
	t.Helper()
	c, err := krb.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// code is the Code of err, which is a *krb.Error.
func code(err error) string {
	if e, ok := errors.AsType[*krb.Error](err); ok {
		return e.Code
	}
	return fmt.Sprintf("(%v)", err)
}

// collect gathers what is told about a context.
func collect(ctx context.Context) (context.Context, func() []krb.Event) {
	var mu sync.Mutex
	var events []krb.Event
	ctx = krb.WithTrace(ctx, func(e krb.Event) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, e)
	})
	return ctx, func() []krb.Event {
		mu.Lock()
		defer mu.Unlock()
		return events
	}
}

func TestMITGivesTicketsOfEveryType(t *testing.T) {
	t.Parallel()
	k := krbtest.StartMIT(t, realm, allAES, nil, krbtest.Principal{Name: "ops", Password: password}, krbtest.Principal{Name: spn})
	for _, id := range etype.All() {
		cfg := config(k)
		cfg.Etypes = []int32{id}
		tkt, err := client(t, cfg).Ticket(t.Context(), spn)
		if err != nil {
			t.Errorf("%s: %v", etype.Name(id), err)
			continue
		}
		if tkt.Key.KeyType != id || tkt.SPN() != spn+"@"+realm || tkt.Client.PrincipalNameString() != "ops" || tkt.Realm != realm || time.Until(tkt.End) < 9*time.Hour {
			t.Errorf("%s: %v for %v@%s of type %d until %s", etype.Name(id), tkt, tkt.Client, tkt.Realm, tkt.Key.KeyType, tkt.End)
		}
	}
}

func TestATicketPrintsNothingSecret(t *testing.T) {
	t.Parallel()
	tkt, err := client(t, config(startMIT(t))).Ticket(t.Context(), spn)
	if err != nil {
		t.Fatal(err)
	}
	want := "ticket for " + spn + "@" + realm
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if got := fmt.Sprintf(verb, tkt); got != want {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func TestKeytabAndTicketCacheDoInsteadOfAPassword(t *testing.T) {
	t.Parallel()
	k := startMIT(t)
	cfg := config(k)
	cfg.Password, cfg.Keytab, cfg.User, cfg.Realm = secret.Value{}, secret.New(k.File(t, "ops.keytab")), "", ""
	c := client(t, cfg)
	if _, err := c.Ticket(t.Context(), spn); err != nil || c.Principal() != "ops@"+realm {
		t.Errorf("keytab of %s: %v", c.Principal(), err)
	}
	cfg.User, cfg.Realm = "other", realm
	if _, err := krb.New(cfg); code(err) != "auth.credential" {
		t.Errorf("keytab without a key of the user: %v", err)
	}

	for name, life := range map[string]string{"cc": "300s", "long": "1h"} {
		kinit := exec.CommandContext(t.Context(), "kinit", "-l", life, "-r", "1d", "-k", "-t", filepath.Join(k.Dir, "ops.keytab"), "-c", "FILE:"+filepath.Join(k.Dir, name), "ops")
		kinit.Env = append(k.Env(), "KRB5_CONFIG="+withKDC(t, k))
		if out, err := kinit.CombinedOutput(); err != nil {
			t.Fatalf("kinit: %v: %s", err, out)
		}
	}
	// nobody told what time it is at the KDC before the first ticket
	cfg = krb.Config{CCache: secret.New(k.File(t, "long")), KDCs: []string{k.Addr}, Clock: func() time.Time { return time.Now().Add(20 * time.Minute) }}
	if tkt, err := client(t, cfg).Ticket(t.Context(), spn); err != nil || time.Since(tkt.Stamp).Abs() > 3*time.Second {
		t.Errorf("ticket cache and a clock that is off: %v", err)
	}
	cfg = krb.Config{CCache: secret.New(k.File(t, "cc")), KDCs: []string{k.Addr}}
	c = client(t, cfg)
	if _, err := c.Ticket(t.Context(), spn); err != nil || c.Principal() != "ops@"+realm {
		t.Errorf("ticket cache of %s: %v", c.Principal(), err)
	}
	// shortly before its end it is renewed, and after that it is over
	log := strings.Count(k.Log(), "TGS_REQ")
	cfg.Clock = func() time.Time { return time.Now().Add(275 * time.Second) }
	_, err := client(t, cfg).Ticket(t.Context(), spn)
	if err != nil || strings.Count(k.Log(), "TGS_REQ") < log+2 {
		t.Errorf("not renewed: %v", err)
	}
	cfg.Clock = func() time.Time { return time.Now().Add(11 * time.Hour) }
	if _, err := client(t, cfg).Ticket(t.Context(), spn); code(err) != "auth.ticket_expired" {
		t.Errorf("tickets that are over: %v", err)
	}
	cfg.User = "somebody"
	if _, err := krb.New(cfg); code(err) != "auth.credential" {
		t.Errorf("the cache of another user: %v", err)
	}
}

// withKDC is a krb5.conf for clients of k.
func withKDC(t *testing.T, k *krbtest.MIT) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "krb5.conf")
	write(t, path, fmt.Sprintf("include %s/krb5.conf\n[realms]\n %s = {\n  kdc = %s\n }\n[domain_realm]\n .corp.test = %s\n", k.Dir, realm, k.Addr, realm))
	return path
}

func TestKDCsAreFoundInKrb5Conf(t *testing.T) {
	t.Parallel()
	conf, err := krb.ReadConf(withKDC(t, startMIT(t)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = client(t, krb.Config{User: "ops", Password: secret.New(password), Conf: conf}).Ticket(t.Context(), spn)
	if err != nil {
		t.Error(err)
	}
}

func TestOneWrongPasswordIsOneAttempt(t *testing.T) {
	t.Parallel()
	k := startMIT(t)
	cfg := config(k)
	cfg.Password = secret.New("Wr0ng")
	cfg.KDCs = []string{k.Addr, k.Addr, k.Addr}
	now := time.Now()
	var mu sync.Mutex
	cfg.Clock = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	c := client(t, cfg)
	attempts := func() int { return strings.Count(k.Log(), "PREAUTH_FAILED") }
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := c.Ticket(t.Context(), fmt.Sprintf("%s%d", spn, i%3)); code(err) != "auth.password" {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := c.Ticket(t.Context(), spn); code(err) != "auth.password" || !strings.Contains(err.Error(), "not tried again before") {
		t.Errorf("the next one: %v", err)
	}
	if n := attempts(); n != 1 {
		t.Errorf("%d attempts at the KDC", n)
	}
	mu.Lock()
	now = now.Add(krb.HoldOff + time.Second)
	mu.Unlock()
	if err := c.Login(t.Context()); code(err) != "auth.password" {
		t.Error(err)
	}
	if n := attempts(); n != 2 {
		t.Errorf("%d attempts after the time off", n)
	}
}

func TestAskersShareOneLoginAndOneTicket(t *testing.T) {
	t.Parallel()
	k := startMIT(t)
	c := client(t, config(k))
	stamps := map[time.Time]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			tkt, err := c.Ticket(t.Context(), spn)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || stamps[tkt.Stamp] {
				t.Errorf("%v, stamp used before", err)
				return
			}
			stamps[tkt.Stamp] = true
		})
	}
	wg.Wait()
	logins, tickets := 0, 0
	for line := range strings.Lines(k.Log()) {
		if strings.Contains(line, "ISSUE") && strings.Contains(line, "AS_REQ") {
			logins++
		}
		// over UDP it is issued, and then fetched again over TCP
		if strings.Contains(line, "ISSUE") && strings.Contains(line, "TGS_REQ") {
			tickets++
		}
	}
	if logins != 1 || tickets > 2 {
		t.Errorf("%d logins and %d tickets for 100 askers", logins, tickets)
	}
}

func TestAClockThatIsOffIsCorrected(t *testing.T) {
	t.Parallel()
	k := startMIT(t)
	for _, off := range []time.Duration{20 * time.Minute, -3 * time.Hour, 13 * time.Hour, -13 * time.Hour} {
		cfg := config(k)
		cfg.Clock = func() time.Time { return time.Now().Add(off) }
		c := client(t, cfg)
		tkt, err := c.Ticket(t.Context(), spn)
		if err != nil {
			t.Errorf("%s: %v", off, err)
			continue
		}
		if d := (c.Skew() + off).Abs(); d > 3*time.Second || time.Since(tkt.Stamp).Abs() > 3*time.Second {
			t.Errorf("clock %s ahead: skew %s, stamp %s", off, c.Skew(), tkt.Stamp)
		}
		if left := tkt.End.Sub(cfg.Clock()); left < 9*time.Hour || left > 11*time.Hour {
			t.Errorf("clock %s ahead: the ticket is good for %s", off, left)
		}
	}
	cfg := config(k)
	cfg.Clock = func() time.Time { return time.Now().Add(krb.MaxCorrection + time.Hour) }
	if err := client(t, cfg).Login(t.Context()); code(err) != "auth.clock" {
		t.Errorf("a day off: %v", err)
	}
}

func TestWhyMITRefuses(t *testing.T) {
	t.Parallel()
	k := startMIT(t,
		krbtest.Principal{Name: "expired", Password: password, Options: "-expire yesterday"},
		krbtest.Principal{Name: "change", Password: password, Options: "-pwexpire yesterday"},
		krbtest.Principal{Name: "locked", Password: password, Options: "-allow_tix"},
		krbtest.Principal{Name: "old", Password: password, Options: "-e arcfour-hmac:normal"},
		krbtest.Principal{Name: "trusting", Password: password, Options: "-requires_preauth"},
		krbtest.Principal{Name: "HTTP/open.corp.test", Options: "-requires_preauth"})
	cfg := config(k)
	cfg.Password = secret.New("Wr0ng")
	if err := client(t, cfg).Login(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "login of ops@CORP.TEST: the password or key is wrong: ") {
		t.Errorf("a wrong password is called %v", err)
	}
	for _, c := range []struct{ user, password, spn, want string }{
		{"nobody", password, spn, "auth.user_unknown"},
		{"ops", "Wr0ng", spn, "auth.password"},
		{"expired", password, spn, "auth.locked"},
		{"change", password, spn, "auth.password_expired"},
		{"locked", password, spn, "auth.locked"},
		{"old", password, spn, "auth.etype"},
		{"trusting", "Wr0ng", spn, "auth.password"},
		{"trusting", password, "HTTP/open.corp.test", ""},
		{"ops@corp.test", password, spn, ""},
		{`CORP.TEST\ops`, password, spn, ""},
		{"ops", password, "HTTP/nowhere.corp.test", "auth.spn_unknown"},
		{"ops", password, "HTTP/x@ELSEWHERE.TEST", "auth.spn_unknown"},
	} {
		cfg := config(k)
		cfg.User, cfg.Password = c.user, secret.New(c.password)
		_, err := client(t, cfg).Ticket(t.Context(), c.spn)
		if (err == nil) != (c.want == "") || err != nil && code(err) != c.want {
			t.Errorf("%s for %s: %v (%s), want %s", c.user, c.spn, err, code(err), c.want)
		}
		if err != nil {
			t.Logf("%s: %v", c.user, err)
			if strings.Contains(err.Error(), c.password) {
				t.Errorf("the password is in %v", err)
			}
		}
	}
}

func TestAnotherKDCIsAskedWhenOneIsDown(t *testing.T) {
	t.Parallel()
	k := startMIT(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	cfg := config(k)
	cfg.KDCs = []string{l.Addr().String(), k.Addr}
	ctx, events := collect(t.Context())
	if _, err := client(t, cfg).Ticket(ctx, spn); err != nil {
		t.Error(err)
	}
	asked := map[string]int{}
	for _, e := range events() {
		if e.What == "ask" {
			asked[e.KDC]++
		}
	}
	if asked[l.Addr().String()] != 2 { // over UDP and TCP, and never again
		t.Errorf("asked %v", asked)
	}
	cfg.KDCs = cfg.KDCs[:1]
	if err := client(t, cfg).Login(t.Context()); code(err) != "kdc.unreachable" || !strings.Contains(err.Error(), "refused") {
		t.Errorf("no KDC at all: %v", err)
	}
}

func TestAConnectorCarriesTCPOnly(t *testing.T) {
	t.Parallel()
	k := startMIT(t)
	cfg := config(k)
	cfg.KDCs = []string{"dc1.corp.test"}
	var mu sync.Mutex
	var dialled []string
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		dialled = append(dialled, network+" "+addr)
		return new(net.Dialer).DialContext(ctx, network, k.Addr)
	}
	if _, err := client(t, cfg).Ticket(t.Context(), spn); err != nil {
		t.Error(err)
	}
	for _, d := range dialled {
		if d != "tcp dc1.corp.test:88" {
			t.Errorf("dialled %s", d)
		}
	}
}

func TestADatagramThatIsTooSmallIsFollowedByTCP(t *testing.T) {
	t.Parallel()
	k := startMIT(t)
	for {
		ctx, events := collect(t.Context())
		if _, err := client(t, config(k)).Ticket(ctx, spn); err != nil {
			t.Fatal(err)
		}
		var asked []string
		slow := false
		for _, e := range events() {
			if e.What == "ask" {
				asked = append(asked, e.Network)
				slow = slow || e.Err != nil
			}
		}
		if slow { // no answer within a second: a busy machine
			continue
		}
		// how the key is made; the login, which is not asked twice; the ticket
		if got := strings.Join(asked, " "); got != "udp tcp udp tcp" {
			t.Errorf("asked by %s", got)
		}
		return
	}
}

// Three domains as a forest has them: the user's KDC knows the parent only.
func TestTrustsAreFollowedOverSeveralDomains(t *testing.T) {
	t.Parallel()
	const a, root, b = "A.CORP.TEST", "CORP.TEST", "B.CORP.TEST"
	trust := func(to, from string) krbtest.Principal {
		return krbtest.Principal{Name: "krbtgt/" + to + "@" + from, Password: "trust " + to + from}
	}
	domains := map[string]string{".b.corp.test": b, ".a.corp.test": a}
	ka := krbtest.StartMIT(t, a, oneAES, domains, krbtest.Principal{Name: "ops", Password: password}, trust(root, a))
	kroot := krbtest.StartMIT(t, root, oneAES, domains, trust(root, a), trust(b, root))
	kb := krbtest.StartMIT(t, b, oneAES, domains, trust(b, root), krbtest.Principal{Name: "HTTP/srv.b.corp.test"})
	cfg := krb.Config{
		Realm: a, User: "ops", Password: secret.New(password), KDCs: []string{ka.Addr},
		Conf: &krb.Conf{Realms: map[string][]string{root: {kroot.Addr}, b: {kb.Addr}}},
	}
	for _, c := range []struct {
		spn     string
		domains map[string]string
	}{{"HTTP/srv.b.corp.test", nil}, {"HTTP/srv.b.corp.test", map[string]string{".b.corp.test": b}}, {"HTTP/srv.b.corp.test@" + b, nil}} {
		cfg.Conf.Domains = c.domains
		ctx, events := collect(t.Context())
		tkt, err := client(t, cfg).Ticket(ctx, c.spn)
		if err != nil || tkt.SPN() != "HTTP/srv.b.corp.test@"+b || tkt.Realm != a {
			t.Errorf("%s, %v: %v, %v", c.spn, c.domains, tkt, err)
		}
		var way []string
		for _, e := range events() {
			if e.What == "referral" {
				way = append(way, e.SPN)
			}
		}
		if got := strings.Join(way, " "); got != "krbtgt/CORP.TEST krbtgt/B.CORP.TEST" {
			t.Errorf("%s, %v: by way of %q", c.spn, c.domains, got)
		}
	}
}
