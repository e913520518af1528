package runspace_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"runner/engine/secret"
	"runner/engine/transport/winrm/psrp"
	"runner/engine/transport/winrm/runspace"
	"runner/engine/transport/winrm/winrmtest"
)

var testKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, psrp.KeyBits) })

func script(text string, ps ...psrp.Parameter) psrp.Pipeline {
	return psrp.Pipeline{Commands: []psrp.Command{{Text: text, Script: true, Parameters: ps}}}
}

// words does what the script says: one word or two for each thing a host can do.
func words(ctx context.Context, p *winrmtest.Pipeline) error {
	verb, rest, _ := strings.Cut(p.Commands[0].Text, " ")
	switch verb {
	case "say":
		return p.Write(psrp.Output, rest)
	case "many":
		for i := range 500 {
			if err := p.Write(psrp.Output, fmt.Sprintf("%d %s", i, strings.Repeat("x", 1000))); err != nil {
				return err
			}
		}
	case "reveal":
		return p.Write(psrp.Output, p.Argument("v").(secret.Value).Reveal())
	case "conceal":
		return p.Write(psrp.Output, secret.New(rest))
	case "fail":
		return &winrmtest.TerminatingError{Record: psrp.ErrorRecord{Message: rest, ID: "Thrown"}}
	case "sum":
		n := 0
		for v := range p.Inputs {
			n += int(v.(int32))
		}
		return p.Write(psrp.Output, int32(n))
	case "ask":
		a, err := p.Ask(ctx, psrp.HostReadLine, "ReadLine")
		if err != nil {
			return err
		}
		return p.Write(psrp.Warning, "the answer is "+a.Err.ID)
	case "exit":
		return p.Write(psrp.Output, "bye")
	case "hang":
		if err := p.Write(psrp.Output, "hanging"); err != nil {
			return err
		}
		<-ctx.Done()
		return p.Write(psrp.Warning, "was stopped")
	}
	return nil
}

