package engine

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"runner/engine/grant"
)

const (
	// lookEvery is how often workers look for what others did.
	lookEvery = time.Second
	// peekEvery is how often they look for what others made due, where nobody rings.
	peekEvery = lookEvery / 5
	// lookApart is the least pause between two looks.
	lookApart = 25 * time.Millisecond
	// scanAtMost is the longest time between two looks at all that is due;
	// between them only what became due since is looked for.
	scanAtMost = 30 * time.Second
	// scanShare is which part of the time may go into looks at all that is due.
	scanShare = 50
	// overlap is how far back a look for what became due since goes: what others
	// made due may have been stored late.
	overlap = 5 * time.Second
	// scanPage is how many jobs are read at once.
	scanPage = 1000
	// slowDial is after which time a device that does not answer gives its slot
	// back while it is waited for.
	slowDial = time.Second
	// restFor is how long a device is left alone that turned out to be busy.
	restFor = 250 * time.Millisecond
)

// shares says how the slots of a worker are divided.
type shares struct {
	all      int
	each     int // at most so many for removals, and as many for the rest
	suspects int // at most so many for devices that did not answer the last time
	aside    int // how many more may wait for devices that are slow to answer
}

// sharesOf divides n slots. A quarter is kept for creations and renewals, and a
// quarter for removals, so that neither waits for the other to be done with.
func sharesOf(n int) shares {
	s := shares{all: n, each: n, suspects: max(1, n/8), aside: min(4*n, 256)}
	if n > 1 {
		s.each = n - max(1, n/4)
	}
	return s
}

// running is a job of this process that is under way.
type running struct {
	grant.Ready

	suspect, aside bool
}

// event is what a job under way tells the dispatcher.
type event struct {
	job  *running
	over bool // or it waits for its device for long
	out  grant.Case
	met  contact
	err  error
}

// dispatcher runs jobs: which, when, and how many at once. One goroutine owns it.
type dispatcher struct {
	e      *Engine
	q      *queue
	shares shares
	events chan event // has room for all that can be told: two of each job
	wg     sync.WaitGroup
	load   struct{ all, suspects, aside int }
	of     [2]int // how many slots forwards and removals have
	picks  int

	looked, second time.Time
	scanned        time.Time // when all that is due was looked at
	scanTook       time.Duration
	since          [2]time.Time // what became due before was seen: forwards, removals

	sweep *sweeping // nil: it serves
}

func newDispatcher(e *Engine, slots int) *dispatcher {
	s := sharesOf(slots)
	return &dispatcher{e: e, q: newQueue(), shares: s, events: make(chan event, 2*(s.all+s.aside)+2)}
}

// Serve works until ctx ends: it takes jobs from dead workers, ends what has
// expired, and runs what is due, at most slots jobs at once; those that wait for
// devices that are slow to answer do not count. It looks for work of other
// processes several times a second, or when it is woken, and sleeps otherwise. What is
// under way when ctx ends is given grace to finish; then it is cut off, and
// handed back: at once when the cause of ctx is grant.ErrLeaseLost, because others
// take it over.
func (e *Engine) Serve(ctx context.Context, slots int, grace time.Duration) error {
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	d := newDispatcher(e, slots)
	var gone error
	for {
		err := d.look(ctx)
		if errors.Is(err, grant.ErrStoreGone) {
			gone = err
			break
		}
		if err != nil && ctx.Err() == nil {
			e.Meter.Add(metricStoreErrors, 1)
			e.Log.Error("cannot look for work", slog.Any("error", err))
		}
		d.start(hard)
		d.measure()
		if !d.await(ctx, d.nap(ctx)) {
			break
		}
	}
	if errors.Is(context.Cause(ctx), grant.ErrLeaseLost) {
		cut()
	}
	done := make(chan struct{})
	go func() { d.wg.Wait(); close(done) }()
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		cut()
		<-done
	}
	return gone
}

// look finds out what is due.
func (d *dispatcher) look(ctx context.Context) error {
	now := d.e.Now()
	if now.Sub(d.looked) < lookApart && !now.Before(d.looked) {
		return d.fill(ctx)
	}
	d.looked = now
	var errs error
	if now.Sub(d.second) >= lookEvery || now.Before(d.second) {
		d.second = now
		_, err := d.e.Reap(ctx)
		errs = errors.Join(err, d.others(ctx))
	}
	whole := now.Before(d.scanned) || now.Sub(d.scanned) >= min(max(lookEvery, scanShare*d.scanTook), scanAtMost)
	for _, removal := range []bool{true, false} {
		errs = errors.Join(errs, d.scan(ctx, removal, whole, now))
	}
	if whole && errs == nil {
		d.scanned, d.scanTook = now, d.e.Now().Sub(now)
	}
	return errors.Join(errs, d.fill(ctx))
}

// others reads what other workers do, and which devices do not answer.
func (d *dispatcher) others(ctx context.Context) error {
	jobs, err := d.e.Store.Running(ctx)
	if err != nil {
		return err
	}
	silent, err := d.e.Store.Silences(ctx)
	if err != nil {
		return err
	}
	q := d.q
	clear(q.elsewhere)
	clear(q.logins)
	for i := range jobs {
		q.logins[jobs[i].Login]++
		if !q.devices[jobs[i].Device] {
			q.elsewhere[jobs[i].Device] = true
		}
	}
	clear(q.silent)
	for _, s := range silent {
		q.silent[s.Device] = s
	}
	return nil
}

