package grant

import (
	"errors"
	"strings"
	"testing"
	"time"
)

var removalID = NewID("g", t0, [10]byte{1, 2, 3})

func TestMarksAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	until := time.Date(2026, 11, 21, 13, 20, 0, 0, time.UTC)
	for text, want := range map[string]Mark{
		"runner " + removalID:                                  {Grant: removalID},
		"runner " + removalID + " until 20261121T132000Z":      {removalID, until},
		"runner " + removalID + " until 20261121T132000Z of q": {removalID, until},
		"runner " + removalID + " until tomorrow":              {Grant: removalID},
		"runner " + removalID + " and more":                    {Grant: removalID},
	} {
		if m, is := MarkOf(text); !is || m.Grant != want.Grant || !m.Until.Equal(want.Until) {
			t.Errorf("%q: %+v, %v; want %+v", text, m, is, want)
		}
	}
	for _, text := range []string{
		"", "runner", "runner ", "runner g-1", "a runner " + removalID, "runner " + strings.ToUpper(removalID), "runner " + removalID + "x", "runner j-" + removalID[2:],
		"runner g-" + strings.Repeat("a", 26), "runner " + removalID[:27] + "!", "runner\t" + removalID,
	} {
		if m, is := MarkOf(text); is {
			t.Errorf("%q is taken for the mark %+v", text, m)
		}
	}
	if at, is := IDTime(removalID); !is || !at.Equal(t0) {
		t.Errorf("the id was made at %v, %v", at, is)
	}
}

func found(expires time.Time) Case {
	return Adopt(Grant{
		ID: removalID, Requester: "(unknown)", Caller: "ops", Credential: "db", Device: "db1", Account: "jit-a", Origin: Adopted, Expires: expires,
		Plan: Plan{Longest: time.Minute},
	}, "j-r", t0, "ops", "mark", "m")
}

func TestAnAdoptedAccountHasARemovalAndNothingElse(t *testing.T) {
	t.Parallel()
	c := found(t0.Add(time.Hour))
	if c.Grant.State != Active || !c.Removal().Due.Equal(t0.Add(time.Hour)) || c.Forward() != nil || len(c.Events) != 1 || c.Events[0].Action != "grant.adopted" || c.Events[0].Detail["mark"] != "m" {
		t.Fatalf("%+v", c)
	}
	if _, err := c.Extension(time.Minute, 8*time.Hour); err == nil || !strings.Contains(err.Error(), "adopted") {
		t.Errorf("it can be extended: %v", err)
	}
	if over := found(t0); over.Grant.State != Ending || !over.Removal().DueAt(t0) || over.Grant.EndedBy != "expire" {
		t.Errorf("one that is over is %s, removal due %v", over.Grant.State, over.Removal().Due)
	}
}

func TestALockIsRetriedUntilTheRemovalTakesOver(t *testing.T) {
	t.Parallel()
	c := found(t0.Add(time.Hour))
	c.AddLock("j-l", t0)
	f := claim(t, &c, "j-l", t0)
	if c.Locking() == nil || c.Grant.State != Active {
		t.Fatalf("%+v", c)
	}
	if err := c.Retry(f, t0.Add(time.Second), "no", "network", nil, t0.Add(6*time.Second)); err != nil {
		t.Fatal(err)
	}
	due := c.Job("j-l").Due
	f = claim(t, &c, "j-l", due)
	if err := c.Interrupted(f, due); err != nil || c.Job("j-l").State != Waiting || c.Grant.State != Active || !c.Removal().Due.Equal(t0.Add(time.Hour)) {
		t.Fatalf("a worker that died: %v %+v", err, c)
	}
	f = claim(t, &c, "j-l", due)
	if err := c.Locked(f, due, due); err != nil || c.Locking() != nil || !c.Grant.NoAccess.Equal(due) || c.Job("j-l").LastError != "" {
		t.Fatalf("%v %+v", err, c)
	}
	if err := c.Locked(f, due, due); !errors.Is(err, ErrLeaseLost) {
		t.Fatalf("locked twice: %v", err)
	}
	c = found(t0.Add(time.Hour))
	c.AddLock("j-l", t0)
	if !c.Expire(t0.Add(time.Hour)) || c.Job("j-l").State != JobCancelled || !c.Removal().DueAt(t0.Add(time.Hour)) {
		t.Errorf("a lock is left beside a removal: %+v", c.Jobs)
	}
}

func TestWhatReturnsIsRemovedAgain(t *testing.T) {
	t.Parallel()
	c := active(t)
	if err := c.Reopen(t0, "ops", "x"); err == nil {
		t.Fatal("an active grant was taken up again")
	}
	if err := c.Retire(t0.Add(time.Minute), "ops", "burnt down"); err != nil || c.Grant.State != Gone || c.Removal().State != Done || c.Grant.Receipt.Gone != "burnt down" || c.Grant.EndedBy != "gone" {
		t.Fatalf("%v %+v", err, c)
	}
	if err := c.Retire(t0, "ops", "x"); err == nil {
		t.Fatal("retired twice")
	}
	now := t0.Add(time.Hour)
	if err := c.Reopen(now, "ops", "it answers again"); err != nil || c.Grant.State != Ending || !c.Removal().DueAt(now) || c.Grant.Receipt.Gone != "" || c.Grant.Origin != Returned {
		t.Fatalf("%v %+v", err, c)
	}
	f := claim(t, &c, "j-r", now)
	if err := c.Retire(now, "ops", "x"); err == nil {
		t.Fatal("retired while its removal runs")
	}
	if err := c.Removed(f, now, now, &Receipt{Left: []string{}, Missing: []string{}}); err != nil || c.Grant.State != Removed || !c.Grant.NoTrace.Equal(now) {
		t.Fatalf("%v %+v", err, c)
	}
	d := fresh()
	if err := d.Retire(t0, "ops", "x"); err != nil || d.Grant.State != Cancelled || d.Removal().State != JobCancelled {
		t.Errorf("a request: %v %+v", err, d)
	}
}
