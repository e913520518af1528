package module_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"runner/engine/module"
	"runner/engine/secret"
	"runner/engine/transport"
	"runner/engine/transport/winrm"
	"runner/engine/transport/winrm/winrmtest"
)

// winHost is a model of a Windows host and a connection to it. The bodies are
// evaluated; the cmdlets that they call are Go.
type winHost struct {
	*winrmtest.Accounts
	win  *winrmtest.Windows
	host *winrmtest.Host
	conn transport.Conn
	reg  *module.Registry
	n    int
}

type winDevice struct{ *winrmtest.Host }

func (winDevice) Key() string          { return "win1" }
func (winDevice) Peer() transport.Peer { return transport.Peer{Address: "win1:5985"} }
func (winDevice) Release()             {}

func windowsHost(t *testing.T) *winHost {
	t.Helper()
	reg, err := module.Windows()
	if err != nil {
		t.Fatal(err)
	}
	h := &winHost{Accounts: winrmtest.NewAccounts("WIN1"), reg: reg}
	h.win = &winrmtest.Windows{Accounts: h.Accounts}
	h.host = &winrmtest.Host{Handler: h.win.Handle}
	d := &winrm.Dialer{}
	t.Cleanup(func() { _ = d.Close() })
	if h.conn, err = d.Dial(t.Context(), winrm.Config{Device: winDevice{h.host}, Address: "win1:5985"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.conn.Close() })
	return h
}

// winResult is what a body said.
type winResult struct {
	rc      int
	changed bool
	out     map[string]string
	stderr  string
}

func (r winResult) state(i int) string { return r.out[fmt.Sprint("state.", i)] }

// do runs one call.
func (h *winHost) do(t *testing.T, mode transport.Mode, name string, args module.Args) winResult {
	t.Helper()
	m := h.reg.Lookup(name)
	if m == nil {
		t.Fatalf("there is no module %s", name)
	}
	all := module.Args{}
	for _, f := range m.Args {
		if f.Default != nil {
			all[f.Name] = f.Default
		}
	}
	maps.Copy(all, args)
	if m.Check != nil {
		if err := m.Check(all); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	s := transport.Step{N: 1, Mode: mode, Body: transport.Body{Name: name, Text: m.Body(), Lib: m.Lib(all)}}
	for _, f := range m.Args {
		s.Args = append(s.Args, transport.Arg{Name: f.Name, Value: transport.Lit{V: all[f.Name]}})
	}
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if strings.HasPrefix(name, "_") {
			s.Args = append(s.Args, transport.Arg{Name: name, Value: transport.Lit{V: args[name]}})
		}
	}
	r := winResult{out: map[string]string{}}
	h.n++
	err := h.conn.Run(t.Context(), transport.Batch{ID: fmt.Sprint("b-", h.n), Scope: "g-1", Steps: []transport.Step{s}}, func(e transport.Event) {
		switch e.Kind {
		case transport.Fact:
			r.out[e.Key] = e.Value
		case transport.Output:
			r.stderr += string(e.Data)
		case transport.Ended:
			r.rc, r.changed = e.RC, e.Changed
		case transport.Preamble, transport.Began, transport.Retried, transport.Skipped:
		}
	})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r
}

// ok runs a call that must succeed.
func (h *winHost) ok(t *testing.T, name string, args module.Args) winResult {
	t.Helper()
	r := h.do(t, transport.Apply, name, args)
	if r.rc != 0 {
		t.Fatalf("%s failed: %s", name, r.stderr)
	}
	return r
}

// fails runs a call that must fail and change nothing.
func (h *winHost) fails(t *testing.T, want, name string, args module.Args) winResult {
	t.Helper()
	before := h.dump()
	r := h.do(t, transport.Apply, name, args)
	if r.rc == 0 || !strings.Contains(r.stderr, want) {
		t.Errorf("%s: rc %d, %q, want %q", name, r.rc, r.stderr, want)
	}
	if d := cmp.Diff(before, h.dump()); d != "" {
		t.Errorf("%s failed and changed something: %s", name, d)
	}
	return r
}

// dump is all that the host knows of accounts.
func (h *winHost) dump() string {
	var b strings.Builder
	for _, u := range h.Users {
		fmt.Fprintf(&b, "%+v\n", *u)
	}
	for _, g := range h.Groups {
		fmt.Fprintf(&b, "%+v\n", *g)
	}
	for _, p := range h.Profiles {
		fmt.Fprintf(&b, "%+v\n", *p)
	}
	for _, p := range h.Processes {
		fmt.Fprintf(&b, "%+v\n", *p)
	}
	return b.String()
}

