package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/module"
	"runner/engine/secret/seal"
	"runner/engine/store"
	"runner/engine/template"
	"runner/engine/transport"
	"runner/templates"
)

// idle is a fleet of devices on which every step succeeds at once, and on which
// nothing is: what remains is what runner itself does.
type idle struct {
	mu    sync.Mutex
	takes map[string]time.Duration // how long a batch takes, by device; "": on the others
	mute  map[string]time.Duration // devices that do not answer, and how long it takes to find out
	cut   map[string]bool          // devices that lose every connection when something is to be run
	marks map[string]string        // what bears a mark, by device
	dials map[string]int
	open  int // connections
	most  int
}

var _ engine.Dialer = (*idle)(nil)

func (d *idle) Dial(ctx context.Context, c *inventory.Connection) (transport.Conn, error) {
	d.mu.Lock()
	d.dials[c.Device]++
	late, mute := d.mute[c.Device]
	takes, own := d.takes[c.Device]
	if !own {
		takes = d.takes[""]
	}
	d.open++
	d.most = max(d.most, d.open)
	d.mu.Unlock()
	conn := &idleConn{d: d, device: c.Device, takes: takes}
	if mute {
		err := rest(ctx, late)
		_ = conn.Close()
		return nil, &transport.Error{Phase: transport.PhaseDial, Device: c.Device, Code: "dial.timeout", SafeToRetry: true, Step: -1, Err: errors.Join(errors.New("nobody answers"), err)}
	}
	return conn, nil
}

func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (*idle) Prove(context.Context, *inventory.Connection, engine.Login) error { return nil }

func (*idle) Program(*inventory.Connection, transport.Batch) (string, error) { return "", nil }

// asked returns how often a device was dialled.
func (d *idle) asked(device string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dials[device]
}

type idleConn struct {
	d      *idle
	device string
	takes  time.Duration
}

func (c *idleConn) Peer() transport.Peer {
	return transport.Peer{Address: c.device + ":22", Identity: "SHA256:" + c.device, Software: "idle"}
}

func (c *idleConn) Close() error {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	c.d.open--
	return nil
}

func (c *idleConn) Run(ctx context.Context, b transport.Batch, sink transport.Sink) error {
	c.d.mu.Lock()
	cut, marks := c.d.cut[c.device], c.d.marks[c.device]
	c.d.mu.Unlock()
	if cut {
		return &transport.Error{Phase: transport.PhaseExec, Device: c.device, Code: "exec.lost", Step: -1, Err: errors.New("the connection was lost")}
	}
	if c.takes > 0 {
		if err := rest(ctx, c.takes); err != nil {
			return &transport.Error{Phase: transport.PhaseExec, Device: c.device, Code: "cancelled", Step: -1, Err: err}
		}
	}
	for _, s := range b.Steps {
		now := time.Now()
		sink(transport.Event{Kind: transport.Began, Step: s.N, At: now})
		facts := map[string]string{}
		switch s.Body.Name {
		case "surface":
			facts = map[string]string{"items": "", "uid_free": "true", "clock": strconv.FormatInt(now.Unix(), 10)}
		case "deadline":
			facts = map[string]string{"now": "t" + strconv.FormatInt(now.UnixMilli()/100, 10)}
		case "marks":
			facts = map[string]string{"items": marks, "clock": strconv.FormatInt(now.Unix(), 10)}
		case "user":
			facts = map[string]string{"state.0": "absent"}
			if s.Mode == transport.Apply {
				facts["state.0"] = "present"
			}
		}
		for k, v := range facts {
			sink(transport.Event{Kind: transport.Fact, Step: s.N, Key: k, Value: v})
		}
		sink(transport.Event{Kind: transport.Ended, Step: s.N, At: now, Changed: s.Mode == transport.Apply, Attempts: 1})
	}
	return nil
}

const idleCreate = `schema: runner/v1
kind: create
name: idle
description: An account
platform: linux
removal: idle
params:
  username: {type: string, default: '{{ grant.account }}', description: account name}
  uid: {type: int, default: '{{ grant.uid }}', description: numeric id}
steps:
  - name: Make the account
    user: {name: '{{ params.username }}', uid: '{{ params.uid }}', expires: '{{ grant.backstop_at }}'}
outputs:
  username: params.username
`

