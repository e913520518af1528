package keeper

import (
	"strconv"
	"strings"

	"runner/engine/lang"
)

// inventoryUse is a connection profile that machines are reached by.
type inventoryUse struct {
	name string
	text string // what is written; "": it is there already
	load string // the document, for checks
}

// The profiles, by what they are for.
const (
	overSSH      = "ssh"
	overKerberos = "kerberos"
	overHTTPS    = "https"
)

var profiles = map[string]struct{ name, transport, body string }{ //nolint:gochecknoglobals // a table
	overSSH:      {"Keeper-SSH", "ssh", "transport: ssh\nmethods: [publickey, password, keyboard-interactive]\nbecome: {method: sudo}\nhost_keys: {policy: strict}\n"},
	overKerberos: {"Keeper-Windows", "winrm", "transport: winrm\n"},
	overHTTPS:    {"Keeper-Windows-Local", "winrm", "transport: winrm\nwinrm: {scheme: https, auth: basic}\n"},
}

// profile makes a profile, once; one that is there already is used.
func (c *converter) profile(key string) {
	if _, is := c.inventories[key]; is {
		return
	}
	p := profiles[key]
	use := inventoryUse{name: p.name}
	var d page
	d.begin("inventory", use.name, "")
	use.load = d.b.String() + p.body
	use.text = use.load
	if c.o.Existing != nil {
		if old := c.o.Existing.Inventories[p.name]; old != nil {
			use.text = ""
			if old.Transport != p.transport {
				c.Add(c.root, "wrong-value", "inventory %s is there already, at %s, and is %s, not %s: rename it first", p.name, old.Pos, old.Transport, p.transport)
			}
		}
	}
	c.inventories[key] = use
}

// taken refuses a name that the workspace has already.
func (c *converter) taken(n *lang.Node, kind, name string) {
	if c.o.Existing == nil {
		return
	}
	at := ""
	if d := c.o.Existing.Devices[name]; kind == "device" && d != nil {
		at = d.Pos.String()
	}
	if cr := c.o.Existing.Credentials[name]; kind == "credential" && cr != nil {
		at = cr.Pos.String()
	}
	if at != "" {
		c.Add(n, "duplicate", "%s %s is there already, at %s, and nothing is overwritten; --prefix gives what is imported other names", kind, name, at)
	}
}

// pick gives a document its name.
func (c *converter) pick(n *lang.Node, kind, title, otherwise string) string {
	name := c.o.Prefix + slug(title, otherwise)
	got := c.names.pick(kind, name)
	if got != name {
		c.note(n, "another %s is called %s: this one becomes %s", kind, name, got)
	}
	c.taken(n, kind, got)
	c.out.Documents = append(c.out.Documents, Document{kind, got, c.paths[n]})
	return got
}

// write makes the documents of a machine: the device, a credential for each of its
// users, and the one that people request.
func (c *converter) write(m *machine, admin, launch *user) (docs []string, used []*user) {
	before, problems := len(c.out.Documents), len(c.Problems)
	m.device = c.pick(m.node, "device", m.title, slug(m.host, "machine"))
	request := c.pick(m.node, "credential", m.title, slug(m.host, "machine"))
	m.way(c, admin)
	docs = append(docs, c.deviceDocument(m))
	names := map[*user]string{}
	for _, u := range append([]*user{admin, launch}, m.users...) {
		if u == nil || names[u] != "" {
			continue
		}
		names[u] = c.pick(u.node, "credential", request[len(c.o.Prefix):]+"-"+u.login, "user")
		docs = append(docs, c.userDocument(m, u, names[u]))
		used = append(used, u)
	}
	if admin == nil {
		c.note(m.node, "no administrative credential says how runner logs in: nobody can request anything on this machine; write a credential for it")
		c.out.Documents = append(c.out.Documents[:before+1], c.out.Documents[before+2:]...)
	} else {
		docs = append(docs, c.requestDocument(m, request, names[admin], names[launch]))
	}
	if len(c.Problems) == problems && m.whole {
		c.checked(m, docs)
	}
	return docs, used
}

