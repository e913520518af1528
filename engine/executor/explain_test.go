package executor_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"runner/engine/executor"
	"runner/engine/transport"
)

// far has batches of every kind: what goes along, what waits, what runner does.
const far = `
  - {name: one, register: one, put: {name: "{{ params.name }}", value: x}}
  - {name: two, when: one.exists and params.on, put: {name: two, value: "{{ one.value }}-y"}}
  - {name: three, when: not params.on, put: {name: three, value: z}}
  - {name: four, register: four, when: len(one.value) < 9, say: "hello {{ one.value | upper }}"}
  - {name: five, when: four.changed or one.exists, put: {name: "{{ one.value }}", value: q}}
  - name: six
    when: one.exists
    block:
      - {name: in it, put: {name: six, value: x}}
    always:
      - {name: after it, say: done}
  - {name: seven, when: failure(), say: it failed}
`

// explain plans the steps that start would run.
func explain(t *testing.T, d *device, steps string, change func(*executor.Run)) *executor.Plan {
	t.Helper()
	var plan *executor.Plan
	_, _ = start(t, newDevice(), "delete", steps, func(r *executor.Run) {
		run := *r
		run.Conn = nil
		if d != nil {
			run.Conn = d
		}
		if change != nil {
			change(&run)
		}
		var err error
		if plan, err = executor.Explain(t.Context(), run); err != nil {
			t.Fatal(err)
		}
		r.Lease = func(context.Context) error { return context.Canceled } // only the plan is wanted
	})
	return plan
}

func TestThePlanIsWhatIsSent(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string]string{"ladder": ladder, "far": far} {
		for _, apart := range []bool{false, true} {
			if diff := planAndRun(t, steps, apart); diff != "" {
				t.Errorf("%s, apart %v: sent (-) and planned (+):\n%s", name, apart, diff)
			}
		}
	}
}

// planAndRun compares the batches that are planned with those that are sent.
func planAndRun(t *testing.T, steps string, apart bool) string {
	t.Helper()
	plan := explain(t, nil, steps, func(r *executor.Run) { r.NoFuse = apart })
	d := newDevice()
	res, err := start(t, d, "delete", steps, func(r *executor.Run) { r.NoFuse = apart })
	if err != nil {
		t.Fatalf("%v\n%s", err, steps)
	}
	var sent, planned [][]int
	for _, b := range d.batches {
		var ns []int
		for _, s := range b.Steps {
			ns = append(ns, s.N)
		}
		sent = append(sent, ns)
	}
	// What runner decides when the device has answered may come to nothing; then
	// those that would wait for it can go along.
	less := false
	gone := func(n int) bool {
		is := !slices.ContainsFunc(sent, func(s []int) bool { return slices.Contains(s, n) }) && res.Steps[n-1].Status == executor.Skipped
		less = less || is
		return is
	}
	for _, b := range plan.Batches {
		if ns := slices.DeleteFunc(slices.Clone(b.Steps), gone); len(ns) > 0 {
			planned = append(planned, ns)
		}
	}
	if len(plan.Steps) != len(res.Steps) {
		t.Errorf("%d steps are planned, %d have a result\n%s", len(plan.Steps), len(res.Steps), steps)
	}
	for i, s := range plan.Steps {
		if s.Where == executor.Nowhere && res.Steps[i].Status != executor.Skipped {
			t.Errorf("step %d was planned to be skipped and is %s\n%s", s.N, res.Steps[i].Status, steps)
		}
	}
	if less {
		return cmp.Diff(slices.Concat(sent...), slices.Concat(planned...))
	}
	return cmp.Diff(sent, planned)
}

