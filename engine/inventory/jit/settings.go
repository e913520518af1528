// Package jit owns the just-in-time settings and the workflow of credentials in
// the words of KeeperPAM: reading them, what they ask for, which of several ways
// a launch takes, and what would be said of it. Pure: it connects to nothing,
// starts no goroutine and reads no clock; of files it reads only the names of
// time zones.
package jit

import (
	"slices"
	"strings"

	"runner/engine/lang"
)

// Mode is what settings ask for.
type Mode string

// Modes, by the two flags create_ephemeral and elevate.
const (
	None      Mode = ""          // neither: no just-in-time access
	Ephemeral Mode = "ephemeral" // an account for the session
	Elevation Mode = "elevation" // more rights for the linked account
	Both      Mode = "both"      // an account for the session, with more rights
)

// Words of ephemeral_account_type and elevation_method.
const (
	Local   = "local" // of the device, whatever it is
	Linux   = "linux"
	Mac     = "mac"
	Windows = "windows"
	Domain  = "domain"

	Sudo  = "sudo"
	Group = "group"
	Role  = "role"
)

// SettingsTable describes jit_settings.
var SettingsTable = lang.Table{Name: "jit_settings", Doc: "Just-in-time access in the words of KeeperPAM; createEphemeral and so on are read, too, but create_ephemeral wins", Keys: []lang.Key{ //nolint:gochecknoglobals // a table
	{Name: "create_ephemeral", Is: anyFlag, Default: "false", Doc: "an account for the session", Example: "create_ephemeral: true"},
	{Name: "ephemeral_account_type", Is: anyWord(Local, Linux, Mac, Windows, Domain), Default: Local, Doc: "where the account is made; local is on the device, whatever it is. For mac and domain there is no shipped template: name one of your own as `jit.create`", Example: "create_ephemeral: true\nephemeral_account_type: linux"},
	{Name: "base_distinguished_name", Is: lang.FixedText, Doc: "domain: where in the directory", Example: "create_ephemeral: true\nephemeral_account_type: domain\npam_directory_uid_ref: corp-ad\nbase_distinguished_name: 'OU=Users,DC=corp,DC=example'"},
	{Name: "pam_directory_uid_ref", Is: lang.FixedText, Else: "required for domain", Doc: "domain: uid of the directory", Example: "create_ephemeral: true\nephemeral_account_type: domain\npam_directory_uid_ref: corp-ad"},
	{Name: "elevate", Is: anyFlag, Default: "false", Doc: "more rights: for the account of the session, or without create_ephemeral for the `linked` one", Example: "create_ephemeral: true\nelevate: true\nelevation_string: adm"},
	{Name: "elevation_method", Is: anyWord(Sudo, Group, Role), Default: Group, Doc: "group: membership in groups. sudo: a file of sudoers. For role there is no shipped template: name one of your own as `jit.elevate`", Example: "create_ephemeral: true\nelevate: true\nelevation_method: sudo\nelevation_string: ALL"},
	{Name: "elevation_string", Is: lang.FixedText, Else: "required with elevate", Doc: "groups, commands for sudo, or roles, parted by commas; ALL is every command", Example: "create_ephemeral: true\nelevate: true\nelevation_string: 'adm,docker'"},
}}

var anyFlag = lang.Either(lang.Flag, lang.Shape{Kind: lang.TextShape, Words: []string{"true", "false"}, Pattern: anyCase("true", "false")}) //nolint:gochecknoglobals // a table

// anyWord is one of words in any case.
func anyWord(words ...string) lang.Shape {
	return lang.Shape{Kind: lang.TextShape, Words: words, Pattern: anyCase(words...)}
}

// anyCase is a pattern for words in any case, in what JSON Schema understands.
func anyCase(words ...string) string {
	var b strings.Builder
	for i, w := range words {
		b.WriteString([]string{"^(", "|"}[min(i, 1)])
		for _, r := range w {
			b.WriteString("[" + strings.ToUpper(string(r)) + string(r) + "]")
		}
	}
	return b.String() + ")$"
}

// ephemeralKeys and elevationKeys are what is said of each half of the settings.
var (
	ephemeralKeys = []string{"create_ephemeral", "ephemeral_account_type", "base_distinguished_name", "pam_directory_uid_ref"} //nolint:gochecknoglobals // a table
	elevationKeys = []string{"elevate", "elevation_method", "elevation_string"}                                                //nolint:gochecknoglobals // a table
)

// Settings are the just-in-time settings of a credential.
type Settings struct {
	CreateEphemeral bool
	AccountType     string // "": as Local
	BaseDN          string
	Directory       string // pam_directory_uid_ref
	Elevate         bool
	Method          string // "": as Group
	Elevation       string // elevation_string
	Other           []string
	Pos             lang.Pos
}

// Mode returns what the settings ask for.
func (s Settings) Mode() Mode {
	switch {
	case s.CreateEphemeral && s.Elevate:
		return Both
	case s.CreateEphemeral:
		return Ephemeral
	case s.Elevate:
		return Elevation
	}
	return None
}

