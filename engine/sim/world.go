package sim

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/module"
	"runner/engine/secret/seal"
	"runner/engine/store"
	"runner/engine/template"
	"runner/templates"
)

// Kit is what all histories share: templates, inventory, a key.
type Kit struct {
	lib  engine.Templates
	set  *inventory.Set
	mods *module.Registry
	key  *seal.Key

	pinned *engine.Pinned
}

// Names of the simulated world.
var (
	deviceNames = []string{"box", "crate"}
	people      = []string{"ada", "bob", "eve"}
	credentials = []string{"box-plain", "box-ops", "crate-ops"}
	// elevations are asked for as well in every fourth history.
	elevations = append(slices.Sorted(maps.Keys(elevates)), "crate-both", "crate-sudo", "crate-use")
)

const documents = `schema: runner/v1
kind: inventory
name: Sim
transport: ssh
methods: [agent]
host_keys: {policy: strict}
---
schema: runner/v1
kind: device
name: box
address: 192.0.2.1
platform: linux
inventory: Sim
host_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJSAt7rtzDKrk4UZl5h0H/6WS7+bf5BU+b++2/wiMCN0"]
uids: {first: 70000, last: 79999}
---
schema: runner/v1
kind: device
name: crate
address: 192.0.2.2
platform: linux
inventory: Sim
host_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJSAt7rtzDKrk4UZl5h0H/6WS7+bf5BU+b++2/wiMCN0"]
uids: {first: 70000, last: 79999}
`

const document = `---
schema: runner/v1
kind: credential
name: %s
device: %s
authentication: {user: jitadm, secret_from: {agent: env}}
requesters: [ada, bob, eve, cyd, dan, fay]
jit: {enabled: true, duration: 2m, max_duration: 1h, %s}
params: {%s}
`

const creates = "create: linux-user, delete: linux-user"

