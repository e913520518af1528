package store_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"runner/engine/grant"
	"runner/engine/store"
	"runner/engine/store/pgtest"
)

// floor watches workers from outside.
type floor struct {
	t   *testing.T
	dir string
	url string // of a database, instead of files in dir

	mu      sync.Mutex
	created []string
	done    map[string]string    // job: attempt
	found   map[string]time.Time // node: when first found dead
	killed  map[string]time.Time
	lost    int
	wrong   []string
}

// hand is a running worker.
type hand struct {
	cmd   *exec.Cmd
	stdin io.Closer
	read  chan struct{} // closed when its output has ended
	node  chan string
}

func (f *floor) hire(name string) *hand {
	f.t.Helper()
	h := &hand{read: make(chan struct{}), node: make(chan string, 1)}
	h.cmd = exec.CommandContext(f.t.Context(), os.Args[0], workerArg, f.dir, name, f.url)
	h.cmd.Stderr = os.Stderr
	var err error
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		f.t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	ok(f.t, h.cmd.Start())
	go func() {
		defer close(h.read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			f.hear(h, strings.Fields(lines.Text()))
		}
	}()
	return h
}

func (f *floor) hear(h *hand, words []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch words[0] {
	case "joined":
		h.node <- words[1]
	case "created":
		f.created = append(f.created, words[1])
	case "done":
		if was, twice := f.done[words[1]]; twice {
			f.wrong = append(f.wrong, fmt.Sprintf("%s was done in attempts %s and %s", words[1], was, words[2]))
		}
		f.done[words[1]] = words[2]
	case "dead":
		ns, _ := strconv.ParseInt(words[2], 10, 64)
		if at := time.Unix(0, ns); f.found[words[1]].IsZero() || at.Before(f.found[words[1]]) {
			f.found[words[1]] = at
		}
	case "lost":
		f.lost++
	default:
		f.wrong = append(f.wrong, strings.Join(words, " "))
	}
}

// joined waits until a worker is a node.
func (f *floor) joined(h *hand) string {
	f.t.Helper()
	select {
	case node := <-h.node:
		return node
	case <-h.read:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.t.Fatalf("a worker ended by itself: %v", f.wrong)
		return ""
	}
}

// fire kills a worker with SIGKILL once it is a node.
func (f *floor) fire(h *hand) {
	f.t.Helper()
	node := f.joined(h)
	if err := store.Pause(f.t.Context(), time.Duration(rand.N(250))*time.Millisecond); err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	f.killed[node] = time.Now()
	f.mu.Unlock()
	ok(f.t, h.cmd.Process.Kill())
	<-h.read
	_ = h.cmd.Wait()
}

// TestProcessesShareAFileWhileBeingKilled is how runner lives: several
// processes on one file, any of which can be gone at any moment.
func TestProcessesShareAFileWhileBeingKilled(t *testing.T) {
	t.Parallel()
	newFloor(t, "").share(16, 2*time.Second)
}

// The same on a database: the dead are found when their lease has ended.
func TestProcessesShareADatabaseWhileBeingKilled(t *testing.T) {
	t.Parallel()
	newFloor(t, pgtest.Database(t)).share(8, workLease+2*time.Second)
}

func newFloor(t *testing.T, url string) *floor {
	t.Helper()
	return &floor{t: t, dir: t.TempDir() + "/state", url: url, done: map[string]string{}, found: map[string]time.Time{}, killed: map[string]time.Time{}}
}

func (f *floor) open() *store.Store {
	f.t.Helper()
	if f.url != "" {
		return openAt(f.t, f.url)
	}
	return openIn(f.t, f.dir)
}

// share has workers killed; the dead have to be found within a time, usually.
func (f *floor) share(kills int, within time.Duration) {
	t := f.t
	t.Helper()
	const workers = 4
	var crew []*hand
	for i := range workers {
		crew = append(crew, f.hire(fmt.Sprint("w", i)))
	}
	start := time.Now()
	for i := range kills {
		h := i % workers
		f.fire(crew[h])
		crew[h] = f.hire(fmt.Sprint("k", i))
	}
	for _, h := range crew {
		f.joined(h)
	}
	f.awaitAllFound()
	for _, h := range crew {
		ok(t, h.stdin.Close())
		<-h.read
		if err := h.cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	f.judge(time.Since(start), within)
}

// awaitAllFound waits until every killed node was found dead by somebody.
func (f *floor) awaitAllFound() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	for {
		f.mu.Lock()
		missing := 0
		for node := range f.killed {
			if f.found[node].IsZero() {
				missing++
			}
		}
		f.mu.Unlock()
		if missing == 0 {
			return
		}
		if store.Pause(ctx, 5*time.Millisecond) != nil {
			f.t.Fatalf("%d killed nodes were never found dead", missing)
		}
	}
}

func (f *floor) judge(took, within time.Duration) {
	t := f.t
	t.Helper()
	for _, w := range f.wrong {
		t.Error(w)
	}
	s := f.open()
	ok(t, s.VerifyAudit(t.Context()))
	events := map[string][]string{}
	for _, e := range must[[]grant.Event](t)(s.Audit(t.Context(), "")) {
		events[e.Grant] = append(events[e.Grant], e.Action)
	}
	for _, id := range f.created {
		c, err := s.Case(t.Context(), id)
		if err != nil || len(c.Jobs) != 2 || events[id][0] != "grant.requested" {
			t.Errorf("grant %s was lost or is half there: %v %+v", id, err, c)
		}
	}
	for id := range f.done {
		if j := must[grant.Job](t)(s.Job(t.Context(), id)); j.State != grant.Done {
			t.Errorf("job %s was done and is %s", id, j.State)
		}
	}
	same(t, len(must[[]grant.Job](t)(s.Running(t.Context()))), 0)
	same(t, len(dead(t, s)), 0)

	var waits []time.Duration
	for node, at := range f.killed {
		waits = append(waits, f.found[node].Sub(at))
	}
	slices.Sort(waits)
	t.Logf("%d grants, %d jobs, %d claims lost to others, %d kills in %v; found dead after median %v, longest %v",
		len(f.created), len(f.done), f.lost, len(f.killed), took.Round(time.Millisecond), waits[len(waits)/2], waits[len(waits)-1])
	if len(f.created) < 20 || len(f.done) < 20 {
		t.Error("too little was done to show anything")
	}
	if median := waits[len(waits)/2]; median > within {
		t.Errorf("dead nodes are found after %v", median)
	}
}

// Closing any descriptor of a file takes away the locks that this process has
// on it. Without them the next process to close the store may take it for
// unused and delete the WAL. Only another process can see whether they are
// there.
func TestOpeningTwiceKeepsTheLocksOfTheFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/state"
	held := func() string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), os.Args[0], workerArg, "locks", dir+"/runner.db").Output()
		ok(t, err)
		return string(out)
	}
	s, err := store.Open(t.Context(), dir)
	ok(t, err)
	same(t, held(), "held\n")
	ok(t, must[*store.Store](t)(store.Open(t.Context(), dir)).Close())
	same(t, held(), "held\n")
	ok(t, s.Close())
	same(t, held(), "free\n")
}
