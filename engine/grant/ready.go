package grant

import "time"

// Ready is a job that may be claimed: as much of it as choosing among many takes.
type Ready struct {
	Job     string
	Grant   string
	Device  string
	Login   string // who it logs in as
	Limit   int    // how many jobs may log in as Login at once; 0: any number
	Removal bool   // it takes something away: a removal, or a lock
	Attempt int
	At      time.Time // since when it may be claimed
}

// Want says which ready jobs are asked for: those of one device or of all, in
// the order in which they became ready.
type Want struct {
	Removal bool   // those that take something away, or the others
	Device  string // "": of all
	Now     time.Time
	// After continues a list behind its last job: where nothing else matters, a
	// Ready with a time only. Zero: from the start.
	After Ready
	Limit int // 0: 1000
}

// Silence is a device that did not answer, or did not let runner in, when it was
// last asked. Nobody asks it again before Until, except for a person.
type Silence struct {
	Device string
	Since  time.Time
	Missed int // how often it was asked in vain
	Until  time.Time
	Why    string
}

// maxSilence is the longest pause of a device that does not answer. When it is
// back, what waits for it begins within this time.
const maxSilence = 15 * time.Minute

// Miss returns the silence of a device after one more attempt in vain; was is
// zero when it had answered before. jitter is in [0,1).
func (was Silence) Miss(device, why string, now time.Time, jitter float64) Silence {
	s := was
	if s.Missed == 0 {
		s = Silence{Device: device, Since: now}
	}
	s.Missed++
	s.Why = why
	s.Until = now.Add(min(Backoff(s.Missed, jitter), maxSilence-time.Duration(jitter*float64(maxSilence)/4)))
	return s
}

// Tally is how many jobs there are that are not over.
type Tally struct {
	Jobs    map[Kind]map[JobState]int
	Blocked int // removals that wait and have something in the way
}

// Add counts n more jobs.
func (t *Tally) Add(k Kind, s JobState, n int) {
	if t.Jobs[k] == nil {
		t.Jobs[k] = map[JobState]int{}
	}
	t.Jobs[k][s] += n
}

// Room is how much of the disk the store takes, in bytes. What was deleted from a file
// of SQLite is free for what comes next; the file does not shrink.
type Room struct {
	Grants, GrantsFree int64 // grants, jobs, executions, changes, audit
	Logs, LogsFree     int64 // output of executions, recordings of sessions
}
