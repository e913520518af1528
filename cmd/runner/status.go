package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"runner/engine/grant"
	"runner/engine/lang"
)

// statusJSON is how a workspace is.
type statusJSON struct {
	Workspace string    `json:"workspace"`
	Shared    bool      `json:"shared"` // with other machines
	Served    time.Time `json:"served_at,omitzero"`
	Swept     time.Time `json:"swept_at,omitzero"`
	Running   int       `json:"jobs_running"`
	Waiting   int       `json:"removals_waiting"`
	Overdue   int       `json:"removals_overdue"`
	Blocked   int       `json:"removals_blocked"`
	Silent    int       `json:"devices_silent"`
	Scanned   int       `json:"devices_scanned"`
	Failed    int       `json:"scans_failed"`
	Findings  int       `json:"findings"`
	Oldest    time.Time `json:"oldest_scan,omitzero"` // of the latest ones of all devices
	Grants    int64     `json:"grants_bytes"`
	GrantFree int64     `json:"grants_free_bytes"`
	Logs      int64     `json:"logs_bytes"`
	LogsFree  int64     `json:"logs_free_bytes"`
}

func (a *app) statusCommand() *cobra.Command {
	return leaf{
		use: "status", short: "tell whether this workspace is looked after, what is open, and how much disk it takes",
		example: "runner status\nrunner status -o json",
		long: `No device is asked. Exit 9 says that a removal is overdue, or that a scan found what
nobody has decided about.`,
		exits: []int{exitLeft},
		run:   func(ctx context.Context, _ []string) error { return a.status(ctx) },
	}.command()
}

func (a *app) status(ctx context.Context) error {
	v, err := a.viewStatus(ctx)
	if err != nil {
		return err
	}
	if err := a.answer(v, func(w io.Writer) { a.describeStatus(w, v) }); err != nil {
		return err
	}
	if err := a.warnUnattended(ctx); err != nil {
		return err
	}
	if v.Overdue+v.Findings > 0 {
		return exitWith(exitLeft)
	}
	return nil
}

func (a *app) viewStatus(ctx context.Context) (*statusJSON, error) {
	e, err := a.looking()
	if err != nil {
		return nil, err
	}
	s, err := a.store()
	if err != nil {
		return nil, err
	}
	v := &statusJSON{Workspace: a.ws.abs, Shared: s.Shared()}
	for what, at := range map[string]*time.Time{markServed: &v.Served, markSwept: &v.Swept} {
		if *at, err = s.Marked(ctx, what); err != nil {
			return nil, err
		}
	}
	if _, v.Overdue, err = s.Overdue(ctx, a.now(), 1); err != nil {
		return nil, err
	}
	tally, err := s.Tally(ctx)
	if err != nil {
		return nil, err
	}
	v.Blocked = tally.Blocked
	for kind, states := range tally.Jobs {
		v.Running += states[grant.Running]
		if kind.Removal() {
			v.Waiting += states[grant.Waiting] + states[grant.Paused]
		}
	}
	v.Waiting = max(0, v.Waiting-v.Overdue)
	silent, err := s.Silences(ctx)
	if err != nil {
		return nil, err
	}
	v.Silent = len(silent)
	last, err := e.LastScans(ctx, false)
	if err != nil {
		return nil, err
	}
	v.Scanned = len(last)
	for i := range last {
		if last[i].Error != "" {
			v.Failed++
		}
		if at := last[i].At; !at.IsZero() && (v.Oldest.IsZero() || at.Before(v.Oldest)) {
			v.Oldest = at
		}
	}
	found, _, err := e.Alarms(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range found {
		v.Findings += n
	}
	room, err := s.Room(ctx)
	v.Grants, v.GrantFree, v.Logs, v.LogsFree = room.Grants, room.GrantsFree, room.Logs, room.LogsFree
	return v, err
}

func (a *app) describeStatus(w io.Writer, v *statusJSON) {
	ago := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return a.away(t)
	}
	store := "state/ of the workspace"
	if v.Shared {
		store = "a PostgreSQL that machines share"
	}
	scans := "none yet"
	if v.Scanned > 0 {
		scans = fmt.Sprintf("%s, %d failed, the oldest %s; %s", plural(v.Scanned, "device"), v.Failed, ago(v.Oldest), plural(v.Findings, "finding"))
	}
	every := never
	if a.ws.scan.every > 0 {
		every = "every " + lang.Span(a.ws.scan.every)
		if len(a.ws.scan.devices) > 0 {
			every += " of " + strings.Join(a.ws.scan.devices, ", ")
		}
	}
	kept := func(d time.Duration) string {
		if d == 0 {
			return "for ever"
		}
		return lang.Span(d)
	}
	fields(w, field{"workspace", v.Workspace}, field{"store", store},
		field{"served", ago(v.Served)}, field{"swept", ago(v.Swept)},
		field{"removals", fmt.Sprintf("%d overdue, %d blocked, %d waiting; %s running", v.Overdue, v.Blocked, v.Waiting, plural(v.Running, "job"))},
		field{"devices", fmt.Sprintf("%d do not answer", v.Silent)},
		field{"scans", scans}, field{"scanned", every},
		field{"grants", room(v.Grants, v.GrantFree)}, field{"logs", room(v.Logs, v.LogsFree)},
		field{"kept", fmt.Sprintf("recordings %s, logs %s", kept(a.ws.retention.Recordings), kept(a.ws.retention.Logs))})
	if v.Overdue > 0 {
		a.hint("runner grant list --state ending shows what is overdue")
	}
	if v.Findings > 0 {
		a.hint("runner device scan --last shows the findings")
	}
}

// room writes a size, and how much of it is used again.
func room(size, free int64) string {
	if free < 1<<20 {
		return bytesText(size)
	}
	return bytesText(size) + ", of which " + bytesText(free) + " are free"
}
