package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/transport/winrm/winrmtest"
)

// elevate has somebody ask for a credential of an account that exists.
func (w *winWorld) elevate(cred, who string) grant.Case {
	w.t.Helper()
	c, err := w.Request(w.t.Context(), engine.Ask{Credential: cred, Requester: who, Caller: who})
	must(w.t, err)
	if c = w.create(c); c.Grant.State != grant.Active {
		w.t.Fatalf("%s of %s is %s: %s\n%s", cred, who, c.Grant.State, c.Grant.Failure, w.logOf(c.Forward().Execution))
	}
	return c
}

// person makes an account that is not of runner, and returns its SID.
func (w *winWorld) person(name string, rid int) string {
	sid := fmt.Sprintf("%s-%d", w.Machine, rid)
	w.Set(func() { w.Users = append(w.Users, &winrmtest.Account{Name: name, SID: sid, Enabled: true}) })
	return sid
}

// groupsOf are the SIDs of the groups that an account is in.
func (w *winWorld) groupsOf(sid string) (in []string) {
	for _, g := range w.Groups {
		if slices.Contains(g.Members, sid) {
			in = append(in, g.SID)
		}
	}
	slices.Sort(in)
	return in
}

func TestAWindowsElevationLastsAsLongAsItsGrant(t *testing.T) {
	t.Parallel()
	w := newWinWorld(t)
	sid := w.person("zora", 2001)
	before := w.dump()
	a, b := w.elevate("win-ops", "ada"), w.elevate("win-ops", "bob")
	if got := w.groupsOf(sid); !slices.Contains(got, "S-1-5-32-544") || !slices.Contains(got, "S-1-5-32-555") {
		t.Fatalf("groups %v", got)
	}
	for _, text := range w.win.Scripts() {
		if strings.Contains(text, "zora") || strings.Contains(text, sid) {
			t.Error("a value is in the text of a script")
		}
	}
	a = w.remove(a)
	if held := strings.Join(a.Grant.Receipt.Held, " "); a.Grant.State != grant.Removed || !strings.Contains(held, b.Grant.ID) {
		t.Fatalf("grant is %s, held %q", a.Grant.State, held)
	}
	if got := w.groupsOf(sid); !slices.Contains(got, "S-1-5-32-544") {
		t.Fatalf("the groups of the other grant are gone: %v", got)
	}
	if b = w.remove(b); b.Grant.State != grant.Removed || !b.Grant.Receipt.Empty() {
		t.Fatalf("grant is %s: %+v\n%s", b.Grant.State, b.Grant.Receipt, w.logOf(b.Removal().Execution))
	}
	if got := w.dump(); got != before {
		t.Errorf("the host is not what it was:\n%s\n%s", before, got)
	}
}

// Who names a group by its name and who does by its SID want the same: the first of them
// to end takes nothing away from the other.
func TestAWindowsGroupIsOneHoweverItIsNamed(t *testing.T) {
	t.Parallel()
	for _, order := range [][]string{{"win-ops", "win-named"}, {"win-named", "win-ops"}} {
		w := newWinWorld(t)
		sid := w.person("zora", 2001)
		before := w.dump()
		a, b := w.elevate(order[0], "ada"), w.elevate(order[1], "bob")
		a = w.remove(a)
		if held := strings.Join(a.Grant.Receipt.Held, " "); a.Grant.State != grant.Removed || !strings.Contains(held, "windows:member:S-1-5-32-544/"+sid+" by "+b.Grant.ID) || len(a.Grant.Receipt.Held) != 2 {
			t.Fatalf("%v: grant is %s, held %q", order, a.Grant.State, held)
		}
		if got := w.groupsOf(sid); !slices.Contains(got, "S-1-5-32-544") || !slices.Contains(got, "S-1-5-32-555") {
			t.Fatalf("%v: the groups of the other grant are gone: %v", order, got)
		}
		if b = w.remove(b); b.Grant.State != grant.Removed || len(b.Grant.Receipt.Conflicts) != 0 || w.dump() != before {
			t.Fatalf("%v: grant is %s: %+v\n%s", order, b.Grant.State, b.Grant.Receipt, w.dump())
		}
	}
}

// What an administrator did meanwhile stays, and is told of; and an account that
// has the name by then is not touched.
func TestAWindowsElevationLeavesAloneWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	w := newWinWorld(t)
	sid := w.person("zora", 2001)
	c := w.elevate("win-ops", "ada")
	w.Set(func() {
		for _, g := range w.Groups {
			g.Members = slices.DeleteFunc(g.Members, func(m string) bool { return m == sid && g.SID == "S-1-5-32-544" })
		}
	})
	if c = w.remove(c); c.Grant.State != grant.Removed || len(c.Grant.Receipt.Conflicts)+len(c.Grant.Receipt.Left) != 0 && !strings.Contains(strings.Join(c.Grant.Receipt.Conflicts, ""), "S-1-5-32-544") {
		t.Fatalf("grant is %s: %+v", c.Grant.State, c.Grant.Receipt)
	}
	c = w.elevate("win-ops", "ada")
	w.Set(func() {
		w.Users = slices.DeleteFunc(w.Users, func(u *winrmtest.Account) bool { return u.Name == "zora" })
	})
	other := w.person("zora", 2002)
	w.Set(func() {
		for _, g := range w.Groups {
			if g.SID == "S-1-5-32-544" {
				g.Members = append(g.Members, other)
			}
		}
	})
	c = w.remove(c)
	if got := w.groupsOf(other); !slices.Contains(got, "S-1-5-32-544") {
		t.Errorf("another account lost its groups: %v; grant is %s", got, c.Grant.State)
	}
}

// Who is enabled for a grant is disabled by the last one that wants it, and what
// runs as the account then is ended; an account that was enabled stays so.
func TestAWindowsAccountIsEnabledAsLongAsSomebodyWantsIt(t *testing.T) {
	t.Parallel()
	w := newWinWorld(t)
	w.person("zora", 2001)
	w.Set(func() { w.Users[len(w.Users)-1].Enabled = false })
	before := w.dump()
	a, b := w.elevate("win-enable", "ada"), w.elevate("win-enable", "bob")
	w.LogOn("zora", 3)
	if a = w.remove(a); a.Grant.State != grant.Removed || !w.User("zora").Enabled || len(w.Processes) != 1 {
		t.Fatalf("grant is %s, the account is %+v, programs %d", a.Grant.State, w.User("zora"), len(w.Processes))
	}
	if b = w.remove(b); b.Grant.State != grant.Removed || w.User("zora").Enabled || len(w.Processes) != 0 || b.Grant.NoAccess.IsZero() {
		t.Fatalf("grant is %s, the account is %+v, programs %d\n%s", b.Grant.State, w.User("zora"), len(w.Processes), w.logOf(b.Removal().Execution))
	}
	w.Set(func() { w.Profiles, w.Users[len(w.Users)-1].LastLogon = nil, time.Time{} })
	if got := w.dump(); got != before {
		t.Errorf("the host is not what it was:\n%s\n%s", before, got)
	}
	w.Set(func() { w.Users[len(w.Users)-1].Enabled = true })
	c := w.remove(w.elevate("win-enable", "ada"))
	if c.Grant.State != grant.Removed || !w.User("zora").Enabled {
		t.Errorf("grant is %s; an account that was enabled before is %+v", c.Grant.State, w.User("zora"))
	}
}
