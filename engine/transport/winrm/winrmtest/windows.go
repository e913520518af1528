package winrmtest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"runner/engine/secret"
	"runner/engine/transport/winrm/clixml"
	"runner/engine/transport/winrm/psrp"
	"runner/engine/transport/winrm/winrmtest/pseval"
)

// Body does in Go what the body of a module would do in PowerShell. It says
// what it does through its Step.
type Body func(ctx context.Context, s *Step) error

// Windows runs the scripts of package winrm: what is around the bodies is
// evaluated, a body is done by the function of its name. Bodies without one
// are evaluated, too, and may use only what is around bodies.
type Windows struct {
	Bodies map[string]Body
	// Accounts are what the cmdlets about accounts work on; nil: there are none.
	Accounts *Accounts

	mu        sync.Mutex
	registry  map[string]string // values named p, by key
	processes map[*Shell]int64  // one for each shell
	lastPID   int64
	scripts   []string
}

// Scripts returns the text of all scripts that were sent so far.
func (w *Windows) Scripts() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.scripts...)
}

// Registry returns the keys that batches left behind.
func (w *Windows) Registry() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]string{}
	for k, v := range w.registry {
		if k != progressRoot {
			out[k] = v
		}
	}
	return out
}

// Handle is a Handler.
func (w *Windows) Handle(ctx context.Context, p *Pipeline) error {
	if len(p.Commands) != 1 || !p.Commands[0].Script {
		return errors.New("this host runs scripts only")
	}
	w.mu.Lock()
	w.scripts = append(w.scripts, p.Commands[0].Text)
	w.mu.Unlock()
	params := map[string]any{}
	for _, a := range p.Commands[0].Parameters {
		params[a.Name] = inward(a.Value)
	}
	err := w.run(ctx, p, w.pid(p.shell), p.Commands[0].Text, params, func(v any) error { return p.Write(psrp.Output, outward(v)) })
	if t, is := errors.AsType[*pseval.ThrownError](err); is {
		return &TerminatingError{Record: psrp.ErrorRecord{Message: t.Message, ID: t.ID, Exception: "System.Management.Automation.RuntimeException"}}
	}
	return err
}

// run evaluates a script of package winrm; p is nil in a cmd shell.
func (w *Windows) run(ctx context.Context, p *Pipeline, pid int64, script string, params map[string]any, out func(any) error) error {
	m := &pseval.Machine{PID: pid, Output: func(v any) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return out(v)
	}}
	m.Commands = w.commands()
	m.Env = map[string]string{}
	if w.Accounts != nil {
		m.Env["computername"], m.Env["public"] = w.Accounts.Computer, `C:\Users\Public`
		w.Accounts.add(m.Commands)
	}
	environment(m)
	m.Body = func(ctx context.Context, name string, c pseval.Call) (bool, error) {
		body := w.Bodies[name]
		if body == nil {
			return false, nil
		}
		return true, body(ctx, newStep(m, p, c))
	}
	property := func(name string, v any) *pseval.Object {
		return &pseval.Object{Properties: map[string]any{name: v}}
	}
	params["psversiontable"] = property("psversion", "5.1.20348.1")
	params["executioncontext"] = property("sessionstate", property("languagemode", "FullLanguage"))
	return m.Run(ctx, script, params)
}

