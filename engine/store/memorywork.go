package store

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"runner/engine/grant"
)

// inOrder returns the values by ascending key.
func inOrder[V any](in map[int]V) (list []V) {
	for _, k := range slices.Sorted(maps.Keys(in)) {
		list = append(list, in[k])
	}
	return list
}

// held returns the grant of the fence's job, or grant.ErrLeaseLost.
func (m *Memory) held(f grant.Fence) (grantID string, err error) {
	if f == (grant.Fence{}) {
		return "", nil
	}
	j, ok := m.job(f.Job)
	if !ok || j.State != grant.Running || j.Attempt != f.Attempt || j.Node != f.Node {
		return "", grant.ErrLeaseLost
	}
	return j.GrantID, nil
}

// Held does what [Store.Held] does.
func (m *Memory) Held(ctx context.Context, f grant.Fence) (ended bool, err error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	of, err := m.held(f)
	if err == nil && of == "" {
		err = grant.ErrLeaseLost
	}
	if err != nil {
		return false, fmt.Errorf("store: job %s: %w", f.Job, err)
	}
	return !m.cases[of].Grant.Ended.IsZero(), nil
}

// PutExecution does what [Store.PutExecution] does.
func (m *Memory) PutExecution(ctx context.Context, f grant.Fence, e grant.Execution, steps ...grant.StepResult) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	of, err := m.held(f)
	if err == nil {
		err = checkExecution(f, of, &e)
	}
	if err == nil {
		err = m.refers(&e)
	}
	if err != nil {
		return fmt.Errorf("store: put execution %s: %w", e.ID, err)
	}
	m.saveExecution(&e, steps)
	return nil
}

func (m *Memory) saveExecution(e *grant.Execution, steps []grant.StepResult) {
	n := normalExecution(*e)
	if was, ok := m.executions[e.ID]; ok {
		n.Kind, n.Device, n.Attempt, n.Node, n.Started = was.Kind, was.Device, was.Attempt, was.Node, was.Started
	}
	m.executions[e.ID] = n
	if m.steps[e.ID] == nil {
		m.steps[e.ID] = map[int]grant.StepResult{}
	}
	for _, s := range steps {
		m.steps[e.ID][s.N] = normalStep(s)
	}
}

// saveRan does what saveRan of a [Store] does.
func (m *Memory) saveRan(c *grant.Case) error {
	if was, ok := m.executions[c.Ran.Execution.ID]; ok && (was.JobID != c.Ran.Execution.JobID || was.GrantID != c.Grant.ID) {
		return errOthers
	}
	m.saveExecution(&c.Ran.Execution, c.Ran.Steps)
	m.saveChanges(c.Grant.ID, c.Ran.Changes, true)
	return nil
}

// refers refuses an execution of a job or grant that does not exist or is not
// the one it was of before.
func (m *Memory) refers(e *grant.Execution) error {
	if was, ok := m.executions[e.ID]; ok && (was.JobID != e.JobID || was.GrantID != e.GrantID) {
		return errOthers
	}
	_, hasJob := m.job(e.JobID)
	_, hasGrant := m.cases[e.GrantID]
	if e.JobID != "" && !hasJob || e.GrantID != "" && !hasGrant {
		return fmt.Errorf("its job or grant: %w", grant.ErrNotFound)
	}
	return nil
}

// PutChanges does what [Store.PutChanges] does.
func (m *Memory) PutChanges(ctx context.Context, f grant.Fence, grantID string, cs []grant.Change) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	of, err := m.held(f)
	if err == nil {
		err = checkChanges(f, of, grantID)
	}
	if err != nil {
		return fmt.Errorf("store: put changes of %s: %w", grantID, err)
	}
	m.saveChanges(grantID, cs, of != "")
	return nil
}

func (m *Memory) saveChanges(grantID string, cs []grant.Change, holds bool) {
	if m.changes[grantID] == nil {
		m.changes[grantID] = map[int]grant.Change{}
	}
	for i := range cs {
		m.changes[grantID][cs[i].Seq] = normalChange(cs[i])
		if cs[i].Hold && holds {
			m.hold(grantID, &cs[i])
		}
	}
}

// uidPool is what became of the uids of a device.
type uidPool struct {
	first, last, latest int64
	at                  time.Time // of the latest reservation
	reserved            map[int64]time.Time
	burned              map[int64]bool
}

func (m *Memory) pool(device string) *uidPool {
	p := m.uids[device]
	if p == nil {
		p = &uidPool{reserved: map[int64]time.Time{}, burned: map[int64]bool{}}
		m.uids[device] = p
	}
	return p
}

// ReserveUID does what [Store.ReserveUID] does.
func (m *Memory) ReserveUID(ctx context.Context, device string, first, last int64, now time.Time) (int64, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	p := m.pool(device)
	uid, err := m.pickUID(p, device, first, last, now)
	if err != nil {
		return 0, fmt.Errorf("store: reserve a uid on %s: %w", device, err)
	}
	p.first, p.last, p.latest, p.at = first, last, uid, stamp(now)
	p.reserved[uid] = stamp(now)
	return uid, nil
}

