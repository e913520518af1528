package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"runner/engine/module"
	"runner/engine/transport"
)

// told is what the device said about one step of a batch.
type told struct {
	began, ended time.Time
	done         bool
	skipped      string
	rc, attempts int
	changed      bool
	failed       bool
	timedOut     bool
	tooMuch      bool
	facts        map[string]string
	out, err     bytes.Buffer
}

// send runs items as one batch and keeps their results. It returns how many
// of them were dealt with, which is fewer than there are when a step was cut
// off and those after it have to be sent again.
func (x *run) send(ctx context.Context, items []*item) (int, error) {
	items, err := x.prepare(ctx, items)
	if err != nil || len(items) == 0 {
		return len(items), err
	}
	if err := x.intend(ctx, items); err != nil {
		return len(items), err
	}
	if x.Lease != nil {
		if err := x.Lease(ctx); err != nil {
			return len(items), err
		}
	}
	looks, owner := x.looks(items)
	for tries := 0; ; tries++ {
		said, err := x.exchange(ctx, append(looks, items...), x.Takeover && x.batch == 0)
		x.seen(owner, said)
		looks = nil // a repeated step is not looked at again
		ran, err := x.settle(ctx, items, said, err)
		if err != nil || !items[0].post || len(items) > 1 {
			return ran, err
		}
		again, err := x.decideHere(ctx, items[0], said[items[0].n], tries)
		if !again {
			return ran, err
		}
	}
}

