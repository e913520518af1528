// Package engine is the story of a grant: Request, Activate, End or Expire or
// Revoke, Remove, Prove; and the sweep that finishes what was left. It decides
// with package grant, stores, and only then acts through the executor. It
// declares the small interfaces it needs from stores and dialers.
package engine

import (
	"context"
	"crypto/rand"
	"log/slog"
	mathrand "math/rand/v2"
	"time"

	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/journal"
	"runner/engine/meter"
	"runner/engine/module"
	"runner/engine/secret"
	"runner/engine/template"
	"runner/engine/transport"
)

// Grants keeps grants with their jobs. Errors: grant.ErrNotFound,
// *grant.AmbiguousError, *grant.ConflictError (Create), grant.ErrBusy (Change).
type Grants interface {
	Create(ctx context.Context, c grant.Case, snaps []grant.Snapshot) error
	Case(ctx context.Context, id string) (grant.Case, error)
	Cases(ctx context.Context, f grant.Filter) ([]grant.Case, error)
	// Holding returns the grant of a credential that a requester has; nil: none.
	Holding(ctx context.Context, requester, credential string) (*grant.Grant, error)
	// GoneOn returns the grants that were given up with a device.
	GoneOn(ctx context.Context, device string) ([]grant.Grant, error)
	// Change loads a case, lets fn change it, and stores the change with its
	// events and its execution in one transaction. fn's error undoes everything and is
	// returned. When Change returns nil, what fn was handed is as it was stored.
	Change(ctx context.Context, id string, fn func(*grant.Case) error) error
}

// Jobs finds planned work.
type Jobs interface {
	Job(ctx context.Context, id string) (grant.Job, error)
	Jobs(ctx context.Context, f grant.Filter) ([]grant.Job, error)
	Ready(ctx context.Context, w grant.Want) ([]grant.Ready, error)
	NextDue(ctx context.Context, after time.Time) (time.Time, bool, error)
	Running(ctx context.Context) ([]grant.Job, error)
}

// Overviews tell how much there is to do, and where nothing can be done.
type Overviews interface {
	// Overdue returns the grants whose removal should have been done before a
	// time, the longest overdue first, and how many there are.
	Overdue(ctx context.Context, before time.Time, limit int) ([]grant.Case, int, error)
	Tally(ctx context.Context) (grant.Tally, error)
	Missed(ctx context.Context, device, why string, now time.Time, jitter float64) (grant.Silence, error)
	Answered(ctx context.Context, device string, now time.Time) error
	Silences(ctx context.Context) ([]grant.Silence, error)
}

// Executions keeps what running jobs say. Writes of a worker that lost its
// lease fail with grant.ErrLeaseLost.
type Executions interface {
	// Held reports whether the grant of a running job was ended.
	Held(ctx context.Context, f grant.Fence) (ended bool, err error)
	PutExecution(ctx context.Context, f grant.Fence, e grant.Execution, steps ...grant.StepResult) error
	Execution(ctx context.Context, id string) (grant.Execution, error)
	PutChanges(ctx context.Context, f grant.Fence, grantID string, cs []grant.Change) error
	Changes(ctx context.Context, grantID string) ([]grant.Change, error)
	// Holds tells of the objects that a grant holds and that others may hold as well.
	Holds(ctx context.Context, grantID string) ([]grant.Hold, error)
	Snapshot(ctx context.Context, hash string) (grant.Snapshot, error)
}

// UIDs hands out the numbers of accounts.
type UIDs interface {
	ReserveUID(ctx context.Context, device string, first, last int64, now time.Time) (int64, error)
	NextUID(ctx context.Context, device string, first, last int64, now time.Time) (int64, error)
	BurnUID(ctx context.Context, device string, uid int64, now time.Time) error
}

// Found keeps what people decided about findings of scans.
type Found interface {
	Ignore(ctx context.Context, i grant.Ignored) error
	Ignored(ctx context.Context, device string) ([]grant.Ignored, error)
	// Newest returns the id of the latest grant that was requested; "": there is none.
	Newest(ctx context.Context) (string, error)
	// Mark notes when something was done last, Marked tells it.
	Mark(ctx context.Context, what string, at time.Time) error
	Marked(ctx context.Context, what string) (time.Time, error)
}

// Scans keeps what the latest scan of each device came to.
type Scans interface {
	// BeginScan reports whether the device is the caller's to scan, who saw that it was
	// tried last at was: of several one may.
	BeginScan(ctx context.Context, device string, was, now time.Time) (bool, error)
	PutScan(ctx context.Context, s grant.Scanned) error
	Scans(ctx context.Context, found bool) ([]grant.Scanned, error)
	DropScan(ctx context.Context, device string) error
}

