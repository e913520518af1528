package executor_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"runner/engine/executor"
	"runner/engine/lang"
)

// shelf has the files that templates of these tests include.
func shelf(file string) (string, []byte, error) {
	steps := map[string]string{
		"common/pair.yaml": `
params:
  name: {type: string, pattern: '[a-z-]+'}
  value: {type: string, default: '{{ grant.account }}-{{ params.name }}'}
steps:
  - {name: first, register: one, put: {name: "{{ params.name }}-1", value: "{{ params.value }}"}}
  - {name: second, register: two, when: one.exists, put: {name: "{{ params.name }}-2", value: "{{ one.value }}+"}}
outputs:
  value: two.value
  both: '[one.value, two.value]'
`,
		"common/nest.yaml": `
params:
  names: {type: list}
steps:
  - {name: each, register: one, loop: "{{ params.names }}", put: {name: "nest-{{ item }}", value: "{{ item }}"}}
  - name: inner
    register: two
    include: {file: common/pair.yaml, params: {name: "in-{{ params.names | first }}"}}
  - {name: after, when: one.changed and two.changed, put: {name: nest-after, value: "{{ two.value }}"}}
`,
		"common/fails.yaml": `
steps:
  - {name: works, put: {name: works, value: x}}
  - {name: bang, register: bang, say: boom}
  - {name: not run, put: {name: never, value: x}}
  - {name: tidy, when: failure(), put: {name: tidy, value: x}}
outputs: {rc: bang.rc}
`,
	}[file]
	if steps == "" {
		return file, nil, fs.ErrNotExist
	}
	return file, []byte("schema: runner/v1\nkind: steps\nplatform: linux" + steps), nil
}

// outcome is what a run came to, without times.
func outcome(d *device, res *executor.Result, err error) string {
	var b strings.Builder
	for _, r := range res.Steps {
		fmt.Fprintf(&b, "%d %s %s %s %s\n", r.N, r.Name, r.Status, r.Message, r.Reason)
	}
	var names []string
	for k, v := range d.objects {
		names = append(names, k+"="+v)
	}
	slices.Sort(names)
	fmt.Fprintln(&b, strings.Join(names, " "), err)
	return b.String()
}

// both runs steps in one batch where that is possible and in one for each step,
// and wants the same of both.
func both(t *testing.T, steps string, batches int) (*device, *executor.Result, error) {
	t.Helper()
	d, e := newDevice(), newDevice()
	res, err := start(t, d, "delete", steps, nil)
	again, aerr := start(t, e, "delete", steps, func(r *executor.Run) { r.NoFuse = true })
	if diff := cmp.Diff(outcome(d, res, err), outcome(e, again, aerr)); diff != "" {
		t.Errorf("fused and unfused differ:\n%s", diff)
	}
	if len(d.batches) != batches {
		t.Errorf("%d batches, want %d: %v", len(d.batches), batches, accounts(d))
	}
	if diff := cmp.Diff(len(res.Steps), res.Total); diff != "" {
		t.Errorf("not every step has a result: %s", diff)
	}
	return d, res, err
}

func TestAnIncludedFileHasItsOwnNames(t *testing.T) {
	t.Parallel()
	d, res, err := both(t, `
  - {name: zero, register: one, put: {name: zero, value: outer}}
  - {name: pair, include: {file: common/pair.yaml, params: {name: p}}}
  - {name: mine, put: {name: mine, value: "{{ one.value }}"}}
`, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"obj:zero": "outer", "obj:p-1": "a-p", "obj:p-2": "a-p+", "obj:mine": "outer"}
	if diff := cmp.Diff(want, d.objects); diff != "" {
		t.Error(diff)
	}
	if _, leaked := res.Env["two"]; leaked {
		t.Error("a name of the file is seen outside")
	}
}

func TestParamsOfAnIncludeMayBeResults(t *testing.T) {
	t.Parallel()
	d, res, err := both(t, `
  - {name: zero, register: zero, put: {name: zero, value: outer}}
  - {name: pair, register: pair, include: {file: common/pair.yaml, params: {name: p, value: "{{ zero.value }}"}}}
  - {name: mine, when: pair.changed and len(pair.both) == 2, put: {name: mine, value: "{{ pair.value }}"}}
  - {name: not, register: nope, when: zero.size > 50, include: {file: common/pair.yaml, params: {name: q}}}
  - {name: told, when: nope.skipped and not nope.changed and nope.value == "", put: {name: told, value: x}}
  - {name: nest, include: {file: common/nest.yaml, params: {names: [x, y]}}}
`, 7)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"obj:zero": "outer", "obj:p-1": "outer", "obj:p-2": "outer+", "obj:mine": "outer+", "obj:told": "x",
		"obj:nest-x": "x", "obj:nest-y": "y", "obj:in-x-1": "a-in-x", "obj:in-x-2": "a-in-x+", "obj:nest-after": "a-in-x+",
	}
	if diff := cmp.Diff(want, d.objects); diff != "" {
		t.Error(diff)
	}
	if got := res.Env["pair"].(map[string]any)["both"]; fmt.Sprint(got) != "[outer outer+]" {
		t.Errorf("both is %v", got)
	}
}

