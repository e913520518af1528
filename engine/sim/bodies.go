package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"runner/engine/transport"
)

// call is a body that runs: what it was given, and what it says.
type call struct {
	m     *Machine
	mode  transport.Mode
	scope string // grant that the program works for
	args  map[string]string
	half  bool // it is killed in the middle

	out     map[string]string
	states  [][2]string // index and state, in the order in which they were said
	changed bool
	rc      int
}

func (c *call) fail(format string, args ...any) {
	c.rc = 1
	c.out["msg"] = fmt.Sprintf(format, args...)
}

func (c *call) state(i int, text string) {
	c.states = append(c.states, [2]string{strconv.Itoa(i), text})
}
func (c *call) uid() int64 { n, _ := strconv.ParseInt(c.args["uid"], 10, 64); return n }
func (c *call) list(name string) []string {
	return strings.FieldsFunc(c.args[name], func(r rune) bool { return r == '\n' })
}
func (c *call) apply() bool { return c.mode == transport.Apply }

// moment reads an expiry: zero is never. Days are rounded up, as shadow does.
func (c *call) moment(name string, days bool) time.Time {
	switch text := c.args[name]; text {
	case "", "never":
		return time.Time{}
	case "past":
		return time.Unix(86400, 0)
	default:
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			c.fail("%s: %v", name, err)
			return time.Unix(86400, 0)
		}
		if days && !t.Truncate(24*time.Hour).Equal(t) {
			t = t.Truncate(24 * time.Hour).Add(24 * time.Hour)
		}
		return t
	}
}

// bodies are the Linux modules as their documentation describes them.
var bodies = map[string]func(*call){
	"deadline": deadline,
	"surface":  (*call).surface, "user": (*call).user, "user_info": (*call).userInfo, "password": (*call).password,
	"group_member": (*call).groupMember, "authorized_key": (*call).authorizedKey, "sudoers": (*call).sudoers,
	"kill_sessions": (*call).killSessions, "user_leftovers": (*call).userLeftovers,
	"marks": (*call).marks, "enable": (*call).enable,
}

func (c *call) surface() {
	m, name, uid := c.m, c.args["name"], c.uid()
	var items []string
	add := func(kind, what string) { items = append(items, kind+"\t"+what) }
	free := true
	if a := m.accounts[name]; a != nil {
		add("passwd", fmt.Sprintf("%s:uid=%d", name, a.UID))
		if !a.Half {
			add("shadow", name)
		}
	}
	for n, a := range m.accounts {
		if a.UID == uid {
			free = false
			if n != name {
				add("passwd", fmt.Sprintf("%s:uid=%d", n, uid))
			}
		}
	}
	for g, members := range m.groups {
		if members[name] {
			add("group-member", g)
		}
	}
	if _, ok := m.homes[name]; ok {
		add("home", "/home/"+name)
	}
	for f, r := range m.sudoers {
		if r.account == name {
			add("sudoers", "/etc/sudoers.d/"+f)
		}
	}
	for _, p := range m.procs {
		if p.UID == uid {
			free = false
			add("process", fmt.Sprintf("%d %s", p.PID, p.Command))
		}
	}
	for f, u := range m.files {
		if u == uid {
			free = false
			add("file", f)
		}
	}
	slices.Sort(items)
	c.out["items"], c.out["uid_free"] = strings.Join(items, "\n"), strconv.FormatBool(free)
	c.out["clock"] = strconv.FormatInt(m.now().Unix(), 10)
}

