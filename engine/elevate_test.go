package engine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/lab"
)

// elevations are credentials for an account that exists, one for each line:
// NAME TYPE PARAMS.
func elevations(lines ...string) func(string) string {
	return func(text string) string {
		_, auth, _ := strings.Cut(text, "authentication: ")
		auth, _, _ = strings.Cut(auth, "\n")
		yaml := strings.NewReplacer(":", ": ", ",", ", ")
		for _, l := range lines {
			f := strings.SplitN(l, " ", 3)
			text += fmt.Sprintf("---\nschema: runner/v1\nkind: credential\nname: %s\ndevice: box\naccount: erin\nauthentication: %s\nrequesters: [ada, bob, cyd, dan, eve, fay]\njit: {%s, duration: 1h, max_duration: 4h}\nparams: {%s}\n",
				f[0], auth, yaml.Replace(f[1]), yaml.Replace(f[2]))
		}
		return text
	}
}

// elevate has somebody ask for a credential and be elevated.
func (w *world) elevate(cred, who string) grant.Case {
	w.t.Helper()
	c, err := w.Request(w.t.Context(), engine.Ask{Credential: cred, Requester: who, Caller: who})
	must(w.t, err)
	c, err = w.RunJob(w.t.Context(), c.Forward().ID)
	must(w.t, err)
	if c.Grant.State != grant.Active {
		w.t.Fatalf("%s of %s is %s: %s\n%s", cred, who, c.Grant.State, c.Grant.Failure, w.logOf(c.Forward().Execution))
	}
	return c
}

// over ends a grant that has to be removed at once.
func (w *world) over(c grant.Case) grant.Case {
	w.t.Helper()
	c = w.end(c.Grant.ID)
	if r := c.Removal(); c.Grant.State != grant.Removed || !c.Grant.Receipt.Empty() {
		w.t.Fatalf("grant is %s; removal: %s %s blocked by %q; receipt %+v\n%s", c.Grant.State, r.State, r.LastError, r.BlockedBy, c.Grant.Receipt, w.logOf(r.Execution))
	}
	return c
}

// groups are those of erin, sorted.
func (w *world) groups() []string {
	w.t.Helper()
	out := strings.Fields(w.sh("id -nG erin"))
	slices.Sort(out)
	return out
}

func (w *world) wantGroups(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	if got := w.groups(); !slices.Equal(got, want) {
		w.t.Fatalf("groups of erin: %v, want %v", got, want)
	}
}

func TestAnElevationLastsAsLongAsItsGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, elevations("ops type:group_membership groups:[ops,dev]"))
	w.sh("useradd -m erin; groupadd ops; groupadd dev; usermod -aG ops plain")
	before := w.sh("cat /etc/group /etc/gshadow /etc/passwd")
	w.sh("su -s /bin/sh -c 'sleep 1000 >/dev/null 2>&1 &' erin")
	c := w.elevate("ops", "ada")
	w.wantGroups("dev", "erin", "ops")
	if _, s, err := w.Collect(t.Context(), c.Grant.ID, "ada"); err != nil || s.Account != "erin" || s.Password+s.PrivateKey != "" {
		t.Fatalf("collected %+v, %v", s, err)
	}
	c, err := w.Extend(t.Context(), c.Grant.ID, c.Grant.For, "ada")
	must(t, err)
	w.sh("su -s /bin/sh -c 'echo note > /tmp/note' erin") // what the account does is its own affair
	c = w.over(c)
	if after := w.sh("cat /etc/group /etc/gshadow /etc/passwd"); after != before {
		t.Fatalf("the account databases are not as before:\n%s\nnow:\n%s", before, after)
	}
	if out := w.sh("cat /tmp/note; pgrep -u erin sleep | wc -l"); out != "note\n1\n" {
		t.Fatalf("what the account did is gone: %q", out)
	}
	if got := c.Forward().Kind; got != grant.Elevate || c.Removal().Kind != grant.Revert {
		t.Fatalf("jobs %+v", c.Jobs)
	}
}

func TestWhoFindsAMembershipLeavesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, elevations("ops type:group_membership groups:[ops,dev]", "own type:elevate,elevate:linux-group groups:[ops]"))
	w.sh("useradd -m erin; groupadd ops; groupadd dev; usermod -aG dev erin")
	a := w.elevate("ops", "ada")
	b := w.elevate("own", "bob")
	a = w.over(a)
	w.wantGroups("dev", "erin", "ops")
	if held := strings.Join(a.Grant.Receipt.Held, ""); !strings.Contains(held, "ops/erin by "+b.Grant.ID) {
		t.Fatalf("the receipt does not say who keeps it: %+v", a.Grant.Receipt)
	}
	w.over(b)
	w.wantGroups("dev", "erin")
}

