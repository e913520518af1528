package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"runner/engine/grant"
	"runner/engine/transport/ssh"
)

// watchEvery is how often a session looks whether its grant still stands.
const watchEvery = time.Second

// errExpired ends a session.
var errExpired = errors.New("its time is over")

// attach runs the shell with the streams of this process.
func (l *launch) attach(ctx context.Context, c *grant.Case) (int, error) {
	a := l.app
	ctx, cut := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		cut(l.watch(ctx, c.Grant))
	}()
	defer func() { cut(nil); <-watched }()
	s := ssh.Session{Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr, Term: a.env("TERM"), Env: a.locale()}
	if s.Stdin == nil {
		s.Stdin = io.MultiReader() // nothing
	}
	if in, is := a.stdin.(*os.File); is && term.IsTerminal(int(in.Fd())) && a.outTTY {
		out, _ := a.stdout.(*os.File)
		restore, err := raw(in)
		if err != nil {
			return exitFailed, err
		}
		defer restore()
		s.Size = func() (cols, rows int) {
			cols, rows, _ = term.GetSize(int(out.Fd())) // unknown is 0
			return cols, rows
		}
		resized, stop := resizes()
		defer stop()
		s.Resized = resized
	}
	return l.keep.Run(ctx, s)
}

// resizes says when the terminal of this process has another size.
func resizes() (resized <-chan struct{}, stop func()) {
	signals, out, quit := make(chan os.Signal, 1), make(chan struct{}, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGWINCH)
	go func() {
		for {
			select {
			case <-quit:
				return
			case <-signals:
			}
			select {
			case out <- struct{}{}:
			default: // one is on its way
			}
		}
	}()
	return out, func() { signal.Stop(signals); close(quit) }
}

// locale is what a session takes over of the person's environment, as ssh does on
// most systems.
func (a *app) locale() [][2]string {
	var env [][2]string
	for _, name := range []string{"LANG", "LC_ALL", "LC_CTYPE", "COLORTERM"} {
		if v := a.env(name); v != "" {
			env = append(env, [2]string{name, v})
		}
	}
	return env
}

// watch returns why the session has to end, when it has to: its grant was ended, or
// its time is over.
func (l *launch) watch(ctx context.Context, g grant.Grant) error {
	for {
		if err := pause(ctx, min(watchEvery, max(g.Expires.Sub(l.app.now()), time.Millisecond))); err != nil {
			return context.Cause(ctx)
		}
		c, err := l.eng.Store.Case(ctx, g.ID)
		switch {
		case err != nil && ctx.Err() == nil:
			l.app.log.Debug("cannot look at the grant", slog.Any("error", err))
		case err == nil && c.Grant.State != grant.Active:
			return fmt.Errorf("grant %s was ended (%s)", c.Grant.ID, c.Grant.EndedBy)
		case err == nil:
			g = c.Grant
		}
		if !l.app.now().Before(g.Expires) {
			return errExpired
		}
	}
}
