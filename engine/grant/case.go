package grant

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// ErrNotDue says that a job may not be claimed yet.
var ErrNotDue = errors.New("the job is not due")

// CreationWindow is how long a grant may take from request to activation. A
// creation that is not active by then is removed again.
const CreationWindow = 5 * time.Minute

// Runner is the actor of events that no person caused.
const Runner = "runner"

// New returns the case of a requested grant: the grant, its forward job due at
// once, and its removal job waiting. g needs everything but State, Requested
// and Expires. forward and removal are the ids of the jobs.
func New(g Grant, forward, removal string, now time.Time) Case {
	g.State, g.Requested = Requested, now
	g.Expires = now.Add(CreationWindow)
	fk, rk := Create, Delete
	if !g.Creates {
		fk, rk = Elevate, Revert
	}
	c := Case{Grant: g, Jobs: []Job{
		{ID: forward, GrantID: g.ID, Kind: fk, State: Waiting, Device: g.Device, Due: now},
		{ID: removal, GrantID: g.ID, Kind: rk, State: Waiting, Device: g.Device, Due: g.Expires},
	}}
	c.event(now, g.Caller, "grant.requested", "requester", g.Requester, "credential", g.Credential,
		"device", g.Device, "account", g.Account, "reason", g.Reason, "for", g.For.String())
	return c
}

// Job returns the job with that id, or nil.
func (c *Case) Job(id string) *Job {
	for i := range c.Jobs {
		if c.Jobs[i].ID == id {
			return &c.Jobs[i]
		}
	}
	return nil
}

// Forward returns the create or elevate job.
func (c *Case) Forward() *Job {
	for i := range c.Jobs {
		if k := c.Jobs[i].Kind; k == Create || k == Elevate {
			return &c.Jobs[i]
		}
	}
	return nil
}

// Removal returns the delete or revert job.
func (c *Case) Removal() *Job {
	for i := range c.Jobs {
		if c.Jobs[i].Kind.Removal() {
			return &c.Jobs[i]
		}
	}
	return nil
}

// DueAt reports whether j may be claimed at now.
func (j *Job) DueAt(now time.Time) bool {
	switch j.State {
	case Waiting:
		return !j.Due.After(now)
	case Paused:
		return !j.PausedUntil.After(now)
	case Running, Done, JobCancelled:
		return false
	}
	return false
}

// Claim gives a due job to a node for one execution and returns the fence that
// every write of that execution has to show. Removal wins: a forward job is
// not claimable once the grant was ended or its removal is due. ErrNotDue says
// that somebody was faster or that it is too early.
func (c *Case) Claim(job, node, execution string, now time.Time) (Fence, error) {
	j := c.Job(job)
	if j == nil {
		return Fence{}, fmt.Errorf("grant %s has no job %s", c.Grant.ID, job)
	}
	for i := range c.Jobs {
		if c.Jobs[i].State == Running {
			return Fence{}, ErrNotDue
		}
	}
	if !j.DueAt(now) {
		return Fence{}, ErrNotDue
	}
	if err := c.start(j, now); err != nil {
		return Fence{}, err
	}
	j.State, j.Node, j.Execution = Running, node, execution
	j.Attempt++
	j.PausedUntil = time.Time{}
	c.event(now, Runner, "job.claimed", "job", j.ID, "kind", string(j.Kind), "attempt", strconv.Itoa(j.Attempt), "node", node)
	return Fence{Job: j.ID, Attempt: j.Attempt, Node: node}, nil
}

// start moves the grant as the start of j requires.
func (c *Case) start(j *Job, now time.Time) error {
	g := &c.Grant
	switch {
	case j.Kind == Renew:
		if g.State != Active {
			return c.stateErr("be extended")
		}
	case j.Kind == Lock:
		if g.State != Active {
			return c.stateErr("be locked")
		}
	case !j.Kind.Removal():
		if g.State != Requested || !g.Ended.IsZero() || !now.Before(g.Expires) {
			return c.stateErr("be created")
		}
		g.State = Creating
		g.Expires = now.Add(CreationWindow)
		c.Removal().Due = g.Expires
	case g.State == Active:
		c.ending(now, Runner, "expire")
	case g.State == Creating:
		c.ending(now, Runner, "interrupted")
	case g.State == Requested, g.State == WaitingApproval:
		return c.stateErr("be removed: nothing was created; cancel it")
	}
	return nil
}

