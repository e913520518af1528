package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"runner/engine/secret"
	"runner/engine/transport"
)

// Bodies are the programs that the suite needs, in the language of a transport.
type Bodies struct {
	Mode   transport.Body // writes the word of the mode and a line end to stdout
	Echo   transport.Body // writes argument "text" to stdout, nothing else
	Warn   transport.Body // writes argument "text" to stderr, nothing else
	Fact   transport.Body // reports fact "value" with the text of argument "text"
	Change transport.Body // says that it changed something; state 0 is "present"
	Fail   transport.Body // fails with rc 3
	Hang   transport.Body // never ends by itself

	// OneStream says that the connection cannot tell stderr from stdout.
	OneStream bool
}

// Suite checks what every Conn must do. newConn returns a fresh connection that
// ends with the test; the suite calls it from parallel tests.
func Suite(t *testing.T, newConn func(*testing.T) transport.Conn, b Bodies) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, transport.Conn, Bodies){
		"peer is known":                      peerIsKnown,
		"events come in order":               eventsInOrder,
		"modes reach the body":               modesReachTheBody,
		"values arrive byte-exact":           valuesArrive,
		"conditions read earlier steps":      conditions,
		"a failure skips the rest":           failureSkips,
		"a guard comes first":                guardComesFirst,
		"continue goes on":                   continueGoesOn,
		"until repeats":                      untilRepeats,
		"until waits longer each time":       untilBacksOff,
		"until gives up":                     untilGivesUp,
		"changed_when and failed_when":       ownWords,
		"a timeout ends one step":            timeoutEndsStep,
		"a cancelled batch names its step":   cancelNamesStep,
		"a closed connection refuses":        closedRefuses,
		"batches do not see earlier outputs": batchesAreApart,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newConn(t), b)
		})
	}
}

// said is the record of a batch.
type said struct {
	mu     sync.Mutex
	trace  []string
	out    map[int]*bytes.Buffer
	errs   map[int]*bytes.Buffer
	facts  map[string]string
	began  chan int
	events []transport.Event
}

func newSaid() *said {
	return &said{out: map[int]*bytes.Buffer{}, errs: map[int]*bytes.Buffer{}, facts: map[string]string{}, began: make(chan int, 100)}
}

func (s *said) sink(e transport.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
	switch e.Kind {
	case transport.Began:
		s.trace = append(s.trace, fmt.Sprintf("B%d", e.Step))
		s.began <- e.Step
	case transport.Output:
		m := s.out
		if e.Stream == transport.Stderr {
			m = s.errs
		}
		if m[e.Step] == nil {
			m[e.Step] = &bytes.Buffer{}
		}
		m[e.Step].Write(e.Data)
	case transport.Fact:
		s.facts[fmt.Sprintf("%d.%s", e.Step, e.Key)] = e.Value
	case transport.Retried:
		s.trace = append(s.trace, fmt.Sprintf("R%d", e.Step))
	case transport.Ended:
		s.trace = append(s.trace, fmt.Sprintf("E%d rc=%d changed=%t failed=%t attempts=%d", e.Step, e.RC, e.Changed, e.Failed, e.Attempts))
	case transport.Skipped:
		s.trace = append(s.trace, fmt.Sprintf("S%d %s", e.Step, e.Reason))
	case transport.Preamble:
	}
}

func (s *said) wrote(m map[int]*bytes.Buffer, n int) string {
	if m[n] == nil {
		return ""
	}
	return m[n].String()
}

func (s *said) want(t *testing.T, trace ...string) {
	t.Helper()
	if got, want := strings.Join(s.trace, "; "), strings.Join(trace, "; "); got != want {
		t.Errorf("events\n got %s\nwant %s", got, want)
	}
}

func run(t *testing.T, c transport.Conn, steps ...transport.Step) *said {
	t.Helper()
	s := newSaid()
	for i := range steps {
		steps[i].N = i + 1
	}
	if err := c.Run(t.Context(), transport.Batch{ID: "suite-1", Scope: "suite", Steps: steps}, s.sink); err != nil {
		t.Fatal(err)
	}
	return s
}

func text(v any) []transport.Arg {
	if val, ok := v.(transport.Value); ok {
		return []transport.Arg{{Name: "text", Value: val}}
	}
	return []transport.Arg{{Name: "text", Value: transport.Lit{V: v}}}
}

