package winrm_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"runner/engine/secret"
	"runner/engine/transport"
	"runner/engine/transport/winrm"
	"runner/engine/transport/winrm/clixml"
	"runner/engine/transport/winrm/psrp"
	"runner/engine/transport/winrm/runspace"
	"runner/engine/transport/winrm/winrmtest"
)

func lit(v any) transport.Lit { return transport.Lit{V: v} }

func step(n int, b transport.Body, text any) transport.Step {
	return transport.Step{N: n, Body: b, Args: []transport.Arg{{Name: "text", Value: lit(text)}}}
}

// heard is what a batch said, in one line for each event.
type heard struct {
	mu    sync.Mutex
	lines []string
}

func (h *heard) sink(e transport.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch e.Kind {
	case transport.Preamble:
		h.lines = append(h.lines, fmt.Sprintf("P %s %q", e.Stream, e.Data))
	case transport.Began:
		h.lines = append(h.lines, fmt.Sprintf("B%d", e.Step))
	case transport.Output:
		h.lines = append(h.lines, fmt.Sprintf("O%d %s %q", e.Step, e.Stream, e.Data))
	case transport.Fact:
		h.lines = append(h.lines, fmt.Sprintf("F%d %s=%s", e.Step, e.Key, e.Value))
	case transport.Retried:
		h.lines = append(h.lines, fmt.Sprintf("R%d", e.Step))
	case transport.Ended:
		h.lines = append(h.lines, fmt.Sprintf("E%d rc=%d failed=%t timeout=%t toomuch=%t", e.Step, e.RC, e.Failed, e.TimedOut, e.TooMuch))
	case transport.Skipped:
		h.lines = append(h.lines, fmt.Sprintf("S%d %s", e.Step, e.Reason))
	}
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.lines, "; ")
}

func (h *heard) want(t *testing.T, want ...string) {
	t.Helper()
	if got := h.String(); got != strings.Join(want, "; ") {
		t.Errorf("heard %s\nwant  %s", got, strings.Join(want, "; "))
	}
}

func code(err error) string {
	if te, is := errors.AsType[*transport.Error](err); is {
		return te.Code
	}
	return ""
}

const ended = " rc=0 failed=false timeout=false toomuch=false"

// Streams of PowerShell become output of the step that wrote them.
func TestStreamsBelongToTheirStep(t *testing.T) {
	t.Parallel()
	d := newDevice("win1")
	d.win.Bodies = map[string]winrmtest.Body{"loud": func(ctx context.Context, s *winrmtest.Step) error {
		host := func(more ...clixml.Member) *psrp.InformationRecord {
			return &psrp.InformationRecord{Data: clixml.Note(append(more, clixml.Member{Name: "Message", Value: "host"})...)}
		}
		for _, r := range []psrp.Record{
			{Stream: psrp.Output, Value: "line"},
			{Stream: psrp.Output, Value: clixml.Note()},
			{Stream: psrp.Error, Value: &psrp.ErrorRecord{Message: "wrong"}},
			{Stream: psrp.Warning, Value: "careful"},
			{Stream: psrp.Verbose, Value: "chatty"},
			{Stream: psrp.Debug, Value: "inside"},
			{Stream: psrp.Information, Value: host()},
			{Stream: psrp.Information, Value: host(clixml.Member{Name: "NoNewLine", Value: true})},
			{Stream: psrp.Progress, Value: &psrp.ProgressRecord{Activity: "bar"}},
		} {
			if err := s.Write(r.Stream, r.Value); err != nil {
				return err
			}
		}
		return s.Out(ctx, "list", []any{"a", int64(2), true})
	}}
	var h heard
	if err := dialTo(t, d, winrm.Config{}).Run(t.Context(), transport.Batch{Steps: []transport.Step{{N: 1, Body: body("loud", "")}}}, h.sink); err != nil {
		t.Fatal(err)
	}
	h.want(t, "B1", `O1 stdout "line\n"`, `O1 stdout "\n"`, `O1 stderr "wrong\n"`, `O1 stderr "warning: careful\n"`, `O1 stdout "verbose: chatty\n"`,
		`O1 stdout "debug: inside\n"`, `O1 stdout "host\n"`, `O1 stdout "host"`, "F1 list=a\n2\nTrue", "E1"+ended)
}

