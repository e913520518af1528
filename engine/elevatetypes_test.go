package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/lab"
	"runner/templates"
)

func TestSudoForAWhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, elevations("root type:elevate,elevate:linux-sudo commands:[/usr/bin/id]", "as type:elevate,elevate:linux-sudo run_as:plain"))
	w.sh("useradd -m erin")
	sudo := func(command string) (string, error) {
		out, err := w.box.Shell(t.Context(), "su -s /bin/sh -c 'sudo -n "+command+"' erin 2>&1")
		return strings.TrimSpace(out), err
	}
	root := w.elevate("root", "ada")
	as := w.elevate("as", "bob")
	if out, err := sudo("/usr/bin/id -u"); err != nil || out != "0" {
		t.Fatalf("id: %q, %v", out, err)
	}
	if out, err := sudo("-u plain /usr/bin/whoami"); err != nil || out != "plain" {
		t.Fatalf("whoami as plain: %q, %v", out, err)
	}
	if _, err := sudo("/usr/bin/whoami"); err == nil {
		t.Fatal("sudo allows more than the rule")
	}
	if rule := w.sh("cat /etc/sudoers.d/runner-" + root.Grant.ID); !strings.Contains(rule, "NOTAFTER="+root.Grant.Backstop.UTC().Format("200601021504")) {
		t.Fatalf("the rule does not end by itself: %s", rule)
	}
	more, err := w.Extend(t.Context(), root.Grant.ID, time.Hour, "ada")
	must(t, err)
	if rule := w.sh("cat /etc/sudoers.d/runner-" + root.Grant.ID); !strings.Contains(rule, "NOTAFTER="+more.Grant.Backstop.UTC().Format("200601021504")) {
		t.Fatalf("the end of the rule did not move: %s", rule)
	}
	w.over(root)
	if _, err := sudo("/usr/bin/id"); err == nil {
		t.Fatal("the rule still holds")
	}
	if out, err := sudo("-u plain /usr/bin/whoami"); err != nil || out != "plain" {
		t.Fatalf("the other grant's rule: %q, %v", out, err)
	}
	w.over(as)
	if left := w.sh("ls /etc/sudoers.d | grep runner || true"); left != "" {
		t.Fatalf("left: %s", left)
	}
}

func TestADisabledAccountIsEnabledForAWhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, elevations("one type:enable_disable ", "two type:enable_disable "))
	w.sh("useradd -m -s /bin/sh erin; echo erin:geheim | chpasswd; usermod -L -e 1990-01-01 erin")
	before := w.sh("cat /etc/passwd /etc/shadow")
	login := func() error {
		return w.login(&engine.Secret{Account: "erin", Password: "geheim"})
	}
	if login() == nil {
		t.Fatal("a disabled account logs in: the test proves nothing")
	}
	a := w.elevate("one", "ada")
	must(t, login())
	b := w.elevate("two", "bob")
	if _, err := w.Extend(t.Context(), b.Grant.ID, 2*time.Hour, "bob"); err != nil {
		t.Fatal(err)
	}
	w.sh("su -s /bin/sh -c 'sleep 1000 >/dev/null 2>&1 &' erin")
	w.over(a)
	must(t, login())
	if out := w.sh("pgrep -u erin sleep | wc -l"); strings.TrimSpace(out) != "1" {
		t.Fatal("the session of the other grant was ended")
	}
	b = w.over(b)
	if login() == nil {
		t.Fatal("the account still logs in")
	}
	if after := w.sh("cat /etc/passwd /etc/shadow"); after != before {
		t.Fatalf("the account is not as before:\n%s\nnow:\n%s", before, after)
	}
	if out := w.sh("pgrep -u erin sleep | wc -l"); strings.TrimSpace(out) != "0" || !strings.Contains(strings.Join(b.Grant.Receipt.Session, "\n"), "process") {
		t.Fatalf("sessions: %q, receipt %q", out, b.Grant.Receipt.Session)
	}
	// Somebody else disables it in another way meanwhile: it stays so.
	c := w.elevate("one", "ada")
	w.sh("usermod -L -e 1995-01-01 erin")
	c = w.over(c)
	if day := strings.TrimSpace(w.sh("grep ^erin: /etc/shadow | cut -d: -f8")); day != "9131" || len(c.Grant.Receipt.Conflicts) == 0 {
		t.Fatalf("expires on day %s, receipt %+v", day, c.Grant.Receipt)
	}
}

