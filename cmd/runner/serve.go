package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/meter"
	"runner/engine/store"
)

func (a *app) serveCommand() *cobra.Command {
	var (
		parallel int
		grace    time.Duration
		metrics  string
	)
	c := leaf{
		use: "serve", short: "run jobs when they are due, until told to stop",
		example: "runner serve\nrunner --workspace /srv/access serve --parallel 32\nrunner serve --metrics 127.0.0.1:9464",
		long: `Any number of runner processes may work on one workspace. SIGTERM or an interrupt
stops it: jobs under way are given --grace to finish, then they are handed back.

A device has one job at a time. A quarter of the --parallel slots is kept for new
requests and a quarter for removals; logins and devices take turns. A device that
does not answer is left alone for a growing time, at most 15 minutes, and does not
use up slots while it is waited for. max_concurrent of a credential limits how many
jobs log in by it at once.

Each device on which runner makes accounts is scanned once in 24 hours, spread over the
time, a few at once and by one of the machines; what is found stands on top of
runner grant list, in runner device scan --last, in the log and in the metrics. The key
scan of runner.yaml says how often and which, or never.

With --metrics numbers for Prometheus are told at http://ADDRESS/metrics, without a
login: how many jobs wait, what is overdue, which share of devices does not answer.
No names are among them. There is no other network service yet.`,
		run: func(ctx context.Context, _ []string) error {
			if parallel < 1 || parallel > 1000 {
				return usagef("--parallel is %d: it can be 1 to 1000", parallel)
			}
			return a.serve(ctx, parallel, grace, metrics)
		},
	}.command()
	c.Flags().IntVar(&parallel, "parallel", 16, "how many jobs run at once, beside those that wait for devices to answer")
	c.Flags().DurationVar(&grace, "grace", 30*time.Second, "how long jobs may go on when told to stop")
	c.Flags().StringVar(&metrics, "metrics", "", "tell numbers for Prometheus at this address, such as 127.0.0.1:9464 (default: nowhere)")
	return c
}

