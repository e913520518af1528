package store_test

import (
	"database/sql"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"runner/engine/grant"
	"runner/engine/store"
)

// fill makes n grants with two jobs each, as old and busy stores have them:
// most are over, some are active, a few are due.
const fill = `
WITH RECURSIVE i (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < %d)
INSERT INTO grants SELECT 'g-' || (10000000 + n), CASE WHEN n %% 10 = 0 THEN 'active' ELSE 'removed' END, 'user' || (n / 10), 'root', '', 'cred' || (n %% 50),
 'db' || (n %% 5000), 'jit' || n, 100000 + n, 1, n * 1000, n * 1000, n * 1000 + 3600000, 0, NULL, NULL, '', NULL, NULL, '', NULL, NULL, NULL, NULL, '{}', '{}', 0, NULL, NULL, '' FROM i;
INSERT INTO jobs SELECT replace(id, 'g-', 'j-') || '-c', id, 0, 'create', 0, 'done', device, requested_at, NULL, 1, '', '', NULL, '', '', NULL, NULL, NULL, requested_at, '', 0, 0, 0 FROM grants;
INSERT INTO jobs SELECT replace(id, 'g-', 'j-') || '-d', id, 1, 'delete', 1, CASE WHEN state = 'active' THEN 'waiting' ELSE 'done' END, device, expires_at,
 CASE WHEN state = 'active' THEN expires_at END, 0, '', '', NULL, '', '', NULL, NULL, NULL, NULL, '', 0, 0, 0 FROM grants;
INSERT INTO executions SELECT replace(id, 'j-', 'x-'), id, grant_id, kind, 't', device, 1, 'n', due_at, due_at, 'ok', '', '', 0, 0, 0, 0 FROM jobs WHERE seq = 0 AND attempt = 1 AND due_at %% 10000 = 0;
`

// A clever claim statement took 105 ms at 100,000 rows in the study: look-ups
// must stay index look-ups. The store never makes statistics, so that SQLite
// plans the same at every size; whoever makes them must not slow it down.
func TestLookUpsStayIndexLookUps(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	fillUp(t, s.Raw())
	for _, statistics := range []bool{false, true} {
		if statistics {
			_, err := s.Raw().ExecContext(t.Context(), `ANALYZE`)
			ok(t, err)
		}
		for name, q := range store.LookUps() {
			noScan(t, s.Raw(), name, q)
		}
		for name, q := range store.LogLookUps() {
			noScan(t, s.RawLogs(), name, q)
		}
		quick(t, s)
	}
}

// quick measures what every worker asks again and again.
func quick(t *testing.T, s *store.Store) {
	t.Helper()
	start := time.Now()
	for range 20 {
		same(t, len(must[[]grant.Ready](t)(s.Ready(t.Context(), grant.Want{Removal: true, Now: time.UnixMilli(60_000_000), Limit: 32}))), 32)
	}
	perReady := time.Since(start) / 20
	start = time.Now()
	for range 20 {
		must[grant.Case](t)(s.Case(t.Context(), "g-10001234"))
	}
	t.Logf("%d jobs: Ready(32) %v, Case %v", 2*manyGrants, perReady, time.Since(start)/20)
	if perReady > maxReady {
		t.Errorf("Ready takes %v", perReady)
	}
}

// fillUp runs fill, and makes the indexes afterwards: that is several times as
// fast.
func fillUp(t *testing.T, db *sql.DB) {
	t.Helper()
	do := func(stmt string) {
		t.Helper()
		_, err := db.ExecContext(t.Context(), stmt)
		ok(t, err)
	}
	do(`PRAGMA foreign_keys = OFF`)
	do(`BEGIN`) // there is one connection
	var drop, create string
	ok(t, db.QueryRowContext(t.Context(), `SELECT group_concat('DROP INDEX ' || name, ';'), group_concat(sql, ';')
		FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ('grants', 'jobs', 'executions')`).Scan(&drop, &create))
	do(drop)
	do(fmt.Sprintf(fill, manyGrants-1))
	do(create)
	do(`COMMIT`)
}

// fillMore and fillLogs fill what PostgreSQL would otherwise read whole because it
// is small.
const (
	fillMore = `
INSERT INTO audit SELECT n, n, '', '', 'g-' || n / 5, NULL, '', '' FROM generate_series(1, %[1]d) n;
INSERT INTO sessions SELECT replace(id, 'g-', 's-'), id, requester, credential, device, account, 'shell', '', 'n', '', requested_at, NULL, requested_at,
 CASE WHEN state = 'active' THEN NULL ELSE requested_at END, '', 0, 0, 0 FROM grants;
INSERT INTO uids SELECT 'db' || n %% 50, 100000 + n, n, NULL FROM generate_series(1, %[1]d) n;
INSERT INTO snapshots SELECT 'hash' || n, '', '', '' FROM generate_series(1, %[1]d) n;`
	fillLogs = `
INSERT INTO chunks SELECT 'x-' || n / 50, n %% 50, 1, n, 1, 'stdout', 'a' FROM generate_series(1, %d) n;
ANALYZE`
)

