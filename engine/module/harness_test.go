package module_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"runner/engine/lab"
	"runner/engine/lab/labtest"
	"runner/engine/module"
	"runner/engine/secret"
)

// shells are the interpreters that bodies have to run in.
var shells = map[string][]string{
	"dash":    {"dash"},
	"bash":    {"bash", "--posix"},
	"busybox": {"busybox", "sh"},
}

// prelude is what a transport gives to bodies, with frames that a test reads.
const prelude = `LC_ALL=C; export LC_ALL; umask 077; cd /
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin; export PATH
_put() { printf %s "$1"; }
_out() { while [ $# -gt 0 ]; do printf '\036O%s=%s\037' "$1" "$2"; shift 2; done; }
_state() { printf '\036S%s=%s\037' "$1" "$2"; }
_say() { printf '\036M=%s\037' "$1"; }
_changed() { printf '\036C=\037'; }
_peer= _turn=1
`

// device is a machine whose bodies run in one of the shells.
type device struct {
	*lab.Machine
	shell []string
	reg   *module.Registry
}

// result is what a body said.
type result struct {
	rc      int
	stdout  string
	out     map[string]string
	state   map[int]string
	before  map[int]string // the first states that were said
	changed bool
	said    string
}

func registry(tb testing.TB) *module.Registry {
	tb.Helper()
	r, err := module.Linux()
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// onEveryShell runs a test on a machine of its own for each shell.
func onEveryShell(t *testing.T, f func(*testing.T, *device)) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(shells)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, start(t, name))
		})
	}
}

// start starts a machine whose bodies run in a shell.
func start(tb testing.TB, shell string) *device {
	tb.Helper()
	return &device{Machine: labtest.StartT(tb, lab.Config{Name: "dev", SizeMB: 128}), shell: shells[shell], reg: registry(tb)}
}

// sh runs a script inside and fails the test when a command of it fails.
func (d *device) sh(tb testing.TB, script string) string {
	tb.Helper()
	out, err := d.Shell(tb.Context(), "set -e\n"+script)
	if err != nil {
		tb.Fatalf("%s\n%v", script, err)
	}
	return strings.TrimSuffix(out, "\n")
}

// call is one body to run; raw, when it is there, is shell code to run instead.
type call struct {
	mode, name string
	args       module.Args
	raw        string
}

// program is the text that runs one body once.
func (d *device) program(tb testing.TB, mode, name string, args module.Args) string {
	tb.Helper()
	return d.programOf(tb, []call{{mode: mode, name: name, args: args}})
}

// programOf is the text that runs several bodies in one shell and turn.
func (d *device) programOf(tb testing.TB, calls []call) string {
	tb.Helper()
	var b strings.Builder
	b.WriteString(prelude)
	has := map[string]bool{}
	for _, c := range calls {
		if c.raw != "" {
			b.WriteString(c.raw + "\n")
			continue
		}
		m := d.reg.Lookup(c.name)
		if m == nil {
			tb.Fatalf("there is no module %s", c.name)
		}
		for _, l := range m.Lib(complete(m, c.args)) {
			if !has[l] {
				b.WriteString(l)
			}
			has[l] = true
		}
		b.WriteString("\nm_x() { return 99; }\nm_x() {\n:\n" + m.Sh + "\n}\nM=" + c.mode + "\n")
		for _, f := range m.Args {
			v, ok := c.args[f.Name]
			if !ok {
				v = f.Default
			}
			fmt.Fprintf(&b, "a_%s=%s\n", f.Name, quote(text(v)))
		}
		for k := range c.args {
			if strings.HasPrefix(k, "_") {
				fmt.Fprintf(&b, "%s=%s\n", k, quote(text(c.args[k])))
			} else if !slices.ContainsFunc(m.Args, func(f module.Field) bool { return f.Name == k }) {
				tb.Fatalf("module %s has no argument %s", c.name, k)
			}
		}
		b.WriteString("m_x </dev/null 2>&1\nprintf '\\036R=%s\\037' $?\n")
	}
	return b.String()
}

