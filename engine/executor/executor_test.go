package executor_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"runner/engine/executor"
	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/transport"
)

const ladder = `
  - {name: one, register: one, put: {name: "{{ params.name }}", value: x}}
  - {name: two, register: two, when: one.exists and params.on, put: {name: two, value: "{{ one.value }}-y"}}
  - {name: three, when: one.size > 5, put: {name: three, value: z}}
  - {name: four, register: four, say: "hello {{ two.value }}"}
  - {name: five, when: 'not (two.value in ["a", "b"])', put: {name: five, value: "{{ params.name }}"}}
`

func TestATypicalTemplateIsOneBatch(t *testing.T) {
	t.Parallel()
	d := newDevice()
	res, err := start(t, d, "delete", ladder, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.batches) != 1 {
		t.Fatalf("%d batches", len(d.batches))
	}
	want := map[string]string{"obj:a": "x", "obj:two": "x-y", "obj:five": "a"}
	if diff := cmp.Diff(want, d.objects); diff != "" {
		t.Fatal(diff)
	}
	if got := res.Steps[2]; got.Status != executor.Skipped || !strings.Contains(got.Reason, "one.size > 5") {
		t.Fatalf("step three is %s because %q", got.Status, got.Reason)
	}
}

func TestFusedAndUnfusedGiveEqualResults(t *testing.T) {
	t.Parallel()
	a, b := newDevice(), newDevice()
	ra, ea := start(t, a, "delete", ladder, nil)
	rb, eb := start(t, b, "delete", ladder, func(r *executor.Run) { r.NoFuse = true })
	if ea != nil || eb != nil {
		t.Fatal(ea, eb)
	}
	if len(b.batches) != 4 {
		t.Fatalf("unfused: %d batches", len(b.batches))
	}
	if diff := cmp.Diff(a.objects, b.objects); diff != "" {
		t.Fatal(diff)
	}
	strip := func(rs []executor.StepResult) (out []string) {
		for _, r := range rs {
			out = append(out, r.Name+" "+string(r.Status)+" "+r.Reason)
		}
		return out
	}
	if diff := cmp.Diff(strip(ra.Steps), strip(rb.Steps)); diff != "" {
		t.Fatal(diff)
	}
}

func TestIntentsAreStoredBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	d := newDevice()
	d.objects["obj:b"] = "old"
	n := &notes{d: d}
	_, err := start(t, d, "delete", `
  - {name: one, put: {name: a, value: x}}
  - {name: two, put: {name: b, value: y}}
`, func(r *executor.Run) { r.Record = n })
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"intend obj:a before=absent sent=0", "intend obj:b before=old sent=0", "done obj:a after=x", "done obj:b after=y"}
	if diff := cmp.Diff(want, n.log); diff != "" {
		t.Fatal(diff)
	}
}

func TestWithoutTheIntentStoredNothingIsSent(t *testing.T) {
	t.Parallel()
	d := newDevice()
	res, err := start(t, d, "delete", "  - {name: one, put: {name: a, value: x}}\n", func(r *executor.Run) { r.Record = &notes{d: d, refuse: true} })
	if err == nil || len(d.objects) != 0 || res.Sent {
		t.Fatalf("err %v, objects %v, sent %v", err, d.objects, res.Sent)
	}
}

func TestALostLeaseStopsTheRun(t *testing.T) {
	t.Parallel()
	d := newDevice()
	lost := errors.New("lost")
	_, err := start(t, d, "delete", "  - {name: one, put: {name: a, value: x}}\n", func(r *executor.Run) {
		r.Lease = func(context.Context) error { return lost }
	})
	if !errors.Is(err, lost) || len(d.objects) != 0 {
		t.Fatalf("err %v, objects %v", err, d.objects)
	}
}

