package engine_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// floor writes what a grant needs, and nothing else: the rows of a finished grant
// once more under other names, in the eight transactions that nobody who is to find
// everything again after a crash can do without. Nothing is read, decided, sealed or
// compared, and no device is asked.
type floor struct {
	db, logs *sql.DB
	grant    []row
	jobs     []row // forward, removal
	runs     []row // their executions
	steps    [][]row
	changes  []row
	audit    []row // as many for each transaction as the engine wrote
	chunks   [][]row
	n        atomic.Int64

	mu    sync.Mutex
	known map[string]*sql.Stmt // parsed once, as those of the store are
}

// row is one row of a table, to be written under another name.
type row struct {
	table   string
	columns []string
	values  []any
}

// rowsOf reads rows.
func rowsOf(b *testing.B, db *sql.DB, table, where string, args ...any) (list []row) {
	b.Helper()
	rs, err := db.QueryContext(b.Context(), `SELECT * FROM `+table+` WHERE `+where, args...)
	if err != nil {
		b.Fatal(err)
	}
	defer rs.Close()
	columns, err := rs.Columns()
	if err != nil {
		b.Fatal(err)
	}
	for rs.Next() {
		r := row{table, columns, make([]any, len(columns))}
		to := make([]any, len(columns))
		for i := range to {
			to[i] = &r.values[i]
		}
		if err := rs.Scan(to...); err != nil {
			b.Fatal(err)
		}
		list = append(list, r)
	}
	if err := rs.Err(); err != nil {
		b.Fatal(err)
	}
	return list
}

func (r *row) text(column string) string {
	return fmt.Sprint(r.values[slices.Index(r.columns, column)])
}

// learn reads what a finished grant left in the store.
func (f *floor) learn(b *testing.B, db, logs *sql.DB, id string) {
	b.Helper()
	f.known = map[string]*sql.Stmt{}
	f.grant = rowsOf(b, db, "grants", "id = $1", id)
	f.jobs = rowsOf(b, db, "jobs", "grant_id = $1 ORDER BY seq", id)
	f.runs = rowsOf(b, db, "executions", "grant_id = $1 ORDER BY started_at, id", id)
	f.changes = rowsOf(b, db, "changes", "grant_id = $1", id)
	f.audit = rowsOf(b, db, "audit", "grant_id = $1 ORDER BY seq", id)
	for i := range f.runs {
		x := f.runs[i].text("id")
		f.steps = append(f.steps, rowsOf(b, db, "steps", "execution = $1", x))
		f.chunks = append(f.chunks, rowsOf(b, logs, "chunks", "execution = $1", x))
	}
	if len(f.jobs) != 2 || len(f.runs) != 2 || len(f.audit) < 5 || len(f.changes) == 0 || len(f.steps[0]) == 0 || len(f.chunks[1]) == 0 {
		b.Fatalf("%d jobs, %d executions, %d audit rows, %d changes: that is no finished grant", len(f.jobs), len(f.runs), len(f.audit), len(f.changes))
	}
	for _, s := range rowsOf(b, db, "snapshots", "1 = 1") {
		f.tx(b, f.db, func(put func(string, ...any)) { insert(put, s, nil) })
	}
}

// insert writes a row with some other values.
func insert(put func(string, ...any), r row, other map[string]any) {
	args := slices.Clone(r.values)
	marks := make([]string, len(args))
	for i, c := range r.columns {
		if v, is := other[c]; is {
			args[i] = v
		}
		marks[i] = "$" + strconv.Itoa(i+1)
	}
	put(`INSERT INTO `+r.table+` (`+strings.Join(r.columns, ", ")+`) VALUES (`+strings.Join(marks, ", ")+`)`, args...)
}

func (f *floor) tx(b *testing.B, db *sql.DB, do func(put func(string, ...any))) {
	b.Helper()
	type line struct {
		stmt *sql.Stmt
		args []any
	}
	var lines []line
	do(func(stmt string, args ...any) { lines = append(lines, line{f.parsed(b, db, stmt), args}) })
	tx, err := db.BeginTx(b.Context(), nil)
	if err != nil {
		b.Error(err)
		return
	}
	for _, l := range lines {
		if _, err := tx.StmtContext(b.Context(), l.stmt).ExecContext(b.Context(), l.args...); err != nil { //nolint:sqlclosecheck // it ends with the transaction
			b.Error(err)
		}
	}
	if err := tx.Commit(); err != nil {
		b.Error(err)
	}
}

func (f *floor) parsed(b *testing.B, db *sql.DB, stmt string) *sql.Stmt {
	b.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.known[stmt]
	if s == nil {
		var err error
		if s, err = db.PrepareContext(b.Context(), stmt); err != nil {
			b.Fatal(err)
		}
		f.known[stmt] = s
	}
	return s
}

