package store

import (
	"cmp"
	"context"
	"fmt"
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

// Jobs does what [Store.Jobs] does.
func (m *Memory) Jobs(ctx context.Context, f grant.Filter) ([]grant.Job, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var open, finished []grant.Job
	for _, j := range m.allJobs() {
		if len(f.States) > 0 && !slices.Contains(f.States, string(j.State)) || !m.of(f, j.GrantID) ||
			!selects(f.Device, j.Device) || !selects(f.Grant, j.GrantID) || !selects(f.Job, j.ID) ||
			!m.had(f, func(e grant.Execution) bool { return e.JobID == j.ID }) {
			continue
		}
		if j.State == grant.Done || j.State == grant.JobCancelled {
			finished = append(finished, j)
		} else {
			open = append(open, j)
		}
	}
	slices.SortFunc(open, byDue)
	slices.SortFunc(finished, func(a, b grant.Job) int { return byDue(b, a) })
	return first(append(open, finished...), limited(f.Limit)), nil
}

func byDue(a, b grant.Job) int { return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.ID, b.ID)) }

// Due does what [Store.Due] does.
func (m *Memory) Due(ctx context.Context, now time.Time, limit int) ([]grant.Job, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	type ready struct {
		at  time.Time
		job grant.Job
	}
	var busy []grant.Job
	var list []ready
	for _, j := range m.allJobs() {
		if j.State == grant.Running {
			busy = append(busy, j)
		}
		if at, ok := readyAt(&j); ok && !at.After(now) {
			list = append(list, ready{at, j})
		}
	}
	slices.SortFunc(list, func(a, b ready) int {
		return cmp.Or(cmp.Compare(flag(b.job.Kind.Removal()), flag(a.job.Kind.Removal())), a.at.Compare(b.at), cmp.Compare(a.job.ID, b.job.ID))
	})
	p := newPicker(busy, limited(limit))
	for _, r := range list {
		p.take(r.job)
	}
	return p.picked, nil
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
	for _, j := range m.allJobs() {
		if at, ok := readyAt(&j); ok && at.After(after) && (next.IsZero() || at.Before(next)) {
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
	list := slices.DeleteFunc(m.allJobs(), func(j grant.Job) bool { return j.State != grant.Running })
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