// twice checks what holds for every call that changes something: probe and check
// change nothing, check says that it would, a second run changes nothing, and the
// undo brings back what was there.
func (h *winHost) twice(t *testing.T, name string, args module.Args) winResult {
	t.Helper()
	before := h.dump()
	m := h.reg.Lookup(name)
	probe, check := h.do(t, transport.Probe, name, args), h.do(t, transport.Check, name, args)
	if probe.rc != 0 || probe.changed || check.rc != 0 || !check.changed || h.dump() != before {
		t.Errorf("%s: probe %+v, check %+v\n%s", name, probe, check, cmp.Diff(before, h.dump()))
	}
	first := h.ok(t, name, args)
	if !first.changed {
		t.Errorf("%s changed nothing", name)
	}
	after := h.dump()
	again := maps.Clone(args)
	if name == "win_user" && args["state"] != "absent" {
		again["exists"] = "adopt"
	}
	if second := h.ok(t, name, again); second.changed || h.dump() != after {
		t.Errorf("%s changed something again", name)
	}
	if now := h.do(t, transport.Probe, name, args); now.state(0) != first.state(0) || h.dump() != after {
		t.Errorf("%s: the state is %q, the probe says %q", name, first.state(0), now.state(0))
	}
	if m.Objects == nil {
		return first
	}
	undone := false
	for i, o := range slices.Backward(m.Objects(args)) {
		if o.Undo == nil {
			continue
		}
		undone = true
		back := maps.Clone(o.Undo.Args)
		if o.Undo.Restore != "" {
			back[o.Undo.Restore] = probe.state(i)
		}
		h.ok(t, o.Undo.Module, back)
	}
	if undone {
		if d := cmp.Diff(before, h.dump()); d != "" {
			t.Errorf("%s was undone and left:\n%s", name, d)
		}
		h.ok(t, name, args) // for what the test does next
	}
	return first
}

func newUser(name string) module.Args {
	return module.Args{
		"name": name, "password": secret.New("Correct-Horse-7"), "description": "runner g-1", "expires": "2026-11-21T18:00:00Z", "password_never_expires": true,
	}
}

// The life of an account, from creation to the last trace.
func TestWindowsAccountFromBeginToEnd(t *testing.T) {
	t.Parallel()
	h := windowsHost(t)
	h.twice(t, "win_user", newUser("jit-abc"))
	u := h.User("jit-abc")
	if u == nil || u.Password != "Correct-Horse-7" || !u.Enabled || u.Expires != time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC) || u.Description != "runner g-1" {
		t.Fatalf("the account is %+v", u)
	}
	h.twice(t, "win_group_member", module.Args{"user": "jit-abc", "groups": []string{"S-1-5-32-555", "Administratoren"}})
	if r := h.ok(t, "win_logon_check", module.Args{"name": "jit-abc", "password": secret.New("Correct-Horse-7")}); r.out["valid"] != "true" || r.changed {
		t.Errorf("the logon: %+v", r)
	}
	h.LogOn("jit-abc", 2)
	info := h.ok(t, "win_user_info", module.Args{"name": "jit-abc"})
	want := map[string]string{
		"exists": "true", "conflict": "false", "name": "jit-abc", "sid": u.SID, "enabled": "true", "description": "runner g-1", "full_name": "", "expires": "2026-11-21T18:00:00Z",
		"last_logon": "2026-11-21T12:00:00Z", "groups": "S-1-5-32-544\nS-1-5-32-555", "profile": `C:\Users\jit-abc`, "logged_in": "true",
	}
	if d := cmp.Diff(want, info.out); d != "" {
		t.Errorf("what there is (-want +got):\n%s", d)
	}

	// The ladder: lock, privileges, sessions, account, profile, absence.
	lock := module.Args{"name": "jit-abc", "sid": u.SID, "locked": true, "exists": "require"}
	if r := h.ok(t, "win_user", lock); !r.changed || u.Enabled || r.out["enabled"] != "false" {
		t.Errorf("the lock: %+v", r)
	}
	if r := h.ok(t, "win_user", lock); r.changed {
		t.Error("locked twice")
	}
	h.fails(t, "is in use", "win_profile", module.Args{"sid": u.SID, "state": "absent"})
	h.ok(t, "win_group_member", module.Args{"sid": u.SID, "groups": []string{"S-1-5-32-544", "S-1-5-32-555"}, "state": "absent"})
	if r := h.ok(t, "win_sessions", module.Args{"name": "jit-abc", "sid": u.SID, "state": "absent"}); !r.changed || r.out["remaining"] != "" || !strings.Contains(r.out["found"], "explorer") {
		t.Errorf("the sessions: %+v", r)
	}
	h.twice(t, "win_user", module.Args{"name": "jit-abc", "sid": u.SID, "state": "absent"})
	h.twice(t, "win_profile", module.Args{"sid": u.SID, "state": "absent"})
	if r := h.ok(t, "win_user_info", module.Args{"sid": u.SID}); r.out["exists"] != "false" || r.out["sid"] != u.SID {
		t.Errorf("after all: %+v", r)
	}
	if got := h.dump(); strings.Contains(got, "jit-abc") || strings.Contains(got, u.SID) {
		t.Errorf("left behind:\n%s", got)
	}
	for i, text := range h.win.Scripts() {
		if strings.Contains(text, "Correct-Horse") || strings.Contains(text, "jit-abc") || strings.Contains(text, u.SID) {
			t.Errorf("script %d holds a value", i)
		}
	}
}

