package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"runner/engine/executor"
	"runner/engine/grant"
)

// changed says in words what others changed about the account of a grant that is
// active or ending.
func (k *comparison) changed(ctx context.Context, s *Seen, c *grant.Case) ([]string, error) {
	g := &c.Grant
	var why []string
	say := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	switch {
	case s.Name != g.Account && !strings.EqualFold(s.Name, g.Account):
		say("account %s has the name %s now", g.Account, s.Name)
	case s.UID != 0 && g.UID != 0 && s.UID != g.UID:
		say("its uid is %d, not %d: it is another account", s.UID, g.UID)
	case s.SID != "" && !same(s, g):
		say("its SID is %s, not %s: it is another account", s.SID, sidOf(g, nil))
	}
	if !s.Marked {
		say("its mark was taken away")
	}
	k.times(s, g, say)
	locked := !g.NoAccess.IsZero()
	switch {
	case locked && s.State == "open":
		say("it was locked at %s and is open again", stampOf(g.NoAccess))
	case !locked && s.State == "locked" && g.State == grant.Active:
		say("somebody locked it")
	}
	if g.State != grant.Active || locked {
		return why, nil // the removal has begun to take it apart
	}
	if len(s.Members) > 0 {
		say("in its own group there is %s", strings.Join(s.Members, ", "))
	}
	if want := shellOf(g); want != nil && s.Shell != "" && !slices.Contains(want, s.Shell) {
		say("its shell is %s", s.Shell)
	}
	groups, err := k.groups(ctx, s, g)
	if err != nil || groups == nil {
		return why, err
	}
	for _, n := range s.Groups {
		if !slices.Contains(groups, n) && n != s.Name && n != usersSID {
			say("somebody put it into %s", n)
		}
	}
	for _, n := range groups {
		if !slices.Contains(s.Groups, n) {
			say("it is not in %s any more", n)
		}
	}
	return why, nil
}

// times compares when the device itself ends the access.
func (k *comparison) times(s *Seen, g *grant.Grant, say func(string, ...any)) {
	if g.Backstop.IsZero() {
		return
	}
	const slack = 2 * time.Minute // clocks drift
	backstop := g.Backstop.Add(k.s.Skew)
	if !s.Mark.Until.IsZero() && s.Mark.Until.After(backstop.Add(slack)) {
		k.s.Newer = true
		say("its mark says %s, and this store knows of no end later than %s: the store may be older than the device", stampOf(s.Mark.Until), stampOf(g.Backstop))
	}
	switch {
	case g.Origin != "": // nothing is known of how it was made
	case s.Expires.IsZero() && s.State != "none":
		say("it does not expire by itself any more")
	case s.Expires.After(backstop.Add(24*time.Hour + slack)): // accounts expire on a day
		say("it expires by itself as late as %s", stampOf(s.Expires))
	}
}

// shellOf are the shells that the account of a grant may have; nil: any.
func shellOf(g *grant.Grant) []string {
	p, err := readPins(g.Plan)
	if err != nil {
		return nil
	}
	shell, is := p.Forward["shell"].(string)
	switch {
	case !is:
		return nil
	case shell == "":
		return []string{"/bin/bash", "/bin/sh"}
	}
	return []string{shell}
}

// usersSID is the group Users, into which Windows may put accounts by itself.
const usersSID = "S-1-5-32-545"

// groups are those that a grant put its account into; nil: that is not known.
func (k *comparison) groups(ctx context.Context, s *Seen, g *grant.Grant) ([]string, error) {
	if g.Origin != "" {
		return nil, nil
	}
	cs, err := k.e.Store.Changes(ctx, g.ID)
	if err != nil {
		return nil, err
	}
	out := []string{}
	for _, c := range cs {
		member, is := strings.CutPrefix(c.Object, "linux:member:")
		if !is {
			member, is = strings.CutPrefix(c.Object, "windows:member:")
		}
		name, who, _ := strings.Cut(member, "/")
		if is && s.SID != "" && !strings.HasPrefix(name, "S-1-") {
			return nil, nil // the device tells groups by their SIDs only
		}
		if is && c.State == executor.Done && (who == g.Account || who == sidOf(g, nil)) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out, nil
}
