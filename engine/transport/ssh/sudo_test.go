package ssh

import (
	"strings"
	"testing"

	"runner/engine/lab"
	"runner/engine/secret"
	"runner/engine/transport"
)

// whoami runs one step and returns who it ran as.
func whoami(t *testing.T, cfg Config) (string, *record, error) {
	t.Helper()
	var r record
	c := connTo(t, dialer(t), cfg)
	err := c.Run(t.Context(), transport.Batch{ID: "x-1", Steps: []transport.Step{sh(1, `echo "$(id -un) $LC_ALL"; readlink /proc/$$/fd/1 >&2`)}}, r.sink)
	return r.output(1, transport.Stdout), &r, err
}

func TestBecomeRoot(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	for user, tty := range map[string]bool{"jitadm": false, "jitpw": false, "jittty": true} {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			got, r, err := whoami(t, sudoConfig(t, m, user))
			if err != nil || !strings.HasPrefix(got, "root C\n") {
				t.Fatalf("%q, %v", got, err)
			}
			all := got + r.output(1, transport.Stderr)
			if has := strings.Contains(all, "/dev/pts"); has != tty {
				t.Errorf("a terminal: %t, want %t: %q", has, tty, all)
			}
		})
	}
}

// A password that sudo does not want is neither run nor shown.
func TestPasswordThatNobodyAsksFor(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	for _, user := range []string{"jitadm", "jittty"} {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			cfg := sudoConfig(t, m, user)
			cfg.Become.Password = secret.New("touch /tmp/ran-it")
			got, r, err := whoami(t, cfg)
			if err != nil || !strings.HasPrefix(got, "root C\n") {
				t.Fatalf("%q, %v", got, err)
			}
			for _, e := range r.events {
				if strings.Contains(string(e.Data)+e.Value, "ran-it") {
					t.Errorf("the password was shown: %q", e.Data)
				}
			}
			if out, err := m.Shell(t.Context(), "ls /tmp"); err != nil || strings.Contains(out, "ran-it") {
				t.Errorf("the password was executed: %q, %v", out, err)
			}
		})
	}
}

func TestSudoRefuses(t *testing.T) {
	t.Parallel()
	m := labMachine(t, lab.Config{Accounts: []lab.Account{
		{Name: "onlyid", Password: "x-pass-1"}, {Name: "ttypw", Password: "tty-pw-1", Sudo: lab.SudoPassword}, {Name: "nolog", Password: "y-pass-1", Shell: "/usr/sbin/nologin"},
	}})
	if _, err := m.Shell(t.Context(), `echo 'onlyid ALL=(root) NOPASSWD: /usr/bin/id' >/etc/sudoers.d/onlyid; echo 'Defaults:ttypw requiretty' >/etc/sudoers.d/ttypw`); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, user, password, become, want, phase string }{
		{"wrong password", "jitpw", "wrong one", "root", "become.wrong_password", "become"},
		{"no password known", "jitpw", "", "root", "become.password_required", "become"},
		{"wrong password on a terminal", "ttypw", "wrong one", "root", "become.wrong_password", "become"},
		{"not in sudoers", "plain", "plain-pass-1", "root", "become.not_in_sudoers", "become"},
		{"not in sudoers, no password", "plain", "", "root", "become.password_required", "become"},
		{"not this command", "onlyid", "", "root", "become.password_required", "become"},
		{"no such account", "jitadm", "", "nobody-here", "become.unknown_account", "become"},
		{"an account that is code", "jitadm", "", "root;id", "become.bad_account", "become"},
		{"nologin", "nolog", "", "", "exec.no_shell", "exec"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, m, c.user)
			cfg.Become = Become{Method: BecomeSudo, User: c.become, Password: secret.New(c.password)}
			_, r, err := whoami(t, cfg)
			if code(err) != c.want || !transport.SafeToRetry(err) {
				t.Fatalf("error is %v, want %s", err, c.want)
			}
			te := err.(*transport.Error) //nolint:errorlint // code was compared
			if string(te.Phase) != c.phase || te.Hint == "" || te.Step != -1 {
				t.Errorf("error is %+v", te)
			}
			if c.password != "" && strings.Contains(err.Error(), c.password) {
				t.Errorf("the error tells the password: %v", err)
			}
			if s := r.trace(); s != "" {
				t.Errorf("events: %s", s)
			}
		})
	}
	cfg := config(t, m, "ttypw")
	cfg.Become = Become{Method: BecomeSudo, User: "root", Password: secret.New("tty-pw-1")}
	if got, _, err := whoami(t, cfg); err != nil || !strings.HasPrefix(got, "root C\n") {
		t.Errorf("password on a terminal: %q, %v", got, err)
	}
}

