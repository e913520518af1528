package inventory

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"runner/engine/inventory/jit"
	"runner/engine/lang"
)

// Bounds of credentials.
const (
	longest = 365 * 24 * time.Hour

	defaultAccount = "jit-{{ id }}"
	maxAccount     = 20 // the shortest limit of the systems that accounts are made on
	exampleID      = "a2b3c4d5e6"
)

// credential reads what points at templates and says who may use them where.
func (l *loader) credential(f *lang.Fields) {
	name := l.name(f, "credential", lowerName, "web-admin")
	c := &Credential{Name: name, Pos: f.Key("name").Pos}
	f.Need("device", "web-1")
	c.Device = l.refer(f, "device", "device")
	c.Inventory = l.refer(f, "inventory", "inventory")
	l.keeper(f, c)
	if l.changes(f, c) {
		l.existing(f, c)
	} else {
		l.account(f, c)
	}
	c.Password = l.passwordWord(f)
	if c.Domain = f.String("domain", ""); c.Domain != strings.ToUpper(c.Domain) {
		l.notice(f.Take("domain"), "domain %q is read as %q: Kerberos realms are upper-case", c.Domain, strings.ToUpper(c.Domain))
		c.Domain = strings.ToUpper(c.Domain)
	}
	c.UseKerberos = l.kerberos(f, c)
	c.Additional = l.additional(f.Take("additional_information"))
	l.kdcs(f.Take("additional_information"), c.Additional)
	if n := f.Need("authentication", "{user: runner, secret_from: {file: /etc/runner/key, kind: private_key}}"); n != nil {
		c.Auth = l.auth(n, c)
	}
	c.MaxConcurrent = int(f.Int("max_concurrent"))
	c.Requesters = l.requesters(f)
	c.JIT, c.slots = l.jit(f.Take("jit"), c.Settings)
	l.together(f, c)
	c.Params, c.params = l.params(f.Take("params"))
	l.literals(f, "authentication: {user: runner, secret_from: {file: /etc/runner/secret}}")
	f.End()
	l.own(f, c)
	if name == "" {
		return
	}
	l.set.Credentials[name] = c
	l.later = append(l.later, func() { l.reachable(f, c); l.elevated(f, c) })
}

func (l *loader) notice(n *lang.Node, format string, args ...any) {
	l.set.Notices = append(l.set.Notices, n.Problem("notice", format, args...))
}

// account reads the pattern of account names and tries it.
func (l *loader) account(f *lang.Fields, c *Credential) {
	n := f.Take("account")
	if n == nil {
		n = &lang.Node{Kind: lang.ScalarNode, Text: defaultAccount, Quoted: true, Pos: c.Pos}
	}
	if n.Kind != lang.ScalarNode {
		l.Add(n, "wrong-type", "account must be a text such as %q, not %s", defaultAccount, n.Kind)
		return
	}
	c.AccountText = n.Text
	v, ps := lang.CompileValue(n, lang.String, lang.Scope{"id": lang.String})
	if len(ps) > 0 {
		l.Join(ps)
		return
	}
	c.Account = v
	if len(v.Refs()) == 0 {
		l.Add(n, "bad-account", "account %q would be the same for everybody; use {{ id }}, for example %q", n.Text, defaultAccount)
		return
	}
	for _, id := range []string{exampleID, "7654327654"} {
		if why := tryAccount(v, id); why != "" {
			l.Add(n, "bad-account", "account %q %s", n.Text, why)
			return
		}
	}
}

var (
	accountStart = regexp.MustCompile(`^[a-z]`)
	accountChars = regexp.MustCompile(`^[a-z0-9_.-]*$`)
)

// tryAccount says what is wrong with the account name for one id.
func tryAccount(v *lang.Value, id string) string {
	made, err := v.Eval(lang.Env{"id": id})
	s, ok := made.(string)
	switch {
	case err != nil:
		return "cannot be made: " + err.Error()
	case !ok || !strings.Contains(s, id):
		return fmt.Sprintf("must contain the whole {{ id }}: of %s it makes %q", id, s)
	case len(s) > maxAccount:
		return fmt.Sprintf("makes names of %d characters such as %q; at most %d work on every system, so at most %d beside the %d of {{ id }}", len(s), s, maxAccount, maxAccount-len(id), len(id))
	case !accountChars.MatchString(s):
		return fmt.Sprintf("makes names such as %q; only lower-case letters, digits, dots, underscores and hyphens are possible", s)
	case !accountStart.MatchString(s):
		return fmt.Sprintf("makes names such as %q; a name must start with a lower-case letter", s)
	}
	return ""
}

