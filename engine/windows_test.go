package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/module"
	"runner/engine/secret/seal"
	"runner/engine/store"
	"runner/engine/template"
	"runner/engine/transport"
	"runner/engine/transport/winrm"
	"runner/engine/transport/winrm/winrmtest"
	"runner/templates"
)

const windowsInventory = `schema: runner/v1
kind: inventory
name: Windows-PSRP-Kerberos
transport: winrm
---
schema: runner/v1
kind: device
name: win-1
address: win-1.corp.example
platform: windows
inventory: Windows-PSRP-Kerberos
---
schema: runner/v1
kind: credential
name: win-admin
device: win-1
domain: corp.example
USE_KERBEROS: "true"
additional_information: '{"KDC": "dc1.corp.example"}'
authentication: {user: svc-runner, secret_from: {keytab: /etc/runner/svc.keytab}}
requesters: [ada, bob]
jit: {create: windows-local-user, duration: 1h}
---
schema: runner/v1
kind: credential
name: win-ops
device: win-1
account: zora
domain: corp.example
USE_KERBEROS: "true"
additional_information: '{"KDC": "dc1.corp.example"}'
authentication: {user: svc-runner, secret_from: {keytab: /etc/runner/svc.keytab}}
requesters: [ada, bob]
jit: {type: group_membership, duration: 1h}
params: {groups: [S-1-5-32-555, S-1-5-32-544]}
---
schema: runner/v1
kind: credential
name: win-named
device: win-1
account: Zora
domain: corp.example
USE_KERBEROS: "true"
additional_information: '{"KDC": "dc1.corp.example"}'
authentication: {user: svc-runner, secret_from: {keytab: /etc/runner/svc.keytab}}
requesters: [ada, bob]
jit: {type: group_membership, duration: 1h}
params: {groups: [Remotedesktopbenutzer, administratoren]}
---
schema: runner/v1
kind: credential
name: win-enable
device: win-1
account: zora
domain: corp.example
USE_KERBEROS: "true"
additional_information: '{"KDC": "dc1.corp.example"}'
authentication: {user: svc-runner, secret_from: {keytab: /etc/runner/svc.keytab}}
requesters: [ada, bob]
jit: {type: enable_disable, duration: 1h}
`

// winWorld is an engine with its own store in front of a model of a Windows host.
type winWorld struct {
	*engine.Engine
	*winrmtest.Accounts

	t     *testing.T
	win   *winrmtest.Windows
	host  *winrmtest.Host
	dials *winrm.Dialer
	store *store.Store
	node  *store.Node
	now   func() time.Time
}

// hostDevice is the host as runner's own identity sees it.
type hostDevice struct{ *winrmtest.Host }

func (hostDevice) Key() string { return "win-1" }
func (hostDevice) Peer() transport.Peer {
	return transport.Peer{Address: "win-1.corp.example:5985", Identity: "HTTP/win-1.corp.example@CORP.EXAMPLE", Software: "WinRM 3.0"}
}
func (hostDevice) Release() {}

