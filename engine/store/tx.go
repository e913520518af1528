package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// errHeld says that another process writes and did not end within a statement's time.
var errHeld = errors.New("another process writes")

// writeTx runs fn in one transaction that has the write lock from its start, so
// that nothing changes between what fn reads and what it writes. It waits for
// the lock until ctx ends. fn runs at most once.
func (f file) writeTx(ctx context.Context, fn func(*txn) error) error {
	return f.ringTx(ctx, fn, quiet)
}

// quiet wakes nobody.
func quiet() bool { return false }

// ringTx is writeTx that also has workers woken, if ring says so after fn.
func (f file) ringTx(ctx context.Context, fn func(*txn) error, ring func() bool) error {
	c, tx, err := f.open(ctx, ctx)
	if err != nil {
		return err
	}
	defer func() { _, _ = tx.Rollback(), c.Close() }() // the first does nothing after Commit
	t := &txn{Tx: tx}
	if f.shared {
		t.conn = c
	}
	if err = fn(t); err == nil {
		err = t.flush(ctx)
	}
	if err == nil && f.bell != nil && ring() {
		err = native(c, func(pc *pgx.Conn) error { return f.bell.Ring(ctx, pc) })
	}
	if err != nil {
		return err
	}
	return tx.Commit()
}

// txn is a transaction that writes. What is put into it and has no answer is sent to a
// server together, because the time of writers is spent on waiting for answers, one
// after the other, while they keep all others out.
type txn struct {
	*sql.Tx

	conn *sql.Conn // of a server; nil: statements run at once
	late []put
	head *auditRow // the end of the audit chain, once it was read

	group  bool // several changes share it
	marked bool // there is a point that the change of this member can be taken back to
}

// put is a statement that is sent later.
type put struct {
	query string
	args  []any
	then  func(rows int64, err error) error
}

// put runs a statement, at the latest before the transaction is committed. A read does
// not see it before flush.
func (t *txn) put(ctx context.Context, query string, args ...any) error {
	return t.putThen(ctx, nil, query, args...)
}

// putThen is put of a statement whose outcome decides: then is told how many rows it
// changed, or why it failed.
func (t *txn) putThen(ctx context.Context, then func(rows int64, err error) error, query string, args ...any) error {
	if t.conn != nil {
		t.late = append(t.late, put{query, args, then})
		return nil
	}
	if err := t.ready(ctx); err != nil {
		return err
	}
	res, err := t.ExecContext(ctx, query, args...)
	if then == nil {
		return err
	}
	var n int64
	if err == nil {
		n, err = res.RowsAffected()
	}
	return then(n, err)
}

// flush sends what was put.
func (t *txn) flush(ctx context.Context) error {
	if len(t.late) == 0 {
		return nil
	}
	list := t.late
	t.late = nil
	if t.group && !t.marked {
		t.marked = true
		list = append([]put{{query: memberMark}}, list...)
	}
	return native(t.conn, func(c *pgx.Conn) error {
		var b pgx.Batch
		for _, p := range list {
			b.Queue(p.query, p.args...)
		}
		answers := c.SendBatch(ctx, &b)
		for _, p := range list {
			done, err := answers.Exec()
			if p.then != nil {
				err = p.then(done.RowsAffected(), err)
			}
			if err != nil {
				_ = answers.Close() // says the same once more
				return err
			}
		}
		return answers.Close()
	})
}

// begin starts a transaction and takes the write lock.
func (f file) begin(ctx context.Context, c *sql.Conn) (*sql.Tx, error) {
	return f.beginFor(ctx, ctx, c)
}

// beginFor is begin of a transaction that lives as long as life.
func (f file) beginFor(ctx, life context.Context, c *sql.Conn) (*sql.Tx, error) {
	if err := f.there(); err != nil {
		return nil, err
	}
	tx, err := c.BeginTx(life, nil)
	if err != nil || !f.shared {
		return tx, err
	}
	_, err = tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, f.lock)
	if err == nil {
		return tx, nil
	}
	_ = tx.Rollback() // that it failed is known
	if state(err) == stateTimeout {
		err = errHeld
	}
	return nil, err
}

// readTx runs fn on one consistent view. fn may run more than once and has to
// start from nothing each time.
func (f file) readTx(ctx context.Context, fn func(*sql.Tx) error) error {
	opts := &sql.TxOptions{ReadOnly: true}
	if f.shared {
		opts.Isolation = sql.LevelRepeatableRead
	}
	if err := f.there(); err != nil {
		return err
	}
	return retry(ctx, away, func() error {
		tx, err := f.read.BeginTx(ctx, opts)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		return fn(tx)
	})
}

// readOne runs fn, which asks one thing of the database: that is consistent without
// a transaction. fn may run more than once.
func (f file) readOne(ctx context.Context, fn func(*sql.DB) error) error {
	if err := f.there(); err != nil {
		return err
	}
	return retry(ctx, away, func() error { return fn(f.read) })
}

// retry repeats fn while the database is held by somebody else, until ctx ends, and
// while it does not answer, for as long as patience.
func retry(ctx context.Context, patience time.Duration, fn func() error) error {
	start := time.Now()
	for {
		err := fn()
		d := time.Millisecond + rand.N(4*time.Millisecond) //nolint:gosec // spreads waiters, hides nothing
		why := "the database is held by another process"
		switch c := code(err); {
		case c == codeBusy, c == codeProtocol, errors.Is(err, errHeld):
		case isAway(err) && time.Since(start) < patience:
			d *= 20
			why = "the database does not answer"
		default:
			return err
		}
		if stop := pause(ctx, d); stop != nil {
			return fmt.Errorf("%s: %w", why, stop)
		}
	}
}
