package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"runner/engine"
	"runner/engine/grant"
)

// scanParallel is how many devices are looked at at once.
const scanParallel = 16

// scanJSON is what a device says of itself, held against the store.
type scanJSON struct {
	Device     string        `json:"device"`
	At         time.Time     `json:"at,omitzero"`       // with --last: of what it found
	Tried      time.Time     `json:"tried_at,omitzero"` // with --last
	Credential string        `json:"credential,omitempty"`
	Reached    bool          `json:"reached"`
	Error      string        `json:"error,omitempty"`
	Peer       string        `json:"peer,omitempty"`
	Machine    string        `json:"machine,omitempty"`
	Skew       int64         `json:"skew_seconds"`
	Marked     int           `json:"marked"`
	OK         int           `json:"ok"`
	Findings   []findingJSON `json:"findings"`
	Ignored    []findingJSON `json:"ignored"`
}

// findingJSON is something that is not as the store has it.
type findingJSON struct {
	Device  string         `json:"device"`
	Object  string         `json:"object"`
	What    string         `json:"what"`
	Why     []string       `json:"why"`
	Mark    string         `json:"mark,omitempty"`  // id of the grant that its mark names
	Grant   string         `json:"grant,omitempty"` // id of the grant of the store that it belongs to
	State   string         `json:"state,omitempty"` // of that grant
	UID     int64          `json:"uid,omitempty"`
	SID     string         `json:"sid,omitempty"`
	Locked  bool           `json:"locked"`
	Until   time.Time      `json:"until,omitzero"`
	Expired bool           `json:"expired"`
	Ignored *grant.Ignored `json:"ignored,omitempty"`
}

func viewFinding(device string, f *engine.Finding) findingJSON {
	v := findingJSON{Device: device, Object: f.Object, What: f.What, Why: f.Why, Until: f.Until, Expired: f.Expired, Ignored: f.Ignored}
	if f.Seen != nil {
		v.Mark, v.UID, v.SID, v.Locked = f.Seen.Mark.Grant, f.Seen.UID, f.Seen.SID, f.Seen.State == "locked"
	}
	if f.Grant != nil {
		v.Grant, v.State = f.Grant.Grant.ID, string(f.Grant.Grant.State)
	}
	return v
}

func viewScan(s *engine.Scan) scanJSON {
	v := scanJSON{
		Device: s.Device, Credential: s.Credential, Reached: s.Err == nil, Peer: strings.TrimSpace(s.Peer.Address + " " + s.Peer.Identity),
		Machine: s.Machine, Skew: int64(s.Skew / time.Second), Marked: s.Marked, OK: s.OK, Findings: []findingJSON{}, Ignored: []findingJSON{},
	}
	if s.Err != nil {
		v.Error = problem(s.Err)
	}
	for i := range s.Findings {
		v.Findings = append(v.Findings, viewFinding(s.Device, &s.Findings[i]))
	}
	for i := range s.Ignored {
		v.Ignored = append(v.Ignored, viewFinding(s.Device, &s.Ignored[i]))
	}
	return v
}

func (a *app) deviceScan() *cobra.Command {
	var (
		credential string
		all, last  bool
	)
	c := leaf{
		use: "scan DEVICE... | --last [DEVICE...]", short: "find accounts on devices that should not be there, or not as they are",
		example: "runner device scan web-1\nrunner device scan 'web-*' db-1\nrunner device scan --last\nrunner device scan '*' -o json",
		long: `Everything that runner makes bears a mark on the device: its grant, and the time at
which the access ends. A scan reads these marks and compares them with the store:

  unknown    its mark names a grant that this store does not know
  returned   its grant is over, and it is there (again)
  overdue    its removal is due and not done
  changed    others changed it: number, name, groups, shell, lock, expiry, mark
  missing    an active grant without its account
  stray      a sudo rule or a key of runner's without its account
  unmarked   an account with one of runner's numbers, and no mark

What is found is kept until the next scan; --last tells it without asking the devices,
but for what was settled since. runner serve scans by itself.

Nothing is changed. runner device adopt, quarantine and ignore are what can be done
about a finding. Exit 9 says that there are findings, 7 that a device was not reached.`,
		args: func(c *cobra.Command, args []string) error {
			if last {
				return nil
			}
			return someArgs("DEVICE")(c, args)
		}, exits: []int{exitFile, exitUnreached, exitLeft},
		run: func(ctx context.Context, args []string) error {
			e, err := a.planning()
			if err != nil {
				return err
			}
			names := slices.Sorted(maps.Keys(e.Inventory.Devices))
			if len(args) > 0 {
				if names, err = matching("device", args, names); err != nil {
					return err
				}
			}
			if last {
				return a.lastScans(ctx, e, names, all)
			}
			scans := a.scanAll(ctx, e, names, credential)
			if ctx.Err() != nil {
				return exitWith(exitInterrupted)
			}
			return a.answerScans(scans, all)
		},
	}.command()
	c.Flags().StringVar(&credential, "credential", "", "log in as this credential says; else one of the device's")
	c.Flags().BoolVar(&all, "all", false, "also what is ignored for now")
	c.Flags().BoolVar(&last, "last", false, "what the latest scans found, of all devices or some; nothing is asked")
	return c
}

