package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"runner/engine/grant"
	"runner/engine/store"
)

// TestRandomHistoriesEqualTheModel does the same random things to both stores
// and wants the same answers, and the same contents in the end.
func TestRandomHistoriesEqualTheModel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	runs := 0
	equalsTheModel(t, func(rt *rapid.T) *store.Store {
		runs++
		s, err := store.Open(t.Context(), fmt.Sprintf("%s/%d", dir, runs))
		if err != nil {
			rt.Fatal(err)
		}
		rt.Cleanup(func() { _ = s.Close() })
		return s
	})
}

func TestRandomHistoriesOnPostgreSQLEqualTheModel(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	equalsTheModel(t, func(rt *rapid.T) *store.Store {
		if err := s.Wipe(t.Context()); err != nil {
			rt.Fatal(err)
		}
		return s
	})
}

func equalsTheModel(t *testing.T, open func(*rapid.T) *store.Store) {
	t.Helper()
	rapid.Check(t, func(rt *rapid.T) {
		s := open(rt)
		h := &history{rt: rt, ctx: t.Context(), sql: s, mem: store.NewMemory()}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			h.step()
		}
		h.compare()
		if err := s.VerifyAudit(t.Context()); err != nil {
			rt.Fatal(err)
		}
	})
}

type history struct {
	rt  *rapid.T
	ctx context.Context //nolint:containedctx // lives as long as one check
	sql *store.Store
	mem *store.Memory
}

func (h *history) pick(name string, n int) int { return rapid.IntRange(0, n-1).Draw(h.rt, name) }

func pickOf[T any](h *history, name string, from ...T) T { return from[h.pick(name, len(from))] }

// both does one thing to both stores.
func (h *history) both(do func(ledger) (any, error)) {
	h.rt.Helper()
	a, aerr := do(h.sql)
	b, berr := do(h.mem)
	if class(aerr) != class(berr) {
		h.rt.Fatalf("database: %v, model: %v", aerr, berr)
	}
	if d := cmp.Diff(b, a); d != "" {
		h.rt.Fatalf("(-model +database):\n%s", d)
	}
}

// class is what callers can tell errors apart by.
func class(err error) string {
	if e, is := errors.AsType[*grant.ConflictError](err); is {
		return "conflict of " + e.What + " with " + e.Existing.ID
	}
	if e, is := errors.AsType[*grant.AmbiguousError](err); is {
		return e.Error()
	}
	if e, is := errors.AsType[*grant.ExhaustedError](err); is {
		return e.Error()
	}
	for _, known := range []error{grant.ErrNotFound, grant.ErrLeaseLost, grant.ErrBusy} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if err != nil {
		return "another error"
	}
	return ""
}

func (h *history) grantID() string { return fmt.Sprintf("g-%04d", h.pick("grant", 5)) }
func (h *history) device() string  { return pickOf(h, "device", "a", "b") }

func (h *history) fence() grant.Fence {
	if h.pick("fenced", 5) == 0 {
		return grant.Fence{}
	}
	id := h.grantID()
	c, err := h.mem.Case(h.ctx, id)
	if err != nil || len(c.Jobs) == 0 {
		return grant.Fence{Job: "j-none", Attempt: 1, Node: "n-1"}
	}
	j := c.Jobs[h.pick("job", len(c.Jobs))]
	f := grant.Fence{Job: j.ID, Attempt: j.Attempt, Node: j.Node}
	if h.pick("stale", 4) == 0 {
		f.Attempt--
	}
	return f
}