// Elevations returns the entries of elevation_string.
func (s Settings) Elevations() []string {
	var out []string
	for e := range strings.SplitSeq(s.Elevation, ",") {
		if e = strings.TrimSpace(e); e != "" && !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	return out
}

// Read reads jit_settings. Unknown keys are kept, with a warning. What is wrong is
// recorded with d and reads as absent.
func Read(d *lang.Decoder, n *lang.Node) Settings {
	f := d.Map(n, "jit_settings").By(&SettingsTable, "")
	r := reader{d: d, f: f, camel: map[string]*lang.Node{}}
	r.aliases()
	s := Settings{
		CreateEphemeral: r.flag("create_ephemeral"), AccountType: r.word("ephemeral_account_type", Local, Linux, Mac, Windows, Domain),
		BaseDN: r.text("base_distinguished_name"), Directory: r.text("pam_directory_uid_ref"),
		Elevate: r.flag("elevate"), Method: r.word("elevation_method", Sudo, Group, Role), Elevation: r.text("elevation_string"),
		Pos: n.Pos,
	}
	for _, e := range f.Rest() {
		s.Other = append(s.Other, e.Key.Text)
		p := e.Key.Problem("unknown-key", "unknown key %q in jit_settings: it is kept and has no effect", e.Key.Text)
		p.Suggest, p.Warning = lang.Similar(e.Key.Text, f.Known()), true
		d.Problems = append(d.Problems, p)
	}
	s.fit(&r)
	return s
}

// fit warns of what the settings say in vain, and of what they do not say.
func (s Settings) fit(r *reader) {
	if s.Elevate && s.Method != Role && len(s.Elevations()) == 0 {
		example := map[bool]string{true: "ALL", false: "adm"}[s.Method == Sudo]
		r.d.Warn(r.f.First(), "missing-key", "jit_settings has elevate and does not say what to give; write elevation_string: %s", example)
	}
	if s.CreateEphemeral && s.AccountType == Domain && s.Directory == "" {
		r.d.Warn(r.f.First(), "missing-key", "jit_settings makes accounts of a domain and does not say of which; write pam_directory_uid_ref: UID")
	}
	for _, key := range ephemeralKeys[1:] {
		if n := r.take(key); n != nil && !s.CreateEphemeral {
			r.d.Warn(n, "no-effect", "%s has no effect without create_ephemeral: true", key)
		}
	}
	for _, key := range elevationKeys[1:] {
		if n := r.take(key); n != nil && !s.Elevate {
			r.d.Warn(n, "no-effect", "%s has no effect without elevate: true", key)
		}
	}
}

// reader reads keys in either spelling.
type reader struct {
	d     *lang.Decoder
	f     *lang.Fields
	camel map[string]*lang.Node // values under the other spelling, by the name of the key
}

// aliases notes the values of keys such as createEphemeral.
func (r *reader) aliases() {
	for _, k := range SettingsTable.Keys {
		other := camelCase(k.Name)
		n := r.f.Node.Get(other)
		if other == k.Name || n == nil {
			continue
		}
		r.f.Skip(other)
		if r.f.Node.Get(k.Name) != nil {
			r.d.Warn(r.f.Key(other), "no-effect", "%s has no effect: %s is there, too, and wins", other, k.Name)
			continue
		}
		r.camel[k.Name] = n
	}
}

func camelCase(name string) string {
	words := strings.Split(name, "_")
	for i, w := range words[1:] {
		words[i+1] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, "")
}

// take returns what stands at a key in either spelling; nil when it is absent, or
// null or an empty text, which mean the same to those who write these settings.
func (r *reader) take(key string) *lang.Node {
	n := r.f.Take(key)
	if n == nil {
		n = r.camel[key]
	}
	if n == nil || n.Kind == lang.NullNode || n.Kind == lang.ScalarNode && strings.TrimSpace(n.Text) == "" {
		return nil
	}
	return n
}

func (r *reader) text(key string) string {
	n := r.take(key)
	if n == nil {
		return ""
	}
	s, _ := r.d.Text(n, key)
	return strings.TrimSpace(s)
}

func (r *reader) word(key string, words ...string) string {
	n := r.take(key)
	if n == nil {
		return ""
	}
	low := *n
	low.Text = strings.ToLower(strings.TrimSpace(n.Text))
	if slices.Contains(words, low.Text) {
		return low.Text
	}
	r.d.OneOf(n, key, words)
	return ""
}

func (r *reader) flag(key string) bool { return flag(r.d, r.take(key), key) }

// flag reads true or false in any case, in quotes or not; nil is false.
func flag(d *lang.Decoder, n *lang.Node, key string) bool {
	switch {
	case n == nil:
		return false
	case n.Kind == lang.ScalarNode && strings.EqualFold(n.Text, "true"):
		return true
	case n.Kind == lang.ScalarNode && strings.EqualFold(n.Text, "false"):
		return false
	}
	d.Add(n, "wrong-type", "%s must be true or false", key)
	return false
}
