package templates_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"runner/engine/executor"
	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/secret"
	"runner/engine/template"
)

// trial says how an example of a module is tried on a machine.
type trial struct {
	setup string          // shell, before
	given map[string]any  // params
	want  executor.Status // of the first run; empty: ok, and nothing is changed
	again executor.Status // of the second run; empty: ok
	check string          // shell, after the first run: has to print something
	reads string          // name=value of the result that has to be there
	kept  bool            // what was changed is not undone: it was there before, or is meant to stay
}

const (
	there   = "useradd -m -u 71234 -K UID_MAX=99999 -s /bin/sh " + account + " && echo " + account + ":old | chpasswd"
	process = "; setsid -f setpriv --reuid 71234 --clear-groups --regid 71234 sleep 600 </dev/null >/dev/null 2>&1; until pgrep -u 71234 -x sleep >/dev/null; do :; done"
	keys    = " && install -d -o 71234 -m 700 /home/" + account + "/.ssh && install -o 71234 -m 600 /dev/null /home/" + account + "/.ssh/authorized_keys"
)

var trials = map[string]trial{
	"facts/1":          {reads: "os_family=debian"},
	"user/1":           {want: executor.Changed, again: executor.Failed, check: "getent passwd " + account + " | grep ':71234:.*runner g-0001'"},
	"user/2":           {setup: there, want: executor.Changed, check: "getent passwd " + account + " | grep nologin && passwd -S " + account + " | grep ' L '", kept: true},
	"user/3":           {setup: there, want: executor.Changed, check: "getent passwd " + account + " || echo gone", kept: true},
	"user_info/1":      {setup: there, reads: "uid=71234"},
	"group/1":          {want: executor.Changed, check: "getent group jit-ops"},
	"group_member/1":   {setup: there, want: executor.Changed, check: "id -Gn " + account + " | grep 'adm jit-ops'"},
	"password/1":       {setup: there, want: executor.Changed, again: executor.Changed, kept: true},
	"expiry/1":         {setup: there, want: executor.Changed, check: "chage -l " + account + " | grep -i 'account expires' | grep -v never", kept: true},
	"sudoers/1":        {setup: there, want: executor.Changed, check: "su " + account + " -c 'sudo -n id -un' | grep root"},
	"authorized_key/1": {setup: there + keys, want: executor.Changed, check: "grep expiry-time /home/" + account + "/.ssh/authorized_keys"},
	"kill_sessions/1":  {setup: there + process, want: executor.Changed, check: "pgrep -u 71234 || echo none", kept: true},
	"kill_sessions/2":  {setup: there + "; groupadd -g 7001 jit-ops; setpriv --reuid 71234 --regid 71234 --groups 7001 setsid sleep 600 >/dev/null 2>&1 </dev/null & sleep 0.3", want: executor.Changed, check: "pgrep -u 71234 || echo none", kept: true},
	"enable/1":         {setup: there + "; usermod -L -s /bin/sh " + account, want: executor.Changed, check: "passwd -S " + account + " | grep -v ' L '"},
	"user_leftovers/1": {setup: there + "; touch /tmp/mine; chown 71234 /tmp/mine", want: executor.Changed, check: "ls /tmp/mine || echo gone", kept: true},
	"file/1":           {want: executor.Changed, check: "stat -c %a /srv/" + account + " | grep 750"},
	"file/2":           {setup: "mkdir -p /srv/" + account + "/a", want: executor.Changed, check: "ls /srv/" + account + " || echo gone", kept: true},
	"copy/1":           {want: executor.Changed, check: "grep 077 /etc/profile.d/jit.sh"},
	"archive/1":        {setup: there, want: executor.Changed, check: "tar tzf /var/lib/jit/g-0001.tar.gz", kept: true},
	"command/1":        {want: executor.Changed, check: "ls -d /srv/" + account},
	"shell/1":          {want: executor.Changed, check: "grep ann /srv/" + account + ".who"},
	"shell/2":          {reads: "changed=false"},
	"shell/3":          {reads: "stdout=hello ann 24"},
	"script/2":         {reads: "stdout=24"},
	"script/1":         {want: executor.Changed, check: "grep " + account + " /srv/" + account + ".note"},
	"wait_for/1":       {},
	"marks/1":          {setup: there, reads: "items=[]"},
	"surface/1":        {setup: there, reads: "uid_free=true"},
	"assert/1":         {setup: there},
	"set_fact/1":       {setup: there, reads: "private=true"},
	"debug/1":          {setup: there, reads: "msg=uid 71234"},
	"fail/1":           {setup: there, want: executor.Skipped, again: executor.Skipped},
	"revert/1":         {reads: "undone=[]"},
}

