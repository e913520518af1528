// Package sim runs the real engine, state machine and executor on virtual time,
// against simulated Linux devices and worker processes that crash, freeze, lose
// the network and meet people who change things by hand, and tells what a history
// of that left behind. It owns the model of a device and the oracle; it refuses
// to know how anything is made right: that is the engine's business. It is for
// tests, which it needs testing/synctest for.
package sim

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Foreign owns what no grant made.
const Foreign = "somebody else"

// Account is a line of the account databases.
type Account struct {
	UID      int64
	Owner    string // grant that made it, or Foreign
	Locked   bool
	Expires  time.Time // by the device's clock; zero: never
	Comment  string
	Shell    string
	Password string
	Mark     string               // what stands where there is no password
	Keys     map[string]time.Time // public key: its own expiry, by the device's clock
	Half     bool                 // useradd was killed: no shadow line
}

// Process runs on a machine.
type Process struct {
	PID      int
	UID      int64
	Command  string
	Stubborn int             // how often it survives being killed
	Groups   map[string]bool // that it began with
}

// rule is a file of /etc/sudoers.d.
type rule struct {
	account string
	text    string
	until   time.Time
	owner   string
	note    string // its mark
}

// Machine is a simulated device: account databases, homes, files, processes, a
// clock, and the programs that run on it. People change it through its methods.
type Machine struct {
	Name string

	mu       sync.Mutex
	accounts map[string]*Account
	groups   map[string]map[string]bool
	sudoers  map[string]*rule
	homes    map[string]int64 // by account name: uid of the owner
	files    map[string]int64 // outside of homes: uid of the owner
	procs    []Process
	pid      int
	skew     time.Duration
	running  map[*program]bool
	breaks   int // so many steps later the power fails; 0: it does not

	standing map[string]*standing // accounts that were there before any grant
	// wants names the grants that want what a grant takes away: see World.wants.
	wants func(group, name, by string) []string

	wrongs []string // what must never happen and did
}

// NewMachine returns a device with a few accounts and groups of its own.
func NewMachine(name string) *Machine {
	m := &Machine{
		Name: name, accounts: map[string]*Account{}, groups: map[string]map[string]bool{"users": {}, "ops": {"root": true}},
		sudoers: map[string]*rule{}, homes: map[string]int64{}, files: map[string]int64{}, running: map[*program]bool{}, pid: 100,
	}
	m.settle()
	return m
}

// wrong notes what must never happen. The caller holds mu.
func (m *Machine) wrong(format string, args ...any) {
	m.wrongs = append(m.wrongs, m.Name+": "+fmt.Sprintf(format, args...))
}

// now is the device's own clock. The caller holds mu.
func (m *Machine) now() time.Time { return time.Now().Add(m.skew) }

// holder returns the name that has a uid.
func (m *Machine) holder(uid int64) string {
	for _, name := range slices.Sorted(maps.Keys(m.accounts)) {
		if m.accounts[name].UID == uid {
			return name
		}
	}
	return ""
}

// Skew sets how far the device's clock is ahead.
func (m *Machine) Skew(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.skew = d
}

// Session has the owner of an account do something there: processes, a file.
func (m *Machine) Session(name string, stubborn int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[name]
	if a == nil || a.Locked || a.expired(m.now()) {
		return
	}
	m.pid++
	m.procs = append(m.procs, Process{PID: m.pid, UID: a.UID, Command: "vi", Stubborn: stubborn, Groups: m.groupsOf(name)})
	m.files[fmt.Sprintf("/tmp/notes-%d", m.pid)] = a.UID
}

// Seize deletes an account by hand and gives its name to somebody else.
func (m *Machine) Seize(name string, uid int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.accounts[name]; a == nil || a.Owner == Foreign {
		return
	}
	m.accounts[name] = &Account{UID: uid, Owner: Foreign, Password: "x"}
	m.homes[name] = uid
}

// Drop deletes an account by hand, not its files.
func (m *Machine) Drop(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.accounts[name]; a != nil && a.Owner != Foreign {
		delete(m.accounts, name)
	}
}

// Regroup adds a group member by hand, or removes one.
func (m *Machine) Regroup(group, name string, in bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.accounts[name] == nil || m.groups[group] == nil {
		return
	}
	if in {
		m.groups[group][name] = true
	} else {
		delete(m.groups[group], name)
	}
}

// Reboot ends every process and program.
func (m *Machine) Reboot() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.procs = nil
	for p := range m.running {
		p.kill()
	}
}

// Break has the power fail in the middle of the nth step from now on.
func (m *Machine) Break(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.breaks = n
}

// fails reports whether the power fails in the middle of a step that begins to act.
func (m *Machine) fails() bool {
	m.mu.Lock()
	m.breaks--
	now := m.breaks == 0
	m.breaks = max(0, m.breaks)
	m.mu.Unlock()
	if now {
		m.Reboot()
	}
	return now
}

// Accounts returns the names that a grant owns.
func (m *Machine) Accounts() map[string]Account {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]Account{}
	for name, a := range m.accounts {
		if a.Owner != Foreign {
			out[name] = *a
		}
	}
	return out
}

// login reports why an account cannot log in, or "".
func (m *Machine) login(name, password, key string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refuses(name, password, key)
}

// refuses is login for who holds mu.
func (m *Machine) refuses(name, password, key string) string {
	a := m.accounts[name]
	switch {
	case a == nil:
		return "there is no such account"
	case a.Half:
		return "the account has no shadow line"
	case a.expired(m.now()):
		return "the account has expired"
	case key != "":
		until, known := a.Keys[key]
		if !known {
			return "the key is not known"
		}
		if !until.IsZero() && !m.now().Before(until) {
			return "the key has expired"
		}
		return ""
	case a.Locked || password == "" || a.Password != password:
		return "the password is wrong"
	}
	return ""
}

// traces lists what a grant left on the machine: everything that it owns, or
// that bears its account's name or uid while no stranger has these.
func (m *Machine) traces(owner, name string, uid int64) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, n := range slices.Sorted(maps.Keys(m.accounts)) {
		if a := m.accounts[n]; a.Owner == owner {
			out = append(out, fmt.Sprintf("account %s, uid %d", n, a.UID))
		}
	}
	for _, f := range slices.Sorted(maps.Keys(m.sudoers)) {
		if m.sudoers[f].owner == owner {
			out = append(out, "sudoers file "+f)
		}
	}
	for _, p := range m.procs {
		if p.UID == uid && m.holder(uid) != "" || p.UID == uid {
			out = append(out, fmt.Sprintf("process %d %s", p.PID, p.Command))
		}
	}
	for _, f := range slices.Sorted(maps.Keys(m.files)) {
		if m.files[f] == uid {
			out = append(out, "file "+f)
		}
	}
	if m.homes[name] == uid && uid != 0 {
		out = append(out, "home of "+name)
	}
	if m.accounts[name] == nil {
		for _, g := range slices.Sorted(maps.Keys(m.groups)) {
			if m.groups[g][name] {
				out = append(out, "membership of "+name+" in "+g)
			}
		}
	}
	return out
}
