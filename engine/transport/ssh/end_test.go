package ssh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"runner/engine/lab"
	"runner/engine/transport"
	"runner/engine/transport/transporttest"
)

// stubborn starts processes that are hard to get rid of, each with the marker
// in its arguments, and then hangs.
const stubborn = `
trap '' TERM HUP INT
sh -c 'trap "" TERM; sleep 1001 & wait; sleep 1002' &
setsid sh -c 'trap "" TERM HUP; sleep 1003' &
(sleep 1004 &)
while :; do sleep 1005; done`

// survivors lists what is left of stubborn.
func survivors(t *testing.T, m *lab.Machine) string {
	t.Helper()
	out, err := m.Shell(t.Context(), `for p in /proc/[0-9]*; do
case $(tr '\0' ' ' <$p/cmdline 2>/dev/null) in *"sleep 100"[1-5]*) read -r s <$p/stat; case $s in *") Z "*) ;; *) echo "$s"; esac;; esac; done`)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTimeoutKillsEverythingTheStepStarted(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	for _, user := range []string{"root", "jitadm", "jitpw", "jittty", "plain"} { // one after the other: they share the marker
		t.Run(user, func(t *testing.T) {
			cfg := sudoConfig(t, m, user)
			if user == "plain" {
				cfg.Become = Become{}
			}
			c := connTo(t, dialer(t), cfg)
			var r record
			hang := sh(2, stubborn)
			hang.Timeout = time.Second
			if err := c.Run(t.Context(), transport.Batch{ID: "x-1", Scope: "s", Steps: []transport.Step{sh(1, "echo a"), hang, sh(3, "echo b")}}, r.sink); err != nil {
				t.Fatal(err)
			}
			if got, want := r.trace(), "B1; E1 rc=0; B2; E2 rc=124 failed timeout"; got != want {
				t.Errorf("events\n got %s\nwant %s", got, want)
			}
			if s := survivors(t, m); s != "" {
				t.Errorf("still there:\n%s", s)
			}
			r = record{}
			if err := c.Run(t.Context(), transport.Batch{ID: "x-2", Steps: []transport.Step{sh(1, "echo again")}}, r.sink); err != nil || r.output(1, transport.Stdout) != "again\n" {
				t.Errorf("the next batch: %v, %q", err, r.output(1, transport.Stdout))
			}
			if left, err := m.Shell(t.Context(), "ls -A /run/runner /tmp/runner-* 2>/dev/null | grep x-; true"); err != nil || left != "" {
				t.Errorf("progress files: %q, %v", left, err)
			}
		})
	}
}

// A timeout is one of an attempt: retries start it anew.
func TestTimeoutIsPerAttempt(t *testing.T) {
	t.Parallel()
	c := connTo(t, dialer(t), config(t, machine(t, ""), "root"))
	s := sh(1, "sleep 1.5")
	s.Timeout, s.Retries, s.Until = 4*time.Second, 2, transport.Const(false)
	var r record
	if err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{s}}, r.sink); err != nil {
		t.Fatal(err)
	}
	if got, want := r.trace(), "B1; R1 1; R1 2; E1 rc=0 failed attempts=3"; got != want {
		t.Errorf("events\n got %s\nwant %s", got, want)
	}
}

func TestCancelStopsTheDevice(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep going %t", keep), func(t *testing.T) {
			c := connTo(t, dialer(t), sudoConfig(t, m, "jitadm"))
			ctx, cancel := context.WithCancel(t.Context())
			r := record{began: make(chan int, 9)}
			began := r.began
			go func() {
				for n := range began {
					if n == 2 {
						cancel()
						return
					}
				}
			}()
			err := c.Run(ctx, transport.Batch{ID: "x-1", Scope: "s", KeepGoing: keep, Steps: []transport.Step{sh(1, "echo a"), sh(2, stubborn), sh(3, "echo b")}}, r.sink)
			te, ok := errors.AsType[*transport.Error](err)
			if !ok || te.Step != 2 || te.SafeToRetry || te.Phase != transport.PhaseExec || !errors.Is(err, context.Canceled) {
				t.Fatalf("error is %+v", err)
			}
			if s := survivors(t, m); s != "" {
				t.Errorf("still there:\n%s", s)
			}
			file, err := m.Shell(t.Context(), "grep -v ^P /run/runner/s.x-1; rm /run/runner/s.x-1")
			if err != nil || file != "B 1\nE 1 0\nB 2\n" {
				t.Errorf("the progress file says %q, %v", file, err)
			}
		})
	}
}

func TestCancelBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	c := connTo(t, dialer(t), config(t, machine(t, ""), "root"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := c.Run(ctx, transport.Batch{Steps: steps(1)}, func(transport.Event) { t.Error("an event") })
	if !transport.SafeToRetry(err) || !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestTooMuchIsEnded(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	for name, body := range map[string]string{
		"endless output":   "yes",
		"endless errors":   "yes >&2",
		"one endless line": "tr '\\0' x </dev/zero",
		"many facts":       "while :; do _out k v; done",
		"one big fact":     `v=$(head -c 1100000 /dev/zero | tr '\0' x); _out k "$v"; sleep 1000`,
		"big facts":        `v=$(head -c 1000000 /dev/zero | tr '\0' x); while :; do _out k "$v"; done`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, m, "root")
			cfg.MaxOutput = 8 << 20
			c := connTo(t, dialer(t), cfg)
			var r record
			bytes := 0
			err := c.Run(t.Context(), transport.Batch{ID: "x-1", Scope: "s", Steps: []transport.Step{sh(1, body), sh(2, "echo b")}}, func(e transport.Event) {
				bytes += len(e.Data) + len(e.Value)
				if e.Kind == transport.Ended || e.Kind == transport.Began || e.Kind == transport.Skipped {
					r.sink(e)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := r.trace(), "B1; E1 rc=137 failed toomuch"; got != want {
				t.Errorf("events\n got %s\nwant %s", got, want)
			}
			if bytes > 8<<20+1<<20 {
				t.Errorf("%d bytes were handed on", bytes)
			}
			if err := c.Run(t.Context(), transport.Batch{Steps: steps(1)}, r.sink); err != nil {
				t.Errorf("the next batch: %v", err)
			}
		})
	}
	if out, err := m.Shell(t.Context(), "pgrep -x yes; true"); err != nil || out != "" {
		t.Errorf("yes runs on: %q, %v", out, err)
	}
}

func TestMuchOutputOfBothStreamsArrives(t *testing.T) {
	t.Parallel()
	c := connTo(t, dialer(t), config(t, machine(t, ""), "root"))
	var n [2]int
	err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{
		sh(1, "head -c 20000000 /dev/zero & head -c 20000000 /dev/zero >&2; wait"), sh(2, "head -c 5000000 /dev/zero"), sh(3, "head -c 5000000 /dev/zero >&2"),
	}}, func(e transport.Event) {
		if e.Stream == transport.Stderr {
			n[1] += len(e.Data)
		} else {
			n[0] += len(e.Data)
		}
	})
	if err != nil || n != [2]int{25000000, 25000000} {
		t.Errorf("got %v bytes, %v", n, err)
	}
}

func TestNoiseBeforeTheBatchIsPreamble(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	if _, err := m.Shell(t.Context(), `echo 'echo "rc says hello"; printf "\036deadbeef B 1\n"; echo "and this" >&2' >~plain/.bashrc; chown plain ~plain/.bashrc
sed -i '1i case $- in *i*) ;; esac' ~plain/.bashrc`); err != nil {
		t.Fatal(err)
	}
	c := connTo(t, dialer(t), config(t, m, "plain"))
	var r record
	if err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{sh(1, "echo mine")}}, r.sink); err != nil {
		t.Fatal(err)
	}
	if got := r.trace(); got != "B1; E1 rc=0" {
		t.Errorf("events: %s", got)
	}
	if got := r.output(-1, transport.Stdout); got != "rc says hello\n\x1edeadbeef B 1\n" {
		t.Errorf("preamble %q", got)
	}
	if out, errs := r.output(1, transport.Stdout), r.output(-1, transport.Stderr); out != "mine\n" || errs != "and this\n" {
		t.Errorf("step wrote %q, preamble on stderr %q", out, errs)
	}
}

// wait polls the machine until a shell condition holds.
func wait(t *testing.T, m *lab.Machine, cond string) {
	t.Helper()
	if _, err := m.Shell(t.Context(), `i=0; until `+cond+`; do i=$((i+1)); [ $i -lt 200 ] || exit 1; sleep 0.05; done`); err != nil {
		t.Fatalf("waiting for %s: %v", cond, err)
	}
}

// What a takeover tells comes after the guard that let it begin, also in order.
func TestATakeoverBehindAGuardTellsWhatItFound(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	c := connTo(t, dialer(t), config(t, m, "root"))
	if _, err := m.Shell(t.Context(), `mkdir -p -m 700 /run/runner; umask 077; printf 'P - - - -\nB 1\n' >/run/runner/g-1.x-1`); err != nil {
		t.Fatal(err)
	}
	r := record{}
	err := c.Run(t.Context(), transport.Batch{ID: "x-2", Scope: "g-1", Takeover: true, Guarded: true, Steps: []transport.Step{
		sh(1, "echo mine; _out k v"), sh(2, "echo done"),
	}}, r.sink)
	if err != nil {
		t.Fatal(err)
	}
	told, ok := r.fact(-1, "progress.x-1")
	if got := r.trace(); !ok || told != "P - - - -\nB 1\n" || got != "B1; F1 k=v; E1 rc=0; F-1 progress.x-1=P - - - -\nB 1\n; B2; E2 rc=0" {
		t.Errorf("told %q in %q", told, got)
	}
	if left, err := m.Shell(t.Context(), "ls -A /run/runner"); err != nil || left != "" {
		t.Errorf("left: %q, %v", left, err)
	}
}

