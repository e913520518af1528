package store

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"runner/engine/grant"
)

// Memory is a store without a file or other processes: what [Store] does,
// written as plainly as possible. It keeps nothing beyond its own life. The
// zero value is not usable; see [NewMemory]. It is safe for concurrent use.
type Memory struct {
	mu         sync.Mutex
	cases      map[string]grant.Case
	snapshots  map[string]grant.Snapshot
	executions map[string]grant.Execution
	steps      map[string]map[int]grant.StepResult
	changes    map[string]map[int]grant.Change
	holds      map[heldObject]map[string]grant.Hold // by grant
	sessions   map[string]grant.Session
	uids       map[string]*uidPool
	marks      map[string]time.Time
	logs       map[string][]grant.Chunk
	events     []grant.Event
	dead       map[string]bool
	silences   map[string]grant.Silence
	scans      map[string]grant.Scanned

	verifications []Verification // by template and system
	ignored       []grant.Ignored
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		cases: map[string]grant.Case{}, snapshots: map[string]grant.Snapshot{}, executions: map[string]grant.Execution{},
		steps: map[string]map[int]grant.StepResult{}, changes: map[string]map[int]grant.Change{},
		holds: map[heldObject]map[string]grant.Hold{}, uids: map[string]*uidPool{}, marks: map[string]time.Time{}, logs: map[string][]grant.Chunk{},
		dead: map[string]bool{}, silences: map[string]grant.Silence{}, scans: map[string]grant.Scanned{}, sessions: map[string]grant.Session{},
	}
}

// enter starts a method: nothing works on a context that has ended.
func (m *Memory) enter(ctx context.Context) (leave func(), err error) {
	m.mu.Lock()
	if err := ctx.Err(); err != nil {
		m.mu.Unlock()
		return nil, fmt.Errorf("store: %w", err)
	}
	return m.mu.Unlock, nil
}

// Create does what [Store.Create] does.
func (m *Memory) Create(ctx context.Context, c grant.Case, snaps []grant.Snapshot) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := checkCase(&c); err != nil {
		return fmt.Errorf("store: create grant: %w", err)
	}
	if err := checkSnapshots(snaps); err != nil {
		return fmt.Errorf("store: create grant: %w", err)
	}
	n := normalCase(c)
	if err := m.noConflict(&n.Grant); err != nil {
		return fmt.Errorf("store: create grant %s: %w", c.Grant.ID, err)
	}
	if err := m.pinned(&n.Grant.Plan, snaps); err != nil {
		return fmt.Errorf("store: create grant %s: %w", c.Grant.ID, err)
	}
	if _, ok := m.cases[n.Grant.ID]; ok {
		return fmt.Errorf("store: create grant %s: the id is taken", c.Grant.ID)
	}
	if err := m.canSave(n.Jobs, nil); err != nil {
		return fmt.Errorf("store: create grant %s: %w", c.Grant.ID, err)
	}
	for _, p := range snaps {
		if _, ok := m.snapshots[p.Hash]; !ok {
			p.Body = slices.Clone(notNil(p.Body))
			m.snapshots[p.Hash] = p
		}
	}
	m.cases[n.Grant.ID] = n
	if c.Opens != nil {
		m.sessions[c.Opens.ID] = normalSession(*c.Opens)
	}
	m.events = append(m.events, normalEvents(&c)...)
	return nil
}

func (m *Memory) pinned(p *grant.Plan, snaps []grant.Snapshot) error {
	for _, hash := range []string{p.Forward, p.Removal} {
		_, ok := m.snapshots[hash]
		if hash != "" && !ok && !slices.ContainsFunc(snaps, func(s grant.Snapshot) bool { return s.Hash == hash }) {
			return fmt.Errorf("the plan pins template %s, which is not stored: %w", hash, grant.ErrNotFound)
		}
	}
	return nil
}

func (m *Memory) noConflict(g *grant.Grant) error {
	for _, what := range []string{"requester", "account", "uid"} {
		for id := range m.cases {
			other := m.cases[id].Grant
			if slices.Contains(conflicts(g, &other), what) {
				return &grant.ConflictError{What: what, Existing: normalGrant(other)}
			}
		}
	}
	return nil
}

// canSave refuses job ids of other grants, a second running job of a device or
// grant, and more of a login than its limit. was are the jobs that jobs replace.
func (m *Memory) canSave(jobs, was []grant.Job) error {
	var busy bool
	devices := map[string]bool{}
	for i := range jobs {
		isNew := !slices.ContainsFunc(was, func(j grant.Job) bool { return j.ID == jobs[i].ID })
		if _, taken := m.job(jobs[i].ID); taken && isNew {
			return fmt.Errorf("job id %s is taken", jobs[i].ID)
		}
		if jobs[i].State == grant.Running {
			busy = busy || len(devices) > 0
			devices[jobs[i].Device] = true
		}
	}
	logins := map[string]int{}
	for id := range m.cases {
		for _, j := range m.cases[id].Jobs {
			if j.State == grant.Running && !slices.ContainsFunc(jobs, func(k grant.Job) bool { return k.ID == j.ID }) {
				busy = busy || devices[j.Device]
				logins[j.Login]++
			}
		}
	}
	for i := range jobs {
		j := &jobs[i]
		if j.State == grant.Running && j.LoginLimit > 0 && logins[j.Login] >= j.LoginLimit && !slices.Contains(was, *j) {
			busy = true
		}
	}
	if busy {
		return grant.ErrBusy
	}
	return nil
}

