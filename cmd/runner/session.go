package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"runner/engine/grant"
	"runner/engine/journal"
)

func (a *app) sessionCommand() *cobra.Command {
	return a.noun("session", "sessions that were opened by runner launch",
		"runner session list\nrunner session play s-abc --speed 2\nrunner session kill s-abc",
		a.sessionList(), a.sessionShow(), a.sessionPlay(), a.sessionKill())
}

// sessionStates are the words of --state.
var sessionStates = []string{"open", "ended"}

// sessionJSON is a session as it is printed.
type sessionJSON struct {
	grant.Session

	State string `json:"state"`
}

// viewSession fills in how much is recorded of a session that has not said so: it
// is open, or its program died.
func (a *app) viewSession(ctx context.Context, x grant.Session) (sessionJSON, error) {
	v := sessionJSON{Session: x, State: "ended"}
	if x.Ended.IsZero() {
		v.State = "open"
	}
	if x.Recorded > 0 || x.Kind == grant.SessionLocal {
		return v, nil
	}
	s, err := a.store()
	if err != nil {
		return v, err
	}
	stored, end, err := s.LogSize(ctx, x.ID)
	v.Recorded, v.Dropped = end, end-stored
	return v, err
}

func (a *app) sessionList() *cobra.Command {
	f := grant.Filter{Limit: 100}
	c := leaf{
		use: "list", short: "list sessions, newest first",
		example: "runner session list\nrunner session list --state open\nrunner session list --device web-1 -o json",
		long:    "Operators see those of everybody, others their own.",
		run: func(ctx context.Context, _ []string) error {
			if err := knownWords("--state", f.States, sessionStates); err != nil {
				return err
			}
			who, err := a.who()
			if err != nil {
				return err
			}
			if !who.operator {
				f.Requester = who.name
			}
			s, err := a.store()
			if err != nil {
				return err
			}
			list, err := s.Sessions(ctx, f)
			if err != nil {
				return err
			}
			out := make([]sessionJSON, 0, len(list))
			for _, x := range list {
				v, err := a.viewSession(ctx, x)
				if err != nil {
					return err
				}
				out = append(out, v)
			}
			return a.answer(out, func(w io.Writer) { a.sessionTable(w, out) })
		},
	}.command()
	fs := c.Flags()
	fs.StringSliceVar(&f.States, "state", nil, "only these: open, ended")
	fs.StringVar(&f.Device, "device", "", "only of this device")
	fs.StringVar(&f.Requester, "requester", "", "only of this requester")
	fs.StringVar(&f.Credential, "credential", "", "only by this credential")
	fs.StringVar(&f.Grant, "grant", "", "only by this grant")
	fs.IntVar(&f.Limit, "limit", f.Limit, "how many at most")
	return c
}

func (a *app) sessionTable(w io.Writer, list []sessionJSON) {
	t := table{head: []string{"SESSION", "STATE", "REQUESTER", "DEVICE", "ACCOUNT", "OPENED", "LASTED", "END", "RECORDED"}}
	for i := range list {
		x := &list[i]
		end := ""
		if x.State == "ended" {
			end = x.EndedBy
			if x.EndedBy == grant.SessionExit {
				end = fmt.Sprintf("exit %d", x.Status)
			}
		}
		t.add(false, x.ID, x.State, x.Requester, x.Device, x.Account, a.away(x.Opened), a.lasted(&x.Session), end, recordedSize(x))
	}
	a.table(w, t)
}

// lasted says how long the person was in.
func (a *app) lasted(x *grant.Session) string {
	switch {
	case x.Started.IsZero():
		return "-"
	case x.Ended.IsZero():
		return span(a.now().Sub(x.Started))
	}
	return span(x.Ended.Sub(x.Started))
}

func recordedSize(x *sessionJSON) string {
	switch {
	case x.Recorded == 0:
		return "-"
	case forgotten(&x.Session):
		return "deleted"
	case x.Recorded < 10<<10:
		return fmt.Sprintf("%d B", x.Recorded)
	case x.Recorded < 10<<20:
		return fmt.Sprintf("%d KiB", x.Recorded>>10)
	}
	return fmt.Sprintf("%d MiB", x.Recorded>>20)
}

// sat loads a session that the caller may see.
func (a *app) sat(ctx context.Context, id, what string) (grant.Session, person, error) {
	who, err := a.who()
	if err != nil {
		return grant.Session{}, who, err
	}
	s, err := a.store()
	if err != nil {
		return grant.Session{}, who, err
	}
	x, err := s.Session(ctx, id)
	if err == nil {
		err = who.mine(&grant.Grant{ID: x.Grant, Requester: x.Requester}, what)
	}
	return x, who, err
}

func (a *app) sessionShow() *cobra.Command {
	var cast bool
	c := leaf{
		use: "show SESSION", short: "everything about a session, or its recording",
		example: "runner session show s-abc\nrunner session show s-abc --cast > session.cast",
		long:    "--cast prints the recording as asciinema plays it (asciicast version 2).",
		args:    needs("SESSION"), exits: []int{exitDenied},
		run: func(ctx context.Context, args []string) error {
			x, who, err := a.sat(ctx, args[0], "look at its session")
			if err != nil {
				return err
			}
			if cast {
				if err := stillRecorded(&x); err != nil {
					return err
				}
				if err := a.notePlayed(ctx, x, who); err != nil {
					return err
				}
				s, err := a.store()
				if err != nil {
					return err
				}
				return journal.Cast(a.stdout, x.Account+" on "+x.Device, "xterm-256color", journal.Moments(ctx, s, x.ID))
			}
			v, err := a.viewSession(ctx, x)
			if err != nil {
				return err
			}
			return a.answer(v, func(w io.Writer) { a.describeSession(w, &v) })
		},
	}.command()
	c.Flags().BoolVar(&cast, "cast", false, "print the recording in asciinema's format")
	return c
}

