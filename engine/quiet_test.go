package engine_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/lab"
	"runner/engine/transport"
)

// counting tells how often devices were connected to.
type counting struct {
	engine.Dialer

	dials atomic.Int64
}

func (d *counting) Dial(ctx context.Context, c *inventory.Connection) (transport.Conn, error) {
	d.dials.Add(1)
	return d.Dialer.Dial(ctx, c)
}

func TestAGrantThatNobodyUsesEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, func(text string) string {
		return strings.Replace(text, "duration: 1h,", "duration: 1h, end_when_idle: 10m,", 1)
	})
	var ahead atomic.Int64
	w.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	c := w.request("ada", nil)
	d := &counting{Dialer: w.Dialer}
	w.Dialer = d
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.EndQuiet(ctx, time.Millisecond) }()
	defer func() { stop(); <-done }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	later := func(by time.Duration, want grant.State) { // until it was looked at once more, or the grant is no more active
		t.Helper()
		before := d.dials.Load()
		ahead.Add(int64(by))
		now := c
		for now.Grant.State == grant.Active && d.dials.Load() < before+1 {
			<-tick.C
			ahead.Add(int64(200 * time.Millisecond))
			var err error
			now, err = w.Store.Case(t.Context(), c.Grant.ID)
			must(t, err)
		}
		for range 100 { // what a look found is stored a moment later
			<-tick.C
			var err error
			now, err = w.Store.Case(t.Context(), c.Grant.ID)
			must(t, err)
			if now.Grant.State == want && want != grant.Active {
				break
			}
		}
		if now.Grant.State != want {
			t.Fatalf("after %s more the grant is %s, want %s", by, now.Grant.State, want)
		}
		c = now
	}
	later(0, grant.Active)
	later(6*time.Minute, grant.Active)
	shell := func(script string) {
		t.Helper()
		_, err := w.box.Shell(t.Context(), script)
		must(t, err)
	}
	shell("setsid setpriv --reuid " + c.Grant.Account + " --clear-groups sleep 1000 </dev/null >/dev/null 2>&1 &")
	later(5*time.Minute, grant.Active) // it is in use now
	shell("pkill -u " + c.Grant.Account)
	later(2*time.Minute, grant.Active)
	later(11*time.Minute, grant.Ending)
	if c.Grant.EndedBy != grant.EndedIdle {
		t.Errorf("ended by %q", c.Grant.EndedBy)
	}
}