func (a *app) serve(ctx context.Context, parallel int, grace time.Duration, metrics string) error {
	a.many = true
	if !a.flags.verbose {
		a.log = slog.New(&logHandler{app: a, level: slog.LevelInfo})
	}
	e, err := a.removing(ctx)
	if err != nil {
		return err
	}
	s, err := a.store()
	if err != nil {
		return err
	}
	switch loses, err := s.MayLose(ctx); {
	case err != nil:
		return err
	case loses:
		a.warn("the database server waits for no standby (synchronous_standby_names): what was committed last is lost when another host takes over, secrets that nobody has collected by then are not handed out any more, and what is being made is removed")
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if metrics != "" {
		e.Meter = &meter.Meter{}
		where, wait, err := a.serveMetrics(ctx, metrics, e)
		if err != nil {
			return err
		}
		defer wait()
		a.say("metrics at http://%s/metrics", where)
	}
	var beside sync.WaitGroup
	turns := newBeside()
	if wake := make(chan struct{}); s.Shared() {
		e.Wake = wake
		beside.Go(func() { a.hearBells(ctx, s, wake, turns) })
	} else {
		if every := a.ws.scan.every; every > 0 {
			beside.Go(func() { takeTurns(ctx, a.ws.scan.turn(), turns.scan) })
		}
		beside.Go(func() { takeTurns(ctx, retainEvery/6, turns.retain) })
		beside.Go(func() {
			for ok := true; ok; ok = pause(ctx, sweepEvery) == nil {
				a.everyMinute(ctx, s)
			}
		})
	}
	quiet := *e // its own: the node of the other may change
	beside.Go(func() { quiet.EndQuiet(ctx, engine.QuietEvery) })
	beside.Go(func() { a.scanRounds(ctx, quiet, turns.scan) })
	beside.Go(func() { a.retainAlways(ctx, quiet, turns.retain) })
	a.say("serving %s as %s, %d jobs at once", a.ws.abs, e.Node, parallel)
	for {
		if err = a.serveAsNode(ctx, e, parallel, grace); !errors.Is(err, grant.ErrLeaseLost) {
			break
		}
		a.warn("the lease of node %s is lost: others take over what it ran", e.Node)
		err = nil
		if !a.rejoin(ctx, s) {
			break
		}
		e.Node = a.node.ID()
		a.say("serving on as %s", e.Node)
	}
	stop()
	beside.Wait()
	a.say("stopped")
	return err
}

// logOverdue says in the log that removals are overdue, as every overview does.
func (a *app) logOverdue(ctx context.Context, s *store.Store) {
	cases, total, err := s.Overdue(ctx, a.now().Add(-sweepEvery), 1)
	switch {
	case err != nil && ctx.Err() == nil:
		a.log.Error("cannot look for overdue removals", slog.Any("error", err))
	case err == nil && total > 0:
		c := &cases[0]
		a.log.Warn("removals are overdue", slog.Int("removals", total), slog.Duration("longest", c.Overdue(a.now()).Round(time.Second)),
			slog.String("grant", c.Grant.ID), slog.String("device", c.Grant.Device), slog.String("blocked_by", c.Removal().BlockedBy))
	}
}

// everyMinute notes that somebody serves, and says what is overdue.
func (a *app) everyMinute(ctx context.Context, s *store.Store) {
	if err := s.Mark(ctx, markServed, a.now()); err != nil && ctx.Err() == nil {
		a.log.Error("cannot note that somebody serves", slog.Any("error", err))
	}
	a.logOverdue(ctx, s)
}

// hearBells has this machine woken when there may be work, and does its share of
// what one of the machines has to do, until ctx ends. Without, it looks by itself.
func (a *app) hearBells(ctx context.Context, s *store.Store, wake chan<- struct{}, turns beside) {
	a.everyMinute(ctx, s)                // that somebody serves is known before a leader is elected
	log := slog.New(slog.DiscardHandler) // what it says of a database that is away, others say as well
	if a.flags.verbose {
		log = a.log
	}
	h := store.Hearing{Node: nodeName(), Log: log, Wake: wake, Chores: append(turns.chores(a.ws.scan), store.Chore{
		Name: markServed, Every: sweepEvery, Do: func(ctx context.Context) error { a.everyMinute(ctx, s); return nil },
	})}
	for {
		if err := s.Hear(ctx, h); err != nil && ctx.Err() == nil {
			a.log.Warn("no bells are heard", slog.Any("error", err))
		}
		if pause(ctx, 5*time.Second) != nil {
			return
		}
	}
}

// serveAsNode works until ctx ends, or until this process is no node any more: then
// the error is grant.ErrLeaseLost.
func (a *app) serveAsNode(ctx context.Context, e *engine.Engine, parallel int, grace time.Duration) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-a.node.Lost():
			stop(grant.ErrLeaseLost)
		case <-ctx.Done():
		}
	}()
	if err := e.Serve(ctx, parallel, grace); err != nil {
		return err
	}
	if cause := context.Cause(ctx); errors.Is(cause, grant.ErrLeaseLost) {
		return cause
	}
	return nil
}

// rejoin makes this process a node again, as soon as the database answers. It reports
// false when it is told to stop before.
func (a *app) rejoin(ctx context.Context, s *store.Store) bool {
	if err := a.node.Leave(); err != nil && !errors.Is(err, grant.ErrBusy) { //nolint:contextcheck // it is ended also when ctx is over
		a.log.Warn("the lost node could not be ended", slog.Any("error", err))
	}
	a.node = nil
	for {
		n, err := s.Join(ctx, nodeName())
		if err == nil {
			a.node = n
			return true
		}
		a.log.Error("cannot become a node again yet", slog.Any("error", err))
		if pause(ctx, pollEvery) != nil {
			return false
		}
	}
}
