package templates_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"runner/engine/executor"
	"runner/engine/lang"
	"runner/engine/template"
)

// writer makes random templates: what it writes loads, and what it does can be
// told from the files in /srv/p.
type writer struct {
	*rand.Rand

	b       strings.Builder
	steps   int
	results []string // registered names of shell steps so far
	vars    []string // of the blocks around
}

func (w *writer) chance(percent int) bool { return w.IntN(100) < percent }

func pick[T any](w *writer, of ...T) T { return of[w.IntN(len(of))] }

// template writes a whole template.
func (w *writer) template() string {
	w.b.WriteString("schema: runner/v1\nkind: create\nname: example\nplatform: linux\nremoval: example\nbecome: root\n" +
		"params:\n  name: {type: string, default: it}\n  on: {type: bool, default: true}\n  public_key: {type: string, optional: true}\nsteps:\n")
	w.list("  ", 3+w.IntN(5), 2)
	return w.b.String()
}

func (w *writer) list(in string, n, depth int) {
	for range n {
		if depth > 0 && w.chance(20) {
			w.block(in, depth-1)
			continue
		}
		w.step(in)
	}
}

func (w *writer) line(in, format string, args ...any) {
	fmt.Fprintf(&w.b, "%s%s\n", in, fmt.Sprintf(format, args...))
}

func (w *writer) block(in string, depth int) {
	w.line(in, "- name: block")
	if w.chance(40) {
		w.line(in, "  when: %s", w.condition(2))
	}
	if w.chance(15) {
		w.line(in, "  on_error: continue")
	}
	if around := w.vars; w.chance(30) {
		w.steps++
		name := fmt.Sprintf("v%d", w.steps)
		w.line(in, "  vars: {%s: '%s'}", name, w.value())
		w.vars = append(w.vars, "{{ vars."+name+" }}")
		defer func() { w.vars = around }()
	}
	w.line(in, "  block:")
	w.list(in+"    ", 1+w.IntN(3), depth)
	if w.chance(60) {
		w.line(in, "  rescue:")
		w.list(in+"    ", 1+w.IntN(2), depth)
	}
	if w.chance(40) {
		w.line(in, "  always:")
		w.list(in+"    ", 1+w.IntN(2), depth)
	}
}

// value is a text that may be made of a result.
func (w *writer) value() string {
	if len(w.results) > 0 && w.chance(60) {
		r := pick(w, w.results...)
		return pick(w, "{{ "+r+".stdout }}", "<{{ "+r+".rc }}>", "{{ "+r+".changed }}", "{{ "+r+".attempts }}-{{ params.name }}")
	}
	if len(w.vars) > 0 && w.chance(50) {
		return pick(w, w.vars...)
	}
	return pick(w, "{{ params.name }}", "plain", "a b", "$(id)", "it''s", "{{ params.name | upper }}")
}

func (w *writer) condition(depth int) string {
	if depth > 0 && w.chance(30) {
		return fmt.Sprintf(pick(w, "not (%s)", "(%s) and params.on", "(%s) or ("+w.condition(depth-1)+")", "(%s) and ("+w.condition(depth-1)+")"), w.condition(depth-1))
	}
	if len(w.results) == 0 || w.chance(25) {
		return pick(w, "params.on", `params.name == "it"`, "not params.on", "len(params.name) > 1")
	}
	r := pick(w, w.results...)
	return r + pick(w, ".changed", ".skipped", ".failed", ".ran", ".rc == 0", ".rc > 1", `.stdout == "plain"`, ".attempts < 2", `.stdout in ["plain", "it"]`, ".stdout startsWith \"p\"", ".msg == \"\"")
}

