package executor_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"runner/engine/executor"
)

func TestAFileIsIncludedForEachElement(t *testing.T) {
	t.Parallel()
	d, res, err := both(t, `
  - {name: zero, register: zero, put: {name: zero, value: hello}}
  - name: pairs
    register: pairs
    loop: [a, b, "{{ zero.value }}"]
    when: item != "b"
    include: {file: common/pair.yaml, params: {name: "{{ item }}", value: "{{ item }}{{ item }}"}}
  - {name: after, when: "pairs.changed and len(pairs.items) == 3 and pairs.items[1].skipped", put: {name: after, value: !expr "pairs.items[0].value"}}
  - name: nested
    loop: [x, y]
    loop_control: {var: who, label: "for {{ who }}"}
    include: {file: common/nest.yaml, params: {names: ["{{ who }}", z]}}
  - {name: nobody, register: nobody, loop: [], include: {file: common/pair.yaml, params: {name: never}}}
  - {name: last, when: nobody.skipped and len(nobody.items) == 0, put: {name: last, value: x}}
`, 11)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"obj:zero": "hello", "obj:a-1": "aa", "obj:a-2": "aa+", "obj:hello-1": "hellohello", "obj:hello-2": "hellohello+", "obj:after": "aa+",
		"obj:nest-x": "x", "obj:nest-y": "y", "obj:nest-z": "z", "obj:in-x-1": "a-in-x", "obj:in-x-2": "a-in-x+", "obj:in-y-1": "a-in-y", "obj:in-y-2": "a-in-y+",
		"obj:nest-after": "a-in-y+", "obj:last": "x",
	}
	if diff := cmp.Diff(want, d.objects); diff != "" {
		t.Error(diff)
	}
	var told []string
	for _, r := range res.Steps {
		told = append(told, fmt.Sprintf("%d %s %s %s", r.N, r.Name, r.Status, r.Message))
	}
	if told[1] != "2 first changed 2 changed, 1 skipped" || told[2] != "3 second changed 2 changed, 1 skipped" {
		t.Errorf("told %q", told)
	}
	for _, c := range res.Changes {
		if c.Step > res.Total {
			t.Errorf("a change is of step %d: %+v", c.Step, c)
		}
	}
}

// Every element is tried, and the step fails when one of them has.
func TestALoopOverAFileTriesEveryElement(t *testing.T) {
	t.Parallel()
	d, _, err := both(t, `
  - {name: pairs, register: pairs, loop: [a, "NO", b], include: {file: common/pair.yaml, params: {name: "{{ item }}"}}}
  - {name: never, put: {name: never, value: x}}
  - {name: tidy, when: "failure() and pairs.failed and len(pairs.items) == 3 and pairs.items[1].failed and not pairs.items[2].failed", put: {name: tidied, value: x}}
`, 3)
	if se, is := errors.AsType[*executor.StepError](err); !is || se.N != 1 || se.Name != "pairs (NO)" {
		t.Fatalf("error %v", err)
	}
	want := map[string]string{"obj:a-1": "a-a", "obj:a-2": "a-a+", "obj:b-1": "a-b", "obj:b-2": "a-b+", "obj:tidied": "x"}
	if diff := cmp.Diff(want, d.objects); diff != "" {
		t.Error(diff)
	}
	d, _, err = both(t, `
  - {name: files, register: files, on_error: continue, loop: [1, 2], include: {file: common/fails.yaml}}
  - {name: after, when: files.failed, put: {name: after, value: x}}
`, 5)
	if err != nil || d.objects["obj:after"] != "x" || d.objects["obj:tidy"] != "x" || d.objects["obj:never"] != "" {
		t.Errorf("%v %v", err, d.objects)
	}
}

// When the device is gone in the middle, nothing more is tried, and every step has
// a result.
func TestALoopOverAFileEndsWithTheConnection(t *testing.T) {
	t.Parallel()
	d := newDevice()
	d.deadAt = 2
	res, err := start(t, d, "delete", `
  - {name: pairs, loop: [a, b, c], include: {file: common/pair.yaml, params: {name: "{{ item }}"}}}
  - {name: later, put: {name: later, value: x}}
`, nil)
	if err == nil || len(res.Steps) != res.Total || d.objects["obj:c-1"] != "" || len(d.batches) != 2 {
		t.Errorf("error %v, %d results of %d, batches %d, %v", err, len(res.Steps), res.Total, len(d.batches), d.objects)
	}
}

func TestALoopOverAFileIsPlanned(t *testing.T) {
	t.Parallel()
	plan := explain(t, nil, `
  - {name: pairs, register: pairs, loop: [a, b], include: {file: common/pair.yaml, params: {name: "{{ item }}"}}}
  - {name: after, when: pairs.changed, put: {name: after, value: x}}
`, nil)
	if len(plan.Steps) != 3 || plan.Steps[0].Where != executor.OnDevice || plan.Steps[0].Args[0].By != executor.ByRunner {
		t.Errorf("%+v", plan.Steps)
	}
}
