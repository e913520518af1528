package store

import (
	"context"
	"database/sql"
	"fmt"

	"runner/engine/grant"
)

const (
	// dropBatch is how many chunks one transaction deletes: a large one would
	// keep the writers of all other executions waiting.
	dropBatch = 500
)

const (
	insertChunk = `INSERT INTO chunks (execution, start, size, at, step, stream, data) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	lastChunk   = `SELECT start, size FROM chunks WHERE execution = $1 ORDER BY start DESC LIMIT 1`
	sameChunk   = `SELECT COUNT(*) FROM chunks WHERE execution = $1 AND start = $2 AND step = $3 AND stream = $4 AND data = $5`
	readChunks  = `SELECT execution, start, at, step, stream, data FROM chunks
	WHERE execution = $1 AND start >= (SELECT COALESCE(MAX(start), 0) FROM chunks WHERE execution = $1 AND start <= $2)
	AND start + size > $2 ORDER BY start LIMIT $3`
	dropChunks = `DELETE FROM chunks WHERE execution = $1 AND start IN
	(SELECT start FROM chunks WHERE execution = $1 AND start >= $2 AND start < $3 AND start + size <= $3 ORDER BY start LIMIT $4)`
	logSize = `SELECT COALESCE(SUM(size), 0), COALESCE(MAX(start + size), 0) FROM chunks WHERE execution = $1`
)

// AppendLog stores chunks at the end of their executions' logs, all or none.
// A chunk may start after the end of the one before (what is between was
// dropped), not inside it. Storing the same chunk again changes nothing.
// Chunks without data are left out. Logs survive the death of the process, the
// latest ones not always the machine's.
func (s *Store) AppendLog(ctx context.Context, chunks []grant.Chunk) error {
	err := s.logs.writeTx(ctx, func(tx *txn) error {
		ends := map[string]int64{}
		for i := range chunks {
			if err := appendChunk(ctx, tx.Tx, ends, &chunks[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return s.logs.explain("append to the log", err)
}

// appendChunk stores one chunk; ends remembers where the logs end.
func appendChunk(ctx context.Context, tx *sql.Tx, ends map[string]int64, c *grant.Chunk) error {
	if err := checkChunk(c); err != nil || len(c.Data) == 0 {
		return err
	}
	end, ok := ends[c.Execution]
	if !ok {
		var start, size int64
		if err := tx.QueryRowContext(ctx, lastChunk, c.Execution).Scan(&start, &size); err != nil && !isNone(err) {
			return err
		}
		end = start + size
	}
	if c.Offset < end {
		same, err := scanInt(tx.QueryRowContext(ctx, sameChunk, c.Execution, c.Offset, c.Step, c.Stream, c.Data))
		if err == nil && same == 0 {
			err = overlap(c, end)
		}
		return err
	}
	ends[c.Execution] = c.End()
	_, err := tx.ExecContext(ctx, insertChunk, c.Execution, c.Offset, len(c.Data), c.At.UnixMilli(), c.Step, c.Stream, c.Data)
	return err
}

func checkChunk(c *grant.Chunk) error {
	if c.Offset < 0 {
		return fmt.Errorf("a chunk of %s starts at %d", c.Execution, c.Offset)
	}
	return checkID("execution", c.Execution)
}

func overlap(c *grant.Chunk, end int64) error {
	return fmt.Errorf("a chunk of %s starts at %d, inside the log, which ends at %d", c.Execution, c.Offset, end)
}

// ReadLog returns the first chunks of an execution's log that end after offset
// from, at most limit (0: 1000), by offset. The first one is cut to start at
// from. Between chunks that do not meet, output was dropped. Nothing means that
// the log has no more, yet.
func (s *Store) ReadLog(ctx context.Context, execution string, from int64, limit int) ([]grant.Chunk, error) {
	var chunks []grant.Chunk
	err := s.logs.readOne(ctx, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, readChunks, execution, from, limited(limit))
		chunks, err = all(rows, err, scanChunk)
		return err
	})
	return cutFront(chunks, from), s.logs.explain("read the log of "+execution, err)
}

func scanChunk(r scanner) (c grant.Chunk, err error) {
	return c, r.Scan(&c.Execution, &c.Offset, msTime{&c.At}, &c.Step, &c.Stream, &c.Data)
}

// cutFront takes away what the first chunk has before from.
func cutFront(chunks []grant.Chunk, from int64) []grant.Chunk {
	if len(chunks) > 0 && chunks[0].Offset < from {
		c := &chunks[0]
		c.Data, c.Offset = c.Data[from-c.Offset:], from
	}
	return chunks
}

// DropLog deletes the chunks of an execution that lie wholly between the
// offsets from and to, in small transactions: when it fails, some are gone.
func (s *Store) DropLog(ctx context.Context, execution string, from, to int64) error {
	for {
		var n int64
		err := s.logs.writeTx(ctx, func(tx *txn) error {
			res, err := tx.ExecContext(ctx, dropChunks, execution, from, to, dropBatch)
			if err == nil {
				n, err = res.RowsAffected()
			}
			return err
		})
		if err != nil {
			return s.logs.explain("drop the log of "+execution, err)
		}
		if n < dropBatch {
			return nil
		}
	}
}

// LogSize returns how many bytes of an execution's log are stored and the
// offset at which it ends.
func (s *Store) LogSize(ctx context.Context, execution string) (stored, end int64, err error) {
	err = s.logs.readOne(ctx, func(db *sql.DB) error {
		return db.QueryRowContext(ctx, logSize, execution).Scan(&stored, &end)
	})
	return stored, end, s.logs.explain("size of the log of "+execution, err)
}
