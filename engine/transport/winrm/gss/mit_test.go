package gss_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"runner/engine/secret"
	"runner/engine/transport/winrm/gss"
	"runner/engine/transport/winrm/krb"
	"runner/engine/transport/winrm/krb/etype"
	"runner/engine/transport/winrm/krb/krbtest"
)

func startAcceptor(t *testing.T, k *krbtest.MIT, keytab string, binding []byte) *krbtest.Acceptor {
	t.Helper()
	return krbtest.StartAcceptor(t, k.Env(), filepath.Join(k.Dir, keytab), binding)
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.TrimPrefix(s, "-"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// meetMIT leads the dialogue with an acceptor of MIT's.
func meetMIT(t *testing.T, m *krbtest.Acceptor, k *gss.Kerberos, target gss.Target) (gss.Context, []string, error) {
	t.Helper()
	c, err := k.Initiate(t.Context(), target)
	if err != nil {
		return nil, nil, err
	}
	tok, err := c.Next(nil)
	if err != nil {
		return nil, nil, err
	}
	said, err := m.Ask("step", tok)
	if err != nil {
		return nil, nil, err
	}
	if _, err = c.Next(unhex(t, said[0])); err != nil {
		err = fmt.Errorf("%w; MIT: %s", err, said[2])
	}
	return c, said[1:], err
}

func startRealm(t *testing.T, id int32) (*krbtest.MIT, *krb.Client) {
	t.Helper()
	const password = "Pass 1"
	k := krbtest.StartMIT(t, "CORP.TEST", etype.Name(id)+":normal", nil,
		krbtest.Principal{Name: "ops", Password: password},
		krbtest.Principal{Name: "HTTP/" + host, Keytab: "host.keytab"},
		krbtest.Principal{Name: "WSMAN/other.corp.test", Keytab: "other.keytab"})
	c, err := krb.New(krb.Config{Realm: k.Realm, User: "ops", Password: secret.New(password), KDCs: []string{k.Addr}, Etypes: []int32{id}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return k, c
}

func TestMITAcceptsUsAndTalksBothWays(t *testing.T) {
	t.Parallel()
	rotation := map[int32]string{etype.AES128SHA1: "28", etype.AES256SHA1: "28", etype.AES128SHA256: "32", etype.AES256SHA384: "40"}
	for _, id := range etype.All() {
		t.Run(etype.Name(id), func(t *testing.T) {
			t.Parallel()
			k, client := startRealm(t, id)
			for _, bare := range []bool{false, true} {
				m := startAcceptor(t, k, "host.keytab", nil)
				c, said, err := meetMIT(t, m, &gss.Kerberos{Tickets: client, Bare: bare}, target)
				if err != nil || !c.Done() || said[0] != "1" || said[1] != "ops@CORP.TEST" || c.Peer() != "HTTP/srv1.corp.test@CORP.TEST" {
					t.Fatalf("bare %v: %v, %v", bare, said, err)
				}
				// mutual, replay, out of sequence, confidentiality, integrity; no delegation
				for _, f := range "mroci" {
					if !strings.ContainsRune(said[2], f) || strings.Contains(said[2], "d") {
						t.Errorf("flags %s", said[2])
					}
				}
				for _, n := range []int{0, 1, 15, 16, 17, 33, 1000, 100_000} {
					plain := bytes.Repeat([]byte{'x'}, n)
					h, b, err := c.Seal(plain)
					if err != nil {
						t.Fatal(err)
					}
					got, err := m.Ask("unwrap", append(h, b...))
					if err != nil || !bytes.Equal(unhex(t, got[0]), plain) || got[1] != "0" || got[2] != rotation[id] {
						t.Fatalf("%d bytes for MIT: %v", n, err)
					}
					parts, err := m.Ask("seal", plain)
					if err != nil {
						t.Fatal(err)
					}
					if back, err := c.Open(unhex(t, parts[0]), unhex(t, parts[1])); err != nil || !bytes.Equal(back, plain) {
						t.Fatalf("%d bytes of MIT: %v", n, err)
					}
					whole, err := m.Ask("wrap", plain)
					if err != nil {
						t.Fatal(err)
					}
					if back, err := c.Open(nil, unhex(t, whole[0])); err != nil || !bytes.Equal(back, plain) {
						t.Fatalf("%d bytes of MIT as a stream: %v", n, err)
					}
				}
			}
		})
	}
}

func TestMITLooksAtWhatWeBindTo(t *testing.T) {
	t.Parallel()
	k, client := startRealm(t, etype.AES256SHA1)
	binding := append([]byte("tls-server-end-point:"), bytes.Repeat([]byte{9}, 32)...)
	other := append([]byte("tls-server-end-point:"), bytes.Repeat([]byte{8}, 32)...)
	for _, c := range []struct {
		name         string
		theirs, ours []byte
		want         string
	}{
		{"the same", binding, binding, ""},
		{"another", binding, other, "channel_bindings"},
		{"theirs only", binding, nil, ""}, // MIT 1.20 lets clients without one pass; Windows does by its setting
		{"ours only", nil, binding, ""},
	} {
		to := target
		to.Binding = c.ours
		_, _, err := meetMIT(t, startAcceptor(t, k, "host.keytab", c.theirs), &gss.Kerberos{Tickets: client}, to)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestMITRefusesWhatIsNotForIt(t *testing.T) {
	t.Parallel()
	k, client := startRealm(t, etype.AES256SHA1)
	// a host without the key of the name
	_, _, err := meetMIT(t, startAcceptor(t, k, "other.keytab", nil), &gss.Kerberos{Tickets: client}, target)
	if err == nil || code(t, err) != "auth.spn_host" {
		t.Errorf("a host without our name's key: %v", err)
	}
	// a host that accepts us gets a new ticket, since the old one was refused
	issued := func() int { return strings.Count(k.Log(), "ISSUE") }
	before := issued()
	for range 3 {
		if _, _, err := meetMIT(t, startAcceptor(t, k, "host.keytab", nil), &gss.Kerberos{Tickets: client}, target); err != nil {
			t.Error(err)
		}
	}
	if n := issued() - before; n == 0 || n > 2 { // over UDP, and perhaps again over TCP
		t.Errorf("%d tickets were issued after a refusal", n)
	}
	// the name that only the second service has
	c, _, err := meetMIT(t, startAcceptor(t, k, "other.keytab", nil), &gss.Kerberos{Tickets: client}, gss.Target{Host: "other.corp.test", Confidential: true})
	if err != nil || c.Peer() != "WSMAN/other.corp.test@CORP.TEST" {
		t.Errorf("HTTP/ is unknown and WSMAN/ is not taken: %v", err)
	}
	// a message that was changed, and one that comes twice
	m := startAcceptor(t, k, "host.keytab", nil)
	if c, _, err = meetMIT(t, m, &gss.Kerberos{Tickets: client}, target); err != nil {
		t.Fatal(err)
	}
	h, b, err := c.Seal([]byte("<s:Envelope/>"))
	if err != nil {
		t.Fatal(err)
	}
	tok := slices.Concat(h, b)
	bad := bytes.Clone(tok)
	bad[len(bad)-1] ^= 1
	if _, err := m.Ask("unwrap", bad); err == nil {
		t.Error("MIT took a changed message")
	}
	if _, err := m.Ask("unwrap", tok); err != nil {
		t.Error(err)
	}
	if _, err := m.Ask("unwrap", tok); err == nil {
		t.Error("MIT took a message twice")
	}
}
