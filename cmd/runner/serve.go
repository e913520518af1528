package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) serveCommand() *cobra.Command {
	var (
		parallel int
		grace    time.Duration
	)
	c := leaf{
		use: "serve", short: "run jobs when they are due, until told to stop",
		example: "runner serve\nrunner --workspace /srv/access serve --parallel 32",
		long: `Any number of runner processes may work on one workspace. SIGTERM or an interrupt
stops it: jobs under way are given --grace to finish, then they are handed back.
There is no network service yet.`,
		run: func(ctx context.Context, _ []string) error {
			if parallel < 1 || parallel > 1000 {
				return usagef("--parallel is %d: it can be 1 to 1000", parallel)
			}
			return a.serve(ctx, parallel, grace)
		},
	}.command()
	c.Flags().IntVar(&parallel, "parallel", 16, "how many jobs run at once")
	c.Flags().DurationVar(&grace, "grace", 30*time.Second, "how long jobs may go on when told to stop")
	return c
}

func (a *app) serve(ctx context.Context, parallel int, grace time.Duration) error {
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
	marking := make(chan struct{})
	go func() {
		defer close(marking)
		for {
			if err := s.Mark(ctx, markServed, a.now()); err != nil && ctx.Err() == nil {
				a.log.Error("cannot note that somebody serves", slog.Any("error", err))
			}
			if pause(ctx, sweepEvery) != nil {
				return
			}
		}
	}()
	a.say("serving %s as %s, %d jobs at once", a.ws.abs, e.Node, parallel)
	err = e.Serve(ctx, parallel, grace)
	<-marking
	a.say("stopped")
	return err
}
