package wsman_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// certificate makes a self-signed one for a name.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, leaf
}

type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
}

func (c *counter) value() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// within calls f with a context that ends after d.
func within(t *testing.T, d time.Duration, f func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	f(ctx)
}

// silent dials a host that says nothing.
func silent(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, there) }()
	return here, nil
}

// pinOf is the fingerprint of the host's certificate, with colons.
func pinOf(h *host) string {
	sum := sha256.Sum256(h.TLS.Certificates[0].Certificate[0])
	text := strings.ToUpper(hex.EncodeToString(sum[:]))
	var parts []string
	for ; text != ""; text = text[2:] {
		parts = append(parts, text[:2])
	}
	return strings.Join(parts, ":")
}

// noTLS dials a listener of plain HTTP.
func noTLS(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	go func() {
		_, _ = there.Read(make([]byte, 64<<10))
		_, _ = io.WriteString(there, "HTTP/1.1 400 Bad Request\r\n\r\n")
		_ = there.Close()
	}()
	return here, nil
}