// someArgs wants at least one argument.
func someArgs(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return &usageError{reason: fmt.Sprintf("%s needs at least one %s", c.CommandPath(), name), path: c.CommandPath()}
		}
		return nil
	}
}

// scanAll looks at devices side by side. Scans come in their order.
func (a *app) scanAll(ctx context.Context, e *engine.Engine, names []string, credential string) []*engine.Scan {
	scans := make([]*engine.Scan, len(names))
	var wg sync.WaitGroup
	slots := make(chan struct{}, scanParallel)
	for i, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			a.doing("scanning " + name)
			s, err := e.Scan(ctx, name, credential)
			s.Err = err
			scans[i] = s
		})
	}
	wg.Wait()
	return scans
}

// lastScans prints what the latest scans of devices found.
func (a *app) lastScans(ctx context.Context, e *engine.Engine, names []string, all bool) error {
	list, err := e.LastScans(ctx, false)
	if err != nil {
		return err
	}
	by := map[string]*engine.LastScan{}
	for i := range list {
		by[list[i].Device] = &list[i]
	}
	views := make([]scanJSON, 0, len(names))
	found, lost := 0, 0
	for _, name := range names {
		v := viewLast(name, by[name])
		views = append(views, v)
		found += len(v.Findings)
		if v.Error != "" {
			lost++
		}
	}
	if err := a.answer(views, func(w io.Writer) { a.describeLast(w, views, all) }); err != nil {
		return err
	}
	return scansExit(lost, found)
}

// scansExit says by the exit code how many devices were not scanned, and how much was
// found.
func scansExit(lost, found int) error {
	switch {
	case lost > 0:
		return exitWith(exitUnreached)
	case found > 0:
		return exitWith(exitLeft)
	}
	return nil
}

// viewLast is what is known of a device; nil: it was never scanned.
func viewLast(device string, l *engine.LastScan) scanJSON {
	v := scanJSON{Device: device, Findings: []findingJSON{}, Ignored: []findingJSON{}}
	if l == nil {
		return v
	}
	v.At, v.Tried, v.Credential, v.Marked, v.OK, v.Error, v.Reached = l.At, l.Tried, l.Credential, l.Marked, l.OK, l.Error, l.Error == ""
	for i := range l.Findings {
		v.Findings = append(v.Findings, viewKept(device, &l.Findings[i], nil))
	}
	for i := range l.Ignored {
		v.Ignored = append(v.Ignored, viewKept(device, &l.Ignored[i].Finding, &l.Ignored[i].By))
	}
	return v
}

func viewKept(device string, f *grant.Finding, by *grant.Ignored) findingJSON {
	return findingJSON{
		Device: device, Object: f.Object, What: f.What, Why: f.Why, Mark: f.Mark, Grant: f.Grant, UID: f.UID, SID: f.SID,
		Locked: f.Locked, Until: f.Until, Expired: f.Expired, Ignored: by,
	}
}

