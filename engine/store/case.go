package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"runner/engine/grant"
)

// The grants that have not ended, as the partial indexes say it: a query that
// does not repeat these words does not use them.
const open = `state NOT IN ('denied', 'cancelled', 'removed', 'gone')`

const (
	insertSnapshot = `INSERT INTO snapshots (` + snapshotColumns + `) VALUES ($1, $2, $3, $4) ON CONFLICT (hash) DO NOTHING`
	insertGrant    = `INSERT INTO grants (` + grantColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
	$13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30)`
	updateGrant = `UPDATE grants SET (state, requester, caller, reason, credential, device, account, uid, creates, requested_at, activated_at,
	expires_at, for_ns, backstop_at, ended_at, ended_by, no_access_at, no_trace_at, failure, sealed, collected_at,
	plan_forward, plan_removal, plan_params, plan_connection, plan_longest_ns, outputs, receipt, origin)
	= ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30)
	WHERE id = $1`
	insertJob = `INSERT INTO jobs (` + jobColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)`
	updateJob = `UPDATE jobs SET (grant_id, seq, kind, removal, state, device, due_at, ready_at, attempt, node, execution,
	first_failed_at, last_error, blocked_by, paused_until, again_at, until_at, finished_at, login, login_limit, missed, silent)
	= ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23) WHERE id = $1`
	runningAs = `SELECT COUNT(*) FROM jobs WHERE login = $1 AND state = 'running' AND id <> $2`

	grantByID    = `SELECT ` + grantColumns + ` FROM grants WHERE id = $1`
	jobsOfGrant  = `SELECT ` + jobColumns + ` FROM jobs WHERE grant_id = $1 ORDER BY seq`
	sameUser     = `SELECT ` + grantColumns + ` FROM grants WHERE requester = $1 AND credential = $2 AND id <> $3 AND ` + open + ` AND origin = ''`
	sameAccount  = `SELECT ` + grantColumns + ` FROM grants WHERE device = $1 AND account = $2 AND id <> $3 AND creates = 1 AND ` + open
	sameUID      = `SELECT ` + grantColumns + ` FROM grants WHERE device = $1 AND uid = $2 AND id <> $3 AND creates = 1 AND uid <> 0 AND ` + open
	snapshotByID = `SELECT ` + snapshotColumns + ` FROM snapshots WHERE hash = $1`
)

// Create stores a grant with its jobs, its events, the session that it opens and
// the templates that its plan pins, all or nothing. A snapshot that is stored already is left alone.
// It returns *grant.ConflictError with the grant in the way while the requester
// holds another grant of the credential, or while another grant that creates
// accounts has the account or the uid of the device.
func (s *Store) Create(ctx context.Context, c grant.Case, snaps []grant.Snapshot) error {
	if err := errors.Join(checkCase(&c), checkSnapshots(snaps)); err != nil {
		return fmt.Errorf("store: create grant: %w", err)
	}
	n := normalCase(c)
	err := s.main.groupTx(ctx, func(ctx context.Context, tx *txn) error {
		if err := noConflict(ctx, tx.Tx, &n.Grant); err != nil {
			return err
		}
		for i := range snaps {
			p := &snaps[i]
			if err := tx.put(ctx, insertSnapshot, p.Hash, p.Kind, p.Name, notNil(p.Body)); err != nil {
				return err
			}
		}
		if err := pinned(ctx, tx.Tx, &n.Grant.Plan, snaps); err != nil {
			return err
		}
		args, err := grantArgs(&n.Grant)
		if err != nil {
			return err
		}
		if err := tx.put(ctx, insertGrant, args...); err != nil {
			return err
		}
		if err := saveJobs(ctx, tx, nil, n.Jobs); err != nil {
			return err
		}
		if c.Opens != nil {
			if err := tx.put(ctx, insertSession, sessionArgs(c.Opens)...); err != nil {
				return err
			}
		}
		return appendAudit(ctx, tx, normalEvents(&c))
	}, func() bool { return s.becameReady(nil, n.Jobs) })
	return s.main.explain("create grant "+c.Grant.ID, err)
}