const idleDelete = `schema: runner/v1
kind: delete
name: idle
description: Without the account
platform: linux
params:
  username: {type: string, default: '{{ grant.account }}', description: account name}
  uid: {type: int, default: '{{ grant.uid }}', description: numeric id}
steps:
  - name: Take the account away
    user: {name: '{{ params.username }}', uid: '{{ params.uid }}', state: absent}
`

// fleet is an engine with n idle devices, d0 to dn-1, and a credential for each,
// c0 to cn-1, that log in as credential admin does.
type fleet struct {
	*engine.Engine

	devices *idle
}

func newFleet(tb testing.TB, s engine.Store, n int, limit string) *fleet {
	tb.Helper()
	dir := tb.TempDir()
	var b strings.Builder
	b.WriteString("schema: runner/v1\nkind: inventory\nname: Idle\ntransport: ssh\nmethods: [agent]\nhost_keys: {policy: strict}\n")
	fmt.Fprintf(&b, "---\nschema: runner/v1\nkind: credential\nname: admin\ndevice: d0\nauthentication: {user: jitadm, secret_from: {agent: env}}\n%s", limit)
	for i := range n {
		fmt.Fprintf(&b, "---\nschema: runner/v1\nkind: device\nname: d%d\naddress: d%d.example.com\nplatform: linux\ninventory: Idle\n"+
			"host_keys: [\"SHA256:u8bTFJzTGD8jXGIjBnbqlVzq4wDVbLrHf7oXzV8vWEs\"]\n", i, i)
		fmt.Fprintf(&b, "---\nschema: runner/v1\nkind: credential\nname: c%d\ndevice: d%d\nauthentication: {credential: admin}\n"+
			"jit: {create: idle, delete: idle, duration: 1h, max_duration: 24h}\n", i, i)
	}
	write := func(path, text string) {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			tb.Fatal(err)
		}
	}
	write("inventories/all.yaml", b.String())
	write("templates/create/idle.yaml", idleCreate)
	write("templates/delete/idle.yaml", idleDelete)
	reg, err := module.All()
	if err != nil {
		tb.Fatal(err)
	}
	set, ps := inventory.Load(filepath.Join(dir, "inventories"))
	lib, tps := template.Open(dir, templates.FS, reg)
	key, err := seal.Open(filepath.Join(dir, "key"))
	if err := errors.Join(ps.Err(), tps.Err(), err); err != nil {
		tb.Fatal(err)
	}
	f := &fleet{devices: &idle{takes: map[string]time.Duration{}, mute: map[string]time.Duration{}, cut: map[string]bool{}, marks: map[string]string{}, dials: map[string]int{}}}
	f.Engine = &engine.Engine{
		Store: s, Node: "n-1", Templates: lib, Inventory: set, Modules: reg, Dialer: f.devices, Key: key, Pinned: &engine.Pinned{},
		Now: time.Now, Log: slog.New(slog.DiscardHandler), Jitter: func() float64 { return 0.5 },
	}
	return f
}

// ask requests a grant of credential cN for somebody new.
func (f *fleet) ask(tb testing.TB, n, who int, length time.Duration) grant.Case {
	tb.Helper()
	name := fmt.Sprint("user", who)
	c, err := f.Request(tb.Context(), engine.Ask{Credential: fmt.Sprint("c", n), Requester: name, Caller: "root", Operator: true, For: length, GenerateKey: false})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// made requests a grant and runs its creation.
func (f *fleet) made(tb testing.TB, n, who int, length time.Duration) grant.Case {
	tb.Helper()
	c := f.ask(tb, n, who, length)
	c, err := f.RunJob(tb.Context(), c.Forward().ID)
	if err != nil {
		tb.Fatal(err)
	}
	if c.Grant.State != grant.Active {
		tb.Fatalf("grant is %s: %s", c.Grant.State, c.Grant.Failure)
	}
	return c
}

func TestIdleFleet(t *testing.T) {
	t.Parallel()
	f := newFleet(t, store.NewMemory(), 2, "")
	c := f.made(t, 1, 1, time.Hour)
	c, err := f.End(t.Context(), c.Grant.ID, "root", "end")
	must(t, err)
	c, err = f.Remove(t.Context(), c)
	must(t, err)
	if c.Grant.State != grant.Removed {
		t.Fatalf("%+v", c)
	}
}
