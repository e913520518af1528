package runspace

import (
	"context"
	"errors"
	"fmt"

	"runner/engine/transport"
	"runner/engine/transport/winrm/clixml"
	"runner/engine/transport/winrm/psrp"
)

// Run runs a pipeline to its end and hands what it writes to sink, in order and
// from this goroutine. input is sent to the pipeline when it takes input. The
// error is
//
//   - *NotStartedError when the device was asked nothing,
//   - *Error when the pipeline failed or was stopped by somebody else,
//   - the cause of ctx, wrapped, when ctx ended first; the pipeline was stopped
//     then, or the text says that the device did not confirm that,
//   - any other when it is not known what became of the pipeline.
//
// The pool can take more work after the first two, and after the third when the
// stop was confirmed; Err tells.
func (p *Pool) Run(ctx context.Context, pl psrp.Pipeline, input []any, sink func(psrp.Record)) error {
	if err := p.reserve(ctx); err != nil {
		return &NotStartedError{err}
	}
	defer func() { <-p.slots; p.work.Done() }()
	if pl.NeedsKeys() {
		if err := p.exchange(ctx); err != nil {
			return &NotStartedError{err}
		}
	}
	p.mu.Lock()
	id, ps, err := p.client.Start(pl)
	p.mu.Unlock()
	if err != nil {
		return &NotStartedError{err}
	}
	r := &run{p: p, id: id, sink: sink}
	if err := p.shell.Command(ctx, id.String(), ps[0].Data); err != nil {
		r.forget()
		err = p.fail(fmt.Errorf("start the pipeline: %w", err))
		if errors.Is(err, ErrGone) || transport.SafeToRetry(err) {
			return &NotStartedError{err}
		}
		return err
	}
	return r.follow(ctx, ps[1:], pl.Input, input)
}

// reserve waits for a free runspace.
func (p *Pool) reserve(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.broken != nil:
		<-p.slots
		return p.broken
	case p.closed:
		<-p.slots
		return errClosed
	}
	p.work.Add(1)
	return nil
}

// run is a pipeline whose command the device has.
type run struct {
	p    *Pool
	id   clixml.GUID
	sink func(psrp.Record)
	end  *psrp.PipelineChanged
}

func (r *run) forget() {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	r.p.client.Forget(r.id)
}

// follow sends the rest and reads until the pipeline has ended. The calls that
// wait outlive ctx: the stop goes beside them, and the last words still come.
func (r *run) follow(ctx context.Context, rest []psrp.Packet, takes bool, input []any) error {
	p := r.p
	live, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	stopped := make(chan error, 1)
	done := context.AfterFunc(ctx, func() { stopped <- r.stop(live, kill) })
	err := r.feed(live, rest, takes, input)
	if err == nil {
		err = r.read(live)
	}
	if !done() { // ctx ended first
		serr := <-stopped
		cause := context.Cause(ctx)
		if r.end == nil {
			if err == nil || errors.Is(err, context.Canceled) {
				err = serr
			}
			err = p.fail(fmt.Errorf("%w (and the device did not confirm that it stopped: %w)", cause, err))
			r.forget()
			return err
		}
		err = cause
	}
	if err == nil {
		err = r.verdict()
	}
	if r.end == nil { // nobody knows what became of it, so the pool takes no more work
		r.forget()
		return p.fail(err)
	}
	r.release(ctx)
	return err
}

// verdict tells a good end from the others.
func (r *run) verdict() error {
	if r.end.State == psrp.Completed {
		return nil
	}
	return &Error{State: r.end.State, Record: r.end.Err}
}

// stop asks the device to stop the pipeline and ends the waiting calls when it
// does not in time.
func (r *run) stop(live context.Context, kill context.CancelFunc) error {
	ctx, cancel := context.WithTimeout(live, r.p.cfg.Grace)
	context.AfterFunc(ctx, func() {
		cancel()
		kill()
	})
	r.p.mu.Lock()
	r.p.client.Stop(r.id)
	r.p.mu.Unlock()
	return r.p.shell.Signal(ctx, r.id.String(), SignalStop)
}

// feed sends what did not fit into the command, and the input.
func (r *run) feed(ctx context.Context, rest []psrp.Packet, takes bool, input []any) error {
	if err := r.p.send(ctx, rest); err != nil || !takes {
		return err
	}
	r.p.mu.Lock()
	ps, err := r.p.client.Input(r.id, true, input...)
	r.p.mu.Unlock()
	if err != nil {
		return r.p.fail(err)
	}
	return r.p.send(ctx, ps)
}

// read takes the output until the last state.
func (r *run) read(ctx context.Context) error {
	for r.end == nil {
		got, err := r.p.shell.Receive(ctx, r.id.String())
		if err != nil {
			return r.p.fail(fmt.Errorf("the output was cut off: %w", err))
		}
		events, err := r.p.take(r.id, got.Data)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := r.event(ctx, e); err != nil {
				return err
			}
		}
		if got.Done && r.end == nil {
			return r.p.fail(errors.New("the command has ended and the pipeline did not say so"))
		}
	}
	return nil
}

func (r *run) event(ctx context.Context, e psrp.Event) error {
	switch e := e.(type) {
	case psrp.Record:
		r.sink(e)
	case psrp.PipelineChanged:
		switch e.State {
		case psrp.Stopped, psrp.Completed, psrp.Failed:
			if e.Pipeline == r.id {
				r.end = &e
			}
		case psrp.NotStarted, psrp.Running, psrp.Stopping, psrp.Disconnected:
		}
	case psrp.HostCalled:
		return r.p.refuse(ctx, e.Call)
	case psrp.PoolChanged:
		if e.State == psrp.PoolBroken || e.State == psrp.PoolClosed {
			return r.p.fail(poolError(e))
		}
	}
	return nil
}

// release frees what the device keeps of a pipeline that has ended, beside what
// the caller does next. Without it a shell refuses after its quota of commands.
func (r *run) release(ctx context.Context) {
	r.forget()
	r.p.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.p.cfg.Grace)
		defer cancel()
		if err := r.p.shell.Signal(ctx, r.id.String(), SignalEnd); err != nil {
			_ = r.p.fail(fmt.Errorf("free a pipeline: %w", err))
		}
	})
}
