package engine_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"runner/engine/grant"
	"runner/engine/store"
)

// serving runs Serve while f runs, in virtual time.
func serving(t *testing.T, f *fleet, slots int, during func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Serve(ctx, slots, time.Minute) }()
	during()
	stop()
	must(t, <-done)
}

// open returns the grants that are not removed.
func (f *fleet) open(t *testing.T, device string) []grant.Case {
	t.Helper()
	cs, err := f.Store.Cases(t.Context(), grant.Filter{Device: device, States: []string{"requested", "creating", "active", "ending"}, Limit: 1 << 20})
	must(t, err)
	return cs
}

// until waits for something to become true, and returns how long that took.
func until(t *testing.T, most time.Duration, is func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !is() {
		if time.Since(begin) > most {
			t.Fatalf("not within %s", most)
		}
		<-time.After(50 * time.Millisecond)
	}
	return time.Since(begin)
}

func TestADeadDeviceDoesNotHoldUpTheRest(t *testing.T) {
	t.Parallel()
	f := newFleet(t, store.NewMemory(), 6, "")
	synctest.Test(t, func(t *testing.T) {
		for who := range 30 {
			f.made(t, 0, who, time.Minute)
		}
		for who := range 20 {
			f.made(t, 1+who%5, who, time.Minute)
		}
		<-time.After(2 * time.Minute)
		f.devices.mute["d0"] = 15 * time.Second
		f.devices.takes[""] = 100 * time.Millisecond
		asked := f.devices.asked("d0")
		serving(t, f, 2, func() {
			until(t, 5*time.Second, func() bool { return len(f.open(t, "d1"))+len(f.open(t, "d2"))+len(f.open(t, "d5")) == 0 })
			<-time.After(10 * time.Minute)
			if n := f.devices.asked("d0") - asked; n < 3 || n > 10 {
				t.Errorf("in ten minutes a dead device was asked %d times", n)
			}
			if n := len(f.open(t, "d0")); n != 30 {
				t.Errorf("%d of 30 grants are open", n)
			}
			list, err := f.Store.Silences(t.Context())
			must(t, err)
			if len(list) != 1 || list[0].Device != "d0" || list[0].Since.After(time.Now().Add(-9*time.Minute)) {
				t.Errorf("%+v", list)
			}
			delete(f.devices.mute, "d0")
			until(t, 20*time.Minute, func() bool { return len(f.open(t, "d0")) == 0 })
			list, err = f.Store.Silences(t.Context())
			must(t, err)
			if len(list) != 0 {
				t.Errorf("it answers, and still: %+v", list)
			}
		})
	})
}

// What waited for a device that did not answer begins when it does, for whomever, and
// the attempts in vain do not count when something else is in the way then.
func TestADeviceThatIsBackGetsWhatWaitedForIt(t *testing.T) {
	t.Parallel()
	f := newFleet(t, store.NewMemory(), 1, "")
	synctest.Test(t, func(t *testing.T) {
		var cs []grant.Case
		for who := range 3 {
			cs = append(cs, f.made(t, 0, who, time.Minute))
		}
		<-time.After(2 * time.Minute)
		f.devices.mute["d0"] = 15 * time.Second
		serving(t, f, 4, func() {
			<-time.After(4 * time.Hour)
			missed := 0
			for _, c := range f.open(t, "d0") {
				missed += c.Removal().Missed
			}
			if list, err := f.Store.Silences(t.Context()); err != nil || len(list) != 1 || missed != list[0].Missed || missed < 15 {
				t.Fatalf("missed %d times, %+v, %v", missed, list, err)
			}
			delete(f.devices.mute, "d0")
			f.devices.cut["d0"] = true
			f.ask(t, 0, 100, time.Hour) // a person asks for an account there
			until(t, 5*time.Second, func() bool {
				for _, c := range cs {
					now, err := f.Store.Case(t.Context(), c.Grant.ID)
					must(t, err)
					if r := now.Removal(); r.Tried() == 0 || r.State == grant.Running {
						return false
					}
				}
				return true
			})
			for _, c := range f.open(t, "d0") {
				if r := c.Removal(); r.Tried() > 0 && time.Until(r.Due) > 10*time.Second*time.Duration(r.Tried()) {
					t.Errorf("tried %d times of %d, and next in %s", r.Tried(), r.Attempt, time.Until(r.Due))
				}
			}
			delete(f.devices.cut, "d0")
			until(t, 20*time.Second, func() bool {
				cs, err := f.Store.Cases(t.Context(), grant.Filter{States: []string{"removed"}})
				must(t, err)
				return len(cs) == 3
			})
		})
	})
}

