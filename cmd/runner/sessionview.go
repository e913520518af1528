package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"runner/engine/journal"
)

// sessionView is the terminal of a session: what the device writes goes through to
// it and into the recording, and what runner has to say comes in between where it
// breaks nothing. A program that has the whole screen is not drawn over: the bell
// rings, the title says it, and the line comes when the program has given the screen
// back.
type sessionView struct {
	app *app
	to  io.Writer
	rec *journal.Recording // nil: none
	// keys records what is typed as far as it is shown; nil: nothing of it.
	keys *echoed
	tty  bool

	mu     sync.Mutex // of the terminal
	screen journal.Screen

	waits   sync.Mutex
	waiting []string
	said    string // what the title says
	writing sync.WaitGroup
}

// Write passes output on.
func (v *sessionView) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.rec != nil {
		v.rec.Show(p)
	}
	if v.keys != nil {
		v.keys.shown(p)
	}
	v.screen.Write(p)
	n, err := v.to.Write(p)
	if err == nil {
		err = v.tell()
	}
	return n, err
}

// notice says something during the session. It never waits for the terminal, which
// may stand still.
func (v *sessionView) notice(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !v.tty {
		v.app.say("%s", text)
		return
	}
	v.waits.Lock()
	v.waiting = append(v.waiting, text)
	v.waits.Unlock()
	v.writing.Go(func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		_ = v.tell() // a terminal that is gone ends the session elsewhere
	})
}

// tell writes what waits, if it can be written now; mu is held.
func (v *sessionView) tell() error {
	if !v.screen.Between() {
		return nil
	}
	v.waits.Lock()
	defer v.waits.Unlock()
	if len(v.waiting) == 0 {
		return nil
	}
	var b strings.Builder
	latest := v.waiting[len(v.waiting)-1]
	if v.screen.Full() {
		if v.said == latest {
			return nil
		}
		b.WriteByte('\a')
		if v.said == "" {
			b.WriteString("\x1b[22;2t") // the title as it was is kept
		}
		fmt.Fprintf(&b, "\x1b]2;runner: %s\a", latest)
		v.said, v.waiting = latest, []string{latest}
	} else {
		if v.said != "" {
			b.WriteString("\x1b[23;2t")
		}
		for _, text := range v.waiting {
			fmt.Fprintf(&b, "\r\n%s\r\n", v.app.outColor.paint("7", "runner: "+text))
		}
		v.said, v.waiting = "", nil
	}
	_, err := io.WriteString(v.to, b.String())
	return err
}

// restore brings the terminal back to what a shell expects, when a session was cut
// off in the middle of a program.
func (v *sessionView) restore() {
	if !v.tty {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.screen.Full() || !v.screen.Between() {
		_, _ = v.to.Write([]byte("\x18\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>"))
		_, _ = v.to.Write(v.screen.Restore())
	}
}

// warnings says when the end of a session is near.
type warnings struct {
	view  *sessionView
	at    time.Time // the expiry that was told of
	least time.Duration
}

// nearEnds are how long before its end a session is told of it.
var nearEnds = []time.Duration{5 * time.Minute, time.Minute}

// look compares the time that is left with what was told.
func (w *warnings) look(now, expires time.Time) {
	left := expires.Sub(now)
	if !expires.Equal(w.at) {
		if !w.at.IsZero() {
			w.view.notice("extended: this session ends at %s, in %s", stamp(expires), span(left))
		}
		w.at, w.least = expires, left // what is nearer than the start is not told
		return
	}
	for _, near := range nearEnds {
		if left <= near && w.least > near {
			w.least = left
			w.view.notice("this session ends in %s, at %s; ~e on a new line extends it", span(near), stamp(expires))
			return
		}
	}
}
