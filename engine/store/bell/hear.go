package bell

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"runner/engine/store"
)

const (
	// patience is how long a machine without room keeps a bell before others may hear it.
	patience = 300 * time.Millisecond
	// stale is a bell that nobody had room for: by then everybody has looked anyway.
	stale = 3 * time.Second
	// heard is for how long bells are kept for people who look.
	heard = time.Minute
	// connections are those of a machine that hears bells: one of them listens.
	connections = 4
	// atOnce is how many bells a machine takes at once: what wakes it by one of them
	// goes for all.
	atOnce = 8
)

// Hear wakes this machine by bells, and does its share of what is done every once in
// a while, until ctx ends. It returns an error when it cannot begin.
func (b *Bells) Hear(ctx context.Context, cfg *pgx.ConnConfig, h store.Hearing) error {
	pool, err := open(ctx, cfg, connections)
	if err != nil {
		return err
	}
	defer pool.Close()
	workers := river.NewWorkers()
	river.AddWorker(workers, &listener{wake: h.Wake, now: h.Now, woken: make(chan struct{})})
	river.AddWorker(workers, &choreman{chores: h.Chores})
	c, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		ID: h.Node, Schema: Schema, Logger: h.Log, Workers: workers,
		Queues:        map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: atOnce}},
		PeriodicJobs:  periodic(h.Chores),
		FetchCooldown: 20 * time.Millisecond, FetchPollInterval: 500 * time.Millisecond,
		JobTimeout: 10 * time.Second, RescueStuckJobsAfter: time.Minute,
		CompletedJobRetentionPeriod: heard, CancelledJobRetentionPeriod: heard, DiscardedJobRetentionPeriod: heard,
	})
	if err != nil {
		return err
	}
	if err := c.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	<-ctx.Done()
	stopping, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	if err := c.StopAndCancel(stopping); err != nil {
		return fmt.Errorf("bell: stop: %w", err)
	}
	return nil
}

// listener is who hears that there may be work.
type listener struct {
	river.WorkerDefaults[ready]
	wake chan<- struct{}
	now  func() time.Time // of the database

	mu    sync.Mutex
	woken chan struct{} // closed when this machine is woken, and another one then
}

// Work wakes this machine if it has room, or leaves the bell to others.
func (l *listener) Work(ctx context.Context, j *river.Job[ready]) error {
	l.mu.Lock()
	woken := l.woken
	l.mu.Unlock()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case l.wake <- struct{}{}:
		l.mu.Lock()
		defer l.mu.Unlock()
		close(l.woken)
		l.woken = make(chan struct{})
		return nil
	case <-woken: // by another bell, after this one was rung
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
	}
	if l.now().Sub(j.CreatedAt) > stale {
		return nil
	}
	return river.JobSnooze(patience)
}

// chore is something that is done every once in a while.
type chore struct {
	Name string `json:"name"`
}

// Kind names it.
func (chore) Kind() string { return "chore" }

// choreman does what the leader has asked for.
type choreman struct {
	river.WorkerDefaults[chore]
	chores []store.Chore
}

// Work does the chore, if this version of the program knows it.
func (m *choreman) Work(ctx context.Context, j *river.Job[chore]) error {
	for _, c := range m.chores {
		if c.Name == j.Args.Name {
			return c.Do(ctx)
		}
	}
	return nil
}

func periodic(chores []store.Chore) []*river.PeriodicJob {
	var list []*river.PeriodicJob
	for _, c := range chores {
		list = append(list, river.NewPeriodicJob(river.PeriodicInterval(c.Every),
			func() (river.JobArgs, *river.InsertOpts) { return chore{c.Name}, once() },
			&river.PeriodicJobOpts{RunOnStart: !c.Later}))
	}
	return list
}
