package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"runner/engine/grant"
	"runner/engine/store"
)

// workerArg makes the test binary a worker: it works on the store of a
// directory and writes a line for everything that it was told is done.
const workerArg = "store-worker"

// workDevices is how many devices workers share.
const workDevices = 4

// workLease is the lease of workers that share a database.
const workLease = 3 * time.Second

// crew is a worker process.
type crew struct {
	ctx     context.Context //nolint:containedctx // that of the process
	s       *store.Store
	out     io.Writer
	name    string
	node    string
	devices [workDevices]*os.File
	n       int
}

// worker runs until it is killed or its stdin ends.
func worker(args []string, in io.Reader, out io.Writer) {
	if args[0] == "locks" {
		_, _ = io.WriteString(out, locks(args[1]))
		return
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, in)
		close(stop)
	}()
	w := &crew{ctx: context.Background(), out: out, name: args[1]}
	if err := w.work(args[0], args[2], stop); err != nil {
		w.say("error", err.Error())
	}
}

// locks says whether another process has SQLite's shared lock on a database
// (os_unix.c: 510 bytes after the pending byte at 1 GiB and the reserved one).
func locks(path string) string {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: 1<<30 + 2, Len: 510}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l); err != nil {
		return err.Error()
	}
	if l.Type == unix.F_UNLCK {
		return "free\n"
	}
	return "held\n"
}

// say writes one line at once: what the parent read was committed.
func (w *crew) say(words ...string) {
	_, _ = io.WriteString(w.out, strings.Join(words, " ")+"\n")
}

// work goes on until stop is closed; what it began is finished then.
func (w *crew) work(dir, url string, stop <-chan struct{}) error {
	// Opened before the node's lock file: the kernel closes them in this order,
	// so that the device is free when the node is found dead.
	for i := range w.devices {
		f, err := os.OpenFile(fmt.Sprintf("%s/device%d", filepath.Dir(dir), i), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		w.devices[i] = f
	}
	var s *store.Store
	var err error
	if url == "" {
		s, err = store.Open(w.ctx, dir)
	} else {
		s, err = store.OpenPostgres(w.ctx, store.Postgres{URL: url, Lease: workLease})
	}
	if err != nil {
		return err
	}
	n, err := s.Join(w.ctx, w.name)
	if err != nil {
		return err
	}
	w.s, w.node = s, n.ID()
	w.say("joined", w.node)
	for {
		select {
		case <-stop:
			return errors.Join(n.Leave(), s.Close())
		default:
			if err := errors.Join(w.create(), w.reap(), w.one()); err != nil {
				return err
			}
		}
	}
}

// create requests one grant, while there are not too many jobs.
func (w *crew) create() error {
	now := time.Now()
	due, err := w.due(now)
	if err != nil || len(due) >= workDevices {
		return err
	}
	w.n++
	id, device := fmt.Sprintf("g-%s-%d", w.name, w.n), fmt.Sprint("device", rand.N(workDevices))
	c := grant.Case{
		Grant: grant.Grant{ID: id, State: grant.Requested, Requester: id, Credential: "c", Device: device, Account: id, Creates: true, Requested: now, Expires: now},
		Jobs: []grant.Job{
			{ID: "j-c-" + id, GrantID: id, Kind: grant.Create, State: grant.Waiting, Device: device, Due: now},
			{ID: "j-d-" + id, GrantID: id, Kind: grant.Delete, State: grant.Waiting, Device: device, Due: now.Add(time.Hour)},
		},
		Events: []grant.Event{{At: now, Action: "grant.requested"}},
	}
	if err := w.s.Create(w.ctx, c, nil); err != nil {
		return err
	}
	w.say("created", id)
	return nil
}

// one claims a due job and does it. Two that do something on one device at
// once find the device's file locked.
func (w *crew) one() error {
	due, err := w.due(time.Now())
	if err != nil || len(due) == 0 {
		return err
	}
	j := due[rand.N(len(due))]
	f, err := w.claim(j)
	if errors.Is(err, grant.ErrBusy) || errors.Is(err, errTaken) {
		w.say("lost", j.Job)
		return nil
	}
	if err != nil {
		return err
	}
	i, _ := strconv.Atoi(strings.TrimPrefix(j.Device, "device"))
	fd := int(w.devices[i].Fd())
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		w.say("overlap", j.Device, j.Job)
	}
	x := fmt.Sprintf("x-%s-%d", j.Job, f.Attempt)
	err = errors.Join(
		w.s.PutExecution(w.ctx, f, grant.Execution{ID: x, JobID: j.Job, GrantID: j.Grant, Device: j.Device, Started: time.Now(), Attempt: f.Attempt, Node: f.Node}),
		w.s.PutChanges(w.ctx, f, j.Grant, []grant.Change{{Execution: x, Seq: f.Attempt, State: "intended"}}),
		w.s.AppendLog(w.ctx, []grant.Chunk{{Execution: x, Data: []byte("output")}}),
	)
	if err != nil {
		return err
	}
	if err := unix.Flock(fd, unix.LOCK_UN); err != nil {
		return err
	}
	return w.finish(j, f)
}

