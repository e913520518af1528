package psrp

import (
	"errors"
	"fmt"

	"runner/engine/transport/winrm/clixml"
)

// PoolState is the state of a runspace pool ([MS-PSRP] 2.2.3.4). On the client:
// BeforeOpen until Open or Connect, Opening until the server says Opened or
// Broken, Opened until Closed, Disconnected or Broken. Disconnected goes back to
// Opened when it is reconnected. Closed and Broken are final.
type PoolState int32

// States of a runspace pool.
const (
	PoolBeforeOpen PoolState = iota
	PoolOpening
	PoolOpened
	PoolClosed
	PoolClosing
	PoolBroken
	PoolNegotiationSent
	PoolNegotiationSucceeded
	PoolConnecting
	PoolDisconnected
)

// String returns the word for people.
func (s PoolState) String() string {
	words := [...]string{"not open yet", "opening", "opened", "closed", "closing", "broken", "negotiating", "negotiated", "connecting", "disconnected"}
	if s < 0 || int(s) >= len(words) {
		return fmt.Sprintf("state %d", int32(s))
	}
	return words[s]
}

// PipelineState is the state of a pipeline ([MS-PSRP] 2.2.3.5): NotStarted,
// Running, Stopping once the client asked for it, then one of the three final
// ones: Stopped, Completed, Failed.
type PipelineState int32

// States of a pipeline.
const (
	NotStarted PipelineState = iota
	Running
	Stopping
	Stopped
	Completed
	Failed
	Disconnected
)

// String returns the word for people.
func (s PipelineState) String() string {
	words := [...]string{"not started", "running", "stopping", "stopped", "completed", "failed", "disconnected"}
	if s < 0 || int(s) >= len(words) {
		return fmt.Sprintf("state %d", int32(s))
	}
	return words[s]
}

func (s PipelineState) final() bool { return s == Stopped || s == Completed || s == Failed }

// Streams of WS-Man that a Packet travels on.
const (
	Stdin          = "stdin"
	PromptResponse = "pr"
)

// Packet is what fits into one message of WS-Man.
type Packet struct {
	Pipeline clixml.GUID // zero: about the pool
	Stream   string
	Data     []byte
}

// Event is something that the peer said.
type Event interface{ isEvent() }

// What both sides may be told.
type (
	// PoolChanged says that the server changed the state of the pool.
	PoolChanged struct {
		State PoolState
		Err   *ErrorRecord // why, when it is broken
	}
	// PipelineChanged says that the server changed the state of a pipeline.
	PipelineChanged struct {
		Pipeline clixml.GUID
		State    PipelineState
		Err      *ErrorRecord // why it failed or was stopped
	}
	// Record is what a pipeline wrote. Its Value is any value of clixml for
	// Output, *ErrorRecord for Error, string for Warning, Verbose and Debug,
	// *InformationRecord and *ProgressRecord for the others. A pool may warn,
	// too: then Pipeline is zero.
	Record struct {
		Pipeline clixml.GUID
		Stream   Stream
		Value    any
	}
	// HostCalled says that a script wants something of the person in front of it.
	HostCalled struct{ Call HostCall }
	// KeysExchanged says that secrets can travel now.
	KeysExchanged struct{}
	// KeysWanted says that the server has a secret for us and needs a key.
	KeysWanted struct{}
	// Answered is the answer to a call about runspaces: a bool, or a number.
	Answered struct {
		Call  int64
		Value any
	}
	// PrivateData is what the server tells about itself.
	PrivateData struct{ Data clixml.Dict }
	// UserEvent is an event that a script registered for forwarding.
	UserEvent struct {
		Source string
		Data   any
	}
)

// What only a server is told.
type (
	// PipelineCreated asks the server to run something.
	PipelineCreated struct {
		ID       clixml.GUID
		Pipeline Pipeline
	}
	// Input is a value for a pipeline.
	Input struct {
		Pipeline clixml.GUID
		Value    any
	}
	// InputEnded says that no more input comes.
	InputEnded struct{ Pipeline clixml.GUID }
	// HostAnswered is the answer to a host call.
	HostAnswered struct {
		Pipeline clixml.GUID
		Call     int64
		Result   any
		Err      *ErrorRecord
	}
	// RunspacesAsked is a call about runspaces: "max", "min", "available", "reset".
	RunspacesAsked struct {
		Call int64
		What string
		N    int
	}
)

func (PoolChanged) isEvent()     {}
func (PipelineChanged) isEvent() {}
func (Record) isEvent()          {}
func (HostCalled) isEvent()      {}
func (KeysExchanged) isEvent()   {}
func (KeysWanted) isEvent()      {}
func (Answered) isEvent()        {}
func (PrivateData) isEvent()     {}
func (UserEvent) isEvent()       {}
func (PipelineCreated) isEvent() {}
func (Input) isEvent()           {}
func (InputEnded) isEvent()      {}
func (HostAnswered) isEvent()    {}
func (RunspacesAsked) isEvent()  {}

// Text returns what r says to people.
func (r Record) Text() string {
	switch v := r.Value.(type) {
	case *ErrorRecord:
		return v.Text()
	case *InformationRecord:
		return v.Text()
	case *ProgressRecord:
		return v.Activity
	}
	return clixml.Text(r.Value)
}

// stateError says that a call does not fit the state.
func stateError(what string, is, want fmt.Stringer) error {
	return fmt.Errorf("psrp: %s: it is %s, not %s", what, is, want)
}

var (
	errUnknownPipeline = errors.New("psrp: there is no such pipeline")
	errNoState         = errors.New("psrp: a state is missing or unknown")
)
