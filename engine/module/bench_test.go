package module_test

import (
	"strings"
	"testing"
	"time"

	"runner/engine/module"
)

// Looking has to be cheap: it happens at every creation and removal. The time
// is taken inside the machine, by one shell that runs the body many times.
func TestLookingIsCheap(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.ok(t, "user", account())
	for name, limit := range map[string]int{"surface": 9, "user_info": 4, "facts": 4} {
		args := module.Args{"name": acct, "uid": uid}
		if name == "facts" {
			args = nil
		}
		prog := d.program(t, "apply", name, args)
		call := "m_x </dev/null 2>&1"
		head, _, _ := strings.Cut(prog, call)
		head += "_turn=\n" // nothing is shared with the run before
		// Every process gets the next pid, so pids count the forks.
		loop := head + "p0=$(exec sh -c 'echo $$'); i=0; while [ $i -lt 20 ]; do " + call + " >/dev/null; i=$((i+1)); done; p1=$(exec sh -c 'echo $$'); echo $((p1-p0-1))\n"
		begun := time.Now()
		out, err := d.Shell(t.Context(), "cat >/run/p <<'X-END'\n"+loop+"\nX-END\ndash /run/p")
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(begun)
		var forks int
		for _, c := range strings.TrimSpace(out) {
			forks = forks*10 + int(c-'0')
		}
		t.Logf("%s: %d forks and %s each", name, forks/20, (took / 20).Round(100*time.Microsecond))
		if forks/20 > limit {
			t.Errorf("%s forks %d times, more than %d", name, forks/20, limit)
		}
	}
}