// Holds returns ErrLeaseLost unless the job of f is still running as that
// attempt on that node.
func (c *Case) Holds(f Fence) error {
	j := c.Job(f.Job)
	if j == nil || j.State != Running || j.Attempt != f.Attempt || j.Node != f.Node {
		return ErrLeaseLost
	}
	return nil
}

// Activate ends a successful creation. When the grant was ended in the
// meantime its removal is due at once and the grant is Ending, not Active:
// look at the state. The clock of the grant starts here.
func (c *Case) Activate(f Fence, now time.Time, outputs []byte) error {
	if err := c.Holds(f); err != nil {
		return err
	}
	g := &c.Grant
	c.finish(c.Job(f.Job), now)
	g.Outputs = outputs
	if !g.Ended.IsZero() || !now.Before(g.Expires) {
		by := g.EndedBy
		if by == "" {
			by = "expire"
		}
		c.ending(now, Runner, by)
		return nil
	}
	g.State, g.Activated = Active, now
	g.Expires = now.Add(g.For)
	c.Removal().Due = g.Expires
	c.event(now, Runner, "grant.active", "expires", g.Expires.UTC().Format(time.RFC3339))
	return nil
}

// Fail ends a creation that did not succeed. When nothing that could change
// the device was sent the grant is cancelled; otherwise its removal is due.
func (c *Case) Fail(f Fence, now time.Time, why string, sent bool, outputs []byte) error {
	if err := c.Holds(f); err != nil {
		return err
	}
	c.finish(c.Job(f.Job), now)
	c.Grant.Failure = why
	if outputs != nil {
		c.Grant.Outputs = outputs
	}
	if !sent {
		c.cancel(now, Runner, "failed")
		return nil
	}
	c.ending(now, Runner, "failed")
	return nil
}

// Interrupted takes a running job away from a node that died or gave up. A
// creation is never resumed: the removal is due, and due once more after the
// longest step time-out, because what the node started may still be running.
func (c *Case) Interrupted(f Fence, now time.Time) error {
	if err := c.Holds(f); err != nil {
		return err
	}
	j := c.Job(f.Job)
	c.event(now, Runner, "job.interrupted", "job", j.ID, "node", j.Node, "attempt", strconv.Itoa(j.Attempt))
	switch {
	case j.Kind == Renew:
		// Device expiries may have moved; the grant's did not. Both are safe.
		c.finish(j, now)
		return nil
	case j.Kind.Removal(), j.Kind == Lock:
		j.State, j.Node, j.Due = Waiting, "", now
	default:
		j.State, j.Node, j.Finished = JobCancelled, "", now
		c.Grant.Failure = "the worker that created it was interrupted"
		c.ending(now, Runner, "interrupted")
	}
	c.MayLinger(now)
	return nil
}

// Restored is for a store that was put back to an earlier state, and reports whether
// that changes anything: a secret that may have been handed out since is not handed
// out any more, and an account that may have been made since is removed. Whether it
// was made nobody knows, so the creation does not go on.
func (c *Case) Restored(now time.Time, why string) bool {
	g := &c.Grant
	switch g.State {
	case Requested, WaitingApproval, Creating:
		if f := c.Forward(); f != nil && f.State == Running {
			f.State, f.Node, f.Finished = JobCancelled, "", now
		}
		g.Failure = "the store was put back to a state in which it was not made yet: whether it was made since is not known"
		c.ending(now, Runner, "restored")
		c.MayLinger(now)
		return true
	case Active:
		if g.Sealed == nil {
			return false
		}
		g.Sealed = nil
		c.event(now, Runner, "grant.withheld", "why", why)
		return true
	case Ending, Denied, Cancelled, Removed, Gone:
	}
	return false
}

// MayLinger notes that what was sent to the device may still arrive or run: a
// removal that succeeds before that is over runs once more after it.
func (c *Case) MayLinger(now time.Time) {
	again := now.Add(c.Grant.Plan.Longest + 10*time.Second)
	if r := c.Removal(); r.Again.Before(again) {
		r.Again = again
	}
}

