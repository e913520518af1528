package ssh

import (
	"testing"

	"runner/engine/transport"
	"runner/engine/transport/transporttest"
)

var shBodies = transporttest.Bodies{
	Mode:   transport.Body{Name: "mode", Text: `echo "$M"`},
	Echo:   transport.Body{Name: "echo", Text: `printf %s "$a_text"`},
	Warn:   transport.Body{Name: "warn", Text: `printf %s "$a_text" >&2`},
	Fact:   transport.Body{Name: "fact", Text: `_out value "$a_text"`},
	Change: transport.Body{Name: "change", Text: `_changed; _state 0 present`},
	Fail:   transport.Body{Name: "fail", Text: `return 3`},
	Hang:   transport.Body{Name: "hang", Text: `while :; do sleep 1000; done`},
}

// Every /bin/sh and every login shell that is installed behaves as the seam says.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"dash", "bash", "busybox"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			m, d := machine(t, shell), dialer(t)
			transporttest.Suite(t, func(t *testing.T) transport.Conn {
				t.Helper()
				return connTo(t, d, config(t, m, "root"))
			}, shBodies)
		})
	}
}

func TestConformanceThroughSudo(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	for _, user := range []string{"jitadm", "jitpw", "jittty"} {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			d, bodies := dialer(t), shBodies
			bodies.OneStream = user == "jittty"
			transporttest.Suite(t, func(t *testing.T) transport.Conn {
				t.Helper()
				return connTo(t, d, sudoConfig(t, m, user))
			}, bodies)
		})
	}
}
