package pseval

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"runner/engine/secret"
)

// The values of scripts: nil, string, bool, int64, Char, []any, time.Time,
// secret.Value, *Hash, *Block, *Object and *ThrownError.

// Char is one UTF-16 unit.
type Char uint16

// Hash is a hash table.
type Hash struct {
	Cased bool // keys differ by case
	Keys  []string
	table map[string]any
}

func (h *Hash) key(k string) string {
	if h.Cased {
		return k
	}
	return strings.ToLower(k)
}

// Get returns the value under k and whether there is one.
func (h *Hash) Get(k string) (any, bool) {
	v, ok := h.table[h.key(k)]
	return v, ok
}

// Set puts a value under k.
func (h *Hash) Set(k string, v any) {
	if h.table == nil {
		h.table = map[string]any{}
	}
	if _, ok := h.table[h.key(k)]; !ok {
		h.Keys = append(h.Keys, k)
	}
	h.table[h.key(k)] = v
}

// Block is a script block.
type Block struct{ Text string }

// Object is something of the host with properties.
type Object struct {
	Properties map[string]any // by lower-case name
	Methods    map[string]func() any
}

// ThrownError is a terminating error.
type ThrownError struct {
	Message string
	ID      string
	Line    int64
}

// Error returns the message.
func (t *ThrownError) Error() string { return t.Message }

// Call is one call of a command of the host.
type Call struct {
	Args  []any
	Named map[string]any // by lower-case name; a switch is true
	// Variable reads a variable of the script.
	Variable func(name string) any
	Output   func(any) error
}

// Machine runs scripts.
type Machine struct {
	// Commands are those of the host, by lower-case name.
	Commands map[string]func(context.Context, Call) error
	// Body runs the script block whose first line is "#: NAME". It says false
	// for blocks that are of the subset themselves.
	Body func(ctx context.Context, name string, c Call) (bool, error)
	// Output takes what the script writes.
	Output func(any) error

	// Env are the variables of the process, by lower-case name.
	Env map[string]string
	// PID is the number of the process that the script runs in.
	PID int64

	scopes    []map[string]any
	functions map[string]*node
	steps     int
}

// switches are parameters without a value that others may follow.
var switches = map[string]bool{"force": true, "directory": true}

// maxSteps bounds how much one script may do.
const maxSteps = 5_000_000

// Control flow.
var (
	errReturn   = errors.New("return outside of a function")
	errBreak    = errors.New("break outside of a loop")
	errContinue = errors.New("continue outside of a loop")
)

// Run evaluates a script with its parameters. A *ThrownError is an error that the
// script did not catch, an *UnsupportedError a construct beyond the subset.
func (m *Machine) Run(ctx context.Context, script string, params map[string]any) error {
	n, err := parse(script)
	if err != nil {
		return err
	}
	m.scopes = []map[string]any{{"global:lastexitcode": nil, "pid": m.PID}}
	m.functions = map[string]*node{}
	for name, v := range params {
		m.scopes[0][strings.ToLower(name)] = v
	}
	err = m.statements(ctx, n, m.Output)
	if errors.Is(err, errReturn) || errors.Is(err, errBreak) || errors.Is(err, errContinue) {
		return nil
	}
	return err
}

func (m *Machine) get(name string) any {
	switch name {
	case "true":
		return true
	case "false":
		return false
	case "null":
		return nil
	}
	if strings.HasPrefix(name, "global:") {
		return m.scopes[0][name]
	}
	if v, is := strings.CutPrefix(name, "env:"); is {
		if value, ok := m.Env[v]; ok {
			return value
		}
		return nil
	}
	for _, s := range slices.Backward(m.scopes) {
		if v, ok := s[name]; ok {
			return v
		}
	}
	return nil // as PowerShell without strict mode
}

func (m *Machine) set(name string, v any) {
	switch {
	case name == "null":
	case strings.HasPrefix(name, "global:"):
		m.scopes[0][name] = v
	default:
		m.scopes[len(m.scopes)-1][name] = v
	}
}