// Yield hands a running removal back unfinished and without a failure, for a
// worker that is told to stop.
func (c *Case) Yield(f Fence, now time.Time) error {
	if err := c.Holds(f); err != nil {
		return err
	}
	j := c.Job(f.Job)
	j.State, j.Node, j.Due = Waiting, "", now
	c.event(now, Runner, "job.yielded", "job", j.ID)
	return nil
}

// End makes the removal due. why is end or revoke. A grant that was not
// started is cancelled; one that is being created is removed as soon as its
// creation stops. Ending twice changes nothing.
func (c *Case) End(now time.Time, actor, why string) error {
	g := &c.Grant
	switch g.State {
	case Requested, WaitingApproval:
		c.cancel(now, actor, why)
	case Creating:
		if g.Ended.IsZero() {
			g.Ended, g.EndedBy = now, why
			c.Removal().Due = now
			c.event(now, actor, "grant.end_requested", "why", why)
		}
	case Active:
		c.ending(now, actor, why)
	case Ending:
	case Denied, Cancelled, Removed, Gone:
		return c.stateErr("end")
	}
	return nil
}

// Expire moves a grant whose time is over: an active one is ended, one that
// was never started is cancelled. It reports whether anything changed.
func (c *Case) Expire(now time.Time) bool {
	g := &c.Grant
	if now.Before(g.Expires) {
		return false
	}
	switch g.State {
	case Requested, WaitingApproval:
		c.cancel(now, Runner, "expire")
	case Active:
		c.ending(now, Runner, "expire")
	case Creating, Ending, Denied, Cancelled, Removed, Gone:
		return false
	}
	return true
}

// Extension returns the expiry that a grant would have after being extended by
// d, which is never later than latest after its activation.
func (c *Case) Extension(d, latest time.Duration) (time.Time, error) {
	g := &c.Grant
	if g.State != Active {
		return time.Time{}, c.stateErr("be extended")
	}
	if g.Origin != "" {
		return time.Time{}, fmt.Errorf("grant %s was %s from what its device says: nothing is known of how it was made, so it cannot be extended", g.ID, g.Origin)
	}
	to, limit := g.Expires.Add(d), g.Activated.Add(latest)
	if to.After(limit) {
		return time.Time{}, fmt.Errorf("grant %s may last until %s at most: %s more is too long by %s", g.ID,
			limit.UTC().Format(time.RFC3339), d, to.Sub(limit).Round(time.Second))
	}
	return to, nil
}

// AddRenew adds the job that moves the device's own expiries.
func (c *Case) AddRenew(id string, now time.Time, actor string, to time.Time) error {
	if c.Grant.State != Active {
		return c.stateErr("be extended")
	}
	for i := range c.Jobs {
		if c.Jobs[i].State == Running {
			return fmt.Errorf("grant %s is being worked on by job %s: try again when it is done", c.Grant.ID, c.Jobs[i].ID)
		}
	}
	j := Job{ID: id, GrantID: c.Grant.ID, Kind: Renew, State: Waiting, Device: c.Grant.Device, Due: now, Until: to}
	if r := c.Removal(); r != nil {
		j.Login, j.LoginLimit = r.Login, r.LoginLimit
	}
	c.Jobs = append(c.Jobs, j)
	c.event(now, actor, "grant.extend_requested", "to", to.UTC().Format(time.RFC3339))
	return nil
}

// Extend ends a renewal. With ok the grant's expiry and removal move to the
// new time; without, nothing moves.
func (c *Case) Extend(f Fence, now, backstop time.Time, ok bool, why string) error {
	if err := c.Holds(f); err != nil {
		return err
	}
	j := c.Job(f.Job)
	c.finish(j, now)
	if !ok {
		j.LastError = why
		c.event(now, Runner, "grant.extend_failed", "error", why)
		return nil
	}
	if c.Grant.State != Active {
		return nil // ended in the meantime: the end stands
	}
	c.Grant.Expires, c.Grant.Backstop = j.Until, backstop
	c.Removal().Due = j.Until
	c.event(now, Runner, "grant.extended", "expires", j.Until.UTC().Format(time.RFC3339))
	return nil
}

