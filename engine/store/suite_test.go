package store_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"runner/engine/grant"
	"runner/engine/store"
)

// ledger is what both stores do.
type ledger interface {
	Create(ctx context.Context, c grant.Case, snaps []grant.Snapshot) error
	Change(ctx context.Context, grantID string, fn func(*grant.Case) error) error
	Case(ctx context.Context, idOrPrefix string) (grant.Case, error)
	Cases(ctx context.Context, f grant.Filter) ([]grant.Case, error)
	Job(ctx context.Context, idOrPrefix string) (grant.Job, error)
	Jobs(ctx context.Context, f grant.Filter) ([]grant.Job, error)
	Ready(ctx context.Context, w grant.Want) ([]grant.Ready, error)
	Overdue(ctx context.Context, before time.Time, limit int) ([]grant.Case, int, error)
	Tally(ctx context.Context) (grant.Tally, error)
	Missed(ctx context.Context, device, why string, now time.Time, jitter float64) (grant.Silence, error)
	Answered(ctx context.Context, device string, now time.Time) error
	Silences(ctx context.Context) ([]grant.Silence, error)
	NextDue(ctx context.Context, after time.Time) (time.Time, bool, error)
	Running(ctx context.Context) ([]grant.Job, error)
	Holding(ctx context.Context, requester, credential string) (*grant.Grant, error)
	GoneOn(ctx context.Context, device string) ([]grant.Grant, error)
	Held(ctx context.Context, f grant.Fence) (ended bool, err error)
	PutExecution(ctx context.Context, f grant.Fence, e grant.Execution, steps ...grant.StepResult) error
	PutChanges(ctx context.Context, f grant.Fence, grantID string, cs []grant.Change) error
	Execution(ctx context.Context, idOrPrefix string) (grant.Execution, error)
	Executions(ctx context.Context, f grant.Filter) ([]grant.Execution, error)
	Steps(ctx context.Context, execution string) ([]grant.StepResult, error)
	Changes(ctx context.Context, grantID string) ([]grant.Change, error)
	Holds(ctx context.Context, grantID string) ([]grant.Hold, error)
	Session(ctx context.Context, idOrPrefix string) (grant.Session, error)
	Sessions(ctx context.Context, f grant.Filter) ([]grant.Session, error)
	ChangeSession(ctx context.Context, id string, fn func(*grant.Session) error) error
	Snapshot(ctx context.Context, hash string) (grant.Snapshot, error)
	NextUID(ctx context.Context, device string, first, last int64, now time.Time) (int64, error)
	ReserveUID(ctx context.Context, device string, first, last int64, now time.Time) (int64, error)
	BurnUID(ctx context.Context, device string, uid int64, now time.Time) error
	UIDUse(ctx context.Context, device string) (used, size int64, err error)
	Audit(ctx context.Context, grantID string) ([]grant.Event, error)
	Ignore(ctx context.Context, i grant.Ignored) error
	Ignored(ctx context.Context, device string) ([]grant.Ignored, error)
	Newest(ctx context.Context) (string, error)
	BeginScan(ctx context.Context, device string, was, now time.Time) (bool, error)
	PutScan(ctx context.Context, s grant.Scanned) error
	Scans(ctx context.Context, found bool) ([]grant.Scanned, error)
	DropScan(ctx context.Context, device string) error
	Restored(ctx context.Context, now time.Time, why string) (int, error)
	Mark(ctx context.Context, what string, at time.Time) error
	Marked(ctx context.Context, what string) (time.Time, error)
	PutVerification(ctx context.Context, v store.Verification) error
	Verifications(ctx context.Context) ([]store.Verification, error)
	AppendLog(ctx context.Context, chunks []grant.Chunk) error
	ReadLog(ctx context.Context, execution string, from int64, limit int) ([]grant.Chunk, error)
	DropLog(ctx context.Context, execution string, from, to int64) error
	LogSize(ctx context.Context, execution string) (stored, end int64, err error)
	NextLog(ctx context.Context, after, before string) (string, error)
	Room(ctx context.Context) (grant.Room, error)
}

var (
	_ ledger = (*store.Store)(nil)
	_ ledger = (*store.Memory)(nil)
)

