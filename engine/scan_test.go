package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/lab"
)

// other is a process with an empty store on the inventory of w: another runner, or
// this one after it lost its state.
func (w *world) other() *world {
	w.t.Helper()
	dir := w.t.TempDir()
	must(w.t, os.CopyFS(filepath.Join(dir, "inventories"), os.DirFS(filepath.Join(w.dir, "inventories"))))
	return openWorld(w.t, w.box, dir)
}

// scan looks at the machine. What was found is "what object: why".
func (w *world) scan() (*engine.Scan, []string) {
	w.t.Helper()
	s, err := w.ScanDevice(w.t.Context(), "box", "")
	must(w.t, err)
	var found []string
	for _, f := range s.Findings {
		found = append(found, f.What+" "+f.Object+": "+strings.Join(f.Why, "; "))
	}
	return s, found
}

// finds fails unless a scan finds exactly what is wanted, each a beginning and a
// word that is in it, with a bar between.
func (w *world) finds(wants ...string) *engine.Scan {
	w.t.Helper()
	s, found := w.scan()
	for i, want := range wants {
		start, in, _ := strings.Cut(want, "|")
		if i >= len(found) || !strings.HasPrefix(found[i], start) || !strings.Contains(found[i], in) {
			w.t.Fatalf("the scan finds\n%s\nwant number %d to be %q", strings.Join(found, "\n"), i+1, want)
		}
	}
	if len(found) != len(wants) {
		w.t.Fatalf("the scan finds\n%s\nwant %d", strings.Join(found, "\n"), len(wants))
	}
	return s
}

func TestAScanFindsWhatOthersChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, func(s string) string {
		return s + "params: {sudo: 'ALL=(ALL) NOPASSWD: /usr/bin/id', groups: [ops]}\n"
	})
	w.sh("groupadd ops; groupadd wheel; useradd erin")
	c := w.active("ada", nil)
	a := c.Grant.Account
	before := w.sh("cat /etc/passwd /etc/shadow /etc/group; ls -lR /etc/sudoers.d")
	if s := w.finds(); s.OK != 1 || s.Marked != 3 || s.Peer.Identity == "" {
		t.Fatalf("%+v", s)
	}
	if now := w.sh("cat /etc/passwd /etc/shadow /etc/group; ls -lR /etc/sudoers.d"); now != before {
		t.Fatal("the scan changed something")
	}
	for _, change := range []struct{ by, want, back string }{
		{"gpasswd -a " + a + " wheel", "changed account " + a + "|put it into wheel", "gpasswd -d " + a + " wheel"},
		{"gpasswd -d " + a + " ops", "changed account|not in ops any more", "gpasswd -a " + a + " ops"},
		{"gpasswd -a erin " + a, "changed account|there is erin", "gpasswd -d erin " + a},
		{"usermod -s /usr/sbin/nologin " + a, "changed account|its shell is /usr/sbin/nologin", "usermod -s /bin/bash " + a},
		{"usermod -L " + a, "changed account|somebody locked it", "sed -i 's/^" + a + ":!/" + a + ":/' /etc/shadow"},
		{"cp -p /etc/shadow /root/shadow; usermod -e '' " + a, "changed account|does not expire by itself", "mv /root/shadow /etc/shadow"},
		{"cp -p /etc/passwd /root/passwd; usermod -c '' " + a, "changed account|mark was taken away", "mv /root/passwd /etc/passwd"},
		{"cp -p /etc/passwd /root/passwd; sed -i 's/^" + a + ":x:[0-9]*:/" + a + ":x:4711:/' /etc/passwd", "changed account|its uid is 4711, not", "mv /root/passwd /etc/passwd"},
		{"cp -a /etc/sudoers.d/runner-" + a + " /etc/sudoers.d/copy; sed -i 's/" + a + " /erin /' /etc/sudoers.d/copy", "stray sudoers copy|it is for erin", "rm /etc/sudoers.d/copy"},
		{"mkdir -p /root/.ssh; cat /home/" + a + "/.ssh/authorized_keys >>/root/.ssh/authorized_keys", "stray key /root/.ssh/authorized_keys|whose account is " + a, "sed -i /runner-g-/d /root/.ssh/authorized_keys"},
		{"printf 'x:x:70999:70999::/nonexistent:/bin/sh\\n' >>/etc/passwd", "unmarked account x|one that runner gives", "sed -i '/^x:x:/d' /etc/passwd"},
	} {
		w.sh(change.by)
		w.finds(change.want)
		w.sh(change.back)
	}
	w.sh("mkdir /root/etc; cp -p /etc/passwd /etc/shadow /etc/group /etc/gshadow /root/etc; usermod -l renamed " + a)
	w.finds("changed account renamed|has the name renamed now", "stray sudoers runner-"+a+"|whose account is renamed")
	w.sh("mv /root/etc/* /etc")
	w.finds()
	w.sh("sed -i '/^" + a + ":/d' /etc/passwd")
	w.finds("missing account "+a+"|is active until", "stray sudoers runner-"+a+"|is not there")
	c = w.end(c.Grant.ID)
	w.gone(c)
	w.finds()
}