// Removed ends a removal that began at began and whose receipt is empty. When it
// did so before all that was sent must have arrived (Job.Again) the job has to run
// once more, and the grant stays Ending: a worker can have slept since.
func (c *Case) Removed(f Fence, began, now time.Time, receipt *Receipt) error {
	if err := c.Holds(f); err != nil {
		return err
	}
	if !receipt.Empty() {
		return errors.New("a grant is removed only with an empty receipt")
	}
	g, j := &c.Grant, c.Job(f.Job)
	g.Receipt = receipt
	if g.NoAccess.IsZero() {
		g.NoAccess = now
	}
	j.LastError, j.BlockedBy, j.FirstFailed = "", "", time.Time{}
	if j.Again.After(began) {
		j.State, j.Node, j.Due = Waiting, "", j.Again
		j.Again = time.Time{}
		c.event(now, Runner, "job.done_once", "job", j.ID, "again", j.Due.UTC().Format(time.RFC3339))
		return nil
	}
	c.finish(j, now)
	g.State, g.NoTrace = Removed, now
	c.event(now, Runner, "grant.removed", "peer", receipt.Peer)
	return nil
}

// LockedOut notes the moment from which the account could not be used any more.
func (c *Case) LockedOut(at time.Time) {
	if c.Grant.NoAccess.IsZero() && !at.IsZero() {
		c.Grant.NoAccess = at
	}
}

// Retry puts a removal that did not succeed back to waiting, for ever: due at
// next, after a capped pause. blockedBy names what is in the way, receipt (may
// be nil) what was found.
func (c *Case) Retry(f Fence, now time.Time, why, blockedBy string, receipt *Receipt, next time.Time) error {
	if err := c.Holds(f); err != nil {
		return err
	}
	j := c.Job(f.Job)
	j.State, j.Node, j.Silent = Waiting, "", false
	j.LastError, j.BlockedBy = why, blockedBy
	if j.FirstFailed.IsZero() {
		j.FirstFailed = now
	}
	j.Due = next
	if receipt != nil {
		c.Grant.Receipt = receipt
	}
	c.event(now, Runner, "job.failed", "job", j.ID, "error", why, "blocked_by", blockedBy, "next", j.Due.UTC().Format(time.RFC3339))
	return nil
}

// Unanswered is Retry for an attempt that did not reach the device: it is due when
// the device is asked again, or as soon as it answers somebody else.
func (c *Case) Unanswered(f Fence, now time.Time, why, blockedBy string, asked time.Time) error {
	if err := c.Retry(f, now, why, blockedBy, nil, asked); err != nil {
		return err
	}
	j := c.Job(f.Job)
	j.Silent = true
	j.Missed++
	return nil
}

// Heard makes a job due that waits for its device to answer. It reports whether it
// did wait for that.
func (j *Job) Heard(now time.Time) bool {
	if j.State != Waiting || !j.Silent || !j.Due.After(now) || !j.Kind.TakesAway() {
		return false
	}
	j.Due = now
	return true
}

// Tried is how many attempts reached the device, or might have.
func (j *Job) Tried() int { return j.Attempt - j.Missed }

// Backoff returns how long a removal waits after its n-th attempt that reached the device: 5 s doubled
// up to an hour, minus up to a quarter of it by jitter in [0,1).
func Backoff(n int, jitter float64) time.Duration {
	d := time.Hour
	if n >= 1 && n <= 10 {
		d = min(d, 5*time.Second<<(n-1))
	}
	return d - time.Duration(float64(d)*0.25*jitter)
}

// Pause keeps a removal from being claimed until a time. Only removals pause.
func (c *Case) Pause(job string, now, until time.Time, actor string) error {
	j := c.Job(job)
	if !j.Kind.Removal() {
		return fmt.Errorf("job %s is a %s job: only removals can be paused", j.ID, j.Kind)
	}
	if j.State != Waiting && j.State != Paused {
		return &StateError{Subject: "job " + j.ID, State: string(j.State), Want: "be paused"}
	}
	if !until.After(now) {
		return errors.New("a pause has to end in the future")
	}
	j.State, j.PausedUntil = Paused, until
	c.event(now, actor, "job.paused", "job", j.ID, "until", until.UTC().Format(time.RFC3339))
	return nil
}

// Resume ends a pause; the job is due when it would have been.
func (c *Case) Resume(job string, now time.Time, actor string) error {
	j := c.Job(job)
	if j.State != Paused {
		return &StateError{Subject: "job " + j.ID, State: string(j.State), Want: "be resumed"}
	}
	j.State, j.PausedUntil = Waiting, time.Time{}
	c.event(now, actor, "job.resumed", "job", j.ID)
	return nil
}

