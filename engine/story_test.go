package engine_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/lab"
	"runner/engine/secret"
)

func secretOf(s string) secret.Value { return secret.New(s) }

func TestAGrantFromRequestToReceipt(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"key", "password"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Config{Name: "box"}, nil)
			params := map[string]any{"sudo": "ALL=(ALL) NOPASSWD: /usr/bin/id"}
			ask := engine.Ask{Credential: "admin", Requester: "ada", Caller: "ops", Operator: true, Params: params, GenerateKey: how == "key"}
			c, err := w.Request(t.Context(), ask)
			must(t, err)
			if r := c.Removal(); r.State != grant.Waiting || !r.Due.Equal(c.Grant.Expires) {
				t.Fatalf("before anything was sent the removal is %+v", r)
			}
			c, err = w.RunJob(t.Context(), c.Forward().ID)
			must(t, err)
			if c.Grant.State != grant.Active {
				t.Fatalf("grant is %s: %s\n%s", c.Grant.State, c.Grant.Failure, w.logOf(c.Forward().Execution))
			}
			c, s, err := w.Collect(t.Context(), c.Grant.ID, "ada")
			must(t, err)
			must(t, w.login(s))
			if _, _, err := w.Collect(t.Context(), c.Grant.ID, "ada"); err == nil {
				t.Fatal("the secret was handed out twice")
			}
			w.sudoAsTheRuleSays(s.Account)
			w.backstops(c)
			secrets := []string{s.Password, strings.Split(s.PrivateKey+"\n\n\n", "\n")[2]}
			c = w.end(c.Grant.ID)
			w.gone(c)
			if err := w.login(s); err == nil {
				t.Fatal("the account still logs in")
			}
			if c.Grant.NoAccess.IsZero() || c.Grant.NoTrace.Before(c.Grant.NoAccess) {
				t.Fatalf("no access at %v, no trace at %v", c.Grant.NoAccess, c.Grant.NoTrace)
			}
			for _, j := range c.Jobs {
				log := w.logOf(j.Execution)
				for _, s := range secrets {
					if s != "" && strings.Contains(log, s) {
						t.Fatalf("the log of the %s job holds a secret", j.Kind)
					}
				}
			}
			again, err := w.Remove(t.Context(), c)
			must(t, err)
			w.gone(again)
		})
	}
}

// sudoAsTheRuleSays checks that the rule holds, and nothing more.
func (w *world) sudoAsTheRuleSays(account string) {
	w.t.Helper()
	if out := w.sh("su -s /bin/sh -c 'sudo -n /usr/bin/id -u' " + account); strings.TrimSpace(out) != "0" {
		w.t.Fatalf("sudo id: %q", out)
	}
	if _, err := w.box.Shell(w.t.Context(), "su -s /bin/sh -c 'sudo -n /usr/bin/whoami' "+account); err == nil {
		w.t.Fatal("sudo allows more than the rule")
	}
}

// backstops checks the expiries that the device itself enforces.
func (w *world) backstops(c grant.Case) {
	w.t.Helper()
	g := c.Grant
	if !g.Backstop.After(g.Expires) {
		w.t.Fatalf("backstop %v is not later than the expiry %v", g.Backstop, g.Expires)
	}
	day := strings.TrimSpace(w.sh("getent shadow " + g.Account + " | cut -d: -f8"))
	until := g.Backstop.Unix()
	if want := strconv.FormatInt((until+86399)/86400, 10); day != want {
		w.t.Fatalf("the account expires on day %s, want %s", day, want)
	}
	rule := w.sh("cat /etc/sudoers.d/*" + g.Account)
	if want := "NOTAFTER=" + g.Backstop.UTC().Format("200601021504"); !strings.Contains(rule, want) || !strings.Contains(rule, "Z ") {
		w.t.Fatalf("sudo rule %q lacks %s…Z", rule, want)
	}
}