func (c *call) userInfo() {
	m, name, uid := c.m, c.args["name"], c.uid()
	c.out["by_uid_name"] = m.holder(uid)
	a := m.accounts[name]
	in := slices.ContainsFunc(m.procs, func(p Process) bool { return p.UID == uid || a != nil && p.UID == a.UID })
	c.out["logged_in"] = strconv.FormatBool(in && c.args["brief"] != "true")
	c.out["exists"], c.out["name"] = strconv.FormatBool(a != nil), name
	c.out["uid"], c.out["locked"] = strconv.FormatInt(uid, 10), "false"
	c.out["expired"] = strconv.FormatBool(a != nil && a.expired(m.now()))
	if a == nil {
		return
	}
	c.out["uid"], c.out["gid"], c.out["home"] = strconv.FormatInt(a.UID, 10), strconv.FormatInt(a.UID, 10), "/home/"+name
	c.out["locked"], c.out["expires"], c.out["comment"] = strconv.FormatBool(a.Locked), "never", a.Comment
	if !a.Expires.IsZero() {
		c.out["expires"] = a.Expires.UTC().Format(time.RFC3339)
	}
}

func (c *call) user() {
	m, name, uid := c.m, c.args["name"], c.uid()
	a := m.accounts[name]
	say := func() {
		a := m.accounts[name]
		c.out["exists"], c.out["home"], c.out["uid"] = strconv.FormatBool(a != nil), "/home/"+name, c.args["uid"]
		if a == nil {
			c.state(0, "absent")
			return
		}
		c.state(0, fmt.Sprintf("uid=%d", a.UID))
		c.out["uid"], c.out["gid"], c.out["locked"] = strconv.FormatInt(a.UID, 10), strconv.FormatInt(a.UID, 10), strconv.FormatBool(a.Locked)
	}
	say()
	if c.mode == transport.Probe {
		return
	}
	if c.args["state"] == "absent" {
		c.userRemove(a, name, uid)
		say()
		return
	}
	switch {
	case a != nil && uid > 0 && a.UID != uid:
		c.fail("account %s exists with uid %d, not %d", name, a.UID, uid)
	case a == nil && c.args["exists"] == "require":
		c.fail("there is no account %s", name)
	case a == nil:
		c.userCreate(name, uid)
	case c.args["exists"] == "adopt":
	case c.args["exists"] == "update" || c.args["exists"] == "require":
		c.userUpdate(a)
	default:
		c.fail("account %s exists already, with uid %d", name, a.UID)
	}
	say()
}

func (c *call) userCreate(name string, uid int64) {
	m := c.m
	if by := m.holder(uid); by != "" {
		c.fail("uid %d belongs to %s already", uid, by)
		return
	}
	if _, is := m.homes[name]; is {
		c.fail("/home/%s exists already: it is not adopted as a home", name)
		return
	}
	until := c.moment("expires", true)
	c.changed = true
	if !c.apply() || c.rc != 0 {
		return
	}
	m.accounts[name] = &Account{UID: uid, Owner: c.scope, Comment: c.args["comment"], Expires: until, Keys: map[string]time.Time{}, Half: c.half}
	if until.IsZero() {
		m.wrong("account %s of %s never expires by itself", name, c.scope)
	}
	if !c.half {
		m.homes[name] = uid
	}
}

func (c *call) userUpdate(a *Account) {
	was := *a
	now := was
	if c.args["comment"] != "" {
		now.Comment = c.args["comment"]
	}
	if c.args["shell"] != "" {
		now.Shell = c.args["shell"]
	}
	if c.args["expires"] != "" {
		now.Expires = c.moment("expires", true)
	}
	if c.args["locked"] != "" {
		now.Locked = c.args["locked"] == "true"
	}
	c.changed = now.Comment != was.Comment || now.Shell != was.Shell || !now.Expires.Equal(was.Expires) || now.Locked != was.Locked
	if c.apply() && c.rc == 0 {
		if c.changed && a.Owner != c.scope {
			c.m.wrong("%s changed an account of %s", c.scope, a.Owner)
		}
		if !c.half {
			*a = now
		}
	}
}

