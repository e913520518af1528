package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/journal"
	"runner/engine/secret"
	"runner/engine/transport/ssh"
)

// sitting is a session while it runs: the person's streams, the recording, and what
// is told and asked meanwhile.
type sitting struct {
	l    *launch
	view *sessionView
	cut  context.CancelCauseFunc
	work sync.WaitGroup // extensions that were asked for inside
}

// attach runs the shell with the streams of this process.
func (l *launch) attach(ctx context.Context, c *grant.Case, mask *secret.Mask) (status int, err error) {
	a := l.app
	ctx, cut := context.WithCancelCause(ctx)
	t := &sitting{l: l, cut: cut, view: &sessionView{app: a, to: a.stdout}}
	if l.record != inventory.RecordNothing {
		t.view.rec = journal.Record(l.eng.Store, l.held.ID, mask, a.now) //nolint:contextcheck // it is written to its end also when ctx is over
	}
	if l.record == inventory.RecordInput {
		t.view.keys = &echoed{rec: t.view.rec}
	}
	s := ssh.Session{Stdin: a.stdin, Stdout: t.view, Stderr: a.stderr, Term: a.env("TERM"), Env: a.locale()}
	if s.Stdin == nil {
		s.Stdin = io.MultiReader() // nothing
	}
	if t.view.rec != nil {
		s.Stderr = recorded{to: a.stderr, rec: t.view.rec}
	}
	if in, is := a.stdin.(*os.File); is && term.IsTerminal(int(in.Fd())) && a.outTTY {
		restore, err := t.onTerminal(ctx, &s, in)
		if err != nil {
			return exitFailed, err
		}
		defer restore()
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		l.calm()
		near := warnings{view: t.view}
		cut(l.eng.Attend(ctx, l.held, c.Grant.Expires, func(expires time.Time) { near.look(a.now(), expires) }))
	}()
	status, err = l.keep.Run(ctx, s)
	cut(nil)
	<-watched
	t.work.Wait()
	l.closeRecording(t.view.rec) //nolint:contextcheck // what was shown is kept also when ctx is over
	return status, err
}

// onTerminal gives the session a terminal of its own, like the person's.
func (t *sitting) onTerminal(ctx context.Context, s *ssh.Session, in *os.File) (restore func(), err error) {
	out, is := t.l.app.stdout.(*os.File)
	if !is {
		return nil, errors.New("stdout is no terminal")
	}
	cooked, err := raw(in)
	if err != nil {
		return nil, err
	}
	t.view.tty = true
	s.Size = func() (cols, rows int) { //nolint:contextcheck // likewise
		cols, rows, _ = term.GetSize(int(out.Fd())) // unknown is 0
		if t.view.rec != nil {
			t.view.rec.Resize(cols, rows)
		}
		return cols, rows
	}
	resized, stop := resizes()
	s.Resized = resized
	keys := &escapes{from: s.Stdin, do: func(key byte) bool { return t.escape(ctx, key) }}
	if t.view.keys != nil {
		keys.typed = t.view.keys.typed
	}
	s.Stdin = keys
	return func() { stop(); t.view.restore(); cooked() }, nil
}

// errLeft says that the person has ended the session by ~.
var errLeft = errors.New("the person ended it")

// escape does what a key after a tilde asks for; false: it asks for nothing.
func (t *sitting) escape(ctx context.Context, key byte) bool {
	switch key {
	case '.':
		t.cut(errLeft)
	case '?':
		t.view.notice("%s", escapeHelp)
	case 'e':
		t.work.Go(func() { t.extend(ctx) })
	default:
		return false
	}
	return true
}

// extend asks for as much time again as the session was given.
func (t *sitting) extend(ctx context.Context) {
	l := t.l
	c, err := l.eng.Store.Case(ctx, l.held.Grant)
	if err == nil {
		_, err = l.eng.Extend(ctx, c.Grant.ID, c.Grant.For, l.ask.Caller)
	}
	if err != nil && ctx.Err() == nil {
		t.view.notice("not extended: %s", oneLine(err.Error()))
	}
}

// recorded is a stream that is recorded too.
type recorded struct {
	to  io.Writer
	rec *journal.Recording
}

func (r recorded) Write(p []byte) (int, error) {
	r.rec.Show(p)
	return r.to.Write(p)
}

// closeRecording stores the end of a recording.
func (l *launch) closeRecording(rec *journal.Recording) {
	if rec == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var err error
	if l.held.Recorded, l.held.Dropped, err = rec.Close(ctx); err != nil {
		l.app.warn("the recording is not complete: %s", problem(err))
	}
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
