package module_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"runner/engine/module"
)

const (
	acct = "jit-abc"
	uid  = int64(71234)
)

func account(more ...any) module.Args {
	a := module.Args{"name": acct, "uid": uid}
	for i := 0; i < len(more); i += 2 {
		a[more[i].(string)] = more[i+1]
	}
	return a
}

func TestAccountIsCreatedOnceAndUndone(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		end := time.Now().Add(30 * time.Hour).UTC()
		args := account("comment", "runner g-1, until 20261121T120000Z", "expires", end.Format(time.RFC3339))
		r := d.twice(t, "user", args, module.Args{"exists": "adopt"})
		if r.out["uid"] != "71234" || r.out["created"] != "true" || r.out["exists"] != "true" || r.out["home"] != "/home/"+acct || r.out["locked"] != "false" {
			t.Errorf("outputs %v", r.out)
		}
		d.ok(t, "user", args)
		if got := d.sh(t, "stat -c '%U %G %a %F' /home/"+acct); got != acct+" "+acct+" 700 directory" {
			t.Errorf("home is %q", got)
		}
		want := (end.Unix() + 86399) / 86400
		line := strings.Split(d.sh(t, "grep ^"+acct+": /etc/shadow"), ":")
		if line[1] != "*" || line[7] != strconv.FormatInt(want, 10) {
			t.Errorf("shadow line is %v, want * and expiry %d", line, want)
		}
		if got := d.sh(t, "getent group "+acct); got != acct+":x:71234:" {
			t.Errorf("private group is %q", got)
		}
		d.refused(t, "user", args, "exists already")
	})
}

func TestAccountIsNotCreatedOverSomethingThatIsThere(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.sh(t, "groupadd -g 6001 taken; useradd -u 6002 -M other; mkdir /home/inhome; groupadd -g 71234 x-gid")
	d.refused(t, "user", module.Args{"name": "taken", "uid": uid}, "group taken exists")
	d.refused(t, "user", account("uid", int64(6002)), "belongs to other")
	d.refused(t, "user", module.Args{"name": "inhome", "uid": uid}, "exists already")
	d.refused(t, "user", module.Args{"name": "other", "uid": uid, "exists": "adopt"}, "exists with uid 6002")
	d.refused(t, "user", account("exists", "require"), "there is no account")
	d.refused(t, "user", account("comment", "a:b"), "colon")
	d.refused(t, "user", account("shell", "/no/such/shell"), "no shell")
	// A gid that is taken is no obstacle: the group just has another one.
	if r := d.ok(t, "user", account()); r.out["gid"] == "71234" || r.out["gid"] == "0" {
		t.Errorf("gid is %s", r.out["gid"])
	}
	d.ok(t, "user", account("state", "absent"))
	if got := d.sh(t, "getent group 71234"); got != "x-gid:x:71234:" {
		t.Errorf("the other group is %q", got)
	}
}

func TestAccountIsChangedWhereItDiffers(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.ok(t, "user", account("comment", "one", "expires", "2030-01-02T00:00:00Z"))
		up := account("exists", "update")
		if r := d.ok(t, "user", up); r.changed {
			t.Error("nothing was asked for, but it changed")
		}
		lock := account("exists", "require", "locked", true, "expires", "past", "shell", "nologin")
		d.quiet(t, "user", lock, true)
		if r := d.ok(t, "user", lock); !r.changed || r.out["locked"] != "true" {
			t.Errorf("lock: %+v", r)
		}
		if r := d.ok(t, "user", lock); r.changed {
			t.Error("locked twice")
		}
		line := d.sh(t, "getent passwd "+acct+"; cut -d: -f1,2,8 /etc/shadow | grep ^"+acct)
		if !strings.Contains(line, "/sbin/nologin\n"+acct+":!*:1") {
			t.Errorf("locked account is %q", line)
		}
		free := account("exists", "update", "locked", false, "expires", "never", "comment", "two, 3")
		if r := d.ok(t, "user", free); !r.changed || r.out["locked"] != "false" {
			t.Errorf("unlock: %+v", r)
		}
		line = d.sh(t, "getent passwd "+acct+"; cut -d: -f1,2,8 /etc/shadow | grep ^"+acct)
		if !strings.Contains(line, ":two, 3:") || !strings.HasSuffix(line, acct+":*:") {
			t.Errorf("unlocked account is %q", line)
		}
	})
}

