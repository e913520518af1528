package sim

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"runner/engine"
)

// crowd are the people of a history of overlaps.
var crowd = []string{"ada", "bob", "cyd", "dan", "eve", "fay"}

// Overlap has two to six people elevate one account, for times that overlap, with
// workers that die, connections that end, and in every third history an
// administrator who takes the account out of a group. It returns what is wrong
// when all of that is over.
func (w *World) Overlap() []string {
	rng := w.dice(400)
	var actors sync.WaitGroup
	for i := range 2 + rng.IntN(len(crowd)-1) {
		actors.Go(func() { w.elevation(crowd[i], w.dice(500+i)) })
	}
	admin, net := w.dice(401), w.dice(402)
	if admin.IntN(3) == 0 {
		actors.Go(func() {
			pass(time.Duration(admin.IntN(120)) * time.Second)
			group := []string{"ops", "users"}[admin.IntN(2)]
			w.note("somebody takes erin out of %s", group)
			w.machines["box"].TakeOut(group)
		})
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
func (w *World) elevation(who string, rng *rand.Rand) {
	pass(time.Duration(rng.IntN(60_000)) * time.Millisecond)
	cred := []string{"box-erin", "box-erin-all"}[rng.IntN(2)]
	id := ""
	p := w.proc(rng, who)
	w.inside(p, func(ctx context.Context) {
		c, err := p.Request(ctx, engine.Ask{Credential: cred, Requester: who, Caller: who, For: time.Hour})
		if err != nil {
			w.note("%s: %s is not granted: %v", p.node, cred, err)
			return
		}
		id = c.Grant.ID
		c, err = p.RunJob(ctx, c.Forward().ID)
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