func TestFailuresSayWhy(t *testing.T) {
	t.Parallel()
	var h heard
	c := dialTo(t, newDevice("win1"), winrm.Config{})
	err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{
		{N: 1, Body: body("fail", `_fail 5 'no such account'`), Continue: true},
		{N: 2, Body: body("throw", `throw 'broken'`), Continue: true},
		{N: 3, Body: body("native", `$global:LASTEXITCODE = 9`), Continue: true},
		{N: 4, Body: body("badkey", `_out 'a b' 'x'`), Continue: true},
		{N: 5, Body: body("stray", "break\n_write 'never'"), Continue: true},
		{N: 6, Body: body("early", "return\n_write 'never'"), Continue: true},
	}}, h.sink)
	if err != nil {
		t.Fatal(err)
	}
	failed := " failed=true timeout=false toomuch=false"
	h.want(t, "B1", `O1 stderr "no such account\n"`, "E1 rc=5"+failed, "B2", `O2 stderr "broken\n"`, "E2 rc=1"+failed, "B3", "E3 rc=9"+failed,
		"B4", `O4 stderr "runner: bad name of a fact\n"`, "E4 rc=1"+failed, "B5", "E5"+ended, "B6", "E6"+ended)
}

func TestBatchesThatCannotBeSentAreRefused(t *testing.T) {
	t.Parallel()
	d := newDevice("win1")
	c := dialTo(t, d, winrm.Config{User: "runner@CORP"})
	before := d.Requests()
	text := func(v any) transport.Batch {
		return transport.Batch{Steps: []transport.Step{step(1, psBodies.Echo, v)}}
	}
	for name, b := range map[string]transport.Batch{
		"no UTF-8":          text("\xff"),
		"no UTF-8, secret":  text(secret.New("\xff")),
		"unknown type":      text(1.5),
		"secret too long":   text(secret.New(strings.Repeat("\U0001f511", 32769))),
		"batch too long":    text(strings.Repeat("x", 9<<20)),
		"body without name": {Steps: []transport.Step{{N: 1, Body: body("", "x")}}},
		"body name is code": {Steps: []transport.Step{{N: 1, Body: body("a\nexit", "x")}}},
		"two bodies":        {Steps: []transport.Step{{N: 1, Body: body("a", "x")}, {N: 2, Body: body("a", "y")}}},
		"body no UTF-8":     {Steps: []transport.Step{{N: 1, Body: body("a", "\xff")}}},
		"key is code":       {Steps: []transport.Step{{N: 1, Body: body("a", "x"), When: transport.True{V: transport.Ref{Step: 1, Key: "a'; exit"}}}}},
		"argument is code":  {Steps: []transport.Step{{N: 1, Body: body("a", "x"), Args: []transport.Arg{{Name: "a']=1;#", Value: lit("x")}}}}},
		"scope is a path":   {ID: "a", Scope: "../x", Steps: []transport.Step{{N: 1, Body: body("a", "x")}}},
		"number twice":      {Steps: []transport.Step{{N: 1, Body: body("a", "x")}, {N: 1, Body: body("a", "x")}}},
	} {
		err := c.Run(t.Context(), b, func(transport.Event) { t.Error("an event") })
		if code(err) != "exec.bad_batch" || !transport.SafeToRetry(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := c.Run(t.Context(), transport.Batch{Become: "root"}, nil)
	if code(err) != "become.not_configured" || !transport.SafeToRetry(err) {
		t.Errorf("become: %v", err)
	}
	if err := c.Run(t.Context(), transport.Batch{Become: "runner@CORP"}, func(transport.Event) {}); err != nil {
		t.Errorf("become what one is: %v", err)
	}
	if after := d.Requests(); after-before > 3 {
		t.Errorf("refused batches made %d requests", after-before)
	}
}

// What a value holds is in no script, whatever the way it is used.
func TestNoValueIsEverInAScript(t *testing.T) {
	t.Parallel()
	d := newDevice("win1")
	c := dialTo(t, d, winrm.Config{})
	canary := func(n int) string { return fmt.Sprintf("canary%d'\"$(x)`", n) }
	ref := transport.Ref{Step: 1, Key: "value", Default: canary(1)}
	var h heard
	err := c.Run(t.Context(), transport.Batch{ID: "x-1", Scope: "g-1", Steps: []transport.Step{
		step(1, psBodies.Fact, canary(2)),
		{N: 2, Name: canary(3), Body: psBodies.Echo, Args: []transport.Arg{{Name: "text", Value: transport.Concat{lit(canary(4)), ref, lit(secret.New(canary(5)))}}}},
		{N: 3, Body: psBodies.Echo, When: transport.Eq{A: ref, B: lit(secret.New(canary(6)))}},
		{N: 4, Body: psBodies.Echo, When: transport.In{A: ref, Set: []transport.Value{lit(canary(7)), lit([]string{canary(8)})}}},
		{N: 5, Body: psBodies.Echo, Until: transport.True{V: lit(canary(9))}},
	}}, h.sink)
	if err != nil {
		t.Fatal(err)
	}
	scripts := d.win.Scripts()
	if len(scripts) != 1 || !strings.Contains(scripts[0], "#: echo") {
		t.Fatalf("%d scripts", len(scripts))
	}
	if i := strings.Index(scripts[0], "canary"); i >= 0 {
		t.Errorf("a value is in the script: %.80q", scripts[0][i:])
	}
	if got := h.String(); !strings.Contains(got, fmt.Sprintf("%q", canary(4)+canary(2)+canary(5))) {
		t.Errorf("heard %s", got)
	}
}

func TestStepsThatAreCutShort(t *testing.T) {
	t.Parallel()
	d := newDevice("win1")
	flood := body("flood", `while ($true) { _write $a.text }`)
	c := dialTo(t, d, winrm.Config{MaxOutput: 100000})
	var h heard
	if err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{step(1, flood, strings.Repeat("x", 9000)), step(2, psBodies.Echo, "y")}}, h.sink); err != nil {
		t.Fatal(err)
	}
	if got := h.lines[len(h.lines)-1]; got != "E1 rc=137 failed=true timeout=false toomuch=true" {
		t.Errorf("the last event is %s", got)
	}
	if len(d.win.Registry()) != 0 {
		t.Errorf("left behind: %v", d.win.Registry())
	}
}

