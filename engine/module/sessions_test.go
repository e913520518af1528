package module_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"runner/engine/module"
)

// as runs a command in the background as our uid.
func (d *device) as(tb testing.TB, id int64, script string) {
	tb.Helper()
	d.sh(tb, fmt.Sprintf("setpriv --reuid %d --regid %d --clear-groups setsid sh -c %s >/dev/null 2>&1 </dev/null & sleep 0.3", id, id, quote(script)))
}

func TestSessionsEndByUid(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.sh(t, "groupadd -g 71233 x; useradd -u 71233 -g 71233 other")
		d.ok(t, "user", account())
		d.sh(t, "usermod --add-subuids 500000-565535 "+acct)
		d.as(t, uid, "trap '' TERM HUP; while :; do sleep 1; done")
		d.as(t, uid, "exec sleep 600")
		d.as(t, 71233, "exec sleep 601")
		d.as(t, 500007, "exec sleep 602")
		args := module.Args{"uid": uid, "name": acct, "grace": int64(1)}
		d.quiet(t, "kill_sessions", args, true)
		r := d.ok(t, "kill_sessions", args)
		if n := strings.Count(r.out["killed"], "sleep"); !r.changed || n < 3 || r.out["remaining"] != "" {
			t.Errorf("%+v", r)
		}
		if got := d.sh(t, "pgrep -r D,R,S,T -x -a sleep | cut -d' ' -f2- | sort"); got != "sleep 601" {
			t.Errorf("still running: %q", got)
		}
		if r := d.ok(t, "kill_sessions", args); r.changed {
			t.Errorf("ended twice: %+v", r)
		}
	})
}

func TestProcessThatForksFasterThanWeListIsEnded(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.as(t, uid, `n=0; f() { trap '' TERM; while :; do (f2) & sleep 0.01; done; }; f2() { trap '' TERM; exec sh -c 'trap "" TERM; sleep 0.02; (sleep 0.05; exec sleep 3) & exec sleep 2'; }; f`)
	r := d.ok(t, "kill_sessions", module.Args{"uid": uid, "grace": int64(0)})
	if got := d.sh(t, "pgrep -r D,R,S,T -U 71234 -a || true"); got != "" || !r.changed {
		t.Errorf("still running: %s", got)
	}
}

func TestSystemAndOwnSessionsAreNotEnded(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.refused(t, "kill_sessions", module.Args{"uid": int64(0), "allow_system": true}, "system uid 0")
	d.refused(t, "kill_sessions", module.Args{"uid": int64(33)}, "system uid 33")
	d.refused(t, "kill_sessions", module.Args{"uid": int64(-1)}, "not a number")
	// Whoever calls us is not cut off.
	d.sh(t, "useradd -u 71234 -m "+acct)
	prog := d.program(t, "apply", "kill_sessions", module.Args{"uid": uid})
	out, err := d.Shell(t.Context(), "cat >/run/p <<'X-END'\n"+prog+"\nX-END\nchmod 644 /run/p\nsetpriv --reuid 71234 --regid 71234 --clear-groups dash -c 'sh /run/p; :'")
	if err != nil || !strings.Contains(out, "the one this session runs as") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestLeftoversGoAndOthersStay(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.sh(t, "useradd -u 6000 -m jit-abcd; mkdir -p /var/spool/cron/crontabs /var/lib/systemd/linger /run/sudo/ts /var/spool/at /run/user")
		d.sh(t, "for n in jit-abcd; do touch /var/spool/cron/crontabs/$n /var/lib/systemd/linger/$n /run/sudo/ts/$n /var/mail/$n /tmp/$n; chown $n /tmp/$n /var/mail/$n; done; echo jit-abcd ALL=ALL >/etc/sudoers.d/theirs; mkdir -p /srv/m")
		before := d.fingerprint(t)
		d.ok(t, "user", account("create_home", false))
		with := d.fingerprint(t)
		d.sh(t, fmt.Sprintf(`n=%s; u=%d
touch /var/spool/cron/crontabs/$n /var/lib/systemd/linger/$n /run/sudo/ts/$n /run/sudo/ts/$u /var/mail/$n "/tmp/a b" /tmp/-rf "/var/tmp/x
y" /dev/shm/s /var/spool/at/a001
mkdir -p /tmp/d/e /run/user/$u; ln -s /etc /tmp/d/etc; touch /tmp/d/e/f; mkdir /tmp/d/m; mount --bind /srv/m /tmp/d/m; umount /tmp/d/m
chown -hR $u /tmp/d "/tmp/a b" /tmp/-rf /var/tmp/x* /dev/shm/s /var/spool/at/a001 /var/mail/$n /run/user/$u
mount -t tmpfs -o uid=$u t /run/user/$u
setpriv --reuid $u --regid $u --clear-groups sh -c 'ipcmk -M 100 -S 1 -Q' >/dev/null`, acct, uid))
		args := module.Args{"name": acct, "uid": uid}
		d.quiet(t, "user_leftovers", args, true)
		r := d.ok(t, "user_leftovers", args)
		got := strings.Split(r.out["removed"], "\n")
		for _, want := range []string{
			"crontab\t/var/spool/cron/crontabs/" + acct, "linger\t/var/lib/systemd/linger/" + acct, "sudo-ts\t/run/sudo/ts/" + acct, "sudo-ts\t/run/sudo/ts/71234",
			"mail\t/var/mail/" + acct, "run-user\t/run/user/71234", "file\t/tmp/a b", "file\t/tmp/-rf", "file\t/var/tmp/x?y", "file\t/dev/shm/s", "file\t/tmp/d/etc", "file\t/var/spool/at/a001",
		} {
			if !slices.Contains(got, want) {
				t.Errorf("%q was not removed; removed: %q", want, got)
			}
		}
		if n := strings.Count(r.out["removed"], "ipc\t"); n != 3 {
			t.Errorf("%d ipc objects were removed", n)
		}
		if after := d.fingerprint(t); after != with {
			t.Errorf("something else changed:\n%s", diff(with, after))
		}
		if r := d.ok(t, "user_leftovers", args); r.changed {
			t.Errorf("removed twice: %+v", r)
		}
		d.ok(t, "user", account("state", "absent"))
		if after := d.fingerprint(t); after != before {
			t.Errorf("something is left:\n%s", diff(before, after))
		}
		d.refused(t, "user_leftovers", module.Args{"name": "jit-abcd", "uid": uid}, "another account")
		d.refused(t, "user_leftovers", module.Args{"name": acct, "uid": int64(6000)}, "belongs to jit-abcd")
		d.refused(t, "user_leftovers", module.Args{"name": "root", "uid": int64(0)}, "system uid")
		d.refused(t, "user_leftovers", module.Args{"name": acct, "uid": uid, "paths": []string{"/etc"}}, "paths cannot")
	})
}

