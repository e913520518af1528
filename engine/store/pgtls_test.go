package store_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"runner/engine/secret"
	"runner/engine/store"
	"runner/engine/store/pgtest"
)

// certificate writes a certificate for a name and its key, both of which only their
// owner may read, and returns their files.
func certificate(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	c := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, &c, k.Public(), k)
	ok(t, err)
	secretDER, err := x509.MarshalPKCS8PrivateKey(k)
	ok(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ok(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	ok(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secretDER}), 0o600))
	return cert, key
}

// The way over a network: the server shows who it is, then this machine does.
func TestAServerOnTheNetworkIsCheckedBeforeThePasswordIsSent(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t, "localhost")
	other, _ := certificate(t, "localhost")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	ok(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	ok(t, l.Close())
	server, err := pgtest.StartTLS(t.Context(), "127.0.0.1", port, cert, key)
	ok(t, err)
	t.Cleanup(func() { ok(t, server.Stop()) })
	ok(t, server.SQL(t.Context(), `CREATE ROLE ada LOGIN PASSWORD 'canary'`))
	ok(t, server.SQL(t.Context(), `CREATE DATABASE shared OWNER ada`))
	open := func(host, options, password string) error {
		s, err := store.OpenPostgres(t.Context(), store.Postgres{
			URL: fmt.Sprintf("postgres://ada@%s:%d/shared?%s", host, port, options), Password: secret.New(password),
		})
		if err != nil {
			return err
		}
		return s.Close()
	}
	ok(t, open("localhost", "sslmode=verify-full&sslrootcert="+cert, "canary"))
	for what, err := range map[string]error{
		"certificate signed by unknown authority": open("localhost", "sslmode=verify-full&sslrootcert="+other, "canary"),
		"cannot validate certificate":             open("127.0.0.1", "sslmode=verify-full&sslrootcert="+cert, "canary"),
		"password authentication failed":          open("localhost", "sslmode=verify-full&sslrootcert="+cert, "wrong"),
	} {
		if err == nil || !strings.Contains(err.Error(), what) || strings.Contains(err.Error(), "canary") {
			t.Errorf("got %v, want %q", err, what)
		}
	}
	if strings.Contains(server.Log(), "canary") {
		t.Error("the server logged the password")
	}
}
