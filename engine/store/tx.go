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
func (f file) writeTx(ctx context.Context, fn func(*sql.Tx) error) error {
	return f.ringTx(ctx, fn, func() bool { return false })
}

// ringTx is writeTx that also has workers woken, if ring says so after fn.
func (f file) ringTx(ctx context.Context, fn func(*sql.Tx) error, ring func() bool) error {
	var (
		c  *sql.Conn
		tx *sql.Tx
	)
	err := retry(ctx, away, func() (err error) {
		if c, err = f.write.Conn(ctx); err != nil {
			return err
		}
		if f.home != nil {
			err = f.home.look(ctx, c, f.begin)
		}
		if err == nil {
			tx, err = f.begin(ctx, c)
		}
		if err != nil {
			return errors.Join(err, c.Close())
		}
		return nil
	})
	if err != nil {
		return err
	}
	defer func() { _, _ = tx.Rollback(), c.Close() }() // the first does nothing after Commit
	err = fn(tx)
	if err == nil && f.bell != nil && ring() {
		err = native(c, func(pc *pgx.Conn) error { return f.bell.Ring(ctx, pc) })
	}
	if err != nil {
		return err
	}
	return tx.Commit()
}

// begin starts a transaction and takes the write lock.
func (f file) begin(ctx context.Context, c *sql.Conn) (*sql.Tx, error) {
	if err := f.there(); err != nil {
		return nil, err
	}
	tx, err := c.BeginTx(ctx, nil)
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
