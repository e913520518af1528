package grant

import "time"

// Scanned is what the latest scan of a device came to, as it is kept.
type Scanned struct {
	Device string
	Tried  time.Time // when it was begun last
	// Error says why the device was not looked at then. Away: it did not answer, which
	// may be over soon.
	Error string
	Away  bool

	At         time.Time // of the latest scan that worked; zero: there was none. The rest is of then.
	Credential string    // by which it was looked at
	Marked, OK int
	Found      int       // how many findings there were
	Findings   []Finding // the first MaxFindings of them, also those that are ignored
}

// MaxFindings is how many findings of a device are kept.
const MaxFindings = 1000

// Finding is something on a device that was not as the store has it.
type Finding struct {
	What    string    `json:"what"`
	Object  string    `json:"object"`
	Why     []string  `json:"why"`
	Mark    string    `json:"mark,omitempty"`  // the grant that its mark names
	Grant   string    `json:"grant,omitempty"` // the grant of the store that it belonged to
	UID     int64     `json:"uid,omitempty"`
	SID     string    `json:"sid,omitempty"`
	Locked  bool      `json:"locked,omitempty"`
	Until   time.Time `json:"until,omitzero"`
	Expired bool      `json:"expired,omitempty"`
}

const (
	// awayFor is after which time a device is tried again that did not answer.
	awayFor = time.Hour
	// unfinished is the error of a scan until it says what it came to.
	unfinished = "the scan has not said yet what it came to"
)

// Begin is the state of a scan that is under way. When its worker dies it is tried
// again as if the device had not answered.
func (s Scanned) Begin(now time.Time) Scanned {
	s.Tried, s.Error, s.Away = now, unfinished, true
	return s
}

// Next returns when a device is to be scanned that is scanned every so often. One
// that refused runner is not asked sooner: a login too many can lock an account.
func (s *Scanned) Next(every time.Duration) time.Time {
	switch {
	case s.Tried.IsZero():
		return time.Time{}
	case s.Away:
		return s.Tried.Add(min(every, awayFor))
	}
	return s.Tried.Add(every)
}
