package module_test

import (
	"strings"
	"testing"

	"runner/engine/module"
)

// However an account was disabled, it can be used in between, and is disabled in
// the same way afterwards.
func TestAnAccountIsEnabledAndDisabledAsItWas(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.sh(t, "useradd -m -s /bin/sh erin; chage -d 2001-01-01 erin")
		args := module.Args{"user": "erin", "expires": "2091-03-04T12:00:00Z"}
		for _, how := range []string{
			"echo erin:secret1 | chpasswd; usermod -L erin; chage -d 2001-01-01 erin",
			"echo erin:secret1 | chpasswd; usermod -e 1 erin",
			"echo erin:secret1 | chpasswd; usermod -L -e 1990-01-01 erin",
			"usermod -p '!' -e '' erin", "usermod -p '!!' -e 2090-01-01 erin", "usermod -p '!*' erin",
		} {
			d.sh(t, "usermod -e '' erin; "+how)
			before := d.sh(t, "grep ^erin: /etc/shadow")
			was := d.run(t, "probe", "enable", args).state[0]
			if !strings.HasPrefix(was, "absent uid=") {
				t.Fatalf("%s: state %q", how, was)
			}
			d.quiet(t, "enable", args, true)
			r := d.ok(t, "enable", args)
			if hash := d.sh(t, "grep ^erin: /etc/shadow | cut -d: -f2,8"); strings.HasPrefix(hash, "!") || !strings.HasSuffix(hash, ":44258") || r.out["enabled"] != "true" {
				t.Errorf("%s: %q, %+v", how, hash, r)
			}
			if r := d.ok(t, "enable", args); r.changed {
				t.Errorf("%s: enabled twice: %+v", how, r)
			}
			back := module.Args{"user": "erin", "state": "absent", "was": was}
			d.ok(t, "enable", back)
			if after := d.sh(t, "grep ^erin: /etc/shadow"); after != before {
				t.Errorf("%s: before and after:\n%s\n%s", how, before, after)
			}
			if r := d.ok(t, "enable", back); r.changed {
				t.Errorf("%s: disabled twice: %+v", how, r)
			}
		}
		// A password that it was given meanwhile stays, locked.
		d.sh(t, "usermod -p '!' -e '' erin")
		was := d.run(t, "probe", "enable", args).state[0]
		d.ok(t, "enable", args)
		d.sh(t, "echo erin:secret2 | chpasswd")
		d.ok(t, "enable", module.Args{"user": "erin", "state": "absent", "was": was})
		if hash := d.sh(t, "grep ^erin: /etc/shadow | cut -d: -f2"); !strings.HasPrefix(hash, "!$") {
			t.Errorf("the password is %q", hash)
		}
		// One that can be used keeps its expiry unless it is too early.
		d.sh(t, "usermod -U -e 2092-01-01 erin")
		if r := d.ok(t, "enable", args); r.changed {
			t.Errorf("%+v", r)
		}
		d.refused(t, "enable", module.Args{"user": "erin", "uid": int64(4)}, "another account")
		d.refused(t, "enable", module.Args{"user": "root"}, "uid 0")
		d.refused(t, "enable", module.Args{"user": "nobodyhere"}, "no account")
		d.refused(t, "enable", module.Args{"user": "erin", "state": "absent"}, "was has to say")
		d.refused(t, "enable", module.Args{"user": "erin", "state": "absent", "was": "absent uid=4 lock=hash expires="}, "another account")
		d.sh(t, "usermod -L -s /usr/sbin/nologin erin")
		d.refused(t, "enable", args, "would let nobody in")
	})
}

// Whoever is cut off while an account is enabled or disabled leaves it in a state that
// it was in before or is to be in: both are one write.
func TestAnAccountIsEnabledInOneWrite(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.sh(t, `useradd -m -s /bin/sh erin; mv /usr/sbin/usermod /usr/sbin/usermod.real
printf '#!/bin/sh\necho once >>/run/writes\nexec /usr/sbin/usermod.real "$@"\n' >/usr/sbin/usermod; chmod 755 /usr/sbin/usermod`)
		args := module.Args{"user": "erin", "expires": "2091-03-04T12:00:00Z"}
		for how, writes := range map[string]string{"-p '!$6$x$y' -e 1990-01-01": "2", "-p '$6$x$y' -e 1": "2", "-p '!$6$x$y' -e ''": "2", "-p '!!' -e 1990-01-01": "0"} {
			d.sh(t, "usermod.real "+how+" erin; : >/run/writes")
			before := d.sh(t, "cut -d: -f1,2,8 /etc/shadow | grep ^erin:")
			was := d.run(t, "probe", "enable", args).state[0]
			d.ok(t, "enable", args)
			d.ok(t, "enable", module.Args{"user": "erin", "state": "absent", "was": was})
			if after := d.sh(t, "cut -d: -f1,2,8 /etc/shadow | grep ^erin:"); after != before {
				t.Errorf("%s: %s, before %s", how, after, before)
			}
			if n := d.sh(t, "grep -c once /run/writes || true"); n != writes {
				t.Errorf("%s: usermod ran %s times, want %s", how, n, writes)
			}
		}
	})
}

// Only what began with a group that the account lost is ended.
func TestSessionsWithLostGroupsEnd(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.sh(t, "groupadd -g 7001 ops; groupadd -g 7002 dev; useradd -u 71234 -m erin")
		run := func(groups, script string) {
			d.sh(t, "setpriv --reuid 71234 --regid 71234 --groups "+groups+" setsid sh -c "+quote(script)+" >/dev/null 2>&1 </dev/null & sleep 0.3")
		}
		run("7001", "trap '' TERM; while :; do sleep 1; done")
		run("7002", "exec sleep 601")
		run("71234", "exec sleep 602")
		args := module.Args{"uid": uid, "name": "erin", "groups": []string{"ops", "dev", "gone"}, "grace": int64(0)}
		d.sh(t, "usermod -aG dev erin")
		list := module.Args{"uid": uid, "name": "erin", "groups": []string{"ops", "dev"}, "end": false}
		if r := d.ok(t, "kill_sessions", list); r.changed || !strings.Contains(r.out["remaining"], "sh") {
			t.Errorf("%+v", r)
		}
		d.quiet(t, "kill_sessions", args, true)
		if r := d.ok(t, "kill_sessions", args); !r.changed || r.out["killed"] == "" {
			t.Errorf("%+v", r)
		}
		if got := d.sh(t, "pgrep -r D,R,S,T -U 71234 -a | cut -d' ' -f2- | sort"); got != "sleep 601\nsleep 602" {
			t.Errorf("still running: %q", got)
		}
		if r := d.ok(t, "kill_sessions", args); r.changed {
			t.Errorf("ended twice: %+v", r)
		}
		d.refused(t, "kill_sessions", module.Args{"uid": uid, "groups": []string{"ops"}}, "needs the name")
	})
}
