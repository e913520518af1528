package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"runner/engine/grant"
	"runner/engine/store"
)

func nextDue(t *testing.T, s ledger) {
	ctx := t.Context()
	next := func(after int) string {
		t.Helper()
		when, is, err := s.NextDue(ctx, at(after))
		ok(t, err)
		if !is {
			return "never"
		}
		return when.Sub(kept(t0)).String()
	}
	same(t, next(0), "never")
	ok(t, s.Create(ctx, newCase(1, "a"), nil))
	c := newCase(2, "b")
	c.Jobs[0].Due, c.Jobs[1].Due = at(30), at(90)
	ok(t, s.Create(ctx, c, nil))
	same(t, next(-1), "0s")
	same(t, next(0), "30s")
	same(t, next(30), "1m0s")
	same(t, next(60), "1m30s")
	same(t, next(90), "never")
	ok(t, s.Change(ctx, "g-0002", func(c *grant.Case) error {
		c.Jobs[1].State, c.Jobs[1].PausedUntil = grant.Paused, at(120)
		return run(0, "n-1")(c)
	}))
	same(t, next(0), "1m0s")
	same(t, next(60), "2m0s")
}

// leased returns a store with a running create job and its fence.
func leased(t *testing.T, s ledger) grant.Fence {
	t.Helper()
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	ok(t, s.Change(t.Context(), "g-0001", run(0, "n-1")))
	return grant.Fence{Job: "j-0001-c", Attempt: 1, Node: "n-1"}
}

func fenced(t *testing.T, s ledger) {
	ctx := t.Context()
	f := leased(t, s)
	e := grant.Execution{ID: "x-1", JobID: f.Job, GrantID: "g-0001", Kind: grant.Create, Started: t0, Node: "n-1", Attempt: 1}
	ok(t, s.PutExecution(ctx, f, e, grant.StepResult{N: 1, Status: "ok"}))
	ok(t, s.PutChanges(ctx, f, "g-0001", []grant.Change{{Seq: 1, State: "intended"}}))

	same(t, must[bool](t)(s.Held(ctx, f)), false)
	late := func(f grant.Fence) {
		t.Helper()
		_, err := s.Held(ctx, f)
		want(t, err, grant.ErrLeaseLost)
		e.Outcome = "ok"
		want(t, s.PutExecution(ctx, f, e, grant.StepResult{N: 1, Status: "changed"}, grant.StepResult{N: 2}), grant.ErrLeaseLost)
		want(t, s.PutChanges(ctx, f, "g-0001", []grant.Change{{Seq: 1, State: "done"}, {Seq: 2}}), grant.ErrLeaseLost)
		same(t, must[grant.Execution](t)(s.Execution(ctx, "x-1")).Outcome, "")
		same(t, must[[]grant.StepResult](t)(s.Steps(ctx, "x-1")), []grant.StepResult{{N: 1, Status: "ok"}})
		same(t, must[[]grant.Change](t)(s.Changes(ctx, "g-0001")), []grant.Change{{Seq: 1, State: "intended"}})
	}
	late(grant.Fence{Job: f.Job, Attempt: 2, Node: f.Node})
	late(grant.Fence{Job: f.Job, Attempt: f.Attempt, Node: "n-2"})
	late(grant.Fence{Job: "j-none", Attempt: f.Attempt, Node: f.Node})
	late(grant.Fence{Node: f.Node})
	for _, state := range []grant.JobState{grant.Waiting, grant.Done, grant.JobCancelled} {
		ok(t, s.Change(ctx, "g-0001", func(c *grant.Case) error { c.Jobs[0].State = state; return nil }))
		late(f)
	}
	ok(t, s.Change(ctx, "g-0001", run(0, "n-1"))) // the same node, one attempt later
	late(f)
	f.Attempt = 2
	e.Outcome = ""
	ok(t, s.PutExecution(ctx, f, e, grant.StepResult{N: 1, Status: "failed"}))
	ok(t, s.Change(ctx, "g-0001", func(c *grant.Case) error { c.Grant.Ended = at(5); return nil }))
	same(t, must[bool](t)(s.Held(ctx, f)), true)
	_, err := s.Held(ctx, grant.Fence{})
	want(t, err, grant.ErrLeaseLost)
}

