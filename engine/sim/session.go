package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/transport"
)

// sitting reports whether people open sessions, as in every fourth history.
func (w *World) sitting() bool { return w.seed/4%4 == 1 }

// sitter opens sessions, one after the other, by grants that end with them.
func (w *World) sitter(who string, rng *rand.Rand) {
	offers := w.offers()
	for w.pause(rng, 2*time.Second, 90*time.Second) {
		p := w.proc(rng, who+"-sits")
		more := 1 + rng.IntN(8) // a session passes a seam each second
		p.killAt, p.stopAt = p.killAt*more, p.stopAt*more
		l := &launch{w: w, p: p, who: who, cred: offers[rng.IntN(len(offers))], length: time.Duration(rng.IntN(120)) * time.Second}
		if rng.IntN(4) == 0 {
			p.cutOff(time.Duration(rng.IntN(60))*time.Second, time.Duration(1+rng.IntN(40))*time.Second)
		}
		w.inside(p, l.run)
	}
}

// killer ends sessions of others.
func (w *World) killer(rng *rand.Rand) {
	for w.pause(rng, 10*time.Second, 2*time.Minute) {
		p, pick := w.proc(rng, "killer"), rng.IntN(1<<20)
		w.inside(p, func(ctx context.Context) {
			open, err := p.Store.Sessions(ctx, grant.Filter{States: []string{"open"}, Limit: 100})
			if err != nil || len(open) == 0 {
				return
			}
			s := open[pick%len(open)]
			c, err := p.End(ctx, s.Grant, "ops", "end")
			if err == nil {
				c, err = p.Remove(ctx, c)
			}
			w.note("%s: killed session %s of %s: %s (%v)", p.node, s.ID, s.Grant, c.Grant.State, err)
		})
	}
}

// launch is a session from its request to its end, as runner launch goes about it.
type launch struct {
	w      *World
	p      *Proc
	who    string
	cred   string
	length time.Duration
	held   grant.Session
	calm   func() // ends the signs of life from before the session is attended
}

func (l *launch) run(ctx context.Context) {
	w, p := l.w, l.p
	c, err := l.request(ctx)
	if err != nil {
		w.note("%s: no session by %s: %v", p.node, l.cred, err)
		return
	}
	l.held = *c.Opens
	keep := context.WithoutCancel(ctx)
	l.beat(keep)
	defer l.calm()
	id := c.Grant.ID
	status, by := 0, grant.SessionNever
	if c, err = w.create(ctx, p, c); err == nil && c.Grant.State == grant.Active && ctx.Err() == nil {
		w.note("%s: session %s of %s", p.node, l.held.ID, id)
		status, err = l.sit(ctx, &c)
		by = engine.SessionEndedBy(err)
	}
	c, eerr := p.EndSession(keep, l.held, l.who, by, status)
	if eerr == nil {
		c, eerr = w.finish(keep, p, c)
	}
	w.note("%s: session %s of %s ended by %s (%v): %s (%v)", p.node, l.held.ID, id, by, err, c.Grant.State, eerr)
}

// request asks for the grant, after what is left of the session before is removed.
func (l *launch) request(ctx context.Context) (grant.Case, error) {
	if _, err := l.p.Reap(ctx); err != nil {
		return grant.Case{}, err
	}
	ask := engine.Ask{Credential: l.cred, Requester: l.who, Caller: l.who, For: time.Duration(60+l.p.draw(120)) * time.Second, Session: &engine.SessionAsk{Kind: grant.SessionShell, Client: l.p.node}}
	c, err := l.p.Request(ctx, ask)
	denied, is := errors.AsType[*engine.DeniedError](err)
	if !is || denied.Existing == nil || denied.Existing.State != grant.Ending {
		return c, err
	}
	old, oerr := l.p.Store.Case(ctx, denied.Existing.ID)
	if oerr == nil {
		old, oerr = l.w.finish(ctx, l.p, old)
	}
	if oerr != nil || !old.Grant.State.Final() {
		return c, errors.Join(err, oerr)
	}
	return l.p.Request(ctx, ask)
}

// beat tells that the process lives, until calm is called.
func (l *launch) beat(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.p.Beat(ctx, l.held)
	}()
	l.calm = sync.OnceFunc(func() { stop(); <-done })
}

// sit logs in and stays until the person leaves, the session has to end, or the
// connection is lost.
func (l *launch) sit(ctx context.Context, c *grant.Case) (int, error) {
	w, p := l.w, l.p
	password := ""
	if c.Grant.Creates {
		_, s, err := p.Collect(context.WithoutCancel(ctx), c.Grant.ID, l.who)
		if err != nil {
			return 1, err
		}
		w.handed(c.Grant.ID)
		password = s.Password
	}
	d := wires{p}
	m, err := d.reach(ctx, &inventory.Connection{Device: c.Grant.Device})
	if err != nil {
		return 1, err
	}
	n := d.open(m)
	defer func() {
		n.end(p.reaches(m)) // who is cut off cannot hang up
		_ = n.Close()
	}()
	var why string
	if n.shell, why = m.Enter(c.Grant.Account, password); why != "" {
		return 1, &transport.Error{Phase: transport.PhaseAuth, Device: m.Name, SafeToRetry: true, Step: -1, Err: errors.New(why)}
	}
	ctx, cut := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		l.calm()
		cut(p.Attend(ctx, l.held, c.Grant.Expires, func(time.Time) {}))
	}()
	leaves := time.NewTimer(l.length)
	defer leaves.Stop()
	select {
	case <-leaves.C:
	case <-n.over:
		err = n.lost(false, -1, errors.New("the connection was lost"))
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	p.seam()
	cut(nil)
	<-watched
	return 0, err
}

