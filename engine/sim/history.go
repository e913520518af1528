package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"runner/engine"
	"runner/engine/grant"
)

// horizon is how long things happen in a history.
const horizon = 6 * time.Minute

// Live lets things happen for a while, then ends every trouble and has fresh
// processes sweep. It returns what is wrong after that.
func (w *World) Live() []string {
	w.end = time.Now().Add(horizon)
	var actors sync.WaitGroup
	for i, who := range people {
		if w.sitting() && i < 2 {
			actors.Go(func() { w.sitter(who, w.dice(210+i)) })
		}
		if !w.sitting() || i != 1 { // the first uses two programs at a time, the second only sits
			actors.Go(func() { w.person(who, w.dice(100+i)) })
		}
	}
	if w.sitting() {
		actors.Go(func() { w.killer(w.dice(220)) })
	}
	actors.Go(func() { w.sweeps(w.dice(200)) })
	actors.Go(func() { w.trouble(w.dice(300)) })
	actors.Wait()
	w.heal()
	return w.verdict()
}

func (w *World) dice(n int) *rand.Rand {
	return rand.New(rand.NewPCG(w.seed, uint64(n))) //nolint:gosec // dice
}

// pause waits between least and most; false: the time is over.
func (w *World) pause(rng *rand.Rand, least, most time.Duration) bool {
	pass(least + time.Duration(rng.Int64N(int64(most-least))))
	return time.Now().Before(w.end)
}

// key is a public key of somebody.
func key(n int) string { return fmt.Sprintf("ssh-ed25519 AAAAC3Nza%08d", n) }

// person asks for grants, uses them, and ends some of them.
func (w *World) person(who string, rng *rand.Rand) {
	var mine []string
	offers := w.offers()
	for w.pause(rng, 2*time.Second, 2*time.Minute) {
		p := w.proc(rng, who)
		act, cred, params, length := rng.IntN(10), offers[rng.IntN(len(offers))], map[string]any{}, time.Duration(60+rng.IntN(180))*time.Second
		if rng.IntN(2) == 0 && elevates[cred].account == "" {
			params["public_key"] = key(rng.IntN(1000))
		}
		pick := rng.IntN(1 << 20)
		w.inside(p, func(ctx context.Context) {
			if len(mine) == 0 || act < 5 {
				c, err := p.Request(ctx, engine.Ask{Credential: cred, Requester: who, Caller: who, For: length, Params: params})
				if err != nil {
					w.note("%s: %s is not granted: %v", p.node, cred, err)
					return
				}
				mine = append(mine, c.Grant.ID)
				w.note("%s: %s is %s, account %s", p.node, cred, c.Grant.ID, c.Grant.Account)
				if act%2 == 0 {
					c, err = p.RunJob(ctx, c.Forward().ID)
					w.note("%s: created: %s %s (%v)", p.node, c.Grant.ID, c.Grant.State, err)
				}
				w.collect(ctx, p, c.Grant.ID, who)
				return
			}
			w.deal(ctx, p, mine[pick%len(mine)], who, act)
		})
	}
}

// collect takes the secret.
func (w *World) collect(ctx context.Context, p *Proc, id, who string) {
	if _, _, err := p.Collect(ctx, id, who); err == nil {
		w.handed(id)
	}
}

// handed counts how often a secret was handed out.
func (w *World) handed(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.given[id]++
}

// deal does something with a grant.
func (w *World) deal(ctx context.Context, p *Proc, id, who string, act int) {
	var err error
	switch act {
	case 5:
		w.collect(ctx, p, id, who)
		return
	case 6:
		_, err = p.Extend(ctx, id, time.Minute, who)
		w.note("%s: extend %s: %v", p.node, id, err)
		return
	case 7:
		c, cerr := p.Store.Case(ctx, id)
		if err = cerr; err == nil {
			until := p.Now().Add(time.Minute)
			err = p.Pause(ctx, *c.Removal(), until, who)
		}
		w.note("%s: pause %s: %v", p.node, id, err)
		return
	}
	c, err := p.End(ctx, id, who, "end")
	if err == nil {
		c, err = p.Remove(ctx, c)
	}
	w.note("%s: ended %s: %s (%v)", p.node, id, c.Grant.State, err)
}

