package store

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"runner/engine/grant"
)

const (
	endingGrants  = `SELECT ` + grantColumns + ` FROM grants WHERE state = 'ending' AND ended_at < $1 ORDER BY ended_at, id LIMIT $2`
	expiredGrants = `SELECT ` + grantColumns + ` FROM grants WHERE state = 'active' AND expires_at < $1 ORDER BY expires_at, id LIMIT $2`
	countEnding   = `SELECT COUNT(*) FROM grants WHERE state = 'ending' AND ended_at < $1`
	countExpired  = `SELECT COUNT(*) FROM grants WHERE state = 'active' AND expires_at < $1`
	countJobs     = `SELECT kind, state, COUNT(*) FROM jobs WHERE state IN ('waiting', 'running', 'paused') GROUP BY kind, state ORDER BY kind, state`
	countBlocked  = `SELECT COUNT(*) FROM jobs WHERE removal = 1 AND blocked_by <> '' AND state IN ('waiting', 'paused')`
)

// Overdue returns the grants whose removal should have been done before a time,
// the longest overdue first, at most limit (0: 1000), and how many there are.
func (s *Store) Overdue(ctx context.Context, before time.Time, limit int) ([]grant.Case, int, error) {
	var cases []grant.Case
	var total int
	err := s.main.readTx(ctx, func(tx *sql.Tx) error {
		cases, total = nil, 0
		var grants []grant.Grant
		for _, q := range [][2]string{{endingGrants, countEnding}, {expiredGrants, countExpired}} {
			rows, err := tx.QueryContext(ctx, q[0], before.UnixMilli(), limited(limit))
			some, err := all(rows, err, scanGrant)
			if err != nil {
				return err
			}
			grants = append(grants, some...)
			n, err := scanInt(tx.QueryRowContext(ctx, q[1], before.UnixMilli()))
			if err != nil {
				return err
			}
			total += int(n)
		}
		slices.SortStableFunc(grants, byEnd)
		for _, g := range first(grants, limited(limit)) {
			rows, err := tx.QueryContext(ctx, jobsOfGrant, g.ID)
			jobs, err := all(rows, err, scanJob)
			if err != nil {
				return err
			}
			cases = append(cases, grant.Case{Grant: g, Jobs: jobs})
		}
		return nil
	})
	return cases, total, s.main.explain("overdue removals", err)
}

func endOf(g *grant.Grant) time.Time {
	if g.State == grant.Ending {
		return g.Ended
	}
	return g.Expires
}

func byEnd(a, b grant.Grant) int { return endOf(&a).Compare(endOf(&b)) }

// Tally counts the jobs that are not over.
func (s *Store) Tally(ctx context.Context) (grant.Tally, error) {
	var t grant.Tally
	err := s.main.readTx(ctx, func(tx *sql.Tx) error {
		t = grant.Tally{Jobs: map[grant.Kind]map[grant.JobState]int{}}
		rows, err := tx.QueryContext(ctx, countJobs)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var k grant.Kind
			var st grant.JobState
			var n int
			if err := rows.Scan(&k, &st, &n); err != nil {
				return err
			}
			t.Add(k, st, n)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		n, err := scanInt(tx.QueryRowContext(ctx, countBlocked))
		t.Blocked = int(n)
		return err
	})
	return t, s.main.explain("count jobs", err)
}