func newWinWorld(t *testing.T) *winWorld {
	t.Helper()
	w := &winWorld{t: t, Accounts: winrmtest.NewAccounts("WIN-1"), now: time.Now}
	w.Accounts.Now = time.Now().UTC().Truncate(time.Second)
	w.win = &winrmtest.Windows{Accounts: w.Accounts}
	w.host = &winrmtest.Host{Handler: w.win.Handle, OperationTimeout: time.Second}
	dir := t.TempDir()
	inv := filepath.Join(dir, "inventories")
	must(t, os.Mkdir(inv, 0o700))
	must(t, os.WriteFile(filepath.Join(inv, "all.yaml"), []byte(windowsInventory), 0o600))
	st, err := store.Open(t.Context(), filepath.Join(dir, "state"))
	must(t, err)
	t.Cleanup(func() { must(t, st.Close()) })
	w.store = st
	reg, err := module.All()
	must(t, err)
	lib, ps := template.Open(dir, templates.FS, reg)
	must(t, ps.Err())
	set, ps := inventory.Load(inv)
	must(t, ps.Err())
	key, err := seal.Open(filepath.Join(dir, "state", "key"))
	must(t, err)
	w.Engine = &engine.Engine{
		Store: st, Templates: lib, Inventory: set, Modules: reg,
		Key: key, Now: func() time.Time { return w.now() }, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
	w.process()
	return w
}

// process makes the engine a new worker, as after a start of the program.
func (w *winWorld) process() {
	w.t.Helper()
	node, err := w.store.Join(w.t.Context(), "test")
	must(w.t, err)
	w.t.Cleanup(func() { _ = node.Leave() })
	d := &winrm.Dialer{}
	w.t.Cleanup(func() { _ = d.Close() })
	w.node, w.dials, w.Node = node, d, node.ID()
	w.Dialer = &engine.Dialers{WinRM: &engine.WinRMDialer{WinRM: d, Device: func(_ context.Context, c *inventory.Connection) (winrm.Device, error) {
		if c.WinRM == nil || c.WinRM.Realm != "CORP.EXAMPLE" || c.WinRM.SPN != "" || c.Address != "win-1.corp.example" || !slices.Equal(c.WinRM.KDCs, []string{"dc1.corp.example"}) {
			return nil, fmt.Errorf("the connection is %+v", c.WinRM)
		}
		return hostDevice{w.host}, nil
	}}}
}

func (w *winWorld) request(params map[string]any) grant.Case {
	w.t.Helper()
	c, err := w.Request(w.t.Context(), engine.Ask{Credential: "win-admin", Requester: "ada", Caller: "ops", Operator: true, Params: params})
	must(w.t, err)
	return c
}

// create runs the creation.
func (w *winWorld) create(c grant.Case) grant.Case {
	w.t.Helper()
	c, err := w.RunJob(w.t.Context(), c.Forward().ID)
	must(w.t, err)
	return c
}

// remove ends the grant and runs the removal until it is over, as a sweep would.
func (w *winWorld) remove(c grant.Case) grant.Case {
	w.t.Helper()
	var err error
	if c.Grant.State == grant.Active {
		c, err = w.End(w.t.Context(), c.Grant.ID, "ada", "end")
		must(w.t, err)
	}
	for range 3 {
		if c.Grant.State.Final() {
			return c
		}
		ahead := c.Removal().Due
		if now := time.Now(); now.After(ahead) {
			ahead = now
		}
		w.now = func() time.Time { return ahead }
		c, err = w.Remove(w.t.Context(), c)
		must(w.t, err)
	}
	return c
}

// dump is all that the host knows of accounts.
func (w *winWorld) dump() string {
	var b strings.Builder
	for _, u := range w.Users {
		fmt.Fprintf(&b, "%+v\n", *u)
	}
	for _, g := range w.Groups {
		fmt.Fprintf(&b, "%+v\n", *g)
	}
	for _, p := range w.Profiles {
		fmt.Fprintf(&b, "%+v\n", *p)
	}
	fmt.Fprintf(&b, "%d programs, tasks %v\n", len(w.Processes), slices.Sorted(maps.Keys(w.Tasks)))
	return b.String()
}

func (w *winWorld) logOf(execution string) string {
	return (&world{t: w.t, store: w.store}).logOf(execution)
}

func TestAWindowsGrantFromRequestToReceipt(t *testing.T) {
	t.Parallel()
	w := newWinWorld(t)
	before := w.dump()
	params := map[string]any{"groups": []any{"S-1-5-32-555", "S-1-5-32-544"}, "full_name": "canary-full-name"}
	c := w.create(w.request(params))
	if c.Grant.State != grant.Active {
		t.Fatalf("grant is %s: %s\n%s", c.Grant.State, c.Grant.Failure, w.logOf(c.Forward().Execution))
	}
	u := w.User(c.Grant.Account)
	if u == nil || !strings.Contains(string(c.Grant.Outputs), u.SID) || u.Description != "runner "+c.Grant.ID || !u.Enabled || c.Grant.UID != 0 {
		t.Fatalf("the account is %+v, the grant %+v", u, c.Grant)
	}
	if d := u.Expires.Sub(c.Grant.Backstop); d < -time.Minute || d > time.Minute {
		t.Errorf("the account expires at %s, the backstop is %s", u.Expires, c.Grant.Backstop)
	}
	c, s, err := w.Collect(t.Context(), c.Grant.ID, "ada")
	must(t, err)
	if s.Password != u.Password || s.Platform != "windows" {
		t.Errorf("handed over: %+v", s)
	}
	// The person logs in, gets more rights, and leaves things.
	w.LogOn(u.Name, 2)
	w.Tasks = map[string]string{`\jit\later`: u.SID, `\Microsoft\x`: "SYSTEM"}
	w.Groups[1].Members = append(w.Groups[1].Members, u.SID)
	c = w.remove(c)
	if c.Grant.State != grant.Removed || !c.Grant.Receipt.Empty() || !c.Grant.Receipt.Known {
		t.Fatalf("grant is %s: %+v\n%s", c.Grant.State, c.Grant.Receipt, w.logOf(c.Removal().Execution))
	}
	delete(w.Tasks, `\Microsoft\x`)
	if got := w.dump(); got != before {
		t.Errorf("the host is not what it was:\n%s\n%s", before, got)
	}
	if c.Grant.NoAccess.IsZero() || !slices.Contains(c.Grant.Receipt.Session, `task \jit\later`) || !slices.ContainsFunc(c.Grant.Receipt.Session, func(s string) bool { return strings.HasPrefix(s, "process ") }) {
		t.Errorf("no access at %v, left by the session %q", c.Grant.NoAccess, c.Grant.Receipt.Session)
	}
	log := ""
	for _, j := range c.Jobs {
		log += w.logOf(j.Execution)
	}
	if strings.Contains(log, s.Password) || !strings.Contains(log, "HTTP/win-1.corp.example@CORP.EXAMPLE") {
		t.Errorf("the log:\n%s", log)
	}
	canaries := []string{s.Password, u.Name, u.SID, c.Grant.ID, "canary-full-name", "S-1-5-32-555", "corp.example"}
	for i, text := range w.win.Scripts() {
		for _, canary := range canaries {
			if text = strings.ReplaceAll(text, "__take '"+c.Grant.ID+"'", ""); strings.Contains(strings.ReplaceAll(text, "__open '"+c.Grant.ID+".", ""), canary) {
				t.Errorf("script %d holds %q", i, canary)
			}
		}
	}
	t.Logf("%d scripts, %d requests in %d shells", len(w.win.Scripts()), w.host.Requests(), w.host.Calls("Create"))
}

// What fails in a creation ends in a removal that puts everything back.
func TestAWindowsCreationThatFailsIsRemoved(t *testing.T) {
	t.Parallel()
	for _, cmdlet := range []string{"get-ciminstance", "get-command", "new-localuser", "get-localgroup", "add-localgroupmember", "test-wsman", "get-localuser"} {
		t.Run(cmdlet, func(t *testing.T) {
			t.Parallel()
			w := newWinWorld(t)
			before := w.dump()
			c := w.request(nil)
			w.Before = func(_ context.Context, name string) {
				if name == cmdlet && (cmdlet != "get-localuser" || w.host.Calls("Command") > 1) {
					w.Set(func() { w.Fail = map[string]error{cmdlet: winrmtest.Denied(cmdlet)} })
				}
			}
			c = w.create(c)
			if c.Grant.State == grant.Active || c.Grant.Failure == "" {
				t.Fatalf("grant is %s", c.Grant.State)
			}
			w.Set(func() { w.Fail, w.Before = nil, nil })
			if c = w.remove(c); !c.Grant.State.Final() {
				t.Fatalf("grant is %s: %+v", c.Grant.State, c.Removal())
			}
			if got := w.dump(); got != before {
				t.Errorf("the host is not what it was:\n%s\n%s", before, got)
			}
		})
	}
}

// A removal that cannot be done stays open, says why, and is done later.
func TestAWindowsRemovalThatFailsIsOpen(t *testing.T) {
	t.Parallel()
	for cmdlet, want := range map[string]string{
		"get-localuser": "It is still our account", "disable-localuser": "Disable the account", "remove-localgroupmember": "Take its groups away",
		"get-scheduledtask": "scheduled tasks", "get-process": "End its sessions", "remove-ciminstance": "Delete its profile", "remove-localuser": "Delete the account",
	} {
		t.Run(cmdlet, func(t *testing.T) {
			t.Parallel()
			w := newWinWorld(t)
			before := w.dump()
			c := w.create(w.request(nil))
			w.LogOn(c.Grant.Account, 2)
			w.Fail = map[string]error{cmdlet: winrmtest.Denied(cmdlet)}
			c = w.remove(c)
			r := c.Removal()
			if c.Grant.State != grant.Ending || !strings.Contains(r.BlockedBy, want) || r.FirstFailed.IsZero() {
				t.Fatalf("grant is %s, blocked by %q, want %q", c.Grant.State, r.BlockedBy, want)
			}
			w.Fail = nil
			if c = w.remove(c); c.Grant.State != grant.Removed || !c.Grant.Receipt.Empty() {
				t.Fatalf("grant is %s: %+v", c.Grant.State, c.Removal())
			}
			if got := w.dump(); got != before {
				t.Errorf("the host is not what it was:\n%s\n%s", before, got)
			}
		})
	}
}

// The host goes away in the middle of every step of both jobs, with the work of
// the step done or not.
func TestAWindowsHostThatIsLostAtEachStep(t *testing.T) {
	t.Parallel()
	steps := map[string][]string{
		"create": {"get-ciminstance", "new-localuser", "add-localgroupmember", "test-wsman"},
		"remove": {"disable-localuser", "remove-localgroupmember", "get-scheduledtask", "logoff.exe", "remove-ciminstance", "remove-localuser"},
	}
	for job, cmdlets := range steps {
		for _, cmdlet := range cmdlets {
			for _, done := range []bool{false, true} {
				t.Run(fmt.Sprint(job, " ", cmdlet, " done ", done), func(t *testing.T) {
					t.Parallel()
					w := newWinWorld(t)
					before := w.dump()
					c := w.request(nil)
					if job == "remove" {
						c = w.create(c)
						w.LogOn(c.Grant.Account, 2)
					}
					w.loseAt(cmdlet, done)
					if job == "create" {
						c = w.create(c)
					} else {
						c = w.remove(c)
					}
					w.Set(func() { w.Before, w.After = nil, nil })
					if c.Grant.State == grant.Active {
						t.Fatalf("the grant is active")
					}
					if c = w.remove(c); !c.Grant.State.Final() || c.Grant.State == grant.Removed && !c.Grant.Receipt.Empty() {
						t.Fatalf("grant is %s: %+v", c.Grant.State, c.Removal())
					}
					if got := w.dump(); got != before {
						t.Errorf("the host is not what it was:\n%s\n%s", before, got)
					}
					if left := w.win.Registry(); len(left) > 0 {
						t.Errorf("progress left behind: %v", left)
					}
				})
			}
		}
	}
}

// loseAt restarts the service of the host once, before a cmdlet or after it.
func (w *winWorld) loseAt(cmdlet string, done bool) {
	restarted := make(chan struct{})
	w.t.Cleanup(func() { <-restarted })
	lost := false
	lose := func(ctx context.Context, name string) {
		if name != cmdlet || lost {
			return
		}
		lost = true
		go func() { w.host.Restart(); close(restarted) }()
		<-ctx.Done()
	}
	if done {
		w.After = lose
	} else {
		w.Before = lose
	}
}

// A worker that dies leaves a removal that is due, at whatever step it was, and
// also when nobody was told the SID of the account any more.
func TestAWindowsWorkerThatDies(t *testing.T) {
	t.Parallel()
	for _, cmdlet := range []string{"get-ciminstance", "new-localuser", "add-localgroupmember", "disable-localuser", "remove-localuser"} {
		t.Run(cmdlet, func(t *testing.T) {
			t.Parallel()
			w := newWinWorld(t)
			before := w.dump()
			c := w.request(nil)
			if strings.HasPrefix(cmdlet, "disable") || strings.HasPrefix(cmdlet, "remove") {
				c = w.create(c)
				var err error
				c, err = w.End(t.Context(), c.Grant.ID, "ada", "end")
				must(t, err)
			}
			c = w.dieAt(cmdlet, c)
			w.process()
			n, err := w.Reap(t.Context())
			must(t, err)
			if n != 1 {
				t.Fatalf("%d jobs were taken over", n)
			}
			c, err = w.store.Case(t.Context(), c.Grant.ID)
			must(t, err)
			if c = w.remove(c); !c.Grant.State.Final() {
				t.Fatalf("grant is %s: %+v", c.Grant.State, c.Removal())
			}
			if got := w.dump(); got != before {
				t.Errorf("the host is not what it was:\n%s\n%s", before, got)
			}
		})
	}
}

// dieAt runs the next job and has its worker die in the middle of a cmdlet:
// nothing that it would have written afterwards is stored.
func (w *winWorld) dieAt(cmdlet string, c grant.Case) grant.Case {
	w.t.Helper()
	job := c.Forward().ID
	if c.Grant.State == grant.Ending {
		job = c.Removal().ID
	}
	dead := &deadStore{Store: w.store}
	w.Before = func(_ context.Context, name string) {
		if name == cmdlet {
			dead.gone.Store(true)
		}
	}
	w.Store = dead
	if _, err := w.RunJob(w.t.Context(), job); !errors.Is(err, grant.ErrLeaseLost) {
		w.t.Fatalf("the worker lived: %v", err)
	}
	w.Set(func() { w.Before = nil })
	w.Store = w.store
	if err := w.node.Leave(); !errors.Is(err, grant.ErrBusy) {
		w.t.Fatalf("the worker left in order: %v", err)
	}
	return c
}

// deadStore takes nothing any more when its worker is gone.
type deadStore struct {
	*store.Store

	gone atomic.Bool
}

func (d *deadStore) Change(ctx context.Context, id string, fn func(*grant.Case) error) error {
	if d.gone.Load() {
		return grant.ErrLeaseLost
	}
	return d.Store.Change(ctx, id, fn)
}

func (d *deadStore) PutExecution(ctx context.Context, f grant.Fence, e grant.Execution, steps ...grant.StepResult) error {
	if d.gone.Load() {
		return grant.ErrLeaseLost
	}
	return d.Store.PutExecution(ctx, f, e, steps...)
}

func (d *deadStore) PutChanges(ctx context.Context, f grant.Fence, id string, cs []grant.Change) error {
	if d.gone.Load() {
		return grant.ErrLeaseLost
	}
	return d.Store.PutChanges(ctx, f, id, cs)
}

// An extension moves the expiry on the host first, by SID; a plan changes nothing.
func TestAWindowsGrantIsPlannedAndExtended(t *testing.T) {
	t.Parallel()
	w := newWinWorld(t)
	before := w.dump()
	p, err := w.PlanRequest(t.Context(), engine.Ask{Credential: "win-admin", Requester: "bob", Caller: "bob"})
	must(t, err)
	if len(p.Problems) > 0 || p.UID != 0 || p.Secret != "a password" || len(p.Create.Steps) != 5 || w.dump() != before {
		t.Errorf("the plan is %+v\n%s", p, w.dump())
	}
	c := w.create(w.request(nil))
	u := w.User(c.Grant.Account)
	was := u.Expires
	c, err = w.Extend(t.Context(), c.Grant.ID, time.Hour, "ada")
	must(t, err)
	if d := u.Expires.Sub(was); d < 49*time.Minute || d > 61*time.Minute || c.Grant.Backstop.Sub(u.Expires).Abs() > time.Minute {
		t.Errorf("the expiry moved by %s to %s, the backstop is %s", d, u.Expires, c.Grant.Backstop)
	}
	// The account was deleted and somebody made one of its name: it is left alone.
	other := *u
	other.SID, other.Description = w.Machine+"-4711", "somebody else's"
	w.Users = append(w.Users[:len(w.Users)-1], &other)
	if _, err := w.Extend(t.Context(), c.Grant.ID, time.Hour, "ada"); err == nil || !strings.Contains(err.Error(), "is another one") {
		t.Errorf("extended the account of somebody else: %v", err)
	}
	c = w.remove(c)
	if r := c.Removal(); c.Grant.State != grant.Ending || !strings.Contains(r.BlockedBy, "It is still our account") || w.User(other.Name) != &other || !other.Enabled {
		t.Fatalf("grant is %s, blocked by %q, the account is %+v", c.Grant.State, r.BlockedBy, other)
	}
}

// Grants at the same time do not know each other; a request for a key is refused.
func TestWindowsGrantsSideBySide(t *testing.T) {
	t.Parallel()
	w := newWinWorld(t)
	before := w.dump()
	if _, err := w.Request(t.Context(), engine.Ask{Credential: "win-admin", Requester: "ada", Caller: "ops", Operator: true, GenerateKey: true}); err == nil || !strings.Contains(err.Error(), "log in by password") {
		t.Errorf("a key: %v", err)
	}
	a := w.create(w.request(nil))
	b, err := w.Request(t.Context(), engine.Ask{Credential: "win-admin", Requester: "bob", Caller: "bob"})
	must(t, err)
	b = w.create(b)
	w.LogOn(b.Grant.Account, 3)
	if a = w.remove(a); a.Grant.State != grant.Removed {
		t.Fatalf("the first: %s, %q", a.Grant.State, a.Removal().BlockedBy)
	}
	if u := w.User(b.Grant.Account); u == nil || !u.Enabled || len(w.Groups[2].Members) != 1 || len(w.Processes) != 1 {
		t.Errorf("the removal of one took from the other: %+v, %v", u, w.Groups[2].Members)
	}
	if b = w.remove(b); b.Grant.State != grant.Removed || w.dump() != before {
		t.Fatalf("the second: %s, %q\n%s", b.Grant.State, b.Removal().BlockedBy, w.dump())
	}
}

// What Windows lets go of only after a reboot keeps the removal open, which says
// so, and is deleted then.
func TestAWindowsProfileThatWaitsForAReboot(t *testing.T) {
	t.Parallel()
	w := newWinWorld(t)
	before := w.dump()
	c := w.create(w.request(nil))
	p := w.LogOn(c.Grant.Account, 2)
	p.Stuck = true
	c = w.remove(c)
	r := c.Removal()
	if u := w.User(c.Grant.Account); c.Grant.State != grant.Ending || !strings.Contains(r.BlockedBy, "after a reboot") || u == nil || u.Enabled || c.Grant.NoAccess.IsZero() {
		t.Fatalf("grant is %s, blocked by %q; no access since %s; the account is %+v", c.Grant.State, r.BlockedBy, c.Grant.NoAccess, u)
	}
	w.Reboot()
	if c = w.remove(c); c.Grant.State != grant.Removed || !c.Grant.Receipt.Empty() || w.dump() != before {
		t.Fatalf("grant is %s, %q", c.Grant.State, c.Removal().BlockedBy)
	}
}
