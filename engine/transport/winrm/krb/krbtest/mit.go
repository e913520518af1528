// Package krbtest starts real KDCs for tests, on loopback and ports of their own, and
// ends them: MIT's and, as the nearest thing to Active Directory, Samba's. It never
// skips: testdata/setup/packages.sh installs what it needs.
package krbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// MIT is a KDC of MIT Kerberos.
type MIT struct {
	Realm string
	Addr  string // 127.0.0.1:port, TCP and UDP
	Dir   string // of its files
	conf  string // kdc.conf without addresses
}

// Principal is an entry of a KDC's database.
type Principal struct {
	Name     string // with @realm where it is not the KDC's own
	Password string // empty: a random key
	Options  string // of kadmin's addprinc
	Keytab   string // file to write its keys to, in Dir
}

// maxDatagram makes a KDC ask for TCP when it gives a ticket, as those of Active
// Directory do.
const maxDatagram = 500

// StartMIT starts a KDC that ends with the test. etypes are the types of the keys that
// principals get; domains are the other realms of hosts, by domain. Accounts must
// pre-authenticate where Options do not say otherwise.
func StartMIT(tb testing.TB, realm, etypes string, domains map[string]string, principals ...Principal) *MIT {
	tb.Helper()
	k := &MIT{Realm: realm, Dir: tb.TempDir()}
	if err := k.create(tb.Context(), etypes, domains, principals); err != nil {
		tb.Fatalf("MIT KDC: %v", err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("log of the KDC of %s:\n%s", realm, k.Log())
		}
	})
	k.Addr = anywhere(tb, func(addr string) error { return k.start(tb, addr) })
	return k
}

// Log is what the KDC logged.
func (k *MIT) Log() string {
	b, err := os.ReadFile(filepath.Join(k.Dir, "kdc.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// File returns the contents of a file that a Principal named.
func (k *MIT) File(tb testing.TB, name string) string {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(k.Dir, name))
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// Env is the environment in which MIT's programs use this KDC.
func (k *MIT) Env() []string {
	return []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + k.Dir, "LC_ALL=C", "KRB5_CONFIG=" + filepath.Join(k.Dir, "krb5.conf"), "KRB5_KDC_PROFILE=" + filepath.Join(k.Dir, "kdc.conf"), "KRB5RCACHENAME=none:"}
}

func (k *MIT) create(ctx context.Context, etypes string, domains map[string]string, principals []Principal) error {
	var mapped strings.Builder
	for domain, realm := range domains {
		fmt.Fprintf(&mapped, " %s = %s\n", domain, realm)
	}
	conf := fmt.Sprintf("[libdefaults]\n default_realm = %s\n dns_lookup_kdc = false\n dns_canonicalize_hostname = false\n rdns = false\n allow_weak_crypto = true\n[realms]\n %s = {\n }\n[domain_realm]\n%s", k.Realm, k.Realm, mapped.String())
	k.conf = fmt.Sprintf("[realms]\n %s = {\n  database_name = %s/principal\n  key_stash_file = %s/stash\n  max_life = 10h\n  max_renewable_life = 7d\n  supported_enctypes = %s\n  master_key_type = aes256-cts\n }\n[logging]\n kdc = FILE:%s/kdc.log\n", k.Realm, k.Dir, k.Dir, etypes, k.Dir)
	for name, text := range map[string]string{"krb5.conf": conf, "kdc.conf": k.conf} {
		if err := os.WriteFile(filepath.Join(k.Dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := k.run(ctx, "", "kdb5_util", "create", "-s", "-r", k.Realm, "-P", "master"); err != nil {
		return err
	}
	var script strings.Builder
	for _, p := range principals {
		how := "-randkey"
		if p.Password != "" {
			how = fmt.Sprintf("-pw %q", p.Password)
		}
		fmt.Fprintf(&script, "addprinc +requires_preauth %s %s %s\n", p.Options, how, p.Name)
		if p.Keytab != "" {
			fmt.Fprintf(&script, "ktadd -norandkey -k %s/%s %s\n", k.Dir, p.Keytab, p.Name)
		}
	}
	return k.run(ctx, script.String(), "kadmin.local", "-r", k.Realm)
}

func (k *MIT) run(ctx context.Context, stdin, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, "/usr/sbin/"+program, args...)
	cmd.Env, cmd.Stdin = k.Env(), strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "while ") {
		return fmt.Errorf("%s: %w: %s", program, errors.Join(err, errors.New("it complained")), out)
	}
	return nil
}

func (k *MIT) start(tb testing.TB, addr string) error {
	tb.Helper()
	text := fmt.Sprintf("[kdcdefaults]\n kdc_listen = %s\n kdc_tcp_listen = %s\n kdc_max_dgram_reply_size = %d\n%s", addr, addr, maxDatagram, k.conf)
	if err := os.WriteFile(filepath.Join(k.Dir, "kdc.conf"), []byte(text), 0o600); err != nil {
		return err
	}
	return serve(tb, addr, k.Env(), "/usr/sbin/krb5kdc", "-n", "-r", k.Realm)
}
