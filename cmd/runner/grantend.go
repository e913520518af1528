package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"runner/engine"
	"runner/engine/grant"
)

// pollEvery is how often this process looks at what another one is doing.
const pollEvery = 200 * time.Millisecond

func (a *app) grantEnd() *cobra.Command {
	return leaf{
		use: "end GRANT", short: "end a grant and remove its account now",
		example: "runner grant end g-abc\nrunner grant end g-abc -o json",
		long: `The removal runs in this process, and its receipt is printed. When something is
in the way, the account is locked as far as possible, and the removal is tried
again for ever by runner serve and runner sweep.`,
		args: needs("GRANT"), exits: []int{exitDenied, exitLeft, exitInterrupted},
		run: func(ctx context.Context, args []string) error { return a.end(ctx, args[0], "end") },
	}.command()
}

func (a *app) grantRevoke() *cobra.Command {
	return leaf{
		use: "revoke GRANT", short: "take a grant away from its requester",
		example: "runner grant revoke g-abc",
		long:    "For operators. What happens is what runner grant end does; the audit says that it was revoked.",
		args:    needs("GRANT"), exits: []int{exitDenied, exitLeft, exitInterrupted},
		run: func(ctx context.Context, args []string) error { return a.end(ctx, args[0], "revoke") },
	}.command()
}

// end ends a grant, runs its removal and prints the receipt.
func (a *app) end(ctx context.Context, id, why string) error {
	e, err := a.removing(ctx)
	if err != nil {
		return err
	}
	c, who, err := a.held(ctx, e, id, "end it")
	if err == nil && why == "revoke" {
		err = who.asOperator("revoke grants")
	}
	if err != nil {
		return err
	}
	if c, err = e.End(ctx, c.Grant.ID, who.name, why); err != nil {
		return err
	}
	if c, err = a.finish(ctx, e, c); err != nil {
		return err
	}
	if err := a.answerReceipt(&c); err != nil {
		return err
	}
	if !c.Grant.State.Final() {
		a.explainLeft(&c)
		return exitWith(exitLeft)
	}
	return nil
}

// finish tries the due removal of a grant once. A creation or removal that
// another process is at is waited for.
func (a *app) finish(ctx context.Context, e *engine.Engine, c grant.Case) (grant.Case, error) {
	for !c.Grant.State.Final() {
		switch r := c.Removal(); {
		case running(&c):
			a.doing("waiting for another process that works on grant " + c.Grant.ID)
		case !r.DueAt(a.now()):
			return c, nil // paused, or tried a moment ago
		default:
			before := r.Attempt
			out, err := e.Remove(ctx, c)
			if err != nil {
				return out, err
			}
			c = out
			if c.Removal().Attempt > before && !running(&c) {
				return c, ctx.Err()
			}
			a.doing("waiting for another job on " + c.Grant.Device)
		}
		if err := pause(ctx, pollEvery); err != nil {
			return c, err
		}
		if _, err := e.Reap(ctx); err != nil { // that process may have died
			return c, err
		}
		var err error
		if c, err = e.Store.Case(ctx, c.Grant.ID); err != nil {
			return c, err
		}
	}
	return c, nil
}

// running reports whether a job of the grant is running.
func running(c *grant.Case) bool {
	for i := range c.Jobs {
		if c.Jobs[i].State == grant.Running {
			return true
		}
	}
	return false
}

// pause waits for d, or returns the error of ctx when that ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// explainLeft says what keeps a removal from being done and what happens next.
func (a *app) explainLeft(c *grant.Case) {
	r := c.Removal()
	if r == nil {
		return
	}
	if r.LastError != "" {
		a.say("account %s is not removed from %s yet: %s", c.Grant.Account, c.Grant.Device, oneLine(r.LastError))
	}
	if r.BlockedBy != "" {
		a.say("left: %s", oneLine(r.BlockedBy))
	}
	access := "it can still be used"
	if !c.Grant.NoAccess.IsZero() {
		access = "it cannot be used any more since " + stamp(c.Grant.NoAccess)
	} else if !c.Grant.Backstop.IsZero() {
		access = "the device itself ends access at " + stamp(c.Grant.Backstop)
	}
	a.say("access: %s", access)
	if n := next(c, a.now()); n != nil {
		at := ""
		if !n.At.IsZero() {
			at = " at " + a.when(n.At)
		}
		a.say("next: %s%s, by runner serve or the first runner sweep after that", n.What, at)
	}
	if r.Execution != "" {
		a.hint("runner execution show %s --failed", r.Execution)
	}
}

// explainFailure says why a creation did not succeed, what became of what it
// had done, and returns the exit code.
func (a *app) explainFailure(ctx context.Context, c *grant.Case) error {
	g := &c.Grant
	f := c.Forward()
	outcome := ""
	if s, err := a.store(); err == nil && f != nil && f.Execution != "" {
		if x, err := s.Execution(ctx, f.Execution); err == nil {
			outcome = x.Outcome
		}
	}
	why := g.Failure
	if why == "" {
		why = "it was ended (" + g.EndedBy + ")"
	}
	a.say("grant %s was not created on %s: %s", g.ID, g.Device, oneLine(why))
	code := exitFailed
	switch g.State {
	case grant.Cancelled, grant.Denied:
		a.say("nothing was changed on %s", g.Device)
		if outcome == "unreachable" {
			code = exitUnreached
		}
	case grant.Removed, grant.Gone:
		a.say("undone: account %s was removed from %s again, and nothing is left", g.Account, g.Device)
		code = exitUndone
	case grant.Requested, grant.WaitingApproval, grant.Creating, grant.Active, grant.Ending:
		a.explainLeft(c)
		code = exitLeft
	}
	if f != nil && f.Execution != "" {
		a.hint("%s", fmt.Sprintf("runner execution show %s --failed", f.Execution))
	}
	return exitWith(code)
}
