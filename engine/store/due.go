package store

import (
	"context"
	"database/sql"
	"time"

	"runner/engine/grant"
)

// These are asked again and again by every worker. They stay look-ups in one
// index: the rules of choosing are in package engine, because clever claim
// statements do not stay fast.
const (
	readyColumns = `id, grant_id, device, login, login_limit, removal, attempt, ready_at`
	runningJobs  = `SELECT ` + jobColumns + ` FROM jobs WHERE state = 'running' ORDER BY due_at, id`
	readyJobs    = `SELECT ` + readyColumns + ` FROM jobs WHERE removal = $1 AND ready_at <= $2 AND (ready_at, id) > ($3, $4) ORDER BY ready_at, id LIMIT $5`
	readyOn      = `SELECT ` + readyColumns + ` FROM jobs WHERE device = $1 AND removal = $2 AND ready_at <= $3 AND (ready_at, id) > ($4, $5) ORDER BY ready_at, id LIMIT $6`
	nextReady    = `SELECT MIN(ready_at) FROM jobs WHERE removal = $1 AND ready_at > $2`
)

// Ready returns the jobs that w asks for and that may be claimed at its time:
// waiting ones that are due and paused ones whose pause is over, in the order in
// which they became so, and by id. Whether their device, grant or login has room
// is not looked at: claiming tells, with grant.ErrBusy.
func (s *Store) Ready(ctx context.Context, w grant.Want) ([]grant.Ready, error) {
	from := int64(-1)
	if !w.After.At.IsZero() {
		from = w.After.At.UnixMilli()
	}
	q, args := readyJobs, []any{flag(w.Removal), w.Now.UnixMilli(), from, w.After.Job, limited(w.Limit)}
	if w.Device != "" {
		q, args = readyOn, append([]any{w.Device}, args...)
	}
	var list []grant.Ready
	err := s.main.readOne(ctx, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, q, args...)
		list, err = all(rows, err, scanReady)
		return err
	})
	return list, s.main.explain("ready jobs", err)
}

func scanReady(r scanner) (j grant.Ready, err error) {
	return j, r.Scan(&j.Job, &j.Grant, &j.Device, &j.Login, &j.Limit, &j.Removal, &j.Attempt, msTime{&j.At})
}

// NextDue returns the first moment after the given one at which a waiting or
// paused job becomes ready; false when there is none.
func (s *Store) NextDue(ctx context.Context, after time.Time) (time.Time, bool, error) {
	var next time.Time
	err := s.main.readTx(ctx, func(tx *sql.Tx) error {
		next = time.Time{}
		for removal := range 2 {
			var at time.Time
			if err := tx.QueryRowContext(ctx, nextReady, removal, after.UnixMilli()).Scan(maybeTime{&at}); err != nil {
				return err
			}
			if !at.IsZero() && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
		return nil
	})
	return next, !next.IsZero(), s.main.explain("next due job", err)
}

// Running returns the jobs that are running, in the order in which they were
// due.
func (s *Store) Running(ctx context.Context) ([]grant.Job, error) {
	var jobs []grant.Job
	err := s.main.readOne(ctx, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, runningJobs)
		jobs, err = all(rows, err, scanJob)
		return err
	})
	return jobs, s.main.explain("running jobs", err)
}
