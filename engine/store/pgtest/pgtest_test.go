package pgtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"runner/engine/store/pgtest"
)

func TestAServerComesBackAfterACrashWithWhatWasCommitted(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := pgtest.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}()
	u, err := s.Database(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, stmt := range []string{`CREATE TABLE a (n BIGINT)`, `INSERT INTO a VALUES (7)`, `SELECT n FROM a`} {
		if i == 2 {
			s.Crash()
			if _, err := pgx.Connect(ctx, u); err == nil {
				t.Fatal("a crashed server answers")
			}
			if err := s.Resume(ctx); err != nil {
				t.Fatal(err)
			}
		}
		c, err := pgx.Connect(ctx, u)
		if err != nil {
			t.Fatal(err)
		}
		if tag, err := c.Exec(ctx, stmt); err != nil || i == 2 && tag.RowsAffected() != 1 {
			t.Fatal(stmt, tag, err)
		}
		_ = c.Close(ctx)
	}
}
