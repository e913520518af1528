package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"runner/engine/lang"
	"runner/engine/template"
)

// frame is an included file under way: it sees its own params and results, and
// of what is around it only grant, device and created.
type frame struct {
	step  *template.Step // that includes it
	id    int
	env   lang.Env
	names map[string]*named
}

// globals are the names that every file sees.
var globals = []string{"grant", "device", "created"}

// numberBlock numbers the steps of a block or an included file.
func (x *run) numberBlock(s *template.Step) {
	if s.Include == nil {
		x.number(s.Block)
		x.number(s.Rescue)
		x.number(s.Always)
		return
	}
	f := &frame{step: s, id: len(x.files) + 1, env: lang.Env{}, names: map[string]*named{}}
	around, names := x.numbering, x.names
	x.numbering, x.names = f, f.names
	x.files[s] = f
	x.number(s.Block)
	x.numbering, x.names = around, names
}

// enter makes the names of f visible until the returned func is called. The nil
// frame is the template itself.
func (x *run) enter(f *frame) (leave func()) {
	scope, names := x.scope, x.names
	x.scope, x.names = x.res.Env, x.rootNames
	if f != nil {
		x.scope, x.names = f.env, f.names
	}
	at := x.view.at(f.place())
	return func() {
		x.scope, x.names = scope, names
		x.view.at(at)
	}
}

// at changes which file is planned, and returns which one was.
func (v *view) at(scope string) (old string) {
	if v == nil {
		return ""
	}
	old, v.scope = v.scope, scope
	return old
}

// place stands before the names of f where those of several files are kept.
func (f *frame) place() string {
	if f == nil {
		return ""
	}
	return strconv.Itoa(f.id) + "/"
}

func (x *run) placeOf(st *template.Step) string { return x.frames[st].place() }

// scopeOf is where the result of st is seen.
func (x *run) scopeOf(st *template.Step) lang.Env {
	if f := x.frames[st]; f != nil {
		return f.env
	}
	return x.res.Env
}

// spliced reports whether the steps of a file can go where it is included: they
// join the batches around them then.
func (x *run) spliced(st *template.Step, pend []*item) bool {
	if st.Include == nil || st.Loop != nil || st.When != nil || st.Register != "" || st.OnError == "continue" {
		return false
	}
	defer x.in(st)()
	pending := func(root string) bool {
		return x.view.later(root) || slices.ContainsFunc(pend, func(it *item) bool {
			return it.st != nil && it.st.Register == root && x.frames[it.st] == x.frames[st]
		})
	}
	return !awaits(st.Vars, pending) && !slices.ContainsFunc(st.Include.Params, func(p template.Given) bool {
		return slices.ContainsFunc(p.Value.Refs(), func(ref []string) bool { return pending(ref[0]) })
	})
}

// open computes the params of an included file.
func (x *run) open(st *template.Step) error {
	f := x.files[st]
	if !slices.Contains(x.opened, f) {
		x.opened = append(x.opened, f)
	}
	defer x.in(st)()
	for _, g := range globals {
		if v, there := x.res.Env[g]; there {
			f.env[g] = v
		}
	}
	if slices.ContainsFunc(st.Include.Params, func(p template.Given) bool {
		return slices.ContainsFunc(p.Value.Refs(), func(ref []string) bool { return x.view.later(ref[0]) })
	}) {
		x.view.unknown[f.place()+"params"] = true // only when a plan is made
		return nil
	}
	params, err := st.Include.Resolve(x.env(nil), f.env)
	if err != nil {
		return err
	}
	f.env["params"] = params
	return nil
}

// refresh computes the params of the open files again, when what they read of
// the grant has changed.
func (x *run) refresh() error {
	for _, f := range x.opened {
		if err := x.open(f.step); err != nil {
			return x.cannot(f.step, err)
		}
	}
	return nil
}

// cannot is the failure of a step that includes a file, or nil when it may fail.
func (x *run) cannot(st *template.Step, err error) error {
	if st.OnError == "continue" {
		x.Observe.Note(0, "continuing: "+st.Name+": "+err.Error())
		return nil
	}
	return &StepError{N: x.stepOf(x.num[first(st.Block)]), Total: x.total, Name: st.Name, Msg: err.Error(), Sent: x.res.Sent}
}

// first returns the first module call of steps.
func first(steps []*template.Step) *template.Step {
	st := steps[0]
	for st.Module == nil {
		st = st.Block[0]
	}
	return st
}

// include runs an included file as a block of its own.
func (x *run) include(ctx context.Context, st *template.Step) error {
	if err := x.open(st); err != nil {
		x.skipAll(st.Block, "its params could not be computed")
		if st.Register != "" {
			x.scopeOf(st)[st.Register] = x.came(st, Failed)
		}
		return x.cannot(st, err)
	}
	err := x.list(ctx, st.Block, false)
	if x.ends(err) {
		return err
	}
	if x.lost != nil {
		return x.lost
	}
	status := OK
	if err != nil {
		status = Failed
	}
	if st.Register != "" {
		x.scopeOf(st)[st.Register] = x.came(st, status)
		if err == nil {
			err = x.handOn(st)
		}
	}
	if err != nil && st.OnError == "continue" {
		x.Observe.Note(0, "continuing: "+err.Error())
		return nil
	}
	return err
}

// came is the result of an included file before its outputs are computed.
func (x *run) came(st *template.Step, status Status) map[string]any {
	r := StepResult{Name: st.Name, Status: status}
	changed := func(s *StepResult, n int) bool { return s != nil && s.Status == Changed && x.within(st, n) }
	if status == OK && (slices.ContainsFunc(x.res.Steps, func(s StepResult) bool { return changed(&s, s.N) }) ||
		slices.ContainsFunc(x.played, func(p *round) bool { return changed(p.result, x.num[p.Step]) })) {
		r.Status = Changed
	}
	if status != Skipped {
		r.Attempts = 1
	}
	return values(st.Results(), r, nil, "", "")
}

// within reports whether step n is one of those of an included file.
func (x *run) within(st *template.Step, n int) bool {
	for s, f := range x.frames {
		for ; f != nil && x.num[s] == n; f = x.frames[f.step] {
			if f.step == st {
				return true
			}
		}
	}
	return false
}

// handOn computes the outputs of an included file.
func (x *run) handOn(st *template.Step) error {
	result := x.scopeOf(st)[st.Register].(map[string]any) //nolint:forcetypeassert // came made it
	leave := x.enter(x.files[st])
	defer leave()
	var failed error
	for _, o := range st.Include.Outputs {
		v, err := o.Value.Eval(x.env(nil))
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("outputs.%s: %w", o.Name, err))
			continue
		}
		result[o.Name] = v
	}
	if failed == nil {
		return nil
	}
	return &StepError{N: x.stepOf(x.num[first(st.Block)]), Total: x.total, Name: st.Name, Msg: failed.Error(), Sent: x.res.Sent}
}

// explainInclude stands in for include.
func (x *run) explainInclude(ctx context.Context, st *template.Step) error {
	if err := x.open(st); err != nil {
		return x.cannot(st, err)
	}
	if err := x.explainBlock(ctx, st); err != nil {
		return err
	}
	if st.Register != "" {
		x.view.unknown[x.placeOf(st)+st.Register] = true
	}
	return nil
}
