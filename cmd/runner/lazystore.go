package main

import (
	"context"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/store"
)

// lazyStore is a store that is being opened: the first call that needs it
// waits. An ad hoc run of a template connects meanwhile.
type lazyStore struct {
	open func() (*store.Store, error) // safe for several goroutines
}

var _ engine.Store = (*lazyStore)(nil)

// lazyStore is the store of the workspace; close waits for it.
func (a *app) lazyStore() *lazyStore {
	a.opened = true
	return &lazyStore{a.stored}
}

// begin starts to open it.
func (l *lazyStore) begin() {
	go func() { _, _ = l.open() }() // kept, and returned to whoever needs the store
}

// with calls f with the store.
func with[T any](l *lazyStore, f func(*store.Store) (T, error)) (T, error) {
	s, err := l.open()
	if err != nil {
		var none T
		return none, err
	}
	return f(s)
}

// do calls f with the store.
func (l *lazyStore) do(f func(*store.Store) error) error {
	_, err := with(l, func(s *store.Store) (struct{}, error) { return struct{}{}, f(s) })
	return err
}

func (l *lazyStore) Create(ctx context.Context, c grant.Case, snaps []grant.Snapshot) error {
	return l.do(func(s *store.Store) error { return s.Create(ctx, c, snaps) })
}

func (l *lazyStore) Case(ctx context.Context, id string) (grant.Case, error) {
	return with(l, func(s *store.Store) (grant.Case, error) { return s.Case(ctx, id) })
}

func (l *lazyStore) Cases(ctx context.Context, f grant.Filter) ([]grant.Case, error) {
	return with(l, func(s *store.Store) ([]grant.Case, error) { return s.Cases(ctx, f) })
}

func (l *lazyStore) Change(ctx context.Context, id string, fn func(*grant.Case) error) error {
	return l.do(func(s *store.Store) error { return s.Change(ctx, id, fn) })
}

func (l *lazyStore) Job(ctx context.Context, id string) (grant.Job, error) {
	return with(l, func(s *store.Store) (grant.Job, error) { return s.Job(ctx, id) })
}

func (l *lazyStore) Jobs(ctx context.Context, f grant.Filter) ([]grant.Job, error) {
	return with(l, func(s *store.Store) ([]grant.Job, error) { return s.Jobs(ctx, f) })
}

func (l *lazyStore) Ready(ctx context.Context, w grant.Want) ([]grant.Ready, error) {
	return with(l, func(s *store.Store) ([]grant.Ready, error) { return s.Ready(ctx, w) })
}

func (l *lazyStore) NextDue(ctx context.Context, after time.Time) (time.Time, bool, error) {
	s, err := l.open()
	if err != nil {
		return time.Time{}, false, err
	}
	return s.NextDue(ctx, after)
}

func (l *lazyStore) Running(ctx context.Context) ([]grant.Job, error) {
	return with(l, func(s *store.Store) ([]grant.Job, error) { return s.Running(ctx) })
}

func (l *lazyStore) Overdue(ctx context.Context, before time.Time, limit int) (cases []grant.Case, total int, err error) {
	err = l.do(func(s *store.Store) error {
		cases, total, err = s.Overdue(ctx, before, limit)
		return err
	})
	return cases, total, err
}

func (l *lazyStore) Tally(ctx context.Context) (grant.Tally, error) {
	return with(l, func(s *store.Store) (grant.Tally, error) { return s.Tally(ctx) })
}

func (l *lazyStore) Missed(ctx context.Context, device, why string, now time.Time, jitter float64) (grant.Silence, error) {
	return with(l, func(s *store.Store) (grant.Silence, error) { return s.Missed(ctx, device, why, now, jitter) })
}

func (l *lazyStore) Answered(ctx context.Context, device string, now time.Time) error {
	return l.do(func(s *store.Store) error { return s.Answered(ctx, device, now) })
}

func (l *lazyStore) Silences(ctx context.Context) ([]grant.Silence, error) {
	return with(l, func(s *store.Store) ([]grant.Silence, error) { return s.Silences(ctx) })
}

func (l *lazyStore) Holding(ctx context.Context, requester, credential string) (*grant.Grant, error) {
	return with(l, func(s *store.Store) (*grant.Grant, error) { return s.Holding(ctx, requester, credential) })
}

func (l *lazyStore) GoneOn(ctx context.Context, device string) ([]grant.Grant, error) {
	return with(l, func(s *store.Store) ([]grant.Grant, error) { return s.GoneOn(ctx, device) })
}

func (l *lazyStore) Held(ctx context.Context, f grant.Fence) (bool, error) {
	return with(l, func(s *store.Store) (bool, error) { return s.Held(ctx, f) })
}

func (l *lazyStore) PutExecution(ctx context.Context, f grant.Fence, e grant.Execution, steps ...grant.StepResult) error {
	return l.do(func(s *store.Store) error { return s.PutExecution(ctx, f, e, steps...) })
}

func (l *lazyStore) Execution(ctx context.Context, id string) (grant.Execution, error) {
	return with(l, func(s *store.Store) (grant.Execution, error) { return s.Execution(ctx, id) })
}

func (l *lazyStore) PutChanges(ctx context.Context, f grant.Fence, grantID string, cs []grant.Change) error {
	return l.do(func(s *store.Store) error { return s.PutChanges(ctx, f, grantID, cs) })
}