func TestAnUnknownAccountIsAdoptedAndRemovedWhenItsMarkSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	lost := w.active("ada", map[string]any{"sudo": "ALL=(ALL) NOPASSWD: /usr/bin/id"})
	kept := w.active("bob", nil)
	a, id := lost.Grant.Account, lost.Grant.ID
	w.sh("useradd -m erin; useradd -m -c 'runner g-1 of erin' eve")
	strangers := w.sh("grep -e '^erin' -e '^eve' /etc/passwd /etc/shadow; ls -d /home/e*")
	n := w.other()
	s := n.finds("unknown account |does not know", "unknown account |does not know")
	for _, f := range s.Findings {
		if f.Expired || f.Until.Sub(kept.Grant.Backstop).Abs() > 5*time.Second {
			t.Errorf("%s until %v, want %v", f.Object, f.Until, kept.Grant.Backstop)
		}
	}
	adopt := func(object string, quarantine time.Duration) (grant.Case, error) {
		return n.Adopt(t.Context(), engine.Decision{Device: "box", Object: object, Actor: "ops", Reason: "lost", Quarantine: quarantine})
	}
	for object, want := range map[string]string{"erin": "does not find \"erin\"", "eve": "does not find", "g-": "could be"} {
		if _, err := adopt(object, 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", object, err, want)
		}
	}
	c, err := adopt(a, 0)
	must(t, err)
	if c.Grant.ID != id || c.Grant.State != grant.Active || c.Grant.UID != lost.Grant.UID || c.Grant.Expires.Before(lost.Grant.Expires) || c.Grant.Expires.After(lost.Grant.Backstop) || c.Grant.Origin != grant.Adopted {
		t.Fatalf("adopted as %+v, was %+v", c.Grant, lost.Grant)
	}
	n.finds("unknown account " + kept.Grant.Account)
	if _, err := adopt(a, 0); err == nil {
		t.Error("adopted twice")
	}
	if _, err := n.Extend(t.Context(), id, time.Minute, "ops"); err == nil || !strings.Contains(err.Error(), "cannot be extended") {
		t.Errorf("extended: %v", err)
	}
	n.now = func() time.Time { return c.Grant.Expires.Add(time.Second) }
	swept, err := n.Sweep(t.Context())
	must(t, err)
	if len(swept.Removed) != 1 || len(swept.Open) != 0 {
		t.Fatalf("%+v", swept)
	}
	n.gone(swept.Removed[0])
	n.now = time.Now

	// The other one is locked now and deleted later, by whoever sweeps then.
	c, err = adopt(kept.Grant.ID[:20], 48*time.Hour)
	must(t, err)
	c, err = n.RunDue(t.Context(), c)
	must(t, err)
	if c.Grant.State != grant.Active || c.Grant.NoAccess.IsZero() || c.Locking() != nil || !strings.Contains(w.sh("passwd -S "+kept.Grant.Account), " L ") {
		t.Fatalf("in quarantine: %+v\n%s", c, n.logOf(c.Jobs[1].Execution))
	}
	n.finds()
	n.sh("usermod -p '$6$x$y' " + kept.Grant.Account)
	n.finds("changed account |is open again")
	n.now = func() time.Time { return time.Now().Add(49 * time.Hour) }
	swept, err = n.Sweep(t.Context())
	must(t, err)
	if len(swept.Removed) != 1 {
		t.Fatalf("%+v", swept)
	}
	n.gone(swept.Removed[0])
	if now := w.sh("grep -e '^erin' -e '^eve' /etc/passwd /etc/shadow; ls -d /home/e*"); now != strangers {
		t.Errorf("strangers were\n%s\nand are\n%s", strangers, now)
	}
	events, err := n.store.Audit(t.Context(), kept.Grant.ID)
	must(t, err)
	if !slices.ContainsFunc(events, func(e grant.Event) bool {
		return e.Action == "grant.quarantined" && e.Actor == "ops" && e.Detail["reason"] == "lost"
	}) {
		t.Errorf("audit: %+v", events)
	}
}

