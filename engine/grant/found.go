package grant

import (
	"fmt"
	"time"
)

// Origins of grants that nobody requested: their accounts were found on devices.
const (
	// Adopted: a person had the account taken over from what the device says.
	Adopted = "adopted"
	// Quarantined: likewise, and the account is locked at once.
	Quarantined = "quarantined"
	// Rebuilt: taken over with all others, because the store had lost it.
	Rebuilt = "rebuilt"
	// Returned: it was removed, or its device was gone, and it is there again.
	Returned = "returned"
)

// Adopt returns the case of an account that was found on a device, with nothing
// but its removal to do: at Expires, or at once when that is over. g needs
// everything but State; why says in a word how it came about, detail (key, value,
// ...) what was found.
func Adopt(g Grant, removal string, now time.Time, actor string, detail ...string) Case {
	g.State, g.Creates = Active, true
	c := Case{Grant: g, Jobs: []Job{{ID: removal, GrantID: g.ID, Kind: Delete, State: Waiting, Device: g.Device, Due: g.Expires}}}
	c.event(now, actor, "grant."+g.Origin, append([]string{
		"device", g.Device, "account", g.Account, "credential", g.Credential, "reason", g.Reason, "expires", g.Expires.UTC().Format(time.RFC3339),
	}, detail...)...)
	c.Expire(now)
	return c
}

// AddLock adds the job that locks the account of a grant and ends its sessions,
// and leaves everything else for the removal.
func (c *Case) AddLock(id string, now time.Time) {
	c.Jobs = append(c.Jobs, Job{ID: id, GrantID: c.Grant.ID, Kind: Lock, State: Waiting, Device: c.Grant.Device, Due: now})
}

// Locking returns the lock job that is not done yet, or nil.
func (c *Case) Locking() *Job {
	for i := range c.Jobs {
		if j := &c.Jobs[i]; j.Kind == Lock && (j.State == Waiting || j.State == Running) {
			return j
		}
	}
	return nil
}

// DueJob returns what takes something away and is due: the removal, or a lock.
func (c *Case) DueJob(now time.Time) *Job {
	for _, j := range []*Job{c.Removal(), c.Locking()} {
		if j != nil && j.DueAt(now) {
			return j
		}
	}
	return nil
}

// Locked ends a lock job that succeeded. at is when the access was over.
func (c *Case) Locked(f Fence, now, at time.Time) error {
	if err := c.Holds(f); err != nil {
		return err
	}
	c.LockedOut(at)
	j := c.Job(f.Job)
	j.LastError, j.BlockedBy, j.FirstFailed = "", "", time.Time{}
	c.finish(j, now)
	c.event(now, Runner, "grant.locked", "job", j.ID)
	return nil
}

// Reopen makes the removal of a grant due that was over: its account is on the
// device again, or the device is back.
func (c *Case) Reopen(now time.Time, actor, why string) error {
	g, r := &c.Grant, c.Removal()
	if (g.State != Removed && g.State != Gone) || r == nil {
		return c.stateErr("be taken up again")
	}
	g.State, g.Origin, g.Ended, g.EndedBy = Ending, Returned, now, Returned
	g.NoAccess, g.NoTrace = time.Time{}, time.Time{}
	if g.Receipt != nil {
		next := *g.Receipt
		next.Gone = ""
		g.Receipt = &next
	}
	r.State, r.Due, r.Finished, r.Again = Waiting, now, time.Time{}, time.Time{}
	c.event(now, actor, "grant.returned", "why", why)
	return nil
}

// Retire ends a grant whose device is gone for good: evidence says how that is
// known. A grant for which nothing was sent is cancelled; one that is being worked
// on is refused, because its device answers somebody.
func (c *Case) Retire(now time.Time, actor, evidence string) error {
	g := &c.Grant
	if g.State == Requested || g.State == WaitingApproval {
		c.cancel(now, actor, "gone")
		return nil
	}
	if g.State.Final() {
		return c.stateErr("be retired")
	}
	for i := range c.Jobs {
		if c.Jobs[i].State == Running {
			return fmt.Errorf("grant %s is being worked on by job %s: try again when it is done", g.ID, c.Jobs[i].ID)
		}
	}
	g.State, g.Sealed = Gone, nil
	if g.Ended.IsZero() {
		g.Ended, g.EndedBy = now, "gone"
	}
	r := Receipt{Device: g.Device, Left: []string{}, Missing: []string{}}
	if g.Receipt != nil {
		r = *g.Receipt
	}
	r.At, r.Gone = now, evidence
	g.Receipt = &r
	for i := range c.Jobs {
		if j := &c.Jobs[i]; j.State == Waiting || j.State == Paused {
			c.finish(j, now)
			j.PausedUntil = time.Time{}
		}
	}
	c.event(now, actor, "grant.gone", "evidence", evidence)
	return nil
}

// Ignored is a finding of a scan that a person has decided about: nobody is told of
// it until then.
type Ignored struct {
	Device string    `json:"device"`
	Object string    `json:"object"` // as the scan names it
	Mark   string    `json:"mark,omitempty"`
	Actor  string    `json:"actor"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	Until  time.Time `json:"until"`
}