func ranAlong(t *testing.T, s ledger) {
	ctx := t.Context()
	f := leased(t, s)
	ok(t, s.Create(ctx, newCase(2, "db2"), nil))
	e := grant.Execution{ID: "x-1", JobID: f.Job, GrantID: "g-0001", Device: "db1", Kind: grant.Create, Started: t0, Node: "n-1", Attempt: 1}
	with := func(r grant.Ran, then error) error {
		return s.Change(ctx, "g-0001", func(c *grant.Case) error {
			c.Ran, c.Jobs[0].State = &r, grant.Done
			return then
		})
	}
	want(t, with(grant.Ran{Execution: e}, grant.ErrLeaseLost), grant.ErrLeaseLost)
	for _, wrong := range []grant.Execution{{ID: "x-1", JobID: "j-0002-c", GrantID: "g-0002"}, {ID: "x-1", JobID: "j-0002-c", GrantID: "g-0001"}, {ID: "x-1"}, {JobID: f.Job, GrantID: "g-0001"}} {
		if with(grant.Ran{Execution: wrong}, nil) == nil {
			t.Errorf("%+v was stored with grant g-0001", wrong)
		}
	}
	same(t, len(must[[]grant.Execution](t)(s.Executions(ctx, grant.Filter{}))), 0)
	same(t, must[grant.Case](t)(s.Case(ctx, "g-0001")).Jobs[0].State, grant.Running)

	ok(t, s.PutChanges(ctx, f, "g-0001", []grant.Change{{Seq: 1, Object: "group a", State: "intended", Before: "absent", Hold: true}}))
	e.Outcome = "ok"
	ok(t, with(grant.Ran{
		Execution: e, Steps: []grant.StepResult{{N: 1, Status: "ok"}},
		Changes: []grant.Change{{Seq: 1, Object: "group a", State: "done", Before: "absent", After: "member", Hold: true}},
	}, nil))
	same(t, must[grant.Execution](t)(s.Execution(ctx, "x-1")).Outcome, "ok")
	same(t, must[[]grant.StepResult](t)(s.Steps(ctx, "x-1")), []grant.StepResult{{N: 1, Status: "ok"}})
	same(t, must[[]grant.Change](t)(s.Changes(ctx, "g-0001"))[0].State, "done")
	same(t, must[[]grant.Hold](t)(s.Holds(ctx, "g-0001")), []grant.Hold{{Object: "group a", Before: "absent", After: "member"}})
	if s.PutExecution(ctx, grant.Fence{}, grant.Execution{ID: "x-1", JobID: "j-0002-c", GrantID: "g-0002"}) == nil {
		t.Error("an execution went over to another grant")
	}
}

func handedBack(t *testing.T, s ledger) {
	ctx := t.Context()
	f := leased(t, s)
	var had *grant.Case
	ok(t, s.Change(ctx, "g-0001", func(c *grant.Case) error {
		c.Grant.Activated, c.Grant.Failure = t0.Add(1234567*time.Nanosecond), "not \xff UTF-8"
		c.Jobs = append(c.Jobs, grant.Job{ID: "j-more", GrantID: "g-0001", Kind: grant.Renew, State: grant.Waiting, Device: "db1", Due: t0.Add(7 * time.Microsecond)})
		c.Ran = &grant.Ran{Execution: grant.Execution{ID: "x-1", JobID: f.Job, GrantID: "g-0001", Started: t0}}
		c.Events = append(c.Events, grant.Event{At: t0, Action: "changed"})
		had = c
		return nil
	}))
	same(t, len(had.Events), 1)
	had.Events = nil
	same(t, *had, must[grant.Case](t)(s.Case(ctx, "g-0001")))
	had.Jobs[0].Node, had.Grant.Failure = "n-9", "mine now"
	same(t, must[grant.Case](t)(s.Case(ctx, "g-0001")).Jobs[0].Node, "n-1")
}