func (m *Machine) statements(ctx context.Context, n *node, out func(any) error) error {
	for _, s := range n.kids {
		if err := m.statement(ctx, s, out); err != nil {
			return err
		}
	}
	return nil
}

func (m *Machine) tick(ctx context.Context) error {
	if m.steps++; m.steps > maxSteps {
		return unsupported("a script that does not end")
	}
	return ctx.Err()
}

func (m *Machine) statement(ctx context.Context, n *node, out func(any) error) error {
	if err := m.tick(ctx); err != nil {
		return err
	}
	switch n.kind {
	case "param":
		return nil // bound before
	case "function":
		m.functions[n.text] = n
		return nil
	case "if":
		return m.branch(ctx, n, out)
	case "while", "do", "foreach":
		return m.loop(ctx, n, out)
	case "try":
		return m.try(ctx, n, out)
	case "finally": // also when the script is stopped, but then it is not heard
		err := m.statements(ctx, n.kids[0], out)
		last := m.statements(context.WithoutCancel(ctx), n.kids[1], out)
		if err == nil {
			err = last
		}
		return err
	case "return":
		if len(n.kids) > 0 {
			if err := m.emit(ctx, n.kids[0], out); err != nil {
				return err
			}
		}
		return errReturn
	case "throw":
		v, err := m.value(ctx, n.kids[0])
		if err != nil {
			return err
		}
		if again, is := v.(*ThrownError); is {
			return again
		}
		return &ThrownError{Message: text(v), ID: text(v)}
	case "break":
		return errBreak
	case "continue":
		return errContinue
	case "assign":
		v, err := m.value(ctx, n.kids[1])
		if err != nil {
			return err
		}
		return m.assign(ctx, n.kids[0], v)
	}
	return m.emit(ctx, n, out)
}

func (m *Machine) branch(ctx context.Context, n *node, out func(any) error) error {
	for i := 0; i+1 < len(n.kids); i += 2 {
		v, err := m.value(ctx, n.kids[i])
		if err != nil {
			return err
		}
		if truth(v) {
			return m.statements(ctx, n.kids[i+1], out)
		}
	}
	if len(n.kids)%2 == 1 {
		return m.statements(ctx, n.kids[len(n.kids)-1], out)
	}
	return nil
}

func (m *Machine) loop(ctx context.Context, n *node, out func(any) error) error {
	body := func(b *node) (stop bool, err error) {
		err = m.statements(ctx, b, out)
		if errors.Is(err, errBreak) {
			return true, nil
		}
		if errors.Is(err, errContinue) {
			err = nil
		}
		return false, err
	}
	if n.kind == "foreach" {
		list, err := m.value(ctx, n.kids[0])
		if err != nil {
			return err
		}
		for _, v := range items(list) {
			m.set(n.text, v)
			if stop, err := body(n.kids[1]); stop || err != nil {
				return err
			}
		}
		return nil
	}
	for first := n.kind == "do"; ; first = false {
		cond, block := n.kids[0], n.kids[1]
		if n.kind == "do" {
			cond, block = block, cond
		}
		if !first {
			v, err := m.value(ctx, cond)
			if err != nil || !truth(v) {
				return err
			}
		}
		if err := m.tick(ctx); err != nil {
			return err
		}
		if stop, err := body(block); stop || err != nil {
			return err
		}
	}
}

func (m *Machine) try(ctx context.Context, n *node, out func(any) error) error {
	depth := len(m.scopes)
	err := m.statements(ctx, n.kids[0], out)
	t, is := errors.AsType[*ThrownError](err)
	if !is {
		return err
	}
	m.scopes = m.scopes[:depth]
	m.set("_", t)
	return m.statements(ctx, n.kids[1], out)
}

// emit evaluates n and writes its value, element by element, as a statement
// does. Text and hash tables are one element.
func (m *Machine) emit(ctx context.Context, n *node, out func(any) error) error {
	switch n.kind {
	case "command":
		return m.command(ctx, n, out)
	case "call":
		return m.call(ctx, n, out)
	case "pipe":
		return m.emit(ctx, n.kids[0], func(v any) error { return out(text(v)) })
	}
	v, err := m.expr(ctx, n)
	if err != nil || v == nil {
		return err
	}
	if l, is := v.([]any); is {
		for _, x := range l {
			if err := out(x); err != nil {
				return err
			}
		}
		return nil
	}
	return out(v)
}

