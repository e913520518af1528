package grant

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var t0 = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func fresh() Case {
	return New(Grant{
		ID: "g-1", Requester: "ada", Caller: "ada", Credential: "db", Device: "db1", Account: "jit-a", Creates: true, For: time.Hour,
		Plan: Plan{Longest: time.Minute},
	}, "j-f", "j-r", t0)
}

func claim(t *testing.T, c *Case, job string, at time.Time) Fence {
	t.Helper()
	f, err := c.Claim(job, "n1", "x-1", at)
	if err != nil {
		t.Fatalf("claim %s: %v", job, err)
	}
	return f
}

func active(t *testing.T) Case {
	t.Helper()
	c := fresh()
	if err := c.Activate(claim(t, &c, "j-f", t0), t0.Add(time.Second), []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheRemovalJobWaitsFromTheFirstMoment(t *testing.T) {
	t.Parallel()
	c := fresh()
	r := c.Removal()
	if r == nil || r.State != Waiting || !r.Due.Equal(t0.Add(CreationWindow)) {
		t.Fatalf("removal job is %+v", r)
	}
	if _, err := c.Claim("j-r", "n1", "x", t0); !errors.Is(err, ErrNotDue) {
		t.Fatalf("a removal that is not due was claimed: %v", err)
	}
}

func TestTheClockStartsAtActivation(t *testing.T) {
	t.Parallel()
	c := active(t)
	want := t0.Add(time.Second + time.Hour)
	if c.Grant.State != Active || !c.Grant.Expires.Equal(want) || !c.Removal().Due.Equal(want) {
		t.Fatalf("got %s until %v, removal due %v", c.Grant.State, c.Grant.Expires, c.Removal().Due)
	}
}

func TestAnInterruptedCreationIsRemovedAndLookedAtAgain(t *testing.T) {
	t.Parallel()
	c := fresh()
	f := claim(t, &c, "j-f", t0)
	if err := c.Interrupted(f, t0.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if c.Grant.State != Ending || c.Forward().State != JobCancelled || !c.Removal().Due.Equal(t0.Add(time.Minute)) {
		t.Fatalf("grant %s, forward %s, removal due %v", c.Grant.State, c.Forward().State, c.Removal().Due)
	}
	if err := c.Activate(f, t0.Add(2*time.Minute), nil); !errors.Is(err, ErrLeaseLost) {
		t.Fatalf("the dead worker could still activate: %v", err)
	}
	f = claim(t, &c, "j-r", t0.Add(time.Minute))
	empty := &Receipt{Left: []string{}, Missing: []string{}}
	if err := c.Removed(f, t0.Add(time.Minute+time.Second), t0.Add(time.Minute+time.Second), empty); err != nil {
		t.Fatal(err)
	}
	if c.Grant.State != Ending || c.Removal().State != Waiting {
		t.Fatalf("after one removal the grant is %s: what the dead worker started may still have been running", c.Grant.State)
	}
	f = claim(t, &c, "j-r", c.Removal().Due)
	if err := c.Removed(f, c.Removal().Due, c.Removal().Due, empty); err != nil {
		t.Fatal(err)
	}
	if c.Grant.State != Removed || c.Removal().State != Done {
		t.Fatalf("grant %s, removal %s", c.Grant.State, c.Removal().State)
	}
}

func TestAReceiptThatIsNotEmptyRemovesNothing(t *testing.T) {
	t.Parallel()
	c := active(t)
	if err := c.End(t0.Add(time.Minute), "ada", "end"); err != nil {
		t.Fatal(err)
	}
	f := claim(t, &c, "j-r", t0.Add(time.Minute))
	if err := c.Removed(f, t0.Add(2*time.Minute), t0.Add(2*time.Minute), &Receipt{Left: []string{"home\t/home/jit-a"}}); err == nil || c.Grant.State != Ending {
		t.Fatalf("err %v, grant %s", err, c.Grant.State)
	}
	if err := c.Removed(f, t0.Add(2*time.Minute), t0.Add(2*time.Minute), nil); err == nil {
		t.Fatal("a grant was removed without a receipt")
	}
}

func TestEndingDuringCreationNeverActivates(t *testing.T) {
	t.Parallel()
	c := fresh()
	f := claim(t, &c, "j-f", t0)
	if err := c.End(t0.Add(time.Second), "ada", "end"); err != nil {
		t.Fatal(err)
	}
	if err := c.Activate(f, t0.Add(2*time.Second), nil); err != nil {
		t.Fatal(err)
	}
	if c.Grant.State != Ending || !c.Removal().DueAt(t0.Add(2*time.Second)) {
		t.Fatalf("grant %s, removal %+v", c.Grant.State, c.Removal())
	}
}

func TestTheSecretIsHandedOutOnce(t *testing.T) {
	t.Parallel()
	c := fresh()
	c.Grant.Sealed = []byte("box")
	if _, err := c.Collect(t0, "ada"); err == nil {
		t.Fatal("a secret was handed out before activation")
	}
	if err := c.Activate(claim(t, &c, "j-f", t0), t0, nil); err != nil {
		t.Fatal(err)
	}
	if s, err := c.Collect(t0, "ada"); err != nil || string(s) != "box" {
		t.Fatalf("got %q, %v", s, err)
	}
	if s, err := c.Collect(t0, "ada"); err == nil || s != nil || c.Grant.Sealed != nil {
		t.Fatalf("handed out twice: %q, %v", s, err)
	}
}

func TestARemovalIsNeverCancelledAndPausesOnlyForAWhile(t *testing.T) {
	t.Parallel()
	c := active(t)
	if err := c.Pause("j-f", t0, t0.Add(time.Hour), "op"); err == nil {
		t.Fatal("a creation was paused")
	}
	if err := c.Pause("j-r", t0, t0, "op"); err == nil {
		t.Fatal("a pause without an end")
	}
	if err := c.Pause("j-r", t0, t0.Add(2*time.Hour), "op"); err != nil {
		t.Fatal(err)
	}
	if !c.Removal().DueAt(t0.Add(2 * time.Hour)) {
		t.Fatal("a pause that is over still holds the removal")
	}
}

func TestBackoffIsCappedAndNeverEnds(t *testing.T) {
	t.Parallel()
	last := time.Duration(0)
	for n := 1; n < 200; n++ {
		d := Backoff(n, 0)
		if d < last || d > time.Hour || Backoff(n, 0.999) < d*7/10 {
			t.Fatalf("attempt %d waits %v after %v", n, d, last)
		}
		last = d
	}
	if last != time.Hour {
		t.Fatalf("the cap is %v", last)
	}
}

func TestExtensionNeverPassesTheMaximum(t *testing.T) {
	t.Parallel()
	c := active(t)
	if _, err := c.Extension(8*time.Hour, 8*time.Hour); err == nil {
		t.Fatal("a grant of one hour was extended by eight, with eight as the most")
	}
	to, err := c.Extension(time.Hour, 8*time.Hour)
	if err != nil || !to.Equal(c.Grant.Expires.Add(time.Hour)) {
		t.Fatalf("got %v, %v", to, err)
	}
}

// Whatever happens in whatever order, a grant that may have left something on
// a device has a removal that will be tried, and only one job runs at a time.
func TestEveryHistoryKeepsItsRemoval(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c, now := fresh(), t0
		var fences []Fence
		sent := false
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1200).Draw(t, "s")) * time.Second)
			f := Fence{Job: "j-r", Attempt: 99}
			if len(fences) > 0 {
				f = fences[rapid.IntRange(0, len(fences)-1).Draw(t, "fence")]
			}
			forward := f.Job == "j-f"
			switch rapid.SampledFrom([]string{"create", "remove", "activate", "fail", "retry", "removed", "end", "expire", "die", "pause", "resume", "now", "yield", "extend"}).Draw(t, "op") {
			case "create":
				if f, err := c.Claim("j-f", "n1", "x", now); err == nil {
					fences, sent = append(fences, f), true
				}
			case "remove":
				if f, err := c.Claim("j-r", "n2", "x", now); err == nil {
					fences = append(fences, f)
				}
			case "activate":
				if forward {
					_ = c.Activate(f, now, nil)
				}
			case "fail":
				if forward {
					_ = c.Fail(f, now, "no", true, nil)
				}
			case "retry":
				if !forward {
					_ = c.Retry(f, now, "no", "x", nil, now.Add(Backoff(f.Attempt, 0.5)))
				}
			case "removed":
				if !forward {
					_ = c.Removed(f, now, now, &Receipt{})
				}
			case "end":
				_ = c.End(now, "ada", "end")
			case "expire":
				c.Expire(now)
			case "die":
				_ = c.Interrupted(f, now)
			case "pause":
				_ = c.Pause("j-r", now, now.Add(time.Minute), "op")
			case "resume":
				_ = c.Resume("j-r", now, "op")
			case "now":
				_ = c.RunNow("j-r", now, "op")
			case "yield":
				if !forward {
					_ = c.Yield(f, now)
				}
			case "extend":
				_ = c.AddRenew("j-x", now, "ada", now.Add(time.Hour))
				c.Jobs = c.Jobs[:2]
			}
			check(t, &c, sent)
		}
	})
}

func check(t *rapid.T, c *Case, sent bool) {
	running := 0
	for _, j := range c.Jobs {
		if j.State == Running {
			running++
		}
		if (j.State == Running) != (j.Node != "") {
			t.Fatalf("job %s is %s on node %q", j.ID, j.State, j.Node)
		}
	}
	if running > 1 {
		t.Fatal("two jobs of one grant run at once")
	}
	r := c.Removal()
	switch s := c.Grant.State; {
	case s == Removed:
		if r.State != Done || !c.Grant.Receipt.Empty() {
			t.Fatalf("removed with the removal %s and receipt %+v", r.State, c.Grant.Receipt)
		}
	case s.Final():
		if sent {
			t.Fatalf("a grant that may have left something is %s", s)
		}
	case r.State != Waiting && r.State != Running && r.State != Paused:
		t.Fatalf("grant %s has its removal %s", s, r.State)
	}
	if c.Grant.State == Ending && r.State == Waiting && r.Attempt == 0 && r.Due.After(c.Grant.Ended) && r.Due.After(c.Grant.Expires) {
		t.Fatalf("the removal of an ended grant is due only at %v", r.Due)
	}
}