// The connection is cut while step 2 runs. What the device did is in its file.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep going %t", keep), func(t *testing.T) {
			t.Parallel()
			m, d := machine(t, ""), dialer(t)
			cfg, p := far(t, m, "root", time.Millisecond)
			c := connTo(t, d, cfg)
			r := record{began: make(chan int, 9)}
			began := r.began
			go func() {
				for n := range began {
					if n == 2 {
						p.Cut()
						return
					}
				}
			}()
			b := transport.Batch{ID: "x-1", Scope: "g-1", KeepGoing: keep, Steps: []transport.Step{
				sh(1, "echo a"), sh(2, "until [ -e /tmp/go ]; do sleep 0.05; done; echo b; :"), sh(3, "echo c; echo d >/tmp/three"), sh(4, "until [ -e /tmp/end ]; do sleep 0.07; done"),
			}}
			err := c.Run(t.Context(), b, r.sink)
			te, ok := errors.AsType[*transport.Error](err)
			if !ok || te.Phase != transport.PhaseExec || te.Step != 2 || te.SafeToRetry || te.Code != "exec.lost" {
				t.Fatalf("error is %+v", err)
			}
			wait(t, m, "! pgrep -f 'sshd: root@notty' >/dev/null")
			if _, err := m.Shell(t.Context(), "touch /tmp/go"); err != nil {
				t.Fatal(err)
			}
			want := "B 1|E 1 0|B 2|E 2 0|"
			if keep {
				want += "B 3|E 3 0|B 4|"
				wait(t, m, "grep -q 'B 4' /run/runner/g-1.x-1")
			} else {
				wait(t, m, "[ ! -e /proc/$(sed -n 's/^P \\([0-9]*\\).*/\\1/p' /run/runner/g-1.x-1)/stat ]")
			}
			file, err := m.Shell(t.Context(), "grep -v ^P /run/runner/g-1.x-1 | tr '\\n' '|'; stat -c %a /run/runner/g-1.x-1")
			if err != nil || file != want+"600\n" {
				t.Errorf("the file says %q, want %q; %v", file, want, err)
			}
			if out, err := m.Shell(t.Context(), "ls /tmp"); err != nil || strings.Contains(out, "three") != keep {
				t.Errorf("step 3 ran: %q, %v", out, err)
			}
			if !keep {
				return
			}
			// A takeover of another scope leaves it alone, one of its own ends it.
			again := connTo(t, d, cfg)
			r = record{}
			if err := again.Run(t.Context(), transport.Batch{ID: "x-2", Scope: "g-2", Takeover: true, Steps: steps(1)}, r.sink); err != nil {
				t.Fatal(err)
			}
			goesOn := "pgrep -f 'sleep 0.07' >/dev/null" // not between two turns of its loop
			wait(t, m, goesOn)
			// Nor does one whose guard says no.
			if err := again.Run(t.Context(), transport.Batch{ID: "x-4", Scope: "g-1", Takeover: true, Guarded: true, Steps: []transport.Step{sh(1, "false"), sh(2, "echo no")}}, new(record).sink); err != nil {
				t.Fatal(err)
			}
			wait(t, m, goesOn)
			if out, err := m.Shell(t.Context(), "ls /run/runner"); err != nil || out != "g-1.x-1\n" {
				t.Errorf("a refused takeover: %q, %v", out, err)
			}
			if err := again.Run(t.Context(), transport.Batch{ID: "x-3", Scope: "g-1", Takeover: true, Steps: steps(1)}, r.sink); err != nil {
				t.Fatal(err)
			}
			told, ok := r.fact(-1, "progress.x-1")
			if _, lines, _ := strings.Cut(told, "\n"); !ok || lines != strings.ReplaceAll(want, "|", "\n") {
				t.Errorf("the takeover told %q", told)
			}
			if first, _, _ := strings.Cut(r.trace(), "F-1"); strings.Count(first, "B1") != 1 || !strings.HasSuffix(r.trace(), "B1; F1 k=v; E1 rc=0 changed") {
				t.Errorf("events: %s", r.trace())
			}
			if left, err := m.Shell(t.Context(), "ls -A /run/runner; pgrep -f 'sleep 0.07'; true"); err != nil || left != "" {
				t.Errorf("left: %q, %v", left, err)
			}
		})
	}
}

