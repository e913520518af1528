// Package verify tries a create template with its delete template on throw-away
// machines, before they meet a real device: created and deleted, twice, in the
// wrong order, cut off at each step, several at once, beside somebody who has
// the name. It runs the real engine on a throw-away store and stops workers
// behind the engine's own seams. After each case it compares the machine with
// what it was before: files, lines, processes, wherever they are.
//
// It owns the cases and what they ask for. It refuses to know flags, workspaces
// and how results are kept, and it never touches a device.
package verify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"runner/engine/lab"
	"runner/engine/module"
	"runner/engine/template"
)

// Config says what is verified. Create, Delete and Modules are required.
type Config struct {
	Create, Delete *template.Template
	Modules        *module.Registry
	// Params are those of the creation, as a grant has them, and of the deletion,
	// as a credential has them.
	Params map[string]any
	// Only picks the cases whose name or step holds this text; the first one, a
	// plain creation and deletion, is always tried. "": all.
	Only string
	// Keep is a folder in which one machine goes on running after Run: that of
	// the first case that went wrong, as it was then, else any. "": none.
	Keep string
	// Tell is called when a case is over, by one goroutine at a time. May be nil.
	Tell func(c Case, n, total int)
}

// Case is what came of one case.
type Case struct {
	Name   string // what was done
	Step   string // of the template, for a case about one
	Reason string // what is wrong; "": nothing
	Left   []Left // in what the machine is not as it has to be
	Took   time.Duration
}

// OK reports whether nothing was wrong.
func (c *Case) OK() bool { return c.Reason == "" }

// Result is ok or failed.
func (c *Case) Result() string {
	if c.OK() {
		return "ok"
	}
	return "failed"
}

// Report is what came of all.
type Report struct {
	Cases []Case
	// Untried says why not all cases were tried; "": they were.
	Untried string
	// NotRun are the steps that never began, by template: nothing was learned
	// about them.
	NotRun  []string
	OS      string // id and version of the machine's system: debian 12
	Machine string // folder of the machine that was kept
	Took    time.Duration
}

// Failed returns how many cases went wrong.
func (r *Report) Failed() int {
	n := 0
	for i := range r.Cases {
		if !r.Cases[i].OK() {
			n++
		}
	}
	return n
}

// UsageError says that the templates cannot be tried as it was asked for.
type UsageError struct{ Reason string }

// Error returns the reason.
func (e *UsageError) Error() string { return e.Reason }

// caseTime bounds one case: one that takes longer hangs.
const caseTime = 3 * time.Minute

// Run tries everything. What is wrong with the templates is in the report; the
// error is about this machine, ctx, or a *UsageError.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	start := time.Now()
	v := &run{cfg: &cfg}
	r, err := v.all(ctx)
	if err != nil {
		v.forsake(context.WithoutCancel(ctx))
		return nil, err
	}
	r.Took = time.Since(start)
	return r, nil
}

// forsake ends the machine that was kept: nobody will be told of it.
func (v *run) forsake(ctx context.Context) {
	if v.kept == "" {
		return
	}
	_ = lab.Down(ctx, v.kept) // one that does not end shows in runner lab list
	_ = os.RemoveAll(v.kept)
}

// Check says why the templates cannot be tried at all, as a *UsageError. It asks
// no machine.
func (c *Config) Check() error {
	switch {
	case c.Create.Kind != template.Create || c.Delete.Kind != template.Delete:
		return &UsageError{"a create template is verified, together with its delete template"}
	case c.Create.Removal != c.Delete.Name:
		return &UsageError{fmt.Sprintf("create/%s is taken away by delete/%s, not by delete/%s", c.Create.Name, c.Create.Removal, c.Delete.Name)}
	}
	for _, t := range []*template.Template{c.Create, c.Delete} {
		if t.Platform != "linux" {
			return &UsageError{fmt.Sprintf("%s/%s is for platform %s; throw-away machines are linux", t.Kind, t.Name, t.Platform)}
		}
		if !t.Enabled {
			return &UsageError{fmt.Sprintf("%s/%s is not enabled", t.Kind, t.Name)}
		}
	}
	return nil
}

// run is a verification under way.
type run struct {
	cfg    *Config
	first  life
	mu     sync.Mutex
	ended  int
	total  int
	kept   string   // folder of the machine that stays
	idle   []*stage // machines that are as they were
	strewn []Left   // what was found among the programs of machines
}