func fenceOfAnother(t *testing.T, s ledger) {
	ctx := t.Context()
	f := leased(t, s)
	ok(t, s.Create(ctx, newCase(2, "db2"), nil))
	ok(t, s.PutExecution(ctx, grant.Fence{}, grant.Execution{ID: "x-2", JobID: "j-0002-c", GrantID: "g-0002"}))
	for _, e := range []grant.Execution{
		{ID: "x-3", JobID: "j-0002-c", GrantID: "g-0002"},
		{ID: "x-3", JobID: f.Job, GrantID: "g-0002"},
		{ID: "x-3"},
		{ID: "", JobID: f.Job, GrantID: "g-0001"},
	} {
		if s.PutExecution(ctx, f, e, grant.StepResult{N: 1}) == nil {
			t.Errorf("%+v was stored under the fence of %s", e, f.Job)
		}
	}
	if s.PutChanges(ctx, f, "g-0002", []grant.Change{{Seq: 1}}) == nil {
		t.Error("stored under the fence of another job")
	}
	if s.PutExecution(ctx, f, grant.Execution{ID: "x-2", JobID: f.Job, GrantID: "g-0001", Outcome: "ok"}, grant.StepResult{N: 1}) == nil {
		t.Error("an execution went over to another job")
	}
	list := must[[]grant.Execution](t)(s.Executions(ctx, grant.Filter{}))
	same(t, len(list), 1)
	same(t, list[0].Outcome, "")
	same(t, len(must[[]grant.StepResult](t)(s.Steps(ctx, "x-2"))), 0)
	same(t, len(must[[]grant.Change](t)(s.Changes(ctx, "g-0002"))), 0)
}

func adHoc(t *testing.T, s ledger) {
	ctx := t.Context()
	e := grant.Execution{ID: "x-1", Template: "create/a@1", Device: "db1", Node: "n-1", Started: t0}
	ok(t, s.PutExecution(ctx, grant.Fence{}, e, grant.StepResult{N: 2, Started: at(1), Took: 1500}, grant.StepResult{N: 1, Name: "a", RC: -1}))
	ok(t, s.PutChanges(ctx, grant.Fence{}, "x-1", []grant.Change{{Execution: "x-1", Seq: 1, Undo: json.RawMessage(`{ }`)}}))
	e.Started = kept(t0)
	same(t, must[grant.Execution](t)(s.Execution(ctx, "x-")), e)
	same(t, must[[]grant.StepResult](t)(s.Steps(ctx, "x-1")), []grant.StepResult{{N: 1, Name: "a", RC: -1}, {N: 2, Started: kept(at(1)), Took: 1500}})
	same(t, must[[]grant.Change](t)(s.Changes(ctx, "x-1")), []grant.Change{{Execution: "x-1", Seq: 1, Undo: json.RawMessage(`{ }`)}})
	want(t, s.PutExecution(ctx, grant.Fence{}, grant.Execution{ID: "x-2", JobID: "j-none"}), grant.ErrNotFound)
	want(t, s.PutExecution(ctx, grant.Fence{}, grant.Execution{ID: "x-2", GrantID: "g-none"}), grant.ErrNotFound)
	_, err := s.Execution(ctx, "x-2")
	want(t, err, grant.ErrNotFound)
}

func wholeExecution(t *testing.T, s ledger) {
	ctx := t.Context()
	f := leased(t, s)
	e := grant.Execution{
		ID: "x-1", JobID: f.Job, GrantID: "g-0001", Kind: grant.Create, Template: "create/a@1", Device: "db1", Attempt: 1, Node: "n-1",
		Started: kept(t0), Ended: kept(at(1)), Outcome: "ok", Error: "e", Peer: "p", Connect: 1, Steps: 2, LogBytes: 3, Dropped: 4,
	}
	step := grant.StepResult{
		N: 1, Name: "a", Module: "user", Status: "changed", RC: -1, Attempts: 2, Started: kept(t0), Took: 3, Message: "m", Reason: "r", LogFrom: 4, LogTo: 5,
	}
	change := grant.Change{
		Execution: "x-1", Seq: 1, Step: 2, Module: "user", Object: "o", State: "done", Before: "b", After: "a", Undo: json.RawMessage(`{ "x": 1 }`), Hold: true,
	}
	for _, v := range []any{e, step, change} {
		noZero(t, v)
	}
	change.Hold = false // it is counted, not kept
	ok(t, s.PutExecution(ctx, f, e, step))
	ok(t, s.PutChanges(ctx, f, "g-0001", []grant.Change{change}))
	for range 2 { // and when it is stored again
		same(t, must[grant.Execution](t)(s.Execution(ctx, "x-1")).Outcome, "ok")
		same(t, must[[]grant.StepResult](t)(s.Steps(ctx, "x-1")), []grant.StepResult{step})
		same(t, must[[]grant.Change](t)(s.Changes(ctx, "g-0001")), []grant.Change{change})
		step.Name, step.Module, step.Status, step.RC, step.Attempts, step.Took = "b", "shell", "failed", 7, 8, 9
		step.Started, step.Message, step.Reason, step.LogFrom, step.LogTo = kept(at(1)), "n", "s", 10, 11
		change.Execution, change.Step, change.Module, change.Object, change.State = "x-2", 5, "file", "q", "undone"
		change.Before, change.After, change.Undo = "c", "d", json.RawMessage(`2`)
		ok(t, s.PutExecution(ctx, f, e, step))
		ok(t, s.PutChanges(ctx, f, "g-0001", []grant.Change{change}))
	}
}