func TestAFailureSkipsTheRestAndNamesTheStep(t *testing.T) {
	t.Parallel()
	d := newDevice()
	res, err := start(t, d, "delete", `
  - {name: one, put: {name: a, value: x}}
  - {name: bang, say: boom}
  - {name: never, put: {name: b, value: x}}
  - {name: tidy up, when: failure(), put: {name: c, value: x}}
  - {name: all went well, when: success(), put: {name: d, value: x}}
`, nil)
	se, ok := errors.AsType[*executor.StepError](err)
	if !ok || se.N != 2 || se.Total != 5 || se.RC != 3 || !se.Sent {
		t.Fatalf("got %v", err)
	}
	if got := err.Error(); got != `step 2/5 "bang" failed: boom (exit 3)` {
		t.Fatalf("message %q", got)
	}
	want := map[string]string{"obj:a": "x", "obj:c": "x"}
	if diff := cmp.Diff(want, d.objects); diff != "" {
		t.Fatal(diff)
	}
	if res.Steps[2].Status != executor.Skipped {
		t.Fatalf("%+v", res.Steps[2])
	}
}

func TestRescueAndAlwaysRun(t *testing.T) {
	t.Parallel()
	d := newDevice()
	_, err := start(t, d, "delete", `
  - name: guarded
    block:
      - {name: bang, say: boom}
      - {name: never, put: {name: never, value: x}}
    rescue:
      - {name: saved, put: {name: saved, value: x}}
    always:
      - {name: anyway, put: {name: anyway, value: x}}
  - {name: after, put: {name: after, value: x}}
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"obj:saved": "x", "obj:anyway": "x", "obj:after": "x"}
	if diff := cmp.Diff(want, d.objects); diff != "" {
		t.Fatal(diff)
	}
}

func TestACutConnectionNamesTheInterruptedStep(t *testing.T) {
	t.Parallel()
	for _, made := range []bool{false, true} {
		d := newDevice()
		d.cutAt, d.after = 2, made
		n := &notes{d: d}
		res, err := start(t, d, "delete", `
  - {name: one, put: {name: a, value: x}}
  - {name: two, put: {name: b, value: y}}
  - {name: three, put: {name: c, value: z}}
`, func(r *executor.Run) { r.Record = n })
		if _, ok := errors.AsType[*transport.Error](err); !ok || !res.Sent {
			t.Fatalf("err %v, sent %v", err, res.Sent)
		}
		var got []string
		for _, s := range res.Steps {
			got = append(got, string(s.Status))
		}
		if diff := cmp.Diff([]string{"changed", "interrupted", "skipped"}, got); diff != "" {
			t.Fatal(diff)
		}
		if s := n.last["obj:a"].State; s != executor.Done {
			t.Fatalf("a is %s", s)
		}
		for _, id := range []string{"obj:b", "obj:c"} {
			if s := n.last[id].State; s != executor.Intended {
				t.Fatalf("%s is %s: nobody saw it", id, s)
			}
		}
	}
}

func TestRevertUndoesOnlyWhatItFindsUnchanged(t *testing.T) {
	t.Parallel()
	undo := func(name string) *module.Undo {
		return &module.Undo{Module: "put", Args: map[string]any{"name": name, "value": "absent"}}
	}
	rec := []executor.Change{
		{Seq: 0, Module: "put", Object: "obj:ours", State: executor.Done, Before: "absent", After: "x", Undo: undo("ours")},
		{Seq: 1, Module: "put", Object: "obj:edited", State: executor.Done, Before: "absent", After: "x", Undo: undo("edited")},
		{Seq: 2, Module: "put", Object: "obj:before", State: executor.Unchanged, Before: "x", After: "x", Undo: undo("before")},
		{Seq: 3, Module: "put", Object: "obj:gone", State: executor.Done, Before: "absent", After: "x", Undo: undo("gone")},
		{Seq: 4, Module: "put", Object: "obj:maybe", State: executor.Intended, Before: "absent", Undo: undo("maybe")},
		{Seq: 5, Module: "put", Object: "obj:never", State: executor.Intended, Before: "absent", Undo: undo("never")},
		{Seq: 6, Module: "put", Object: "obj:renewed", State: executor.Done, Before: "absent", After: "x", Undo: undo("renewed")},
		{Seq: 7, Module: "put", Object: "obj:renewed", State: executor.Done, Before: "x", After: "y", Undo: undo("renewed")},
		{Seq: 8, Module: "put", Object: "obj:replaced", State: executor.Done, Before: "theirs", After: "x", Undo: undo("replaced")},
	}
	d := newDevice()
	d.objects = map[string]string{"obj:ours": "x", "obj:edited": "by somebody", "obj:before": "x", "obj:maybe": "half", "obj:renewed": "y", "obj:replaced": "x"}
	var undone []executor.Change
	res, err := start(t, d, "delete", "  - {name: undo, register: u, revert: {of: created}}\n", func(r *executor.Run) {
		r.Recorded = rec
		r.Undone = func(_ context.Context, cs []executor.Change) error { undone = cs; return nil }
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"obj:edited": "by somebody", "obj:before": "x", "obj:replaced": "x"}
	if diff := cmp.Diff(want, d.objects); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff([]string{"obj:renewed", "obj:maybe", "obj:ours"}, d.applied); diff != "" {
		t.Fatalf("undone in the wrong order or not: %s", diff)
	}
	if got := res.Steps[0].Values["conflicts"]; cmp.Diff([]any{"obj:replaced", "obj:edited"}, got) != "" {
		t.Fatalf("conflicts %v", got)
	}
	states := map[string]string{}
	for _, c := range undone {
		states[c.Object] = c.State
	}
	if diff := cmp.Diff(map[string]string{"obj:ours": "undone", "obj:edited": "conflict", "obj:gone": "undone", "obj:maybe": "undone", "obj:never": "undone", "obj:renewed": "undone", "obj:replaced": "conflict"}, states); diff != "" {
		t.Fatal(diff)
	}
}

func TestAConditionOnOutputIsDecidedHere(t *testing.T) {
	t.Parallel()
	d := newDevice()
	res, err := start(t, d, "delete", `
  - {name: look, register: look, say: "a b", failed_when: '"c" in split(stdout, " ")'}
  - {name: then, when: 'look.stdout == "a b"', put: {name: a, value: x}}
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.batches) != 2 || d.objects["obj:a"] != "x" || res.Steps[0].Status != executor.OK {
		t.Fatalf("%d batches, %v, %+v", len(d.batches), d.objects, res.Steps[0])
	}
}

