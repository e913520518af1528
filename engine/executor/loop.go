package executor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"runner/engine/template"
)

// firstRound is the number of the first round of any loop; below it are steps.
const firstRound = 10_000_000

// round is one element of a loop under way: a copy of the step with a number
// of its own, and the name that the element has in it.
type round struct {
	*template.Step

	of      int    // number of the step
	name    string // of the element
	label   string
	element any
	result  *StepResult
}

// loop runs a step once for each element, all in one batch where the device
// can decide everything. Every element is tried; the step has failed when one
// of them has.
func (x *run) loop(ctx context.Context, st *template.Step) error {
	if x.num[st] < x.FromStep {
		x.skip(st, fmt.Sprintf("before step %d", x.FromStep))
		return nil
	}
	if x.view != nil && slices.ContainsFunc(st.Loop.Over.Refs(), func(p []string) bool { return x.view.later(p[0]) }) {
		x.explainRounds(st, nil)
		return nil
	}
	rounds, err := x.rounds(st)
	if err != nil {
		return x.broken(st, "loop: "+err.Error())
	}
	if len(rounds) == 0 {
		x.skip(st, "loop: the list is empty")
		return nil
	}
	start := time.Now()
	if x.view != nil {
		return x.explainLoop(ctx, st, rounds)
	}
	err = x.play(ctx, st, rounds)
	if failed := x.sum(st, rounds, start, err); err == nil {
		return failed
	}
	return err
}

