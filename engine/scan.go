package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/lang"
	"runner/engine/transport"
)

// What a scan can find.
const (
	// FoundUnknown: the mark names a grant that this store does not know.
	FoundUnknown = "unknown"
	// FoundReturned: the grant is over, and this is there.
	FoundReturned = "returned"
	// FoundOverdue: the grant is over its time and still there; its removal is due.
	FoundOverdue = "overdue"
	// FoundChanged: somebody changed the account of a grant.
	FoundChanged = "changed"
	// FoundMissing: the account of an active grant is not there.
	FoundMissing = "missing"
	// FoundStray: a sudo rule or a key of runner's without its account.
	FoundStray = "stray"
	// FoundUnmarked: an account with one of runner's numbers, and no mark.
	FoundUnmarked = "unmarked"
)

// Finding is something on a device that is not as the store has it.
type Finding struct {
	What    string
	Object  string   // account jit-x, sudoers runner-jit-x, key PATH
	Why     []string // in words
	Seen    *Seen    // nil: it is missing
	Grant   *grant.Case
	Until   time.Time // as the mark says it, by this clock; zero: not said
	Expired bool
	// Ignored is the decision by which nobody is told of it for now.
	Ignored *grant.Ignored
}

// Scan is what a device says of itself, held against the store.
type Scan struct {
	Device, Credential string
	Peer               transport.Peer
	Machine            string // the device's own id
	Skew               time.Duration
	Marked             int // objects that bear a mark
	OK                 int // accounts that are as they should be
	Findings           []Finding
	Ignored            []Finding
	// Newer says that a mark is newer than what the store knows of its grant.
	Newer bool
	Err   error // the device was not looked at

	conn     *inventory.Connection
	accounts []*Seen
}

// ScanDevice looks for what bears a mark on a device, and for the accounts that the
// store knows there, and compares. Nothing is changed, neither there nor in the
// store, which only hears that the device answers. The credential says how to log in; empty: one of the device's. Errors:
// *InputError, *transport.Error, those of the store.
func (e *Engine) ScanDevice(ctx context.Context, device, credential string) (*Scan, error) {
	s := &Scan{Device: device}
	cred, err := e.lookBy(device, credential)
	if err != nil {
		return s, err
	}
	s.Credential = cred.Name
	if s.conn, err = e.Inventory.Resolve(cred.Name); err != nil {
		return s, badInput(err)
	}
	p := platforms[s.conn.Platform]
	m := e.Modules.Lookup(p.marks)
	if m == nil {
		return s, &InputError{Reason: fmt.Sprintf("device %s is %s, where runner cannot look for marks", device, s.conn.Platform)}
	}
	open, err := e.Store.Cases(ctx, grant.Filter{Device: device, States: openStates, Limit: 1 << 20})
	if err != nil {
		return s, err
	}
	var names, ids []string
	for i := range open {
		if !open[i].Grant.Creates {
			continue // an account that was there before
		}
		names = append(names, open[i].Grant.Account)
		if p.numbered {
			ids = append(ids, strconv.FormatInt(open[i].Grant.UID, 10))
		} else if sid := sidOf(&open[i].Grant, nil); sid != "" {
			ids = append(ids, sid)
		}
	}
	d := e.Inventory.Devices[device]
	sent := e.Now()
	conn, err := e.Dialer.Dial(ctx, s.conn)
	if err != nil {
		return s, err
	}
	defer conn.Close()
	if err := e.Store.Answered(ctx, device, e.Now()); err != nil {
		return s, err
	}
	s.Peer = conn.Peer()
	res, err := executor.Do(ctx, executor.Run{
		Conn: conn, Modules: e.Modules, Become: p.become, Timeout: s.conn.Step, ID: "scan", Env: lang.Env{},
		After: []executor.Call{{Name: "marks", Module: m, Args: marksArgs(p, names, ids, d.UIDs.First, d.UIDs.Last)}},
	})
	if err != nil {
		return s, err
	}
	said := res.Calls["marks"]
	if s.Skew, err = anySkew(said, sent, e.Now()); err != nil {
		return s, fmt.Errorf("%s: %w", device, err)
	}
	s.Machine, _ = said["machine"].(string)
	seen, more := p.see(lines(said["items"]))
	if more {
		return s, fmt.Errorf("%s has more accounts in runner's range than a scan can list: make the range of uids smaller", device)
	}
	return s, e.compare(ctx, s, seen, open, sent)
}

