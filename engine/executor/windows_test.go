package executor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"runner/engine/executor"
	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/secret"
	"runner/engine/template"
	"runner/engine/transport"
	"runner/engine/transport/winrm"
	"runner/engine/transport/winrm/winrmtest"
	"runner/engine/transport/winrm/wsman"
	"runner/engine/transport/winrm/wsman/wire"
	"runner/engine/transport/winrm/wsmantest"
)

// windows is a model of a Windows host, with the transport in front of it.
type windows struct {
	*winrmtest.Accounts
	*winrmtest.Host
	reg    *module.Registry
	dialer *winrm.Dialer
	// http, when it is set, is the listener that the host is reached through.
	http *wsmantest.Server
}

func (*windows) Key() string          { return "win1" }
func (*windows) Peer() transport.Peer { return transport.Peer{Address: "win1:5985"} }
func (*windows) Release()             {}

func newWindows(t *testing.T) *windows {
	t.Helper()
	reg, err := module.Windows()
	if err != nil {
		t.Fatal(err)
	}
	w := &windows{Accounts: winrmtest.NewAccounts("WIN1"), reg: reg, dialer: &winrm.Dialer{}}
	host := &winrmtest.Windows{Accounts: w.Accounts}
	w.Host = &winrmtest.Host{Handler: host.Handle}
	t.Cleanup(func() { _ = w.dialer.Close() })
	return w
}

func (w *windows) dial(ctx context.Context, d *winrm.Dialer) (transport.Conn, error) {
	if w.http != nil {
		toy := &wsmantest.Toy{}
		dev, err := wsman.New(wsman.Config{Config: wire.Config{Address: "win1:5985", Mechanism: toy, Dial: w.http.Dial}})
		if err != nil {
			return nil, err
		}
		return d.Dial(ctx, winrm.Config{Device: dev, Address: "win1:5985"})
	}
	return d.Dial(ctx, winrm.Config{Device: w, Address: "win1:5985"})
}

// run runs a template of testdata.
func (w *windows) run(t *testing.T, kind string, params map[string]any, conn transport.Conn, change func(*executor.Run)) (*executor.Result, error) {
	t.Helper()
	file := "testdata/windows-" + kind + ".yaml"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tpl, ps := template.Load(kind+"/windows.yaml", text, w.reg)
	if err := ps.Err(); err != nil {
		t.Fatal(err)
	}
	r := executor.Run{
		Steps: tpl.Steps, Conn: conn, Modules: w.reg, ID: "x-1-" + kind, Scope: "g-1", Env: lang.Env{
			"params":  params,
			"grant":   map[string]any{"id": "g-1", "account": "jit-abc", "backstop_at": "2026-11-21T18:00:00Z"},
			"device":  map[string]any{"name": "win1"},
			"created": map[string]any{"known": false, "outputs": map[string]any{}},
		},
	}
	if change != nil {
		change(&r)
	}
	return executor.Do(t.Context(), r)
}

func (w *windows) create(t *testing.T, conn transport.Conn, change func(*executor.Run)) (*executor.Result, error) {
	t.Helper()
	return w.run(t, "create", map[string]any{"password": secret.New("Correct-Horse-7"), "groups": []any{"S-1-5-32-555"}}, conn, change)
}

// dump is all that the host knows of accounts.
func (w *windows) dump() string {
	var b strings.Builder
	for _, u := range w.Users {
		fmt.Fprintf(&b, "%+v\n", *u)
	}
	for _, g := range w.Groups {
		fmt.Fprintf(&b, "%+v\n", *g)
	}
	fmt.Fprintf(&b, "%d profiles, %d programs\n", len(w.Profiles), len(w.Processes))
	return b.String()
}

func TestWindowsAccountIsCreatedAndRemoved(t *testing.T) {
	t.Parallel()
	w := newWindows(t)
	before := w.dump()
	conn, err := w.dial(t.Context(), w.dialer)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	res, err := w.create(t, conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	u := w.User("jit-abc")
	if u == nil || !u.Expires.Equal(time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)) || u.Description != "runner g-1" || len(w.Groups[2].Members) != 1 {
		t.Fatalf("the account is %+v", u)
	}
	var objects []string
	for _, c := range res.Changes {
		objects = append(objects, c.Object+" "+c.State+" "+c.After)
	}
	want := []string{"windows:user:jit-abc done sid=" + u.SID, "windows:member:S-1-5-32-555/jit-abc done member sid=" + u.SID}
	if d := cmp.Diff(want, objects); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
	w.LogOn("jit-abc", 2)
	if _, err := w.run(t, "delete", map[string]any{"sid": u.SID}, conn, nil); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, w.dump()); d != "" {
		t.Errorf("left behind (-want +got):\n%s", d)
	}
	if w.Calls("Command") > 4 || w.Calls("Create") != 1 {
		t.Errorf("%d pipelines in %d pools", w.Calls("Command"), w.Calls("Create"))
	}
}