// An account that is not the one that was made stays as it is.
func TestWindowsConflicts(t *testing.T) {
	t.Parallel()
	h := windowsHost(t)
	h.ok(t, "win_user", newUser("jit-abc"))
	u := h.User("jit-abc")
	other := h.Machine + "-9999"
	absent := func(more module.Args) module.Args {
		a := module.Args{"name": "jit-abc", "state": "absent"}
		maps.Copy(a, more)
		return a
	}
	for want, args := range map[string]module.Args{
		"is another one: " + u.SID: absent(module.Args{"sid": other}),
		"a name is no identity":    absent(nil),
		"its description is not":   absent(module.Args{"description": "runner g-2"}),
		"exists already":           newUser("jit-abc"),
		"has the name jit-abc now": absent(module.Args{"name": "jit-old", "sid": u.SID}),
		"there is no account":      {"name": "jit-xyz", "exists": "require"},
		"needs a password":         {"name": "jit-xyz"},
		"another one":              {"name": "jit-abc", "sid": other, "exists": "update", "locked": true},
		"name of the computer":     newUser("win1"),
	} {
		r := h.fails(t, want, "win_user", args)
		if args["name"] == "jit-abc" && r.out["conflict"] != "true" {
			t.Errorf("%s: no conflict: %+v", want, r.out)
		}
	}
	if r := h.ok(t, "win_user", module.Args{"name": "jit-gone", "sid": other, "state": "absent"}); r.changed || r.state(0) != "absent" {
		t.Errorf("what is not there was deleted: %+v", r)
	}
	if r := h.ok(t, "win_user", absent(module.Args{"description": "runner g-1"})); !r.changed || h.User("jit-abc") != nil {
		t.Errorf("the account of that description stays: %+v", r)
	}
}

// What Windows refuses fails, with its words, and leaves nothing.
func TestWindowsRefusals(t *testing.T) {
	t.Parallel()
	h := windowsHost(t)
	weak := newUser("jit-weak")
	weak["password"] = secret.New("short")
	h.fails(t, "complexity", "win_user", weak)
	h.fails(t, "in use", "win_user", newUser("Benutzer"))
	h.fails(t, "exists already", "win_user", newUser("Administrator"))
	h.fails(t, "there is no local group Nobody", "win_group_member", module.Args{"sid": h.Users[0].SID, "groups": []string{"Nobody"}})
	h.fails(t, "there is no local account", "win_group_member", module.Args{"user": "jit-none", "groups": []string{"S-1-5-32-544"}})
	h.fails(t, "built-in", "win_user", module.Args{"name": "Administrator", "sid": h.Users[0].SID, "state": "absent"})
	if r := h.ok(t, "win_group_member", module.Args{"user": "jit-none", "groups": []string{"S-1-5-32-544"}, "state": "absent"}); r.changed {
		t.Error("nobody was taken out of a group")
	}
	if r := h.ok(t, "win_logon_check", module.Args{"name": "Guest", "password": secret.New("x")}); r.out["valid"] != "false" || r.out["reason"] == "" {
		t.Errorf("the logon: %+v", r.out)
	}
}

