package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"runner/engine/transport"
)

var errNUL = errors.New("a value has a NUL byte, which no shell can hold")

// conn is a Conn: a place on a pooled connection and a coordinator per account.
type conn struct {
	d      *Dialer
	cfg    Config
	ent    *entry
	reused bool // the connection was there before and may have gone stale
	peer   transport.Peer
	runs   map[string]*coordinator // by account
	tty    map[string]bool         // accounts for which sudo wants a terminal
	hailed bool                    // the banner was handed on
	closed bool
}

// Peer says who answered.
func (n *conn) Peer() transport.Peer { return n.peer }

// Close ends the coordinators and gives the connection back.
func (n *conn) Close() error {
	if n.closed {
		return nil
	}
	n.closed = true
	for _, c := range n.runs {
		c.close()
	}
	n.d.release(n.ent, false)
	return nil
}

// Run sends a batch and delivers its events.
func (n *conn) Run(ctx context.Context, b transport.Batch, sink transport.Sink) error {
	if n.closed {
		return n.cfg.fail(transport.PhaseExec, "closed", errors.New("the connection was closed"), "")
	}
	if err := check(b); err != nil {
		return n.cfg.fail(transport.PhaseExec, "exec.bad_batch", err, "")
	}
	if err := ctx.Err(); err != nil {
		return n.cfg.fail(transport.PhaseExec, "cancelled", err, "")
	}
	account, _, err := n.cfg.account(b.Become)
	if err != nil {
		return err
	}
	for {
		err := n.runOn(ctx, b, account, sink)
		te, ok := errors.AsType[*transport.Error](err)
		if ok && te.Code == codeTTY && !n.tty[account] {
			n.tty[account] = true
			continue
		}
		return err
	}
}

// runOn runs b on the coordinator of account, starting it when there is none.
func (n *conn) runOn(ctx context.Context, b transport.Batch, account string, sink transport.Sink) error {
	c := n.runs[account]
	if c == nil {
		var err error
		if c, err = n.begin(ctx, account); err != nil {
			return err
		}
		n.runs[account] = c
	}
	program, err := render(b, c.have)
	if err != nil {
		n.drop(account)
		return n.cfg.fail(transport.PhaseExec, "exec.bad_batch", err, "")
	}
	r := &batchRun{n: n, c: c, b: b, account: account, sink: sink, step: -1}
	healthy, err := r.do(ctx, program)
	if !healthy {
		n.drop(account)
	}
	return err
}

// drop ends the coordinator of account; the next batch starts another.
func (n *conn) drop(account string) {
	if c := n.runs[account]; c != nil {
		c.close()
		delete(n.runs, account)
	}
}

// begin starts a coordinator. A connection from the pool that turns out to be
// gone is replaced once, and so is one whose server allows fewer sessions.
func (n *conn) begin(ctx context.Context, account string) (*coordinator, error) {
	for try := 0; ; try++ {
		wait, cancel := context.WithTimeout(ctx, n.cfg.DialTimeout)
		c, err := n.launch(wait, account)
		cancel()
		if err == nil {
			return c, nil
		}
		if te, ok := errors.AsType[*transport.Error](err); ok {
			return nil, te
		}
		if ctx.Err() != nil {
			return nil, n.cfg.fail(transport.PhaseExec, "cancelled", ctx.Err(), "")
		}
		oe, rejected := errors.AsType[*gossh.OpenChannelError](err)
		again := false
		switch {
		case rejected:
			again = n.d.narrow(n.ent)
		case n.reused:
			n.d.retire(n.ent)
			again = true
		}
		if !again || try > 1 {
			if rejected {
				return nil, n.cfg.fail(transport.PhaseExec, "exec.rejected", fmt.Errorf("the device refused a session: %s (%s)", oe.Reason, clean(oe.Message, 200)),
					"raise MaxSessions in sshd_config; shells may be forbidden for this account")
			}
			return nil, n.cfg.fail(transport.PhaseExec, "exec.lost", fmt.Errorf("the connection ended before anything was sent: %w", err), "")
		}
		if err := n.replace(ctx); err != nil {
			return nil, err
		}
	}
}

// replace swaps the connection for a new one.
func (n *conn) replace(ctx context.Context) error {
	e, reused, err := n.d.acquire(ctx, n.cfg, true)
	if err != nil {
		return err
	}
	for a := range n.runs {
		n.drop(a)
	}
	n.d.release(n.ent, false)
	n.ent, n.reused, n.peer = e, reused, e.peer
	return nil
}

