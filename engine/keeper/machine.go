package keeper

import (
	"encoding/base64"
	"encoding/binary"
	"iter"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"runner/engine/inventory"
	"runner/engine/inventory/jit"
	"runner/engine/lang"
)

// user is a pamUser.
type user struct {
	title, login, uid string
	realm             string // of the directory it is in
	password, key     *lang.Node
	node              *lang.Node
	used              bool
	shared            string // file of its secret, when it is of no single machine
}

// What has no counterpart here, in the words of KeeperPAM.
var (
	userWithout     = []string{"notes", "distinguished_name", "connect_database", "managed", "otp", "attachments", "scripts", "rotation_settings", "folder_path", "url"}                                                                                                                                                                                     //nolint:gochecknoglobals // a table
	machineWithout  = []string{"notes", "ssl_verification", "instance_name", "instance_id", "provider_group", "provider_region", "otp", "attachments", "scripts", "folder_path", "login", "password", "private_pem_key", "database_id", "use_ssl"}                                                                                                           //nolint:gochecknoglobals // a table
	settingsWithout = []string{"port_forward", "portForward"}                                                                                                                                                                                                                                                                                                //nolint:gochecknoglobals // a table
	optionsWithout  = []string{"rotation", "connections", "tunneling", "remote_browser_isolation", "graphical_session_recording", "text_session_recording", "ai_threat_detection", "ai_terminate_session_on_detection", "ai_settings", "resource"}                                                                                                           //nolint:gochecknoglobals // a table
	connWithout     = []string{"recording_include_keys", "recordingIncludeKeys", "disable_copy", "disableCopy", "disable_paste", "disablePaste", "color_scheme", "colorScheme", "font_size", "fontSize", "scrollback", "command", "sftp", "security", "disable_authentication", "ignore_server_cert", "ignoreCert", "load_balance_info", "preconnection_id", //nolint:gochecknoglobals // a table
		"preconnection_blob", "disable_audio", "disable_dynamic_resizing", "enable_full_window_drag", "enable_wallpaper", "destination_host", "destination_port"}
)

// user reads an entry of users.
func (c *converter) user(n *lang.Node) *user {
	if n.Kind != lang.MapNode {
		c.Add(n, "wrong-type", "a user must be an object, not %s", n.Kind)
		return nil
	}
	f := c.Map(n, "a user")
	u := &user{
		title: c.text(f.Take("title"), "title"), login: c.text(f.Take("login"), "login"), uid: c.text(f.Take("uid"), "uid"),
		password: secretAt(f.Take("password")), key: secretAt(f.Take("private_pem_key")), node: n,
	}
	f.Take("type")
	c.rest(f, userWithout...)
	if u.login == "" {
		c.note(n, "this user has no login: it is left out")
		return nil
	}
	return u
}

// secretAt returns the node when it holds something.
func secretAt(n *lang.Node) *lang.Node {
	if n == nil || n.Kind != lang.ScalarNode || strings.TrimSpace(n.Text) == "" {
		return nil
	}
	return n
}

// machine is a pamMachine.
type machine struct {
	node                   *lang.Node
	title, host, uid       string
	port, connPort         string
	os, protocol           string
	hostKey                string
	supplyHost, supplyUser bool
	admin, launch          string
	settings               *jit.Settings
	other                  []lang.Entry // of jit_settings
	workflow               *jit.Workflow
	users                  []*user
	platform, inventory    string
	device, realm          string
	whole                  bool // nothing is wrong with it so far
}

// machine reads a pamMachine and returns its documents and the shared users that
// it has.
func (c *converter) machine(n *lang.Node) (docs []string, used []*user) {
	before := len(c.Problems)
	f := c.Map(n, "a machine")
	f.Take("type")
	m := &machine{
		node: n, title: c.text(f.Take("title"), "title"), host: c.text(f.Take("host"), "host"), uid: c.text(f.Take("uid"), "uid"),
		port: c.text(f.Take("port"), "port"), os: strings.ToLower(c.text(f.Take("operating_system"), "operating_system")),
	}
	c.pamSettings(m, f.Take("pam_settings"))
	for _, u := range c.items(f.Take("users"), "users") {
		if u := c.user(u); u != nil {
			m.users = append(m.users, u)
		}
	}
	c.rest(f, machineWithout...)
	if m.host == "" {
		c.note(n, "this machine has no host: it is left out")
		return nil, nil
	}
	if m.platform = m.platformOf(); m.platform == "" {
		c.note(n, "machines are reached as Linux over SSH or as Windows over WinRM, and this one seems to be neither: it is left out")
		return nil, nil
	}
	admin := c.find(m, m.admin)
	if m.admin != "" && admin == nil {
		c.note(n, "there is no user %s, its administrative credential", strconv.QuoteToASCII(clip(m.admin)))
	}
	launch := c.find(m, m.launch)
	if m.launch != "" && launch == nil {
		c.note(n, "there is no user %s, its launch credential", strconv.QuoteToASCII(clip(m.launch)))
	}
	m.whole = len(c.Problems) == before
	return c.write(m, admin, launch)
}

