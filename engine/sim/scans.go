package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"runner/engine"
	"runner/engine/grant"
)

// Scans is a history on devices that also hold accounts of grants which the store
// has lost, and accounts that only look like ours. An operator scans, adopts, puts
// into quarantine, ignores, rebuilds and retires; snapshots bring accounts back. It
// returns what is wrong when all of that is over.
func (w *World) Scans() []string {
	rng := w.dice(700)
	w.strange, w.end = true, time.Now().Add(horizon)
	for _, name := range deviceNames {
		w.strays(w.machines[name], rng)
	}
	var actors sync.WaitGroup
	for i, who := range people {
		actors.Go(func() { w.person(who, w.dice(100+i)) })
	}
	actors.Go(func() { w.sweeps(w.dice(200)) })
	actors.Go(func() { w.trouble(w.dice(300)) })
	actors.Go(func() { w.operator(w.dice(710)) })
	actors.Go(func() { w.snapshots(w.dice(720)) })
	actors.Wait()
	w.heal()
	w.tidy()
	return w.verdict()
}

// strangers are accounts that nobody of ours made, however they look.
var strangers = map[string]Account{
	"old-ops": {UID: 79500, Comment: "made by hand"},
	"hal":     {UID: 1100, Comment: "runner g-1 until 20000101T000000Z"},
	"ivy":     {UID: 1101, Comment: "ivy, runner " + grant.NewID("g", time.Unix(900000000, 0), [10]byte{9})},
}

// strays puts accounts of lost grants onto a machine, and strangers.
func (w *World) strays(m *Machine, rng *rand.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, a := range strangers {
		a.Owner, a.Password = Foreign, "x"
		m.accounts[name], m.homes[name] = &a, a.UID
	}
	for i := range rng.IntN(4) {
		var r [10]byte
		for j := range r {
			r[j] = byte(rng.Uint32()) //nolint:gosec // dice
		}
		id := grant.NewID("g", time.Now().Add(-time.Duration(rng.IntN(7200))*time.Second), r)
		until := time.Now().Add(time.Duration(rng.IntN(240)-120) * time.Minute).UTC()
		a := &Account{UID: 79000 + int64(i), Owner: id, Comment: "runner " + id + " until " + until.Format("20060102T150405Z"), Expires: until.Truncate(24 * time.Hour).Add(24 * time.Hour), Password: "y", Keys: map[string]time.Time{}}
		name := "jit-lost" + strconv.Itoa(i)
		m.accounts[name], m.homes[name] = a, a.UID
		if rng.IntN(2) == 0 {
			m.sudoers["runner-"+name] = &rule{account: name, text: name + " ALL=(ALL) ALL", until: until, owner: id, note: a.Comment}
		}
		w.note("%s has account %s of %s, which the store has lost", m.Name, name, id)
	}
}

// operator scans, and decides about what is found.
func (w *World) operator(rng *rand.Rand) {
	for w.pause(rng, time.Second, 40*time.Second) {
		p := w.proc(rng, "operator")
		name, act, pick, until := deviceNames[rng.IntN(len(deviceNames))], rng.IntN(8), rng.IntN(1<<20), time.Duration(60+rng.IntN(600))*time.Second
		w.inside(p, func(ctx context.Context) {
			if act == 7 {
				gone, err := p.Retire(ctx, engine.Decision{Device: name, Actor: "ops", Reason: "scrapped"})
				w.note("%s: retired %s: %d grants (%v)", p.node, name, len(gone), err)
				return
			}
			s, err := p.ScanDevice(ctx, name, "")
			w.note("%s: scan of %s: %d findings (%v)", p.node, name, len(s.Findings), err)
			if err != nil || len(s.Findings) == 0 {
				return
			}
			f := s.Findings[pick%len(s.Findings)]
			d := engine.Decision{Device: name, Object: f.Object, Actor: "ops", Reason: "looked at"}
			switch act {
			case 0, 1:
				w.adopt(ctx, p, d)
			case 2:
				d.Quarantine = until
				w.adopt(ctx, p, d)
			case 3:
				_, err := p.Ignore(ctx, d, p.Now().Add(until))
				w.note("%s: ignored %s on %s (%v)", p.node, f.Object, name, err)
			default:
				w.rebuild(ctx, p, s)
			}
		})
	}
}

// adopt takes a finding over and does what is due about it.
func (w *World) adopt(ctx context.Context, p *Proc, d engine.Decision) {
	c, err := p.Adopt(ctx, d)
	if err == nil {
		c, err = p.RunDue(ctx, c)
	}
	w.note("%s: adopted %s on %s as %s: %s (%v)", p.node, d.Object, d.Device, c.Grant.ID, c.Grant.State, err)
}