func TestARackThatDiesDoesNotHoldUpTheRest(t *testing.T) {
	t.Parallel()
	f := newFleet(t, store.NewMemory(), 40, "")
	synctest.Test(t, func(t *testing.T) {
		for n := range 40 {
			f.made(t, n, n, time.Minute)
			if n < 30 {
				f.devices.mute[fmt.Sprint("d", n)] = 15 * time.Second
			}
		}
		<-time.After(2 * time.Minute)
		serving(t, f, 8, func() {
			took := until(t, 10*time.Second, func() bool {
				for n := 30; n < 40; n++ {
					if len(f.open(t, fmt.Sprint("d", n))) > 0 {
						return false
					}
				}
				return true
			})
			t.Logf("10 of 40 devices answer: their removals were done after %s", took)
		})
		if f.devices.most > 8+32 {
			t.Errorf("%d connections at once", f.devices.most)
		}
	})
}

func TestARequestDoesNotWaitForThoseThatExpire(t *testing.T) {
	t.Parallel()
	for _, slots := range []int{1, 8} {
		f := newFleet(t, store.NewMemory(), 20, "")
		synctest.Test(t, func(t *testing.T) {
			for who := range 200 {
				f.made(t, who%20, who, time.Minute)
			}
			<-time.After(2 * time.Minute)
			f.devices.takes[""] = 200 * time.Millisecond
			serving(t, f, slots, func() {
				<-time.After(time.Second)
				for n := range 5 {
					c := f.ask(t, n, 1000+n, time.Hour)
					took := until(t, 2*time.Second, func() bool {
						now, err := f.Store.Case(t.Context(), c.Grant.ID)
						must(t, err)
						return now.Grant.State == grant.Active
					})
					t.Logf("%d slots: active after %s", slots, took)
				}
				if n := len(f.open(t, "")); n < 60 {
					t.Errorf("only %d grants were left when the last request was served", n)
				}
			})
		})
	}
}

// Requests without an end do not keep removals waiting either.
func TestARemovalDoesNotWaitForRequests(t *testing.T) {
	t.Parallel()
	f := newFleet(t, store.NewMemory(), 12, "")
	synctest.Test(t, func(t *testing.T) {
		for n := range 12 {
			f.made(t, n, n, time.Minute)
		}
		<-time.After(2 * time.Minute)
		f.devices.takes[""] = 200 * time.Millisecond
		for who := range 240 {
			f.ask(t, who%12, 100+who, time.Hour)
		}
		serving(t, f, 4, func() {
			until(t, 15*time.Second, func() bool {
				cs, err := f.Store.Cases(t.Context(), grant.Filter{States: []string{"removed"}})
				must(t, err)
				return len(cs) == 12
			})
			if cs, _ := f.Store.Cases(t.Context(), grant.Filter{States: []string{"requested"}}); len(cs) < 100 {
				t.Errorf("only %d requests were left by then", len(cs))
			}
		})
	})
}

func TestALoginIsUsedAsOftenAsItMay(t *testing.T) {
	t.Parallel()
	f := newFleet(t, store.NewMemory(), 20, "max_concurrent: 3\n")
	synctest.Test(t, func(t *testing.T) {
		for n := range 20 {
			f.made(t, n, n, time.Minute)
		}
		<-time.After(2 * time.Minute)
		f.devices.takes[""] = 300 * time.Millisecond
		f.devices.most = 0
		serving(t, f, 16, func() {
			until(t, time.Minute, func() bool { return len(f.open(t, "")) == 0 })
		})
		if f.devices.most != 3 {
			t.Errorf("%d logins at once", f.devices.most)
		}
	})
}

func TestASweepTriesEveryDueRemovalOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, store.NewMemory(), 30, "max_concurrent: 5\n")
	synctest.Test(t, func(t *testing.T) {
		for who := range 150 {
			f.made(t, who%30, who, time.Minute)
		}
		f.made(t, 3, 999, 10*time.Hour)
		<-time.After(2 * time.Minute)
		f.devices.mute["d7"] = 15 * time.Second
		asked := f.devices.asked("d7")
		s, err := f.Sweep(t.Context())
		must(t, err)
		if len(s.Removed) != 145 || s.Overdue != 5 || len(s.Open) != 5 || s.Waiting != 1 || len(s.Errors) != 0 {
			t.Errorf("removed %d, overdue %d, waiting %d, errors %v", len(s.Removed), s.Overdue, s.Waiting, s.Errors)
		}
		if n := f.devices.asked("d7") - asked; n != 1 {
			t.Errorf("a device that does not answer was asked %d times", n)
		}
	})
}

func TestARequestThatNobodyBeganIsCancelled(t *testing.T) {
	t.Parallel()
	f := newFleet(t, store.NewMemory(), 1, "")
	synctest.Test(t, func(t *testing.T) {
		c := f.ask(t, 0, 1, time.Hour)
		<-time.After(grant.CreationWindow)
		_, err := f.Sweep(t.Context())
		must(t, err)
		c, err = f.Store.Case(t.Context(), c.Grant.ID)
		must(t, err)
		if c.Grant.State != grant.Cancelled || f.devices.asked("d0") != 0 {
			t.Errorf("%s, asked %d times", c.Grant.State, f.devices.asked("d0"))
		}
	})
}