// batchRun is one batch on one coordinator.
type batchRun struct {
	n       *conn
	c       *coordinator
	b       transport.Batch
	account string
	sink    transport.Sink

	step    int // the running step, or -1
	next    int // index in b.Steps of the step to come
	opened  bool
	over    bool
	written int64 // by the running step
	facts   int
	tries   int    // attempts of the running step that did not do
	noise   []byte // error output from before the first frame
	timer   *time.Timer
	excess  bool
	broken  framing
}

// do sends the program and delivers events until the batch has ended. healthy
// says that the coordinator can take another one.
func (r *batchRun) do(ctx context.Context, program string) (healthy bool, err error) {
	r.hail()
	m := &merger{single: r.c.pty, out: r.take}
	r.timer = time.NewTimer(r.pause())
	defer r.timer.Stop()
	fault := make(chan error, 1)
	go func() {
		if err := r.c.send(program); err != nil {
			fault <- err
		}
	}()
	eofs := 0
	for {
		select {
		case it := <-r.c.items:
			if it.eof {
				if eofs++; eofs == 2 {
					return false, r.lost()
				}
				continue
			}
			ok, bad := m.put(it)
			switch {
			case bad != "":
				return false, r.abort(ctx, "exec.framing", errors.New(string(bad)), false)
			case r.broken != "":
				return false, r.abort(ctx, "exec.framing", errors.New(string(r.broken)), false)
			case r.excess:
				return false, r.cut(ctx, func(e *transport.Event) { e.TooMuch, e.RC = true, 137 })
			case r.over:
				return true, nil
			case !ok:
				return false, r.abort(ctx, "exec.framing", errors.New("the frames make no sense"), false)
			}
		case <-r.timer.C:
			if r.step >= 0 {
				return false, r.cut(ctx, func(e *transport.Event) { e.TimedOut, e.RC = true, 124 })
			}
			return false, r.abort(ctx, "exec.stalled", fmt.Errorf("the device did not go on within %s", r.pause()), false)
		case <-ctx.Done():
			return false, r.abort(ctx, "cancelled", ctx.Err(), true)
		case err := <-fault:
			if !errors.Is(err, io.EOF) { // EOF: the streams say more
				return false, r.fail("exec.lost", err)
			}
		}
	}
}

// hail hands on what came before the first program.
func (r *batchRun) hail() {
	if !r.n.hailed {
		r.n.hailed = true
		if b := r.n.ent.banner; b != "" {
			r.tell(transport.Event{Kind: transport.Preamble, Step: -1, Stream: transport.Stderr, Data: []byte(b)})
		}
	}
	for _, it := range r.c.noise {
		r.text(it)
	}
	r.c.noise = nil
}

// pause bounds the time in which no step runs.
func (r *batchRun) pause() time.Duration {
	return max(r.n.cfg.DialTimeout, r.n.cfg.StepTimeout)
}

// limit is how long an attempt of s may take.
func (r *batchRun) limit(s transport.Step) time.Duration {
	if s.Timeout > 0 {
		return s.Timeout
	}
	return r.n.cfg.StepTimeout
}

func (r *batchRun) tell(e transport.Event) {
	e.At = time.Now()
	r.sink(e)
}

var streams = [2]transport.Stream{transport.Stdout, transport.Stderr}

// take handles the next item in order. It returns false to stop.
func (r *batchRun) take(it item) bool {
	if it.frame == nil {
		return r.text(it)
	}
	f := it.frame
	switch {
	case f[0] == "H" && len(f) == 5 && !r.opened:
		r.opened = true
		r.c.pid, r.c.pgid, r.c.sid, r.c.start = f[1], f[2], f[3], f[4]
		return true
	case !r.opened: // the end of an earlier program, cut short
		r.broken = "a frame before the first one"
		return false
	case f[0] == "Z":
		r.over = true
		return false
	case f[0] == "F" && len(f) == 4:
		return r.fact(it)
	case f[0] == "K":
		return true
	}
	n := -1
	if len(f) > 1 {
		n, _ = strconv.Atoi(f[1])
	}
	switch {
	case f[0] == "B" && r.step < 0 && r.isNext(n):
		r.step, r.written, r.facts, r.tries = n, 0, 0, 0
		r.timer.Reset(r.limit(r.b.Steps[r.next]))
		r.tell(transport.Event{Kind: transport.Began, Step: n})
	case f[0] == "R" && n == r.step && len(f) == 3:
		r.timer.Reset(r.limit(r.b.Steps[r.next]) + r.b.Steps[r.next].Pause(number(f[2])))
		r.tries++
		r.tell(transport.Event{Kind: transport.Retried, Step: n, Attempts: number(f[2])})
	case f[0] == "E" && n == r.step && n >= 0 && len(f) == 6:
		r.step = -1
		r.next++
		r.timer.Reset(r.pause())
		r.tell(transport.Event{Kind: transport.Ended, Step: n, RC: number(f[2]), Changed: f[3] == "true", Failed: f[4] == "true", Attempts: number(f[5])})
	case f[0] == "S" && r.step < 0 && r.isNext(n) && len(f) == 3:
		r.next++
		r.tell(transport.Event{Kind: transport.Skipped, Step: n, Reason: clean(f[2], 16)})
	default:
		r.broken = "a frame out of order"
		return false
	}
	return true
}

