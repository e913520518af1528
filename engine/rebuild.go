package engine

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"runner/engine/grant"
)

// FuseShare is how many percent of what bears a mark may be unknown before a rebuild
// asks a person.
const FuseShare = 10

// MarkRebuilt is the mark of a store for when the devices last told what is on them.
const MarkRebuilt = "rebuilt"

// FuseError says that a rebuild would have accounts removed that nobody asked to
// remove, and that a person has to say so.
type FuseError struct {
	Count int       // accounts that would get a removal
	Now   int       // of these, what would be removed at once
	Why   string    // it asks
	Would []LeftOut // what these accounts are
}

// Error returns a full sentence.
func (e *FuseError) Error() string {
	accounts, now := fmt.Sprintf("%d accounts", e.Count), strconv.Itoa(e.Now)
	if e.Count == 1 {
		accounts = "1 account"
	}
	if e.Now == 0 {
		now = "none"
	}
	return "the fuse stopped this: " + accounts + " would get a removal, " + now + " of them at once, and " + e.Why
}

// Rebuilt is what a rebuild did.
type Rebuilt struct {
	Taken []grant.Case // grants that have a removal now
	Left  []LeftOut    // what it could not take over
}

// LeftOut is a finding that a rebuild leaves to people.
type LeftOut struct {
	Device  string
	Finding *Finding
	Why     string
}

// Rebuild makes grants of everything that scans found with a mark and that this
// store does not know, or knows as over: what a store needs that was lost, or is
// older than the devices. What is valid still stays until its mark says, the rest
// has a removal that is due. Nothing is removed here.
//
// When the store is empty or older, or when the share of what it does not know is
// large, yes has to be the number of accounts that get a removal, else nothing is
// done and the error is *FuseError.
func (e *Engine) Rebuild(ctx context.Context, scans []*Scan, yes int, actor, reason string) (Rebuilt, error) {
	r := &rebuild{e: e, seen: map[string]bool{}}
	for _, s := range scans {
		if s.Err == nil {
			r.gather(s)
		}
	}
	if err := r.fuse(ctx, scans, yes); err != nil {
		return r.out, err
	}
	for _, w := range r.wanted {
		c, err := e.take(ctx, w.scan, w.finding, Decision{Device: w.scan.Device, Actor: actor, Reason: reason}, grant.Rebuilt)
		if err != nil {
			if ctx.Err() != nil {
				return r.out, err
			}
			r.out.Left = append(r.out.Left, LeftOut{w.scan.Device, w.finding, err.Error()})
			continue
		}
		r.out.Taken = append(r.out.Taken, c)
	}
	if yes == 0 {
		return r.out, nil
	}
	return r.out, e.Store.Mark(ctx, MarkRebuilt, e.Now())
}

// restored returns when the store was put back to a backup, unless a person has
// answered for a rebuild since.
func (e *Engine) restored(ctx context.Context) (time.Time, error) {
	at, err := e.Store.Marked(ctx, grant.MarkRestored)
	if err != nil || at.IsZero() {
		return time.Time{}, err
	}
	if rebuilt, err := e.Store.Marked(ctx, MarkRebuilt); err != nil || rebuilt.After(at) {
		return time.Time{}, err
	}
	return at, nil
}

// rebuild is one while it is made.
type rebuild struct {
	e      *Engine
	wanted []candidate
	seen   map[string]bool // grants that are wanted
	marked int
	newest time.Time // mark of those that the store does not know
	out    Rebuilt
}

type candidate struct {
	scan    *Scan
	finding *Finding
}

// gather picks what can be taken over.
func (r *rebuild) gather(s *Scan) {
	r.marked += s.Marked
	for i := range s.Findings {
		f := &s.Findings[i]
		if f.What != FoundUnknown && f.What != FoundReturned {
			continue
		}
		id := f.Seen.Mark.Grant
		if r.seen[id] {
			if f.Seen.Kind == SeenAccount {
				r.out.Left = append(r.out.Left, LeftOut{s.Device, f, "another account bears the mark of grant " + id + ", too"})
			}
			continue
		}
		if !reopens(f) {
			if _, _, err := r.e.mayTake(s, f); err != nil {
				r.out.Left = append(r.out.Left, LeftOut{s.Device, f, err.Error()})
				continue
			}
		}
		r.seen[id] = true
		if at, _ := grant.IDTime(id); at.After(r.newest) && f.What == FoundUnknown {
			r.newest = at
		}
		r.wanted = append(r.wanted, candidate{s, f})
	}
}

// reopens reports whether the grant of a finding can be taken up again.
func reopens(f *Finding) bool {
	return f.What == FoundReturned && (f.Grant.Grant.State == grant.Removed || f.Grant.Grant.State == grant.Gone)
}

// fuse asks where a person has to say that it is right.
func (r *rebuild) fuse(ctx context.Context, scans []*Scan, yes int) error {
	if len(r.wanted) == 0 {
		return nil
	}
	newest, err := r.e.Store.Newest(ctx)
	if err != nil {
		return err
	}
	known, _ := grant.IDTime(newest)
	f := &FuseError{Count: len(r.wanted)}
	for _, w := range r.wanted {
		f.Would = append(f.Would, LeftOut{Device: w.scan.Device, Finding: w.finding})
		if w.finding.Expired || reopens(w.finding) {
			f.Now++
		}
	}
	older := false
	for _, s := range scans {
		older = older || s.Newer
	}
	restored, err := r.e.restored(ctx)
	if err != nil {
		return err
	}
	switch {
	case yes == f.Count:
		return nil
	case yes != 0:
		f.Why = fmt.Sprintf("--yes-remove says %d", yes)
	case newest == "":
		f.Why = "this store knows of no grant that was requested: it is new, or the old one was lost"
	case r.newest.After(known):
		f.Why = fmt.Sprintf("the latest of them was made at %s, after the latest grant of this store (%s): the store is older than the devices, or another runner made them", stampOf(r.newest), stampOf(known))
	case older:
		f.Why = "a device says that a grant ends later than this store knows: the store is older than the device"
	case !restored.IsZero():
		f.Why = fmt.Sprintf("this store was put back to a backup at %s: what was requested since the backup is unknown to it", stampOf(restored))
	case f.Count*100 > FuseShare*r.marked:
		f.Why = fmt.Sprintf("that is more than %d %% of the %d objects that bear a mark", FuseShare, r.marked)
	default:
		return nil
	}
	return f
}
