package inventory

import (
	"cmp"
	"maps"
	"slices"

	"runner/engine/inventory/jit"
	"runner/engine/lang"
)

// keeper reads what a credential says in the words of KeeperPAM.
func (l *loader) keeper(f *lang.Fields, c *Credential) {
	before := len(l.Problems)
	if n := f.Take("jit_settings"); n != nil {
		s := jit.Read(&l.Decoder, n)
		c.Settings = &s
	}
	if n := f.Take("workflow"); n != nil {
		c.Workflow = jit.ReadWorkflow(&l.Decoder, n)
	}
	l.notices(before)
	c.Linked = l.refer(f, "linked", "credential")
	c.RecordUID = f.String("record_uid", "")
	c.SupplyHost, c.SupplyUser = f.Bool("allow_supply_host"), f.Bool("allow_supply_user")
}

// together checks what keeper and jit read against each other.
func (l *loader) together(f *lang.Fields, c *Credential) {
	if w := c.Workflow; w != nil {
		c.JIT.MaxDuration = min(c.JIT.MaxDuration, w.Duration)
		c.JIT.Duration = min(c.JIT.Duration, w.Duration)
	}
	if c.SupplyHost && c.JIT.Policy == jit.Required && c.JIT.Enabled {
		l.Add(f.Key("allow_supply_host"), "wrong-value", "allow_supply_host goes before just-in-time access, which jit.policy requires; write allow_supply_host: false, or jit: {policy: opt_in}")
	}
	l.later = append(l.later, func() {
		if c.Settings != nil {
			l.carriedOut(f, c)
		}
		switch to := l.set.Credentials[c.Linked]; {
		case to == nil: // none, or said already
		case to == c:
			l.Add(f.Take("linked"), "cycle", "credential %q is linked to itself; name the credential whose authentication is the account", c.Name)
		case to.Device != c.Device:
			l.Add(f.Take("linked"), "wrong-value", "credential %s is of device %s, and this one of device %s; name one of the same device", c.Linked, to.Device, c.Device)
		}
	})
}

// notices turns the warnings since a number of problems into notices.
func (l *loader) notices(since int) {
	errs, warnings := l.Problems[since:].Split()
	l.Problems = append(l.Problems[:since], errs...)
	for _, p := range warnings {
		p.Warning, p.Code = false, "notice"
		l.set.Notices = append(l.set.Notices, p)
	}
}

// policy reads jit.policy.
func (l *loader) policy(f *lang.Fields, s *jit.Settings) string {
	switch {
	case f.Node.Get("policy") != nil:
		return f.Enum("policy")
	case s != nil:
		f.Take("policy")
		return jit.OptIn
	}
	f.Take("policy")
	return jit.Required
}

// carriedOut fills what jit leaves open with the templates that carry the
// settings out.
func (l *loader) carriedOut(f *lang.Fields, c *Credential) {
	at, s := f.Node.Get("jit_settings"), c.Settings
	d := l.set.Devices[c.Device]
	if d == nil || s.Mode() == jit.None {
		return
	}
	if f.Node.Get("jit") == nil {
		c.JIT.Enabled = true
	}
	use := s.Templates(d.Platform, jit.Slots{Create: c.JIT.Create != "", Elevate: c.JIT.Elevate != ""})
	c.JIT.Missing = use.Missing
	if s.Mode() == jit.Elevation && c.Account == nil && c.Linked == "" && use.Missing == "" {
		c.JIT.Missing = "nothing says which account is elevated; write linked: CREDENTIAL"
	}
	if c.JIT.Missing != "" {
		c.JIT.Enabled = false
		l.notice(at, "credential %s gives nothing: %s", c.Name, c.JIT.Missing)
	}
	for _, slot := range []struct {
		name, use string
		to        *string
	}{{"create", use.Create, &c.JIT.Create}, {"elevate", use.Elevate, &c.JIT.Elevate}} {
		if slot.use != "" {
			*slot.to, c.slots[slot.name] = slot.use, standsFor(at, slot.use)
		}
	}
	if s.Mode() == jit.Elevation && f.Node.Get("jit").Get("type") == nil {
		c.JIT.Type = "elevate"
	}
	for _, name := range slices.Sorted(maps.Keys(use.Params)) {
		l.given(c, at, name, use.Params[name])
	}
}

// standsFor is a text that follows from what stands at a node.
func standsFor(at *lang.Node, text string) *lang.Node {
	return &lang.Node{Kind: lang.ScalarNode, Pos: at.Pos, Text: text, Quoted: true}
}

// given sets a param that follows from settings.
func (l *loader) given(c *Credential, at *lang.Node, name string, value any) {
	if own, is := c.params[name]; is {
		l.Add(own.Key, "too-many", "params has %q, and jit_settings says what it is, too; leave one of them out", name)
		return
	}
	n := standsFor(at, "")
	switch v := value.(type) {
	case string:
		n.Text = v
	case []string:
		n.Kind = lang.ListNode
		for _, text := range v {
			n.Items = append(n.Items, standsFor(at, text))
		}
	}
	v, ps := lang.CompileValue(n, lang.Any, lang.Scope{})
	l.Join(ps)
	if len(ps) == 0 {
		c.Params[name], c.params[name] = v, lang.Entry{Key: standsFor(at, name), Value: n}
	}
}

// Record returns what decides about the launch of a credential. Without
// jit_settings they are what jit says, in the same words.
func (s *Set) Record(c *Credential) jit.Record {
	r := jit.Record{Name: c.Name, Policy: c.JIT.Policy, SupplyHost: c.SupplyHost, SupplyUser: c.SupplyUser, Linked: c.Linked, LinkedUID: c.Linked, Missing: c.JIT.Missing}
	if c.JIT.OwnCredential && r.Linked == "" { // the account's own login is this credential's
		r.Linked, r.LinkedUID = c.Name, cmp.Or(c.RecordUID, c.Name)
	}
	if to := s.Credentials[c.Linked]; to != nil && to.RecordUID != "" {
		r.LinkedUID = to.RecordUID
	}
	switch d := s.Devices[c.Device]; {
	case c.Settings != nil:
		r.Settings = *c.Settings
	case !c.JIT.Enabled:
	case c.JIT.Type == "create_delete":
		r.Settings = jit.Settings{CreateEphemeral: true, Elevate: c.JIT.Elevate != ""}
		if d != nil {
			r.Settings.AccountType = d.Platform
		}
	default:
		r.Settings.Elevate = true
	}
	return r
}