// step writes a module call.
func (w *writer) step(in string) {
	w.steps++
	n := w.steps
	own := "" // conditions of the step
	add := func(format string, args ...any) { own += in + "  " + fmt.Sprintf(format, args...) + "\n" }
	if w.chance(35) {
		add("when: %s", w.condition(2))
	} else if w.chance(12) {
		add("when: %s", pick(w, "failure()", "success()", "always()", "failure() and params.on"))
	}
	if w.chance(15) {
		add("on_error: continue")
	}
	w.line(in, "- name: step %d", n)
	switch w.IntN(12) {
	case 0:
		w.b.WriteString(own)
		w.line(in, "  debug: '%s'", w.value())
		return
	case 1:
		w.b.WriteString(own)
		w.line(in, "  assert: {that: ['(%s) or %t']}", strings.ReplaceAll(w.condition(1), "'", "''"), w.chance(80))
		return
	case 2:
		if w.chance(30) && !strings.Contains(own, "()") {
			own += in + "  loop: " + pick(w, "[1, 2]", "[]", "[3]", "['{{ params.name | len }}', 1]") + "\n" + in + fmt.Sprintf("  register: f%d\n", n)
			w.b.WriteString(own)
			w.line(in, "  include: {file: common/pair.yaml, params: {text: '{{ item }}-{{ params.name }}', n: !expr '%d000 + int(item)'}}", n)
			return
		}
		w.b.WriteString(own)
		w.line(in, "  include: {file: common/pair.yaml, params: {text: '%s', n: %d}}", w.value(), n)
		return
	case 3:
		w.b.WriteString(own)
		w.line(in, "  file: {path: '/srv/p/dir-%d-{{ params.name }}'}", n)
		return
	}
	text := "'" + w.value() + "'"
	if w.chance(6) {
		text = "!expr string(int(params.name))" // fails when it is computed
	}
	register := fmt.Sprintf("r%d", n)
	over := w.chance(15) && !strings.Contains(own, "()")
	if over {
		add("loop: %s", pick(w, "[a, b]", "[plain]", "[]", "['{{ params.name }}', b, c]"))
		text = pick(w, "'{{ item }}'", "'{{ item }}-{{ params.name }}'")
	}
	if w.chance(20) {
		add("vars: {own: %s}", text)
		text = pick(w, "'{{ vars.own }}'", "'{{ vars.own }}+'")
	}
	add("register: %s", register)
	file := fmt.Sprintf("/srv/p/%d", n)
	code := 0
	if w.chance(12) {
		code = 1 + w.IntN(3)
	}
	switch w.IntN(4) {
	case 0:
		add("until: %s", pick(w, "rc == 0", "attempts == 2", "changed", `stdout contains "t"`))
		add("retries: %d", 1+w.IntN(2))
		add("delay: 0s")
	case 1:
		add("failed_when: %s", pick(w, "rc == 1", `stdout == "plain"`, "false", `len(stdout) > 9`))
	}
	w.b.WriteString(own)
	w.line(in, "  shell:")
	w.line(in, "    env: {TEXT: %s}", text)
	if w.chance(20) {
		w.line(in, "    creates: %s", file)
	}
	w.line(in, "    cmd: |")
	writes := w.chance(60)
	if writes {
		w.line(in, `      printf '%%s\n' "$TEXT" >>%s`, file)
	}
	w.line(in, `      printf '%%s\n' "$TEXT"`)
	w.line(in, "      exit %d", code)
	if !writes && w.chance(50) { // who writes and says that nothing changed is taken at his word
		w.line(in, "  changed_when: %s", pick(w, "rc == 0", `stdout == "plain"`, "len(stdout) > 2"))
	}
	w.line(in, "  undo: rm -f %s", file)
	if writes && code == 0 && w.chance(25) {
		w.line(in, "  probe: test -e %s", file)
	}
	if !over {
		w.results = append(w.results, register)
	}
}