var errTaken = errors.New("taken")

// due returns jobs of both kinds that may be claimed.
func (w *crew) due(now time.Time) ([]grant.Ready, error) {
	removals, err := w.s.Ready(w.ctx, grant.Want{Removal: true, Now: now, Limit: workDevices})
	others, oerr := w.s.Ready(w.ctx, grant.Want{Now: now, Limit: workDevices})
	return append(removals, others...), errors.Join(err, oerr)
}

func (w *crew) claim(j grant.Ready) (f grant.Fence, err error) {
	err = w.s.Change(w.ctx, j.Grant, func(c *grant.Case) error {
		k := c.Job(j.Job)
		if !k.DueAt(time.Now()) {
			return errTaken
		}
		k.State, k.Node = grant.Running, w.node
		k.Attempt++
		f = grant.Fence{Job: k.ID, Attempt: k.Attempt, Node: k.Node}
		return nil
	})
	return f, err
}

func (w *crew) finish(j grant.Ready, f grant.Fence) error {
	err := w.s.Change(w.ctx, j.Grant, func(c *grant.Case) error {
		if err := c.Holds(f); err != nil {
			return err
		}
		k := c.Job(j.Job)
		k.State, k.Node, k.Finished = grant.Done, "", time.Now()
		if k.Kind == grant.Create {
			c.Grant.State, c.Jobs[1].Due = grant.Ending, time.Now()
		} else {
			c.Grant.State = grant.Removed
		}
		c.Events = append(c.Events, grant.Event{At: time.Now(), Action: "job.done"})
		return nil
	})
	if err == nil {
		w.say("done", j.Job, strconv.Itoa(f.Attempt))
	}
	return err
}

// reap takes the jobs of dead nodes back, as every worker does at once.
func (w *crew) reap() error {
	dead, err := w.s.Dead(w.ctx)
	if err != nil || len(dead) == 0 {
		return err
	}
	at := time.Now()
	jobs, err := w.s.Running(w.ctx)
	if err != nil {
		return err
	}
	for _, id := range dead {
		if id == w.node {
			w.say("overlap", "found", "itself", "dead")
		}
		w.say("dead", id, strconv.FormatInt(at.UnixNano(), 10))
	}
	for _, j := range jobs {
		if slices.Contains(dead, j.Node) {
			if err := w.handBack(j); err != nil {
				return err
			}
		}
	}
	for _, id := range dead {
		if err := w.s.Forget(w.ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (w *crew) handBack(j grant.Job) error {
	f := grant.Fence{Job: j.ID, Attempt: j.Attempt, Node: j.Node}
	err := w.s.Change(w.ctx, j.GrantID, func(c *grant.Case) error {
		if err := c.Holds(f); err != nil {
			return err
		}
		k := c.Job(j.ID)
		k.State, k.Node = grant.Waiting, ""
		c.Events = append(c.Events, grant.Event{At: time.Now(), Action: "job.interrupted"})
		return nil
	})
	if errors.Is(err, grant.ErrLeaseLost) {
		return nil // another worker was faster
	}
	return err
}
