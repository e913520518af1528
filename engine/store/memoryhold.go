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
	if _, own := rows[grantID]; own {
		if after, known := heldAfter(c); known {
			for id, h := range rows {
				h.After = after
				rows[id] = h
			}
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