func TestTheSameRequesterCannotHoldTwo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	first := w.active("ada", nil)
	_, err := w.Request(t.Context(), engine.Ask{Credential: "admin", Requester: "ada", Caller: "ada"})
	de, ok := errors.AsType[*engine.DeniedError](err)
	if !ok || de.Existing == nil || de.Existing.ID != first.Grant.ID || !strings.Contains(err.Error(), first.Grant.Expires.UTC().Format(time.RFC3339)) {
		t.Fatalf("got %v", err)
	}
	second := w.active("bob", nil)
	if second.Grant.Account == first.Grant.Account || second.Grant.UID == first.Grant.UID {
		t.Fatal("two grants share an account")
	}
	w.gone(w.end(first.Grant.ID))
	if out := w.sh("id -u " + second.Grant.Account); strings.TrimSpace(out) != strconv.FormatInt(second.Grant.UID, 10) {
		t.Fatalf("the other grant's account: %q", out)
	}
	w.gone(w.end(second.Grant.ID))
	if _, err := w.Request(t.Context(), engine.Ask{Credential: "admin", Requester: "mallory", Caller: "mallory"}); err == nil {
		t.Fatal("somebody who is not a requester got a grant")
	}
	if _, err := w.Request(t.Context(), engine.Ask{Credential: "admin", Requester: "bob", Caller: "ada"}); err == nil {
		t.Fatal("ada requested for bob and is no operator")
	}
}

func TestExpiryRemovesWithoutAnybody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	c := w.active("ada", nil)
	s, err := w.Sweep(t.Context())
	must(t, err)
	if len(s.Removed)+len(s.Open) != 0 || s.Waiting != 1 {
		t.Fatalf("before its time: %+v", s)
	}
	w.now = func() time.Time { return time.Now().Add(time.Hour + time.Minute) }
	s, err = w.Sweep(t.Context())
	must(t, err)
	if len(s.Removed) != 1 || len(s.Open) != 0 {
		t.Fatalf("after it: %+v", s)
	}
	w.gone(s.Removed[0])
	if s.Removed[0].Grant.EndedBy != "expire" || s.Removed[0].Grant.ID != c.Grant.ID {
		t.Fatalf("%+v", s.Removed[0].Grant)
	}
}

func TestExtensionMovesTheDeviceFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	c := w.active("ada", map[string]any{"sudo": "ALL=(ALL) NOPASSWD: /usr/bin/id"})
	was := c.Grant.Expires
	c, err := w.Extend(t.Context(), c.Grant.ID, 2*time.Hour, "ada")
	must(t, err)
	if !c.Grant.Expires.Equal(was.Add(2*time.Hour)) || !c.Removal().Due.Equal(c.Grant.Expires) {
		t.Fatalf("expires %v, removal due %v, was %v", c.Grant.Expires, c.Removal().Due, was)
	}
	w.backstops(c)
	if _, err := w.Extend(t.Context(), c.Grant.ID, 2*time.Hour, "ada"); err == nil {
		t.Fatal("extended past the maximum")
	}
	w.gone(w.end(c.Grant.ID))
}

func TestALoggedInPersonWithAStubbornProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	c := w.active("ada", nil)
	u := c.Grant.Account
	w.sh(`su -s /bin/sh -c 'mkdir -p ~/deep/er; echo x > ~/deep/er/f; chmod 500 ~/deep/er ~/deep; echo y > /tmp/left; echo z > /dev/shm/left2; echo "* * * * * true" | crontab - ;
  (trap "" TERM HUP; while :; do sleep 1; done) >/dev/null 2>&1 &' ` + u)
	if !strings.Contains(w.traces(u, c.Grant.UID), "/proc/") {
		t.Fatal("the process does not run: the test proves nothing")
	}
	c = w.end(c.Grant.ID)
	w.gone(c)
	said := strings.Join(c.Grant.Receipt.Session, "\n")
	for _, want := range []string{"process", "/tmp/left", "/dev/shm/left2", "cron"} {
		if !strings.Contains(said, want) {
			t.Errorf("what was left in the session does not tell of %s:\n%s", want, said)
		}
	}
}

