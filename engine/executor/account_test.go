package executor_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"runner/engine/executor"
	"runner/engine/transport"
)

// accounts lists the steps of each batch with the account it ran as.
func accounts(d *device) (out []string) {
	for _, b := range d.batches {
		var names []string
		for _, s := range b.Steps {
			names = append(names, s.Name+" "+s.Mode.String())
		}
		out = append(out, fmt.Sprintf("%s takeover=%v: %s", b.Become, b.Takeover, strings.Join(names, ", ")))
	}
	return out
}

func TestEachStepRunsAsItsAccount(t *testing.T) {
	t.Parallel()
	d := newDevice()
	n := &notes{d: d}
	var run executor.Run
	res, err := start(t, d, "delete", `
  - {name: one, register: one, put: {name: a, value: x}}
  - {name: two, become: ana, put: {name: b, value: "{{ one.value }}"}}
  - {name: three, become: false, say: hello}
  - become: ana
    block:
      - {name: four, put: {name: c, value: x}}
      - {name: five, become: root, say: hello}
  - {name: six, say: hello}
`, func(r *executor.Run) {
		r.Become, r.Takeover, r.Scope, r.Record = "root", true, "g-1", n
		run = *r
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"root takeover=true: one probe", "root takeover=false: one apply", "ana takeover=true: two probe", "ana takeover=false: two apply",
		" takeover=true: three apply", "ana takeover=false: four probe", "ana takeover=false: four apply", "root takeover=false: five apply", "root takeover=false: six apply",
	}
	if diff := cmp.Diff(want, accounts(d)); diff != "" {
		t.Error(diff)
	}
	// The undo is stored as JSON with the grant.
	for i, c := range res.Changes {
		text, err := json.Marshal(c.Undo)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(text), `"become":"ana"`); got != (c.Object != "obj:a") {
			t.Errorf("%s is undone by %s", c.Object, text)
		}
		if err := json.Unmarshal(text, &res.Changes[i].Undo); err != nil {
			t.Fatal(err)
		}
	}
	d.batches = nil
	run.Recorded, run.ID = res.Changes, "x-1-undo"
	if _, conflicts, err := executor.Revert(t.Context(), run); err != nil || len(conflicts) > 0 || len(d.objects) > 0 {
		t.Fatalf("conflicts %v, error %v, left %v", conflicts, err, d.objects)
	}
	want = []string{"ana takeover=true: obj:c probe, obj:b probe", "root takeover=true: obj:a probe", "ana takeover=false: obj:c apply, obj:b apply", "root takeover=false: obj:a apply"}
	if diff := cmp.Diff(want, accounts(d)); diff != "" {
		t.Error(diff)
	}
}

// talk is an observer that keeps what is shown to people.
type talk struct {
	watch

	said []string
}

func (w *talk) Output(n int, _ transport.Stream, _ time.Time, data []byte) {
	w.said = append(w.said, fmt.Sprintf("%d %s", n, data))
}

func TestNoLogKeepsWhatAStepSaysOutOfTheLog(t *testing.T) {
	t.Parallel()
	for _, unfused := range []bool{false, true} {
		w := &talk{}
		res, err := start(t, newDevice(), "delete", `
  - {name: quiet, register: quiet, no_log: true, say: hidden}
  - {name: quiet loop, no_log: true, loop: [x], say: "{{ quiet.stdout }}"}
  - {name: loud, say: shown}
  - no_log: true
    block:
      - {name: note, note: hidden}
      - {name: fails, say: boom}
`, func(r *executor.Run) { r.Observe, r.NoFuse = w, unfused })
		if err == nil || strings.Contains(err.Error(), "boom") || !strings.Contains(err.Error(), "no_log") {
			t.Fatalf("error %v", err)
		}
		if diff := cmp.Diff([]string{"3 shown\n"}, w.said); diff != "" {
			t.Error(diff)
		}
		if res.Env["quiet"].(map[string]any)["stdout"] != "hidden" {
			t.Error("later steps cannot read what it said")
		}
		if slices.ContainsFunc(res.Steps, func(r executor.StepResult) bool { return strings.Contains(r.Message, "boom") }) {
			t.Errorf("%+v", res.Steps)
		}
	}
}
