package winrm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"runner/engine/transport"
	"runner/engine/transport/winrm/psrp"
	"runner/engine/transport/winrm/runspace"
)

// conn is a Conn: a place on a pool that others may use, too.
type conn struct {
	d      *Dialer
	cfg    Config
	e      *entry
	peer   transport.Peer
	closed bool
}

// Peer says who answered.
func (c *conn) Peer() transport.Peer { return c.peer }

// Close gives the pool back.
func (c *conn) Close() error {
	if !c.closed {
		c.closed = true
		c.d.release(c.e)
	}
	return nil
}

// Run sends a batch and delivers its events.
func (c *conn) Run(ctx context.Context, b transport.Batch, sink transport.Sink) error {
	return c.cfg.send(ctx, b, c.closed, c.revive, func(mark string, p psrp.Pipeline) error { return c.exec(ctx, b, mark, p, sink) })
}

// send has exec run the pipeline of a batch, marked by mark, on the pool or shell
// that open makes sure of. One that the device forgot while nobody used it is
// replaced once.
func (c Config) send(ctx context.Context, b transport.Batch, closed bool, open func(context.Context) error, exec func(mark string, p psrp.Pipeline) error) error {
	if closed {
		return c.fail(transport.PhaseExec, "closed", errors.New("the connection was closed"), "")
	}
	if err := c.become(b); err != nil {
		return err
	}
	nonce := make([]byte, 12)
	_, _ = rand.Read(nonce) // never fails
	mark := hex.EncodeToString(nonce)
	pipeline, err := render(b, mark)
	if err != nil {
		return c.fail(transport.PhaseExec, "exec.bad_batch", err, "")
	}
	if err := ctx.Err(); err != nil {
		return c.fail(transport.PhaseExec, "cancelled", err, "")
	}
	for again := false; ; again = true {
		if err := open(ctx); err != nil {
			return err
		}
		err := exec(mark, pipeline)
		if again || !errors.Is(err, runspace.ErrGone) || !transport.SafeToRetry(err) {
			return err
		}
	}
}

// become refuses batches of other accounts.
func (c Config) become(b transport.Batch) error {
	if b.Become == "" || b.Become == c.User {
		return nil
	}
	return c.fail(transport.PhaseBecome, "become.not_configured", fmt.Errorf("the steps need account %q and the login account is %q", b.Become, c.User),
		"Windows has no sudo: log in as an account that may do it, or use a JEA endpoint that runs as a virtual account")
}

// revive replaces a pool that turned out to be of no use by a new one.
func (c *conn) revive(ctx context.Context) error {
	if c.e.pool.Err() == nil {
		return nil
	}
	e, err := c.d.acquire(ctx, c.cfg)
	if err != nil {
		return err
	}
	c.d.release(c.e)
	c.e, c.peer = e, e.peer
	return nil
}

// exec runs the pipeline of b and reads its events.
func (c *conn) exec(ctx context.Context, b transport.Batch, mark string, pipeline psrp.Pipeline, sink transport.Sink) error {
	live, end := context.WithCancelCause(ctx)
	defer end(nil)
	r := newReader(b, mark, c.cfg, sink, end)
	defer r.stop()
	err := c.e.pool.Run(live, pipeline, nil, r.take)
	r.stop()
	if err == nil {
		if err = r.complete(); err == nil {
			return nil
		}
		return c.cfg.lost(r, "exec.framing", err)
	}
	if ns, is := errors.AsType[*runspace.NotStartedError](err); is {
		return c.notStarted(ctx, ns)
	}
	cause := context.Cause(live)
	confirmed := c.e.pool.Err() == nil
	switch {
	case ctx.Err() != nil:
		te := c.cfg.lost(r, "cancelled", fmt.Errorf("%w%s", ctx.Err(), unconfirmed(confirmed)))
		te.Stopped = confirmed
		return te
	case cause != nil && confirmed && r.cut(cause):
		return nil
	case cause != nil && !confirmed:
		return c.cfg.lost(r, "exec.not_stopped", fmt.Errorf("%w, and the device did not confirm that it was stopped: %w", cause, err))
	case cause != nil:
		return c.cfg.lost(r, cutCode(cause), cause)
	}
	if pe, is := errors.AsType[*runspace.Error](err); is {
		te := c.cfg.lost(r, "exec.ended", fmt.Errorf("the script was ended: %s", clean(pe.Error(), 500)))
		if pe.Record != nil && pe.Record.ID == "ScriptsNotAllowed" {
			te.Hint, te.SafeToRetry = "the endpoint has no language: set LanguageMode = 'ConstrainedLanguage' in its session configuration file", true
		}
		return te
	}
	return c.cfg.lost(r, "exec.lost", err)
}

func unconfirmed(confirmed bool) string {
	if confirmed {
		return ""
	}
	return " (and the device did not confirm that it stopped)"
}

func cutCode(cause error) string {
	switch {
	case errors.Is(cause, errStalled):
		return "exec.stalled"
	case errors.Is(cause, errFrames):
		return "exec.framing"
	}
	return "exec.interrupted"
}

// lost is a failure from after the batch was sent.
func (c Config) lost(r *reader, code string, err error) *transport.Error {
	if te, is := errors.AsType[*transport.Error](err); is && code == "exec.lost" {
		e := *te
		e.Step, e.SafeToRetry = r.step, false
		return &e
	}
	return &transport.Error{Phase: transport.PhaseExec, Device: c.Address, Code: code, Step: r.step, Err: err}
}

// notStarted is a failure from before the batch was sent.
func (c *conn) notStarted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return c.cfg.fail(transport.PhaseExec, "cancelled", ctx.Err(), "")
	}
	if te, is := errors.AsType[*transport.Error](err); is {
		e := *te
		e.Step, e.SafeToRetry = -1, true
		return &e
	}
	return c.cfg.fail(transport.PhaseExec, "exec.lost", fmt.Errorf("the connection ended before anything was sent: %w", err), "")
}
