package ssh

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"runner/engine/secret"
	"runner/engine/transport"
)

// Defaults of a Config's zero values.
const (
	DefaultDialTimeout = 15 * time.Second
	DefaultStepTimeout = 60 * time.Second
	DefaultKeepalive   = 15 * time.Second
	DefaultMaxOutput   = 256 << 20
)

// Config says how to reach a device and who to be there.
type Config struct {
	Address  string // host:port
	User     string // login account
	Auth     Auth
	HostKeys HostKeys
	Become   Become
	Jump     []Config // outermost first; Become and Jump of a hop are not used

	DialTimeout time.Duration // name, TCP, key exchange and login of one hop; 0: 15 s
	StepTimeout time.Duration // of a step that has none; 0: 60 s
	Keepalive   time.Duration // a dead network is noticed within three of these; 0: 15 s
	MaxOutput   int64         // bytes that a step may write in all; 0: 256 MiB

	hold *gate // of a connection whose account may not be there yet; nil: none
}

// Words of Auth.Methods.
const (
	MethodCertificate = "certificate"          // PrivateKey or agent key with Certificate
	MethodPublicKey   = "publickey"            // PrivateKey
	MethodAgent       = "agent"                // keys of the agent at AgentSocket
	MethodPassword    = "password"             // Password; as keyboard-interactive where the server has only that
	MethodInteractive = "keyboard-interactive" // Password as the answer to the only hidden question
)

// Auth says how to log in. Each method is tried at most once, in order, and a
// password is sent at most once whatever the number of methods that use it.
type Auth struct {
	Methods     []string     // allowed methods in order; empty: every one that has what it needs, in the order of the constants
	Password    secret.Value // for MethodPassword and MethodInteractive
	PrivateKey  secret.Value // PEM or OpenSSH format
	Passphrase  secret.Value // of PrivateKey
	Certificate []byte       // user certificate, as in id_ed25519-cert.pub
	AgentSocket string       // path of an agent's socket
}

// Policies of HostKeys.
const (
	PolicyStrict          = "strict"
	PolicyTrustOnFirstUse = "trust_on_first_use"
)

// HostKeys says which host keys are accepted. A key that differs from a known
// one is refused whatever the policy.
type HostKeys struct {
	Policy string // PolicyStrict (also when empty) or PolicyTrustOnFirstUse
	// Known are keys from the device's document: "ssh-ed25519 AAAA…" or
	// "SHA256:…". When there is one, File is asked only for revoked keys.
	Known []string
	File  string // known_hosts file; may be missing. New keys are appended to it
}

// Methods of Become.
const (
	BecomeNone = "none"
	BecomeSudo = "sudo"
)

// Become says how a batch gets the rights of another account.
type Become struct {
	Method string // BecomeNone (also when empty) or BecomeSudo
	// User is the account of batches that name none; empty: the login account.
	User     string
	Password secret.Value // for sudo; zero: sudo must not ask
}

// withDefaults returns c with its zero values replaced.
func (c Config) withDefaults() Config {
	if c.DialTimeout <= 0 {
		c.DialTimeout = DefaultDialTimeout
	}
	if c.StepTimeout <= 0 {
		c.StepTimeout = DefaultStepTimeout
	}
	if c.Keepalive <= 0 {
		c.Keepalive = DefaultKeepalive
	}
	if c.MaxOutput <= 0 {
		c.MaxOutput = DefaultMaxOutput
	}
	if c.HostKeys.Policy == "" {
		c.HostKeys.Policy = PolicyStrict
	}
	if c.Become.Method == "" {
		c.Become.Method = BecomeNone
	}
	return c
}

// accountName is what may stand in the exec line, which shells of every kind
// parse: no quotes, no backslash, no blank.
var accountName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@-]*$`)

// account returns the account that a batch asking for want runs as, and
// whether sudo is needed for it.
func (c Config) account(want string) (string, bool, error) {
	if want == "" {
		want = c.Become.User
	}
	if want == "" || want == c.User {
		return c.User, false, nil
	}
	if c.Become.Method != BecomeSudo {
		return "", false, c.fail(transport.PhaseBecome, "become.not_configured",
			fmt.Errorf("the steps need account %q and the login account is %q", want, c.User),
			"set become: {method: sudo} in the inventory, or log in as "+clean(want, 64))
	}
	if len(want) > 256 || !accountName.MatchString(want) {
		return "", false, c.fail(transport.PhaseBecome, "become.bad_account",
			fmt.Errorf("account name %q is not allowed", clean(want, 64)), "use letters, digits and . _ - @")
	}
	return want, true, nil
}

// fail returns an error from before anything was sent that could change the device.
func (c Config) fail(p transport.Phase, code string, err error, hint string) *transport.Error {
	return &transport.Error{Phase: p, Device: c.Address, Code: code, SafeToRetry: true, Step: -1, Err: err, Hint: hint}
}

// clean returns at most limit bytes of what a peer said, on one line and
// without control characters, for use in errors.
func clean(s string, limit int) string {
	cut := len(s) > limit
	if cut {
		s = s[:limit]
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if cut {
		s += "…"
	}
	return s
}