// lookBy returns the credential by which a device is looked at.
func (e *Engine) lookBy(device, credential string) (*inventory.Credential, error) {
	if e.Inventory.Devices[device] == nil {
		return nil, &InputError{Reason: fmt.Sprintf("there is no device %q", device)}
	}
	var best *inventory.Credential
	rank := func(c *inventory.Credential) int { // one that makes accounts knows how to remove them
		switch {
		case c == nil || !c.JIT.Enabled:
			return 0
		case c.JIT.Creates():
			return 2
		}
		return 1
	}
	for _, name := range slices.Sorted(maps.Keys(e.Inventory.Credentials)) {
		c := e.Inventory.Credentials[name]
		if c.Device != device || credential != "" && name != credential {
			continue
		}
		if best == nil || rank(c) > rank(best) {
			best = c
		}
	}
	switch {
	case best != nil:
		return best, nil
	case credential != "":
		return nil, &InputError{Reason: fmt.Sprintf("device %s has no credential %q", device, credential)}
	}
	return nil, &InputError{Reason: fmt.Sprintf("no credential names device %s, so nothing says how to log in there", device)}
}

// compare holds what was seen, not before sent, against the store.
func (e *Engine) compare(ctx context.Context, s *Scan, seen []Seen, open []grant.Case, sent time.Time) error {
	k := &comparison{e: e, s: s, now: e.Now(), cases: map[string]*grant.Case{}, there: map[string]*Seen{}}
	for i := range open {
		k.cases[open[i].Grant.ID] = &open[i]
		k.open = append(k.open, &open[i])
	}
	for i := range seen {
		if seen[i].Kind == SeenAccount {
			s.accounts = append(s.accounts, &seen[i])
		}
		if err := k.look(ctx, &seen[i]); err != nil {
			return err
		}
	}
	for i := range seen {
		if seen[i].Kind != SeenAccount {
			k.loose(&seen[i])
		}
	}
	k.missing()
	if err := k.settle(ctx, sent); err != nil {
		return err
	}
	ignored, err := e.Store.Ignored(ctx, s.Device)
	if err != nil {
		return err
	}
	k.sort(ignored)
	return nil
}

// comparison is one while it is made.
type comparison struct {
	e     *Engine
	s     *Scan
	now   time.Time
	cases map[string]*grant.Case // by id; nil: the store does not know it
	open  []*grant.Case
	there map[string]*Seen // the accounts of known grants
	found []Finding
}

func (k *comparison) add(what string, seen *Seen, c *grant.Case, why ...string) {
	f := Finding{What: what, Seen: seen, Grant: c, Why: why}
	if seen != nil {
		f.Object = seen.Object()
		if !seen.Mark.Until.IsZero() {
			f.Until = seen.Mark.Until.Add(-k.s.Skew)
		} else if seen.Kind == SeenAccount && !seen.Expires.IsZero() {
			f.Until = seen.Expires.Add(-k.s.Skew)
		}
		f.Expired = !f.Until.IsZero() && !k.now.Before(f.Until)
	}
	k.found = append(k.found, f)
}

// look finds the grant of what was seen, and compares accounts.
func (k *comparison) look(ctx context.Context, s *Seen) error {
	if s.Marked {
		k.s.Marked++
		if _, asked := k.cases[s.Mark.Grant]; !asked {
			c, err := k.e.Store.Case(ctx, s.Mark.Grant)
			switch {
			case errors.Is(err, grant.ErrNotFound) || err == nil && c.Grant.ID != s.Mark.Grant:
				k.cases[s.Mark.Grant] = nil
			case err != nil:
				return err
			default:
				k.cases[s.Mark.Grant] = &c
			}
		}
	}
	if s.Kind != SeenAccount {
		return nil
	}
	return k.account(ctx, s)
}