// prepare runs, once, the calls that come before everything, together with the
// probes of the first batch; and the probes of later ones.
func (x *run) prepare(ctx context.Context, items []*item) ([]*item, error) {
	for _, it := range items {
		x.bindCall(it)
	}
	var batch []*item
	if !x.probed {
		for i := range x.Before {
			c := &x.Before[i]
			it := &item{n: 1000000 + i, call: c, module: c.Module, name: c.Name, index: -1}
			x.bindCall(it)
			batch = append(batch, it)
		}
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
		said, err := x.exchange(ctx, batch, x.Takeover && x.batch == 0)
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
					before = "?"
				}
				x.res.Changes = append(x.res.Changes, Change{
					Seq: x.seq, Step: t.n, Module: t.module.Name,
					Object: t.objects[i].ID, State: Intended, Before: before, Undo: t.objects[i].Undo,
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

// probeOf is the item that looks at the objects of it and changes nothing.
func probeOf(it *item) *item {
	p := &item{n: 2000000 + it.n, module: it.module, name: it.name, index: -1, step: it.step}
	p.step.N, p.step.Mode, p.step.Continue = p.n, transport.Probe, true
	p.step.When, p.step.Until, p.step.ChangedWhen, p.step.FailedWhen = nil, nil, nil, nil
	return p
}

// looks returns the items that look at what a batch may change, at its head,
// and whose objects they look at. An argument that only the device will know
// cannot be looked at: what such a step did is not undone then.
func (x *run) looks(items []*item) ([]*item, map[int]*item) {
	if !x.Look || x.Record != nil || x.Mode != transport.Apply {
		return nil, nil
	}
	var out []*item
	owner := map[int]*item{}
	for _, it := range items {
		undo := slices.ContainsFunc(it.objects, func(o module.Object) bool { return o.Undo != nil })
		if undo && !it.late {
			p := probeOf(it)
			out = append(out, p)
			owner[p.n] = it
		}
	}
	return out, owner
}

// seen notes what the looks of a batch have found.
func (x *run) seen(owner map[int]*item, said map[int]*told) {
	for n, it := range owner {
		if said[n] == nil {
			continue
		}
		for i := range it.objects {
			if before, ok := said[n].facts["state."+strconv.Itoa(i)]; ok {
				x.res.Changes[it.first+i].Before = before
			}
		}
	}
}

// replan evaluates the arguments of items again, because Probed may have
// changed what they read; the objects stay those that were probed.
func (x *run) replan(items []*item) ([]*item, error) {
	maps.Copy(x.res.Env, x.Env)
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
					Seq: x.seq, Step: it.n, Module: it.module.Name,
					Object: it.objects[i].ID, State: Intended, Before: "?", Undo: it.objects[i].Undo,
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

// exchange sends one batch and gathers what the device says.
func (x *run) exchange(ctx context.Context, items []*item, takeover bool) (map[int]*told, error) {
	b := transport.Batch{ID: x.ID + "-" + strconv.Itoa(x.batch), Scope: x.Scope, Become: x.Become, Takeover: takeover, KeepGoing: x.KeepGoing}
	said := map[int]*told{}
	before := x.res.Sent
	for _, it := range items {
		b.Steps = append(b.Steps, it.step)
		said[it.n] = &told{facts: map[string]string{}}
		if it.step.Mode == transport.Apply && !it.module.ReadOnly {
			x.res.Sent = true
		}
	}
	x.batch++
	hidden := func(n int) bool { return n > x.total }
	err := x.Conn.Run(ctx, b, func(e transport.Event) {
		t := said[e.Step]
		if t == nil {
			x.aside(e)
			return
		}
		switch e.Kind {
		case transport.Began:
			t.began = e.At
			if !hidden(e.Step) {
				x.Observe.Began(e.Step, x.nameOf(items, e.Step), e.At)
			}
		case transport.Output:
			keep(t, e)
			if !hidden(e.Step) {
				x.Observe.Output(e.Step, e.Stream, e.At, e.Data)
			}
		case transport.Fact:
			t.facts[e.Key] = e.Value
		case transport.Ended:
			t.done, t.ended = true, e.At
			t.rc, t.attempts, t.changed, t.failed, t.timedOut, t.tooMuch = e.RC, e.Attempts, e.Changed, e.Failed, e.TimedOut, e.TooMuch
		case transport.Skipped:
			t.skipped = e.Reason
		case transport.Preamble, transport.Retried:
		}
	})
	if transport.SafeToRetry(err) {
		x.res.Sent = before // of this batch nothing was sent; of earlier ones it was
	}
	return said, err
}

// aside deals with what belongs to no step.
func (x *run) aside(e transport.Event) {
	switch {
	case e.Kind == transport.Fact && strings.HasPrefix(e.Key, "progress."):
		line := strings.TrimPrefix(e.Key, "progress.") + ": " + strings.Join(strings.Fields(e.Value), " ")
		x.res.Interrupted = append(x.res.Interrupted, line)
		x.Observe.Note(0, "an earlier run on this device was cut off: "+line)
	case e.Kind == transport.Preamble && len(bytes.TrimSpace(e.Data)) > 0:
		x.Observe.Output(0, e.Stream, e.At, e.Data)
	}
}

func (x *run) nameOf(items []*item, n int) string {
	for _, it := range items {
		if it.n == n {
			return it.name
		}
	}
	return ""
}

// keep holds the first capture bytes of each stream for later steps.
func keep(t *told, e transport.Event) {
	b := &t.out
	if e.Stream == transport.Stderr {
		b = &t.err
	}
	if room := capture - b.Len(); room > 0 {
		b.Write(e.Data[:min(room, len(e.Data))])
	}
}

// settle turns what was said into results and completed changes.
func (x *run) settle(ctx context.Context, items []*item, said map[int]*told, err error) (int, error) {
	if err != nil {
		return len(items), errors.Join(x.cut(ctx, items, said, err))
	}
	var failure error
	ran := len(items)
	for i, it := range items {
		t := said[it.n]
		if !t.done && t.skipped == "" {
			if failure == nil {
				ran = i
				break
			}
			t.skipped = "failed"
		}
		if it.call != nil {
			if t.skipped != "" {
				continue
			}
			if cerr := x.settleCall(it, t); cerr != nil && failure == nil {
				failure = cerr
			}
			continue
		}
		r := x.result(it, t)
		if it.post {
			continue // decideHere keeps it
		}
		r = x.checked(it, r)
		x.finish(it.st.Register, r)
		if r.Status == Failed && it.st.OnError != "continue" && failure == nil {
			failure = x.failed(r)
		}
	}
	if cerr := x.complete(ctx, items[:ran], said); cerr != nil {
		return ran, cerr
	}
	return ran, failure
}

// checked softens a failure in check mode: once a step would have changed
// something, what later steps need may only be missing because of that.
func (x *run) checked(it *item, r StepResult) StepResult {
	if x.Mode != transport.Check {
		return r
	}
	if r.Status == Changed {
		x.would = true
	}
	if r.Status == Failed && x.would {
		r.Status, r.Reason = Skipped, "cannot be told before the steps above are really done: "+r.Message
		r.Values = values(outputsOf(it.st), r, nil, "", "")
	}
	return r
}

func (x *run) failed(r StepResult) *StepError {
	return &StepError{N: r.N, Total: x.total, Name: r.Name, Msg: r.Message, RC: r.RC, TimedOut: r.TimedOut, Sent: x.res.Sent}
}

// result says what became of a step.
func (x *run) result(it *item, t *told) StepResult {
	r := StepResult{
		N: it.n, Name: it.name, Module: it.module.Name, Tags: it.st.Tags, RC: t.rc, Attempts: t.attempts,
		Started: t.began, Ended: t.ended, Message: t.facts["msg"], TimedOut: t.timedOut, Status: OK,
	}
	switch {
	case t.skipped == "when":
		r.Status, r.Reason = Skipped, "when: "+it.st.When.Text()+" was false"
	case t.skipped != "":
		r.Status, r.Reason = Skipped, "an earlier step failed"
	case t.timedOut:
		r.Status, r.Message = Failed, fmt.Sprintf("timed out after %s; its processes were ended", it.step.Timeout)
	case t.tooMuch:
		r.Status, r.Message = Failed, "wrote more output than a step may; its processes were ended"
	case t.failed && t.rc == 0:
		r.Status = Failed
		if r.Message == "" || it.st.FailedWhen != nil || it.st.Until != nil {
			r.Message = condition(it)
		}
	case t.failed:
		r.Status = Failed
		if r.Message == "" {
			r.Message = lastLine(t)
		}
	case t.changed:
		r.Status = Changed
	}
	r.Values = values(outputsOf(it.st), r, t.facts, t.out.String(), t.err.String())
	return r
}

// condition names the condition that made a step fail although its body did not.
func condition(it *item) string {
	switch {
	case it.st.FailedWhen != nil && it.st.Until != nil:
		return "failed_when or until decided so: " + it.st.FailedWhen.Text() + "; " + it.st.Until.Text()
	case it.st.FailedWhen != nil:
		return "failed_when: " + it.st.FailedWhen.Text() + " was true"
	case it.st.Until != nil:
		return "until: " + it.st.Until.Text() + " never held"
	}
	return "failed"
}

// lastLine returns what a failed command most likely said about it.
func lastLine(t *told) string {
	for _, b := range []*bytes.Buffer{&t.err, &t.out} {
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		if l := strings.TrimSpace(lines[len(lines)-1]); l != "" {
			return l
		}
	}
	return "it said nothing"
}

// complete tells the recorder what became of the intents of a batch.
func (x *run) complete(ctx context.Context, items []*item, said map[int]*told) error {
	if x.Mode != transport.Apply {
		return nil
	}
	var cs []Change
	for _, it := range items {
		t := said[it.n]
		for i := range it.objects {
			c := &x.res.Changes[it.first+i]
			after, ok := t.facts["state."+strconv.Itoa(i)]
			switch {
			case t.skipped != "":
				c.State, c.After = Unchanged, c.Before
			case ok && after == c.Before, ok && !t.changed && !t.failed:
				c.State, c.After = Unchanged, after
			case ok:
				c.State, c.After = Done, after
			default:
				continue // nothing was heard: it stays intended and is looked at, never guessed
			}
			cs = append(cs, *c)
		}
	}
	if x.Record == nil || len(cs) == 0 {
		return nil
	}
	return x.Record.Complete(ctx, cs)
}

// cut records a batch whose end was not seen.
func (x *run) cut(ctx context.Context, items []*item, said map[int]*told, err error) error {
	var done []*item
	lost := true
	for _, it := range items {
		t := said[it.n]
		switch {
		case it.call != nil:
		case t.done || t.skipped != "":
			x.finish(it.st.Register, x.result(it, t))
			done = append(done, it)
		case !t.began.IsZero():
			lost = false
			x.finish(it.st.Register, x.gone(it, Interrupted, t, err))
		case lost && transport.SafeToRetry(err):
			x.finish(it.st.Register, x.gone(it, Unreachable, t, err))
			lost = false
		default:
			r := x.gone(it, Skipped, t, err)
			r.Reason, r.Message = "the connection was lost before it", ""
			x.finish(it.st.Register, r)
		}
	}
	return errors.Join(err, x.complete(context.WithoutCancel(ctx), done, said))
}

func (x *run) gone(it *item, s Status, t *told, err error) StepResult {
	r := StepResult{N: it.n, Name: it.name, Module: it.module.Name, Tags: it.st.Tags, Status: s, Started: t.began, Message: err.Error()}
	r.Values = values(outputsOf(it.st), r, t.facts, t.out.String(), t.err.String())
	return r
}

// unreachable records that the device could not even be looked at.
func (x *run) unreachable(items []*item, err error) error {
	for i, it := range items {
		if it.st == nil {
			continue
		}
		r := x.gone(it, Unreachable, &told{}, err)
		if i > 0 {
			r.Status, r.Reason, r.Message = Skipped, "the connection was lost before it", ""
		}
		x.finish(it.st.Register, r)
	}
	return err
}

// bindCall fills in the step of a call.
func (x *run) bindCall(it *item) {
	if it.call == nil {
		return
	}
	it.step = transport.Step{
		N: it.n, Name: it.name, Timeout: x.Timeout,
		Body: transport.Body{Name: it.module.Name, Text: it.module.Sh, Lib: it.module.Lib},
	}
	for _, f := range it.module.Args {
		v, ok := it.call.Args[f.Name]
		if !ok {
			v = f.Default
		}
		it.step.Args = append(it.step.Args, transport.Arg{Name: f.Name, Value: transport.Lit{V: plain(v)}})
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

// decideHere applies conditions on a result that the device could not decide.
// again says that the step has to be sent once more.
func (x *run) decideHere(ctx context.Context, it *item, t *told, tries int) (again bool, err error) {
	r := x.result(it, t)
	env := x.env(nil)
	maps.Copy(env, r.Values)
	if it.st.Register != "" {
		env[it.st.Register] = r.Values
	}
	r.Attempts = tries + 1
	if it.st.FailedWhen != nil && r.Status != Skipped {
		v, err := it.st.FailedWhen.Eval(env)
		switch {
		case err != nil:
			r.Status, r.Message = Failed, "failed_when: "+err.Error()
		case v == true:
			r.Status, r.Message = Failed, "failed_when: "+it.st.FailedWhen.Text()+" was true"
		case r.Status == Failed && !r.TimedOut:
			r.Status = OK
		}
	}
	if it.st.ChangedWhen != nil && (r.Status == OK || r.Status == Changed) {
		if v, err := it.st.ChangedWhen.Eval(env); err != nil {
			r.Status, r.Message = Failed, "changed_when: "+err.Error()
		} else if v == true {
			r.Status = Changed
		} else {
			r.Status = OK
		}
	}
	if it.st.Until != nil && r.Status != Skipped && !r.TimedOut {
		v, err := it.st.Until.Eval(env)
		switch {
		case err != nil:
			r.Status, r.Message = Failed, "until: "+err.Error()
		case v != true && tries < it.st.Retries:
			return true, wait(ctx, it.st.Delay)
		case v != true:
			r.Status, r.Message = Failed, "until: "+it.st.Until.Text()+" never held"
		case r.Status == Failed:
			r.Status = OK
		}
	}
	r.Values = values(outputsOf(it.st), r, t.facts, t.out.String(), t.err.String())
	r = x.checked(it, r)
	x.finish(it.st.Register, r)
	if r.Status == Failed && it.st.OnError != "continue" {
		return false, x.failed(r)
	}
	return false, nil
}

// sortSteps puts results in the order of the template.
func sortSteps(rs []StepResult) {
	sort.SliceStable(rs, func(i, j int) bool { return rs[i].N < rs[j].N })
}
