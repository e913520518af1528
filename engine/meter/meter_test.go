package meter_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"runner/engine/meter"
)

func TestWhatIsWritten(t *testing.T) {
	t.Parallel()
	var m meter.Meter
	m.Add("done_total", 1, "kind", "delete")
	m.Add("done_total", 2, "kind", "create")
	m.Add("done_total", 1, "kind", "delete")
	for _, d := range []time.Duration{0, 10 * time.Millisecond, 20 * time.Millisecond, time.Hour} {
		m.Observe("took_seconds", d, "kind", "delete")
	}
	m.Add("unknown_total", 1)
	m.Set("slots", 3)
	m.Set("slots", 2)
	var b strings.Builder
	err := m.Write(&b, []meter.Family{
		{Name: "done_total", Type: "counter", Help: "What is done."},
		{Name: "never_total", Type: "counter", Help: "What never was."},
		{Name: "waiting", Type: "gauge", Help: "What\nwaits \\ here.", Values: []meter.Value{{N: 1.5}, {N: 0, Labels: []string{"a", "x\"\n\\"}}}},
		{Name: "slots", Type: "gauge", Help: "Slots."},
		{Name: "took_seconds", Type: "histogram", Help: "How long it took."},
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `# HELP done_total What is done.
# TYPE done_total counter
done_total{kind="create"} 2
done_total{kind="delete"} 2
# HELP never_total What never was.
# TYPE never_total counter
never_total 0
# HELP waiting What\nwaits \\ here.
# TYPE waiting gauge
waiting 1.5
waiting{a="x\"\n\\"} 0
# HELP slots Slots.
# TYPE slots gauge
slots 2
# HELP took_seconds How long it took.
# TYPE took_seconds histogram
took_seconds_bucket{kind="delete",le="0.01"} 2
took_seconds_bucket{kind="delete",le="0.03"} 3
took_seconds_bucket{kind="delete",le="0.1"} 3
took_seconds_bucket{kind="delete",le="0.3"} 3
took_seconds_bucket{kind="delete",le="1"} 3
took_seconds_bucket{kind="delete",le="3"} 3
took_seconds_bucket{kind="delete",le="10"} 3
took_seconds_bucket{kind="delete",le="30"} 3
took_seconds_bucket{kind="delete",le="100"} 3
took_seconds_bucket{kind="delete",le="300"} 3
took_seconds_bucket{kind="delete",le="+Inf"} 4
took_seconds_sum{kind="delete"} 3600.03
took_seconds_count{kind="delete"} 4
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestNobodyNeedsToCount(t *testing.T) {
	t.Parallel()
	var m *meter.Meter
	m.Add("x", 1)
	m.Observe("y", time.Second)
	m.Set("z", 1)
	var w sync.WaitGroup
	var n meter.Meter
	for range 8 {
		w.Go(func() {
			for range 100 {
				n.Add("x", 1)
				n.Observe("y", time.Second)
			}
		})
	}
	w.Wait()
	var b strings.Builder
	if err := n.Write(&b, []meter.Family{{Name: "x", Type: "counter"}}); err != nil || !strings.Contains(b.String(), "\nx 800\n") {
		t.Errorf("%v %s", err, b.String())
	}
}