// sweeps are cron's and those of servers.
func (w *World) sweeps(rng *rand.Rand) {
	for w.pause(rng, 5*time.Second, 70*time.Second) {
		p := w.proc(rng, "sweep")
		serve := rng.IntN(5) == 0
		w.inside(p, func(ctx context.Context) {
			if serve {
				ctx, cancel := context.WithTimeout(ctx, time.Duration(5+p.draw(20))*time.Second)
				defer cancel()
				_ = p.Serve(ctx, 4, 5*time.Second)
				return
			}
			from := time.Now()
			s, err := p.Sweep(ctx)
			w.note("%s: swept: %d removed, %d open, %d waiting (%v %v)", p.node, len(s.Removed), len(s.Open), s.Waiting, s.Errors, err)
			if err == nil {
				w.abandoned(ctx, from)
			}
		})
	}
}

// trouble is everything that nobody asked for.
func (w *World) trouble(rng *rand.Rand) {
	for w.pause(rng, time.Second, 30*time.Second) {
		name := deviceNames[rng.IntN(len(deviceNames))]
		m := w.machines[name]
		account, owner := w.someAccount(m, rng)
		kinds := 16
		if w.elevating() {
			kinds = 20
		}
		if w.sitting() {
			kinds++
		}
		switch what := rng.IntN(kinds); {
		case w.sitting() && what == kinds-1:
			d := time.Duration(1+rng.IntN(25)) * time.Second
			w.note("the store is away for %s", d)
			w.set(&w.away, true, d)
		case what > 18 && rng.IntN(3) == 0:
			w.byHand(m, []string{"erin", "hugo"}[rng.IntN(2)], rng)
		case what > 15:
			who := []string{"erin", "hugo"}[rng.IntN(2)]
			w.note("%s works on %s", who, name)
			m.Session(who, rng.IntN(6)/4)
		case what < 3, w.shaky && what < 9:
			w.cut(name, time.Duration(3+rng.IntN(100))*time.Second, rng)
		case what < 5:
			w.note("connections to %s reset", name)
			w.reset(name, true)
		case what == 5:
			if w.elevating() && rng.IntN(3) > 0 {
				w.note("the power of %s will fail", name)
				m.Break(1 + rng.IntN(40))
				continue
			}
			w.note("%s reboots", name)
			m.Reboot()
			w.reset(name, true)
		case what == 6:
			d := time.Duration(rng.IntN(16)-8) * time.Minute
			w.note("clock of %s is off by %s", name, d)
			m.Skew(d)
		case what == 7:
			w.set(&w.full, true, time.Duration(1+rng.IntN(20))*time.Second)
		case what == 8:
			w.set(&w.slow, true, time.Duration(10+rng.IntN(60))*time.Second)
		case account == "":
		case what < 12:
			w.note("%s works on %s", account, name)
			m.Session(account, rng.IntN(6)/4)
		case what == 12:
			w.note("somebody puts %s into users on %s", account, name)
			m.Regroup("users", account, true)
		case what == 13:
			w.note("somebody takes %s out of ops on %s", account, name)
			m.Regroup("ops", account, false)
		case what == 14 && rng.IntN(3) == 0:
			w.note("somebody deletes %s of %s on %s", account, owner, name)
			m.Drop(account)
			w.strip(owner)
		case what == 15 && rng.IntN(3) == 0:
			w.note("somebody gives the name %s of %s on %s to another account", account, owner, name)
			w.touch(owner)
			w.strip(owner)
			m.Seize(account, 5000+int64(rng.IntN(100)))
		}
	}
}

// touch notes that people changed what a removal must not touch any more.
func (w *World) touch(owner string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taken[owner] = true
}

// strip notes that what a snapshot brought back bears no mark any more: its account
// was deleted by hand, and nothing tells whose the rest is.
func (w *World) strip(owner string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, back := w.bare[owner]; back {
		w.bare[owner] = true
	}
}

// set sets a switch for a while.
func (w *World) set(what *bool, to bool, d time.Duration) {
	flip := func(v bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		*what = v
	}
	flip(to)
	time.AfterFunc(d, func() { flip(!to) })
}

