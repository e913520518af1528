package ssh

import (
	"testing"
	"time"

	"runner/engine/lab"
	"runner/engine/transport"
	"runner/engine/transport/transporttest"
)

// far is config through a proxy that is oneWay away.
func far(t *testing.T, m *lab.Machine, user string, oneWay time.Duration) (Config, *transporttest.Proxy) {
	t.Helper()
	p := transporttest.DelayProxy(t, m.Addr, oneWay)
	cfg := config(t, m, user)
	cfg.Address = p.Addr
	return cfg, p
}

// steps are n steps that write something.
func steps(n int) []transport.Step {
	var out []transport.Step
	for i := range n {
		out = append(out, sh(i+1, "echo out; echo err >&2; _out k v; _changed"))
	}
	return out
}

func TestRoundTrips(t *testing.T) {
	t.Parallel()
	m, d := machine(t, ""), dialer(t)
	cfg, p := far(t, m, "root", 20*time.Millisecond)
	var r record
	begin := time.Now()
	c := connTo(t, d, cfg)
	if err := c.Run(t.Context(), transport.Batch{ID: "x-1", Steps: steps(20)}, r.sink); err != nil {
		t.Fatal(err)
	}
	cold := p.Turns()
	t.Logf("cold: %d turns, %.1f round trips of time", cold, time.Since(begin).Seconds()/0.04)
	if cold > 10 {
		t.Errorf("a cold run took %d round trips, want at most 10", cold)
	}
	begin = time.Now()
	if err := c.Run(t.Context(), transport.Batch{ID: "x-2", Steps: steps(20)}, r.sink); err != nil {
		t.Fatal(err)
	}
	t.Logf("next batch: %d turns, %.1f round trips of time", p.Turns()-cold, time.Since(begin).Seconds()/0.04)
	if n := p.Turns() - cold; n > 1 {
		t.Errorf("the next batch took %d round trips, want 1", n)
	}
	_ = c.Close()
	before := p.Turns()
	begin = time.Now()
	c = connTo(t, d, cfg)
	if err := c.Run(t.Context(), transport.Batch{ID: "x-3", Steps: steps(20)}, r.sink); err != nil {
		t.Fatal(err)
	}
	t.Logf("warm: %d turns, %.1f round trips of time", p.Turns()-before, time.Since(begin).Seconds()/0.04)
	// sshd grants a session no window before it has the exec request, so the
	// program cannot travel with it: channel, exec, program.
	if n := p.Turns() - before; n > 3 {
		t.Errorf("a run on a kept connection took %d round trips, want at most 3", n)
	}
}
