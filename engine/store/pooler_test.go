package store_test

import (
	"strings"
	"testing"

	"runner/engine/store"
	"runner/engine/store/pgtest"
)

// behind returns the URL of an empty database behind a PgBouncer.
func behind(t *testing.T, settings ...string) string {
	t.Helper()
	server := must[*pgtest.Server](t)(pgtest.Start(t.Context()))
	t.Cleanup(func() { ok(t, server.Stop()) })
	ok(t, server.SQL(t.Context(), `CREATE DATABASE shared`))
	p := must[*pgtest.Pooler](t)(server.Pool(t.Context(), settings...))
	t.Cleanup(func() { ok(t, p.Stop()) })
	return p.URL("shared")
}

// A pooler that keeps a session for a client is like the server itself, whatever it
// does about settings that come with a connection.
func TestAPoolerThatKeepsSessionsIsUsed(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]string{
		"that refuses settings": {"pool_mode = session"},
		"that drops settings":   {"pool_mode = session", "ignore_startup_parameters = search_path,statement_timeout,idle_in_transaction_session_timeout,client_connection_check_interval,synchronous_commit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := behind(t, settings...)
			s, other := openAt(t, url), openAt(t, url)
			n := must[*store.Node](t)(s.Join(t.Context(), "here"))
			c := held(t, s, 1, "a")
			ok(t, collect(t, other, c.Grant.ID))
			same(t, len(must[[]string](t)(other.Dead(t.Context()))), 0)
			for setting, want := range map[string]string{"search_path": "runner", "statement_timeout": "15s", "idle_in_transaction_session_timeout": "3s"} {
				var got string
				ok(t, s.Raw().QueryRowContext(t.Context(), `SELECT current_setting($1)`, setting).Scan(&got))
				same(t, got, want)
			}
			var commit string
			ok(t, s.RawLogs().QueryRowContext(t.Context(), `SELECT current_setting('synchronous_commit')`).Scan(&commit))
			same(t, commit, "off")
			ok(t, n.Leave())
		})
	}
}

// One that has too few sessions says so, instead of letting everybody wait.
func TestAPoolerWithoutRoomIsNamed(t *testing.T) {
	t.Parallel()
	_, err := store.OpenPostgres(t.Context(), store.Postgres{URL: behind(t, "pool_mode = session", "default_pool_size = 1")})
	if err == nil || !strings.Contains(err.Error(), "raise default_pool_size") {
		t.Errorf("got %v", err)
	}
}

// One that gives each transaction or statement another session is refused before
// anything is done, and what to do is said.
func TestAPoolerThatKeepsNoSessionsIsRefused(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"transaction", "statement"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			url := behind(t, "pool_mode = "+mode, "ignore_startup_parameters = search_path,statement_timeout,idle_in_transaction_session_timeout,client_connection_check_interval,synchronous_commit")
			_, err := store.OpenPostgres(t.Context(), store.Postgres{URL: url})
			if err == nil || !strings.Contains(err.Error(), "set pool_mode = session there, or name the server itself") {
				t.Errorf("got %v", err)
			}
		})
	}
}
