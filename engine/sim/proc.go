package sim

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/transport"
)

// Proc is a process of runner: a real engine whose store and devices are behind
// seams at which it can be killed, frozen, or kept waiting. A process that was
// killed does nothing any more: its goroutines end at the next seam.
type Proc struct {
	*engine.Engine

	w    *World
	node string
	die  func() // what the end of a process does to its node

	mu       sync.Mutex
	rng      *rand.Rand
	seams    int // that were passed
	killAt   int // the seam at which it is killed; 0: never
	stopAt   int // the seam at which it is frozen, for stopFor; 0: never
	stop     time.Duration
	stopSend int       // the batch before which it is frozen, for stop; 0: none
	lapse    bool      // its lease runs out when it is frozen for long
	frozen   time.Time // since then
	until    time.Time // frozen until then
	lapsed   bool      // its lease has run out
	cut      bool      // off the network
	dead     bool
	conns    map[*conn]bool
}

// draw returns a number below n from the process's own dice.
func (p *Proc) draw(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rng.IntN(n)
}

func (p *Proc) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// freeze stops the process for a while. The caller holds mu.
func (p *Proc) freeze() {
	p.frozen, p.until = time.Now(), time.Now().Add(p.stop)
	if p.lapse && p.stop > term {
		p.lapsed = true
		time.AfterFunc(term, func() { p.w.note("    %s is frozen and taken for dead", p.node); p.die() })
	}
}

// sends is the moment before a batch is sent.
func (p *Proc) sends() {
	p.mu.Lock()
	if p.stopSend--; p.stopSend == 0 {
		p.freeze()
	}
	p.mu.Unlock()
	p.seam()
}

// term is how long a worker that is not heard of keeps its jobs where leases
// tell who lives; sure is how long it may count on it itself.
const (
	term = 5 * time.Second
	sure = 4 * time.Second
)

// lease is until when the process may count on its lease. While it runs it is
// heard of all the time.
func (p *Proc) lease(string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lapsed {
		return p.frozen.Add(sure)
	}
	return time.Now().Add(sure)
}

// seam is a moment at which things can happen to the process.
func (p *Proc) seam() {
	p.mu.Lock()
	p.seams++
	if p.killAt > 0 && p.seams >= p.killAt && !p.dead {
		p.mu.Unlock()
		p.Kill()
		p.mu.Lock()
	}
	if p.stopAt > 0 && p.seams == p.stopAt {
		p.freeze()
	}
	d := time.Duration(1 + p.rng.IntN(2_000_000))
	if rest := time.Until(p.until); rest > 0 {
		d += rest
	}
	dead := p.dead
	p.mu.Unlock()
	if !dead {
		pass(d)
		dead = p.isDead()
	}
	if dead {
		runtime.Goexit()
	}
}

// Kill ends the process as kill -9 does: devices see its connections end, unless
// the network is down.
func (p *Proc) Kill() {
	p.mu.Lock()
	p.dead = true
	conns := p.conns
	p.conns = map[*conn]bool{}
	p.mu.Unlock()
	for c := range conns {
		c.end(p.reaches(c.m))
	}
	p.w.note("    %s is killed", p.node)
	p.die()
}

// books is the store as one process sees it.
type books struct {
	Store

	p *Proc
}

// errDisk is what a write says when the disk is full.
var errDisk = errors.New("store: the disk is full")

// write passes the seams around a write, which may fail.
func (b *books) write(do func() error) error {
	b.p.seam()
	if b.p.w.diskFull() && b.p.draw(2) == 0 {
		return errDisk
	}
	if err := b.p.away(); err != nil {
		return err
	}
	err := do()
	b.p.seam()
	if err == nil {
		err = b.p.away() // the answer is lost
	}
	return err
}

// read passes the seam before a look at the store.
func (b *books) read() error {
	b.p.seam()
	return b.p.away()
}

func (b *books) Create(ctx context.Context, c grant.Case, snaps []grant.Snapshot) error {
	return b.write(func() error { return b.Store.Create(ctx, c, snaps) })
}

func (b *books) Change(ctx context.Context, id string, fn func(*grant.Case) error) error {
	return b.write(func() error { return b.Store.Change(ctx, id, fn) })
}

