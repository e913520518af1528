package ssh

import (
	"strings"
	"testing"

	"runner/engine/transport"
)

func TestBatchRunsAndTellsWhatHappened(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	c := connTo(t, dialer(t), config(t, m, "root"))
	var r record
	ref := transport.Ref{Step: 1, Key: "uid", Default: "none"}
	skipped := sh(3, "echo never")
	skipped.When = transport.Eq{A: ref, B: transport.Lit{V: "no"}}
	then := sh(4, `printf '%s' "$a_text"; _changed; _state 0 present`, arg("text", transport.Concat{transport.Lit{V: "uid is "}, ref}))
	then.When = transport.Eq{A: ref, B: transport.Lit{V: int64(17)}}
	fails := sh(5, "echo oops >&2; return 3")
	err := c.Run(t.Context(), transport.Batch{ID: "x-1", Scope: "g-1", Steps: []transport.Step{
		sh(1, `echo "$M $a_on"; _out uid 17; _say "hello there"`, arg("on", true)), skipped, then, fails, sh(6, "echo no"),
	}}, r.sink)
	if err != nil {
		t.Fatal(err)
	}
	want := "B1; F1 uid=17; F1 msg=hello there; E1 rc=0; S3 when; B4; F4 state.0=present; E4 rc=0 changed; B5; E5 rc=3 failed; S6 failed"
	if got := r.trace(); got != want {
		t.Errorf("events\n got %s\nwant %s", got, want)
	}
	if got := r.output(1, transport.Stdout); got != "apply true\n" {
		t.Errorf("step 1 wrote %q", got)
	}
	if got := r.output(4, transport.Stdout); got != "uid is 17" {
		t.Errorf("step 4 wrote %q", got)
	}
	if got := r.output(5, transport.Stderr); got != "oops\n" {
		t.Errorf("step 5 wrote %q", got)
	}
	left, err := m.Shell(t.Context(), "ls -A /run/runner; stat -c %a /run/runner")
	if err != nil || left != "700\n" {
		t.Errorf("/run/runner has %q, %v", left, err)
	}
	r = record{}
	if err := c.Run(t.Context(), transport.Batch{ID: "x-2", Steps: []transport.Step{sh(1, "echo again")}}, r.sink); err != nil {
		t.Fatal(err)
	}
	if got := r.output(1, transport.Stdout); got != "again\n" {
		t.Errorf("the second batch wrote %q", got)
	}
}

// A progress file is for the next run of the same scope: without one there is
// nobody who would read it or take it away.
func TestOnlyABatchOfAScopeHasAProgressFile(t *testing.T) {
	t.Parallel()
	c := connTo(t, dialer(t), config(t, machine(t, ""), "root"))
	for scope, want := range map[string]string{"": "", "g-1": "g-1.x-1\n"} {
		var r record
		err := c.Run(t.Context(), transport.Batch{ID: "x-1", Scope: scope, Steps: []transport.Step{sh(1, "if [ -e /run/runner ]; then ls -A /run/runner; fi")}}, r.sink)
		if got := r.output(1, transport.Stdout); err != nil || got != want {
			t.Errorf("scope %q: %q, %v", scope, got, err)
		}
	}
}

// A body may keep what it has read for as long as $_turn stays the same: within
// a batch, but not in its next attempt nor in the next batch.
func TestEveryBatchAndAttemptIsATurnOfItsOwn(t *testing.T) {
	t.Parallel()
	c := connTo(t, dialer(t), config(t, machine(t, ""), "root"))
	again := sh(2, `echo "$_turn"`)
	again.Retries, again.Until = 2, transport.Const(false)
	again.Continue = true
	seen := map[string]int{}
	for range 2 {
		var r record
		if err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{sh(1, `echo "$_turn"`), again, sh(3, `echo "$_turn"`)}}, r.sink); err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= 3; n++ {
			for turn := range strings.FieldsSeq(r.output(n, transport.Stdout)) {
				seen[turn]++
			}
		}
	}
	// Per batch: the first step and the first attempt share one, the last attempt
	// and the last step another.
	if len(seen) != 6 {
		t.Errorf("turns %v, want 6 different ones", seen)
	}
}

// What the server says it is stands in the prelude, whatever it says.
func TestPeerIsTextOnly(t *testing.T) {
	t.Parallel()
	var r record
	if err := connTo(t, dialer(t), config(t, machine(t, ""), "root")).Run(t.Context(), transport.Batch{Steps: []transport.Step{sh(1, `echo "$_peer"`)}}, r.sink); err != nil {
		t.Fatal(err)
	}
	if got := r.output(1, transport.Stdout); !strings.HasPrefix(got, "SSH-2.0-OpenSSH_") {
		t.Errorf("the peer is %q", got)
	}
	line, _, _ := strings.Cut(newPrelude("n", "SSH-2.0-x'; reboot; '$(id)`id`\"\\\n%NONCE%\x1e", true), "__env() {")
	if _, got, _ := strings.Cut(line, "_peer="); got != "'SSH-2.0-x   reboot     id  id     NONCE  ' _turn=0\n" {
		t.Errorf("the prelude says %q", got)
	}
}