func (h *history) step() {
	h.rt.Helper()
	switch h.pick("what", 13) {
	case 0, 1:
		h.create()
	case 2, 3, 4, 5:
		h.change()
	case 6:
		f, id := h.fence(), fmt.Sprint("x-", h.pick("execution", 4))
		e := grant.Execution{ID: id, JobID: f.Job, GrantID: h.grantID(), Device: h.device(), Started: at(h.pick("start", 3)), Outcome: pickOf(h, "outcome", "", "ok")}
		steps := []grant.StepResult{{N: 1, Status: e.Outcome, Started: at(1)}, {N: 2}}[:h.pick("steps", 3)]
		h.both(func(s ledger) (any, error) { return nil, s.PutExecution(h.ctx, f, e, steps...) })
	case 7:
		f, id, seq := h.fence(), h.grantID(), h.pick("seq", 3)
		h.both(func(s ledger) (any, error) {
			return nil, s.PutChanges(h.ctx, f, id, []grant.Change{{Seq: seq, State: "intended"}, {Seq: seq + 1}})
		})
		held := grant.Change{
			Seq: seq, Object: pickOf(h, "object", "x", "y"), State: pickOf(h, "became", "intended", "intended", "done", "unchanged", "undone"),
			Before: pickOf(h, "before", "absent", "member", "other"), After: pickOf(h, "after", "", "member"), Hold: true,
		}
		h.both(func(s ledger) (any, error) { return nil, s.PutChanges(h.ctx, f, id, []grant.Change{held}) })
	case 8:
		now, dev, last := at(h.pick("day", 5)*200*day), h.device(), int64(100+h.pick("size", 3))
		h.both(func(s ledger) (any, error) { return s.NextUID(h.ctx, dev, 100, last, now) })
		h.both(func(s ledger) (any, error) { return s.ReserveUID(h.ctx, dev, 100, last, now) })
		h.both(func(s ledger) (any, error) {
			used, size, err := s.UIDUse(h.ctx, dev)
			return [2]int64{used, size}, err
		})
	case 9:
		dev, uid := h.device(), int64(100+h.pick("uid", 3))
		h.both(func(s ledger) (any, error) { return nil, s.BurnUID(h.ctx, dev, uid, t0) })
	case 10:
		h.log()
	case 11:
		h.look()
	case 12:
		v := store.Verification{Template: pickOf(h, "template", "a", "b"), OS: pickOf(h, "os", "x", "y"), At: at(h.pick("verified", 3)), Failed: h.pick("failed", 2)}
		h.both(func(s ledger) (any, error) { return nil, s.PutVerification(h.ctx, v) })
	}
}

func (h *history) create() {
	n := h.pick("grant", 5)
	c := newCase(n, h.device())
	c.Grant.Requester = pickOf(h, "requester", "ann", "ben", "cem")
	c.Grant.Account = pickOf(h, "account", "jit-1", "jit-2", "jit-3")
	c.Grant.UID = int64(100 + h.pick("uid", 3))
	c.Grant.Creates = h.pick("creates", 3) > 0
	c.Grant.State = pickOf(h, "state", grant.Requested, grant.Active, grant.Gone)
	c.Grant.Requested = at(h.pick("requested", 3))
	c.Jobs[0].Due, c.Jobs[1].Due = at(h.pick("due", 6)), at(h.pick("due", 6))
	for i := range c.Jobs {
		c.Jobs[i].Silent = h.pick("silent", 2) == 1
		c.Jobs[i].Login, c.Jobs[i].LoginLimit = pickOf(h, "login", "l", "m"), h.pick("login limit", 3)
	}
	if h.pick("foreign job", 8) == 0 {
		c.Jobs[1].ID = fmt.Sprintf("j-%04d-d", h.pick("of", 5))
	}
	snaps := []grant.Snapshot{snap("t", strconv.Itoa(h.pick("template", 2)))}
	c.Grant.Plan.Removal = pickOf(h, "pin", snaps[0].Hash, snap("", "0").Hash)
	h.both(func(s ledger) (any, error) { return nil, s.Create(h.ctx, c, snaps) })
}

