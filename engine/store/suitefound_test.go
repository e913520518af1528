package store_test

import (
	"testing"
	"time"

	"runner/engine/grant"
)

// What people decided about findings is kept, the latest decision of an object.
func ignoresKept(t *testing.T, s ledger) {
	i := grant.Ignored{Device: "db1", Object: "account jit-x", Mark: "g-0001", Actor: "ann", Reason: "l'été", At: at(1), Until: at(50)}
	ok(t, s.Ignore(t.Context(), i))
	other := grant.Ignored{Device: "db2", Object: "account jit-x", Actor: "bob", Reason: "b", At: at(2), Until: at(3)}
	ok(t, s.Ignore(t.Context(), other))
	i.Until, i.Actor, i.At = at(60), "eve", at(3)
	ok(t, s.Ignore(t.Context(), i))
	another := i
	another.Object = "account a"
	ok(t, s.Ignore(t.Context(), another))
	for _, v := range []*grant.Ignored{&i, &another} {
		v.At, v.Until = kept(v.At), kept(v.Until)
	}
	same(t, must[[]grant.Ignored](t)(s.Ignored(t.Context(), "db1")), []grant.Ignored{another, i})
	same(t, len(must[[]grant.Ignored](t)(s.Ignored(t.Context(), "db3"))), 0)
	events := must[[]grant.Event](t)(s.Audit(t.Context(), "g-0001"))
	if len(events) != 3 || events[0].Actor != "ann" || events[1].Actor != "eve" || events[1].Action != "device.ignored" || events[1].Detail["object"] != "account jit-x" ||
		events[1].Detail["until"] != kept(at(60)).Format(time.RFC3339) || events[1].Detail["reason"] != "l'été" || events[1].Detail["device"] != "db1" {
		t.Errorf("audit: %+v", events)
	}
}

// The newest grant is that of the greatest id that somebody requested; what was
// found says nothing of how old the store is, and takes nobody's place.
func foundGrants(t *testing.T, s ledger) {
	same(t, must[string](t)(s.Newest(t.Context())), "")
	ok(t, s.Create(t.Context(), newCase(2, "db1"), nil))
	ok(t, s.Create(t.Context(), newCase(1, "db1"), nil))
	for n := 3; n <= 4; n++ {
		c := newCase(n, "db1")
		c.Grant.Requester, c.Grant.Origin = "user1", grant.Adopted
		ok(t, s.Create(t.Context(), c, nil))
	}
	same(t, must[string](t)(s.Newest(t.Context())), "g-0002")
	c := newCase(5, "db1")
	c.Grant.Requester = "user1"
	conflict(t, s.Create(t.Context(), c, nil), "requester", "g-0001")
	c.Grant.Requester, c.Grant.Origin, c.Grant.Account = "user5", grant.Adopted, "jit-3"
	conflict(t, s.Create(t.Context(), c, nil), "account", "g-0003")
	// What returns is nobody's request any more.
	ok(t, s.Change(t.Context(), "g-0001", func(c *grant.Case) error { c.Grant.State = grant.Removed; return nil }))
	c = newCase(6, "db1")
	c.Grant.Requester = "user1"
	ok(t, s.Create(t.Context(), c, nil))
	ok(t, s.Change(t.Context(), "g-0001", func(c *grant.Case) error { c.Grant.State, c.Grant.Origin = grant.Ending, grant.Returned; return nil }))
}
