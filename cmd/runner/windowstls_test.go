package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// https makes the listener of the host one with a certificate for localhost, and
// returns its SHA-256.
func (s *winSite) https(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s.settle()
	s.server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	sum := sha256.Sum256(der)
	s.service.Binding = append([]byte("tls-server-end-point:"), sum[:]...)
	s.server.Binding = s.service.Binding
	s.server.User, s.server.Password = "svc-runner", svcPassword
	s.settle()
	s.file(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return hex.EncodeToString(sum[:])
}

// Over https the certificate is one of the authority that the inventory names, or
// the one that the device pins, and nothing else; Basic works there and only there.
func TestWindowsOverHTTPS(t *testing.T) {
	t.Parallel()
	s := newWinSite(t)
	sum := s.https(t)
	text, err := os.ReadFile(filepath.Join(s.dir, "inventories/windows.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(name, winrm, device string, code int) checkJSON {
		t.Helper()
		docs := strings.Replace(string(text), "winrm: {operation_timeout: 2s}", "winrm: {operation_timeout: 2s, scheme: https"+winrm+"}", 1)
		docs = strings.Replace(docs, "\nplatform: windows\n", "\nplatform: windows\n"+device, 1)
		if strings.Contains(winrm, "basic") {
			docs, _, _ = strings.Cut(docs, "---\nschema: runner/v1\nkind: credential")
			docs += "---\nschema: runner/v1\nkind: credential\nname: win-admin\ndevice: win-1\nauthentication: {user: svc-runner, secret_from: {file: " + s.path("password") + "}}\nrequesters: [ana]\njit: {create: windows-local-user}\n"
		}
		s.write(t, "inventories/windows.yaml", docs)
		v := must[[]checkJSON](t, &s.site, code, "root", "device", "check", "win-1", "--credential", "win-admin")[0]
		if v.OK != (code == 0) {
			t.Errorf("%s: %+v", name, v.Stages)
		}
		return v
	}
	grants := func(name string) {
		t.Helper()
		ana := must[secretJSON](t, &s.site, 0, "ana", "grant", "request", "win-admin")
		if _, out, code := s.as(t, "ana", "grant", "end", ana.Grant); code != 0 || s.User(ana.Account) != nil {
			t.Errorf("%s: end: exit %d, %s", name, code, out)
		}
		if s.tap.holds(ana.Password) || s.tap.holds(svcPassword) || s.tap.holds("Envelope") {
			t.Errorf("%s: something travels in clear", name)
		}
	}
	check("the authority", ", ca_file: "+s.path("ca.pem"), "", 0)
	grants("the authority")
	check("the pinned one", "", "certificate: \""+sum+"\"\n", 0)
	check("basic", ", auth: basic, ca_file: "+s.path("ca.pem"), "", 0)
	grants("basic")
	for name, v := range map[string]checkJSON{
		"nobody signed it": check("nobody signed it", "", "", exitUnreached),
		"another one":      check("another one", "", fmt.Sprintf("certificate: %q\n", strings.Repeat("00", 32)), exitUnreached),
	} {
		for _, st := range v.Stages {
			if st.Status == "failed" && (st.Stage != "authentication" || !strings.Contains(st.Detail+st.Code, "certificate")) {
				t.Errorf("%s: %+v", name, st)
			}
		}
	}
	s.change(func() { s.service.Binding = append([]byte("tls-server-end-point:"), make([]byte, 32)...) })
	if v := check("somebody between", ", ca_file: "+s.path("ca.pem"), "", exitUnreached); !strings.Contains(fmt.Sprint(v.Stages), "auth.") {
		t.Errorf("somebody between: %+v", v.Stages)
	}
}
