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

// Of each device the latest scan is kept, and what the latest that worked has found.
func scansKept(t *testing.T, s ledger) {
	same(t, len(must[[]grant.Scanned](t)(s.Scans(t.Context(), false))), 0)
	one := grant.Scanned{
		Device: "db1", Tried: at(5), At: at(6), Credential: "c", Marked: 3, OK: 2, Found: 1,
		Findings: []grant.Finding{{
			What: "unknown", Object: "account jit-x", Why: []string{"its mark", "l'été"}, Mark: "g-0001", Grant: "g-0002", UID: 4711, SID: "S-1-5", Locked: true,
			Until: kept(at(9)), Expired: true,
		}},
	}
	noZero(t, one.Findings[0])
	many := grant.Scanned{Device: "db0", Tried: at(1), At: at(1), Findings: make([]grant.Finding, grant.MaxFindings+7)}
	none := grant.Scanned{Device: "db2", Tried: at(1), Error: "no route", Away: true}
	for _, n := range []grant.Scanned{one, many, none} {
		ok(t, s.PutScan(t.Context(), n))
	}
	list := must[[]grant.Scanned](t)(s.Scans(t.Context(), false))
	one.Tried, one.At = kept(one.Tried), kept(one.At)
	none.Tried, none.Findings = kept(none.Tried), []grant.Finding{}
	same(t, list[1:], []grant.Scanned{one, none})
	same(t, list[0].Found, grant.MaxFindings+7)
	same(t, len(list[0].Findings), grant.MaxFindings)
	same(t, len(must[[]grant.Scanned](t)(s.Scans(t.Context(), true))), 2)

	ok(t, s.PutScan(t.Context(), grant.Scanned{Device: "db1", Tried: at(4), At: at(4)})) // it began before
	ok(t, s.PutScan(t.Context(), grant.Scanned{Device: "db1", Tried: at(7), Error: "refused", At: at(7)}))
	one.Tried, one.Error = kept(at(7)), "refused"
	same(t, must[[]grant.Scanned](t)(s.Scans(t.Context(), true))[1], one)
	ok(t, s.PutScan(t.Context(), grant.Scanned{Device: "db1", Tried: at(8), At: at(8)}))
	ok(t, s.DropScan(t.Context(), "db0"))
	ok(t, s.DropScan(t.Context(), "nowhere"))
	same(t, len(must[[]grant.Scanned](t)(s.Scans(t.Context(), true))), 0)
	same(t, must[[]grant.Scanned](t)(s.Scans(t.Context(), false))[0], grant.Scanned{Device: "db1", Tried: kept(at(8)), At: kept(at(8)), Findings: []grant.Finding{}})
}

// Of several who see that a device is to be scanned one does it.
func scansBegun(t *testing.T, s ledger) {
	begin := func(was time.Time, now int, want bool) {
		t.Helper()
		same(t, must[bool](t)(s.BeginScan(t.Context(), "db1", was, at(now))), want)
	}
	begin(at(1), 2, true) // whoever saw a row that is gone may as well
	ok(t, s.DropScan(t.Context(), "db1"))
	begin(time.Time{}, 3, true)
	begin(time.Time{}, 3, false)
	begin(at(2), 4, false)
	begin(at(3), 5, true)
	begin(at(3), 5, false)
	list := must[[]grant.Scanned](t)(s.Scans(t.Context(), false))
	if len(list) != 1 || !list[0].Tried.Equal(kept(at(5))) || list[0].Error == "" || !list[0].Away || !list[0].At.IsZero() {
		t.Errorf("%+v", list)
	}
	ok(t, s.PutScan(t.Context(), grant.Scanned{Device: "db1", Tried: at(5), At: at(6), Found: 1}))
	begin(at(5), 9, true)
	if list = must[[]grant.Scanned](t)(s.Scans(t.Context(), true)); len(list) != 1 || !list[0].At.Equal(kept(at(6))) {
		t.Errorf("what was found before is forgotten: %+v", list)
	}
}