// On virtual time: a step ends at its time-out, a cancelled batch at once, and
// both leave the pool in order.
func TestTimesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice("win1")
		d.Latency = 50 * time.Millisecond
		c := dialTo(t, d, winrm.Config{StepTimeout: 10 * time.Second})
		start := time.Now()
		var h heard
		err := c.Run(t.Context(), transport.Batch{ID: "x-1", Steps: []transport.Step{step(1, psBodies.Echo, "a"), {N: 2, Body: psBodies.Hang}}}, h.sink)
		if took := time.Since(start); err != nil || took < 10*time.Second || took > 10500*time.Millisecond {
			t.Errorf("after %s: %v", took, err)
		}
		h.want(t, "B1", `O1 stdout "a"`, "E1"+ended, "B2", "E2 rc=124 failed=true timeout=true toomuch=false")

		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start = time.Now()
		err = c.Run(ctx, transport.Batch{ID: "x-2", Steps: []transport.Step{{N: 5, Body: psBodies.Hang}}}, func(transport.Event) {})
		te, is := errors.AsType[*transport.Error](err)
		if took := time.Since(start); !is || te.Step != 5 || te.Code != "cancelled" || !errors.Is(err, context.DeadlineExceeded) || took > 3300*time.Millisecond {
			t.Errorf("after %s: %v", took, err)
		}

		// Retries and their pauses count for the attempt, not for the step.
		start = time.Now()
		err = c.Run(t.Context(), transport.Batch{Steps: []transport.Step{{
			N: 1, Body: psBodies.Mode, Until: transport.Eq{A: transport.Ref{Step: 1, Key: "attempts"}, B: lit("4")}, Retries: 9, Delay: 9 * time.Second,
		}}}, func(transport.Event) {})
		if took := time.Since(start); err != nil || took < 27*time.Second || took > 28*time.Second {
			t.Errorf("after %s: %v", took, err)
		}
		if d.Calls("Create") != 1 || len(d.win.Registry()) != 0 {
			t.Errorf("%d pools were opened, left behind: %v", d.Calls("Create"), d.win.Registry())
		}
	})
}

func TestDeafHostIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice("win1")
		d.Deaf = true
		c := dialTo(t, d, winrm.Config{})
		err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{{N: 1, Body: psBodies.Hang, Timeout: time.Second}}}, func(transport.Event) {})
		if code(err) != "exec.not_stopped" || transport.SafeToRetry(err) {
			t.Errorf("the error is %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = c.Run(ctx, transport.Batch{Steps: []transport.Step{{N: 1, Body: psBodies.Hang}}}, func(transport.Event) {})
		if code(err) != "cancelled" || !strings.Contains(err.Error(), "did not confirm") {
			t.Errorf("the error is %v", err)
		}
	})
}

// A lost connection names the step, and the next batch comes on a new pool.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	d := newDevice("win1")
	c := dialTo(t, d, winrm.Config{})
	err := c.Run(t.Context(), transport.Batch{ID: "x-1", Steps: []transport.Step{step(1, psBodies.Echo, "a"), {N: 2, Body: psBodies.Hang}}}, func(e transport.Event) {
		if e.Kind == transport.Began && e.Step == 2 {
			go d.Restart()
		}
	})
	te, is := errors.AsType[*transport.Error](err)
	if !is || te.Code != "exec.lost" || te.Step != 2 || te.SafeToRetry {
		t.Errorf("the error is %#v", err)
	}
	var h heard
	if err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{step(1, psBodies.Echo, "back")}}, h.sink); err != nil {
		t.Fatal(err)
	}
	h.want(t, "B1", `O1 stdout "back"`, "E1"+ended)
	if d.Calls("Create") != 2 {
		t.Errorf("%d pools were opened", d.Calls("Create"))
	}
}

// A pool that the device forgot is replaced before anything is sent.
func TestForgottenPool(t *testing.T) {
	t.Parallel()
	d := newDevice("win1")
	var forgets atomic.Bool
	d.Fault = func(_ context.Context, operation string) error {
		if operation == "Command" && forgets.Load() {
			return runspace.ErrGone
		}
		return nil
	}
	c := dialTo(t, d, winrm.Config{})
	for n := range 3 {
		var h heard
		if err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{step(1, psBodies.Echo, "a")}}, h.sink); err != nil {
			t.Fatal(err)
		}
		h.want(t, "B1", `O1 stdout "a"`, "E1"+ended)
		d.Restart()
		if d.Calls("Create") != n+1 {
			t.Errorf("%d pools were opened", d.Calls("Create"))
		}
	}
	forgets.Store(true)
	before := d.Calls("Create")
	err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{step(1, psBodies.Echo, "a")}}, func(transport.Event) { t.Error("an event") })
	if code(err) != "exec.lost" || !transport.SafeToRetry(err) || d.Calls("Create") > before+2 {
		t.Errorf("after %d more pools: %v", d.Calls("Create")-before, err)
	}
}