func (h *history) change() {
	id, i, to := h.grantID(), h.pick("job", 3), pickOf(h, "to", grant.Waiting, grant.Running, grant.Running, grant.Paused, grant.Done, grant.JobCancelled)
	node, when, what := pickOf(h, "node", "n-1", "n-2", ""), at(h.pick("due", 6)), h.pick("change", 6)
	state := pickOf(h, "state", grant.Active, grant.Ending, grant.Removed, grant.Gone)
	ran := h.ran(id)
	h.both(func(s ledger) (any, error) {
		return nil, s.Change(h.ctx, id, func(c *grant.Case) error {
			if what == 0 {
				c.Grant.State = state
			}
			if what == 1 {
				c.Jobs = append(c.Jobs, grant.Job{ID: "j-new" + id, GrantID: id, Kind: grant.Renew, State: grant.Waiting, Device: "a", Due: when})
			}
			if i < len(c.Jobs) {
				j := &c.Jobs[i]
				j.State, j.Node, j.Due, j.PausedUntil = to, node, when, when
				if to == grant.Running {
					j.Attempt++
				}
			}
			c.Ran = ran
			c.Events = append(c.Events, grant.Event{At: when, Action: "changed", Detail: map[string]string{"to": string(to)}})
			if what == 2 {
				return grant.ErrLeaseLost
			}
			return nil
		})
	})
}

// ran is what an execution of a job of a grant, or of another, writes; often nothing.
func (h *history) ran(id string) *grant.Ran {
	if h.pick("ran", 3) > 0 {
		return nil
	}
	r := &grant.Ran{
		Execution: grant.Execution{ID: fmt.Sprint("x-", h.pick("execution", 4)), JobID: pickOf(h, "ran job", "j-"+id[2:]+"-c", "j-0001-d"), GrantID: id, Started: at(1)},
		Steps:     []grant.StepResult{{N: 1, Status: "ok"}, {N: 2}}[:h.pick("steps", 3)],
	}
	if h.pick("ran changes", 2) == 0 {
		r.Changes = []grant.Change{{Seq: h.pick("seq", 3), Object: pickOf(h, "object", "x", "y"), State: "undone", Before: "absent", Hold: h.pick("hold", 2) == 0}}
	}
	return r
}

func (h *history) log() {
	c := chunk(fmt.Sprint("x-", h.pick("execution", 2)), int64(h.pick("offset", 12)), "abcdef"[:h.pick("size", 6)])
	h.both(func(s ledger) (any, error) { return nil, s.AppendLog(h.ctx, []grant.Chunk{c}) })
	if h.pick("drop", 3) == 0 {
		from, to := int64(h.pick("from", 12)), int64(h.pick("to", 18))
		h.both(func(s ledger) (any, error) { return nil, s.DropLog(h.ctx, c.Execution, from, to) })
	}
	from, limit := int64(h.pick("from", 12)), h.pick("limit", 4)
	h.both(func(s ledger) (any, error) { return s.ReadLog(h.ctx, c.Execution, from, limit) })
	h.both(func(s ledger) (any, error) {
		stored, end, err := s.LogSize(h.ctx, c.Execution)
		return [2]int64{stored, end}, err
	})
}

