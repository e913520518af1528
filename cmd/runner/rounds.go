package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"time"

	"runner/engine"
	"runner/engine/lang"
	"runner/engine/store"
)

const (
	// scanEvery is how often serve scans each device where runner.yaml says nothing.
	scanEvery = 24 * time.Hour
	// never is how runner.yaml says that something is not to happen.
	never = "never"
	// markScan names the chore of several machines.
	markScan = "scan"
)

// rounds is when serve scans devices without being asked to, as runner.yaml says.
type rounds struct {
	every   time.Duration // 0: never
	devices []string      // patterns; none: all
}

// readRounds reads the key scan of runner.yaml.
func readRounds(d *lang.Decoder, n *lang.Node) rounds {
	f := d.Map(n, "scan")
	r := rounds{every: readSpan(d, f.Take("every"), "every", scanEvery, time.Minute, 90*24*time.Hour)}
	for _, it := range f.Items("devices") {
		name, ok := d.Text(it, "an entry of devices")
		if !ok {
			continue
		}
		if _, err := path.Match(name, ""); err != nil {
			d.Add(it, "wrong-value", "%q is no pattern: * stands for any text, ? for one character, [a-c] for one of these", name)
		}
		r.devices = append(r.devices, name)
	}
	f.End()
	return r
}

// readSpan reads a duration from lo to hi, or the word never, which is 0. Without the
// key it is def; 0 means never.
func readSpan(d *lang.Decoder, n *lang.Node, key string, def, lo, hi time.Duration) time.Duration {
	if n == nil || n.Kind == lang.ScalarNode && n.Text == never {
		if n == nil {
			return def
		}
		return 0
	}
	var t time.Duration
	v, err := lang.ParseAs(n.Text, lang.Duration)
	if err == nil {
		t, _ = v.(time.Duration)
	}
	switch {
	case n.Kind != lang.ScalarNode:
		d.Add(n, "wrong-type", "%s must be a duration such as %s, or %s", key, lang.Span(max(def, scanEvery)), never)
	case err != nil:
		d.Add(n, "wrong-type", "%s: %s; write a duration such as %s, or %s", key, err, lang.Span(max(def, scanEvery)), never)
	case t < lo || t > hi:
		d.Add(n, "out-of-range", "%s is %s; it must be from %s to %s, or %s", key, n.Text, lang.Span(lo), lang.Span(hi), never)
	}
	return t
}

// turn is how often it is looked which devices are to be scanned.
func (r rounds) turn() time.Duration { return min(max(r.every/60, time.Second), 5*time.Minute) }

// takes reports whether a device is among those that are scanned.
func (r rounds) takes(device string) bool {
	return len(r.devices) == 0 || slices.ContainsFunc(r.devices, func(p string) bool {
		is, err := path.Match(p, device)
		return is && err == nil
	})
}

// scanRounds scans what is due, whenever it is this machine's turn, until ctx ends. The
// first turn comes some time after the start: who starts again and again scans nothing
// twice. e is its own.
func (a *app) scanRounds(ctx context.Context, e engine.Engine, turns <-chan struct{}) {
	r := a.ws.scan
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-turns:
		}
		set, err := a.inventory() // as it is now
		if err == nil {
			e.Inventory = set
			_, err = e.Round(ctx, engine.Rounds{Every: r.every, Turn: r.turn(), Only: r.takes})
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			said = ""
		case err.Error() != said:
			said = err.Error()
			a.log.Error("devices are not scanned", slog.Any("error", err))
		}
	}
}

// takeTurns takes one turn after another, where no other machine could.
func takeTurns(ctx context.Context, every time.Duration, turns chan<- struct{}) {
	for pause(ctx, every) == nil {
		takeTurn(turns)
	}
}

// takeTurn takes a turn, unless one waits already.
func takeTurn(turns chan<- struct{}) {
	select {
	case turns <- struct{}{}:
	default:
	}
}

// beside are turns of what is done beside the jobs.
type beside struct{ scan, retain chan struct{} }

func newBeside() beside { return beside{make(chan struct{}, 1), make(chan struct{}, 1)} }

// chores are what one of several machines does of it at a time.
func (b beside) chores(r rounds) []store.Chore {
	list := []store.Chore{retainChore(b.retain)}
	if r.every > 0 {
		list = append(list, store.Chore{Name: markScan, Every: r.turn(), Later: true, Do: func(context.Context) error { takeTurn(b.scan); return nil }})
	}
	return list
}

// scanBanner writes what scans have found on top of an overview.
func (a *app) scanBanner(ctx context.Context) (func(io.Writer), error) {
	e, err := a.looking()
	if err != nil {
		return nil, err
	}
	n, list, err := e.Alarms(ctx)
	if err != nil {
		return nil, err
	}
	total := 0
	for _, k := range n {
		total += k
	}
	return func(w io.Writer) {
		if total == 0 {
			return
		}
		_, _ = fmt.Fprintln(w, a.outColor.red(plural(total, "finding")+" of scans:"))
		shown := 0
		for _, l := range list {
			for _, f := range l.Findings {
				if shown++; shown <= bannerShown {
					_, _ = fmt.Fprintln(w, a.outColor.red(fmt.Sprintf("  %s %s on %s, seen %s", f.What, oneLine(f.Object), l.Device, a.away(l.At))))
				}
			}
		}
		more := "  runner device scan --last"
		if total > bannerShown {
			more = fmt.Sprintf("  and %d more: runner device scan --last", total-bannerShown)
		}
		_, _ = fmt.Fprintln(w, a.outColor.red(more))
		_, _ = fmt.Fprintln(w)
	}, nil
}

// looking returns an engine that only reads the store.
func (a *app) looking() (*engine.Engine, error) {
	s, err := a.store()
	if err != nil {
		return nil, err
	}
	return a.wire(s)
}
