package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/lang"
	"runner/engine/store"
)

func (a *app) grantCommand() *cobra.Command {
	return a.noun("grant", "ask for access, look at it, end it",
		"runner grant request web-admin --for 1h\nrunner grant list\nrunner grant end g-abc",
		a.grantRequest(), a.grantCollect(), a.grantList(), a.grantShow(), a.grantExplain(), a.grantEnd(), a.grantExtend(), a.grantRevoke(), a.grantLog(), a.grantReceipt())
}

// grantStates are the words of --state.
var grantStates = []string{
	string(grant.Requested), string(grant.WaitingApproval), string(grant.Denied), string(grant.Cancelled),
	string(grant.Creating), string(grant.Active), string(grant.Ending), string(grant.Removed), string(grant.Gone),
}

// openStates are those of grants that are not over.
var openStates = slices.DeleteFunc(slices.Clone(grantStates), func(s string) bool { return grant.State(s).Final() })

// knownWords refuses a word that is not one of those a flag takes.
func knownWords(flag string, given, words []string) error {
	for _, g := range given {
		if slices.Contains(words, g) {
			continue
		}
		if near := lang.Similar(g, words); near != "" {
			return usagef("%s is %q; did you mean %q?", flag, g, near)
		}
		return usagef("%s is %q: it can be %s", flag, g, lang.Words(words))
	}
	return nil
}

func (a *app) grantList() *cobra.Command {
	var (
		f   grant.Filter
		all bool
	)
	c := leaf{
		use: "list", short: "list the grants that are not over",
		example: "runner grant list\nrunner grant list --all --requester ana\nrunner grant list --state ending -o json",
		long:    "Grants whose removal is overdue come first.",
		run: func(ctx context.Context, _ []string) error {
			if err := knownWords("--state", f.States, grantStates); err != nil {
				return err
			}
			if len(f.States) == 0 && !all {
				f.States = openStates
			}
			s, err := a.store()
			if err != nil {
				return err
			}
			cs, err := s.Cases(ctx, f)
			if err != nil {
				return err
			}
			a.noteEmpty(len(cs), all || len(f.States) == 1, "no grant is open; --all shows those that are over")
			top, err := a.banner(ctx)
			if err != nil {
				return err
			}
			return a.answerCases(cs, top)
		},
	}.command()
	fs := c.Flags()
	fs.BoolVar(&all, "all", false, "also those that are over")
	fs.StringSliceVar(&f.States, "state", nil, "only in these states: "+strings.Join(grantStates, ", "))
	fs.StringVar(&f.Requester, "requester", "", "only of this requester")
	fs.StringVar(&f.Device, "device", "", "only on this device")
	fs.StringVar(&f.Credential, "credential", "", "only of this credential")
	fs.IntVar(&f.Limit, "limit", 0, "at most so many (default 1000)")
	return c
}

// answerCases prints grants, overdue ones first, below what top writes.
func (a *app) answerCases(cs []grant.Case, top func(io.Writer)) error {
	now := a.now()
	slices.SortStableFunc(cs, func(x, y grant.Case) int { return late(&y, now) - late(&x, now) })
	views := make([]grantJSON, 0, len(cs))
	t := table{head: []string{"GRANT", "STATE", "REQUESTER", "CREDENTIAL", "DEVICE", "ACCOUNT", "EXPIRES", "NEXT"}}
	for i := range cs {
		v := viewGrant(&cs[i], now)
		views = append(views, v)
		t.add(v.Overdue > 0, v.ID, stateText(&v), v.Requester, v.Credential, v.Device, v.Account, a.when(v.Expires), a.nextText(&v))
	}
	return a.answer(views, func(w io.Writer) { top(w); a.table(w, t) })
}

// late is 1 for a grant whose removal is overdue.
func late(c *grant.Case, now time.Time) int {
	if c.Overdue(now) > 0 {
		return 1
	}
	return 0
}

// nextText says what happens next, and what is in the way.
func (a *app) nextText(v *grantJSON) string {
	if v.Next == nil {
		return ""
	}
	text := v.Next.What
	if !v.Next.At.IsZero() {
		text += " " + a.away(v.Next.At)
	}
	if v.Overdue > 0 {
		text = fmt.Sprintf("overdue for %s: %s", span(time.Duration(v.Overdue)*time.Second), text)
	}
	if v.BlockedBy != "" {
		text += ", blocked by " + v.BlockedBy
	}
	return text
}