// play runs the rounds of a loop. What becomes of a round is in its result;
// the error is one that ends the run.
func (x *run) play(ctx context.Context, st *template.Step, rounds []*round) error {
	var items []*item
	flush := func() error {
		for len(items) > 0 {
			ran, err := x.send(ctx, items)
			if err != nil {
				return err
			}
			items = items[max(ran, 1):]
		}
		return nil
	}
	for _, r := range rounds {
		if controls(st.Module) {
			if err := x.alone(ctx, r.Step, nil); err != nil {
				return err
			}
			continue
		}
		it, _, err := x.plan(r.Step, nil)
		if err != nil {
			return err
		}
		if it == nil {
			continue // it was skipped, or could not be planned
		}
		if items = append(items, it); it.post || x.NoFuse {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// elements evaluates the list.
func (x *run) elements(st *template.Step) (elements []any, err error) {
	v, err := st.Loop.Over.Eval(x.env(nil))
	if err != nil {
		return nil, err
	}
	switch l := v.(type) {
	case []string:
		for _, s := range l {
			elements = append(elements, s)
		}
	case []any:
		elements = l
	default:
		return nil, fmt.Errorf("%s is no list", st.Loop.Over.Text())
	}
	if len(elements) > template.MaxLoop {
		return nil, fmt.Errorf("the list has %d elements; a loop goes over at most %d", len(elements), template.MaxLoop)
	}
	return elements, nil
}

// rounds evaluates the list and makes a round for each element.
func (x *run) rounds(st *template.Step) ([]*round, error) {
	elements, err := x.elements(st)
	if err != nil {
		return nil, err
	}
	rounds := make([]*round, len(elements))
	for i, e := range elements {
		once := *st
		once.Loop, once.Register, once.OnError = nil, "", "continue" // every element is tried
		r := &round{Step: &once, of: x.num[st], name: st.Loop.Var, element: e}
		if r.label, err = x.label(st, i, e); err != nil {
			return nil, err
		}
		once.Name = st.Name + " (" + r.label + ")"
		x.num[r.Step] = firstRound + len(x.played)
		x.frames[r.Step] = x.frames[st]
		x.played = append(x.played, r)
		rounds[i] = r
	}
	return rounds, nil
}

// label is what an element is called.
func (x *run) label(st *template.Step, i int, element any) (string, error) {
	if st.Loop.Label != nil {
		env := x.env(nil)
		env[st.Loop.Var] = element
		v, err := st.Loop.Label.Eval(env)
		return fmt.Sprint(v), err
	}
	switch e := element.(type) {
	case string, int64, int, bool, float64:
		return fmt.Sprint(e), nil
	}
	return strconv.Itoa(i + 1), nil // a map or a list may hold what should not be shown
}

// roundOf returns the round with this number, or nil.
func (x *run) roundOf(n int) *round {
	if i := n - firstRound; i >= 0 && i < len(x.played) {
		return x.played[i]
	}
	return nil
}

// stepOf returns the number of the template's step that n is of.
func (x *run) stepOf(n int) int {
	for r := x.roundOf(n); r != nil; r = x.roundOf(n) {
		n = r.of
	}
	return n
}

// in makes visible what st sees, the names of an included file, the element of a
// round and its variables, until the returned func is called.
func (x *run) in(st *template.Step) func() {
	leave := x.enter(x.frames[st])
	r := x.roundOf(x.num[st])
	named := r != nil && r.name != ""
	if named {
		x.scope[r.name] = r.element
	}
	without := x.with(st)
	return func() {
		without()
		if named {
			delete(x.scope, r.name)
		}
		leave()
	}
}

// sum is the result of a step that is a loop. err is what ended it early.
func (x *run) sum(st *template.Step, rounds []*round, start time.Time, err error) error {
	r := StepResult{N: x.num[st], Name: st.Name, Module: st.Module.Name, Tags: st.Tags, Started: start, Ended: time.Now(), Status: Skipped}
	count := map[Status]int{}
	items := make([]any, 0, len(rounds))
	for _, e := range rounds {
		if e.result == nil {
			e.result = &StepResult{Name: e.Name, Status: Skipped, Reason: "the loop was ended before it"}
			e.result.Values = values(st.Outputs, *e.result, nil, "", "")
		}
		o := e.result
		count[o.Status]++
		items = append(items, o.Values)
		r.Attempts = max(r.Attempts, o.Attempts)
		switch o.Status {
		case Failed, Interrupted, Unreachable:
			if r.Message == "" {
				r.Status, r.RC, r.TimedOut = o.Status, o.RC, o.TimedOut
				r.Message = e.label + ": " + o.Message
			}
		case Changed, OK:
			if r.Message == "" && r.Status != Changed {
				r.Status = o.Status
			}
		case Skipped:
		}
	}
	if r.Status == Skipped {
		r.Reason = fmt.Sprintf("all %d elements were skipped", len(rounds))
		if len(rounds) > 0 && rounds[0].result.Reason != "" {
			r.Reason += ": " + rounds[0].result.Reason
		}
	}
	if r.Message == "" && r.Status != Skipped {
		r.Message = tally(count)
	}
	if err != nil && r.Status != Interrupted && r.Status != Unreachable {
		r.Status, r.Message = Interrupted, err.Error()
	}
	r.Values = values(nil, r, nil, "", "")
	r.Values["items"] = items
	x.finish(st, r)
	if r.Status == Failed && st.OnError != "continue" {
		return x.failed(r)
	}
	return nil
}

// tally says how many elements came to what.
func tally(count map[Status]int) string {
	var parts []string
	for _, s := range []Status{Changed, OK, Skipped, Failed} {
		if count[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[s], s))
		}
	}
	return strings.Join(parts, ", ")
}

// began tells the observer that a step, or a round of one, has begun.
func (x *run) began(n int, name string, at time.Time) {
	var labels []string
	for r := x.roundOf(n); r != nil; r = x.roundOf(n) {
		n, name = r.of, strings.TrimSuffix(name, " ("+r.label+")")
		labels = append([]string{r.label}, labels...)
	}
	if labels == nil {
		x.Observe.Began(n, name, at)
		return
	}
	if !x.begun[n] {
		x.begun[n] = true
		x.Observe.Began(n, name, at)
	}
	x.Observe.Note(n, "for "+strings.Join(labels, ", "))
}

// explainLoop plans the rounds of a loop.
func (x *run) explainLoop(ctx context.Context, st *template.Step, rounds []*round) error {
	if controls(st.Module) {
		x.explainRounds(st, rounds)
		return nil
	}
	var items []*item
	for _, r := range rounds {
		it, _, err := x.plan(r.Step, nil)
		if err != nil {
			return err
		}
		if it != nil {
			items = append(items, it)
		}
	}
	if len(items) == 0 {
		return x.sum(st, rounds, time.Time{}, nil)
	}
	if err := x.explain(ctx, items); err != nil {
		return err
	}
	x.explainRounds(st, rounds)
	return nil
}

// explainRounds adds what is known of a loop to the plan. Without rounds the
// list is known only when the device has answered.
func (x *run) explainRounds(st *template.Step, rounds []*round) {
	where := OnDevice
	if controls(st.Module) {
		where = OnRunner
	}
	s := x.planned(st, where)
	s.Why = "for each of " + x.over(st)
	for _, r := range rounds {
		if p := x.view.steps[x.num[r.Step]]; p != nil {
			s.Batch, s.Conditions, s.Args = p.Batch, p.Conditions, p.Args
			s.Objects = append(s.Objects, p.Objects...)
		}
	}
	if st.Register != "" {
		x.view.unknown[x.placeOf(st)+st.Register] = true
	}
}
