// Package transport is the seam between the executor and a protocol: a
// connection that runs batches of steps and tells what happened as events. It
// owns the vocabulary (values, predicates, steps, events, errors) and refuses
// to know YAML, expressions, grants or any protocol.
package transport

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"runner/engine/secret"
)

// Conn runs batches on one device, one at a time. A Conn is owned by its
// caller until Close; it is not safe for concurrent use.
type Conn interface {
	// Run sends b, feeds what happens to sink in order from one goroutine,
	// and returns when the batch has ended on the device. A step that failed
	// is not an error: its End event says so. The error is a *Error when the
	// batch could not be sent or its end was not seen, and ctx.Err() wrapped
	// in one when ctx ended first; what the batch started on the device has
	// then been told to stop.
	Run(ctx context.Context, b Batch, sink Sink) error
	// Peer says who answered: for the record of an execution.
	Peer() Peer
	// Close gives the connection back. It does not wait for the device.
	Close() error
}

// Peer identifies the other end of a connection.
type Peer struct {
	Address  string // host:port that was dialled
	Identity string // host key fingerprint (SHA256:…) or service principal
	Software string // what the peer says it is
}

// Mode says how far a step may go.
type Mode int

// Modes of a step. Probe reads the state of the step's objects and reports it;
// Check says what would be changed; Apply changes it.
const (
	Apply Mode = iota
	Probe
	Check
)

// String returns the word that module bodies see in $M.
func (m Mode) String() string { return [...]string{"apply", "probe", "check"}[m] }

// Batch is a list of steps that the device works through without a round trip
// between them. The first step that fails ends the batch unless it says
// Continue; the steps after it are skipped.
type Batch struct {
	ID     string // names the progress file; [a-z0-9-], at most 64 characters
	Scope  string // what the batch works for (a grant id, or empty: no progress file, because nobody would read it); same alphabet
	Become string // account the steps run as; empty: the login account
	// Takeover ends programs of earlier batches of the same Scope that still
	// run on the device before the first step starts.
	Takeover bool
	// KeepGoing lets the batch run to its end on the device when the
	// connection is lost; otherwise it stops before the next step.
	KeepGoing bool
	// Guarded says that the first step decides whether the batch may run at all.
	// It comes before everything else that the batch does to the device, also
	// before Takeover, and when it fails there is nothing else.
	Guarded bool
	Steps   []Step
}

// Step is one unit of a batch. Everything in it is constant or typed; no value
// is ever part of Body.Text.
type Step struct {
	N       int    // number within the execution: unique in a batch
	Name    string // for messages
	Mode    Mode
	When    Pred // nil: always
	Body    Body
	Args    []Arg
	Timeout time.Duration // 0: the transport's default

	// Until repeats the body until it holds, at most Retries more times with
	// Delay between the attempts. When it never holds the step has failed.
	Until    Pred
	Retries  int
	Delay    time.Duration
	Backoff  int           // the pause is that many times as long after each attempt; 0 and 1: always Delay
	MaxDelay time.Duration // with Backoff: the longest pause

	ChangedWhen Pred // nil: as the body says
	FailedWhen  Pred // nil: as the body says
	Continue    bool // a failure does not end the batch
}

// Pause is how long to wait after so many attempts, from 1.
func (s Step) Pause(attempts int) time.Duration {
	d := max(s.Delay, 0)
	if s.Backoff < 2 || d == 0 {
		return d
	}
	for i := 1; i < attempts && d < s.MaxDelay; i++ {
		d *= time.Duration(s.Backoff) // below MaxDelay, so there is room
	}
	return min(d, s.MaxDelay)
}

// Pauses lists the pauses after the first attempts; the last one is that after
// all later ones, too.
func (s Step) Pauses() []time.Duration {
	ps := []time.Duration{s.Pause(1)}
	for n := 2; n <= s.Retries && s.Pause(n) > ps[n-2]; n++ {
		ps = append(ps, s.Pause(n))
	}
	return ps
}

// Body is a constant program in the language of the transport. Two bodies of
// the same Name must have the same Text: a transport sends it once per
// connection.
type Body struct {
	Name string
	Text string
	// Lib is constant texts that the body needs (definitions of functions), each
	// sent once per connection before the first body that needs it.
	Lib []string
}

// Arg binds a value to a name that the body reads.
type Arg struct {
	Name  string // [a-z_][a-z0-9_]*
	Value Value
}

// Value is what an argument is bound to, or what a predicate looks at: Lit,
// Ref or Concat.
type Value interface{ isValue() }

