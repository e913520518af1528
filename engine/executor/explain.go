package executor

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/template"
	"runner/engine/transport"
)

// Plan is what a run would do, as far as that can be told before it does it.
type Plan struct {
	Batches []PlannedBatch
	Steps   []PlannedStep // in the order of the template
	// Calls are the results of Before, with a connection.
	Calls map[string]map[string]any
}

// PlannedBatch is what goes to the device in one go.
type PlannedBatch struct {
	Steps []int // numbers
	// Batch is what the connection would be given. Secrets are ***, and what only
	// an earlier batch tells is its name in angle brackets.
	Batch transport.Batch
}

// Where a step is carried out.
const (
	OnDevice = "device"
	OnRunner = "runner"
	Nowhere  = "nowhere" // it is known already that it is skipped
)

// PlannedStep is what is known of one step.
type PlannedStep struct {
	N            int
	Name, Module string
	Tags         []string
	Within       string // the part of a block that it belongs to, or empty
	Where        string
	Batch        int // from 1; 0: in none
	Why          string
	Conditions   []PlannedCondition
	Args         []PlannedArg // those that are written
	Objects      []PlannedObject
	Undo         string // the script that undoes it, as written
	Probe        string // the script that says whether what it makes is there
	ReadOnly     bool
}

// Who decides a condition or knows a value.
const (
	ByPlan   = "plan"   // it is known now
	ByDevice = "device" // the device decides it within the batch
	ByRunner = "runner" // runner decides it when the device has answered
)

// PlannedCondition is a condition of a step.
type PlannedCondition struct {
	Key    string // when, until, changed_when, failed_when, that
	Text   string // as written
	By     string
	Folded string // what is left of it with everything that is known now
	Now    string // true or false, by what the device says now; empty: it was not asked
}

// PlannedArg is an argument of a step.
type PlannedArg struct {
	Name    string
	Written string
	Value   string // what it comes to; a secret is ***
	By      string
}

// PlannedObject is a thing on the device that a step may change.
type PlannedObject struct {
	ID   string
	Undo *module.Undo // nil: nothing undoes it
	Now  string       // its state now; empty: it was not looked at
}

// Explain plans r as Do does, and changes nothing. Without Conn it sends
// nothing either: what steps would answer is unknown. With Conn it runs Before,
// those read-only steps that nothing comes before which could change what they
// read, and looks at the objects. Names that are later are not in r.Env, and only
// known when r really runs. A step that runner then skips may leave fewer batches
// than are planned. The error is what keeps r from being planned.
func Explain(ctx context.Context, r Run, later ...string) (*Plan, error) {
	r.Observe, r.After = silent{}, nil
	x := newRun(r)
	x.view = &view{unknown: map[string]bool{}, live: map[string]lang.Env{}, steps: map[int]*PlannedStep{}}
	for _, name := range later {
		x.view.unknown[name] = true // of the template itself
	}
	err := x.list(ctx, x.Steps, true)
	if _, step := err.(*StepError); err != nil && !step { //nolint:errorlint // what list returns
		return nil, err
	}
	p := &Plan{Batches: x.view.batches, Calls: x.res.Calls}
	for _, s := range x.res.Steps {
		x.view.result(s)
	}
	for n := 1; n <= x.total; n++ {
		if s := x.view.steps[n]; s != nil {
			p.Steps = append(p.Steps, *s)
		}
	}
	return p, nil
}

// view is what a run that only explains itself has found. The nil view is that
// of a run that is meant.
type view struct {
	batches []PlannedBatch
	steps   map[int]*PlannedStep
	unknown map[string]bool     // results that only a batch in front would tell
	waiting map[string]bool     // results of the batch that is being made
	live    map[string]lang.Env // results that read-only steps have now, by the file that sees them
	scope   string              // of the included file that is planned: before its names in unknown
	within  []string
	unsure  int  // parts of blocks around that may not run
	touched bool // a step that may change something was planned
}

// later reports whether a name is that of a result which is not known.
func (v *view) later(root string) bool { return v != nil && v.unknown[v.scope+root] }

