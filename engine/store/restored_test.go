package store_test

import (
	"os/exec"
	"strings"
	"testing"

	"runner/engine/grant"
	"runner/engine/store"
	"runner/engine/store/pgtest"
)

// begun stores a grant whose creation runs, with a secret.
func begun(t *testing.T, s ledger, n int, device string) grant.Case {
	t.Helper()
	c := newCase(n, device)
	c.Grant.Sealed = []byte("sealed")
	ok(t, s.Create(t.Context(), c, nil))
	ok(t, s.Change(t.Context(), c.Grant.ID, func(c *grant.Case) error {
		_, err := c.Claim(c.Forward().ID, "n-1", "x-1", at(1))
		return err
	}))
	return must[grant.Case](t)(s.Case(t.Context(), c.Grant.ID))
}

// held stores an active grant whose secret nobody has collected.
func held(t *testing.T, s ledger, n int, device string) grant.Case {
	t.Helper()
	c := begun(t, s, n, device)
	ok(t, s.Change(t.Context(), c.Grant.ID, func(c *grant.Case) error {
		j := c.Forward()
		return c.Activate(grant.Fence{Job: j.ID, Attempt: j.Attempt, Node: j.Node}, at(2), nil)
	}))
	return must[grant.Case](t)(s.Case(t.Context(), c.Grant.ID))
}

// collect returns the error of handing a secret out.
func collect(t *testing.T, s ledger, id string) error {
	t.Helper()
	return s.Change(t.Context(), id, func(c *grant.Case) error {
		box, err := c.Collect(at(9), "ada")
		if err == nil && len(box) == 0 {
			t.Error("an empty secret is handed out")
		}
		return err
	})
}

func restoration(t *testing.T, s ledger) {
	ctx := t.Context()
	asked := newCase(1, "a")
	asked.Grant.Sealed = []byte("sealed")
	ok(t, s.Create(ctx, asked, nil))
	making, kept, had := begun(t, s, 2, "b"), held(t, s, 3, "c"), held(t, s, 4, "d")
	ok(t, collect(t, s, had.Grant.ID))
	ended := held(t, s, 5, "e")
	ok(t, s.Change(ctx, ended.Grant.ID, func(c *grant.Case) error { return c.End(at(3), "ops", "end") }))

	same(t, must[int](t)(s.Restored(ctx, at(5), "a test")), 3)
	for _, id := range []string{asked.Grant.ID, making.Grant.ID} {
		c := must[grant.Case](t)(s.Case(ctx, id))
		same(t, []any{c.Grant.State, c.Grant.EndedBy, c.Forward().State, len(c.Grant.Sealed)}, []any{grant.Ending, "restored", grant.JobCancelled, 0})
		if !c.Removal().DueAt(at(5)) {
			t.Errorf("the removal of %s is not due", id)
		}
	}
	same(t, must[grant.Case](t)(s.Case(ctx, kept.Grant.ID)).Grant.State, grant.Active)
	if err := collect(t, s, kept.Grant.ID); err == nil || !strings.Contains(err.Error(), "put back to an earlier state") || !strings.Contains(err.Error(), "requests a new one") {
		t.Errorf("a secret that may have been handed out: %v", err)
	}
	if err := collect(t, s, had.Grant.ID); err == nil || !strings.Contains(err.Error(), "was handed out at") {
		t.Errorf("a secret that was handed out: %v", err)
	}
	events := must[[]grant.Event](t)(s.Audit(ctx, kept.Grant.ID))
	same(t, events[len(events)-1].Action, "grant.withheld")
	same(t, events[len(events)-1].Detail, map[string]string{"why": "a test"})
	all := must[[]grant.Event](t)(s.Audit(ctx, ""))
	same(t, all[len(all)-1].Action, "store.restored")
	same(t, must[int](t)(s.Restored(ctx, at(6), "again")), 0)
	if when, err := s.Marked(ctx, grant.MarkRestored); err != nil || when.Unix() != at(6).Unix() {
		t.Errorf("restored at %v, %v", when, err)
	}
}

// A database that was loaded from a dump notices, wherever it was loaded: over itself
// or beside it, and by whatever program, with its rows alone or with its tables.
func TestADumpThatWasLoadedHandsOutNoSecret(t *testing.T) {
	t.Parallel()
	for name, load := range map[string]string{
		"elsewhere":  `pg_dump --schema=runner --schema=runner_logs "$0" | psql -q -v ON_ERROR_STOP=1 "$1"`,
		"over":       `pg_dump --format=custom --schema=runner --schema=runner_logs --file="$2" "$0" && %s && pg_restore --clean --if-exists --single-transaction --dbname="$0" "$2"`,
		"rows alone": `pg_dump --format=custom --data-only --table=runner.home --file="$2" "$0" && psql -q -c 'TRUNCATE runner.home' "$0" && pg_restore --data-only --dbname="$0" "$2"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := pgtest.Database(t), pgtest.Database(t)
			if name != "elsewhere" {
				to = from
			}
			s := openAt(t, from)
			c := held(t, s, 1, "a")
			out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(load, "%s", "true"), from, to, t.TempDir()+"/dump").CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			r := openAt(t, to)
			if err := collect(t, r, c.Grant.ID); err == nil || !strings.Contains(err.Error(), "put back to an earlier state") {
				t.Errorf("got %v", err)
			}
			events := must[[]grant.Event](t)(r.Audit(t.Context(), ""))
			same(t, events[len(events)-1].Action, "store.restored")
			same(t, events[len(events)-1].Detail["why"], "it was loaded from a dump")
			ok(t, r.VerifyAudit(t.Context()))
			later := held(t, openAt(t, to), 2, "b")
			ok(t, collect(t, openAt(t, to), later.Grant.ID))
		})
	}
}

// Nothing that is not a restoration is taken for one: not a crash, not a new
// connection, not maintenance.
func TestADatabaseThatStaysWhereItIsHandsOutSecrets(t *testing.T) {
	t.Parallel()
	server := must[*pgtest.Server](t)(pgtest.Start(t.Context()))
	t.Cleanup(func() { ok(t, server.Stop()) })
	url := must[string](t)(server.Database(t.Context()))
	s := openAt(t, url)
	c, d := held(t, s, 1, "a"), held(t, s, 2, "b")
	server.Crash()
	ok(t, server.Resume(t.Context()))
	ok(t, collect(t, s, c.Grant.ID))
	_, err := s.Raw().ExecContext(t.Context(), `VACUUM FULL FREEZE home`)
	ok(t, err)
	ok(t, collect(t, openAt(t, url), d.Grant.ID))
}

var _ ledger = (*store.Memory)(nil)
