package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"runner/engine/transport"
)

// HostKeyError says that a host key was refused.
type HostKeyError struct {
	Host      string   // host:port
	Presented string   // "ssh-ed25519 SHA256:…"
	Known     []string // likewise; empty: no key of the host is known
	Revoked   bool     // the key is marked as revoked
}

// Error says what was presented and what was expected.
func (e *HostKeyError) Error() string {
	switch {
	case e.Revoked:
		return "the host key " + e.Presented + " is revoked"
	case len(e.Known) == 0:
		return "no key of this host is known; it presented " + e.Presented
	}
	return "the host key changed: it presented " + e.Presented + ", known is " + strings.Join(e.Known, ", ")
}

// hostKeys decides about the keys of one host.
type hostKeys struct {
	cfg      Config
	learning *sync.Mutex

	lines []gossh.PublicKey // from the document
	cas   []gossh.PublicKey // likewise, marked @cert-authority
	bans  []gossh.PublicKey // likewise, marked @revoked
	marks []string          // fingerprints from the document
	file  gossh.HostKeyCallback
	want  []knownhosts.KnownKey // what File knows of the host
	addr  net.Addr
	err   *transport.Error // why the last key was refused
	seen  gossh.PublicKey  // the last key presented
}

// newHostKeys reads what is known of cfg's host; learning orders the writers.
func newHostKeys(cfg Config, learning *sync.Mutex) (*hostKeys, error) {
	h := &hostKeys{cfg: cfg, addr: &net.TCPAddr{IP: net.IPv4zero}, learning: learning}
	for _, l := range cfg.HostKeys.Known {
		if strings.HasPrefix(l, "SHA256:") {
			h.marks = append(h.marks, strings.TrimRight(strings.TrimSpace(l), "="))
			continue
		}
		mark, rest, _ := strings.Cut(l, " ")
		if !strings.HasPrefix(mark, "@") {
			mark, rest = "", l
		}
		key, _, _, _, err := gossh.ParseAuthorizedKey([]byte(rest))
		if err != nil {
			return nil, h.fail("hostkey.bad_known", fmt.Errorf("known host key %q: %w", clean(l, 60), err), "write it as in /etc/ssh/ssh_host_ed25519_key.pub, or as SHA256:…")
		}
		switch mark {
		case "@cert-authority":
			h.cas = append(h.cas, key)
		case "@revoked":
			h.bans = append(h.bans, key)
		default:
			h.lines = append(h.lines, key)
		}
	}
	if err := h.read(); err != nil {
		return nil, h.fail("hostkey.bad_file", err, "repair the file "+cfg.HostKeys.File)
	}
	return h, nil
}

// read asks the known_hosts file which keys it has for the host.
func (h *hostKeys) read() error {
	if h.cfg.HostKeys.File == "" {
		return nil
	}
	cb, err := knownhosts.New(h.cfg.HostKeys.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("known_hosts: %w", err)
	}
	h.file = cb
	// A key that no file can have makes the callback list those it has.
	if ke, ok := errors.AsType[*knownhosts.KeyError](cb(h.cfg.Address, h.addr, noKey{})); ok {
		h.want = ke.Want
	}
	return nil
}

// pinned says whether the document vouches for keys.
func (h *hostKeys) pinned() bool { return len(h.lines)+len(h.cas)+len(h.marks) > 0 }

