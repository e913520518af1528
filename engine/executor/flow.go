package executor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/template"
	"runner/engine/transport"
)

// run is a Run under way.
type run struct {
	Run
	res        *Result
	batch      int // batches sent so far
	total      int
	num        map[*template.Step]int
	names      map[string]*named         // registered results that can be seen now
	scope      lang.Env                  // names that can be seen now
	frames     map[*template.Step]*frame // of what is inside an included file
	opened     []*frame                  // in order
	files      map[*template.Step]*frame // by the step that includes them
	numbering  *frame                    // the file whose steps are being numbered
	unchosen   map[*template.Step]string // why steps are left out by their tags
	pending    bool                      // the step that is planned has others before it that were not sent
	gaveUp     bool                      // it could not be planned
	replanning bool
	rootNames  map[string]*named // those of the template itself
	taken      map[string]bool   // accounts whose earlier programs were ended
	probed     bool
	would      bool // check mode: a step would have changed something
	seq        int  // of the next change
	tail       []*item
	played     []*round     // of all loops so far
	begun      map[int]bool // loops that began
	watch      module.Watch
	lost       error // the connection is gone: what needs the device does not run any more
	view       *view // not nil: nothing is sent, what would be is noted
}

// named is what a registered name stands for.
type named struct {
	n       int
	outputs []module.Field
}

// number gives every module call of the template its number.
func (x *run) number(steps []*template.Step) {
	if x.num == nil {
		x.num, x.names = map[*template.Step]int{}, map[string]*named{}
		x.frames, x.files, x.rootNames = map[*template.Step]*frame{}, map[*template.Step]*frame{}, x.names
	}
	for _, s := range steps {
		if x.numbering != nil {
			x.frames[s] = x.numbering
		}
		if s.Module == nil {
			x.numberBlock(s)
			continue
		}
		x.total++
		x.num[s] = x.total
		if s.Register != "" {
			x.names[s.Register] = &named{n: x.total, outputs: outputsOf(s)}
		}
	}
}

// all runs the template and then the calls that follow it.
func (x *run) all(ctx context.Context) error {
	for i := range x.After {
		c := &x.After[i]
		x.tail = append(x.tail, &item{n: x.total + 1 + i, call: c, module: c.Module, name: c.Name, account: x.Become, index: -1})
	}
	err := x.list(ctx, x.Steps, true)
	if err == nil && len(x.tail) > 0 {
		tail := x.tail
		x.tail = nil
		_, err = x.send(ctx, tail)
	}
	return err
}

// list runs steps in order, as many in one batch as can be. last says that
// nothing of the template follows, so that the calls after it may join the
// last batch.
func (x *run) list(ctx context.Context, steps []*template.Step, last bool) error {
	var (
		pend    []*item
		failure error
	)
	flush := func() (int, error) {
		if len(pend) == 0 {
			return 0, nil
		}
		items := pend
		pend = nil
		ran, err := x.send(ctx, items)
		if ran < len(items) && !stops(err) {
			return items[ran].index, err
		}
		return -1, err
	}
	for i := 0; i < len(steps); i++ {
		st := steps[i]
		if failure != nil && !onFailure(st) {
			x.skipAll([]*template.Step{st}, x.before())
			continue
		}
		if why := x.unchosen[st]; why != "" {
			x.skip(st, why)
			continue
		}
		if x.idle(st) {
			x.settled(st)
			continue
		}
		if x.spliced(st, pend) {
			if err := x.open(st); err != nil {
				if failure = x.cannot(st, err); failure == nil {
					continue
				}
				x.skipAll(st.Block, "its params could not be computed")
				continue
			}
			steps = slices.Concat(steps[:i], st.Block, steps[i+1:])
			i--
			continue
		}
		if st.Module == nil || onFailure(st) || controls(st.Module) || st.Loop != nil {
			if len(pend) > 0 {
				if back, err := flush(); err != nil {
					if x.ends(err) {
						return err
					}
					failure = err
					i-- // look at the step again: it may be one for failures
					continue
				} else if back >= 0 && back < i {
					i = back - 1
					continue
				}
			}
			if err := x.alone(ctx, st, failure); err != nil {
				if x.ends(err) {
					return err
				}
				failure = errors.Join(failure, err)
				if first, ok := errors.AsType[*StepError](failure); ok {
					failure = first
				}
			}
			continue
		}
		it, ok, err := x.plan(st, pend)
		if x.ends(err) {
			return err
		}
		if err != nil {
			failure = err
			continue
		}
		if ok && it == nil {
			continue // decided here: skipped
		}
		if ok {
			it.index = i
			pend = append(pend, it)
		}
		more := i+1 < len(steps)
		if ok && more && !it.post && !x.NoFuse {
			continue
		}
		if ok && !more && last && !it.post && !x.NoFuse && it.account == x.Become {
			pend = append(pend, x.tail...)
			x.tail = nil
		}
		back, err := flush()
		switch {
		case x.ends(err):
			return err
		case err != nil:
			failure = err
			if !ok {
				x.skipAll([]*template.Step{st}, x.before())
			}
		case !ok && back < 0:
			i-- // plan it again, now that the results are there
		case back >= 0 && back <= i:
			i = back - 1
		}
	}
	if len(pend) > 0 {
		if _, err := flush(); x.ends(err) {
			return err
		} else if err != nil {
			failure = err
		}
	}
	if x.lost != nil {
		return x.lost
	}
	return failure
}