// PostgreSQL plans by statistics, and prepared statements without looking at what
// is asked for.
func TestLookUpsOnPostgreSQLStayIndexLookUps(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	const n = 20_000
	for _, stmt := range []string{fmt.Sprintf(fill, n-1), fmt.Sprintf(fillMore, n), `ANALYZE`} {
		_, err := s.Raw().ExecContext(t.Context(), stmt)
		ok(t, err)
	}
	_, err := s.RawLogs().ExecContext(t.Context(), fmt.Sprintf(fillLogs, n))
	ok(t, err)
	for db, queries := range map[*sql.DB]map[string]string{s.Raw(): store.LookUps(), s.RawLogs(): store.LogLookUps()} {
		for name, q := range queries {
			noSeqScan(t, db, name, q)
		}
	}
	start := time.Now()
	same(t, len(must[[]grant.Ready](t)(s.Ready(t.Context(), grant.Want{Removal: true, Now: time.UnixMilli(60_000_000), Limit: 32}))), 32)
	t.Logf("Ready(32) %v", time.Since(start))
}

// noSeqScan fails when the generic plan of a statement reads a whole table that
// grows, or sorts one to find its first rows.
func noSeqScan(t *testing.T, db *sql.DB, name, q string) {
	t.Helper()
	c, err := db.Conn(t.Context())
	ok(t, err)
	defer c.Close()
	for _, stmt := range []string{`SET plan_cache_mode = force_generic_plan`, `PREPARE p AS ` + q} {
		_, err := c.ExecContext(t.Context(), stmt)
		ok(t, err)
	}
	execute := `EXPLAIN (COSTS OFF) EXECUTE p`
	if n := len(unique(parameter.FindAllString(q, -1))); n > 0 {
		execute += `(` + strings.TrimSuffix(strings.Repeat(`'1', `, n), `, `) + `)`
	}
	rows, err := c.QueryContext(t.Context(), execute)
	ok(t, err)
	defer rows.Close()
	for rows.Next() {
		var line string
		ok(t, rows.Scan(&line))
		_, table, scans := strings.Cut(line, "Seq Scan on ")
		if table, _, _ := strings.Cut(table, " "); scans && grows[table] || strings.Contains(line, "Sort Key") && inOrder[name] && !sortsLittle[name] {
			t.Errorf("%s: %s\n%s", name, line, q)
		}
	}
	ok(t, rows.Err())
	_, err = c.ExecContext(t.Context(), `DEALLOCATE p`)
	ok(t, err)
}

// grows: tables that have a row for everything that ever happened.
var grows = map[string]bool{"grants": true, "jobs": true, "executions": true, "steps": true, "changes": true, "audit": true, "chunks": true, "uids": true}

var parameter = regexp.MustCompile(`\$\d+`)

// noScan fails when a plan walks a whole table or sorts what it found.
func noScan(t *testing.T, db *sql.DB, name, q string) {
	t.Helper()
	args := make([]any, 0, 4)
	for range unique(parameter.FindAllString(q, -1)) {
		args = append(args, "1")
	}
	rows, err := db.QueryContext(t.Context(), `EXPLAIN QUERY PLAN `+q, args...)
	ok(t, err)
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		ok(t, rows.Scan(&id, &parent, &unused, &detail))
		scans := strings.HasPrefix(detail, "SCAN ") && (!inOrder[name] || !strings.Contains(detail, " USING "))
		if scans || strings.Contains(detail, "TEMP B-TREE") && !sortsLittle[name] {
			t.Errorf("%s: %s\n%s", name, detail, q)
		}
	}
	ok(t, rows.Err())
}

// inOrder: lists that are read along an index until their limit, or whole.
var inOrder = map[string]bool{
	"cases": true, "executions": true, "open jobs": true, "finished jobs": true, "waiting jobs": true, "running": true,
	"sessions": true, "open sessions": true, "how many are blocked": true,
}

// sortsLittle: what is sorted is at most one row a device, or a few a grant.
var sortsLittle = map[string]bool{"running": true, "jobs of a grant": true, "sessions of a grant": true}

func unique(list []string) map[string]bool {
	set := map[string]bool{}
	for _, s := range list {
		set[s] = true
	}
	return set
}
