package store_test

import (
	"strings"
	"testing"

	"runner/engine/grant"
	"runner/engine/store/pgtest"
)

// pair starts a server and a standby of it, and returns the URL of a database of both.
func pair(t *testing.T, wait bool) (first, second *pgtest.Server, url string) {
	t.Helper()
	first = must[*pgtest.Server](t)(pgtest.Start(t.Context()))
	t.Cleanup(func() { ok(t, first.Stop()) })
	ok(t, first.SQL(t.Context(), `CREATE DATABASE shared`))
	second = must[*pgtest.Server](t)(first.Follow(t.Context(), wait))
	t.Cleanup(func() { ok(t, second.Stop()) })
	return first, second, first.Both(second, "shared")
}

// The primary dies and its standby takes over: work goes on without opening anything
// again, and what was acknowledged is there. The one that comes back is not written to.
func TestAStandbyTakesOver(t *testing.T) {
	t.Parallel()
	first, second, url := pair(t, true)
	s := openAt(t, url)
	if risk, err := s.MayLose(t.Context()); err != nil || risk {
		t.Errorf("a server that waits for its standby may lose something: %v, %v", risk, err)
	}
	c, d := held(t, s, 1, "a"), begun(t, s, 2, "b")
	first.Crash()
	ok(t, second.SQL(t.Context(), `SELECT pg_promote()`))
	ok(t, collect(t, s, c.Grant.ID)) // nothing was lost, so nothing is withheld
	same(t, must[grant.Case](t)(s.Case(t.Context(), d.Grant.ID)).Grant.State, grant.Creating)
	e := held(t, s, 3, "c")
	ok(t, s.VerifyAudit(t.Context()))

	// the old one comes back and takes itself for the primary, as before
	ok(t, first.Resume(t.Context()))
	ok(t, first.SQL(t.Context(), `ALTER SYSTEM SET synchronous_standby_names = ''`))
	ok(t, first.SQL(t.Context(), `SELECT pg_reload_conf()`))
	ok(t, collect(t, openAt(t, url), e.Grant.ID)) // also who has just started goes to the other one
	second.Crash()
	if err := s.Change(t.Context(), e.Grant.ID, run(1, "n-1")); err == nil || !strings.Contains(err.Error(), "another one is the primary since") {
		t.Errorf("it writes to the one that was the primary before: %v", err)
	}
}

// A primary that does not wait for its standby may have handed secrets out that the
// standby does not know of.
func TestAStandbyThatMayLackSomethingHandsOutNoSecret(t *testing.T) {
	t.Parallel()
	first, second, url := pair(t, false)
	s := openAt(t, url)
	if risk, err := s.MayLose(t.Context()); err != nil || !risk {
		t.Errorf("a server that does not wait for its standby loses nothing: %v, %v", risk, err)
	}
	c, d := held(t, s, 1, "a"), begun(t, s, 2, "b")
	ok(t, first.SQL(t.Context(), `DO $$ DECLARE x pg_lsn := pg_current_wal_lsn(); BEGIN
		WHILE COALESCE((SELECT min(replay_lsn) < x FROM pg_stat_replication), true) LOOP PERFORM pg_sleep(0.02); END LOOP; END $$`)) // it lacks nothing, but who knows
	first.Crash()
	ok(t, second.SQL(t.Context(), `SELECT pg_promote()`))
	if err := collect(t, s, c.Grant.ID); err == nil || !strings.Contains(err.Error(), "put back to an earlier state") {
		t.Errorf("a secret is handed out that may have been handed out before: %v", err)
	}
	same(t, must[grant.Case](t)(s.Case(t.Context(), d.Grant.ID)).Grant.State, grant.Ending)
	ok(t, s.VerifyAudit(t.Context()))
}
