package module_test

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"runner/engine/module"
)

func TestWordsReachTheProgramAsTheyAre(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		r := d.ok(t, "command", module.Args{"argv": []string{"printf", "[%s]", "a b", "", "*", "$(touch /srv/pwned)", "'\"\\", "-n"}, "chdir": "/srv"})
		if r.stdout != `[a b][][*][$(touch /srv/pwned)]['"\][-n]` || !r.changed {
			t.Errorf("%q", r.stdout)
		}
		if r := d.run(t, "apply", "command", module.Args{"argv": []string{"sh", "-c", "exit 7"}}); r.rc != 7 {
			t.Errorf("exit %d, want 7", r.rc)
		}
		if r := d.ok(t, "command", module.Args{"argv": []string{"false"}, "creates": "/etc/passwd"}); r.changed {
			t.Error("ran although creates is there")
		}
		if r := d.ok(t, "command", module.Args{"argv": []string{"false"}, "removes": "/nowhere"}); r.changed {
			t.Error("ran although removes is not there")
		}
		for _, mode := range []string{"probe", "check"} {
			d.run(t, mode, "command", module.Args{"argv": []string{"touch", "/srv/ran"}})
			d.run(t, mode, "shell", module.Args{"cmd": "touch /srv/ran"})
			d.run(t, mode, "script", module.Args{"text": "touch /srv/ran"})
		}
		if got := d.sh(t, "ls -A /srv"); got != "" {
			t.Errorf("left: %s", got)
		}
	})
}

func TestProgramsGetTheirEnvironmentAndInput(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		evil := "$(touch /srv/pwned) `id` 'x\"\\\n-n %s"
		env := module.Args{"env": "JIT_A https_proxy PATH", "_e1": evil, "_e2": "", "_e3": "/usr/bin:/bin:/opt"}
		script := `printf '%s|%s|%s|' "$JIT_A" "${https_proxy-unset}" "$PATH"; cat`
		want := evil + "||/usr/bin:/bin:/opt|" + evil + "\n"
		for name, args := range map[string]module.Args{
			"shell":   {"cmd": script, "stdin": evil + "\n"},
			"command": {"argv": []string{"sh", "-c", script}, "stdin": evil + "\n"},
		} {
			maps.Copy(args, env)
			if r := d.ok(t, name, args); r.stdout != want {
				t.Errorf("%s: %q, want %q", name, r.stdout, want)
			}
		}
		for interpreter, text := range map[string]string{"/bin/sh": script + "; printf '[%s]' \"$@\"", "/bin/bash": script + "; printf '[%s]' \"$@\"", "/usr/bin/perl": `print "$ENV{JIT_A}|$ENV{https_proxy}|$ENV{PATH}|", <STDIN>; printf "[%s]", $_ for @ARGV`} {
			args := module.Args{"interpreter": interpreter, "text": text, "stdin": evil + "\n", "args": []string{"-x", "a b"}}
			maps.Copy(args, env)
			if r := d.ok(t, "script", args); r.stdout != want+"[-x][a b]" {
				t.Errorf("script of %s: %q, want %q", interpreter, r.stdout, want)
			}
		}
		if r := d.run(t, "apply", "script", module.Args{"text": "exit 9", "stdin": strings.Repeat("x", 300_000)}); r.rc != 9 {
			t.Errorf("exit %d", r.rc)
		}
		if r := d.ok(t, "script", module.Args{"text": strings.Repeat("# a long program\n", 3000) + "wc -c", "stdin": strings.Repeat("x", 300_000)}); strings.TrimSpace(r.stdout) != "300000" {
			t.Errorf("a long program read %s", r.stdout)
		}
		args := module.Args{"text": "print $ENV{JIT_A}", "interpreter": "/usr/bin/perl"}
		maps.Copy(args, env)
		if r := d.ok(t, "script", args); r.stdout != evil {
			t.Errorf("script: %q", r.stdout)
		}
		// Nothing of it is left for the next step, and who does not read all is not failed.
		if r := d.ok(t, "shell", module.Args{"cmd": `echo "${JIT_A-gone} $PATH"; cat`}); !strings.HasPrefix(r.stdout, "gone /usr/sbin") {
			t.Errorf("%q", r.stdout)
		}
		if r := d.ok(t, "shell", module.Args{"cmd": "true", "stdin": strings.Repeat("x", 300_000)}); r.stdout != "" {
			t.Errorf("%q", r.stdout)
		}
		if r := d.run(t, "apply", "shell", module.Args{"cmd": "exit 9", "stdin": "x"}); r.rc != 9 {
			t.Errorf("exit %d", r.rc)
		}
		if got := d.sh(t, "ls -A /srv"); got != "" {
			t.Errorf("left: %s", got)
		}
	})
}