// value evaluates n where a value is wanted: what a command writes is collected.
func (m *Machine) value(ctx context.Context, n *node) (any, error) {
	if n.kind != "command" && n.kind != "call" && n.kind != "pipe" {
		return m.expr(ctx, n)
	}
	l, err := m.collect(ctx, n)
	switch {
	case err != nil:
		return nil, err
	case len(l) == 0:
		return nil, nil
	case len(l) == 1:
		return l[0], nil
	}
	return l, nil
}

func (m *Machine) collect(ctx context.Context, n *node) ([]any, error) {
	l := []any{}
	add := func(v any) error { l = append(l, v); return nil }
	var err error
	if n.kind == "block" {
		err = m.statements(ctx, n, add)
	} else {
		err = m.emit(ctx, n, add)
	}
	return l, err
}

func (m *Machine) assign(ctx context.Context, to *node, v any) error {
	switch to.kind {
	case "variable":
		m.set(to.text, v)
		return nil
	case "member", "index":
		o, err := m.expr(ctx, to.kids[0])
		if err != nil {
			return err
		}
		h, ok := o.(*Hash)
		if !ok {
			return unsupported("an assignment into %T", o)
		}
		key := to.text
		if to.kind == "index" {
			k, err := m.expr(ctx, to.kids[1])
			if err != nil {
				return err
			}
			if key, ok = k.(string); !ok {
				return unsupported("a key of type %T", k)
			}
		}
		h.Set(key, v)
		return nil
	}
	return unsupported("an assignment to %s", to.kind)
}

// command runs a function of the script or a command of the host.
func (m *Machine) command(ctx context.Context, n *node, out func(any) error) error {
	c, err := m.bind(ctx, n.kids, out)
	if err != nil {
		return err
	}
	if f := m.functions[n.text]; f != nil {
		return m.invoke(ctx, f, c, out)
	}
	if n.text == "new-object" {
		return newObject(c)
	}
	f := m.Commands[n.text]
	if f == nil {
		return unsupported("the command %s", n.text)
	}
	return f(ctx, c)
}

// bind evaluates the arguments of a command.
func (m *Machine) bind(ctx context.Context, words []*node, out func(any) error) (Call, error) {
	c := Call{Named: map[string]any{}, Output: out, Variable: func(name string) any { return m.get(strings.ToLower(name)) }}
	for i := 0; i < len(words); i++ {
		k := words[i]
		if k.kind == "splat" {
			switch v := m.get(k.text).(type) {
			case *Hash:
				for _, key := range v.Keys {
					c.Named[strings.ToLower(key)], _ = v.Get(key)
				}
			case []any:
				c.Args = append(c.Args, v...)
			default:
				return c, unsupported("@%s", k.text)
			}
			continue
		}
		if k.kind != "parameter" {
			v, err := m.value(ctx, k)
			if err != nil {
				return c, err
			}
			c.Args = append(c.Args, v)
			continue
		}
		c.Named[k.text] = true
		if i+1 < len(words) && words[i+1].kind != "parameter" && words[i+1].kind != "splat" && !switches[k.text] {
			v, err := m.value(ctx, words[i+1])
			if err != nil {
				return c, err
			}
			c.Named[k.text] = v
			i++
		}
	}
	return c, nil
}

// invoke runs a function in a scope of its own.
func (m *Machine) invoke(ctx context.Context, f *node, c Call, out func(any) error) error {
	if len(c.Named) > 0 || len(c.Args) > len(f.kids)-1 {
		return unsupported("the arguments of %s", f.text)
	}
	scope := map[string]any{}
	for i, p := range f.kids[1:] {
		scope[p.text] = nil
		if i < len(c.Args) {
			scope[p.text] = c.Args[i]
		}
	}
	m.scopes = append(m.scopes, scope)
	depth := len(m.scopes)
	err := m.statements(ctx, f.kids[0], out)
	m.scopes = m.scopes[:min(len(m.scopes), depth-1)]
	if errors.Is(err, errReturn) {
		return nil
	}
	return err
}

