package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"strings"

	"runner/engine/grant"
)

// candidates is how many ids an ambiguous prefix is answered with.
const candidates = 10

// Every byte of an id sorts before a tilde: an id starts with a prefix when it
// lies between the prefix and the prefix with a tilde.
const afterIDs = "~"

// resolve returns the id that idOrPrefix stands for in one of the tables.
func resolve(ctx context.Context, tx *sql.Tx, table, idOrPrefix string) (string, error) {
	if checkID(table, idOrPrefix) != nil {
		return "", grant.ErrNotFound
	}
	rows, err := tx.QueryContext(ctx, idsFrom(table), idOrPrefix, idOrPrefix+afterIDs, candidates)
	ids, err := all(rows, err, scanText)
	switch {
	case err != nil:
		return "", err
	case len(ids) == 0:
		return "", grant.ErrNotFound
	case len(ids) > 1 && ids[0] != idOrPrefix:
		return "", &grant.AmbiguousError{Prefix: idOrPrefix, Candidates: ids}
	}
	return ids[0], nil
}

func idsFrom(table string) string {
	return `SELECT id FROM ` + table + ` WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $3`
}

// where collects conditions that all have to hold.
type where struct {
	terms []string
	args  []any
}

// is adds a condition unless the value is empty; # stands for the parameter.
func (w *where) is(term, value string) {
	if value != "" {
		w.args = append(w.args, valid(value))
		w.terms = append(w.terms, strings.ReplaceAll(term, "#", w.last()))
	}
}

// last is the parameter of the argument added last.
func (w *where) last() string { return "$" + strconv.Itoa(len(w.args)) }

// in adds a condition with a list unless it is empty.
func (w *where) in(term string, values []string) {
	if len(values) == 0 {
		return
	}
	var list []string
	for _, v := range values {
		w.args = append(w.args, v)
		list = append(list, w.last())
	}
	w.terms = append(w.terms, strings.ReplaceAll(term, "#", strings.Join(list, ", ")))
}

// query returns the whole statement; rest is what follows the conditions.
func (w *where) query(from, rest string, limit int) (string, []any) {
	q := from
	if len(w.terms) > 0 {
		q += ` WHERE ` + strings.Join(w.terms, ` AND `)
	}
	return q + rest + ` LIMIT $` + strconv.Itoa(len(w.args)+1), append(slices.Clip(w.args), limit)
}

// casesQuery: what is not of the grant itself is looked for in what it has.
func casesQuery(f grant.Filter) (string, []any) {
	var w where
	w.in(`state IN (#)`, f.States)
	w.is(`requester = #`, f.Requester)
	w.is(`device = #`, f.Device)
	w.is(`credential = #`, f.Credential)
	w.is(`id = #`, f.Grant)
	w.is(`id IN (SELECT grant_id FROM jobs WHERE id = #)`, f.Job)
	w.is(`EXISTS (SELECT 1 FROM executions x WHERE x.grant_id = grants.id AND x.outcome = #)`, outcome(f))
	w.running(`EXISTS (SELECT 1 FROM executions x WHERE x.grant_id = grants.id AND x.outcome = '')`, f)
	return w.query(`SELECT `+grantColumns+` FROM grants`, ` ORDER BY requested_at DESC, id DESC`, limited(f.Limit))
}

// jobsQuery returns the open jobs in the order in which they are due, or the
// finished ones, latest due first.
func jobsQuery(f grant.Filter, finished bool, limit int) (string, []any) {
	var w where
	w.in(`state IN (#)`, f.States)
	w.is(`device = #`, f.Device)
	w.is(`grant_id = #`, f.Grant)
	w.is(`id = #`, f.Job)
	w.is(`grant_id IN (SELECT id FROM grants WHERE requester = #)`, f.Requester)
	w.is(`grant_id IN (SELECT id FROM grants WHERE credential = #)`, f.Credential)
	w.is(`EXISTS (SELECT 1 FROM executions x WHERE x.job_id = jobs.id AND x.outcome = #)`, outcome(f))
	w.running(`EXISTS (SELECT 1 FROM executions x WHERE x.job_id = jobs.id AND x.outcome = '')`, f)
	rest := ` ORDER BY due_at, id`
	if finished {
		w.terms = append(w.terms, `state IN ('done', 'cancelled')`)
		rest = ` ORDER BY due_at DESC, id DESC`
	} else {
		w.terms = append(w.terms, `state IN ('waiting', 'running', 'paused')`)
	}
	return w.query(`SELECT `+jobColumns+` FROM jobs`, rest, limit)
}

func executionsQuery(f grant.Filter) (string, []any) {
	var w where
	w.is(`outcome = #`, outcome(f))
	w.running(`outcome = ''`, f)
	w.is(`device = #`, f.Device)
	w.is(`grant_id = #`, f.Grant)
	w.is(`job_id = #`, f.Job)
	w.is(`grant_id IN (SELECT id FROM grants WHERE requester = #)`, f.Requester)
	w.is(`grant_id IN (SELECT id FROM grants WHERE credential = #)`, f.Credential)
	w.in(`job_id IN (SELECT id FROM jobs WHERE state IN (#))`, f.States)
	return w.query(`SELECT `+executionColumns+` FROM executions`, ` ORDER BY started_at DESC, id DESC`, limited(f.Limit))
}

// running is the outcome by which executions are asked for that have none yet.
const running = "running"

func outcome(f grant.Filter) string {
	if f.Outcome == running {
		return ""
	}
	return f.Outcome
}

func (w *where) running(term string, f grant.Filter) {
	if f.Outcome == running {
		w.terms = append(w.terms, term)
	}
}

