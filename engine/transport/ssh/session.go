package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"runner/engine/transport"
)

// Session is what a person runs on a device.
type Session struct {
	Command string // in the account's login shell; "": that shell itself
	// Size tells the size of the person's terminal; nil: there is none.
	Size    func() (cols, rows int)
	Resized <-chan struct{} // says that Size has changed; may be nil
	Term    string          // kind of the terminal, such as xterm-256color
	Env     [][2]string     // asked of the server, which may refuse
	Stdin   io.Reader       // read until the session ends; the reader outlives it when it blocks
	Stdout  io.Writer
	Stderr  io.Writer
	Signals <-chan string // names without SIG to pass on; may be nil
}

// drainWait is how long a session that is cut off waits for its last output to be
// taken.
const drainWait = 500 * time.Millisecond

// StatusLost is the exit status of a session whose connection was lost, as that
// of ssh.
const StatusLost = 255

// Run runs a session to its end and returns the exit status: 128+n for signal n.
// When ctx ends it is cut off, and the error is the cause. A lost connection is a
// *transport.Error with StatusLost.
func (h *Held) Run(ctx context.Context, s Session) (int, error) {
	if h.ent == nil {
		return StatusLost, h.cfg.fail(transport.PhaseExec, "closed", errors.New("there is no login yet"), "")
	}
	ch, reqs, err := openSession(ctx, h.ent)
	if err != nil {
		return StatusLost, h.refused(ctx, err)
	}
	r := &running{ch: ch, exited: make(chan struct{}), status: -1}
	defer func() { _ = ch.Close() }()
	go r.requests(reqs)
	if err := r.begin(s); err != nil {
		return StatusLost, h.refused(ctx, err)
	}
	return h.follow(ctx, r, s)
}

func (h *Held) refused(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if oe, is := errors.AsType[*gossh.OpenChannelError](err); is {
		err = fmt.Errorf("the device refused a session: %s (%s)", oe.Reason, clean(oe.Message, 200))
	}
	return h.cfg.fail(transport.PhaseExec, "exec.rejected", err, "shells may be forbidden for this account")
}

// running is a session while it runs.
type running struct {
	ch     gossh.Channel
	exited chan struct{} // closed when the server has ended the channel
	status int           // or -1; valid after exited
}

// begin asks for the terminal and the program; only the last waits for an answer.
func (r *running) begin(s Session) error {
	for _, kv := range s.Env {
		if _, err := r.ch.SendRequest("env", false, gossh.Marshal(&struct{ Name, Value string }{kv[0], kv[1]})); err != nil {
			return err
		}
	}
	if s.Size != nil {
		cols, rows := s.Size()
		req := struct {
			Term                   string
			Cols, Rows, Wide, High uint32
			Modes                  string
		}{s.Term, cells(cols), cells(rows), 0, 0, "\x00"}
		if _, err := r.ch.SendRequest("pty-req", false, gossh.Marshal(&req)); err != nil {
			return err
		}
	}
	var (
		ok  bool
		err error
	)
	if s.Command == "" {
		ok, err = r.ch.SendRequest("shell", true, nil)
	} else {
		ok, err = r.ch.SendRequest("exec", true, gossh.Marshal(&struct{ Command string }{s.Command}))
	}
	if err == nil && !ok {
		err = errors.New("the device does not run a shell for this account")
	}
	return err
}

// cells bounds a size of a terminal, which may be unknown.
func cells(n int) uint32 { return uint32(min(max(n, 0), 65535)) }

// follow passes everything on until the session has ended.
func (h *Held) follow(ctx context.Context, r *running, s Session) (int, error) {
	over := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(over)
	wg.Go(func() { r.control(s, over) })
	go func() { // ends with the channel, or with the person's next key
		_, _ = io.Copy(r.ch, s.Stdin)
		_ = r.ch.CloseWrite()
	}()
	read := make(chan struct{})
	go func() {
		defer close(read)
		var streams sync.WaitGroup
		streams.Go(func() { _, _ = io.Copy(s.Stderr, r.ch.Stderr()) })
		_, _ = io.Copy(s.Stdout, r.ch)
		streams.Wait()
	}()
	select {
	case <-read: // with the channel
		<-r.exited
	case <-ctx.Done():
		_ = r.ch.Close()
		_ = h.ent.client.Close()
		late := time.NewTimer(drainWait)
		defer late.Stop()
		select {
		case <-read:
		case <-late.C: // nobody takes what was written
		}
		return StatusLost, context.Cause(ctx)
	}
	if r.status < 0 {
		return StatusLost, &transport.Error{Phase: transport.PhaseExec, Device: h.cfg.Address, Code: "exec.lost", Step: -1, Err: errors.New("the connection was lost")}
	}
	return r.status, nil
}

// control passes changes of the size and signals on.
func (r *running) control(s Session, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		case <-s.Resized:
			if s.Size == nil {
				continue
			}
			cols, rows := s.Size()
			req := struct{ Cols, Rows, Wide, High uint32 }{cells(cols), cells(rows), 0, 0}
			_, _ = r.ch.SendRequest("window-change", false, gossh.Marshal(&req)) // the end of the session says more
		case name := <-s.Signals:
			_, _ = r.ch.SendRequest("signal", false, gossh.Marshal(&struct{ Name string }{name}))
		}
	}
}

// signals are the names of RFC 4254, section 6.10, with their numbers.
var signals = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
}

// requests notes how the program ended.
func (r *running) requests(reqs <-chan *gossh.Request) {
	defer close(r.exited)
	for q := range reqs {
		switch q.Type {
		case "exit-status":
			var m struct{ Status uint32 }
			if gossh.Unmarshal(q.Payload, &m) == nil {
				r.status = int(m.Status & 0xff)
			}
		case "exit-signal":
			var m struct {
				Name     string
				Core     bool
				Message  string
				Language string
			}
			r.status = StatusLost
			if gossh.Unmarshal(q.Payload, &m) == nil && signals[m.Name] > 0 {
				r.status = 128 + signals[m.Name]
			}
		}
		if q.WantReply {
			_ = q.Reply(false, nil)
		}
	}
}
