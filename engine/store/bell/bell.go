// Package bell wakes workers of several machines when jobs become ready, and has
// things done every once in a while by one of them, with River (riverqueue.com) on the
// database that they share. No type of River leaves it.
//
// A bell is a hint: it is rung in the transaction that makes a job ready, one of the
// machines that have room hears it, and nothing is lost when it is not heard, but
// the time until the next look. Whether a job is due, and whose it is, say the rows
// of the store alone.
package bell

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// Schema is that of River's tables.
const Schema = "runner_bells"

// Bells are those of a database. They do what [runner/engine/store.Bell] says.
type Bells struct {
	ring *river.Client[pgx.Tx] // only inserts
}

// New returns bells that can be rung.
func New() (*Bells, error) {
	c, err := river.NewClient(riverpgxv5.New(nil), &river.Config{Schema: Schema, Logger: silent()})
	if err != nil {
		return nil, fmt.Errorf("bell: %w", err)
	}
	return &Bells{c}, nil
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Hangs reports whether the database has what bells need.
func (b *Bells) Hangs(ctx context.Context, c *pgx.Conn) (bool, error) {
	m, err := migrator(nil)
	if err != nil {
		return false, err
	}
	var there bool
	if err := c.QueryRow(ctx, `SELECT to_regclass('`+Schema+`.river_migration') IS NOT NULL`).Scan(&there); err != nil || !there {
		return false, err
	}
	all := m.AllVersions()
	var has int
	err = c.QueryRow(ctx, `SELECT COALESCE(MAX(version), 0) FROM `+Schema+`.river_migration`).Scan(&has)
	return has >= all[len(all)-1].Version, err
}

// Hang makes what is missing. The caller sees to it that nobody else does.
func (b *Bells) Hang(ctx context.Context, cfg *pgx.ConnConfig) error {
	pool, err := open(ctx, cfg, 2)
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+Schema); err != nil {
		return err
	}
	m, err := migrator(pool)
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

func migrator(pool *pgxpool.Pool) (*rivermigrate.Migrator[pgx.Tx], error) {
	return rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: Schema, Logger: silent()})
}

// open returns up to n connections that are made as cfg says.
func open(ctx context.Context, cfg *pgx.ConnConfig, n int32) (*pgxpool.Pool, error) {
	p, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, err
	}
	p.ConnConfig, p.MaxConns = cfg.Copy(), n
	return pgxpool.NewWithConfig(ctx, p)
}

// ready is a bell as River keeps it: a job that says that there may be work.
type ready struct{}

// Kind names it.
func (ready) Kind() string { return "ready" }

// Ring has one of the machines woken when the transaction that is open on c commits.
func (b *Bells) Ring(ctx context.Context, c *pgx.Conn) error {
	_, err := b.ring.InsertManyFastTx(ctx, within{c}, []river.InsertManyParams{{Args: ready{}, InsertOpts: once()}})
	return err
}

// once: what was not heard is not rung again; the next look finds what it was about.
func once() *river.InsertOpts { return &river.InsertOpts{MaxAttempts: 1} }

type pgConn = pgx.Conn

// within is the transaction that is open on a connection. Its owner ends it.
type within struct{ *pgConn }

var errNotOurs = errors.New("bell: the transaction belongs to the store")

func (w within) Conn() *pgx.Conn                       { return w.pgConn }
func (w within) Begin(context.Context) (pgx.Tx, error) { return nil, errNotOurs }
func (w within) Commit(context.Context) error          { return errNotOurs }
func (w within) Rollback(context.Context) error        { return errNotOurs }
func (w within) LargeObjects() pgx.LargeObjects        { return pgx.LargeObjects{} }