// Cases returns the grants that f selects with their jobs, newest first. A
// field of f that is not the grant's own selects grants with such a job or
// execution; the outcome "running" stands for executions without one.
func (s *Store) Cases(ctx context.Context, f grant.Filter) ([]grant.Case, error) {
	var cases []grant.Case
	err := s.main.readTx(ctx, func(tx *sql.Tx) error {
		q, args := casesQuery(f)
		rows, err := tx.QueryContext(ctx, q, args...)
		grants, err := all(rows, err, scanGrant)
		if err != nil {
			return err
		}
		cases = make([]grant.Case, len(grants))
		for i := range grants {
			rows, err := tx.QueryContext(ctx, jobsOfGrant, grants[i].ID)
			jobs, err := all(rows, err, scanJob)
			if err != nil {
				return err
			}
			cases[i] = grant.Case{Grant: grants[i], Jobs: jobs}
		}
		return nil
	})
	return cases, s.main.explain("grants", err)
}

const (
	heldGrant = `SELECT ` + grantColumns + ` FROM grants WHERE requester = $1 AND credential = $2 AND ` + open + ` AND origin = ''`
	goneOn    = `SELECT ` + grantColumns + ` FROM grants WHERE device = $1 AND state = 'gone' ORDER BY id`
)

// Holding returns the grant of a credential that a requester has and that has not
// ended; nil: none.
func (s *Store) Holding(ctx context.Context, requester, credential string) (held *grant.Grant, err error) {
	err = s.main.readOne(ctx, func(db *sql.DB) error {
		g, err := scanGrant(db.QueryRowContext(ctx, heldGrant, valid(requester), valid(credential)))
		switch {
		case isNone(err):
			held = nil
			return nil
		case err == nil:
			held = &g
		}
		return err
	})
	return held, s.main.explain("grant of "+requester, err)
}

// GoneOn returns the grants that were given up with their device, by id.
func (s *Store) GoneOn(ctx context.Context, device string) (list []grant.Grant, err error) {
	err = s.main.readOne(ctx, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, goneOn, device)
		list, err = all(rows, err, scanGrant)
		return err
	})
	return list, s.main.explain("grants that went with "+device, err)
}

// Job returns the job with this id or unique prefix of an id,
// grant.ErrNotFound or *grant.AmbiguousError.
func (s *Store) Job(ctx context.Context, idOrPrefix string) (grant.Job, error) {
	var j grant.Job
	err := s.main.readTx(ctx, func(tx *sql.Tx) error {
		id, err := resolve(ctx, tx, "jobs", idOrPrefix)
		if err != nil {
			return err
		}
		j, err = scanJob(tx.QueryRowContext(ctx, `SELECT `+jobColumns+` FROM jobs WHERE id = $1`, id))
		return err
	})
	return j, s.main.explain("job "+idOrPrefix, err)
}

// Jobs returns the jobs that f selects: those that are not finished in the
// order in which they are due, the longest overdue first; then finished ones,
// latest first. A limit cuts off at the end.
func (s *Store) Jobs(ctx context.Context, f grant.Filter) ([]grant.Job, error) {
	var jobs []grant.Job
	err := s.main.readTx(ctx, func(tx *sql.Tx) error {
		jobs = nil
		for _, finished := range []bool{false, true} {
			left := limited(f.Limit) - len(jobs)
			if left == 0 {
				break
			}
			q, args := jobsQuery(f, finished, left)
			rows, err := tx.QueryContext(ctx, q, args...)
			more, err := all(rows, err, scanJob)
			if err != nil {
				return err
			}
			jobs = append(jobs, more...)
		}
		return nil
	})
	return jobs, s.main.explain("jobs", err)
}

// Execution returns the execution with this id or unique prefix of an id,
// grant.ErrNotFound or *grant.AmbiguousError.
func (s *Store) Execution(ctx context.Context, idOrPrefix string) (grant.Execution, error) {
	var e grant.Execution
	err := s.main.readTx(ctx, func(tx *sql.Tx) error {
		id, err := resolve(ctx, tx, "executions", idOrPrefix)
		if err != nil {
			return err
		}
		e, err = scanExecution(tx.QueryRowContext(ctx, `SELECT `+executionColumns+` FROM executions WHERE id = $1`, id))
		return err
	})
	return e, s.main.explain("execution "+idOrPrefix, err)
}

// Executions returns the executions that f selects, newest first. States are
// those of their jobs; the outcome "running" stands for those without one.
func (s *Store) Executions(ctx context.Context, f grant.Filter) ([]grant.Execution, error) {
	var list []grant.Execution
	err := s.main.readOne(ctx, func(db *sql.DB) error {
		q, args := executionsQuery(f)
		rows, err := db.QueryContext(ctx, q, args...)
		list, err = all(rows, err, scanExecution)
		return err
	})
	return list, s.main.explain("executions", err)
}

// Steps returns the step results of an execution, by number.
func (s *Store) Steps(ctx context.Context, execution string) ([]grant.StepResult, error) {
	var steps []grant.StepResult
	err := s.main.readOne(ctx, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, `SELECT `+stepColumns+` FROM steps WHERE execution = $1 ORDER BY n`, execution)
		steps, err = all(rows, err, scanStep)
		return err
	})
	return steps, s.main.explain("steps of "+execution, err)
}

// Changes returns what a grant changed, in ascending order of Seq.
func (s *Store) Changes(ctx context.Context, grantID string) ([]grant.Change, error) {
	var list []grant.Change
	err := s.main.readOne(ctx, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, `SELECT `+changeColumns+` FROM changes WHERE grant_id = $1 ORDER BY seq`, grantID)
		list, err = all(rows, err, scanChange)
		return err
	})
	return list, s.main.explain("changes of "+grantID, err)
}

// isNone reports whether a query found no row.
func isNone(err error) bool { return errors.Is(err, sql.ErrNoRows) }
