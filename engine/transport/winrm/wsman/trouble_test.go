package wsman_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"runner/engine/transport"
	"runner/engine/transport/winrm"
	"runner/engine/transport/winrm/runspace"
	"runner/engine/transport/winrm/wsmantest"
)

// nth makes trouble with the nth request of an operation.
func nth(operation string, n int, what wsmantest.Trouble) func(wsmantest.Request) wsmantest.Trouble {
	return func(r wsmantest.Request) wsmantest.Trouble {
		if r.Operation == operation && (n == 0 || r.N == n) {
			return what
		}
		return wsmantest.None
	}
}

// Whatever is lost wherever: no request and no command arrives twice, the step is
// done at most once, the error is typed, and "safe to retry" is never said of
// what was done.
func TestNothingIsSentTwice(t *testing.T) {
	t.Parallel()
	troubles := map[string]wsmantest.Trouble{
		"dropped before": wsmantest.DropBefore, "dropped after": wsmantest.DropAfter, "dropped midway": wsmantest.DropMidway,
		"hanging": wsmantest.Hang, "done and timed out": wsmantest.TimedOut, "forgotten": wsmantest.Unauthorized, "tampered": wsmantest.Tamper,
	}
	for _, op := range []string{"Create", "Command", "Send", "Receive", "Signal", "Delete"} {
		for name, trouble := range troubles {
			for _, n := range []int{1, 2} {
				t.Run(fmt.Sprintf("%s %d %s", op, n, name), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { lose(t, op, n, trouble) })
				})
			}
		}
	}
}

// lose runs two batches with trouble on the way.
func lose(t *testing.T, op string, n int, trouble wsmantest.Trouble) {
	t.Helper()
	h := newHost(t)
	h.Host.OperationTimeout = 2 * time.Second
	h.Trouble = nth(op, n, trouble)
	did := h.counting()
	began := time.Now()
	c, err := h.dial(t, winrm.Config{DialTimeout: 2 * time.Minute})
	for i := 1; i <= 2 && err == nil; i++ {
		before := did.value()
		b := step(body("count", "x"))
		b.Steps[0].Args = []transport.Arg{{Name: "big", Value: transport.Lit{V: strings.Repeat("x", 130_000)}}} // more than one message
		if err = c.Run(t.Context(), b, func(transport.Event) {}); err == nil && did.value() != before+1 {
			t.Errorf("batch %d is done and the step was done %d times", i, did.value()-before)
		}
		if did.value() > before+1 || transport.SafeToRetry(err) && did.value() != before {
			t.Errorf("batch %d: the step was done %d times, and the error is %v", i, did.value()-before, err)
		}
		if e, is := errors.AsType[*transport.Error](err); err != nil && (!is || e.Code == "" || e.Err == nil || e.Device != "win1.example:5985") {
			t.Errorf("the error is not one of the transport: %#v", err)
		}
	}
	if took := time.Since(began); took > 5*time.Minute {
		t.Errorf("it took %s", took)
	}
	if ids := h.Twice(); len(ids) > 0 {
		t.Errorf("sent twice: %v", ids)
	}
}

func TestErrorsSayWhatHappened(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		op      string
		trouble wsmantest.Trouble
		want    string
	}{
		{"Login", wsmantest.DropBefore, "auth http.lost"},
		{"Login", wsmantest.Refuse, "auth auth.refused"},
		{"Login", wsmantest.Unproven, "auth auth.mutual"},
		{"Create", wsmantest.DropAfter, "shell http.lost"},
		{"Create", wsmantest.Hang, "shell http.timeout"},
		{"Create", wsmantest.Trickle, "shell http.timeout"},
		{"Create", wsmantest.Endless, "shell http.giant"},
		{"Create", wsmantest.Giant, "shell http.giant"},
		{"Create", wsmantest.Garbage, "shell http.form"},
		{"Create", wsmantest.Tamper, "shell seal.tampered"},
		{"Create", wsmantest.WrongLabel, "shell seal.label"},
		{"Create", wsmantest.Plain, "shell seal.missing"},
		{"Create", wsmantest.NoSOAP, "shell http.form"},
		{"Create", wsmantest.Unauthorized, "shell auth.forgotten"},
		{"Create", wsmantest.Unavailable, "shell http.unavailable"},
		{"Create", wsmantest.EmptyError, "shell http.empty"},
		{"Create", wsmantest.Quota, "shell shell.quota"},
		{"Create", wsmantest.AccessDenied, "shell shell.access_denied"},
		{"Create", wsmantest.TimedOut, "shell exec.operation_timeout"},
	} {
		t.Run(c.want, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.Trouble = nth(c.op, 1, c.trouble)
				_, err := h.device(t).Open(t.Context(), "C189B341-BB56-44CA-BB69-05F0CAC14125", nil)
				if got := code(err); got != c.want {
					t.Errorf("%d: the error is %q: %v\nwant %q", c.trouble, got, err, c.want)
				}
				if sent := h.Count("Create") > 0; err != nil && transport.SafeToRetry(err) == sent {
					t.Errorf("safe to retry is %t, and %t that it was sent", !sent, sent)
				}
			})
		})
	}
}

