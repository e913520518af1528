package winrm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"runner/engine/transport"
	"runner/engine/transport/winrm/clixml"
	"runner/engine/transport/winrm/psrp"
)

// Limits of what a step may report.
const (
	maxFact  = 1 << 20
	maxFacts = 4096
)

// Why a batch was ended from here.
var (
	errTimeout = errors.New("the step took too long")
	errTooMuch = errors.New("the step wrote too much")
	errStalled = errors.New("the device did not go on")
	errFrames  = errors.New("the events make no sense")
)

// reader turns the records of a pipeline into events and watches the clock.
type reader struct {
	b      transport.Batch
	nonce  string
	sink   transport.Sink
	limits Config
	end    context.CancelCauseFunc // ends the batch

	mu    sync.Mutex // guards what the clock asks for
	timer *time.Timer
	step  int // the running step, or -1
	late  int // the step that ran when its time was up, or -1

	next    int // index in b.Steps of the step to come
	written int64
	facts   int
	tries   int // attempts of the running step that did not do
	bad     error
}

func newReader(b transport.Batch, nonce string, limits Config, sink transport.Sink, end context.CancelCauseFunc) *reader {
	r := &reader{b: b, nonce: nonce, sink: sink, limits: limits, end: end, step: -1, late: -1}
	r.timer = time.AfterFunc(r.pause(), r.ring)
	return r
}

// ring is called when the time of what happens now is up.
func (r *reader) ring() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.late = r.step; r.step >= 0 {
		r.end(errTimeout)
		return
	}
	r.end(errStalled)
}

// now notes which step runs and how long it may take.
func (r *reader) now(step int, limit time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.step = step
	if r.timer.Stop() { // else the batch is being ended
		r.timer.Reset(limit)
	}
}

// pause bounds the time in which no step runs.
func (r *reader) pause() time.Duration { return max(r.limits.DialTimeout, r.limits.StepTimeout) }

func (r *reader) limit(s transport.Step) time.Duration {
	if s.Timeout > 0 {
		return s.Timeout
	}
	return r.limits.StepTimeout
}

func (r *reader) fail(what string) {
	if r.bad == nil {
		r.bad = fmt.Errorf("%w: %s", errFrames, what)
		r.end(r.bad)
	}
}

func (r *reader) tell(e transport.Event) {
	e.At = time.Now()
	r.sink(e)
}

// take handles the next record.
func (r *reader) take(rec psrp.Record) {
	if r.bad != nil {
		return
	}
	switch rec.Stream {
	case psrp.Output:
		if d, ok := clixml.Entries(rec.Value); ok && clixml.Text(d.Get("runner")) == r.nonce {
			r.event(d)
			return
		}
		r.text(transport.Stdout, rec.Text()+"\n")
	case psrp.Error:
		r.text(transport.Stderr, rec.Text()+"\n")
	case psrp.Warning:
		r.text(transport.Stderr, "warning: "+rec.Text()+"\n")
	case psrp.Information:
		end := "\n"
		if info, is := rec.Value.(*psrp.InformationRecord); is && clixml.Bool(clixml.Get(info.Data, "NoNewLine")) {
			end = ""
		}
		r.text(transport.Stdout, rec.Text()+end)
	case psrp.Verbose, psrp.Debug:
		r.text(transport.Stdout, rec.Stream.String()+": "+rec.Text()+"\n")
	case psrp.Progress: // of a bar that nobody sees
	}
}

