package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"runner/engine/grant"
)

// Retention says how long what nobody needs for the work is kept. 0: for ever.
type Retention struct {
	Recordings time.Duration // of sessions, after their end
	Logs       time.Duration // output of executions, likewise
	Patience   time.Duration // how long Retain may go on
}

// Retained is what a retention deleted.
type Retained struct {
	Recordings, Logs int
	More             bool // it ran out of time; the rest is for the next one
}

// stale is after which time an execution of no grant is over that never said so: its
// process died.
const stale = 24 * time.Hour

// Retain deletes the output of executions and the recordings of sessions that ended too
// long ago, oldest first and in small transactions. What belongs to a grant that is not
// over is kept, however old it is: people need it to see what is in the way. That
// something was deleted is noted first, with an audit row of each recording; the audit
// itself is never cut.
func (e *Engine) Retain(ctx context.Context, r Retention) (Retained, error) {
	var out Retained
	began := e.Now()
	for _, k := range []struct {
		prefix string
		keep   time.Duration
		old    func(ctx context.Context, id string, before time.Time) (bool, error)
		n      *int
	}{{"s", r.Recordings, e.oldRecording, &out.Recordings}, {"x", r.Logs, e.oldLog, &out.Logs}} {
		if k.keep <= 0 {
			continue
		}
		cut := began.Add(-k.keep)
		after, before := k.prefix+"-", grant.NewID(k.prefix, cut, [10]byte{})
		for {
			id, err := e.Store.NextLog(ctx, after, before)
			if err != nil {
				return out, err
			}
			if id == "" {
				break
			}
			if e.Now().Sub(began) > r.Patience {
				out.More = true
				break
			}
			after = id
			old, err := k.old(ctx, id, cut)
			if err == nil && old {
				err = e.Store.DropLog(ctx, id, 0, math.MaxInt64)
				*k.n++
			}
			if err != nil {
				return out, fmt.Errorf("engine: delete the log of %s: %w", id, err)
			}
		}
	}
	if out.Recordings+out.Logs > 0 {
		e.Log.Info("deleted what is older than the retention says", slog.Int("recordings", out.Recordings), slog.Int("logs", out.Logs))
	}
	return out, nil
}

// over reports whether a grant is over, or not there at all.
func (e *Engine) over(ctx context.Context, id string) (bool, error) {
	c, err := e.Store.Case(ctx, id)
	if errors.Is(err, grant.ErrNotFound) {
		return true, nil
	}
	return err == nil && c.Grant.State.Final(), err
}

// oldLog reports whether the log of an execution is to be deleted, and notes that it is.
func (e *Engine) oldLog(ctx context.Context, id string, before time.Time) (bool, error) {
	x, err := e.Store.Execution(ctx, id)
	if errors.Is(err, grant.ErrNotFound) {
		return true, nil // nobody can ask for it
	}
	if err != nil {
		return false, err
	}
	ended := x.Ended
	if ended.IsZero() && x.GrantID == "" {
		ended = x.Started.Add(stale)
	}
	if ended.IsZero() || ended.After(before) {
		return false, nil
	}
	if x.GrantID != "" {
		if over, err := e.over(ctx, x.GrantID); err != nil || !over {
			return false, err
		}
	}
	_, end, err := e.Store.LogSize(ctx, id)
	if err != nil {
		return false, err
	}
	x.LogBytes = max(x.LogBytes, end)
	x.Dropped = x.LogBytes
	return true, e.Store.PutExecution(ctx, grant.Fence{}, x)
}

// oldRecording is oldLog for the recording of a session.
func (e *Engine) oldRecording(ctx context.Context, id string, before time.Time) (bool, error) {
	s, err := e.Store.Session(ctx, id)
	if errors.Is(err, grant.ErrNotFound) {
		return true, nil
	}
	if err != nil || s.Ended.IsZero() || s.Ended.After(before) {
		return false, err
	}
	if over, err := e.over(ctx, s.Grant); err != nil || !over {
		return false, err
	}
	_, end, err := e.Store.LogSize(ctx, id)
	if err != nil {
		return false, err
	}
	return true, e.Store.ChangeSession(ctx, id, func(s *grant.Session) error {
		s.Forget(e.Now(), end)
		return nil
	})
}
