// Package cmdshell runs programs in the cmd shell of a Windows host, one at a
// time, with input, exact output and exact exit code. It owns the order of the
// messages of masterzen/winrm and what becomes of a program that has to stop. It
// refuses to know HTTP, authentication, quoting and what programs are for, and
// to repeat anything.
package cmdshell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/masterzen/winrm"
	"github.com/masterzen/winrm/soap"

	"runner/engine/transport"
	"runner/engine/transport/winrm/wsman/envelope"
)

// Host takes messages: each is sent at most once.
type Host interface {
	// Call sends a message and reads its answer, whose action ends in want. A
	// fault is an answer and an error; a *transport.Error in any case.
	Call(ctx context.Context, phase transport.Phase, m envelope.Message, want string) (*envelope.Answer, error)
}

// Limits of the shell.
const (
	// MaxLine is what cmd.exe takes, in characters.
	MaxLine = 8191
	// grace is how long stopping and closing may take.
	grace = 20 * time.Second
)

// Shell is a shell on a host. One program at a time. The caller closes it.
type Shell struct {
	h      Host
	url    string
	id     string
	params *winrm.Parameters
	chunk  int
}

// Open creates a shell. url is that of the service, as the host knows it.
func Open(ctx context.Context, h Host, url string, operation time.Duration, maxEnvelope int) (*Shell, error) {
	s := &Shell{h: h, url: url, params: winrm.NewParameters(envelope.Duration(operation), "en-US", maxEnvelope)}
	s.chunk = (maxEnvelope - 4096) / 4 * 3 // base64, and room for the headers
	a, err := s.call(ctx, transport.PhaseShell, winrm.NewOpenShellRequest(url, s.params), "CreateResponse")
	if err != nil {
		return nil, err
	}
	if s.id = a.ShellID; s.id == "" {
		return nil, &transport.Error{Phase: transport.PhaseShell, Code: "http.form", SafeToRetry: true, Step: -1, Err: errors.New("the host made a shell without an id")}
	}
	return s, nil
}

var messageID = regexp.MustCompile(`<a:MessageID>([^<]+)</a:MessageID>`)

// Input of a program is a pipe and not a console: the builder says otherwise.
var console, pipe = []byte(`Name="WINRS_CONSOLEMODE_STDIN">TRUE<`), []byte(`Name="WINRS_CONSOLEMODE_STDIN">FALSE<`)

func (s *Shell) call(ctx context.Context, phase transport.Phase, m *soap.SoapMessage, want string) (*envelope.Answer, error) {
	text := []byte(m.String())
	out := envelope.Message{XML: bytes.Replace(text, console, pipe, 1)}
	if id := messageID.FindSubmatch(text); id != nil {
		out.ID = string(id[1])
	}
	return s.h.Call(ctx, phase, out, want)
}

// Run runs a program: line as cmd.exe reads it, stdin to its end. What it writes
// goes to out, in order, from this goroutine. When ctx ends the shell is deleted,
// with all that runs in it, and the error wraps the cause of ctx, and
// ErrUnconfirmed when the host did not say that it is gone. After any error the shell is of no use
// any more, and only one that is safe to retry says that nothing ran.
func (s *Shell) Run(ctx context.Context, line string, stdin []byte, out func(transport.Stream, []byte)) (code int64, err error) {
	if len(line) > MaxLine {
		return 0, fmt.Errorf("a command line of %d characters: cmd.exe takes %d", len(line), MaxLine)
	}
	a, err := s.call(ctx, transport.PhaseExec, winrm.NewExecuteCommandRequest(s.url, s.id, line, nil, s.params), "CommandResponse")
	if err != nil {
		if e, is := errors.AsType[*transport.Error](err); is && a != nil && a.Fault != nil && a.Fault.Refused() {
			e.SafeToRetry = true // said on a proven connection
		}
		return 0, err
	}
	live, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	stopped := make(chan error, 1)
	done := context.AfterFunc(ctx, func() {
		stopped <- s.Close(live)
		kill()
	})
	code, err = s.follow(live, a.CommandID, stdin, out)
	if !done() { // ctx ended first
		if serr := <-stopped; serr != nil {
			return 0, fmt.Errorf("%w (and %w: %w)", context.Cause(ctx), ErrUnconfirmed, serr)
		}
		return 0, context.Cause(ctx)
	}
	if err == nil {
		_, err = s.call(ctx, transport.PhaseExec, winrm.NewSignalRequest(s.url, s.id, a.CommandID, s.params), "SignalResponse")
	}
	return code, err
}

// follow sends the input and reads until the program has ended.
func (s *Shell) follow(ctx context.Context, command string, stdin []byte, out func(transport.Stream, []byte)) (int64, error) {
	for last := false; !last; {
		n := min(len(stdin), s.chunk)
		last = n == len(stdin)
		m := winrm.NewSendInputRequest(s.url, s.id, command, stdin[:n], last, s.params)
		if _, err := s.call(ctx, transport.PhaseExec, m, "SendResponse"); err != nil {
			return 0, lasting(err)
		}
		stdin = stdin[n:]
	}
	for {
		a, err := s.call(ctx, transport.PhaseExec, winrm.NewGetOutputRequest(s.url, s.id, command, "stdout stderr", s.params), "ReceiveResponse")
		switch {
		case a != nil && a.Fault != nil && a.Fault.TimedOut():
			continue
		case err != nil:
			return 0, lasting(err)
		}
		for _, o := range a.Streams {
			if len(o.Data) > 0 {
				out(transport.Stream(o.Name), o.Data)
			}
		}
		if a.State == "Done" {
			if a.ExitCode == nil {
				return 0, errors.New("the host did not say how the program ended")
			}
			return *a.ExitCode, nil
		}
	}
}

// ErrUnconfirmed says that a program may still run.
var ErrUnconfirmed = errors.New("the device did not confirm that it stopped")

// lasting is an error from after the program was started.
func lasting(err error) error {
	if e, is := errors.AsType[*transport.Error](err); is {
		c := *e
		c.SafeToRetry = false
		return &c
	}
	return err
}

// Close deletes the shell and ends what runs in it. It takes at most 20 s,
// whatever became of ctx.
func (s *Shell) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	a, err := s.call(ctx, transport.PhaseShell, winrm.NewDeleteShellRequest(s.url, s.id, s.params), "DeleteResponse")
	if a != nil && a.Fault != nil && a.Fault.Has(envelope.CodeNoShell) {
		return nil
	}
	return err
}