func TestWindowsUpdates(t *testing.T) {
	t.Parallel()
	h := windowsHost(t)
	h.ok(t, "win_user", newUser("jit-abc"))
	u := h.User("jit-abc")
	for _, c := range []struct {
		args module.Args
		said string
	}{
		{module.Args{"locked": true}, "jit-abc: disabled"},
		{module.Args{"locked": false, "full_name": "A Person"}, "jit-abc: full name enabled"},
		{module.Args{"expires": "2026-11-22T00:00:00Z", "description": "longer"}, "jit-abc: description expiry"},
		{module.Args{"expires": "never"}, "jit-abc: expiry"},
		{module.Args{"expires": "never", "description": "longer", "locked": false}, ""},
	} {
		c.args["name"], c.args["exists"] = "jit-abc", "update"
		before := h.dump()
		if r := h.do(t, transport.Check, "win_user", c.args); r.changed != (c.said != "") || h.dump() != before {
			t.Errorf("%v: check says %+v", c.args, r)
		}
		if r := h.ok(t, "win_user", c.args); r.out["msg"] != c.said || r.changed != (c.said != "") {
			t.Errorf("%v: %+v", c.args, r)
		}
	}
	if !u.Enabled || !u.Expires.IsZero() || u.Description != "longer" || u.FullName != "A Person" {
		t.Errorf("the account is %+v", u)
	}
}

// A group whose members cannot all be resolved makes Get-LocalGroupMember fail.
func TestWindowsGroupWithAnOrphan(t *testing.T) {
	t.Parallel()
	h := windowsHost(t)
	h.ok(t, "win_user", newUser("jit-abc"))
	h.Groups[0].Members = append(h.Groups[0].Members, "S-1-5-21-1-2-3-4444")
	h.Groups[0].Orphaned = true
	h.twice(t, "win_group_member", module.Args{"user": "jit-abc", "groups": []string{"S-1-5-32-544"}})
	if len(h.Groups[0].Members) != 3 {
		t.Errorf("members are %v", h.Groups[0].Members)
	}
}

func TestWindowsAccountEnabledAndDisabled(t *testing.T) {
	t.Parallel()
	h := windowsHost(t)
	h.ok(t, "win_user", newUser("jit-abc"))
	u := h.User("jit-abc")
	until := h.Now.Add(2 * time.Hour).Format(time.RFC3339)
	for _, c := range []struct {
		enabled bool
		expires time.Time
		was     string
	}{
		{false, time.Time{}, "absent sid=" + u.SID + " on=false expires=never"},
		{false, h.Now.Add(time.Hour), "absent sid=" + u.SID + " on=false expires=" + h.Now.Add(time.Hour).Format(time.RFC3339)},
		{true, h.Now.Add(-time.Hour), "absent sid=" + u.SID + " on=true expires=" + h.Now.Add(-time.Hour).Format(time.RFC3339)},
		{true, h.Now.Add(time.Hour), "enabled sid=" + u.SID + " expires=" + h.Now.Add(time.Hour).Format(time.RFC3339)},
	} {
		u.Enabled, u.Expires = c.enabled, c.expires
		if r := h.do(t, transport.Probe, "win_enable", module.Args{"name": "jit-abc"}); r.state(0) != c.was {
			t.Errorf("it was %q, want %q", r.state(0), c.was)
		}
		if r := h.twice(t, "win_enable", module.Args{"name": "jit-abc", "expires": until}); r.state(0) != "enabled sid="+u.SID+" expires="+until || !u.Enabled {
			t.Errorf("%+v, %+v", r, u)
		}
		h.twice(t, "win_enable", module.Args{"name": "jit-abc", "state": "absent", "was": c.was})
		if u.Enabled != c.enabled || !u.Expires.Equal(c.expires) {
			t.Errorf("it was %s and is %+v", c.was, u)
		}
	}
	h.fails(t, "no local account nobody", "win_enable", module.Args{"name": "nobody"})
	if r := h.ok(t, "win_enable", module.Args{"name": "nobody", "state": "absent"}); r.changed || r.state(0) != "absent" {
		t.Errorf("%+v", r)
	}
	other := "absent sid=" + u.SID + "9 on=false expires=never"
	h.fails(t, "is another one", "win_enable", module.Args{"name": "jit-abc", "state": "absent", "was": other})
	u.Enabled, u.Expires = true, time.Time{}
	h.Mute = map[string]bool{"disable-localuser": true}
	h.fails(t, "was not put back", "win_enable", module.Args{"name": "jit-abc", "state": "absent", "was": "absent sid=" + u.SID + " on=false expires=never"})
}