func ok(n int) string { return fmt.Sprintf("E%d rc=0 changed=false failed=false attempts=1", n) }

func peerIsKnown(t *testing.T, c transport.Conn, _ Bodies) {
	if p := c.Peer(); p.Address == "" || p.Identity == "" || p.Software == "" {
		t.Errorf("peer is %+v", p)
	}
}

func eventsInOrder(t *testing.T, c transport.Conn, b Bodies) {
	before := time.Now()
	s := run(t, c, transport.Step{Body: b.Echo, Args: text("no end of line")}, transport.Step{Body: b.Warn, Args: text("careful\n")}, transport.Step{Body: b.Change})
	s.want(t, "B1", ok(1), "B2", ok(2), "B3", "E3 rc=0 changed=true failed=false attempts=1")
	want := "no end of line|||careful\n"
	if b.OneStream {
		want = "no end of line||careful\n|"
	}
	if got := s.wrote(s.out, 1) + "|" + s.wrote(s.errs, 1) + "|" + s.wrote(s.out, 2) + "|" + s.wrote(s.errs, 2); got != want {
		t.Errorf("output is %q", got)
	}
	if s.facts["3.state.0"] != "present" {
		t.Errorf("facts are %q", s.facts)
	}
	for _, e := range s.events {
		if e.At.Before(before) || e.At.After(time.Now()) {
			t.Errorf("event %v is of %v", e.Kind, e.At)
		}
	}
}

func modesReachTheBody(t *testing.T, c transport.Conn, b Bodies) {
	s := run(t, c, transport.Step{Body: b.Mode}, transport.Step{Body: b.Mode, Mode: transport.Probe}, transport.Step{Body: b.Mode, Mode: transport.Check})
	if got := s.wrote(s.out, 1) + s.wrote(s.out, 2) + s.wrote(s.out, 3); strings.ReplaceAll(got, "\r", "") != "apply\nprobe\ncheck\n" {
		t.Errorf("modes are %q", got)
	}
}

// Injections are values that a renderer might let escape: tests of every
// language send them and expect them back unchanged.
func Injections() []string {
	return []string{
		"", " ", "a b", "'", `"`, "''", `'"'"'`, "`id`", "$(id)", "${IFS}", "$HOME", "$a_text", "\\", `\'`, "a\\", "'; exit 9; '", "\n", "a\nb\n\n",
		"-n", "-e x", "--", "*", "~", "!", "!!", "#", "%s%n", "(", ")", "[", "]", "=", "true", "&& exit 1", "| cat", "> /tmp/x", "\t", "é ü 漢 \U0001f511",
		"@'\nx\n'@", "\u2018; exit\u2019", "EOF", strings.Repeat("x'\"$(`", 1000), strings.Repeat("0123456789abcdef", 4096),
	}
}

func valuesArrive(t *testing.T, c transport.Conn, b Bodies) {
	values := []any{true, false, int64(-42), int64(1) << 60, secret.New("s3'c$r\"et"), []string{"a", "b c", ""}}
	for _, s := range Injections() {
		values = append(values, s)
	}
	var steps []transport.Step
	for _, v := range values {
		steps = append(steps, transport.Step{Body: b.Fact, Args: text(v)})
	}
	first := len(steps)
	for i := range values { // and through a variable of the device
		steps = append(steps, transport.Step{Body: b.Fact, Args: text(transport.Concat{transport.Lit{V: "<"}, transport.Ref{Step: i + 1, Key: "value"}, transport.Lit{V: ">"}})})
	}
	s := run(t, c, steps...)
	for i, v := range values {
		want := transport.Text(v)
		if got := s.facts[fmt.Sprintf("%d.value", i+1)]; got != want {
			t.Errorf("value %q arrived as %q", want, got)
		}
		if got := s.facts[fmt.Sprintf("%d.value", first+i+1)]; got != "<"+want+">" {
			t.Errorf("value %q was passed on as %q", want, got)
		}
	}
}

