package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"runner/engine"
	"runner/engine/inventory"
	"runner/engine/lang"
	"runner/engine/transport"
)

// runTarget is where an ad hoc run goes.
type runTarget struct {
	credential string
	conn       *inventory.Connection
	params     map[string]*lang.Value // that the credential sets
}

// targets resolves --device or --credential, each target once.
func (r *templateRun) targets() ([]runTarget, error) {
	if (len(r.devices) == 0) == (len(r.credentials) == 0) {
		return nil, usagef("say where to run it: either --device or --credential")
	}
	set, err := r.app.inventory()
	if err != nil {
		return nil, err
	}
	credentials, err := matching("credential", r.credentials, slices.Sorted(maps.Keys(set.Credentials)))
	if err != nil {
		return nil, err
	}
	devices, err := matching("device", r.devices, slices.Sorted(maps.Keys(set.Devices)))
	if err != nil {
		return nil, err
	}
	for _, device := range devices {
		names, err := credentialsOf(set, device)
		if err != nil {
			return nil, err
		}
		if len(names) != 1 {
			return nil, usagef("device %s has %s; say which with --credential: %s", device, plural(len(names), "credential"), lang.Words(names))
		}
		credentials = append(credentials, names[0])
	}
	var out []runTarget
	for _, name := range credentials {
		conn, err := set.Resolve(name)
		if err != nil {
			return nil, usagef("%v", err)
		}
		out = append(out, runTarget{credential: name, conn: conn, params: set.Credentials[name].Params})
	}
	return out, nil
}

// target is the only one of targets.
func (r *templateRun) target() (runTarget, error) {
	all, err := r.targets()
	if err != nil {
		return runTarget{}, err
	}
	if len(all) > 1 {
		return runTarget{}, usagef("this takes one device at a time, and %d were named", len(all))
	}
	return all[0], nil
}

// matching returns what names and patterns (path.Match's * ? [ ]) stand for, in
// the order in which they were given, each once.
func matching(kind string, wanted, known []string) ([]string, error) {
	var out []string
	add := func(name string) {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, want := range wanted {
		if !strings.ContainsAny(want, "*?[") {
			if !slices.Contains(known, want) {
				return nil, unknownName(kind, want, known)
			}
			add(want)
			continue
		}
		found := false
		for _, name := range known {
			is, err := path.Match(want, name)
			if err != nil {
				return nil, usagef("%q is no pattern: * stands for any text, ? for one character, [a-c] for one of these", want)
			}
			if is {
				found = true
				add(name)
			}
		}
		if !found {
			return nil, usagef("no %s matches %q; there is %s", kind, want, lang.Words(known))
		}
	}
	return out, nil
}

// credentialsOf returns the names of a device's credentials, sorted.
func credentialsOf(set *inventory.Set, device string) ([]string, error) {
	if set.Devices[device] == nil {
		return nil, unknownName("device", device, slices.Sorted(maps.Keys(set.Devices)))
	}
	var names []string
	for name, c := range set.Credentials {
		if c.Device == device {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// unknownName says that nothing has a name, and what was probably meant.
func unknownName(kind, name string, names []string) error {
	if near := lang.Similar(name, names); near != "" {
		return usagef("there is no %s %q; did you mean %q?", kind, name, near)
	}
	return usagef("there is no %s %q; there is %s", kind, name, lang.Words(names))
}

// fleetJSON is what became of an ad hoc run on several devices.
type fleetJSON struct {
	Runs []runJSON `json:"runs"` // in the order of the devices
}

// worst is the order of exit codes of devices, the worst one last.
var worst = []int{exitDone, exitUsage, exitUnreached, exitUndone, exitFailed, exitInterrupted, exitLeft}

// fleet runs a template on several devices side by side and prints what became
// of each. A device that fails holds up none of the others.
func (r *templateRun) fleet(ctx context.Context, e *engine.Engine, run engine.AdHoc, targets []runTarget) error {
	a := r.app
	e.Progress = nil // a line for each device says enough
	v := fleetJSON{Runs: make([]runJSON, len(targets))}
	counts := make([]string, len(targets))
	codes := make([]int, len(targets))
	var work sync.WaitGroup
	var ended sync.Mutex // one device is told of at a time
	slots := make(chan struct{}, r.parallel)
	for i, at := range targets {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			one := run
			one.Connection, one.Defaults = at.conn, at.params
			res, err := notAfter(ctx, e, one)
			ended.Lock()
			defer ended.Unlock()
			v.Runs[i], counts[i] = r.view(&res, err), stepCounts(res.Steps)
			if err == nil {
				a.say("%s: %s %s", at.conn.Device, a.color.green("ok"), counts[i])
				return
			}
			ce := r.explain(ctx, run.Template, &res, err)
			codes[i] = ce.code
			a.say("%s", problem(ce.err))
			for _, h := range ce.hints {
				a.hint("%s: %s", at.conn.Device, h)
			}
		})
	}
	work.Wait()
	if err := a.answer(v, func(w io.Writer) { a.describeFleet(w, &v, counts, r.check) }); err != nil {
		return err
	}
	code := slices.MaxFunc(codes, func(x, y int) int { return slices.Index(worst, x) - slices.Index(worst, y) })
	if code == exitDone {
		return nil
	}
	bad := len(slices.DeleteFunc(codes, func(c int) bool { return c == exitDone }))
	return &codeError{code: code, err: fmt.Errorf("%d of %s failed", bad, plural(len(targets), "device"))}
}

// notAfter is RunTemplate, but begins nothing when ctx is over.
func notAfter(ctx context.Context, e *engine.Engine, run engine.AdHoc) (engine.AdHocResult, error) {
	if err := ctx.Err(); err != nil {
		var res engine.AdHocResult
		res.Execution.Device, res.Execution.Outcome = run.Connection.Device, "unreachable"
		return res, &transport.Error{Phase: transport.PhaseDial, Device: run.Connection.Device, Code: "cancelled", SafeToRetry: true, Step: -1, Err: errors.New("not begun: the command was interrupted")}
	}
	return e.RunTemplate(ctx, run)
}

func (a *app) describeFleet(w io.Writer, v *fleetJSON, counts []string, check bool) {
	t := table{head: []string{"DEVICE", "OUTCOME", "STEPS", "TOOK", "EXECUTION"}}
	for i, x := range v.Runs {
		t.add(x.Outcome != "ok", x.Device, x.Outcome, counts[i], short(time.Duration(x.TookMS)*time.Millisecond), x.ID)
	}
	a.table(w, t)
	for i := range v.Runs {
		if len(v.Runs[i].Diffs) > 0 {
			_, _ = fmt.Fprintf(w, "\n%s\n", v.Runs[i].Device)
			describeDiffs(w, v.Runs[i].Diffs, check)
		}
	}
}
