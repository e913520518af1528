package verify

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/store"
	"runner/engine/transport"
	"runner/engine/transport/ssh"
)

// The seams of the engine behind which a worker is stopped. The engine is the
// real one and knows nothing of it.

// point is a step as it goes to the device: one of the template, an undo of a
// recorded change, or a call of the engine's own.
type point struct {
	n    int
	name string
}

// moment is when a worker is stopped at a step.
type moment string

// The moments at which a step can be cut off.
const (
	// Began: the step has begun. The worker is killed; the step goes on with
	// nobody who listens.
	began moment = "begun"
	// done: the step has done its work and the worker has not heard of it. The
	// connection is lost; what ran on the device hangs.
	done moment = "done"
	// heard: the batch of the step is over and the worker is killed before it
	// stored any of it.
	heard moment = "heard"
)

// cut says where a worker is stopped.
type cut struct {
	at    point
	when  moment
	dial  bool // before it connects; at and when do not count
	fired bool
}

// errStopped is what a worker gets that was killed, wherever it turns.
var errStopped = errors.New("verify: the worker was stopped here")

// books is the store as one worker sees it. Once dead, what the worker writes
// is refused, as it is when its lease was taken away.
type books struct {
	*store.Memory

	dead atomic.Bool
}

var _ engine.Store = (*books)(nil)

func (b *books) refused() error {
	if b.dead.Load() {
		return grant.ErrLeaseLost
	}
	return nil
}

// Create refuses a dead worker.
func (b *books) Create(ctx context.Context, c grant.Case, snaps []grant.Snapshot) error {
	if err := b.refused(); err != nil {
		return err
	}
	return b.Memory.Create(ctx, c, snaps)
}

// Change refuses a dead worker.
func (b *books) Change(ctx context.Context, id string, fn func(*grant.Case) error) error {
	if err := b.refused(); err != nil {
		return err
	}
	return b.Memory.Change(ctx, id, fn)
}

// PutExecution refuses a dead worker.
func (b *books) PutExecution(ctx context.Context, f grant.Fence, e grant.Execution, rs ...grant.StepResult) error {
	if err := b.refused(); err != nil {
		return err
	}
	return b.Memory.PutExecution(ctx, f, e, rs...)
}

// PutChanges refuses a dead worker.
func (b *books) PutChanges(ctx context.Context, f grant.Fence, grantID string, cs []grant.Change) error {
	if err := b.refused(); err != nil {
		return err
	}
	return b.Memory.PutChanges(ctx, f, grantID, cs)
}

// AppendLog refuses a dead worker.
func (b *books) AppendLog(ctx context.Context, chunks []grant.Chunk) error {
	if err := b.refused(); err != nil {
		return err
	}
	return b.Memory.AppendLog(ctx, chunks)
}

// dialer reaches the machine for one worker, over connections of its own.
type dialer struct {
	engine.SSHDialer

	w *worker
}

// Dial connects, unless the worker is to be stopped before.
func (d *dialer) Dial(ctx context.Context, c *inventory.Connection) (transport.Conn, error) {
	if x := d.w.cut; x != nil && x.dial {
		d.w.kill()
		return nil, &transport.Error{Phase: transport.PhaseDial, Device: c.Device, SafeToRetry: true, Step: -1, Err: errStopped}
	}
	conn, err := d.SSHDialer.Dial(ctx, c)
	if err != nil {
		return nil, err
	}
	return &wire{Conn: conn, w: d.w}, nil
}

// wire is a connection that notes which steps go over it and ends in the
// middle of one.
type wire struct {
	transport.Conn

	w *worker
}

// goOn is the file on the machine for which a step that was cut off waits.
const goOn = "/run/runner-verify-go"

// What stands around the body of a step that is cut off. The device does not
// wait for anybody by itself: it would be far beyond the step before the
// connection is cut.
const (
	holdBefore = "while [ ! -e " + goOn + " ]; do sleep 0.02 2>/dev/null || sleep 1; done\n"
	holdAround = "_verify_step() {\n:\n"
	holdAfter  = "\n}\n_verify_step\n_out verify.done true\nwhile :; do sleep 1; done"
	doneFact   = "verify.done"
)

