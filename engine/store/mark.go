package store

import (
	"context"
	"database/sql"
	"time"
)

// Mark notes that something was done at a time, for example "served" or
// "swept". An earlier time than the one noted changes nothing.
func (s *Store) Mark(ctx context.Context, what string, at time.Time) error {
	err := s.main.writeTx(ctx, func(tx *txn) error {
		_, err := tx.ExecContext(ctx, setMark, what, at.UnixMilli())
		return err
	})
	return s.main.explain("mark "+what, err)
}

// Marked returns when something was done last; the zero time means never.
func (s *Store) Marked(ctx context.Context, what string) (time.Time, error) {
	var at time.Time
	err := s.main.readOne(ctx, func(db *sql.DB) error {
		at = time.Time{}
		err := db.QueryRowContext(ctx, `SELECT at FROM marks WHERE what = $1`, what).Scan(msTime{&at})
		if isNone(err) {
			return nil
		}
		return err
	})
	return at, s.main.explain("mark "+what, err)
}
