package store

import (
	"context"
	"database/sql"
)

const (
	readProof = `SELECT sealed FROM proof WHERE one = 1`
	keepProof = `INSERT INTO proof (one, sealed) VALUES (1, $1) ON CONFLICT (one) DO NOTHING`
)

// Proof returns what was sealed with the key of this store when it was first used,
// or nil: who cannot open it has another key.
func (s *Store) Proof(ctx context.Context) (sealed []byte, err error) {
	err = s.main.readOne(ctx, func(db *sql.DB) error {
		sealed = nil
		if err := db.QueryRowContext(ctx, readProof).Scan(&sealed); !isNone(err) {
			return err
		}
		return nil
	})
	return sealed, s.main.explain("proof of the key", err)
}

// KeepProof keeps sealed unless there is such a proof, and returns the one that counts.
func (s *Store) KeepProof(ctx context.Context, sealed []byte) (kept []byte, err error) {
	err = s.main.writeTx(ctx, func(tx *txn) error {
		if _, err := tx.ExecContext(ctx, keepProof, sealed); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, readProof).Scan(&kept)
	})
	return kept, s.main.explain("proof of the key", err)
}
