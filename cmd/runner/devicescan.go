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
		all        bool
	)
	c := leaf{
		use: "scan DEVICE...", short: "find accounts on devices that should not be there, or not as they are",
		example: "runner device scan web-1\nrunner device scan 'web-*' db-1\nrunner device scan '*' -o json",
		long: `Everything that runner makes bears a mark on the device: its grant, and the time at
which the access ends. A scan reads these marks and compares them with the store:

  unknown    its mark names a grant that this store does not know
  returned   its grant is over, and it is there (again)
  overdue    its removal is due and not done
  changed    others changed it: number, name, groups, shell, lock, expiry, mark
  missing    an active grant without its account
  stray      a sudo rule or a key of runner's without its account
  unmarked   an account with one of runner's numbers, and no mark

Nothing is changed. runner device adopt, quarantine and ignore are what can be done
about a finding. Exit 9 says that there are findings, 7 that a device was not reached.`,
		args: someArgs("DEVICE"), exits: []int{exitFile, exitUnreached, exitLeft},
		run: func(ctx context.Context, args []string) error {
			e, err := a.planning()
			if err != nil {
				return err
			}
			names, err := matching("device", args, slices.Sorted(maps.Keys(e.Inventory.Devices)))
			if err != nil {
				return err
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
			s, err := e.ScanDevice(ctx, name, credential)
			s.Err = err
			scans[i] = s
		})
	}
	wg.Wait()
	return scans
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
	switch {
	case lost > 0:
		return exitWith(exitUnreached)
	case found > 0:
		return exitWith(exitLeft)
	}
	return nil
}

func (a *app) describeScans(w io.Writer, views []scanJSON, all bool) {
	t := table{head: []string{"DEVICE", "WHAT", "OBJECT", "UID", "ENDS", "GRANT", "WHY"}}
	ok, found, ignored, scanned := 0, 0, 0, 0
	for _, v := range views {
		ok += v.OK
		ignored += len(v.Ignored)
		found += len(v.Findings)
		if v.Reached {
			scanned++
		}
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
	if len(t.rows) > 0 {
		a.table(w, t)
	}
	a.say("%s scanned: %s in order, %s%s", plural(scanned, "device"), plural(ok, "account"), plural(found, "finding"), hidden(ignored, all))
	a.hintScans(views)
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