// inside puts an example into a template that has the names it reads.
func inside(m *module.Module, example string) string {
	head := "name: example\nplatform: linux\nbecome: root\nparams:\n  username: {type: string, default: '{{ grant.account }}'}\n  public_key: {type: string, default: ''}\n"
	step := "steps:\n  - {name: First, register: account, user_info: '{{ params.username }}'}\n  - " + strings.ReplaceAll(example, "\n", "\n    ") + "\n"
	if m.Name == "revert" {
		return "schema: runner/v1\nkind: delete\n" + head + step
	}
	return "schema: runner/v1\nkind: create\nremoval: example\n" + head + "  password: {type: secret, generate: {length: 24}}\n" + step
}

// step runs the example once.
func (b *bench) step(tb testing.TB, text string, given map[string]any) (executor.StepResult, *executor.Result, executor.Run) {
	tb.Helper()
	tpl, ps := template.LoadWith("example.yaml", []byte(text), shelf(tb), b.reg)
	if len(ps) > 0 {
		tb.Fatalf("%v\n%s", ps, text)
	}
	env := lang.Env{"grant": b.grant, "device": map[string]any{"id": "box", "name": "box", "address": b.Addr, "platform": "linux", "skew_seconds": int64(0)}}
	if tpl.Kind == template.Delete {
		env["created"] = map[string]any{"known": false, "outputs": map[string]any{}}
	}
	_, line := b.key(tb)
	all := map[string]any{"public_key": line}
	maps.Copy(all, given)
	params, err := tpl.Resolve(nil, all, env, func(g template.Generate) (secret.Value, error) {
		return secret.Generate(secret.Spec{Length: g.Length, Classes: g.Classes})
	})
	if err != nil {
		tb.Fatal(err)
	}
	env["params"], env["vars"] = params, map[string]any{}
	run := executor.Run{Steps: tpl.Steps, Become: tpl.Become, Env: env, Conn: b, Modules: b.reg, ID: "x-example", Scope: "g-0001"}
	res, err := executor.Do(tb.Context(), run)
	if _, failed := errors.AsType[*executor.StepError](err); err != nil && !failed {
		tb.Fatalf("%v\n%s", err, text)
	}
	return res.Steps[len(res.Steps)-1], res, run
}

// shelf has the file that README.md shows.
func shelf(tb testing.TB) template.Source {
	tb.Helper()
	return func(file string) (string, []byte, error) {
		blocks := readmeBlocks(tb)
		return file, []byte(blocks[0]), nil
	}
}

// readmeBlocks returns the YAML of README.md that stands before the reference.
func readmeBlocks(tb testing.TB) (blocks []string) {
	tb.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		tb.Fatal(err)
	}
	head, _, _ := strings.Cut(string(text), "<!-- reference -->")
	for i, part := range strings.Split(head, "```") {
		if block, is := strings.CutPrefix(part, "yaml\n"); is && i%2 == 1 {
			blocks = append(blocks, block)
		}
	}
	return blocks
}

// What README.md shows runs, and is undone.
func TestExamplesOfTheReadmeRun(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	blocks := readmeBlocks(t)
	if len(blocks) < 2 {
		t.Fatalf("%d examples", len(blocks))
	}
	for _, block := range blocks[1:] {
		r, res, run := b.step(t, "schema: runner/v1\nkind: create\nname: example\nplatform: linux\nremoval: example\nbecome: root\nparams:\n  public_key: {type: string}\nsteps:\n  "+strings.ReplaceAll(block, "\n", "\n  "), nil)
		if r.Status != executor.OK && r.Status != executor.Changed {
			t.Errorf("%s: %s (%s)\n%s", r.Name, r.Status, r.Message+r.Reason, block)
		}
		run.Recorded, run.ID = res.Changes, "x-undo"
		if undone, conflicts, err := executor.Revert(t.Context(), run); err != nil || len(conflicts) > 0 || len(undone) == 0 {
			t.Errorf("undone %v, conflicts %v, error %v", undone, conflicts, err)
		}
	}
}

