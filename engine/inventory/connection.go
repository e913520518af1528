package inventory

import (
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"runner/engine/lang"
)

// inventory reads a connection profile.
func (l *loader) inventory(f *lang.Fields) {
	name := l.name(f, "inventory", anyName, "Linux-SSH")
	inv := &Inventory{Name: name, Pos: f.Key("name").Pos}
	f.Need("transport", "ssh")
	inv.Transport = f.Enum("transport")
	inv.Methods = f.Enums("methods")
	inv.Port = int(f.Int("port"))
	inv.Become = l.become(f.Take("become"))
	inv.HostKeys = l.hostKeys(f.Take("host_keys"))
	inv.Timeouts = l.timeouts(f.Take("timeouts"))
	for _, it := range f.Items("jump") {
		inv.Jump = append(inv.Jump, l.hop(it, inv))
	}
	inv.SOCKS5 = l.hostPort(f, "socks5", 1)
	inv.WinRM = l.winrm(f.Take("winrm"))
	inv.Kerberos = l.kerberosPart(f.Take("kerberos"))
	l.transportFits(f, inv)
	f.End()
	if name != "" {
		l.set.Inventories[name] = inv
	}
}

func (l *loader) become(n *lang.Node) Become {
	f := l.Part(n, "become").By(&becomeTable, "")
	b := Become{Method: f.Enum("method")}
	if p := f.Take("password_from"); p != nil {
		b.Password = l.source(p, "password_from", true)
		if b.Method == "none" {
			l.Add(f.Key("password_from"), "no-effect", "password_from has no effect with method none; leave it out, or write method: sudo")
		}
	}
	l.literals(f, "password_from: {file: /etc/runner/sudo-password}")
	f.End()
	return b
}

func (l *loader) hostKeys(n *lang.Node) HostKeys {
	f := l.Part(n, "host_keys").By(&hostKeysTable, "")
	h := HostKeys{Policy: f.Enum("policy"), KnownHosts: l.path(f, "known_hosts")}
	f.End()
	return h
}

func (l *loader) timeouts(n *lang.Node) Timeouts {
	f := l.Part(n, "timeouts").By(&timeoutsTable, "")
	t := Timeouts{Dial: f.Duration("dial"), Step: f.Duration("step"), Keep: f.Duration("keepalive")}
	f.End()
	return t
}

// hop reads one jump host of inv, which holds the hops in front of it.
func (l *loader) hop(n *lang.Node, inv *Inventory) Hop {
	if n.Kind == lang.ScalarNode {
		l.Add(n, "wrong-type", "a jump host is a map; write {device: %s}", n.Text)
		return Hop{}
	}
	f := l.Map(n, "a jump host").By(&jumpTable, "")
	f.Need("device", "bastion")
	h := Hop{Device: l.refer(f, "device", "device"), Credential: l.refer(f, "credential", "credential")}
	f.End()
	if h.Device != "" && slices.ContainsFunc(inv.Jump, func(b Hop) bool { return b.Device == h.Device }) {
		l.Add(f.Take("device"), "duplicate", "device %q is twice in the chain of jump hosts", h.Device)
	}
	l.later = append(l.later, func() { l.hopFits(f, inv, h) })
	return h
}

// device reads where accounts live.
func (l *loader) device(f *lang.Fields) {
	name := l.name(f, "device", lowerName, "web-1")
	d := &Device{Name: name, Pos: f.Key("name").Pos}
	d.Address = l.address(f)
	d.Port = int(f.Int("port"))
	d.Platform = f.Enum("platform")
	d.Inventory = l.refer(f, "inventory", "inventory")
	d.Tags = f.Strings("tags")
	for _, it := range f.Items("host_keys") {
		if s, ok := l.Text(it, "an entry of host_keys"); ok && l.hostKey(it, s) {
			d.HostKeys = append(d.HostKeys, s)
		}
	}
	d.UIDs = l.uids(f.Take("uids"))
	l.windowsKeys(f, d)
	f.End()
	if name != "" {
		l.set.Devices[name] = d
	}
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$`)

// address reads the name or IP address of a device, and nothing but that.
func (l *loader) address(f *lang.Fields) string {
	s := f.NeedString("address", "web-1.example.com")
	if s == "" {
		return ""
	}
	n := f.Take("address")
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.String()
	}
	bare, port, hasPort := strings.Cut(s, ":")
	user, _, hasUser := strings.Cut(s, "@")
	scheme, _, hasScheme := strings.Cut(s, "://")
	switch {
	case hasScheme:
		l.Add(n, "bad-address", "address is %q; write only the host name or IP address, without %s://", s, scheme)
	case hasUser:
		l.Add(n, "bad-address", "address is %q; the user belongs into the credential: authentication: {user: %s}", s, user)
	case strings.HasPrefix(s, "["):
		l.Add(n, "bad-address", "address is %q; write an IPv6 address without brackets, and a port under port", s)
	case hasPort && hostName.MatchString(bare):
		l.Add(n, "bad-address", "address is %q; write the port under its own key: address: %s, port: %s", s, bare, port)
	case !hostName.MatchString(s) || len(s) > 253:
		l.Add(n, "bad-address", "address is %q; that is neither a host name nor an IP address", s)
	default:
		return s
	}
	return ""
}

var fingerprint = regexp.MustCompile(`^SHA256:[A-Za-z0-9+/]{43}$`)

// hostKey reports whether s is a public key or a fingerprint of one.
func (l *loader) hostKey(n *lang.Node, s string) bool {
	if fingerprint.MatchString(s) {
		return true
	}
	words := strings.Fields(s)
	if len(words) < 2 || !strings.HasPrefix(words[0], "ssh-") && !strings.HasPrefix(words[0], "ecdsa-") && !strings.HasPrefix(words[0], "sk-") {
		l.Add(n, "bad-host-key", `this is not a host key; write it as in /etc/ssh/ssh_host_ed25519_key.pub: "ssh-ed25519 AAAA…", or as a fingerprint: "SHA256:…" with 43 characters`)
		return false
	}
	blob, err := base64.StdEncoding.DecodeString(words[1])
	if err != nil || len(blob) < 4 || int64(binary.BigEndian.Uint32(blob)) > int64(len(blob)-4) {
		l.Add(n, "bad-host-key", "the second word of this host key is not a key in base64; was it cut off?")
		return false
	}
	if inner := string(blob[4 : 4+binary.BigEndian.Uint32(blob)]); inner != words[0] {
		l.Add(n, "bad-host-key", "this host key says %s, but the key in it is %q; copy the whole line of the .pub file", words[0], inner)
		return false
	}
	return true
}

// nobody and its neighbour are never handed out.
const nobody, overflow = 65534, 65535

func (l *loader) uids(n *lang.Node) UIDRange {
	f := l.Part(n, "uids").By(&uidsTable, "")
	r := UIDRange{First: f.Int("first"), Last: f.Int("last")}
	f.End()
	switch {
	case n == nil: // what the table says fits
	case r.First > r.Last:
		l.Add(n, "out-of-range", "the range of uids ends before it starts: first is %d, last is %d", r.First, r.Last)
	case r.First <= overflow && r.Last >= nobody:
		l.Add(n, "out-of-range", "the range of uids %d-%d contains %d (nobody) and %d; choose a range below or above them", r.First, r.Last, nobody, overflow)
	}
	return r
}
