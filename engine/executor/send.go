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
	facts        map[string]string // the last of each key
	first        map[string]string // the first of each state
	times        map[string]int    // how often the last attempt said each state
	out, err     bytes.Buffer
}

// fact keeps a fact. A body says the state of an object before it acts and,
// when it acted, once more after.
func (t *told) fact(key, value string) {
	t.facts[key] = value
	if !strings.HasPrefix(key, "state.") {
		return
	}
	if _, ok := t.first[key]; !ok {
		t.first[key] = value
	}
	t.times[key]++
}

// send runs items as one batch and keeps their results. It returns how many
// of them were dealt with, which is fewer than there are when a step was cut
// off and those after it have to be sent again.
func (x *run) send(ctx context.Context, items []*item) (int, error) {
	if x.view != nil {
		return len(items), x.explain(ctx, items)
	}
	if x.lost != nil {
		_ = x.unreachable(items, x.lost) // and those after it, which need no device, may run
		return len(items), nil           //nolint:nilerr // the run knows that it is lost
	}
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
	for tries := 0; ; tries++ {
		said, err := x.exchange(ctx, items)
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

// exchange sends items, a batch for each stretch of the same account, and
// gathers what the device says.
func (x *run) exchange(ctx context.Context, items []*item) (map[int]*told, error) {
	if x.lost != nil {
		return nil, x.lost
	}
	said := map[int]*told{}
	for _, it := range items {
		said[it.n] = &told{facts: map[string]string{}, first: map[string]string{}, times: map[string]int{}}
	}
	for len(items) > 0 {
		n := 1
		for n < len(items) && items[n].account == items[0].account {
			n++
		}
		if err := x.batchOf(ctx, items[:n], said); err != nil {
			return said, err
		}
		if slices.ContainsFunc(items[:n], func(it *item) bool { return said[it.n].failed && !it.step.Continue }) {
			break
		}
		items = items[n:]
	}
	return said, nil
}

// batchOf sends items, all of one account, as one batch; again, when the device
// got it too late and it is still ours to do.
func (x *run) batchOf(ctx context.Context, items []*item, said map[int]*told) error {
	account := items[0].account
	takeover := x.Takeover && !x.taken[account]
	x.taken[account] = true
	for try := 0; ; try++ {
		err := x.sendOnce(ctx, items, said, takeover)
		if try == lateTries || x.Lease == nil || !errors.Is(err, errTooLate) {
			return err
		}
		if err := x.Lease(ctx); err != nil {
			return err
		}
	}
}

func (x *run) sendOnce(ctx context.Context, items []*item, said map[int]*told, takeover bool) error {
	head, err := x.deadline(ctx, items, takeover)
	if err != nil {
		return err
	}
	b := transport.Batch{ID: x.batchID(), Scope: x.Scope, Become: items[0].account, Takeover: takeover, KeepGoing: x.KeepGoing}
	before := x.res.Sent
	quiet := map[int]bool{}
	if head != nil {
		b.Steps, b.Guarded = append(b.Steps, *head), true
	}
	for _, it := range items {
		b.Steps = append(b.Steps, it.step)
		quiet[it.n] = it.st != nil && it.st.NoLog || x.stepOf(it.n) > x.total
		if changes(it) {
			x.res.Sent = true
		}
	}
	late := false
	err = x.Conn.Run(ctx, b, func(e transport.Event) {
		if head != nil && e.Step == head.N {
			late = x.watched(e) || late
			return
		}
		t := said[e.Step]
		if t == nil {
			x.aside(e)
			return
		}
		x.tell(t, items, quiet[e.Step], e)
	})
	if err == nil && late {
		err = x.tooLate(items, said)
	}
	if transport.SafeToRetry(err) {
		x.res.Sent = before // of this batch nothing was sent; of earlier ones it was
	}
	return err
}

// batchID names the next batch.
func (x *run) batchID() string {
	x.batch++
	return x.ID + "-" + strconv.Itoa(x.batch-1)
}

// tell keeps an event of a step and hands it on.
func (x *run) tell(t *told, items []*item, quiet bool, e transport.Event) {
	hidden := x.stepOf(e.Step) > x.total
	switch e.Kind {
	case transport.Began:
		t.began = e.At
		if !hidden {
			x.began(e.Step, x.nameOf(items, e.Step), e.At)
		}
	case transport.Output:
		keep(t, e)
		if !quiet {
			x.Observe.Output(x.stepOf(e.Step), e.Stream, e.At, e.Data)
		}
	case transport.Fact:
		t.fact(e.Key, e.Value)
	case transport.Ended:
		t.done, t.ended = true, e.At
		t.rc, t.attempts, t.changed, t.failed, t.timedOut, t.tooMuch = e.RC, e.Attempts, e.Changed, e.Failed, e.TimedOut, e.TooMuch
	case transport.Skipped:
		t.skipped = e.Reason
	case transport.Retried:
		clear(t.times)
	case transport.Preamble:
	}
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
		x.finish(it.st, r)
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
	return &StepError{N: x.stepOf(r.N), Total: x.total, Name: r.Name, Msg: r.Message, RC: r.RC, TimedOut: r.TimedOut, Sent: x.res.Sent}
}

// result says what became of a step.
func (x *run) result(it *item, t *told) StepResult {
	r := StepResult{
		N: it.n, Name: it.name, Module: it.module.Name, Tags: it.st.Tags, RC: t.rc, Attempts: t.attempts,
		Started: t.began, Ended: t.ended, Message: t.facts["msg"], TimedOut: t.timedOut, Status: OK,
	}
	if it.st.NoLog {
		r.Message = ""
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
		switch {
		case it.st.NoLog:
			r.Message = "no_log keeps what it said out of the log"
		case r.Message == "":
			r.Message = lastLine(t)
		}
	case t.changed:
		r.Status = Changed
	}
	r.Values = values(outputsOf(it.st), r, t.facts, t.out.String(), t.err.String())
	if x.Diff && r.Status == Changed {
		r.Diffs = diffs(it, t, x.Mode == transport.Check)
	}
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
			if isScript(c.Object) {
				if scriptBecame(c, t, it.heard) {
					cs = append(cs, *c)
				}
				continue
			}
			if !x.became(it, c, t, "state."+strconv.Itoa(i)) {
				continue // it stays intended and is looked at, never guessed
			}
			cs = append(cs, *c)
		}
		it.heard = true
	}
	if x.Record == nil || len(cs) == 0 {
		return nil
	}
	return x.Record.Complete(ctx, cs)
}