func TestSurfaceShowsAllAndOnlyWhatIsOurs(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.sh(t, `useradd -u 6000 -m jit-abcd; useradd -u 6001 -m x-jit-abc; gpasswd -a jit-abcd adm; echo 'jit-abcd ALL=ALL' >/etc/sudoers.d/a; echo 'x-jit-abc ALL=ALL' >/etc/sudoers.d/b; touch /tmp/jit-abc; mkdir -p /run/sudo/ts`)
		args := module.Args{"name": acct, "uid": uid}
		empty := d.run(t, "apply", "surface", args)
		if empty.rc != 0 || empty.out["items"] != "" || empty.out["uid_free"] != "true" || len(empty.out["clock"]) != 10 {
			t.Fatalf("before: %+v", empty)
		}
		d.ok(t, "user", account())
		d.sh(t, fmt.Sprintf(`n=%s; u=%d; gpasswd -a $n adm; echo "$n ALL=(ALL) ALL" >/etc/sudoers.d/c; echo "#71234 ALL=ALL" >/etc/sudoers.d/d; touch /run/sudo/ts/$n /var/mail/$n; touch "/tmp/a b" /dev/shm/z; chown $u "/tmp/a b" /dev/shm/z
usermod --add-subuids 500000-565535 $n; mkdir /home/$n/.ssh; touch /home/$n/.ssh/authorized_keys`, acct, uid))
		d.as(t, uid, "exec sleep 600")
		r := d.ok(t, "surface", args)
		pid := d.sh(t, "pgrep -x sleep")
		want := []string{
			"authorized_keys\t/home/" + acct + "/.ssh/authorized_keys", "file\t/dev/shm/z", "file\t/tmp/a b", "group\t" + acct + ":gid=71234", "group-member\tadm", "gshadow\t" + acct,
			"home\t/home/" + acct, "mail\t/var/mail/" + acct, "passwd\t" + acct + ":uid=71234", "process\t" + pid + " sleep", "shadow\t" + acct, "subuid\t500000:65536",
			"sudo-ts\t/run/sudo/ts/" + acct, "sudoers\t/etc/sudoers.d/c", "sudoers\t/etc/sudoers.d/d",
		}
		if got := strings.Split(r.out["items"], "\n"); !slices.Equal(got, want) || r.out["uid_free"] != "false" || r.changed {
			t.Errorf("%s", diff(strings.Join(want, "\n"), strings.Join(got, "\n")))
		}
		d.sh(t, "pkill -KILL -u 71234; while pgrep -u 71234; do sleep 0.05; done; usermod -l renamed "+acct)
		if r := d.ok(t, "surface", args); !strings.Contains(r.out["items"], "passwd\trenamed:uid=71234") || r.out["uid_free"] != "false" {
			t.Errorf("a renamed account: %+v", r.out)
		}
	})
}

func TestUserInfoKnowsNameAndUid(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		none := d.run(t, "probe", "user_info", module.Args{"name": acct, "uid": uid})
		if none.rc != 0 || none.out["exists"] != "false" || none.out["uid"] != "71234" || none.out["by_uid_name"] != "" {
			t.Errorf("nobody: %+v", none)
		}
		d.ok(t, "user", account("comment", "runner g-1", "expires", "2030-01-02T00:00:00Z", "shell", "/bin/sh"))
		d.sh(t, "gpasswd -a "+acct+" adm")
		for _, args := range []module.Args{{"name": acct}, {"uid": uid}, {"name": acct, "uid": uid}} {
			r := d.ok(t, "user_info", args)
			want := map[string]string{
				"exists": "true", "name": acct, "uid": "71234", "gid": "71234", "home": "/home/" + acct, "shell": "/bin/sh", "comment": "runner g-1",
				"locked": "false", "groups": acct + "\nadm", "expires": "2030-01-02T00:00:00Z", "logged_in": "false", "local": "true",
			}
			for k, v := range want {
				if r.out[k] != v {
					t.Errorf("%v: %s is %q, want %q", args, k, r.out[k], v)
				}
			}
			if by := r.out["by_uid_name"]; args["uid"] != nil && by != acct {
				t.Errorf("%v: by_uid_name is %q", args, by)
			}
		}
		d.sh(t, "usermod -l renamed "+acct)
		if r := d.ok(t, "user_info", module.Args{"name": acct, "uid": uid}); r.out["exists"] != "false" || r.out["by_uid_name"] != "renamed" {
			t.Errorf("renamed: %v", r.out)
		}
	})
}
