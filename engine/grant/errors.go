package grant

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of keeping grants that callers branch on. Stores wrap them with what
// they were doing; compare with errors.Is.
var (
	// ErrNotFound: nothing has this id, prefix or hash.
	ErrNotFound = errors.New("not found")
	// ErrLeaseLost: the job is no longer running as this attempt on this node,
	// so what the worker wanted to write was not written. It must stop.
	ErrLeaseLost = errors.New("the job is no longer this worker's")
	// ErrBusy: the device or the grant already has a running job, or a node
	// still has one. Nothing was changed; it can be tried again later.
	ErrBusy = errors.New("another job is running")
	// ErrNewerSchema: the state was written by a newer runner.
	ErrNewerSchema = errors.New("the state was written by a newer runner")
	// ErrStoreGone: the files of the store were removed or replaced while they
	// were in use. Nothing that was not there before is kept any more: stop.
	ErrStoreGone = errors.New("the store was removed or replaced while it was in use")
	// ErrDiskFull: nothing could be written and nothing was half written.
	ErrDiskFull = errors.New("the disk is full")
)

// ConflictError says that a grant that has not ended yet stands in the way.
type ConflictError struct {
	// What both would hold: "requester" (the same requester and credential),
	// "account" (the same account of a device) or "uid" (of a device).
	What     string
	Existing Grant
}

// Error returns a full sentence; it names the grant to end first.
func (e *ConflictError) Error() string {
	g := e.Existing
	switch e.What {
	case "account":
		return fmt.Sprintf("account %s on %s belongs to grant %s, which is %s", g.Account, g.Device, g.ID, g.State)
	case "uid":
		return fmt.Sprintf("uid %d on %s belongs to grant %s, which is %s", g.UID, g.Device, g.ID, g.State)
	default:
		return fmt.Sprintf("%s already holds grant %s of %s, which is %s", g.Requester, g.ID, g.Credential, g.State)
	}
}

// AmbiguousError says that a prefix stands for more than one id.
type AmbiguousError struct {
	Prefix     string
	Candidates []string // ascending; at most ten
}

// Error returns a full sentence with the candidates.
func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%q could be any of %s", e.Prefix, strings.Join(e.Candidates, ", "))
}

// ExhaustedError says that a device has no uid left to give.
type ExhaustedError struct {
	Device      string
	First, Last int64 // the range, both included
}

// Error returns a full sentence.
func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("every uid from %d to %d on %s was used in the last 400 days or is unusable: enlarge the range", e.First, e.Last, e.Device)
}