func (a *app) grantShow() *cobra.Command {
	return leaf{
		use: "show GRANT", short: "show everything about a grant: timeline, expiry, removal, changes",
		example: "runner grant show g-abc\nrunner grant show g-abc -o json",
		long:    "GRANT is an id or the start of one that only one grant has.",
		args:    needs("GRANT"),
		run: func(ctx context.Context, args []string) error {
			s, err := a.store()
			if err != nil {
				return err
			}
			c, err := s.Case(ctx, args[0])
			if err != nil {
				return err
			}
			v, err := a.viewCase(ctx, s, &c)
			if err != nil {
				return err
			}
			return a.answer(v, func(w io.Writer) { a.describe(w, v) })
		},
	}.command()
}

func (a *app) viewCase(ctx context.Context, s *store.Store, c *grant.Case) (*caseJSON, error) {
	now := a.now()
	v := &caseJSON{grantJSON: viewGrant(c, now), Jobs: []jobJSON{}, Executions: []executionJSON{}, Outputs: c.Grant.Outputs}
	for i := range c.Jobs {
		v.Jobs = append(v.Jobs, viewJob(&c.Jobs[i], c, now))
	}
	xs, err := s.Executions(ctx, grant.Filter{Grant: c.Grant.ID})
	if err != nil {
		return nil, err
	}
	for _, x := range slices.Backward(xs) { // oldest first
		v.Executions = append(v.Executions, viewExecution(&x, nil, now))
	}
	cs, err := s.Changes(ctx, c.Grant.ID)
	if err != nil {
		return nil, err
	}
	v.Changes = viewChanges(cs)
	es, err := s.Audit(ctx, c.Grant.ID)
	if err != nil {
		return nil, err
	}
	v.Timeline = viewEvents(es)
	return v, nil
}

// describe writes a grant for people.
func (a *app) describe(w io.Writer, v *caseJSON) {
	by := v.Requester
	if v.Caller != v.Requester {
		by += ", asked for by " + v.Caller
	}
	account := v.Account
	if v.UID != 0 {
		account += fmt.Sprintf(" (uid %d)", v.UID)
	}
	ended := a.when(v.Ended)
	if ended != "" {
		ended += ", " + v.EndedBy
	}
	fields(w,
		field{"grant", v.ID}, field{"state", stateText(&v.grantJSON)}, field{"requester", by}, field{"reason", v.Reason},
		field{"credential", v.Credential}, field{"device", fmt.Sprintf("%s (%s port %d)", v.Device, v.Address, v.Port)}, field{"account", account},
		field{"requested", a.when(v.Requested)}, field{"active", a.when(v.Activated)}, field{"expires", a.when(v.Expires)},
		field{"on device until", a.when(v.Backstop)}, field{"collected", a.when(v.Collected)}, field{"ended", ended},
		field{"no access", a.when(v.NoAccess)}, field{"no trace", a.when(v.NoTrace)}, field{"failure", v.Failure}, field{"next", a.nextText(&v.grantJSON)}, field{"more", v.more()})
	section(w, "timeline")
	for _, e := range v.Timeline {
		_, _ = fmt.Fprintf(w, "  %s  %-22s %s\n", stamp(e.At), e.Action, oneLine(e.Actor+detail(e.Detail)))
	}
	section(w, "jobs")
	a.table(w, a.jobTable(v.Jobs, false))
	if len(v.Changes) > 0 {
		section(w, "changes on "+v.Device)
		t := table{head: []string{"#", "MODULE", "OBJECT", "STATE", "BEFORE"}}
		for _, c := range v.Changes {
			t.add(c.State == "conflict", strconv.Itoa(c.Seq), c.Module, c.Object, c.State, cut(c.Before, 40))
		}
		a.table(w, t)
	}
	if len(v.Executions) > 0 {
		section(w, "executions")
		a.table(w, a.executionTable(v.Executions, false))
	}
}

// detail writes the details of an event, sorted.
func detail(d map[string]string) string {
	var b strings.Builder
	for _, k := range sortedKeys(d) {
		if k == "requester" || k == "reason" || k == "device" || k == "credential" {
			continue // shown above
		}
		fmt.Fprintf(&b, " %s=%s", k, cut(d[k], 80))
	}
	return b.String()
}

// cut shortens a text to n characters.
func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}

// held loads a grant that the caller may act on.
func (a *app) held(ctx context.Context, e *engine.Engine, id, what string) (grant.Case, person, error) {
	who, err := a.who()
	if err != nil {
		return grant.Case{}, who, err
	}
	c, err := e.Store.Case(ctx, id)
	if err != nil {
		return c, who, err
	}
	return c, who, who.mine(&c.Grant, what)
}

