package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"runner/engine/module"
	"runner/engine/template"
	"runner/engine/transport"
)

// revert takes the recorded changes back, newest first. It looks at every
// object before it acts: an object that is as it was before needs nothing; one
// that is as the change left it is put back; anything else was changed by
// somebody since and is a conflict, which is reported and left alone.
func (x *run) revert(ctx context.Context, st *template.Step) error {
	n := x.num[st]
	r := StepResult{N: n, Name: st.Name, Module: "revert", Tags: st.Tags, Attempts: 1, Started: time.Now(), Status: OK}
	x.Observe.Began(n, st.Name, r.Started)
	except, conflictMode := []string{}, "warn"
	if args, err := x.evalArgs(st, x.env(nil)); err == nil {
		except = stringsOf(args["except"])
		if m := args.String("conflict"); m != "" {
			conflictMode = m
		}
	}
	d, err := x.undo(ctx, n, except, conflictMode == "force")
	r.Ended = time.Now()
	if stops(err) {
		r.Status, r.Message = Interrupted, err.Error()
		r.Values = values(outputsOf(st), r, nil, "", "")
		x.finish(st, r)
		return err
	}
	r.Message = d.summary()
	switch {
	case err != nil:
		r.Status, r.Message = Failed, err.Error()
	case len(d.conflicts) > 0 && conflictMode == "fail":
		r.Status = Failed
	case len(d.undone) > 0:
		r.Status = Changed
	}
	r.Values = values(outputsOf(st), r, map[string]string{
		"undone": strings.Join(d.undone, "\n"), "conflicts": strings.Join(d.conflicts, "\n"), "kept": strings.Join(d.kept, "\n"), "already": strings.Join(d.already, "\n"),
	}, "", "")
	x.Observe.Note(n, r.Message)
	x.finish(st, r)
	if r.Status == Failed && st.OnError != "continue" {
		return x.failed(r)
	}
	return nil
}

// undoing is what a revert came to, by objects.
type undoing struct {
	undone    []string
	conflicts []string // changed by somebody else since, and left alone
	kept      []string // left to others who hold it as well
	already   []string // as it was before, although nobody of us put it back
}

func (d *undoing) summary() string {
	s := "nothing to undo"
	if len(d.undone) > 0 {
		s = "undone: " + strings.Join(d.undone, ", ")
	}
	for _, part := range []struct {
		text string
		list []string
	}{{"kept for others", d.kept}, {"left alone, changed by somebody else since", d.conflicts}, {"no longer as it was left", d.already}} {
		if len(part.list) > 0 {
			s += "; " + part.text + ": " + strings.Join(part.list, ", ")
		}
	}
	return s
}

// Revert undoes recorded changes outside of any template, for a run that
// failed and has no grant whose removal would do it.
func Revert(ctx context.Context, r Run) (undone, conflicts []string, err error) {
	x := &run{Run: r, res: &Result{Calls: map[string]map[string]any{}, Env: r.Env}, taken: map[string]bool{}, scope: r.Env, probed: true}
	if x.Timeout == 0 {
		x.Timeout = DefaultTimeout
	}
	if x.Observe == nil {
		x.Observe = silent{}
	}
	d, err := x.undo(ctx, 0, nil, false)
	return d.undone, d.conflicts, err
}

// Seen is what the device says about an object that was changed.
type Seen struct {
	Change Change // all that was recorded of the object, as one
	Now    string
	Known  bool // false: nothing can look at it, or it was not told
}