func open(t *testing.T, h *winrmtest.Host, cfg runspace.Config) *runspace.Pool {
	t.Helper()
	if h.Handler == nil {
		h.Handler = words
	}
	if cfg.Key == nil {
		cfg.Key = testKey
	}
	p, err := runspace.Open(t.Context(), h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

func run(ctx context.Context, p *runspace.Pool, pl psrp.Pipeline, input ...any) (string, error) {
	var out []string
	err := p.Run(ctx, pl, input, func(r psrp.Record) { out = append(out, r.Stream.String()+" "+r.Text()) })
	return strings.Join(out, "; "), err
}

func TestPipelines(t *testing.T) {
	t.Parallel()
	h := &winrmtest.Host{}
	p := open(t, h, runspace.Config{})
	for _, c := range []struct {
		pl   psrp.Pipeline
		in   []any
		want string
	}{
		{script("say hello"), nil, "output hello"},
		{script("reveal", psrp.Parameter{Name: "v", Value: secret.New("s3cret")}), nil, "output s3cret"},
		{script("conceal me"), nil, "output ***"},
		{psrp.Pipeline{Input: true, Commands: script("sum").Commands}, []any{int32(1), int32(2), int32(39)}, "output 42"},
		{script("ask"), nil, "warning the answer is RunnerNotInteractive"},
		{script("say " + strings.Repeat("long ", 100000)), nil, "output " + strings.Repeat("long ", 100000)},
	} {
		if got, err := run(t.Context(), p, c.pl, c.in...); err != nil || got != c.want {
			t.Errorf("%.20s: %.100s, %v", c.pl.Commands[0].Text, got, err)
		}
	}
	_, err := run(t.Context(), p, script("fail on purpose"))
	if e, is := errors.AsType[*runspace.Error](err); !is || e.State != psrp.Failed || e.Record.ID != "Thrown" || e.Error() != "on purpose" {
		t.Errorf("the error is %#v", err)
	}
	if p.Err() != nil || p.Server("PSVersion") != "5.1.20348.1" {
		t.Errorf("the pool of %q is broken: %v", p.Server("PSVersion"), p.Err())
	}
	if got, err := run(t.Context(), p, script("many")); err != nil || strings.Count(got, ";") != 499 {
		t.Errorf("%d of 500 lines, %v", strings.Count(got, ";")+1, err)
	}
}

// A pipeline costs a command, its output and its release; the keys are
// exchanged once and only when a secret has to travel.
func TestWhatIsOnTheWire(t *testing.T) {
	t.Parallel()
	h := &winrmtest.Host{}
	p := open(t, h, runspace.Config{})
	if n := h.Requests(); n != 2 {
		t.Errorf("opening takes %d requests", n)
	}
	for range 3 {
		if _, err := run(t.Context(), p, script("reveal", psrp.Parameter{Name: "v", Value: secret.New("s")})); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for operation, want := range map[string]int{"Create": 1, "Command": 3, "Send": 1, "Signal": 3, "Delete": 1} {
		if got := h.Calls(operation); got != want {
			t.Errorf("%d times %s, want %d", got, operation, want)
		}
	}
	if n := h.Calls("Receive"); n < 5 || n > 8 {
		t.Errorf("%d times Receive", n)
	}
	if h.Shells() != 0 {
		t.Errorf("%d shells are left", h.Shells())
	}
}

func TestManyPipelinesShareAPool(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	running, most := 0, 0
	h := &winrmtest.Host{Handler: func(_ context.Context, p *winrmtest.Pipeline) error {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		runtime.Gosched()
		mu.Lock()
		running--
		mu.Unlock()
		return p.Write(psrp.Output, p.Argument("v").(secret.Value).Reveal())
	}}
	p := open(t, h, runspace.Config{Max: 3})
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			v := fmt.Sprint("value ", i)
			if got, err := run(t.Context(), p, script("reveal", psrp.Parameter{Name: "v", Value: secret.New(v)})); err != nil || got != "output "+v {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if most > 3 {
		t.Errorf("%d pipelines at the same time in a pool of 3", most)
	}
	if h.Calls("Send") != 1 {
		t.Errorf("the keys were exchanged %d times", h.Calls("Send"))
	}
}

func TestCancelStopsThePipelineAndKeepsThePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &winrmtest.Host{Latency: 50 * time.Millisecond, MaxCommands: 1}
		p := open(t, h, runspace.Config{Key: testKey})
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			got, err := run(ctx, p, script("hang"))
			if !errors.Is(err, context.DeadlineExceeded) || got != "output hanging; warning was stopped" {
				t.Errorf("%q, %v", got, err)
			}
			if took := time.Since(start); took > 1200*time.Millisecond {
				t.Errorf("returned after %s", took)
			}
			synctest.Wait()
			<-time.After(100 * time.Millisecond) // the release of the command arrives
		}
		if got, err := run(t.Context(), p, script("say on")); err != nil || got != "output on" {
			t.Errorf("after the stop: %q, %v", got, err)
		}
	})
}

func TestDeafHostIsLeftAfterTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &winrmtest.Host{Deaf: true, Handler: func(ctx context.Context, _ *winrmtest.Pipeline) error { <-ctx.Done(); return nil }}
		p := open(t, h, runspace.Config{Grace: 5 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := run(ctx, p, script("hang"))
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "did not confirm that it stopped") {
			t.Errorf("the error is %v", err)
		}
		if took := time.Since(start); took != 6*time.Second {
			t.Errorf("returned after %s", took)
		}
		if p.Err() == nil {
			t.Error("the pool takes more work")
		}
		_, err = run(t.Context(), p, script("say x"))
		if _, is := errors.AsType[*runspace.NotStartedError](err); !is {
			t.Errorf("the error is %v", err)
		}
		if err := p.Close(t.Context()); err != nil || h.Shells() != 0 {
			t.Errorf("%d shells are left, %v", h.Shells(), err)
		}
	})
}

