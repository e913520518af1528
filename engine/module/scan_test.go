package module_test

import (
	"strings"
	"testing"

	"runner/engine/module"
)

// Steps of a batch share what they read of the databases. Whatever happens
// between two of them, a step never believes what is not so any more.
func TestSharedScansAreNeverStale(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.sh(t, "groupadd ops")
		apply := func(name string, args module.Args) call { return call{mode: "apply", name: name, args: args} }
		gone, day, later := "false false ", "2030-01-02T00:00:00Z", "2031-02-03T00:00:00Z"
		table := []struct {
			call
			info, expires string // what user_info and a probe of expiry say after it
		}{
			{apply("user", account("comment", "made", "expires", day)), "true false made", day},
			{apply("password", module.Args{"user": acct, "password": "Canary-1"}), "true false made", day},
			{apply("group_member", module.Args{"user": acct, "groups": []string{"ops"}}), "true false made", day},
			{apply("expiry", module.Args{"user": acct, "expires": later}), "true false made", later},
			{apply("user", account("exists", "update", "locked", true, "comment", "changed")), "true true changed", later},
			{apply("shell", module.Args{"cmd": "usermod -U -c shell " + acct}), "true false shell", later},
			{apply("script", module.Args{"text": "usermod -c script " + acct}), "true false script", later},
			{apply("command", module.Args{"argv": []string{"usermod", "-c", "command", acct}}), "true false command", later},
			{apply("copy", module.Args{"dest": "/etc/passwd", "content": d.sh(t, "cat /etc/passwd") + "\n" + acct + ":x:71234:71234:copy:/home/" + acct + ":/bin/sh\n", "exists": "update"}), "true false copy", later},
			{call{raw: "_turn=2; sed -i 's/:copy:/:a batch later:/' /etc/passwd"}, "true false a batch later", later},
			{call{raw: "_turn=; sed -i 's/:a batch later:/:no batches:/' /etc/passwd"}, "true false no batches", later},
			{call{raw: "_turn=4; sed -i 's/:no batches:/:again:/' /etc/passwd"}, "true false again", later},
			{apply("user", account("state", "absent")), gone, "absent"},
		}
		look := []call{
			apply("user_info", account("brief", true)),
			{mode: "probe", name: "expiry", args: module.Args{"user": acct, "expires": "never"}},
		}
		calls, want := look, []string{gone, "absent"}
		for _, row := range table {
			calls = append(append(calls, row.call), look...)
			want = append(want, row.info, row.expires)
		}
		rs := d.runAll(t, calls)
		var got []string
		for _, c := range calls {
			if c.raw != "" {
				continue
			}
			r := rs[0]
			rs = rs[1:]
			switch {
			case r.rc != 0:
				t.Errorf("%s %v: exit %d\n%s", c.name, c.args, r.rc, r.stdout)
			case c.name == "user_info":
				got = append(got, r.out["exists"]+" "+r.out["locked"]+" "+r.out["comment"])
			case c.mode == "probe":
				got = append(got, r.state[0])
			}
		}
		if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
			t.Errorf("got\n%s\nwant\n%s", a, b)
		}
	})
}

// What takes an account away, and the receipt, trust nothing that was read
// before, even when nobody said that it changed.
func TestRemovalAndReceiptLookAfresh(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	info := call{mode: "apply", name: "user_info", args: account()}
	d.ok(t, "user", account())
	rs := d.runAll(t, []call{
		info,
		{raw: "sed -i 's/^" + acct + ":x:71234:/" + acct + ":x:71235:/' /etc/passwd"},
		{mode: "apply", name: "user", args: account("state", "absent")},
		info,
		{raw: "sed -i '/^" + acct + ":/d' /etc/passwd"},
		{mode: "apply", name: "surface", args: account()},
	})
	if r := rs[1]; r.rc == 0 || r.out["conflict"] != "true" {
		t.Errorf("the account of another uid: exit %d, %v", r.rc, r.out)
	}
	if got := rs[3].out["items"]; strings.Contains(got, "passwd\t") || !strings.Contains(got, "shadow\t"+acct) {
		t.Errorf("the surface is %q", got)
	}
}

// A batch reads the databases once, and again after each change.
func TestScansAreShared(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.sh(t, `mv /usr/bin/grep /usr/bin/grep.real; printf '#!/bin/sh\necho >>/run/greps\nexec /usr/bin/grep.real "$@"\n' >/usr/bin/grep; chmod 755 /usr/bin/grep`)
	brief := call{mode: "apply", name: "user_info", args: account("brief", true)}
	byName := call{mode: "apply", name: "user_info", args: module.Args{"name": acct, "brief": true}}
	for _, r := range d.runAll(t, []call{
		brief, brief,
		{mode: "apply", name: "user", args: account()},
		brief,
		{mode: "apply", name: "password", args: module.Args{"user": acct, "password": "Canary-1"}},
		byName, byName,
	}) {
		if r.rc != 0 {
			t.Errorf("exit %d\n%s", r.rc, r.stdout)
		}
	}
	if got := d.sh(t, "wc -l </run/greps"); got != "3" {
		t.Errorf("the databases were read %s times, not 3", got)
	}
}
