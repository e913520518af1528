package inventory

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"runner/engine/lang"
)

// inventoryOf returns the profile by which a credential reaches its device, or nil.
func (s *Set) inventoryOf(c *Credential) *Inventory {
	name := c.Inventory
	if d := s.Devices[c.Device]; name == "" && d != nil {
		name = d.Inventory
	}
	return s.Inventories[name]
}

// reachable checks a credential against its inventory and device.
func (l *loader) reachable(f *lang.Fields, c *Credential) {
	d := l.set.Devices[c.Device]
	if d == nil {
		return // said already
	}
	if c.Inventory == "" && d.Inventory == "" {
		if len(l.set.Inventories) > 0 {
			l.Add(f.Key("device"), "missing-key", "no inventory says how to reach device %s; write inventory: NAME here or in the device (there is %s)", c.Device, lang.Words(slices.Sorted(maps.Keys(l.set.Inventories))))
		} else {
			l.Add(f.Key("device"), "missing-key", "no inventory says how to reach device %s; write a document of kind inventory, and inventory: NAME here or in the device", c.Device)
		}
		return
	}
	inv := l.set.inventoryOf(c)
	if inv == nil {
		return // said already
	}
	if c.UseKerberos && inv.Transport == "ssh" {
		l.notice(f.Key("USE_KERBEROS"), "USE_KERBEROS has no effect with transport ssh of inventory %s", inv.Name)
	}
	at := f.Node.Get("authentication").Get("secret_from")
	if at == nil {
		at = f.Node.Get("authentication").Get("credential")
	}
	l.fits(at, l.set.Login(c).Auth, inv)
	l.platformFits(f, c, d, inv)
	for _, h := range l.set.hops(inv, c, 0) {
		if h.Device == c.Device {
			l.Add(f.Key("device"), "cycle", "device %s would be reached through itself: it is a jump host of inventory %s; choose another inventory for this credential", c.Device, inv.Name)
		}
	}
}

// hopFits checks the login of a jump host.
func (l *loader) hopFits(f *lang.Fields, inv *Inventory, h Hop) {
	c, d := l.set.Credentials[h.Credential], l.set.Devices[h.Device]
	if d == nil {
		return
	}
	by := cmp.Or(l.set.Inventories[d.Inventory], inv)
	switch {
	case by.Transport == winrm:
		l.Add(f.Take("device"), "wrong-value", "jump hosts are reached over ssh, and device %s by inventory %s, which is winrm; give the device an inventory with transport ssh", h.Device, by.Name)
	case h.Credential == "" && inv.Transport == winrm:
		l.Add(f.First(), "missing-key", "a jump host of a winrm inventory needs a credential of its own; the one of the device is for Windows")
	case c != nil:
		l.fits(f.Node.Get("credential"), l.set.Login(c).Auth, by)
	}
}

// fits checks that the allowed methods can use the secret there is.
func (l *loader) fits(at *lang.Node, auth Auth, inv *Inventory) {
	if at == nil || auth.Secret == nil {
		return
	}
	if inv.Transport == winrm {
		l.windowsSecret(at, auth.Secret, inv)
		return
	}
	what, methods, write := auth.Secret.methods()
	if what == "" || slices.ContainsFunc(methods, func(m string) bool { return slices.Contains(inv.Methods, m) }) {
		return
	}
	if len(methods) == 0 {
		l.Add(at, "cannot-authenticate", "%s is for Kerberos, which transport ssh does not use; %s", what, write)
		return
	}
	l.Add(at, "cannot-authenticate", "%s needs the method %s, but inventory %s allows only %s; %s", what, lang.Words(methods), inv.Name, strings.Join(inv.Methods, ", "), write)
}

// methods returns what a source gives, the methods that can use it, and what
// would be right when none of them is allowed.
func (s *Source) methods() (what string, methods []string, write string) {
	switch {
	case s.Keytab != "" || s.CCache != "":
		return "a keytab or ccache", nil, "write secret_from: {file: /etc/runner/key, kind: private_key}"
	case s.Agent != "":
		return "an agent", []string{"agent"}, "add agent to its methods"
	case s.Kind == "private_key" && s.Certificate != "":
		return "a key with a certificate", []string{"certificate", "publickey"}, "add one of them to its methods"
	case s.Kind == "private_key":
		return "a private key", []string{"publickey"}, "add publickey to its methods"
	case s.File != "" || len(s.Command) > 0:
		return "a password", []string{"password", "keyboard-interactive"}, "add kind: private_key here if it is a key, or one of these methods there"
	}
	return "", nil, ""
}

