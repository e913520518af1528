package engine_test

import (
	"slices"
	"strings"
	"testing"

	"runner/engine/grant"
	"runner/engine/lab"
)

func TestTheDeviceTellsWhatIsThereOfAGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	c := w.active("ada", map[string]any{"sudo": "ALL=(ALL) NOPASSWD: /usr/bin/id"})
	before := w.traces(c.Grant.Account, c.Grant.UID)
	l, err := w.Live(t.Context(), c)
	must(t, err)
	if now := w.traces(c.Grant.Account, c.Grant.UID); now != before {
		t.Errorf("looking changed the device:\n%s\nwas\n%s", now, before)
	}
	has := func(part string) bool {
		return slices.ContainsFunc(l.Left, func(s string) bool { return strings.Contains(s, part) })
	}
	if !has("passwd "+c.Grant.Account) || !has("runner-"+c.Grant.Account) || len(l.Items) < len(l.Left) || l.Account[0] != "there" {
		t.Errorf("%+v", l)
	}
	c = w.end(c.Grant.ID)
	w.gone(c)
	l, err = w.Live(t.Context(), c)
	must(t, err)
	if len(l.Items)+len(l.Left) != 0 || l.Account[0] != "not there" {
		t.Errorf("%+v", l)
	}
	later, err := w.Store.Case(t.Context(), c.Grant.ID)
	must(t, err)
	if later.Grant.State != grant.Removed || len(later.Jobs) != len(c.Jobs) {
		t.Error("looking changed the store")
	}
}