// RunNow makes a waiting or paused job due. A removal of an active grant is
// not brought forward by it: end the grant instead.
func (c *Case) RunNow(job string, now time.Time, actor string) error {
	j := c.Job(job)
	if j.State != Waiting && j.State != Paused {
		return &StateError{Subject: "job " + j.ID, State: string(j.State), Want: "be run now"}
	}
	if j.Kind.Removal() && c.Grant.State != Ending {
		return fmt.Errorf("grant %s is %s: its removal is not due; end the grant to run it", c.Grant.ID, c.Grant.State)
	}
	j.State, j.PausedUntil = Waiting, time.Time{}
	if j.Due.After(now) {
		j.Due = now
	}
	c.event(now, actor, "job.run_now", "job", j.ID)
	return nil
}

// Collect hands out the sealed secret, once.
func (c *Case) Collect(now time.Time, actor string) ([]byte, error) {
	g := &c.Grant
	switch {
	case g.State != Active:
		return nil, c.stateErr("be collected")
	case g.Origin != "":
		return nil, fmt.Errorf("grant %s was %s from what its device says: no secret of it is known", g.ID, g.Origin)
	case g.Sealed == nil && g.Collected.IsZero():
		return nil, fmt.Errorf("the secret of grant %s is not kept any more: the store was put back to an earlier state, and it may have been handed out since; "+
			"whoever has it can use it until the grant ends; who has not ends the grant and requests a new one", g.ID)
	case !g.Collected.IsZero():
		return nil, fmt.Errorf("the secret of grant %s was handed out at %s: it is given once; end the grant and request a new one",
			g.ID, g.Collected.UTC().Format(time.RFC3339))
	}
	s := g.Sealed
	g.Sealed, g.Collected = nil, now
	c.event(now, actor, "grant.collected")
	return s, nil
}

// Overdue returns for how long the removal should have been done, or 0.
func (c *Case) Overdue(now time.Time) time.Duration {
	g := &c.Grant
	if g.State.Final() || g.State == Requested || g.State == WaitingApproval {
		return 0
	}
	r := c.Removal()
	since := g.Expires
	if !g.Ended.IsZero() {
		since = g.Ended
	}
	if r == nil || g.State == Creating || !now.After(since) {
		return 0
	}
	return now.Sub(since)
}

// ending makes the removal due now.
func (c *Case) ending(now time.Time, actor, why string) {
	g, r := &c.Grant, c.Removal()
	g.State = Ending
	if g.Ended.IsZero() {
		g.Ended, g.EndedBy = now, why
	}
	g.Sealed = nil
	for i := range c.Jobs {
		if j := &c.Jobs[i]; !j.Kind.Removal() && j.State == Waiting {
			j.State, j.Finished = JobCancelled, now
		}
	}
	if (r.State == Waiting || r.State == Paused) && r.Due.After(now) {
		r.Due = now
	}
	c.event(now, actor, "grant.ending", "why", why)
}

// cancel ends a grant for which nothing was sent to the device.
func (c *Case) cancel(now time.Time, actor, why string) {
	g := &c.Grant
	g.State, g.Ended, g.EndedBy, g.Sealed = Cancelled, now, why, nil
	for i := range c.Jobs {
		if j := &c.Jobs[i]; j.State != Done {
			j.State, j.Node, j.Finished = JobCancelled, "", now
		}
	}
	c.event(now, actor, "grant.cancelled", "why", why)
}

func (c *Case) finish(j *Job, now time.Time) { j.State, j.Node, j.Finished = Done, "", now }

func (c *Case) stateErr(want string) error {
	return &StateError{Subject: "grant " + c.Grant.ID, State: string(c.Grant.State), Want: want}
}

// event adds an audit row; detail is key, value, ...; empty values are left out.
func (c *Case) event(at time.Time, actor, action string, detail ...string) {
	e := Event{At: at, Actor: actor, Action: action, Grant: c.Grant.ID, Detail: map[string]string{}}
	for i := 0; i+1 < len(detail); i += 2 {
		if detail[i+1] != "" {
			e.Detail[detail[i]] = detail[i+1]
		}
	}
	c.Events = append(c.Events, e)
}