// Look asks what the recorded changes of r came to, whatever was done about them
// since, newest object first. Nothing is changed. What is left to others is not
// looked at, nor what no module can look at.
func Look(ctx context.Context, r Run) ([]Seen, error) {
	x := &run{Run: r, res: &Result{Calls: map[string]map[string]any{}, Env: r.Env}, taken: map[string]bool{}, scope: r.Env, probed: true}
	x.Observe = silent{}
	if x.Timeout == 0 {
		x.Timeout = DefaultTimeout
	}
	x.Recorded = slices.Clone(r.Recorded)
	for i := range x.Recorded {
		if c := &x.Recorded[i]; c.State != Intended && c.State != Unchanged {
			c.State = Done
		}
	}
	pending := slices.DeleteFunc(x.undoable(nil), func(c Change) bool { return isScript(c.Object) })
	var out []Seen
	var ask []Change
	for _, c := range pending {
		if len(c.Others) > 0 {
			out = append(out, Seen{Change: c})
		} else {
			ask = append(ask, c)
		}
	}
	if len(ask) == 0 {
		return out, nil
	}
	said, err := x.lookAt(ctx, 1, ask)
	if err != nil {
		return nil, err
	}
	for i, c := range ask {
		out = append(out, Seen{Change: c, Now: said[i].state, Known: said[i].known})
	}
	return out, nil
}

// idle reports whether a step is a revert that has nothing to do: it need not
// end the batch.
func (x *run) idle(st *template.Step) bool {
	if st.Module == nil || st.Module.Name != "revert" || st.When != nil {
		return false
	}
	defer x.in(st)()
	args, err := x.evalArgs(st, x.env(nil))
	return err == nil && len(x.undoable(stringsOf(args["except"]))) == 0
}

// settled records a revert that has nothing to do.
func (x *run) settled(st *template.Step) {
	r := StepResult{N: x.num[st], Name: st.Name, Module: "revert", Tags: st.Tags, Attempts: 1, Status: OK, Message: (&undoing{}).summary()}
	r.Values = values(outputsOf(st), r, nil, "", "")
	x.finish(st, r)
}

// undoable returns what a revert has to look at, newest object first. All that
// was recorded of one object counts as one change: what it was before the
// first of them and is after the last.
func (x *run) undoable(except []string) (pending []Change) {
	for _, c := range x.Recorded {
		if c.State != Done && c.State != Intended || c.Undo == nil || slices.Contains(except, c.Module) {
			continue
		}
		i := slices.IndexFunc(pending, func(o Change) bool { return o.Object == c.Object })
		if i < 0 {
			pending = append(pending, c)
			continue
		}
		m := &pending[i]
		m.After, m.Undo = c.After, c.Undo
		if c.State == Intended {
			m.State = Intended // somewhere on the way, so what it is now is not known
		}
	}
	pending = slices.DeleteFunc(pending, func(c Change) bool { return c.Before == c.After && c.State == Done })
	slices.Reverse(pending)
	return pending
}

// closed returns the recorded changes of the objects in pending with the state
// that these came to.
func (x *run) closed(pending []Change) (all []Change) {
	for _, c := range x.Recorded {
		for _, t := range pending {
			if t.Object == c.Object && (c.State == Done || c.State == Intended) {
				c.State = t.State
				all = append(all, c)
			}
		}
	}
	return all
}

// undo works through the recorded changes in reverse.
func (x *run) undo(ctx context.Context, n int, except []string, force bool) (d undoing, err error) {
	pending := x.undoable(except)
	if len(pending) == 0 {
		return d, nil
	}
	said, err := x.lookAt(ctx, n, pending)
	if err != nil {
		return d, err
	}
	var act []*item
	var acted []*Change
	for i := range pending {
		c := &pending[i]
		if !x.toUndo(c, said[i], force, &d) {
			continue
		}
		a, err := x.undoItem(n, len(pending)+i, c, x.Mode)
		if err != nil {
			return d, err
		}
		act, acted = append(act, a), append(acted, c)
	}
	var failed error
	if len(act) > 0 {
		if x.Lease != nil {
			if err := x.Lease(ctx); err != nil {
				return d, err
			}
		}
		said, err := x.exchange(ctx, act)
		if err != nil {
			return d, err
		}
		for i, it := range act {
			t := said[it.n]
			if !t.done || t.failed {
				failed = errors.Join(failed, &StepError{N: n, Total: x.total, Name: "undo " + acted[i].Object, Msg: lastLine(t), RC: t.rc, Sent: true})
				continue
			}
			acted[i].State = Undone
			d.undone = append(d.undone, acted[i].Object)
		}
	}
	if x.Undone != nil {
		if err := x.Undone(ctx, x.closed(pending)); err != nil {
			return d, err
		}
	}
	if failed != nil {
		if first, ok := errors.AsType[*StepError](failed); ok {
			return d, first
		}
	}
	return d, nil
}

