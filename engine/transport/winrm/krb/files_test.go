package krb_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"runner/engine/secret"
	"runner/engine/transport/winrm/krb"
)

func write(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

func TestKrb5ConfIsReadAsAdministratorsWriteIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "krb5.conf"), `# written by hand
includedir `+dir+`/conf.d
[libdefaults]
    default_realm = corp.example
    dns_lookup_kdc = on
    permitted_enctypes = aes256-cts rc4-hmac
[realms]
    corp.example = {
        kdc = dc1.corp.example:88
        kdc = tcp/dc2.corp.example
        kdc = https://gateway.corp.example/KdcProxy
        auth_to_local_names = {
            root = ops
            kdc = not.this.one
        }
        admin_server = dc1.corp.example
    }
    ONE.LINE = { kdc = dc.one.line }
[domain_realm]
    .corp.example = CORP.EXAMPLE
    odd.elsewhere = one.line
[capaths]
    A = { B = . }
`)
	if err := os.Mkdir(filepath.Join(dir, "conf.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "conf.d", "more"), "[realms]\nMORE.TEST = {\n kdc = [::1]:8888\n}\n")
	write(t, filepath.Join(dir, "conf.d", "old.rpmsave"), "[realms]\nOLD.TEST = {\n kdc = old\n}\n")
	got, err := krb.ReadConf(filepath.Join(dir, "krb5.conf"))
	want := &krb.Conf{
		DefaultRealm: "CORP.EXAMPLE",
		Realms: map[string][]string{
			"CORP.EXAMPLE": {"dc1.corp.example:88", "dc2.corp.example"},
			"ONE.LINE":     {"dc.one.line"}, "MORE.TEST": {"[::1]:8888"},
		},
		Domains: map[string]string{".corp.example": "CORP.EXAMPLE", "odd.elsewhere": "ONE.LINE"},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	write(t, filepath.Join(dir, "loop.conf"), "include "+dir+"/loop.conf\n")
	if _, err := krb.ReadConf(filepath.Join(dir, "loop.conf")); err == nil {
		t.Error("a file that includes itself was read to its end")
	}
	if _, err := krb.ReadConf(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestConfigurationsThatCannotWorkAreRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	pw := secret.New("x")
	for name, cfg := range map[string]krb.Config{
		"nothing":        {},
		"no secret":      {Realm: "CORP.TEST", User: "ops"},
		"two secrets":    {Realm: "CORP.TEST", User: "ops", Password: pw, Keytab: pw},
		"no user":        {Realm: "CORP.TEST", Password: pw},
		"no realm":       {User: "ops", Password: pw},
		"realm":          {Realm: "CORP/TEST", User: "ops", Password: pw},
		"long":           {Realm: "CORP.TEST", User: strings.Repeat("x", 300), Password: pw},
		"RC4":            {Realm: "CORP.TEST", User: "ops", Password: pw, Etypes: []int32{23}},
		"keytab":         {Realm: "CORP.TEST", User: "ops", Keytab: secret.New("canary")},
		"damaged keytab": {Realm: "CORP.TEST", User: "ops", Keytab: secret.New("\x05\x02\x00\x00\x00\x40canary")},
		"ccache":         {CCache: secret.New("canary")},
		"damaged ccache": {CCache: secret.New("\x05\x04\x00\x00\x00\x00\x00\x01\xff\xff\xff\xffcanary")},
	} {
		_, err := krb.New(cfg)
		if code(err) != "auth.credential" {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the secret is in %v", name, err)
		}
	}
}

func FuzzFiles(f *testing.F) {
	f.Add("\x05\x02\x00\x00\x00\x40canary")
	f.Add("\x05\x04\x00\x0c\x00\x01\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01R\x00\x00\x00\x01u")
	f.Fuzz(func(t *testing.T, s string) {
		for _, cfg := range []krb.Config{{Realm: "R", User: "u", Keytab: secret.New(s)}, {CCache: secret.New(s)}} {
			if _, err := krb.New(cfg); err != nil && code(err) != "auth.credential" {
				t.Error(err)
			}
		}
		_, _ = krb.ReadError([]byte(s))
	})
}
