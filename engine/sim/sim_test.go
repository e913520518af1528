package sim_test

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"runner/engine/sim"
	"runner/engine/store"
)

// Worlds are made and thrown away by the thousand and are small: without this, the
// collector takes two fifths of the time.
func TestMain(m *testing.M) {
	debug.SetGCPercent(1600)
	os.Exit(m.Run())
}

// live runs the history of a seed on the reference store.
func live(t *testing.T, kit *sim.Kit, seed uint64, bug sim.Bug) (wrong, log []string) {
	t.Helper()
	return run(t, kit, seed, bug, (*sim.World).Live)
}

func run(t *testing.T, kit *sim.Kit, seed uint64, bug sim.Bug, history func(*sim.World) []string) (wrong, log []string) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		w := sim.NewWorld(seed, kit, sim.Reference{Memory: store.NewMemory()}, bug)
		wrong = history(w)
		log = w.Log()
	})
	return wrong, log
}

func newKit(t *testing.T) *sim.Kit {
	t.Helper()
	kit, err := sim.NewKit(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return kit
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// Histories of random grants, crashes, lost networks and people end with nothing
// left behind, nothing wrongly deleted, and every open removal visible. SIM_SEED
// and SIM_HISTORIES say which; a failure names its seed, which gives the same again.
func TestHistories(t *testing.T) {
	t.Parallel()
	each(t, number(t, "SIM_HISTORIES", histories), (*sim.World).Live)
}

// Grants that put one account into the same groups at the same time end with the
// account in exactly those that it was in before, or that somebody left it in.
// SIM_OVERLAPS says how many times.
func TestOverlaps(t *testing.T) {
	t.Parallel()
	each(t, number(t, "SIM_OVERLAPS", overlaps), (*sim.World).Overlap)
}

// Scans of devices that hold accounts which the store has lost, and strangers, end
// with all of ours removed and all strangers there, and nothing is taken over that
// nobody was asked about. SIM_SCANS says how many histories.
func TestScans(t *testing.T) {
	t.Parallel()
	each(t, number(t, "SIM_SCANS", scans), (*sim.World).Scans)
}

// The same on the store of files. SIM_DISK_HISTORIES says how many.
func TestHistoriesOnDisk(t *testing.T) {
	t.Parallel()
	eachSeed(t, number(t, "SIM_DISK_HISTORIES", onDisk), func(t *testing.T, kit *sim.Kit, seed uint64) (wrong, log []string) {
		t.Helper()
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			st, err := store.Open(t.Context(), filepath.Join(dir, "state"))
			if err != nil {
				t.Fatal(err)
			}
			w := sim.NewWorld(seed, kit, sim.OnDisk{Store: st}, sim.Bug{})
			wrong = w.Live()
			log = w.Log()
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		})
		return wrong, log
	})
}

// each runs histories side by side, and tells of the first in which something is wrong.
func each(t *testing.T, n int, history func(*sim.World) []string) {
	t.Helper()
	eachSeed(t, n, func(t *testing.T, kit *sim.Kit, seed uint64) (wrong, log []string) {
		t.Helper()
		return run(t, kit, seed, sim.Bug{}, history)
	})
}

func eachSeed(t *testing.T, n int, run func(*testing.T, *sim.Kit, uint64) (wrong, log []string)) {
	t.Helper()
	kit := newKit(t)
	first := number(t, "SIM_SEED", 1)
	var next atomic.Int64
	next.Store(int64(first))
	for range runtime.GOMAXPROCS(0) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for {
				seed := next.Add(1) - 1
				if seed >= int64(first+n) || t.Failed() {
					return
				}
				if wrong, log := run(t, kit, uint64(seed)); len(wrong) > 0 {
					t.Errorf("seed %d:\n%s\n\n%s", seed, strings.Join(wrong, "\n"), strings.Join(log, "\n"))
				}
			}
		})
	}
}