// account compares one.
func (k *comparison) account(ctx context.Context, s *Seen) error {
	c := k.cases[s.Mark.Grant]
	switch {
	case !s.Marked:
		if c = k.owner(s); c == nil {
			if r := k.e.Inventory.Devices[k.s.Device].UIDs; s.SID != "" || s.UID < r.First || s.UID > r.Last {
				return nil // its text only begins like a mark
			}
			k.add(FoundUnmarked, s, nil, "nothing says whose it is, and its number is one that runner gives")
			return nil
		}
	case c == nil:
		why := "its mark names grant " + s.Mark.Grant + ", which this store does not know"
		if o := k.owner(s); o != nil {
			c, why = o, why+"; it is the account of grant "+o.Grant.ID
			k.there[o.Grant.ID] = s
			k.add(FoundChanged, s, c, why)
			return nil
		}
		k.add(FoundUnknown, s, nil, why)
		return nil
	case !same(s, &c.Grant) && k.owner(s) != c:
		k.add(FoundChanged, s, c, fmt.Sprintf("it bears the mark of grant %s, whose account is %s", c.Grant.ID, identityOf(&c.Grant)))
		return nil
	}
	g := &c.Grant
	k.there[g.ID] = s
	if g.State.Final() {
		k.add(FoundReturned, s, c, fmt.Sprintf("grant %s is %s since %s", g.ID, g.State, stampOf(over(g))))
		return nil
	}
	if busy(c) || g.State == grant.Creating || g.State == grant.Requested {
		k.s.OK++
		return nil
	}
	why, err := k.changed(ctx, s, c)
	if err != nil {
		return err
	}
	late := c.Overdue(k.now)
	switch {
	case len(why) > 0:
		k.add(FoundChanged, s, c, why...)
	case late > 0:
		k.add(FoundOverdue, s, c, overdueText(c, late))
	default:
		k.s.OK++
	}
	return nil
}

// owner returns the grant, of those that are not over, to which an account belongs
// by its name or its number.
func (k *comparison) owner(s *Seen) *grant.Case {
	var half *grant.Case
	for _, c := range k.open {
		g := &c.Grant
		if !g.Creates {
			continue
		}
		if same(s, g) {
			return c
		}
		if strings.EqualFold(g.Account, s.Name) || s.UID != 0 && g.UID == s.UID || s.SID != "" && sidOf(g, nil) == s.SID {
			half = c
		}
	}
	return half
}

// same reports whether an account is that of a grant.
func same(s *Seen, g *grant.Grant) bool {
	if s.SID != "" {
		sid := sidOf(g, nil)
		return strings.EqualFold(s.Name, g.Account) && (sid == "" || sid == s.SID)
	}
	return s.Name == g.Account && (g.UID == 0 || s.UID == g.UID)
}

// loose looks at sudo rules and keys, once all accounts are known.
func (k *comparison) loose(s *Seen) {
	c := k.cases[s.Mark.Grant]
	if !s.Marked {
		for _, o := range k.open {
			if o.Grant.Account == s.Account && k.there[o.Grant.ID] != nil {
				return // made before rules were marked
			}
		}
		k.add(FoundStray, s, nil, "it was written by runner, and nothing says for which grant")
		return
	}
	if c != nil && !c.Grant.Creates && !c.Grant.State.Final() {
		k.elevated(s, c)
		return
	}
	with := k.holder(s)
	switch {
	case with != nil && (with.Account == s.Account || with.Name == s.Account):
		// found with its account, or as it should be
	case with != nil:
		k.add(FoundStray, s, c, fmt.Sprintf("it bears the mark of grant %s, whose account is %s, and it is for %s", s.Mark.Grant, with.Name, cmp.Or(s.Account, "nobody")))
	case c != nil && c.Grant.State.Final():
		k.add(FoundReturned, s, c, fmt.Sprintf("grant %s is %s since %s", c.Grant.ID, c.Grant.State, stampOf(over(&c.Grant))))
	case c != nil:
		if c.Grant.State == grant.Active && !busy(c) {
			k.add(FoundStray, s, c, "the account of grant "+c.Grant.ID+" is not there")
		}
	default:
		k.add(FoundStray, s, nil, "its mark names grant "+s.Mark.Grant+", which this store does not know, and no account here bears that mark")
	}
}

// elevated looks at a rule or key that a grant gave to an account that was there.
func (k *comparison) elevated(s *Seen, c *grant.Case) {
	g := &c.Grant
	switch late := c.Overdue(k.now); {
	case busy(c):
	case s.Kind == SeenSudoers && s.Account != g.Account:
		k.add(FoundStray, s, c, fmt.Sprintf("it bears the mark of grant %s, whose account is %s, and it is for %s", g.ID, g.Account, cmp.Or(s.Account, "nobody")))
	case late > 0:
		k.add(FoundOverdue, s, c, overdueText(c, late))
	default:
		k.s.OK++
	}
}

