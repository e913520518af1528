package templates_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"runner/engine/executor"
	"runner/engine/lab"
	"runner/engine/lab/labtest"
	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/secret"
	"runner/engine/template"
	"runner/engine/transport"
	"runner/engine/transport/ssh"
	"runner/templates"
)

const (
	account = "jit-q7zk2m4n6p"
	uid     = int64(71234)
)

// bench runs shipped templates against a machine over its real sshd.
type bench struct {
	*lab.Machine
	reg     *module.Registry
	lib     *template.Library
	conn    transport.Conn
	batches int
	grant   map[string]any
}

func newBench(tb testing.TB) *bench {
	tb.Helper()
	reg, err := module.All()
	if err != nil {
		tb.Fatal(err)
	}
	lib, ps := template.Open("", templates.FS, reg)
	if len(ps) > 0 {
		tb.Fatal(ps.Err())
	}
	b := &bench{Machine: labtest.StartT(tb, lab.Config{Name: "box"}), reg: reg, lib: lib}
	pem, err := os.ReadFile(b.KeyFile())
	if err != nil {
		tb.Fatal(err)
	}
	dialer := &ssh.Dialer{}
	b.conn, err = dialer.Dial(tb.Context(), ssh.Config{
		Address: b.Addr, User: "root", Auth: ssh.Auth{PrivateKey: secret.New(string(pem))}, HostKeys: ssh.HostKeys{Known: []string{b.HostKey}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _, _ = b.conn.Close(), dialer.Close() })
	now := time.Now().UTC().Truncate(time.Second)
	b.grant = map[string]any{
		"id": "g-0001", "account": account, "requester": "ann", "credential": "c", "reason": "", "uid": uid,
		"expires_at": now.Add(time.Hour), "backstop_at": now.Add(2 * time.Hour), "requested_at": now,
	}
	return b
}

// Run counts the batches.
func (b *bench) Run(ctx context.Context, batch transport.Batch, sink transport.Sink) error {
	b.batches++
	return b.conn.Run(ctx, batch, sink)
}

func (b *bench) Peer() transport.Peer { return b.conn.Peer() }

func (b *bench) Close() error { return nil }

// do runs a template and returns its result and the params it had.
func (b *bench) do(tb testing.TB, kind template.Kind, given map[string]any, more func(*executor.Run)) (*executor.Result, map[string]any, error) {
	tb.Helper()
	tpl, err := b.lib.Get(kind, "linux-user")
	if err != nil {
		tb.Fatal(err)
	}
	env := lang.Env{"grant": b.grant, "device": map[string]any{"id": "box", "name": "box", "address": b.Addr, "platform": "linux", "skew_seconds": int64(0)}}
	if kind == template.Delete {
		env["created"] = map[string]any{"known": false, "outputs": map[string]any{}, "started_at": time.Time{}}
	}
	params, err := tpl.Resolve(nil, given, env, func(g template.Generate) (secret.Value, error) {
		return secret.Generate(secret.Spec{Length: g.Length, Classes: g.Classes})
	})
	if err != nil {
		tb.Fatal(err)
	}
	env["params"], env["vars"] = params, map[string]any{}
	run := executor.Run{Steps: tpl.Steps, Timeout: tpl.Timeout, KeepGoing: tpl.OnDisconnect == "continue", Env: env, Conn: b, Modules: b.reg, ID: "x-" + strings.ToLower(string(kind)), Scope: "g-0001"}
	surface := executor.Call{Name: "surface", Module: b.reg.Lookup("surface"), Args: module.Args{"name": account, "uid": uid}}
	if kind == template.Delete {
		run.After = []executor.Call{surface}
	} else {
		run.Before = []executor.Call{surface}
	}
	if more != nil {
		more(&run)
	}
	res, err := executor.Do(tb.Context(), run)
	return res, params, err
}

func (b *bench) login(tb testing.TB, auth gossh.AuthMethod, command string) (string, error) {
	tb.Helper()
	host, _, _, _, err := gossh.ParseAuthorizedKey([]byte(b.HostKey))
	if err != nil {
		tb.Fatal(err)
	}
	c, err := gossh.Dial("tcp", b.Addr, &gossh.ClientConfig{User: account, Auth: []gossh.AuthMethod{auth}, HostKeyCallback: gossh.FixedHostKey(host), Timeout: 20 * time.Second})
	if err != nil {
		return "", err
	}
	defer c.Close()
	s, err := c.NewSession()
	if err != nil {
		return "", err
	}
	defer s.Close()
	out, err := s.CombinedOutput(command)
	return strings.TrimSpace(string(out)), err
}

func (b *bench) key(tb testing.TB) (gossh.AuthMethod, string) {
	tb.Helper()
	pem, err := os.ReadFile(b.KeyFile())
	if err != nil {
		tb.Fatal(err)
	}
	s, err := gossh.ParsePrivateKey(pem)
	if err != nil {
		tb.Fatal(err)
	}
	return gossh.PublicKeys(s), strings.TrimSpace(string(gossh.MarshalAuthorizedKey(s.PublicKey())))
}

// state lists what a grant may have left.
func (b *bench) state(tb testing.TB) string {
	tb.Helper()
	out, err := b.Shell(tb.Context(), `for f in passwd shadow group gshadow subuid subgid; do sort /etc/$f; done; find /etc/sudoers.d /home /var/mail /tmp /var/tmp /dev/shm /var/lib/runner-homes 2>/dev/null | sort`)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func TestLinuxUserLivesAndLeavesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	before := b.state(t)
	keyAuth, line := b.key(t)
	begun := time.Now()
	res, params, err := b.do(t, template.Create, map[string]any{
		"public_key": line, "groups": []any{"adm"}, "sudo": "ALL=(ALL) NOPASSWD: /usr/bin/id", "shell": "/bin/sh",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("create: %s, %d batches", time.Since(begun).Round(time.Millisecond), b.batches)
	if b.batches != 2 { // the probes, then all steps
		t.Errorf("create took %d batches", b.batches)
	}
	for name, auth := range map[string]gossh.AuthMethod{"key": keyAuth, "password": gossh.Password(params["password"].(secret.Value).Reveal())} {
		out, err := b.login(t, auth, "id -un; id -Gn; sudo -n id -un; sudo -n cat /etc/shadow 2>/dev/null || echo refused")
		if err != nil || !strings.HasPrefix(out, account+"\n"+account+" adm\nroot\n") || !strings.HasSuffix(out, "refused") {
			t.Errorf("login by %s: %v\n%s", name, err, out)
		}
	}
	gecos, err := b.Shell(t.Context(), "getent passwd "+account+" | cut -d: -f5; cat /etc/sudoers.d/*; cat /home/"+account+"/.ssh/authorized_keys; grep ^"+account+": /etc/shadow | cut -d: -f8")
	if err != nil {
		t.Fatal(err)
	}
	end := b.grant["backstop_at"].(time.Time)
	for _, want := range []string{"runner g-0001 until " + end.Format("20060102T150405Z"), "NOTAFTER=" + end.Format("20060102150405Z"), `expiry-time="` + end.Format("20060102150405Z") + `"`} {
		if !strings.Contains(gecos, want) {
			t.Errorf("%s is not in\n%s", want, gecos)
		}
	}
	if _, err := b.login(t, keyAuth, "(trap '' TERM HUP; exec sleep 600) >/dev/null 2>&1 </dev/null & touch /tmp/mine; mkdir -p a/b; echo x >a/b/c; chmod 0 a/b"); err != nil {
		t.Fatal(err)
	}
	var done []executor.Change
	b.batches, begun = 0, time.Now()
	gone, _, err := b.do(t, template.Delete, nil, func(r *executor.Run) { r.Recorded = res.Changes; done = res.Changes })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("delete: %s, %d batches, %d changes", time.Since(begun).Round(time.Millisecond), b.batches, len(done))
	if got := b.state(t); got != before {
		t.Errorf("something is left:\n%s", diff(before, got))
	}
	if s := gone.Calls["surface"]; len(s["items"].([]any)) != 0 || s["uid_free"] != true {
		t.Errorf("surface: %v", s)
	}
	if _, err := b.login(t, keyAuth, "id"); err == nil {
		t.Error("the account still works")
	}
	again, _, err := b.do(t, template.Delete, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range again.Steps {
		if s.Status == executor.Changed {
			t.Errorf("the second removal changed something: %s: %s", s.Name, s.Message)
		}
	}
}

func TestLinuxUserRemovalLeavesStrangersAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if _, err := b.Shell(t.Context(), "set -e; useradd -m -u 6500 "+account+"; useradd -u 6501 -m jit-q7zk2m4n6pp"); err != nil {
		t.Fatal(err)
	}
	before := b.state(t)
	if _, _, err := b.do(t, template.Delete, nil, nil); err == nil {
		t.Error("an account with another uid was removed")
	}
	if got := b.state(t); got != before {
		t.Errorf("changed:\n%s", diff(before, got))
	}
	if _, err := b.Shell(t.Context(), "set -e; usermod -u 71234 -l renamed "+account); err != nil {
		t.Fatal(err)
	}
	before = b.state(t)
	if _, _, err := b.do(t, template.Delete, nil, nil); err == nil {
		t.Error("our uid under another name was taken for gone")
	}
	if got := b.state(t); got != before {
		t.Errorf("changed:\n%s", diff(before, got))
	}
}

func TestLinuxUserHomeCanBeKept(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for home, want := range map[string]string{"archive": account + "-g-0001.tar.gz", "keep": account + "-g-0001"} {
		if _, _, err := b.do(t, template.Create, map[string]any{"with_password": false}, nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.do(t, template.Delete, map[string]any{"home": home}, nil); err != nil {
			t.Fatal(err)
		}
		out, err := b.Shell(t.Context(), "ls /var/lib/runner-homes; ls -A /home | grep "+account)
		if !strings.Contains(out, want+"\n") || strings.HasSuffix(out, "\n"+account+"\n") {
			t.Errorf("%s: %v %q", home, err, out)
		}
	}
}

func diff(a, b string) string {
	al, bl := strings.Split(a, "\n"), strings.Split(b, "\n")
	var out []string
	for _, l := range al {
		if !slices.Contains(bl, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range bl {
		if !slices.Contains(al, l) {
			out = append(out, "+ "+l)
		}
	}
	return strings.Join(out, "\n")
}