// pamSettings reads pam_settings.
func (c *converter) pamSettings(m *machine, n *lang.Node) {
	f, _ := c.object(n, "pam_settings")
	m.supplyHost = c.flag(first(f, "allow_supply_host", "allowSupplyHost"), "allow_supply_host")
	conn, _ := c.object(f.Take("connection"), "connection")
	m.protocol = strings.ToLower(c.text(conn.Take("protocol"), "protocol"))
	m.connPort = c.text(conn.Take("port"), "port")
	m.supplyUser = c.flag(first(conn, "allow_supply_user", "allowSupplyUser"), "allow_supply_user")
	m.admin = c.oneOf(first(conn, "administrative_credentials", "userRecords"), "administrative_credentials")
	m.launch = c.oneOf(first(conn, "launch_credentials", "launchRecordUid"), "launch_credentials")
	m.hostKey = c.text(first(conn, "public_host_key", "hostKey"), "public_host_key")
	c.rest(conn, connWithout...)
	options, _ := c.object(f.Take("options"), "options")
	if s := c.inner(first(options, "jit_settings", "jitSettings")); s != nil {
		c.jitSettings(m, s)
	}
	if w := c.inner(options.Take("workflow")); w != nil {
		m.workflow = jit.ReadWorkflow(&c.Decoder, plain(w))
	}
	c.rest(options, optionsWithout...)
	c.rest(f, settingsWithout...)
}

// flag reads true, false, on and off in any case.
func (c *converter) flag(n *lang.Node, what string) bool {
	switch strings.ToLower(c.text(n, what)) {
	case "true", "on", "yes", "1":
		return true
	case "", "false", "off", "no", "0":
		return false
	}
	c.Add(n, "wrong-type", "%s must be true or false", what)
	return false
}

// oneOf reads a text, or the first of a list.
func (c *converter) oneOf(n *lang.Node, what string) string {
	if n != nil && n.Kind == lang.ListNode {
		if len(n.Items) > 1 {
			c.note(n.Items[1], "%s has several entries: the first is taken", what)
		}
		if len(n.Items) == 0 {
			return ""
		}
		n = n.Items[0]
	}
	return c.text(n, what)
}

// inner returns an object that says something; it may stand as JSON in a text.
func (c *converter) inner(n *lang.Node) *lang.Node {
	if n != nil && n.Kind == lang.ScalarNode && n.Quoted && strings.HasPrefix(strings.TrimSpace(n.Text), "{") {
		t, ps := parse(c.o.File, []byte(n.Text))
		if len(ps) > 0 {
			c.Add(n, "bad-json", "the text is no JSON object")
			return nil
		}
		path := c.paths[n]
		for in, at := range t.paths {
			in.Pos = n.Pos
			c.paths[in] = strings.TrimSuffix(path+"."+at, ".")
		}
		n = t.root
	}
	if n == nil || n.Kind == lang.NullNode || n.Kind == lang.MapNode && len(plain(n).Entries) == 0 {
		return nil
	}
	if n.Kind != lang.MapNode {
		c.Add(n, "wrong-type", "this must be an object, not %s", n.Kind)
		return nil
	}
	return n
}

// plain returns an object without its comments.
func plain(n *lang.Node) *lang.Node {
	out := *n
	out.Entries = slices.DeleteFunc(slices.Clone(n.Entries), func(e lang.Entry) bool { return strings.HasPrefix(e.Key.Text, "_comment") })
	return &out
}

