package inventory

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"runner/engine/lang"
)

// winrm is the transport of Windows.
const winrm = "winrm"

// WinRM says what is spoken with a Windows device.
type WinRM struct {
	Shell         string // psrp (default) or cmd
	Scheme        string // http (default) or https
	Auth          string // kerberos (default) or basic
	Configuration string // endpoint; empty: the one of PowerShell
	CAFile        string // PEM; empty: what this machine trusts
	Operation     time.Duration
	MaxEnvelope   int // bytes
}

// Kerberos says where tickets come from.
type Kerberos struct {
	Realm    string // upper case; empty: the credential's domain
	KDCs     []string
	Krb5Conf string
	Service  string // HTTP, WSMAN or HOST; empty: what the realm knows
}

// ConnectionWinRM is what a connection to a Windows device has besides the rest.
type ConnectionWinRM struct {
	Shell         string        `json:"shell"`
	Scheme        string        `json:"scheme"`
	Auth          string        `json:"auth"`
	Configuration string        `json:"configuration,omitempty"`
	CAFile        string        `json:"ca_file,omitempty"`
	Certificate   string        `json:"certificate,omitempty"` // SHA-256, lower-case hexadecimal digits
	SOCKS5        string        `json:"socks5,omitempty"`
	Operation     time.Duration `json:"operation_ns"`
	MaxEnvelope   int           `json:"max_envelope"`

	// With auth kerberos; the account's realm, and where its tickets come from.
	Realm    string   `json:"realm,omitempty"`
	KDCs     []string `json:"kdcs,omitempty"` // host or host:port; of the inventory, else of additional_information
	Krb5Conf string   `json:"krb5_conf,omitempty"`
	SPN      string   `json:"spn,omitempty"` // SERVICE/host; empty: Service and the address
	Service  string   `json:"service,omitempty"`
}

func (inv *Inventory) defaultPort() int {
	switch {
	case inv.Transport != winrm:
		return 22
	case inv.WinRM.Scheme == "https":
		return 5986
	}
	return 5985
}

func (l *loader) winrm(n *lang.Node) WinRM {
	f := l.Part(n, "winrm").By(&winrmTable, "")
	w := WinRM{
		Shell: f.Enum("shell"), Scheme: f.Enum("scheme"), Auth: f.Enum("auth"), Configuration: f.String("configuration", ""),
		CAFile: l.path(f, "ca_file"), Operation: f.Duration("operation_timeout"), MaxEnvelope: int(f.Int("max_envelope_kb")) << 10,
	}
	f.End()
	if n == nil {
		return w
	}
	if w.Auth != "kerberos" && w.Scheme != "https" {
		l.Add(f.Take("auth"), "not-sealed", "auth %s needs https, because nothing would seal what is sent; write scheme: https, or auth: kerberos", w.Auth)
	}
	if w.CAFile != "" && w.Scheme != "https" {
		l.Add(f.Key("ca_file"), "no-effect", "ca_file has no effect with scheme http; leave it out, or write scheme: https")
	}
	if c := w.Configuration; c != "" && w.Shell == "cmd" {
		l.Add(f.Key("configuration"), "no-effect", "configuration names an endpoint of PowerShell and has no effect with shell cmd; leave it out, or write shell: psrp")
	} else if c != "" && !configuration.MatchString(c) {
		l.Add(f.Take("configuration"), "bad-name", "configuration is %q; write its name as Get-PSSessionConfiguration shows it, such as runner.jit", c)
	}
	return w
}

var configuration = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func (l *loader) kerberosPart(n *lang.Node) Kerberos {
	f := l.Part(n, "kerberos").By(&kerberosTable, "")
	k := Kerberos{Realm: l.realm(f, "realm"), Krb5Conf: l.path(f, "krb5_conf"), Service: f.Enum("service")}
	names := f.Strings("kdcs")
	for i, it := range f.Items("kdcs") {
		if i < len(names) && l.hostPortText(it, "an entry of kdcs", names[i], 0) {
			k.KDCs = append(k.KDCs, names[i])
		}
	}
	f.End()
	return k
}

// realm reads a Kerberos realm, which is upper-case whatever is written.
func (l *loader) realm(f *lang.Fields, key string) string {
	s := f.String(key, "")
	up := strings.ToUpper(s)
	if s != up {
		l.notice(f.Take(key), "%s %q is read as %q: Kerberos realms are upper-case", key, s, up)
	}
	return up
}

// hostPort reads a host name or address with a port; ports is 1 when the port
// must be there and 0 when it may.
func (l *loader) hostPort(f *lang.Fields, key string, ports int) string {
	s := f.String(key, "")
	if s == "" || !l.hostPortText(f.Take(key), key, s, ports) {
		return ""
	}
	return s
}

