package executor

import (
	"context"
	"errors"
	"slices"
	"time"

	"runner/engine/module"
	"runner/engine/transport"
)

// deadlineStep is the number of the hidden step that a batch begins with.
const deadlineStep = 9000000

// lateTries is how often a batch is sent again that came too late.
const lateTries = 2

// changes reports whether it can change the device.
func changes(it *item) bool { return it.step.Mode == transport.Apply && !it.module.ReadOnly }

// deadline returns the step that keeps a batch of items from beginning too late;
// nil when nothing has to. When the device's watch is not known yet it is read
// first, which costs a round trip, unless the batch does nothing to the device:
// then it is read with it.
func (x *run) deadline(ctx context.Context, items []*item, takeover bool) (*transport.Step, error) {
	if x.Until == nil {
		return nil, nil //nolint:nilnil // no step, and nothing is wrong
	}
	m := module.Deadline(items[0].module)
	step := transport.Step{
		N: deadlineStep, Name: "Not too late", Timeout: x.Timeout, Body: transport.Body{Name: m.Name, Text: m.Body()},
		Args: []transport.Arg{{Name: "before", Value: transport.Lit{V: ""}}},
	}
	if !takeover && !slices.ContainsFunc(items, changes) {
		return &step, nil
	}
	if x.watch.Shows == "" {
		look := transport.Batch{ID: x.batchID(), Become: items[0].account, Steps: []transport.Step{step}}
		if err := x.Conn.Run(ctx, look, func(e transport.Event) { x.watched(e) }); err != nil {
			return nil, unsent(err)
		}
	}
	before, err := x.watch.At(x.Until())
	if err != nil {
		return nil, &transport.Error{Phase: transport.PhaseExec, Device: x.Conn.Peer().Address, Code: "exec.no_watch", SafeToRetry: true, Stopped: true, Step: -1, Err: err}
	}
	step.Args[0].Value = transport.Lit{V: before}
	return &step, nil
}

// unsent marks the failure of a look, after which nothing was changed.
func unsent(err error) error {
	if te, is := errors.AsType[*transport.Error](err); is {
		e := *te
		e.SafeToRetry, e.Step = true, -1
		return &e
	}
	return err
}

// watched takes what the hidden step says, and reports whether it was too late.
func (x *run) watched(e transport.Event) (late bool) {
	if e.Kind == transport.Fact && e.Key == "now" {
		x.watch = module.Watch{Shows: e.Value, Read: time.Now()}
	}
	return e.Kind == transport.Ended && e.Failed
}

var errTooLate = errors.New("the device got it too late, and did none of it: this worker was not heard of for so long that another one may have taken the job over")

// tooLate is the error of a batch that the device did not begin.
func (x *run) tooLate(items []*item, said map[int]*told) error {
	for _, it := range items {
		said[it.n].skipped = ""
	}
	return &transport.Error{Phase: transport.PhaseExec, Device: x.Conn.Peer().Address, Code: "exec.late", SafeToRetry: true, Stopped: true, Step: -1, Err: errTooLate}
}