// finish runs the removal of a grant that was ended, or waits for whoever does.
func (*World) finish(ctx context.Context, p *Proc, c grant.Case) (grant.Case, error) {
	for !c.Grant.State.Final() {
		r := c.Removal()
		running := slices.ContainsFunc(c.Jobs, func(j grant.Job) bool { return j.State == grant.Running })
		if !running {
			if !r.DueAt(p.Now()) {
				return c, nil
			}
			before := r.Attempt
			out, err := p.Remove(ctx, c)
			if err != nil {
				return out, err
			}
			if c = out; c.Removal().Attempt > before && !slices.ContainsFunc(c.Jobs, func(j grant.Job) bool { return j.State == grant.Running }) {
				return c, ctx.Err()
			}
		}
		pass(time.Second)
		if err := ctx.Err(); err != nil {
			return c, err
		}
		if _, err := p.Reap(ctx); err != nil {
			return c, err
		}
		var err error
		if c, err = p.Store.Case(ctx, c.Grant.ID); err != nil {
			return c, err
		}
	}
	return c, nil
}

// Enter logs in to an account and opens a shell, which works on the machine. An
// account that was there before has a login of its own.
func (m *Machine) Enter(name, password string) (pid int, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.accounts[name]; a != nil && a.Owner == Foreign {
		if a.Locked || a.expired(m.now()) {
			return 0, "the account is disabled"
		}
	} else if why := m.refuses(name, password, ""); why != "" {
		return 0, why
	}
	m.pid += 2
	uid, in := m.accounts[name].UID, m.groupsOf(name)
	m.procs = append(m.procs, Process{PID: m.pid - 1, UID: uid, Command: "bash", Groups: in})
	if m.pid%3 == 0 {
		m.procs = append(m.procs, Process{PID: m.pid, UID: uid, Command: "nohup", Groups: in})
	}
	return m.pid - 1, ""
}

// HangUp ends a shell whose connection has ended.
func (m *Machine) HangUp(pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.procs = slices.DeleteFunc(m.procs, func(p Process) bool { return p.PID == pid })
}

// cutOff takes the network of a process away, later and for a while: it reaches no
// device, nor a store that is elsewhere, which takes it for dead after a time.
func (p *Proc) cutOff(later, length time.Duration) {
	time.AfterFunc(later, func() {
		p.w.note("    %s is cut off for %s", p.node, length)
		p.mu.Lock()
		p.cut = true
		if p.w.leases && length > term && !p.lapsed {
			p.frozen, p.lapsed = time.Now(), true
			time.AfterFunc(term, func() { p.w.note("    %s is taken for dead", p.node); p.die() })
		}
		notice := time.Duration(p.rng.IntN(45000)) * time.Millisecond
		p.mu.Unlock()
		time.AfterFunc(notice, func() {
			p.mu.Lock()
			var ends []*conn
			for c := range p.conns {
				ends = append(ends, c)
			}
			p.mu.Unlock()
			for _, c := range ends {
				c.end(false)
			}
		})
		time.AfterFunc(length, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.cut = false
		})
	})
}

// reaches reports whether a machine can be reached from a process.
func (p *Proc) reaches(m *Machine) bool {
	p.mu.Lock()
	cut := p.cut
	p.mu.Unlock()
	return !cut && p.w.reachable(m)
}

// errAway is what a store says that cannot be reached.
var errAway = errors.New("store: the connection was lost")

// away returns errAway while the store cannot be reached from a process.
func (p *Proc) away() error {
	p.mu.Lock()
	cut := p.cut && p.w.leases
	p.mu.Unlock()
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if cut || p.w.away {
		return errAway
	}
	return nil
}

// ChangeSession holds what becomes of a session against what may be.
func (s *watch) ChangeSession(ctx context.Context, id string, fn func(*grant.Session) error) error {
	var was, is grant.Session
	err := s.Store.ChangeSession(ctx, id, func(x *grant.Session) error {
		was = *x
		err := fn(x)
		is = *x
		return err
	})
	if err != nil {
		return err
	}
	w := s.w
	for _, e := range is.Events {
		w.note("    %s %s by %s %v", e.Grant, e.Action, e.Actor, e.Detail)
	}
	w.mu.Lock()
	w.silent[id] = max(w.silent[id], is.Beat.Sub(was.Beat))
	silent, dead := max(w.silent[id], time.Since(was.Beat)), w.gone[was.Node]
	w.mu.Unlock()
	if is.Ended.IsZero() || !was.Ended.IsZero() {
		return nil
	}
	c, err := s.Case(context.WithoutCancel(ctx), is.Grant)
	switch g := &c.Grant; {
	case err != nil:
		w.bad("the grant of session %s: %v", id, err)
	case g.State == grant.Active, g.State == grant.Requested, g.State == grant.Creating && g.Ended.IsZero():
		w.bad("session %s is over (%s), and its grant %s is %s", id, is.EndedBy, g.ID, g.State)
	case is.EndedBy == grant.SessionGone && !dead && silent < grant.SessionPatience-time.Millisecond:
		w.bad("session %s of %s was taken for gone, and its program lives", id, is.Node)
	}
	return nil
}

// abandoned notes sessions that nobody ended although a sweep that began at from has
// looked at them.
func (w *World) abandoned(ctx context.Context, from time.Time) {
	open, err := w.store.Sessions(context.WithoutCancel(ctx), grant.Filter{States: []string{"open"}, Limit: 1 << 20})
	if err != nil {
		w.bad("sessions: %v", err)
	}
	for _, s := range open {
		if from.Sub(s.Beat) > grant.SessionPatience {
			w.bad("session %s of %s is silent since %s, and a sweep after that left it", s.ID, s.Grant, s.Beat.Format(time.TimeOnly))
		}
	}
}
