package store_test

import (
	"testing"
)

// A statement is kept with its connection: it may be run again while its rows are
// read, after it failed, and after the schema changed.
func TestStatementsThatAreKept(t *testing.T) {
	t.Parallel()
	db := openStore(t).Raw() // one connection
	exec := func(stmt string, args ...any) {
		t.Helper()
		_, err := db.ExecContext(t.Context(), stmt, args...)
		ok(t, err)
	}
	exec(`CREATE TABLE t (a BIGINT PRIMARY KEY)`)
	const insert, all = `INSERT INTO t (a) VALUES ($1)`, `SELECT a FROM t ORDER BY a`
	for a := range 3 {
		exec(insert, a)
	}
	if _, err := db.ExecContext(t.Context(), insert, 1); err == nil {
		t.Fatal("a key twice is no error")
	}
	exec(insert, 3)
	tx, err := db.BeginTx(t.Context(), nil)
	ok(t, err)
	sum := 0
	outer, err := tx.QueryContext(t.Context(), all)
	ok(t, err)
	for outer.Next() {
		var a int
		ok(t, outer.Scan(&a))
		inner, err := tx.QueryContext(t.Context(), all)
		ok(t, err)
		for inner.Next() {
			var b int
			ok(t, inner.Scan(&b))
			sum += 10*a + b
		}
		ok(t, inner.Err())
		ok(t, inner.Close())
	}
	ok(t, outer.Err())
	ok(t, outer.Close())
	ok(t, tx.Rollback())
	same(t, sum, 4*10*6+4*6)
	exec(`ALTER TABLE t ADD COLUMN b TEXT NOT NULL DEFAULT 'x'`)
	exec(insert, 4)
	var n int
	ok(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM t WHERE b = $1`, "x").Scan(&n))
	same(t, n, 5)
	ok(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM t WHERE b = $1`, "y").Scan(&n))
	same(t, n, 0)
	exec(`DROP TABLE t`)
	if _, err := db.ExecContext(t.Context(), insert, 5); err == nil {
		t.Fatal("a table that is gone is no error")
	}
}
