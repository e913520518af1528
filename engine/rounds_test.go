package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/store"
)

// bears puts an account onto a device that bears the mark of a grant.
func (d *idle) bears(device string, id string, until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.marks[device] = fmt.Sprintf("account\tjit-x\t70001\topen\t-1\t/bin/sh\t\t\t/home/jit-x\trunner %s until %s", id, until.UTC().Format("20060102T150405Z"))
}

// strange is the id of a grant that no store knows.
func strange(n byte) string { return grant.NewID("g", time.Unix(900000000, 0), [10]byte{n}) }

// rounds has workers call Round side by side once a turn, for a while, and returns how
// many scans there were in each turn.
func rounds(t *testing.T, workers []*fleet, r engine.Rounds, length time.Duration) []int {
	t.Helper()
	var turns []int
	for range int(length / r.Turn) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		sum := 0
		for _, f := range workers {
			wg.Go(func() {
				n, err := f.Round(t.Context(), r)
				must(t, err)
				mu.Lock()
				defer mu.Unlock()
				sum += n
			})
		}
		wg.Wait()
		turns = append(turns, sum)
		<-time.After(r.Turn)
	}
	return turns
}

func sum(turns []int) (n int) {
	for _, t := range turns {
		n += t
	}
	return n
}

func anyDevice(string) bool { return true }

func TestEveryDeviceIsScannedOnceInAWhile(t *testing.T) {
	t.Parallel()
	s := store.NewMemory()
	f, g := newFleet(t, s, 60, ""), newFleet(t, s, 60, "")
	g.Dialer = f.devices
	synctest.Test(t, func(t *testing.T) {
		f.devices.takes[""] = time.Second
		r := engine.Rounds{Every: 24 * time.Hour, Turn: 5 * time.Minute, Only: func(d string) bool { return d != "d7" }}
		turns := rounds(t, []*fleet{f, g}, r, 24*time.Hour)
		if n, most := sum(turns), slices.Max(turns); n != 59 || most > 2 || f.devices.asked("d7") != 0 {
			t.Errorf("%d scans of 59 devices in a day, at most %d in a turn", n, most)
		}
		if turns = rounds(t, []*fleet{f, g}, r, 48*time.Hour); sum(turns) != 2*59 {
			t.Errorf("%d scans in two days", sum(turns))
		}
		if f.devices.most > 2 {
			t.Errorf("%d connections at once", f.devices.most)
		}
		all := make([]*fleet, 8)
		for i := range all {
			all[i] = f
		}
		f.devices.most = 0
		<-time.After(48 * time.Hour)
		if n := sum(rounds(t, all, engine.Rounds{Every: time.Hour, Turn: time.Hour, Only: anyDevice}, time.Hour)); n != 60 {
			t.Errorf("eight workers made %d scans of 60 devices", n)
		}
	})
}

func TestADeviceThatIsAwayIsScannedWhenItIsBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, store.NewMemory(), 3, "")
	synctest.Test(t, func(t *testing.T) {
		r := engine.Rounds{Every: 24 * time.Hour, Turn: 5 * time.Minute, Only: anyDevice}
		f.devices.mute["d1"] = 15 * time.Second
		rounds(t, []*fleet{f}, r, 5*time.Hour)
		if n := f.devices.asked("d1"); n != 5 {
			t.Errorf("in five hours it was asked %d times", n)
		}
		list, err := f.LastScans(t.Context(), false)
		must(t, err)
		if l := list[1]; len(list) != 3 || l.Error == "" || !l.At.IsZero() || list[0].Error != "" || list[0].At.IsZero() {
			t.Errorf("%+v", list)
		}
		// Jobs find out that it does not answer, and it is left in peace.
		_, err = f.Store.Missed(t.Context(), "d1", "no route", time.Now().Add(24*time.Hour), 0)
		must(t, err)
		asked := f.devices.asked("d1")
		rounds(t, []*fleet{f}, r, 5*time.Hour)
		if n := f.devices.asked("d1"); n != asked {
			t.Errorf("it was asked %d times more while it was left in peace", n-asked)
		}
		must(t, f.Store.Answered(t.Context(), "d1", time.Now()))
		delete(f.devices.mute, "d1")
		rounds(t, []*fleet{f}, r, time.Hour)
		if list, err = f.LastScans(t.Context(), false); err != nil || list[1].Error != "" {
			t.Errorf("%+v, %v", list[1], err)
		}
	})
}