const pairFile = `schema: runner/v1
kind: steps
platform: linux
params: {text: {type: string}, n: {type: int}}
steps:
  - name: inner
    register: one
    shell:
      env: {TEXT: '{{ params.text }}', N: '{{ params.n }}'}
      cmd: printf '%s' "$TEXT" >"/srv/p/inner-$N"; printf '%s' "$TEXT"
    undo: rm -f "/srv/p/inner-{{ params.n }}"
  - name: after
    when: one.changed
    file: {path: '/srv/p/after-{{ params.n }}'}
`

// seen is what a run came to, without times.
func (b *bench) seen(tb testing.TB, res *executor.Result, err error) string {
	tb.Helper()
	var s strings.Builder
	for _, r := range res.Steps {
		if r.Status == executor.Skipped {
			r.Reason = "" // there may be two, and which is seen first differs
		}
		fmt.Fprintf(&s, "%d %s: %s rc=%d attempts=%d message=%q reason=%q\n", r.N, r.Name, r.Status, r.RC, r.Attempts, r.Message, r.Reason)
	}
	for _, name := range slices.Sorted(maps.Keys(res.Env)) {
		v, is := res.Env[name].(map[string]any)
		if !is || name == "grant" || name == "device" {
			continue
		}
		fmt.Fprintln(&s, name, timeless(v))
	}
	for _, c := range res.Changes {
		if c.State == executor.Unchanged {
			continue // what the device skips was intended, and what runner skips was not
		}
		fmt.Fprintln(&s, c.Step, c.Object, c.State)
	}
	fmt.Fprintln(&s, err)
	s.WriteString(b.sh(tb, "cd /srv/p && find . | sort | while read -r f; do echo \"$f\"; [ ! -f \"$f\" ] || cat \"$f\"; done"))
	return s.String()
}

func timeless(m map[string]any) map[string]any {
	m = maps.Clone(m)
	delete(m, "started_at")
	delete(m, "duration_ms")
	if items, is := m["items"].([]any); is {
		var all []any
		for _, it := range items {
			if im, is := it.(map[string]any); is {
				all = append(all, timeless(im))
			}
		}
		m["items"] = all
	}
	return m
}