func (c *call) userRemove(a *Account, name string, uid int64) {
	m := c.m
	switch by := m.holder(uid); {
	case a != nil && uid > 0 && a.UID != uid:
		c.fail("account %s has uid %d, not %d: it is another account and stays", name, a.UID, uid)
		return
	case a == nil && by != "":
		c.fail("there is no account %s, but uid %d belongs to %s", name, uid, by)
		return
	}
	if a != nil {
		uid = a.UID
	}
	home := m.homes[name] == uid && uid > 0
	member := false
	for _, g := range m.groups {
		member = member || g[name]
	}
	if a == nil && !home && !member {
		return
	}
	c.changed = true
	if !c.apply() {
		return
	}
	c.kill(func(p Process) bool { return p.UID == uid })
	if slices.ContainsFunc(m.procs, func(p Process) bool { return p.UID == uid }) {
		c.fail("processes of %s do not end", name)
		return
	}
	if home {
		delete(m.homes, name)
	}
	if c.half {
		return
	}
	if a != nil && a.Owner != c.scope {
		m.wrong("%s deleted account %s of %s", c.scope, name, a.Owner)
	}
	delete(m.accounts, name)
	for _, g := range m.groups {
		delete(g, name)
	}
}

func (c *call) password() {
	a := c.m.accounts[c.args["user"]]
	say := func() {
		if a == nil || a.Password == "" {
			c.state(0, "absent")
		} else {
			c.state(0, "set")
		}
	}
	say()
	if c.mode == transport.Probe {
		return
	}
	if a == nil {
		c.fail("there is no account %s in /etc/passwd", c.args["user"])
		return
	}
	c.changed = true
	if c.apply() && !c.half {
		a.Password = c.args["password"]
		say()
	}
}

func (c *call) groupMember() {
	m, name := c.m, c.args["user"]
	say := func() {
		for i, g := range c.list("groups") {
			if m.groups[g][name] {
				c.state(i, "member")
			} else {
				c.state(i, "absent")
			}
		}
	}
	say()
	if c.mode == transport.Probe {
		return
	}
	in := c.args["state"] != "absent"
	var missing, did []string
	for _, g := range c.list("groups") {
		if m.groups[g] == nil {
			missing = append(missing, g)
		}
	}
	c.out["missing"] = strings.Join(missing, "\n")
	if len(missing) > 0 && in {
		c.fail("there is no group %s", strings.Join(missing, " "))
		return
	}
	if in && m.accounts[name] == nil {
		c.fail("there is no account %s", name)
		return
	}
	for _, g := range c.list("groups") {
		if m.groups[g] == nil || m.groups[g][name] == in {
			continue
		}
		if c.half && len(did) > 0 {
			return
		}
		did, c.changed = append(did, g), true
		if c.apply() {
			if in {
				m.groups[g][name] = true
				continue
			}
			delete(m.groups[g], name)
			if others := m.wants(g, name, c.scope); len(others) > 0 {
				m.wrong("%s took %s out of %s, which %v still want", c.scope, name, g, others)
			}
		}
	}
	c.out["added"] = strings.Join(did, "\n")
	if c.changed {
		say()
	}
}

func (c *call) authorizedKey() {
	a := c.m.accounts[c.args["user"]]
	words := strings.Fields(c.args["key"])
	key := strings.Join(words[:min(2, len(words))], " ")
	say := func() {
		until, is := time.Time{}, false
		if a != nil {
			until, is = a.Keys[key]
		}
		if is {
			c.state(0, "present "+until.UTC().Format(time.RFC3339))
		} else {
			c.state(0, "absent")
		}
	}
	say()
	if c.mode == transport.Probe {
		return
	}
	_, is := map[string]time.Time{}[key]
	if a != nil {
		_, is = a.Keys[key]
	}
	if c.args["state"] == "absent" {
		if c.changed = is; is && c.apply() {
			delete(a.Keys, key)
			say()
		}
		return
	}
	if a == nil {
		c.fail("there is no account %s", c.args["user"])
		return
	}
	until := c.moment("expires", false)
	if c.changed = !is || !a.Keys[key].Equal(until); c.changed && c.apply() && !c.half {
		if a.Keys == nil {
			a.Keys = map[string]time.Time{}
		}
		a.Keys[key] = until
		say()
	}
}

