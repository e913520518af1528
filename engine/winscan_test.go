package engine_test

import (
	"strings"
	"testing"
	"time"

	"runner/engine"
	"runner/engine/grant"
)

// A Windows host says by description and expiry what is whose: others' changes are
// found, and what a store does not know is adopted and removed by its SID.
func TestAScanOfWindows(t *testing.T) {
	t.Parallel()
	w := newWinWorld(t)
	before := w.dump()
	c := w.create(w.request(nil))
	device := c.Grant.Device
	scan := func() []string {
		s, err := w.ScanDevice(t.Context(), device, "")
		must(t, err)
		var out []string
		for _, f := range s.Findings {
			out = append(out, f.What+": "+strings.Join(f.Why, "; "))
		}
		return out
	}
	if got := scan(); len(got) > 0 {
		t.Fatalf("what is as it should be: %v", got)
	}
	u := w.User(c.Grant.Account)
	was := *u
	for want, change := range map[string]func(){
		"changed: its mark was taken away":                         func() { u.Description = "" },
		"changed: somebody locked it":                              func() { u.Enabled = false },
		"changed: it does not expire by itself any more":           func() { u.Expires = time.Time{} },
		"changed: account " + was.Name + " has the name other now": func() { u.Name = "other" },
	} {
		w.Set(change)
		if got := scan(); len(got) != 1 || got[0] != want {
			t.Errorf("got %v, want %s", got, want)
		}
		w.Set(func() { *u = was })
	}

	// Another store knows nothing of it.
	lost := grant.NewID("g", time.Now(), [10]byte{1})
	w.Set(func() { u.Description = "runner " + lost })
	if got := scan(); len(got) != 1 || !strings.Contains(got[0], "its mark names grant "+lost) {
		t.Fatalf("%v", got)
	}
	w.Set(func() { u.Description = was.Description })
	must(t, w.store.Change(t.Context(), c.Grant.ID, func(c *grant.Case) error { return c.End(time.Now(), "ops", "end") }))
	ended, err := w.store.Case(t.Context(), c.Grant.ID)
	must(t, err)
	if ended = w.remove(ended); ended.Grant.State != grant.Removed || w.dump() != before {
		t.Fatalf("%s\n%s", ended.Grant.State, w.dump())
	}
	// A snapshot brings it back.
	w.Set(func() { w.Users = append(w.Users, &was) })
	if got := scan(); len(got) != 1 || !strings.HasPrefix(got[0], "returned: ") {
		t.Fatalf("%v", got)
	}
	// And what nobody knows is adopted, locked, and removed when the wait is over.
	w.Set(func() { was.Description = "runner " + lost })
	q, err := w.Adopt(t.Context(), engine.Decision{Device: device, Object: was.Name, Actor: "ops", Quarantine: time.Hour})
	must(t, err)
	q, err = w.RunDue(t.Context(), q)
	must(t, err)
	if q.Grant.State != grant.Active || q.Grant.NoAccess.IsZero() || was.Enabled || q.Grant.ID != lost {
		t.Fatalf("%+v, enabled %v", q, was.Enabled)
	}
	must(t, w.store.Change(t.Context(), lost, func(c *grant.Case) error { return c.End(time.Now(), "ops", "revoke") }))
	q, err = w.store.Case(t.Context(), lost)
	must(t, err)
	if q = w.remove(q); q.Grant.State != grant.Removed || w.dump() != before {
		t.Fatalf("%s: %+v\n%s", q.Grant.State, q.Removal(), w.dump())
	}
}