func TestAccountOfSomebodyElseStays(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.sh(t, "useradd -m -u 6002 "+acct+"; useradd -m -u 71300 renamed; useradd -r -u 150 -M daemon2")
	if r := d.refused(t, "user", account("state", "absent"), "another account"); r.out["conflict"] != "true" {
		t.Errorf("outputs %v", r.out)
	}
	if r := d.refused(t, "user", module.Args{"name": "jit-old", "uid": int64(71300), "state": "absent"}, "belongs to renamed"); r.out["conflict"] != "true" {
		t.Errorf("outputs %v", r.out)
	}
	d.refused(t, "user", module.Args{"name": "daemon2", "state": "absent"}, "system uid")
	d.refused(t, "user", module.Args{"name": "root", "state": "absent", "system": true}, "uid 0")
}

func TestAccountGoesWithAllItsLines(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		before := d.fingerprint(t)
		d.ok(t, "user", account())
		d.sh(t, `gpasswd -a `+acct+` adm; gpasswd -a `+acct+` sudo; touch /var/mail/`+acct+`; chown `+acct+` /var/mail/`+acct+`
mkdir -p /home/`+acct+`/a/b; touch /home/`+acct+`/a/b/c; chown -R `+acct+` /home/`+acct+`; chmod 0 /home/`+acct+`/a/b; ln -s /etc /home/`+acct+`/etc
usermod --add-subuids 500000-565535 --add-subgids 500000-565535 `+acct+`; grep -q ^`+acct+`: /etc/subuid`)
		if r := d.ok(t, "user", account("state", "absent")); !r.changed || r.out["exists"] != "false" || r.state[0] != "absent" {
			t.Errorf("%+v", r)
		}
		if after := d.fingerprint(t); after != before {
			t.Errorf("something is left:\n%s", diff(before, after))
		}
		if r := d.ok(t, "user", account("state", "absent")); r.changed {
			t.Error("removed twice")
		}
	})
}

func TestAccountInUseIsRemovedAfterItsProcesses(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.ok(t, "user", account())
	d.sh(t, `setpriv --reuid 71234 --regid 71234 --clear-groups setsid sh -c 'trap "" TERM HUP; while :; do sleep 1; done' >/dev/null 2>&1 </dev/null & sleep 0.2`)
	d.ok(t, "user", account("state", "absent"))
	if got := d.sh(t, `grep -l "^Uid:.*71234" /proc/[0-9]*/status || true`); got != "" {
		t.Errorf("still running: %s", got)
	}
}

func TestHomeThatIsNotOurOwnStays(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	mk := func(extra string) {
		d.ok(t, "user", account())
		d.sh(t, extra)
	}
	home := "/home/" + acct
	mk("rm -rf " + home + "; mkdir /srv/keep; touch /srv/keep/f; chown -R 71234 /srv/keep; ln -s /srv/keep " + home)
	d.ok(t, "user", account("state", "absent"))
	d.sh(t, "test -f /srv/keep/f; test -L "+home+"; rm "+home)

	mk("chown 1:1 " + home + "; touch " + home + "/f")
	if r := d.ok(t, "user", account("state", "absent")); !strings.Contains(r.said, "kept") {
		t.Errorf("said %q", r.said)
	}
	d.sh(t, "test -f "+home+"/f; rm -r "+home)

	mk("mkdir /srv/b " + home + "/b; touch /srv/b/f; mount --bind /srv/b " + home + "/b")
	r := d.run(t, "apply", "user", account("state", "absent"))
	if r.rc == 0 || !strings.Contains(r.stdout, "mount point") {
		t.Errorf("a mount in the home: %+v", r)
	}
	d.sh(t, "test -f /srv/b/f; test -d "+home+"; getent passwd "+acct+" >/dev/null; umount "+home+"/b")
	d.ok(t, "user", account("state", "absent"))
	d.sh(t, "test -f /srv/b/f; test ! -e "+home)

	mk("usermod -d / " + acct)
	d.ok(t, "user", account("state", "absent"))
	d.sh(t, "test -d /etc; rm -rf "+home)
	mk("usermod -d /srv " + acct)
	d.ok(t, "user", account("state", "absent"))
	d.sh(t, "test -d /srv/keep")
}