func (v *run) all(ctx context.Context) (*Report, error) {
	s, err := newStage(ctx, v.cfg)
	if err != nil {
		return nil, err
	}
	r := &Report{OS: s.system()}
	tries := append([]try{{name: "create, then delete", do: v.first.do}}, plain()...)
	v.total = 1
	first := v.one(ctx, s, tries[0])
	if err := ctx.Err(); err != nil {
		s.end()
		return nil, context.Cause(ctx)
	}
	if f := first.finding; f != nil && f.usage {
		s.end()
		return nil, &UsageError{f.reason}
	}
	r.Cases = append(r.Cases, first.Case)
	if !first.OK() {
		v.keep(s)
		s = nil
	}
	tries = append(tries[1:], v.first.cutOff()...)
	all := len(tries)
	switch {
	case len(v.first.removal) == 0:
		tries = nil
		r.Untried = fmt.Sprintf("%d other cases were not tried: first an account has to be created and deleted", all)
	case !first.OK():
		tries = slices.DeleteFunc(tries, func(t try) bool { return t.creates })
		r.Untried = fmt.Sprintf("%d other cases were not tried: first nothing may be left when nothing else happens", all-len(tries))
	}
	tries = slices.DeleteFunc(tries, func(t try) bool { return !strings.Contains(t.name+" "+t.step, v.cfg.Only) })
	cases, err := v.lanes(ctx, s, tries)
	if err != nil {
		return nil, err
	}
	r.Cases = append(r.Cases, cases...)
	if len(v.strewn) > 0 {
		r.Cases = append(r.Cases, Case{Name: "all of these", Reason: "programs of the machine were added or changed, and stay so", Left: v.strewn})
	}
	r.NotRun = v.first.skipped
	r.Machine = v.kept
	return r, nil
}

// outcome is a case with what only this package sees of it.
type outcome struct {
	Case

	finding *finding
}

// one tries one case on a stage.
func (v *run) one(ctx context.Context, s *stage, t try) outcome {
	start := time.Now()
	s.last = v.first.last()
	within, cancel := context.WithTimeoutCause(ctx, caseTime, fmt.Errorf("it took longer than %s", caseTime))
	err := t.do(within, s)
	cancel()
	o := outcome{Case: Case{Name: t.name, Step: t.step, Took: time.Since(start)}}
	f, is := errors.AsType[*finding](err)
	switch {
	case err == nil:
	case is:
		s.hide(f)
		o.finding, o.Reason, o.Left = f, f.reason, f.left
	default:
		o.Reason = "it could not be tried: " + err.Error()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended++
	if v.cfg.Tell != nil && ctx.Err() == nil {
		v.cfg.Tell(o.Case, v.ended, v.total)
	}
	return o
}

// lanes tries cases on several machines at once; the cases come back in order.
// s is the first of the machines.
func (v *run) lanes(ctx context.Context, s *stage, tries []try) ([]Case, error) {
	v.total += len(tries)
	cases := make([]Case, len(tries))
	next := make(chan int)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	for range min(max(runtime.GOMAXPROCS(0), 1), 4, max(len(tries), 1)) {
		first := s
		s = nil
		wg.Go(func() {
			if err := v.lane(ctx, first, tries, cases, next); err != nil {
				stop(err)
			}
		})
	}
feed:
	for i := range tries {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	for _, s := range v.idle {
		v.keep(s)
	}
	return cases, context.Cause(ctx)
}

// lane tries cases one after the other; a machine is used until a case leaves
// it as it was not before.
func (v *run) lane(ctx context.Context, s *stage, tries []try, cases []Case, next <-chan int) error {
	defer func() {
		if s == nil {
			return
		}
		left := s.programs(ctx)
		v.mu.Lock()
		defer v.mu.Unlock()
		v.idle = append(v.idle, s)
		if len(v.strewn) == 0 {
			v.strewn = left
		}
	}()
	for i := range next {
		if s != nil && s.spoilt {
			s.end()
			s = nil
		}
		if s == nil {
			var err error
			if s, err = newStage(ctx, v.cfg); err != nil {
				s = nil
				return err
			}
		}
		o := v.one(ctx, s, tries[i])
		cases[i] = o.Case
		if !o.OK() {
			v.keep(s)
			s = nil
		}
	}
	return nil
}

// keep ends a machine, unless it is the one to keep: the first that comes here.
func (v *run) keep(s *stage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.kept == "" || v.kept != "" {
		s.end()
		return
	}
	v.kept = s.kept
	s.tidy()
}