func TestCallsBeforeAndAfterFrameTheTemplate(t *testing.T) {
	t.Parallel()
	d := newDevice()
	d.objects["obj:old"] = "x"
	reg := registry(t)
	list := reg.Lookup("list")
	var before []any
	res, err := start(t, d, "delete", "  - {name: one, put: {name: a, value: x}}\n", func(r *executor.Run) {
		r.Before = []executor.Call{{Name: "look", Module: list}}
		r.After = []executor.Call{{Name: "look again", Module: list}}
		r.Probed = func(_ context.Context, c map[string]map[string]any) error {
			before, _ = c["look"]["items"].([]any)
			return nil
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != 1 || len(res.Calls["look again"]["items"].([]any)) != 2 || len(d.batches) != 2 {
		t.Fatalf("before %v, after %v, %d batches", before, res.Calls["look again"]["items"], len(d.batches))
	}
}

func TestAFailedRunUndoesOnlyWhatItMade(t *testing.T) {
	t.Parallel()
	d := newDevice()
	d.objects["obj:theirs"] = "before"
	reg := registry(t)
	tpl := load(t, reg, "delete", `
  - {name: one, put: {name: ours, value: x}}
  - {name: two, put: {name: theirs, value: y}}
  - {name: bang, say: boom}
`)
	r := executor.Run{Steps: tpl.Steps, Env: lang.Env{"params": map[string]any{"name": "a", "on": true}}, Conn: d, Modules: reg, ID: "x-1"}
	res, err := executor.Do(t.Context(), r)
	if _, ok := errors.AsType[*executor.StepError](err); !ok || len(d.batches) != 1 || len(d.batches[0].Steps) != 3 {
		t.Fatalf("%v, %d batches", err, len(d.batches))
	}
	r.Recorded, r.ID = res.Changes, "x-1-undo"
	undone, conflicts, err := executor.Revert(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"obj:theirs": "y"}, d.objects); diff != "" {
		t.Fatal(diff)
	}
	if cmp.Diff([]string{"obj:ours"}, undone) != "" || cmp.Diff([]string{"obj:theirs"}, conflicts) != "" {
		t.Fatalf("undone %v, conflicts %v", undone, conflicts)
	}
}

func TestWhatWasBeforeIsNeverGuessed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		steps, there string
		want         executor.Change // of the last object
	}{
		"failed half way":                   {"  - {name: one, put: {name: a, value: x, how: half}}\n", "", executor.Change{State: executor.Intended, Before: "absent"}},
		"said once, by a step that changed": {"  - {name: one, put: {name: a, value: x, how: mute}}\n", "", executor.Change{State: executor.Done, Before: "?", After: "x"}},
		"nothing to change":                 {"  - {name: one, put: {name: a, value: x}}\n", "x", executor.Change{State: executor.Unchanged, Before: "x", After: "x"}},
		"changed, and said not to be": {
			"  - {name: one, changed_when: false, put: {name: a, value: x}}\n", "", executor.Change{State: executor.Done, Before: "absent", After: "x"},
		},
		"changed, then failed by a condition": {
			"  - {name: one, failed_when: exists, put: {name: a, value: x}}\n", "", executor.Change{State: executor.Done, Before: "absent", After: "x"},
		},
		"a name that only the device knows": {
			"  - {name: zero, register: zero, put: {name: z, value: b}}\n  - {name: one, put: {name: '{{ zero.value }}', value: x}}\n", "",
			executor.Change{State: executor.Done, Before: "?", After: "x"},
		},
	} {
		d := newDevice()
		if c.there != "" {
			d.objects["obj:a"] = c.there
		}
		res, _ := start(t, d, "delete", c.steps, nil)
		got := res.Changes[len(res.Changes)-1]
		if got.State != c.want.State || got.Before != c.want.Before || got.After != c.want.After {
			t.Errorf("%s: %s, before %q, after %q", name, got.State, got.Before, got.After)
		}
	}
}

