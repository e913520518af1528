package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"runner/engine"
	"runner/engine/grant"
)

// whyJSON is why a grant is as it is, and what can be done.
type whyJSON struct {
	Grant       string    `json:"grant_id"`
	State       string    `json:"state"`
	Device      string    `json:"device"`
	Account     string    `json:"account"`
	Summary     string    `json:"summary"`
	Access      string    `json:"access"`
	Overdue     int64     `json:"overdue_seconds"`
	BlockedBy   string    `json:"blocked_by,omitempty"`
	LastError   string    `json:"last_error,omitempty"`
	SilentSince time.Time `json:"silent_since,omitzero"`
	AskedAgain  time.Time `json:"asked_again_at,omitzero"`
	Next        *nextJSON `json:"next,omitempty"`
	Live        *liveJSON `json:"live,omitempty"`
	Can         []canJSON `json:"can"`
}

// liveJSON is what the device said.
type liveJSON struct {
	Reached bool      `json:"reached"`
	Error   string    `json:"error,omitempty"`
	At      time.Time `json:"at,omitzero"`
	Peer    string    `json:"peer,omitempty"`
	Skew    int64     `json:"skew_seconds"`
	Account []string  `json:"account_is"`
	Items   []string  `json:"items"`
	Left    []string  `json:"left"`
}

// canJSON is something that a person can do.
type canJSON struct {
	Do      string `json:"do"`
	Command string `json:"command"`
}

func (a *app) grantExplain() *cobra.Command {
	var live bool
	c := leaf{
		use: "explain GRANT", short: "say why a grant is as it is, what happens next, and what you can do",
		example: "runner grant explain g-abc\nrunner grant explain g-abc --live\nrunner grant explain g-abc -o json",
		long: `With --live the device is asked what is there now. Nothing is changed, and no job
is run. A device that cannot be reached is told of, and the exit code is 7.`,
		args: needs("GRANT"), exits: []int{exitUnreached},
		run: func(ctx context.Context, args []string) error {
			s, err := a.store()
			if err != nil {
				return err
			}
			c, err := s.Case(ctx, args[0])
			if err != nil {
				return err
			}
			silent, err := s.Silences(ctx)
			if err != nil {
				return err
			}
			v := a.why(&c, silent)
			if live {
				v.Live = a.live(ctx, c)
			}
			if err := a.answer(v, func(w io.Writer) { a.describeWhy(w, v) }); err != nil {
				return err
			}
			if v.Live != nil && !v.Live.Reached {
				return exitWith(exitUnreached)
			}
			return nil
		},
	}.command()
	c.Flags().BoolVar(&live, "live", false, "ask the device what is there now")
	return c
}

// live asks the device.
func (a *app) live(ctx context.Context, c grant.Case) *liveJSON {
	v := &liveJSON{Account: []string{}, Items: []string{}, Left: []string{}}
	s, err := a.store()
	if err == nil {
		var e *engine.Engine
		if e, err = a.wire(s); err == nil {
			a.doing("asking " + c.Grant.Device)
			var l *engine.Live
			if l, err = e.Live(ctx, c); err == nil {
				v.Reached, v.At, v.Peer, v.Skew = true, l.At, l.Peer.Address+" "+l.Peer.Identity, seconds(l.Skew)
				v.Account, v.Items, v.Left = append(v.Account, l.Account...), append(v.Items, l.Items...), append(v.Left, l.Left...)
			}
		}
	}
	if err != nil {
		v.Error = problem(err)
	}
	return v
}

