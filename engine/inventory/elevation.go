package inventory

import (
	"regexp"
	"slices"

	"runner/engine/inventory/jit"
	"runner/engine/lang"
)

// Types of just-in-time access.
const (
	createDelete    = "create_delete"
	elevate         = "elevate"
	groupMembership = "group_membership"
	enableDisable   = "enable_disable"
)

// changing are those that change an account that exists.
var changing = []string{elevate, groupMembership, enableDisable}

// usual are the templates of types that say what they do, behind the platform.
var usual = map[string]string{groupMembership: "-group", enableDisable: "-enable"}

// changes reports whether a credential changes an account that exists.
func (*loader) changes(f *lang.Fields, c *Credential) bool {
	if typ := f.Node.Get("jit").Get("type"); typ != nil {
		return slices.Contains(changing, typ.Text)
	}
	return c.Settings != nil && c.Settings.Mode() == jit.Elevation
}

// existing reads the name of an account that is changed for a grant.
func (l *loader) existing(f *lang.Fields, c *Credential) {
	n := f.Take("account")
	switch {
	case n == nil && f.Node.Get("linked") != nil: // it is that one's
		return
	case n == nil && c.Settings != nil && f.Node.Get("jit").Get("type") == nil: // a launch says what is missing
		return
	case n == nil:
		l.Add(f.Key("jit"), "missing-key", "jit of type %s changes an account that exists, and nothing says which; write account: NAME, or account: '{{ requester }}' where everybody has one", f.Node.Get("jit").Get("type").Text)
		return
	case n.Kind != lang.ScalarNode:
		l.Add(n, "wrong-type", "account must be a text such as erin, not %s", n.Kind)
		return
	}
	c.AccountText = n.Text
	v, ps := lang.CompileValue(n, lang.String, lang.Scope{"requester": lang.String})
	if len(ps) > 0 {
		l.Join(ps)
		return
	}
	c.Account = v
	if made, err := v.Eval(lang.Env{"requester": "ann"}); err != nil {
		l.Add(n, "bad-account", "account %q cannot be made: %v", n.Text, err)
	} else if name, _ := made.(string); !KnownAccount(name) {
		l.Add(n, "bad-account", "account %q is no name of an account: it has at most 64 letters, digits, dots, underscores, hyphens and @, the first a letter or an underscore", name)
	}
}

// elevated fills in what a credential that changes an account leaves open: the
// template that its type stands for, and the account of the linked credential.
func (l *loader) elevated(f *lang.Fields, c *Credential) {
	if d := l.set.Devices[c.Device]; d != nil && c.JIT.Elevate == "" && usual[c.JIT.Type] != "" {
		c.JIT.Elevate = d.Platform + usual[c.JIT.Type]
	}
	if c.JIT.Creates() || c.Account != nil {
		return
	}
	to := l.set.Credentials[c.Linked]
	if to == nil {
		c.JIT.Enabled = false // a launch says what is missing
		return
	}
	user := l.set.Login(to).Auth.User
	if !KnownAccount(user) {
		l.Add(f.Key("linked"), "wrong-value", "credential %s logs in as %q, which is no name of an account on the device; write account: NAME here", c.Linked, user)
		return
	}
	v, ps := lang.CompileValue(standsFor(f.Key("linked"), user), lang.String, lang.Scope{})
	l.Join(ps)
	c.Account, c.AccountText = v, user
}

var knownAccount = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.@-]{0,63}\$?$`)

// KnownAccount reports whether an account can have this name.
func KnownAccount(name string) bool { return knownAccount.MatchString(name) }

// own checks that an account that elevates itself is the one that logs in.
func (l *loader) own(f *lang.Fields, c *Credential) {
	n := f.Node.Get("jit").Get("use_own_credential")
	if n == nil || !c.JIT.OwnCredential {
		return
	}
	user := f.Node.Get("authentication").Get("user")
	switch {
	case c.JIT.Creates():
		l.Add(n, "no-effect", "use_own_credential is for accounts that exist, and type %s makes one; leave it out", createDelete)
	case c.JIT.Type == enableDisable:
		l.Add(n, "wrong-value", "an account that is disabled cannot log in to enable itself; write use_own_credential: false and the login of another account in authentication")
	case c.Account != nil && len(c.Account.Refs()) > 0:
		l.Add(n, "wrong-value", "use_own_credential needs one account with one login, and account is %q; write the name of an account, or use_own_credential: false", c.AccountText)
	case user == nil:
		l.Add(n, "missing-key", "use_own_credential needs the account's own login; write authentication: {user: %s, secret_from: …}", c.AccountText)
	case c.AccountText != "" && user.Text != c.AccountText:
		l.Add(user, "wrong-value", "use_own_credential has %s elevate itself, and authentication logs in as %s; write user: %s, or use_own_credential: false", c.AccountText, user.Text, c.AccountText)
	}
}
