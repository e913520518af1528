package krb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/types"

	"runner/engine/secret"
	"runner/engine/transport"
	"runner/engine/transport/winrm/krb/etype"
)

// Config says who logs in, with what, and where. Exactly one of Password, Keytab and
// CCache is set.
type Config struct {
	// Realm is the domain; it is upper-cased. Empty: as User, the keytab or the
	// ticket cache says.
	Realm string
	// User is a sAMAccountName, a UPN (with @) or a service principal (with /).
	// Empty: as the keytab or the ticket cache says.
	User string

	Password secret.Value
	Keytab   secret.Value // contents of the file
	CCache   secret.Value // contents of the file

	// KDCs of Realm, in the order in which they are asked: host or host:port. Empty:
	// those of Conf, or of DNS where Conf has none.
	KDCs []string
	Conf *Conf // krb5.conf; nil: none
	// LookupSRV asks DNS; nil: the resolver of the system.
	LookupSRV func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	// Dial connects to KDCs; nil: directly, by UDP and TCP. With a Dial there is
	// TCP only.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Route names what Dial goes through, for a Cache: two configs of one Route dial
	// alike. It holds no secret.
	Route string

	Clock  func() time.Time // nil: time.Now
	Etypes []int32          // of etype.All, the preferred one first; nil: all
}

// New makes a Client. The error is an *Error: nothing was sent.
func New(cfg Config) (*Client, error) {
	c := &Client{cfg: cfg, held: map[string]*held{}, unknown: map[string]refusal{}, flights: map[string]*flight{}, last: map[string]kdc{}, found: map[string]located{}}
	if c.cfg.Clock == nil {
		c.cfg.Clock = time.Now
	}
	if c.cfg.LookupSRV == nil {
		c.cfg.LookupSRV = net.DefaultResolver.LookupSRV
	}
	if c.cfg.Conf == nil {
		c.cfg.Conf = &Conf{}
	}
	if c.cfg.Etypes == nil {
		c.cfg.Etypes = etype.All()
	}
	for _, id := range c.cfg.Etypes {
		if !etype.Supported(id) {
			return nil, unusable(fmt.Errorf("%s is refused: only AES is allowed", etype.Name(id)))
		}
	}
	if err := c.identify(); err != nil {
		return nil, unusable(err)
	}
	return c, nil
}

// identify finds out who we are.
func (c *Client) identify() error {
	cfg := &c.cfg
	set := 0
	for _, v := range []secret.Value{cfg.Password, cfg.Keytab, cfg.CCache} {
		if !v.IsZero() {
			set++
		}
	}
	if set != 1 {
		return fmt.Errorf("%d of password, keytab and ticket cache were given, one is right", set)
	}
	user, realm := cfg.User, cfg.Realm
	var err error
	switch {
	case !cfg.Keytab.IsZero():
		if c.keytab, err = readKeytab(cfg.Keytab); err != nil {
			return err
		}
		if user == "" {
			user, realm = c.keytab[0].user, cmp.Or(realm, c.keytab[0].realm)
		}
	case !cfg.CCache.IsZero():
		if c.cache, err = readCCache(cfg.CCache); err != nil {
			return err
		}
		name := c.cache.user.PrincipalNameString()
		if user != "" && !strings.EqualFold(user, name) && !strings.EqualFold(user, name+"@"+c.cache.realm) {
			return fmt.Errorf("the ticket cache is that of %s@%s, not of %s", name, c.cache.realm, user)
		}
		user, realm = name, c.cache.realm
		c.unpack()
	}
	return c.name(user, realm)
}

// name settles the principal and its realm.
func (c *Client) name(user, realm string) error {
	user = strings.TrimSpace(user)
	if domain, name, ok := strings.Cut(user, `\`); ok { // CORP\ops
		user, realm = name, cmp.Or(realm, domain)
	}
	c.user = types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, user)
	if at := strings.LastIndexByte(user, '@'); at >= 0 {
		realm = cmp.Or(realm, user[at+1:])
		c.user = types.PrincipalName{NameType: nametype.KRB_NT_ENTERPRISE, NameString: []string{user}}
		if strings.EqualFold(user[at+1:], realm) { // the plain name is the same account, and older KDCs know it
			c.user = types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, user[:at])
		}
	}
	c.realm = strings.ToUpper(strings.TrimSuffix(strings.TrimSpace(cmp.Or(realm, c.cfg.Conf.DefaultRealm)), "."))
	for _, s := range append([]string{c.realm}, c.user.NameString...) {
		if s == "" || len(s) > maxName || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return errors.New("no user and realm: write the user, and the domain as DNS names it, such as CORP.EXAMPLE")
		}
	}
	if strings.ContainsAny(c.realm, "/@ ") {
		return fmt.Errorf("%q is no realm: write the domain as DNS names it, such as CORP.EXAMPLE", c.realm)
	}
	if len(c.keytab) > 0 && !slices.ContainsFunc(c.keytab, func(e keytabEntry) bool { return e.is(c.user, c.realm) }) {
		return fmt.Errorf("the keytab has no key of %s", c.Principal())
	}
	return nil
}

const maxName = 256

// Principal is who the tickets are for, as configured.
func (c *Client) Principal() string { return c.user.PrincipalNameString() + "@" + c.realm }

func unusable(err error) *Error {
	return &Error{Phase: transport.PhaseAuth, Code: "auth.credential", Err: err}
}
