package module_test

import (
	"strings"
	"testing"

	"runner/engine/module"
	"runner/engine/secret"
)

// spy replaces the programs that the body starts by ones that first note the
// arguments and environment of themselves and of the shell that started them.
const spy = `for p in /usr/sbin/chpasswd /usr/bin/grep /usr/bin/sha256sum; do
mv $p $p.real
printf '#!/bin/sh\ncat /proc/$$/cmdline /proc/$$/environ /proc/$PPID/cmdline /proc/$PPID/environ >>/run/spy\nexec %s.real "$@"\n' $p >$p
chmod 755 $p
done`

func TestPasswordWorksAndIsNeverSeen(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.ok(t, "user", account())
		pw := "N0t-$een'\"\\`:#% x"
		args := module.Args{"user": acct, "password": secret.New(pw)}
		before := d.quiet(t, "password", args, true)
		d.sh(t, spy)
		r := d.ok(t, "password", args)
		if got := d.sh(t, "tr '\\0' '\\n' </run/spy >/run/spy2; grep.real -c 'N0t-[$]een' /run/spy2 || true; grep.real -c '^/usr/sbin/chpasswd$' /run/spy2"); !strings.HasPrefix(got, "0\n") || got == "0\n0" {
			t.Errorf("times the password and chpasswd were seen in arguments or environments: %q", got)
		}
		if !r.changed || r.state[0] == before[0] || strings.Contains(r.stdout+r.said+r.state[0], "N0t") {
			t.Errorf("%+v", r)
		}
		hash := d.sh(t, "grep ^"+acct+": /etc/shadow | cut -d: -f2")
		if strings.Contains(r.state[0], hash) || !strings.HasPrefix(hash, "$") {
			t.Errorf("state %q, hash %q", r.state[0], hash)
		}
		if got := d.sh(t, `perl -e 'chomp(my $p=<STDIN>); print crypt($p,$ARGV[0]) eq $ARGV[0] ? "same":"other"' '`+hash+`' <<'E'
`+pw+`
E`); got != "same" {
			t.Errorf("the stored hash is of another password")
		}
		// A hash that is there already is not set again.
		enc := module.Args{"user": acct, "password": secret.New(hash), "encrypted": true}
		if r := d.ok(t, "password", enc); r.changed {
			t.Error("the same hash was set again")
		}
		d.refused(t, "password", module.Args{"user": acct, "password": secret.New("x\nroot:owned")}, "line break")
		d.refused(t, "password", module.Args{"user": acct, "password": secret.New("plain"), "encrypted": true}, "not a crypt hash")
		d.refused(t, "password", module.Args{"user": acct, "password": secret.New("")}, "empty")
		d.refused(t, "password", module.Args{"user": "nobody-here", "password": secret.New("abc")}, "no account")
	})
}

func TestExpiryIsNeverEarlierThanAsked(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.ok(t, "user", account())
		d.sh(t, "ln -sf /usr/share/zoneinfo/Pacific/Kiritimati /etc/localtime")
		for in, want := range map[string]string{
			"2030-03-01T00:00:00Z": "2030-03-01T00:00:00Z", "2030-02-28T23:59:59Z": "2030-03-01T00:00:00Z", "2028-02-29T00:00:00.5Z": "2028-03-01T00:00:00Z",
			"2031-08-09": "2031-08-09T00:00:00Z", "never": "never", "past": "1970-01-02T00:00:00Z", "1924992000": "2031-01-01T00:00:00Z",
		} {
			args := module.Args{"user": acct, "expires": in}
			r := d.ok(t, "expiry", args)
			if r.out["expires"] != want || r.state[0] != want {
				t.Errorf("%s: %v", in, r.out)
			}
			if r := d.ok(t, "expiry", args); r.changed {
				t.Errorf("%s: changed again", in)
			}
		}
		if got := d.sh(t, "cut -d: -f1,8 /etc/shadow | grep ^"+acct); !strings.HasPrefix(got, acct+":") {
			t.Errorf("shadow: %s", got)
		}
		for _, bad := range []string{"tomorrow", "2030-03-01T00:00:00+01:00", "2030-3-1", "$(id)"} {
			d.refused(t, "expiry", module.Args{"user": acct, "expires": bad}, "not a time")
		}
	})
}
