package store_test

import (
	"context"
	"testing"
	"time"

	"runner/engine/grant"
	"runner/engine/store"
	"runner/engine/store/pgtest"
)

// shortLease is a lease that tests can wait for.
const shortLease = time.Second

func openLeased(t *testing.T, url string) *store.Store {
	t.Helper()
	s, err := store.OpenPostgres(t.Context(), store.Postgres{URL: url, Lease: shortLease})
	ok(t, err)
	t.Cleanup(func() { ok(t, s.Close()) })
	return s
}

// eventually waits for something that takes no longer than a few leases.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 500 {
		if is() {
			return
		}
		ok(t, store.Pause(t.Context(), 20*time.Millisecond))
	}
	t.Fatalf("never: %s", what)
}

func TestANodeWithALeaseLivesWhileItRenewsIt(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	a, b := openLeased(t, url), openLeased(t, url)
	n := must[*store.Node](t)(a.Join(t.Context(), "one"))
	other := must[*store.Node](t)(b.Join(t.Context(), "two"))
	if n.ID() == other.ID() {
		t.Fatal("two nodes have one id")
	}
	for range 3 {
		ok(t, store.Pause(t.Context(), shortLease/2))
		same(t, len(dead(t, a))+len(dead(t, b)), 0)
		if left := time.Until(a.Until(n.ID())); left <= 0 || left > shortLease {
			t.Errorf("it surely lives for another %v", left)
		}
	}
	if !a.Until(other.ID()).IsZero() {
		t.Error("this process speaks for the node of another")
	}
	want(t, b.Forget(t.Context(), n.ID()), grant.ErrBusy)
	ok(t, n.Leave())
	ok(t, other.Leave())
	same(t, len(dead(t, b)), 0)
	if until := a.Until(n.ID()); time.Until(until) > 0 {
		t.Errorf("a node that left lives until %v", until)
	}
}

// What keeps the beats of a node from the database keeps them for good: others take
// its jobs over, and it is told in time.
func TestANodeThatIsNotHeardOfIsDeadAndKnowsItFirst(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	a, b := openLeased(t, url), openLeased(t, url)
	n := must[*store.Node](t)(a.Join(t.Context(), "one"))
	ok(t, b.Create(t.Context(), newCase(1, "db1"), nil))
	ok(t, a.Change(t.Context(), "g-0001", run(0, n.ID())))
	f := grant.Fence{Job: "j-0001-c", Attempt: 1, Node: n.ID()}

	a.Deafen()
	eventually(t, "it is found dead", func() bool { return len(dead(t, b)) > 0 })
	if left := time.Until(a.Until(n.ID())); left > 0 {
		t.Errorf("others took it for dead when it was sure to live for another %v", left)
	}
	<-n.Lost()
	same(t, dead(t, b), []string{n.ID()})
	want(t, b.Forget(t.Context(), n.ID()), grant.ErrBusy) // its job
	ok(t, b.Change(t.Context(), "g-0001", func(c *grant.Case) error {
		c.Jobs[0].State, c.Jobs[0].Node = grant.Waiting, ""
		return nil
	}))
	ok(t, b.Forget(t.Context(), n.ID()))
	want(t, a.PutExecution(t.Context(), f, grant.Execution{ID: "x-1", JobID: f.Job, GrantID: "g-0001"}), grant.ErrLeaseLost)
	same(t, len(dead(t, b)), 0)
	ok(t, n.Leave()) // it has been forgotten already
}

// Whatever ended its lease: what it runs has to stop now, not when it would have ended.
func TestANodeWhoseLeaseWasEndedDoesNotCountOnIt(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	n := must[*store.Node](t)(s.Join(t.Context(), "one"))
	_, err := s.Raw().ExecContext(t.Context(), `UPDATE nodes SET lease_until = 0`)
	ok(t, err)
	<-n.Lost()
	if left := time.Until(s.Until(n.ID())); left > 0 {
		t.Errorf("it counts on another %v", left)
	}
	same(t, dead(t, s), []string{n.ID()})
	ok(t, n.Leave())
	same(t, len(dead(t, s)), 0)
}

func TestANodeThatLeavesItsJobsBehindIsDeadAtOnce(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	n := must[*store.Node](t)(s.Join(t.Context(), "one"))
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	ok(t, s.Create(t.Context(), newCase(2, "db2"), nil))
	ok(t, s.Change(t.Context(), "g-0001", run(0, n.ID())))
	ok(t, s.Change(t.Context(), "g-0002", run(0, "n-lost")))
	same(t, dead(t, s), []string{"n-lost"})
	want(t, n.Leave(), grant.ErrBusy)
	same(t, len(dead(t, s)), 2)
}

// The time is that of the database, also on a machine whose clock is wrong.
func TestTheTimeIsThatOfTheDatabase(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	var ms int64
	ok(t, s.Raw().QueryRowContext(context.Background(), `SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)`).Scan(&ms))
	if off := s.Now().Sub(time.UnixMilli(ms)); off.Abs() > 500*time.Millisecond {
		t.Errorf("it is off by %v", off)
	}
	s.Misjudge(time.Hour)
	if off := s.Now().Sub(time.UnixMilli(ms)); off < 59*time.Minute {
		t.Errorf("the clock of this process counts: %v", off)
	}
	n := must[*store.Node](t)(s.Join(t.Context(), "one")) // hears the time
	if off := s.Now().Sub(time.UnixMilli(ms)); off.Abs() > time.Minute {
		t.Errorf("what it heard does not count: %v", off)
	}
	ok(t, n.Leave())
}

func TestTheProofOfTheKeyIsKeptOnce(t *testing.T) {
	t.Parallel()
	for kind, open := range opened {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			same(t, must[[]byte](t)(s.Proof(t.Context())), []byte(nil))
			for range 2 {
				same(t, must[[]byte](t)(s.KeepProof(t.Context(), []byte("first"))), []byte("first"))
			}
			same(t, must[[]byte](t)(s.KeepProof(t.Context(), []byte("second"))), []byte("first"))
			same(t, must[[]byte](t)(s.Proof(t.Context())), []byte("first"))
		})
	}
}
