package sim

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"runner/engine/transport"
)

// program is a batch that runs on a machine.
type program struct {
	m      *Machine
	b      transport.Batch
	rng    *rand.Rand
	slow   time.Duration        // what each step takes at least
	events chan transport.Event // with room for all of them
	begun  chan struct{}        // it arrived
	done   chan struct{}        // it ended, in whatever way
	killed chan struct{}        // it is told to end at once
	alone  chan struct{}        // nobody listens any more
	once   struct{ kill, alone sync.Once }
	step   int // that runs, for the progress file
}

// events of a batch of steps fit into this many.
const room = 64

func newProgram(m *Machine, b transport.Batch, rng *rand.Rand, slow time.Duration) *program {
	return &program{
		m: m, b: b, rng: rng, slow: slow, events: make(chan transport.Event, room*(len(b.Steps)+1)),
		begun: make(chan struct{}), done: make(chan struct{}), killed: make(chan struct{}), alone: make(chan struct{}),
	}
}

func (p *program) kill()   { p.once.kill.Do(func() { close(p.killed) }) }
func (p *program) orphan() { p.once.alone.Do(func() { close(p.alone) }) }

// rest waits d on the device, and reports whether the program still lives.
func (p *program) rest(d time.Duration) bool {
	select {
	case <-p.killed:
		return false
	default:
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.killed:
		return false
	}
}

// left reports whether the program is to stop because nobody listens.
func (p *program) left() bool {
	select {
	case <-p.alone:
		return !p.b.KeepGoing
	default:
		return false
	}
}

// run works through the steps, as the coordinator does on a real device.
func (p *program) run() {
	defer close(p.done)
	close(p.begun)
	m := p.m
	if p.b.Takeover && !p.b.Guarded {
		p.takeOver()
	}
	m.mu.Lock()
	m.running[p] = true
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.running, p)
		m.mu.Unlock()
	}()
	said := map[int]map[string]string{}
	get := func(r transport.Ref) string {
		if v, ok := said[r.Step][r.Key]; ok {
			return v
		}
		return r.Default
	}
	failed := false
	for i, s := range p.b.Steps {
		if i > 0 && p.left() {
			return
		}
		if failed {
			p.events <- transport.Event{Kind: transport.Skipped, Step: s.N, Reason: "failed"}
			continue
		}
		if !transport.Holds(s.When, get) {
			said[s.N] = map[string]string{"skipped": "true", "ran": "false", "changed": "false", "failed": "false"}
			p.events <- transport.Event{Kind: transport.Skipped, Step: s.N, Reason: "when"}
			continue
		}
		p.events <- transport.Event{Kind: transport.Began, Step: s.N, At: time.Now()}
		took := time.Duration(1+p.rng.IntN(40)) * time.Millisecond
		p.step = s.N
		alive := p.rest(took)
		if !alive && p.rng.IntN(3) > 0 {
			return // it had not begun to act
		}
		alive = alive && !m.fails()
		c := p.call(s, get, !alive && p.rng.IntN(2) == 0)
		if !alive || !p.rest(p.slow) {
			return
		}
		failed = p.tell(s, c, said, get)
		if i == 0 && p.b.Guarded && p.b.Takeover && !failed {
			p.takeOver()
		}
	}
}

// takeOver ends earlier programs of the scope and tells how far they were.
func (p *program) takeOver() {
	p.m.mu.Lock()
	var others []*program
	for o := range p.m.running {
		if o.b.Scope == p.b.Scope && o != p {
			others = append(others, o)
		}
	}
	p.m.mu.Unlock()
	for _, o := range others {
		o.kill()
		select {
		case <-o.done:
		case <-p.killed:
			return
		}
		p.events <- transport.Event{Kind: transport.Fact, Step: -1, Key: "progress." + o.b.ID, Value: "step " + strconv.Itoa(o.step)}
	}
}

// call runs the body of a step, in one go or to the middle.
func (p *program) call(s transport.Step, get func(transport.Ref) string, half bool) *call {
	c := &call{m: p.m, mode: s.Mode, scope: p.b.Scope, half: half, args: map[string]string{}, out: map[string]string{}}
	for _, a := range s.Args {
		c.args[a.Name] = transport.TextOf(a.Value, get)
	}
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	if body := bodies[s.Body.Name]; body != nil {
		body(c)
	} else {
		c.fail("this device knows nothing of %s", s.Body.Name)
	}
	return c
}

// tell says what became of a step, and reports whether the batch ends with it.
func (p *program) tell(s transport.Step, c *call, said map[int]map[string]string, get func(transport.Ref) string) (ends bool) {
	c.out["rc"], c.out["changed"], c.out["failed"] = strconv.Itoa(c.rc), strconv.FormatBool(c.changed), strconv.FormatBool(c.rc != 0)
	c.out["ran"], c.out["skipped"], c.out["attempts"] = "true", "false", "1"
	said[s.N] = c.out
	changed, failed := c.changed, c.rc != 0
	if s.ChangedWhen != nil {
		changed = transport.Holds(s.ChangedWhen, get)
	}
	if s.FailedWhen != nil {
		failed = transport.Holds(s.FailedWhen, get)
	}
	if s.Until != nil {
		failed = !transport.Holds(s.Until, get)
	}
	c.out["changed"], c.out["failed"] = strconv.FormatBool(changed), strconv.FormatBool(failed)
	for k, v := range c.out {
		switch k {
		case "rc", "changed", "failed", "ran", "skipped", "attempts":
		default:
			p.events <- transport.Event{Kind: transport.Fact, Step: s.N, Key: k, Value: v}
		}
	}
	for _, st := range c.states {
		p.events <- transport.Event{Kind: transport.Fact, Step: s.N, Key: "state." + st[0], Value: st[1]}
	}
	if text := c.out["msg"]; text != "" {
		p.events <- transport.Event{Kind: transport.Output, Step: s.N, Stream: transport.Stderr, Data: []byte(strings.TrimSpace(text) + "\n")}
	}
	p.events <- transport.Event{Kind: transport.Ended, Step: s.N, At: time.Now(), RC: c.rc, Changed: changed, Failed: failed, Attempts: 1}
	return failed && !s.Continue
}

// String names the program for messages.
func (p *program) String() string { return fmt.Sprintf("batch %s of %s", p.b.ID, p.b.Scope) }
