package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"runner/engine/grant"
	"runner/engine/transport"
)

const (
	// roundAtOnce is how many devices a round looks at side by side.
	roundAtOnce = 4
	// roundPatience bounds how long one of them may take.
	roundPatience = 5 * time.Minute
)

// Scan is ScanDevice that keeps what it came to, for [Engine.LastScans] and the alarms.
func (e *Engine) Scan(ctx context.Context, device, credential string) (*Scan, error) {
	kept := grant.Scanned{Device: device, Tried: e.Now()}
	s, err := e.ScanDevice(ctx, device, credential)
	if e.Inventory.Devices[device] == nil || ctx.Err() != nil {
		return s, err
	}
	if err != nil {
		kept.Error, kept.Away = err.Error(), away(err)
	} else {
		kept.At, kept.Credential, kept.Marked, kept.OK = e.Now(), s.Credential, s.Marked, s.OK
		for _, f := range slices.Concat(s.Findings, s.Ignored) {
			kept.Findings = append(kept.Findings, f.kept())
		}
	}
	if serr := e.Store.PutScan(ctx, kept); serr != nil {
		e.Log.Error("what a scan came to is not kept", slog.String("device", device), slog.Any("error", serr))
	}
	return s, err
}

// away reports whether an error says that a device was not reached, which may be over
// soon. A device that refused runner is not asked again before its time.
func away(err error) bool {
	te, is := errors.AsType[*transport.Error](err)
	return is && te.Phase != transport.PhaseAuth
}

// kept is a finding as it is stored.
func (f *Finding) kept() grant.Finding {
	k := grant.Finding{What: f.What, Object: f.Object, Why: f.Why, Mark: f.markOf(), Until: f.Until, Expired: f.Expired}
	if f.Seen != nil {
		k.UID, k.SID, k.Locked = f.Seen.UID, f.Seen.SID, f.Seen.State == "locked"
	}
	if f.Grant != nil {
		k.Grant = f.Grant.Grant.ID
	}
	return k
}

// Rounds says how often devices are scanned without being asked to.
type Rounds struct {
	Every time.Duration // each device
	Turn  time.Duration // how often Round is called, by all machines together
	Only  func(device string) bool
}

// Round scans the devices whose turn it is, those first that were not for the longest
// time, and returns how many it did. At most twice as many as it takes to come round in
// time are scanned in a turn, so that they are spread over it; one that does not answer
// jobs is left in peace. Other workers may do the same at the same time: each device is
// scanned by one of them. What was kept of devices that there are no more is forgotten.
func (e *Engine) Round(ctx context.Context, r Rounds) (int, error) {
	list, err := e.Store.Scans(ctx, false)
	if err != nil {
		return 0, err
	}
	last := map[string]grant.Scanned{}
	for _, s := range list {
		last[s.Device] = s
		if e.Inventory.Devices[s.Device] == nil {
			if err := e.Store.DropScan(ctx, s.Device); err != nil {
				return 0, err
			}
		}
	}
	silences, err := e.Store.Silences(ctx)
	if err != nil {
		return 0, err
	}
	now := e.Now()
	silent := map[string]bool{}
	for _, s := range silences {
		silent[s.Device] = now.Before(s.Until)
	}
	var due []grant.Scanned
	all := 0
	for _, device := range slices.Sorted(maps.Keys(e.Inventory.Devices)) {
		if !r.Only(device) || !e.scannable(device) {
			continue
		}
		all++
		s := last[device]
		s.Device = device
		if !silent[device] && !now.Before(s.Next(r.Every)) {
			due = append(due, s)
		}
	}
	slices.SortStableFunc(due, func(a, b grant.Scanned) int { return a.Tried.Compare(b.Tried) })
	most := 1 + int(2*int64(all)*int64(r.Turn)/max(1, int64(r.Every)))
	return e.round(ctx, due[:min(len(due), most)])
}

// scannable reports whether a device can be scanned without a person who says how:
// runner makes accounts there, and can look for its marks.
func (e *Engine) scannable(device string) bool {
	cred, err := e.lookBy(device, "")
	if err != nil || !cred.JIT.Enabled {
		return false
	}
	cn, err := e.Inventory.Resolve(cred.Name)
	return err == nil && e.Modules.Lookup(platforms[cn.Platform].marks) != nil
}