func TestAProbeSaysWhatThereIs(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		step := func(mode, cmd, probe, want string) result {
			return d.run(t, mode, "shell", module.Args{"cmd": cmd, "_probe": probe, "_probe1": "/srv/it $(id)", "_want": want})
		}
		there := `test -e "${_probe1}"`
		made, gone := "touch '/srv/it $(id)'", "rm '/srv/it $(id)'"
		for i, c := range []struct {
			mode, cmd, probe, want string
			before, after          string
			changed                bool
			rc                     int
		}{
			{"probe", made, there, "present", "absent", "absent", false, 0},
			{"check", made, there, "present", "absent", "absent", true, 0},
			{"apply", "true", there, "present", "absent", "absent", true, 1}, // it did not do what it is for
			{"apply", made, "exit 7", "present", "", "", false, 1},
			{"probe", made, "exit 7", "present", "", "", false, 0},
			{"apply", made, there, "present", "absent", "present", true, 0},
			{"apply", "exit 9", there, "present", "present", "present", false, 0}, // nothing to do
			{"check", made, there, "present", "present", "present", false, 0},
			{"apply", "true", there, "absent", "present", "present", true, 1},
			{"apply", gone, there, "absent", "present", "absent", true, 0},
			{"apply", gone, there, "absent", "absent", "absent", false, 0},
		} {
			if r := step(c.mode, c.cmd, c.probe, c.want); r.rc != c.rc || r.before[0] != c.before || r.state[0] != c.after || r.changed != c.changed {
				t.Errorf("%d: exit %d, %q then %q, changed %v; want %+v\n%s", i, r.rc, r.before[0], r.state[0], r.changed, c, r.stdout)
			}
		}
		if got := d.sh(t, "ls -A /srv"); got != "" {
			t.Errorf("left: %s", got)
		}
	})
}

func TestScriptsAreKeptApart(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		r := d.ok(t, "shell", module.Args{"cmd": "cd /srv; v_x=1; umask 0; printf '%s' \"${_r1}\"; pwd", "_r1": "$(id) `id` 'x"})
		if r.stdout != "$(id) `id` 'x/srv\n" {
			t.Errorf("%q", r.stdout)
		}
		for cmd, rc := range map[string]int{"exit 3": 3, "false": 1, "if": 2, "return 4": 4, "kill -KILL $(sh -c 'echo $PPID')": 137} {
			r := d.run(t, "apply", "shell", module.Args{"cmd": cmd})
			if cmd == "if" && r.rc != 0 {
				continue
			}
			if r.rc != rc {
				t.Errorf("%s: exit %d, want %d", cmd, r.rc, rc)
			}
		}
		r = d.ok(t, "script", module.Args{"text": "echo \"$1|$2\"; x='a\nb'; echo \"$x\"", "args": []string{"-x", "a b"}})
		if r.stdout != "-x|a b\na\nb\n" {
			t.Errorf("%q", r.stdout)
		}
		r = d.ok(t, "script", module.Args{"text": `print "<$ARGV[0]>"`, "interpreter": "/usr/bin/perl", "args": []string{"a b"}})
		if r.stdout != "<a b>" {
			t.Errorf("%q", r.stdout)
		}
	})
}

func TestWaitForSeesPathsAndPorts(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.ok(t, "wait_for", module.Args{"port": int64(d.Port), "path": "/etc/passwd", "gone": "/nowhere"})
	d.sh(t, "(sleep 0.3; touch /srv/here) >/dev/null 2>&1 &")
	begun := time.Now()
	d.ok(t, "wait_for", module.Args{"path": "/srv/here"})
	if took := time.Since(begun); took < 100*time.Millisecond {
		t.Errorf("returned after %s", took)
	}
}

func TestFactsAreTyped(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		r := d.ok(t, "facts", nil)
		for _, f := range d.reg.Lookup("facts").Outputs {
			if r.out[f.Name] == "" {
				t.Errorf("%s is empty", f.Name)
			}
		}
		clock, err := strconv.ParseInt(r.out["clock"], 10, 64)
		if err != nil || time.Since(time.Unix(clock, 0)).Abs() > time.Minute {
			t.Errorf("clock %q", r.out["clock"])
		}
		if r.out["uid"] != "0" || r.out["hostname"] != "dev" || r.out["has_systemd"] != "false" || r.out["has_useradd"] != "true" || !strings.Contains(r.out["sshd"], ".") {
			t.Errorf("%v", r.out)
		}
	})
}

// Nothing that an argument holds may be run, whatever the module does with it.
func TestArgumentsAreNeverExecuted(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.ok(t, "user", account())
		evil := []string{"$(touch /srv/pwned)", "`touch /srv/pwned`", "x; touch /srv/pwned", "x' ; touch /srv/pwned '", "-rf", "--help", "a\nroot", "*", "../../etc/passwd", "x:0:0"}
		for _, m := range d.reg.All() {
			if m.Sh == "" || m.NeedsUndo || m.Name == "wait_for" {
				continue
			}
			for _, f := range m.Args {
				for _, e := range evil {
					args := module.Args{}
					for _, g := range m.Args {
						if g.Required {
							args[g.Name] = sample(g)
						}
					}
					args[f.Name] = e
					d.run(t, "apply", m.Name, args)
				}
			}
		}
		if got := d.sh(t, "ls -A /srv | grep -v ^sample$ || true; getent passwd 0 | wc -l; id -u root"); got != "1\n0" {
			t.Errorf("something was executed: %q", got)
		}
	})
}

// sample is a harmless value of a required argument.
func sample(f module.Field) any {
	switch f.Name {
	case "uid":
		return int64(71999)
	case "path", "dest", "src":
		return "/srv/sample"
	case "key":
		return "ssh-ed25519 AAAA"
	case "expires":
		return "2030-01-01T00:00:00Z"
	}
	return fmt.Sprint("sample-", f.Name)
}
