package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"runner/engine/grant"
)

const (
	scannedColumns = `device, tried_at, error, away, scanned_at, credential, marked, in_order, found, findings`
	// It counts for one of those who saw the same last attempt.
	beginScan = `INSERT INTO scans (` + scannedColumns + `) VALUES ($1, $2, $3, $4, NULL, '', 0, 0, 0, '[]')
	ON CONFLICT (device) DO UPDATE SET tried_at = excluded.tried_at, error = excluded.error, away = excluded.away WHERE scans.tried_at = $5`
	putScan = `INSERT INTO scans (` + scannedColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
	ON CONFLICT (device) DO UPDATE SET tried_at = excluded.tried_at, error = excluded.error, away = excluded.away, scanned_at = excluded.scanned_at,
	credential = excluded.credential, marked = excluded.marked, in_order = excluded.in_order, found = excluded.found, findings = excluded.findings`
	scannedOne = `SELECT ` + scannedColumns + ` FROM scans WHERE device = $1`
	scannedAll = `SELECT ` + scannedColumns + ` FROM scans ORDER BY device`
	scansFound = `SELECT ` + scannedColumns + ` FROM scans WHERE found > 0 ORDER BY device`
	dropScan   = `DELETE FROM scans WHERE device = $1`
)

// BeginScan notes that a device is being scanned, and reports whether it is the
// caller's to scan: was is when it was tried last, as the caller has seen it. Of
// several who saw the same one may.
func (s *Store) BeginScan(ctx context.Context, device string, was, now time.Time) (bool, error) {
	var n int64
	b := grant.Scanned{Device: device}.Begin(now)
	err := s.main.writeTx(ctx, func(tx *txn) error {
		tried := int64(-1) // no time: then there must be no row
		if !was.IsZero() {
			tried = was.UnixMilli()
		}
		res, err := tx.ExecContext(ctx, beginScan, device, b.Tried.UnixMilli(), b.Error, flag(b.Away), tried)
		if err == nil {
			n, err = res.RowsAffected()
		}
		return err
	})
	return n == 1, s.main.explain("begin to scan "+device, err)
}

// PutScan keeps what a scan came to. After one that did not work, what was found
// before stays; a scan that began before the latest one changes nothing.
func (s *Store) PutScan(ctx context.Context, n grant.Scanned) error {
	err := s.main.writeTx(ctx, func(tx *txn) error {
		was, err := scanScanned(tx.QueryRowContext(ctx, scannedOne, n.Device))
		if err != nil && !isNone(err) {
			return err
		}
		is, changed := nextScan(was, n)
		if !changed {
			return nil
		}
		found, err := json.Marshal(is.Findings)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, putScan, is.Device, is.Tried.UnixMilli(), is.Error, flag(is.Away), ms(is.At), is.Credential,
			int64(is.Marked), int64(is.OK), int64(is.Found), string(found))
		return err
	})
	return s.main.explain("keep the scan of "+n.Device, err)
}

// nextScan is what is kept of a device after one more scan; was is zero before the
// first.
func nextScan(was, is grant.Scanned) (grant.Scanned, bool) {
	is = normalScanned(is)
	switch {
	case is.Tried.Before(was.Tried):
		return was, false
	case is.Error != "" && was.Device != "":
		was.Tried, was.Error, was.Away = is.Tried, is.Error, is.Away
		return was, true
	}
	return is, true
}

// normalScanned returns a copy as a store gives it back.
func normalScanned(s grant.Scanned) grant.Scanned {
	s.Tried, s.At = stamp(s.Tried), stamp(s.At)
	tidy(&s.Device, &s.Error, &s.Credential)
	s.Found = max(s.Found, len(s.Findings))
	list := []grant.Finding{}
	for _, f := range first(s.Findings, grant.MaxFindings) {
		f.Until = stamp(f.Until)
		tidy(&f.What, &f.Object, &f.Mark, &f.Grant, &f.SID)
		f.Why = slices.Clone(f.Why)
		for i := range f.Why {
			tidy(&f.Why[i])
		}
		list = append(list, f)
	}
	s.Findings = list
	return s
}

func scanScanned(r scanner) (s grant.Scanned, err error) {
	var findings string
	err = r.Scan(&s.Device, msTime{&s.Tried}, &s.Error, &s.Away, maybeTime{&s.At}, &s.Credential, &s.Marked, &s.OK, &s.Found, &findings)
	if err != nil {
		return grant.Scanned{}, err
	}
	return s, json.Unmarshal([]byte(findings), &s.Findings)
}

// Scans returns what the latest scans came to, by device: all of them, or those
// that found something.
func (s *Store) Scans(ctx context.Context, found bool) ([]grant.Scanned, error) {
	q := scannedAll
	if found {
		q = scansFound
	}
	var list []grant.Scanned
	err := s.main.readOne(ctx, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, q)
		list, err = all(rows, err, scanScanned)
		return err
	})
	return list, s.main.explain("scans", err)
}

// DropScan forgets what was found on a device that there is no more.
func (s *Store) DropScan(ctx context.Context, device string) error {
	err := s.main.writeTx(ctx, func(tx *txn) error {
		_, err := tx.ExecContext(ctx, dropScan, device)
		return err
	})
	return s.main.explain("forget the scan of "+device, err)
}

// BeginScan does what [Store.BeginScan] does.
func (m *Memory) BeginScan(ctx context.Context, device string, was, now time.Time) (bool, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	if old, there := m.scans[device]; there && !old.Tried.Equal(stamp(was)) {
		return false, nil
	}
	b := m.scans[device]
	b.Device = device
	m.scans[device] = normalScanned(b.Begin(now))
	return true, nil
}

// PutScan does what [Store.PutScan] does.
func (m *Memory) PutScan(ctx context.Context, n grant.Scanned) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	m.scans[n.Device], _ = nextScan(m.scans[n.Device], n)
	return nil
}

// Scans does what [Store.Scans] does.
func (m *Memory) Scans(ctx context.Context, found bool) ([]grant.Scanned, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var list []grant.Scanned
	for _, device := range slices.Sorted(maps.Keys(m.scans)) {
		if s := m.scans[device]; !found || s.Found > 0 {
			list = append(list, normalScanned(s))
		}
	}
	return list, nil
}

// DropScan does what [Store.DropScan] does.
func (m *Memory) DropScan(ctx context.Context, device string) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	delete(m.scans, device)
	return nil
}