// A session keeps the groups that it began with: it is ended, unless the
// credential says to keep it; then the receipt tells of it.
func TestSessionsThatKeepALostGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, elevations("end type:group_membership groups:[ops]", "keep type:group_membership groups:[ops],sessions:keep"))
	w.sh("groupadd ops; useradd -m erin; su -s /bin/sh -c 'sleep 1001 >/dev/null 2>&1 &' erin")
	for _, cred := range []string{"keep", "end"} {
		g := w.elevate(cred, "ada")
		w.sh("su -s /bin/sh -c 'sleep 1002 >/dev/null 2>&1 &' erin")
		g = w.over(g)
		want := map[string]string{"end": "sleep 1001\n", "keep": "sleep 1001\nsleep 1002\n"}[cred]
		if out := w.sh("pgrep -u erin -a sleep | cut -d' ' -f2- | sort"); out != want {
			t.Fatalf("%s: running: %q", cred, out)
		}
		if said := strings.Join(g.Grant.Receipt.Session, "\n"); !strings.Contains(said, "process") || strings.Contains(said, "still running") != (cred == "keep") {
			t.Fatalf("%s: the receipt says %q", cred, said)
		}
	}
}

// An account that is made and elevated in one grant loses both, and a part that
// cannot be taken back does not keep the account.
func TestCreateAndElevateInOneGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, func(text string) string {
		return strings.Replace(text, "create: linux-user, delete: linux-user}", "create: linux-user, elevate: linux-sudo}\nparams: {commands: [/usr/bin/id]}", 1)
	})
	c := w.active("ada", nil)
	account := c.Grant.Account
	if out := w.sh("su -s /bin/sh -c 'sudo -n /usr/bin/id -u' " + account); strings.TrimSpace(out) != "0" {
		t.Fatalf("sudo id: %q", out)
	}
	c, err := w.Extend(t.Context(), c.Grant.ID, time.Hour, "ada")
	must(t, err)
	if rule := w.sh("cat /etc/sudoers.d/runner-" + c.Grant.ID); !strings.Contains(rule, "NOTAFTER="+c.Grant.Backstop.UTC().Format("200601021504")) {
		t.Fatalf("the end of the rule did not move: %s", rule)
	}
	w.gone(w.end(c.Grant.ID))

	c = w.active("ada", nil)
	w.sh("chattr +i /etc/sudoers.d/runner-" + c.Grant.ID + " 2>/dev/null || mount --bind /etc/sudoers.d/runner-" + c.Grant.ID + " /etc/sudoers.d/runner-" + c.Grant.ID)
	c = w.end(c.Grant.ID)
	if c.Grant.State != grant.Ending || c.Removal().BlockedBy == "" {
		t.Fatalf("grant is %s, %+v", c.Grant.State, c.Removal())
	}
	if _, err := w.box.Shell(t.Context(), "getent passwd "+c.Grant.Account); err == nil {
		t.Fatal("the account was kept by the rule that cannot be taken away")
	}
	w.sh("chattr -i /etc/sudoers.d/runner-" + c.Grant.ID + " 2>/dev/null || umount /etc/sudoers.d/runner-" + c.Grant.ID)
	c, err = w.RunNow(t.Context(), *c.Removal(), "ada")
	must(t, err)
	w.gone(c)
}