// someAccount picks one that a grant made.
func (w *World) someAccount(m *Machine, rng *rand.Rand) (name, owner string) {
	all := m.Accounts()
	best := -1
	roll := rng.IntN(1 << 20)
	for n, a := range all { // in any order: the pick depends on the uid only
		if v := (int(a.UID) * 7919) % (roll + 1); v > best {
			best, name, owner = v, n, a.Owner
		}
	}
	return name, owner
}

// rounds is how many sweeps an hour apart finish everything.
const rounds = 8

// heal ends every trouble, and has fresh processes finish what is left.
func (w *World) heal() {
	pass(7 * time.Minute) // cut networks and frozen processes come back
	w.mu.Lock()
	var left []*Proc
	for p := range w.alive {
		left = append(left, p)
	}
	for _, name := range deviceNames {
		w.down[name] = false
	}
	w.full, w.slow, w.away = false, false, false
	w.mu.Unlock()
	for _, p := range left {
		p.Kill()
	}
	for _, name := range deviceNames {
		w.machines[name].Skew(0)
	}
	for n := range rounds {
		pass(time.Hour)
		p := w.start(fmt.Sprintf("last-%d", n))
		open := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			s, err := p.Sweep(context.Background())
			w.note("%s: swept: %d removed, %d open, %d waiting (%v %v)", p.node, len(s.Removed), len(s.Open), s.Waiting, s.Errors, err)
			open = len(s.Open) + s.Waiting
		}()
		<-done
		if open == 0 {
			break
		}
	}
}

// verdict is what is wrong now that everything had its time.
func (w *World) verdict() []string {
	w.abandoned(context.Background(), time.Now())
	out := w.wrong
	for _, name := range deviceNames {
		out = append(out, w.machines[name].wrongs...)
	}
	cs, err := w.store.Cases(context.Background(), grant.Filter{Limit: 1 << 20})
	if err != nil {
		return append(out, err.Error())
	}
	known := map[string]bool{}
	for i := range cs {
		g := &cs[i].Grant
		known[g.ID] = true
		left := w.machines[g.Device].traces(g.ID, g.Account, g.UID)
		switch {
		case g.State.Final() && len(left) > 0 && !w.bare[g.ID]:
			out = append(out, fmt.Sprintf("%s is %s and this is left on %s: %v", g.ID, g.State, g.Device, left))
		case !g.State.Final() && !w.taken[g.ID]:
			out = append(out, fmt.Sprintf("%s is still %s: %s", g.ID, g.State, w.why(&cs[i])))
		case !g.State.Final() && cs[i].Removal().LastError == "":
			out = append(out, fmt.Sprintf("%s is still %s and nothing says why", g.ID, g.State))
		}
		if n := w.given[g.ID]; n > 1 {
			out = append(out, fmt.Sprintf("the secret of %s was handed out %d times", g.ID, n))
		}
	}
	for _, name := range deviceNames {
		if !slices.ContainsFunc(cs, func(c grant.Case) bool { return c.Grant.Device == name && !c.Grant.State.Final() }) {
			out = append(out, w.machines[name].stood()...)
		}
		for n, a := range w.machines[name].Accounts() {
			if !known[a.Owner] {
				out = append(out, fmt.Sprintf("account %s on %s belongs to no grant (%s)", n, name, a.Owner))
			}
		}
		for n := range strangers {
			if w.strange && w.machines[name].accounts[n] == nil {
				out = append(out, fmt.Sprintf("account %s on %s is gone, which only looked like ours", n, name))
			}
		}
		if w.machines[name].accounts["jitadm"] == nil {
			out = append(out, "account jitadm is gone from "+name)
		}
	}
	return out
}

func (*World) why(c *grant.Case) string {
	r := c.Removal()
	return fmt.Sprintf("removal %s, due %s, attempt %d, %q, blocked by %q", r.State, r.Due.Format(time.RFC3339), r.Attempt, r.LastError, r.BlockedBy)
}

// Log is what happened, a line each.
func (w *World) Log() []string { return w.log }
