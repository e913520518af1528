package executor_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"runner/engine/executor"
)

func TestVarsOfStepsAndBlocksAreSeenThereAlone(t *testing.T) {
	t.Parallel()
	d, _, err := both(t, `
  - {name: own, vars: {a: "{{ grant.account }}1", b: "{{ vars.a }}2"}, when: vars.a != "", put: {name: own, value: "{{ vars.b }}"}}
  - name: block
    vars: {k: one, n: !expr 2 + 1}
    when: vars.n == 3
    block:
      - {name: first, register: first, put: {name: "{{ vars.k }}-1", value: x}}
      - {name: second, vars: {l: "{{ vars.k }}-2"}, put: {name: "{{ vars.l }}", value: "{{ vars.n }}"}}
      - name: inner
        vars: {m: "{{ vars.k }}-in"}
        block: [{name: third, put: {name: "{{ vars.m }}", value: "{{ first.value }}"}}]
      - {name: file, include: {file: common/pair.yaml, params: {name: "{{ vars.k }}-file"}}}
    always:
      - {name: last, put: {name: "{{ vars.k }}-last", value: x}}
  - {name: each, vars: {twice: "{{ item }}{{ item }}"}, loop: [a, b], put: {name: "{{ item }}", value: "{{ vars.twice }}"}}
  - {name: outside, when: first.exists, put: {name: outside, value: "{{ first.value }}"}}
`, 7)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"obj:own": "a12", "obj:one-1": "x", "obj:one-2": "3", "obj:one-in": "x", "obj:one-last": "x", "obj:a": "aa", "obj:b": "bb", "obj:outside": "x",
		"obj:one-file-1": "a-one-file", "obj:one-file-2": "a-one-file+",
	}
	if diff := cmp.Diff(want, d.objects); diff != "" {
		t.Error(diff)
	}
}

// A variable may read results: then the step waits for them, and one that cannot
// be computed is told of when something reads it.
func TestVarsMayReadResults(t *testing.T) {
	t.Parallel()
	d, res, err := both(t, `
  - {name: zero, register: zero, put: {name: zero, value: hello}}
  - {name: more, vars: {v: "{{ zero.value }}!"}, put: {name: more, value: "{{ vars.v }}"}}
  - name: around a file
    vars: {n: "{{ zero.value }}"}
    block: [{name: in a file, include: {file: common/pair.yaml, params: {name: "{{ vars.n }}"}}}]
  - {name: unused, vars: {bad: !expr "[1][zero.size]"}, put: {name: unused, value: x}}
  - {name: skipped, vars: {bad: !expr "[1][zero.size]"}, when: zero.size == 0, put: {name: skipped, value: "{{ vars.bad }}"}}
  - {name: wrong, vars: {bad: !expr "[1][zero.size]"}, put: {name: wrong, value: "{{ vars.bad }}"}}
`, 4)
	want := map[string]string{"obj:zero": "hello", "obj:more": "hello!", "obj:hello-1": "a-hello", "obj:hello-2": "a-hello+", "obj:unused": "x"}
	if diff := cmp.Diff(want, d.objects); diff != "" {
		t.Error(diff)
	}
	if err == nil || !strings.Contains(err.Error(), `"wrong" failed: vars.bad: `) {
		t.Errorf("error is %v", err)
	}
	if _, left := res.Env["vars"]; left {
		t.Error("a variable of a step is seen after it")
	}
}

// What a probe finds out before anything is changed is in the variables, too.
func TestVarsFollowTheProbe(t *testing.T) {
	t.Parallel()
	d := newDevice()
	look := registry(t).Lookup("list")
	_, err := start(t, d, "create", `
  - name: block
    vars: {k: "{{ grant.account }}!"}
    block:
      - {name: first, put: {name: x, value: "{{ vars.k }}"}}
      - {name: pair, include: {file: common/pair.yaml, params: {name: p, value: "{{ vars.k }}"}}}
`, func(r *executor.Run) {
		r.Before = []executor.Call{{Name: "look", Module: look}}
		env := r.Env
		r.Probed = func(_ context.Context, _ map[string]map[string]any) error {
			env["grant"] = map[string]any{"id": "g-1", "account": "other"}
			return nil
		}
	})
	if err != nil || d.objects["obj:x"] != "other!" || d.objects["obj:p-1"] != "other!" {
		t.Errorf("%v, %v", d.objects, err)
	}
}