func TestWindowsGroups(t *testing.T) {
	t.Parallel()
	h := windowsHost(t)
	h.twice(t, "win_group", module.Args{"name": "jit ops", "description": "runner"})
	h.fails(t, "a name is no identity", "win_group", module.Args{"name": "jit ops", "state": "absent"})
	h.fails(t, "another one", "win_group", module.Args{"name": "jit ops", "state": "absent", "description": "x"})
	h.fails(t, "another one", "win_group", module.Args{"name": "jit ops", "state": "absent", "sid": "S-1-5-32-544"})
	g := h.Groups[len(h.Groups)-1]
	g.Members = []string{h.Users[0].SID}
	if r := h.ok(t, "win_group", module.Args{"name": "jit ops", "state": "absent", "sid": g.SID, "if_empty": true}); r.changed || !strings.Contains(r.out["msg"], "has members") {
		t.Errorf("a group with members: %+v", r)
	}
	g.Members = nil
	h.twice(t, "win_group", module.Args{"name": "jit ops", "state": "absent", "sid": g.SID, "if_empty": true})
	if r := h.ok(t, "win_group", module.Args{"name": "Benutzer"}); r.changed || r.out["sid"] != "S-1-5-32-545" {
		t.Errorf("a group that is there: %+v", r)
	}
}

// What is in use is said to be, and nothing is said to be gone that is not.
func TestWindowsProfileInUse(t *testing.T) {
	t.Parallel()
	h := windowsHost(t)
	h.ok(t, "win_user", newUser("jit-abc"))
	u := h.User("jit-abc")
	p := h.LogOn("jit-abc", 2)
	absent := module.Args{"sid": u.SID, "state": "absent"}
	if r := h.fails(t, "is in use", "win_profile", absent); r.out["pending_reboot"] != "true" || r.state(0) != `profile=C:\Users\jit-abc` {
		t.Errorf("a loaded profile: %+v", r)
	}
	p.Loaded, p.Stuck = false, true
	r := h.do(t, transport.Apply, "win_profile", absent)
	if r.rc == 0 || r.out["pending_reboot"] != "true" || !strings.Contains(r.stderr, "after a reboot") {
		t.Errorf("a folder that stays: %+v", r)
	}
	absent["path"] = p.Path
	if r := h.ok(t, "win_profile", absent); r.out["exists"] != "true" || r.state(0) == "absent" {
		t.Errorf("a folder that stayed: %+v", r)
	}
	// With the name it goes as soon as it can, and folders of others stay.
	h.Folder(`C:\Users\jit-abc.WIN1`)
	h.ok(t, "win_user", newUser("jit-abcd"))
	h.LogOn("jit-abcd", 3)
	h.Profiles = append(h.Profiles, &winrmtest.Profile{SID: "S-1-5-21-9-9-9-1003", Path: `C:\Users\jit-abc.000`})
	h.Folder(`C:\Users\jit-abc.000`)
	named := module.Args{"sid": u.SID, "name": "jit-abc", "state": "absent"}
	if r := h.do(t, transport.Apply, "win_profile", named); r.rc == 0 || r.out["pending_reboot"] != "true" {
		t.Errorf("a folder in use: %+v", r)
	}
	h.Reboot()
	if r := h.do(t, transport.Check, "win_profile", named); !r.changed || r.rc != 0 {
		t.Errorf("in check mode: %+v", r)
	}
	if r := h.ok(t, "win_profile", named); r.out["deleted"] != p.Path+"\n"+p.Path+".WIN1" || r.out["exists"] != "false" || r.state(0) != "absent" {
		t.Errorf("after a reboot: %+v", r)
	}
	if r := h.ok(t, "win_profile", named); r.changed {
		t.Errorf("a second time: %+v", r)
	}
	if r := h.ok(t, "win_surface", module.Args{"name": "jit-abc", "sid": u.SID}); !strings.Contains(r.out["items"], `folder	C:\Users\jit-abc.000`) || strings.Contains(r.out["items"], "WIN1") {
		t.Errorf("the folder of somebody else: %+v", r)
	}
}