// call runs a script block.
func (m *Machine) call(ctx context.Context, n *node, out func(any) error) error {
	v, err := m.expr(ctx, n.kids[0])
	if err != nil {
		return err
	}
	c, err := m.bind(ctx, n.kids[1:], out)
	if err != nil {
		return err
	}
	if program, is := v.(string); is {
		f := m.Commands[strings.ToLower(program)]
		if f == nil {
			return &ThrownError{Message: "The term '" + program + "' is not recognized.", ID: "CommandNotFoundException"}
		}
		return f(ctx, c)
	}
	b, ok := v.(*Block)
	if !ok || len(c.Args)+len(c.Named) > 0 {
		return unsupported("a call of %T", v)
	}
	if name, is := marker(b.Text); is && m.Body != nil {
		done, err := m.Body(ctx, name, Call{Output: out, Variable: func(name string) any { return m.get(strings.ToLower(name)) }})
		if done || err != nil {
			return err
		}
	}
	body, err := parse(b.Text)
	if err != nil {
		return err
	}
	return m.invoke(ctx, &node{kind: "function", text: "a block", kids: []*node{body}}, Call{}, out)
}

// marker reads the name of a body.
func marker(text string) (string, bool) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		return strings.CutPrefix(line, "#: ")
	}
	return "", false
}

// Emit makes an event as the script's own function does.
func (m *Machine) Emit(ctx context.Context, function string, out func(any) error, args ...any) error {
	f := m.functions[function]
	if f == nil {
		return unsupported("no function %s", function)
	}
	return m.invoke(ctx, f, Call{Args: args}, out)
}

func newObject(c Call) error {
	if len(c.Args) == 0 || len(c.Named) > 0 {
		return unsupported("New-Object without a type")
	}
	switch name := strings.ToLower(text(c.Args[0])); name {
	case "hashtable":
		return c.Output(&Hash{Cased: true})
	case "pscredential":
		parts := items(c.Args[1])
		s, ok := parts[len(parts)-1].(secret.Value)
		if !ok || len(parts) != 2 || text(parts[0]) == "" {
			return unsupported("a credential of these parts")
		}
		net := &Object{Properties: map[string]any{"password": s.Reveal()}}
		return c.Output(&Object{
			Properties: map[string]any{"username": parts[0], "password": s},
			Methods:    map[string]func() any{"getnetworkcredential": func() any { return net }},
		})
	default:
		return unsupported("an object of type %s", name)
	}
}

// items lists the elements of v as foreach does.
func items(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

func truth(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case int64:
		return v != 0
	case []any:
		return len(v) > 1 || len(v) == 1 && truth(v[0])
	}
	return true
}

// text is what PowerShell makes of v in a string.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		if v {
			return "True"
		}
		return "False"
	case int64:
		return strconv.FormatInt(v, 10)
	case Char:
		return string(utf16.Decode([]uint16{uint16(v)}))
	case *ThrownError:
		return v.Message
	case time.Time:
		return v.Format("01/02/2006 15:04:05")
	case secret.Value:
		return "System.Security.SecureString"
	case []any:
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = text(x)
		}
		return strings.Join(parts, " ")
	case *Hash:
		return "System.Collections.Hashtable"
	}
	return fmt.Sprintf("%T", v)
}

// ordinal compares as String.CompareOrdinal does.
func ordinal(a, b string) int64 {
	return int64(slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b))))
}

// patterns are those of Go that mean the same in .NET.
var patterns = regexp.MustCompile(`^(\\A|\\z|\[(\\\\|[A-Za-z0-9 :_.-])+\]|[-?+*A-Za-z0-9])+$`)

func match(s, pattern string) (bool, error) {
	if !patterns.MatchString(pattern) {
		return false, unsupported("the pattern %s", pattern)
	}
	return regexp.MatchString(pattern, s)
}