// overdueText says how late a removal is, and what is in its way.
func overdueText(c *grant.Case, late time.Duration) string {
	text := "its removal is overdue by " + late.Round(time.Second).String()
	if r := c.Removal(); r != nil && r.BlockedBy != "" {
		text += ", blocked by " + r.BlockedBy
	}
	return text
}

// holder returns the account of the grant that a mark names, or one that bears the
// same mark.
func (k *comparison) holder(s *Seen) *Seen {
	if a := k.there[s.Mark.Grant]; a != nil {
		return a
	}
	for _, a := range k.s.accounts {
		if a.Marked && a.Mark.Grant == s.Mark.Grant {
			return a
		}
	}
	return nil
}

// missing are active grants whose account was not seen.
func (k *comparison) missing() {
	for _, c := range k.open {
		g := &c.Grant
		if g.State != grant.Active || !g.Creates || k.there[g.ID] != nil || busy(c) {
			continue
		}
		k.found = append(k.found, Finding{
			What: FoundMissing, Object: SeenAccount + " " + g.Account, Grant: c, Until: g.Backstop,
			Why: []string{fmt.Sprintf("grant %s is active until %s, and neither %s nor its number is there", g.ID, stampOf(g.Expires), g.Account)},
		})
	}
}

// settle drops the findings about grants that moved while the device was looked at:
// what was seen and what was read of them belong to different moments.
func (k *comparison) settle(ctx context.Context, sent time.Time) error {
	var kept []Finding
	for _, f := range k.found {
		moved := false
		if f.Grant != nil {
			now, err := k.e.Store.Case(ctx, f.Grant.Grant.ID)
			if err != nil {
				return err
			}
			moved = movedSince(f.Grant, &now, sent)
		}
		if !moved {
			kept = append(kept, f)
		}
	}
	k.found = kept
	return nil
}

// movedSince reports whether something may have been done for a grant between the first
// look at its device, at sent, and now; was is how it was read in between, or before.
func movedSince(was, now *grant.Case, sent time.Time) bool {
	g := &now.Grant
	switch {
	case busy(now), g.State != was.Grant.State, len(now.Jobs) != len(was.Jobs):
		return true
	case g.State.Final():
		return over(g).After(sent)
	case g.State == grant.Active:
		if g.Activated.After(sent) {
			return true
		}
	}
	for i := range now.Jobs {
		if now.Jobs[i].Attempt != was.Jobs[i].Attempt {
			return true
		}
	}
	return false
}

// sort puts the findings into order and those aside that are ignored.
func (k *comparison) sort(ignored []grant.Ignored) {
	slices.SortStableFunc(k.found, func(a, b Finding) int { return cmp.Compare(a.Object, b.Object) })
	for _, f := range k.found {
		if f.Ignored = ignoredBy(ignored, f.Object, f.markOf(), k.now); f.Ignored != nil {
			k.s.Ignored = append(k.s.Ignored, f)
		} else {
			k.s.Findings = append(k.s.Findings, f)
		}
	}
}

// ignoredBy returns the decision by which a finding is left out for now, or nil. Who
// ignored one mark has not ignored another on the same object.
func ignoredBy(list []grant.Ignored, object, mark string, now time.Time) *grant.Ignored {
	i := slices.IndexFunc(list, func(g grant.Ignored) bool { return g.Object == object && g.Mark == mark && now.Before(g.Until) })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// markOf is the grant that the finding's mark names.
func (f *Finding) markOf() string {
	if f.Seen == nil {
		return ""
	}
	return f.Seen.Mark.Grant
}

// busy reports whether a job of the grant is running: things are not as they will be.
func busy(c *grant.Case) bool {
	return slices.ContainsFunc(c.Jobs, func(j grant.Job) bool { return j.State == grant.Running })
}

// over is when a grant was.
func over(g *grant.Grant) time.Time {
	if !g.NoTrace.IsZero() {
		return g.NoTrace
	}
	return g.Ended
}

func identityOf(g *grant.Grant) string {
	if g.UID != 0 {
		return fmt.Sprintf("%s, uid %d", g.Account, g.UID)
	}
	if sid := sidOf(g, nil); sid != "" {
		return g.Account + ", " + sid
	}
	return g.Account
}

func stampOf(t time.Time) string { return t.UTC().Format(time.RFC3339) }