func TestAFailureInAnIncludedFile(t *testing.T) {
	t.Parallel()
	d, res, err := both(t, `
  - {name: may, register: may, on_error: continue, include: {file: common/fails.yaml}}
  - {name: seen, when: may.failed, put: {name: seen, value: x}}
  - {name: wrong, on_error: continue, include: {file: common/pair.yaml, params: {name: "{{ grant.id }}"}}}
  - {name: must, include: {file: common/fails.yaml}}
  - {name: later, put: {name: later, value: x}}
`, 5)
	se, is := errors.AsType[*executor.StepError](err)
	if !is || se.Name != "bang" || se.N != 9 {
		t.Fatalf("error %v", err)
	}
	if diff := cmp.Diff(map[string]string{"obj:works": "x", "obj:tidy": "x", "obj:seen": "x"}, d.objects); diff != "" {
		t.Error(diff)
	}
	if r := res.Steps[5]; r.Status != executor.Skipped || !strings.Contains(r.Reason, "params") {
		t.Errorf("%+v", r)
	}
}

func TestAnIncludeIsExplained(t *testing.T) {
	t.Parallel()
	reg := registry(t)
	tpl := load(t, reg, "delete", `
  - {name: zero, register: zero, put: {name: zero, value: outer}}
  - {name: known, include: {file: common/pair.yaml, params: {name: p}}}
  - {name: pair, register: pair, include: {file: common/pair.yaml, params: {name: p, value: "{{ zero.value }}"}}}
  - {name: later, when: pair.changed, put: {name: mine, value: "{{ pair.value }}"}}
`)
	plan, err := executor.Explain(t.Context(), executor.Run{
		Steps: tpl.Steps, Modules: reg, ID: "x-1",
		Env: lang.Env{"params": map[string]any{"name": "a", "on": true}, "grant": map[string]any{"id": "g-1", "account": "a"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range plan.Steps {
		got = append(got, fmt.Sprintf("%d %s batch %d: %v", s.N, s.Name, s.Batch, s.Args))
	}
	want := []string{
		`1 zero batch 1: [{name zero zero plan} {value outer outer plan}]`,
		`2 first batch 1: [{name {{ params.name }}-1 p-1 plan} {value {{ params.value }} a-p plan}]`,
		`3 second batch 1: [{name {{ params.name }}-2 p-2 plan} {value {{ one.value }}+ <one.value>+ device}]`,
		`4 first batch 2: [{name {{ params.name }}-1 <{{ params.name }}-1> runner} {value {{ params.value }} <{{ params.value }}> runner}]`,
		`5 second batch 2: [{name {{ params.name }}-2 <{{ params.name }}-2> runner} {value {{ one.value }}+ <one.value>+ device}]`,
		`6 later batch 3: [{name mine mine plan} {value {{ pair.value }} <{{ pair.value }}> runner}]`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The uid of a grant may change when the device was looked at: what an included
// file makes of it changes, too.
func TestIncludedParamsFollowTheProbe(t *testing.T) {
	t.Parallel()
	d := newDevice()
	reg := registry(t)
	look := reg.Lookup("list")
	_, err := start(t, d, "create", `
  - {name: pair, include: {file: common/pair.yaml, params: {name: p}}}
`, func(r *executor.Run) {
		r.Before = []executor.Call{{Name: "look", Module: look}}
		env := r.Env
		r.Probed = func(_ context.Context, _ map[string]map[string]any) error {
			env["grant"] = map[string]any{"id": "g-1", "account": "other"}
			return nil
		}
	})
	if err != nil || d.objects["obj:p-1"] != "other-p" {
		t.Fatalf("%v %v", d.objects, err)
	}
}

// What cannot be computed fails its step, after those before it have run.
func TestAStepThatCannotBePlannedFailsInItsTurn(t *testing.T) {
	t.Parallel()
	d, res, err := both(t, `
  - {name: one, put: {name: one, value: x}}
  - {name: may, register: may, on_error: continue, put: {name: may, value: !expr "string(int(params.name))"}}
  - {name: two, when: may.failed, put: {name: two, value: x}}
  - {name: must, put: {name: must, value: !expr "string(int(params.name))"}}
  - {name: later, put: {name: later, value: x}}
  - {name: tidy, when: failure(), put: {name: tidy, value: x}}
`, 3)
	if se, is := errors.AsType[*executor.StepError](err); !is || se.Name != "must" {
		t.Fatalf("error %v", err)
	}
	if diff := cmp.Diff(map[string]string{"obj:one": "x", "obj:two": "x", "obj:tidy": "x"}, d.objects); diff != "" {
		t.Error(diff)
	}
	if res.Steps[4].Status != executor.Skipped {
		t.Errorf("%+v", res.Steps[4])
	}
}