// passwordWord reads how the account's password is made. What stands there may
// be a password, so it is never shown.
func (l *loader) passwordWord(f *lang.Fields) string {
	n := f.Take("password")
	words := []string{"generated", "none"}
	switch {
	case n == nil:
		return words[0]
	case n.Kind == lang.ScalarNode && slices.Contains(words, n.Text):
		return n.Text
	}
	p := lang.Hidden(f.Key("password"), "literal-secret", "password says how the password of the account is made, generated or none; a password itself is never written here")
	p.Suggest = lang.Nearest(n.Text, words)
	l.add(p)
	return words[0]
}

// kerberos reads USE_KERBEROS, which is true or false as a word or in quotes.
func (l *loader) kerberos(f *lang.Fields, c *Credential) bool {
	n := f.Take("USE_KERBEROS")
	if n == nil {
		return false
	}
	if n.Kind != lang.ScalarNode || !strings.EqualFold(n.Text, "true") && !strings.EqualFold(n.Text, "false") {
		l.Add(n, "wrong-type", `USE_KERBEROS must be "true" or "false"`)
		return false
	}
	use := strings.EqualFold(n.Text, "true")
	if use && c.Domain == "" {
		l.Add(f.Key("USE_KERBEROS"), "missing-key", "USE_KERBEROS needs the realm; write for example: domain: EXAMPLE.COM")
	}
	return use
}

// additional reads a JSON object in a text, or a map.
func (l *loader) additional(n *lang.Node) map[string]any {
	if n == nil {
		return nil
	}
	switch n.Kind {
	case lang.MapNode:
		m, _ := l.plain(n).(map[string]any)
		return m
	case lang.ScalarNode:
		var m map[string]any
		err := json.Unmarshal([]byte(n.Text), &m)
		if err == nil && m != nil {
			return m
		}
		at := 0
		why := "is not a JSON object"
		if se, ok := errors.AsType[*json.SyntaxError](err); ok {
			at, why = max(0, int(se.Offset)-1), "is not valid JSON: "+se.Error()
		}
		l.add(n.ProblemAt(at, 1, "bad-json", `additional_information %s; write a map, or a text such as '{"site": "north"}'`, why))
	case lang.ListNode, lang.NullNode:
		l.Add(n, "wrong-type", `additional_information must be a map, or a JSON object in a text such as '{"site": "north"}', not %s`, n.Kind)
	}
	return nil
}

// plain turns a node into what JSON would give.
func (l *loader) plain(n *lang.Node) any {
	switch n.Kind {
	case lang.MapNode:
		m := map[string]any{}
		for _, e := range n.Entries {
			m[e.Key.Text] = l.plain(e.Value)
		}
		return m
	case lang.ListNode:
		list := []any{}
		for _, it := range n.Items {
			list = append(list, l.plain(it))
		}
		return list
	case lang.ScalarNode:
		if n.Quoted {
			return n.Text
		}
		var v any
		if json.Unmarshal([]byte(n.Text), &v) == nil {
			return v
		}
		return n.Text
	case lang.NullNode:
	}
	return nil
}

// auth reads how runner itself logs in.
func (l *loader) auth(n *lang.Node, c *Credential) Auth {
	f := l.Map(n, "authentication").By(&authTable, "")
	a := Auth{User: f.String("user", ""), Credential: l.refer(f, "credential", "credential")}
	if s := f.Take("secret_from"); s != nil {
		a.Secret = l.source(s, "secret_from", false)
	}
	refused := l.literals(f, "secret_from: {file: /etc/runner/secret}, with kind: private_key when it is a key")
	misspelt := len(f.Rest()) > 0
	f.End()
	switch {
	case n.Kind != lang.MapNode:
	case a.Credential != "" && a.Credential == c.Name:
		l.Add(f.Take("credential"), "cycle", "credential %q authenticates as itself; write user and secret_from", c.Name)
	case n.Get("credential") != nil && (n.Get("user") != nil || n.Get("secret_from") != nil):
		l.Add(f.Key("credential"), "too-many", "authentication has a credential, and user or secret_from beside it; with credential the other one says both")
	case n.Get("credential") == nil && n.Get("user") == nil && misspelt: // one thing at a time
	case n.Get("credential") == nil && n.Get("user") == nil:
		l.Add(f.First(), "missing-key", "authentication has no user; write user: runner with secret_from, or credential: NAME to log in as another credential does")
	case a.Credential == "" && n.Get("secret_from") == nil && !refused:
		l.later = append(l.later, func() { l.agentOnly(f, c) })
	}
	return a
}

// agentOnly refuses an authentication without secret unless an agent may hold it.
func (l *loader) agentOnly(f *lang.Fields, c *Credential) {
	inv := l.set.inventoryOf(c)
	switch {
	case inv == nil:
	case inv.Transport == winrm:
		l.Add(f.Key("user"), "missing-key", "authentication has no secret_from; write secret_from: {keytab: /etc/runner/runner.keytab}, or {file: /etc/runner/password}")
	case !slices.Contains(inv.Methods, "agent"):
		l.Add(f.Key("user"), "missing-key", "authentication has no secret_from, and inventory %s allows no agent; write secret_from: {file: /etc/runner/key, kind: private_key}", inv.Name)
	}
}

