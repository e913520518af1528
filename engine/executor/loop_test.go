package executor_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"runner/engine/executor"
	"runner/engine/transport"
)

const loops = `
  - {name: before, register: before, put: {name: z, value: x}}
  - name: each
    register: each
    loop: [a, b, c]
    when: item != "b"
    put: {name: "{{ item }}", value: "{{ params.name }}-{{ item }}"}
  - {name: after, when: 'each.changed and len(each.items) == 3 and each.items[1].skipped', put: {name: after, value: !expr "each.items[2].value"}}
  - name: of maps
    loop: [{n: m, v: one}, {n: k, v: two}]
    loop_control: {var: it, label: "object {{ it.n }}"}
    put: {name: "{{ it.n }}", value: "{{ it.v }}"}
`

func TestALoopRunsOnceForEachElement(t *testing.T) {
	t.Parallel()
	want := map[string]string{"obj:z": "x", "obj:a": "a-a", "obj:c": "a-c", "obj:after": "a-c", "obj:m": "one", "obj:k": "two"}
	for _, unfused := range []bool{false, true} {
		d, seen := newDevice(), &watch{}
		res, err := start(t, d, "delete", loops, func(r *executor.Run) { r.NoFuse, r.Observe = unfused, seen })
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, d.objects); diff != "" {
			t.Fatal(diff)
		}
		if n := len(d.batches); !unfused && n != 4 {
			t.Errorf("%d batches; all rounds of a loop go in one", n)
		}
		var got []string
		for _, r := range res.Steps {
			got = append(got, fmt.Sprintf("%d %s %s %s", r.N, r.Name, r.Status, r.Message))
		}
		if diff := cmp.Diff([]string{"1 before changed ", "2 each changed 2 changed, 1 skipped", "3 after changed ", "4 of maps changed 2 changed"}, got); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"began 1 before", "ended 1", "began 2 each", "note 2 for a", "note 2 for c", "ended 2", "began 3 after", "ended 3", "began 4 of maps", "note 4 for object m", "note 4 for object k", "ended 4"}, seen.log); diff != "" {
			t.Error(diff)
		}
		for _, c := range res.Changes {
			if c.Step < 1 || c.Step > 4 {
				t.Errorf("change %+v", c)
			}
		}
	}
}

func TestEveryElementIsTriedAndAFailureIsNamed(t *testing.T) {
	t.Parallel()
	d := newDevice()
	res, err := start(t, d, "delete", `
  - name: each
    register: each
    loop: [fine, boom, good]
    say: "{{ item }}"
  - {name: never, put: {name: a, value: x}}
`, nil)
	se, ok := errors.AsType[*executor.StepError](err)
	if !ok || se.N != 1 || !strings.HasPrefix(se.Msg, "boom: ") || len(d.objects) != 0 {
		t.Fatalf("got %v", err)
	}
	items, _ := res.Env["each"].(map[string]any)["items"].([]any)
	if len(items) != 3 || items[2].(map[string]any)["stdout"] != "good" || items[1].(map[string]any)["failed"] != true {
		t.Fatalf("items are %v", items)
	}
}

func TestLoopsOverWhatAStepSaid(t *testing.T) {
	t.Parallel()
	d := newDevice()
	d.objects["obj:q"] = "x"
	res, err := start(t, d, "delete", `
  - {name: look, register: look, list: {}}
  - {name: copy, loop: "{{ look.items }}", put: {name: "copy-{{ item }}", value: y}}
  - {name: none, register: none, loop: [], put: {name: n, value: y}}
  - {name: nothing, when: 'none.skipped and len(none.items) == 0', put: {name: nothing, value: y}}
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d.objects["obj:copy-obj:q"] != "y" || d.objects["obj:nothing"] != "y" || res.Steps[2].Reason != "loop: the list is empty" {
		t.Fatalf("%v %+v", d.objects, res.Steps)
	}
}

// What needs no device runs also when it is lost, in the order of the template.
func TestAlwaysRunsWhenTheDeviceIsLost(t *testing.T) {
	t.Parallel()
	d := newDevice()
	d.cutAt = 2
	res, err := start(t, d, "delete", `
  - block:
      - {name: one, put: {name: a, value: x}}
      - {name: two, put: {name: b, value: x}}
      - {name: three, put: {name: c, value: x}}
    rescue:
      - {name: rescue, note: rescued}
    always:
      - {name: on the device, put: {name: d, value: x}}
      - {name: here, when: 'failure() and interrupted()', note: told}
  - {name: later, put: {name: e, value: x}}
  - {name: at the end, when: failure(), note: over}
`, nil)
	if _, is := errors.AsType[*transport.Error](err); !is || len(d.batches) != 1 {
		t.Fatalf("%d batches, error %v", len(d.batches), err)
	}
	var got []string
	for _, r := range res.Steps {
		got = append(got, r.Name+": "+string(r.Status))
	}
	want := []string{"one: changed", "two: interrupted", "three: skipped", "rescue: ok", "on the device: unreachable", "here: ok", "later: skipped", "at the end: ok"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