// Folders and files are made once and go, folders with something in them only
// when that is meant.
func TestWindowsFiles(t *testing.T) {
	t.Parallel()
	h := windowsHost(t)
	h.twice(t, "win_file", module.Args{"path": `C:\JIT`, "state": "directory"})
	h.ok(t, "win_file", module.Args{"path": `C:\JIT`, "state": "directory"})
	note := module.Args{"dest": `C:\JIT\note.txt`, "content": "for jit-abc\r\n'; rm x"}
	h.twice(t, "win_copy", note)
	if r := h.ok(t, "win_copy", note); r.changed || h.Files[`C:\JIT\note.txt`] != note["content"] || !strings.HasPrefix(r.state(0), "sha256=") {
		t.Errorf("the file is %q: %+v", h.Files, r)
	}
	note["content"] = "other"
	h.fails(t, "another content", "win_copy", note)
	note["replace"] = true
	if r := h.ok(t, "win_copy", note); !r.changed || h.Files[`C:\JIT\note.txt`] != "other" {
		t.Errorf("replaced: %+v", r)
	}
	h.fails(t, "is a folder", "win_copy", module.Args{"dest": `C:\JIT`, "content": "x"})
	h.fails(t, "Could not find", "win_copy", module.Args{"dest": `C:\nowhere\x`, "content": "x"})
	h.fails(t, "is a file", "win_file", module.Args{"path": `C:\JIT\note.txt`, "state": "directory"})
	h.Folder(`C:\JIT\sub`)
	h.fails(t, "is not empty", "win_file", module.Args{"path": `C:\JIT`, "state": "absent"})
	if r := h.ok(t, "win_file", module.Args{"path": `C:\JIT`}); r.changed || r.out["directory"] != "true" {
		t.Errorf("a look: %+v", r)
	}
	h.ok(t, "win_file", module.Args{"path": `C:\JIT`, "state": "absent", "recurse": true})
	if len(h.Files) != 0 {
		t.Errorf("left: %q", h.Files)
	}
}

// A service is started, stopped and set as asked, and what did not happen is told.
func TestWindowsServices(t *testing.T) {
	t.Parallel()
	h := windowsHost(t)
	h.Services = map[string]string{"TermService": `NT AUTHORITY\NetworkService`, "Spooler": "LocalSystem"}
	want := module.Args{"name": "TermService", "state": "running", "startup": "auto"}
	if r := h.do(t, transport.Check, "win_service", want); !r.changed || h.Running["TermService"] {
		t.Errorf("in check mode: %+v", r)
	}
	if r := h.ok(t, "win_service", want); !r.changed || r.out["status"] != "Running" || r.out["startup"] != "Auto" || r.out["account"] != `NT AUTHORITY\NetworkService` {
		t.Errorf("started: %+v", r)
	}
	if r := h.ok(t, "win_service", want); r.changed {
		t.Errorf("a second time: %+v", r)
	}
	h.ok(t, "win_service", module.Args{"name": "TermService", "state": "stopped", "startup": "disabled"})
	if r := h.ok(t, "win_service", module.Args{"name": "TermService"}); r.changed || r.out["status"] != "Stopped" || r.out["startup"] != "Disabled" {
		t.Errorf("stopped: %+v", r)
	}
	h.fails(t, "cannot be started", "win_service", module.Args{"name": "TermService", "state": "running"})
	h.Mute = map[string]bool{"start-service": true, "set-service": true}
	h.fails(t, "is still Stopped", "win_service", module.Args{"name": "Spooler", "state": "running"})
	h.fails(t, "still starts", "win_service", module.Args{"name": "Spooler", "startup": "disabled"})
	h.fails(t, "there is no service", "win_service", module.Args{"name": "nothing", "state": "running"})
	if r := h.ok(t, "win_service", module.Args{"name": "nothing"}); r.out["exists"] != "false" {
		t.Errorf("nothing: %+v", r)
	}
}