// An elevation whose outputs cannot be computed has not come to its end: neither the
// account nor what the elevation gave it stays.
func TestAnElevationOfANewAccountMustHandOnItsOutputs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, func(text string) string {
		return strings.Replace(text, "create: linux-user, delete: linux-user}", "create: linux-user, elevate: handing}\nparams: {groups: [ops]}", 1)
	})
	w.sh("groupadd ops")
	shipped, err := templates.FS.ReadFile("elevate/linux-group.yaml")
	must(t, err)
	text := strings.NewReplacer("name: linux-group", "name: handing", "outputs:\n", "outputs:\n  third: '[1, 2][len(params.groups) + 1]'\n").Replace(string(shipped))
	must(t, os.MkdirAll(filepath.Join(w.dir, "templates/elevate"), 0o700))
	must(t, os.WriteFile(filepath.Join(w.dir, "templates/elevate/handing.yaml"), []byte(text), 0o600))
	w = openWorld(t, w.box, w.dir)
	c := w.request("ada", nil)
	if c.Grant.State != grant.Ending || !strings.Contains(c.Grant.Failure, "not elevated: outputs.third: ") {
		t.Fatalf("grant is %s: %s", c.Grant.State, c.Grant.Failure)
	}
	c, err = w.Remove(t.Context(), c)
	must(t, err)
	w.gone(c)
	if out := w.sh("getent group ops"); !strings.HasSuffix(out, ":\n") {
		t.Errorf("the group has members: %s", out)
	}
}

// The account elevates itself by its own login; one that has no right to undo it
// is refused before anything is changed.
func TestAnAccountElevatesItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box", Accounts: []lab.Account{{Name: "erin", Sudo: lab.SudoFree}, {Name: "weak"}}}, func(text string) string {
		text = elevations("own type:group_membership,use_own_credential:true groups:[ops]")(text)
		at := strings.Index(text, "name: own")
		text = text[:at] + strings.Replace(text[at:], "user: jitadm", "user: erin", 1)
		weak := strings.NewReplacer("name: own", "name: weak", "account: erin", "account: weak", "user: erin", "user: weak").Replace(text[at-len("---\nschema: runner/v1\nkind: credential\n"):])
		return text + weak
	})
	w.sh("groupadd ops")
	c := w.elevate("own", "ada")
	if out := w.sh("id -nG erin"); !strings.Contains(out, "ops") {
		t.Fatalf("groups: %q", out)
	}
	w.over(c)
	c, err := w.Request(t.Context(), engine.Ask{Credential: "weak", Requester: "ada", Caller: "ada"})
	must(t, err)
	c, err = w.RunJob(t.Context(), c.Forward().ID)
	must(t, err)
	if c.Grant.State != grant.Cancelled || c.Grant.Failure == "" {
		t.Fatalf("grant is %s: %s", c.Grant.State, c.Grant.Failure)
	}
	_, err = w.Request(t.Context(), engine.Ask{Credential: "own", Requester: "ada", Caller: "ada", GenerateKey: true})
	if _, is := errors.AsType[*engine.InputError](err); !is {
		t.Fatalf("a key for an account that exists: %v", err)
	}
}

// Who can give but could not take back does not give.
func TestWhatCannotBeTakenBackIsNotGiven(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, elevations("ops type:elevate,elevate:one-way groups:[ops]"))
	w.sh("groupadd ops; useradd -m erin")
	text, err := templates.FS.ReadFile("elevate/linux-group.yaml")
	must(t, err)
	oneWay := strings.NewReplacer("name: linux-group", "name: one-way", "  - name: Look at the account\n", "  - name: Look at the account\n    become: nobodyhere\n").Replace(string(text))
	must(t, os.MkdirAll(filepath.Join(w.dir, "templates", "elevate"), 0o700))
	must(t, os.WriteFile(filepath.Join(w.dir, "templates", "elevate", "one-way.yaml"), []byte(oneWay), 0o600))
	w = openWorld(t, w.box, w.dir)
	before := w.sh("cat /etc/group")
	p, err := w.PlanRequest(t.Context(), engine.Ask{Credential: "ops", Requester: "ada", Caller: "ada"})
	if err == nil && len(p.Problems) == 0 {
		t.Fatal("the plan sees no problem")
	}
	c, err := w.Request(t.Context(), engine.Ask{Credential: "ops", Requester: "ada", Caller: "ada"})
	must(t, err)
	c, err = w.RunJob(t.Context(), c.Forward().ID)
	must(t, err)
	if c.Grant.State != grant.Cancelled || !strings.Contains(c.Grant.Failure, "nobodyhere") {
		t.Fatalf("grant is %s: %s", c.Grant.State, c.Grant.Failure)
	}
	if after := w.sh("cat /etc/group"); after != before {
		t.Fatalf("changed: %s", after)
	}
}