// A batch that takes over ends what an earlier one of its scope left running,
// and tells how far that came.
func TestTakeover(t *testing.T) {
	t.Parallel()
	d := newDevice("win1")
	other := *d
	other.name = "the same, for another worker"
	first := dialTo(t, d, winrm.Config{})
	lost := make(chan error, 1)
	began := make(chan bool, 9)
	go func() {
		lost <- first.Run(t.Context(), transport.Batch{ID: "x-1", Scope: "g-1", Steps: []transport.Step{step(1, psBodies.Echo, "a"), {N: 2, Body: psBodies.Hang}}}, func(e transport.Event) {
			if e.Kind == transport.Began && e.Step == 2 {
				began <- true
			}
		})
	}()
	<-began
	var h heard
	second := dialTo(t, &other, winrm.Config{})
	run := func(scope string) {
		t.Helper()
		err := second.Run(t.Context(), transport.Batch{ID: "x-2", Scope: scope, Takeover: true, Steps: []transport.Step{step(1, psBodies.Echo, "b")}}, h.sink)
		if err != nil {
			t.Fatal(err)
		}
	}
	run("g-10") // is left alone
	if len(lost) > 0 {
		t.Fatal("a batch of another scope was ended")
	}
	guarded := transport.Batch{ID: "x-3", Scope: "g-1", Takeover: true, Guarded: true, Steps: []transport.Step{{N: 1, Body: psBodies.Fail}, step(2, psBodies.Echo, "c")}}
	if err := second.Run(t.Context(), guarded, h.sink); err != nil || len(lost) > 0 {
		t.Fatalf("its guard said no: %v, %d", err, len(lost))
	}
	run("g-1")
	if err := <-lost; code(err) != "exec.lost" {
		t.Errorf("the first batch ended with %v", err)
	}
	if got := h.String(); !strings.Contains(got, "F-1 progress.x-1=P 4004 638000000000000000\nB 1\nE 1 0\nB 2\n") {
		t.Errorf("heard %q", got)
	}
	run("g-1")
	if n := strings.Count(h.String(), "progress."); n != 1 {
		t.Errorf("the progress was told %d times", n)
	}
	if len(d.win.Registry()) != 0 {
		t.Errorf("left behind: %v", d.win.Registry())
	}
}