func (l *loader) hostPortText(n *lang.Node, what, s string, ports int) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = s, ""
	}
	number, perr := strconv.Atoi(port)
	_, ip := netip.ParseAddr(host)
	switch {
	case strings.Contains(s, "://"):
		l.Add(n, "bad-address", "%s is %q; write host:port only, without a scheme", what, s)
	case ip != nil && !hostName.MatchString(host), len(host) > 253:
		l.Add(n, "bad-address", "%s is %q; write a host name or an IP address, with a port such as dc1.corp.example:88", what, s)
	case port != "" && (perr != nil || number < 1 || number > 65535):
		l.Add(n, "bad-address", "%s is %q; a port is a number from 1 to 65535", what, s)
	case port == "" && ports == 1:
		l.Add(n, "bad-address", "%s is %q; the port is missing, write for example %s:1080", what, s, host)
	default:
		return true
	}
	return false
}

// transportFits reports keys that belong to the other transport.
func (l *loader) transportFits(f *lang.Fields, inv *Inventory) {
	inv.Port = cmp.Or(inv.Port, inv.defaultPort())
	other, keys := winrm, []string{"socks5", "winrm", "kerberos"}
	if inv.Transport == winrm {
		other, keys = "ssh", []string{"methods", "become", "host_keys"}
		inv.Methods = []string{}
		inv.Become.Method = "none"
	}
	for _, key := range keys {
		if f.Node.Get(key) != nil {
			l.Add(f.Key(key), "no-effect", "%s belongs to transport %s, and this inventory is %s; leave it out", key, other, inv.Transport)
		}
	}
	if inv.SOCKS5 != "" && len(inv.Jump) > 0 {
		l.Add(f.Key("socks5"), "too-many", "socks5 and jump are two ways to a device; keep the one that is meant")
	}
}

// windowsKeys reads what only devices with Windows have, and refuses it for others.
func (l *loader) windowsKeys(f *lang.Fields, d *Device) {
	if s := f.String("certificate", ""); s != "" {
		d.Certificate = l.sum(f.Take("certificate"), s)
	}
	d.SPN = f.String("spn", "")
	if d.SPN != "" && !principal.MatchString(d.SPN) {
		l.Add(f.Take("spn"), "bad-name", "spn is %q; it has a service and a host, such as HTTP/win-1.corp.example", d.SPN)
	}
	d.Additional = l.additional(f.Take("additional_information"))
	l.kdcs(f.Take("additional_information"), d.Additional)
	wrong := map[string][]string{"linux": {"certificate", "spn"}, "windows": {"host_keys", "uids"}}
	for _, key := range wrong[d.Platform] {
		if f.Node.Get(key) != nil {
			l.Add(f.Key(key), "no-effect", "%s has no effect for a device of platform %s; leave it out", key, d.Platform)
		}
	}
}

var principal = regexp.MustCompile(`^[A-Za-z]+/[A-Za-z0-9][A-Za-z0-9_.-]*(:[0-9]+)?$`)

// sum reads the SHA-256 of a certificate.
func (l *loader) sum(n *lang.Node, s string) string {
	plain := strings.ToLower(strings.ReplaceAll(s, ":", ""))
	if b, err := hex.DecodeString(plain); err != nil || len(b) != 32 {
		what := "64 hexadecimal digits, as openssl x509 -noout -fingerprint -sha256 prints them"
		if len(b) == 20 {
			what = "SHA-256 and not the SHA-1 that Windows calls Thumbprint: " + what
		}
		l.Add(n, "bad-certificate", "%q is not the sum of a certificate; it must be %s", s, what)
	}
	return plain
}

// kdcs checks the domain controllers that additional_information names.
func (l *loader) kdcs(n *lang.Node, m map[string]any) {
	if _, err := kdcsOf(m); err != nil && n != nil {
		l.Add(n, "bad-address", "additional_information: %v; write for example {\"KDC\": \"dc1.corp.example\"}", err)
	}
}

// kdcsOf returns the domain controllers that additional_information names.
func kdcsOf(m map[string]any) ([]string, error) {
	var v any
	for key, value := range m {
		if strings.EqualFold(key, "KDC") {
			v = value
		}
	}
	list, is := v.([]any)
	if s, text := v.(string); text {
		for one := range strings.SplitSeq(s, ",") {
			list = append(list, strings.TrimSpace(one))
		}
	} else if v != nil && !is {
		return nil, errors.New("KDC is no host name")
	}
	var out []string
	for _, one := range list {
		s, _ := one.(string)
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			host, port = s, "88"
		}
		if _, perr := strconv.ParseUint(port, 10, 16); perr != nil || !hostName.MatchString(host) && net.ParseIP(host) == nil {
			return nil, fmt.Errorf("KDC %q is no host name", s)
		}
		out = append(out, s)
	}
	return out, nil
}

