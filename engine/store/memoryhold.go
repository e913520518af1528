package store

import (
	"context"
	"maps"
	"slices"
	"strings"

	"runner/engine/grant"
)

// heldObject is an object of a device that grants hold.
type heldObject struct{ device, object string }

// hold does what the SQL of that name does.
func (m *Memory) hold(grantID string, c *grant.Change) {
	at := heldObject{m.cases[grantID].Grant.Device, c.Object}
	rows := m.holds[at]
	if h, own := rows[grantID]; own {
		after, known := heldAfter(c)
		if !known {
			return
		}
		next := joinHold(h, h.After == "" && m.alone(rows, grantID), c.Before)
		moved := next.Before != h.Before
		for id, r := range rows {
			if r.After = after; moved {
				r.Before = next.Before
			}
			rows[id] = r
		}
		return
	}
	if c.State != "intended" {
		return
	}
	if rows == nil {
		rows = map[string]grant.Hold{}
		m.holds[at] = rows
	}
	var h grant.Hold
	first := true
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		if !m.cases[id].Grant.State.Final() {
			h, first = rows[id], false
			break
		}
	}
	next := joinHold(h, first, c.Before)
	if !first && next.Before != h.Before {
		for id := range rows {
			rows[id] = grant.Hold{Object: c.Object, Before: next.Before}
		}
	}
	next.Object = c.Object
	rows[grantID] = next
}

// alone reports whether no other grant that has not ended is in rows.
func (m *Memory) alone(rows map[string]grant.Hold, grantID string) bool {
	for id := range rows {
		if id != grantID && !m.cases[id].Grant.State.Final() {
			return false
		}
	}
	return true
}

// Holds does what [Store.Holds] does.
func (m *Memory) Holds(ctx context.Context, grantID string) ([]grant.Hold, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var list []grant.Hold
	for _, rows := range m.holds {
		h, is := rows[grantID]
		if !is {
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(rows)) {
			if s := m.cases[id].Grant.State; id != grantID && (s == grant.Creating || s == grant.Active) {
				h.Others = append(h.Others, id)
			}
		}
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b grant.Hold) int { return strings.Compare(a.Object, b.Object) })
	return list, nil
}