// What a round finds is an alarm until something is done about it that the store knows
// of, or the next scan does not find it any more.
func TestWhatARoundFindsIsAnAlarmUntilItIsSettled(t *testing.T) {
	t.Parallel()
	f := newFleet(t, store.NewMemory(), 4, "")
	synctest.Test(t, func(t *testing.T) {
		r := engine.Rounds{Every: time.Hour, Turn: time.Hour, Only: anyDevice}
		alarms := func() string {
			t.Helper()
			n, list, err := f.Alarms(t.Context())
			must(t, err)
			var devices []string
			for _, l := range list {
				devices = append(devices, l.Device+" "+l.Findings[0].What)
			}
			families, err := f.Metrics(t.Context())
			must(t, err)
			for _, fam := range families {
				if fam.Name == "runner_findings" && (fam.Values[0].N != float64(n["unknown"]) || len(fam.Values) != 6) {
					t.Errorf("the metrics say %+v of %v", fam.Values, n)
				}
			}
			return strings.Join(devices, ", ")
		}
		for n := range 4 {
			f.devices.bears(fmt.Sprint("d", n), strange(byte(n)), time.Now().Add(100*time.Hour))
		}
		f.devices.marks["d3"] = ""
		gone := f.made(t, 3, 1, time.Hour)
		rounds(t, []*fleet{f}, r, time.Hour)
		want := "d0 unknown, d1 unknown, d2 unknown"
		if got := alarms(); got != want+", d3 missing" {
			t.Fatalf("alarms: %s", got)
		}
		_, err := f.Ignore(t.Context(), engine.Decision{Device: "d0", Object: "jit-x", Actor: "ops", Reason: "theirs"}, time.Now().Add(10*time.Hour))
		must(t, err)
		_, err = f.Adopt(t.Context(), engine.Decision{Device: "d1", Object: "jit-x", Actor: "ops"})
		must(t, err)
		gone, err = f.End(t.Context(), gone.Grant.ID, "ops", "end")
		must(t, err)
		_, err = f.Remove(t.Context(), gone)
		must(t, err)
		if got := alarms(); got != "d2 unknown" {
			t.Errorf("alarms after an ignored, an adopted and a removed one: %s", got)
		}
		f.devices.mute["d2"] = time.Second // a scan that does not work says nothing new
		rounds(t, []*fleet{f}, r, time.Hour)
		if got := alarms(); got != "d2 unknown" {
			t.Errorf("alarms: %s", got)
		}
		delete(f.devices.mute, "d2")
		f.devices.marks["d2"] = ""
		rounds(t, []*fleet{f}, r, 2*time.Hour)
		if got := alarms(); got != "" {
			t.Errorf("alarms when it was gone: %s", got)
		}
		<-time.After(10 * time.Hour)
		if got := alarms(); got != "d0 unknown" {
			t.Errorf("alarms when it is ignored no longer: %s", got)
		}
		delete(f.Inventory.Devices, "d0")
		rounds(t, []*fleet{f}, r, time.Hour)
		if got := alarms(); got != "" {
			t.Errorf("alarms of a device that there is no more: %s", got)
		}
	})
}

// A grant whose removal is done while its device is scanned is no finding.
func TestAScanThatARemovalOvertakesFindsNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, store.NewMemory(), 1, "")
	synctest.Test(t, func(t *testing.T) {
		c := f.made(t, 0, 1, time.Hour)
		f.devices.takes["d0"] = time.Minute
		var wg sync.WaitGroup
		wg.Go(func() {
			s, err := f.ScanDevice(t.Context(), "d0", "")
			if err != nil || len(s.Findings) != 0 {
				t.Errorf("%+v, %v", s, err)
			}
		})
		synctest.Wait()
		f.devices.takes["d0"] = time.Second
		c, err := f.End(t.Context(), c.Grant.ID, "ops", "end")
		must(t, err)
		c, err = f.Remove(t.Context(), c)
		must(t, err)
		wg.Wait()
		if c.Grant.State != grant.Removed {
			t.Errorf("the grant is %s", c.Grant.State)
		}
	})
}