// NextUID does what [Store.NextUID] does.
func (m *Memory) NextUID(ctx context.Context, device string, first, last int64, now time.Time) (int64, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	uid, err := m.pickUID(m.pool(device), device, first, last, now)
	if err != nil {
		return 0, fmt.Errorf("store: look for a uid on %s: %w", device, err)
	}
	return uid, nil
}

// pickUID returns the uid that comes next.
func (m *Memory) pickUID(p *uidPool, device string, first, last int64, now time.Time) (int64, error) {
	if err := checkRange(first, last); err != nil {
		return 0, err
	}
	if uid, ok := p.unused(first, last); ok {
		return uid, nil
	}
	if uid, ok := m.rested(device, p, first, last, now); ok {
		return uid, nil
	}
	return 0, &grant.ExhaustedError{Device: device, First: first, Last: last}
}

// unused goes round the range once, starting after the latest.
func (p *uidPool) unused(first, last int64) (int64, bool) {
	uid := p.latest
	for range last - first + 1 {
		if uid++; uid <= first || uid > last {
			uid = first
		}
		if _, given := p.reserved[uid]; !given && !p.burned[uid] {
			return uid, true
		}
	}
	return 0, false
}

func (m *Memory) rested(device string, p *uidPool, first, last int64, now time.Time) (best int64, ok bool) {
	held := map[int64]bool{}
	for id := range m.cases {
		if g := m.cases[id].Grant; g.Device == device && g.Creates && !g.State.Final() {
			held[g.UID] = true
		}
	}
	for uid, at := range p.reserved {
		if uid < first || uid > last || p.burned[uid] || held[uid] || at.Add(UIDRest).After(now) {
			continue
		}
		if was := p.reserved[best]; !ok || at.Before(was) || at.Equal(was) && uid < best {
			best, ok = uid, true
		}
	}
	return best, ok
}

// BurnUID does what [Store.BurnUID] does.
func (m *Memory) BurnUID(ctx context.Context, device string, uid int64, _ time.Time) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	m.pool(device).burned[uid] = true
	return nil
}

// UIDUse does what [Store.UIDUse] does.
func (m *Memory) UIDUse(ctx context.Context, device string) (used, size int64, err error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer leave()
	p := m.uids[device]
	if p == nil || p.at.IsZero() {
		return 0, 0, nil
	}
	for uid := p.first; uid <= p.last; uid++ {
		if at, given := p.reserved[uid]; p.burned[uid] || given && at.Add(UIDRest).After(p.at) {
			used++
		}
	}
	return used, p.last - p.first + 1, nil
}

// AppendLog does what [Store.AppendLog] does.
func (m *Memory) AppendLog(ctx context.Context, chunks []grant.Chunk) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	next := map[string][]grant.Chunk{}
	for _, c := range chunks {
		if err := checkChunk(&c); err != nil {
			return fmt.Errorf("store: append to the log: %w", err)
		}
		if len(c.Data) == 0 {
			continue
		}
		log, ok := next[c.Execution]
		if !ok {
			log = slices.Clone(m.logs[c.Execution])
		}
		if log, err = appended(log, c); err != nil {
			return fmt.Errorf("store: append to the log: %w", err)
		}
		next[c.Execution] = log
	}
	maps.Copy(m.logs, next)
	return nil
}

func appended(log []grant.Chunk, c grant.Chunk) ([]grant.Chunk, error) {
	for _, old := range log {
		if old.Offset == c.Offset && old.Step == c.Step && old.Stream == c.Stream && bytes.Equal(old.Data, c.Data) {
			return log, nil
		}
	}
	if len(log) > 0 && c.Offset < log[len(log)-1].End() {
		return nil, overlap(&c, log[len(log)-1].End())
	}
	c.At, c.Data = time.UnixMilli(c.At.UnixMilli()).UTC(), bytes.Clone(c.Data)
	return append(log, c), nil
}

// ReadLog does what [Store.ReadLog] does.
func (m *Memory) ReadLog(ctx context.Context, execution string, from int64, limit int) ([]grant.Chunk, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var list []grant.Chunk
	for _, c := range m.logs[execution] {
		if c.End() > from && len(list) < limited(limit) {
			c.Data = bytes.Clone(c.Data)
			list = append(list, c)
		}
	}
	return cutFront(list, from), nil
}

// DropLog does what [Store.DropLog] does.
func (m *Memory) DropLog(ctx context.Context, execution string, from, to int64) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	m.logs[execution] = slices.DeleteFunc(slices.Clone(m.logs[execution]), func(c grant.Chunk) bool { return c.Offset >= from && c.End() <= to })
	return nil
}

// LogSize does what [Store.LogSize] does.
func (m *Memory) LogSize(ctx context.Context, execution string) (stored, end int64, err error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer leave()
	for _, c := range m.logs[execution] {
		stored += int64(len(c.Data))
		end = c.End()
	}
	return stored, end, nil
}
