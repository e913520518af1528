package wsman_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"runner/engine/secret"
	"runner/engine/transport"
	"runner/engine/transport/transporttest"
	"runner/engine/transport/winrm"
	"runner/engine/transport/winrm/winrmtest"
	"runner/engine/transport/winrm/wsmantest"
)

// newCmdHost returns a host whose cmd shell has a powershell.exe.
func newCmdHost(t *testing.T) *host {
	t.Helper()
	h := newHost(t)
	h.Program = h.win.Program
	return h
}

func dialCmd(t *testing.T, h *host, cfg winrm.Config) transport.Conn {
	t.Helper()
	cfg.Shell = winrm.ShellCmd
	c, err := h.dial(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What holds for every transport holds for batches in the cmd shell.
func TestConformanceOfCmd(t *testing.T) {
	t.Parallel()
	transporttest.Suite(t, func(t *testing.T) transport.Conn {
		t.Helper()
		return dialCmd(t, newCmdHost(t), winrm.Config{})
	}, psBodies)
}

// No value is in the command line or in the script, whatever its type, and all
// arrive as they are.
func TestValuesTravelOnStandardInput(t *testing.T) {
	t.Parallel()
	h := newCmdHost(t)
	var got map[string]any
	h.win.Bodies = map[string]winrmtest.Body{"see": func(_ context.Context, s *winrmtest.Step) error { got = s.Args; return nil }}
	var argv []string
	h.Program = func(ctx context.Context, line string, stdin []byte, stdout, stderr io.Writer) int {
		argv = append(argv, line)
		return h.win.Program(ctx, line, stdin, stdout, stderr)
	}
	c := dialCmd(t, h, winrm.Config{})
	long := strings.Repeat("ä\n\x00,", 60_000)
	b := step(body("see", "x"))
	for name, v := range map[string]any{
		"text": "canary-1 ]]> <&\"'\r\n\u2028", "secret": secret.New("canary-2 p ä"), "yes": true, "no": false, "n": int64(-7), "empty": "",
		"list": []string{"canary-3", "", "c,d"}, "none": []string{}, "one": []string{""}, "long": long,
	} {
		b.Steps[0].Args = append(b.Steps[0].Args, transport.Arg{Name: name, Value: transport.Lit{V: v}})
	}
	if err := c.Run(t.Context(), b, func(transport.Event) {}); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(map[string]any{
		"text": "canary-1 ]]> <&\"'\r\n\u2028", "secret": secret.New("canary-2 p ä"), "yes": true, "no": false, "n": int64(-7), "empty": "",
		"list": []any{"canary-3", "", "c,d"}, "none": []any{}, "one": []any{""}, "long": long,
	})
	if fmt.Sprint(got) != want {
		t.Errorf("the step got %.300v\nwant %.300s", got, want)
	}
	if v, is := got["secret"].(secret.Value); !is || v.Reveal() != "canary-2 p ä" {
		t.Errorf("the secret arrived as %T", got["secret"])
	}
	for _, text := range append(argv, h.win.Scripts()...) {
		if strings.Contains(text, "canary") {
			t.Errorf("a value is in %.200s", text)
		}
	}
	if len(argv) != 1 || len(argv[0]) > 8191 {
		t.Errorf("%d programs were run; the first line has %d characters", len(argv), len(argv[0]))
	}
}

// A batch that takes too long is ended with its shell, and the next one runs.
func TestCmdIsStoppedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newCmdHost(t)
		c := dialCmd(t, h, winrm.Config{})
		b := step(psBodies.Hang)
		b.Steps[0].Timeout = 5 * time.Second
		began, timedOut := time.Now(), false
		err := c.Run(t.Context(), b, func(e transport.Event) { timedOut = timedOut || e.Kind == transport.Ended && e.TimedOut })
		if took := time.Since(began); err != nil || !timedOut || took > 6*time.Second {
			t.Errorf("after %s: %v, timed out is %t", took, err, timedOut)
		}
		if n := h.Shells(); n != 0 {
			t.Errorf("%d shells are left", n)
		}
		if err := c.Run(t.Context(), step(body("say", "_say 'x'")), func(transport.Event) {}); err != nil {
			t.Error(err)
		}
		h.Trouble = nth("Delete", 0, wsmantest.Hang)
		within(t, 3*time.Second, func(ctx context.Context) { err = c.Run(ctx, step(psBodies.Hang), func(transport.Event) {}) })
		if e, is := errors.AsType[*transport.Error](err); !is || e.Code != "cancelled" || !strings.Contains(e.Error(), "did not confirm that it stopped") || e.SafeToRetry {
			t.Errorf("the error is %v", err)
		}
	})
}

// No program is started twice, wherever a message is lost.
func TestNoProgramIsStartedTwice(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"Create", "Command", "Send", "Receive", "Signal", "Delete"} {
		for name, trouble := range map[string]wsmantest.Trouble{"late": wsmantest.TimedOut, "before": wsmantest.DropBefore, "after": wsmantest.DropAfter, "forgotten": wsmantest.Unauthorized} {
			t.Run(op+" "+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					h := newCmdHost(t)
					h.Trouble = nth(op, 1, trouble)
					did := h.counting()
					c, err := h.dial(t, winrm.Config{Shell: winrm.ShellCmd})
					if err == nil {
						err = c.Run(t.Context(), step(body("count", "x")), func(transport.Event) {})
					}
					if n := did.value(); n > 1 || n > 0 && transport.SafeToRetry(err) || n == 0 && err == nil {
						t.Errorf("done %d times: %v", n, err)
					}
					if _, is := errors.AsType[*transport.Error](err); err != nil && !is {
						t.Errorf("the error is %#v", err)
					}
					if ids := h.Twice(); len(ids) > 0 {
						t.Errorf("sent twice: %v", ids)
					}
				})
			})
		}
	}
}

// A shell that the host forgot in the meantime is replaced, and nothing is done
// twice.
func TestForgottenCmdShellsAreReplaced(t *testing.T) {
	t.Parallel()
	h := newCmdHost(t)
	did := h.counting()
	c := dialCmd(t, h, winrm.Config{})
	for range 2 {
		h.Forget()
		if err := c.Run(t.Context(), step(body("count", "x")), func(transport.Event) {}); err != nil {
			t.Fatal(err)
		}
	}
	if did.value() != 2 || h.Count("Create") != 3 {
		t.Errorf("the step was done %d times in %d shells", did.value(), h.Count("Create"))
	}
}

func TestCmdShellNeedsAnAdministrator(t *testing.T) {
	t.Parallel()
	h := newHost(t) // without a Program it answers as to somebody who is none
	_, err := h.dial(t, winrm.Config{Shell: winrm.ShellCmd})
	if e, is := errors.AsType[*transport.Error](err); !is || e.Code != "shell.access_denied" || !strings.Contains(e.Hint, "the cmd shell needs an administrator") {
		t.Errorf("the error is %v", err)
	}
}