// NewKit reads the templates that are shipped, and an inventory of two devices.
// dir is a folder for files.
func NewKit(dir string) (*Kit, error) {
	k := &Kit{pinned: &engine.Pinned{}}
	var err error
	if k.mods, err = module.All(); err != nil {
		return nil, err
	}
	inv := filepath.Join(dir, "inventories")
	if err := os.MkdirAll(inv, 0o700); err != nil {
		return nil, err
	}
	var text strings.Builder
	text.WriteString(documents + fmt.Sprintf(document, "box-plain", "box", creates, "") +
		fmt.Sprintf(document, "box-ops", "box", creates, "groups: [ops, users], sudo: 'ALL=(ALL) NOPASSWD: ALL'") +
		fmt.Sprintf(document, "crate-ops", "crate", creates, "groups: [ops]") +
		fmt.Sprintf(document, "crate-both", "crate", creates+", elevate: linux-group", "groups: [ops, users]") +
		fmt.Sprintf(document, "crate-sudo", "crate", creates+", elevate: linux-sudo", "groups: [ops], sudo: 'ALL=(ALL) /usr/bin/id'") +
		fmt.Sprintf(document, "crate-use", "crate", creates+", elevate: linux-enable", ""))
	for _, name := range slices.Sorted(maps.Keys(elevates)) {
		g := elevates[name]
		settings, params := g.jit()
		fmt.Fprintf(&text, document+"account: %s\n", name, "box", settings, params, g.account)
	}
	if err := os.WriteFile(filepath.Join(inv, "sim.yaml"), []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	set, ps := inventory.Load(inv)
	if err := ps.Err(); err != nil {
		return nil, err
	}
	k.set = set
	lib, ps := template.Open(dir, templates.FS, k.mods)
	if err := ps.Err(); err != nil {
		return nil, err
	}
	k.lib = lib
	k.key, err = seal.Open(filepath.Join(dir, "key"))
	return k, err
}

// With returns a kit in which a shipped template says something else. Text that
// is no template panics: it is part of a test.
func (k Kit) With(file, text string) Kit {
	kind, name, _ := strings.Cut(strings.TrimSuffix(file, ".yaml"), "/")
	t, ps := template.Load(file, []byte(text), k.mods)
	if err := ps.Err(); err != nil {
		panic(err)
	}
	if t.Name != name || string(t.Kind) != kind {
		panic(file + " has another name")
	}
	k.lib = &altered{Templates: k.lib, t: t}
	return k
}

// altered is a library with one template of its own.
type altered struct {
	engine.Templates

	t *template.Template
}

func (a *altered) Get(kind template.Kind, name string) (*template.Template, error) {
	if kind == a.t.Kind && name == a.t.Name {
		return a.t, nil
	}
	return a.Templates.Get(kind, name)
}

// Store is a store that histories run on.
type Store interface {
	engine.Store
	// Join makes a node, and returns its id and what the end of its process does.
	Join(name string) (id string, die func())
	// Leases says whether who is not heard of for a while may be taken for dead, as
	// it is in every other history. With the locks of the embedded store who is
	// frozen keeps its jobs, and nobody else gets them.
	Leases() bool
}

// Reference is the reference store.
type Reference struct{ *store.Memory }

// Join makes a node.
func (s Reference) Join(name string) (id string, die func()) {
	return name, func() { s.Die(name) }
}

// Leases is true: the reference stands for all stores.
func (Reference) Leases() bool { return true }

// OnDisk is the store of files.
type OnDisk struct{ *store.Store }

// Leases is false.
func (OnDisk) Leases() bool { return false }

// Join makes a node. A lock is what tells that it lives; without it, it is dead.
func (s OnDisk) Join(name string) (id string, die func()) {
	n, err := s.Store.Join(context.Background(), name)
	if err != nil {
		panic(err)
	}
	return n.ID(), sync.OnceFunc(func() { _ = n.Leave() }) // one with running jobs stays known
}

// Bug is planted behind a seam, to see whether a history finds it. Its zero
// value changes nothing.
type Bug struct {
	Store  func(engine.Store) engine.Store
	Dialer func(engine.Dialer) engine.Dialer
	Kit    func(Kit) Kit
	// NoWatch has devices not look whether a batch comes too late.
	NoWatch bool
}

// World is one history: devices, processes, people and what happens to them. It
// lives in a bubble of testing/synctest.
type World struct {
	seed     uint64
	kit      Kit
	bug      Bug
	store    Store
	leases   bool // who is not heard of loses its jobs
	shaky    bool // the network is slow and often lost for seconds, when much is under way
	machines map[string]*Machine

	mu      sync.Mutex
	procs   int
	alive   map[*Proc]bool
	down    map[string]bool          // devices that the network does not reach
	slow    bool                     // devices take seconds for a step
	full    bool                     // the disk of the store
	away    bool                     // the store cannot be reached
	gone    map[string]bool          // nodes that are dead, or taken for dead
	silent  map[string]time.Duration // the longest time without a sign of life, by session
	log     []string                 // what was done, for people
	wrong   []string                 // what must never happen and did
	given   map[string]int           // how often the secret of a grant was handed out
	end     time.Time                // of the time in which things happen
	taken   map[string]bool          // accounts that people touched by hand
	strange bool                     // there are accounts that only look like ours
	bare    map[string]bool          // grants whose account a snapshot brought back; true: and somebody took that away
}

// NewWorld returns the world of a seed.
func NewWorld(seed uint64, kit *Kit, s Store, bug Bug) *World {
	w := &World{
		seed: seed, kit: *kit, bug: bug, machines: map[string]*Machine{}, alive: map[*Proc]bool{}, down: map[string]bool{},
		given: map[string]int{}, taken: map[string]bool{}, bare: map[string]bool{},
		gone: map[string]bool{}, silent: map[string]time.Duration{},
	}
	w.store, w.leases = &watch{Store: s, w: w}, s.Leases() && seed%2 == 0
	w.shaky = seed%4 == 1
	if bug.Kit != nil {
		w.kit = bug.Kit(w.kit)
	}
	for _, name := range deviceNames {
		w.machines[name] = NewMachine(name)
		w.machines[name].wants = w.wants
		w.machines[name].Disabled(int(seed / 2 % 5))
	}
	return w
}

// elevating reports whether accounts that were there before are elevated, and changed
// by hand.
func (w *World) elevating() bool { return w.seed%4 == 3 }

// offers are the credentials that people ask for.
func (w *World) offers() []string {
	if w.elevating() {
		return slices.Concat(credentials, elevations)
	}
	return credentials
}

func (w *World) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (w *World) bad(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

func (w *World) reachable(m *Machine) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.down[m.Name]
}

func (w *World) diskFull() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.full
}

func (w *World) slowness(p *Proc) time.Duration {
	w.mu.Lock()
	slow := w.slow
	w.mu.Unlock()
	if !slow {
		return 0
	}
	return time.Duration(p.draw(4000)) * time.Millisecond
}

// connected notes a connection that a cut network ends.
func (w *World) connected(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alive[c.p] = true
}

// late is how long a sent batch may be under way before the sender's system
// gives up: see TCP_USER_TIMEOUT in transport/ssh.
const late = 30 * time.Second

// deliver brings a batch to its machine, where it runs.
func (w *World) deliver(c *conn, p *program) {
	latency := 30
	if w.shaky {
		latency = 4000
	}
	d := time.Duration(c.p.draw(latency)+1) * time.Millisecond
	go func() {
		for begin, extra := time.Now(), true; ; {
			pass(d)
			rest := late - time.Since(begin)
			switch {
			case rest <= 0:
				p.kill()
				close(p.done)
				return
			case !c.p.reaches(c.m):
				d = min(rest, time.Second)
				extra = extra && rest > late/2
			case d == time.Second && extra: // sent again, some time after the network is back
				d, extra = time.Duration(p.rng.Int64N(int64(rest))), false
			default:
				p.run()
				return
			}
		}
	}()
}

// keyOf is the public key that a login uses.
func (*World) keyOf(l engine.Login) string {
	words := strings.Fields(l.PublicKey)
	return strings.Join(words[:min(2, len(words))], " ")
}