func conditions(t *testing.T, c transport.Conn, b Bodies) {
	ref := func(n int, key, def string) transport.Ref { return transport.Ref{Step: n, Key: key, Default: def} }
	lit := func(v any) transport.Lit { return transport.Lit{V: v} }
	s := run(
		t, c,
		transport.Step{Body: b.Fact, Args: text("12")},
		transport.Step{Body: b.Fact, Args: text("x"), When: transport.Less{A: ref(1, "value", ""), B: lit(int64(3))}},
		transport.Step{Body: b.Echo, Args: text(ref(2, "value", "nothing")), When: transport.And{transport.True{V: ref(2, "skipped", "")}, transport.Not{P: transport.True{V: ref(2, "ran", "")}}}},
		transport.Step{Body: b.Echo, Args: text("in"), When: transport.In{A: ref(1, "value", ""), Set: []transport.Value{lit("1"), lit(int64(12))}}},
		transport.Step{Body: b.Echo, Args: text("never"), When: transport.Or{}},
		transport.Step{Body: b.Echo, Args: text("always"), When: transport.And{}},
	)
	s.want(t, "B1", ok(1), "S2 when", "B3", ok(3), "B4", ok(4), "S5 when", "B6", ok(6))
	if got := s.wrote(s.out, 3); got != "nothing" {
		t.Errorf("a reference to a skipped step read %q", got)
	}
}

func failureSkips(t *testing.T, c transport.Conn, b Bodies) {
	s := run(t, c, transport.Step{Body: b.Fail}, transport.Step{Body: b.Echo, Args: text("x")}, transport.Step{Body: b.Echo, Args: text("y"), When: transport.Const(false)})
	s.want(t, "B1", "E1 rc=3 changed=false failed=true attempts=1", "S2 failed", "S3 failed")
	run(t, c, transport.Step{Body: b.Echo, Args: text("the connection is fine")}).want(t, "B1", ok(1))
}

func guardComesFirst(t *testing.T, c transport.Conn, b Bodies) {
	for guard, want := range map[*transport.Body][]string{
		&b.Fact: {"B7", ok(7), "B8", ok(8)},
		&b.Fail: {"B7", "E7 rc=3 changed=false failed=true attempts=1", "S8 failed"},
	} {
		s := newSaid()
		err := c.Run(t.Context(), transport.Batch{ID: "suite-g", Scope: "guarded", Takeover: true, Guarded: true, Steps: []transport.Step{
			{N: 7, Body: *guard, Args: text("a")}, {N: 8, Body: b.Echo, Args: text("b")},
		}}, s.sink)
		if err != nil {
			t.Fatal(err)
		}
		s.want(t, want...)
	}
}

func continueGoesOn(t *testing.T, c transport.Conn, b Bodies) {
	s := run(t, c, transport.Step{Body: b.Fail, Continue: true},
		transport.Step{Body: b.Echo, Args: text(transport.Ref{Step: 1, Key: "rc", Default: "?"}), When: transport.True{V: transport.Ref{Step: 1, Key: "failed"}}})
	s.want(t, "B1", "E1 rc=3 changed=false failed=true attempts=1", "B2", ok(2))
	if got := s.wrote(s.out, 2); got != "3" {
		t.Errorf("rc was read as %q", got)
	}
}

func untilRepeats(t *testing.T, c transport.Conn, b Bodies) {
	s := run(t, c,
		transport.Step{Body: b.Echo, Args: text("."), Until: transport.Eq{A: transport.Ref{Step: 1, Key: "attempts"}, B: transport.Lit{V: int64(3)}}, Retries: 5, Delay: time.Millisecond},
		transport.Step{Body: b.Echo, Args: text(transport.Ref{Step: 1, Key: "attempts"})})
	s.want(t, "B1", "R1", "R1", "E1 rc=0 changed=false failed=false attempts=3", "B2", ok(2))
	if got := s.wrote(s.out, 1) + s.wrote(s.out, 2); got != "...3" {
		t.Errorf("output is %q", got)
	}
}

