package grant

import (
	"strconv"
	"time"
)

// SessionPatience is how long a session goes on without a sign of life of the
// person's program. Then its grant is ended.
const SessionPatience = 10 * time.Second

// Why a session ended.
const (
	SessionExit    = "exit"         // what ran in it ended
	SessionExpired = "expire"       // the time of the grant was over
	SessionCut     = "end"          // somebody ended the grant
	SessionStopped = "interrupted"  // the person's program was told to stop
	SessionLost    = "lost"         // the connection to the device
	SessionGone    = "client_gone"  // the person's program died, or said nothing for SessionPatience
	SessionNever   = "never_opened" // there was no account to open it as
)

// EndedIdle is why a grant ended whose account nobody used.
const EndedIdle = "idle"

// Kinds of sessions.
const (
	SessionShell = "shell" // on the device
	SessionLocal = "local" // a program on the person's machine that was given the secret
)

// Session is what a person has open by a grant, from the request on: whoever is
// alive ends the grant when the person's program is not.
type Session struct {
	ID         string    `json:"id"`
	Grant      string    `json:"grant_id"`
	Requester  string    `json:"requester"`
	Credential string    `json:"credential"`
	Device     string    `json:"device"`
	Account    string    `json:"account"`
	Kind       string    `json:"kind"`
	Command    string    `json:"command"` // name of the program; empty: a shell
	Node       string    `json:"node"`    // that the person's program is
	Client     string    `json:"client"`  // host and process of it, for people
	Opened     time.Time `json:"opened_at"`
	Started    time.Time `json:"started_at,omitzero"` // zero: not yet
	Beat       time.Time `json:"beat_at"`             // last sign of life
	Ended      time.Time `json:"ended_at,omitzero"`
	EndedBy    string    `json:"ended_by,omitempty"`
	Status     int       `json:"status"`                  // exit status, once ended
	Recorded   int64     `json:"recorded_bytes"`          // of its recording, dropped ones included
	Dropped    int64     `json:"recording_dropped_bytes"` // of those

	// Events are the audit rows to be written with it.
	Events []Event `json:"-"`
}

// Open has the grant requested for a session: both are stored at once.
func (c *Case) Open(s Session, now time.Time) {
	g := &c.Grant
	s.Grant, s.Requester, s.Credential, s.Device, s.Account = g.ID, g.Requester, g.Credential, g.Device, g.Account
	s.Opened, s.Beat = now, now
	c.Opens = &s
	c.event(now, g.Caller, "session.opened", "session", s.ID, "kind", s.Kind, "command", s.Command, "client", s.Client)
}

// Abandoned reports that nobody has heard of the person's program.
func (s *Session) Abandoned(now time.Time) bool {
	return s.Ended.IsZero() && now.Sub(s.Beat) >= SessionPatience
}

// Alive notes a sign of life.
func (s *Session) Alive(now time.Time) error {
	if !s.Ended.IsZero() {
		return s.over("go on")
	}
	if now.After(s.Beat) {
		s.Beat = now
	}
	return nil
}

// Start notes that the person is in.
func (s *Session) Start(now time.Time) error {
	if err := s.Alive(now); err != nil {
		return err
	}
	if s.Started.IsZero() {
		s.Started = now
		s.event(now, s.Requester, "session.started")
	}
	return nil
}

// End ends the session, once; later ends change nothing.
func (s *Session) End(now time.Time, actor, by string, status int) {
	if !s.Ended.IsZero() {
		return
	}
	s.Ended, s.EndedBy, s.Status = now, by, status
	s.event(now, actor, "session.ended", "why", by, "status", strconv.Itoa(status))
}

// Played notes that somebody looked at the recording.
func (s *Session) Played(now time.Time, actor string) { s.event(now, actor, "session.played") }

// Forget notes that the recording, which ends at end, is not kept any longer.
func (s *Session) Forget(now time.Time, end int64) {
	if s.Recorded > 0 && s.Dropped >= s.Recorded {
		return // it was noted already
	}
	s.Recorded = max(s.Recorded, end)
	s.Dropped = s.Recorded
	s.event(now, Runner, "session.recording_deleted", "bytes", strconv.FormatInt(s.Recorded, 10))
}

func (s *Session) over(want string) error {
	return &StateError{Subject: "session " + s.ID, State: "over (" + s.EndedBy + ")", Want: want}
}

func (s *Session) event(at time.Time, actor, action string, detail ...string) {
	c := Case{Grant: Grant{ID: s.Grant}}
	c.event(at, actor, action, append([]string{"session", s.ID}, detail...)...)
	s.Events = append(s.Events, c.Events...)
}