// algorithms returns the host key algorithms to ask for: those of the known
// keys, or all with the cheapest first when the type cannot be known.
func (h *hostKeys) algorithms() []string {
	var out []string
	add := func(as ...string) {
		for _, a := range as {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	plain := func(k gossh.PublicKey) {
		if k.Type() == gossh.KeyAlgoRSA {
			add(gossh.KeyAlgoRSASHA512, gossh.KeyAlgoRSASHA256)
			return
		}
		add(k.Type())
	}
	if h.pinned() {
		if len(h.cas) > 0 {
			add(certAlgorithms...)
		}
		for _, k := range h.lines {
			plain(k)
		}
		if len(h.marks) > 0 {
			add(plainAlgorithms...)
		}
		return out
	}
	if h.authority() {
		add(certAlgorithms...)
	}
	for _, w := range h.want {
		plain(w.Key)
	}
	if len(h.want) == 0 {
		add(plainAlgorithms...)
	}
	return out
}

var (
	plainAlgorithms = []string{
		gossh.KeyAlgoED25519, gossh.KeyAlgoECDSA256, gossh.KeyAlgoECDSA384, gossh.KeyAlgoECDSA521,
		gossh.KeyAlgoRSASHA512, gossh.KeyAlgoRSASHA256,
	}
	certAlgorithms = []string{
		gossh.CertAlgoED25519v01, gossh.CertAlgoECDSA256v01, gossh.CertAlgoECDSA384v01, gossh.CertAlgoECDSA521v01,
		gossh.CertAlgoRSASHA512v01, gossh.CertAlgoRSASHA256v01,
	}
)

// authority says whether File has an @cert-authority line. The library does not
// say for which hosts, so certificates are asked for when there is any.
func (h *hostKeys) authority() bool {
	if h.file == nil {
		return false
	}
	b, err := os.ReadFile(h.cfg.HostKeys.File)
	return err == nil && bytes.Contains(b, []byte("@cert-authority"))
}

// check is the callback of the key exchange.
func (h *hostKeys) check(host string, addr net.Addr, key gossh.PublicKey) error {
	h.seen = key
	if err := h.decide(host, addr, key); err != nil {
		h.err = err
		return err
	}
	return nil
}

func (h *hostKeys) decide(host string, addr net.Addr, key gossh.PublicKey) *transport.Error {
	bare := key
	cert, certified := key.(*gossh.Certificate)
	if certified {
		bare = cert.Key
	}
	if containsKey(h.bans, key) || containsKey(h.bans, bare) {
		return h.revoked(key)
	}
	var fromFile error
	if h.file != nil {
		fromFile = h.file(host, addr, key)
		if _, ok := errors.AsType[*knownhosts.RevokedError](fromFile); ok {
			return h.revoked(key)
		}
	}
	if h.pinned() {
		if containsKey(h.lines, bare) || slices.Contains(h.marks, gossh.FingerprintSHA256(bare)) {
			return nil
		}
		if certified {
			return h.certificate(host, addr, cert)
		}
		return h.changed(key)
	}
	switch {
	case h.file != nil && (fromFile == nil || certified && h.file(host, addr, bare) == nil):
		return nil
	case certified:
		return h.fail("hostkey.certificate", fmt.Errorf("host certificate: %s", clean(fmt.Sprint(fromFile), 300)), "the authority in "+h.cfg.HostKeys.File+" does not vouch for this certificate; let it sign the host's key")
	case len(h.want) > 0:
		return h.changed(key)
	case h.cfg.HostKeys.Policy == PolicyTrustOnFirstUse && !certified:
		return h.learn(host, key)
	}
	return h.unknown(host, key)
}

func (h *hostKeys) certificate(host string, addr net.Addr, c *gossh.Certificate) *transport.Error {
	checker := gossh.CertChecker{IsHostAuthority: func(k gossh.PublicKey, _ string) bool { return containsKey(h.cas, k) }}
	if err := checker.CheckHostKey(host, addr, c); err != nil {
		return h.fail("hostkey.certificate", fmt.Errorf("host certificate: %s", clean(err.Error(), 300)), "let the authority sign the host's key again")
	}
	return nil
}

// learn appends the key to the file: one write of one whole line, so that
// readers and writers of other processes see it complete or not at all.
func (h *hostKeys) learn(host string, key gossh.PublicKey) *transport.Error {
	h.learning.Lock()
	defer h.learning.Unlock()
	if h.cfg.HostKeys.File == "" {
		return h.fail("hostkey.no_file", errors.New("trust_on_first_use has no file to remember keys in"), "name a known_hosts file")
	}
	if err := h.read(); err != nil {
		return h.fail("hostkey.bad_file", err, "repair the file "+h.cfg.HostKeys.File)
	}
	if len(h.want) > 0 { // another connection was first
		if slices.ContainsFunc(h.want, func(k knownhosts.KnownKey) bool { return sameKey(k.Key, key) }) {
			return nil
		}
		return h.changed(key)
	}
	if err := appendLine(h.cfg.HostKeys.File, knownhosts.Line([]string{host}, key)); err != nil {
		return h.fail("hostkey.bad_file", fmt.Errorf("remember the host key: %w", err), "make the file writable: "+h.cfg.HostKeys.File)
	}
	return nil
}

func appendLine(name, line string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("known_hosts: %w", err)
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("known_hosts: %w", err)
	}
	line += "\n"
	last := []byte{'\n'}
	if st, serr := f.Stat(); serr == nil && st.Size() > 0 {
		_, err = f.ReadAt(last, st.Size()-1)
	}
	if last[0] != '\n' {
		line = "\n" + line
	}
	if err == nil {
		_, err = f.WriteString(line)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("known_hosts: %w", err)
	}
	return nil
}

func (h *hostKeys) fail(code string, err error, hint string) *transport.Error {
	return h.cfg.fail(transport.PhaseHostKey, code, err, hint)
}

func (h *hostKeys) changed(key gossh.PublicKey) *transport.Error {
	e := &HostKeyError{Host: h.cfg.Address, Presented: describe(key), Known: slices.Clone(h.marks)}
	where := "host_keys of the device's document"
	for _, k := range slices.Concat(h.lines, h.cas) {
		e.Known = append(e.Known, describe(k))
	}
	if !h.pinned() {
		where = h.cfg.HostKeys.File
		for _, w := range h.want {
			e.Known = append(e.Known, describe(w.Key))
		}
		where = fmt.Sprintf("%s line %d", where, h.want[0].Line)
	}
	return h.fail("hostkey.changed", e, fmt.Sprintf(
		"somebody may be in between: compare with `ssh-keygen -lf /etc/ssh/ssh_host_%s_key.pub` on the device's console; only if it prints %s, replace the old key in %s",
		shortType(key), gossh.FingerprintSHA256(key), where))
}

func (h *hostKeys) unknown(host string, key gossh.PublicKey) *transport.Error {
	e := &HostKeyError{Host: h.cfg.Address, Presented: describe(key)}
	hint := fmt.Sprintf("compare with `ssh-keygen -lf /etc/ssh/ssh_host_%s_key.pub` on the device's console, then add to host_keys of the device: %q",
		shortType(key), strings.TrimSpace(string(gossh.MarshalAuthorizedKey(key))))
	if h.cfg.HostKeys.File != "" {
		hint += fmt.Sprintf(", or to %s the line: %s", h.cfg.HostKeys.File, knownhosts.Line([]string{host}, key))
	}
	return h.fail("hostkey.unknown", e, hint)
}

func (h *hostKeys) revoked(key gossh.PublicKey) *transport.Error {
	return h.fail("hostkey.revoked", &HostKeyError{Host: h.cfg.Address, Presented: describe(key), Revoked: true},
		"the device must get a new host key")
}

// otherTypes returns the algorithms that are left to ask for when the key
// presented is of a type that the known fingerprint may not be of.
func (h *hostKeys) otherTypes(asked []string) []string {
	if h.err == nil || h.err.Code != "hostkey.changed" || len(h.marks) == 0 || h.seen == nil {
		return nil
	}
	t := h.seen.Type()
	return slices.DeleteFunc(slices.Clone(asked), func(a string) bool {
		return a == t || t == gossh.KeyAlgoRSA && strings.HasPrefix(a, "rsa-")
	})
}

func describe(k gossh.PublicKey) string {
	return clean(k.Type(), 64) + " " + gossh.FingerprintSHA256(k)
}

func shortType(k gossh.PublicKey) string {
	switch {
	case strings.Contains(k.Type(), "ecdsa"):
		return "ecdsa"
	case strings.Contains(k.Type(), "rsa"):
		return "rsa"
	}
	return "ed25519"
}

func sameKey(a, b gossh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

func containsKey(ks []gossh.PublicKey, k gossh.PublicKey) bool {
	return slices.ContainsFunc(ks, func(x gossh.PublicKey) bool { return sameKey(x, k) })
}

// noKey is a key that no host has.
type noKey struct{}

func (noKey) Type() string                          { return "none" }
func (noKey) Marshal() []byte                       { return []byte("none") }
func (noKey) Verify([]byte, *gossh.Signature) error { return errors.New("no key") }
