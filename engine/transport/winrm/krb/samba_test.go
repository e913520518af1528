package krb_test

import (
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"runner/engine/secret"
	"runner/engine/transport/winrm/gss"
	"runner/engine/transport/winrm/krb"
	"runner/engine/transport/winrm/krb/etype"
	"runner/engine/transport/winrm/krb/krbtest"
)

// Samba takes seconds to start: one domain does for everything here.
func TestSambaAsActiveDirectory(t *testing.T) {
	t.Parallel()
	const aes, disabled, noPreAuth = 24, 2, 0x400000
	user := func(name string) krbtest.Account {
		return krbtest.Account{Name: name, Password: password, Etypes: aes}
	}
	with := func(a krbtest.Account, change func(*krbtest.Account)) krbtest.Account {
		change(&a)
		return a
	}
	ad := krbtest.StartSamba(t, "AD.TEST",
		with(user("ops"), func(a *krbtest.Account) { a.Keytab = "ops.keytab" }),
		user("once"), user("locked"),
		with(user("disabled"), func(a *krbtest.Account) { a.Control = disabled }),
		with(user("change"), func(a *krbtest.Account) { a.Change = true }),
		with(user("open"), func(a *krbtest.Account) { a.Control = noPreAuth }),
		krbtest.Account{Name: "srv1", Password: password, Etypes: aes, Keytab: "srv1.keytab", SPNs: []string{"HTTP/srv1.ad.test", "WSMAN/srv1.ad.test"}})
	config := func(name string) krb.Config {
		return krb.Config{Realm: "ad.test", User: name, Password: secret.New(password), KDCs: []string{ad.Addr}}
	}

	t.Run("tickets", func(t *testing.T) {
		for _, c := range []struct{ user, spn string }{
			{"ops", "HTTP/srv1.ad.test"},
			{"OPS", "http/SRV1.ad.test"},
			{"ops@ad.test", "WSMAN/srv1.ad.test"},
			{`ADTEST\ops`, "HTTP/srv1.ad.test"},
			{"open", "HTTP/srv1.ad.test"},
		} {
			for _, id := range []int32{etype.AES256SHA1, etype.AES128SHA1} {
				cfg := config(c.user)
				cfg.Etypes = []int32{id}
				tkt, err := client(t, cfg).Ticket(t.Context(), c.spn)
				if err != nil || tkt.Key.KeyType != id || tkt.Realm != "AD.TEST" || !strings.EqualFold(tkt.SPN(), c.spn+"@AD.TEST") {
					t.Errorf("%s for %s under %s: %v, %v", c.user, c.spn, etype.Name(id), tkt, err)
				}
			}
		}
		cfg := config("")
		cfg.Password, cfg.Keytab = secret.Value{}, secret.New(ad.File(t, "ops.keytab"))
		if _, err := client(t, cfg).Ticket(t.Context(), "HTTP/srv1.ad.test"); err != nil {
			t.Errorf("keytab: %v", err)
		}
		for _, off := range []time.Duration{20 * time.Minute, -3 * time.Hour} {
			cfg := config("ops")
			cfg.Clock = func() time.Time { return time.Now().Add(off) }
			if _, err := client(t, cfg).Ticket(t.Context(), "HTTP/srv1.ad.test"); err != nil {
				t.Errorf("clock %s ahead: %v", off, err)
			}
		}
	})

	t.Run("a host with the keys of the domain", func(t *testing.T) {
		m := krbtest.StartAcceptor(t, []string{"PATH=/usr/bin", "KRB5_CONFIG=/dev/null", "KRB5RCACHENAME=none:"}, filepath.Join(ad.Dir, "srv1.keytab"), nil)
		c, err := (&gss.Kerberos{Tickets: client(t, config("ops"))}).Initiate(t.Context(), gss.Target{Host: "srv1.ad.test", Confidential: true})
		if err != nil {
			t.Fatal(err)
		}
		tok, err := c.Next(nil)
		if err != nil {
			t.Fatal(err)
		}
		said, err := m.Ask("step", tok)
		if err != nil || said[2] != "ops@AD.TEST" {
			t.Fatalf("%v, %v", said, err)
		}
		rep, err := hex.DecodeString(said[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Next(rep); err != nil || c.Peer() != "HTTP/srv1.ad.test@AD.TEST" {
			t.Errorf("%s: %v", c.Peer(), err)
		}
	})

	t.Run("refusals", func(t *testing.T) {
		for _, c := range []struct{ user, password, spn, want, text string }{
			{"nobody", password, "HTTP/srv1.ad.test", "auth.user_unknown", ""},
			{"disabled", password, "HTTP/srv1.ad.test", "auth.locked", "not valid yet: Clients credentials"},
			{"change", password, "HTTP/srv1.ad.test", "auth.password_expired", ""},
			{"open", "Wr0ng", "HTTP/srv1.ad.test", "auth.password", ""},
			{"ops", password, "HTTP/nowhere.ad.test", "auth.spn_unknown", ""},
		} {
			cfg := config(c.user)
			cfg.Password = secret.New(c.password)
			_, err := client(t, cfg).Ticket(t.Context(), c.spn)
			if err == nil || code(err) != c.want || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s for %s: %v (%s), want %s", c.user, c.spn, err, code(err), c.want)
			}
		}
	})

	t.Run("one wrong password is one attempt", func(t *testing.T) {
		cfg := config("once")
		cfg.Password, cfg.KDCs = secret.New("Wr0ng"), []string{ad.Addr, ad.Addr}
		c := client(t, cfg)
		for range 5 {
			if _, err := c.Ticket(t.Context(), "HTTP/srv1.ad.test"); code(err) != "auth.password" {
				t.Error(err)
			}
		}
		if n := ad.Attempts(t, "once"); n != 1 {
			t.Errorf("the domain counts %d attempts", n)
		}
	})

	t.Run("a locked account is named as such", func(t *testing.T) {
		for range 3 {
			cfg := config("locked")
			cfg.Password = secret.New("Wr0ng")
			_ = client(t, cfg).Login(t.Context())
		}
		if err := client(t, config("locked")).Login(t.Context()); code(err) != "auth.locked" {
			t.Errorf("%v (%s), attempts %d", err, code(err), ad.Attempts(t, "locked"))
		} else {
			t.Log(err)
		}
	})
}
