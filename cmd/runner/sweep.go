package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"runner/engine"
	"runner/engine/grant"
)

// Names under which the store notes when somebody last looked for due work.
const (
	markServed = "served"
	markSwept  = "swept"
)

// sweepJSON is what a sweep did and found.
type sweepJSON struct {
	Reaped  int         `json:"reaped"`
	Removed []grantJSON `json:"removed"`
	Open    []grantJSON `json:"open"`
	Overdue int         `json:"overdue"`
	Waiting int         `json:"waiting"`
	Found   int         `json:"findings"`
	Errors  []string    `json:"errors"`
}

func (a *app) sweepCommand() *cobra.Command {
	var plan bool
	c := leaf{
		use: "sweep", short: "finish what was left: run every removal that is due",
		example: "runner sweep --plan\nrunner sweep\n* * * * * runner --workspace /srv/access sweep   # in a crontab",
		long: `For a timer or cron. It takes over the jobs of processes that died, cancels
requests that nobody started, and tries every due removal once, several devices at
a time; not on devices that did not answer just before, until their pause is over.
It never creates anything. Findings of the latest scans that nobody decided about are
told, too: exit 9 says that something is overdue, or that there are such. runner init prints the lines for a timer.`,
		exits: []int{exitLeft, exitInterrupted},
		run: func(ctx context.Context, _ []string) error {
			e, err := a.removing(ctx)
			if err != nil {
				return err
			}
			a.many = true
			if plan {
				return a.planSweep(ctx, e)
			}
			return a.sweep(ctx, e)
		},
	}.command()
	c.Flags().BoolVar(&plan, "plan", false, "only print what would be removed")
	return c
}

// planSweep prints the removals that a sweep would try now.
func (a *app) planSweep(ctx context.Context, e *engine.Engine) error {
	due, err := e.Plan(ctx)
	if err != nil {
		return err
	}
	return a.answerCases(due, func(io.Writer) {})
}

func (a *app) sweep(ctx context.Context, e *engine.Engine) error {
	s, err := a.store()
	if err != nil {
		return err
	}
	if err := s.Mark(ctx, markSwept, a.now()); err != nil {
		return err
	}
	swept, err := e.Sweep(ctx)
	if err != nil {
		return err
	}
	v := sweepJSON{Reaped: swept.Reaped, Removed: []grantJSON{}, Open: []grantJSON{}, Overdue: swept.Overdue, Waiting: swept.Waiting, Errors: []string{}}
	for i := range swept.Removed {
		v.Removed = append(v.Removed, viewGrant(&swept.Removed[i], a.now()))
	}
	for i := range swept.Open {
		v.Open = append(v.Open, viewGrant(&swept.Open[i], a.now()))
	}
	if err := a.retain(ctx, e, sweepPatience); err != nil {
		swept.Errors = append(swept.Errors, err)
	}
	for _, prefix := range []string{scratchBackup, scratchRestore} {
		a.sweepScratch(a.ws.abs, prefix, false)
	}
	found, _, err := e.Alarms(ctx)
	if err != nil {
		return err
	}
	for _, n := range found {
		v.Found += n
	}
	for _, err := range swept.Errors {
		v.Errors = append(v.Errors, problem(err))
		a.say("%s", problem(err))
	}
	if err := a.answer(v, func(w io.Writer) { a.describeSweep(w, &v, swept.Open) }); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return exitWith(exitInterrupted)
	case len(v.Errors) > 0:
		return exitWith(exitFailed)
	case v.Overdue > 0, v.Found > 0:
		return exitWith(exitLeft)
	}
	return nil
}

func (a *app) describeSweep(w io.Writer, v *sweepJSON, open []grant.Case) {
	if len(open) > 0 {
		t := table{head: []string{"GRANT", "DEVICE", "ACCOUNT", "OVERDUE", "LAST ERROR", "NEXT"}}
		for i := range open {
			c, g := &open[i], &v.Open[i]
			t.add(true, g.ID, g.Device, g.Account, span(c.Overdue(a.now())), cut(oneLine(c.Removal().LastError), 60), a.nextText(g))
		}
		a.table(w, t)
	}
	text := fmt.Sprintf("removed %d, still open %d, waiting %d", len(v.Removed), v.Overdue, v.Waiting)
	if v.Reaped > 0 {
		text += fmt.Sprintf(", taken over %d", v.Reaped)
	}
	_, _ = fmt.Fprintln(w, text)
	if v.Found > 0 {
		_, _ = fmt.Fprintln(w, a.outColor.red(plural(v.Found, "finding")+" of scans about which nothing was done: runner device scan --last"))
	}
}
