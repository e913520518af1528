package engine_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/lab"
)

// ends are the moments at which the device itself ends the access of a grant, as it
// says them: account, key, sudo rule, and the two marks.
func (w *world) ends(g *grant.Grant) map[string]string {
	w.t.Helper()
	out := map[string]string{}
	for what, script := range map[string]string{
		"account": "getent shadow " + g.Account + " | cut -d: -f8",
		"key":     "sed -n 's/.*expiry-time=\"\\([0-9]*\\)Z\".* runner-" + g.ID + "$/\\1/p' /home/" + g.Account + "/.ssh/authorized_keys",
		"rule":    "sed -n 's/.*NOTAFTER=\\([0-9]*\\)Z .*/\\1/p' /etc/sudoers.d/runner-" + g.Account,
		"mark":    "getent passwd " + g.Account + " | sed -n 's/.*:runner " + g.ID + " until \\([0-9]*\\)T\\([0-9]*\\)Z[: ].*/\\1\\2/p'",
		"note":    "sed -n 's/^# runner " + g.ID + " until \\([0-9]*\\)T\\([0-9]*\\)Z$/\\1\\2/p' /etc/sudoers.d/runner-" + g.Account,
	} {
		out[what] = strings.TrimSpace(w.sh(script))
	}
	return out
}

// endsAt fails unless the device ends everything at the backstop, by its own clock.
func (w *world) endsAt(g *grant.Grant, skew time.Duration) {
	w.t.Helper()
	said := w.ends(g)
	for _, what := range []string{"key", "rule", "mark", "note"} {
		at, err := time.Parse("20060102150405", said[what])
		if err != nil || at.Sub(g.Backstop.Add(skew)).Abs() > 3*time.Second {
			w.t.Errorf("%s ends at %s on the device, want %v (%v)", what, said[what], g.Backstop.Add(skew), err)
		}
	}
	until := g.Backstop.Add(skew)
	if day := strconv.FormatInt((until.Unix()+86399)/86400, 10); said["account"] != day {
		w.t.Errorf("the account ends on day %s, want %s", said["account"], day)
	}
}

// An extension moves everything by which the device ends the access itself, in the
// device's clock; a device that cannot be reached refuses it.
func TestAnExtensionMovesEverythingThatEndsByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, func(s string) string {
		return s + "params: {sudo: 'ALL=(ALL) NOPASSWD: /usr/bin/id', comment: of ops}\n"
	})
	ahead := 4 * time.Minute // of the device's clock
	w.now = func() time.Time { return time.Now().Add(ahead) }
	c := w.active("ada", nil)
	w.endsAt(&c.Grant, -ahead)
	if !strings.Contains(w.sh("getent passwd "+c.Grant.Account), "Z of ops:") {
		t.Error("the comment is lost")
	}
	was := c.Grant.Backstop
	c, err := w.Extend(t.Context(), c.Grant.ID, time.Hour, "ada")
	must(t, err)
	if !c.Grant.Backstop.Equal(c.Grant.Expires.Add(15*time.Minute)) || !c.Grant.Backstop.After(was) {
		t.Fatalf("backstop %v, was %v, expires %v", c.Grant.Backstop, was, c.Grant.Expires)
	}
	w.endsAt(&c.Grant, -ahead)
	w.finds()

	before := c.Grant
	must(t, w.box.Stop())
	if _, err := w.Extend(t.Context(), c.Grant.ID, time.Minute, "ada"); err == nil || !strings.Contains(err.Error(), "not extended: ") {
		t.Fatalf("extended without the device: %v", err)
	}
	c, err = w.store.Case(t.Context(), c.Grant.ID)
	must(t, err)
	if !c.Grant.Expires.Equal(before.Expires) || !c.Removal().Due.Equal(before.Expires) || !c.Grant.Backstop.Equal(before.Backstop) {
		t.Fatalf("%+v, was %+v", c.Grant, before)
	}
}

// However late a creation begins and however long it takes, the device never ends
// an access before the grant does.
func TestTheDeviceNeverEndsAGrantEarly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, func(s string) string { return strings.Replace(s, "duration: 1h,", "duration: 1h, margin: 1s,", 1) })
	var later time.Duration
	w.now = func() time.Time { return time.Now().Add(later) }
	c, err := w.Request(t.Context(), engine.Ask{Credential: "admin", Requester: "ada", Caller: "ops", Operator: true, GenerateKey: true})
	must(t, err)
	later = grant.CreationWindow - 20*time.Second
	w.Progress = func(p engine.Progress) {
		if strings.HasPrefix(p.Text, "proving") {
			later = 2*grant.CreationWindow - 30*time.Second
		}
	}
	c, err = w.RunJob(t.Context(), c.Forward().ID)
	must(t, err)
	if c.Grant.State != grant.Active || c.Grant.Backstop.Before(c.Grant.Expires.Add(time.Second)) {
		t.Fatalf("%s: expires %v, and the device ends it at %v (%s)", c.Grant.State, c.Grant.Expires, c.Grant.Backstop, c.Grant.Failure)
	}
}