// Run passes a batch on, with the body of the step that is to be cut off
// held where the worker is stopped.
func (c *wire) Run(ctx context.Context, b transport.Batch, sink transport.Sink) error {
	x := c.w.cut
	here := false
	for i := range b.Steps {
		s := &b.Steps[i]
		if s.Mode == transport.Apply {
			c.w.names[s.N] = s.Name
		}
		if x == nil || s.N != x.at.n || s.Mode != transport.Apply || x.dial || x.fired {
			continue
		}
		here = true
		switch x.when {
		case began:
			s.Body.Name, s.Body.Text = s.Body.Name+"_verify_begun", holdBefore+s.Body.Text
		case done:
			s.Body.Name, s.Body.Text = s.Body.Name+"_verify_done", holdAround+s.Body.Text+holdAfter
		case heard:
		}
	}
	gone := false
	err := c.Conn.Run(ctx, b, func(e transport.Event) {
		if e.Kind == transport.Began {
			c.w.sawBegin(e.Step)
		}
		if gone {
			return // it is said to nobody any more
		}
		if here && e.Step == x.at.n {
			switch {
			case x.when == began && e.Kind == transport.Began:
				sink(e)
				gone = true
				c.w.kill()
				c.w.letGo()
				return
			case x.when == done && e.Kind == transport.Fact && e.Key == doneFact:
				gone = true
				c.w.lose()
				return
			}
		}
		sink(e)
	})
	if here && x.when == heard && err == nil {
		c.w.kill()
		return &transport.Error{Phase: transport.PhaseExec, Step: -1, Err: errStopped}
	}
	return err
}

// worker is one process of runner: an engine with a node, a view of the store
// and connections of its own. It is used by one goroutine.
type worker struct {
	*engine.Engine

	stage *stage
	books *books
	ssh   *ssh.Dialer
	cut   *cut
	names map[int]string // of the steps that were sent, by number
	began []point        // those that began, in order
}

// worker starts one. It is closed by whoever asked for it.
func (s *stage) worker(c *cut) *worker {
	s.workers++
	w := &worker{stage: s, books: &books{Memory: s.store}, ssh: &ssh.Dialer{}, cut: c, names: map[int]string{}}
	w.Engine = &engine.Engine{
		Store: w.books, Node: "n-" + number(s.workers), Templates: s, Inventory: s.set, Modules: s.cfg.Modules,
		Dialer: &dialer{SSHDialer: engine.SSHDialer{SSH: w.ssh}, w: w}, Key: s.key, Now: time.Now, Log: s.log,
	}
	return w
}

// Calls of the engine's own: from firstLook on they look at the device before
// anything is changed, and surfaceName is what reads back.
const (
	firstLook   = 1000000
	firstProbe  = 2000000
	surfaceName = "surface"
)

// sawBegin notes a step that began, but for looks at what a step will change.
func (w *worker) sawBegin(n int) {
	p := point{n, w.names[n]}
	switch {
	case n >= firstLook && n < firstProbe:
		p.name = "(look at what is there)"
	case p.name == surfaceName:
		p.name = "(read back what is left)"
	}
	if p.name != "" && !slices.Contains(w.began, p) {
		w.began = append(w.began, p)
	}
}

// lose ends its connections, as a network does.
func (w *worker) lose() {
	w.cut.fired = true
	_ = w.ssh.Close() // what is in use ends, too; there is nothing else to tell
}

// kill ends the worker: it writes nothing any more, and its connections end as
// those of a process do that was killed.
func (w *worker) kill() {
	w.books.dead.Store(true)
	w.lose()
	w.stage.store.Die(w.Node)
}

// letGo lets what hangs on the machine go on.
func (w *worker) letGo() {
	_ = os.WriteFile(w.stage.machine.RootDir()+goOn, nil, 0o600) // without it the step hangs: it is cut off all the same
}

// close ends the connections of a worker.
func (w *worker) close() { _ = w.ssh.Close() }
