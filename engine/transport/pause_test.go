package transport_test

import (
	"slices"
	"testing"
	"time"

	"runner/engine/transport"
)

func TestPausesGrowUpToTheLongest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		step transport.Step
		want []time.Duration
	}{
		{transport.Step{Delay: time.Second, Retries: 5}, []time.Duration{time.Second}},
		{transport.Step{Delay: time.Second, Retries: 9, Backoff: 3, MaxDelay: 10 * time.Second}, []time.Duration{time.Second, 3 * time.Second, 9 * time.Second, 10 * time.Second}},
		{transport.Step{Delay: time.Second, Retries: 2, Backoff: 2, MaxDelay: time.Hour}, []time.Duration{time.Second, 2 * time.Second}},
		{transport.Step{Retries: 5, Backoff: 10, MaxDelay: time.Hour}, []time.Duration{0}},
		{transport.Step{Delay: time.Nanosecond, Retries: 1000, Backoff: 10, MaxDelay: 50}, []time.Duration{1, 10, 50}},
	} {
		if got := c.step.Pauses(); !slices.Equal(got, c.want) {
			t.Errorf("%+v: pauses %v", c.step, got)
		}
		if last := c.step.Pause(1000); c.step.Retries > 5 && last != c.want[len(c.want)-1] {
			t.Errorf("%+v: the last is %s", c.step, last)
		}
	}
}
