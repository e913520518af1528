package module_test

import (
	"fmt"
	"strings"
	"testing"

	"runner/engine/module"
)

// useradd and userdel are killed at forty moments of their work; whatever they
// leave, user absent takes away, and then the account can be made again.
func TestAccountsAreHealedAfterKillsAtEveryMoment(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	before := d.fingerprint(t)
	partial := 0
	for i := range 40 {
		micros := 200 + i*i*25
		if i%2 == 0 {
			d.sh(t, fmt.Sprintf("useradd -m -u 71234 -K UID_MAX=99999 -K SUB_UID_COUNT=10 %s >/dev/null 2>&1 & p=$!; sleep 0.%06d; kill -KILL $p 2>/dev/null || true; wait $p 2>/dev/null || true", acct, micros))
		} else {
			d.ok(t, "user", account())
			d.sh(t, fmt.Sprintf("userdel -r %s >/dev/null 2>&1 & p=$!; sleep 0.%06d; kill -KILL $p 2>/dev/null || true; wait $p 2>/dev/null || true", acct, micros))
		}
		if d.fingerprint(t) != before {
			partial++
		}
		d.ok(t, "user", account("state", "absent"))
		d.sh(t, "rm -f /etc/*.lock /etc/passwd.[0-9]* /etc/shadow.[0-9]* /etc/group.[0-9]* /etc/gshadow.[0-9]* /etc/sub?id.[0-9]* /etc/passwd+ /etc/shadow+ /etc/group+ /etc/gshadow+ /etc/sub?id+")
		if after := d.fingerprint(t); after != before {
			t.Fatalf("try %d, killed after %d µs: something is left:\n%s", i, micros, diff(before, after))
		}
	}
	if partial == 0 {
		t.Error("no kill left anything: the test tests nothing")
	}
	t.Logf("%d of 40 kills left something to heal", partial)
}

func TestLiveLockIsRespected(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.ok(t, "user", account())
	d.sh(t, "sed -i /^"+acct+":/d /etc/passwd; sleep 600 >/dev/null 2>&1 & printf $! >/etc/group.lock; (sleep 1; rm -f /etc/group.lock) >/dev/null 2>&1 &")
	d.ok(t, "user", account("state", "absent"))
	if got := d.sh(t, "grep -l ^"+acct+": /etc/passwd /etc/shadow /etc/group /etc/gshadow || true; ls /etc/*.lock 2>/dev/null || true"); got != "" {
		t.Errorf("left: %s", got)
	}
}

func TestLockedDatabaseIsTriedAgain(t *testing.T) {
	t.Parallel()
	d := start(t, "bash")
	d.sh(t, `mv /usr/sbin/useradd /usr/sbin/useradd.real
printf '#!/bin/sh\nif [ ! -e /run/once ]; then touch /run/once; echo "useradd: cannot lock /etc/passwd; try again later." >&2; exit 1; fi\nexec /usr/sbin/useradd.real "$@"\n' >/usr/sbin/useradd; chmod 755 /usr/sbin/useradd`)
	if r := d.ok(t, "user", account()); r.out["created"] != "true" {
		t.Errorf("%+v", r)
	}
}

func TestRunningTwiceAtOnceMakesOneAccount(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	prog := d.program(t, "apply", "user", account())
	out, err := d.Shell(t.Context(), "cat >/run/p <<'X-END'\n"+prog+"\nX-END\ndash /run/p >/run/1 & dash /run/p >/run/2 & wait; cat /run/1 /run/2; stat -c %u /home/"+acct+"; grep -c ^"+acct+": /etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(out, "\036Ocreated=true") > 1 && !strings.HasSuffix(out, "71234\n1\n") {
		t.Errorf("%q", out)
	}
	d.ok(t, "user", module.Args{"name": acct, "uid": uid, "state": "absent"})
}

// useradd looks into every source of accounts, and says so with a status of its own.
func TestAccountOfAnotherSourceIsNotAdopted(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.sh(t, `printf '#!/bin/sh\necho "useradd: user already exists" >&2; exit 9\n' >/usr/sbin/useradd.new; chmod 755 /usr/sbin/useradd.new; mv /usr/sbin/useradd.new /usr/sbin/useradd`)
	if r := d.refused(t, "user", account(), "another source"); r.state[0] != "absent" || r.changed {
		t.Errorf("%+v", r)
	}
}

// A useradd that was killed leaves a home that belongs to root: that is no account.
func TestHomeThatWasNotGivenAwayIsNoSuccess(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.sh(t, `mv /usr/sbin/useradd /usr/sbin/useradd.real
printf '#!/bin/sh\n/usr/sbin/useradd.real "$@" && chown root: /home/`+acct+`\n' >/usr/sbin/useradd; chmod 755 /usr/sbin/useradd`)
	if r := d.run(t, "apply", "user", account()); r.rc == 0 || !strings.Contains(r.stdout, "not given to "+acct) || r.before[0] != "absent" {
		t.Errorf("%+v", r)
	}
}

// Whoever reads why an account is not removed needs to know who is in the way.
func TestALockThatStaysNamesItsHolder(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.ok(t, "user", account())
	d.sh(t, "sleep 600 >/dev/null 2>&1 & printf $! >/etc/passwd.lock")
	d.refused(t, "user", account("state", "absent", "remove_home", false), " sleep holds /etc/passwd.lock")
	d.sh(t, "kill $(cat /etc/passwd.lock); rm -f /etc/passwd.lock")
	d.ok(t, "user", account("state", "absent"))
}