// round scans devices, a few at once, those that nobody else has begun with.
func (e *Engine) round(ctx context.Context, due []grant.Scanned) (int, error) {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		n    int
		errs error
	)
	slots := make(chan struct{}, roundAtOnce)
	for _, s := range due {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			mine, err := e.Store.BeginScan(ctx, s.Device, s.Tried, e.Now())
			if mine && err == nil {
				e.scanUnasked(ctx, s.Device)
			}
			mu.Lock()
			defer mu.Unlock()
			if mine {
				n++
			}
			errs = errors.Join(errs, err)
		})
	}
	wg.Wait()
	return n, errs
}

// scanUnasked scans a device and says in the log what a person should see.
func (e *Engine) scanUnasked(ctx context.Context, device string) {
	ctx, cancel := context.WithTimeout(ctx, roundPatience)
	defer cancel()
	s, err := e.Scan(ctx, device, "")
	switch {
	case err != nil && ctx.Err() == nil:
		e.Log.Warn("device not scanned", slog.String("device", device), slog.Any("error", err))
	case err == nil && len(s.Findings) > 0:
		f := &s.Findings[0]
		e.Log.Warn("a scan has findings", slog.String("device", device), slog.Int("findings", len(s.Findings)), slog.String("what", f.What), slog.String("object", f.Object))
	}
}

// LastScan is what the latest scan of a device came to, as far as nothing has been done
// about it since.
type LastScan struct {
	grant.Scanned // its Findings are those that are open

	Ignored []IgnoredFinding
}

// IgnoredFinding is a finding that a person wants to hear no more of for now.
type IgnoredFinding struct {
	grant.Finding

	By grant.Ignored
}

// LastScans tells what the latest scans came to, of all devices or of those that found
// something.
func (e *Engine) LastScans(ctx context.Context, found bool) ([]LastScan, error) {
	list, err := e.Store.Scans(ctx, found)
	if err != nil {
		return nil, err
	}
	out := make([]LastScan, 0, len(list))
	for _, s := range list {
		l := LastScan{Scanned: s}
		l.Findings = nil
		var ignored []grant.Ignored
		if len(s.Findings) > 0 {
			if ignored, err = e.Store.Ignored(ctx, s.Device); err != nil {
				return nil, err
			}
		}
		for _, f := range s.Findings {
			if open, err := e.stillOpen(ctx, &s, &f); err != nil {
				return nil, err
			} else if !open {
				continue
			}
			if by := ignoredBy(ignored, f.Object, f.Mark, e.Now()); by != nil {
				l.Ignored = append(l.Ignored, IgnoredFinding{f, *by})
				continue
			}
			l.Findings = append(l.Findings, f)
		}
		out = append(out, l)
	}
	return out, nil
}

// stillOpen reports whether nothing that the store knows of has settled a finding since
// the scan: its account was taken over, or its removal has been proven. The rest the
// next scan tells.
func (e *Engine) stillOpen(ctx context.Context, s *grant.Scanned, f *grant.Finding) (bool, error) {
	id := cmp.Or(f.Grant, f.Mark)
	if id == "" || f.What == FoundStray {
		return true, nil
	}
	c, err := e.Store.Case(ctx, id)
	if errors.Is(err, grant.ErrNotFound) || err == nil && c.Grant.ID != id {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	switch {
	case c.Grant.State.Final():
		return !over(&c.Grant).After(s.At), nil
	case f.What == FoundUnknown, f.What == FoundReturned:
		return false, nil
	case f.What == FoundOverdue:
		return c.Overdue(e.Now()) > 0, nil
	}
	return true, nil
}

// Alarms are the open findings of the latest scans that no other overview shows, by
// what was found: removals that are overdue are counted as such.
func (e *Engine) Alarms(ctx context.Context) (map[string]int, []LastScan, error) {
	list, err := e.LastScans(ctx, true)
	if err != nil {
		return nil, nil, fmt.Errorf("engine: findings: %w", err)
	}
	n := map[string]int{}
	var out []LastScan
	for _, l := range list {
		l.Findings = slices.DeleteFunc(l.Findings, func(f grant.Finding) bool { return f.What == FoundOverdue })
		for _, f := range l.Findings {
			n[f.What]++
		}
		if len(l.Findings) > 0 {
			out = append(out, l)
		}
	}
	return n, out, nil
}