func (c *call) sudoers() {
	m, file := c.m, c.args["file"]
	say := func() {
		r := m.sudoers[file]
		c.out["exists"] = strconv.FormatBool(r != nil)
		if r == nil {
			c.state(0, "absent")
		} else {
			c.state(0, r.text+" until "+r.until.UTC().Format(time.RFC3339))
		}
	}
	say()
	if c.mode == transport.Probe {
		return
	}
	r := m.sudoers[file]
	if c.args["state"] == "absent" {
		if c.changed = r != nil; r != nil && c.apply() {
			if r.owner != c.scope {
				m.wrong("%s deleted the sudoers file %s of %s", c.scope, file, r.owner)
			}
			delete(m.sudoers, file)
			say()
		}
		return
	}
	until, text := c.moment("not_after", false), strings.Join(c.list("rules"), "\n")
	if c.changed = r == nil || r.text != text || r.note != c.args["comment"] || !r.until.Equal(until); c.changed && c.apply() && !c.half && c.rc == 0 {
		m.sudoers[file] = &rule{account: c.args["user"], text: text, until: until, owner: c.scope, note: c.args["comment"]}
		say()
	}
}

// kill ends what can be ended of the processes that are meant.
func (c *call) kill(meant func(Process) bool) (killed, left []string) {
	var stay []Process
	for _, p := range c.m.procs {
		switch text := fmt.Sprintf("%d %s", p.PID, p.Command); {
		case !meant(p):
			stay = append(stay, p)
		case p.Stubborn > 0:
			p.Stubborn--
			stay, left = append(stay, p), append(left, text)
		default:
			killed = append(killed, text)
		}
	}
	c.m.procs = stay
	return killed, left
}

// killSessions ends what runs as a uid, or of that what began with a group that the
// account is not in any more.
func (c *call) killSessions() {
	if c.mode != transport.Apply {
		return
	}
	m, lost := c.m, c.list("groups")
	name := c.args["name"]
	a := m.accounts[m.holder(c.uid())]
	switch {
	case len(lost) > 0:
		lost = slices.DeleteFunc(lost, func(g string) bool { return m.groups[g][name] })
		if len(lost) == 0 {
			return
		}
	case a == nil || a.Owner == c.scope || a.Locked || a.expired(m.now()):
	default:
		m.wrong("%s ended the sessions of %s", c.scope, a.Owner)
	}
	killed, left := c.kill(func(p Process) bool {
		return p.UID == c.uid() && (len(lost) == 0 || slices.ContainsFunc(lost, func(g string) bool { return p.Groups[g] }))
	})
	c.out["killed"], c.out["remaining"] = strings.Join(killed, "\n"), strings.Join(left, "\n")
	c.changed = len(killed) > 0
	if len(left) > 0 {
		c.fail("processes of uid %d do not end: %s", c.uid(), strings.Join(left, ", "))
	}
}

func (c *call) userLeftovers() {
	var removed []string
	for _, f := range slices.Sorted(maps.Keys(c.m.files)) {
		if c.m.files[f] != c.uid() {
			continue
		}
		removed, c.changed = append(removed, "file\t"+f), true
		if c.apply() {
			delete(c.m.files, f)
			if c.half {
				return
			}
		}
	}
	c.out["removed"] = strings.Join(removed, "\n")
}

// boot is when the machines started.
var boot = time.Date(1999, 12, 1, 0, 0, 0, 0, time.UTC) // a month before a bubble of synctest begins

func deadline(c *call) {
	now := int64(time.Since(boot) / (time.Second / 10))
	c.out["now"] = "t" + strconv.FormatInt(now, 10)
	if before, err := strconv.ParseInt(strings.TrimPrefix(c.args["before"], "t"), 10, 64); err == nil && now >= before {
		c.rc = 1
	}
}
