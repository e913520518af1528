package engine

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/transport"
)

// observer writes what the executor sees into the journal and the store.
type observer struct {
	w     *work
	steps []grant.StepResult
	from  map[int]int64 // log offset at which a step began
	last  time.Time
	base  int // what is added to the numbers of steps: there is another template before
}

var _ executor.Observer = (*observer)(nil)

func newObserver(w *work) *observer { return &observer{w: w, from: map[int]int64{}, last: w.e.Now()} }

// Began notes where the step's output starts.
func (o *observer) Began(n int, _ string, _ time.Time) { o.from[o.number(n)] = o.w.log.Offset() }

// number is that of a step within the execution; 0 stays what belongs to none.
func (o *observer) number(n int) int {
	if n == 0 {
		return 0
	}
	return o.base + n
}

// Output passes a step's output on to the journal.
func (o *observer) Output(n int, stream transport.Stream, at time.Time, data []byte) {
	o.w.log.Write(context.Background(), o.number(n), string(stream), at, data)
}

// Note writes a line of runner's own.
func (o *observer) Note(n int, text string) { o.w.log.Note(o.number(n), text) }

// Ended keeps a step result.
func (o *observer) Ended(r executor.StepResult) {
	r.N = o.number(r.N)
	o.w.log.EndStep(r.N)
	s := grant.StepResult{
		N: r.N, Name: r.Name, Module: r.Module, Status: string(r.Status), RC: r.RC, Attempts: r.Attempts, Started: r.Started,
		Message: o.w.log.Text(r.Message), Reason: r.Reason, LogFrom: o.from[r.N], LogTo: o.w.log.Offset(),
	}
	if !r.Started.IsZero() && !r.Ended.IsZero() {
		s.Took = r.Ended.Sub(r.Started)
	}
	if s.LogFrom == 0 && r.Status == executor.Skipped {
		s.LogFrom = s.LogTo
	}
	o.add(s)
}

func (o *observer) add(s grant.StepResult) {
	o.steps = append(o.steps, s)
	o.w.e.say(Progress{Grant: o.w.c.Grant, Job: o.w.job, Step: &s, Total: o.w.exec.Steps})
	if now := o.w.e.Now(); now.Sub(o.last) > time.Second {
		o.flush(context.Background())
	}
}

// flush stores the results so far. Failing to is not fatal: the end of the
// execution is stored with all of them and with its own check.
func (o *observer) flush(ctx context.Context) {
	o.last = o.w.e.Now()
	if err := o.w.e.Store.PutExecution(ctx, o.w.fence, o.w.exec, o.steps...); err != nil {
		o.w.e.Log.Warn("step results not stored", slog.String("execution", o.w.exec.ID), slog.Any("error", err))
	}
}

// recorder stores the changes of an execution as those of its grant.
type recorder struct {
	w    *work
	base int // sequence number of this execution's first change
	step int // what is added to the numbers of its steps
}

var _ executor.Recorder = (*recorder)(nil)

// newRecorder continues after the changes that are recorded already.
func (w *work) newRecorder(have []grant.Change) *recorder {
	r := &recorder{w: w}
	for _, c := range have {
		r.base = max(r.base, c.Seq+1)
	}
	return r
}

// Intend stores changes before they are made.
func (r *recorder) Intend(ctx context.Context, cs []executor.Change) error {
	if r.w.found == nil {
		return r.put(ctx, cs)
	}
	rows, err := r.rows(cs)
	if err != nil {
		return err
	}
	return r.w.keepFound(ctx, rows...)
}

// Complete stores what became of them.
func (r *recorder) Complete(ctx context.Context, cs []executor.Change) error {
	return r.put(context.WithoutCancel(ctx), cs)
}

func (r *recorder) put(ctx context.Context, cs []executor.Change) error {
	rows, err := r.rows(cs)
	if err != nil {
		return err
	}
	return r.w.e.Store.PutChanges(ctx, r.w.fence, r.w.c.Grant.ID, rows)
}

func (r *recorder) rows(cs []executor.Change) ([]grant.Change, error) {
	rows := make([]grant.Change, 0, len(cs))
	for _, c := range cs {
		undo, err := json.Marshal(c.Undo)
		if err != nil {
			return nil, err
		}
		rows = append(rows, grant.Change{
			Execution: r.w.exec.ID, Seq: r.base + c.Seq, Step: r.step + c.Step, Module: c.Module, Object: c.Object,
			State: c.State, Before: c.Before, After: c.After, Undo: undo, Hold: c.Hold,
		})
	}
	return rows, nil
}

// undone stores the end of recorded changes under their own numbers. A removal
// that has to run once more looks at them again then: what was sent may still
// arrive.
func (w *work) undone(ctx context.Context, cs []executor.Change) error {
	if w.onceMore() {
		return nil
	}
	return (&recorder{w: w}).put(context.WithoutCancel(ctx), cs)
}

// onceMore reports whether this removal will have to run again even if it succeeds.
func (w *work) onceMore() bool { return w.job.Again.After(w.exec.Started) }

// changes returns what the grant changed, for a revert. Of what others may want
// as well that is what all who hold it changed.
func (w *work) changes(ctx context.Context) ([]executor.Change, error) {
	have, err := w.e.Store.Changes(ctx, w.c.Grant.ID)
	if err != nil {
		return nil, err
	}
	cs, err := recorded(have)
	if err != nil {
		return nil, err
	}
	holds, err := w.e.Store.Holds(ctx, w.c.Grant.ID)
	if err != nil {
		return nil, err
	}
	for _, h := range holds {
		for i := range cs {
			c := &cs[i]
			if c.Object != h.Object {
				continue
			}
			c.Before, c.Others = h.Before, h.Others
			if c.State == executor.Unchanged && h.After != "" { // by this grant
				c.State = executor.Done
			}
			if c.State == executor.Done && h.After != "" {
				c.After = h.After
			}
		}
	}
	return cs, nil
}

// recorded turns stored changes into what a revert works on.
func recorded(cs []grant.Change) ([]executor.Change, error) {
	out := make([]executor.Change, 0, len(cs))
	for _, c := range cs {
		x := executor.Change{Seq: c.Seq, Step: c.Step, Module: c.Module, Object: c.Object, State: c.State, Before: c.Before, After: c.After}
		if len(c.Undo) > 0 {
			if err := json.Unmarshal(c.Undo, &x.Undo); err != nil {
				return nil, err
			}
		}
		out = append(out, x)
	}
	return out, nil
}
