package store

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"

	"runner/engine/grant"
)

// Raw gives tests the connection that writes runner.db, to do what nobody may.
func (s *Store) Raw() *sql.DB { return s.main.write }

// RawLogs is the same for logs.db.
func (s *Store) RawLogs() *sql.DB { return s.logs.write }

// RefuseRemote is what Open makes of a file system's magic number.
func RefuseRemote(magic uint32) error { return refuseRemote("/state", magic) }

// LookUps are the statements whose plans are watched, by what they do.
func LookUps() map[string]string {
	cases, _ := casesQuery(grant.Filter{})
	perRequester, _ := casesQuery(grant.Filter{Requester: "x"})
	perDevice, _ := casesQuery(grant.Filter{Device: "x"})
	perState, _ := casesQuery(grant.Filter{States: []string{"active"}})
	executions, _ := executionsQuery(grant.Filter{})
	ofGrant, _ := executionsQuery(grant.Filter{Grant: "x"})
	jobs, _ := jobsQuery(grant.Filter{Grant: "x"}, false, 1)
	openJobs, _ := jobsQuery(grant.Filter{}, false, 1)
	finished, _ := jobsQuery(grant.Filter{}, true, 1)
	waiting, _ := jobsQuery(grant.Filter{States: []string{"waiting"}}, false, 1)
	sessions, _ := sessionsQuery(grant.Filter{})
	openSessions, _ := sessionsQuery(grant.Filter{States: []string{"open"}})
	sessionsOf, _ := sessionsQuery(grant.Filter{Grant: "x"})
	return map[string]string{
		"session": sessionByID, "session prefix": idsFrom("sessions"), "sessions": sessions, "open sessions": openSessions, "sessions of a grant": sessionsOf,
		"ready": readyJobs, "ready on a device": readyOn, "running as": runningAs, "silence": silenceOf, "heard": heardJobs, "scan": scannedOne, "begin scan": beginScan, "ending": endingGrants, "expired": expiredGrants,
		"how many end": countEnding, "how many expired": countExpired, "how many are blocked": countBlocked,
		"next due": nextReady, "running": runningJobs, "case": grantByID, "jobs of a case": jobsOfGrant,
		"grant prefix": idsFrom("grants"), "job prefix": idsFrom("jobs"), "execution prefix": idsFrom("executions"),
		"same requester": sameUser, "same account": sameAccount, "same uid": sameUID, "fence": heldJob, "fence and end": heldFor, "held grant": heldGrant, "gone with a device": goneOn, "any hold": anyHold, "snapshot": snapshotByID,
		"node runs": nodeRuns, "rested uid": restedUID, "used uids": usedUIDs, "cases": cases, "cases of a requester": perRequester,
		"cases of a device": perDevice, "cases in a state": perState, "executions": executions, "executions of a grant": ofGrant, "jobs of a grant": jobs,
		"open jobs": openJobs, "finished jobs": finished, "waiting jobs": waiting, "audit of a grant": auditOf,
		"ignored": ignoredOn, "own hold": ownHold, "open hold": openHold, "other hold": otherHold, "holds of a grant": holdsOf, "holders": holders,
	}
}

// LogLookUps are those of logs.db.
func LogLookUps() map[string]string {
	return map[string]string{"read": readChunks, "append": lastChunk, "drop": dropChunks, "same": sameChunk, "next": nextLog}
}

// BareTx is the least that a durable transaction can do.
func (s *Store) BareTx(ctx context.Context, n int) error {
	return s.main.writeTx(ctx, func(tx *txn) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO marks (what, at) VALUES ('bare', $1) ON CONFLICT (what) DO UPDATE SET at = excluded.at`, n)
		return err
	})
}

// HoldWriteLock keeps every other writer out until release is called.
func (s *Store) HoldWriteLock(ctx context.Context) (release func() error, err error) {
	c, err := s.main.write.Conn(ctx)
	if err != nil {
		return nil, err
	}
	tx, err := s.main.begin(ctx, c)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return func() error { return errors.Join(tx.Rollback(), c.Close()) }, nil
}

// MakeFirst makes a store as the first version left it.
func MakeFirst(ctx context.Context, dir string) error {
	if err := prepareDir(dir); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", dsn(dir+"/runner.db", nil))
	if err != nil {
		return err
	}
	sub, err := fs.Sub(migrations, "migrations/runner")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, sub)
	if err != nil {
		return err
	}
	if _, err = p.UpTo(ctx, 1); err == nil {
		_, err = db.ExecContext(ctx, `INSERT INTO marks (what, at) VALUES ('first', 7)`)
	}
	return errors.Join(err, db.Close())
}

// Wipe empties a store on PostgreSQL, which is faster than a new one.
func (s *Store) Wipe(ctx context.Context) error {
	for _, f := range []file{s.main, s.logs} {
		var tables string
		err := f.write.QueryRowContext(ctx, `SELECT string_agg(tablename, ', ') FROM pg_tables
			WHERE schemaname = current_schema() AND tablename <> 'goose_db_version' AND tablename <> 'audit_head' AND tablename <> 'home'`).Scan(&tables)
		if err == nil {
			_, err = f.write.ExecContext(ctx, `TRUNCATE `+tables)
		}
		if err != nil {
			return err
		}
	}
	_, err := s.main.write.ExecContext(ctx, `UPDATE audit_head SET seq = 0, hash = ''`)
	return err
}

// Pause waits for d or until ctx ends.
func Pause(ctx context.Context, d time.Duration) error { return pause(ctx, d) }

// Deafen keeps the leases of a store's nodes from being renewed.
func (s *Store) Deafen() { _ = s.leases.db.Close() }

// Misjudge makes a store on PostgreSQL take the time for a later one.
func (s *Store) Misjudge(by time.Duration) {
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	s.leases.said = s.leases.said.Add(by)
}

// OldRunner makes runner.db as it was at an older version of the schema.
func OldRunner(ctx context.Context, path string, version int64, rows ...string) error {
	db, err := sql.Open("sqlite", dsn(path, nil))
	if err != nil {
		return err
	}
	sub, err := fs.Sub(migrations, "migrations/runner")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, sub)
	if err == nil {
		_, err = p.UpTo(ctx, version)
	}
	for _, row := range rows {
		if err == nil {
			_, err = db.ExecContext(ctx, row)
		}
	}
	return errors.Join(err, db.Close())
}

// Line is how many changes wait for the transaction that comes next.
func (s *Store) Line() int {
	s.main.group.mu.Lock()
	defer s.main.group.mu.Unlock()
	return len(s.main.group.line)
}

// RawRead gives tests the connections that read runner.db.
func (s *Store) RawRead() *sql.DB { return s.main.read }

// Away is how long a server that does not answer is waited for.
const Away = away