// A store that was lost is rebuilt from the devices: what is valid stays as long as
// it may, what is over goes; nothing happens before a person has said how much.
func TestALostStoreIsRebuiltFromTheDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	var cases []grant.Case
	for _, who := range []string{"ada", "bob", "eve"} {
		cases = append(cases, w.active(who, nil))
	}
	over, kept, late := cases[0], cases[1], cases[2]
	// One is over by its mark; one was extended after the store was copied.
	w.sh("sed -i 's/until 2[0-9]*T/until 20200101T/' /etc/passwd; sed -i 's/^\\(" + kept.Grant.Account + ":.*\\|" + late.Grant.Account + ":.*\\)until [0-9]*T/\\1until " + kept.Grant.Backstop.UTC().Format("20060102T") + "/' /etc/passwd")
	w.sh("useradd -u 4321 -c 'runner " + grant.NewID("g", time.Now(), [10]byte{1}) + " until 20200101T000000Z' stranger")
	n := w.other()
	rebuild := func(yes int) (engine.Rebuilt, error) {
		s, err := n.ScanDevice(t.Context(), "box", "")
		s.Err = err
		return n.Rebuild(t.Context(), []*engine.Scan{s}, yes, "ops", "disk lost")
	}
	for _, yes := range []int{0, 2, 4} {
		out, err := rebuild(yes)
		f, is := errors.AsType[*engine.FuseError](err)
		if !is || f.Count != 3 || f.Now != 1 || len(f.Would) != 3 || len(out.Taken) != 0 || len(out.Left) != 1 || !strings.Contains(out.Left[0].Why, "4321 is outside") {
			t.Fatalf("yes %d: %v, %+v", yes, err, out)
		}
		if cs, err := n.store.Cases(t.Context(), grant.Filter{}); err != nil || len(cs) != 0 {
			t.Fatalf("the fuse stopped it, and there is %v %v", cs, err)
		}
	}
	out, err := rebuild(3)
	must(t, err)
	if len(out.Taken) != 3 || len(out.Left) != 1 {
		t.Fatalf("%+v", out)
	}
	if out, err = rebuild(0); err != nil || len(out.Taken) != 0 {
		t.Fatalf("rebuilt twice: %v %+v", err, out)
	}
	swept, err := n.Sweep(t.Context())
	must(t, err)
	if len(swept.Removed) != 1 || swept.Removed[0].Grant.ID != over.Grant.ID || swept.Waiting != 2 {
		t.Fatalf("%+v", swept)
	}
	n.gone(swept.Removed[0])
	for _, c := range []grant.Case{kept, late} {
		if c = n.end(c.Grant.ID); c.Grant.Origin != grant.Rebuilt {
			t.Errorf("%+v", c.Grant)
		}
		n.gone(c)
	}
	if w.sh("id -u stranger") != "4321\n" {
		t.Error("a stranger is gone")
	}
}