// Tasks that run as the account go, those of others stay.
func TestWindowsScheduledTasks(t *testing.T) {
	t.Parallel()
	h := windowsHost(t)
	h.Tasks = map[string]string{`\jit\nightly`: "jit-abc", `\Microsoft\x`: "SYSTEM", `\by-sid`: "S-1-5-21-1-2-3-1001", `\alien`: "jit-abcd", `\full`: `WIN1\jit-abc`}
	of := module.Args{"user": "jit-abc", "sid": "S-1-5-21-1-2-3-1001", "state": "absent"}
	if r := h.do(t, transport.Check, "win_scheduled_task", of); !r.changed || len(h.Tasks) != 5 || r.out["removed"] != "" {
		t.Errorf("in check mode: %+v", r)
	}
	if r := h.ok(t, "win_scheduled_task", of); r.out["removed"] != "\\by-sid\n\\full\n\\jit\\nightly" || !r.changed || r.state(0) != "absent" {
		t.Errorf("of the account: %+v", r)
	}
	if r := h.ok(t, "win_scheduled_task", of); r.changed || len(h.Tasks) != 2 {
		t.Errorf("a second time: %+v", r)
	}
	if r := h.ok(t, "win_scheduled_task", module.Args{"path": `\alien`}); r.changed || r.out["found"] != `\alien` {
		t.Errorf("a look: %+v", r)
	}
	h.Mute = map[string]bool{"unregister-scheduledtask": true}
	h.fails(t, "is still there", "win_scheduled_task", module.Args{"path": `\alien`, "state": "absent"})
	h.Mute = nil
	h.ok(t, "win_scheduled_task", module.Args{"path": `\alien`, "state": "absent"})
	if d := cmp.Diff(map[string]string{`\Microsoft\x`: "SYSTEM"}, h.Tasks); d != "" {
		t.Errorf("tasks (-want +got):\n%s", d)
	}
}

// Whose account it is, is known by its SID, and without one by its description.
func TestWindowsAccountOfSomebodyElse(t *testing.T) {
	t.Parallel()
	h := windowsHost(t)
	h.ok(t, "win_user", newUser("jit-abc"))
	h.ok(t, "win_user", newUser("jit-abd"))
	sid := h.User("jit-abc").SID
	for want, args := range map[string]module.Args{
		"":                               {"name": "jit-abc", "sid": sid, "description": "anything"},
		"description":                    {"name": "jit-abc", "description": "runner g-2"},
		"-1002, not S-1-5-21-1":          {"name": "jit-abd", "sid": sid},
		"-1002, not S-1-5-21-1-2-3-1001": {"name": "jit-abd", "sid": "S-1-5-21-1-2-3-1001"},
	} {
		r := h.ok(t, "win_user_info", args)
		if (r.out["conflict"] == "true") != (want != "") || !strings.Contains(r.out["msg"], want) {
			t.Errorf("%v: %+v, want %q", args, r.out, want)
		}
	}
	for _, args := range []module.Args{{"name": "jit-abc", "description": "runner g-1"}, {"name": "jit-gone", "description": "runner g-1"}, {"name": "jit-gone", "sid": "S-1-5-21-1-2-3-1001"}} {
		if r := h.ok(t, "win_user_info", args); r.out["conflict"] != "false" {
			t.Errorf("%v: %+v", args, r.out)
		}
	}
}

func TestWindowsSessionsThatDoNotEnd(t *testing.T) {
	synctest.Test(t, sessionsThatDoNotEnd)
}

func sessionsThatDoNotEnd(t *testing.T) {
	h := windowsHost(t)
	h.ok(t, "win_user", newUser("jit-abc"))
	h.LogOn("jit-abc", 2)
	h.Processes = append(h.Processes, &winrmtest.Process{ID: 77, Session: 0, Name: "svc", User: "jit-abc", Stubborn: true}, &winrmtest.Process{ID: 78, Session: 1, Name: "explorer", User: "Administrator"})
	args := module.Args{"name": "jit-abc", "state": "absent"}
	if r := h.do(t, transport.Check, "win_sessions", args); !r.changed || len(h.Processes) != 3 {
		t.Errorf("check: %+v", r)
	}
	if r := h.ok(t, "win_sessions", module.Args{"name": "jit-abc"}); r.changed || r.out["found"] != "100 explorer\n77 svc" || len(h.Processes) != 3 {
		t.Errorf("a look: %+v", r)
	}
	if r := h.ok(t, "win_sessions", args); r.out["remaining"] != "" || len(h.Processes) != 1 {
		t.Errorf("the end: %+v, %d programs are left", r, len(h.Processes))
	}
	if r := h.ok(t, "win_sessions", args); r.changed {
		t.Error("nothing was ended twice")
	}
}
