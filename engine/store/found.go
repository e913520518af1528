package store

import (
	"cmp"
	"context"
	"database/sql"
	"slices"

	"runner/engine/grant"
)

const (
	ignoredColumns = `device, object, mark, actor, reason, at, until_at`
	putIgnored     = `INSERT INTO ignored (` + ignoredColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7)
	ON CONFLICT (device, object) DO UPDATE SET mark = excluded.mark, actor = excluded.actor, reason = excluded.reason,
	at = excluded.at, until_at = excluded.until_at`
	ignoredOn = `SELECT ` + ignoredColumns + ` FROM ignored WHERE device = $1 ORDER BY object`
	newestID  = `SELECT id FROM grants WHERE origin = '' ORDER BY id DESC LIMIT 1`
)

// Ignore keeps i in place of what was kept of its object, with an audit row.
func (s *Store) Ignore(ctx context.Context, i grant.Ignored) error {
	i = normalIgnored(i)
	err := s.main.writeTx(ctx, func(tx *txn) error {
		if _, err := tx.ExecContext(ctx, putIgnored, i.Device, i.Object, i.Mark, i.Actor, i.Reason, i.At.UnixMilli(), i.Until.UnixMilli()); err != nil {
			return err
		}
		return appendAudit(ctx, tx, ignoredEvents(&i))
	})
	return s.main.explain("ignore "+i.Object, err)
}

// ignoredEvents are the audit rows of a person's decision.
func ignoredEvents(i *grant.Ignored) []grant.Event {
	return normalEvents(&grant.Case{Events: []grant.Event{{At: i.At, Actor: i.Actor, Action: "device.ignored", Grant: i.Mark, Detail: map[string]string{
		"device": i.Device, "object": i.Object, "reason": i.Reason, "until": i.Until.Format("2006-01-02T15:04:05Z"),
	}}}})
}

func normalIgnored(i grant.Ignored) grant.Ignored {
	i.At, i.Until = stamp(i.At), stamp(i.Until)
	i.Object, i.Mark, i.Actor, i.Reason = valid(i.Object), valid(i.Mark), valid(i.Actor), valid(i.Reason)
	return i
}

// Ignored returns what is ignored on a device, also what was until some time ago.
func (s *Store) Ignored(ctx context.Context, device string) ([]grant.Ignored, error) {
	var list []grant.Ignored
	err := s.main.readOne(ctx, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, ignoredOn, device)
		list, err = all(rows, err, scanIgnored)
		return err
	})
	return list, s.main.explain("what is ignored on "+device, err)
}

func scanIgnored(r scanner) (i grant.Ignored, err error) {
	return i, r.Scan(&i.Device, &i.Object, &i.Mark, &i.Actor, &i.Reason, msTime{&i.At}, msTime{&i.Until})
}

// Newest returns the greatest id of the grants that somebody requested: ids sort by
// the time at which they were made. "" says that there is none.
func (s *Store) Newest(ctx context.Context) (string, error) {
	var id string
	err := s.main.readOne(ctx, func(db *sql.DB) error {
		err := db.QueryRowContext(ctx, newestID).Scan(&id)
		if isNone(err) {
			return nil
		}
		return err
	})
	return id, s.main.explain("newest grant", err)
}

// Ignore does what [Store.Ignore] does.
func (m *Memory) Ignore(ctx context.Context, i grant.Ignored) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	i = normalIgnored(i)
	m.ignored = slices.DeleteFunc(m.ignored, func(o grant.Ignored) bool { return o.Device == i.Device && o.Object == i.Object })
	m.ignored = append(m.ignored, i)
	m.events = append(m.events, ignoredEvents(&i)...)
	return nil
}

// Ignored does what [Store.Ignored] does.
func (m *Memory) Ignored(ctx context.Context, device string) ([]grant.Ignored, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var list []grant.Ignored
	for _, i := range m.ignored {
		if i.Device == device {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b grant.Ignored) int { return cmp.Compare(a.Object, b.Object) })
	return list, nil
}

// Newest does what [Store.Newest] does.
func (m *Memory) Newest(ctx context.Context) (string, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	newest := ""
	for id := range m.cases {
		if m.cases[id].Grant.Origin == "" {
			newest = max(newest, id)
		}
	}
	return newest, nil
}