// Logs tells of the logs that there are.
type Logs interface {
	// NextLog returns the first id between two, neither included, of which output is stored;
	// "": there is none.
	NextLog(ctx context.Context, after, before string) (string, error)
	LogSize(ctx context.Context, execution string) (stored, end int64, err error)
	// Room tells how much of the disk the store takes.
	Room(ctx context.Context) (grant.Room, error)
}

// Nodes tells which workers are dead.
type Nodes interface {
	Dead(ctx context.Context) ([]string, error)
	Forget(ctx context.Context, id string) error
}

// Store is all of them.
type Store interface {
	Grants
	Jobs
	Overviews
	Executions
	UIDs
	Found
	Scans
	Nodes
	Sessions
	Logs
	journal.Chunks
}

// Dialer reaches devices. Its errors are *transport.Error.
type Dialer interface {
	Dial(ctx context.Context, c *inventory.Connection) (transport.Conn, error)
	// Prove logs in once as the account of a grant and does nothing else. With
	// only a public key it asks whether the device would accept it.
	Prove(ctx context.Context, c *inventory.Connection, l Login) error
	// Program returns what a new connection would send for a batch, for people.
	Program(c *inventory.Connection, b transport.Batch) (string, error)
}

// Login is how the requester gets in.
type Login struct {
	Account    string
	Password   secret.Value
	PrivateKey secret.Value
	PublicKey  string // when the requester keeps the private key
}

// Sealer keeps secrets unreadable in the store.
type Sealer interface {
	Seal(plain []byte, row string) ([]byte, error)
	Unseal(box []byte, row string) ([]byte, error)
}

// Templates finds templates by kind and name.
type Templates interface {
	Get(kind template.Kind, name string) (*template.Template, error)
}

// Engine moves grants. All fields are required but Progress, Pinned, Wake, Meter, Jitter and
// Until.
type Engine struct {
	Store     Store
	Node      string // id under which this process claims jobs
	Templates Templates
	Inventory *inventory.Set
	Modules   *module.Registry
	Dialer    Dialer
	Key       Sealer
	Now       func() time.Time
	Log       *slog.Logger
	// Progress is told about the steps of the jobs that this engine runs.
	Progress func(Progress)
	// Pinned keeps templates that were read from what grants pinned. nil: none are.
	Pinned *Pinned
	// Wake has Serve look for work at once; without room it does not receive. nil:
	// it looks several times a second.
	Wake <-chan struct{}
	// Until is the moment, of the clock of time.Now, up to which the lease of a node
	// of this process surely holds; one that has passed when it is none any more.
	// Devices are told, and begin no batch later. nil: nodes keep what they have as
	// long as their process lives.
	Until func(node string) time.Time
	// Meter counts what happens. nil: nothing is counted.
	Meter *meter.Meter
	// Jitter, in [0,1), spreads the attempts at removals. nil: random.
	Jitter func() float64
}

// Progress is one thing that happened to a job under way, for a person to see.
type Progress struct {
	Grant grant.Grant
	Job   grant.Job
	Text  string            // what runner does next, or
	Step  *grant.StepResult // a step that ended
	Total int
}

// DeniedError says that a request is not allowed.
type DeniedError struct {
	Reason string
	// Existing is the grant that is in the way, if any.
	Existing *grant.Grant
}

// Error returns the reason.
func (e *DeniedError) Error() string { return e.Reason }

// InputError says that a request asks for something that cannot be.
type InputError struct {
	Reason string
	Err    error // the cause, if it is an error of its own
}

// Error returns the reason.
func (e *InputError) Error() string { return e.Reason }

// Unwrap returns the cause.
func (e *InputError) Unwrap() error { return e.Err }

// badInput turns an error into one about the request.
func badInput(err error) error { return &InputError{Reason: err.Error(), Err: err} }

// Limits of a grant's clock.
const (
	// MaxSkew is how far a device's clock may be off.
	MaxSkew = 10 * time.Minute
	// uidTries is how many uids are tried when a device still knows them.
	uidTries = 10
)

// newID returns a new id for a grant (g), a job (j) or an execution (x).
func (e *Engine) newID(prefix string) string {
	var r [10]byte
	_, _ = rand.Read(r[:]) // never fails
	return grant.NewID(prefix, e.Now(), r)
}

func (e *Engine) jitter() float64 {
	if e.Jitter != nil {
		return e.Jitter()
	}
	return mathrand.Float64() //nolint:gosec // spreads attempts, hides nothing
}

func (e *Engine) say(p Progress) {
	if e.Progress != nil {
		e.Progress(p)
	}
}

// change is Store.Change that also returns the case as it was stored.
func (e *Engine) change(ctx context.Context, id string, fn func(*grant.Case) error) (grant.Case, error) {
	var out *grant.Case
	err := e.Store.Change(ctx, id, func(c *grant.Case) error {
		out = c
		return fn(c)
	})
	if err != nil {
		return grant.Case{}, err
	}
	return *out, nil
}