// environment adds the commands for variables of the process and of the script.
func environment(m *pseval.Machine) {
	other := m.Commands["test-path"]
	name := func(c pseval.Call) (string, bool) {
		return strings.CutPrefix(strings.ToLower(fmt.Sprint(c.Named["literalpath"])), `env:\`)
	}
	m.Commands["test-path"] = func(ctx context.Context, c pseval.Call) error {
		if n, is := name(c); is {
			return c.Output(m.Env[n] != "")
		}
		return other(ctx, c)
	}
	m.Commands["get-item"] = func(_ context.Context, c pseval.Call) error {
		n, _ := name(c)
		return c.Output(&pseval.Object{Properties: map[string]any{"value": m.Env[n]}})
	}
	m.Commands["set-item"] = func(_ context.Context, c pseval.Call) error {
		n, _ := name(c)
		m.Env[n], _ = c.Named["value"].(string)
		if m.Env[n] == "" {
			delete(m.Env, n)
		}
		return nil
	}
	m.Commands["get-variable"] = func(_ context.Context, c pseval.Call) error {
		return c.Output(c.Variable(strings.ToLower(fmt.Sprint(c.Named["name"]))))
	}
}

// inward turns an argument into a value of a script.
func inward(v any) any {
	if l, ok := clixml.Items(v); ok {
		out := make([]any, len(l))
		for i, x := range l {
			out[i] = inward(x)
		}
		return out
	}
	if n, ok := clixml.Int(v); ok {
		return n
	}
	return v
}

// outward turns a value of a script into what is sent.
func outward(v any) any {
	switch v := v.(type) {
	case *pseval.Hash:
		d := clixml.Dict{}
		for _, k := range v.Keys {
			x, _ := v.Get(k)
			d = append(d, clixml.Entry{Key: k, Value: outward(x)})
		}
		return d
	case int64:
		return int(v)
	case []any:
		l := clixml.List{}
		for _, x := range v {
			l.Items = append(l.Items, outward(x))
		}
		return l
	}
	return v
}

func (w *Windows) pid(s *Shell) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.processes == nil {
		w.processes = map[*Shell]int64{}
		w.lastPID = 4000
	}
	if w.processes[s] == 0 {
		w.lastPID += 4
		w.processes[s] = w.lastPID
	}
	return w.processes[s]
}

// process returns the shell that runs as that process.
func (w *Windows) process(id any) *Shell {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s, n := range w.processes {
		if strconv.FormatInt(n, 10) == fmt.Sprint(id) && s.life.Err() == nil {
			return s
		}
	}
	return nil
}

const progressRoot = `HKLM:\SOFTWARE\runner\progress`

type hostCommand = func(context.Context, pseval.Call) error

// commands are the cmdlets that the text around bodies uses.
func (w *Windows) commands() map[string]hostCommand {
	return map[string]hostCommand{
		"start-sleep": func(ctx context.Context, c pseval.Call) error {
			ms, _ := c.Named["milliseconds"].(int64)
			return wait(ctx, time.Duration(ms)*time.Millisecond)
		},
		"test-path": func(_ context.Context, c pseval.Call) error {
			path := fmt.Sprint(c.Named["literalpath"])
			w.mu.Lock()
			_, ok := w.registry[path]
			w.mu.Unlock()
			return c.Output(ok || w.Accounts.has(path))
		},
		"new-item": func(_ context.Context, c pseval.Call) error { return w.write(c.Named["path"], "", true) },
		"set-itemproperty": func(_ context.Context, c pseval.Call) error {
			return w.write(c.Named["literalpath"], c.Named["value"], false)
		},
		"remove-item": func(_ context.Context, c pseval.Call) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.registry, strings.TrimPrefix(fmt.Sprint(c.Named["literalpath"]), "Registry::"))
			return nil
		},
		"get-childitem":    w.children,
		"get-itemproperty": w.property,
		"get-process": func(_ context.Context, c pseval.Call) error {
			if w.process(c.Named["id"]) == nil {
				return nil
			}
			start := &pseval.Object{Properties: map[string]any{"ticks": int64(638000000000000000)}}
			return c.Output(&pseval.Object{Properties: map[string]any{"starttime": start}})
		},
		"stop-process": func(_ context.Context, c pseval.Call) error {
			if s := w.process(c.Named["id"]); s != nil {
				s.end(errors.New("the process was ended"))
			}
			return nil
		},
		"wait-process": func(context.Context, pseval.Call) error { return nil },
	}
}

func (w *Windows) write(key, value any, anew bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.registry == nil {
		w.registry = map[string]string{}
	}
	k := fmt.Sprint(key)
	if _, ok := w.registry[k]; !ok && !anew {
		return &pseval.ThrownError{Message: "Cannot find path '" + k + "' because it does not exist.", ID: "PathNotFound"}
	}
	text, _ := value.(string)
	w.registry[k] = text
	return nil
}

func (w *Windows) children(_ context.Context, c pseval.Call) error {
	for k := range w.Registry() {
		name := strings.TrimPrefix(k, progressRoot+`\`)
		if err := c.Output(&pseval.Object{Properties: map[string]any{"pschildname": name, "pspath": "Registry::" + k}}); err != nil {
			return err
		}
	}
	return nil
}

func (w *Windows) property(_ context.Context, c pseval.Call) error {
	w.mu.Lock()
	v, ok := w.registry[strings.TrimPrefix(fmt.Sprint(c.Named["literalpath"]), "Registry::")]
	w.mu.Unlock()
	if !ok {
		return nil
	}
	return c.Output(&pseval.Object{Properties: map[string]any{"p": v}})
}

// Step is what a Body is given.
type Step struct {
	Mode string         // apply, probe or check
	Args map[string]any // nil, string, bool, int64, secret.Value, []any
	m    *pseval.Machine
	p    *Pipeline
	out  func(any) error
}

func newStep(m *pseval.Machine, p *Pipeline, c pseval.Call) *Step {
	s := &Step{m: m, p: p, out: c.Output, Args: map[string]any{}}
	s.Mode, _ = c.Variable("M").(string)
	if h, ok := c.Variable("a").(*pseval.Hash); ok {
		for _, k := range h.Keys {
			s.Args[k], _ = h.Get(k)
		}
	}
	return s
}

// Text returns an argument as text, "" when it is not there. Secrets are revealed.
func (s *Step) Text(name string) string {
	switch v := s.Args[name].(type) {
	case nil:
		return ""
	case secret.Value:
		return v.Reveal()
	default:
		return fmt.Sprint(v)
	}
}

// Bool reports whether an argument is true, or the text of it.
func (s *Step) Bool(name string) bool { return strings.EqualFold(s.Text(name), "true") }

func (s *Step) emit(ctx context.Context, function string, args ...any) error {
	return s.m.Emit(ctx, function, s.out, args...)
}

// Out reports an output.
func (s *Step) Out(ctx context.Context, key string, value any) error {
	return s.emit(ctx, "_out", key, value)
}

// State reports the state of object i.
func (s *Step) State(ctx context.Context, i int, state string) error {
	return s.emit(ctx, "_state", int64(i), state)
}

// Changed says that something was changed, or would be.
func (s *Step) Changed(ctx context.Context) error { return s.emit(ctx, "_changed") }

// Say says what was done.
func (s *Step) Say(ctx context.Context, text string) error { return s.emit(ctx, "_say", text) }

// Fail ends the step.
func (s *Step) Fail(ctx context.Context, rc int, text string) error {
	return s.emit(ctx, "_fail", int64(rc), text)
}

// Write writes to a stream as a cmdlet would.
func (s *Step) Write(stream psrp.Stream, v any) error { return s.p.Write(stream, v) }
