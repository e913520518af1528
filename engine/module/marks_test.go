package module_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"runner/engine/module"
)

const markID = "g-abcdefghijklmnopqrstuvwxyz"

// A scan finds what bears a mark, and what it asks for by name or uid, with how
// that is now; a file that only looks like ours is not listed.
func TestMarksAreFound(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		mark := "runner " + markID + " until 20301121T120000Z"
		d.ok(t, "user", account("comment", mark+" of ops", "expires", "2030-11-22T00:00:00Z"))
		d.ok(t, "sudoers", module.Args{"file": "runner-" + acct, "user": acct, "rules": []string{acct + " ALL=(ALL) NOPASSWD: /usr/bin/id"}, "comment": mark, "not_after": "2030-11-21T12:00:00Z"})
		d.ok(t, "authorized_key", module.Args{"user": acct, "key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJSAt7rtzDKrk4UZl5h0H/6WS7+bf5BU+b++2/wiMCN0 x", "comment": "runner-" + markID, "expires": "2030-11-21T12:00:00Z"})
		home := d.sh(t, "getent passwd "+acct+" | cut -d: -f6")
		d.sh(t, `groupadd wheel; usermod -aG wheel `+acct+`
useradd -u 3456 -c 'says runner `+markID+` but not first' other3456
printf 'inrange:x:70077:70077::/home/inrange:/bin/sh\n' >>/etc/passwd
useradd -s /bin/sh -m -c 'a@tab' named; usermod -L named; sed -i 's/a@tab/a\ttab/' /etc/passwd
printf 'Defaults env_reset\n# runner `+markID+`\n' >/etc/sudoers.d/theirs
ln -s /etc/shadow /etc/sudoers.d/link
mkdir -p /home/named/.ssh; ln -s `+home+`/.ssh/authorized_keys /home/named/.ssh/authorized_keys
`)
		r := d.ok(t, "marks", module.Args{"names": []string{"named", "nobody-here"}, "uids": []string{"4711"}, "first": int64(70070), "last": int64(70079)})
		items := strings.Split(r.out["items"], "\n")
		slices.Sort(items)
		uid := d.sh(t, "id -u "+acct)
		want := []string{
			"account\tinrange\t70077\tnone\t\t/bin/sh\t\t\t/home/inrange\t",
			"account\t" + acct + "\t" + uid + "\topen\t22240\t/bin/bash\twheel\t\t" + home + "\t" + mark + " of ops",
			"account\tnamed\t" + d.sh(t, "id -u named") + "\tlocked\t\t/bin/sh\t\t\t/home/named\ta tab",
			"key\t" + home + "/.ssh/authorized_keys:expiry-time=\"20301121120000Z\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJSAt7rtzDKrk4UZl5h0H/6WS7+bf5BU+b++2/wiMCN0 runner-" + markID,
			"sudoers\trunner-" + acct + "\t" + acct + "\t" + mark,
		}
		for i, it := range items {
			if i >= len(want) || it != want[i] && !strings.HasPrefix(it, "key\t") {
				t.Errorf("item %d is %q", i, it)
			}
		}
		if len(items) != len(want) || !strings.HasSuffix(items[3], " runner-"+markID) {
			t.Errorf("%d items, want %d:\n%s", len(items), len(want), r.out["items"])
		}
		if r.changed || r.out["clock"] == "" {
			t.Errorf("%+v", r)
		}
		d.quiet(t, "marks", module.Args{}, false)
		for _, bad := range []module.Args{{"names": []string{"a;b"}}, {"names": []string{"$(id)"}}, {"uids": []string{"1;"}}} {
			if d.run(t, "apply", "marks", bad).rc == 0 || d.reg.Lookup("marks").Check(bad) == nil {
				t.Errorf("%v is taken", bad)
			}
		}
	})
}

// Every mark that a template leaves can be read back after a renewal, too.
func TestRenewedRuleSaysItsNewEnd(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.ok(t, "user", account())
	end := time.Now().Add(time.Hour).UTC()
	rule := module.Args{"file": "runner-" + acct, "user": acct, "rules": []string{acct + " ALL=(ALL) NOPASSWD: /usr/bin/id"}, "comment": "runner " + markID + " until " + end.Format("20060102T150405Z"), "not_after": end.Format(time.RFC3339)}
	d.ok(t, "sudoers", rule)
	end = end.Add(time.Hour)
	rule["comment"], rule["not_after"] = "runner "+markID+" until "+end.Format("20060102T150405Z"), end.Format(time.RFC3339)
	if r := d.ok(t, "sudoers", rule); !r.changed {
		t.Error("nothing changed")
	}
	text := d.sh(t, "cat /etc/sudoers.d/runner-"+acct)
	if strings.Count(text, markID) != 1 || strings.Count(text, end.Format("20060102T150405Z")) != 1 || strings.Count(text, "NOTAFTER="+end.Format("20060102150405Z")) != 1 {
		t.Errorf("the file says\n%s", text)
	}
	for _, bad := range []string{"a\nALL ALL=(ALL) ALL", `a\`} {
		rule["comment"] = bad
		if d.run(t, "apply", "sudoers", rule).rc == 0 || d.reg.Lookup("sudoers").Check(rule) == nil {
			t.Errorf("comment %q is taken", bad)
		}
	}
}