// alive holds the results that the steps of one file have now.
func (v *view) alive(scope string) lang.Env {
	if v.live[scope] == nil {
		v.live[scope] = lang.Env{}
	}
	return v.live[scope]
}

// waits reports whether something that reads refs, and cannot go along to the
// device, has nothing to wait for in the batch that is being made.
func (v *view) waits(refs [][]string) bool {
	return v != nil && !slices.ContainsFunc(refs, func(p []string) bool { return v.waiting[p[0]] })
}

// begin notes which results are pending when a step is planned.
func (v *view) begin(waiting map[string]bool) {
	if v != nil {
		v.waiting = waiting
	}
}

// unheard is a value that runner computes when the device has answered.
func unheard(text string) transport.Value { return transport.Ref{Step: -1, Key: text} }

// result adds what was decided without sending anything.
func (v *view) result(r StepResult) {
	s := v.steps[r.N]
	if s == nil {
		s = &PlannedStep{N: r.N, Name: r.Name, Module: r.Module, Tags: r.Tags, Where: OnRunner}
		v.steps[r.N] = s
	}
	switch r.Status {
	case Skipped:
		s.Where, s.Why = Nowhere, r.Reason
	case Failed:
		s.Why = "fails: " + r.Message
	case OK, Changed, Unreachable, Interrupted:
		s.Why = r.Message
	}
}

// step returns the entry of a step.
func (x *run) planned(st *template.Step, where string) *PlannedStep {
	v := x.view
	s := &PlannedStep{N: x.num[st], Name: st.Name, Module: st.Module.Name, Tags: st.Tags, Within: strings.Join(v.within, ", "), Where: where, ReadOnly: st.Module.ReadOnly}
	if st.Undo != nil {
		s.Undo = st.Undo.Text
	}
	if st.Probe != nil {
		s.Probe = st.Probe.Text
	}
	v.steps[s.N] = s
	return s
}

// explain stands in for send: it notes a batch and that its results are unknown.
func (x *run) explain(ctx context.Context, items []*item) error {
	now, err := x.look(ctx, items)
	if err != nil {
		return err
	}
	b := transport.Batch{ID: x.batchID(), Scope: x.Scope, Become: items[0].account, KeepGoing: x.KeepGoing}
	inside := map[int]bool{}
	pb := PlannedBatch{}
	for _, it := range items {
		inside[it.n] = true
		if n := x.stepOf(it.n); !slices.Contains(pb.Steps, n) {
			pb.Steps = append(pb.Steps, n)
		}
	}
	names := x.namesOf()
	for _, it := range items {
		s := x.planned(it.st, OnDevice)
		s.Batch = len(x.view.batches) + 1
		s.Conditions = x.conditions(it, inside)
		s.Args = x.planArgsText(it, inside, names)
		for _, o := range x.objectsOf(it, s.Args) {
			s.Objects = append(s.Objects, PlannedObject{ID: o.ID, Undo: o.Undo, Now: now[o.ID]})
		}
		b.Steps = append(b.Steps, shown(it.step, inside, names))
	}
	for _, it := range items {
		if it.st.Register != "" {
			x.view.unknown[x.placeOf(it.st)+it.st.Register] = true
		}
	}
	pb.Batch = b
	x.view.batches = append(x.view.batches, pb)
	return nil
}

// objectsOf returns what a step may change. Where arguments are not known, their
// names stand in the names of objects.
func (x *run) objectsOf(it *item, args []PlannedArg) []module.Object {
	if !it.late || it.module.Objects == nil {
		return it.objects
	}
	full := maps.Clone(it.args)
	for _, a := range args {
		if _, known := full[a.Name]; !known {
			full[a.Name] = a.Value
		}
	}
	return it.module.Objects(full)
}

