package wire

import (
	"bytes"
	"context"
	"crypto"
	_ "crypto/sha256" // hashes of channel bindings
	_ "crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"runner/engine/transport"
)

// TLS says which certificate a host must show: one of a trusted authority for
// its name, or the one with the pinned fingerprint.
type TLS struct {
	Roots *x509.CertPool // authorities; nil: those of this machine
	// Fingerprint is the SHA-256 of the certificate in hexadecimal, colons
	// allowed. With it, names, dates and authorities do not matter.
	Fingerprint string
}

func (t *TLS) check() error {
	if t.Fingerprint == "" {
		return nil
	}
	if _, err := pin(t.Fingerprint); err != nil {
		return fmt.Errorf("fingerprint %q: write the SHA-256 of the certificate as 64 hexadecimal digits", t.Fingerprint)
	}
	return nil
}

func pin(text string) ([]byte, error) {
	b, err := hex.DecodeString(strings.NewReplacer(":", "", " ", "").Replace(strings.TrimPrefix(text, "SHA256:")))
	if err != nil || len(b) != crypto.SHA256.Size() {
		return nil, errors.New("not a SHA-256")
	}
	return b, nil
}

var errPin = errors.New("the certificate is not the pinned one")

// config is for one connection to host.
func (t *TLS) config(host string) *tls.Config {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: t.Roots}
	if t.Fingerprint == "" {
		return conf
	}
	conf.InsecureSkipVerify = true // VerifyConnection decides instead
	conf.VerifyConnection = func(s tls.ConnectionState) error {
		got := digest(crypto.SHA256, s.PeerCertificates[0].Raw)
		if want, err := pin(t.Fingerprint); err == nil && bytes.Equal(want, got) {
			return nil
		}
		return fmt.Errorf("%w: it is %s", errPin, hex.EncodeToString(got))
	}
	return conf
}

func digest(h crypto.Hash, b []byte) []byte {
	d := h.New()
	d.Write(b)
	return d.Sum(nil)
}

// endPoint is the channel binding of a connection (RFC 5929 section 4.1): the
// hash of the certificate by the hash of its signature, or SHA-256 where that is
// MD5 or SHA-1 or there is none.
func endPoint(c *tls.Conn) []byte {
	cert, h := c.ConnectionState().PeerCertificates[0], crypto.SHA256
	switch cert.SignatureAlgorithm { //nolint:exhaustive // all others are SHA-256
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384, x509.SHA384WithRSAPSS:
		h = crypto.SHA384
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512, x509.SHA512WithRSAPSS:
		h = crypto.SHA512
	}
	return append([]byte("tls-server-end-point:"), digest(h, cert.Raw)...)
}

// fingerprint names the certificate of a connection.
func fingerprint(c *tls.Conn) string {
	return "SHA256:" + hex.EncodeToString(digest(crypto.SHA256, c.ConnectionState().PeerCertificates[0].Raw))
}

// tlsError words a failed handshake.
func (c Config) tlsError(ctx context.Context, err error) error {
	hostname, is := errors.AsType[x509.HostnameError](err)
	switch {
	case ctx.Err() != nil || errors.Is(err, errLate):
		return c.late(ctx, transport.PhaseDial, err)
	case errors.Is(err, errPin):
		return c.fail(transport.PhaseHostKey, "dial.pin", err, "compare it with the certificate of the listener on the host (winrm enumerate winrm/config/listener); if it was renewed, write the new fingerprint into the inventory")
	case is:
		return c.fail(transport.PhaseHostKey, "dial.certificate_name", fmt.Errorf("the certificate is not for %q but for %s", c.Host, Clean(strings.Join(hostname.Certificate.DNSNames, ", "), 200)),
			"use the name in the certificate as the device's address, or pin its fingerprint")
	case isCertificate(err):
		return c.fail(transport.PhaseHostKey, "dial.certificate", fmt.Errorf("the certificate is not trusted: %s", Clean(err.Error(), 300)),
			"give the file of the authority that signed it, or pin its fingerprint; WinRM makes self-signed certificates unless told otherwise")
	}
	if header, is := errors.AsType[tls.RecordHeaderError](err); is {
		return c.fail(transport.PhaseDial, "dial.no_tls", fmt.Errorf("the port does not speak TLS: %s", Clean(header.Msg, 100)), "HTTPS is port 5986 unless the listener was changed; 5985 is HTTP")
	}
	return c.fail(transport.PhaseDial, "dial.tls", fmt.Errorf("the TLS handshake failed: %s", Clean(err.Error(), 300)), "does the HTTPS listener have a certificate with a key it can read?")
}

func isCertificate(err error) bool {
	_, is := errors.AsType[*tls.CertificateVerificationError](err)
	return is
}