func (b *books) PutExecution(ctx context.Context, f grant.Fence, e grant.Execution, rs ...grant.StepResult) error {
	return b.write(func() error { return b.Store.PutExecution(ctx, f, e, rs...) })
}

func (b *books) PutChanges(ctx context.Context, f grant.Fence, id string, cs []grant.Change) error {
	return b.write(func() error { return b.Store.PutChanges(ctx, f, id, cs) })
}

func (b *books) ChangeSession(ctx context.Context, id string, fn func(*grant.Session) error) error {
	return b.write(func() error { return b.Store.ChangeSession(ctx, id, fn) })
}

func (b *books) Case(ctx context.Context, id string) (grant.Case, error) {
	if err := b.read(); err != nil {
		return grant.Case{}, err
	}
	return b.Store.Case(ctx, id)
}

func (b *books) Held(ctx context.Context, f grant.Fence) (bool, error) {
	if err := b.read(); err != nil {
		return false, err
	}
	return b.Store.Held(ctx, f)
}

func (b *books) Dead(ctx context.Context) ([]string, error) {
	if err := b.read(); err != nil {
		return nil, err
	}
	return b.Store.Dead(ctx)
}

func (b *books) Session(ctx context.Context, id string) (grant.Session, error) {
	if err := b.read(); err != nil {
		return grant.Session{}, err
	}
	return b.Store.Session(ctx, id)
}

// Sessions is followed by a seam: what was read may be old when it is used.
func (b *books) Sessions(ctx context.Context, f grant.Filter) ([]grant.Session, error) {
	list, err := b.Store.Sessions(ctx, f)
	if len(list) > 0 {
		b.p.seam()
	}
	return list, errors.Join(err, b.p.away())
}

// AppendLog has no seam: the log holds a lock of its own while it writes.
func (b *books) AppendLog(ctx context.Context, chunks []grant.Chunk) error {
	if b.p.isDead() {
		return grant.ErrLeaseLost
	}
	return b.Store.AppendLog(ctx, chunks)
}

// wires reaches the machines for one process.
type wires struct{ p *Proc }

var _ engine.Dialer = wires{}

// dialTimeout is how long nobody answers before a dial gives up.
const dialTimeout = 10 * time.Second

