package winrm

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"runner/engine/secret"
	"runner/engine/transport"
	"runner/engine/transport/winrm/clixml"
	"runner/engine/transport/winrm/psrp"
)

// Limits of a batch: what one pipeline of a server with default quotas takes
// (MaximumReceivedObjectSizeMB is 10), and what a SecureString can hold.
const (
	maxBatch  = 8 << 20
	maxSecret = 65536
)

//go:embed prelude.ps1
var preludeSource string

var (
	bodyPattern = regexp.MustCompile(`^[a-z0-9_.-]+$`)    // at most 64
	keyPattern  = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`) // at most 200
)

// program is a batch as PowerShell: a script that is the same for every value,
// and the values, which become its argument $v.
type program struct {
	text   strings.Builder
	values []any
	bodies []string // names, by number
}

// render writes b. nonce marks the events of this batch among what bodies write.
func render(b transport.Batch, nonce string) (psrp.Pipeline, error) {
	if err := check(b); err != nil {
		return psrp.Pipeline{}, err
	}
	p := &program{values: []any{nonce}}
	p.text.WriteString("param($v)\n" + compact(preludeSource))
	p.constants(b)
	steps := b.Steps
	if b.Guarded { // what takes over later finds this batch, or it comes too late itself
		p.open(b)
		p.f("try {\n")
		p.step(steps[0])
		p.f("if (-not $__r.stop) {\n$__r.s = -1\n")
		p.takeOver(b)
		p.f("}\n")
		steps = steps[1:]
	} else {
		p.takeOver(b)
		p.open(b)
		p.f("try {\n")
	}
	for _, s := range steps {
		p.step(s)
	}
	p.f("} finally { __shut }\n")
	if n := p.size(); n > maxBatch {
		return psrp.Pipeline{}, fmt.Errorf("the batch is %d bytes long, the limit is %d: send less in one step", n, maxBatch)
	}
	return psrp.Pipeline{Commands: []psrp.Command{{
		Text: p.text.String(), Script: true, Local: true,
		Parameters: []psrp.Parameter{{Name: "v", Value: clixml.List{Items: p.values}}},
	}}}, nil
}

func (p *program) f(format string, args ...any) { fmt.Fprintf(&p.text, format, args...) }

// size is about what travels.
func (p *program) size() int {
	n := p.text.Len()
	for _, v := range p.values {
		n += 16
		switch v := v.(type) {
		case string:
			n += len(v)
		case secret.Value:
			n += 2 * len(v.Reveal())
		case []string:
			for _, s := range v {
				n += 16 + len(s)
			}
		}
	}
	return n
}

// compact leaves out comments and indentation, which would only be sent.
func compact(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if t := strings.TrimLeft(line, " \t"); t != "" && t != "\n" && !strings.HasPrefix(t, "#") {
			out.WriteString(t)
		}
	}
	return out.String()
}

// check refuses what cannot be rendered.
func check(b transport.Batch) error {
	if err := b.Check(); err != nil {
		return err
	}
	bodies := map[string]string{}
	for _, s := range b.Steps {
		if len(s.Body.Name) > 64 || !bodyPattern.MatchString(s.Body.Name) {
			return fmt.Errorf("step %d: body name %q", s.N, s.Body.Name)
		}
		if old, ok := bodies[s.Body.Name]; ok && old != s.Body.Text {
			return fmt.Errorf("step %d: two bodies are named %q", s.N, s.Body.Name)
		}
		bodies[s.Body.Name] = s.Body.Text
		if !utf8.ValidString(s.Body.Text + strings.Join(s.Body.Lib, "")) {
			return fmt.Errorf("step %d: the body is not UTF-8", s.N)
		}
		for _, v := range s.Leaves() {
			if err := checkLeaf(v); err != nil {
				return fmt.Errorf("step %d: %w", s.N, err)
			}
		}
	}
	return nil
}

var (
	errUTF8   = errors.New("a value is not UTF-8: strings of PowerShell hold text, not bytes")
	errSecret = errors.New("a secret has more than 65536 characters, which no SecureString can hold")
)

func checkLeaf(v transport.Value) error {
	text := ""
	switch v := v.(type) {
	case transport.Ref:
		if text = v.Default; len(v.Key) > 200 || !keyPattern.MatchString(v.Key) {
			return fmt.Errorf("output %q: only letters, digits, dot, dash and underscore", v.Key)
		}
	case transport.Lit:
		text = transport.Text(v.V)
		if _, is := v.V.(secret.Value); is && utf8.RuneCountInString(text) > maxSecret/2 && utf16Len(text) > maxSecret {
			return errSecret
		}
	}
	if !utf8.ValidString(text) {
		return errUTF8
	}
	return nil
}

func utf16Len(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}

// constants writes what the bodies need and the bodies, each once.
func (p *program) constants(b transport.Batch) {
	var libs []string
	for _, s := range b.Steps {
		for _, lib := range s.Body.Lib {
			if !slices.Contains(libs, lib) {
				libs = append(libs, lib)
				p.f("%s\n", lib)
			}
		}
		if !slices.Contains(p.bodies, s.Body.Name) {
			p.f("$__b%d = {\n#: %s\n%s\n}\n", len(p.bodies), s.Body.Name, s.Body.Text)
			p.bodies = append(p.bodies, s.Body.Name)
		}
	}
}

// takeOver ends earlier batches of the scope.
func (p *program) takeOver(b transport.Batch) {
	if b.Takeover && b.Scope != "" {
		p.f("__take '%s'\n", b.Scope) // a-z, 0-9 and -
	}
}

// open says that this batch runs.
func (p *program) open(b transport.Batch) {
	if b.ID != "" {
		scope := b.Scope
		if scope == "" {
			scope = "adhoc"
		}
		p.f("__open '%s.%s'\n", scope, b.ID)
	}
}

// step writes one step.
func (p *program) step(s transport.Step) {
	p.f("__step %d '%d.'\nif ($__r.stop) { __skip 'failed' }\nelseif (%s) {\n__begin\n", s.N, s.N, p.cond(s.When))
	if s.Until != nil {
		p.f("while ($true) {\n")
	}
	p.attempt(s)
	if s.Until != nil {
		p.f("if (%s) { break }\nif ($__r.k -gt %d) {\n$__r.f = $true\nbreak\n}\n", p.cond(s.Until), max(s.Retries, 0))
		ps := s.Pauses()
		for i, d := range ps {
			switch {
			case i == len(ps)-1 && i > 0:
				p.f("else { __again %d }\n", d.Milliseconds())
			case i == len(ps)-1:
				p.f("__again %d\n", min(d, 24*time.Hour).Milliseconds())
			case i > 0:
				p.f("elseif ($__r.k -eq %d) { __again %d }\n", i+1, d.Milliseconds())
			default:
				p.f("if ($__r.k -eq 1) { __again %d }\n", d.Milliseconds())
			}
		}
		p.f("}\n")
	}
	p.f("__end %s\n}\nelse { __skip 'when' }\n", truth(s.Continue))
}

func truth(b bool) string {
	if b {
		return "$true"
	}
	return "$false"
}

// attempt runs the body once and decides what became of it.
func (p *program) attempt(s transport.Step) {
	p.f("$a = @{}\n")
	var own []string // variables of an author's script
	for _, a := range s.Args {
		if strings.HasPrefix(a.Name, "_") {
			own = append(own, a.Name)
			p.f("$%s = %s\n", a.Name, p.arg(a.Value))
			continue
		}
		p.f("$a['%s'] = %s\n", a.Name, p.arg(a.Value))
	}
	p.f("$M = '%s'\n__try $__b%d\n", s.Mode, slices.Index(p.bodies, s.Body.Name))
	for _, name := range own {
		p.f("$%s = $null\n", name)
	}
	if s.ChangedWhen != nil {
		p.f("$__r.c = %s\n__word 'changed' (__bool $__r.c)\n", p.cond(s.ChangedWhen))
	}
	if s.FailedWhen != nil {
		p.f("$__r.f = %s\n__word 'failed' (__bool $__r.f)\n", p.cond(s.FailedWhen))
	}
}

// bind makes v an element of $v.
func (p *program) bind(v any) string {
	p.values = append(p.values, v)
	return "$v[" + strconv.Itoa(len(p.values)-1) + "]"
}

// arg writes an argument: typed when it is known, else text.
func (p *program) arg(v transport.Value) string {
	if c, ok := v.(transport.Concat); ok {
		if parts := merge(c); len(parts) == 1 {
			v = parts[0]
		}
	}
	l, ok := v.(transport.Lit)
	if !ok {
		return p.expr(v)
	}
	if n, is := l.V.(int); is {
		return p.bind(int64(n))
	}
	return p.bind(l.V)
}

// expr writes the text of v.
func (p *program) expr(v transport.Value) string {
	switch v := v.(type) {
	case transport.Lit:
		if s, is := v.V.(secret.Value); is {
			return "(__text " + p.bind(s) + ")"
		}
		return p.bind(transport.Text(v.V))
	case transport.Ref:
		d := "''"
		if v.Default != "" {
			d = p.bind(v.Default)
		}
		return fmt.Sprintf("(__ref '%d.%s' %s)", v.Step, v.Key, d)
	case transport.Concat:
		parts := []string{"''"}
		for _, part := range merge(v) {
			parts = append(parts, p.expr(part))
		}
		return "(" + strings.Join(parts, " + ") + ")"
	}
	return "''"
}

// merge joins neighbouring literals; what a secret is part of is a secret.
func merge(c transport.Concat) []transport.Value {
	var out []transport.Value
	for _, v := range transport.Flatten(c) {
		l, ok := v.(transport.Lit)
		if n := len(out); ok && n > 0 {
			if last, is := out[n-1].(transport.Lit); is {
				out[n-1] = transport.Lit{V: join(last.V, l.V)}
				continue
			}
		}
		out = append(out, v)
	}
	if len(out) == 0 {
		out = append(out, transport.Lit{V: ""})
	}
	if l, ok := out[0].(transport.Lit); ok && len(out) == 1 {
		out[0] = transport.Lit{V: join("", l.V)} // its text, also when it was alone
	}
	return out
}

func join(a, b any) any {
	text := transport.Text(a) + transport.Text(b)
	_, hidden := a.(secret.Value)
	if _, is := b.(secret.Value); is || hidden {
		return secret.New(text)
	}
	return text
}

// cond writes a condition. What needs nothing of the device is decided here, so
// that no secret has to be read there for it.
func (p *program) cond(q transport.Pred) string {
	if !asks(q) {
		return truth(transport.Holds(q, func(r transport.Ref) string { return r.Default }))
	}
	switch q := q.(type) {
	case transport.Not:
		return "(-not " + p.cond(q.P) + ")"
	case transport.And:
		return p.chain(q, " -and ")
	case transport.Or:
		return p.chain(q, " -or ")
	case transport.Eq:
		return fmt.Sprintf("(__eq %s %s)", p.expr(q.A), p.expr(q.B))
	case transport.Less:
		return fmt.Sprintf("(__less %s %s %s)", p.expr(q.A), p.expr(q.B), truth(q.OrEqual))
	case transport.In:
		var any transport.Or
		for _, v := range q.Set {
			any = append(any, transport.Eq{A: q.A, B: v})
		}
		return p.cond(any)
	case transport.True:
		return fmt.Sprintf("(__eq %s 'true')", p.expr(q.V))
	case transport.Const, nil:
	}
	return truth(transport.Holds(q, nil))
}

func (p *program) chain(qs []transport.Pred, op string) string {
	parts := make([]string, len(qs))
	for i, q := range qs {
		parts[i] = p.cond(q)
	}
	return "(" + strings.Join(parts, op) + ")"
}

// asks reports whether q looks at an output of a step.
func asks(q transport.Pred) bool {
	return slices.ContainsFunc(transport.Step{When: q}.Leaves(), func(v transport.Value) bool {
		_, is := v.(transport.Ref)
		return is
	})
}