func untilBacksOff(t *testing.T, c transport.Conn, b Bodies) {
	slow := transport.Step{
		Body: b.Echo, Args: text("."), Until: transport.Eq{A: transport.Ref{Step: 1, Key: "attempts"}, B: transport.Lit{V: int64(6)}},
		Retries: 9, Delay: 20 * time.Millisecond, Backoff: 2, MaxDelay: 80 * time.Millisecond,
	}
	if got := len(slow.Pauses()); got != 3 {
		t.Fatalf("%d different pauses", got)
	}
	before := time.Now()
	run(t, c, slow).want(t, "B1", "R1", "R1", "R1", "R1", "R1", "E1 rc=0 changed=false failed=false attempts=6")
	if took := time.Since(before); took < 300*time.Millisecond { // 20+40+80+80+80
		t.Errorf("all pauses together took %s", took)
	}
}

func untilGivesUp(t *testing.T, c transport.Conn, b Bodies) {
	s := run(t, c, transport.Step{Body: b.Echo, Args: text("."), Until: transport.Const(false), Retries: 2}, transport.Step{Body: b.Echo, Args: text("x")})
	s.want(t, "B1", "R1", "R1", "E1 rc=0 changed=false failed=true attempts=3", "S2 failed")
}

func ownWords(t *testing.T, c transport.Conn, b Bodies) {
	own := func(n int, key string) transport.Ref { return transport.Ref{Step: n, Key: key, Default: "?"} }
	s := run(t, c,
		transport.Step{Body: b.Fail, FailedWhen: transport.Eq{A: own(1, "rc"), B: transport.Lit{V: "4"}}, ChangedWhen: transport.Eq{A: own(1, "rc"), B: transport.Lit{V: "3"}}},
		transport.Step{Body: b.Change, ChangedWhen: transport.Const(false)},
		transport.Step{Body: b.Change, FailedWhen: transport.True{V: own(3, "changed")}})
	s.want(t, "B1", "E1 rc=3 changed=true failed=false attempts=1", "B2", ok(2), "B3", "E3 rc=0 changed=true failed=true attempts=1")
}

func timeoutEndsStep(t *testing.T, c transport.Conn, b Bodies) {
	s := newSaid()
	err := c.Run(t.Context(), transport.Batch{ID: "suite-1", Steps: []transport.Step{
		{N: 1, Body: b.Echo, Args: text("a")}, {N: 2, Body: b.Hang, Timeout: 200 * time.Millisecond}, {N: 3, Body: b.Echo, Args: text("c")},
	}}, s.sink)
	if err != nil {
		t.Fatal(err)
	}
	last := s.events[len(s.events)-1]
	if last.Kind != transport.Ended || last.Step != 2 || !last.TimedOut || !last.Failed {
		t.Errorf("the last event is %+v", last)
	}
	run(t, c, transport.Step{Body: b.Echo, Args: text("the connection is fine")}).want(t, "B1", ok(1))
}

func cancelNamesStep(t *testing.T, c transport.Conn, b Bodies) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := newSaid()
	go func() {
		for n := range s.began {
			if n == 2 {
				cancel()
				return
			}
		}
	}()
	err := c.Run(ctx, transport.Batch{ID: "suite-1", Steps: []transport.Step{{N: 1, Body: b.Echo, Args: text("a")}, {N: 2, Body: b.Hang}}}, s.sink)
	te, is := errors.AsType[*transport.Error](err)
	if !is || te.Step != 2 || te.SafeToRetry || !errors.Is(err, context.Canceled) {
		t.Errorf("error is %#v", err)
	}
	run(t, c, transport.Step{Body: b.Echo, Args: text("the connection is fine")}).want(t, "B1", ok(1))
}

func closedRefuses(t *testing.T, c transport.Conn, b Bodies) {
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{{N: 1, Body: b.Echo, Args: text("a")}}}, func(transport.Event) { t.Error("an event") })
	if !transport.SafeToRetry(err) {
		t.Errorf("error is %v", err)
	}
}

func batchesAreApart(t *testing.T, c transport.Conn, b Bodies) {
	run(t, c, transport.Step{Body: b.Fact, Args: text("old")}, transport.Step{Body: b.Echo, Args: text(transport.Ref{Step: 1, Key: "value"})})
	s := run(t, c, transport.Step{Body: b.Echo, Args: text("a")}, transport.Step{Body: b.Echo, Args: text(transport.Ref{Step: 1, Key: "value", Default: "none"})})
	if got := s.wrote(s.out, 2); got != "none" {
		t.Errorf("a reference read %q of an earlier batch", got)
	}
}
