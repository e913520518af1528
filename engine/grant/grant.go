// Package grant is the vocabulary of grants and jobs and the state machine
// that moves them. It is pure: it performs no I/O, starts no goroutine and
// reads no clock; every function takes the time it acts at.
package grant

import (
	"encoding/json"
	"fmt"
	"time"
)

// State is where a grant stands.
type State string

// States of a grant. The comment says who moves it on, also after a crash.
const (
	// Requested: stored, its forward job not yet started. A worker starts it;
	// a sweep that finds it abandoned cancels it.
	Requested State = "requested"
	// WaitingApproval: a person has to decide. Expiry cancels it.
	WaitingApproval State = "waiting_approval"
	// Denied: final; nothing was done.
	Denied State = "denied"
	// Cancelled: final; ended before anything was sent to the device.
	Cancelled State = "cancelled"
	// Creating: the create or elevate job runs. Its worker moves it on; when
	// the worker died, whoever reaps the worker's node makes it Ending.
	Creating State = "creating"
	// Active: the account works and belongs to the requester. End, expiry or
	// revocation move it on.
	Active State = "active"
	// Ending: the removal job is due, runs or is retried, for ever.
	Ending State = "ending"
	// Removed: final; absence was read back and the receipt is stored.
	Removed State = "removed"
	// Gone: final; the device itself is verifiably gone.
	Gone State = "gone"
)

// Final reports whether a grant in this state never moves again.
func (s State) Final() bool {
	switch s {
	case Denied, Cancelled, Removed, Gone:
		return true
	case Requested, WaitingApproval, Creating, Active, Ending:
		return false
	}
	return false
}

// Kind is what a job does.
type Kind string

// Kinds of jobs. Delete and Revert are removals: they never end in an error.
const (
	Create  Kind = "create"
	Elevate Kind = "elevate"
	Renew   Kind = "renew"
	Lock    Kind = "lock" // of an account that waits for its removal in quarantine
	Delete  Kind = "delete"
	Revert  Kind = "revert"
)

// Removal reports whether the kind is that of a grant's removal.
func (k Kind) Removal() bool { return k == Delete || k == Revert }

// TakesAway reports whether the kind ends access: those jobs are run by sweeps, too,
// and are tried for ever.
func (k Kind) TakesAway() bool { return k.Removal() || k == Lock }

// JobState is where a job stands.
type JobState string

// States of a job. A job that is retried is Waiting with Attempt > 0.
const (
	// Waiting until Due. A worker claims it.
	Waiting JobState = "waiting"
	// Running on Node. Its worker finishes it; when the node died, the reaper
	// hands it back.
	Running JobState = "running"
	// Done: final.
	Done JobState = "done"
	// Paused by a person until PausedUntil; then Waiting again. Removals only.
	Paused JobState = "paused"
	// JobCancelled: final; never a removal of something that may exist.
	JobCancelled JobState = "cancelled"
)

// MarkRestored is the mark of a store that was put back to an earlier state, and when.
const MarkRestored = "restored"

// Grant is one requester's use of one credential.
type Grant struct {
	ID         string `json:"id"`
	State      State  `json:"state"`
	Requester  string `json:"requester"`
	Caller     string `json:"caller"` // who really ran the command
	Reason     string `json:"reason,omitempty"`
	Credential string `json:"credential"`
	Device     string `json:"device"`
	Account    string `json:"account"`
	UID        int64  `json:"uid,omitempty"` // reserved for the account, where the platform has one
	Creates    bool   `json:"creates"`       // the grant makes an account of its own
	// Origin says how a grant came about that nobody requested. Empty: somebody did.
	Origin    string    `json:"origin,omitempty"`
	Requested time.Time `json:"requested_at"`
	Activated time.Time `json:"activated_at,omitzero"`
	// Expires is the only expiry. Until activation it is the latest moment at
	// which the creation may still be under way.
	Expires  time.Time     `json:"expires_at"`
	For      time.Duration `json:"-"`                    // what was asked for; the clock starts at activation
	Backstop time.Time     `json:"backstop_at,omitzero"` // the device's own expiry
	Ended    time.Time     `json:"ended_at,omitzero"`
	EndedBy  string        `json:"ended_by,omitempty"` // end, expire, revoke, failed, interrupted, ...
	NoAccess time.Time     `json:"no_access_at,omitzero"`
	NoTrace  time.Time     `json:"no_trace_at,omitzero"`
	// Failure says why the creation did not succeed.
	Failure string `json:"failure,omitempty"`
	// Sealed is the secret of the account until it is collected.
	Sealed    []byte    `json:"-"`
	Collected time.Time `json:"collected_at,omitzero"`
	// Plan is everything a removal needs, pinned when the grant was requested.
	Plan Plan `json:"-"`
	// Outputs of the creation, for created.outputs in removal templates.
	Outputs json.RawMessage `json:"outputs,omitempty"`
	// Receipt is the proof that nothing is left.
	Receipt *Receipt `json:"-"`
}

