package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// synced: what is committed is on a standby, too, and outlives this server.
const (
	synced   = `CASE WHEN current_setting('synchronous_standby_names') <> '' AND current_setting('synchronous_commit') IN ('on', 'remote_apply') THEN 1 ELSE 0 END`
	readHome = `SELECT CAST(c.system_identifier AS TEXT), CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END, ` + synced + `,
	h.cluster, h.timeline, h.written, CAST(CAST(h.xmin AS TEXT) AS BIGINT), h.synced FROM pg_control_system() c LEFT JOIN home h ON h.one = 1`
	writeHome = `INSERT INTO home (one, cluster, timeline, written, synced) VALUES (1, $1, $2, CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT), $3)
	ON CONFLICT (one) DO UPDATE SET cluster = excluded.cluster, timeline = excluded.timeline, written = excluded.written, synced = excluded.synced`
	anyGrants = `SELECT COUNT(*) FROM (SELECT 1 FROM grants LIMIT 1) AS first`
)

// home tells whether the store is still where it was written last.
type home struct {
	now func() time.Time

	mu   sync.Mutex
	seen *pgx.Conn // on which it was looked at: nothing moves below a connection
	at   time.Time // when; whether a standby is waited for can change at any time
}

// lookAgain is how often it is looked at on the same connection.
const lookAgain = time.Minute

// look makes sure, before the first change that goes through a connection, that
// nothing that was committed is missing, and does what Restored says when it may be.
func (h *home) look(ctx context.Context, c *sql.Conn, begin func(context.Context, *sql.Conn) (*sql.Tx, error)) error {
	var pc *pgx.Conn
	if err := native(c, func(n *pgx.Conn) error { pc = n; return nil }); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen == pc && time.Since(h.at) < lookAgain {
		return nil
	}
	tx, err := begin(ctx, c)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if err := h.check(ctx, tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	h.seen, h.at = pc, time.Now()
	return nil
}

// whereabouts is what the database says of itself, and what it said last.
type whereabouts struct {
	cluster, timeline string
	synced            int64
	was               struct {
		cluster, timeline     sql.NullString
		written, xmin, synced sql.NullInt64
	}
}

func (h *home) check(ctx context.Context, tx *sql.Tx) error {
	var w whereabouts
	err := tx.QueryRowContext(ctx, readHome).Scan(&w.cluster, &w.timeline, &w.synced, &w.was.cluster, &w.was.timeline, &w.was.written, &w.was.xmin, &w.was.synced)
	if err != nil {
		return err
	}
	if w.timeline == "" {
		return errStandby
	}
	why, moved := w.moved()
	if moved && !w.was.cluster.Valid {
		some, err := scanInt(tx.QueryRowContext(ctx, anyGrants))
		if err != nil {
			return err
		}
		if some == 0 {
			why = "" // it is new
		}
	}
	if why != "" {
		if _, err := takeBack(ctx, &txn{Tx: tx}, h.now(), why); err != nil {
			return fmt.Errorf("the database was put back to an earlier state (%s): %w", why, err)
		}
	}
	if moved || w.was.synced.Int64 != w.synced {
		_, err = tx.ExecContext(ctx, writeHome, w.cluster, w.timeline, w.synced)
	}
	return err
}

// moved reports whether this is another place than the one of the last change; why is
// "" when nothing can have been lost on the way.
func (w *whereabouts) moved() (why string, moved bool) {
	switch was := &w.was; {
	case !was.cluster.Valid:
		return "it does not say where it was written", true
	case was.cluster.String != w.cluster, was.written.Int64&0xffffffff != was.xmin.Int64:
		return "it was loaded from a dump", true
	case was.timeline.String == w.timeline:
		return "", false
	case was.synced.Int64 == 0:
		return "a standby became the primary, or a backup was replayed, and the one before did not wait for a standby", true
	}
	return "", true
}
