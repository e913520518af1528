package store_test

import (
	"testing"

	"runner/engine/grant"
)

// works has a grant's first job run on a device of its own moment: the job of
// the one before has ended.
func works(t *testing.T, s ledger, id string, state grant.State) grant.Fence {
	t.Helper()
	ok(t, s.Change(t.Context(), id, func(c *grant.Case) error {
		c.Grant.State = state
		return run(0, "n-1")(c)
	}))
	j := must[grant.Case](t)(s.Case(t.Context(), id)).Jobs[0]
	return grant.Fence{Job: j.ID, Attempt: j.Attempt, Node: j.Node}
}

// becomes ends the job and moves the grant.
func becomes(t *testing.T, s ledger, id string, state grant.State) {
	t.Helper()
	ok(t, s.Change(t.Context(), id, func(c *grant.Case) error {
		c.Grant.State = state
		c.Jobs[0].State, c.Jobs[0].Node = grant.Waiting, ""
		return nil
	}))
}

// joins has a grant find an object, and make something of it when made is not empty.
func joins(t *testing.T, s ledger, id, found, made string) {
	t.Helper()
	ctx := t.Context()
	f := works(t, s, id, grant.Creating)
	c := grant.Change{Seq: 1, Object: "edge", State: "intended", Before: found, Hold: true}
	ok(t, s.PutChanges(ctx, f, id, []grant.Change{c}))
	if made != "" {
		c.State, c.After = "done", made
		if made == found {
			c.State = "unchanged"
		}
		ok(t, s.PutChanges(ctx, f, id, []grant.Change{c}))
	}
	becomes(t, s, id, grant.Active)
}

func wantHold(t *testing.T, s ledger, id, before, after string, others ...string) {
	t.Helper()
	same(t, must[[]grant.Hold](t)(s.Holds(t.Context(), id)), []grant.Hold{{Object: "edge", Before: before, After: after, Others: others}})
}

func threeGrants(t *testing.T, s ledger) {
	t.Helper()
	for i := range 3 {
		ok(t, s.Create(t.Context(), existing(i+1), nil))
	}
}

func holdsCount(t *testing.T, s ledger) {
	threeGrants(t, s)
	joins(t, s, "g-0001", "absent", "member")
	joins(t, s, "g-0002", "member", "member")
	wantHold(t, s, "g-0001", "absent", "member", "g-0002")
	wantHold(t, s, "g-0002", "absent", "member", "g-0001")
	becomes(t, s, "g-0001", grant.Ending) // it needs it no more, but what it found counts
	wantHold(t, s, "g-0002", "absent", "member")
	joins(t, s, "g-0003", "member", "")
	wantHold(t, s, "g-0003", "absent", "member", "g-0002")
	for _, id := range []string{"g-0001", "g-0002", "g-0003"} {
		becomes(t, s, id, grant.Removed)
	}
	ok(t, s.Create(t.Context(), existing(4), nil))
	joins(t, s, "g-0004", "member", "member") // of grants that are over nothing counts
	wantHold(t, s, "g-0004", "member", "member")
	// A change without Hold, and one of another grant's job, count nobody.
	ok(t, s.Create(t.Context(), existing(5), nil))
	f := works(t, s, "g-0005", grant.Creating)
	ok(t, s.PutChanges(t.Context(), f, "g-0005", []grant.Change{{Seq: 1, Object: "edge", State: "intended", Before: "absent"}}))
	same(t, must[[]grant.Hold](t)(s.Holds(t.Context(), "g-0005")), []grant.Hold(nil))
	want(t, s.PutChanges(t.Context(), grant.Fence{Job: f.Job, Attempt: 9, Node: "n-1"}, "g-0005", []grant.Change{{Seq: 2, Object: "edge", State: "intended", Hold: true}}), grant.ErrLeaseLost)
	same(t, must[[]grant.Hold](t)(s.Holds(t.Context(), "g-0005")), []grant.Hold(nil))
}

func existing(i int) grant.Case {
	c := newCase(i, "a")
	c.Grant.Creates = false
	return c
}

func holdsYield(t *testing.T, s ledger) {
	threeGrants(t, s)
	joins(t, s, "g-0001", "member", "member") // it was there before
	joins(t, s, "g-0002", "absent", "member") // and somebody took it away since
	wantHold(t, s, "g-0001", "absent", "member", "g-0002")
	wantHold(t, s, "g-0002", "absent", "member", "g-0001")
	joins(t, s, "g-0003", "absent", "") // once more, and it is not known what came of it
	wantHold(t, s, "g-0003", "absent", "member", "g-0001", "g-0002")
}

// A first grant of which nobody knows what it did did not take anything away.
func holdsLost(t *testing.T, s ledger) {
	threeGrants(t, s)
	joins(t, s, "g-0001", "member", "")
	joins(t, s, "g-0002", "absent", "member")
	wantHold(t, s, "g-0002", "absent", "member", "g-0001")
	for _, id := range []string{"g-0001", "g-0002"} {
		becomes(t, s, id, grant.Removed)
	}
	joins(t, s, "g-0003", "absent", "")
	ok(t, s.Create(t.Context(), existing(4), nil))
	joins(t, s, "g-0004", "member", "member") // what the one before may have made
	wantHold(t, s, "g-0004", "absent", "member", "g-0003")
}

// What the step itself saw before it acted is newer than what was looked at first.
func holdsSeen(t *testing.T, s ledger) {
	threeGrants(t, s)
	ctx := t.Context()
	f := works(t, s, "g-0001", grant.Creating)
	c := grant.Change{Seq: 1, Object: "edge", State: "intended", Before: "member", Hold: true}
	ok(t, s.PutChanges(ctx, f, "g-0001", []grant.Change{c}))
	c.State, c.Before, c.After = "done", "absent", "member"
	ok(t, s.PutChanges(ctx, f, "g-0001", []grant.Change{c}))
	wantHold(t, s, "g-0001", "absent", "member")
	c.Seq, c.State, c.Before = 2, "intended", "member" // a renewal finds what the grant made
	ok(t, s.PutChanges(ctx, f, "g-0001", []grant.Change{c}))
	c.State = "unchanged"
	ok(t, s.PutChanges(ctx, f, "g-0001", []grant.Change{c}))
	wantHold(t, s, "g-0001", "absent", "member")
	becomes(t, s, "g-0001", grant.Active)
	joins(t, s, "g-0002", "member", "member")
	wantHold(t, s, "g-0002", "absent", "member", "g-0001")
}
