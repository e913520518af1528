package inventory

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"runner/engine/lang"
)

// Connection is everything that is needed to reach a device, with all names
// resolved. It holds no secret, only where each one is, and goes through JSON
// unchanged: a grant pins it and is removed by it whatever the files say then.
type Connection struct {
	Device    string `json:"device"`
	Inventory string `json:"inventory"`
	Transport string `json:"transport"`
	Address   string `json:"address"`
	Port      int    `json:"port"`
	Platform  string `json:"platform"`

	HostKeys      []string `json:"host_keys,omitempty"`
	HostKeyPolicy string   `json:"host_key_policy"`
	KnownHosts    string   `json:"known_hosts,omitempty"` // "": the workspace's

	Methods []string         `json:"methods"`
	User    string           `json:"user"`
	Secret  *Source          `json:"secret_from,omitempty"` // nil: an agent
	Become  ConnectionBecome `json:"become"`

	Dial time.Duration `json:"dial_ns"`
	Step time.Duration `json:"step_ns"`
	Keep time.Duration `json:"keepalive_ns"`

	// Jump holds the jump hosts, outermost first; they have none of their own.
	Jump []Connection `json:"jump,omitempty"`

	// WinRM is there with transport winrm and only then.
	WinRM *ConnectionWinRM `json:"winrm,omitempty"`
}

// ConnectionBecome says how steps get the rights of another account.
type ConnectionBecome struct {
	Method   string  `json:"method"`
	Password *Source `json:"password_from,omitempty"` // nil: the login password, or sudo must not ask
}

// Resolve returns how a credential reaches its device. A jump host is reached
// by the inventory of its own device, or by the credential's when it names
// none. When the outermost of them is itself behind jump hosts, those come
// first. The error names the credential that was probably meant.
func (s *Set) Resolve(credential string) (*Connection, error) {
	c := s.Credentials[credential]
	if c == nil {
		return nil, unknown("credential", credential, slices.Sorted(maps.Keys(s.Credentials)))
	}
	inv, d := s.inventoryOf(c), s.Devices[c.Device]
	if inv == nil || d == nil {
		return nil, fmt.Errorf("credential %s: its device or inventory does not exist", credential)
	}
	conn := s.connection(d, inv, c)
	conn.Jump = s.hops(inv, c, 0)
	return &conn, nil
}

// unknown says that a name does not exist and which one was probably meant.
func unknown(kind, name string, names []string) error {
	if near := lang.Similar(name, names); near != "" {
		return fmt.Errorf("there is no %s %q; did you mean %q?", kind, name, near)
	}
	if len(names) == 0 {
		return fmt.Errorf("there is no %s %q; none is defined yet", kind, name)
	}
	return fmt.Errorf("there is no %s %q; there is %s", kind, name, lang.Words(names))
}

// hops resolves the jump hosts of inv, outermost first.
func (s *Set) hops(inv *Inventory, c *Credential, depth int) []Connection {
	var out []Connection
	for i, h := range inv.Jump {
		d := s.Devices[h.Device]
		if d == nil {
			continue // only while problems are being looked for
		}
		by, login := s.Inventories[d.Inventory], cmp.Or(s.Credentials[h.Credential], c)
		if by == nil {
			by = inv
		} else if i == 0 && depth < len(s.Inventories) {
			out = append(out, s.hops(by, login, depth+1)...)
		}
		out = append(out, s.connection(d, by, login))
	}
	return out
}

// connection joins a device, a profile and a login, without jump hosts.
func (s *Set) connection(d *Device, inv *Inventory, c *Credential) Connection {
	auth := s.Login(c).Auth
	conn := Connection{
		Device:    d.Name,
		Inventory: inv.Name,
		Transport: inv.Transport,
		Address:   d.Address,
		Port:      cmp.Or(d.Port, inv.Port),
		Platform:  d.Platform,

		HostKeys:      slices.Clone(d.HostKeys),
		HostKeyPolicy: inv.HostKeys.Policy,
		KnownHosts:    inv.HostKeys.KnownHosts,

		Methods: slices.Clone(inv.Methods),
		User:    auth.User,
		Secret:  auth.Secret.clone(),
		Become:  ConnectionBecome{Method: inv.Become.Method, Password: inv.Become.Password.clone()},

		Dial: inv.Timeouts.Dial,
		Step: inv.Timeouts.Step,
		Keep: inv.Timeouts.Keep,
	}
	if inv.Transport == winrm {
		conn.WinRM = s.windows(d, inv, c)
	}
	return conn
}

// Login returns the credential whose own login c uses: itself, or the one that
// its authentication leads to.
func (s *Set) Login(c *Credential) *Credential {
	for range len(s.Credentials) {
		next := s.Credentials[c.Auth.Credential]
		if next == nil {
			break
		}
		c = next
	}
	return c
}

// clone returns a copy that shares nothing with s; nil stays nil.
func (s *Source) clone() *Source {
	if s == nil {
		return nil
	}
	c := *s
	c.Command = slices.Clone(s.Command)
	c.Passphrase = s.Passphrase.clone()
	return &c
}