// look asks the device, if there is a connection, what read-only steps would
// say and how objects are now; it changes nothing.
func (x *run) look(ctx context.Context, items []*item) (map[string]string, error) {
	now := map[string]string{}
	if x.Conn == nil {
		return now, nil
	}
	var batch []*item
	owner := map[int]*item{}
	if !x.probed {
		batch = x.calls()
		x.probed = true
	}
	for _, it := range items {
		v := x.view
		switch {
		case it.module.ReadOnly && !v.touched && v.unsure == 0 && !it.late && it.step.When == nil:
			batch = append(batch, it)
		case !it.module.ReadOnly:
			v.touched = true
			if !it.late && len(it.objects) > 0 {
				p := probeOf(it)
				batch = append(batch, p)
				owner[p.n] = it
			}
		}
	}
	if len(batch) == 0 {
		return now, nil
	}
	said, err := x.exchange(ctx, batch)
	if err != nil {
		return nil, err
	}
	for _, it := range batch {
		t := said[it.n]
		switch {
		case it.call != nil:
			if err := x.settleCall(it, t); err != nil {
				return nil, err
			}
		case owner[it.n] != nil:
			for i, o := range owner[it.n].objects {
				now[o.ID] = t.facts["state."+strconv.Itoa(i)]
			}
		case it.st.Register != "" && t.done:
			x.view.alive(x.placeOf(it.st))[it.st.Register] = x.result(it, t).Values
		}
	}
	return now, nil
}

// explainAlone stands in for alone.
func (x *run) explainAlone(ctx context.Context, st *template.Step) error {
	v := x.view
	v.begin(nil)
	if st.When != nil && !onFailure(st) {
		res, err := st.When.Fold(x.scope, v.later)
		if err != nil {
			return x.broken(st, "when: "+err.Error())
		}
		if lit, is := res.(lang.RLit); is && lit.V != true {
			x.skipAll([]*template.Step{st}, "when: "+st.When.Text()+" was false")
			return nil
		}
	}
	if st.Include != nil {
		return x.explainInclude(ctx, st)
	}
	if st.Module == nil {
		return x.explainBlock(ctx, st)
	}
	if st.Module.Name != "revert" && !controls(st.Module) {
		it, _, err := x.plan(st, nil)
		if err != nil || it == nil {
			return err
		}
		return x.explain(ctx, []*item{it})
	}
	s := x.planned(st, OnRunner)
	if st.When != nil {
		s.Conditions = append(s.Conditions, x.condition("when", st.When, never, true))
	}
	for _, a := range st.Asserts {
		s.Conditions = append(s.Conditions, x.condition("that", a.That, never, true))
	}
	for _, name := range slices.Sorted(maps.Keys(st.Args)) {
		s.Args = append(s.Args, x.argText(name, st.Args[name]))
	}
	decided := func(c PlannedCondition) bool { return c.By == ByPlan }
	certain := v.unsure == 0 && !slices.ContainsFunc(s.Conditions, func(c PlannedCondition) bool { return !decided(c) }) &&
		!slices.ContainsFunc(s.Args, func(a PlannedArg) bool { return a.By != ByPlan })
	switch {
	case st.Module.Name == "revert":
		var except []string
		if args, err := x.evalArgs(st, x.env(nil)); err == nil {
			except = stringsOf(args["except"])
		}
		for _, c := range x.undoable(except) {
			s.Objects = append(s.Objects, PlannedObject{ID: c.Object, Undo: c.Undo})
		}
	case certain:
		return x.control(ctx, st, x.env(nil))
	}
	if st.Register != "" {
		v.unknown[v.scope+st.Register] = true
	}
	return nil
}

// explainBlock plans all parts of a block; which of them run is not known.
func (x *run) explainBlock(ctx context.Context, st *template.Step) error {
	name := "a block"
	if st.Name != "" {
		name = strconv.Quote(st.Name)
	}
	main := name
	if st.When != nil {
		main += " when " + st.When.Text()
		if c := x.condition("when", st.When, never, true); c.By != ByPlan {
			x.view.unsure++
			defer func() { x.view.unsure-- }()
		}
	}
	parts := []struct {
		steps []*template.Step
		what  string
	}{{st.Block, main}, {st.Rescue, "rescue of " + name + ", when a step of it has failed"}, {st.Always, "always of " + name}}
	for i, p := range parts {
		x.view.within = append(x.view.within, p.what)
		if i == 1 {
			x.view.unsure++
		}
		err := x.list(ctx, p.steps, false)
		if i == 1 {
			x.view.unsure--
		}
		x.view.within = x.view.within[:len(x.view.within)-1]
		if err != nil {
			return err
		}
	}
	return nil
}