// Plan pins what a grant runs, by content, so that later edits of templates,
// inventories and credentials do not change how it is removed.
type Plan struct {
	Forward    string          `json:"forward"`         // template hash
	Removal    string          `json:"removal"`         // template hash
	Params     json.RawMessage `json:"params"`          // without secrets
	Connection json.RawMessage `json:"connection"`      // what inventory, device and credential said; references to secrets, never secrets
	Longest    time.Duration   `json:"longest_timeout"` // how long what a worker sent may still arrive, or a step of it run
}

// Job is planned work of a grant.
type Job struct {
	ID          string    `json:"id"`
	GrantID     string    `json:"grant_id"`
	Kind        Kind      `json:"kind"`
	State       JobState  `json:"state"`
	Device      string    `json:"device"`
	Due         time.Time `json:"due_at"`
	Attempt     int       `json:"attempt"` // how often it was claimed: the fence
	Node        string    `json:"node,omitempty"`
	Execution   string    `json:"execution,omitempty"` // the running or latest one
	FirstFailed time.Time `json:"first_failed_at,omitzero"`
	LastError   string    `json:"last_error,omitempty"`
	BlockedBy   string    `json:"blocked_by,omitempty"`
	PausedUntil time.Time `json:"paused_until,omitzero"`
	// Again is a time at which a removal that succeeded has to run once more,
	// because a worker died or lost its connection, and what it sent may still
	// have been under way or running.
	Again time.Time `json:"again_at,omitzero"`
	// Until is the expiry that a renew job was asked for.
	Until    time.Time `json:"until,omitzero"`
	Finished time.Time `json:"finished_at,omitzero"`
	// Login is the credential that the job logs in by, and LoginLimit how many
	// jobs may do so at once; 0: any number.
	Login      string `json:"login,omitempty"`
	LoginLimit int    `json:"login_limit,omitempty"`
	// Missed is how many attempts did not reach the device. Silent says that the latest
	// did not: the job is due as soon as the device answers anybody.
	Missed int  `json:"missed,omitempty"`
	Silent bool `json:"silent,omitempty"`
}

// Event is an audit row: who did what to which grant.
type Event struct {
	At     time.Time         `json:"at"`
	Actor  string            `json:"actor"`  // requester, operator, or runner itself
	Action string            `json:"action"` // grant.requested, job.claimed, ...
	Grant  string            `json:"grant_id"`
	Detail map[string]string `json:"detail,omitempty"` // never a secret
}

// Receipt is the proof, at the end of a grant, that nothing of it is left.
type Receipt struct {
	At     time.Time `json:"at"`
	Device string    `json:"device"`
	Peer   string    `json:"peer"` // host key or principal that answered
	// Left is what the surface holds now and did not hold before: must be empty.
	Left []string `json:"left"`
	// Missing is what the surface held before and does not hold now: must be empty.
	Missing []string `json:"missing"`
	// Session is what the person left behind during the session and the removal
	// found and took away: processes, files, cron tables.
	Session []string `json:"left_by_session,omitempty"`
	// Conflicts are objects of an elevation that somebody else changed meanwhile:
	// they are left as they are.
	Conflicts []string `json:"conflicts,omitempty"`
	// Held are objects that stay because other grants want them as well.
	Held []string `json:"held,omitempty"`
	// Before and After are the surfaces themselves, one object a line; of an
	// elevation the objects that it changed, each with its state.
	Before []string `json:"before"`
	After  []string `json:"after"`
	// Known is false when no surface had been recorded before the grant; then
	// Left holds everything that bears the account's name or uid.
	Known bool `json:"before_known"`
	// Machine is the device's own id, as it was before the grant; empty: it has none.
	Machine string `json:"machine,omitempty"`
	// Gone says, of a grant whose device is gone, how that is known.
	Gone string `json:"gone,omitempty"`
}

// Empty reports whether the receipt proves that nothing is left.
func (r *Receipt) Empty() bool { return r != nil && len(r.Left) == 0 && len(r.Missing) == 0 }