// Whatever a device says in the place of events ends the batch with an error.
func TestEventsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	event := func(kind string, n int, more ...clixml.Entry) clixml.Dict {
		return append(clixml.Dict{{Key: "e", Value: kind}, {Key: "s", Value: n}}, more...)
	}
	entry := func(k string, v any) clixml.Entry { return clixml.Entry{Key: k, Value: v} }
	for name, c := range map[string]struct {
		says []clixml.Dict
		err  error
		code string
	}{
		"nothing":             {nil, nil, "exec.framing"},
		"no end":              {[]clixml.Dict{event("B", 1)}, nil, "exec.framing"},
		"end of another":      {[]clixml.Dict{event("B", 1), event("E", 2)}, nil, "exec.framing"},
		"wrong step":          {[]clixml.Dict{event("B", 2)}, nil, "exec.framing"},
		"twice":               {[]clixml.Dict{event("B", 1), event("B", 1)}, nil, "exec.framing"},
		"unknown":             {[]clixml.Dict{event("Q", 1)}, nil, "exec.framing"},
		"skipped for nothing": {[]clixml.Dict{event("S", 1, entry("v", "luck"))}, nil, "exec.framing"},
		"fact without a step": {[]clixml.Dict{event("F", 1, entry("k", "a"))}, nil, "exec.framing"},
		"fact with bad name":  {[]clixml.Dict{event("B", 1), event("F", 1, entry("k", "a b"))}, nil, "exec.framing"},
		"giant fact":          {[]clixml.Dict{event("F", -1, entry("k", "a"), entry("v", strings.Repeat("x", 2<<20)))}, nil, "exec.interrupted"},
		"parse error":         {nil, errors.New("Missing closing '}'\x1b[31m in statement block"), "exec.ended"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDevice("win1")
			d.Handler = func(ctx context.Context, p *winrmtest.Pipeline) error {
				l, _ := clixml.Items(p.Argument("v"))
				for _, e := range c.says {
					if err := p.Write(psrp.Output, append(clixml.Dict{entry("runner", l[0])}, e...)); err != nil {
						return err
					}
				}
				if c.code == "exec.interrupted" {
					<-ctx.Done()
				}
				return c.err
			}
			err := dialTo(t, d, winrm.Config{}).Run(t.Context(), transport.Batch{Steps: []transport.Step{step(1, psBodies.Echo, "a")}}, func(transport.Event) {})
			if code(err) != c.code || transport.SafeToRetry(err) || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func TestEndpointWithoutALanguage(t *testing.T) {
	t.Parallel()
	d := newDevice("win1")
	d.Handler = func(context.Context, *winrmtest.Pipeline) error {
		return &winrmtest.TerminatingError{Record: psrp.ErrorRecord{Message: "The syntax is not supported by this runspace.", ID: "ScriptsNotAllowed"}}
	}
	err := dialTo(t, d, winrm.Config{}).Run(t.Context(), transport.Batch{Steps: []transport.Step{step(1, psBodies.Echo, "a")}}, func(transport.Event) {})
	te, is := errors.AsType[*transport.Error](err)
	if !is || te.Code != "exec.ended" || !strings.Contains(te.Hint, "LanguageMode") || !te.SafeToRetry {
		t.Errorf("the error is %#v", err)
	}
}

func TestOutputOutsideOfSteps(t *testing.T) {
	t.Parallel()
	d := newDevice("win1")
	inner := d.Handler
	d.Handler = func(ctx context.Context, p *winrmtest.Pipeline) error {
		if err := p.Write(psrp.Warning, "a profile says hello"); err != nil {
			return err
		}
		return inner(ctx, p)
	}
	var h heard
	if err := dialTo(t, d, winrm.Config{}).Run(t.Context(), transport.Batch{Steps: []transport.Step{step(1, psBodies.Echo, "a")}}, h.sink); err != nil {
		t.Fatal(err)
	}
	h.want(t, `P stderr "warning: a profile says hello\n"`, "B1", `O1 stdout "a"`, "E1"+ended)
}

// A batch is one command, however many steps it has.
func TestABatchIsOnePipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice("win1")
		d.Latency = 50 * time.Millisecond
		c := dialTo(t, d, winrm.Config{})
		opening := d.Requests()
		var steps []transport.Step
		for n := range 12 {
			steps = append(steps, step(n, psBodies.Fact, secret.New("s3cret")))
		}
		start := time.Now()
		if err := c.Run(t.Context(), transport.Batch{ID: "x-1", Scope: "g-1", Steps: steps}, func(transport.Event) {}); err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		synctest.Wait()
		if n := d.Requests() - opening; d.Calls("Command") != 1 || n > 8 || took > 400*time.Millisecond {
			t.Errorf("12 steps took %d requests and %s", n, took)
		}
	})
}

func TestPoolsAreShared(t *testing.T) {
	t.Parallel()
	a, b := newDevice("win1"), newDevice("win2")
	dialer := &winrm.Dialer{}
	var wg sync.WaitGroup
	for i := range 20 {
		d := []*device{a, b}[i%2]
		wg.Go(func() {
			c, err := dialer.Dial(t.Context(), winrm.Config{Device: d, Address: d.name})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			var h heard
			text := fmt.Sprint("conn ", i)
			if err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{step(1, psBodies.Echo, text)}}, h.sink); err != nil {
				t.Error(err)
			}
			h.want(t, "B1", fmt.Sprintf("O1 stdout %q", text), "E1"+ended)
		})
	}
	wg.Wait()
	if a.Calls("Create") != 1 || b.Calls("Create") != 1 {
		t.Errorf("%d and %d pools were opened", a.Calls("Create"), b.Calls("Create"))
	}
	if err := dialer.Close(); err != nil || a.Shells()+b.Shells() != 0 || a.released.Load() != 1 {
		t.Errorf("%d shells are left, %d releases, %v", a.Shells()+b.Shells(), a.released.Load(), err)
	}
	_, err := dialer.Dial(t.Context(), winrm.Config{Device: a})
	if code(err) != "closed" || !transport.SafeToRetry(err) {
		t.Errorf("a closed dialer: %v", err)
	}
}

func TestIdlePoolsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice("win1")
		dialer := &winrm.Dialer{IdleTTL: 10 * time.Second}
		defer dialer.Close()
		use := func() {
			c, err := dialer.Dial(t.Context(), winrm.Config{Device: d})
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
			_ = c.Close()
		}
		use()
		<-time.After(9 * time.Second)
		use()
		<-time.After(9 * time.Second)
		if d.Calls("Create") != 1 || d.Shells() != 1 {
			t.Errorf("%d pools were opened, %d are open", d.Calls("Create"), d.Shells())
		}
		<-time.After(2 * time.Second)
		synctest.Wait()
		if d.Shells() != 0 || d.released.Load() != 1 {
			t.Errorf("%d pools are open", d.Shells())
		}
		use()
		if d.Calls("Create") != 2 {
			t.Errorf("%d pools were opened", d.Calls("Create"))
		}
	})
}

// However many wait for a pool, one attempt is made for all of them.
func TestOneAttemptForAllWhoWait(t *testing.T) {
	t.Parallel()
	d := newDevice("win1")
	refused := &transport.Error{Phase: transport.PhaseAuth, Code: "auth.password", Hint: "not tried again, to avoid a lockout", Err: errors.New("the password is wrong")}
	gate := make(chan struct{})
	d.Fault = func(_ context.Context, operation string) error {
		if operation != "Create" {
			return nil
		}
		<-gate
		return refused
	}
	dialer := &winrm.Dialer{}
	defer dialer.Close()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			_, err := dialer.Dial(t.Context(), winrm.Config{Device: d})
			te, is := errors.AsType[*transport.Error](err)
			if !is || te.Code != "auth.password" || te.Hint == "" || !te.SafeToRetry || te.Step != -1 {
				t.Errorf("the error is %#v", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dialer.Dial(ctx, winrm.Config{Device: d}); code(err) != "cancelled" {
		t.Errorf("the error is %v", err)
	}
	for dialer.Waiting() < 10 {
		runtime.Gosched()
	}
	close(gate)
	wg.Wait()
	if d.Calls("Create") != 1 {
		t.Errorf("%d attempts", d.Calls("Create"))
	}
}

func TestDialThatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice("win1")
		d.Latency = time.Minute
		dialer := &winrm.Dialer{}
		start := time.Now()
		_, err := dialer.Dial(t.Context(), winrm.Config{Device: d, Address: "win1:5985", DialTimeout: 5 * time.Second})
		if took := time.Since(start); code(err) != "dial.timeout" || took != 5*time.Second || !transport.SafeToRetry(err) {
			t.Errorf("after %s: %v", took, err)
		}
		if err := dialer.Close(); err != nil {
			t.Error(err)
		}
	})
}

// No goroutine and no shell is left after 1,000 grants.
func TestThousandGrantsLeaveNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	devices := []*device{newDevice("win1"), newDevice("win2"), newDevice("win3")}
	dialer := &winrm.Dialer{}
	for i := range 1000 {
		d := devices[i%3]
		if i%50 == 49 {
			d.Restart()
		}
		c, err := dialer.Dial(t.Context(), winrm.Config{Device: d})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		b := transport.Batch{ID: "x", Steps: []transport.Step{step(1, psBodies.Mode, "a")}}
		if i%20 == 7 {
			b.Steps = append(b.Steps, transport.Step{N: 2, Body: psBodies.Hang})
		}
		_ = c.Run(ctx, b, func(e transport.Event) {
			if e.Kind == transport.Began && e.Step == 2 {
				cancel()
			}
		})
		cancel()
		_ = c.Close()
	}
	if err := dialer.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	for _, d := range devices {
		if d.Shells() != 0 {
			t.Errorf("%d shells are left on %s", d.Shells(), d.name)
		}
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
}
