package store_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"runner/engine/grant"
	"runner/engine/store"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestVerifyAuditFindsTheFirstBrokenLink(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		stmt string
		seq  int64
	}{
		{`UPDATE audit SET actor = 'nobody' WHERE seq = 3`, 3},
		{`UPDATE audit SET at = at + 1 WHERE seq = 1`, 1},
		{`UPDATE audit SET grant_id = 'g-9999' WHERE seq = 2`, 2},
		{`UPDATE audit SET detail = '{"device":"other"}' WHERE seq = 4`, 4},
		{`UPDATE audit SET detail = NULL WHERE seq = 4`, 4},
		{`UPDATE audit SET detail = 'no json' WHERE seq = 4`, 4},
		{`UPDATE audit SET hash = prev_hash WHERE seq = 5`, 5},
		{`DELETE FROM audit WHERE seq = 1`, 1},
		{`DELETE FROM audit WHERE seq = 3`, 3},
		{`DELETE FROM audit WHERE seq >= 4`, 4},
		{`DELETE FROM audit`, 1},
		{`INSERT INTO audit SELECT 6, at, actor, action, grant_id, detail, hash, hash FROM audit WHERE seq = 5`, 6},
		{`UPDATE audit SET seq = 10 - seq`, 1},
	} {
		t.Run(c.stmt, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			for n := range 5 {
				ok(t, s.Create(t.Context(), newCase(n, fmt.Sprint("db", n)), nil))
			}
			ok(t, s.VerifyAudit(t.Context()))
			_, err := s.Raw().ExecContext(t.Context(), c.stmt)
			ok(t, err)
			err = s.VerifyAudit(t.Context())
			e, is := errors.AsType[*store.ChainError](err)
			if !is || e.Seq != c.seq {
				t.Fatalf("got %v, want row %d", err, c.seq)
			}
		})
	}
}

// A row that was rewritten together with its own hash is betrayed by the row
// after it. The hash is worked out here as its documentation says.
func TestVerifyAuditFindsARowWithANewHash(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for n := range 3 {
		ok(t, s.Create(t.Context(), newCase(n, fmt.Sprint("db", n)), nil))
	}
	forge := func(actor string) {
		t.Helper()
		var prev string
		ok(t, s.Raw().QueryRowContext(t.Context(), `SELECT prev_hash FROM audit WHERE seq = 2`).Scan(&prev))
		row := fmt.Sprintf(`{"seq":2,"at":%d,"actor":%q,"action":"grant.requested","grant_id":"g-0001","detail":{"device":"db1"}}`, t0.UnixMilli(), actor)
		sum := sha256.Sum256([]byte(prev + "\n" + row))
		_, err := s.Raw().ExecContext(t.Context(), `UPDATE audit SET actor = $1, hash = $2 WHERE seq = 2`, actor, hex.EncodeToString(sum[:]))
		ok(t, err)
	}
	forge("root") // as it was: the hash is the same
	ok(t, s.VerifyAudit(t.Context()))
	forge("nobody")
	e, is := errors.AsType[*store.ChainError](s.VerifyAudit(t.Context()))
	if !is || e.Seq != 3 {
		t.Fatalf("got %v, want row 3", e)
	}
}

func TestRefusedChangesLeaveNoAuditRow(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	ok(t, s.Create(t.Context(), newCase(2, "db1"), nil))
	ok(t, s.Change(t.Context(), "g-0001", run(0, "n-1")))
	want(t, s.Change(t.Context(), "g-0002", func(c *grant.Case) error {
		c.Events = append(c.Events, grant.Event{At: t0, Action: "job.claimed"})
		return run(0, "n-2")(c)
	}), grant.ErrBusy)
	same(t, len(must[[]grant.Event](t)(s.Audit(t.Context(), ""))), 2)
	ok(t, s.VerifyAudit(t.Context()))
}