// why explains a grant from what the store knows.
func (a *app) why(c *grant.Case, silent []grant.Silence) *whyJSON {
	now, g := a.now(), &c.Grant
	v := &whyJSON{
		Grant: g.ID, State: string(g.State), Device: g.Device, Account: g.Account, Overdue: seconds(c.Overdue(now)),
		Access: access(g, a), Next: next(c, now), Can: []canJSON{},
	}
	if r := c.Removal(); r != nil && !g.State.Final() {
		v.BlockedBy, v.LastError = r.BlockedBy, r.LastError
	}
	for _, s := range silent {
		if s.Device == g.Device && !g.State.Final() {
			v.SilentSince, v.AskedAgain = s.Since, s.Until
			if v.BlockedBy == "" && v.Overdue > 0 {
				v.BlockedBy = "device does not answer since " + stamp(s.Since)
			}
		}
	}
	v.Summary = a.summary(c, v.BlockedBy)
	can := func(do, command string, args ...any) {
		v.Can = append(v.Can, canJSON{do, fmt.Sprintf("runner "+command, args...)})
	}
	r, f := c.Removal(), c.Forward()
	switch g.State {
	case grant.Requested:
		if f != nil {
			can("create it now, in this process", "job run %s", f.ID)
		}
		can("have what is due created and removed", "serve")
		can("take the request back", "grant end %s", g.ID)
	case grant.WaitingApproval:
		can("take the request back", "grant end %s", g.ID)
	case grant.Creating:
		can("see how far it is", "grant log %s -f", g.ID)
		can("stop it; what was made is removed", "grant end %s", g.ID)
	case grant.Active:
		can("give it more time", "grant extend %s --for 30m", g.ID)
		can("end it now", "grant end %s", g.ID)
	case grant.Ending:
		if r != nil && r.State != grant.Running {
			can("try the removal now", "job run %s", r.ID)
			can("keep it from being tried for a while", "job pause %s --for 2h", r.ID)
		}
		if r != nil && r.Execution != "" {
			can("see where it failed", "execution show %s --failed", r.Execution)
		}
	case grant.Removed, grant.Gone:
		can("see the proof", "grant receipt %s", g.ID)
	case grant.Denied, grant.Cancelled:
		if f != nil && f.Execution != "" {
			can("see what was tried", "execution show %s", f.Execution)
		}
	}
	if !v.SilentSince.IsZero() {
		can("find out why the device does not answer", "device check %s", g.Device)
	}
	if !g.State.Final() && g.State != grant.Requested && g.State != grant.WaitingApproval {
		can("ask the device what is there", "grant explain %s --live", g.ID)
	}
	return v
}

// access says in a sentence whether the account can be used.
func access(g *grant.Grant, a *app) string {
	switch {
	case g.State == grant.Removed || g.State == grant.Gone || !g.NoAccess.IsZero():
		return "over since " + a.when(g.NoAccess)
	case g.State.Final(), g.State == grant.Requested, g.State == grant.WaitingApproval:
		return "there was none"
	case !g.Backstop.IsZero() && a.now().After(g.Backstop):
		return "over since " + a.when(g.Backstop) + " by the device's own expiry, if it was set; runner has not seen that"
	case g.State == grant.Active && g.Backstop.IsZero():
		return "until " + a.when(g.Expires) + "; the device has no expiry for it, so runner has to be there to end it"
	case g.State == grant.Active:
		return "until " + a.when(g.Expires) + "; the device itself ends it at " + stamp(g.Backstop)
	case !g.Backstop.IsZero():
		return "the account may still be usable; the device itself ends that at " + a.when(g.Backstop)
	}
	return "not known: nothing says how far the creation came"
}

// summary says in a sentence how a grant stands.
func (a *app) summary(c *grant.Case, blockedBy string) string {
	g, now := &c.Grant, a.now()
	overdue := c.Overdue(now)
	switch {
	case g.State == grant.Ending && running(c):
		return "its removal is running"
	case overdue > 0 && blockedBy != "":
		return fmt.Sprintf("its removal is overdue for %s: %s", span(overdue), blockedBy)
	case overdue > 0 && c.Removal().Attempt == 0:
		return fmt.Sprintf("its removal is overdue for %s, and nobody has tried it yet: runner serve and runner sweep do", span(overdue))
	case overdue > 0:
		return fmt.Sprintf("its removal is overdue for %s, and is tried again", span(overdue))
	}
	switch g.State {
	case grant.Requested:
		return "it waits for a worker: runner serve creates what is requested"
	case grant.WaitingApproval:
		return "it waits for approval"
	case grant.Creating:
		return "the account is being made"
	case grant.Active:
		if !g.Creates {
			return "the account has what it was given, and it is taken back when the grant ends"
		}
		return "the account works, and is removed when the grant ends"
	case grant.Ending:
		return "its removal is due"
	case grant.Removed:
		return "nothing is left of it on " + g.Device
	case grant.Gone:
		return "the device is gone"
	case grant.Denied, grant.Cancelled:
		if g.Failure != "" {
			return "nothing was made: " + g.Failure
		}
		return "nothing was made; it was ended by " + g.EndedBy
	}
	return ""
}

