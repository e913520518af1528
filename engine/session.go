package engine

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"runner/engine/grant"
	"runner/engine/transport"
)

// Sessions keeps what people have open by their grants. Errors:
// grant.ErrNotFound, *grant.AmbiguousError.
type Sessions interface {
	Session(ctx context.Context, id string) (grant.Session, error)
	Sessions(ctx context.Context, f grant.Filter) ([]grant.Session, error)
	// ChangeSession loads a session, lets fn change it, and stores it with its
	// events in one transaction. fn's error undoes everything and is returned.
	ChangeSession(ctx context.Context, id string, fn func(*grant.Session) error) error
}

// SessionAsk says what the requester of a grant will open by it. The grant ends
// with the session, whoever notices its end.
type SessionAsk struct {
	Kind    string // grant.SessionShell or grant.SessionLocal
	Command string // name of the program; empty: a shell
	Client  string // host and process, for people
}

// Often enough that two signs of life may be lost.
const beatEvery = grant.SessionPatience / 4

// SessionOverError says that a session has to end.
type SessionOverError struct {
	By     string // grant.SessionExpired, grant.SessionCut, grant.SessionGone
	Reason string
}

// Error returns the reason.
func (e *SessionOverError) Error() string { return e.Reason }

// SessionEndedBy is the word that is stored for why a session ended: cause is what
// ended its program; nil: it ended by itself.
func SessionEndedBy(cause error) string {
	over, is := errors.AsType[*SessionOverError](cause)
	_, device := errors.AsType[*transport.Error](cause)
	switch {
	case cause == nil:
		return grant.SessionExit
	case is:
		return over.By
	case device:
		return grant.SessionLost
	}
	return grant.SessionStopped
}

// Beat keeps a session alive in the store until ctx ends: while its account is made,
// which may take longer than anybody waits for a sign of life.
func (e *Engine) Beat(ctx context.Context, s grant.Session) {
	for wait(ctx, beatEvery) == nil {
		err := e.Store.ChangeSession(ctx, s.ID, func(s *grant.Session) error { return s.Alive(e.Now()) })
		if err != nil && ctx.Err() == nil {
			e.Log.Debug("a sign of life of a session is not stored", slog.Any("error", err))
		}
	}
}

// Attend keeps a session alive in the store and returns when it has to end: with a
// *SessionOverError, or with the cause of ctx's end. tell is called once a second
// with when the grant expires, which may move.
func (e *Engine) Attend(ctx context.Context, s grant.Session, expires time.Time, tell func(expires time.Time)) error {
	var beat time.Time
	for {
		now := e.Now()
		if !now.Before(expires) {
			return &SessionOverError{By: grant.SessionExpired, Reason: "the time of grant " + s.Grant + " is over"}
		}
		if now.Sub(beat) >= beatEvery {
			if err := e.alive(ctx, s.ID); err != nil {
				return err
			}
			beat = now
		}
		tell(expires)
		if wait(ctx, min(time.Second, max(expires.Sub(now), time.Millisecond))) != nil {
			return context.Cause(ctx)
		}
		c, err := e.Store.Case(ctx, s.Grant)
		switch {
		case err != nil: // the next look may work; a store that stays away ends no session here
			e.Log.Debug("cannot look at the grant of a session", slog.Any("error", err))
		case c.Grant.State != grant.Active:
			return e.overBy(ctx, s.ID, &c.Grant)
		default:
			expires = c.Grant.Expires
		}
	}
}

// alive stores a sign of life. A store that does not take it is none of the
// session's business until others end it.
func (e *Engine) alive(ctx context.Context, id string) error {
	err := e.Store.ChangeSession(ctx, id, func(s *grant.Session) error { return s.Start(e.Now()) })
	if _, over := errors.AsType[*grant.StateError](err); over {
		return &SessionOverError{By: grant.SessionGone, Reason: "the session was taken for abandoned, because its program said nothing for " + grant.SessionPatience.String()}
	}
	if err != nil && ctx.Err() == nil {
		e.Log.Debug("a sign of life of a session is not stored", slog.Any("error", err))
	}
	return nil
}

// overBy says who ended the grant of a session.
func (e *Engine) overBy(ctx context.Context, id string, g *grant.Grant) error {
	by := grant.SessionCut
	switch g.EndedBy {
	case "expire":
		by = grant.SessionExpired
	case "disconnect":
		return e.alive(ctx, id)
	}
	return &SessionOverError{By: by, Reason: "grant " + g.ID + " was ended (" + g.EndedBy + ")"}
}

// EndSession ends the grant of a session, which makes its removal due, and then the
// session. It returns the case. by is one of the words of grant.Session.EndedBy.
func (e *Engine) EndSession(ctx context.Context, s grant.Session, actor, by string, status int) (grant.Case, error) {
	why := "session"
	if by == grant.SessionGone {
		why = "disconnect"
	}
	c, err := e.End(ctx, s.Grant, actor, why)
	if _, final := errors.AsType[*grant.StateError](err); final {
		c, err = e.Store.Case(ctx, s.Grant)
	}
	if err != nil {
		return c, err
	}
	err = e.Store.ChangeSession(ctx, s.ID, func(is *grant.Session) error {
		if s.Recorded > 0 {
			is.Recorded, is.Dropped = s.Recorded, s.Dropped
		}
		is.End(e.Now(), actor, by, status)
		return nil
	})
	return c, err
}

// endAbandoned ends the grants of sessions whose person is not there any more: the
// program died with its node, or said nothing for too long.
func (e *Engine) endAbandoned(ctx context.Context, dead []string) error {
	open, err := e.Store.Sessions(ctx, grant.Filter{States: []string{"open"}, Limit: 1 << 20})
	if err != nil {
		return err
	}
	var errs error
	for _, s := range open {
		gone, err := e.abandoned(ctx, s, dead)
		if err != nil || !gone {
			errs = errors.Join(errs, err)
			continue
		}
		if _, err := e.EndSession(ctx, s, grant.Runner, grant.SessionGone, 0); err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		e.Log.Warn("ended a session that its program has left", slog.String("session", s.ID), slog.String("grant", s.Grant), slog.String("client", s.Client))
	}
	return errs
}

// abandoned reports whether nobody is at a session that was open. The clock is read
// before the store is: this process may have stood still since it was asked, and the
// session's own may have told that it lives.
func (e *Engine) abandoned(ctx context.Context, s grant.Session, dead []string) (bool, error) {
	if slices.Contains(dead, s.Node) {
		return true, nil
	}
	now := e.Now()
	if !s.Abandoned(now) {
		return false, nil
	}
	is, err := e.Store.Session(ctx, s.ID)
	return err == nil && is.Abandoned(now), err
}