// became notes on c what was said about its object. It returns false when that
// is not known: nothing was said, or only what it was before a step that failed.
func (x *run) became(it *item, c *Change, t *told, key string) bool {
	after, ok := t.facts[key]
	acted := t.times[key] > 1
	// Without probes the body's own first word is what was before, but not when
	// a step that changed something said one: that may be what came of it.
	if ok && x.Record == nil && !it.late && !it.heard && (acted || t.failed || !t.changed) {
		c.Before = t.first[key]
	}
	if ok && acted && !it.heard && x.Record != nil {
		c.Before = t.first[key] // somebody may have changed it since the probe
	}
	same := after == t.first[key] && (acted || !t.changed)
	switch {
	case t.skipped != "":
		c.State, c.After = Unchanged, c.Before
	case !ok, !acted && t.failed:
		if it.heard {
			c.State = Intended // an earlier attempt is no evidence any more
		}
		return it.heard
	case after == c.Before, same && !it.heard:
		c.State, c.After = Unchanged, after
	default:
		c.State, c.After = Done, after
	}
	return true
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
			x.finish(it.st, x.result(it, t))
			done = append(done, it)
		case !t.began.IsZero():
			lost = false
			x.finish(it.st, x.gone(it, Interrupted, t, err))
		case lost && transport.SafeToRetry(err):
			x.finish(it.st, x.gone(it, Unreachable, t, err))
			lost = false
		default:
			r := x.gone(it, Skipped, t, err)
			r.Reason, r.Message = "the connection was lost before it", ""
			x.finish(it.st, r)
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
		x.finish(it.st, r)
	}
	return err
}

// decideHere applies conditions on a result that the device could not decide.
// again says that the step has to be sent once more.
func (x *run) decideHere(ctx context.Context, it *item, t *told, tries int) (again bool, err error) {
	defer x.in(it.st)()
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
			return true, wait(ctx, it.step.Pause(tries+1))
		case v != true:
			r.Status, r.Message = Failed, "until: "+it.st.Until.Text()+" never held"
		case r.Status == Failed:
			r.Status = OK
		}
	}
	r.Values = values(outputsOf(it.st), r, t.facts, t.out.String(), t.err.String())
	r = x.checked(it, r)
	x.finish(it.st, r)
	if r.Status == Failed && it.st.OnError != "continue" {
		return false, x.failed(r)
	}
	return false, nil
}

// sortSteps puts results in the order of the template.
func sortSteps(rs []StepResult) {
	sort.SliceStable(rs, func(i, j int) bool { return rs[i].N < rs[j].N })
}
