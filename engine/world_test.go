package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/lab"
	"runner/engine/lab/labtest"
	"runner/engine/module"
	"runner/engine/secret/seal"
	"runner/engine/store"
	"runner/engine/template"
	"runner/engine/transport/ssh"
	"runner/templates"
)

// world is an engine with its own store and workspace, and a real machine.
type world struct {
	*engine.Engine

	t     *testing.T
	box   *lab.Machine
	store *store.Store
	dir   string
	now   func() time.Time
}

const inventoryText = `schema: runner/v1
kind: inventory
name: Linux-SSH
transport: ssh
methods: [publickey]
---
schema: runner/v1
kind: device
name: box
address: 127.0.0.1
port: %d
platform: linux
inventory: Linux-SSH
host_keys: ["%s"]
---
schema: runner/v1
kind: credential
name: admin
device: box
authentication: {user: jitadm, secret_from: {file: %s, kind: private_key}}
requesters: [ada, bob, eve]
jit: {enabled: true, duration: 1h, max_duration: 4h, create: linux-user, delete: linux-user}
`

func newWorld(t *testing.T, cfg lab.Config, change func(inventory string) string) *world {
	t.Helper()
	box := labtest.StartT(t, cfg)
	dir := t.TempDir()
	text := fmt.Sprintf(inventoryText, box.Port, box.HostKey, box.KeyFile())
	if change != nil {
		text = change(text)
	}
	inv := filepath.Join(dir, "inventories")
	must(t, os.Mkdir(inv, 0o700))
	must(t, os.WriteFile(filepath.Join(inv, "all.yaml"), []byte(text), 0o600))
	return openWorld(t, box, dir)
}

// openWorld is a process that starts on an existing workspace.
func openWorld(t *testing.T, box *lab.Machine, dir string) *world {
	t.Helper()
	ctx := t.Context()
	st, err := store.Open(ctx, filepath.Join(dir, "state"))
	must(t, err)
	t.Cleanup(func() { must(t, st.Close()) })
	node, err := st.Join(ctx, "test")
	must(t, err)
	t.Cleanup(func() { must(t, node.Leave()) })
	reg, err := module.All()
	must(t, err)
	lib, ps := template.Open(dir, templates.FS, reg)
	must(t, ps.Err())
	set, ps := inventory.Load(filepath.Join(dir, "inventories"))
	must(t, ps.Err())
	key, err := seal.Open(filepath.Join(dir, "state", "key"))
	must(t, err)
	d := &ssh.Dialer{}
	t.Cleanup(func() { _ = d.Close() })
	w := &world{t: t, box: box, store: st, dir: dir, now: time.Now}
	w.Engine = &engine.Engine{
		Store: st, Node: node.ID(), Templates: lib, Inventory: set, Modules: reg, Dialer: &engine.SSHDialer{SSH: d},
		Key: key, Now: func() time.Time { return w.now() }, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
	return w
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// request makes a grant and runs its creation.
func (w *world) request(who string, params map[string]any) grant.Case {
	w.t.Helper()
	c, err := w.Request(w.t.Context(), engine.Ask{Credential: "admin", Requester: who, Caller: "ops", Operator: true, Params: params, GenerateKey: params == nil})
	must(w.t, err)
	c, err = w.RunJob(w.t.Context(), c.Forward().ID)
	must(w.t, err)
	return c
}

// active is request for a creation that has to work.
func (w *world) active(who string, params map[string]any) grant.Case {
	w.t.Helper()
	c := w.request(who, params)
	if c.Grant.State != grant.Active {
		w.t.Fatalf("grant is %s: %s\n%s", c.Grant.State, c.Grant.Failure, w.logOf(c.Forward().Execution))
	}
	return c
}

// end ends a grant and runs its removal once.
func (w *world) end(id string) grant.Case {
	w.t.Helper()
	c, err := w.End(w.t.Context(), id, "ada", "end")
	must(w.t, err)
	c, err = w.Remove(w.t.Context(), c)
	must(w.t, err)
	return c
}

func (w *world) logOf(execution string) string {
	var b strings.Builder
	cs, err := w.store.ReadLog(context.WithoutCancel(w.t.Context()), execution, 0, 1<<20)
	must(w.t, err)
	for _, c := range cs {
		fmt.Fprintf(&b, "[%d %s] %s", c.Step, c.Stream, c.Data)
	}
	return b.String()
}

// sh runs a script as root on the machine.
func (w *world) sh(script string) string {
	w.t.Helper()
	out, err := w.box.Shell(w.t.Context(), script)
	if err != nil {
		w.t.Fatalf("%s: %v", script, err)
	}
	return out
}

// login tries to log in as the account of a grant.
func (w *world) login(s *engine.Secret) error {
	cn, err := w.Inventory.Resolve("admin")
	must(w.t, err)
	l := engine.Login{Account: s.Account}
	if s.PrivateKey != "" {
		l.PrivateKey = secretOf(s.PrivateKey)
	} else {
		l.Password = secretOf(s.Password)
	}
	return w.Dialer.Prove(w.t.Context(), cn, l)
}

// traces returns everything on the machine that names the account or its uid.
func (w *world) traces(account string, uid int64) string {
	w.t.Helper()
	return w.sh(fmt.Sprintf(`
grep -s -H -w -e '%[1]s' /etc/passwd /etc/shadow /etc/group /etc/gshadow /etc/subuid /etc/subgid
ls -d /etc/sudoers.d/*%[1]s* /home/%[1]s /var/mail/%[1]s /var/spool/cron/crontabs/%[1]s /var/lib/systemd/linger/%[1]s /run/user/%[2]d 2>/dev/null
grep -ls -w '%[1]s' /etc/sudoers.d/* 2>/dev/null
find / -xdev \( -path /proc -o -path /sys \) -prune -o -uid %[2]d -print 2>/dev/null
find /tmp /var/tmp /dev/shm /run -uid %[2]d 2>/dev/null
grep -ls '^Uid:.*[[:space:]]%[2]d[[:space:]]' /proc/[0-9]*/status 2>/dev/null
ls /run/runner 2>/dev/null
true`, account, uid))
}

// gone fails unless the grant is removed, its receipt empty and the machine clean.
func (w *world) gone(c grant.Case) {
	w.t.Helper()
	if c.Grant.State != grant.Removed || !c.Grant.Receipt.Empty() {
		r := c.Removal()
		w.t.Fatalf("grant is %s; removal: %s %s blocked by %q; receipt %+v\n%s", c.Grant.State, r.State, r.LastError, r.BlockedBy, c.Grant.Receipt, w.logOf(r.Execution))
	}
	if left := w.traces(c.Grant.Account, c.Grant.UID); left != "" {
		w.t.Fatalf("left on the machine:\n%s", left)
	}
}