func (a *app) describeWhy(w io.Writer, v *whyJSON) {
	silent, nextText := "", ""
	if !v.SilentSince.IsZero() {
		silent = fmt.Sprintf("%s does not answer since %s; removals ask it again at %s", v.Device, a.when(v.SilentSince), a.when(v.AskedAgain))
	}
	if v.Next != nil {
		nextText = v.Next.What
		if !v.Next.At.IsZero() {
			nextText += " at " + a.when(v.Next.At)
		}
	}
	fields(w, field{"grant", v.Grant}, field{"state", v.State + ": " + v.Summary}, field{"account", v.Account + " on " + v.Device}, field{"access", v.Access},
		field{"in the way", v.BlockedBy}, field{"last error", v.LastError}, field{"device", silent}, field{"next", nextText})
	if l := v.Live; l != nil {
		a.describeLive(w, v.Device, l)
	}
	if len(v.Can) > 0 {
		section(w, "you can")
		width := 0
		for _, c := range v.Can {
			width = max(width, len(c.Do))
		}
		for _, c := range v.Can {
			_, _ = fmt.Fprintf(w, "  %-*s  %s\n", width, c.Do, c.Command)
		}
	}
}

func (a *app) describeLive(w io.Writer, device string, l *liveJSON) {
	section(w, "on "+device+" now")
	if !l.Reached {
		_, _ = fmt.Fprintln(w, "  it cannot be asked: "+oneLine(l.Error))
		return
	}
	if len(l.Account) > 0 {
		_, _ = fmt.Fprintln(w, "  the account is "+oneLine(strings.Join(l.Account, ", ")))
	}
	switch {
	case len(l.Items) == 0:
		_, _ = fmt.Fprintln(w, "  nothing bears its name or number")
	case len(l.Left) == 0:
		_, _ = fmt.Fprintln(w, "  everything is as it was before the grant")
	}
	for _, it := range l.Left {
		_, _ = fmt.Fprintln(w, "  "+cut(oneLine(it), 160))
	}
}

// bannerShown is how many overdue removals the top of an overview names.
const bannerShown = 3

// banner writes the removals that are overdue for more than a minute, and what scans
// have found, on top of an overview: whoever looks at anything is to see them.
func (a *app) banner(ctx context.Context) (func(io.Writer), error) {
	s, err := a.store()
	if err != nil {
		return nil, err
	}
	found, err := a.scanBanner(ctx)
	if err != nil {
		return nil, err
	}
	cases, total, err := s.Overdue(ctx, a.now().Add(-sweepEvery), bannerShown)
	if err != nil || total == 0 {
		return found, err
	}
	silent, err := s.Silences(ctx)
	if err != nil {
		return nil, err
	}
	return func(w io.Writer) {
		are := "are"
		if total == 1 {
			are = "is"
		}
		_, _ = fmt.Fprintln(w, a.outColor.red(fmt.Sprintf("%s %s overdue:", plural(total, "removal"), are)))
		for i := range cases {
			v := a.why(&cases[i], silent)
			text := fmt.Sprintf("  %s  %s on %s, for %s", v.Grant, v.Account, v.Device, span(cases[i].Overdue(a.now())))
			if v.BlockedBy != "" {
				text += ": " + cut(oneLine(v.BlockedBy), 100)
			}
			_, _ = fmt.Fprintln(w, a.outColor.red(text))
		}
		if total > len(cases) {
			_, _ = fmt.Fprintln(w, a.outColor.red(fmt.Sprintf("  and %d more: runner grant list --state ending", total-len(cases))))
		}
		_, _ = fmt.Fprintln(w)
		found(w)
	}, nil
}