func (a *app) grantExtend() *cobra.Command {
	var by time.Duration
	c := leaf{
		use: "extend GRANT --for DURATION", short: "let an active grant last longer",
		example: "runner grant extend g-abc --for 30m",
		long: `The expiries on the device are moved first. When it cannot be reached nothing
is moved, and the grant ends when it would have.`,
		args: needs("GRANT"), exits: []int{exitDenied},
		run: func(ctx context.Context, args []string) error {
			if by <= 0 {
				return usagef("extend needs --for with the time to add, for example --for 30m")
			}
			e, err := a.removing(ctx)
			if err != nil {
				return err
			}
			g, who, err := a.held(ctx, e, args[0], "extend it")
			if err != nil {
				return err
			}
			out, err := e.Extend(ctx, g.Grant.ID, by, who.name)
			if err != nil {
				return err
			}
			v := viewGrant(&out, a.now())
			return a.answer(v, func(w io.Writer) {
				fields(w, field{"grant", v.ID}, field{"expires", a.when(v.Expires)}, field{"on device until", a.when(v.Backstop)})
			})
		},
	}.command()
	c.Flags().DurationVar(&by, "for", 0, "time to add, such as 30m or 1h")
	return c
}

func (a *app) grantReceipt() *cobra.Command {
	return leaf{
		use: "receipt GRANT", short: "show the proof that nothing of a grant is left",
		example: "runner grant receipt g-abc\nrunner grant receipt g-abc -o json",
		long: `The receipt compares what bore the account's name or uid on the device before
the grant and after its removal. What a person left behind during the session and
the removal took away is told apart. A grant that is not over has none yet: then the
exit code is 1, and 9 when the removal is due.`,
		args: needs("GRANT"), exits: []int{exitLeft},
		run: func(ctx context.Context, args []string) error {
			s, err := a.store()
			if err != nil {
				return err
			}
			c, err := s.Case(ctx, args[0])
			if err != nil {
				return err
			}
			if err := a.answerReceipt(&c); err != nil {
				return err
			}
			switch {
			case c.Grant.State.Final():
				return nil
			case c.Grant.State == grant.Ending:
				return exitWith(exitLeft)
			}
			return exitWith(exitFailed)
		},
	}.command()
}

// answerReceipt prints the receipt of a grant.
func (a *app) answerReceipt(c *grant.Case) error {
	g := &c.Grant
	v := receiptJSON{
		Grant: g.ID, State: string(g.State), Account: g.Account, Empty: g.State == grant.Removed && g.Receipt.Empty(),
		NoAccess: g.NoAccess, NoTrace: g.NoTrace, Receipt: g.Receipt,
	}
	return a.answer(v, func(w io.Writer) { a.describeReceipt(w, c, &v) })
}

func (a *app) describeReceipt(w io.Writer, c *grant.Case, v *receiptJSON) {
	g := &c.Grant
	verdict := "none yet: the account was not removed"
	if !g.Creates {
		verdict = "none yet: the account was not put back"
	}
	switch {
	case g.State == grant.Cancelled || g.State == grant.Denied:
		verdict = "none: nothing was changed on " + g.Device
	case g.State == grant.Gone && g.Receipt != nil:
		verdict = "none: the device is gone: " + oneLine(g.Receipt.Gone)
	case v.Empty && !g.Creates:
		verdict = "empty: nothing that the grant added is left on " + g.Device
	case v.Empty:
		verdict = "empty: nothing is left on " + g.Device
	case g.Receipt != nil && len(g.Receipt.Left)+len(g.Receipt.Missing) > 0:
		verdict = fmt.Sprintf("not empty: %s left, %d missing", plural(len(g.Receipt.Left), "thing"), len(g.Receipt.Missing))
	}
	fs := []field{
		{"grant", g.ID},
		{"state", v.State},
		{"account", g.Account + " on " + g.Device},
		{"no access", a.when(g.NoAccess)},
		{"no trace", a.when(g.NoTrace)},
		{"receipt", verdict},
	}
	if r := g.Receipt; r != nil && !r.At.IsZero() {
		compared := fmt.Sprintf("%s before, %s after", plural(len(r.Before), "object"), plural(len(r.After), "object"))
		switch {
		case !g.Creates && len(r.Before)+len(r.After) == 0:
			compared = "each object that the grant changed with what it found"
		case !r.Known:
			compared = "not known what was there before; everything with the account's name or uid counts"
		}
		fs = append(fs, field{"read back", a.when(r.At) + " from " + r.Peer}, field{"compared", compared})
	}
	vv := viewGrant(c, a.now())
	fields(w, append(fs, field{"next", a.nextText(&vv)})...)
	if g.Receipt == nil {
		return
	}
	for _, part := range []struct {
		title string
		items []string
	}{{"left", g.Receipt.Left}, {"missing", g.Receipt.Missing}, {"left by the session, and taken away", g.Receipt.Session}, {"changed by somebody else, and left alone", g.Receipt.Conflicts}, {"kept for other grants", g.Receipt.Held}} {
		if len(part.items) == 0 {
			continue
		}
		section(w, part.title)
		for _, it := range part.items {
			_, _ = fmt.Fprintln(w, "  "+oneLine(it))
		}
	}
}
