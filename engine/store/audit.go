package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"runner/engine/grant"
)

// ChainError says where the audit chain does not hold.
type ChainError struct {
	Seq     int64 // of the first row that is wrong or missing
	Problem string
}

// Error returns a full sentence.
func (e *ChainError) Error() string {
	return fmt.Sprintf("the audit chain is broken at row %d: %s", e.Seq, e.Problem)
}

// auditRow is an event as it is stored and hashed: its JSON, with the fields in
// this order and detail's keys sorted, is the canonical form.
type auditRow struct {
	Seq    int64             `json:"seq"`
	At     int64             `json:"at"`
	Actor  string            `json:"actor"`
	Action string            `json:"action"`
	Grant  string            `json:"grant_id"`
	Detail map[string]string `json:"detail,omitempty"`

	prev, hash string
}

// link returns the hex SHA-256 over the hash of the row before, a line feed and
// the canonical JSON of the row.
func (r *auditRow) link() (string, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	h.Write([]byte(r.prev + "\n"))
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// appendAudit adds the events at the end of the chain.
func appendAudit(ctx context.Context, tx *txn, events []grant.Event) error {
	if len(events) == 0 {
		return nil
	}
	if tx.head == nil {
		tx.head = &auditRow{}
		if err := tx.QueryRowContext(ctx, `SELECT seq, hash FROM audit_head WHERE one = 1`).Scan(&tx.head.Seq, &tx.head.hash); err != nil {
			return err
		}
	}
	r := *tx.head
	for _, e := range events {
		r = auditRow{Seq: r.Seq + 1, At: e.At.UnixMilli(), Actor: e.Actor, Action: e.Action, Grant: e.Grant, Detail: e.Detail, prev: r.hash}
		var err error
		if r.hash, err = r.link(); err != nil {
			return err
		}
		var detail any
		if r.Detail != nil {
			b, err := json.Marshal(r.Detail)
			if err != nil {
				return err
			}
			detail = string(b)
		}
		if err := tx.put(ctx, `INSERT INTO audit (seq, at, actor, action, grant_id, detail, prev_hash, hash)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, r.Seq, r.At, r.Actor, r.Action, r.Grant, detail, r.prev, r.hash); err != nil {
			return err
		}
	}
	tx.head = &r
	return tx.put(ctx, `UPDATE audit_head SET seq = $1, hash = $2 WHERE one = 1`, r.Seq, r.hash)
}

const (
	auditColumns = `seq, at, actor, action, grant_id, detail, prev_hash, hash`
	auditAll     = `SELECT ` + auditColumns + ` FROM audit ORDER BY seq`
	auditOf      = `SELECT ` + auditColumns + ` FROM audit WHERE grant_id = $1 ORDER BY seq`
)

func scanAudit(r scanner) (a auditRow, err error) {
	var detail sql.NullString
	if err = r.Scan(&a.Seq, &a.At, &a.Actor, &a.Action, &a.Grant, &detail, &a.prev, &a.hash); err != nil || !detail.Valid {
		return a, err
	}
	if json.Unmarshal([]byte(detail.String), &a.Detail) != nil {
		a.Detail = map[string]string{"": detail.String} // not ours: the hash will not match
	}
	return a, nil
}

func scanEvent(r scanner) (grant.Event, error) {
	a, err := scanAudit(r)
	e := grant.Event{Actor: a.Actor, Action: a.Action, Grant: a.Grant, Detail: a.Detail}
	_ = msTime{&e.At}.Scan(a.At)
	return e, err
}

// Audit returns the audit rows of a grant, or all with an empty id, oldest
// first.
func (s *Store) Audit(ctx context.Context, grantID string) ([]grant.Event, error) {
	var events []grant.Event
	err := s.main.readOne(ctx, func(db *sql.DB) error {
		q, args := auditAll, []any{}
		if grantID != "" {
			q, args = auditOf, []any{grantID}
		}
		rows, err := db.QueryContext(ctx, q, args...)
		events, err = all(rows, err, scanEvent)
		return err
	})
	return events, s.main.explain("audit rows", err)
}

// VerifyAudit recomputes the whole audit chain and returns a *ChainError for
// the first row that was changed, added, moved or taken away, also at the end.
func (s *Store) VerifyAudit(ctx context.Context) error {
	err := s.main.readTx(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, auditAll)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		last := auditRow{}
		for rows.Next() {
			r, err := scanAudit(rows)
			if err != nil {
				return err
			}
			if err := r.follows(&last); err != nil {
				return err
			}
			last = r
		}
		if err := rows.Err(); err != nil {
			return err
		}
		var head auditRow
		if err := tx.QueryRowContext(ctx, `SELECT seq, hash FROM audit_head WHERE one = 1`).Scan(&head.Seq, &head.hash); err != nil {
			return err
		}
		if head.Seq != last.Seq || head.hash != last.hash {
			return &ChainError{last.Seq + 1, fmt.Sprintf("the store wrote %d rows, the last with hash %.8s…", head.Seq, head.hash)}
		}
		return nil
	})
	return s.main.explain("verify audit", err)
}

// follows checks r against the row before it.
func (r *auditRow) follows(last *auditRow) error {
	if r.Seq != last.Seq+1 {
		return &ChainError{last.Seq + 1, "it is missing"}
	}
	if r.prev != last.hash {
		return &ChainError{r.Seq, "it does not follow the row before it"}
	}
	if want, err := r.link(); err != nil || want != r.hash {
		return &ChainError{r.Seq, "its content is not what was written"}
	}
	return nil
}
