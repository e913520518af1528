package sim

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"runner/engine/grant"
	"runner/engine/transport"
)

// gives is what a credential gives an account that was there before.
type gives struct {
	account string
	groups  []string
	enable  bool
}

// elevates are the credentials of accounts that were there before. Of what gives
// neither groups nor use, it is a sudo rule.
var elevates = map[string]gives{
	"box-erin":      {account: "erin", groups: []string{"ops"}},
	"box-erin-all":  {account: "erin", groups: []string{"users", "ops"}},
	"box-erin-sudo": {account: "erin"},
	"box-hugo":      {account: "hugo", enable: true},
	"box-hugo-ops":  {account: "hugo", groups: []string{"ops"}},
	"box-hugo-sudo": {account: "hugo"},
}

// jit returns how the credential says so, and its params.
func (g gives) jit() (settings, params string) {
	switch {
	case g.enable:
		return "type: enable_disable", ""
	case len(g.groups) > 0:
		return "type: group_membership", "groups: [" + strings.Join(g.groups, ", ") + "]"
	}
	return "type: elevate, elevate: linux-sudo", "commands: [/usr/bin/id]"
}

// site is the sudoers file of somebody else.
const site = "site"

// standing is what an account that no grant made has to be when no grant is left.
type standing struct {
	groups  map[string]bool
	touched map[string]bool // groups that somebody took it out of
	was     Account
	// off: somebody disabled it in another way, so however it is disabled is right.
	// on: somebody enabled it for good.
	off, on bool
}

// settle puts the accounts onto the machine that were there before any grant.
func (m *Machine) settle() {
	m.accounts["jitadm"] = &Account{UID: 1000, Owner: Foreign, Password: "x"}
	m.accounts["erin"] = &Account{UID: 1001, Owner: Foreign, Password: "x"}
	m.accounts["hugo"] = &Account{UID: 1002, Owner: Foreign, Password: "x", Locked: true}
	m.groups["users"]["erin"] = true
	m.sudoers[site] = &rule{account: "erin", text: "erin ALL=(ALL) /usr/bin/uptime", owner: Foreign}
	m.standing = map[string]*standing{}
	for _, name := range []string{"erin", "hugo"} {
		m.homes[name] = m.accounts[name].UID
		m.standing[name] = &standing{groups: m.groupsOf(name), touched: map[string]bool{}, was: *m.accounts[name]}
	}
}

// groupsOf returns the groups that an account is in.
func (m *Machine) groupsOf(name string) map[string]bool {
	in := map[string]bool{}
	for g, members := range m.groups {
		if members[name] {
			in[g] = true
		}
	}
	return in
}

// disabled are the ways in which an account cannot be used.
var disabled = []Account{
	{Locked: true, Password: "x"},
	{Expires: long, Password: "x"},
	{Locked: true, Expires: long, Password: "x"},
	{Locked: true, Mark: "!"},
	{Locked: true, Mark: "!!", Expires: long},
}

// long ago.
var long = time.Date(1990, 1, 2, 0, 0, 0, 0, time.UTC)

// Disabled says how hugo cannot be used before any grant.
func (m *Machine) Disabled(how int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, d := m.accounts["hugo"], disabled[how%len(disabled)]
	a.Locked, a.Expires, a.Password, a.Mark = d.Locked, d.Expires, d.Password, d.Mark
	m.standing["hugo"].was = *a
}

// lock says how the password of an account is locked, as the module does.
func (a *Account) lock() string {
	switch {
	case !a.Locked:
		return ""
	case a.Password != "":
		return "hash"
	}
	return "bare:" + a.Mark
}

func (a *Account) expired(now time.Time) bool { return !a.Expires.IsZero() && !now.Before(a.Expires) }

// days is the expiry as the account database has it.
func (a *Account) days() string {
	if a.Expires.IsZero() {
		return ""
	}
	return strconv.FormatInt(a.Expires.Unix()/86400, 10)
}

// enable lets a disabled account be used, or disables it as it was.
func (c *call) enable() {
	m, name := c.m, c.args["user"]
	a := m.accounts[name]
	can := a != nil && !a.Half && !a.Locked && !a.expired(m.now())
	now := ""
	say := func() {
		switch {
		case a == nil || a.Half:
			now = "absent"
		case !a.Locked && !a.expired(m.now()):
			now = fmt.Sprintf("enabled uid=%d expires=%s", a.UID, a.days())
		default:
			now = fmt.Sprintf("absent uid=%d lock=%s expires=%s", a.UID, a.lock(), a.days())
		}
		c.out["enabled"] = strconv.FormatBool(strings.HasPrefix(now, "enabled"))
		c.state(0, now)
	}
	say()
	switch was := c.args["was"]; {
	case c.mode == transport.Probe:
		return
	case c.args["state"] != "absent":
		c.enablePresent(name, a, can)
	case now == "absent" || now == was:
		return
	default:
		c.enableAbsent(name, a, can, was)
	}
	if c.rc == 0 && c.apply() {
		say()
	}
}

func (c *call) enablePresent(name string, a *Account, can bool) {
	until := c.moment("expires", true)
	switch uid := c.uid(); {
	case a == nil || a.Half:
		c.fail("there is no account %s in /etc/passwd and /etc/shadow", name)
		return
	case uid > 0 && a.UID != uid:
		c.fail("account %s has uid %d, not %d: it is another account", name, a.UID, uid)
		return
	case can && (a.Expires.IsZero() || !until.IsZero() && !a.Expires.Before(until)):
		return
	}
	if c.changed = true; c.apply() && c.rc == 0 && !c.half {
		a.Expires, a.Locked = until, false
	}
}

