package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"runner/engine/grant"
)

// selects reports whether a filter's field is empty or the value.
func selects(field, value string) bool { return field == "" || field == value }

// had reports whether one of the executions that of picks has the outcome that
// f asks for.
func (m *Memory) had(f grant.Filter, of func(grant.Execution) bool) bool {
	if f.Outcome == "" {
		return true
	}
	for _, e := range m.executions {
		if of(e) && hasOutcome(f, e) {
			return true
		}
	}
	return false
}

func hasOutcome(f grant.Filter, e grant.Execution) bool {
	return f.Outcome == "" || e.Outcome == outcome(f)
}

// of reports whether the grant with this id has the requester and credential
// that f asks for.
func (m *Memory) of(f grant.Filter, id string) bool {
	if f.Requester == "" && f.Credential == "" {
		return true
	}
	c, ok := m.cases[id]
	return ok && selects(f.Requester, c.Grant.Requester) && selects(f.Credential, c.Grant.Credential)
}

func first[T any](list []T, n int) []T { return list[:min(len(list), n)] }

// Cases does what [Store.Cases] does.
func (m *Memory) Cases(ctx context.Context, f grant.Filter) ([]grant.Case, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var list []grant.Case
	for id := range m.cases {
		c := m.cases[id]
		g := &c.Grant
		if (len(f.States) == 0 || slices.Contains(f.States, string(g.State))) && m.of(f, g.ID) &&
			selects(f.Device, g.Device) && selects(f.Grant, g.ID) && (f.Job == "" || c.Job(f.Job) != nil) &&
			m.had(f, func(e grant.Execution) bool { return e.GrantID == g.ID }) {
			list = append(list, normalCase(c))
		}
	}
	slices.SortFunc(list, func(a, b grant.Case) int {
		return cmp.Or(b.Grant.Requested.Compare(a.Grant.Requested), cmp.Compare(b.Grant.ID, a.Grant.ID))
	})
	return first(list, limited(f.Limit)), nil
}

// Holding does what [Store.Holding] does.
func (m *Memory) Holding(ctx context.Context, requester, credential string) (*grant.Grant, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	for id := range m.cases {
		g := m.cases[id].Grant
		if g.Requester == requester && g.Credential == credential && g.Origin == "" && !g.State.Final() {
			g = normalGrant(g)
			return &g, nil
		}
	}
	return nil, nil //nolint:nilnil // documented
}

// GoneOn does what [Store.GoneOn] does.
func (m *Memory) GoneOn(ctx context.Context, device string) (list []grant.Grant, err error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	for _, id := range slices.Sorted(maps.Keys(m.cases)) {
		if g := m.cases[id].Grant; g.Device == device && g.State == grant.Gone {
			list = append(list, normalGrant(g))
		}
	}
	return list, nil
}

// Jobs does what [Store.Jobs] does.
func (m *Memory) Jobs(ctx context.Context, f grant.Filter) ([]grant.Job, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var open, finished []grant.Job
	for j := range m.allJobs() {
		if len(f.States) > 0 && !slices.Contains(f.States, string(j.State)) || !m.of(f, j.GrantID) ||
			!selects(f.Device, j.Device) || !selects(f.Grant, j.GrantID) || !selects(f.Job, j.ID) ||
			!m.had(f, func(e grant.Execution) bool { return e.JobID == j.ID }) {
			continue
		}
		if j.State == grant.Done || j.State == grant.JobCancelled {
			finished = append(finished, *j)
		} else {
			open = append(open, *j)
		}
	}
	slices.SortFunc(open, byDue)
	slices.SortFunc(finished, func(a, b grant.Job) int { return byDue(b, a) })
	return first(append(open, finished...), limited(f.Limit)), nil
}

func byDue(a, b grant.Job) int { return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.ID, b.ID)) }

// Ready does what [Store.Ready] does.
func (m *Memory) Ready(ctx context.Context, w grant.Want) ([]grant.Ready, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var list []grant.Ready
	for j := range m.allJobs() {
		at, ok := readyAt(j)
		if !ok || at.After(w.Now) || j.Kind.TakesAway() != w.Removal || !selects(w.Device, j.Device) {
			continue
		}
		r := grant.Ready{Job: j.ID, Grant: j.GrantID, Device: j.Device, Login: j.Login, Limit: j.LoginLimit, Removal: w.Removal, Attempt: j.Attempt, At: at}
		if after := w.After; after.At.IsZero() || byReady(r, grant.Ready{At: stamp(after.At), Job: after.Job}) > 0 {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, byReady)
	return first(full(list), limited(w.Limit)), nil
}

func byReady(a, b grant.Ready) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Job, b.Job)) }