func executionIdentity(t *testing.T, s ledger) {
	ctx := t.Context()
	first := grant.Execution{ID: "x-1", Kind: grant.Create, Template: "t", Device: "db1", Node: "n-1", Attempt: 1, Started: kept(t0), Steps: 3}
	ok(t, s.PutExecution(ctx, grant.Fence{}, first))
	second := grant.Execution{
		ID: "x-1", Kind: grant.Delete, Template: "u", Device: "db2", Node: "n-2", Attempt: 2, Started: at(1),
		Ended: at(2), Outcome: "failed", Error: "e", Peer: "p", Connect: 7, Steps: 4, LogBytes: 5, Dropped: 6,
	}
	ok(t, s.PutExecution(ctx, grant.Fence{}, second))
	first.Template, first.Ended, first.Outcome, first.Error, first.Peer = "u", kept(at(2)), "failed", "e", "p"
	first.Connect, first.Steps, first.LogBytes, first.Dropped = 7, 4, 5, 6
	same(t, must[grant.Execution](t)(s.Execution(ctx, "x-1")), first)
}

func changesUpsert(t *testing.T, s ledger) {
	ctx := t.Context()
	f := leased(t, s)
	ok(t, s.PutChanges(ctx, f, "g-0001", []grant.Change{{Seq: 2, Object: "b", State: "intended"}, {Seq: 1, Object: "a", State: "intended"}}))
	ok(t, s.PutChanges(ctx, f, "g-0001", []grant.Change{{Seq: 2, Object: "b", State: "done", Before: "x", After: "y", Step: 4, Module: "user", Undo: json.RawMessage(`1`)}}))
	same(t, must[[]grant.Change](t)(s.Changes(ctx, "g-0001")), []grant.Change{
		{Seq: 1, Object: "a", State: "intended"},
		{Seq: 2, Object: "b", State: "done", Before: "x", After: "y", Step: 4, Module: "user", Undo: json.RawMessage(`1`)},
	})
}

const day = 24 * 3600

// reserve reserves one uid of 100 to 103, the one that was told to be next, and
// returns it as text.
func reserve(t *testing.T, s ledger, device string, now int) string {
	t.Helper()
	next, nerr := s.NextUID(t.Context(), device, 100, 103, at(now))
	uid, err := s.ReserveUID(t.Context(), device, 100, 103, at(now))
	if next != uid || (nerr == nil) != (err == nil) {
		t.Errorf("next was %d (%v), reserved is %d (%v)", next, nerr, uid, err)
	}
	if e, is := errors.AsType[*grant.ExhaustedError](err); is {
		return fmt.Sprintf("none of %s %d-%d", e.Device, e.First, e.Last)
	}
	ok(t, err)
	return strconv.FormatInt(uid, 10)
}

func use(t *testing.T, s ledger, device string) string {
	t.Helper()
	used, size, err := s.UIDUse(t.Context(), device)
	ok(t, err)
	return fmt.Sprint(used, " of ", size)
}

