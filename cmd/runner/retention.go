package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"runner/engine"
	"runner/engine/lang"
	"runner/engine/store"
)

const (
	// markRetained is when what is older than the retention says was deleted last.
	markRetained = "retained"
	// retainEvery is how often that is done.
	retainEvery = time.Hour
	// How long it may take at a time, of serve and of a sweep.
	servePatience, sweepPatience = 5 * time.Minute, 10 * time.Second
)

// readRetention reads the key retention of runner.yaml. What is not said is kept.
func readRetention(d *lang.Decoder, n *lang.Node) (r engine.Retention) {
	const least, most = 24 * time.Hour, 20 * 365 * 24 * time.Hour
	f := d.Map(n, "retention")
	r.Recordings = readSpan(d, f.Take("recordings"), "recordings", 0, least, most)
	r.Logs = readSpan(d, f.Take("logs"), "logs", 0, least, most)
	f.End()
	return r
}

// retain deletes what is older than the retention of the workspace says, at most once
// in a while, whoever does it.
func (a *app) retain(ctx context.Context, e *engine.Engine, patience time.Duration) error {
	r := a.ws.retention
	if r.Recordings == 0 && r.Logs == 0 {
		return nil
	}
	last, err := e.Store.Marked(ctx, markRetained)
	if err != nil || a.now().Sub(last) < retainEvery-time.Minute {
		return err
	}
	r.Patience = patience
	done, err := e.Retain(ctx, r)
	if err != nil || done.More {
		return err // the rest comes next
	}
	return e.Store.Mark(ctx, markRetained, a.now())
}

// retainAlways does that until ctx ends, whenever it is this machine's turn. e is its own.
func (a *app) retainAlways(ctx context.Context, e engine.Engine, turns <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-turns:
		}
		if err := a.retain(ctx, &e, servePatience); err != nil && !errors.Is(err, context.Canceled) {
			a.log.Error("old logs are not deleted", slog.Any("error", err))
		}
	}
}

// retainChore is what one of several machines does about it at a time.
func retainChore(turns chan<- struct{}) store.Chore {
	return store.Chore{Name: markRetained, Every: retainEvery / 6, Later: true, Do: func(context.Context) error { takeTurn(turns); return nil }}
}