// cycles reports credentials that authenticate as each other, and jump hosts
// that are reached through each other.
func (l *loader) cycles() {
	for _, name := range slices.Sorted(maps.Keys(l.set.Credentials)) {
		next := func(n string) string {
			if o := l.set.Credentials[n]; o != nil {
				return o.Auth.Credential
			}
			return ""
		}
		if path := cycle(name, next); len(path) > 2 && path[0] == slices.Min(path) {
			l.Add(l.names["credential/"+name], "cycle", "credentials authenticate as each other: %s; one of them needs user and secret_from", strings.Join(path, " -> "))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.set.Inventories)) {
		if path := cycle(name, l.set.outer); len(path) > 1 && path[0] == slices.Min(path) {
			l.Add(l.names["inventory/"+name], "cycle", "the first jump host is reached through itself: inventories %s; give the device of the jump host an inventory without jump", strings.Join(path, " -> "))
		}
	}
}

// outer returns the inventory by which the first jump host of an inventory is
// reached, or "" when that is a plain connection.
func (s *Set) outer(name string) string {
	inv := s.Inventories[name]
	if inv == nil || len(inv.Jump) == 0 {
		return ""
	}
	d := s.Devices[inv.Jump[0].Device]
	if d == nil {
		return ""
	}
	if o := s.Inventories[d.Inventory]; o != nil && len(o.Jump) > 0 {
		return d.Inventory
	}
	return ""
}

// cycle follows next from start and returns the way when it comes back to it.
func cycle(start string, next func(string) string) []string {
	path := []string{start}
	for at := next(start); at != ""; at = next(at) {
		path = append(path, at)
		if at == start {
			return path
		}
		if slices.Contains(path[:len(path)-1], at) {
			return nil // a cycle further on, reported there
		}
	}
	return nil
}

// CheckTemplates reports the templates that credentials name and that do not
// exist. has says whether there is one of a kind (create, delete, elevate).
// The slot revert names an elevate template: its section revert is what runs.
func (s *Set) CheckTemplates(has func(kind, name string) bool) lang.Problems {
	var ps lang.Problems
	for _, name := range slices.Sorted(maps.Keys(s.Credentials)) {
		c := s.Credentials[name]
		for _, sk := range slotKinds {
			n := c.slots[sk.slot]
			if n == nil || has(sk.kind, n.Text) {
				continue
			}
			hint := ""
			for _, other := range slotKinds {
				if other.kind != sk.kind && has(other.kind, n.Text) {
					hint = "; there is one of kind " + other.kind
				}
			}
			ps = append(ps, n.Problem("unknown-template", "there is no usable %s template %q for credential %s%s", sk.kind, n.Text, name, hint))
		}
	}
	ps.Sort()
	return ps
}

// CheckPlatforms reports the templates that credentials name and that are for
// another platform than the device. platform returns that of a template, or "".
func (s *Set) CheckPlatforms(platform func(kind, name string) string) lang.Problems {
	var ps lang.Problems
	for _, name := range slices.Sorted(maps.Keys(s.Credentials)) {
		c := s.Credentials[name]
		d := s.Devices[c.Device]
		for _, sk := range slotKinds {
			n := c.slots[sk.slot]
			if n == nil || d == nil {
				continue
			}
			if of := platform(sk.kind, n.Text); of != "" && of != d.Platform {
				ps = append(ps, n.Problem("wrong-platform", "template %s/%s is for %s, and device %s of credential %s is %s", sk.kind, n.Text, of, d.Name, name, d.Platform))
			}
		}
	}
	ps.Sort()
	return ps
}

// CheckParams reports fixed params that no template of the credential takes,
// and values that a template refuses. params returns, for a template, a check
// by the name of each param, which says what is wrong with a value or "";
// those of a create template include the ones of its removal.
func (s *Set) CheckParams(params func(kind, name string) map[string]func(*lang.Value) string) lang.Problems {
	var ps lang.Problems
	for _, name := range slices.Sorted(maps.Keys(s.Credentials)) {
		c := s.Credentials[name]
		var all []map[string]func(*lang.Value) string
		for _, sk := range slotKinds {
			if n := c.slots[sk.slot]; n != nil {
				all = append(all, params(sk.kind, n.Text))
			}
		}
		for param, v := range c.Params {
			ps = append(ps, checkParam(c.params[param], v, all)...)
		}
	}
	hideLines(ps, "wrong-value")
	ps.Sort()
	return ps
}

// checkParam holds one fixed param against the templates of its credential.
func checkParam(at lang.Entry, v *lang.Value, templates []map[string]func(*lang.Value) string) lang.Problems {
	var names []string
	known := false
	for _, t := range templates {
		names = append(names, slices.Collect(maps.Keys(t))...)
		check := t[at.Key.Text]
		if check == nil {
			continue
		}
		known = true
		if why := check(v); why != "" {
			return lang.Problems{lang.Hidden(at.Key, "wrong-value", "param %q %s", at.Key.Text, why)}
		}
	}
	if known || len(templates) == 0 {
		return nil
	}
	slices.Sort(names)
	names = slices.Compact(names)
	p := at.Key.Problem("unknown-param", "no template of this credential has a param %q", at.Key.Text)
	if p.Suggest = lang.Similar(at.Key.Text, names); p.Suggest == "" && len(names) > 0 {
		p.Message += "; there is " + lang.Words(names)
	}
	return lang.Problems{p}
}