// before says why a step does not run after those before it.
func (x *run) before() string {
	if x.lost != nil {
		return "the connection was lost before it"
	}
	return "an earlier step failed"
}

// ends reports whether err ends the run at once. Losing the device does not:
// steps for failures that need no device still run.
func (x *run) ends(err error) bool {
	if !stops(err) {
		return false
	}
	if _, is := errors.AsType[*transport.Error](err); !is {
		return true
	}
	if x.lost == nil {
		x.lost = err
	}
	return false
}

// stops reports whether err ends the whole run, not only the list.
func stops(err error) bool {
	if err == nil {
		return false
	}
	_, step := errors.AsType[*StepError](err)
	return !step
}

// alone runs a block, or a step that is decided or done on the controller.
func (x *run) alone(ctx context.Context, st *template.Step, failure error) error {
	defer x.in(st)()
	switch {
	case st.Loop != nil && st.Include != nil:
		return x.loopFile(ctx, st)
	case st.Loop != nil:
		return x.loop(ctx, st)
	}
	if x.view != nil {
		return x.explainAlone(ctx, st)
	}
	env := x.env(failure)
	if st.When != nil {
		v, err := st.When.Eval(env)
		if err != nil {
			return x.broken(st, "when: "+err.Error())
		}
		if v != true {
			x.skipAll([]*template.Step{st}, "when: "+st.When.Text()+" was false")
			return nil
		}
	}
	if st.Module == nil {
		return x.block(ctx, st)
	}
	if st.Module.Name == "revert" {
		return x.revert(ctx, st)
	}
	if controls(st.Module) {
		return x.control(ctx, st, env)
	}
	it, _, err := x.plan(st, nil)
	if err != nil || it == nil {
		return err
	}
	_, err = x.send(ctx, []*item{it})
	return err
}

// block runs a block, its rescue when a step of it failed, and its always part
// on every way out, also when the device is not reached any more: then what
// needs no device still runs. A rescue does not make up for a lost device.
func (x *run) block(ctx context.Context, st *template.Step) error {
	if st.Include != nil {
		return x.include(ctx, st)
	}
	err := x.list(ctx, st.Block, false)
	if x.ends(err) {
		return err
	}
	if err != nil && len(st.Rescue) > 0 {
		err = x.list(ctx, st.Rescue, false)
	} else {
		x.skipAll(st.Rescue, "nothing failed in the block")
	}
	if x.ends(err) {
		return err
	}
	if aerr := x.list(ctx, st.Always, false); err == nil || x.ends(aerr) {
		err = aerr
	}
	if x.lost != nil {
		return x.lost
	}
	if st.OnError == "continue" && !stops(err) {
		if err != nil {
			x.Observe.Note(0, "continuing: "+err.Error())
		}
		return nil
	}
	return err
}

// env returns the names as the controller sees them now.
func (x *run) env(failure error) lang.Env {
	e := make(lang.Env, len(x.scope)+4)
	maps.Copy(e, x.scope)
	failed := failure != nil || x.lost != nil
	e["success"] = func() bool { return !failed }
	e["failure"] = func() bool { return failed }
	e["always"] = func() bool { return true }
	e["interrupted"] = func() bool { return x.lost != nil }
	return e
}

// onFailure reports whether the condition of st asks how the run stands.
func onFailure(st *template.Step) bool { return st.When != nil && st.When.Asks() }