// toUndo decides about one change, whose object is now as said, and notes it
// when there is nothing to do.
func (*run) toUndo(c *Change, now sight, force bool, d *undoing) bool {
	script := isScript(c.Object)
	if script {
		now = sight{c.After, true} // nothing can look at it
	}
	restores := c.Undo.Restore != ""
	switch {
	case len(c.Others) > 0:
		d.kept = append(d.kept, c.Object)
		c.State = Released
	case now.known && !script && (now.state == c.Before || now.state == "absent"):
		if c.State == Done && now.state != c.After {
			d.already = append(d.already, c.Object)
		}
		c.State = Undone
	case !now.known, c.Before != "absent" && !restores, now.state != c.After && c.State == Done && !force:
		// Undoing takes an object away: one that was there before stays as it is.
		c.State = Conflict
		d.conflicts = append(d.conflicts, c.Object)
	default:
		return true
	}
	return false
}

// sight is what the device said about an object.
type sight struct {
	state string
	known bool
}

// lookAt asks what the objects of changes are now, in their order.
func (x *run) lookAt(ctx context.Context, n int, cs []Change) ([]sight, error) {
	probes := make([]*item, len(cs))
	for i := range cs {
		it, err := x.undoItem(n, i, &cs[i], transport.Probe)
		if err != nil {
			return nil, err
		}
		probes[i] = it
	}
	said, err := x.exchange(ctx, probes)
	if err != nil {
		return nil, err
	}
	out := make([]sight, len(cs))
	for i, it := range probes {
		out[i].state, out[i].known = said[it.n].state(it, cs[i].Object)
	}
	return out, nil
}

// undoItem is the call that undoes c, or looks at its object.
func (x *run) undoItem(n, i int, c *Change, mode transport.Mode) (*item, error) {
	m := x.Modules.Lookup(c.Undo.Module)
	if m == nil {
		return nil, fmt.Errorf("executor: change %s is undone by module %q, which does not exist", c.Object, c.Undo.Module)
	}
	args := module.Args{}
	for k, v := range c.Undo.Args {
		args[k] = fromJSON(v)
	}
	it := &item{n: 3000000 + n*1000 + i, call: &Call{Name: c.Object, Module: m, Args: args}, module: m, name: c.Object, account: x.Become, index: -1}
	if c.Undo.Restore != "" {
		args[c.Undo.Restore] = c.Before
	}
	if c.Undo.Become != nil {
		it.account = *c.Undo.Become
	}
	x.bindCall(it)
	it.step.Mode, it.step.Continue = mode, true
	if m.Objects != nil {
		it.objects = m.Objects(args)
	} else if args[probeArg] != nil {
		it.objects = []module.Object{{ID: c.Object}}
	}
	return it, nil
}

// state returns what the device said about an object. What undoes a change may name its
// object otherwise than the device does, by which it was recorded.
func (t *told) state(it *item, object string) (string, bool) {
	at := slices.IndexFunc(it.objects, func(o module.Object) bool { return o.ID == object })
	if at < 0 && len(it.objects) == 1 && kindOf(object) != "" && kindOf(it.objects[0].ID) == kindOf(object) {
		at = 0
	}
	if at < 0 {
		return "", false
	}
	s, ok := t.facts["state."+strconv.Itoa(at)]
	return s, ok
}

// fromJSON turns what a JSON round trip made of an argument back.
func fromJSON(v any) any {
	switch v := v.(type) {
	case float64:
		return int64(v)
	case []any:
		return stringsOf(v)
	default:
		return v
	}
}

func stringsOf(v any) []string {
	switch v := v.(type) {
	case []string:
		return v
	case []any:
		l := make([]string, 0, len(v))
		for _, e := range v {
			l = append(l, fmt.Sprint(e))
		}
		return l
	}
	return nil
}