// Case is a grant with everything that moves with it. It is loaded and stored
// as one; Events are the audit rows to be written with it.
type Case struct {
	Grant  Grant
	Jobs   []Job
	Events []Event
	// Opens is the session that a new grant is requested for, stored with it; nil
	// in a case that was loaded.
	Opens *Session
	// Ran is what an execution of one of the jobs came to, stored with the change that
	// it led to; nil in a case that was loaded.
	Ran *Ran
}

// Ran is what a worker writes of an execution together with the change of its
// grant: that a job is claimed and what it began, that it is over and how it ended.
type Ran struct {
	Execution Execution
	Steps     []StepResult
	Changes   []Change // those that became something else
}

// Fence identifies one attempt at a job. A write of a running execution counts
// only while the job is still running as this attempt on this node.
type Fence struct {
	Job     string
	Attempt int
	Node    string
}

// StateError says that something is not possible in a grant's or job's state.
type StateError struct {
	Subject string // "grant g-…" or "job j-…"
	State   string
	Want    string // "become active"
}

// Error returns a full sentence.
func (e *StateError) Error() string {
	return fmt.Sprintf("%s is %s: it cannot %s", e.Subject, e.State, e.Want)
}

// Execution is one attempt at running a job's template.
type Execution struct {
	ID       string    `json:"id"`
	JobID    string    `json:"job_id,omitempty"`   // empty for an ad hoc run
	GrantID  string    `json:"grant_id,omitempty"` // likewise
	Kind     Kind      `json:"kind"`
	Template string    `json:"template"` // kind/name@hash
	Device   string    `json:"device"`
	Attempt  int       `json:"attempt"`
	Node     string    `json:"node"`
	Started  time.Time `json:"started_at"`
	Ended    time.Time `json:"ended_at,omitzero"`
	// Outcome is empty while running: ok, failed, unreachable, interrupted, blocked.
	Outcome  string        `json:"outcome,omitempty"`
	Error    string        `json:"error,omitempty"`
	Peer     string        `json:"peer,omitempty"`
	Connect  time.Duration `json:"-"`
	Steps    int           `json:"steps"`     // how many the template has
	LogBytes int64         `json:"log_bytes"` // written, dropped ones included
	Dropped  int64         `json:"log_dropped_bytes"`
}

// StepResult is what became of one step of an execution.
type StepResult struct {
	N        int           `json:"n"`
	Name     string        `json:"name"`
	Module   string        `json:"module"`
	Status   string        `json:"status"` // ok changed skipped failed unreachable interrupted
	RC       int           `json:"rc"`
	Attempts int           `json:"attempts"`
	Started  time.Time     `json:"started_at,omitzero"`
	Took     time.Duration `json:"-"`
	Message  string        `json:"message,omitempty"`
	Reason   string        `json:"reason,omitempty"` // why it was skipped
	LogFrom  int64         `json:"log_from"`         // byte range in the execution's log
	LogTo    int64         `json:"log_to"`
}

// Change is what a grant changed on a device, one row an object: written as an
// intent before the device is touched and completed after.
type Change struct {
	Execution string          `json:"execution"`
	Seq       int             `json:"seq"` // per grant, ascending
	Step      int             `json:"step"`
	Module    string          `json:"module"`
	Object    string          `json:"object"`
	State     string          `json:"state"` // intended, done, unchanged, undone, conflict
	Before    string          `json:"before"`
	After     string          `json:"after"`
	Undo      json.RawMessage `json:"undo,omitempty"`
	// Hold says that other grants may want the object as well: it is counted who
	// does. It is told when a change is stored and does not come back with it.
	Hold bool `json:"-"`
}

// Hold is an object of a device that a grant wants and others may want as well.
// What was there before the first of them stays; the last puts it back.
type Hold struct {
	Object string
	Before string // what it was before the first grant of those that have not ended
	After  string // what they made of it; empty while that is not known
	// Others are the grants, being created or active, that want it too.
	Others []string
}

// Snapshot is a template as a grant pinned it.
type Snapshot struct {
	Hash string // hex SHA-256 of Body
	Kind string
	Name string
	Body []byte
}

// Filter selects grants, jobs or executions; zero fields do not restrict.
type Filter struct {
	States     []string
	Requester  string
	Device     string
	Credential string
	Grant      string
	Job        string
	Outcome    string
	Limit      int // 0: 1000
}
