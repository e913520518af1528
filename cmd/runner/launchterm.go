package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"runner/engine/grant"
	"runner/engine/transport/ssh"
)

// attach runs the shell with the streams of this process.
func (l *launch) attach(ctx context.Context, c *grant.Case) (int, error) {
	a := l.app
	ctx, cut := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		cut(l.eng.Attend(ctx, l.held, c.Grant.Expires, func(time.Time) {}))
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
