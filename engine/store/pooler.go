package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// stateProtocol is what PgBouncer says to settings that it does not know.
const stateProtocol = "08P01"

// rounds is how often a pooler is asked for two sessions at once.
const rounds = 5

// errPooled says that what is between this machine and the server keeps no session.
var errPooled = errors.New("a pooler in front of it gives each transaction another session, and leases, locks and prepared statements need one that stays: set pool_mode = session there, or name the server itself")

// errFull says that the pooler keeps one waiting.
var errFull = errors.New("the pooler in front of it has no session left: raise default_pool_size there, each runner serve takes up to 12")

// pooled reports whether there is a pooler between this machine and the server: then
// the session that was asked for is not the one that answers.
func (f file) pooled(ctx context.Context) (is bool, err error) {
	err = retry(ctx, openWithin, func() error {
		c, err := f.read.Conn(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		return native(c, func(pc *pgx.Conn) error {
			pid, err := backend(ctx, pc)
			is = pid != pc.PgConn().PID()
			return err
		})
	})
	if state(err) == stateProtocol && strings.Contains(err.Error(), "unsupported startup parameter") {
		return true, nil
	}
	return is, f.explain("open", err)
}

// backend returns the process of the server that answers.
func backend(ctx context.Context, c *pgx.Conn) (pid uint32, err error) {
	return pid, c.QueryRow(ctx, `SELECT pg_backend_pid()`, pgx.QueryExecModeSimpleProtocol).Scan(&pid)
}

// settle has the settings of a connection made by statements after it is made:
// poolers do not pass them on with it.
func settle(c *pgx.ConnConfig) {
	var stmts strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c.RuntimeParams)) {
		if name == "application_name" { // which they do
			continue
		}
		fmt.Fprintf(&stmts, "SET %s = '%s';", name, strings.ReplaceAll(c.RuntimeParams[name], "'", "''"))
		delete(c.RuntimeParams, name)
	}
	before := c.AfterConnect
	c.AfterConnect = func(ctx context.Context, pc *pgconn.PgConn) error {
		if before != nil {
			if err := before(ctx, pc); err != nil {
				return err
			}
		}
		return pc.Exec(ctx, stmts.String()).Close()
	}
}

// keepsSessions refuses a pooler that gives a session to others while its client is
// there, and one that has none left.
func keepsSessions(ctx context.Context, cfg *pgx.ConnConfig) error {
	ctx, stop := context.WithTimeout(ctx, statementWithin)
	defer stop()
	err := shares(ctx, cfg)
	if ctx.Err() != nil {
		err = errors.Join(errFull, err)
	}
	return err
}

// shares returns errPooled when two clients were given the same session.
func shares(ctx context.Context, cfg *pgx.ConnConfig) error {
	a, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = a.Close(ctx) }()
	b, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close(ctx) }()
	for range rounds { // somebody else may have it in between
		mine, err := backend(ctx, a)
		if err != nil {
			return err
		}
		tx, err := b.Begin(ctx)
		if err != nil {
			return errors.Join(errPooled, err) // as when statements are pooled
		}
		other, err := backend(ctx, b)
		if err = errors.Join(err, tx.Rollback(ctx)); err != nil {
			return err
		}
		if other == mine {
			return errPooled
		}
	}
	return nil
}