func (c *call) enableAbsent(name string, a *Account, can bool, was string) {
	var uid int64
	var lock, days string
	for f := range strings.FieldsSeq(was) {
		switch key, v, _ := strings.Cut(f, "="); key {
		case "uid":
			uid, _ = strconv.ParseInt(v, 10, 64)
		case "lock":
			lock = v
		case "expires":
			days = v
		}
	}
	if uid != a.UID {
		c.fail("account %s has uid %d, not %d: it is another account and stays", name, a.UID, uid)
		return
	}
	if !can {
		return
	}
	if c.changed = true; !c.apply() || c.half {
		return
	}
	if lock != "" || strings.HasPrefix(was, "absent") {
		if others := c.m.wants("", name, c.scope); len(others) > 0 {
			c.m.wrong("%s disabled %s, which %v still want", c.scope, name, others)
		}
	}
	if mark, bare := strings.CutPrefix(lock, "bare:"); bare {
		a.Mark = mark
	}
	a.Locked, a.Expires = lock != "", time.Time{}
	if n, err := strconv.ParseInt(days, 10, 64); err == nil {
		a.Expires = time.Unix(n*86400, 0)
	}
}

// ByHand has an administrator change an account that grants elevate, for good, and
// returns what was done. calm says that it is clear what each grant has done so far:
// otherwise nobody can tell an account that was enabled by hand from one that a
// grant was enabling.
func (m *Machine) ByHand(name string, rng *rand.Rand, calm bool) string {
	group, how := []string{"ops", "users"}[rng.IntN(2)], rng.IntN(4)
	m.mu.Lock()
	defer m.mu.Unlock()
	a, s := m.accounts[name], m.standing[name]
	can := !a.Locked && !a.expired(m.now())
	switch {
	case how == 0 || name != "hugo":
		delete(m.groups[group], name)
		s.groups[group], s.touched[group] = false, true
		return "takes " + name + " out of " + group
	case how == 1 && can:
		a.Password, s.was.Password = "y", "y"
		s.off = s.off || s.was.Mark != ""
		return "gives " + name + " another password"
	case how == 2:
		a.Locked, a.Expires, s.off, s.on = true, long.AddDate(1, 0, 0), true, false
		return "disables " + name
	case how == 3 && !s.off && a.Password != "" && calm:
		a.Locked, a.Expires, s.on = false, time.Time{}, true
		return "enables " + name + " for good"
	}
	return ""
}

// byHand has an administrator change an account that grants elevate.
func (w *World) byHand(m *Machine, name string, rng *rand.Rand) {
	ctx := context.Background()
	running, err := w.store.Running(ctx)
	calm := err == nil && !slices.ContainsFunc(running, func(j grant.Job) bool { return j.Device == m.Name })
	cs, err := w.store.Cases(ctx, grant.Filter{States: openStates, Device: m.Name})
	calm = calm && err == nil
	for i := range cs {
		if g := &cs[i].Grant; g.Account == name {
			changes, err := w.store.Changes(ctx, g.ID)
			calm = calm && err == nil && g.State == grant.Active && !slices.ContainsFunc(changes, func(c grant.Change) bool { return c.State == "intended" })
		}
	}
	if did := m.ByHand(name, rng, calm); did != "" {
		w.note("somebody %s on %s", did, m.Name)
	}
}

// stood says what is wrong with the accounts that were there before when no grant is
// left.
func (m *Machine) stood() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	bad := func(format string, args ...any) { out = append(out, m.Name+": "+fmt.Sprintf(format, args...)) }
	for _, name := range slices.Sorted(maps.Keys(m.standing)) {
		a, s := m.accounts[name], m.standing[name]
		for _, g := range slices.Sorted(maps.Keys(m.groups)) {
			if is := m.groups[g][name]; is != s.groups[g] {
				bad("%s in group %s: %t, and was before: %t", name, g, is, s.groups[g])
			}
		}
		can := a != nil && !a.Locked && !a.expired(m.now())
		switch {
		case a == nil || a.UID != s.was.UID:
			bad("account %s is gone", name)
		case s.on || name != "hugo":
			if !can || !a.Expires.IsZero() {
				bad("%s cannot be used: %q, expires %q", name, a.lock(), a.days())
			}
		case can:
			bad("%s can be used, and could not before", name)
		case !s.off && (a.lock() != s.was.lock() || a.days() != s.was.days()):
			bad("%s is disabled by %q, expires %q; before by %q, %q", name, a.lock(), a.days(), s.was.lock(), s.was.days())
		case a.Password != s.was.Password:
			bad("%s has another password", name)
		}
		for _, p := range m.procs {
			if a == nil || p.UID != a.UID {
				continue
			}
			if !can && !s.off && !s.on {
				bad("process %d of %s runs, which is disabled", p.PID, name)
			}
			for g := range p.Groups {
				if !m.groups[g][name] && !s.touched[g] {
					bad("process %d of %s keeps group %s", p.PID, name, g)
				}
			}
		}
	}
	if m.sudoers[site] == nil {
		bad("sudoers file %s is gone", site)
	}
	return out
}

// wants names the active grants that give an account what by takes from it, a group
// or, when that is empty, its use, while by has a job that does so.
func (w *World) wants(group, name, by string) (out []string) {
	ctx := context.Background()
	running, err := w.store.Running(ctx)
	if err != nil || !slices.ContainsFunc(running, func(j grant.Job) bool { return j.GrantID == by }) {
		return nil // what was under way arrives late
	}
	cs, err := w.store.Cases(ctx, grant.Filter{States: []string{string(grant.Active)}})
	if err != nil {
		return nil
	}
	for i := range cs {
		g := &cs[i].Grant
		e := elevates[g.Credential]
		if g.ID != by && g.Account == name && (group == "" && e.enable || slices.Contains(e.groups, group)) {
			out = append(out, g.ID)
		}
	}
	return out
}