func (l *lazyStore) Changes(ctx context.Context, grantID string) ([]grant.Change, error) {
	return with(l, func(s *store.Store) ([]grant.Change, error) { return s.Changes(ctx, grantID) })
}

func (l *lazyStore) Holds(ctx context.Context, grantID string) ([]grant.Hold, error) {
	return with(l, func(s *store.Store) ([]grant.Hold, error) { return s.Holds(ctx, grantID) })
}

func (l *lazyStore) Snapshot(ctx context.Context, hash string) (grant.Snapshot, error) {
	return with(l, func(s *store.Store) (grant.Snapshot, error) { return s.Snapshot(ctx, hash) })
}

func (l *lazyStore) NextUID(ctx context.Context, device string, first, last int64, now time.Time) (int64, error) {
	return with(l, func(s *store.Store) (int64, error) { return s.NextUID(ctx, device, first, last, now) })
}

func (l *lazyStore) ReserveUID(ctx context.Context, device string, first, last int64, now time.Time) (int64, error) {
	return with(l, func(s *store.Store) (int64, error) { return s.ReserveUID(ctx, device, first, last, now) })
}

func (l *lazyStore) BurnUID(ctx context.Context, device string, uid int64, now time.Time) error {
	return l.do(func(s *store.Store) error { return s.BurnUID(ctx, device, uid, now) })
}

func (l *lazyStore) Session(ctx context.Context, id string) (grant.Session, error) {
	return with(l, func(s *store.Store) (grant.Session, error) { return s.Session(ctx, id) })
}

func (l *lazyStore) Sessions(ctx context.Context, f grant.Filter) ([]grant.Session, error) {
	return with(l, func(s *store.Store) ([]grant.Session, error) { return s.Sessions(ctx, f) })
}

func (l *lazyStore) ChangeSession(ctx context.Context, id string, fn func(*grant.Session) error) error {
	return l.do(func(s *store.Store) error { return s.ChangeSession(ctx, id, fn) })
}

func (l *lazyStore) Dead(ctx context.Context) ([]string, error) {
	return with(l, func(s *store.Store) ([]string, error) { return s.Dead(ctx) })
}

func (l *lazyStore) Forget(ctx context.Context, id string) error {
	return l.do(func(s *store.Store) error { return s.Forget(ctx, id) })
}

func (l *lazyStore) AppendLog(ctx context.Context, chunks []grant.Chunk) error {
	return l.do(func(s *store.Store) error { return s.AppendLog(ctx, chunks) })
}

func (l *lazyStore) ReadLog(ctx context.Context, execution string, from int64, maxBytes int) ([]grant.Chunk, error) {
	return with(l, func(s *store.Store) ([]grant.Chunk, error) { return s.ReadLog(ctx, execution, from, maxBytes) })
}

func (l *lazyStore) DropLog(ctx context.Context, execution string, from, to int64) error {
	return l.do(func(s *store.Store) error { return s.DropLog(ctx, execution, from, to) })
}

func (l *lazyStore) NextLog(ctx context.Context, after, before string) (string, error) {
	return with(l, func(s *store.Store) (string, error) { return s.NextLog(ctx, after, before) })
}

func (l *lazyStore) Room(ctx context.Context) (grant.Room, error) {
	return with(l, func(s *store.Store) (grant.Room, error) { return s.Room(ctx) })
}

func (l *lazyStore) LogSize(ctx context.Context, execution string) (stored, end int64, err error) {
	err = l.do(func(s *store.Store) error {
		stored, end, err = s.LogSize(ctx, execution)
		return err
	})
	return stored, end, err
}

func (l *lazyStore) Ignore(ctx context.Context, i grant.Ignored) error {
	return l.do(func(s *store.Store) error { return s.Ignore(ctx, i) })
}

func (l *lazyStore) Ignored(ctx context.Context, device string) ([]grant.Ignored, error) {
	return with(l, func(s *store.Store) ([]grant.Ignored, error) { return s.Ignored(ctx, device) })
}

func (l *lazyStore) BeginScan(ctx context.Context, device string, was, now time.Time) (bool, error) {
	return with(l, func(s *store.Store) (bool, error) { return s.BeginScan(ctx, device, was, now) })
}

func (l *lazyStore) PutScan(ctx context.Context, n grant.Scanned) error {
	return l.do(func(s *store.Store) error { return s.PutScan(ctx, n) })
}

func (l *lazyStore) Scans(ctx context.Context, found bool) ([]grant.Scanned, error) {
	return with(l, func(s *store.Store) ([]grant.Scanned, error) { return s.Scans(ctx, found) })
}

func (l *lazyStore) DropScan(ctx context.Context, device string) error {
	return l.do(func(s *store.Store) error { return s.DropScan(ctx, device) })
}

func (l *lazyStore) Mark(ctx context.Context, what string, at time.Time) error {
	return l.do(func(s *store.Store) error { return s.Mark(ctx, what, at) })
}

func (l *lazyStore) Marked(ctx context.Context, what string) (time.Time, error) {
	return with(l, func(s *store.Store) (time.Time, error) { return s.Marked(ctx, what) })
}

func (l *lazyStore) Newest(ctx context.Context) (string, error) {
	return with(l, func(s *store.Store) (string, error) { return s.Newest(ctx) })
}