// Any list of steps that read what those before them say.
func TestEveryPlanIsWhatIsSent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		var b strings.Builder
		n := rapid.IntRange(1, 9).Draw(r, "steps")
		for i := range n {
			from := rapid.IntRange(0, max(0, i-1)).Draw(r, "from")
			whens := []string{"", "params.on", "not params.on"}
			values := []string{"x", "{{ params.name }}"}
			if i > 0 {
				whens = append(whens, fmt.Sprintf("s%d.exists", from), fmt.Sprintf("len(s%d.value) > 0", from), fmt.Sprintf("s%d.size > 1 and params.on", from), fmt.Sprintf("s%d.changed or s0.exists", from))
				values = append(values, fmt.Sprintf("{{ s%d.value }}", from), fmt.Sprintf("{{ s%d.value }}-{{ s0.value }}", from), fmt.Sprintf("{{ s%d.value | upper }}", from))
			}
			fmt.Fprintf(&b, "  - name: step %d\n    register: s%d\n", i, i)
			if w := rapid.SampledFrom(whens).Draw(r, "when"); w != "" {
				fmt.Fprintf(&b, "    when: %s\n", w)
			}
			value := rapid.SampledFrom(values).Draw(r, "value")
			if rapid.Bool().Draw(r, "vars") {
				fmt.Fprintf(&b, "    vars: {v: '%s'}\n", value)
				value = rapid.SampledFrom([]string{"{{ vars.v }}", "{{ vars.v }}-{{ params.name }}", "x"}).Draw(r, "of vars")
			}
			fmt.Fprintf(&b, "    put: {name: 'n%d', value: '%s'}\n", rapid.IntRange(0, 3).Draw(r, "name"), value)
		}
		if diff := planAndRun(t, b.String(), rapid.Bool().Draw(r, "apart")); diff != "" {
			r.Fatalf("sent (-) and planned (+):\n%s\n%s", diff, b.String())
		}
	})
}

func TestAPlanSaysWhoDecides(t *testing.T) {
	t.Parallel()
	plan := explain(t, nil, far, nil)
	var got []string
	for _, s := range plan.Steps {
		line := s.Name + ": " + s.Where
		if s.Why != "" {
			line += ", " + s.Why
		}
		for _, c := range s.Conditions {
			line += "; " + c.Key + " by " + c.By + ": " + c.Folded
		}
		for _, a := range s.Args {
			line += "; " + a.Name + "=" + a.Value + " by " + a.By
		}
		for _, o := range s.Objects {
			line += "; " + o.ID
		}
		got = append(got, line)
	}
	want := []string{
		"one: device; name=a by plan; value=x by plan; obj:a",
		"two: device; when by device: one.exists; name=two by plan; value=<one.value>-y by device; obj:two",
		"three: nowhere, when: not params.on was false",
		"four: device; when by runner: len(one.value) < 9; text=<hello {{ one.value | upper }}> by runner",
		"five: device; when by device: four.changed or one.exists; name=<one.value> by runner; value=q by plan; obj:<one.value>",
		"in it: device; name=six by plan; value=x by plan; obj:six",
		"after it: device; text=done by plan",
		"seven: device; when by runner: failure(); text=it failed by plan",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAPlanLooksAndChangesNothing(t *testing.T) {
	t.Parallel()
	d := newDevice()
	d.objects["obj:a"] = "was there"
	plan := explain(t, d, `
  - {name: look, register: found, list: {}}
  - {name: make, when: len(found.items) > 0, put: {name: a, value: x}}
  - {name: look again, register: again, list: {}}
  - {name: late, when: len(again.items) > 0, say: hello}
`, nil)
	if len(d.applied) > 0 || d.objects["obj:a"] != "was there" {
		t.Errorf("it changed %v", d.applied)
	}
	for _, b := range d.batches {
		for _, s := range b.Steps {
			if s.Mode == transport.Apply && s.Body.Name != "list" {
				t.Errorf("step %s was applied", s.Name)
			}
		}
	}
	if c := plan.Steps[1].Conditions[0]; c.By != executor.ByRunner || c.Now != "true" {
		t.Errorf("make: %+v", c)
	}
	if o := plan.Steps[1].Objects[0]; o.Now != "was there" || o.Undo == nil {
		t.Errorf("make: %+v", o)
	}
	if c := plan.Steps[3].Conditions[0]; c.Now != "" {
		t.Errorf("what a step reads after a change was told before it: %+v", c)
	}
}
