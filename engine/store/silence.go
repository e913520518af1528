package store

import (
	"context"
	"database/sql"
	"time"

	"runner/engine/grant"
)

const (
	silenceColumns = `device, since, missed, until_at, why`
	silenceOf      = `SELECT ` + silenceColumns + ` FROM silences WHERE device = $1`
	allSilences    = `SELECT ` + silenceColumns + ` FROM silences ORDER BY device`
	putSilence     = `INSERT INTO silences (` + silenceColumns + `) VALUES ($1, $2, $3, $4, $5)
	ON CONFLICT (device) DO UPDATE SET since = excluded.since, missed = excluded.missed, until_at = excluded.until_at, why = excluded.why`
	endSilence = `DELETE FROM silences WHERE device = $1`
	// As grant.Job.Heard says it.
	heardJobs = `UPDATE jobs SET due_at = $2, ready_at = $2 WHERE device = $1 AND removal = 1 AND ready_at > $2 AND state = 'waiting' AND silent = 1`
)

// Missed notes that a device did not answer, and returns until when it is left
// in peace. jitter is in [0,1).
func (s *Store) Missed(ctx context.Context, device, why string, now time.Time, jitter float64) (grant.Silence, error) {
	var is grant.Silence
	err := s.main.writeTx(ctx, func(tx *txn) error {
		was, err := scanSilence(tx.QueryRowContext(ctx, silenceOf, device))
		if err != nil && !isNone(err) {
			return err
		}
		is = normalSilence(was.Miss(device, why, now, jitter))
		_, err = tx.ExecContext(ctx, putSilence, is.Device, is.Since.UnixMilli(), int64(is.Missed), is.Until.UnixMilli(), is.Why)
		return err
	})
	return is, s.main.explain("note that "+device+" does not answer", err)
}

// Answered notes that a device answered: what only waited for that is due now. It
// writes only when it had not.
func (s *Store) Answered(ctx context.Context, device string, now time.Time) error {
	silent := false
	err := s.main.readOne(ctx, func(db *sql.DB) error {
		_, err := scanSilence(db.QueryRowContext(ctx, silenceOf, device))
		if silent = err == nil; isNone(err) {
			return nil
		}
		return err
	})
	if err == nil && silent {
		heard := int64(0)
		err = s.main.ringTx(ctx, func(tx *txn) error {
			if _, err := tx.ExecContext(ctx, endSilence, device); err != nil {
				return err
			}
			res, err := tx.ExecContext(ctx, heardJobs, device, now.UnixMilli())
			if err == nil {
				heard, err = res.RowsAffected()
			}
			return err
		}, func() bool { return heard > 0 })
	}
	return s.main.explain("note that "+device+" answers", err)
}

// Silences returns the devices that did not answer when they were last asked,
// by name.
func (s *Store) Silences(ctx context.Context) ([]grant.Silence, error) {
	var list []grant.Silence
	err := s.main.readOne(ctx, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, allSilences)
		list, err = all(rows, err, scanSilence)
		return err
	})
	return list, s.main.explain("devices that do not answer", err)
}

func scanSilence(r scanner) (s grant.Silence, err error) {
	return s, r.Scan(&s.Device, msTime{&s.Since}, &s.Missed, msTime{&s.Until}, &s.Why)
}

func normalSilence(s grant.Silence) grant.Silence {
	s.Since, s.Until, s.Why = stamp(s.Since), stamp(s.Until), valid(s.Why)
	return s
}