func (m *Memory) job(id string) (grant.Job, bool) {
	for _, c := range m.cases {
		if j := c.Job(id); j != nil {
			return *j, true
		}
	}
	return grant.Job{}, false
}

// Change does what [Store.Change] does. fn must not use the store.
func (m *Memory) Change(ctx context.Context, grantID string, fn func(*grant.Case) error) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	was, ok := m.cases[grantID]
	if !ok {
		return fmt.Errorf("store: change grant %s: %w", grantID, grant.ErrNotFound)
	}
	is := normalCase(was)
	if err := fn(&is); err != nil {
		return err
	}
	if err := m.save(&was, &is); err != nil {
		return fmt.Errorf("store: change grant %s: %w", grantID, err)
	}
	return nil
}

func (m *Memory) save(was, is *grant.Case) error {
	jobs, err := checkChange(was, is)
	if err != nil {
		return err
	}
	if err := checkRan(is); err != nil {
		return err
	}
	if keysOf(&was.Grant) != keysOf(&is.Grant) {
		if err := m.noConflict(&is.Grant); err != nil {
			return err
		}
	}
	if err := m.pinned(&is.Grant.Plan, nil); err != nil {
		return err
	}
	if err := m.canSave(jobs, was.Jobs); err != nil {
		return err
	}
	if is.Ran != nil {
		if err := m.saveRan(is); err != nil {
			return err
		}
	}
	m.cases[is.Grant.ID] = normalCase(grant.Case{Grant: is.Grant, Jobs: jobs})
	events := normalEvents(is)
	m.events = append(m.events, events...)
	*is = normalCase(m.cases[is.Grant.ID])
	is.Events = slices.Clone(events)
	return nil
}

// resolveKey returns the key that idOrPrefix stands for.
func resolveKey[V any](in map[string]V, idOrPrefix string) (string, error) {
	if _, ok := in[idOrPrefix]; ok {
		return idOrPrefix, nil
	}
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(in)) {
		if idOrPrefix != "" && strings.HasPrefix(id, idOrPrefix) && len(ids) < candidates {
			ids = append(ids, id)
		}
	}
	switch len(ids) {
	case 0:
		return "", grant.ErrNotFound
	case 1:
		return ids[0], nil
	}
	return "", &grant.AmbiguousError{Prefix: idOrPrefix, Candidates: ids}
}

// Case does what [Store.Case] does.
func (m *Memory) Case(ctx context.Context, idOrPrefix string) (grant.Case, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return grant.Case{}, err
	}
	defer leave()
	id, err := resolveKey(m.cases, idOrPrefix)
	if err != nil {
		return grant.Case{}, fmt.Errorf("store: grant %s: %w", idOrPrefix, err)
	}
	return normalCase(m.cases[id]), nil
}

// Job does what [Store.Job] does.
func (m *Memory) Job(ctx context.Context, idOrPrefix string) (grant.Job, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return grant.Job{}, err
	}
	defer leave()
	jobs := map[string]grant.Job{}
	for j := range m.allJobs() {
		jobs[j.ID] = *j
	}
	id, err := resolveKey(jobs, idOrPrefix)
	if err != nil {
		return grant.Job{}, fmt.Errorf("store: job %s: %w", idOrPrefix, err)
	}
	return jobs[id], nil
}

// allJobs are those of all grants, to be read while the lock is held.
func (m *Memory) allJobs() iter.Seq[*grant.Job] {
	return func(yield func(*grant.Job) bool) {
		for id := range m.cases {
			jobs := m.cases[id].Jobs
			for i := range jobs {
				if !yield(&jobs[i]) {
					return
				}
			}
		}
	}
}

// Snapshot does what [Store.Snapshot] does.
func (m *Memory) Snapshot(ctx context.Context, hash string) (grant.Snapshot, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return grant.Snapshot{}, err
	}
	defer leave()
	p, ok := m.snapshots[hash]
	if !ok {
		return p, fmt.Errorf("store: snapshot %s: %w", hash, grant.ErrNotFound)
	}
	p.Body = slices.Clone(p.Body)
	return p, nil
}

// Audit does what [Store.Audit] does.
func (m *Memory) Audit(ctx context.Context, grantID string) ([]grant.Event, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var list []grant.Event
	for _, e := range m.events {
		if grantID == "" || e.Grant == grantID {
			e.Detail = maps.Clone(e.Detail)
			list = append(list, e)
		}
	}
	return list, nil
}

// Mark does what [Store.Mark] does.
func (m *Memory) Mark(ctx context.Context, what string, at time.Time) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if was, ok := m.marks[what]; !ok || at.After(was) {
		m.marks[what] = time.UnixMilli(at.UnixMilli()).UTC()
	}
	return nil
}

// Marked does what [Store.Marked] does.
func (m *Memory) Marked(ctx context.Context, what string) (time.Time, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return time.Time{}, err
	}
	defer leave()
	return m.marks[what], nil
}

// Die makes a node dead, as the end of its process does to those of a [Store].
// Here every other node is alive, whether it joined or not.
func (m *Memory) Die(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead[id] = true
}

// Dead returns the nodes that died, in ascending order.
func (m *Memory) Dead(ctx context.Context) ([]string, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return slices.Sorted(maps.Keys(m.dead)), nil
}

// Forget does what [Store.Forget] does; a node that did not die is not known.
func (m *Memory) Forget(ctx context.Context, id string) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	for j := range m.allJobs() {
		if j.State == grant.Running && j.Node == id {
			return fmt.Errorf("store: forget node %s: it has running jobs: %w", id, grant.ErrBusy)
		}
	}
	delete(m.dead, id)
	return nil
}
