package module_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"runner/engine/module"
)

func TestSudoRuleHoldsUntilItsEnd(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.ok(t, "user", account())
		end := time.Now().Add(time.Hour).UTC()
		rule := module.Args{
			"file": "runner-" + acct, "user": acct, "not_after": end.Format(time.RFC3339),
			"rules": []string{acct + " ALL=(ALL) NOPASSWD: /usr/bin/id, (root) /usr/bin/true"},
		}
		r := d.twice(t, "sudoers", rule, nil)
		if r.out["not_after_supported"] != "true" {
			t.Errorf("outputs %v", r.out)
		}
		d.ok(t, "sudoers", rule)
		if got := d.sh(t, "stat -c '%a %U' /etc/sudoers.d/runner-"+acct+"; ls -A /etc/sudoers.d | grep -c [.] || true"); got != "440 root\n0" {
			t.Errorf("mode, owner and temporary files: %q", got)
		}
		if got := d.sh(t, "su -s /bin/sh -c 'sudo -n id -un' "+acct); got != "root" {
			t.Errorf("sudo id says %q", got)
		}
		// A later end replaces our own file; one in the past takes the right away.
		rule["not_after"] = time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
		if r := d.ok(t, "sudoers", rule); !r.changed {
			t.Error("another end changed nothing")
		}
		if out := d.sh(t, "su -s /bin/sh -c 'sudo -n id -un 2>&1' "+acct+" || true"); strings.Contains(out, "root") {
			t.Errorf("the rule still holds: %q", out)
		}
		gone := module.Args{"file": "runner-" + acct, "state": "absent"}
		d.quiet(t, "sudoers", gone, true)
		if r := d.ok(t, "sudoers", gone); !r.changed || r.state[0] != "absent" {
			t.Errorf("%+v", r)
		}
		if r := d.ok(t, "sudoers", gone); r.changed {
			t.Error("deleted twice")
		}
	})
}

func TestSudoRuleThatIsWrongIsNeverInPlace(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.ok(t, "user", account())
	d.sh(t, "echo '# mine' >/etc/sudoers.d/theirs")
	base := module.Args{"file": "x", "user": acct, "not_after": "2030-01-02T03:04:05Z"}
	with := func(k string, v any) module.Args {
		a := maps.Clone(base)
		a["rules"] = []string{acct + " ALL=(ALL) NOPASSWD: /usr/bin/id"}
		a[k] = v
		return a
	}
	r := d.refused(t, "sudoers", with("rules", []string{acct + " ALL=(ALL NOPASSWD /usr/bin/id"}), "visudo")
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "visudo: ") || !strings.Contains(last, "syntax error") {
		t.Errorf("the last line is %q", last)
	}
	d.refused(t, "sudoers", with("rules", []string{"no rule at all"}), "not a rule")
	d.refused(t, "sudoers", with("rules", []string{acct + " a=/bin/id : b=/bin/id"}), "one host specification")
	d.refused(t, "sudoers", with("file", "../passwd"), "not a file name")
	d.refused(t, "sudoers", with("file", "a.b"), "not a file name")
	d.refused(t, "sudoers", with("file", "theirs"), "not ours")
	d.refused(t, "sudoers", with("not_after", "2030-01-02T03:04:05+02:00"), "not a time in UTC")
	d.sh(t, "sed -i '/includedir/d' /etc/sudoers")
	d.refused(t, "sudoers", with("user", acct), "does not honour")
}

// The state of a file of ours is its text; what is not ours, or was changed so
// that it is no text of ours, is told apart by its digest.
func TestSudoersStateTellsFilesApart(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.ok(t, "user", account())
		rule := module.Args{"file": "x", "user": acct, "rules": []string{acct + " ALL=(ALL) NOPASSWD: /usr/bin/id"}}
		gone := module.Args{"file": "x", "state": "absent"}
		ours := d.ok(t, "sudoers", rule).state[0]
		seen := map[string]string{ours: "as it was written"}
		for _, change := range []string{
			"echo >>$f", "printf '# more' >>$f", "sed -i 's/id/su/' $f", "truncate -s -1 $f", "truncate -s 10 $f", ": >$f",
			"yes '# more' | head -n 200 >>$f", "rm $f; ln -s /etc/passwd $f",
		} {
			d.sh(t, "rm -rf /etc/sudoers.d/x")
			d.ok(t, "sudoers", rule)
			d.sh(t, "f=/etc/sudoers.d/x; chmod 640 $f; "+change)
			s := d.run(t, "probe", "sudoers", gone).state[0]
			if was := seen[s]; was != "" || s == "absent" {
				t.Errorf("after %q the state is %q, the same as %q", change, s, was)
			}
			seen[s] = change
		}
	})
}

func TestOldSudoGetsTheRuleWithoutAnEnd(t *testing.T) {
	t.Parallel()
	d := start(t, "busybox")
	d.ok(t, "user", account())
	d.sh(t, `mv /usr/sbin/visudo /usr/sbin/visudo.real
printf '#!/bin/sh\nfor f; do :; done\nif grep -q NOTAFTER "$f"; then echo "syntax error" >&2; exit 1; fi\nexec /usr/sbin/visudo.real "$@"\n' >/usr/sbin/visudo; chmod 755 /usr/sbin/visudo`)
	r := d.ok(t, "sudoers", module.Args{"file": "x", "user": acct, "not_after": "2030-01-02T03:04:05Z", "rules": []string{acct + " ALL=(ALL) NOPASSWD: /usr/bin/id"}})
	if r.out["not_after_supported"] != "false" || !strings.Contains(r.said, "does not know NOTAFTER") {
		t.Errorf("%+v", r)
	}
	if got := d.sh(t, "cat /etc/sudoers.d/x"); strings.Contains(got, "NOTAFTER") || !strings.Contains(got, "NOPASSWD: /usr/bin/id") {
		t.Errorf("file is %q", got)
	}
}

func TestSudoRuleGetsItsEndInEveryForm(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.ok(t, "user", account())
	for _, spec := range []string{
		"ALL=(ALL) /usr/bin/id", "ALL = (ALL:ALL) NOPASSWD:ALL", "ALL=/usr/bin/id", "ALL=NOPASSWD: /usr/bin/id --x\\=1", "ALL=(root) CWD=/tmp NOPASSWD: SETENV: /usr/bin/id",
		"ALL=(ALL) NOTAFTER=20300102030405Z NOPASSWD: ALL",
	} {
		d.ok(t, "sudoers", module.Args{"file": "x", "user": acct, "not_after": "2030-01-02T03:04:05Z", "rules": []string{acct + " " + spec}})
		if got := d.sh(t, "sudo -n -l -U "+acct+" | grep '^    (' | grep -vc NOTAFTER=20300102030405Z || true"); got != "0" {
			t.Errorf("%s: %s rules without an end", spec, got)
		}
	}
}
