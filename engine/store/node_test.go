package store_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"runner/engine/grant"
	"runner/engine/store"
)

func dead(t *testing.T, s *store.Store) []string {
	t.Helper()
	return must[[]string](t)(s.Dead(t.Context()))
}

func TestANodeLivesUntilItLeaves(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/state"
	a, b := openIn(t, dir), openIn(t, dir)
	n1, err := a.Join(t.Context(), "one")
	ok(t, err)
	n2, err := a.Join(t.Context(), "two")
	ok(t, err)
	if n1.ID() == n2.ID() {
		t.Fatal("two nodes have one id")
	}
	same(t, len(dead(t, a))+len(dead(t, b)), 0)
	want(t, b.Forget(t.Context(), n1.ID()), grant.ErrBusy)
	same(t, len(dead(t, b)), 0)
	ok(t, n1.Leave())
	same(t, len(dead(t, b)), 0)
	if _, err := os.Stat(dir + "/nodes/" + n1.ID() + ".lock"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its lock file stayed: %v", err)
	}
	ok(t, n2.Leave())
}

func TestANodeThatLeavesItsJobsBehindIsFoundDead(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	n, err := s.Join(t.Context(), "one")
	ok(t, err)
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	ok(t, s.Change(t.Context(), "g-0001", run(0, n.ID())))
	same(t, len(dead(t, s)), 0)
	want(t, n.Leave(), grant.ErrBusy)
	same(t, dead(t, s), []string{n.ID()})
	want(t, s.Forget(t.Context(), n.ID()), grant.ErrBusy) // nobody took its job over yet
	same(t, dead(t, s), []string{n.ID()})
	ok(t, s.Change(t.Context(), "g-0001", func(c *grant.Case) error {
		c.Jobs[0].State, c.Jobs[0].Node = grant.Waiting, ""
		return nil
	}))
	ok(t, s.Forget(t.Context(), n.ID()))
	ok(t, s.Forget(t.Context(), n.ID())) // whoever else found it dead
	same(t, len(dead(t, s)), 0)
}

func TestARunningJobOfAnUnknownNodeIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/state"
	s := openIn(t, dir)
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	ok(t, s.Create(t.Context(), newCase(2, "db2"), nil))
	ok(t, s.Change(t.Context(), "g-0001", run(0, "n-lost")))
	ok(t, s.Change(t.Context(), "g-0002", run(0, "../runner.db")))
	same(t, dead(t, s), []string{"../runner.db", "n-lost"})
}

func TestLockFilesThatBelongToNobodyAreCleared(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/state"
	s := openIn(t, dir)
	n, err := s.Join(t.Context(), "one")
	ok(t, err)
	stray := dir + "/nodes/n-stray.lock"
	ok(t, os.WriteFile(stray, nil, 0o600))
	ok(t, os.WriteFile(dir+"/nodes/README", nil, 0o600))
	same(t, len(dead(t, s)), 0)
	if _, err := os.Stat(stray); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the stray lock file stayed: %v", err)
	}
	for _, keep := range []string{"README", n.ID() + ".lock"} {
		if _, err := os.Stat(dir + "/nodes/" + keep); err != nil {
			t.Error(err)
		}
	}
	ok(t, n.Leave())
}

// Two that look at once must not take each other for the dead node.
func TestADeadNodeIsFoundWhileOthersLook(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/state"
	s := openIn(t, dir)
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	ok(t, s.Change(t.Context(), "g-0001", run(0, "n-gone")))
	ok(t, os.WriteFile(dir+"/nodes/n-gone.lock", nil, 0o600))
	other, err := os.Open(dir + "/nodes/n-gone.lock")
	ok(t, err)
	ok(t, unix.Flock(int(other.Fd()), unix.LOCK_SH|unix.LOCK_NB))
	same(t, dead(t, s), []string{"n-gone"})
	ok(t, other.Close())
	same(t, dead(t, s), []string{"n-gone"})
}

func TestNodesThatComeAndGoAreNeverFoundDead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/state"
	a, b := openIn(t, dir), openIn(t, dir)
	stop, looked := make(chan struct{}), make(chan []string)
	go func() {
		var found []string
		for {
			select {
			case <-stop:
				looked <- found
				return
			default:
				ids, err := b.Dead(context.Background())
				if err != nil {
					ids = []string{err.Error()}
				}
				found = append(found, ids...)
			}
		}
	}()
	for range 150 {
		n, err := a.Join(t.Context(), "brief")
		ok(t, err)
		ok(t, n.Leave())
	}
	close(stop)
	same(t, len(<-looked), 0)
}

// Every process that finds a node dead forgets it, at the same time.
func TestADeadNodeIsForgottenBySeveralAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/state"
	s := openIn(t, dir)
	for i := range 60 {
		id := "n-" + itoa(i)
		_, err := s.Raw().ExecContext(t.Context(), `INSERT INTO nodes (id, name, joined_at) VALUES ($1, '', 0)`, id)
		ok(t, err)
		ok(t, os.WriteFile(dir+"/nodes/"+id+".lock", nil, 0o600))
		errs := make(chan error)
		for range 4 {
			go func() {
				_, err := s.Dead(context.Background())
				errs <- errors.Join(err, s.Forget(context.Background(), id))
			}()
		}
		for range 4 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		same(t, len(dead(t, s)), 0)
	}
}
