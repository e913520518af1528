// Package winrmtest is a Windows host for tests: the server side of PSRP behind
// shells in this process, and what a host does with a pipeline in Go. It is not
// Windows and runs no PowerShell but the little that package winrm itself
// writes. Programs do not use it.
package winrmtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"runner/engine/transport/winrm/clixml"
	"runner/engine/transport/winrm/psrp"
	"runner/engine/transport/winrm/runspace"
)

// Handler does what a pipeline asks for. Its context ends when the pipeline is
// stopped or its shell goes away. A returned *psrp.ErrorRecord or other error
// is a terminating error.
type Handler func(ctx context.Context, p *Pipeline) error

// TerminatingError is one with a record of its own.
type TerminatingError struct{ Record psrp.ErrorRecord }

// Error returns the message.
func (f *TerminatingError) Error() string { return f.Record.Text() }

// Host is a device. Its shells are closed by their clients.
type Host struct {
	Handler Handler
	// OperationTimeout is how long a Receive waits; 0: 20 s.
	OperationTimeout time.Duration
	// Latency is added to every call, as a network would.
	Latency time.Duration
	// MaxShells and MaxCommands are quotas; 0: none.
	MaxShells, MaxCommands int
	// Fault, when it is set, is asked before each call, by the name of the
	// operation; its error becomes the result and the call is not made.
	Fault func(ctx context.Context, operation string) error
	// Deaf hosts do not stop what they are told to stop.
	Deaf bool

	mu     sync.Mutex
	shells map[*Shell]bool
	calls  map[string]int
}

// Calls returns how often an operation was asked for: Create, Command, Send,
// Receive, Signal, Delete, Disconnect, Reconnect.
func (h *Host) Calls(operation string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls[operation]
}

// Requests returns how many calls were made in all.
func (h *Host) Requests() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, c := range h.calls {
		n += c
	}
	return n
}

// Shells returns how many shells are open.
func (h *Host) Shells() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.shells)
}

// Restart ends all shells, as the service does when it restarts.
func (h *Host) Restart() {
	h.mu.Lock()
	shells := h.shells
	h.shells = nil
	h.mu.Unlock()
	for s := range shells {
		s.end(errors.New("the service was restarted"))
	}
}

// call counts a call and may refuse it.
func (h *Host) call(ctx context.Context, operation string) error {
	h.mu.Lock()
	if h.calls == nil {
		h.calls = map[string]int{}
	}
	h.calls[operation]++
	h.mu.Unlock()
	if err := wait(ctx, h.Latency); err != nil {
		return err
	}
	if h.Fault != nil {
		return h.Fault(ctx, operation)
	}
	return ctx.Err()
}

// wait waits for d.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ErrQuota is the answer to one shell or command too many.
var ErrQuota = errors.New("the quota is used up")

// Open creates a shell.
func (h *Host) Open(ctx context.Context, id string, creationXML []byte) (runspace.Shell, error) {
	if err := h.call(ctx, "Create"); err != nil {
		return nil, err
	}
	guid, err := clixml.ParseGUID(id)
	if err != nil {
		return nil, err
	}
	life, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	s := &Shell{
		host: h, life: life, kill: cancel, commands: map[string]*command{},
		server: psrp.NewServer(guid, psrp.ServerConfig{PrivateData: clixml.Dict{{Key: "PSVersionTable", Value: clixml.Dict{
			{Key: "PSVersion", Value: clixml.Version("5.1.20348.1")}, {Key: "PSEdition", Value: "Desktop"}, {Key: "BuildVersion", Value: clixml.Version("10.0.20348.1")},
		}}}}),
	}
	s.pool = newQueue()
	h.mu.Lock()
	if h.MaxShells > 0 && len(h.shells) >= h.MaxShells {
		h.mu.Unlock()
		cancel(nil)
		return nil, ErrQuota
	}
	if h.shells == nil {
		h.shells = map[*Shell]bool{}
	}
	h.shells[s] = true
	h.mu.Unlock()
	if err := s.take(clixml.GUID{}, creationXML); err != nil { //nolint:contextcheck // pipelines live as long as the shell
		s.end(err)
		return nil, err
	}
	return s, nil
}

// Shell is one shell of a Host.
type Shell struct {
	host *Host
	life context.Context // the life of the shell, as the device has it
	kill context.CancelCauseFunc
	work sync.WaitGroup

	mu       sync.Mutex
	server   *psrp.Server
	pool     *queue
	commands map[string]*command
	parked   bool
}

// command is a pipeline and what it has to say.
type command struct {
	out    *queue
	cancel context.CancelCauseFunc
	p      *Pipeline
}

// queue is output that waits for a Receive.
type queue struct {
	data []byte
	done bool
	more chan struct{} // closed when something was added
}

func newQueue() *queue { return &queue{more: make(chan struct{})} }

// add appends; the caller holds the lock of the shell.
func (q *queue) add(ps []psrp.Packet, done bool) {
	for _, p := range ps {
		q.data = append(q.data, p.Data...)
	}
	q.done = q.done || done
	close(q.more)
	q.more = make(chan struct{})
}

var errNoCommand = errors.New("there is no such command")

// take hands what a client sent to the server and starts what it asks for.
func (s *Shell) take(stream clixml.GUID, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	events, reply, err := s.server.Receive(stream, b)
	s.pool.add(reply, false)
	for _, e := range events {
		switch e := e.(type) {
		case psrp.PipelineCreated:
			if c := s.commands[e.ID.String()]; c != nil && c.p == nil {
				s.start(c, e)
			}
		case psrp.Input:
			s.pipeline(e.Pipeline).input(e.Value, false)
		case psrp.InputEnded:
			s.pipeline(e.Pipeline).input(nil, true)
		case psrp.HostAnswered:
			s.pipeline(e.Pipeline).answer(e)
		case psrp.RunspacesAsked:
			ps, err := s.server.AnswerRunspaces(e, e.What != "max" && e.What != "min" || e.N > 0)
			if err != nil {
				return err
			}
			s.pool.add(ps, false)
		}
	}
	return err
}