func (a *app) describeSession(w io.Writer, v *sessionJSON) {
	end := ""
	if v.State == "ended" {
		end = fmt.Sprintf("%s, by %s", stamp(v.Ended), v.EndedBy)
		if v.EndedBy == grant.SessionExit {
			end += fmt.Sprintf(" %d", v.Status)
		}
	}
	rec := recordedSize(v)
	if v.Dropped > 0 && !forgotten(&v.Session) {
		rec += fmt.Sprintf(", %d bytes of it are missing", v.Dropped)
	}
	fields(w, field{"session", v.ID}, field{"state", v.State}, field{"grant", v.Grant}, field{"requester", v.Requester}, field{"device", v.Device},
		field{"account", v.Account}, field{"kind", v.Kind}, field{"command", v.Command}, field{"client", v.Client}, field{"opened", a.when(v.Opened)},
		field{"started", a.when(v.Started)}, field{"ended", end}, field{"lasted", a.lasted(&v.Session)}, field{"recorded", rec})
	if v.Recorded > 0 && !forgotten(&v.Session) {
		a.hint("runner session play %s", v.ID)
	}
}

// forgotten reports whether a recording was deleted.
func forgotten(x *grant.Session) bool { return x.Recorded > 0 && x.Dropped >= x.Recorded }

// stillRecorded refuses to play what is not kept any more.
func stillRecorded(x *grant.Session) error {
	if forgotten(x) {
		return usagef("the recording of session %s (%s) is not kept any more: retention in runner.yaml says for how long", x.ID, bytesText(x.Recorded))
	}
	return nil
}

// notePlayed writes into the audit who looked at a recording.
func (a *app) notePlayed(ctx context.Context, x grant.Session, who person) error {
	s, err := a.store()
	if err != nil {
		return err
	}
	return s.ChangeSession(ctx, x.ID, func(x *grant.Session) error { x.Played(a.now(), who.name); return nil })
}

func (a *app) sessionKill() *cobra.Command {
	return leaf{
		use: "kill SESSION", short: "end a session, its grant and its account now",
		example: "runner session kill s-abc",
		long: `What runner grant end does with the grant of the session: the person's terminal is cut
off, the processes on the device are ended, and the account is removed.`,
		args: needs("SESSION"), exits: []int{exitDenied, exitLeft, exitInterrupted},
		run: func(ctx context.Context, args []string) error {
			x, _, err := a.sat(ctx, args[0], "end its session")
			if err != nil {
				return err
			}
			if !x.Ended.IsZero() {
				return fmt.Errorf("session %s ended at %s", x.ID, stamp(x.Ended))
			}
			return a.end(ctx, x.Grant, "end")
		},
	}.command()
}

// playing is how a recording is played.
type playing struct {
	speed float64
	idle  time.Duration
	typed bool
}

func (a *app) sessionPlay() *cobra.Command {
	p := playing{speed: 1, idle: 2 * time.Second}
	c := leaf{
		use: "play SESSION", short: "play the recording of a session",
		example: "runner session play s-abc\nrunner session play s-abc --speed 4 --idle 1s\nrunner session play s-abc > transcript",
		long: `On a terminal as it was seen, without what would change the terminal itself, such as
titles and the clipboard. Elsewhere the text at once, without colours and cursor.
Who played what is in the audit.`,
		args: needs("SESSION"), exits: []int{exitDenied, exitInterrupted},
		run: func(ctx context.Context, args []string) error {
			if p.speed <= 0 || p.idle < 0 {
				return usagef("--speed has to be more than 0, and --idle not less")
			}
			x, who, err := a.sat(ctx, args[0], "play its session")
			if err != nil {
				return err
			}
			if err := stillRecorded(&x); err != nil {
				return err
			}
			if err := a.notePlayed(ctx, x, who); err != nil {
				return err
			}
			return a.play(ctx, x.ID, p)
		},
	}.command()
	c.Flags().Float64Var(&p.speed, "speed", p.speed, "how many times as fast")
	c.Flags().DurationVar(&p.idle, "idle", p.idle, "the longest pause")
	c.Flags().BoolVar(&p.typed, "typed", false, "only the keys that were typed, where they are recorded")
	return c
}

// play draws a recording.
func (a *app) play(ctx context.Context, id string, p playing) error {
	s, err := a.store()
	if err != nil {
		return err
	}
	var (
		screen  journal.Screen
		cleaner journal.Cleaner
		last    time.Time
		some    bool
	)
	live := a.outTTY && !p.typed
	if live {
		defer func() { _, _ = a.stdout.Write(append(screen.Restore(), '\r', '\n')) }()
	}
	stream := journal.Shown
	if p.typed {
		stream = journal.Typed
	}
	for m, err := range journal.Moments(ctx, s, id) {
		if err != nil {
			return err
		}
		some = true
		if live && !last.IsZero() {
			if err := pause(ctx, min(p.idle, time.Duration(float64(m.At.Sub(last))/p.speed))); err != nil {
				return exitWith(exitInterrupted)
			}
		}
		last = m.At
		if m.Missing > 0 {
			a.say("%d bytes are missing here", m.Missing)
		}
		if m.Stream != stream {
			continue
		}
		out := screen.Write(m.Data)
		if !live {
			out = cleaner.Write(m.Data)
		}
		if _, err := a.stdout.Write(out); err != nil {
			return fmt.Errorf("play: %w", err)
		}
	}
	if !some {
		return journal.ErrNothingRecorded
	}
	if live {
		return nil
	}
	_, err = a.stdout.Write(slices.Concat(cleaner.Flush(), []byte("\n")))
	return errors.Join(err, ctx.Err())
}
