package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"runner/engine/grant"
)

const (
	insertSession = `INSERT INTO sessions (` + sessionColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)`
	updateSession = `UPDATE sessions SET (started_at, beat_at, ended_at, ended_by, status, recorded, dropped) = ($2, $3, $4, $5, $6, $7, $8) WHERE id = $1`
	sessionByID   = `SELECT ` + sessionColumns + ` FROM sessions WHERE id = $1`
)

func sessionArgs(s *grant.Session) []any {
	return []any{
		s.ID, s.Grant, s.Requester, s.Credential, s.Device, s.Account, s.Kind, valid(s.Command), s.Node, valid(s.Client),
		s.Opened.UnixMilli(), ms(s.Started), s.Beat.UnixMilli(), ms(s.Ended), s.EndedBy, int64(s.Status), s.Recorded, s.Dropped,
	}
}

func scanSession(r scanner) (s grant.Session, err error) {
	return s, r.Scan(
		&s.ID, &s.Grant, &s.Requester, &s.Credential, &s.Device, &s.Account, &s.Kind, &s.Command, &s.Node, &s.Client,
		msTime{&s.Opened}, maybeTime{&s.Started}, msTime{&s.Beat}, maybeTime{&s.Ended}, &s.EndedBy, &s.Status, &s.Recorded, &s.Dropped,
	)
}

// normalSession returns s as a store gives it back.
func normalSession(s grant.Session) grant.Session {
	for _, t := range []*time.Time{&s.Opened, &s.Started, &s.Beat, &s.Ended} {
		*t = stamp(*t)
	}
	s.Command, s.Client, s.Events = valid(s.Command), valid(s.Client), nil
	return s
}

// States of sessions that a filter can ask for.
const (
	sessionOpen  = "open"
	sessionEnded = "ended"
)

// sessionsQuery: States of the filter are open and ended.
func sessionsQuery(f grant.Filter) (string, []any) {
	var w where
	open, ended := slices.Contains(f.States, sessionOpen), slices.Contains(f.States, sessionEnded)
	switch {
	case open && !ended:
		w.terms = append(w.terms, `ended_at IS NULL`)
	case ended && !open:
		w.terms = append(w.terms, `ended_at IS NOT NULL`)
	}
	w.is(`grant_id = #`, f.Grant)
	w.is(`requester = #`, f.Requester)
	w.is(`device = #`, f.Device)
	w.is(`credential = #`, f.Credential)
	return w.query(`SELECT `+sessionColumns+` FROM sessions`, ` ORDER BY opened_at DESC, id DESC`, limited(f.Limit))
}

// Session returns the session with this id, or whose id alone starts so. It
// returns grant.ErrNotFound or *grant.AmbiguousError.
func (s *Store) Session(ctx context.Context, idOrPrefix string) (grant.Session, error) {
	var out grant.Session
	err := s.main.readTx(ctx, func(tx *sql.Tx) error {
		id, err := resolve(ctx, tx, "sessions", idOrPrefix)
		if err != nil {
			return err
		}
		out, err = scanSession(tx.QueryRowContext(ctx, sessionByID, id))
		return err
	})
	return out, s.main.explain("session "+idOrPrefix, err)
}

// Sessions returns sessions, newest first. States of f are open and ended; its
// Job and Outcome do not count.
func (s *Store) Sessions(ctx context.Context, f grant.Filter) (list []grant.Session, err error) {
	err = s.main.readOne(ctx, func(db *sql.DB) error {
		q, args := sessionsQuery(f)
		rows, err := db.QueryContext(ctx, q, args...)
		list, err = all(rows, err, scanSession)
		return err
	})
	return list, s.main.explain("sessions", err)
}

// ChangeSession loads a session by its whole id, hands it to fn, and stores what
// fn made of its times, end and recording, with the events that fn added, in one
// transaction. An error of fn is returned as it is and nothing is stored.
func (s *Store) ChangeSession(ctx context.Context, id string, fn func(*grant.Session) error) error {
	var theirs error
	err := s.main.writeTx(ctx, func(tx *txn) error {
		n, err := scanSession(tx.QueryRowContext(ctx, sessionByID, id))
		if isNone(err) {
			return grant.ErrNotFound
		}
		if err != nil {
			return err
		}
		if theirs = fn(&n); theirs != nil {
			return theirs
		}
		_, err = tx.ExecContext(ctx, updateSession, id, ms(n.Started), n.Beat.UnixMilli(), ms(n.Ended), n.EndedBy, int64(n.Status), n.Recorded, n.Dropped)
		if err != nil {
			return err
		}
		return appendAudit(ctx, tx, sessionEvents(&n))
	})
	if theirs != nil {
		return theirs
	}
	return s.main.explain("change session "+id, err)
}

func sessionEvents(s *grant.Session) []grant.Event {
	return normalEvents(&grant.Case{Grant: grant.Grant{ID: s.Grant}, Events: s.Events})
}

// Session does what [Store.Session] does.
func (m *Memory) Session(ctx context.Context, idOrPrefix string) (grant.Session, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return grant.Session{}, err
	}
	defer leave()
	id, err := resolveKey(m.sessions, idOrPrefix)
	if err != nil {
		return grant.Session{}, fmt.Errorf("store: session %s: %w", idOrPrefix, err)
	}
	return m.sessions[id], nil
}

// Sessions does what [Store.Sessions] does.
func (m *Memory) Sessions(ctx context.Context, f grant.Filter) ([]grant.Session, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var list []grant.Session
	for _, s := range m.sessions {
		state := sessionOpen
		if !s.Ended.IsZero() {
			state = sessionEnded
		}
		if (len(f.States) == 0 || slices.Contains(f.States, state)) && selects(f.Grant, s.Grant) && selects(f.Requester, s.Requester) &&
			selects(f.Device, s.Device) && selects(f.Credential, s.Credential) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b grant.Session) int {
		return cmp.Or(b.Opened.Compare(a.Opened), cmp.Compare(b.ID, a.ID))
	})
	return first(list, limited(f.Limit)), nil
}

// ChangeSession does what [Store.ChangeSession] does.
func (m *Memory) ChangeSession(ctx context.Context, id string, fn func(*grant.Session) error) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	was, found := m.sessions[id]
	if !found {
		return fmt.Errorf("store: change session %s: %w", id, grant.ErrNotFound)
	}
	is := was
	if err := fn(&is); err != nil {
		return err
	}
	events := sessionEvents(&is)
	next := was
	next.Started, next.Beat, next.Ended, next.EndedBy, next.Status, next.Recorded, next.Dropped = is.Started, is.Beat, is.Ended, is.EndedBy, is.Status, is.Recorded, is.Dropped
	m.sessions[id] = normalSession(next)
	m.events = append(m.events, events...)
	return nil
}
