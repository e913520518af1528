package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"runner/engine/grant"
)

// defaultLimit is how many rows a list has where nothing else was asked for.
const defaultLimit = 1000

func limited(n int) int {
	if n <= 0 {
		return defaultLimit
	}
	return n
}

// stamp returns t as the store keeps it.
func stamp(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMilli(t.UnixMilli()).UTC()
}

// readyAt returns when a job may be claimed: a waiting one at Due, a paused
// one at the end of its pause. A job without a time is ready at once.
func readyAt(j *grant.Job) (at time.Time, ok bool) {
	switch j.State {
	case grant.Waiting:
		at = j.Due
	case grant.Paused:
		at = j.PausedUntil
	case grant.Running, grant.Done, grant.JobCancelled:
		return time.Time{}, false
	}
	if epoch := time.UnixMilli(0).UTC(); at.Before(epoch) {
		return epoch, true
	}
	return stamp(at), true
}

// normalGrant returns a copy of g that shares nothing with it, as a store
// gives it back.
func normalGrant(g grant.Grant) grant.Grant {
	for _, t := range []*time.Time{&g.Requested, &g.Activated, &g.Expires, &g.Backstop, &g.Ended, &g.NoAccess, &g.NoTrace, &g.Collected} {
		*t = stamp(*t)
	}
	tidy(&g.Requester, &g.Caller, &g.Reason, &g.Credential, &g.Device, &g.Account, &g.EndedBy, &g.Failure)
	g.Sealed, g.Outputs = bytes.Clone(full(g.Sealed)), bytes.Clone(full(g.Outputs))
	g.Plan.Params, g.Plan.Connection = bytes.Clone(full(g.Plan.Params)), bytes.Clone(full(g.Plan.Connection))
	if g.Receipt != nil {
		r := *g.Receipt
		r.At, r.Device, r.Peer, r.Machine, r.Gone = stamp(r.At), valid(r.Device), valid(r.Peer), valid(r.Machine), valid(r.Gone)
		r.Session = full(r.Session)
		for _, s := range []*[]string{&r.Left, &r.Missing, &r.Session, &r.Before, &r.After} {
			*s = slices.Clone(*s)
			for i := range *s {
				(*s)[i] = valid((*s)[i])
			}
		}
		g.Receipt = &r
	}
	return g
}

// full returns s, or nil when it is empty.
func full[S ~[]E, E any](s S) S {
	if len(s) == 0 {
		return nil
	}
	return s
}

func normalJob(j grant.Job) grant.Job {
	for _, t := range []*time.Time{&j.Due, &j.FirstFailed, &j.PausedUntil, &j.Again, &j.Until, &j.Finished} {
		*t = stamp(*t)
	}
	tidy(&j.Device, &j.Node, &j.Execution, &j.LastError, &j.BlockedBy)
	return j
}

// normalCase returns a copy without events.
func normalCase(c grant.Case) grant.Case {
	out := grant.Case{Grant: normalGrant(c.Grant)}
	for _, j := range c.Jobs {
		out.Jobs = append(out.Jobs, normalJob(j))
	}
	return out
}

func normalEvents(c *grant.Case) []grant.Event {
	events := slices.Clone(c.Events)
	for i := range events {
		e := &events[i]
		e.At = stamp(e.At)
		if e.Grant == "" {
			e.Grant = c.Grant.ID
		}
		e.Actor, e.Action, e.Grant = valid(e.Actor), valid(e.Action), valid(e.Grant)
		was := e.Detail
		e.Detail = nil
		for k, v := range was {
			if e.Detail == nil {
				e.Detail = make(map[string]string, len(was))
			}
			e.Detail[valid(k)] = valid(v)
		}
	}
	return events
}