// inside runs f as a process, and returns when it is over or the process dead.
func (w *World) inside(p *Proc, f func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if n := p.draw(40); n < 3 { // somebody presses Ctrl-C
		time.AfterFunc(time.Duration(p.draw(5000))*time.Millisecond, cancel)
	}
	w.mu.Lock()
	w.alive[p] = true
	w.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	<-done
	w.mu.Lock()
	delete(w.alive, p)
	w.mu.Unlock()
	if p.isDead() {
		return
	}
	if running, err := w.store.Running(context.Background()); err == nil {
		for _, j := range running {
			if j.Node == p.node {
				w.bad("%s gave up job %s, which is still running for everybody else", p.node, j.ID)
			}
		}
	}
	p.Kill()
}

// proc starts a process that may meet with an accident.
func (w *World) proc(rng *rand.Rand, name string) *Proc {
	w.mu.Lock()
	name = fmt.Sprintf("%s-%d", name, w.procs)
	w.mu.Unlock()
	p := w.start(name)
	switch rng.IntN(8) {
	case 0, 1:
		p.killAt = 1 + rng.IntN(60)
	case 3, 4:
		if w.leases { // between its last look at the lease and what it sends
			p.stopSend, p.stop, p.lapse = 1+rng.IntN(5), time.Duration(rng.IntN(280))*time.Second, true
		}
	case 2:
		p.stopAt, p.stop, p.lapse = 1+rng.IntN(40), time.Duration(rng.IntN(400))*time.Second, rng.IntN(2) == 0 && w.leases
	}
	return p
}

// until is what tells the engine of a process how long its lease holds.
func (w *World) until(p *Proc) func(string) time.Time {
	if !w.leases || w.bug.NoWatch {
		return nil
	}
	return p.lease
}

// pass lets virtual time pass.
func pass(d time.Duration) { <-time.After(d) }

// cut takes a device off the network. Connections end on this side some time
// later; the device notices nothing.
func (w *World) cut(name string, length time.Duration, rng *rand.Rand) {
	w.mu.Lock()
	w.down[name] = true
	w.mu.Unlock()
	w.note("network of %s down for %s", name, length)
	notice := time.Duration(rng.IntN(45000)) * time.Millisecond
	if w.shaky {
		notice, length = notice/20, length/8
	}
	time.AfterFunc(notice, func() { w.reset(name, false) })
	time.AfterFunc(length, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.down[name] = false
	})
}

// reset ends all connections to a device.
func (w *World) reset(name string, noticed bool) {
	w.mu.Lock()
	var ends []*conn
	for p := range w.alive {
		p.mu.Lock()
		for c := range p.conns {
			if c.m.Name == name {
				ends = append(ends, c)
			}
		}
		p.mu.Unlock()
	}
	w.mu.Unlock()
	for _, c := range ends {
		c.end(noticed)
	}
}

// watch is the store below all processes: it sees what is committed.
type watch struct {
	Store

	w *World
}

func (s *watch) Create(ctx context.Context, c grant.Case, snaps []grant.Snapshot) error {
	err := s.Store.Create(ctx, c, snaps)
	if err != nil {
		return err
	}
	s.w.checkCase(&c)
	open, cerr := s.Cases(context.WithoutCancel(ctx), grant.Filter{Requester: c.Grant.Requester, Credential: c.Grant.Credential, States: openStates})
	open = slices.DeleteFunc(open, func(c grant.Case) bool { return c.Grant.Origin != "" }) // found on a device
	if cerr == nil && c.Grant.Origin == "" && len(open) > 1 {
		s.w.bad("%s holds %d grants of %s at once", c.Grant.Requester, len(open), c.Grant.Credential)
	}
	return nil
}

func (s *watch) Change(ctx context.Context, id string, fn func(*grant.Case) error) error {
	var is grant.Case
	err := s.Store.Change(ctx, id, func(c *grant.Case) error {
		if err := fn(c); err != nil {
			return err
		}
		is = *c
		is.Jobs, is.Events = slices.Clone(c.Jobs), slices.Clone(c.Events)
		return nil
	})
	if err == nil {
		s.w.checkCase(&is)
	}
	return err
}

var openStates = []string{string(grant.Requested), string(grant.WaitingApproval), string(grant.Creating), string(grant.Active), string(grant.Ending)}

// checkCase holds what was committed against what may be.
func (w *World) checkCase(c *grant.Case) {
	g := &c.Grant
	r := c.Removal()
	for _, e := range c.Events {
		w.note("    %s %s by %s %v", e.Grant, e.Action, e.Actor, e.Detail)
	}
	switch {
	case r == nil:
		w.bad("%s has no removal job", g.ID)
	case !g.State.Final() && (r.State == grant.Done || r.State == grant.JobCancelled):
		w.bad("%s is %s and its removal is %s", g.ID, g.State, r.State)
	case g.State == grant.Removed && !g.Receipt.Empty():
		w.bad("%s is removed with the receipt %+v", g.ID, g.Receipt)
	}
	if g.State.Final() && g.State != grant.Gone {
		for name, a := range w.machines[g.Device].Accounts() {
			if a.Owner == g.ID {
				w.bad("%s is %s and its account %s is on %s", g.ID, g.State, name, g.Device)
			}
		}
	}
}