// skipAll records steps that do not run.
func (x *run) skipAll(steps []*template.Step, reason string) {
	for _, st := range steps {
		if st.Module == nil {
			if st.Include != nil && st.Register != "" {
				x.scopeOf(st)[st.Register] = x.came(st, Skipped)
			}
			x.skipAll(st.Block, reason)
			x.skipAll(st.Rescue, reason)
			x.skipAll(st.Always, reason)
			continue
		}
		x.skip(st, reason)
	}
}

// skip records one step that does not run.
func (x *run) skip(st *template.Step, reason string) {
	r := StepResult{N: x.num[st], Name: st.Name, Module: st.Module.Name, Tags: st.Tags, Status: Skipped, Reason: reason}
	r.Values = values(outputsOf(st), r, nil, "", "")
	x.finish(st, r)
}

// finish keeps a result and makes it visible to later steps.
func (x *run) finish(st *template.Step, r StepResult) {
	if round := x.roundOf(r.N); round != nil {
		round.result = &r
		if st.Register != "" { // within a file that is included for each element
			x.scopeOf(st)[st.Register] = r.Values
		}
		return
	}
	if i := slices.IndexFunc(x.res.Steps, func(o StepResult) bool { return o.N == r.N }); i >= 0 {
		x.res.Steps[i] = r
	} else {
		x.res.Steps = append(x.res.Steps, r)
	}
	if st.Register != "" {
		x.scopeOf(st)[st.Register] = r.Values
	}
	x.Observe.Ended(r)
}

// broken records a step that could not even be decided.
func (x *run) broken(st *template.Step, msg string) error {
	if x.pending {
		return errLater
	}
	x.gaveUp = true
	msg = x.missing(st, msg)
	n := x.num[st]
	name, mod := st.Name, "block"
	if st.Module != nil {
		mod = st.Module.Name
	}
	x.finish(st, StepResult{
		N: n, Name: name, Module: mod, Tags: st.Tags, Status: Failed, Message: msg,
		Values: values(outputsOf(st), StepResult{Status: Failed, Message: msg}, nil, "", ""),
	})
	if st.OnError == "continue" {
		return nil
	}
	return &StepError{N: x.stepOf(n), Total: x.total, Name: name, Msg: msg, Sent: x.res.Sent}
}

// control runs a step that needs no device.
func (x *run) control(ctx context.Context, st *template.Step, env lang.Env) error {
	n := x.num[st]
	r := StepResult{N: n, Name: st.Name, Module: st.Module.Name, Tags: st.Tags, Started: time.Now(), Attempts: 1, Status: OK}
	x.began(n, st.Name, r.Started)
	out, err := x.decide(ctx, st, env)
	r.Ended = time.Now()
	r.Message = out.Message
	switch {
	case err != nil:
		r.Status, r.Message = Failed, err.Error()
	case out.Failed:
		r.Status = Failed
	case out.Changed:
		r.Status = Changed
	}
	if out.Message != "" && !st.NoLog {
		x.Observe.Output(x.stepOf(n), transport.Stdout, r.Ended, []byte(out.Message+"\n"))
	}
	facts := map[string]string{}
	r.Values = values(outputsOf(st), r, facts, out.Message, "")
	maps.Copy(r.Values, out.Outputs)
	x.finish(st, r)
	if r.Status == Failed && st.OnError != "continue" {
		return &StepError{N: x.stepOf(n), Total: x.total, Name: st.Name, Msg: r.Message, Sent: x.res.Sent}
	}
	return nil
}

// decide computes what a step on the controller comes to.
func (x *run) decide(ctx context.Context, st *template.Step, env lang.Env) (module.Outcome, error) {
	for _, a := range st.Asserts {
		v, err := a.That.Eval(env)
		if err != nil {
			return module.Outcome{}, fmt.Errorf("that: %s: %w", a.That.Text(), err)
		}
		if v == true {
			continue
		}
		msg := a.That.Text() + " was false"
		if a.Msg != nil {
			if m, err := a.Msg.Eval(env); err == nil {
				msg = fmt.Sprint(m)
			}
		}
		return module.Outcome{Failed: true, Message: msg}, nil
	}
	args, err := x.evalArgs(st, env)
	if err != nil {
		return module.Outcome{}, err
	}
	if st.Module.Control == nil {
		return module.Outcome{Outputs: args}, nil
	}
	return st.Module.Control(ctx, module.Control{Args: args, Now: time.Now, Wait: wait})
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// controls reports whether a module runs here and not on the device.
func controls(m *module.Module) bool { return m.Body() == "" }