// valid replaces what is not UTF-8, as JSON does, and NUL, which PostgreSQL does not
// keep: devices say what they like.
func valid(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// tidy makes each text valid.
func tidy(texts ...*string) {
	for _, s := range texts {
		*s = valid(*s)
	}
}

func normalExecution(e grant.Execution) grant.Execution {
	e.Started, e.Ended = stamp(e.Started), stamp(e.Ended)
	tidy(&e.Template, &e.Device, &e.Node, &e.Outcome, &e.Error, &e.Peer)
	return e
}

func normalStep(s grant.StepResult) grant.StepResult {
	s.Started = stamp(s.Started)
	tidy(&s.Name, &s.Module, &s.Status, &s.Message, &s.Reason)
	return s
}

func normalChange(c grant.Change) grant.Change {
	c.Undo, c.Hold = bytes.Clone(full(c.Undo)), false
	tidy(&c.Execution, &c.Module, &c.Object, &c.State, &c.Before, &c.After)
	return c
}

// checkID refuses what could not name a file on a device.
func checkID(what, id string) error {
	if !validID(id) {
		return fmt.Errorf("%s id %q: only a-z, 0-9 and - are allowed", what, id)
	}
	return nil
}

func validID(id string) bool {
	return id != "" && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// checkCase refuses a case that no store could hold.
func checkCase(c *grant.Case) error {
	if err := checkID("grant", c.Grant.ID); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i := range c.Jobs {
		j := &c.Jobs[i]
		if err := checkID("job", j.ID); err != nil {
			return err
		}
		switch {
		case seen[j.ID]:
			return fmt.Errorf("job %s is in grant %s twice", j.ID, c.Grant.ID)
		case j.GrantID != c.Grant.ID:
			return fmt.Errorf("job %s says that it belongs to grant %q, not %q", j.ID, j.GrantID, c.Grant.ID)
		case j.State == grant.Running && j.Node == "":
			return fmt.Errorf("job %s is running on no node", j.ID)
		}
		seen[j.ID] = true
	}
	return nil
}

// checkChange refuses a change that takes something away or renames it. It
// returns the jobs in the order in which the store has them, new ones last.
func checkChange(was, is *grant.Case) ([]grant.Job, error) {
	if is.Grant.ID != was.Grant.ID {
		return nil, fmt.Errorf("grant %s became %q", was.Grant.ID, is.Grant.ID)
	}
	if err := checkCase(is); err != nil {
		return nil, err
	}
	jobs := make([]grant.Job, 0, len(is.Jobs))
	known := map[string]bool{}
	for _, old := range was.Jobs {
		j := is.Job(old.ID)
		if j == nil {
			return nil, fmt.Errorf("job %s of grant %s was taken away", old.ID, was.Grant.ID)
		}
		known[old.ID] = true
		jobs = append(jobs, *j)
	}
	for _, j := range is.Jobs {
		if !known[j.ID] {
			jobs = append(jobs, j)
		}
	}
	return jobs, nil
}

// checkSnapshots refuses a snapshot whose hash is not that of its body: what a
// removal runs later is what was pinned.
func checkSnapshots(snaps []grant.Snapshot) error {
	for i := range snaps {
		if err := checkSnapshot(&snaps[i]); err != nil {
			return err
		}
	}
	return nil
}

func checkSnapshot(s *grant.Snapshot) error {
	sum := sha256.Sum256(s.Body)
	if h := hex.EncodeToString(sum[:]); h != s.Hash {
		return fmt.Errorf("snapshot %s of template %s: the hash of its body is %s", s.Hash, s.Name, h)
	}
	return nil
}

var (
	errUnfenced = errors.New("the fence is of another job")
	errOthers   = errors.New("the execution is of another job or grant")
)

// conflicts returns what two grants would both hold that only one can.
func conflicts(a, b *grant.Grant) (what []string) {
	if a.ID == b.ID || a.State.Final() || b.State.Final() {
		return nil
	}
	if a.Requester == b.Requester && a.Credential == b.Credential && a.Origin == "" && b.Origin == "" {
		what = append(what, "requester")
	}
	if a.Device != b.Device || !a.Creates || !b.Creates {
		return what
	}
	if a.Account == b.Account {
		what = append(what, "account")
	}
	if a.UID == b.UID && a.UID != 0 {
		what = append(what, "uid")
	}
	return what
}