// A step of an earlier batch that still runs when its client is gone is ended.
func TestTakeoverKillsARunningStep(t *testing.T) {
	t.Parallel()
	m, d := machine(t, ""), dialer(t)
	for _, user := range []string{"root", "jitadm", "plain"} {
		t.Run(user, func(t *testing.T) {
			cfg := sudoConfig(t, m, user)
			if user == "plain" {
				cfg.Become = Become{}
			}
			p := transporttest.DelayProxy(t, m.Addr, 0)
			cfg.Address = p.Addr
			r := record{began: make(chan int, 9)}
			began := r.began
			go func() {
				<-began
				p.Cut()
			}()
			err := connTo(t, d, cfg).Run(t.Context(), transport.Batch{ID: "old", Scope: "g", KeepGoing: true, Steps: []transport.Step{sh(1, stubborn)}}, r.sink)
			if code(err) != "exec.lost" {
				t.Fatal(err)
			}
			r = record{}
			if err := connTo(t, d, cfg).Run(t.Context(), transport.Batch{ID: "new", Scope: "g", Takeover: true, Steps: steps(1)}, r.sink); err != nil {
				t.Fatal(err)
			}
			if told, ok := r.fact(-1, "progress.old"); !ok || !strings.HasSuffix(told, "\nB 1\n") {
				t.Errorf("the takeover told %q", told)
			}
			if s := survivors(t, m); s != "" {
				t.Errorf("still there:\n%s", s)
			}
		})
	}
}

// The process of a progress file may be long gone and its number in use again.
func TestTakeoverSparesStrangers(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	if _, err := m.Shell(t.Context(), `mkdir -m 700 /run/runner; setsid sleep 1001 </dev/null >/dev/null 2>&1 & p=$!
printf 'P %s %s 1 %s\nB 1\n' $p $p $p >/run/runner/g.old; echo garbage >/run/runner/g.bad; : >/run/runner/g.empty; echo 'P 1 1 1 1' >/run/runner/g2.other`); err != nil {
		t.Fatal(err)
	}
	var r record
	if err := connTo(t, dialer(t), config(t, m, "root")).Run(t.Context(), transport.Batch{ID: "new", Scope: "g", Takeover: true, Steps: steps(1)}, r.sink); err != nil {
		t.Fatal(err)
	}
	if got := r.trace(); !strings.Contains(got, "F-1 progress.bad=garbage\n; F-1 progress.empty=; F-1 progress.old=P ") {
		t.Errorf("events: %s", got)
	}
	if s := survivors(t, m); !strings.Contains(s, "(sleep)") {
		t.Error("a process that only has the number was killed")
	}
	if left, err := m.Shell(t.Context(), "ls -A /run/runner; pkill sleep"); err != nil || left != "g2.other\n" {
		t.Errorf("left: %q, %v", left, err)
	}
}

// Where no file can be written the batch runs all the same and says so.
func TestReadOnlyDevice(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	if _, err := m.Shell(t.Context(), "echo x >/run/runner"); err != nil {
		t.Fatal(err)
	}
	var r record
	if err := connTo(t, dialer(t), config(t, m, "root")).Run(t.Context(), transport.Batch{ID: "x-1", Scope: "g", Takeover: true, Steps: steps(1)}, r.sink); err != nil {
		t.Fatal(err)
	}
	if got := r.trace(); got != "B1; F1 k=v; E1 rc=0 changed" {
		t.Errorf("events: %s", got)
	}
	if got := r.output(-1, transport.Stderr); !strings.Contains(got, "no progress file: /run/runner") {
		t.Errorf("preamble: %q", got)
	}
}

func TestDeadNetworkIsNoticed(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	cfg, p := far(t, m, "root", 0)
	cfg.Keepalive = 300 * time.Millisecond
	c := connTo(t, dialer(t), cfg)
	r := record{began: make(chan int, 9)}
	began, frozen := r.began, make(chan time.Time, 1)
	go func() {
		<-began
		frozen <- time.Now()
		p.Freeze()
	}()
	err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{sh(1, "sleep 1000")}}, r.sink)
	if te, ok := errors.AsType[*transport.Error](err); !ok || te.Code != "exec.lost" || te.Step != 1 || te.SafeToRetry {
		t.Fatalf("error is %+v", err)
	}
	if took := time.Since(<-frozen); took > 3*cfg.Keepalive+2*time.Second {
		t.Errorf("it took %s", took)
	}
}