// platformFits checks that device, inventory and credential are about the same
// kind of device.
func (l *loader) platformFits(f *lang.Fields, c *Credential, d *Device, inv *Inventory) {
	if inv.Transport != winrm {
		if d.Platform == "windows" {
			l.Add(f.Key("device"), "wrong-platform", "device %s is of platform windows, and inventory %s is %s; choose an inventory with transport winrm", d.Name, inv.Name, inv.Transport)
		}
		return
	}
	if d.Platform != "windows" {
		l.Add(f.Key("device"), "wrong-platform", "inventory %s is winrm, and device %s is of platform %s; write platform: windows in the device", inv.Name, d.Name, d.Platform)
		return
	}
	if c.Account != nil {
		if name, err := c.Account.Eval(lang.Env{"id": exampleID}); err == nil && strings.HasSuffix(fmt.Sprint(name), ".") {
			l.Add(f.Take("account"), "bad-account", "account %q makes names such as %q; Windows takes no name that ends with a dot", c.AccountText, name)
		}
	}
	if c.Password == "none" {
		l.Add(f.Key("password"), "wrong-value", "password none is for logins by key, which Windows does not have; leave it out")
	}
	if d.Certificate != "" && inv.WinRM.Scheme != "https" {
		l.Add(f.Key("device"), "no-effect", "device %s pins a certificate, and inventory %s is http, which has none; write winrm: {scheme: https}", d.Name, inv.Name)
	}
	if inv.WinRM.Auth != "kerberos" {
		if c.UseKerberos {
			l.Add(f.Key("USE_KERBEROS"), "cannot-authenticate", "USE_KERBEROS is true, and inventory %s logs in by %s; choose an inventory with auth: kerberos", inv.Name, inv.WinRM.Auth)
		}
		return
	}
	if f.Node.Get("USE_KERBEROS") != nil && !c.UseKerberos {
		l.notice(f.Key("USE_KERBEROS"), "USE_KERBEROS is false and has no effect: inventory %s logs in by Kerberos", inv.Name)
	}
	user, realm := l.set.kerberosUser(c, inv)
	if strings.Contains(user, `\`) {
		_, bare, _ := strings.Cut(user, `\`)
		l.Add(f.Node.Get("authentication").Get("user"), "bad-name", `the user is %q; Kerberos knows names without the short name of the domain, write user: %s and domain: CORP.EXAMPLE`, user, bare)
	}
	if realm == "" {
		l.Add(f.First(), "missing-key", "no realm is known; write domain: CORP.EXAMPLE here, or kerberos: {realm: CORP.EXAMPLE} in inventory %s", inv.Name)
	}
	if _, err := netip.ParseAddr(d.Address); err == nil && d.SPN == "" {
		l.Add(f.Key("device"), "missing-key", "device %s has an IP address, and Kerberos knows hosts by name; write its name as address, or spn: HTTP/NAME", d.Name)
	}
}

// windowsSecret checks that the login of the inventory can use the secret there is.
func (l *loader) windowsSecret(at *lang.Node, s *Source, inv *Inventory) {
	kerberos := inv.WinRM.Auth == "kerberos"
	switch {
	case s.Agent != "" || s.Kind == "private_key":
		l.Add(at, "cannot-authenticate", "a key or an agent is for ssh, and inventory %s is winrm; write secret_from: {file: /etc/runner/password}, or {keytab: /etc/runner/runner.keytab}", inv.Name)
	case !kerberos && (s.Keytab != "" || s.CCache != ""):
		l.Add(at, "cannot-authenticate", "a keytab or ccache is for Kerberos, and inventory %s logs in by %s; write secret_from: {file: /etc/runner/password}", inv.Name, inv.WinRM.Auth)
	}
}

// kerberosUser returns who a credential logs in as: the name, and the realm
// that its name, its domain or the inventory says.
func (s *Set) kerberosUser(c *Credential, inv *Inventory) (user, realm string) {
	own := s.Login(c)
	user, realm, _ = strings.Cut(own.Auth.User, "@")
	return user, cmp.Or(strings.ToUpper(realm), own.Domain, c.Domain, inv.Kerberos.Realm)
}

// windows joins what a device, a profile and a credential say about WinRM.
func (s *Set) windows(d *Device, inv *Inventory, c *Credential) *ConnectionWinRM {
	w := &ConnectionWinRM{
		Shell: inv.WinRM.Shell, Scheme: inv.WinRM.Scheme, Auth: inv.WinRM.Auth, Configuration: inv.WinRM.Configuration,
		CAFile: inv.WinRM.CAFile, Certificate: d.Certificate, SOCKS5: inv.SOCKS5,
		Operation: inv.WinRM.Operation, MaxEnvelope: inv.WinRM.MaxEnvelope,
	}
	if w.Auth != "kerberos" {
		return w
	}
	_, w.Realm = s.kerberosUser(c, inv)
	w.Krb5Conf = inv.Kerberos.Krb5Conf
	w.SPN, w.Service = d.SPN, inv.Kerberos.Service
	w.KDCs = slices.Clone(inv.Kerberos.KDCs)
	for _, m := range []map[string]any{c.Additional, d.Additional} {
		if len(w.KDCs) == 0 {
			w.KDCs, _ = kdcsOf(m) // checked at load
		}
	}
	return w
}