// prints lists everything that an example can change, with its contents.
func (b *bench) prints(tb testing.TB) string {
	tb.Helper()
	return b.sh(tb, `for d in /etc /home /srv /var/lib/jit /var/mail /tmp /var/tmp /dev/shm; do
[ -d $d ] || continue
find $d -xdev \( -name '*-' -o -name .pwd.lock -o -path /etc/ssh \) -prune -o -printf '%p %y %m %U %l\n' -type f -newer /run/began -exec sha256sum {} +
done | sort; ps -eo stat=,uid= | grep -v ^Z | grep -o 71234 | uniq || :`)
}

func (b *bench) sh(tb testing.TB, script string) string {
	tb.Helper()
	out, err := b.Shell(tb.Context(), script)
	if err != nil {
		tb.Fatalf("%s\n%v", script, err)
	}
	return strings.TrimSpace(out)
}

// Every example of every module runs on a machine: it changes what it says, not
// a second time, and what it changed is undone.
func TestExamplesOfModulesRun(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.sh(t, "touch -d '1 minute ago' /run/began")
	tried := map[string]bool{}
	for _, m := range b.reg.All() {
		if m.Platform == "windows" {
			continue // there is no such machine: see TestExamplesForWindowsLoad
		}
		if len(m.Examples) == 0 {
			t.Errorf("module %s has no example", m.Name)
		}
		for i, example := range m.Examples {
			id := fmt.Sprintf("%s/%d", m.Name, i+1)
			tr, ok := trials[id]
			if !ok {
				t.Errorf("example %s is not tried: give it a line in trials", id)
				continue
			}
			tried[id] = true
			t.Run(id, func(t *testing.T) { b.try(t, m, example, tr) })
		}
	}
	for id := range trials {
		if !tried[id] {
			t.Errorf("there is no example %s", id)
		}
	}
}

// Examples of modules for Windows are right as far as their text goes; what the
// modules do is tried on a model in engine/module.
func TestExamplesForWindowsLoad(t *testing.T) {
	t.Parallel()
	reg, err := module.All()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, m := range reg.All() {
		if m.Platform != "windows" {
			continue
		}
		for i, example := range m.Examples {
			n++
			text := "schema: runner/v1\nkind: delete\nname: example\nplatform: windows\nparams:\n  username: {type: string, default: '{{ grant.account }}'}\n  password: {type: secret}\n" +
				"steps:\n  - {name: First, register: before, win_user_info: '{{ params.username }}'}\n  - " + strings.ReplaceAll(example, "\n", "\n    ") + "\n"
			text = strings.ReplaceAll(text, "created.outputs.sid", "grant.sid")
			text = strings.Replace(text, "  password: {type: secret}\n", "", 1)
			if strings.Contains(example, "params.password") {
				text = strings.Replace(strings.Replace(text, "kind: delete", "kind: create\nremoval: windows-local-user", 1), "steps:", "  password: {type: secret, generate: {length: 24}}\nsteps:", 1)
			}
			if _, ps := template.Load("example.yaml", []byte(text), reg); len(ps) > 0 {
				t.Errorf("%s/%d: %v\n%s", m.Name, i+1, ps, text)
			}
		}
	}
	if n < 11 {
		t.Errorf("%d examples", n)
	}
}

// keyTrials are what the last step of the example of a key comes to, where that
// is not ok.
var keyTrials = map[string]executor.Status{
	"when": executor.Skipped, "undo": executor.Changed, "probe": executor.Changed, "on_error": executor.Failed, "include": executor.Changed,
}