func (d wires) reach(ctx context.Context, c *inventory.Connection) (*Machine, error) {
	d.p.seam()
	m := d.p.w.machines[c.Device]
	if d.p.reaches(m) {
		return m, nil
	}
	t := time.NewTimer(dialTimeout)
	defer t.Stop()
	err := errors.New("nobody answers")
	select {
	case <-t.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	d.p.seam()
	return nil, &transport.Error{Phase: transport.PhaseDial, Device: m.Name, Code: "dial.timeout", SafeToRetry: true, Step: -1, Err: err}
}

// Dial connects.
func (d wires) Dial(ctx context.Context, c *inventory.Connection) (transport.Conn, error) {
	m, err := d.reach(ctx, c)
	if err != nil {
		return nil, err
	}
	return d.open(m), nil
}

func (d wires) open(m *Machine) *conn {
	n := &conn{p: d.p, m: m, over: make(chan struct{})}
	d.p.mu.Lock()
	d.p.conns[n] = true
	d.p.mu.Unlock()
	d.p.w.connected(n)
	return n
}

// Prove logs in as the account of a grant.
func (d wires) Prove(ctx context.Context, c *inventory.Connection, l engine.Login) error {
	m, err := d.reach(ctx, c)
	if err != nil {
		return err
	}
	why := m.login(l.Account, l.Password.Reveal(), d.p.w.keyOf(l))
	d.p.seam()
	if why != "" {
		return &transport.Error{Phase: transport.PhaseAuth, Device: m.Name, Code: "auth.refused", SafeToRetry: true, Step: -1, Err: errors.New(why)}
	}
	return nil
}

// Program has nothing to show.
func (wires) Program(*inventory.Connection, transport.Batch) (string, error) { return "", nil }

// conn is a connection of a process to a machine.
type conn struct {
	p *Proc
	m *Machine

	mu      sync.Mutex
	prog    *program
	shell   int // of a session; 0: none
	ended   bool
	noticed bool          // by the machine
	over    chan struct{} // closed when it ended
}

// end ends a connection; the machine notices, or does not.
func (c *conn) end(noticed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended, c.noticed = true, noticed
	close(c.over)
	if c.prog != nil && noticed {
		c.prog.orphan()
	}
	if c.shell != 0 && noticed {
		c.m.HangUp(c.shell)
	}
}

// Peer says who answered.
func (c *conn) Peer() transport.Peer {
	return transport.Peer{Address: c.m.Name + ":22", Identity: "SHA256:" + c.m.Name, Software: "sim"}
}

// Close gives it back.
func (c *conn) Close() error {
	c.p.mu.Lock()
	delete(c.p.conns, c)
	c.p.mu.Unlock()
	c.end(true)
	return nil
}

func (c *conn) lost(safe bool, step int, err error) error {
	return &transport.Error{Phase: transport.PhaseExec, Device: c.m.Name, Code: "exec.lost", SafeToRetry: safe, Step: step, Err: err}
}

// Run sends a batch and delivers its events.
func (c *conn) Run(ctx context.Context, b transport.Batch, sink transport.Sink) error {
	c.p.sends()
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return c.lost(true, -1, errors.New("the connection was lost before"))
	}
	prog := newProgram(c.m, b, rand.New(rand.NewPCG(uint64(c.p.draw(1<<30)), 1)), c.p.w.slowness(c.p)) //nolint:gosec // dice
	c.prog = prog
	c.mu.Unlock()
	c.p.w.deliver(c, prog)
	step := -1
	hand := func(e transport.Event) {
		if e.Kind == transport.Began {
			step = e.Step
		}
		sink(e)
	}
	for {
		select {
		case e := <-prog.events:
			hand(e)
			if e.Kind == transport.Ended {
				c.p.seam()
			}
			continue
		default:
		}
		select {
		case e := <-prog.events:
			hand(e)
		case <-prog.done:
			select {
			case e := <-prog.events:
				hand(e)
				continue
			default:
			}
			c.p.seam()
			if c.finished(prog) {
				return nil
			}
			return c.lost(false, step, errors.New("the device ended the program"))
		case <-c.over:
			c.p.seam()
			return c.lost(false, step, errors.New("the connection was lost"))
		case <-ctx.Done():
			return c.abandon(prog, step, ctx.Err())
		}
	}
}

// abandon has the device stop a program, if it arrived and can be reached.
func (c *conn) abandon(p *program, step int, cause error) error {
	stopped := false
	select {
	case <-p.begun:
		if c.p.reaches(c.m) {
			p.kill()
			<-p.done
			stopped = true
		}
	default:
	}
	c.end(c.p.reaches(c.m))
	c.p.seam()
	return &transport.Error{Phase: transport.PhaseExec, Device: c.m.Name, Code: "cancelled", Stopped: stopped, Step: step, Err: cause}
}

// finished reports whether a program came to its end by itself.
func (c *conn) finished(p *program) bool {
	select {
	case <-p.killed:
		return false
	case <-p.alone:
		return false
	default:
		return true
	}
}

// start starts a process.
func (w *World) start(name string) *Proc {
	w.mu.Lock()
	w.procs++
	n := w.procs
	rng := rand.New(rand.NewPCG(w.seed, uint64(n))) //nolint:gosec // dice
	w.mu.Unlock()
	p := &Proc{w: w, rng: rng, conns: map[*conn]bool{}}
	node, die := w.store.Join("n-" + name)
	p.node, p.die = node, func() {
		w.mu.Lock()
		w.gone[node] = true
		w.mu.Unlock()
		die()
	}
	var s engine.Store = &books{Store: w.store, p: p}
	if w.bug.Store != nil {
		s = w.bug.Store(s)
	}
	var d engine.Dialer = wires{p}
	if w.bug.Dialer != nil {
		d = w.bug.Dialer(d)
	}
	p.Engine = &engine.Engine{
		Store: s, Node: p.node, Templates: w.kit.lib, Inventory: w.kit.set, Modules: w.kit.mods, Dialer: d, Key: w.kit.key, Pinned: w.kit.pinned,
		Now:   time.Now, // one clock: the processes of the embedded store are on one machine
		Until: w.until(p), Log: slog.New(slog.DiscardHandler), Jitter: func() float64 { return float64(p.draw(1000)) / 1000 },
	}
	return p
}