// transactions is how many one grant takes here.
const transactions = 8

// one writes one grant from the request to the receipt.
func (f *floor) one(b *testing.B) {
	b.Helper()
	n := f.n.Add(1)
	name := "-" + strconv.FormatInt(n, 10)
	g := f.grant[0]
	id, device := g.text("id")+name, g.text("device")+name
	audited := 0
	// audit adds a row to the chain, as every change of a grant does.
	audit := func(put func(string, ...any)) {
		seq := n*100 + int64(audited)
		a := f.audit[min(audited, len(f.audit)-1)]
		audited++
		insert(put, a, map[string]any{"seq": seq, "grant_id": id})
		put(`UPDATE audit_head SET seq = $1, hash = $2 WHERE one = 1`, seq, a.text("hash"))
	}
	move := func(put func(string, ...any), job int, grantState, jobState, node string) {
		put(`UPDATE grants SET state = $2, expires_at = $3 WHERE id = $1`, id, grantState, n)
		put(`UPDATE jobs SET state = $2, node = $3, attempt = 1, due_at = $4, ready_at = NULL WHERE id = $1`, f.jobs[job].text("id")+name, jobState, node, n)
	}
	claim := func(put func(string, ...any), job int, state string) {
		move(put, job, state, "running", "n-1")
		insert(put, f.runs[job], map[string]any{"id": f.runs[job].text("id") + name, "grant_id": id, "job_id": f.jobs[job].text("id") + name, "ended_at": nil, "outcome": ""})
		audit(put)
	}
	done := func(put func(string, ...any), job int, state string) {
		move(put, job, state, "done", "")
		run := f.runs[job].text("id") + name
		put(`UPDATE executions SET ended_at = $2, outcome = 'ok' WHERE id = $1`, run, n)
		for _, s := range f.steps[job] {
			insert(put, s, map[string]any{"execution": run})
		}
		audit(put)
	}
	became := func(put func(string, ...any), state string) {
		for i := range f.changes {
			put(`UPDATE changes SET state = $3 WHERE grant_id = $1 AND seq = $2`, id, f.changes[i].values[slices.Index(f.changes[i].columns, "seq")], state)
		}
	}
	logged := func(job int) {
		f.tx(b, f.logs, func(put func(string, ...any)) {
			for _, c := range f.chunks[job] {
				insert(put, c, map[string]any{"execution": f.runs[job].text("id") + name})
			}
		})
	}

	f.tx(b, f.db, func(put func(string, ...any)) { // the request
		put(`INSERT INTO uids (device, uid, reserved_at) VALUES ($1, $2, $3)`, device, n, n)
		insert(put, g, map[string]any{"id": id, "device": device, "account": g.text("account") + name, "requester": g.text("requester") + name, "uid": n, "state": "requested"})
		for _, j := range f.jobs {
			insert(put, j, map[string]any{"id": j.text("id") + name, "grant_id": id, "device": device, "state": "waiting", "node": "", "ready_at": n})
		}
		audit(put)
	})
	f.tx(b, f.db, func(put func(string, ...any)) { claim(put, 0, "creating") })
	f.tx(b, f.db, func(put func(string, ...any)) { // what will be changed, before it is
		put(`UPDATE grants SET receipt = $2 WHERE id = $1`, id, g.text("receipt"))
		for _, c := range f.changes {
			insert(put, c, map[string]any{"grant_id": id, "state": "intended"})
		}
	})
	f.tx(b, f.db, func(put func(string, ...any)) { became(put, "done") })
	logged(0)
	f.tx(b, f.db, func(put func(string, ...any)) { done(put, 0, "active") })
	f.tx(b, f.db, func(put func(string, ...any)) { // somebody ends it
		put(`UPDATE grants SET state = 'ending', ended_at = $2 WHERE id = $1`, id, n)
		put(`UPDATE jobs SET due_at = $2, ready_at = $2 WHERE id = $1`, f.jobs[1].text("id")+name, n)
		audit(put)
	})
	f.tx(b, f.db, func(put func(string, ...any)) { claim(put, 1, "ending") })
	logged(1)
	f.tx(b, f.db, func(put func(string, ...any)) {
		became(put, "undone")
		put(`UPDATE grants SET receipt = $2, no_access_at = $3, no_trace_at = $3 WHERE id = $1`, id, g.text("receipt"), n)
		done(put, 1, "removed")
	})
}

// pool opens a database for the floor.
func pool(b *testing.B, driver, name string, most int) *sql.DB {
	b.Helper()
	db, err := sql.Open(driver, name)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(most)
	return db
}
