package store

import (
	"context"
	"database/sql"
	"time"

	"runner/engine/grant"
)

const (
	runningJobs = `SELECT ` + jobColumns + ` FROM jobs WHERE state = 'running' ORDER BY due_at, id`
	readyJobs   = `SELECT ` + jobColumns + ` FROM jobs WHERE removal = $1 AND ready_at <= $2 ORDER BY ready_at, id`
	nextReady   = `SELECT MIN(ready_at) FROM jobs WHERE removal = $1 AND ready_at > $2`
)

// Due returns up to limit jobs (0: 1000) that may be claimed at now: waiting
// ones that are due and paused ones whose pause is over, but none whose device
// or grant has a running job. Removals come first, then the one that has been
// ready for longest; each device occurs once, because only one job can run.
// Others may claim them first: grant.ErrBusy or the state tell.
func (s *Store) Due(ctx context.Context, now time.Time, limit int) ([]grant.Job, error) {
	var due []grant.Job
	err := s.main.readTx(ctx, func(tx *sql.Tx) error {
		due = nil
		rows, err := tx.QueryContext(ctx, runningJobs)
		busy, err := all(rows, err, scanJob)
		if err != nil {
			return err
		}
		p := newPicker(busy, limited(limit))
		for _, removal := range []int{1, 0} {
			if err := p.pick(ctx, tx, removal, now); err != nil {
				return err
			}
		}
		due = p.picked
		return nil
	})
	return due, s.main.explain("due jobs", err)
}

// picker chooses from ready jobs. The rules are here and not in the query,
// because the clever query does not stay fast.
type picker struct {
	devices, grants map[string]bool // that have a job
	picked          []grant.Job
	limit           int
}

func newPicker(busy []grant.Job, limit int) *picker {
	p := &picker{devices: map[string]bool{}, grants: map[string]bool{}, limit: limit}
	for i := range busy {
		p.devices[busy[i].Device] = true
		p.grants[busy[i].GrantID] = true
	}
	return p
}

// take considers the next job and reports whether there is room for more.
func (p *picker) take(j grant.Job) bool {
	if len(p.picked) < p.limit && !p.devices[j.Device] && !p.grants[j.GrantID] {
		p.devices[j.Device] = true
		p.grants[j.GrantID] = true
		p.picked = append(p.picked, j)
	}
	return len(p.picked) < p.limit
}

func (p *picker) pick(ctx context.Context, tx *sql.Tx, removal int, now time.Time) error {
	rows, err := tx.QueryContext(ctx, readyJobs, removal, now.UnixMilli())
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		j, err := scanJob(rows)
		if err != nil {
			return err
		}
		if !p.take(j) {
			break
		}
	}
	return rows.Err()
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
	err := s.main.readTx(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, runningJobs)
		jobs, err = all(rows, err, scanJob)
		return err
	})
	return jobs, s.main.explain("running jobs", err)
}
