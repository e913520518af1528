package executor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"runner/engine/transport"
)

// prepare runs, once, the calls that come before everything, together with the
// probes of the first batch; and the probes of later ones.
func (x *run) prepare(ctx context.Context, items []*item) ([]*item, error) {
	for _, it := range items {
		x.bindCall(it)
	}
	var batch []*item
	if !x.probed {
		batch = x.calls()
	}
	byItem := map[int]*item{}
	if x.Record != nil && x.Mode == transport.Apply {
		for _, it := range items {
			if len(it.objects) > 0 {
				p := probeOf(it)
				batch = append(batch, p)
				byItem[p.n] = it
			}
		}
	}
	first := !x.probed
	x.probed = true
	if len(batch) > 0 {
		said, err := x.exchange(ctx, batch)
		if err != nil {
			return nil, x.unreachable(items, err)
		}
		for _, it := range batch {
			s := said[it.n]
			if it.call != nil {
				if err := x.settleCall(it, s); err != nil {
					return nil, err
				}
				continue
			}
			t := byItem[it.n]
			for i := range t.objects {
				before, ok := s.facts["state."+strconv.Itoa(i)]
				if !ok {
					before = unlooked(t.objects[i].ID)
				}
				x.res.Changes = append(x.res.Changes, Change{
					Seq: x.seq, Step: x.stepOf(t.n), Module: t.module.Name,
					Object: nameOf(t.objects[i].ID, s.facts["object."+strconv.Itoa(i)]), State: Intended, Before: before, Undo: t.objects[i].Undo, Hold: t.objects[i].Shared,
				})
				if i == 0 {
					t.first = len(x.res.Changes) - 1
				}
				x.seq++
			}
		}
	}
	if !first || x.Probed == nil {
		return items, nil
	}
	if err := x.Probed(ctx, x.res.Calls); err != nil {
		return nil, err
	}
	return x.replan(items)
}

// maxObject bounds what a device may call an object.
const maxObject = 512

// nameOf is what an object is recorded as: what the device calls it, which is the same
// for all who mean it, when that is an object of the same kind.
func nameOf(id, said string) string {
	if said == "" || len(said) > maxObject || kindOf(id) == "" || kindOf(said) != kindOf(id) || strings.ContainsFunc(said, unicode.IsControl) {
		return id
	}
	return said
}

// kindOf is the platform and the kind of an object, as in linux:user:x; "": it has none.
func kindOf(id string) string {
	if p := strings.SplitN(id, ":", 3); len(p) == 3 {
		return p[0] + ":" + p[1]
	}
	return ""
}

// calls are the items of the calls that come before everything.
func (x *run) calls() []*item {
	items := make([]*item, len(x.Before))
	for i := range x.Before {
		c := &x.Before[i]
		items[i] = &item{n: 1000000 + i, call: c, module: c.Module, name: c.Name, account: x.Become, index: -1}
		x.bindCall(items[i])
	}
	return items
}

// probeOf is the item that looks at the objects of it and changes nothing.
func probeOf(it *item) *item {
	p := &item{n: 2000000 + it.n, module: it.module, name: it.name, account: it.account, index: -1, step: it.step}
	p.step.N, p.step.Mode, p.step.Continue = p.n, transport.Probe, true
	p.step.When, p.step.Until, p.step.ChangedWhen, p.step.FailedWhen = nil, nil, nil, nil
	return p
}

// replan evaluates the arguments of items again, because Probed may have
// changed what they read; the objects stay those that were probed.
func (x *run) replan(items []*item) ([]*item, error) {
	maps.Copy(x.res.Env, x.Env)
	if err := x.refresh(); err != nil {
		return nil, err
	}
	x.replanning = true
	defer func() { x.replanning = false }()
	var again []*item
	for _, it := range items {
		if it.st == nil {
			again = append(again, it)
			continue
		}
		fresh, ok, err := x.plan(it.st, again)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("executor: step %d depends on more than before after the probe", it.n)
		}
		if fresh == nil {
			continue
		}
		fresh.index, fresh.objects, fresh.first = it.index, it.objects, it.first
		again = append(again, fresh)
	}
	return again, nil
}

// intend stores what the batch may change before a byte of it is sent.
func (x *run) intend(ctx context.Context, items []*item) error {
	if x.Mode != transport.Apply {
		return nil
	}
	var cs []Change
	for _, it := range items {
		if len(it.objects) == 0 {
			continue
		}
		if x.Record == nil {
			it.first = len(x.res.Changes)
			for i := range it.objects {
				x.res.Changes = append(x.res.Changes, Change{
					Seq: x.seq, Step: x.stepOf(it.n), Module: it.module.Name,
					Object: it.objects[i].ID, State: Intended, Before: unlooked(it.objects[i].ID), Undo: it.objects[i].Undo,
				})
				x.seq++
			}
			continue
		}
		cs = append(cs, x.res.Changes[it.first:it.first+len(it.objects)]...)
	}
	if len(cs) == 0 {
		return nil
	}
	return x.Record.Intend(ctx, cs)
}

// bindCall fills in the step of a call.
func (x *run) bindCall(it *item) {
	if it.call == nil {
		return
	}
	it.step = transport.Step{
		N: it.n, Name: it.name, Timeout: x.Timeout,
		Body: transport.Body{Name: it.module.Name, Text: it.module.Body(), Lib: it.module.Lib(it.call.Args)},
	}
	for _, f := range it.module.Args {
		v, ok := it.call.Args[f.Name]
		if !ok {
			v = f.Default
		}
		it.step.Args = append(it.step.Args, transport.Arg{Name: f.Name, Value: transport.Lit{V: plain(v)}})
	}
	for _, name := range slices.Sorted(maps.Keys(it.call.Args)) {
		if strings.HasPrefix(name, "_") { // what the {{ }} of a script are bound to, and its probe
			it.step.Args = append(it.step.Args, transport.Arg{Name: name, Value: transport.Lit{V: plain(it.call.Args[name])}})
		}
	}
}

// settleCall keeps the result of a call.
func (x *run) settleCall(it *item, t *told) error {
	r := StepResult{N: it.n, Name: it.name, Module: it.module.Name, RC: t.rc, Attempts: t.attempts, Started: t.began, Ended: t.ended, Message: t.facts["msg"]}
	if t.failed || !t.done {
		r.Status = Failed
		if r.Message == "" {
			r.Message = lastLine(t)
		}
		return &StepError{N: min(it.n, x.total), Total: x.total, Name: it.name, Msg: r.Message, RC: t.rc, Sent: x.res.Sent}
	}
	r.Status = OK
	x.res.Calls[it.name] = values(it.module.Outputs, r, t.facts, t.out.String(), t.err.String())
	return nil
}