func (s *Shell) pipeline(id clixml.GUID) *Pipeline {
	if c := s.commands[id.String()]; c != nil {
		return c.p
	}
	return nil
}

// start runs the handler of a pipeline.
func (s *Shell) start(c *command, e psrp.PipelineCreated) {
	ctx, cancel := context.WithCancelCause(s.life)
	c.cancel = cancel
	c.p = &Pipeline{ID: e.ID, Pipeline: e.Pipeline, Inputs: make(chan any, 1024), shell: s, command: c, answers: make(chan psrp.HostAnswered, 1)}
	s.work.Go(func() {
		defer cancel(nil)
		err := s.host.Handler(ctx, c.p)
		s.mu.Lock()
		defer s.mu.Unlock()
		state, why := psrp.Completed, (*psrp.ErrorRecord)(nil)
		var f *TerminatingError
		switch {
		case ctx.Err() != nil:
			state, why = psrp.Stopped, &psrp.ErrorRecord{Message: "The pipeline has been stopped.", ID: "PipelineStopped", Exception: "System.Management.Automation.PipelineStoppedException"}
		case errors.As(err, &f):
			state, why = psrp.Failed, &f.Record
		case err != nil:
			state, why = psrp.Failed, &psrp.ErrorRecord{Message: err.Error(), ID: "RuntimeException", Exception: "System.Management.Automation.RuntimeException"}
		}
		ps, err := s.server.End(c.p.ID, state, why)
		if err == nil {
			c.out.add(ps, true)
		}
	})
}

func (s *Shell) call(ctx context.Context, operation string) error {
	if err := s.host.call(ctx, operation); err != nil {
		return err
	}
	if s.life.Err() != nil {
		return runspace.ErrGone
	}
	return nil
}

// Command creates a command.
func (s *Shell) Command(ctx context.Context, id string, first []byte) error {
	if err := s.call(ctx, "Command"); err != nil {
		return err
	}
	s.mu.Lock()
	if n := s.host.MaxCommands; n > 0 && len(s.commands) >= n {
		s.mu.Unlock()
		return ErrQuota
	}
	s.commands[id] = &command{out: newQueue()}
	s.mu.Unlock()
	guid, err := clixml.ParseGUID(id)
	if err != nil {
		return err
	}
	return s.take(guid, first) //nolint:contextcheck // pipelines live as long as the shell
}

// Send takes a packet.
func (s *Shell) Send(ctx context.Context, id, stream string, packet []byte) error {
	if err := s.call(ctx, "Send"); err != nil {
		return err
	}
	if stream != psrp.Stdin && stream != psrp.PromptResponse {
		return fmt.Errorf("there is no stream %q", stream)
	}
	var guid clixml.GUID
	if id != "" {
		var err error
		if guid, err = clixml.ParseGUID(id); err != nil {
			return err
		}
	}
	return s.take(guid, packet) //nolint:contextcheck // pipelines live as long as the shell
}

// Receive waits for output.
func (s *Shell) Receive(ctx context.Context, id string) (runspace.Received, error) {
	if err := s.call(ctx, "Receive"); err != nil {
		return runspace.Received{}, err
	}
	limit := s.host.OperationTimeout
	if limit <= 0 {
		limit = 20 * time.Second
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	for {
		s.mu.Lock()
		q := s.pool
		if id != "" {
			c := s.commands[id]
			if c == nil {
				s.mu.Unlock()
				return runspace.Received{}, errNoCommand
			}
			q = c.out
		}
		if len(q.data) > 0 || q.done {
			got := runspace.Received{Data: q.data, Done: q.done}
			q.data = nil
			s.mu.Unlock()
			return got, nil
		}
		more := q.more
		s.mu.Unlock()
		select {
		case <-more:
		case <-late.C:
			return runspace.Received{}, nil
		case <-s.life.Done():
			return runspace.Received{}, runspace.ErrGone
		case <-ctx.Done():
			return runspace.Received{}, ctx.Err()
		}
	}
}

// Signal stops or frees a command.
func (s *Shell) Signal(ctx context.Context, id, signal string) error {
	if err := s.call(ctx, "Signal"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.commands[id]
	if c == nil {
		return errNoCommand
	}
	if c.cancel != nil && !s.host.Deaf {
		c.cancel(errors.New("stopped"))
	}
	if signal == runspace.SignalEnd {
		delete(s.commands, id)
	}
	return nil
}

// Disconnect parks the shell.
func (s *Shell) Disconnect(ctx context.Context) error { return s.park(ctx, "Disconnect", true) }

// Reconnect takes it up again.
func (s *Shell) Reconnect(ctx context.Context) error { return s.park(ctx, "Reconnect", false) }

func (s *Shell) park(ctx context.Context, operation string, to bool) error {
	if err := s.call(ctx, operation); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parked == to {
		return fmt.Errorf("the shell cannot %s twice", operation)
	}
	s.parked = to
	return nil
}

// Close deletes the shell.
func (s *Shell) Close(ctx context.Context) error {
	if err := s.call(ctx, "Delete"); err != nil {
		return err
	}
	s.end(runspace.ErrGone)
	return nil
}

// end ends the shell and waits for what ran in it.
func (s *Shell) end(why error) {
	s.kill(why)
	s.host.mu.Lock()
	delete(s.host.shells, s)
	s.host.mu.Unlock()
	s.work.Wait()
}