var requester = regexp.MustCompile(`^@?[A-Za-z0-9_][A-Za-z0-9_.@\\-]*\$?$`)

func (l *loader) requesters(f *lang.Fields) []string {
	names := f.Strings("requesters")
	n := f.Take("requesters")
	for i, s := range names {
		if !requester.MatchString(s) && i < len(n.Items) {
			l.Add(n.Items[i], "bad-name", "%q is no user name; write a name, or @group", s)
		}
	}
	return names
}

// Slots of JIT, and the kind of the template each one names.
var slotKinds = []struct{ slot, kind string }{
	{"create", "create"},
	{"delete", "delete"},
	{"elevate", "elevate"},
	{"revert", "elevate"},
}

// jit reads the just-in-time settings. Without them the credential gives nothing.
func (l *loader) jit(n *lang.Node, s *jit.Settings) (JIT, map[string]*lang.Node) {
	f := l.Part(n, "jit").By(&jitTable, "")
	j := JIT{
		Enabled: f.Bool("enabled") && n != nil, Type: f.Enum("type"),
		Duration: f.Duration("duration"), MaxDuration: f.Duration("max_duration"), Margin: f.Duration("margin"), OwnCredential: f.Bool("use_own_credential"),
		Recording: f.Enum("recording"), EndWhenIdle: f.Duration("end_when_idle"),
	}
	slots := map[string]*lang.Node{}
	for slot, to := range map[string]*string{"create": &j.Create, "delete": &j.Delete, "elevate": &j.Elevate, "revert": &j.Revert} {
		*to = f.String(slot, "")
		if *to != "" {
			slots[slot] = f.Take(slot)
		}
	}
	j.Policy = l.policy(f, s)
	f.End()
	l.jitFits(f, j, s != nil && s.Mode() != jit.None)
	return j, slots
}

// jitFits checks the settings against each other; filled tells that jit_settings
// say what jit leaves open.
func (l *loader) jitFits(f *lang.Fields, j JIT, filled bool) {
	if f.Node.Kind != lang.MapNode {
		return
	}
	if j.Duration > j.MaxDuration {
		if f.Node.Get("max_duration") == nil {
			l.Add(f.Take("duration"), "out-of-range", "duration is %s, but max_duration is %s unless it is written; write max_duration: %s too", lang.Span(j.Duration), lang.Span(j.MaxDuration), lang.Span(j.Duration))
		} else {
			l.Add(f.Take("duration"), "out-of-range", "duration is %s, longer than max_duration, which is %s", lang.Span(j.Duration), lang.Span(j.MaxDuration))
		}
	}
	if typ := f.Node.Get("type"); filled || !j.Enabled || typ != nil && typ.Text != j.Type {
		return
	}
	if j.Creates() {
		if f.Node.Get("create") == nil && f.Node.Get("elevate") != nil {
			l.Add(f.Key("elevate"), "missing-key", "jit of type create_delete has no create; to elevate an account that exists write type: elevate")
		} else if f.Node.Get("create") == nil {
			l.Add(f.Key("type"), "missing-key", "jit has no create; name a template of templates/create, for example: create: linux-user")
		}
		if f.Node.Get("revert") != nil && f.Node.Get("elevate") == nil {
			l.Add(f.Key("revert"), "no-effect", "revert has no effect without elevate; leave it out, or name the template that elevates")
		}
		return
	}
	if f.Node.Get("elevate") == nil && j.Type == elevate {
		l.Add(f.Key("type"), "missing-key", "jit of type %s has no elevate; name a template of templates/elevate, for example: elevate: linux-group", j.Type)
	}
	for _, slot := range []string{"create", "delete"} {
		if f.Node.Get(slot) != nil {
			l.Add(f.Key(slot), "no-effect", "%s has no effect with type %s; leave it out, or write type: create_delete", slot, j.Type)
		}
	}
}

var paramName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// params reads fixed values for the templates; CheckParams holds them against
// the templates.
func (l *loader) params(n *lang.Node) (map[string]*lang.Value, map[string]lang.Entry) {
	out, at := map[string]*lang.Value{}, map[string]lang.Entry{}
	if n == nil {
		return out, at
	}
	f := l.Map(n, "params")
	for _, e := range f.Rest() {
		if !paramName.MatchString(e.Key.Text) {
			l.Add(e.Key, "bad-name", "%s is no name of a param; they have lower-case letters, digits and underscores", strconv.Quote(e.Key.Text))
			continue
		}
		v, ps := lang.CompileValue(e.Value, lang.Any, lang.Scope{})
		l.Join(ps)
		if len(ps) == 0 {
			out[e.Key.Text], at[e.Key.Text] = v, e
		}
	}
	return out, at
}