// Random templates come to the same whether their steps go together or one by
// one, and what they did is undone. RUNNER_SEED tries one again, RUNNER_SEEDS
// says how many are tried.
func TestRandomTemplatesAreEqualFusedAndUnfused(t *testing.T) {
	t.Parallel()
	first, n := uint64(1), uint64(40)
	if s, err := strconv.ParseUint(os.Getenv("RUNNER_SEEDS"), 10, 64); err == nil {
		first, n = uint64(time.Now().UnixNano()), s
	}
	if s, err := strconv.ParseUint(os.Getenv("RUNNER_SEED"), 10, 64); err == nil {
		first, n = s, 1
	}
	b := newBench(t)
	shelf := func(file string) (string, []byte, error) { return file, []byte(pairFile), nil }
	fused, unfused, changed, failed := 0, 0, 0, 0
	for seed := first; seed < first+n; seed++ {
		w := &writer{Rand: rand.New(rand.NewPCG(seed, 7))}
		text := w.template()
		tpl, ps := template.LoadWith("example.yaml", []byte(text), shelf, b.reg)
		if len(ps) > 0 {
			t.Fatalf("seed %d: %v\n%s", seed, ps, text)
		}
		var outcomes [2]string
		for i, alone := range []bool{false, true} {
			b.sh(t, "rm -rf /srv/p && mkdir /srv/p")
			b.batches = 0
			run := executor.Run{
				Steps: tpl.Steps, Become: tpl.Become, Conn: b, Modules: b.reg, ID: fmt.Sprintf("x-%d-%d", seed%1e6, i), Scope: "g-0001", NoFuse: alone,
				Env: lang.Env{"grant": b.grant, "device": map[string]any{"id": "box"}, "params": map[string]any{"name": "it", "on": true, "public_key": ""}, "vars": map[string]any{}},
			}
			res, err := executor.Do(t.Context(), run)
			if alone {
				unfused += b.batches
			} else {
				fused += b.batches
			}
			outcomes[i] = b.seen(t, res, err)
			if err != nil {
				failed++
			}
			if len(res.Steps) != res.Total {
				t.Errorf("seed %d: %d results of %d steps\n%s", seed, len(res.Steps), res.Total, text)
			}
			if slices.ContainsFunc(res.Changes, func(c executor.Change) bool { return c.State == executor.Done }) {
				changed++
			}
			run.Recorded, run.ID = res.Changes, run.ID+"-undo"
			if _, conflicts, err := executor.Revert(t.Context(), run); err != nil || len(conflicts) > 0 {
				t.Errorf("seed %d: undo: %v, conflicts %v\n%s", seed, err, conflicts, text)
			}
			if left := b.sh(t, "ls -A /srv/p"); left != "" {
				t.Errorf("seed %d: left after the undo: %s\n%s\n%s", seed, left, text, outcomes[i])
			}
		}
		if d := cmp.Diff(outcomes[0], outcomes[1]); d != "" {
			t.Errorf("seed %d: fused (-) and unfused (+) differ\n%s\n%s", seed, d, text)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d templates: %d batches fused, %d unfused; %d runs changed something, %d failed", n, fused, unfused, changed, failed)
	if n > 20 && (unfused <= fused || failed < 5 || changed < 20) {
		t.Error("the templates are too simple")
	}
}

// A script that is tried again says that there is nothing left to do; what its
// first try did is undone all the same.
func TestWhatAnEarlierTryDidIsUndone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, until := range []string{"attempts == 2", "attempts == 2 and len(msg) > 0"} { // on the device, and here
		_, res, run := b.step(t, "schema: runner/v1\nkind: create\nname: example\nplatform: linux\nremoval: example\nbecome: root\nparams: {public_key: {type: string}}\nsteps:\n"+
			"  - {name: Make it, shell: {cmd: touch /srv/made, creates: /srv/made}, until: "+until+", delay: 0s, undo: rm /srv/made}\n", nil)
		run.Recorded, run.ID = res.Changes, "x-undo"
		undone, conflicts, err := executor.Revert(t.Context(), run)
		if left := b.sh(t, "ls -A /srv"); err != nil || len(conflicts) > 0 || len(undone) != 1 || left != "" {
			t.Errorf("until %s: undone %v, conflicts %v, error %v, left %q", until, undone, conflicts, err, left)
		}
	}
}

// What a script with a probe finds there was there before: it neither runs nor
// is undone. What it made is undone only while it is there.
func TestAProbeKeepsWhatWasThereBefore(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	text := "schema: runner/v1\nkind: create\nname: example\nplatform: linux\nremoval: example\nbecome: root\nparams: {public_key: {type: string}}\nsteps:\n" +
		"  - {name: Make it, shell: 'echo ran >>/srv/made', undo: rm /srv/made, probe: 'test -e \"/srv/{{ \"made\" }}\"'}\n"
	for _, c := range []struct{ before, between, undone, left string }{
		{"", "", "1", ""},
		{"echo was >/srv/made", "", "0", "was"},
		{"", "rm /srv/made", "0", ""},
	} {
		b.sh(t, c.before)
		r, res, run := b.step(t, text, nil)
		if (r.Status == executor.Changed) != (c.before == "") {
			t.Errorf("%+v: %s %s", c, r.Status, r.Message)
		}
		b.sh(t, c.between)
		run.Recorded, run.ID = res.Changes, "x-undo"
		undone, conflicts, err := executor.Revert(t.Context(), run)
		if left := b.sh(t, "cat /srv/made 2>/dev/null || :"); err != nil || len(conflicts) > 0 || strconv.Itoa(len(undone)) != c.undone || left != c.left {
			t.Errorf("%+v: undone %v, conflicts %v, error %v, left %q", c, undone, conflicts, err, left)
		}
		b.sh(t, "rm -f /srv/made")
	}
}
