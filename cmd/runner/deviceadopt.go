package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"runner/engine"
	"runner/engine/grant"
)

// decision is what the commands about findings have in common.
type decision struct{ credential, reason string }

func (d *decision) flags(c *cobra.Command) {
	c.Flags().StringVar(&d.credential, "credential", "", "log in as this credential says, and remove as it does; else one of the device's")
	c.Flags().StringVar(&d.reason, "reason", "", "why, for the audit")
}

// of is the decision about one finding, by the operator who calls.
func (d *decision) of(a *app, what string, args []string) (engine.Decision, error) {
	who, err := a.who()
	if err == nil {
		err = who.asOperator(what)
	}
	return engine.Decision{Device: args[0], Object: args[1], Credential: d.credential, Actor: who.name, Reason: d.reason}, err
}

func (a *app) deviceAdopt() *cobra.Command {
	var d decision
	c := leaf{
		use: "adopt DEVICE OBJECT", short: "take over an account that a scan found, and remove it when its mark says",
		example: "runner device adopt web-1 jit-4f7cq2m6ra --reason \"the state folder was lost\"\nrunner device adopt web-1 g-agq73j3",
		long: `For operators, and audited. OBJECT is the name of the account, or the start of the
grant that its mark names. The account becomes a grant with a removal that is due when
the mark says that the access ends; what is over already is removed now. Its requester
is (unknown), and it cannot be extended.

Only what bears a mark of runner is taken over, with a number that runner gives on that
device. The removal is that of the credential, or the one that runner brings along.`,
		args: needs("DEVICE", "OBJECT"), exits: []int{exitFile, exitDenied, exitUnreached, exitLeft, exitInterrupted},
		run: func(ctx context.Context, args []string) error {
			ask, err := d.of(a, "adopt accounts", args)
			if err != nil {
				return err
			}
			return a.adopt(ctx, ask)
		},
	}.command()
	d.flags(c)
	return c
}

func (a *app) deviceQuarantine() *cobra.Command {
	var (
		d    decision
		wait time.Duration
	)
	c := leaf{
		use: "quarantine DEVICE OBJECT", short: "lock an account that a scan found now, and remove it later",
		example: "runner device quarantine web-1 jit-4f7cq2m6ra --for 168h --reason \"nobody knows it\"",
		long: `For operators, and audited. What runner device adopt does, but the account is locked
and its sessions are ended at once, and it is removed after the wait. Both are jobs that
outlive this command. runner job pause keeps the removal waiting longer, and
runner grant revoke removes the account at once.`,
		args: needs("DEVICE", "OBJECT"), exits: []int{exitFile, exitDenied, exitUnreached, exitLeft, exitInterrupted},
		run: func(ctx context.Context, args []string) error {
			ask, err := d.of(a, "put accounts into quarantine", args)
			if err != nil {
				return err
			}
			if wait < time.Minute {
				return usagef("--for is %s: an account stays in quarantine for a minute at least", wait)
			}
			ask.Quarantine = wait
			return a.adopt(ctx, ask)
		},
	}.command()
	d.flags(c)
	c.Flags().DurationVar(&wait, "for", 7*24*time.Hour, "how long it is kept")
	return c
}

// adopt takes a finding over, does what is due about it, and prints its grant.
func (a *app) adopt(ctx context.Context, d engine.Decision) error {
	e, err := a.requesting(ctx)
	if err != nil {
		return err
	}
	c, err := e.Adopt(ctx, d)
	if err != nil {
		return err
	}
	if c, err = e.RunDue(ctx, c); err != nil {
		return err
	}
	v := viewGrant(&c, a.now())
	if err := a.answer(v, func(w io.Writer) { a.describeAdopted(w, &c) }); err != nil {
		return err
	}
	if c.Grant.State == grant.Ending || c.Locking() != nil {
		if j := c.Locking(); j != nil && j.LastError != "" {
			a.say("account %s is not locked yet: %s", c.Grant.Account, oneLine(j.LastError))
		}
		a.explainLeft(&c)
		return exitWith(exitLeft)
	}
	return nil
}

func (a *app) describeAdopted(w io.Writer, c *grant.Case) {
	g := &c.Grant
	text := "is removed, and nothing is left"
	switch {
	case c.Locking() != nil:
		text = "is to be locked, and removed at " + a.when(g.Expires)
	case g.State == grant.Active && !g.NoAccess.IsZero():
		text = "is locked, and removed at " + a.when(g.Expires)
	case g.State == grant.Active:
		text = "is removed at " + a.when(g.Expires)
	case !g.State.Final():
		text = "is not removed yet"
	}
	_, _ = fmt.Fprintf(w, "%s: account %s on %s %s\n", g.ID, oneLine(g.Account), g.Device, text)
}

func (a *app) deviceIgnore() *cobra.Command {
	var (
		d      decision
		length time.Duration
		until  string
	)
	c := leaf{
		use: "ignore DEVICE OBJECT --for DURATION | --until TIME", short: "hear no more of a finding until a time",
		example: "runner device ignore web-1 jit-4f7cq2m6ra --for 720h --reason \"made by the runner of the other team\"\n" +
			"runner device ignore web-1 'account old-ops' --until 2027-01-31T18:00:00Z --reason \"INC-42\"",
		long: `For operators, and audited. A scan leaves the finding out until then, as long as it
bears the same mark; runner device scan --all shows it, with who said so and why.`,
		args: needs("DEVICE", "OBJECT"), exits: []int{exitFile, exitDenied, exitUnreached},
		run: func(ctx context.Context, args []string) error {
			ask, err := d.of(a, "ignore findings", args)
			if err != nil {
				return err
			}
			to, err := a.moment("ignore", length, until)
			if err != nil {
				return err
			}
			e, err := a.planning()
			if err != nil {
				return err
			}
			i, err := e.Ignore(ctx, ask, to)
			if err != nil {
				return err
			}
			return a.answer(i, func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "%s on %s is ignored until %s\n", oneLine(i.Object), i.Device, a.when(i.Until))
			})
		},
	}.command()
	d.flags(c)
	c.Flags().DurationVar(&length, "for", 0, "how long from now, such as 720h")
	c.Flags().StringVar(&until, "until", "", "until when, such as 2026-01-31T18:00:00Z")
	return c
}