func uidsRest(t *testing.T, s ledger) {
	same(t, use(t, s, "a"), "0 of 0")
	for i, want := range []string{"100", "101", "102", "103", "none of a 100-103"} {
		same(t, reserve(t, s, "a", i*day), want)
	}
	same(t, use(t, s, "a"), "4 of 4")
	same(t, reserve(t, s, "b", 0), "100")
	same(t, use(t, s, "b"), "1 of 4")
	same(t, reserve(t, s, "a", 400*day-1), "none of a 100-103")
	same(t, reserve(t, s, "a", 400*day), "100")
	same(t, reserve(t, s, "a", 400*day), "none of a 100-103")
	same(t, reserve(t, s, "a", 402*day), "101") // the one that rested longest
	same(t, use(t, s, "a"), "3 of 4")           // 102 has rested just now
	same(t, reserve(t, s, "a", 9000*day), "102")

	uid, err := s.ReserveUID(t.Context(), "a", 90, 105, at(0)) // a larger range: on from the latest
	ok(t, err)
	same(t, uid, int64(104))
	for _, want := range []int64{105, 90, 91} {
		uid, err := s.ReserveUID(t.Context(), "a", 90, 105, at(0))
		ok(t, err)
		same(t, uid, want)
	}
	same(t, use(t, s, "a"), "8 of 16")
	for _, bad := range [][2]int64{{0, 5}, {-3, 5}, {6, 5}} {
		if _, err := s.ReserveUID(t.Context(), "c", bad[0], bad[1], t0); err == nil {
			t.Errorf("the range %v was accepted", bad)
		}
	}
}

func uidsBurned(t *testing.T, s ledger) {
	ok(t, s.BurnUID(t.Context(), "a", 103, t0))
	same(t, use(t, s, "a"), "0 of 0")
	same(t, reserve(t, s, "a", 0), "100")
	ok(t, s.BurnUID(t.Context(), "a", 101, t0))
	ok(t, s.BurnUID(t.Context(), "a", 100, t0))
	same(t, reserve(t, s, "a", 0), "102")
	same(t, use(t, s, "a"), "4 of 4")
	same(t, reserve(t, s, "a", 399*day), "none of a 100-103")
	same(t, reserve(t, s, "a", 9000*day), "102")
	same(t, reserve(t, s, "a", 9000*day), "none of a 100-103")
	same(t, reserve(t, s, "b", 0), "100")
}

func uidsHeld(t *testing.T, s ledger) {
	c := newCase(1, "a")
	c.Grant.UID, c.Grant.State = 100, grant.Ending
	ok(t, s.Create(t.Context(), c, nil))
	for range 4 {
		reserve(t, s, "a", 0)
	}
	same(t, reserve(t, s, "a", 401*day), "101") // 100 is still to be removed
	ok(t, s.Change(t.Context(), "g-0001", func(c *grant.Case) error { c.Grant.State = grant.Removed; return nil }))
	same(t, reserve(t, s, "a", 401*day), "100")
}

func auditRows(t *testing.T, s ledger) {
	ctx := t.Context()
	ok(t, s.Create(ctx, newCase(1, "db1"), nil))
	ok(t, s.Create(ctx, newCase(2, "db2"), nil))
	ok(t, s.Change(ctx, "g-0001", func(c *grant.Case) error {
		c.Events = []grant.Event{
			{At: at(1), Actor: "ann", Action: "a", Detail: map[string]string{"b": "\xff<", "a": ""}},
			{At: at(2), Actor: "runner", Action: "b", Detail: map[string]string{}},
		}
		return nil
	}))
	events := must[[]grant.Event](t)(s.Audit(ctx, "g-0001"))
	same(t, events, []grant.Event{
		{At: kept(t0), Actor: "root", Action: "grant.requested", Grant: "g-0001", Detail: map[string]string{"device": "db1"}},
		{At: kept(at(1)), Actor: "ann", Action: "a", Grant: "g-0001", Detail: map[string]string{"b": "\uFFFD<", "a": ""}},
		{At: kept(at(2)), Actor: "runner", Action: "b", Grant: "g-0001"},
	})
	same(t, len(must[[]grant.Event](t)(s.Audit(ctx, ""))), 4)
	same(t, len(must[[]grant.Event](t)(s.Audit(ctx, "g-none"))), 0)
	same(t, len(must[grant.Case](t)(s.Case(ctx, "g-0001")).Events), 0)
}

func marks(t *testing.T, s ledger) {
	ctx := t.Context()
	same(t, must[time.Time](t)(s.Marked(ctx, "swept")), time.Time{})
	for _, m := range [][2]int{{5, 5}, {3, 5}, {7, 7}} {
		ok(t, s.Mark(ctx, "swept", at(m[0])))
		same(t, must[time.Time](t)(s.Marked(ctx, "swept")), kept(at(m[1])))
	}
	same(t, must[time.Time](t)(s.Marked(ctx, "served")), time.Time{})
}