func TestAnAccountThatWasThereIsNeverTouched(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, func(s string) string { return s + "" })
	c, err := w.Request(t.Context(), engine.Ask{Credential: "admin", Requester: "ada", Caller: "ada", GenerateKey: true})
	must(t, err)
	w.sh("useradd -m -c 'a person' " + c.Grant.Account)
	before := w.sh("grep -h " + c.Grant.Account + " /etc/passwd /etc/shadow /etc/group; ls -la /home/" + c.Grant.Account)
	c, err = w.RunJob(t.Context(), c.Forward().ID)
	must(t, err)
	if c.Grant.State != grant.Cancelled || !strings.Contains(c.Grant.Failure, "was there before") {
		t.Fatalf("grant is %s: %s", c.Grant.State, c.Grant.Failure)
	}
	if after := w.sh("grep -h " + c.Grant.Account + " /etc/passwd /etc/shadow /etc/group; ls -la /home/" + c.Grant.Account); after != before {
		t.Fatalf("it was changed:\n%s\n%s", before, after)
	}
}

func TestAGroupThatWasThereStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	w.sh("groupadd ops; usermod -aG ops plain")
	c := w.active("ada", map[string]any{"groups": []any{"ops"}})
	if got := w.sh("id -nG " + c.Grant.Account); !strings.Contains(got, "ops") {
		t.Fatalf("groups: %q", got)
	}
	w.gone(w.end(c.Grant.ID))
	if got := strings.TrimSpace(w.sh("getent group ops | cut -d: -f4")); got != "plain" {
		t.Fatalf("members of ops: %q", got)
	}
}

func TestAUIDThatLeftSomethingIsNotHandedOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	w.sh("touch /var/tmp/old; chown 70000:70000 /var/tmp/old")
	c := w.active("ada", nil)
	if c.Grant.UID == 70000 {
		t.Fatal("uid 70000 was handed out while a file of it is left")
	}
	if out := w.sh("id -u " + c.Grant.Account); strings.TrimSpace(out) != strconv.FormatInt(c.Grant.UID, 10) {
		t.Fatalf("the grant has uid %d, the account %s", c.Grant.UID, out)
	}
	w.gone(w.end(c.Grant.ID))
	if out := w.sh("stat -c %u /var/tmp/old"); strings.TrimSpace(out) != "70000" {
		t.Fatalf("the other's file: %q", out)
	}
}

func TestRemovalComesFirstWhenTheGrantEndsBeforeItWasMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	c, err := w.Request(t.Context(), engine.Ask{Credential: "admin", Requester: "ada", Caller: "ada", GenerateKey: true})
	must(t, err)
	c, err = w.End(t.Context(), c.Grant.ID, "ada", "end")
	must(t, err)
	if _, err := w.RunJob(t.Context(), c.Forward().ID); err == nil {
		t.Fatal("a creation started after the end")
	}
	if c.Grant.State != grant.Cancelled {
		t.Fatalf("grant is %s", c.Grant.State)
	}
	if left := w.traces(c.Grant.Account, c.Grant.UID); left != "" {
		t.Fatalf("left: %s", left)
	}
}

func TestAnUnreachableDeviceIsTriedAgainForEver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	c := w.active("ada", nil)
	must(t, w.box.Stop())
	c = w.end(c.Grant.ID)
	r := c.Removal()
	if c.Grant.State != grant.Ending || r.State != grant.Waiting || r.LastError == "" || r.BlockedBy == "" || !r.Due.After(time.Now()) {
		t.Fatalf("grant %s, removal %+v", c.Grant.State, r)
	}
	if c.Overdue(time.Now().Add(time.Second)) == 0 {
		t.Fatal("not shown as overdue")
	}
}
