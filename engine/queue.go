package engine

import (
	"time"

	"runner/engine/grant"
)

// class is what kind of job waits in a line. Each has lines of its own, so that
// none of them keeps another from being seen.
type class int

const (
	forwards class = iota // creations, elevations, renewals: somebody waits for them
	fresh                 // removals not tried yet: access has not ended by them
	retried               // removals that were tried in vain
	classes
)

func classOf(r *grant.Ready) class {
	switch {
	case !r.Removal:
		return forwards
	case r.Attempt == 0:
		return fresh
	}
	return retried
}

// lineDepth is how many jobs of a line are kept in memory; the store has the rest.
const lineDepth = 16

// line is the ready jobs of one class on one device by one login, oldest first.
type line struct {
	device string
	jobs   []grant.Ready
	more   bool        // the store has more of them
	last   grant.Ready // that was taken in
}

// group is the lines of one login, the one to be served next first.
type group struct {
	login string
	lines []*line
	on    map[string]*line // by device
}

// queue is what may be claimed, as far as this process knows, and chooses what
// comes next: the logins take turns, and within one the devices do. However much
// waits for one of them, the others come as soon as if it did not. It reads no
// clock and does nothing itself. What it offers may be gone: claiming tells.
type queue struct {
	classes [classes]struct {
		groups []*group
		by     map[string]*group // by login
	}
	known map[string]bool // jobs in a line or under way

	devices   map[string]bool // with a job of this process
	elsewhere map[string]bool // with a job of another
	logins    map[string]int  // running jobs, of this process and of others
	silent    map[string]grant.Silence
	rest      map[string]time.Time // devices that are left alone until then
	made      map[string]bool      // devices whose latest job here was no removal
	waits     map[string]*[2]int   // how many jobs wait for a device: forwards, removals
	empty     []refill             // lines to be filled again
}

// refill is a line that ran out while the store has more.
type refill struct {
	device  string
	removal bool
	after   grant.Ready // what it had is up to this one
}

func newQueue() *queue {
	q := &queue{
		known: map[string]bool{}, devices: map[string]bool{}, elsewhere: map[string]bool{}, logins: map[string]int{},
		silent: map[string]grant.Silence{}, rest: map[string]time.Time{}, made: map[string]bool{}, waits: map[string]*[2]int{},
	}
	for c := range q.classes {
		q.classes[c].by = map[string]*group{}
	}
	return q
}

// side is the index of a job's kind in waits.
func side(c class) int {
	if c == forwards {
		return 0
	}
	return 1
}

// add puts a job at the end of its line, unless it is known. It reports whether
// it did.
func (q *queue) add(r grant.Ready) bool {
	if q.known[r.Job] {
		return false
	}
	l := q.line(&r)
	if l.more || len(l.jobs) >= lineDepth {
		l.more = true
		return false
	}
	l.jobs, l.last = append(l.jobs, r), r
	q.count(&r, 1)
	q.known[r.Job] = true
	return true
}

// back puts a job that could not be claimed yet in front of its line.
func (q *queue) back(r grant.Ready) {
	l := q.line(&r)
	l.jobs = append([]grant.Ready{r}, l.jobs...)
	q.count(&r, 1)
}

func (q *queue) line(r *grant.Ready) *line {
	c := &q.classes[classOf(r)]
	g := c.by[r.Login]
	if g == nil {
		g = &group{login: r.Login, on: map[string]*line{}}
		c.by[r.Login], c.groups = g, append(c.groups, g)
	}
	l := g.on[r.Device]
	if l == nil {
		l = &line{device: r.Device}
		g.on[r.Device], g.lines = l, append(g.lines, l)
	}
	return l
}

func (q *queue) count(r *grant.Ready, n int) {
	w := q.waits[r.Device]
	if w == nil {
		w = &[2]int{}
		q.waits[r.Device] = w
	}
	if w[side(classOf(r))] += n; *w == [2]int{} {
		delete(q.waits, r.Device)
	}
}

// next takes the job of a class that is to be run next. Devices that did not
// answer the last time count only with suspects.
func (q *queue) next(c class, now time.Time, suspects bool) (grant.Ready, bool) {
	k := &q.classes[c]
	for range len(k.groups) {
		g := k.groups[0]
		k.groups = append(k.groups[1:], g)
		for range len(g.lines) {
			l := g.lines[0]
			g.lines = append(g.lines[1:], l)
			if len(l.jobs) == 0 || !q.free(c, l, now, suspects) {
				continue
			}
			r := l.jobs[0]
			l.jobs = l.jobs[1:]
			q.count(&r, -1)
			if len(l.jobs) == 0 {
				q.close(c, g, l)
			}
			return r, true
		}
	}
	return grant.Ready{}, false
}

// free reports whether the first job of a line may start.
func (q *queue) free(c class, l *line, now time.Time, suspects bool) bool {
	r := &l.jobs[0]
	if q.devices[l.device] || q.elsewhere[l.device] || now.Before(q.rest[l.device]) || r.Limit > 0 && q.logins[r.Login] >= r.Limit {
		return false
	}
	if s, silent := q.silent[l.device]; silent && (!suspects || c != forwards && now.Before(s.Until)) {
		return false
	}
	// Where both wait for a device they take turns.
	w := q.waits[l.device]
	return w[0] == 0 || w[1] == 0 || q.made[l.device] == (c != forwards)
}

// close takes an empty line out.
func (q *queue) close(c class, g *group, l *line) {
	if l.more {
		q.empty = append(q.empty, refill{l.device, c != forwards, l.last})
	}
	delete(g.on, l.device)
	for i := range g.lines {
		if g.lines[i] == l {
			g.lines = append(g.lines[:i], g.lines[i+1:]...)
			break
		}
	}
	if len(g.lines) > 0 {
		return
	}
	k := &q.classes[c]
	delete(k.by, g.login)
	for i := range k.groups {
		if k.groups[i] == g {
			k.groups = append(k.groups[:i], k.groups[i+1:]...)
			break
		}
	}
}

// began notes that a job runs here.
func (q *queue) began(r *grant.Ready) {
	q.devices[r.Device], q.made[r.Device] = true, !r.Removal
	q.logins[r.Login]++
}

// over notes that it does not any more. What is ready after that is not known.
func (q *queue) over(r *grant.Ready) {
	delete(q.devices, r.Device)
	if q.logins[r.Login]--; q.logins[r.Login] <= 0 {
		delete(q.logins, r.Login)
	}
	if q.waits[r.Device] == nil {
		delete(q.made, r.Device)
		delete(q.rest, r.Device)
	}
	delete(q.known, r.Job)
}

// waiting is how many jobs of silent and of other devices wait in lines.
func (q *queue) waiting(now time.Time) (silent, others int) {
	for device, w := range q.waits {
		if s, is := q.silent[device]; is && now.Before(s.Until) {
			silent += w[1]
			others += w[0]
			continue
		}
		others += w[0] + w[1]
	}
	return silent, others
}