func TestHalfDeletedAndHalfCreatedAccountsAreHealed(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.sh(t, "useradd -m -u 6000 jit-abcd; gpasswd -a jit-abcd adm; useradd -m -u 6001 xjit-abc; gpasswd -a xjit-abc adm")
		before := d.fingerprint(t)
		for _, cut := range []string{"passwd", "passwd shadow", "passwd shadow group", "shadow group gshadow", "passwd group", "shadow", "group gshadow subuid subgid", "passwd shadow group gshadow"} {
			d.ok(t, "user", account())
			d.sh(t, "gpasswd -a "+acct+" adm >/dev/null; usermod --add-subuids 500000-565535 --add-subgids 500000-565535 "+acct+"; for f in "+cut+"; do sed -i /^"+acct+":/d /etc/$f; done; printf 999999 >/etc/passwd.lock; printf 999998 >/etc/group.lock")
			r := d.ok(t, "user", account("state", "absent"))
			if !r.changed {
				t.Errorf("without %s: nothing was healed", cut)
			}
			d.sh(t, "rm -f /etc/*.lock")
			if after := d.fingerprint(t); after != before {
				t.Fatalf("without %s: something is left:\n%s", cut, diff(before, after))
			}
		}
	})
}

func TestOrphansWithoutAProofStay(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.sh(t, "groupadd -g 6001 docker; groupadd -g 6003 "+acct+"; gpasswd -a daemon "+acct)
	if r := d.ok(t, "user", module.Args{"name": "docker", "state": "absent"}); r.changed {
		t.Error("a group was taken for an account")
	}
	if r := d.ok(t, "user", account("state", "absent")); r.changed {
		t.Error("a group with members was taken for ours")
	}
	d.sh(t, "getent group docker; getent group "+acct+" | grep daemon")
}

// A device with busybox only has no expiry and no command for most of this.
func TestAccountWithoutShadowUtils(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.sh(t, "for p in useradd userdel usermod; do rm -f /usr/sbin/$p; done")
		before := d.fingerprint(t)
		d.refused(t, "user", account("expires", "2030-01-02T00:00:00Z"), "cannot expire")
		d.twice(t, "user", account("comment", "runner g-1", "shell", "/bin/sh"), module.Args{"exists": "adopt"})
		d.ok(t, "user", account("comment", "runner g-1", "shell", "/bin/sh"))
		if got := d.sh(t, "stat -c '%a %u %g' /home/"+acct+"; id "+acct+"; ls /etc/*.lock 2>/dev/null || true"); got != "700 71234 71234\nuid=71234("+acct+") gid=71234("+acct+") groups=71234("+acct+")" {
			t.Errorf("%q", got)
		}
		lock := account("exists", "require", "locked", true, "expires", "past", "shell", "nologin")
		if r := d.ok(t, "user", lock); !r.changed || r.out["locked"] != "true" {
			t.Errorf("%+v", r)
		}
		if r := d.ok(t, "user", lock); r.changed {
			t.Error("locked twice")
		}
		d.refused(t, "user", account("exists", "update", "expires", "2030-01-02T00:00:00Z"), "cannot expire")
		if r := d.ok(t, "user", account("state", "absent")); !r.changed {
			t.Error("nothing was deleted")
		}
		if after := d.fingerprint(t); after != before {
			t.Errorf("something is left:\n%s", diff(before, after))
		}
	})
}