func verifications(t *testing.T, s ledger) {
	ctx := t.Context()
	same(t, len(must[[]store.Verification](t)(s.Verifications(ctx))), 0)
	v := func(template, system string, n int) store.Verification {
		return store.Verification{
			Template: template, OS: system, Platform: "linux", Hash: fmt.Sprint("h", n), Removal: fmt.Sprint("r", n), RemovalHash: fmt.Sprint("rh", n),
			At: kept(at(n)), Runner: fmt.Sprint("v", n), Cases: n, Failed: n + 1,
		}
	}
	noZero(t, v("b", "debian 12", 1))
	for _, w := range []store.Verification{v("b", "debian 12", 1), v("a", "debian 13", 2), v("a", "debian 12", 3), v("b", "debian 12", 4)} {
		ok(t, s.PutVerification(ctx, w))
	}
	got := must[[]store.Verification](t)(s.Verifications(ctx))
	same(t, got, []store.Verification{v("a", "debian 12", 3), v("a", "debian 13", 2), v("b", "debian 12", 4)})
	got[0].Hash = "X"
	same(t, must[[]store.Verification](t)(s.Verifications(ctx))[0].Hash, "h3")
}

func chunk(x string, offset int64, data string) grant.Chunk {
	return grant.Chunk{Execution: x, Offset: offset, At: kept(t0), Step: 1, Stream: "stdout", Data: []byte(data)}
}

func readLog(t *testing.T, s ledger, x string, from int64, limit int) string {
	t.Helper()
	var parts []string
	for _, c := range must[[]grant.Chunk](t)(s.ReadLog(t.Context(), x, from, limit)) {
		same(t, c, chunk(x, c.Offset, string(c.Data)))
		parts = append(parts, fmt.Sprintf("%d:%s", c.Offset, c.Data))
	}
	return strings.Join(parts, " ")
}

func logRanges(t *testing.T, s ledger) {
	ok(t, s.AppendLog(t.Context(), []grant.Chunk{chunk("x-1", 0, "abc"), chunk("x-2", 0, "other"), chunk("x-1", 3, "de"), chunk("x-1", 10, "klm")}))
	for _, c := range []struct {
		from  int64
		limit int
		want  string
	}{
		{0, 0, "0:abc 3:de 10:klm"},
		{0, 2, "0:abc 3:de"},
		{-5, 1, "0:abc"},
		{1, 2, "1:bc 3:de"},
		{2, 0, "2:c 3:de 10:klm"},
		{3, 1, "3:de"},
		{4, 5, "4:e 10:klm"},
		{5, 1, "10:klm"},
		{9, 1, "10:klm"},
		{10, 0, "10:klm"},
		{12, 9, "12:m"},
		{13, 9, ""},
		{99, 9, ""},
	} {
		same(t, readLog(t, s, "x-1", c.from, c.limit), c.want)
	}
	same(t, readLog(t, s, "x-3", 0, 0), "")
	stored, end, err := s.LogSize(t.Context(), "x-1")
	ok(t, err)
	same(t, fmt.Sprint(stored, end), "8 13")
	stored, end, err = s.LogSize(t.Context(), "x-3")
	ok(t, err)
	same(t, fmt.Sprint(stored, end), "0 0")
}

func logAppend(t *testing.T, s ledger) {
	ctx := t.Context()
	c := chunk("x-1", 0, "abc")
	c.At = t0
	ok(t, s.AppendLog(ctx, []grant.Chunk{c}))
	ok(t, s.AppendLog(ctx, []grant.Chunk{c, chunk("x-1", 3, ""), chunk("x-1", 3, "def")})) // again, and more
	for _, bad := range []grant.Chunk{
		chunk("x-1", 0, "abX"), chunk("x-1", 0, "ab"), chunk("x-1", 1, "bc"), chunk("x-1", 5, "fg"), chunk("x-1", -1, "z"), chunk("../x", 0, "z"),
	} {
		if s.AppendLog(ctx, []grant.Chunk{chunk("x-2", 0, "all or none"), bad}) == nil {
			t.Errorf("%+v was stored", bad)
		}
	}
	same(t, readLog(t, s, "x-1", 0, 0), "0:abc 3:def")
	same(t, readLog(t, s, "x-2", 0, 0), "")
	ok(t, s.AppendLog(ctx, nil))
}

