package winrmtest

import (
	"context"

	"runner/engine/transport/winrm/clixml"
	"runner/engine/transport/winrm/psrp"
)

// Pipeline is what a Handler is given.
type Pipeline struct {
	psrp.Pipeline
	ID      clixml.GUID
	Inputs  chan any // closed at its end
	shell   *Shell
	command *command
	answers chan psrp.HostAnswered
	calls   int64
	ended   bool
}

func (p *Pipeline) input(v any, end bool) {
	switch {
	case p == nil || p.ended:
	case end:
		p.ended = true
		close(p.Inputs)
	default:
		p.Inputs <- v
	}
}

func (p *Pipeline) answer(a psrp.HostAnswered) {
	if p != nil {
		p.answers <- a
	}
}

// Write writes to a stream; see psrp.Record for the values.
func (p *Pipeline) Write(s psrp.Stream, v any) error {
	p.shell.mu.Lock()
	defer p.shell.mu.Unlock()
	ps, err := p.shell.server.Write(psrp.Record{Pipeline: p.ID, Stream: s, Value: v})
	if err == nil {
		p.command.out.add(ps, false)
	}
	return err
}

// Ask calls the client's host and waits for the answer.
func (p *Pipeline) Ask(ctx context.Context, method psrp.HostMethod, name string, args ...any) (psrp.HostAnswered, error) {
	p.shell.mu.Lock()
	p.calls++
	ps, err := p.shell.server.CallHost(psrp.HostCall{Pipeline: p.ID, ID: p.calls, Method: method, Name: name, Args: args})
	if err == nil {
		p.command.out.add(ps, false)
	}
	p.shell.mu.Unlock()
	if err != nil {
		return psrp.HostAnswered{}, err
	}
	select {
	case a := <-p.answers:
		return a, nil
	case <-ctx.Done():
		return psrp.HostAnswered{}, ctx.Err()
	}
}

// Argument returns the named argument of the first command.
func (p *Pipeline) Argument(name string) any {
	for _, a := range p.Commands[0].Parameters {
		if a.Name == name {
			return a.Value
		}
	}
	return nil
}