func (d *device) run(tb testing.TB, mode, name string, args module.Args) result {
	tb.Helper()
	return d.runAll(tb, []call{{mode: mode, name: name, args: args}})[0]
}

// runAll runs calls in one shell, as the steps of a batch are run.
func (d *device) runAll(tb testing.TB, calls []call) []result {
	tb.Helper()
	// A file in the machine: what is in an argument list would be found by the
	// tests that look for secrets there.
	dir := "/proc/" + strconv.Itoa(d.Pid()) + "/root/run"
	f, err := os.CreateTemp(dir, "body")
	if err != nil {
		tb.Fatal(err)
	}
	defer os.Remove(f.Name())
	if _, err := f.WriteString(d.programOf(tb, calls)); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	out, err := d.Exec(tb.Context(), append(slices.Clone(d.shell), strings.TrimPrefix(f.Name(), dir[:len(dir)-4]))...)
	if err != nil {
		tb.Fatalf("%v: %v\n%s", calls, err, out)
	}
	var rs []result
	for _, c := range calls {
		if c.raw != "" {
			continue
		}
		r, rest := parse(out)
		rs, out = append(rs, r), rest
	}
	return rs
}

// parse takes the frames of one body out of the output.
func parse(s string) (r result, rest string) {
	r = result{out: map[string]string{}, state: map[int]string{}, before: map[int]string{}, rc: -1}
	for {
		before, rest, ok := strings.Cut(s, "\036")
		r.stdout += before
		if !ok {
			return r, ""
		}
		frame, after, _ := strings.Cut(rest, "\037")
		s = after
		k, v, _ := strings.Cut(frame, "=")
		switch k[:1] {
		case "O":
			r.out[k[1:]] = v
		case "S":
			n, _ := strconv.Atoi(k[1:])
			r.state[n] = v
			if _, ok := r.before[n]; !ok {
				r.before[n] = v
			}
		case "M":
			r.said = v
		case "C":
			r.changed = true
		case "R":
			r.rc, _ = strconv.Atoi(v)
			return r, s
		}
	}
}

func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case secret.Value:
		return v.Reveal()
	case []string:
		return strings.Join(v, "\n")
	default:
		return fmt.Sprint(v)
	}
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// ok applies a module and fails the test when it failed.
func (d *device) ok(tb testing.TB, name string, args module.Args) result {
	tb.Helper()
	r := d.run(tb, "apply", name, args)
	if r.rc != 0 {
		tb.Fatalf("%s %v: exit %d\n%s", name, args, r.rc, r.stdout)
	}
	return r
}

// refused applies a module that has to fail and leave /etc as it is.
func (d *device) refused(tb testing.TB, name string, args module.Args, why string) result {
	tb.Helper()
	before := d.fingerprint(tb)
	r := d.run(tb, "apply", name, args)
	if r.rc == 0 {
		tb.Fatalf("%s %v succeeded", name, args)
	}
	if !strings.Contains(r.stdout, why) {
		tb.Errorf("%s %v said %q, not %q", name, args, r.stdout, why)
	}
	if after := d.fingerprint(tb); after != before {
		tb.Errorf("%s %v was refused but changed something:\n%s", name, args, diff(before, after))
	}
	return r
}

// fingerprint lists everything of /etc, /home, /var and /srv that bodies can change.
func (d *device) fingerprint(tb testing.TB) string {
	tb.Helper()
	return d.sh(tb, `for d in /etc /home /var/mail /var/spool /srv /tmp /var/tmp /dev/shm /var/lib/systemd /run/sudo; do
[ -d $d ] || continue
find $d -xdev \( -name '*-' -o -name .pwd.lock -o -path /etc/ssh \) -prune -o -printf '%p %y %m %U %G %l\n' -type f -exec sha256sum {} +
done | sort; sha256sum /etc/passwd /etc/shadow /etc/group /etc/gshadow /etc/sub?id`)
}