// Whatever call fails, the error says whether the device may have been asked,
// nothing hangs, and the shell is not left behind when it can be closed.
func TestFaultAtEveryCall(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, c := range []struct {
		operation  string
		nth        int
		notStarted bool
		opens      bool
	}{
		{"Create", 1, true, false},
		{"Receive", 1, true, false},
		{"Send", 1, true, true},
		{"Receive", 2, true, true}, // of the session key
		{"Command", 1, false, true},
		{"Receive", 3, false, true},
	} {
		t.Run(fmt.Sprint(c.operation, c.nth), func(t *testing.T) {
			t.Parallel()
			seen := 0
			h := &winrmtest.Host{Handler: words}
			h.Fault = func(_ context.Context, operation string) error {
				if operation == c.operation {
					if seen++; seen == c.nth {
						return boom
					}
				}
				return nil
			}
			p, err := runspace.Open(t.Context(), h, runspace.Config{Key: testKey})
			if !c.opens {
				if !errors.Is(err, boom) || h.Shells() != 0 {
					t.Fatalf("%d shells are left, %v", h.Shells(), err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = run(t.Context(), p, script("reveal", psrp.Parameter{Name: "v", Value: secret.New("canary")}))
			_, is := errors.AsType[*runspace.NotStartedError](err)
			if !errors.Is(err, boom) || is != c.notStarted || strings.Contains(err.Error(), "canary") {
				t.Errorf("the error is %#v", err)
			}
			if p.Err() == nil {
				t.Error("the pool takes more work")
			}
			if err := p.Close(t.Context()); err != nil || h.Shells() != 0 {
				t.Errorf("%d shells are left, %v", h.Shells(), err)
			}
		})
	}
}

func TestServiceRestartEndsWhatRuns(t *testing.T) {
	t.Parallel()
	h := &winrmtest.Host{}
	p := open(t, h, runspace.Config{})
	err := p.Run(t.Context(), script("hang"), nil, func(psrp.Record) { go h.Restart() })
	if err == nil || p.Err() == nil {
		t.Errorf("the error is %v", err)
	}
	if p.Close(t.Context()) == nil {
		t.Error("a shell that is gone was closed")
	}
	if p.Close(t.Context()) != nil {
		t.Error("the second Close does something")
	}
	if _, err := run(t.Context(), p, script("say x")); err == nil {
		t.Error("a closed pool runs scripts")
	}
}

func TestOperationTimeoutsAreNotTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &winrmtest.Host{OperationTimeout: time.Second, Handler: func(ctx context.Context, p *winrmtest.Pipeline) error {
			select {
			case <-time.After(5500 * time.Millisecond):
			case <-ctx.Done():
			}
			return p.Write(psrp.Output, "late")
		}}
		p := open(t, h, runspace.Config{})
		if got, err := run(t.Context(), p, script("x")); err != nil || got != "output late" {
			t.Errorf("%q, %v", got, err)
		}
		if n := h.Calls("Receive"); n < 7 {
			t.Errorf("%d times Receive", n)
		}
	})
}

func TestDisconnectAndReconnect(t *testing.T) {
	t.Parallel()
	p := open(t, &winrmtest.Host{}, runspace.Config{})
	if err := p.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t.Context(), p, script("say x")); err == nil || p.Disconnect(t.Context()) == nil {
		t.Errorf("a disconnected pool: %v", err)
	}
	if err := p.Reconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := run(t.Context(), p, script("say back")); err != nil || got != "output back" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWaitingForARunspaceEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, &winrmtest.Host{}, runspace.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = run(ctx, p, script("hang")) })
		synctest.Wait()
		second, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		_, err := run(second, p, script("say x"))
		if _, is := errors.AsType[*runspace.NotStartedError](err); !is || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
		cancel()
		wg.Wait()
	})
}

// No goroutine and no shell is left after the pools of 1,000 grants.
func TestThousandPoolsLeaveNothing(t *testing.T) {
	h := &winrmtest.Host{Handler: words}
	before := runtime.NumGoroutine()
	for i := range 1000 {
		p, err := runspace.Open(t.Context(), h, runspace.Config{Key: testKey})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if i%10 == 0 {
			_ = p.Run(ctx, script("hang"), nil, func(psrp.Record) { cancel() })
		} else if _, err := run(ctx, p, script("say x")); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	if after := runtime.NumGoroutine(); after > before || h.Shells() != 0 {
		t.Errorf("%d goroutines before, %d after; %d shells are left", before, after, h.Shells())
	}
}
