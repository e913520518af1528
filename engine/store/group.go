package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
)

// maxGroup is how many changes share a transaction at most: others wait as long as it
// takes, also those of other processes.
const maxGroup = 32

// group has changes that wait for each other share a transaction: what takes its time
// is to begin one, to get the lock, and to have the disk keep it. Each is still all or
// nothing by itself, and none returns before it is kept.
type group struct {
	mu    sync.Mutex
	line  []*member // who waits for the transaction that comes next
	leads bool      // somebody has begun one, or is about to
}

// member is one change.
type member struct {
	ctx  context.Context //nolint:containedctx // of the call that waits
	fn   func(context.Context, *txn) error
	ring func() bool

	err  error
	done chan struct{} // closed when err is what came of it
	lead chan struct{} // closed when it is its turn to begin
}

// errGone is what is left for a change whose leader ended before it was over.
var errGone = errors.New("the change was given up before it was kept")

// groupTx is ringTx that may share its transaction. fn gets a context of its own: one
// that gives up must not take the others with it. It runs at most once, perhaps on the
// goroutine of another call, and may use the transaction directly only after ready.
func (f file) groupTx(ctx context.Context, fn func(context.Context, *txn) error, ring func() bool) error {
	g := f.group
	m := &member{ctx: ctx, fn: fn, ring: ring, done: make(chan struct{}), lead: make(chan struct{})}
	g.mu.Lock()
	g.line = append(g.line, m)
	first := !g.leads
	g.leads = true
	g.mu.Unlock()
	if !first {
		select {
		case <-m.done:
			return m.err
		case <-m.lead:
		case <-ctx.Done():
			if g.leave(m) {
				return fmt.Errorf("the database is held: %w", ctx.Err())
			}
			select {
			case <-m.done:
				return m.err
			case <-m.lead:
			}
		}
	}
	defer g.next()
	f.leadTx(m) //nolint:contextcheck // each member has its own
	return m.err
}

// leave takes a member out of the line; false: it is no longer in it.
func (g *group) leave(m *member) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, o := range g.line {
		if o == m {
			g.line = append(g.line[:i], g.line[i+1:]...)
			return true
		}
	}
	return false
}

// next has the first of the line lead.
func (g *group) next() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leads = len(g.line) > 0; g.leads {
		close(g.line[0].lead)
	}
}

// take returns m and those that wait behind it.
func (g *group) take(m *member) []*member {
	g.mu.Lock()
	defer g.mu.Unlock()
	ms := []*member{m}
	rest := g.line[:0:0]
	for _, o := range g.line {
		switch {
		case o == m:
		case len(ms) < maxGroup:
			ms = append(ms, o)
		default:
			rest = append(rest, o)
		}
	}
	g.line = rest
	return ms
}

// giveUp ends m, for which no transaction could be begun; when the server does not
// answer, those behind it as well: else each of them would wait for it anew.
func (g *group) giveUp(m *member, err error) {
	m.err = err
	if m.ctx.Err() != nil || !isAway(err) {
		g.leave(m)
		return
	}
	for _, o := range g.take(m)[1:] {
		o.err = err
		close(o.done)
	}
}

// leadTx begins a transaction for m and whoever waits by then.
func (f file) leadTx(m *member) {
	life, end := context.WithCancel(context.WithoutCancel(m.ctx))
	defer end()
	c, tx, err := f.open(m.ctx, life)
	if err != nil {
		f.group.giveUp(m, err)
		return
	}
	defer func() { _, _ = tx.Rollback(), c.Close() }() // the first does nothing after Commit
	ms := f.group.take(m)
	defer func() { // also when one of them ended the goroutine
		for _, o := range ms[1:] {
			close(o.done)
		}
	}()
	for _, o := range ms {
		o.err = errGone
	}
	defer cancelWith(end, ms)()
	t := &txn{Tx: tx, group: len(ms) > 1}
	if f.shared {
		t.conn = c
	}
	own := make([]error, len(ms))
	ring := false
	for i, o := range ms {
		if own[i] = o.ctx.Err(); own[i] == nil {
			own[i], err = t.one(life, o.fn)
		}
		if err != nil {
			break // nothing more can be done in this transaction
		}
		ring = ring || f.bell != nil && own[i] == nil && o.ring()
	}
	if err == nil && ring {
		err = native(c, func(pc *pgx.Conn) error { return f.bell.Ring(life, pc) })
	}
	if err == nil {
		err = tx.Commit()
	}
	for i, o := range ms { // who did well shares the fate of the transaction
		if o.err = own[i]; o.err == nil {
			o.err = err
		}
		if cause := o.ctx.Err(); cause != nil && errors.Is(o.err, context.Canceled) {
			o.err = cause
		}
	}
}

// cancelWith calls end when all members have given up, until the returned function is
// called.
func cancelWith(end func(), ms []*member) func() {
	var mu sync.Mutex
	left := len(ms)
	stops := make([]func() bool, 0, len(ms))
	for _, o := range ms {
		stops = append(stops, context.AfterFunc(o.ctx, func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				end()
			}
		}))
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// one runs the change of one member. What it did is taken back when it fails; broken is
// set when that is not possible, or the transaction is all its own.
func (t *txn) one(ctx context.Context, fn func(context.Context, *txn) error) (err, broken error) {
	head := t.head
	err = fn(ctx, t)
	if err == nil && t.group && (t.marked || len(t.late) > 0) {
		err = t.put(ctx, memberRelease)
	}
	if err == nil {
		err = t.flush(ctx)
	}
	if err != nil {
		t.head, t.late = head, nil
	}
	switch {
	case !t.group:
		return err, err
	case err != nil && t.marked:
		for _, stmt := range []string{memberBack, memberRelease} {
			if broken == nil {
				_, broken = t.ExecContext(ctx, stmt)
			}
		}
	}
	t.marked = false
	return err, broken
}

// ready sends what was put. After it statements may run directly.
func (t *txn) ready(ctx context.Context) error {
	if err := t.flush(ctx); err != nil || !t.group || t.marked {
		return err
	}
	_, err := t.ExecContext(ctx, memberMark)
	t.marked = err == nil
	return err
}

// A member of a group can be taken back to where it began. (SQLite and PostgreSQL agree
// on the words.)
const (
	memberMark    = `SAVEPOINT member`
	memberRelease = `RELEASE SAVEPOINT member`
	memberBack    = `ROLLBACK TO SAVEPOINT member`
)

// open begins a transaction that lives as long as life, and has the write lock; ctx
// bounds how long is waited for that.
func (f file) open(ctx, life context.Context) (c *sql.Conn, tx *sql.Tx, err error) {
	err = retry(ctx, away, func() (err error) {
		if c, err = f.write.Conn(ctx); err != nil {
			return err
		}
		if f.home != nil {
			err = f.home.look(ctx, c, f.begin)
		}
		if err == nil {
			tx, err = f.beginFor(ctx, life, c)
		}
		if err != nil {
			return errors.Join(err, c.Close())
		}
		return nil
	})
	return c, tx, err
}
