package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"runner/engine/grant"
)

// Bell wakes workers of several machines. Without one they look by themselves.
type Bell interface {
	// Hangs reports whether the database has what bells need, which Hang makes while
	// nobody else does.
	Hangs(ctx context.Context, c *pgx.Conn) (bool, error)
	Hang(ctx context.Context, cfg *pgx.ConnConfig) error
	// Ring has a machine woken when the transaction that is open on c commits.
	Ring(ctx context.Context, c *pgx.Conn) error
	// Hear wakes this machine until ctx ends. An error says that it could not begin.
	Hear(ctx context.Context, cfg *pgx.ConnConfig, h Hearing) error
}

// Hearing is what a machine does about bells.
type Hearing struct {
	Node string
	Log  *slog.Logger
	Now  func() time.Time // that of the database; the store sets it
	// Wake is sent to when there may be work. Who has no room does not receive: the
	// bell is then for others.
	Wake chan<- struct{}
	// Chores are done by one of the machines.
	Chores []Chore
}

// Chore is something that one of the machines does every once in a while.
type Chore struct {
	Name  string
	Every time.Duration
	Later bool // not when somebody begins to hear, but Every later
	Do    func(ctx context.Context) error
}

// Hear is woken by bells until ctx ends. Without bells it returns at once.
func (s *Store) Hear(ctx context.Context, h Hearing) error {
	if s.main.bell == nil {
		return nil
	}
	h.Now = s.Now
	return s.main.explain("hear bells", s.main.bell.Hear(ctx, s.cfg, h))
}

// hang makes what bells need.
func (f file) hang(ctx context.Context, cfg *pgx.ConnConfig) error {
	if f.bell == nil {
		return nil
	}
	hangs, err := f.hangs(ctx)
	if err != nil || hangs {
		return f.explain("open", err)
	}
	err = f.locked(ctx, lockOpen, func(*sql.Conn) error {
		if hangs, err := f.hangs(ctx); err != nil || hangs {
			return err
		}
		return f.bell.Hang(ctx, cfg)
	})
	return f.explain("open", err)
}

func (f file) hangs(ctx context.Context) (hangs bool, err error) {
	c, err := f.read.Conn(ctx)
	if err != nil {
		return false, err
	}
	err = native(c, func(pc *pgx.Conn) error {
		hangs, err = f.bell.Hangs(ctx, pc)
		return err
	})
	return hangs, errors.Join(err, c.Close())
}

// native calls fn with the connection below c, in the transaction that is open on it.
func native(c *sql.Conn, fn func(*pgx.Conn) error) error {
	return c.Raw(func(driver any) error { return fn(driver.(*stdlib.Conn).Conn()) })
}

// becameReady reports whether a job can be claimed by now that could not before.
func (s *Store) becameReady(was, is []grant.Job) bool {
	now := s.leases.now()
	for i := range is {
		at, ok := readyAt(&is[i])
		if !ok || at.After(now) {
			continue
		}
		if i >= len(was) {
			return true
		}
		if before, ok := readyAt(&was[i]); !ok || before.After(now) {
			return true
		}
	}
	return false
}
