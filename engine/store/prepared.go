package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"

	"modernc.org/sqlite"
)

// maxPrepared is how many statements a connection keeps. There are fewer than that
// of those that do not depend on what is asked for.
const maxPrepared = 200

// prepares connects to SQLite so that each statement is parsed once in the life of
// a connection: parsing took a third of all the time that a grant needs. (pgx does
// the same for PostgreSQL.)
type prepares struct{ dsn string }

// Connect opens a connection.
func (p prepares) Connect(context.Context) (driver.Conn, error) {
	c, err := p.Driver().Open(p.dsn)
	if err != nil {
		return nil, err
	}
	inner, is := c.(liteConn)
	if !is {
		return nil, errors.Join(errors.New("the SQLite driver cannot do what it could"), c.Close())
	}
	return &preparing{liteConn: inner, kept: map[string]*prepared{}}, nil
}

// Driver is that of SQLite.
func (prepares) Driver() driver.Driver { return &sqlite.Driver{} }

// liteConn is what a connection of the driver can do.
type liteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
	NewBackup(uri string) (*sqlite.Backup, error)
}

// liteStmt is what one of its statements can do.
type liteStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// preparing is a connection that keeps its statements. database/sql uses it from
// one goroutine at a time.
type preparing struct {
	liteConn

	kept map[string]*prepared
}

type prepared struct {
	liteStmt

	busy bool // its rows are being read
}

// get returns the statement of a query; nil: it is not to be kept.
func (c *preparing) get(ctx context.Context, query string) (*prepared, error) {
	if p := c.kept[query]; p != nil {
		return p, nil
	}
	verb, _, _ := strings.Cut(query, " ")
	if len(c.kept) >= maxPrepared || verb != "SELECT" && verb != "INSERT" && verb != "UPDATE" && verb != "DELETE" && verb != "SAVEPOINT" && verb != "RELEASE" {
		return nil, nil //nolint:nilnil // documented
	}
	s, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	inner, is := s.(liteStmt)
	if !is {
		return nil, s.Close()
	}
	p := &prepared{liteStmt: inner}
	c.kept[query] = p
	return p, nil
}

// ExecContext runs a statement.
func (c *preparing) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	p, err := c.get(ctx, query)
	switch {
	case err != nil:
		return nil, err
	case p == nil || p.busy:
		return c.liteConn.ExecContext(ctx, query, args)
	}
	return p.ExecContext(ctx, args)
}

// QueryContext runs a query. While the rows of one are read, the same query again
// gets a statement of its own.
func (c *preparing) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	p, err := c.get(ctx, query)
	switch {
	case err != nil:
		return nil, err
	case p == nil || p.busy:
		return c.liteConn.QueryContext(ctx, query, args)
	}
	rows, err := p.QueryContext(ctx, args)
	if err != nil {
		return nil, err
	}
	p.busy = true
	return &preparedRows{rows, p}, nil
}

// Close ends the statements, too.
func (c *preparing) Close() error {
	var errs error
	for _, p := range c.kept {
		errs = errors.Join(errs, p.Close())
	}
	return errors.Join(errs, c.liteConn.Close())
}

// preparedRows gives the statement back at its end.
type preparedRows struct {
	driver.Rows

	of *prepared
}

// Close ends the rows.
func (r *preparedRows) Close() error {
	r.of.busy = false
	return r.Rows.Close()
}