func (r *batchRun) isNext(n int) bool { return r.next < len(r.b.Steps) && r.b.Steps[r.next].N == n }

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// text hands on output.
func (r *batchRun) text(it item) bool {
	if len(it.text) == 0 {
		return true
	}
	e := transport.Event{Kind: transport.Preamble, Step: -1, Stream: streams[it.stream], Data: it.text}
	if r.step >= 0 {
		e.Kind, e.Step = transport.Output, r.step
		if !r.count(len(it.text)) {
			return false
		}
	} else if room := maxNoise - len(r.noise); !r.opened && room > 0 {
		r.noise = append(r.noise, it.text[:min(room, len(it.text))]...)
	}
	r.tell(e)
	return true
}

// fact hands on a fact.
func (r *batchRun) fact(it item) bool {
	n, err := strconv.Atoi(it.frame[1])
	if err != nil || n != r.step {
		r.broken = "a fact of another step"
		return false
	}
	r.facts++
	if it.big || r.facts > maxFacts {
		r.excess = true
		return false
	}
	if n >= 0 && !r.count(len(it.text)) {
		return false
	}
	r.tell(transport.Event{Kind: transport.Fact, Step: n, Key: it.frame[2], Value: string(it.text)})
	return true
}

// count adds to what the running step wrote.
func (r *batchRun) count(n int) bool {
	r.written += int64(n)
	r.excess = r.written > r.n.cfg.MaxOutput
	return !r.excess
}

// cut ends the running step and what it started on the device.
func (r *batchRun) cut(ctx context.Context, why func(*transport.Event)) error {
	if r.step < 0 { // too much said outside of a step
		return r.abort(ctx, "exec.framing", errors.New("too many facts outside of a step"), false)
	}
	if err := r.n.kill(ctx, r.c, r.account, true, progressName(r.b.Scope, r.b.ID)); err != nil {
		return r.fail("exec.not_stopped", fmt.Errorf("step %d was to be ended, and the device did not confirm it: %w", r.step, err))
	}
	e := transport.Event{Kind: transport.Ended, Step: r.step, Failed: true, Attempts: r.tries + 1}
	why(&e)
	r.tell(e)
	return nil
}

// abort ends what runs on the device and returns the error of the batch. The
// progress file stays: it tells how far the batch came.
func (r *batchRun) abort(ctx context.Context, code string, cause error, wait bool) error {
	if !r.opened && wait {
		// The coordinator has not said who it is. Closing its input keeps it from
		// running a program that is not complete yet; a complete one runs.
		r.identify()
	}
	e := &transport.Error{Phase: transport.PhaseExec, Device: r.n.cfg.Address, Code: code, Step: r.step, Err: cause}
	if r.opened {
		if err := r.n.kill(ctx, r.c, r.account, false, ""); err != nil {
			e.Err = fmt.Errorf("%w (and the device did not confirm that it stopped: %s)", cause, clean(err.Error(), 200))
		} else {
			e.Stopped = true
		}
	}
	return e
}

// identify waits a moment for the frame that names the coordinator's processes.
func (r *batchRun) identify() {
	late := time.NewTimer(r.n.cfg.DialTimeout)
	defer late.Stop()
	for {
		select {
		case it := <-r.c.items:
			if it.eof {
				return
			}
			if len(it.frame) == 5 && it.frame[0] == "H" {
				r.opened = true
				r.c.pid, r.c.pgid, r.c.sid, r.c.start = it.frame[1], it.frame[2], it.frame[3], it.frame[4]
				return
			}
		case <-late.C:
			return
		}
	}
}

// lost explains the end of both streams.
func (r *batchRun) lost() error {
	status, orderly := r.c.ended(2 * time.Second)
	switch {
	case orderly && !r.opened:
		return r.n.judge(r.noise, status) // its first command did not run
	case orderly:
		return r.fail("exec.ended", fmt.Errorf("%w with status %d", errEnded, status))
	}
	return r.fail("exec.lost", errors.New("the connection was lost"))
}

// fail returns an error from after the program was sent.
func (r *batchRun) fail(code string, err error) error {
	return &transport.Error{Phase: transport.PhaseExec, Device: r.n.cfg.Address, Code: code, Step: r.step, Err: err}
}
