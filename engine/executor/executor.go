// Package executor runs one list of template steps on one device: it plans
// them into batches, decides conditions, keeps results, records changes before
// they are made, and undoes recorded ones. It knows templates, modules and the
// transport seam; it refuses to know grants, stores and protocols.
package executor

import (
	"context"
	"fmt"
	"maps"
	"time"

	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/template"
	"runner/engine/transport"
)

// Status is what became of a step. Ansible's words where the meaning is Ansible's.
type Status string

// Statuses of a step.
const (
	OK          Status = "ok"
	Changed     Status = "changed"
	Skipped     Status = "skipped"
	Failed      Status = "failed"
	Unreachable Status = "unreachable" // the device could not be asked
	Interrupted Status = "interrupted" // it was running when the connection or the worker went away
)

// StepResult is what became of one step.
type StepResult struct {
	N        int // from 1, in the order of the template, blocks flattened
	Name     string
	Module   string
	Tags     []string
	Status   Status
	RC       int
	Attempts int
	Started  time.Time
	Ended    time.Time
	Message  string // what the module says about it, or why it failed
	Reason   string // why it was skipped
	TimedOut bool
	// Values are the common fields and the module's outputs, complete and typed.
	Values map[string]any
	// Diffs, with Run.Diff, are the objects that a step changed, or in check mode
	// would change.
	Diffs []Diff
}

// Diff is what an object was and is, or would be, for people: the text of a
// file, lines about an account, or its state. Hidden objects are those of a
// step with no_log, and passwords.
type Diff struct {
	Object        string
	Before, After string
	Hidden        bool
}

// Change is one object that a step may change, changed, or changed back.
type Change struct {
	Seq    int // ascending within the execution, from 0
	Step   int
	Module string
	Object string
	State  string // see the states below
	Before string // "?" when it was not looked at before
	After  string
	Undo   *module.Undo
	// Hold says, to the recorder, that others may want the object as well. Of what
	// was recorded Before and After are then those of all that hold it, and Others
	// those who still do: the object is left to them.
	Hold   bool
	Others []string
}

// States of a change.
const (
	Intended  = "intended"  // written before the batch was sent; not heard of since
	Done      = "done"      // the object is now as After says
	Unchanged = "unchanged" // the step ran or was skipped and left the object alone
	Undone    = "undone"    // taken back by a revert
	Released  = "released"  // left to others who hold the object as well
	Conflict  = "conflict"  // somebody else changed the object since: left alone
)

// Recorder keeps changes. Intend is called before the batch that makes them is
// sent, and its error keeps the batch from being sent. Complete is called with
// what is known after the batch.
type Recorder interface {
	Intend(ctx context.Context, cs []Change) error
	Complete(ctx context.Context, cs []Change) error
}

// Observer is told what happens, in order, from one goroutine.
type Observer interface {
	Began(n int, name string, at time.Time)
	Output(n int, stream transport.Stream, at time.Time, data []byte)
	Ended(r StepResult)
	Note(n int, text string) // something runner itself has to say; n is 0 outside of steps
}

// Call is a module call that no template wrote.
type Call struct {
	Name   string // the result is found under it
	Module *module.Module
	Args   module.Args
}

// Run says what to run and how.
type Run struct {
	Steps     []*template.Step
	Become    string        // account the steps run as
	Timeout   time.Duration // default per step
	KeepGoing bool          // go on on the device when the connection is lost
	Env       lang.Env      // params, vars, grant, device, created
	Conn      transport.Conn
	Modules   *module.Registry

	ID       string // names the batches on the device
	Scope    string // grant the run works for, or empty
	Takeover bool   // end what earlier runs of the scope left running
	Mode     transport.Mode
	NoFuse   bool // a batch for each step
	FromStep int  // skip steps before this number
	Diff     bool // have the steps tell what objects were and are
	// Only and Except select steps by their tags and those of the blocks around
	// them: with Only those that have one of it, and those tagged always.
	Only, Except []string

	// Record is told of changes. nil: they are kept in the Result only, and what
	// an object was before is what its step said before it acted.
	Record   Recorder
	Observe  Observer // may be nil
	Recorded []Change // what revert: {of: created} undoes
	// Undone is told what became of Recorded. May be nil.
	Undone func(ctx context.Context, cs []Change) error

	// Before are read-only calls that run, with the probes of the first batch,
	// before anything is changed. Probed then gets their results and may change
	// Env or refuse to go on.
	Before []Call
	Probed func(ctx context.Context, results map[string]map[string]any) error
	// After are read-only calls that run after the last step when none failed.
	After []Call
	// Lease is asked before each batch; its error ends the run. May be nil.
	Lease func(ctx context.Context) error
	// Until is asked after Lease: the moment, of the clock of time.Now, after which
	// a batch that can change the device must not begin there. The device is told
	// and looks itself. nil: none.
	Until func() time.Time
}

// Result is what a run came to.
type Result struct {
	Steps   []StepResult
	Changes []Change
	Calls   map[string]map[string]any // results of Before and After
	Env     lang.Env                  // with the registered results
	Sent    bool                      // something that could change the device was sent
	Total   int                       // how many steps there are
	// Interrupted tells, from the device's own progress file, where an earlier
	// run of the scope stopped. Empty when there was none.
	Interrupted []string
}

// StepError says which step ended the run.
type StepError struct {
	N, Total int
	Name     string
	Msg      string
	RC       int
	TimedOut bool
	Sent     bool
}

// Error names the step and what the device said.
func (e *StepError) Error() string {
	s := fmt.Sprintf("step %d/%d %q failed: %s", e.N, e.Total, e.Name, e.Msg)
	if e.RC != 0 && !e.TimedOut {
		s += fmt.Sprintf(" (exit %d)", e.RC)
	}
	return s
}

// DefaultTimeout bounds a step that says nothing about it.
const DefaultTimeout = 60 * time.Second

// Do runs r. The error is a *StepError when a step failed, a *transport.Error
// when the device could not be asked, or what Lease, Record or Probed returned.
// The result is never nil and holds what is known.
func Do(ctx context.Context, r Run) (*Result, error) {
	x := newRun(r)
	err := x.all(ctx)
	sortSteps(x.res.Steps)
	return x.res, err
}

// newRun is r before its first step.
func newRun(r Run) *run {
	x := &run{Run: r, batch: 0, res: &Result{Calls: map[string]map[string]any{}, Env: lang.Env{}}, taken: map[string]bool{}, begun: map[int]bool{}}
	maps.Copy(x.res.Env, r.Env)
	x.scope = x.res.Env
	if x.Timeout == 0 {
		x.Timeout = DefaultTimeout
	}
	if x.Observe == nil {
		x.Observe = silent{}
	}
	x.number(r.Steps)
	x.choose(r.Steps, nil)
	x.res.Total = x.total
	return x
}

type silent struct{}

func (silent) Began(int, string, time.Time)                    {}
func (silent) Output(int, transport.Stream, time.Time, []byte) {}
func (silent) Ended(StepResult)                                {}
func (silent) Note(int, string)                                {}
