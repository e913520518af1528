package store

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"runner/engine/grant"
)

const (
	// What may have been handed out, or made, after the state that is there now.
	uncertain = `SELECT id FROM grants WHERE state IN ('requested', 'waiting_approval', 'creating') OR state = 'active' AND sealed IS NOT NULL ORDER BY id`
	setMark   = `INSERT INTO marks (what, at) VALUES ($1, $2)
	ON CONFLICT (what) DO UPDATE SET at = excluded.at WHERE excluded.at > marks.at`
)

// Restored says that the store was put back to an earlier state, with everybody who
// used it stopped: secrets that may have been handed out since are not handed out any
// more, and creations that may have gone on since are removed ([grant.Case.Restored]).
// why is for the audit. It returns how many grants that was about.
func (s *Store) Restored(ctx context.Context, now time.Time, why string) (n int, err error) {
	err = s.main.writeTx(ctx, func(tx *txn) error {
		n, err = takeBack(ctx, tx, now, why)
		return err
	})
	return n, s.main.explain("note a restoration", err)
}

// takeBack does what Restored says.
func takeBack(ctx context.Context, tx *txn, now time.Time, why string) (int, error) {
	rows, err := tx.QueryContext(ctx, uncertain)
	ids, err := all(rows, err, scanText)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		was, err := loadCase(ctx, tx.Tx, id)
		if err != nil {
			return 0, err
		}
		is := normalCase(was)
		is.Restored(now, why)
		if err := saveCase(ctx, tx, &was, &is); err != nil {
			return 0, err
		}
	}
	if _, err := tx.ExecContext(ctx, setMark, grant.MarkRestored, now.UnixMilli()); err != nil {
		return 0, err
	}
	return len(ids), appendAudit(ctx, tx, []grant.Event{restoredEvent(now, why, len(ids))})
}

func restoredEvent(now time.Time, why string, grants int) grant.Event {
	return grant.Event{At: stamp(now), Actor: grant.Runner, Action: "store.restored", Detail: map[string]string{"why": why, "grants": strconv.Itoa(grants)}}
}

// Restored does what [Store.Restored] does.
func (m *Memory) Restored(ctx context.Context, now time.Time, why string) (int, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	n := 0
	for _, id := range slices.Sorted(maps.Keys(m.cases)) {
		is := normalCase(m.cases[id])
		if !is.Restored(now, why) {
			continue
		}
		n++
		m.events = append(m.events, normalEvents(&is)...)
		m.cases[id] = normalCase(grant.Case{Grant: is.Grant, Jobs: is.Jobs})
	}
	m.marks[grant.MarkRestored] = stamp(now)
	m.events = append(m.events, restoredEvent(now, why, n))
	return n, nil
}
