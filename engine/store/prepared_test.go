package store_test

import (
	"database/sql"
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
	each(t, tx, all, func(a int) {
		each(t, tx, all, func(b int) { sum += 10*a + b })
	})
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

// each reads the rows of a query one by one.
func each(t *testing.T, tx *sql.Tx, query string, do func(int)) {
	t.Helper()
	rows, err := tx.QueryContext(t.Context(), query)
	ok(t, err)
	defer rows.Close()
	for rows.Next() {
		var n int
		ok(t, rows.Scan(&n))
		do(n)
	}
	ok(t, rows.Err())
}