// Wherever the creation fails, what it did is undone and nothing else.
func TestWindowsCreationThatFailsIsUndone(t *testing.T) {
	t.Parallel()
	for _, cmdlet := range []string{"get-command", "new-localuser", "get-localgroup", "add-localgroupmember", "test-wsman"} {
		t.Run(cmdlet, func(t *testing.T) {
			t.Parallel()
			w := newWindows(t)
			before := w.dump()
			conn, err := w.dial(t.Context(), w.dialer)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			w.Fail = map[string]error{cmdlet: winrmtest.Denied(cmdlet)}
			var run executor.Run
			res, err := w.create(t, conn, func(r *executor.Run) { run = *r })
			if _, is := errors.AsType[*executor.StepError](err); !is {
				t.Fatalf("the error is %v", err)
			}
			w.Fail = nil
			run.Recorded, run.ID = res.Changes, "x-1-undo"
			if _, conflicts, err := executor.Revert(t.Context(), run); err != nil || len(conflicts) > 0 {
				t.Errorf("the undo: %v, %v", conflicts, err)
			}
			if d := cmp.Diff(before, w.dump()); d != "" {
				t.Errorf("left behind (-want +got):\n%s", d)
			}
		})
	}
}

// A lost connection leaves intents that a probe settles.
func TestWindowsHostThatGoesAway(t *testing.T) {
	t.Parallel()
	w := newWindows(t)
	before := w.dump()
	conn, err := w.dial(t.Context(), w.dialer)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	restarted := make(chan struct{})
	w.Before = func(ctx context.Context, cmdlet string) {
		if cmdlet == "add-localgroupmember" && ctx.Err() == nil {
			w.Groups[2].Members = []string{w.User("jit-abc").SID} // done, and not told any more
			go func() { w.Restart(); close(restarted) }()
			<-ctx.Done()
		}
	}
	var run executor.Run
	res, err := w.create(t, conn, func(r *executor.Run) {
		r.Record = &notes{d: newDevice()} // as for a grant: what was there before is known first
		run = *r
	})
	te, is := errors.AsType[*transport.Error](err)
	if !is || te.SafeToRetry {
		t.Fatalf("the error is %#v", err)
	}
	<-restarted
	w.Before = nil
	run.Recorded, run.ID = res.Changes, "x-1-undo"
	_, conflicts, err := executor.Revert(t.Context(), run)
	if _, gone := errors.AsType[*transport.Error](err); gone {
		// The pool looked alive until it was used: the host may have ended the
		// pipeline in order before it went. Its job would be tried again.
		_, conflicts, err = executor.Revert(t.Context(), run)
	}
	if err != nil || len(conflicts) > 0 {
		t.Errorf("the undo: %v, %v", conflicts, err)
	}
	if d := cmp.Diff(before, w.dump()); d != "" {
		t.Errorf("left behind (-want +got):\n%s", d)
	}
}

// A pool for each task is what others do.
type perTask struct {
	w *windows
}

func (p perTask) Peer() transport.Peer { return p.w.Peer() }
func (p perTask) Close() error         { return nil }

func (p perTask) Run(ctx context.Context, b transport.Batch, sink transport.Sink) error {
	d := &winrm.Dialer{}
	defer d.Close()
	c, err := p.w.dial(ctx, d)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Run(ctx, b, sink)
}

// At 50 ms a round trip over sealed HTTP, logins and connections counted: one pool and few pipelines against a pool for each task.
func TestWindowsCost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cost := func(each bool) (requests int, took time.Duration) {
			w := newWindows(t)
			w.http = &wsmantest.Server{Host: w.Host, Scheme: "Negotiate", Login: (&wsmantest.Toy{}).Accept, Latency: 50 * time.Millisecond}
			t.Cleanup(w.http.Close)
			start := time.Now()
			var conn transport.Conn = perTask{w}
			if !each {
				var err error
				if conn, err = w.dial(t.Context(), w.dialer); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.create(t, conn, func(r *executor.Run) { r.NoFuse = each }); err != nil {
				t.Fatal(err)
			}
			u := w.User("jit-abc")
			w.LogOn("jit-abc", 2)
			if _, err := w.run(t, "delete", map[string]any{"sid": u.SID}, conn, func(r *executor.Run) { r.NoFuse = each }); err != nil {
				t.Fatal(err)
			}
			took = time.Since(start)
			_ = conn.Close()
			_ = w.dialer.Close()
			return w.http.Requests(), took
		}
		ours, fast := cost(false)
		theirs, slow := cost(true)
		t.Logf("create and delete: %d requests in %s; with a pool for each task %d in %s", ours, fast, theirs, slow)
		if theirs < 5*ours {
			t.Errorf("%d requests, and %d with a pool for each task", ours, theirs)
		}
	})
}
