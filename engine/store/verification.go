package store

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"time"
)

// Verification is what it came to when a create template and its removal were
// tried on a throw-away machine. It is about the two texts with these hashes
// and says nothing of any other.
type Verification struct {
	Template    string // name of the create template
	OS          string // id and version of the system it was tried on: debian 12
	Platform    string
	Hash        string // of the create template
	Removal     string // name of the delete template
	RemovalHash string
	At          time.Time
	Runner      string // version of the program
	Cases       int    // how many there were
	Failed      int    // how many of them went wrong: 0 is what is wanted
}

const (
	verificationColumns = `template, os, platform, hash, removal, removal_hash, at, runner, cases, failed`
	putVerification     = `INSERT INTO verifications (` + verificationColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
	ON CONFLICT (template, os) DO UPDATE SET platform = excluded.platform, hash = excluded.hash, removal = excluded.removal,
	removal_hash = excluded.removal_hash, at = excluded.at, runner = excluded.runner, cases = excluded.cases, failed = excluded.failed`
	allVerifications = `SELECT ` + verificationColumns + ` FROM verifications ORDER BY template, os`
)

// PutVerification keeps v in place of what was kept of its template and system.
func (s *Store) PutVerification(ctx context.Context, v Verification) error {
	err := s.main.writeTx(ctx, func(tx *txn) error {
		_, err := tx.ExecContext(ctx, putVerification, v.Template, v.OS, v.Platform, v.Hash, v.Removal, v.RemovalHash,
			v.At.UnixMilli(), v.Runner, v.Cases, v.Failed)
		return err
	})
	return s.main.explain("keep the verification of "+v.Template, err)
}

// Verifications returns what is kept, by template and system.
func (s *Store) Verifications(ctx context.Context) ([]Verification, error) {
	var list []Verification
	err := s.main.readOne(ctx, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, allVerifications)
		list, err = all(rows, err, func(r scanner) (v Verification, err error) {
			return v, r.Scan(&v.Template, &v.OS, &v.Platform, &v.Hash, &v.Removal, &v.RemovalHash, msTime{&v.At}, &v.Runner, &v.Cases, &v.Failed)
		})
		return err
	})
	return list, s.main.explain("verifications", err)
}

// PutVerification does what [Store.PutVerification] does.
func (m *Memory) PutVerification(ctx context.Context, v Verification) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	v.At = stamp(v.At)
	m.verifications = slices.DeleteFunc(m.verifications, func(old Verification) bool {
		return old.Template == v.Template && old.OS == v.OS
	})
	m.verifications = append(m.verifications, v)
	slices.SortFunc(m.verifications, func(a, b Verification) int {
		return cmp.Or(cmp.Compare(a.Template, b.Template), cmp.Compare(a.OS, b.OS))
	})
	return nil
}

// Verifications does what [Store.Verifications] does.
func (m *Memory) Verifications(ctx context.Context) ([]Verification, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return slices.Clone(m.verifications), nil
}
