package sim

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"runner/engine"
	"runner/engine/grant"
)

// crowd are the people of a history of overlaps.
var crowd = []string{"ada", "bob", "cyd", "dan", "eve", "fay"}

// Overlap has two to six people elevate one account, in the same or in different
// ways, for times that overlap, with workers that die, connections that end, and in
// every third history an administrator who changes the account. It returns what is wrong
// when all of that is over.
func (w *World) Overlap() []string {
	rng := w.dice(400)
	who := []string{"erin", "hugo"}[w.seed%2]
	var offers []string
	for _, name := range slices.Sorted(maps.Keys(elevates)) {
		if elevates[name].account == who {
			offers = append(offers, name)
		}
	}
	var actors sync.WaitGroup
	for i := range 2 + rng.IntN(len(crowd)-1) {
		cred := offers[rng.IntN(len(offers))]
		actors.Go(func() { w.elevation(crowd[i], cred, w.dice(500+i)) })
	}
	admin, net := w.dice(401), w.dice(402)
	if admin.IntN(3) == 0 {
		actors.Go(func() {
			pass(time.Duration(admin.IntN(120)) * time.Second)
			w.byHand(w.machines["box"], who, admin)
		})
	}
	if net.IntN(2) == 0 {
		w.machines["box"].Break(1 + net.IntN(60))
	}
	if net.IntN(3) == 0 {
		actors.Go(func() {
			pass(time.Duration(net.IntN(120)) * time.Second)
			w.cut("box", time.Duration(1+net.IntN(40))*time.Second, net)
		})
	}
	actors.Wait()
	w.heal()
	return w.verdict()
}

// elevation is one grant of somebody, from its request to its end.
func (w *World) elevation(who, cred string, rng *rand.Rand) {
	pass(time.Duration(rng.IntN(60_000)) * time.Millisecond)
	id := ""
	p := w.proc(rng, who)
	w.inside(p, func(ctx context.Context) {
		c, err := p.Request(ctx, engine.Ask{Credential: cred, Requester: who, Caller: who, For: time.Hour})
		if err != nil {
			w.note("%s: %s is not granted: %v", p.node, cred, err)
			return
		}
		id = c.Grant.ID
		c, err = w.create(ctx, p, c)
		w.note("%s: %s of %s is %s (%v)", p.node, cred, id, c.Grant.State, err)
	})
	if id == "" {
		return
	}
	pass(time.Duration(rng.IntN(60_000)) * time.Millisecond)
	p = w.proc(rng, who)
	w.inside(p, func(ctx context.Context) {
		c, err := p.End(ctx, id, who, "end")
		if err == nil {
			c, err = p.Remove(ctx, c)
		}
		w.note("%s: ended %s: %s (%v)", p.node, id, c.Grant.State, err)
	})
}

// create runs the creation of a grant, or waits for whoever is faster, as the
// commands do for a person.
func (*World) create(ctx context.Context, p *Proc, c grant.Case) (grant.Case, error) {
	for c.Grant.State == grant.Requested || c.Grant.State == grant.Creating {
		if c.Grant.State == grant.Requested {
			out, err := p.RunJob(ctx, c.Forward().ID)
			if _, state := errors.AsType[*grant.StateError](err); err == nil || !state && !errors.Is(err, grant.ErrNotDue) && !errors.Is(err, grant.ErrBusy) && !errors.Is(err, grant.ErrLeaseLost) {
				return out, err
			}
		}
		pass(time.Second)
		if _, err := p.Reap(ctx); err != nil {
			return c, err
		}
		if err := p.Store.Change(ctx, c.Grant.ID, func(c *grant.Case) error { c.Expire(p.Now()); return nil }); err != nil {
			return c, err
		}
		is, err := p.Store.Case(ctx, c.Grant.ID)
		if err != nil {
			return c, err
		}
		c = is
	}
	return c, nil
}