// scan reads what is due, or what became so since.
func (d *dispatcher) scan(ctx context.Context, removal, whole bool, now time.Time) error {
	since := &d.since[side(classOf(&grant.Ready{Removal: removal}))]
	w := grant.Want{Removal: removal, Now: now, Limit: scanPage}
	if !whole && !since.IsZero() {
		w.After = grant.Ready{At: since.Add(-overlap)}
	}
	for {
		list, err := d.e.Store.Ready(ctx, w)
		if err != nil {
			return err
		}
		for _, r := range list {
			d.q.add(r)
		}
		if len(list) < scanPage {
			*since = now
			return nil
		}
		w.After = list[len(list)-1]
	}
}

// fill reads more of the lines that ran out.
func (d *dispatcher) fill(ctx context.Context) error {
	for len(d.q.empty) > 0 {
		f := d.q.empty[0]
		w := grant.Want{Removal: f.removal, Device: f.device, Now: d.e.Now(), After: f.after, Limit: 8 * lineDepth}
		for added := false; !added; { // others of the device may be between
			list, err := d.e.Store.Ready(ctx, w)
			if err != nil {
				return err
			}
			for _, r := range list {
				added = d.q.add(r) || added
			}
			if len(list) < w.Limit {
				break
			}
			w.After = list[len(list)-1]
		}
		d.q.empty = d.q.empty[1:]
	}
	return nil
}

// start runs what may run.
func (d *dispatcher) start(ctx context.Context) {
	for d.load.all < d.shares.all {
		r, ok := d.pick()
		if !ok {
			return
		}
		_, suspect := d.q.silent[r.Device]
		d.run(ctx, &running{Ready: r, suspect: suspect})
	}
}

// pick chooses the next job. Forwards come first while they have slots, except
// that with a single slot they take turns with removals; of removals every
// fourth is one that was tried before.
func (d *dispatcher) pick() (grant.Ready, bool) {
	d.picks++
	order := []class{forwards, fresh, retried}
	if d.picks%4 == 0 {
		order = []class{forwards, retried, fresh}
	}
	if d.shares.all == 1 && d.picks%2 == 0 {
		order = []class{fresh, retried, forwards}
	}
	for _, c := range order {
		if d.of[side(c)] >= d.shares.each {
			continue
		}
		if r, ok := d.q.next(c, d.e.Now(), d.load.suspects < d.shares.suspects); ok {
			return r, true
		}
	}
	return grant.Ready{}, false
}

func (d *dispatcher) run(ctx context.Context, r *running) {
	d.q.began(&r.Ready)
	d.count(r, 1)
	d.wg.Go(func() {
		ev := event{job: r, over: true}
		defer func() { d.events <- ev }()
		ev.out, ev.met, ev.err = d.e.runJob(ctx, r.Grant, r.Job, sync.OnceFunc(func() { d.events <- event{job: r} }))
	})
}

// count takes or gives back a job's slot.
func (d *dispatcher) count(r *running, n int) {
	d.load.all += n
	d.of[side(classOf(&r.Ready))] += n
	if r.suspect {
		d.load.suspects += n
	}
}

// await waits until a job tells something, somebody rings, or d has passed. It
// returns false when ctx has ended.
func (d *dispatcher) await(ctx context.Context, nap time.Duration) bool {
	t := time.NewTimer(nap)
	defer t.Stop()
	wake := d.e.Wake
	if d.load.all >= d.shares.all {
		wake = nil // whoever has room is to hear it
	}
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-wake:
		d.looked = time.Time{}
	case ev := <-d.events:
		d.heard(ev)
	}
	for {
		select {
		case ev := <-d.events:
			d.heard(ev)
		default:
			return ctx.Err() == nil
		}
	}
}

// heard acts on what a job told.
func (d *dispatcher) heard(ev event) {
	r := ev.job
	if !ev.over {
		if !r.aside && d.load.aside < d.shares.aside {
			r.aside = true
			d.load.aside++
			d.count(r, -1)
		}
		return
	}
	if r.aside {
		d.load.aside--
	} else {
		d.count(r, -1)
	}
	d.q.over(&r.Ready)
	switch {
	case ev.met.answered:
		delete(d.q.silent, r.Device)
	case ev.met.silence.Missed > 0:
		d.q.silent[r.Device] = ev.met.silence
	}
	switch {
	case errors.Is(ev.err, grant.ErrBusy):
		d.q.rest[r.Device] = d.e.Now().Add(restFor)
		if d.sweep == nil || d.sweep.again(r) {
			d.q.known[r.Job] = true
			d.q.back(r.Ready)
		}
		return
	case ev.err != nil && !passing(ev.err):
		d.e.Log.Error("job not run", slog.String("job", r.Job), slog.Any("error", ev.err))
	}
	if d.sweep != nil {
		d.sweep.over(d, r, ev)
	}
}

// nap returns how long to sleep until there may be something to do.
func (d *dispatcher) nap(ctx context.Context) time.Duration {
	now := d.e.Now()
	if d.load.all >= d.shares.all {
		return lookEvery // a job that ends will tell
	}
	nap := lookEvery
	if d.e.Wake == nil {
		nap = peekEvery
	}
	if d.sweep == nil {
		if next, ok, err := d.e.Store.NextDue(ctx, now); err == nil && ok {
			nap = min(nap, next.Sub(now))
		}
	}
	for _, t := range d.q.rest {
		if t.After(now) {
			nap = min(nap, t.Sub(now))
		}
	}
	if len(d.q.empty) > 0 {
		nap = 0
	}
	return max(nap, lookApart)
}