// notNil keeps an empty body from becoming NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// pinned makes sure that the templates of a plan are stored, or about to be.
func pinned(ctx context.Context, tx *sql.Tx, p *grant.Plan, snaps []grant.Snapshot) error {
	for _, hash := range []string{p.Forward, p.Removal} {
		if hash == "" || slices.ContainsFunc(snaps, func(s grant.Snapshot) bool { return s.Hash == hash }) {
			continue
		}
		if _, err := scanSnapshot(tx.QueryRowContext(ctx, snapshotByID, hash)); err != nil {
			return notStored(hash, err)
		}
	}
	return nil
}

func notStored(hash string, err error) error {
	if isNone(err) {
		return fmt.Errorf("the plan pins template %s, which is not stored: %w", hash, grant.ErrNotFound)
	}
	return err
}

// noConflict returns a *grant.ConflictError for the first grant in the way.
func noConflict(ctx context.Context, tx *sql.Tx, g *grant.Grant) error {
	if g.State.Final() {
		return nil
	}
	check := func(what, q string, args ...any) error {
		other, err := scanGrant(tx.QueryRowContext(ctx, q, args...))
		if isNone(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return &grant.ConflictError{What: what, Existing: other}
	}
	if g.Origin == "" {
		if err := check("requester", sameUser, g.Requester, g.Credential, g.ID); err != nil {
			return err
		}
	}
	if !g.Creates {
		return nil
	}
	if err := check("account", sameAccount, g.Device, g.Account, g.ID); err != nil || g.UID == 0 {
		return err
	}
	return check("uid", sameUID, g.Device, g.UID, g.ID)
}

// saveJobs writes the jobs that differ from was, whose ids is starts with.
// Those that stop running come first: the indexes allow one at a time.
func saveJobs(ctx context.Context, tx *txn, was, is []grant.Job) error {
	for _, running := range []bool{false, true} {
		for i := range is {
			if (is[i].State == grant.Running) != running || i < len(was) && is[i] == was[i] {
				continue
			}
			q := updateJob
			if i >= len(was) {
				q = insertJob
			}
			if err := mayLogIn(ctx, tx, &is[i]); err != nil {
				return err
			}
			err := tx.putThen(ctx, func(_ int64, err error) error { return busyOr(err, is[i].State) }, q, jobArgs(&is[i], i)...)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// mayLogIn returns grant.ErrBusy when a running job would be one more than may
// log in by its credential at once.
func mayLogIn(ctx context.Context, tx *txn, j *grant.Job) error {
	if j.State != grant.Running || j.LoginLimit <= 0 {
		return nil
	}
	if err := tx.flush(ctx); err != nil {
		return err
	}
	switch n, err := scanInt(tx.QueryRowContext(ctx, runningAs, j.Login, j.ID)); {
	case err != nil:
		return err
	case n >= int64(j.LoginLimit):
		return grant.ErrBusy
	}
	return nil
}

// busyOr tells the refusal of a second running job from other errors.
func busyOr(err error, s grant.JobState) error {
	if s == grant.Running && isUnique(err) {
		return grant.ErrBusy
	}
	return err
}

// Case returns the grant with this id or unique prefix of an id, and its jobs
// in the order in which they were added; see [Store.Audit] for its events. It
// returns grant.ErrNotFound or *grant.AmbiguousError.
func (s *Store) Case(ctx context.Context, idOrPrefix string) (grant.Case, error) {
	var c grant.Case
	err := s.main.readTx(ctx, func(tx *sql.Tx) (err error) {
		if c, err = loadCase(ctx, tx, idOrPrefix); !errors.Is(err, grant.ErrNotFound) {
			return err
		}
		id, err := resolve(ctx, tx, "grants", idOrPrefix)
		if err == nil {
			c, err = loadCase(ctx, tx, id)
		}
		return err
	})
	return c, s.main.explain("grant "+idOrPrefix, err)
}

// loadCase returns grant.ErrNotFound when there is no such grant.
func loadCase(ctx context.Context, tx *sql.Tx, id string) (c grant.Case, err error) {
	c.Grant, err = scanGrant(tx.QueryRowContext(ctx, grantByID, id))
	if isNone(err) {
		return c, grant.ErrNotFound
	}
	if err != nil {
		return c, err
	}
	rows, err := tx.QueryContext(ctx, jobsOfGrant, id)
	c.Jobs, err = all(rows, err, scanJob)
	return c, err
}

// Change loads a grant by its whole id, hands it to fn, and stores what fn made
// of it together with the events and the execution (Ran) that fn added, all in one
// transaction that no other writer can come between. Whether the execution still may
// write is for fn to say (grant.Case.Holds). fn runs at most once and must not use the
// store. It may add jobs but not take one away. An error of fn is returned as
// it is and nothing is stored; otherwise the case that fn had is then as it is stored. Besides, Change returns grant.ErrNotFound,
// grant.ErrBusy when a job would run while another one of the same device or
// grant does or as many as may by its login, and *grant.ConflictError as Create does.
func (s *Store) Change(ctx context.Context, grantID string, fn func(*grant.Case) error) error {
	var theirs error
	var was, is grant.Case
	err := s.main.groupTx(ctx, func(ctx context.Context, tx *txn) (err error) {
		if was, err = loadCase(ctx, tx.Tx, grantID); err != nil {
			return err
		}
		is = normalCase(was)
		if theirs = fn(&is); theirs != nil {
			return theirs
		}
		return saveCase(ctx, tx, &was, &is)
	}, func() bool { return s.becameReady(was.Jobs, is.Jobs) })
	if theirs != nil {
		return theirs
	}
	return s.main.explain("change grant "+grantID, err)
}

// saveCase writes what is different.
func saveCase(ctx context.Context, tx *txn, was, is *grant.Case) error {
	jobs, err := checkChange(was, is)
	if err != nil {
		return err
	}
	if err := checkRan(is); err != nil {
		return err
	}
	next := normalCase(grant.Case{Grant: is.Grant, Jobs: jobs})
	if !reflect.DeepEqual(was.Grant, next.Grant) {
		if err := saveGrant(ctx, tx, &was.Grant, &next.Grant); err != nil {
			return err
		}
	}
	if err := saveJobs(ctx, tx, was.Jobs, next.Jobs); err != nil {
		return err
	}
	if is.Ran != nil {
		if err := saveRan(ctx, tx, is); err != nil {
			return err
		}
	}
	next.Events = normalEvents(is)
	*is = next
	return appendAudit(ctx, tx, is.Events)
}

func saveGrant(ctx context.Context, tx *txn, was, is *grant.Grant) error {
	if keysOf(was) != keysOf(is) {
		if err := noConflict(ctx, tx.Tx, is); err != nil {
			return err
		}
	}
	if was.Plan.Forward != is.Plan.Forward || was.Plan.Removal != is.Plan.Removal {
		if err := pinned(ctx, tx.Tx, &is.Plan, nil); err != nil {
			return err
		}
	}
	args, err := grantArgs(is)
	if err != nil {
		return err
	}
	return tx.put(ctx, updateGrant, args...)
}

// keys is what the unique indexes look at.
type keys struct {
	requester, credential, device, account, origin string
	uid                                            int64
	creates, final                                 bool
}

func keysOf(g *grant.Grant) keys {
	return keys{g.Requester, g.Credential, g.Device, g.Account, g.Origin, g.UID, g.Creates, g.State.Final()}
}

// Snapshot returns the template with this hash, or grant.ErrNotFound. A body
// that no longer has the hash is an error.
func (s *Store) Snapshot(ctx context.Context, hash string) (grant.Snapshot, error) {
	var p grant.Snapshot
	err := s.main.readOne(ctx, func(db *sql.DB) (err error) {
		p, err = scanSnapshot(db.QueryRowContext(ctx, snapshotByID, hash))
		if isNone(err) {
			return grant.ErrNotFound
		}
		if err != nil {
			return err
		}
		return checkSnapshot(&p)
	})
	if err != nil {
		return grant.Snapshot{}, s.main.explain("snapshot "+hash, err)
	}
	return p, nil
}

func scanSnapshot(r scanner) (p grant.Snapshot, err error) {
	return p, r.Scan(&p.Hash, &p.Kind, &p.Name, &p.Body)
}
