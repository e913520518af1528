//go:build !race

package sim_test

import (
	"path/filepath"
	"testing"
	"testing/synctest"

	"runner/engine/sim"
	"runner/engine/store"
)

// The same histories on the store of files. SIM_DISK_HISTORIES says how many. What
// SQLite does for them is another program's, and slow, below the race detector.
func TestHistoriesOnDisk(t *testing.T) {
	t.Parallel()
	eachSeed(t, number(t, "SIM_DISK_HISTORIES", 200), func(t *testing.T, kit *sim.Kit, seed uint64) (wrong, log []string) {
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
