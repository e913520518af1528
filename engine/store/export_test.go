package store

import (
	"context"
	"database/sql"
	"time"

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
	return map[string]string{
		"due": readyJobs, "next due": nextReady, "running": runningJobs, "case": grantByID, "jobs of a case": jobsOfGrant,
		"grant prefix": idsFrom("grants"), "job prefix": idsFrom("jobs"), "execution prefix": idsFrom("executions"),
		"same requester": sameUser, "same account": sameAccount, "same uid": sameUID, "fence": heldJob, "snapshot": snapshotByID,
		"node runs": nodeRuns, "rested uid": restedUID, "used uids": usedUIDs, "cases": cases, "cases of a requester": perRequester,
		"cases of a device": perDevice, "cases in a state": perState, "executions": executions, "executions of a grant": ofGrant, "jobs of a grant": jobs,
		"open jobs": openJobs, "finished jobs": finished, "waiting jobs": waiting, "audit of a grant": auditOf,
		"ignored": ignoredOn, "own hold": ownHold, "open hold": openHold, "holds of a grant": holdsOf, "holders": holders,
	}
}

// LogLookUps are those of logs.db.
func LogLookUps() map[string]string {
	return map[string]string{"read": readChunks, "append": lastChunk, "drop": dropChunks, "same": sameChunk}
}

// BareTx is the least that a durable transaction can do.
func (s *Store) BareTx(ctx context.Context, n int) error {
	return s.main.writeTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO marks (what, at) VALUES ('bare', $1) ON CONFLICT (what) DO UPDATE SET at = excluded.at`, n)
		return err
	})
}

// HoldWriteLock keeps every other writer out until release is called.
func (s *Store) HoldWriteLock(ctx context.Context) (release func() error, err error) {
	tx, err := s.main.write.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	return tx.Rollback, nil
}

// Pause waits for d or until ctx ends.
func Pause(ctx context.Context, d time.Duration) error { return pause(ctx, d) }