// describeLast prints when devices were scanned, and what was found.
func (a *app) describeLast(w io.Writer, views []scanJSON, all bool) {
	t := table{head: []string{"DEVICE", "SCANNED", "BY", "IN ORDER", "FINDINGS", "LAST ERROR"}}
	for _, v := range views {
		when := "never"
		if !v.At.IsZero() {
			when = a.away(v.At)
		}
		t.add(v.Error != "", v.Device, when, v.Credential, strconv.Itoa(v.OK), strconv.Itoa(len(v.Findings)), cut(oneLine(v.Error), 80))
	}
	a.table(w, t)
	if rows := a.findings(views, all); len(rows.rows) > 0 {
		_, _ = fmt.Fprintln(w)
		a.table(w, rows)
	}
	a.hintScans(views)
}

// answerScans prints scans and says by the exit code what they came to.
func (a *app) answerScans(scans []*engine.Scan, all bool) error {
	views := make([]scanJSON, 0, len(scans))
	found, lost := 0, 0
	for _, s := range scans {
		v := viewScan(s)
		views = append(views, v)
		found += len(v.Findings)
		if s.Err != nil {
			lost++
			a.say("%s was not scanned: %s", s.Device, oneLine(v.Error))
			a.advise(s.Err)
		}
	}
	if err := a.answer(views, func(w io.Writer) { a.describeScans(w, views, all) }); err != nil {
		return err
	}
	return scansExit(lost, found)
}

func (a *app) describeScans(w io.Writer, views []scanJSON, all bool) {
	ok, found, ignored, scanned := 0, 0, 0, 0
	for _, v := range views {
		ok += v.OK
		ignored += len(v.Ignored)
		found += len(v.Findings)
		if v.Reached {
			scanned++
		}
	}
	if t := a.findings(views, all); len(t.rows) > 0 {
		a.table(w, t)
	}
	a.say("%s scanned: %s in order, %s%s", plural(scanned, "device"), plural(ok, "account"), plural(found, "finding"), hidden(ignored, all))
	a.hintScans(views)
}

// findings are the rows of what was found.
func (a *app) findings(views []scanJSON, all bool) table {
	t := table{head: []string{"DEVICE", "WHAT", "OBJECT", "UID", "ENDS", "GRANT", "WHY"}}
	for _, v := range views {
		for _, f := range v.Findings {
			a.findingRow(&t, &f)
		}
		for _, f := range v.Ignored {
			if all {
				f.What = "ignored"
				f.Why = []string{fmt.Sprintf("until %s by %s: %s", stamp(f.Ignored.Until), f.Ignored.Actor, f.Ignored.Reason)}
				a.findingRow(&t, &f)
			}
		}
	}
	return t
}

// hidden says what was left out.
func hidden(ignored int, all bool) string {
	if ignored == 0 || all {
		return ""
	}
	return fmt.Sprintf(", %d ignored for now (--all shows them)", ignored)
}

func (a *app) findingRow(t *table, f *findingJSON) {
	uid, ends, id := f.SID, "", f.Grant
	if f.UID != 0 {
		uid = strconv.FormatInt(f.UID, 10)
	}
	if !f.Until.IsZero() {
		ends = a.when(f.Until)
	}
	if id == "" {
		id = f.Mark
	}
	t.add(f.What != "ignored", f.Device, f.What, oneLine(f.Object), uid, ends, id, oneLine(strings.Join(f.Why, "; ")))
}

// hintScans says what a person can do about the first finding of each kind.
func (a *app) hintScans(views []scanJSON) {
	said := map[string]bool{}
	for _, v := range views {
		for _, f := range v.Findings {
			if said[f.What] {
				continue
			}
			said[f.What] = true
			name := f.Object[strings.Index(f.Object, " ")+1:]
			switch f.What {
			case engine.FoundUnknown:
				a.hint("runner device adopt %s %s removes it when its mark says; quarantine locks it now; ignore, if another runner made it", f.Device, name)
			case engine.FoundReturned:
				a.hint("runner device adopt %s %s has it removed again", f.Device, name)
			case engine.FoundOverdue:
				a.hint("runner sweep tries the removal; runner grant show %s says what is in the way", f.Grant)
			case engine.FoundChanged, engine.FoundMissing:
				if f.Grant != "" {
					a.hint("runner grant revoke %s takes the access away", f.Grant)
				}
			case engine.FoundStray, engine.FoundUnmarked:
				a.hint("runner never deletes what it may not have made: look at %s on %s, or runner device ignore %s '%s' --for 720h --reason TEXT", f.Object, f.Device, f.Device, f.Object)
			}
		}
	}
}