// rebuild rebuilds without saying how many accounts that is about, and holds what
// comes of it against what the fuse promises.
func (w *World) rebuild(ctx context.Context, p *Proc, s *engine.Scan) {
	before := w.machines[s.Device].marked()
	out, err := p.Rebuild(ctx, []*engine.Scan{s}, 0, "ops", "looks lost")
	w.note("%s: rebuilt %s: %d taken, %d left (%v)", p.node, s.Device, len(out.Taken), len(out.Left), err)
	if len(out.Taken) == 0 {
		return
	}
	newest, nerr := w.store.Newest(context.WithoutCancel(ctx))
	marked := max(before, w.machines[s.Device].marked())
	switch {
	case nerr == nil && newest == "":
		w.bad("an empty store took over %d accounts without asking", len(out.Taken))
	case len(out.Taken)*100 > 2*engine.FuseShare*(marked+len(out.Taken)):
		w.bad("%d of %d objects with a mark got a removal, and nobody was asked", len(out.Taken), marked)
	}
}

// marked is how many objects bear a mark.
func (m *Machine) marked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, a := range m.accounts {
		if _, is := grant.MarkOf(a.Comment); is {
			n++
		}
	}
	return n + len(m.sudoers)
}

// snapshots bring back accounts whose grants are over.
func (w *World) snapshots(rng *rand.Rand) {
	kept := map[string]map[string]Account{}
	for w.pause(rng, time.Second, 30*time.Second) {
		name := deviceNames[rng.IntN(len(deviceNames))]
		if kept[name] == nil || rng.IntN(3) > 0 {
			kept[name] = w.machines[name].Accounts()
			continue
		}
		for _, account := range slices.Sorted(maps.Keys(kept[name])) {
			a := kept[name][account]
			c, err := w.store.Case(context.Background(), a.Owner)
			if err == nil && c.Grant.ID == a.Owner && c.Grant.State == grant.Removed && w.machines[name].Restore(account, a) {
				w.mu.Lock()
				w.bare[a.Owner] = false
				w.mu.Unlock()
				w.note("a snapshot brings %s of %s back to %s", account, a.Owner, name)
			}
		}
	}
}

// Restore puts an account back as it was, and reports whether there was room.
func (m *Machine) Restore(name string, a Account) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.accounts[name] != nil || m.holder(a.UID) != "" || m.homes[name] != 0 {
		return false
	}
	m.accounts[name], m.homes[name] = &a, a.UID
	return true
}

// tidy has an operator who knows what he does take over everything that scans find,
// and somebody work on every device once more.
func (w *World) tidy() {
	for n := range rounds {
		pass(time.Hour)
		p := w.start(fmt.Sprintf("tidy-%d", n))
		more := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			ctx := context.Background()
			var scans []*engine.Scan
			for _, name := range deviceNames {
				if n == 0 {
					c, err := p.Request(ctx, engine.Ask{Credential: name + "-ops", Requester: "fay", Caller: "fay"})
					if err == nil {
						c, err = p.RunJob(ctx, c.Forward().ID)
					}
					w.note("%s: %s on %s is %s (%v)", p.node, c.Grant.ID, name, c.Grant.State, err)
				}
				s, err := p.ScanDevice(ctx, name, "")
				s.Err = err
				scans = append(scans, s)
			}
			out, err := p.Rebuild(ctx, scans, 0, "ops", "tidy")
			if f, is := errors.AsType[*engine.FuseError](err); is {
				out, err = p.Rebuild(ctx, scans, f.Count, "ops", "tidy")
			}
			swept, serr := p.Sweep(ctx)
			more = len(out.Taken) + len(swept.Open) + swept.Waiting
			w.note("%s: %d taken, %d open, %d waiting (%v %v)", p.node, len(out.Taken), len(swept.Open), swept.Waiting, err, serr)
		}()
		<-done
		if more == 0 {
			break
		}
	}
}

// marks lists what bears a mark.
func (c *call) marks() {
	m := c.m
	c.out["clock"], c.out["machine"] = strconv.FormatInt(m.now().Unix(), 10), "machine-"+m.Name
	names, uids := c.list("names"), c.list("uids")
	first, _ := strconv.ParseInt(c.args["first"], 10, 64)
	last, _ := strconv.ParseInt(c.args["last"], 10, 64)
	var items []string
	for _, name := range slices.Sorted(maps.Keys(m.accounts)) {
		a := m.accounts[name]
		uid := strconv.FormatInt(a.UID, 10)
		if !strings.HasPrefix(a.Comment, "runner g-") && !slices.Contains(names, name) && !slices.Contains(uids, uid) && (a.UID < first || a.UID > last) {
			continue
		}
		state, expires := "open", ""
		switch {
		case a.Half:
			state = "none"
		case a.Locked:
			state = "locked"
		}
		if !a.Expires.IsZero() {
			expires = strconv.FormatInt(a.Expires.Unix()/86400, 10)
		}
		var groups []string
		for _, g := range slices.Sorted(maps.Keys(m.groups)) {
			if m.groups[g][name] {
				groups = append(groups, g)
			}
		}
		items = append(items, strings.Join([]string{"account", name, uid, state, expires, a.Shell, strings.Join(groups, ","), "", "/home/" + name, a.Comment}, "\t"))
	}
	for _, f := range slices.Sorted(maps.Keys(m.sudoers)) {
		items = append(items, strings.Join([]string{"sudoers", f, m.sudoers[f].account, m.sudoers[f].note}, "\t"))
	}
	c.out["items"] = strings.Join(items, "\n")
}
