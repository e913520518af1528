package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"runner/engine/grant"
)

// UIDRest is how long a uid is not given again after it was reserved.
const UIDRest = 400 * 24 * time.Hour

const (
	latestUID = `SELECT latest FROM uid_ranges WHERE device = $1`
	putRange  = `INSERT INTO uid_ranges (device, first_uid, last_uid, latest, latest_at) VALUES ($1, $2, $3, $4, $5)
	ON CONFLICT (device) DO UPDATE SET first_uid = excluded.first_uid, last_uid = excluded.last_uid,
	latest = excluded.latest, latest_at = excluded.latest_at`
	usedUIDs = `SELECT uid FROM uids WHERE device = $1 AND uid >= $2 AND uid <= $3 ORDER BY uid`
	// A grant may outlive the rest of its uid: nobody knows how long a removal
	// is blocked.
	restedUID = `SELECT uid FROM uids WHERE device = $1 AND burned_at IS NULL AND reserved_at <= $2 AND uid >= $3 AND uid <= $4
	AND NOT EXISTS (SELECT 1 FROM grants WHERE grants.device = uids.device AND grants.uid = uids.uid AND creates = 1 AND grants.uid <> 0 AND ` + open + `)
	ORDER BY reserved_at, uid LIMIT 1`
	reserveUID = `INSERT INTO uids (device, uid, reserved_at) VALUES ($1, $2, $3)
	ON CONFLICT (device, uid) DO UPDATE SET reserved_at = excluded.reserved_at`
	burnUID = `INSERT INTO uids (device, uid, burned_at) VALUES ($1, $2, $3)
	ON CONFLICT (device, uid) DO UPDATE SET burned_at = excluded.burned_at`
)

// ReserveUID returns a uid from first to last, both included, that nobody got
// on this device before, going round the range from the one given last; when
// all were given, the one that has rested longest, if that is at least
// [UIDRest] and no grant that has not ended has it. It is given to nobody else
// from now on, whether it is used or not. *grant.ExhaustedError: none is left.
func (s *Store) ReserveUID(ctx context.Context, device string, first, last int64, now time.Time) (int64, error) {
	var uid int64
	err := s.main.writeTx(ctx, func(tx *txn) error {
		var err error
		if uid, err = pickUID(ctx, tx.Tx, device, first, last, now); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, reserveUID, device, uid, now.UnixMilli()); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, putRange, device, first, last, uid, now.UnixMilli())
		return err
	})
	if err != nil {
		return 0, s.main.explain("reserve a uid on "+device, err)
	}
	return uid, nil
}

// NextUID returns what ReserveUID would give now, and gives nothing.
func (s *Store) NextUID(ctx context.Context, device string, first, last int64, now time.Time) (uid int64, err error) {
	err = s.main.readTx(ctx, func(tx *sql.Tx) (err error) {
		uid, err = pickUID(ctx, tx, device, first, last, now)
		return err
	})
	if err != nil {
		return 0, s.main.explain("look for a uid on "+device, err)
	}
	return uid, nil
}

// checkRange refuses ranges that hold nothing or root.
func checkRange(first, last int64) error {
	if first <= 0 || last < first {
		return fmt.Errorf("uids %d to %d are no range", first, last)
	}
	return nil
}

func pickUID(ctx context.Context, tx *sql.Tx, device string, first, last int64, now time.Time) (int64, error) {
	if err := checkRange(first, last); err != nil {
		return 0, err
	}
	from := first
	err := tx.QueryRowContext(ctx, latestUID, device).Scan(&from)
	switch {
	case isNone(err):
	case err != nil:
		return 0, err
	case from < first || from > last:
		from = first
	}
	for _, part := range [][2]int64{{from, last}, {first, from - 1}} {
		uid, err := unusedUID(ctx, tx, device, part[0], part[1])
		if err != nil || uid <= part[1] {
			return uid, err
		}
	}
	uid, err := scanInt(tx.QueryRowContext(ctx, restedUID, device, now.Add(-UIDRest).UnixMilli(), first, last))
	if isNone(err) {
		return 0, &grant.ExhaustedError{Device: device, First: first, Last: last}
	}
	return uid, err
}

// unusedUID returns the first uid from first on that was never used, or one
// after last.
func unusedUID(ctx context.Context, tx *sql.Tx, device string, first, last int64) (int64, error) {
	rows, err := tx.QueryContext(ctx, usedUIDs, device, first, last)
	if err != nil {
		return 0, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		used, err := scanInt(rows)
		if err != nil {
			return 0, err
		}
		if used != first {
			break
		}
		first++
	}
	return first, rows.Err()
}

func scanInt(r scanner) (n int64, err error) { return n, r.Scan(&n) }

// BurnUID keeps a uid of a device from ever being given again, because files
// or processes of it were found there.
func (s *Store) BurnUID(ctx context.Context, device string, uid int64, now time.Time) error {
	err := s.main.writeTx(ctx, func(tx *txn) error {
		_, err := tx.ExecContext(ctx, burnUID, device, uid, now.UnixMilli())
		return err
	})
	return s.main.explain(fmt.Sprintf("burn uid %d on %s", uid, device), err)
}

// UIDUse returns how many uids of the device's range could not be given when
// the latest one was reserved, that one included, and how many the range has;
// both are 0 for a device that never had one reserved.
func (s *Store) UIDUse(ctx context.Context, device string) (used, size int64, err error) {
	err = s.main.readTx(ctx, func(tx *sql.Tx) error {
		var first, last, at int64
		used, size = 0, 0
		err := tx.QueryRowContext(ctx, `SELECT first_uid, last_uid, latest_at FROM uid_ranges WHERE device = $1`, device).Scan(&first, &last, &at)
		if isNone(err) {
			return nil
		}
		if err != nil {
			return err
		}
		size = last - first + 1
		return tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM uids WHERE device = $1 AND uid >= $2 AND uid <= $3
			AND (burned_at IS NOT NULL OR reserved_at > $4)`, device, first, last, at-UIDRest.Milliseconds()).Scan(&used)
	})
	return used, size, s.main.explain("uids of "+device, err)
}
