package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"runner/engine"
	"runner/engine/grant"
)

// rebuildJSON is what a rebuild did.
type rebuildJSON struct {
	Taken     []grantJSON   `json:"taken"`
	Left      []leftOutJSON `json:"left"`
	Unreached []string      `json:"unreached"`
	Fuse      *fuseJSON     `json:"fuse,omitempty"`
}

// leftOutJSON is a finding that is left to people.
type leftOutJSON struct {
	findingJSON

	Why string `json:"why_left"`
}

// fuseJSON is what a rebuild would do.
type fuseJSON struct {
	Count     int           `json:"count"`
	Now       int           `json:"now"`
	Why       string        `json:"why"`
	WouldTake []findingJSON `json:"would_take"`
}

func (a *app) deviceRebuild() *cobra.Command {
	var (
		d   decision
		yes int
	)
	c := leaf{
		use: "rebuild [DEVICE]...", short: "make grants of all that the store has lost, from what devices say",
		example: "runner device rebuild\nrunner device rebuild --yes-remove 14 --reason \"state restored from the backup of Tuesday\"\nrunner device rebuild 'web-*'",
		long: `For operators, and audited. For a store that was lost, or restored from a backup. All
devices are scanned, or those that are named, also by patterns. Every account that bears
a mark and that the store does not know becomes a grant again, as runner device adopt
makes one: what is valid still stays until its mark says, what is over has a removal that
is due. What was removed, and is there again, has its removal due again. Nothing is
removed by this command: runner sweep and runner serve do.

When the store is empty or older than the devices, or when more than 10 % of what bears a
mark would get a removal, nothing is done and the exit code is 10, unless --yes-remove
says exactly how many accounts it is about.`,
		args: cobra.ArbitraryArgs, exits: []int{exitFile, exitDenied, exitUnreached, exitLeft, exitFuse, exitInterrupted},
		run: func(ctx context.Context, args []string) error {
			who, err := a.who()
			if err == nil {
				err = who.asOperator("rebuild the store")
			}
			if err != nil {
				return err
			}
			e, err := a.planning()
			if err != nil {
				return err
			}
			all := slices.Sorted(maps.Keys(e.Inventory.Devices))
			names := all
			if len(args) > 0 {
				if names, err = matching("device", args, all); err != nil {
					return err
				}
			}
			scans := a.scanAll(ctx, e, names, d.credential)
			if ctx.Err() != nil {
				return exitWith(exitInterrupted)
			}
			done, err := e.Rebuild(ctx, scans, yes, who.name, d.reason)
			return a.answerRebuild(scans, &done, err)
		},
	}.command()
	d.flags(c)
	c.Flags().IntVar(&yes, "yes-remove", 0, "how many accounts get a removal, exactly")
	return c
}

func (a *app) answerRebuild(scans []*engine.Scan, done *engine.Rebuilt, err error) error {
	v := rebuildJSON{Taken: []grantJSON{}, Left: []leftOutJSON{}, Unreached: []string{}}
	for _, s := range scans {
		if s.Err != nil {
			v.Unreached = append(v.Unreached, s.Device)
			a.say("%s was not scanned: %s", s.Device, oneLine(problem(s.Err)))
		}
	}
	for i := range done.Taken {
		v.Taken = append(v.Taken, viewGrant(&done.Taken[i], a.now()))
	}
	for _, l := range done.Left {
		v.Left = append(v.Left, leftOutJSON{viewFinding(l.Device, l.Finding), problem(errors.New(l.Why))})
	}
	fuse, tripped := errors.AsType[*engine.FuseError](err)
	switch {
	case tripped:
		v.Fuse = &fuseJSON{Count: fuse.Count, Now: fuse.Now, Why: fuse.Why, WouldTake: []findingJSON{}}
		for _, w := range fuse.Would {
			v.Fuse.WouldTake = append(v.Fuse.WouldTake, viewFinding(w.Device, w.Finding))
		}
	case err != nil:
		return err
	}
	if aerr := a.answer(v, func(w io.Writer) { a.describeRebuild(w, &v, done.Taken) }); aerr != nil {
		return aerr
	}
	switch {
	case tripped:
		return err
	case len(v.Unreached) > 0:
		return exitWith(exitUnreached)
	case len(v.Left) > 0:
		return exitWith(exitLeft)
	}
	return nil
}

func (a *app) describeRebuild(w io.Writer, v *rebuildJSON, taken []grant.Case) {
	t := table{head: []string{"DEVICE", "WHAT", "OBJECT", "UID", "ENDS", "GRANT", "WHY"}}
	if v.Fuse != nil {
		for _, f := range v.Fuse.WouldTake {
			a.findingRow(&t, &f)
		}
	}
	for _, l := range v.Left {
		f := l.findingJSON
		f.What, f.Why = "left", []string{l.Why}
		a.findingRow(&t, &f)
	}
	if len(t.rows) > 0 {
		a.table(w, t)
	}
	due := 0
	for i := range taken {
		g := &taken[i].Grant
		what := "is removed at " + a.when(g.Expires)
		if g.State == grant.Ending {
			due++
			what = "is due to be removed"
		}
		_, _ = fmt.Fprintf(w, "%s: account %s on %s %s\n", g.ID, oneLine(g.Account), g.Device, what)
	}
	if v.Fuse == nil {
		a.say("%s taken over", plural(len(taken), "account"))
	}
	if due > 0 {
		a.hint("runner sweep removes the %d that are due", due)
	}
}

func (a *app) deviceRetire() *cobra.Command {
	var d decision
	c := leaf{
		use: "retire DEVICE --reason TEXT", short: "end the grants of a device that is gone for good",
		example: "runner device retire web-1 --reason \"scrapped, CHG-4711\"\nrunner device retire web-1 --reason \"installed anew\" -o json",
		long: `For operators, and audited. A removal is tried for ever, also on a device that exists no
more. This says that it does not: its open grants become gone, with the reason and with
what answers at its address as evidence. That may be nobody, or another machine (another
host key) on which nothing bears the name or the number of an account. A device that
answers as it did is refused. When one comes back with the identity that it had, the
removals of its grants are due again.`,
		args: needs("DEVICE"), exits: []int{exitFile, exitDenied},
		run: func(ctx context.Context, args []string) error {
			ask, err := d.of(a, "retire devices", append(args, ""))
			if err != nil {
				return err
			}
			e, err := a.planning()
			if err != nil {
				return err
			}
			a.doing("asking whether " + args[0] + " answers")
			gone, err := e.Retire(ctx, ask)
			if err != nil {
				return err
			}
			views := []grantJSON{}
			for i := range gone {
				views = append(views, viewGrant(&gone[i], a.now()))
			}
			return a.answer(views, func(w io.Writer) {
				for i := range gone {
					g := &gone[i].Grant
					text := string(g.State)
					if g.Receipt != nil && g.Receipt.Gone != "" {
						text += ": " + oneLine(g.Receipt.Gone)
					}
					_, _ = fmt.Fprintf(w, "%s: account %s on %s is %s\n", g.ID, oneLine(g.Account), g.Device, text)
				}
			})
		},
	}.command()
	d.flags(c)
	return c
}
