package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"runner/engine/grant"
)

func readyJobs(t *testing.T, s ledger) {
	ctx := t.Context()
	ready := func(w grant.Want) string {
		t.Helper()
		var ids []string
		for _, r := range must[[]grant.Ready](t)(s.Ready(ctx, w)) {
			ids = append(ids, strings.TrimPrefix(r.Job, "j-000"))
		}
		return strings.Join(ids, " ")
	}
	creations := func(now int) string { t.Helper(); return ready(grant.Want{Now: at(now)}) }
	removals := func(now int) string { t.Helper(); return ready(grant.Want{Now: at(now), Removal: true}) }
	same(t, creations(0), "")
	for n, device := range []string{"a", "a", "b", "c", "d"} {
		c := newCase(n, device)
		c.Jobs[0].Due, c.Jobs[1].Due = at(10-n), at(60-n)
		c.Jobs[1].Login, c.Jobs[1].LoginLimit, c.Jobs[1].Attempt = "svc", 3, n
		ok(t, s.Create(ctx, c, nil))
	}
	same(t, creations(5), "")
	same(t, creations(6), "4-c")
	same(t, creations(10), "4-c 3-c 2-c 1-c 0-c")
	same(t, removals(55), "")
	same(t, removals(57), "4-d 3-d")
	same(t, ready(grant.Want{Now: at(60), Removal: true, Device: "a"}), "1-d 0-d")
	same(t, ready(grant.Want{Now: at(60), Removal: true, Limit: 2}), "4-d 3-d")
	third := must[[]grant.Ready](t)(s.Ready(ctx, grant.Want{Now: at(60), Removal: true}))[2]
	same(t, third, grant.Ready{Job: "j-0002-d", Grant: "g-0002", Device: "b", Login: "svc", Limit: 3, Removal: true, Attempt: 2, At: kept(at(58))})
	same(t, ready(grant.Want{Now: at(60), Removal: true, After: third}), "1-d 0-d")
	same(t, ready(grant.Want{Now: at(60), Removal: true, After: grant.Ready{At: at(58)}}), "2-d 1-d 0-d")
	same(t, ready(grant.Want{Now: at(60), Removal: true, Device: "a", After: third}), "1-d 0-d")

	ok(t, s.Change(ctx, "g-0000", run(0, "n-1")))
	same(t, creations(10), "4-c 3-c 2-c 1-c") // what runs is not ready; its device does not matter here
	pauseAs := func(until time.Time) func(*grant.Case) error {
		return func(c *grant.Case) error {
			c.Jobs[1].State, c.Jobs[1].PausedUntil = grant.Paused, until
			return nil
		}
	}
	ok(t, s.Change(ctx, "g-0004", pauseAs(at(100))))
	same(t, removals(99), "3-d 2-d 1-d 0-d")
	same(t, removals(100), "3-d 2-d 1-d 0-d 4-d") // it became ready last
	ok(t, s.Change(ctx, "g-0004", pauseAs(time.Time{})))
	same(t, removals(-1000), "4-d") // a pause without an end is none
	for _, state := range []grant.JobState{grant.Done, grant.JobCancelled} {
		ok(t, s.Change(ctx, "g-0004", func(c *grant.Case) error {
			c.Jobs[0].State, c.Jobs[1].State = grant.Done, state
			return nil
		}))
		same(t, removals(200), "3-d 2-d 1-d 0-d")
	}
	ok(t, s.Change(ctx, "g-0000", func(c *grant.Case) error {
		c.Jobs[0].State, c.Jobs[0].Node, c.Jobs[0].Due = grant.Waiting, "", time.Time{}
		return nil
	}))
	same(t, creations(0), "0-c") // no time is at once
}

func loginLimit(t *testing.T, s ledger) {
	ctx := t.Context()
	for n, limit := range []int{2, 2, 2, 0, 1} {
		c := newCase(n, fmt.Sprint("d", n))
		c.Jobs[0].Login, c.Jobs[0].LoginLimit = "svc", limit
		if n == 4 {
			c.Jobs[0].Login = "other"
		}
		ok(t, s.Create(ctx, c, nil))
	}
	start := func(n int) error { return s.Change(ctx, fmt.Sprintf("g-000%d", n), run(0, "n-1")) }
	ok(t, start(0))
	ok(t, start(1))
	if err := start(2); !errors.Is(err, grant.ErrBusy) {
		t.Errorf("a third of two: %v", err)
	}
	ok(t, start(3)) // one that knows no limit
	ok(t, start(4)) // another login
	for _, n := range []int{0, 3} {
		ok(t, s.Change(ctx, fmt.Sprintf("g-000%d", n), func(c *grant.Case) error {
			c.Jobs[0].State, c.Jobs[0].Node = grant.Done, ""
			return nil
		}))
	}
	ok(t, start(2))
	// What runs goes on being stored when the limit is full.
	ok(t, s.Change(ctx, "g-0002", func(c *grant.Case) error { c.Jobs[0].Execution = "x-1"; return nil }))
}