// Overdue does what [Store.Overdue] does.
func (m *Memory) Overdue(ctx context.Context, before time.Time, limit int) ([]grant.Case, int, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer leave()
	before = stamp(before)
	var list []grant.Case
	for id := range m.cases {
		c := m.cases[id]
		over := c.Grant.State == grant.Ending && !c.Grant.Ended.IsZero() || c.Grant.State == grant.Active
		if over && endOf(&c.Grant).Before(before) {
			list = append(list, normalCase(c))
		}
	}
	slices.SortFunc(list, func(a, b grant.Case) int {
		return cmp.Or(byEnd(a.Grant, b.Grant), -cmp.Compare(a.Grant.State, b.Grant.State), cmp.Compare(a.Grant.ID, b.Grant.ID))
	})
	return first(full(list), limited(limit)), len(list), nil
}

// Tally does what [Store.Tally] does.
func (m *Memory) Tally(ctx context.Context) (grant.Tally, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return grant.Tally{}, err
	}
	defer leave()
	t := grant.Tally{Jobs: map[grant.Kind]map[grant.JobState]int{}}
	for j := range m.allJobs() {
		if j.State == grant.Done || j.State == grant.JobCancelled {
			continue
		}
		t.Add(j.Kind, j.State, 1)
		if j.Kind.TakesAway() && j.State != grant.Running && j.BlockedBy != "" {
			t.Blocked++
		}
	}
	return t, nil
}

// Missed does what [Store.Missed] does.
func (m *Memory) Missed(ctx context.Context, device, why string, now time.Time, jitter float64) (grant.Silence, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return grant.Silence{}, err
	}
	defer leave()
	s := normalSilence(m.silences[device].Miss(device, why, now, jitter))
	m.silences[device] = s
	return s, nil
}

// Answered does what [Store.Answered] does.
func (m *Memory) Answered(ctx context.Context, device string, now time.Time) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if _, silent := m.silences[device]; !silent {
		return nil
	}
	delete(m.silences, device)
	for _, c := range m.cases {
		for i := range c.Jobs {
			if j := &c.Jobs[i]; j.Device == device {
				j.Heard(stamp(now))
			}
		}
	}
	return nil
}

// Silences does what [Store.Silences] does.
func (m *Memory) Silences(ctx context.Context) ([]grant.Silence, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var list []grant.Silence
	for _, device := range slices.Sorted(maps.Keys(m.silences)) {
		list = append(list, m.silences[device])
	}
	return list, nil
}

// NextDue does what [Store.NextDue] does.
func (m *Memory) NextDue(ctx context.Context, after time.Time) (time.Time, bool, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return time.Time{}, false, err
	}
	defer leave()
	after = time.UnixMilli(after.UnixMilli())
	var next time.Time
	for j := range m.allJobs() {
		if at, ok := readyAt(j); ok && at.After(after) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next, !next.IsZero(), nil
}

// Running does what [Store.Running] does.
func (m *Memory) Running(ctx context.Context) ([]grant.Job, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var list []grant.Job
	for j := range m.allJobs() {
		if j.State == grant.Running {
			list = append(list, *j)
		}
	}
	slices.SortFunc(list, byDue)
	return full(list), nil
}

// Execution does what [Store.Execution] does.
func (m *Memory) Execution(ctx context.Context, idOrPrefix string) (grant.Execution, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return grant.Execution{}, err
	}
	defer leave()
	id, err := resolveKey(m.executions, idOrPrefix)
	if err != nil {
		return grant.Execution{}, fmt.Errorf("store: execution %s: %w", idOrPrefix, err)
	}
	return m.executions[id], nil
}

// Executions does what [Store.Executions] does.
func (m *Memory) Executions(ctx context.Context, f grant.Filter) ([]grant.Execution, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var list []grant.Execution
	for _, e := range m.executions {
		j, _ := m.job(e.JobID)
		if hasOutcome(f, e) && selects(f.Device, e.Device) && selects(f.Grant, e.GrantID) && selects(f.Job, e.JobID) &&
			m.of(f, e.GrantID) && (len(f.States) == 0 || slices.Contains(f.States, string(j.State))) {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b grant.Execution) int {
		return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(b.ID, a.ID))
	})
	return first(list, limited(f.Limit)), nil
}

// Steps does what [Store.Steps] does.
func (m *Memory) Steps(ctx context.Context, execution string) ([]grant.StepResult, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return inOrder(m.steps[execution]), nil
}

// Changes does what [Store.Changes] does.
func (m *Memory) Changes(ctx context.Context, grantID string) ([]grant.Change, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	list := inOrder(m.changes[grantID])
	for i := range list {
		list[i] = normalChange(list[i])
	}
	return list, nil
}