func logDrop(t *testing.T, s ledger) {
	ctx := t.Context()
	var all []grant.Chunk
	for i := range int64(1200) { // more than a batch
		all = append(all, chunk("x-1", 2*i, "ab"))
	}
	ok(t, s.AppendLog(ctx, append(all, chunk("x-2", 2, "ab"))))
	ok(t, s.DropLog(ctx, "x-1", 3, 2397)) // not the chunks that only begin or end inside
	same(t, readLog(t, s, "x-1", 0, 0), "0:ab 2:ab 2396:ab 2398:ab")
	same(t, readLog(t, s, "x-2", 0, 0), "2:ab")
	ok(t, s.DropLog(ctx, "x-1", 0, 4))
	same(t, readLog(t, s, "x-1", 0, 0), "2396:ab 2398:ab")
	ok(t, s.DropLog(ctx, "x-1", 5, 5))
	ok(t, s.DropLog(ctx, "x-none", 0, 100))
	same(t, readLog(t, s, "x-1", 0, 0), "2396:ab 2398:ab")
}

func logNext(t *testing.T, s ledger) {
	next := func(after, before string) string {
		t.Helper()
		return must[string](t)(s.NextLog(t.Context(), after, before))
	}
	same(t, next("", "z"), "")
	for _, id := range []string{"x-b", "s-a", "x-a", "x-c"} {
		ok(t, s.AppendLog(t.Context(), []grant.Chunk{chunk(id, 0, "ab"), chunk(id, 2, "cd")}))
	}
	same(t, next("x-", "x-z"), "x-a")
	same(t, next("x-a", "x-z"), "x-b")
	same(t, next("x-b", "x-c"), "")
	same(t, next("s-", "s-z"), "s-a")
	room := must[grant.Room](t)(s.Room(t.Context()))
	if _, memory := s.(*store.Memory); !memory && (room.Grants < 4<<10 || room.Logs < 4<<10) || room.GrantsFree > room.Grants || room.LogsFree > room.Logs {
		t.Errorf("room: %+v", room)
	}
	ok(t, s.DropLog(t.Context(), "x-a", 0, 4))
	same(t, next("x-", "x-z"), "x-b")
}

func endedContext(t *testing.T, s ledger) {
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, caseErr := s.Case(ctx, "g-0001")
	_, dueErr := s.Ready(ctx, grant.Want{Now: t0})
	_, logErr := s.ReadLog(ctx, "x-1", 0, 0)
	for i, err := range []error{
		caseErr, dueErr, logErr,
		s.Create(ctx, newCase(2, "db2"), nil),
		s.Change(ctx, "g-0001", func(*grant.Case) error { t.Error("called"); return nil }),
		s.PutExecution(ctx, grant.Fence{}, grant.Execution{ID: "x-1"}),
		s.AppendLog(ctx, []grant.Chunk{chunk("x-1", 0, "a")}),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%d: got %v", i, err)
		}
	}
	same(t, len(must[[]grant.Case](t)(s.Cases(t.Context(), grant.Filter{}))), 1)
}

func copies(t *testing.T, s ledger) {
	ctx := t.Context()
	c := newCase(1, "db1")
	c.Grant.Sealed, c.Grant.Receipt = []byte("abc"), &grant.Receipt{Left: []string{"x"}}
	ok(t, s.Create(ctx, c, nil))
	before := must[grant.Case](t)(s.Case(ctx, "g-0001"))
	c.Grant.Sealed[0], c.Grant.Receipt.Left[0], c.Jobs[0].Node = 'X', "X", "X"
	c.Events[0].Detail["device"] = "X"
	got := must[grant.Case](t)(s.Case(ctx, "g-0001"))
	same(t, got, before)
	got.Grant.Sealed[0], got.Grant.Receipt.Left[0], got.Jobs[0].Node = 'X', "X", "X"
	must[[]grant.Event](t)(s.Audit(ctx, ""))[0].Detail["device"] = "X"
	_ = s.Change(ctx, "g-0001", func(c *grant.Case) error {
		c.Grant.Sealed[0], c.Grant.Receipt.Left[0], c.Jobs[0].Node = 'X', "X", "X"
		return errors.New("no")
	})
	same(t, must[grant.Case](t)(s.Case(ctx, "g-0001")), before)
	same(t, must[[]grant.Event](t)(s.Audit(ctx, ""))[0].Detail["device"], "db1")
	same(t, slices.Equal(before.Grant.Sealed, []byte("abc")), true)
}
