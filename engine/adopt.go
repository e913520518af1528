package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/lang"
	"runner/engine/template"
)

// Unknown is the requester of grants whose requester nobody knows any more.
const Unknown = "(unknown)"

// Decision is what a person decides about a finding.
type Decision struct {
	Device, Credential string
	Object             string // name of the account or object, or id of the grant that its mark names
	Actor, Reason      string
	// Quarantine locks the account now and removes it after that long. 0: it keeps
	// what its mark says.
	Quarantine time.Duration
}

// Adopt makes a grant of an account that a scan finds, from what the device says,
// with a removal that is due when the mark says that the access ends. Nothing
// without a mark of runner's can be adopted, nor what this store knows and has not
// removed. The device is looked at again before; it is not changed: what is due,
// the caller runs. Errors: *InputError, those of ScanDevice.
func (e *Engine) Adopt(ctx context.Context, d Decision) (grant.Case, error) {
	s, err := e.ScanDevice(ctx, d.Device, d.Credential)
	if err != nil {
		return grant.Case{}, err
	}
	f, err := s.pick(d.Object)
	if err != nil {
		return grant.Case{}, err
	}
	origin := grant.Adopted
	if d.Quarantine > 0 {
		origin = grant.Quarantined
	}
	return e.take(ctx, s, f, d, origin)
}

// pick returns the finding that a person means.
func (s *Scan) pick(object string) (*Finding, error) {
	var hits []*Finding
	all := append(append([]Finding{}, s.Findings...), s.Ignored...)
	for i := range all {
		f := &all[i]
		switch {
		case f.Object == object, f.Seen != nil && f.Seen.Name == object:
			return f, nil
		case f.Seen != nil && f.Seen.Marked && strings.HasPrefix(object, "g-") && strings.HasPrefix(f.Seen.Mark.Grant, object):
			hits = append(hits, f)
		}
	}
	if len(hits) > 1 && hits[0].Seen.Mark.Grant == hits[len(hits)-1].Seen.Mark.Grant {
		return hits[0], nil // an account comes before what goes with it
	}
	var names []string
	for i := range all {
		names = append(names, all[i].Object)
	}
	switch {
	case len(hits) == 1:
		return hits[0], nil
	case len(hits) > 1:
		return nil, &InputError{Reason: fmt.Sprintf("%q could be %s or %s", object, hits[0].Object, hits[1].Object)}
	case len(all) == 0:
		return nil, &InputError{Reason: "a scan of " + s.Device + " finds nothing that is not as it should be"}
	}
	return nil, &InputError{Reason: fmt.Sprintf("a scan of %s does not find %q; it finds %s", s.Device, object, lang.Words(names))}
}

// take makes a finding a grant, or takes its grant up again.
func (e *Engine) take(ctx context.Context, s *Scan, f *Finding, d Decision, origin string) (grant.Case, error) {
	if f.What == FoundReturned && (f.Grant.Grant.State == grant.Removed || f.Grant.Grant.State == grant.Gone) {
		if d.Quarantine > 0 {
			return grant.Case{}, &InputError{Reason: fmt.Sprintf("%s is of grant %s, which is %s: adopt it, and it is removed again", f.Object, f.Grant.Grant.ID, f.Grant.Grant.State)}
		}
		return e.change(ctx, f.Grant.Grant.ID, func(c *grant.Case) error {
			return c.Reopen(e.Now(), d.Actor, strings.TrimSpace(f.Object+" is on "+s.Device+" again; "+d.Reason))
		})
	}
	cred, dev, err := e.mayTake(s, f)
	if err != nil {
		return grant.Case{}, err
	}
	g, tpl, err := e.foundGrant(s, f, cred, d)
	if err != nil {
		return grant.Case{}, err
	}
	g.Origin = origin
	now := e.Now()
	if d.Quarantine > 0 {
		if _, err := lockSteps(tpl); err != nil {
			return grant.Case{}, badInput(err)
		}
		g.Expires = now.Add(d.Quarantine)
	}
	g.For = max(0, g.Expires.Sub(g.Activated))
	pin := connection{Connection: *s.conn, UIDs: dev.UIDs, Margin: cred.JIT.Margin, MaxDuration: cred.JIT.MaxDuration}
	if g.Plan.Connection, err = json.Marshal(pin); err != nil {
		return grant.Case{}, fmt.Errorf("engine: connection: %w", err)
	}
	c := grant.Adopt(*g, e.newID("j"), now, d.Actor, "mark", f.Seen.Text, "found", f.What, "uid", strconv.FormatInt(f.Seen.UID, 10), "peer", s.Peer.Identity)
	if d.Quarantine > 0 {
		c.AddLock(e.newID("j"), now)
	}
	return c, e.Store.Create(ctx, c, []grant.Snapshot{snapshot(tpl)})
}

// mayTake refuses what runner may not have made.
func (e *Engine) mayTake(s *Scan, f *Finding) (*inventory.Credential, *inventory.Device, error) {
	cred, dev := e.Inventory.Credentials[s.Credential], e.Inventory.Devices[s.Device]
	no := func(format string, args ...any) error {
		return &InputError{Reason: f.Object + " on " + s.Device + " cannot be taken over: " + fmt.Sprintf(format, args...)}
	}
	switch {
	case f.Seen == nil:
		return nil, nil, no("it is not there; runner grant end %s ends its grant", f.Grant.Grant.ID)
	case f.Grant != nil && !f.Grant.Grant.State.Final():
		return nil, nil, no("it is known, as grant %s, which is %s; runner grant end %[1]s removes its account", f.Grant.Grant.ID, f.Grant.Grant.State)
	case !f.Seen.Marked:
		return nil, nil, no("it bears no mark of runner, so nothing says that runner made it")
	case f.Seen.Kind != SeenAccount:
		return nil, nil, no("only accounts can; look at it, and delete it by hand if nobody needs it")
	case f.What != FoundUnknown && f.What != FoundReturned:
		return nil, nil, no("%s", strings.Join(f.Why, "; "))
	case platforms[s.conn.Platform].numbered && (f.Seen.UID < dev.UIDs.First || f.Seen.UID > dev.UIDs.Last):
		return nil, nil, no("its uid %d is outside of %d-%d, which runner gives to accounts of %s (uids of the device)", f.Seen.UID, dev.UIDs.First, dev.UIDs.Last, s.Device)
	}
	return cred, dev, nil
}

