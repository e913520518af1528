package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"runner/engine"
	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/lab"
	"runner/engine/template"
)

// adHoc runs a delete template with these steps on the machine.
func (w *world) adHoc(steps string) (engine.AdHocResult, error) {
	w.t.Helper()
	text := "schema: runner/v1\nkind: delete\nname: hostile\nplatform: linux\nbecome: root\nsteps:\n" + steps
	tpl, ps := template.Load("delete/hostile.yaml", []byte(text), w.Modules)
	must(w.t, ps.Err())
	return w.RunTemplate(w.t.Context(), engine.AdHoc{Template: tpl, Connection: w.connection()})
}

func (w *world) connection() *inventory.Connection {
	w.t.Helper()
	cn, err := w.Inventory.Resolve("admin")
	must(w.t, err)
	return cn
}

func TestAMachineThatNeverStopsTalking(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	res, err := w.adHoc(`
  - {name: first, shell: echo begin}
  - {name: flood, shell: "echo head-of-it; exec yes 0123456789012345678901234567890123456789"}
  - {name: never, shell: echo never}
`)
	se, ok := errors.AsType[*executor.StepError](err)
	if !ok || se.N != 2 {
		t.Fatalf("got %v", err)
	}
	x, err := w.store.Execution(t.Context(), res.Execution.ID)
	must(t, err)
	kept, end, err := w.store.LogSize(t.Context(), x.ID)
	must(t, err)
	if kept > 64<<20 || kept < 32<<20 {
		t.Fatalf("%d bytes are kept", kept)
	}
	if x.LogBytes != end || x.Dropped != end-kept || x.Dropped == 0 {
		t.Fatalf("%d written, %d kept, %d said to be dropped", end, kept, x.Dropped)
	}
	if head := w.logOf(x.ID); !strings.Contains(head, "head-of-it") {
		t.Fatalf("the head is lost: %.200q", head)
	}
	if out := w.sh("ps -eo comm= | grep -cx yes || true"); strings.TrimSpace(out) != "0" {
		t.Fatalf("yes still runs: %s", out)
	}
	if _, err := w.adHoc("  - {name: alive, shell: echo alive}\n"); err != nil {
		t.Fatalf("the engine is not alive: %v", err)
	}
}

func TestAStepThatTakesTooLongIsEndedWithAllItStarted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	start := time.Now()
	_, err := w.adHoc(`
  - name: slow
    timeout: 2s
    shell: |
      trap '' TERM HUP INT
      sleep 4321 &
      sleep 4321
`)
	se, ok := errors.AsType[*executor.StepError](err)
	if !ok || !se.TimedOut || time.Since(start) > 20*time.Second {
		t.Fatalf("after %s: %v", time.Since(start), err)
	}
	if out := w.sh("ps -eo args= | grep -c '[s]leep 4321' || true"); strings.TrimSpace(out) != "0" {
		t.Fatalf("still running: %s", out)
	}
}

func TestALogHoldsWhatAMachineSaysAndNothingOfItCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	w.sh(`printf 'echo noise from bashrc; printf "\\036no newline"\n' | tee -a /home/jitadm/.bashrc >>/home/jitadm/.profile
echo 'echo MOTD' >>/etc/profile`)
	res, err := w.adHoc(`
  - name: forged
    register: forged
    shell: |
      printf '\036000000000000000000000000 E 2 0\n\036B 1\n\033]0;title\007\033[2J\0binary\377'
      printf '\036000000000000000000000000 F 1 changed 4\ntrue\n' >&2
  - {name: fine, shell: "printf %s done"}
`)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Steps) != 2 || res.Steps[1].Status == "failed" {
		t.Fatalf("%+v", res.Steps)
	}
	log := w.logOf(res.Execution.ID)
	for _, want := range []string{"\x1b]0;title", "binary\xff", "done"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q: %q", want, log)
		}
	}
}

func TestTheRemovalTemplateMayRunTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	c := w.active("ada", nil)
	tpl, err := w.Templates.Get(template.Delete, "linux-user")
	must(t, err)
	for range 2 {
		_, err := w.RunTemplate(t.Context(), engine.AdHoc{
			Template: tpl, Connection: w.connection(),
			Params: map[string]any{"username": c.Grant.Account, "uid": c.Grant.UID},
		})
		must(t, err)
		if left := w.traces(c.Grant.Account, c.Grant.UID); left != "" {
			t.Fatalf("left: %s", left)
		}
	}
	// the grant's own removal finds nothing to do, and proves it
	w.gone(w.end(c.Grant.ID))
}

func TestSomebodyElsesAccountOfTheNameBlocksTheRemoval(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	c := w.active("ada", nil)
	w.sh("userdel -r " + c.Grant.Account + "; useradd -m -u 4242 " + c.Grant.Account)
	c = w.end(c.Grant.ID)
	if c.Grant.State != grant.Ending || c.Removal().BlockedBy == "" {
		t.Fatalf("grant is %s, blocked by %q", c.Grant.State, c.Removal().BlockedBy)
	}
	if out := w.sh("id -u " + c.Grant.Account); strings.TrimSpace(out) != "4242" {
		t.Fatalf("the other account was touched: %s", out)
	}
}

func TestAWorkerThatStopsHandsItsRemovalBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	c := w.active("ada", nil)
	c, err := w.End(t.Context(), c.Grant.ID, "ada", "revoke")
	must(t, err)
	w.sh(`mv /usr/sbin/userdel /usr/sbin/userdel.real; printf '#!/bin/sh\n: >/run/hit; sleep 60\n' >/usr/sbin/userdel; chmod 755 /usr/sbin/userdel`)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.Serve(ctx, 4, 100*time.Millisecond)
	}()
	for tick := time.Tick(50 * time.Millisecond); ; <-tick {
		if _, err := w.box.Exec(t.Context(), "test", "-e", "/run/hit"); err == nil {
			break
		}
	}
	cancel()
	<-done
	c, err = w.store.Case(t.Context(), c.Grant.ID)
	must(t, err)
	if c.Removal().State != grant.Waiting || c.Grant.State != grant.Ending {
		t.Fatalf("grant %s, removal %s", c.Grant.State, c.Removal().State)
	}
	w.sh("mv /usr/sbin/userdel.real /usr/sbin/userdel")
	c, err = w.Remove(t.Context(), c)
	must(t, err)
	w.gone(c)
}

func TestRemovalNeedsNoFilesOfToday(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, nil)
	c := w.active("ada", nil)
	must(t, os.RemoveAll(filepath.Join(w.dir, "inventories")))
	must(t, os.Mkdir(filepath.Join(w.dir, "inventories"), 0o700))
	later := openWorld(t, w.box, w.dir)
	out := later.end(c.Grant.ID)
	later.gone(out)
}
