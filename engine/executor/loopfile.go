package executor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"runner/engine/lang"
	"runner/engine/template"
)

// came of one element is registered under this name, which no author can write.
const elementResult = "\x00element"

// loopFile runs the steps of a file once for each element, one element after the
// other: each with a copy of the steps and a scope of its own. Every element is
// tried; the step has failed when one of them has. The steps of the file have one
// result for all elements, like those that are loops themselves.
func (x *run) loopFile(ctx context.Context, st *template.Step) error {
	if x.view != nil {
		return x.explainLoopFile(ctx, st)
	}
	elements, err := x.elements(st)
	if err != nil {
		return x.noLoop(st, fmt.Errorf("loop: %w", err))
	}
	if len(elements) == 0 {
		x.skipAll([]*template.Step{st}, "loop: the list is empty")
		return nil
	}
	start := time.Now()
	var (
		failure, ended error
		items          = make([]any, 0, len(elements))
		first          = len(x.played)
		all            = StepResult{Name: st.Name, Status: Skipped, Started: start}
	)
	for i, e := range elements {
		label, err := x.label(st, i, e)
		if err != nil {
			return x.noLoop(st, err)
		}
		c := x.again(st, x.frames[st], &round{name: st.Loop.Var, element: e, label: label})
		if ended != nil {
			items = append(items, x.came(c, Skipped))
			continue
		}
		err = x.alone(ctx, c, nil)
		scope := x.scopeOf(st)
		result, _ := scope[elementResult].(map[string]any)
		delete(scope, elementResult)
		if result == nil {
			result = x.came(c, Failed)
		}
		items = append(items, result)
		all.Attempts = 1
		switch {
		case stops(err):
			ended = err
		case err != nil && failure == nil:
			failure = err
		case result["changed"] == true:
			all.Status = Changed
		case result["skipped"] != true && all.Status == Skipped:
			all.Status = OK
		}
	}
	if failure != nil || ended != nil {
		all.Status = Failed
	}
	x.sumFile(st.Block, slices.Clone(x.played[first:]), start)
	if st.Register != "" {
		all.Ended = time.Now()
		v := values(nil, all, nil, "", "")
		v["items"] = items
		x.scopeOf(st)[st.Register] = v
	}
	switch {
	case ended != nil:
		return ended
	case failure != nil && st.OnError == "continue":
		x.Observe.Note(0, "continuing: "+failure.Error())
		return nil
	}
	return failure
}

// noLoop is for a list that is none: the steps of the file do not run.
func (x *run) noLoop(st *template.Step, err error) error {
	x.skipAll(st.Block, "the loop around it could not be computed")
	if st.Register != "" {
		v := values(st.Results(), StepResult{Name: st.Name, Status: Failed, Message: err.Error()}, nil, "", "")
		x.scopeOf(st)[st.Register] = v
	}
	return x.cannot(st, err)
}

// again copies a step for one element, with all that is in it. f is the file that
// the copy is in; of says which element, and its name where the copy sees it.
func (x *run) again(st *template.Step, f *frame, of *round) *template.Step {
	c := *st
	if why := x.unchosen[st]; why != "" {
		x.unchosen[&c] = why
	}
	if f != nil {
		x.frames[&c] = f
	}
	r := &round{Step: &c, of: x.num[st], name: of.name, label: of.label, element: of.element}
	inner := &round{label: of.label}
	if of.name != "" { // the step with the loop itself
		r.of = x.num[first(st.Block)]
		c.Loop, c.Register, c.OnError = nil, elementResult, "fail"
	}
	if st.Module != nil || of.name != "" {
		c.Name = st.Name + " (" + of.label + ")"
		x.num[&c] = firstRound + len(x.played)
		x.played = append(x.played, r)
	}
	if st.Include != nil {
		f = &frame{step: &c, id: len(x.files) + 1, env: lang.Env{}, names: map[string]*named{}}
		x.files[&c] = f
	}
	for _, part := range []*[]*template.Step{&c.Block, &c.Rescue, &c.Always} {
		copied := make([]*template.Step, len(*part))
		for i, s := range *part {
			copied[i] = x.again(s, f, inner)
		}
		*part = copied
	}
	if st.Module != nil && c.Register != "" && f != nil {
		f.names[c.Register] = &named{n: x.num[&c], outputs: outputsOf(&c)}
	}
	return &c
}

// sumFile gives the steps of a file what came of all elements.
func (x *run) sumFile(steps []*template.Step, played []*round, start time.Time) {
	for _, st := range steps {
		if st.Module == nil {
			x.sumFile(slices.Concat(st.Block, st.Rescue, st.Always), played, start)
			continue
		}
		var own []*round
		for _, p := range played {
			if p.Module != nil && p.of == x.num[st] {
				own = append(own, p)
			}
		}
		_ = x.sum(st, own, start, nil) // what failed is told by the element that it failed for
	}
}

// over says what a loop goes over, as far as that is known.
func (x *run) over(st *template.Step) string {
	text := st.Loop.Over.Text()
	if slices.ContainsFunc(st.Loop.Over.Refs(), func(p []string) bool { return x.view.later(p[0]) }) {
		return text
	}
	elements, err := x.elements(st)
	if err != nil {
		return text
	}
	var labels []string
	for i, e := range elements {
		label, err := x.label(st, i, e)
		if err != nil {
			return text
		}
		labels = append(labels, label)
	}
	if text != "" {
		text += ": "
	}
	return text + strings.Join(labels, ", ")
}

// explainLoopFile stands in for loopFile: what the elements are is not known in
// the steps of the file.
func (x *run) explainLoopFile(ctx context.Context, st *template.Step) error {
	element := x.placeOf(st) + st.Loop.Var
	x.view.unknown[element] = true
	defer delete(x.view.unknown, element)
	x.view.within = append(x.view.within, "for each of "+x.over(st))
	x.view.unsure++
	defer func() {
		x.view.within = x.view.within[:len(x.view.within)-1]
		x.view.unsure--
	}()
	return x.explainInclude(ctx, st)
}