// event handles an event of the batch.
func (r *reader) event(d clixml.Dict) {
	kind, text := clixml.Text(d.Get("e")), clixml.Text(d.Get("v"))
	n64, _ := clixml.Int(d.Get("s"))
	n := int(n64)
	number := func(key string) int {
		i, _ := clixml.Int(d.Get(key))
		return int(i)
	}
	mine := r.step >= 0 && n == r.step
	switch {
	case kind == "B" && r.step < 0 && r.isNext(n):
		r.written, r.facts, r.tries = 0, 0, 0
		r.now(n, r.limit(r.b.Steps[r.next]))
		r.tell(transport.Event{Kind: transport.Began, Step: n})
	case kind == "F" && (mine || n == -1 && r.step < 0):
		r.fact(n, clixml.Text(d.Get("k")), text)
	case kind == "O" && mine:
		r.text(transport.Stdout, text)
	case kind == "W" && mine:
		r.text(transport.Stderr, text)
	case kind == "X" && mine:
		r.text(transport.Stderr, text+"\n")
	case kind == "R" && mine:
		s := r.b.Steps[r.next]
		r.tries++
		r.now(n, r.limit(s)+s.Pause(number("k")))
		r.tell(transport.Event{Kind: transport.Retried, Step: n, Attempts: number("k")})
	case kind == "E" && mine:
		r.next++
		r.now(-1, r.pause())
		r.tell(transport.Event{Kind: transport.Ended, Step: n, RC: number("rc"), Changed: clixml.Bool(d.Get("c")), Failed: clixml.Bool(d.Get("f")), Attempts: number("k")})
	case kind == "S" && r.step < 0 && r.isNext(n) && (text == "when" || text == "failed"):
		r.next++
		r.tell(transport.Event{Kind: transport.Skipped, Step: n, Reason: text})
	default:
		r.fail("an event out of order")
	}
}

func (r *reader) isNext(n int) bool { return r.next < len(r.b.Steps) && r.b.Steps[r.next].N == n }

// fact hands on a fact.
func (r *reader) fact(n int, key, value string) {
	r.facts++
	if r.facts > maxFacts || len(value) > maxFact || n >= 0 && !r.count(len(value)) {
		r.end(errTooMuch)
		return
	}
	if len(key) > 200 || !keyPattern.MatchString(key) {
		r.fail("a fact with a strange name")
		return
	}
	r.tell(transport.Event{Kind: transport.Fact, Step: n, Key: key, Value: value})
}

// text hands on output.
func (r *reader) text(stream transport.Stream, s string) {
	e := transport.Event{Kind: transport.Preamble, Step: -1, Stream: stream, Data: []byte(s)}
	if r.step >= 0 {
		e.Kind, e.Step = transport.Output, r.step
		if !r.count(len(s)) {
			r.end(errTooMuch)
			return
		}
	}
	if s != "" {
		r.tell(e)
	}
}

// count adds to what the running step wrote.
func (r *reader) count(n int) bool {
	r.written += int64(n)
	return r.written <= r.limits.MaxOutput
}

// stop ends the clock; nothing is told any more.
func (r *reader) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timer.Stop()
}

// cut ends the running step because of cause, which has ended the batch. It
// reports whether that is all there is to say.
func (r *reader) cut(cause error) bool {
	e := transport.Event{Kind: transport.Ended, Step: r.step, Failed: true, Attempts: r.tries + 1}
	switch {
	case r.step < 0:
		return false
	case errors.Is(cause, errTimeout) && r.late == r.step:
		e.TimedOut, e.RC = true, 124
	case errors.Is(cause, errTooMuch):
		e.TooMuch, e.RC = true, 137
	default:
		return false
	}
	r.tell(e)
	return true
}

// complete says what is missing of the events when the pipeline has ended well.
func (r *reader) complete() error {
	switch {
	case r.bad != nil:
		return r.bad
	case r.step >= 0:
		return fmt.Errorf("%w: step %d ended the script, such as by exit", errFrames, r.step)
	case r.next < len(r.b.Steps):
		return fmt.Errorf("%w: %d of %d steps were not heard of", errFrames, len(r.b.Steps)-r.next, len(r.b.Steps))
	}
	return nil
}

// clean returns at most limit bytes of what a peer said, on one line and without
// control characters, for use in errors.
func clean(s string, limit int) string {
	s = strings.Join(strings.Fields(strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 || c == '\u2028' || c == '\u2029' || c >= '\u202a' && c <= '\u202e' || c >= '\u2066' && c <= '\u2069' {
			return ' '
		}
		return c
	}, s)), " ")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