// way chooses how a machine is reached.
func (m *machine) way(c *converter, admin *user) {
	if m.platform == "linux" {
		m.inventory = overSSH
		c.profile(overSSH)
		return
	}
	m.inventory = overHTTPS
	if admin != nil {
		if _, realm, is := strings.Cut(admin.login, "@"); is {
			m.realm = strings.ToUpper(realm)
		} else {
			m.realm = admin.realm
		}
	}
	if m.realm != "" {
		m.inventory = overKerberos
	}
	c.profile(m.inventory)
}

// deviceDocument writes the device.
func (c *converter) deviceDocument(m *machine) string {
	var d page
	d.begin("device", m.device, m.title)
	d.text(0, "address", m.host)
	if port := m.reached(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			c.Add(m.node, "wrong-value", "port %s is no port; they are from 1 to 65535", strconv.QuoteToASCII(clip(port)))
		} else {
			d.line(0, "port: %d", n)
		}
	}
	d.line(0, "platform: %s", m.platform)
	d.text(0, "inventory", profiles[m.inventory].name)
	if m.platform == "linux" {
		if key := hostKeyLine(m.hostKey); key != "" {
			d.line(0, "host_keys: [%s]", strconv.QuoteToASCII(key))
		} else {
			c.note(m.node, "no host key is known: write host_keys into its device, from ssh-keyscan and compared with what the machine says of itself")
		}
	}
	if m.inventory == overKerberos && isIP(m.host) {
		c.note(m.node, "Kerberos knows hosts by name, and the host is an address: write the name as address of its device")
	}
	return d.b.String()
}

// reached returns the port at which runner reaches the machine, when it is known.
func (m *machine) reached() string {
	switch {
	case m.platform == "linux" && m.protocol == "ssh" && m.connPort != "":
		return m.connPort
	case m.platform == "linux" && m.port != "3389" && m.port != "5900":
		return m.port
	case m.port == "5985" || m.port == "5986":
		return m.port
	}
	return ""
}

// userDocument writes a credential that only says how an account logs in.
func (c *converter) userDocument(m *machine, u *user, name string) string {
	var d page
	d.begin("credential", name, u.title)
	d.text(0, "device", m.device)
	d.text(0, "record_uid", u.uid)
	login := u.login
	if m.inventory == overKerberos {
		bare, realm, is := strings.Cut(login, "@")
		if is || m.realm != "" {
			if realm = strings.ToUpper(realm); realm == "" {
				realm = m.realm
			}
			login = bare
			d.text(0, "domain", realm)
			d.line(0, "USE_KERBEROS: \"true\"")
		}
	}
	if m.platform == "windows" && u.key != nil {
		c.note(u.node, "its private key is not used: Windows is reached with a password")
		u.key = nil
	}
	if u.key != nil && u.password != nil {
		c.note(u.password, "its password is not used: runner logs in with its private key")
	}
	file, kind := c.secretFile(u, name)
	d.line(0, "authentication:")
	d.text(1, "user", login)
	if kind == "private_key" {
		d.line(1, "secret_from: {file: %s, kind: private_key}", strconv.QuoteToASCII(file))
	} else {
		d.line(1, "secret_from: {file: %s}", strconv.QuoteToASCII(file))
	}
	at := u.password
	if kind == "private_key" {
		at = u.key
	}
	if i, is := c.secrets[file]; is {
		c.out.Secrets[i].Credentials = append(c.out.Secrets[i].Credentials, name)
	} else {
		c.secrets[file] = len(c.out.Secrets)
		c.out.Secrets = append(c.out.Secrets, Secret{File: file, Kind: kind, Path: c.paths[at], Credentials: []string{name}})
	}
	return d.b.String()
}

// requestDocument writes the credential that people request and launch.
func (c *converter) requestDocument(m *machine, name, admin, launch string) string {
	var d page
	d.begin("credential", name, m.title)
	d.text(0, "device", m.device)
	d.text(0, "record_uid", m.uid)
	d.line(0, "authentication: {credential: %s}", strconv.QuoteToASCII(admin))
	d.text(0, "linked", launch)
	d.flag(0, "allow_supply_host", m.supplyHost)
	d.flag(0, "allow_supply_user", m.supplyUser)
	if m.settings != nil {
		d.line(0, "jit: {policy: opt_in}")
		d.settings(*m.settings, m.other)
	}
	if m.workflow != nil {
		d.workflow(m.workflow)
	}
	return d.b.String()
}