// foundGrant is the grant that a mark tells of, and the template that removes it.
func (e *Engine) foundGrant(s *Scan, f *Finding, cred *inventory.Credential, d Decision) (*grant.Grant, *template.Template, error) {
	tpl, err := e.removalOf(s, cred)
	if err != nil {
		return nil, nil, err
	}
	now := e.Now()
	made, _ := grant.IDTime(f.Seen.Mark.Grant)
	g := &grant.Grant{
		ID: f.Seen.Mark.Grant, Requester: Unknown, Caller: d.Actor, Reason: d.Reason, Credential: cred.Name, Device: s.Device,
		Account: f.Seen.Name, UID: f.Seen.UID, Creates: true, Requested: made, Activated: made,
		Receipt: &grant.Receipt{Device: s.Device, Peer: s.Peer.Address + " " + s.Peer.Identity, Machine: s.Machine, Left: []string{}, Missing: []string{}},
	}
	if f.Grant != nil { // its id is taken by a grant that came to nothing
		g.ID = e.newID("g")
	}
	if made.After(now) { // by a clock that was ahead
		g.Requested, g.Activated = now, now
	}
	if f.Until.IsZero() {
		g.Expires = now.Add(cred.JIT.MaxDuration) // nothing says when it ends, and somebody may be using it
	} else {
		g.Backstop, g.Expires = f.Until, f.Until.Add(-cred.JIT.Margin)
	}
	if f.Seen.SID != "" {
		if g.Outputs, err = json.Marshal(map[string]string{"sid": f.Seen.SID}); err != nil {
			return nil, nil, fmt.Errorf("engine: outputs: %w", err)
		}
	}
	env := lang.Env{"grant": grantEnv(g, 0), "device": deviceEnv(s.conn, 0)}
	removal, err := removalPins(tpl, nil, cred.Params, env)
	if err != nil {
		return nil, nil, &InputError{Reason: fmt.Sprintf("credential %s, template %s/%s: %v", cred.Name, tpl.Kind, tpl.Name, err)}
	}
	g.Plan = grant.Plan{Removal: tpl.Hash, Longest: max(longest(tpl), underWay(s.conn))}
	if g.Plan.Params, err = json.Marshal(pins{Forward: map[string]any{}, Removal: removal}); err != nil {
		return nil, nil, fmt.Errorf("engine: params: %w", err)
	}
	return g, tpl, nil
}

// removalOf is the template by which a credential removes accounts, or the one of
// the platform where it names none that deletes.
func (e *Engine) removalOf(s *Scan, cred *inventory.Credential) (*template.Template, error) {
	name := cred.JIT.Delete
	if name == "" && cred.JIT.Create != "" {
		if forward, err := e.Templates.Get(template.Create, cred.JIT.Create); err == nil {
			name = forward.Removal
		}
	}
	tpl, err := e.Templates.Get(template.Delete, cmp.Or(name, platforms[s.conn.Platform].removal))
	if err != nil {
		return nil, badInput(err)
	}
	if tpl.Platform != s.conn.Platform {
		return nil, &InputError{Reason: fmt.Sprintf("template %s/%s is for %s, and device %s is %s", tpl.Kind, tpl.Name, tpl.Platform, s.Device, s.conn.Platform)}
	}
	return tpl, nil
}

// Ignore notes that a person knows of a finding, until a time.
func (e *Engine) Ignore(ctx context.Context, d Decision, until time.Time) (grant.Ignored, error) {
	now := e.Now()
	if !until.After(now) {
		return grant.Ignored{}, &InputError{Reason: "a finding can be ignored until a time to come only"}
	}
	if strings.TrimSpace(d.Reason) == "" {
		return grant.Ignored{}, &InputError{Reason: "say with --reason why it can be ignored: whoever scans next will ask"}
	}
	s, err := e.ScanDevice(ctx, d.Device, d.Credential)
	if err != nil {
		return grant.Ignored{}, err
	}
	f, err := s.pick(d.Object)
	if err != nil {
		return grant.Ignored{}, err
	}
	if f.Grant != nil && !f.Grant.Grant.State.Final() && f.What == FoundOverdue {
		return grant.Ignored{}, &InputError{Reason: fmt.Sprintf("%s is overdue, which is shown until it is removed; runner job pause %s waits with the removal", f.Object, f.Grant.Removal().ID)}
	}
	i := grant.Ignored{Device: d.Device, Object: f.Object, Mark: f.markOf(), Actor: d.Actor, Reason: d.Reason, At: now, Until: until}
	return i, e.Store.Ignore(ctx, i)
}

// RunDue runs what of a case is due in this process: its lock, or its removal. What
// another worker is at is left to it.
func (e *Engine) RunDue(ctx context.Context, c grant.Case) (grant.Case, error) {
	j := c.DueJob(e.Now())
	if j == nil {
		return c, nil
	}
	out, _, err := e.runJob(ctx, j.GrantID, j.ID, func() {})
	if err != nil && passing(err) {
		return e.Store.Case(ctx, c.Grant.ID)
	}
	return out, err
}