// look asks what a worker asks.
func (h *history) look() {
	now, limit := at(h.pick("now", 7)), h.pick("limit", 3)
	want := grant.Want{Removal: h.pick("removal", 2) == 1, Device: pickOf(h, "on", "", "a"), Now: now, Limit: limit}
	if h.pick("behind", 3) == 0 {
		want.After = grant.Ready{At: at(h.pick("after", 6)), Job: pickOf(h, "after job", "", "j-0001-d", "j-0002-c")}
	}
	h.both(func(s ledger) (any, error) { return s.Ready(h.ctx, want) })
	h.both(func(s ledger) (any, error) {
		list, total, err := s.Overdue(h.ctx, now, limit)
		return []any{some(list), total}, err
	})
	h.both(func(s ledger) (any, error) { return s.Tally(h.ctx) })
	device := pickOf(h, "silent", "a", "b")
	h.both(func(s ledger) (any, error) {
		if limit == 0 {
			return nil, s.Answered(h.ctx, device, now)
		}
		return s.Missed(h.ctx, device, "why", now, 0.5)
	})
	h.both(func(s ledger) (any, error) { return s.Silences(h.ctx) })
	behind, seen := fmt.Sprint("x-", h.pick("behind log", 3)), at(h.pick("seen", 7)-1)
	scan := grant.Scanned{Device: device, Tried: now, Error: pickOf(h, "scan", "", "", "away"), At: now}
	if h.pick("finds", 2) == 0 {
		scan.Findings = []grant.Finding{{What: "unknown", Object: "account x", Why: []string{"because"}, Until: now}}
	}
	h.both(func(s ledger) (any, error) {
		switch limit {
		case 0:
			return nil, s.DropScan(h.ctx, device)
		case 1:
			return s.BeginScan(h.ctx, device, seen, now)
		}
		return nil, s.PutScan(h.ctx, scan)
	})
	h.both(func(s ledger) (any, error) { return s.NextLog(h.ctx, behind, "x-3") })
	h.both(func(s ledger) (any, error) { return s.Scans(h.ctx, limit == 2) })
	fence := h.fence()
	h.both(func(s ledger) (any, error) { return s.Held(h.ctx, fence) })
	h.both(func(s ledger) (any, error) { return s.Holding(h.ctx, "ann", "admin") })
	h.both(func(s ledger) (any, error) { v, err := s.GoneOn(h.ctx, device); return some(v), err })
	h.both(func(s ledger) (any, error) {
		next, is, err := s.NextDue(h.ctx, now)
		return fmt.Sprint(next, is), err
	})
	h.both(func(s ledger) (any, error) { return s.Running(h.ctx) })
	prefix := pickOf(h, "prefix", "g-000", "g-0001", "j-0001", "j-0001-c", "x-", "")
	h.both(func(s ledger) (any, error) { return s.Case(h.ctx, prefix) })
	h.both(func(s ledger) (any, error) { return s.Job(h.ctx, prefix) })
	h.both(func(s ledger) (any, error) { return s.Execution(h.ctx, prefix) })
	f := grant.Filter{
		Requester: pickOf(h, "requester", "", "ann"), Device: pickOf(h, "device", "", "a"), Limit: limit,
		Outcome: pickOf(h, "outcome", "", "ok", "running"),
	}
	if h.pick("states", 2) == 1 {
		f.States = []string{"active", "waiting", "paused", "done"}
	}
	h.lists(f)
}

func (h *history) lists(f grant.Filter) {
	h.both(func(s ledger) (any, error) { v, err := s.Cases(h.ctx, f); return some(v), err })
	h.both(func(s ledger) (any, error) { v, err := s.Jobs(h.ctx, f); return some(v), err })
	h.both(func(s ledger) (any, error) { v, err := s.Executions(h.ctx, f); return some(v), err })
}

// some makes no rows of an empty and of no list the same.
func some[T any](list []T) []T { return append([]T{}, list...) }

func (h *history) compare() {
	h.lists(grant.Filter{})
	h.both(func(s ledger) (any, error) { return s.Audit(h.ctx, "") })
	h.both(func(s ledger) (any, error) { v, err := s.Verifications(h.ctx); return some(v), err })
	for i := range 5 {
		h.both(func(s ledger) (any, error) { return s.Changes(h.ctx, fmt.Sprintf("g-%04d", i)) })
		h.both(func(s ledger) (any, error) { return s.Holds(h.ctx, fmt.Sprintf("g-%04d", i)) })
		h.both(func(s ledger) (any, error) { return s.Steps(h.ctx, fmt.Sprint("x-", i)) })
		h.both(func(s ledger) (any, error) { return s.Snapshot(h.ctx, snap("", strconv.Itoa(i)).Hash) })
	}
}