func overdueRemovals(t *testing.T, s ledger) {
	ctx := t.Context()
	add := func(n int, state grant.State, ended, expires int) {
		t.Helper()
		c := newCase(n, fmt.Sprint("d", n))
		c.Grant.State, c.Grant.Expires = state, at(expires)
		if ended >= 0 {
			c.Grant.Ended = at(ended)
		}
		ok(t, s.Create(ctx, c, nil))
	}
	add(0, grant.Active, -1, 50)
	add(1, grant.Ending, 20, 100)
	add(2, grant.Ending, 60, 100)
	add(3, grant.Removed, 1, 2)
	add(4, grant.Creating, -1, 1)
	add(5, grant.Active, -1, 300)
	add(6, grant.Requested, -1, 1)
	overdue := func(before, limit int) string {
		t.Helper()
		list, total, err := s.Overdue(ctx, at(before), limit)
		ok(t, err)
		var ids []string
		for _, c := range list {
			same(t, len(c.Jobs), 2)
			ids = append(ids, strings.TrimPrefix(c.Grant.ID, "g-000"))
		}
		return fmt.Sprint(total, " ", strings.Join(ids, " "))
	}
	same(t, overdue(20, 0), "0 ")
	same(t, overdue(21, 0), "1 1")
	same(t, overdue(70, 0), "3 1 0 2")
	same(t, overdue(70, 2), "3 1 0")

	ok(t, s.Change(ctx, "g-0001", func(c *grant.Case) error { c.Jobs[1].BlockedBy = "a process"; return nil }))
	ok(t, s.Change(ctx, "g-0002", run(1, "n-1")))
	got := must[grant.Tally](t)(s.Tally(ctx))
	same(t, got, grant.Tally{Blocked: 1, Jobs: map[grant.Kind]map[grant.JobState]int{
		grant.Create: {grant.Waiting: 7}, grant.Delete: {grant.Waiting: 6, grant.Running: 1},
	}})
}

func silentDevices(t *testing.T, s ledger) {
	ctx := t.Context()
	same(t, len(must[[]grant.Silence](t)(s.Silences(ctx))), 0)
	ok(t, s.Answered(ctx, "a", at(0)))
	_, err := s.Missed(ctx, "b", "no route", at(0), 0)
	ok(t, err)
	first := must[grant.Silence](t)(s.Missed(ctx, "a", "refused", at(5), 0))
	same(t, first, grant.Silence{Device: "a", Since: kept(at(5)), Missed: 1, Until: kept(at(10)), Why: "refused"})
	second := must[grant.Silence](t)(s.Missed(ctx, "a", "timeout", at(20), 0))
	same(t, second, grant.Silence{Device: "a", Since: kept(at(5)), Missed: 2, Until: kept(at(30)), Why: "timeout"})
	list := must[[]grant.Silence](t)(s.Silences(ctx))
	same(t, len(list), 2)
	same(t, list[0], second)
	// What waits for the device is due when it answers, and nothing else.
	for n, silent := range []bool{true, true, false, true, true} {
		c := newCase(n, pickDevice(n))
		c.Jobs[1].Due, c.Jobs[1].Silent, c.Jobs[1].Missed = at(100), silent, n
		if n == 3 {
			c.Jobs[1].State, c.Jobs[1].PausedUntil = grant.Paused, at(90)
		}
		ok(t, s.Create(ctx, c, nil))
	}
	ok(t, s.Answered(ctx, "a", at(40)))
	var due []string
	for _, r := range must[[]grant.Ready](t)(s.Ready(ctx, grant.Want{Removal: true, Now: at(1000)})) {
		due = append(due, fmt.Sprint(r.Job, " ", r.At.Sub(kept(t0))))
	}
	same(t, due, []string{"j-0000-d 40s", "j-0003-d 1m30s", "j-0001-d 1m40s", "j-0002-d 1m40s", "j-0004-d 1m40s"})
	same(t, must[grant.Job](t)(s.Job(ctx, "j-0004-d")).Missed, 4)
	ok(t, s.Answered(ctx, "a", at(30))) // it was not silent any more
	same(t, must[grant.Job](t)(s.Job(ctx, "j-0000-d")).Due, kept(at(40)))
	list = must[[]grant.Silence](t)(s.Silences(ctx))
	same(t, len(list), 1)
	same(t, list[0].Device, "b")
}

// pickDevice is b for the second of some cases and the last, and a for the others.
func pickDevice(n int) string {
	if n == 1 || n == 4 {
		return "b"
	}
	return "a"
}