// Every example of a key of steps runs, too.
func TestExamplesOfStepKeysRun(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var keys []lang.Key
	for _, table := range template.Tables() {
		if table.Name == "step" {
			keys = table.Keys
		}
	}
	if len(keys) < 15 {
		t.Fatalf("found %d keys of steps", len(keys))
	}
	for _, k := range keys {
		t.Run(strings.Join(slices.Concat(k.In, []string{k.Name}), "."), func(t *testing.T) {
			r, res, _ := b.step(t, inside(&module.Module{}, k.Example), nil)
			if want := orOK(keyTrials[k.Name]); r.Status != want {
				t.Errorf("%s: %s (%s), want %s\n%s", r.Name, r.Status, r.Message+r.Reason, want, k.Example)
			}
			if res.Total != len(res.Steps) {
				t.Errorf("%d of %d steps have a result", len(res.Steps), res.Total)
			}
		})
	}
}

func (b *bench) try(t *testing.T, m *module.Module, example string, tr trial) {
	t.Helper()
	clean := b.prints(t)
	defer func() {
		b.sh(t, "pkill -KILL -u 71234; userdel -rf "+account+" >/dev/null 2>&1; groupdel jit-ops 2>/dev/null; rm -rf /srv/"+account+"* /etc/profile.d/jit.sh /var/lib/jit /etc/sudoers.d/runner-"+account+" /tmp/mine; :")
		if now := b.prints(t); now != clean {
			t.Errorf("the trial left something:\n%s", diff(clean, now))
		}
	}()
	if tr.setup != "" {
		b.sh(t, tr.setup)
	}
	text := inside(m, example)
	before := b.prints(t)
	r, res, run := b.step(t, text, tr.given)
	if want := orOK(tr.want); r.Status != want {
		t.Fatalf("the first run: %s (%s), want %s", r.Status, r.Message+r.Reason, want)
	}
	if name, value, _ := strings.Cut(tr.reads, "="); name != "" && fmt.Sprint(r.Values[name]) != value {
		t.Errorf("%s is %v, want %s", name, r.Values[name], value)
	}
	after := b.prints(t)
	if (after != before) != (tr.want == executor.Changed) {
		t.Errorf("the first run: %s, and it changed\n%s", r.Status, diff(before, after))
	}
	if tr.check != "" && b.sh(t, tr.check+" || :") == "" {
		t.Errorf("after it, %s prints nothing", tr.check)
	}
	if s, _, _ := b.step(t, text, tr.given); s.Status != orOK(tr.again) {
		t.Errorf("the second run: %s (%s), want %s", s.Status, s.Message+s.Reason, orOK(tr.again))
	}
	if now := b.prints(t); now != after && tr.again != executor.Changed {
		t.Errorf("the second run changed\n%s", diff(after, now))
	}
	if tr.want != executor.Changed || tr.kept {
		if slices.ContainsFunc(res.Changes, func(c executor.Change) bool { return c.Undo != nil && c.State == executor.Done }) {
			t.Errorf("a change has an undo, but the trial says that it is kept: %+v", res.Changes)
		}
		return
	}
	run.Recorded, run.ID = res.Changes, "x-undo"
	undone, conflicts, err := executor.Revert(t.Context(), run)
	if m.NeedsUndo && len(undone) == 0 {
		b.undo(t, text)
	}
	if err != nil || len(conflicts) > 0 {
		t.Errorf("undo: %v, undone %v, conflicts %v", err, undone, conflicts)
	}
	if now := b.prints(t); now != before {
		t.Errorf("undone is %v, but there is still\n%s", undone, diff(before, now))
	}
}

// undo runs the undo that an example has written down, as a step of its own.
func (b *bench) undo(tb testing.TB, text string) {
	tb.Helper()
	head, _, _ := strings.Cut(text, "\n  - name:")
	_, script, _ := strings.Cut(text, "\n    undo: ")
	if r, _, _ := b.step(tb, head+"\n  - name: Undo\n    changed_when: false\n    shell: "+script, nil); r.Status != executor.OK {
		tb.Errorf("undo: %s %s", r.Status, r.Message)
	}
}

func orOK(s executor.Status) executor.Status {
	if s == "" {
		return executor.OK
	}
	return s
}