// An administrator who changes a group meanwhile is told of, and nothing keeps
// the grant from ending.
func TestWhatAnAdministratorChangedMeanwhileStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, elevations("ops type:group_membership groups:[ops,dev,old]"))
	for _, c := range []struct{ name, does, want, says string }{
		{"takes the member out", "gpasswd -d erin ops", "erin old", "member:ops/erin"},
		{"empties the group", "gpasswd -M '' ops", "erin old", "member:ops/erin"},
		{"removes the group", "groupdel ops", "erin old", "member:ops/erin"},
		{"takes out what was there before", "gpasswd -d erin old", "erin", ""},
	} {
		w.sh("userdel -r erin 2>/dev/null; groupdel ops; groupdel dev; groupdel old; useradd -m erin; groupadd ops; groupadd dev; groupadd old; usermod -aG old erin")
		g := w.elevate("ops", "ada")
		w.sh(c.does)
		g = w.over(g)
		w.wantGroups(strings.Fields(c.want)...)
		if said := strings.Join(g.Grant.Receipt.Conflicts, "\n"); !strings.Contains(said, c.says) || (c.says == "") != (said == "") {
			t.Errorf("%s: the receipt says %q", c.name, said)
		}
	}
}

// The name of the account is somebody else's by the end: that one keeps what it
// has, and the grant stays until somebody has looked at it.
func TestAnotherAccountOfTheNameIsNotTouched(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, elevations("ops type:group_membership groups:[ops]"))
	w.sh("useradd -m erin; groupadd ops")
	g := w.elevate("ops", "ada")
	w.sh("userdel -r erin; useradd -m -u 4321 -G ops erin")
	g = w.end(g.Grant.ID)
	w.wantGroups("erin", "ops")
	if r := g.Removal(); g.Grant.State != grant.Ending || !strings.Contains(r.BlockedBy, "member:ops/erin member uid=4321") {
		t.Fatalf("grant is %s, %+v", g.Grant.State, r)
	}
	w.sh("gpasswd -d erin ops") // that is the way out
	g, err := w.RunNow(t.Context(), *g.Removal(), "ada")
	must(t, err)
	if g.Grant.State != grant.Removed {
		t.Fatalf("grant is %s, %+v", g.Grant.State, g.Removal())
	}
}

func TestAnElevationThatCannotBeChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, elevations("ops type:group_membership groups:[ops,nothere]"))
	w.sh("groupadd ops")
	for _, prepare := range []string{"true", "useradd -m erin"} {
		w.sh(prepare)
		c, err := w.Request(t.Context(), engine.Ask{Credential: "ops", Requester: "ada", Caller: "ada"})
		must(t, err)
		c, err = w.RunJob(t.Context(), c.Forward().ID)
		must(t, err)
		if c, err = w.Remove(t.Context(), c); err != nil || !c.Grant.State.Final() || c.Grant.Failure == "" {
			t.Fatalf("grant is %s (%v): %q", c.Grant.State, err, c.Grant.Failure)
		}
	}
	w.wantGroups("erin")
}

// Whatever the order in which grants on one account begin and end, it has at any
// time what it had before and what the active ones give, and in the end exactly
// what it had before.
func TestOverlappingElevationsEndAsTheyBegan(t *testing.T) {
	t.Parallel()
	gives := map[string][]string{"one": {"ops"}, "two": {"ops", "dev"}, "three": {"dev", "old"}}
	w := newWorld(t, lab.Config{Name: "box"}, elevations("one type:group_membership groups:[ops]", "two type:group_membership groups:[ops,dev]", "three type:group_membership groups:[dev,old]"))
	w.sh("useradd -m erin; groupadd ops; groupadd dev; groupadd old; usermod -aG old erin; usermod -aG dev plain")
	before := w.sh("cat /etc/group /etc/gshadow /etc/passwd /etc/shadow")
	people := []string{"ada", "bob", "cyd", "dan", "eve", "fay"}
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 6))
		left := 2 + rng.IntN(5)
		var open []grant.Case
		for left+len(open) > 0 {
			if n := len(open); left > 0 && (n == 0 || rng.IntN(2) == 0) {
				left--
				open = append(open, w.elevate([]string{"one", "two", "three"}[rng.IntN(3)], people[left]))
			} else {
				i := rng.IntN(n)
				w.over(open[i])
				open = slices.Delete(open, i, i+1)
			}
			want := []string{"erin", "old"}
			for _, c := range open {
				want = append(want, gives[c.Grant.Credential]...)
			}
			slices.Sort(want)
			w.wantGroups(slices.Compact(want)...)
		}
		if after := w.sh("cat /etc/group /etc/gshadow /etc/passwd /etc/shadow"); after != before {
			t.Fatalf("seed %d: the account databases are not as before:\n%s\nnow:\n%s", seed, before, after)
		}
	}
}