// jitSettings reads jit_settings. The directory is named by its title there.
func (c *converter) jitSettings(m *machine, n *lang.Node) {
	n = plain(n)
	f := c.Map(n, "jit_settings")
	title := c.text(first(f, "pam_directory_record", "pamDirectoryRecord"), "pam_directory_record")
	uid := c.text(first(f, "pam_directory_uid", "pamDirectoryUid"), "pam_directory_uid")
	n.Entries = slices.DeleteFunc(n.Entries, func(e lang.Entry) bool {
		return strings.HasPrefix(e.Key.Text, "pam_directory_record") || strings.HasPrefix(e.Key.Text, "pamDirectoryRecord") || e.Key.Text == "pam_directory_uid" || e.Key.Text == "pamDirectoryUid"
	})
	before := len(c.Problems)
	s := jit.Read(&c.Decoder, n)
	errs, warnings := c.Problems[before:].Split()
	c.Problems = append(c.Problems[:before:before], errs...)
	if s.Directory == "" {
		s.Directory = uid
	}
	if s.Directory == "" && title != "" {
		i := slices.IndexFunc(c.directories, func(d directory) bool { return strings.EqualFold(d.title, title) })
		if i < 0 {
			c.Add(f.First(), "unknown-name", "there is no directory %s among the resources, which pam_directory_record names", strconv.QuoteToASCII(clip(title)))
			return
		}
		if s.Directory = c.directories[i].uid; s.Directory == "" {
			s.Directory = slug(title, "directory")
		}
	}
	for _, w := range warnings {
		if !strings.Contains(w.Message, "pam_directory_uid_ref") || s.Directory == "" {
			c.note(m.node, "%s", w.Said())
		}
	}
	m.settings = &s
	for _, e := range n.Entries {
		if slices.Contains(s.Other, e.Key.Text) {
			m.other = append(m.other, e)
		}
	}
}

// platformOf tells what a machine is: by what its settings make, by its system, by
// the protocol of its sessions, by its port.
func (m *machine) platformOf() string {
	if s := m.settings; s != nil && s.CreateEphemeral {
		switch s.AccountType {
		case jit.Linux, jit.Windows:
			return s.AccountType
		case jit.Mac:
			return ""
		}
	}
	switch {
	case strings.Contains(m.os, "mac") || strings.Contains(m.os, "darwin"):
		return ""
	case strings.Contains(m.os, "windows"):
		return jit.Windows
	case m.os != "", m.protocol == "ssh":
		return jit.Linux
	case m.protocol == "rdp":
		return jit.Windows
	case m.port == "22":
		return jit.Linux
	case m.port == "3389" || m.port == "5985" || m.port == "5986":
		return jit.Windows
	}
	return ""
}

// find returns the user that a title, login or uid means: of the machine, of the
// project, or as Directory.User of a directory.
func (c *converter) find(m *machine, ref string) *user {
	if ref == "" {
		return nil
	}
	lists := [][]*user{m.users, c.users}
	for _, d := range c.directories {
		if title, _, is := strings.Cut(ref, "."); is && title == d.title {
			lists = append(lists, d.users)
		}
	}
	for _, want := range []string{ref, ref[strings.Index(ref, ".")+1:]} {
		for _, users := range lists {
			for _, is := range []func(u *user) bool{
				func(u *user) bool { return u.uid == want },
				func(u *user) bool { return u.title == want },
				func(u *user) bool { return u.login == want },
			} {
				if i := slices.IndexFunc(users, is); i >= 0 {
					return users[i]
				}
			}
		}
	}
	return nil
}

// hostKeyLine makes the line of a public key of what KeeperPAM holds: the key in
// base64, or the whole line.
func hostKeyLine(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		blob, err := base64.StdEncoding.DecodeString(w)
		if err != nil || len(blob) < 8 {
			continue
		}
		size := binary.BigEndian.Uint32(blob)
		if size > 64 || int(size)+4 > len(blob) {
			continue
		}
		typ := string(blob[4 : 4+size])
		if i > 0 && words[i-1] != typ {
			return ""
		}
		if strings.HasPrefix(typ, "ssh-") || strings.HasPrefix(typ, "ecdsa-") {
			return typ + " " + w
		}
	}
	return ""
}

// isIP reports whether s is an address and no name.
func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// mapsKeys are the keys of a map.
func mapsKeys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

// secretFile is where the secret of a credential is to be put.
func (c *converter) secretFile(u *user, credential string) (file, kind string) {
	kind, suffix := "password", ".password"
	if u.key != nil {
		kind, suffix = "private_key", ".key"
	}
	if u.shared == "" {
		u.shared = path.Join(c.o.Secrets, credential+suffix)
	}
	return u.shared, kind
}

// checked loads the documents of a machine as they will be loaded.
func (c *converter) checked(m *machine, docs []string) {
	text := c.inventories[m.inventory].load + strings.Join(docs, "")
	_, ps := inventory.Read(c.o.File, text)
	for _, p := range ps {
		c.Add(m.node, p.Code, "%s", p.Said())
	}
}