func diff(a, b string) string {
	al, bl := strings.Split(a, "\n"), strings.Split(b, "\n")
	var out []string
	for _, l := range al {
		if !slices.Contains(bl, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range bl {
		if !slices.Contains(al, l) {
			out = append(out, "+ "+l)
		}
	}
	return strings.Join(out, "\n")
}

// quiet checks that probing and checking a call changes nothing, and that both
// report the state of every object.
func (d *device) quiet(tb testing.TB, name string, args module.Args, changes bool) map[int]string {
	tb.Helper()
	before := d.fingerprint(tb)
	probe := d.run(tb, "probe", name, args)
	check := d.run(tb, "check", name, args)
	if after := d.fingerprint(tb); after != before {
		tb.Errorf("looking at %s %v changed something:\n%s", name, args, diff(before, after))
	}
	if probe.rc != 0 || check.rc != 0 {
		tb.Errorf("looking at %s %v: exit %d and %d\n%s%s", name, args, probe.rc, check.rc, probe.stdout, check.stdout)
	}
	if probe.changed || check.changed != changes {
		tb.Errorf("%s %v: probe says changed %v, check %v, want %v", name, args, probe.changed, check.changed, changes)
	}
	if n := len(d.objects(name, args)); len(probe.state) != n || len(check.state) != n {
		tb.Errorf("%s %v has %d objects; probe told %v, check %v", name, args, n, probe.state, check.state)
	}
	return probe.state
}

func (d *device) objects(name string, args module.Args) []module.Object {
	m := d.reg.Lookup(name)
	if m.Objects == nil {
		return nil
	}
	return m.Objects(complete(m, args))
}

// complete returns args with the defaults of m.
func complete(m *module.Module, args module.Args) module.Args {
	full := module.Args{}
	for _, f := range m.Args {
		if f.Default != nil {
			full[f.Name] = f.Default
		}
	}
	maps.Copy(full, args)
	return full
}

// twice applies a call two times: first it changes something, then nothing;
// looking does neither; the states of its objects are reported and stay; its
// undo brings back what was there before.
func (d *device) twice(tb testing.TB, name string, args module.Args, again module.Args) result {
	tb.Helper()
	before := d.fingerprint(tb)
	old := d.quiet(tb, name, args, true)
	r := d.ok(tb, name, args)
	if !r.changed {
		tb.Errorf("%s %v changed nothing", name, args)
	}
	if !maps.Equal(r.before, old) {
		tb.Errorf("%s %v said that it found %v, but it was %v", name, args, r.before, old)
	}
	full := maps.Clone(args)
	maps.Copy(full, again)
	now := d.quiet(tb, name, full, false)
	if !maps.Equal(now, r.state) {
		tb.Errorf("%s %v reported %v, but now it is %v", name, args, r.state, now)
	}
	if len(now) > 0 && maps.Equal(now, old) {
		tb.Errorf("%s %v changed something, but its objects are as they were: %v", name, args, now)
	}
	mid := d.fingerprint(tb)
	if s := d.ok(tb, name, full); s.changed || !maps.Equal(s.state, r.state) {
		tb.Errorf("%s %v changed something again (%v): %s", name, full, s.state, s.said)
	}
	if after := d.fingerprint(tb); after != mid {
		tb.Errorf("%s %v changed something again:\n%s", name, full, diff(mid, after))
	}
	os := d.objects(name, args)
	undone := false
	for i, o := range slices.Backward(os) {
		if o.Undo == nil || old[i] != "absent" {
			continue
		}
		undone = true
		d.ok(tb, o.Undo.Module, o.Undo.Args)
	}
	if undone {
		if after := d.fingerprint(tb); after != before {
			tb.Errorf("undoing %s %v did not bring back what was there:\n%s", name, args, diff(before, after))
		}
		for i, o := range os {
			if got := d.run(tb, "probe", name, args).state[i]; o.Undo != nil && got != old[i] {
				tb.Errorf("%s is %q after its undo, was %q", o.ID, got, old[i])
			}
		}
	}
	return r
}
