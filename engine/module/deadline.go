package module

import (
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"runner/engine/lang"
)

var (
	//go:embed sh/deadline.sh
	deadlineSh string
	//go:embed ps/deadline.ps1
	deadlinePs string
)

// Deadline returns what a batch begins with that must not begin after a moment:
// it fails when that has passed, and says what the device's watch shows. No
// template can call it; it is for devices that m runs on.
//
// What was sent may lie for minutes in buffers, or in a worker that the kernel
// does not let run. Only the device knows when it arrives.
func Deadline(m *Module) *Module {
	d := &Module{
		Name: "deadline", Platform: m.Platform, ReadOnly: true,
		Args: []Field{{Name: "before", Type: lang.String, Default: ""}},
		Outputs: []Field{
			{Name: "now", Type: lang.String, Doc: "what the watch shows; see Watch"},
			{Name: "late", Type: lang.Bool, Doc: "the moment has passed"},
		},
	}
	if m.Ps != "" {
		d.Ps = deadlinePs
	} else {
		d.Sh = deadlineSh
	}
	return d
}

// Watch is what the watch of a device showed: a letter for its unit, t for
// tenths of seconds and s for seconds, and how many. It was read at the latest
// at Read, of this side's clock.
type Watch struct {
	Shows string
	Read  time.Time
}

// At returns what the watch will show at a moment of this side's clock or
// shortly before, rounded down; it is later by what passed between the reading
// on the device and Read.
func (w Watch) At(moment time.Time) (string, error) {
	if len(w.Shows) < 2 || len(w.Shows) > 20 {
		return "", fmt.Errorf("the device's watch shows %.30q", w.Shows)
	}
	n, err := strconv.ParseInt(w.Shows[1:], 10, 64)
	unit := map[byte]time.Duration{'t': time.Second / 10, 's': time.Second}[w.Shows[0]]
	if err != nil || unit == 0 || n < 0 {
		return "", fmt.Errorf("the device's watch shows %.30q", w.Shows)
	}
	left := moment.Sub(w.Read)
	if left < 0 {
		return w.Shows[:1] + "0", nil
	}
	return w.Shows[:1] + strconv.FormatInt(n+int64(left/unit), 10), nil
}