// A snapshot brings back an account that was removed: it is removed again. And a
// store that is older than the devices asks before it acts.
func TestWhatASnapshotBringsBackIsRemovedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	c := w.active("ada", nil)
	w.sh("mkdir /root/snap; cp -p /etc/passwd /etc/shadow /etc/group /etc/gshadow /root/snap; cp -a /home/" + c.Grant.Account + " /root/home")
	w.gone(w.end(c.Grant.ID))
	w.finds()
	w.sh("cp -p /root/snap/* /etc; cp -a /root/home /home/" + c.Grant.Account)
	s := w.finds("returned account " + c.Grant.Account + "|is removed since")
	if _, err := w.Adopt(t.Context(), engine.Decision{Device: "box", Object: c.Grant.Account, Actor: "ops", Quarantine: time.Hour}); err == nil {
		t.Error("in quarantine")
	}
	// Its requester may have a new one meanwhile.
	again := w.active("ada", nil)
	_, err := w.Rebuild(t.Context(), []*engine.Scan{s}, 0, "ops", "")
	if f, is := errors.AsType[*engine.FuseError](err); !is || f.Count != 1 || f.Now != 1 {
		t.Fatalf("%v", err)
	}
	// Among many it would not ask, but for a store that was put back to a backup.
	many := *s
	many.Marked = 1000
	must(t, w.store.Mark(t.Context(), grant.MarkRestored, w.Now()))
	_, err = w.Rebuild(t.Context(), []*engine.Scan{&many}, 0, "ops", "")
	if f, is := errors.AsType[*engine.FuseError](err); !is || !strings.Contains(f.Error(), "this store was put back to a backup at 20") {
		t.Fatalf("%v", err)
	}
	must(t, w.store.Mark(t.Context(), engine.MarkRebuilt, w.Now().Add(time.Millisecond)))
	if out, err := w.Rebuild(t.Context(), []*engine.Scan{{Device: "box", Marked: 1000}}, 0, "ops", ""); err != nil || len(out.Taken) != 0 {
		t.Fatalf("%v %+v", err, out)
	}
	back, err := w.Adopt(t.Context(), engine.Decision{Device: "box", Object: c.Grant.ID, Actor: "ops"})
	must(t, err)
	if back.Grant.State != grant.Ending || back.Grant.ID != c.Grant.ID {
		t.Fatalf("%+v", back.Grant)
	}
	back, err = w.RunDue(t.Context(), back)
	must(t, err)
	w.gone(back)
	w.finds()
	// An extension that the store has forgotten.
	older := again.Grant.Expires
	c, err = w.Extend(t.Context(), again.Grant.ID, time.Hour, "ops")
	must(t, err)
	must(t, w.store.Change(t.Context(), c.Grant.ID, func(c *grant.Case) error {
		c.Grant.Expires, c.Grant.Backstop = older, again.Grant.Backstop
		return nil
	}))
	if s := w.finds("changed account|may be older than the device"); !s.Newer {
		t.Error("it is not noticed that the store is older")
	}
}

