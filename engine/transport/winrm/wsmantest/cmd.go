package wsmantest

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"strings"
	"sync"
	"time"

	"runner/engine/transport/winrm/runspace"
)

// cmdShell is a shell of programs.
type cmdShell struct {
	mu       sync.Mutex
	commands map[string]*program
	n        int
}

// program is one that runs.
type program struct {
	line     string
	stdin    bytes.Buffer
	kill     context.CancelFunc
	ctx      context.Context // of the program, as the host has it
	out, err output
	more     chan struct{}
	code     int
	done     bool
}

// output is what waits for a Receive.
type output struct {
	s *cmdShell
	p *program
	b []byte
}

func (o *output) Write(b []byte) (int, error) {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	o.b = append(o.b, b...)
	o.p.wake()
	return len(b), o.p.ctx.Err()
}

// wake tells who waits; the lock is held.
func (p *program) wake() {
	close(p.more)
	p.more = make(chan struct{})
}

func (s *Server) createCmd(m *message) (int, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Program == nil {
		return fault(m, 5, "w:AccessDenied", "Access is denied.")
	}
	if s.cmds == nil {
		s.cmds = map[string]*cmdShell{}
	}
	s.made++
	id := fmt.Sprintf("67A74734-DD32-4F10-89DE-%012d", s.made)
	s.cmds[id] = &cmdShell{commands: map[string]*program{}}
	return created(m, id)
}

// Forget ends all cmd shells, as idleness does.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cmds = map[string]*cmdShell{}
}

// Shells returns how many cmd shells are open.
func (s *Server) Shells() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.cmds)
}

func (s *Server) doCmd(ctx context.Context, sh *cmdShell, m *message) (int, []byte) {
	switch m.Operation {
	case "Command":
		line := strings.TrimSpace(strings.Join(append([]string{m.Body.CommandLine.Command}, m.Body.CommandLine.Arguments...), " "))
		if len(line) > 8191 {
			return fault(m, 2147942606, "w:InternalError", "The filename or extension is too long.")
		}
		sh.mu.Lock()
		defer sh.mu.Unlock()
		sh.n++
		id := fmt.Sprintf("B0973E54-434E-4D99-B4BE-%012d", sh.n)
		p := &program{line: line, more: make(chan struct{})}
		p.ctx, p.kill = context.WithCancel(context.WithoutCancel(ctx))
		p.out, p.err = output{s: sh, p: p}, output{s: sh, p: p}
		sh.commands[id] = p
		return good(m, `<rsp:CommandResponse><rsp:CommandId>`+id+`</rsp:CommandId></rsp:CommandResponse>`)
	case "Send":
		return s.feed(sh, m)
	case "Receive":
		return sh.receive(ctx, m)
	case "Signal":
		sh.mu.Lock()
		defer sh.mu.Unlock()
		p := sh.commands[m.Body.Signal.Command]
		if p == nil {
			return failed(m, runspace.ErrGone)
		}
		p.kill()
		if strings.HasSuffix(m.Body.Signal.Code, "/terminate") {
			delete(sh.commands, m.Body.Signal.Command)
		}
		p.wake()
		return good(m, `<rsp:SignalResponse/>`)
	case "Delete":
		s.mu.Lock()
		delete(s.cmds, m.shell())
		s.mu.Unlock()
		sh.mu.Lock()
		defer sh.mu.Unlock()
		for _, p := range sh.commands {
			p.kill()
			p.wake()
		}
		sh.commands = map[string]*program{}
		return good(m, "")
	}
	return failed(m, errors.New("the action is not supported"))
}

// feed takes input; the program runs when it is complete.
func (s *Server) feed(sh *cmdShell, m *message) (int, []byte) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, in := range m.Body.Send {
		p := sh.commands[in.Command]
		b, err := unbase(in.Data)
		switch {
		case p == nil:
			return failed(m, runspace.ErrGone)
		case err != nil || in.Name != "stdin":
			return failed(m, errors.New("a bad stream"))
		}
		p.stdin.Write(b)
		if strings.EqualFold(in.End, "true") {
			s.work.Go(func() {
				code := s.Program(p.ctx, p.line, p.stdin.Bytes(), &p.out, &p.err)
				sh.mu.Lock()
				defer sh.mu.Unlock()
				p.code, p.done = code, true
				p.wake()
			})
		}
	}
	return good(m, `<rsp:SendResponse/>`)
}

func (sh *cmdShell) receive(ctx context.Context, m *message) (int, []byte) {
	id := m.Body.Receive.Command
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	for {
		sh.mu.Lock()
		p := sh.commands[id]
		if p == nil {
			sh.mu.Unlock()
			return failed(m, runspace.ErrGone)
		}
		if len(p.out.b)+len(p.err.b) > 0 || p.done {
			body := p.take(id)
			sh.mu.Unlock()
			return good(m, body)
		}
		more := p.more
		sh.mu.Unlock()
		select {
		case <-more:
		case <-late.C:
			return fault(m, 2150858793, "w:TimedOut", "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.")
		case <-ctx.Done():
			return failed(m, ctx.Err())
		}
	}
}

// take returns the output so far; the lock is held.
func (p *program) take(id string) string {
	var b strings.Builder
	b.WriteString(`<rsp:ReceiveResponse>`)
	for _, o := range []struct {
		name string
		b    []byte
	}{{"stdout", p.out.b}, {"stderr", p.err.b}} {
		if len(o.b) > 0 {
			b.WriteString(`<rsp:Stream Name="` + o.name + `" CommandId="` + html.EscapeString(id) + `">` + base64.StdEncoding.EncodeToString(o.b) + `</rsp:Stream>`)
		}
		if p.done {
			b.WriteString(`<rsp:Stream Name="` + o.name + `" CommandId="` + html.EscapeString(id) + `" End="true"></rsp:Stream>`)
		}
	}
	p.out.b, p.err.b = nil, nil
	state, code := "Running", ""
	if p.done {
		state, code = "Done", fmt.Sprintf(`<rsp:ExitCode>%d</rsp:ExitCode>`, p.code)
	}
	b.WriteString(`<rsp:CommandState CommandId="` + html.EscapeString(id) + `" State="` + nsShell + `/CommandState/` + state + `">` + code + `</rsp:CommandState></rsp:ReceiveResponse>`)
	return b.String()
}