// Lit is a value known before the batch is sent: string, bool, int64,
// secret.Value or []string.
type Lit struct{ V any }

// Ref is an output of an earlier step of the same batch, or one of the words
// every step has: changed, failed, skipped, ran (true or false), rc, attempts.
// A Ref to a step that was skipped reads as Default.
type Ref struct {
	Step    int
	Key     string
	Default string
}

// Concat joins the text of its parts.
type Concat []Value

func (Lit) isValue()    {}
func (Ref) isValue()    {}
func (Concat) isValue() {}

// Pred is a condition that the device can decide: Const, Not, And, Or, Eq,
// Less, In or True.
type Pred interface{ isPred() }

// Const is a decided condition.
type Const bool

// Not is the negation of P.
type Not struct{ P Pred }

// And holds when all of its parts do; an empty And holds.
type And []Pred

// Or holds when one of its parts does; an empty Or does not.
type Or []Pred

// Eq compares the text of two values: integers in decimal, booleans as true
// and false.
type Eq struct{ A, B Value }

// Less compares two values that are decimal integers.
type Less struct {
	A, B    Value
	OrEqual bool
}

// In holds when the text of A equals one of Set.
type In struct {
	A   Value
	Set []Value
}

// True holds when the text of V is "true".
type True struct{ V Value }

func (Const) isPred() {}
func (Not) isPred()   {}
func (And) isPred()   {}
func (Or) isPred()    {}
func (Eq) isPred()    {}
func (Less) isPred()  {}
func (In) isPred()    {}
func (True) isPred()  {}

// Sink receives the events of a batch.
type Sink func(Event)

// EventKind tells the events of a batch apart.
type EventKind int

// The events of a step, in order: Began, then any number of Output and Fact
// (and Retried), then Ended; or Skipped alone. Preamble is output from before
// the batch (a banner, a noisy login script) and belongs to no step.
const (
	Preamble EventKind = iota
	Began
	Output
	Fact
	Retried
	Ended
	Skipped
)

// Stream names an output stream.
type Stream string

// The output streams of a step.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// Event is something that happened on the device. A Fact of step -1 with the
// key "progress.<batch>" is the progress file of an earlier batch of the same
// scope, read and removed by Takeover.
type Event struct {
	Kind   EventKind
	Step   int
	At     time.Time // arrival on this side
	Stream Stream    // Output, Preamble
	Data   []byte    // Output, Preamble; valid until the sink returns
	Key    string    // Fact
	Value  string    // Fact
	// Ended:
	RC       int
	Changed  bool
	Failed   bool
	Attempts int
	TimedOut bool // the step was ended by its Timeout
	TooMuch  bool // the step was ended because it wrote more than the limit
	// Skipped: "when" (its condition was false) or "failed" (an earlier step was)
	Reason string
}

// Phase says how far a connection came before it failed.
type Phase string

// Phases of a connection.
const (
	PhaseResolve Phase = "resolve"
	PhaseDial    Phase = "dial"
	PhaseHostKey Phase = "host key"
	PhaseAuth    Phase = "auth"
	PhaseShell   Phase = "shell"
	PhaseBecome  Phase = "become"
	PhaseExec    Phase = "exec"
)

// Undelivered is how long what was sent may be under way on a direct connection:
// then the kernel gives up (TCP_USER_TIMEOUT, RFC 5482), whether the process that
// sent it lives or not. Transports set it where the kernel knows it.
const Undelivered = 30 * time.Second

// Error is a failure of the transport, as opposed to one of a step.
type Error struct {
	Phase  Phase
	Device string // host:port
	// Code is a stable word for the cause, such as "become.password_required".
	Code string
	// SafeToRetry is true when nothing that could change the device was sent.
	SafeToRetry bool
	// Stopped is true when the device confirmed that nothing of the batch runs
	// there any more. Otherwise it may run, or even still be under way.
	Stopped bool
	// Step is the step that was running when the connection was lost, or -1.
	Step int
	Err  error
	Hint string // what a person can do, or empty
}

// Error says the phase, the device and the cause.
func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v", e.Phase, e.Device, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// SafeToRetry reports whether err guarantees that nothing that could change
// the device was sent.
func SafeToRetry(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.SafeToRetry
}

// Text returns the text of a literal as devices see it. Secrets are revealed;
// lists are joined by newlines.
func Text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case secret.Value:
		return v.Reveal()
	case []string:
		return strings.Join(v, "\n")
	default:
		return fmt.Sprint(v)
	}
}
