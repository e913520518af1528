package wsman

import (
	"context"
	"errors"
	"strings"

	"runner/engine/transport"
	"runner/engine/transport/winrm/runspace"
	"runner/engine/transport/winrm/wsman/envelope"
)

// shell is a PowerShell shell on a device. What waits in it ends with it.
type shell struct {
	d    *Device
	c    envelope.Client
	id   string // as the host has it
	life context.Context
	kill context.CancelCauseFunc
}

var errDeleted = errors.New("the shell was deleted")

func newShell(d *Device, c envelope.Client, id string) *shell {
	s := &shell{d: d, c: c, id: id}
	s.life, s.kill = context.WithCancelCause(context.Background())
	return s
}

// call makes one request as long as the shell lives.
func (s *shell) call(ctx context.Context, m envelope.Message, want string) (*envelope.Answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(s.life, func() { cancel(context.Cause(s.life)) }) //nolint:contextcheck // the life of the shell ends calls of any context
	defer stop()
	return s.d.Call(ctx, transport.PhaseExec, m, want)
}

// Command creates a command.
func (s *shell) Command(ctx context.Context, id string, first []byte) error {
	a, err := s.call(ctx, s.c.Command(s.id, id, first), "CommandResponse")
	if e, is := errors.AsType[*transport.Error](err); is && a != nil && a.Fault != nil && a.Fault.Refused() {
		e.SafeToRetry = true // said on a proven connection
	}
	if err == nil && !strings.EqualFold(strings.TrimPrefix(a.CommandID, "uuid:"), id) {
		return s.d.lost(transport.PhaseExec, "http.form", errors.New("the host gave the command another id than was asked for"))
	}
	return err
}

// Send writes a packet to a stream.
func (s *shell) Send(ctx context.Context, command, stream string, packet []byte) error {
	_, err := s.call(ctx, s.c.Send(s.id, command, stream, packet), "SendResponse")
	return err
}

// Receive waits for output.
func (s *shell) Receive(ctx context.Context, command string) (runspace.Received, error) {
	a, err := s.call(ctx, s.c.Receive(s.id, command, "stdout"), "ReceiveResponse")
	if err != nil {
		if a != nil && a.Fault != nil && a.Fault.TimedOut() {
			return runspace.Received{}, nil
		}
		return runspace.Received{}, err
	}
	got := runspace.Received{Done: a.State == "Done"}
	for _, o := range a.Streams {
		if o.CommandID != "" && !strings.EqualFold(o.CommandID, command) {
			return got, s.d.lost(transport.PhaseExec, "http.form", errors.New("the host sent the output of another command"))
		}
		got.Data = append(got.Data, o.Data...)
	}
	return got, nil
}

// Signal sends a signal to a command.
func (s *shell) Signal(ctx context.Context, command, signal string) error {
	_, err := s.call(ctx, s.c.Signal(s.id, command, signal), "SignalResponse")
	return err
}

// Disconnect parks the shell.
func (s *shell) Disconnect(ctx context.Context) error {
	_, err := s.call(ctx, s.c.Disconnect(s.id), "DisconnectResponse")
	return err
}

// Reconnect takes it up again.
func (s *shell) Reconnect(ctx context.Context) error {
	_, err := s.call(ctx, s.c.Reconnect(s.id), "ReconnectResponse")
	return err
}

// Close deletes the shell, and ends the calls that wait in it.
func (s *shell) Close(ctx context.Context) error {
	_, err := s.d.Call(ctx, transport.PhaseShell, s.c.Delete(s.id), "DeleteResponse")
	s.kill(errDeleted)
	if errors.Is(err, runspace.ErrGone) {
		return nil
	}
	return err
}