// A device that is gone takes its grants along; one that is not cannot be retired.
func TestADeviceIsRetiredOnlyWhenItIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	c := w.active("ada", nil)
	retire := func(e *world, reason string) ([]grant.Case, error) {
		return e.Retire(t.Context(), engine.Decision{Device: "box", Actor: "ops", Reason: reason})
	}
	for reason, want := range map[string]string{"": "--reason", "scrapped": "as it did"} {
		if _, err := retire(w, reason); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", reason, err)
		}
	}
	if got, err := w.store.Case(t.Context(), c.Grant.ID); err != nil || got.Grant.Receipt.Peer == "" || got.Grant.Receipt.Machine != strings.TrimSpace(w.sh("cat /etc/machine-id 2>/dev/null || true")) {
		t.Fatalf("nothing says which machine it was: %+v %v", got.Grant.Receipt, err)
	}
	// Another machine is at its place, as the inventory knows.
	other := newWorld(t, lab.Config{Name: "box2"}, nil)
	text, err := os.ReadFile(filepath.Join(other.dir, "inventories", "all.yaml"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(w.dir, "inventories", "all.yaml"), text, 0o600))
	moves := func(from, to int) {
		must(t, w.store.Change(t.Context(), c.Grant.ID, func(c *grant.Case) error {
			c.Grant.Plan.Connection = []byte(strings.ReplaceAll(string(c.Grant.Plan.Connection), `"port":`+strconv.Itoa(from), `"port":`+strconv.Itoa(to)))
			return nil
		}))
	}
	moves(w.box.Port, other.box.Port)
	now := openWorld(t, w.box, w.dir)
	other.sh("groupadd " + c.Grant.Account)
	if _, err := retire(now, "installed anew"); err == nil || !strings.Contains(err.Error(), "still bears group "+c.Grant.Account) {
		t.Fatalf("%v", err)
	}
	other.sh("groupdel " + c.Grant.Account)
	other.sh("mv /etc/machine-id /root; echo 0123 >/etc/machine-id")
	gone, err := retire(now, "installed anew")
	must(t, err)
	if len(gone) != 1 || gone[0].Grant.State != grant.Gone || !strings.Contains(gone[0].Grant.Receipt.Gone, "installed anew; another machine answers") || !strings.Contains(gone[0].Grant.Receipt.Gone, "machine 0123") {
		t.Fatalf("%+v", gone[0].Grant.Receipt)
	}
	if _, err := retire(now, "again"); err == nil {
		t.Error("retired twice")
	}
	// The first one is found in the cellar and put back: whoever works there next
	// has the account removed.
	moves(other.box.Port, w.box.Port)
	w.active("bob", nil)
	back, err := w.store.Case(t.Context(), c.Grant.ID)
	must(t, err)
	if back.Grant.State != grant.Ending || back.Grant.Origin != grant.Returned {
		t.Fatalf("%+v", back.Grant)
	}
	back, err = w.Remove(t.Context(), back)
	must(t, err)
	w.gone(back)
}

// The sudo rule of an elevation is known by its mark; what a snapshot brings back of
// one is taken away again.
func TestAScanKnowsTheRulesOfElevations(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, elevations("root type:elevate,elevate:linux-sudo commands:[/usr/bin/id]"))
	w.sh("useradd -m erin")
	c := w.elevate("root", "ada")
	if s := w.finds(); s.OK != 1 || s.Marked != 1 {
		t.Fatalf("%+v", s)
	}
	rule := "/etc/sudoers.d/runner-" + c.Grant.ID
	w.sh("cp -p " + rule + " /root/rule; sed -i 's/^erin /plain /' " + rule)
	w.finds("stray sudoers|whose account is erin, and it is for plain")
	w.sh("cp -p /root/rule " + rule)
	w.over(c)
	w.finds()
	w.sh("cp -p /root/rule " + rule)
	w.finds("returned sudoers|is removed since")
	back, err := w.Adopt(t.Context(), engine.Decision{Device: "box", Object: c.Grant.ID, Actor: "ops"})
	must(t, err)
	back, err = w.RunDue(t.Context(), back)
	must(t, err)
	if back.Grant.State != grant.Removed {
		t.Fatalf("%+v", back)
	}
	w.finds()
	w.sh("test ! -e " + rule + " && id erin")
}