// Accounts are locked after a few failures, so one wrong password is one failure.
func TestWrongPasswordIsOneFailure(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	if _, err := m.Shell(t.Context(), `echo 'Defaults:jitpw logfile=/var/log/sudo.log' >/etc/sudoers.d/log`); err != nil {
		t.Fatal(err)
	}
	cfg := sudoConfig(t, m, "jitpw")
	cfg.Become.Password = secret.New("wrong")
	if _, _, err := whoami(t, cfg); code(err) != codeWrong {
		t.Fatal(err)
	}
	log, err := m.Shell(t.Context(), "tr '\\n' ' ' </var/log/sudo.log | tr -s ' '")
	if err != nil || !strings.Contains(log, "1 incorrect password attempt ;") || strings.Contains(log, "attempts") {
		t.Errorf("sudo's log says %q, %v", log, err)
	}
}

func TestOneConnectionManyAccounts(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	c := connTo(t, dialer(t), func() Config { cfg := sudoConfig(t, m, "jitadm"); cfg.Become.User = ""; return cfg }())
	for i, account := range []string{"", "root", "plain", "jitadm", "root"} {
		var r record
		if err := c.Run(t.Context(), transport.Batch{ID: "x-1", Become: account, Steps: []transport.Step{sh(1, "id -un")}}, r.sink); err != nil {
			t.Fatal(err)
		}
		want := account
		if want == "" {
			want = "jitadm"
		}
		if got := r.output(1, transport.Stdout); got != want+"\n" {
			t.Errorf("batch %d ran as %q, want %s", i, got, want)
		}
	}
	plain := connTo(t, dialer(t), config(t, m, "plain"))
	err := plain.Run(t.Context(), transport.Batch{Become: "root"}, func(transport.Event) {})
	if code(err) != "become.not_configured" {
		t.Errorf("without become: %v", err)
	}
}

// A step's values are in no argument list and no environment while it runs.
func TestSecretsAreNotInProc(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	canary := "canary-7d1f-secret"
	look := `sleep 5 & v_p=$!
cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' >/tmp/seen; kill $v_p; _out n "$(wc -l </tmp/seen)"`
	cfg := sudoConfig(t, m, "jitpw")
	c := connTo(t, dialer(t), cfg)
	var r record
	if err := c.Run(t.Context(), transport.Batch{ID: "x-1", Steps: []transport.Step{sh(1, look, arg("s", secret.New(canary)), arg("_r1", canary))}}, r.sink); err != nil {
		t.Fatal(err)
	}
	seen, err := m.Shell(t.Context(), "cat /tmp/seen")
	if err != nil || !strings.Contains(seen, "/bin/sh") {
		t.Fatalf("nothing was seen: %v", err)
	}
	for _, s := range []string{canary, cfg.Become.Password.Reveal(), c.(*conn).runs["root"].nonce} {
		if strings.Contains(seen, s) {
			t.Errorf("%q is in /proc", s)
		}
	}
	if left, err := m.Shell(t.Context(), "grep -rl "+canary+" /run /tmp /var /root /home 2>/dev/null; true"); err != nil || left != "" {
		t.Errorf("left in files: %q, %v", left, err)
	}
}