func TestAStepThatFailedHalfWayIsUndone(t *testing.T) {
	t.Parallel()
	d := newDevice()
	run := executor.Run{}
	res, err := start(t, d, "delete", "  - {name: one, put: {name: a, value: x, how: half}}\n", func(r *executor.Run) { run = *r })
	if err == nil || len(d.objects) != 1 {
		t.Fatalf("%v, %v", err, d.objects)
	}
	run.Recorded, run.ID = res.Changes, "x-1-undo"
	undone, _, err := executor.Revert(t.Context(), run)
	if err != nil || len(undone) != 1 || len(d.objects) != 0 {
		t.Fatalf("undone %v, left %v, %v", undone, d.objects, err)
	}
}

func TestSomebodyElsesObjectBetweenProbeAndStepStays(t *testing.T) {
	t.Parallel()
	d := newDevice()
	n := &notes{d: d}
	if _, err := start(t, d, "delete", "  - {name: one, put: {name: a, value: x}}\n", func(r *executor.Run) {
		r.Record = n
		r.Lease = func(context.Context) error { d.objects["obj:a"] = "x"; return nil }
	}); err != nil {
		t.Fatal(err)
	}
	if c := n.last["obj:a"]; c.State != executor.Unchanged {
		t.Fatalf("%s, before %q, after %q", c.State, c.Before, c.After)
	}
}

func TestARepeatedStepKeepsWhatWasBeforeItsFirstRun(t *testing.T) {
	t.Parallel()
	for until, batches := range map[string]int{`"never" in stdout_lines`: 3, `value == "never"`: 1} {
		d := newDevice()
		res, err := start(t, d, "delete", "  - {name: one, put: {name: a, value: x}, until: '"+until+"', retries: 2, delay: 1ms}\n", nil)
		if err == nil || len(d.batches) != batches {
			t.Fatalf("%v after %d batches", err, len(d.batches))
		}
		if c := res.Changes[0]; c.State == executor.Unchanged || c.Before != "absent" {
			t.Errorf("%s: %s, before %q, after %q", until, c.State, c.Before, c.After)
		}
	}
}

func TestWhatAnEarlierBatchSentIsNotForgotten(t *testing.T) {
	t.Parallel()
	steps := `
  - {name: look, register: look, say: hello}
  - {name: one, put: {name: a, value: x}}
  - {name: then, register: then, when: 'look.stdout == "hello"', put: {name: b, value: y}}
`
	for deadAt, sent := range map[int]bool{1: false, 2: true} {
		d := newDevice()
		d.deadAt = deadAt
		res, err := start(t, d, "delete", steps, nil)
		if !transport.SafeToRetry(err) || res.Sent != sent {
			t.Errorf("batch %d refused: err %v, sent %v", deadAt, err, res.Sent)
		}
	}
}
