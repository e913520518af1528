package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"runner/engine/transport"
)

// maxAgentKeys bounds how many keys of an agent are offered: servers count
// each and end the connection at six.
const maxAgentKeys = 4

// errRefused says that every allowed method was refused.
var errRefused = errors.New("the login was refused")

// login drives one authentication. It offers each method once, in order, and
// sends the password at most once.
type login struct {
	cfg     Config
	methods []string // left to try
	tried   []string
	offered []string // what the server accepts, as it last said
	signer  gossh.Signer
	cert    gossh.Signer
	spent   bool // the password was sent
	failure error
	closers []func() error
}

// newLogin reads keys and checks that the methods have what they need.
func newLogin(ctx context.Context, cfg Config) (*login, error) {
	l := &login{cfg: cfg}
	bad := func(code string, err error, hint string) error {
		return cfg.fail(transport.PhaseAuth, code, err, hint)
	}
	if key := cfg.Auth.PrivateKey; !key.IsZero() {
		s, err := parseKey(cfg.Auth)
		if _, missing := errors.AsType[*gossh.PassphraseMissingError](err); missing {
			return nil, bad("auth.passphrase_required", errors.New("the private key is encrypted and there is no passphrase"), "add the passphrase of the key to the credential")
		}
		if err != nil {
			return nil, bad("auth.bad_key", errors.New("the private key cannot be read; is it a private key, and is the passphrase right?"), "try `ssh-keygen -yf FILE`")
		}
		l.signer = s
	}
	keys := []gossh.Signer{}
	if l.signer != nil {
		keys = append(keys, l.signer)
	}
	if len(cfg.Auth.Certificate) > 0 {
		if cfg.Auth.AgentSocket != "" {
			more, err := l.agentKeys(ctx)
			if err != nil && l.signer == nil {
				l.close()
				return nil, bad("auth.agent", err, "start the agent, or name its socket")
			}
			keys = append(keys, more...)
		}
		s, err := certify(cfg.Auth.Certificate, keys)
		if err != nil {
			l.close()
			return nil, bad("auth.bad_certificate", err, "compare with `ssh-keygen -Lf FILE`")
		}
		l.cert = s
	}
	if err := l.choose(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// choose sets the methods to try.
func (l *login) choose() error {
	a := l.cfg.Auth
	has := map[string]bool{
		MethodCertificate: l.cert != nil,
		MethodPublicKey:   l.signer != nil,
		MethodAgent:       a.AgentSocket != "",
		MethodPassword:    !a.Password.IsZero(),
		MethodInteractive: !a.Password.IsZero(),
	}
	all := []string{MethodCertificate, MethodPublicKey, MethodAgent, MethodPassword, MethodInteractive}
	if len(a.Methods) > 0 {
		all = a.Methods
	}
	for _, m := range all {
		ready, known := has[m]
		if !known {
			return l.cfg.fail(transport.PhaseAuth, "auth.bad_method", fmt.Errorf("there is no login method %q", clean(m, 40)),
				"methods are certificate, publickey, agent, password, keyboard-interactive")
		}
		if ready && !slices.Contains(l.methods, m) {
			l.methods = append(l.methods, m)
		}
	}
	if len(l.methods) == 0 {
		return l.cfg.fail(transport.PhaseAuth, "auth.nothing", errors.New("no allowed login method has the key or password that it needs"),
			"allowed are: "+strings.Join(all, ", "))
	}
	return nil
}

// next is asked before each attempt.
func (l *login) next(c *gossh.ClientAuthContext) (gossh.AuthMethod, error) {
	l.offered = c.AllowedMethods
	for i, m := range l.methods {
		wire := wireName(m)
		if m == MethodPassword && !slices.Contains(c.AllowedMethods, wire) {
			wire = MethodInteractive
		}
		if !slices.Contains(c.AllowedMethods, wire) || usesPassword(m) && l.spent {
			continue
		}
		l.methods = slices.Delete(l.methods, i, i+1)
		l.tried = append(l.tried, m)
		switch {
		case m == MethodCertificate:
			return gossh.PublicKeys(l.cert), nil
		case m == MethodPublicKey:
			return gossh.PublicKeys(l.signer), nil
		case m == MethodAgent:
			return gossh.PublicKeysCallback(l.offerAgent), nil
		case wire == MethodPassword:
			return gossh.PasswordCallback(l.password), nil
		default:
			return gossh.KeyboardInteractive(l.answer), nil
		}
	}
	return nil, errRefused
}

func wireName(m string) string {
	if m == MethodCertificate || m == MethodAgent {
		return MethodPublicKey
	}
	return m
}

func usesPassword(m string) bool { return m == MethodPassword || m == MethodInteractive }

func (l *login) password() (string, error) {
	l.spent = true
	return l.cfg.Auth.Password.Reveal(), nil
}

// answer replies to rounds of questions: the only hidden question gets the
// password, once; a round without questions is acknowledged.
func (l *login) answer(_, _ string, questions []string, echos []bool) ([]string, error) {
	switch {
	case len(questions) == 0:
		return nil, nil
	case len(questions) == 1 && !echos[0] && !l.spent:
		l.spent = true
		return []string{l.cfg.Auth.Password.Reveal()}, nil
	}
	l.failure = fmt.Errorf("the device asked %q, which the password does not answer", clean(strings.Join(questions, " "), 200))
	return nil, l.failure
}

func (l *login) offerAgent() ([]gossh.Signer, error) {
	keys, err := l.agentKeys(context.Background())
	if err != nil {
		l.failure = err
		return nil, err
	}
	return keys[:min(len(keys), maxAgentKeys)], nil
}

// agentKeys connects to the agent; the connection stays until close.
func (l *login) agentKeys(ctx context.Context) ([]gossh.Signer, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", l.cfg.Auth.AgentSocket)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	l.closers = append(l.closers, c.Close)
	keys, err := agent.NewClient(c).Signers()
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	return keys, nil
}

func (l *login) close() {
	for _, c := range l.closers {
		_ = c()
	}
}

func parseKey(a Auth) (gossh.Signer, error) {
	pem := []byte(a.PrivateKey.Reveal())
	if a.Passphrase.IsZero() {
		return gossh.ParsePrivateKey(pem)
	}
	s, err := gossh.ParsePrivateKeyWithPassphrase(pem, []byte(a.Passphrase.Reveal()))
	if err != nil { // a passphrase for a key that needs none
		if plain, perr := gossh.ParsePrivateKey(pem); perr == nil {
			return plain, nil
		}
	}
	return s, err
}

// certify joins a certificate with the key that it is for.
func certify(text []byte, keys []gossh.Signer) (gossh.Signer, error) {
	pub, _, _, _, err := gossh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, errors.New("the certificate cannot be read")
	}
	cert, ok := pub.(*gossh.Certificate)
	if !ok || cert.CertType != gossh.UserCert {
		return nil, errors.New("that is not a user certificate")
	}
	for _, k := range keys {
		if sameKey(k.PublicKey(), cert.Key) {
			s, err := gossh.NewCertSigner(cert, k)
			if err != nil {
				return nil, fmt.Errorf("certificate: %w", err)
			}
			return s, nil
		}
		if c, ok := k.PublicKey().(*gossh.Certificate); ok && sameKey(c, cert) {
			return k, nil
		}
	}
	return nil, errors.New("the certificate belongs to another private key")
}