// TestConformance holds both stores to the same behaviour.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t testing.TB) ledger{
		"sqlite":   func(tb testing.TB) ledger { tb.Helper(); return openStore(tb) },
		"postgres": func(tb testing.TB) ledger { tb.Helper(); return openShared(tb) },
		"memory":   func(testing.TB) ledger { return store.NewMemory() },
	} {
		for behaviour, test := range map[string]func(*testing.T, ledger){
			"a case comes back whole":                          wholeCase,
			"a snapshot is stored once and only with its hash": snapshotsByHash,
			"a plan pins only what is stored":                  pinsOnlyStored,
			"a requester holds a credential once":              onceEach,
			"an account and a uid have one grant at a time":    oneAccount,
			"a refused grant leaves nothing behind":            refusedLeavesNothing,
			"prefixes":                                         prefixes,
			"lists":                                            lists,
			"a change is all or nothing":                       changeAtomic,
			"a change takes nothing away":                      changeKeeps,
			"one running job per device and grant":             oneRunning,
			"a job hands over to the next in one change":       handOver,
			"ready jobs":                                       readyJobs,
			"as many jobs run by a login as may":               loginLimit,
			"overdue removals":                                 overdueRemovals,
			"devices that do not answer":                       silentDevices,
			"the next due time":                                nextDue,
			"a late write of a lost lease changes nothing":     fenced,
			"a fence guards only its own job":                  fenceOfAnother,
			"an execution is stored with what it led to":       ranAlong,
			"a change hands back what is stored":               handedBack,
			"an ad hoc run has no fence":                       adHoc,
			"an execution comes back whole":                    wholeExecution,
			"what identifies an execution never changes":       executionIdentity,
			"changes are completed by their number":            changesUpsert,
			"grants that want one object are counted":          holdsCount,
			"what somebody else made of an object counts":      holdsYield,
			"nobody takes away what others found":              holdsLost,
			"what a step saw counts before what was probed":    holdsSeen,
			"a session comes with its grant":                   sessionsOfGrants,
			"uids go round and rest":                           uidsRest,
			"burned uids are never given":                      uidsBurned,
			"a uid of a grant that lives is not given again":   uidsHeld,
			"audit rows come with the change":                  auditRows,
			"marks only go forward":                            marks,
			"what is ignored is kept":                          ignoresKept,
			"what was found takes nobody's place":              foundGrants,
			"the latest scan is kept":                          scansKept,
			"one begins a scan":                                scansBegun,
			"the latest verification is kept":                  verifications,
			"logs are byte ranges":                             logRanges,
			"logs are appended":                                logAppend,
			"logs are dropped by whole chunks":                 logDrop,
			"logs are found one after the other":               logNext,
			"an ended context stops everything":                endedContext,
			"what is handed out is a copy":                     copies,
			"nothing happens twice after a restoration":        restoration,
		} {
			t.Run(name+"/"+behaviour, func(t *testing.T) {
				t.Parallel()
				test(t, open(t))
			})
		}
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func want(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
}

func same(t *testing.T, got, wanted any) {
	t.Helper()
	if d := cmp.Diff(wanted, got); d != "" {
		t.Fatalf("unexpected (-want +got):\n%s", d)
	}
}

// snap returns a snapshot with the right hash.
func snap(name, body string) grant.Snapshot {
	sum := sha256.Sum256([]byte(body))
	return grant.Snapshot{Hash: hex.EncodeToString(sum[:]), Kind: "create", Name: name, Body: []byte(body)}
}

// noZero fails for a field without a value: one that nobody stores would not
// be missed in it.
func noZero(t *testing.T, v any) {
	t.Helper()
	r := reflect.ValueOf(v)
	for i := range r.NumField() {
		if r.Field(i).IsZero() {
			t.Errorf("%T.%s is zero in a test that everything comes back", v, r.Type().Field(i).Name)
		}
	}
}

func wholeCase(t *testing.T, s ledger) {
	forward, removal := snap("a", "steps: []"), snap("b", "")
	c := newCase(1, "db1")
	c.Grant = grant.Grant{
		ID: "g-0001", State: grant.Removed, Requester: "ann", Caller: "root", Reason: "l'été \x00 …", Credential: "admin", Device: "db1",
		Account: "jit-1", UID: 70001, Creates: true, Origin: grant.Adopted, Requested: t0, Activated: at(1), Expires: at(2), For: 90*time.Minute + 1,
		Backstop: at(3), Ended: at(4), EndedBy: "revoke", NoAccess: at(5), NoTrace: at(6), Failure: "no", Sealed: []byte{0, 1, 255},
		Collected: at(7), Outputs: json.RawMessage(`{ "b": 1,  "a": "<&>" }`),
		Plan: grant.Plan{
			Forward: forward.Hash, Removal: removal.Hash, Params: json.RawMessage(`{"x": [1, 2]}`),
			Connection: json.RawMessage(`null`), Longest: 7 * time.Minute,
		},
		Receipt: &grant.Receipt{At: at(6), Device: "db1", Peer: "SHA256:x", Left: []string{}, Before: []string{"a", "b"}, After: []string{"a"}, Known: true, Machine: "m", Gone: "g"},
	}
	c.Jobs = append(c.Jobs, grant.Job{
		ID: "j-0001-r", GrantID: "g-0001", Kind: grant.Renew, State: grant.Paused, Device: "db1", Due: at(1), Attempt: 3,
		Execution: "x-1", FirstFailed: at(2), LastError: "err", BlockedBy: "pid 7", PausedUntil: at(9), Again: at(10), Until: at(12), Finished: at(11),
		Login: "svc", LoginLimit: 4, Missed: 2, Silent: true,
	})
	c.Jobs[2].Node = "n-1"
	for _, v := range []any{c.Grant, c.Grant.Plan, c.Jobs[2]} {
		noZero(t, v)
	}
	ok(t, s.Create(t.Context(), c, []grant.Snapshot{forward, removal}))

	g := &c.Grant
	for _, p := range []*time.Time{&g.Requested, &g.Activated, &g.Expires, &g.Backstop, &g.Ended, &g.NoAccess, &g.NoTrace, &g.Collected, &g.Receipt.At} {
		*p = kept(*p)
	}
	g.Reason = strings.ReplaceAll(g.Reason, "\x00", "\uFFFD")
	for i := range c.Jobs {
		c.Jobs[i].Due = kept(c.Jobs[i].Due)
	}
	j := &c.Jobs[2]
	for _, p := range []*time.Time{&j.FirstFailed, &j.PausedUntil, &j.Again, &j.Until, &j.Finished} {
		*p = kept(*p)
	}
	c.Events = nil
	same(t, must[grant.Case](t)(s.Case(t.Context(), "g-0001")), c)
	same(t, must[[]grant.Case](t)(s.Cases(t.Context(), grant.Filter{})), []grant.Case{c})
	same(t, must[grant.Job](t)(s.Job(t.Context(), "j-0001-r")), *j)

	ok(t, s.Create(t.Context(), newCase(2, "db2"), nil))
	bare := newCase(2, "db2")
	got := must[grant.Case](t)(s.Case(t.Context(), "g-0002"))
	if got.Grant.Receipt != nil || got.Grant.Sealed != nil || got.Grant.Outputs != nil || !got.Grant.Ended.IsZero() || !got.Jobs[0].Finished.IsZero() {
		t.Errorf("something came out of nothing: %+v", got)
	}
	same(t, got.Grant.For, bare.Grant.For)
}

func snapshotsByHash(t *testing.T, s ledger) {
	a := snap("first", "body")
	ok(t, s.Create(t.Context(), newCase(1, "db1"), []grant.Snapshot{a}))
	again := a
	again.Name = "second"
	ok(t, s.Create(t.Context(), newCase(2, "db1"), []grant.Snapshot{again}))
	same(t, must[grant.Snapshot](t)(s.Snapshot(t.Context(), a.Hash)), a)

	forged := a
	forged.Body = []byte("other")
	if err := s.Create(t.Context(), newCase(3, "db1"), []grant.Snapshot{forged}); err == nil {
		t.Error("a snapshot with the hash of another body was stored")
	}
	_, err := s.Case(t.Context(), "g-0003")
	want(t, err, grant.ErrNotFound)
	_, err = s.Snapshot(t.Context(), "00")
	want(t, err, grant.ErrNotFound)
}

func pinsOnlyStored(t *testing.T, s ledger) {
	a := snap("a", "body")
	c := newCase(1, "db1")
	c.Grant.Plan.Removal = a.Hash
	want(t, s.Create(t.Context(), c, nil), grant.ErrNotFound)
	_, err := s.Case(t.Context(), "g-0001")
	want(t, err, grant.ErrNotFound)
	ok(t, s.Create(t.Context(), c, []grant.Snapshot{a}))
	want(t, s.Change(t.Context(), "g-0001", func(c *grant.Case) error {
		c.Grant.Plan.Removal = strings.Repeat("0", 64)
		return nil
	}), grant.ErrNotFound)
	same(t, must[grant.Case](t)(s.Case(t.Context(), "g-0001")).Grant.Plan.Removal, a.Hash)
}

func conflict(t *testing.T, err error, what, existing string) {
	t.Helper()
	e, is := errors.AsType[*grant.ConflictError](err)
	if !is || e.What != what || e.Existing.ID != existing {
		t.Fatalf("got %v, want a conflict of %s with %s", err, what, existing)
	}
}

func onceEach(t *testing.T, s ledger) {
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	c := newCase(2, "db2")
	c.Grant.Requester = "user1"
	conflict(t, s.Create(t.Context(), c, nil), "requester", "g-0001")
	for _, state := range []grant.State{grant.WaitingApproval, grant.Creating, grant.Active, grant.Ending} {
		ok(t, s.Change(t.Context(), "g-0001", func(c *grant.Case) error { c.Grant.State = state; return nil }))
		conflict(t, s.Create(t.Context(), c, nil), "requester", "g-0001")
	}
	other := c
	other.Grant.Credential = "reader"
	ok(t, s.Create(t.Context(), other, nil))
	for i, state := range []grant.State{grant.Denied, grant.Cancelled, grant.Removed, grant.Gone} {
		ok(t, s.Change(t.Context(), "g-0001", func(c *grant.Case) error { c.Grant.State = state; return nil }))
		c := newCase(10+i, "db2")
		c.Grant.Requester, c.Grant.State = "user1", state
		ok(t, s.Create(t.Context(), c, nil))
	}
	c = newCase(20, "db1")
	c.Grant.Requester = "user1"
	ok(t, s.Create(t.Context(), c, nil))
	conflict(t, s.Change(t.Context(), "g-0001", func(c *grant.Case) error { c.Grant.State = grant.Active; return nil }), "requester", "g-0020")
}

func oneAccount(t *testing.T, s ledger) {
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	c := newCase(2, "db1")
	c.Grant.Account = "jit-1"
	conflict(t, s.Create(t.Context(), c, nil), "account", "g-0001")
	c.Grant.Account, c.Grant.UID = "jit-2", 70001
	conflict(t, s.Create(t.Context(), c, nil), "uid", "g-0001")
	c.Grant.Account, c.Grant.Creates = "jit-1", false // elevates the account of another
	ok(t, s.Create(t.Context(), c, nil))
	c = newCase(3, "db2")
	c.Grant.Account, c.Grant.UID = "jit-1", 70001
	ok(t, s.Create(t.Context(), c, nil))
	for i := range 2 { // no uid is no conflict
		c = newCase(4+i, "db1")
		c.Grant.UID = 0
		ok(t, s.Create(t.Context(), c, nil))
	}
	ok(t, s.Change(t.Context(), "g-0001", func(c *grant.Case) error { c.Grant.State = grant.Removed; return nil }))
	c = newCase(6, "db1")
	c.Grant.Account, c.Grant.UID = "jit-1", 70001
	ok(t, s.Create(t.Context(), c, nil))
}

func refusedLeavesNothing(t *testing.T, s ledger) {
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	body := snap("a", "x")
	c := newCase(2, "db2")
	c.Jobs[1].ID = "j-0001-c" // taken: found out after the grant is written
	if s.Create(t.Context(), c, []grant.Snapshot{body}) == nil {
		t.Fatal("a job id was given twice")
	}
	for _, spoil := range []func(*grant.Case){
		func(c *grant.Case) { c.Grant.ID = "G_2" },
		func(c *grant.Case) { c.Grant.ID = "" },
		func(c *grant.Case) { c.Jobs[0].ID = "../x" },
		func(c *grant.Case) { c.Jobs[0].ID = c.Jobs[1].ID },
		func(c *grant.Case) { c.Jobs[0].GrantID = "g-0001" },
		func(c *grant.Case) { c.Jobs[0].State = grant.Running },
		func(c *grant.Case) { c.Grant.ID = "g-0001"; c.Jobs = nil },
	} {
		c := newCase(2, "db2")
		spoil(&c)
		if s.Create(t.Context(), c, []grant.Snapshot{body}) == nil {
			t.Errorf("%+v was stored", c)
		}
	}
	_, err := s.Case(t.Context(), "g-0002")
	want(t, err, grant.ErrNotFound)
	_, err = s.Snapshot(t.Context(), body.Hash)
	want(t, err, grant.ErrNotFound)
	same(t, len(must[[]grant.Event](t)(s.Audit(t.Context(), ""))), 1)
	same(t, len(must[[]grant.Job](t)(s.Jobs(t.Context(), grant.Filter{}))), 2)
}

func prefixes(t *testing.T, s ledger) {
	for _, n := range []int{1, 2, 12} {
		ok(t, s.Create(t.Context(), newCase(n, fmt.Sprint("db", n)), nil))
	}
	c := newCase(3, "db3")
	c.Grant.ID, c.Jobs = "g-00", nil
	ok(t, s.Create(t.Context(), c, nil))

	same(t, must[grant.Case](t)(s.Case(t.Context(), "g-001")).Grant.ID, "g-0012")
	same(t, must[grant.Case](t)(s.Case(t.Context(), "g-00")).Grant.ID, "g-00") // a whole id beats a prefix
	same(t, must[grant.Job](t)(s.Job(t.Context(), "j-0002-d")).ID, "j-0002-d")
	_, err := s.Case(t.Context(), "g-000")
	e, is := errors.AsType[*grant.AmbiguousError](err)
	if !is {
		t.Fatalf("got %v", err)
	}
	same(t, *e, grant.AmbiguousError{Prefix: "g-000", Candidates: []string{"g-0001", "g-0002"}})
	_, err = s.Job(t.Context(), "j-0002")
	if _, is := errors.AsType[*grant.AmbiguousError](err); !is {
		t.Fatalf("got %v", err)
	}
	for _, none := range []string{"", "g-1", "g-%", "g-0001x", "j-0001-c", "G-0001", "g_0001"} {
		_, err := s.Case(t.Context(), none)
		want(t, err, grant.ErrNotFound)
	}
	want(t, s.Change(t.Context(), "g-001", func(*grant.Case) error { return nil }), grant.ErrNotFound) // whole ids only
	for i := range 12 {
		c := newCase(100+i, "db9")
		ok(t, s.Create(t.Context(), c, nil))
	}
	_, err = s.Case(t.Context(), "g-01")
	if e, is := errors.AsType[*grant.AmbiguousError](err); !is || len(e.Candidates) != 10 {
		t.Fatalf("got %v", err)
	}
}

func lists(t *testing.T, s ledger) {
	ctx := t.Context()
	for n := range 6 {
		c := newCase(n, fmt.Sprint("db", n%2))
		c.Grant.Requested = at(n / 2) // two of each time: the id decides
		c.Jobs[0].Due = at(-n)
		if n == 5 {
			c.Grant.Credential = "reader"
		}
		ok(t, s.Create(ctx, c, nil))
	}
	ok(t, s.Change(ctx, "g-0003", func(c *grant.Case) error {
		c.Grant.State, c.Jobs[0].State = grant.Active, grant.Done
		return nil
	}))
	ok(t, s.Change(ctx, "g-0002", run(0, "n-1")))
	f := grant.Fence{Job: "j-0002-c", Attempt: 1, Node: "n-1"}
	ok(t, s.PutExecution(ctx, f, grant.Execution{ID: "x-1", JobID: "j-0002-c", GrantID: "g-0002", Device: "db0", Started: at(1)}))
	ok(t, s.PutExecution(ctx, grant.Fence{}, grant.Execution{ID: "x-2", JobID: "j-0003-c", GrantID: "g-0003", Device: "db1", Started: at(2), Outcome: "ok"}))
	ok(t, s.PutExecution(ctx, grant.Fence{}, grant.Execution{ID: "x-3", Device: "db1", Started: at(0), Outcome: "failed"}))

	for _, c := range []struct {
		f                grant.Filter
		cases, jobs, exs string
	}{
		{grant.Filter{}, "5 4 3 2 1 0", "5c 4c 2c 1c 0c 0d 1d 2d 3d 4d 5d 3c", "x-2 x-1 x-3"},
		{grant.Filter{Limit: 2}, "5 4", "5c 4c", "x-2 x-1"},
		{grant.Filter{Limit: 12}, "5 4 3 2 1 0", "5c 4c 2c 1c 0c 0d 1d 2d 3d 4d 5d 3c", "x-2 x-1 x-3"},
		{grant.Filter{States: []string{"requested"}}, "5 4 2 1 0", "", ""},
		{grant.Filter{States: []string{"active", "removed"}}, "3", "", ""},
		{grant.Filter{States: []string{"done", "running"}}, "", "2c 3c", "x-2 x-1"},
		{grant.Filter{Requester: "user3"}, "3", "3d 3c", "x-2"},
		{grant.Filter{Device: "db1"}, "5 3 1", "5c 1c 1d 3d 5d 3c", "x-2 x-3"},
		{grant.Filter{Credential: "reader"}, "5", "5c 5d", ""},
		{grant.Filter{Grant: "g-0002"}, "2", "2c 2d", "x-1"},
		{grant.Filter{Job: "j-0002-c"}, "2", "2c", "x-1"},
		{grant.Filter{Outcome: "ok"}, "3", "3c", "x-2"},
		{grant.Filter{Outcome: "running"}, "2", "2c", "x-1"},
		{grant.Filter{Outcome: "failed"}, "", "", "x-3"},
		{grant.Filter{Device: "db1", Requester: "user2"}, "", "", ""},
	} {
		var cases, jobs, exs []string
		for _, c := range must[[]grant.Case](t)(s.Cases(ctx, c.f)) {
			cases = append(cases, strings.TrimPrefix(c.Grant.ID, "g-000"))
		}
		for _, j := range must[[]grant.Job](t)(s.Jobs(ctx, c.f)) {
			jobs = append(jobs, strings.ReplaceAll(strings.TrimPrefix(j.ID, "j-000"), "-", ""))
		}
		for _, e := range must[[]grant.Execution](t)(s.Executions(ctx, c.f)) {
			exs = append(exs, e.ID)
		}
		if g, j, x := strings.Join(cases, " "), strings.Join(jobs, " "), strings.Join(exs, " "); g != c.cases || j != c.jobs || x != c.exs {
			t.Errorf("%+v: grants %q, jobs %q, executions %q", c.f, g, j, x)
		}
	}
}

func changeAtomic(t *testing.T, s ledger) {
	ctx := t.Context()
	ok(t, s.Create(ctx, newCase(1, "db1"), nil))
	before := must[grant.Case](t)(s.Case(ctx, "g-0001"))
	mine := errors.New("mine")
	err := s.Change(ctx, "g-0001", func(c *grant.Case) error {
		c.Grant.State = grant.Active
		c.Jobs[0].State = grant.Done
		c.Jobs = append(c.Jobs, grant.Job{ID: "j-new", GrantID: "g-0001", Kind: grant.Renew, State: grant.Waiting, Device: "db1"})
		c.Events = append(c.Events, grant.Event{Action: "x"})
		return mine
	})
	if err != mine { //nolint:errorlint // as it is: not wrapped
		t.Fatalf("got %v", err)
	}
	same(t, must[grant.Case](t)(s.Case(ctx, "g-0001")), before)
	same(t, len(must[[]grant.Event](t)(s.Audit(ctx, ""))), 1)

	ok(t, s.Change(ctx, "g-0001", func(c *grant.Case) error {
		if len(c.Events) != 0 {
			t.Error("old events came along")
		}
		c.Grant.State, c.Grant.Sealed = grant.Active, []byte("sealed")
		c.Jobs[0].State, c.Jobs[0].Finished = grant.Done, at(5)
		c.Jobs = append(c.Jobs, grant.Job{ID: "j-new", GrantID: "g-0001", Kind: grant.Renew, State: grant.Waiting, Device: "db1"})
		c.Events = append(c.Events, grant.Event{At: at(5), Action: "grant.active"})
		return nil
	}))
	before.Grant.State, before.Grant.Sealed = grant.Active, []byte("sealed")
	before.Jobs[0].State, before.Jobs[0].Finished = grant.Done, kept(at(5))
	before.Jobs = append(before.Jobs, grant.Job{ID: "j-new", GrantID: "g-0001", Kind: grant.Renew, State: grant.Waiting, Device: "db1"})
	same(t, must[grant.Case](t)(s.Case(ctx, "g-0001")), before)
	same(t, must[[]grant.Event](t)(s.Audit(ctx, "g-0001"))[1], grant.Event{At: kept(at(5)), Action: "grant.active", Grant: "g-0001"})

	ok(t, s.Change(ctx, "g-0001", func(c *grant.Case) error { c.Grant.Sealed = nil; return nil }))
	before.Grant.Sealed = nil
	same(t, must[grant.Case](t)(s.Case(ctx, "g-0001")), before)
	want(t, s.Change(ctx, "g-0009", func(*grant.Case) error { t.Error("called for nothing"); return nil }), grant.ErrNotFound)
}

func changeKeeps(t *testing.T, s ledger) {
	ctx := t.Context()
	ok(t, s.Create(ctx, newCase(1, "db1"), nil))
	ok(t, s.Create(ctx, newCase(2, "db1"), nil))
	before := must[grant.Case](t)(s.Case(ctx, "g-0001"))
	for i, spoil := range []func(*grant.Case){
		func(c *grant.Case) { c.Jobs = c.Jobs[:1] },
		func(c *grant.Case) { c.Jobs = nil },
		func(c *grant.Case) { c.Grant.ID = "g-0007" },
		func(c *grant.Case) { c.Jobs[1].ID = "j-other" },
		func(c *grant.Case) { c.Jobs[1].GrantID = "g-0002" },
		func(c *grant.Case) { c.Jobs[0].State = grant.Running },
		func(c *grant.Case) { c.Jobs = append(c.Jobs, grant.Job{ID: "j-0002-c", GrantID: "g-0001"}) },
	} {
		err := s.Change(ctx, "g-0001", func(c *grant.Case) error {
			c.Grant.Reason = "spoilt"
			spoil(c)
			return nil
		})
		if err == nil {
			t.Errorf("spoilt change %d was stored", i)
		}
		same(t, must[grant.Case](t)(s.Case(ctx, "g-0001")), before)
	}
	ok(t, s.Change(ctx, "g-0001", func(c *grant.Case) error { // another order is no change
		c.Jobs[0], c.Jobs[1] = c.Jobs[1], c.Jobs[0]
		return nil
	}))
	same(t, must[grant.Case](t)(s.Case(ctx, "g-0001")), before)
}

func oneRunning(t *testing.T, s ledger) {
	ctx := t.Context()
	ok(t, s.Create(ctx, newCase(1, "db1"), nil))
	ok(t, s.Create(ctx, newCase(2, "db1"), nil))
	ok(t, s.Create(ctx, newCase(3, "db2"), nil))
	ok(t, s.Change(ctx, "g-0001", run(0, "n-1")))
	want(t, s.Change(ctx, "g-0002", run(1, "n-2")), grant.ErrBusy)
	want(t, s.Change(ctx, "g-0001", run(1, "n-1")), grant.ErrBusy)
	ok(t, s.Change(ctx, "g-0003", run(0, "n-2")))
	same(t, len(must[[]grant.Job](t)(s.Running(ctx))), 2)
	same(t, must[grant.Job](t)(s.Job(ctx, "j-0002-d")).Attempt, 0)

	c := newCase(4, "db4") // two devices in one grant still run one job
	c.Jobs[1].Device = "db5"
	ok(t, s.Create(ctx, c, nil))
	ok(t, s.Change(ctx, "g-0004", run(0, "n-1")))
	want(t, s.Change(ctx, "g-0004", run(1, "n-1")), grant.ErrBusy)

	ok(t, s.Change(ctx, "g-0001", func(c *grant.Case) error { c.Jobs[0].State = grant.Done; return nil }))
	ok(t, s.Change(ctx, "g-0002", run(1, "n-2")))
}

func handOver(t *testing.T, s ledger) {
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	ok(t, s.Change(t.Context(), "g-0001", run(1, "n-1")))
	ok(t, s.Change(t.Context(), "g-0001", func(c *grant.Case) error {
		c.Jobs[1].State, c.Jobs[1].Node = grant.Waiting, ""
		return run(0, "n-1")(c)
	}))
	got := must[[]grant.Job](t)(s.Running(t.Context()))
	same(t, len(got), 1)
	same(t, got[0].ID, "j-0001-c")
}
