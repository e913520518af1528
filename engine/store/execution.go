package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"runner/engine/grant"
)

const (
	putExecution = `INSERT INTO executions (` + executionColumns + `)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
	ON CONFLICT (id) DO UPDATE SET template = excluded.template, ended_at = excluded.ended_at, outcome = excluded.outcome, error = excluded.error,
	peer = excluded.peer, connect_ns = excluded.connect_ns, steps = excluded.steps, log_bytes = excluded.log_bytes, dropped = excluded.dropped
	WHERE executions.job_id IS NOT DISTINCT FROM excluded.job_id AND executions.grant_id IS NOT DISTINCT FROM excluded.grant_id`
	putStep = `INSERT INTO steps (` + stepColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
	ON CONFLICT (execution, n) DO UPDATE SET name = excluded.name, module = excluded.module, status = excluded.status, rc = excluded.rc,
	attempts = excluded.attempts, started_at = excluded.started_at, took_ns = excluded.took_ns, message = excluded.message,
	reason = excluded.reason, log_from = excluded.log_from, log_to = excluded.log_to`
	putChange = `INSERT INTO changes (` + changeColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
	ON CONFLICT (grant_id, seq) DO UPDATE SET execution = excluded.execution, step = excluded.step, module = excluded.module,
	object = excluded.object, state = excluded.state, before = excluded.before, after = excluded.after, undo = excluded.undo`
	deviceOf = `SELECT device FROM grants WHERE id = $1`
	heldJob  = `SELECT grant_id FROM jobs WHERE id = $1 AND attempt = $2 AND node = $3 AND state = 'running'`
	heldFor  = `SELECT g.ended_at FROM jobs j, grants g WHERE j.id = $1 AND j.attempt = $2 AND j.node = $3 AND j.state = 'running' AND g.id = j.grant_id`
)

// held returns the grant of the fence's job, or grant.ErrLeaseLost when the
// job is no longer running as that attempt on that node. It holds until tx
// ends. The empty fence holds always and has no grant.
func held(ctx context.Context, tx *sql.Tx, f grant.Fence) (grantID string, err error) {
	if f == (grant.Fence{}) {
		return "", nil
	}
	grantID, err = scanText(tx.QueryRowContext(ctx, heldJob, f.Job, f.Attempt, f.Node))
	if isNone(err) {
		return "", grant.ErrLeaseLost
	}
	return grantID, err
}

// Held reports whether the grant of a running job was ended, and returns
// grant.ErrLeaseLost when the job no longer runs as f says.
func (s *Store) Held(ctx context.Context, f grant.Fence) (ended bool, err error) {
	if err := s.outlived(f); err != nil {
		return false, err
	}
	var at time.Time
	err = s.main.readOne(ctx, func(db *sql.DB) error {
		err := db.QueryRowContext(ctx, heldFor, f.Job, f.Attempt, f.Node).Scan(maybeTime{&at})
		if isNone(err) {
			return grant.ErrLeaseLost
		}
		return err
	})
	return !at.IsZero(), s.main.explain("job "+f.Job, err)
}

// PutExecution stores an execution, or what is new about a stored one: its
// template, end, outcome, error, peer, counts. What identifies it (kind,
// device, attempt, node, start) stays as it was first; an id of another job or
// grant is refused. It returns
// grant.ErrLeaseLost, and stores nothing, unless the job of f, which has to be
// that of e, still runs as that attempt on that node. The empty fence is for
// executions that no job runs and is not checked; grant.ErrNotFound then says
// that e names a job or grant that does not exist. Step results that are given
// are stored with it, in the same transaction, also over earlier ones of the same
// number.
func (s *Store) PutExecution(ctx context.Context, f grant.Fence, e grant.Execution, steps ...grant.StepResult) error {
	e = normalExecution(e)
	if err := s.outlived(f); err != nil {
		return err
	}
	err := s.main.groupTx(ctx, func(ctx context.Context, tx *txn) error {
		grantID, err := held(ctx, tx.Tx, f)
		if err != nil {
			return err
		}
		if err := checkExecution(f, grantID, &e); err != nil {
			return err
		}
		return saveExecution(ctx, tx, &e, steps)
	}, quiet)
	return s.main.explain("put execution "+e.ID, err)
}

func saveExecution(ctx context.Context, tx *txn, e *grant.Execution, steps []grant.StepResult) error {
	err := tx.putThen(ctx, func(rows int64, err error) error {
		switch {
		case isForeignKey(err):
			return fmt.Errorf("its job or grant: %w", grant.ErrNotFound)
		case err == nil && rows == 0:
			return errOthers
		}
		return err
	}, putExecution, executionArgs(e)...)
	for _, step := range steps {
		if err != nil {
			break
		}
		step = normalStep(step)
		err = tx.put(ctx, putStep, stepArgs(e.ID, &step)...)
	}
	return err
}

// checkRan refuses what an execution of another grant wrote.
func checkRan(c *grant.Case) error {
	if c.Ran == nil {
		return nil
	}
	e := &c.Ran.Execution
	if e.GrantID != c.Grant.ID || c.Job(e.JobID) == nil {
		return fmt.Errorf("%w: %s of grant %q, not of grant %s", errUnfenced, e.JobID, e.GrantID, c.Grant.ID)
	}
	return checkID("execution", e.ID)
}

// saveRan stores what an execution wrote together with the change of its grant,
// whose function has looked at the fence.
func saveRan(ctx context.Context, tx *txn, c *grant.Case) error {
	e := normalExecution(c.Ran.Execution)
	if err := saveExecution(ctx, tx, &e, c.Ran.Steps); err != nil {
		return err
	}
	return saveChanges(ctx, tx, c.Grant.ID, c.Ran.Changes, true)
}

// checkExecution refuses an execution that f does not guard.
func checkExecution(f grant.Fence, grantID string, e *grant.Execution) error {
	if err := checkID("execution", e.ID); err != nil {
		return err
	}
	if f != (grant.Fence{}) && (e.JobID != f.Job || e.GrantID != grantID) {
		return fmt.Errorf("%w: %s of grant %q, not %s of grant %q", errUnfenced, e.JobID, e.GrantID, f.Job, grantID)
	}
	return nil
}

// PutChanges stores what a grant changes on its device, also over earlier rows
// of the same Seq, all or none: once it returned nil, intents are durable and
// the device may be touched. The fence is as in [Store.PutExecution] and its
// job has to be the grant's. An ad hoc run, which has no grant, stores its
// changes under the id of its execution.
//
// An intent with Hold counts the grant among those that want its object, until
// the grant ends. The first of them keeps what was there before for all; when the
// object is no longer what they made of it, what it is now counts instead.
func (s *Store) PutChanges(ctx context.Context, f grant.Fence, grantID string, cs []grant.Change) error {
	if err := s.outlived(f); err != nil {
		return err
	}
	err := s.main.groupTx(ctx, func(ctx context.Context, tx *txn) error {
		of, err := held(ctx, tx.Tx, f)
		if err != nil {
			return err
		}
		if err := checkChanges(f, of, grantID); err != nil {
			return err
		}
		return saveChanges(ctx, tx, grantID, cs, of != "")
	}, quiet)
	return s.main.explain("put changes of "+grantID, err)
}

// saveChanges stores changes; holds says whether what others may want as well is
// counted.
func saveChanges(ctx context.Context, tx *txn, grantID string, cs []grant.Change, holds bool) (err error) {
	device := ""
	for i := range cs {
		c := normalChange(cs[i])
		if err := tx.put(ctx, putChange, changeArgs(grantID, &c)...); err != nil {
			return err
		}
		if !cs[i].Hold || !holds {
			continue
		}
		if err := tx.ready(ctx); err != nil { // it looks at what was written, and writes directly
			return err
		}
		if device == "" {
			if device, err = scanText(tx.QueryRowContext(ctx, deviceOf, grantID)); err != nil {
				return err
			}
		}
		if err := hold(ctx, tx.Tx, device, grantID, &c); err != nil {
			return err
		}
	}
	return nil
}

// checkChanges refuses changes of a grant that f does not guard.
func checkChanges(f grant.Fence, of, grantID string) error {
	if f != (grant.Fence{}) && of != grantID {
		return fmt.Errorf("%w: its grant is %s, not %s", errUnfenced, of, grantID)
	}
	return checkID("grant", grantID)
}