// Identify has nothing to wait for: a port that never answers is found out soon.
func TestIdentifyDoesNotWaitLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.Trouble = nth("Identify", 0, wsmantest.Hang)
		began := time.Now()
		_, err := h.device(t).Identify(t.Context())
		e, is := errors.AsType[*transport.Error](err)
		if took := time.Since(began); took != 15*time.Second || !is || e.Code != "http.timeout" || e.Hint == "" {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

// A service that was restarted knows no shells: that is told apart, and nothing
// was done.
func TestRestartOfTheService(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	did := h.counting()
	c, err := h.dial(t, winrm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	run := func() error { return c.Run(t.Context(), step(body("count", "x")), func(transport.Event) {}) }
	if err := run(); err != nil {
		t.Fatal(err)
	}
	h.Host.Restart()
	h.Drop()
	if err := run(); err != nil || did.value() != 2 {
		t.Errorf("after a restart: %v; the step was done %d times", err, did.value())
	}
	if n := h.Count("Create"); n != 2 {
		t.Errorf("%d shells were made", n)
	}
	d := h.device(t)
	s, err := d.Open(t.Context(), "C189B341-BB56-44CA-BB69-05F0CAC14125", nil)
	if err != nil {
		t.Fatal(err)
	}
	h.Host.Restart()
	if err := s.Command(t.Context(), "C189B341-BB56-44CA-BB69-05F0CAC14126", nil); !errors.Is(err, runspace.ErrGone) {
		t.Errorf("the error is %v", err)
	}
}

// A connection that ended while nobody used it is replaced, and is no error.
func TestIdleConnectionsMayEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		did := h.counting()
		c, err := h.dial(t, winrm.Config{})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := c.Run(t.Context(), step(body("count", "x")), func(transport.Event) {}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			h.Drop()
			synctest.Wait()
			if n := h.Connections(); n != 0 {
				t.Fatalf("%d connections are left", n)
			}
		}
		if ids := h.Twice(); did.value() != 3 || len(ids) > 0 {
			t.Errorf("the step was done %d times; sent twice: %v", did.value(), ids)
		}
	})
}

// A login that comes to its end is renewed before the host says so.
func TestLoginsAreRenewed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.toy.Lifetime = 10 * time.Minute
		did := h.counting()
		c, err := h.dial(t, winrm.Config{})
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if err := c.Run(t.Context(), step(body("count", "x")), func(transport.Event) {}); err != nil {
				t.Fatal(err)
			}
			within(t, time.Minute, func(ctx context.Context) { <-ctx.Done() })
		}
		if n := h.toy.Logins(); did.value() != 20 || n < 3 || n > 8 {
			t.Errorf("the step was done %d times with %d logins", did.value(), n)
		}
	})
}

// Cancelling returns at once, whatever the host does.
func TestCancellationReturnsAtTheDeadline(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"Login", "Create", "Receive", "Command", "Signal"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.Trouble = nth(op, 0, wsmantest.Hang)
				if op == "Login" {
					h.Latency = time.Hour
				}
				d := h.device(t)
				began := time.Now()
				err := error(nil)
				within(t, 3*time.Second, func(ctx context.Context) {
					var s runspace.Shell
					if s, err = d.Open(ctx, "C189B341-BB56-44CA-BB69-05F0CAC14125", nil); err == nil && op == "Command" {
						err = s.Command(ctx, "C189B341-BB56-44CA-BB69-05F0CAC14126", nil)
					} else if err == nil && op == "Receive" {
						_, err = s.Receive(ctx, "")
					} else if err == nil {
						err = s.Signal(ctx, "C189B341-BB56-44CA-BB69-05F0CAC14126", runspace.SignalEnd)
					}
				})
				e, is := errors.AsType[*transport.Error](err)
				if took := time.Since(began); took != 3*time.Second || !is || e.Code != "cancelled" {
					t.Errorf("after %s: %v", took, err)
				}
				h.Drop()
			})
		})
	}
}
