package template

import (
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strings"

	"runner/engine/lang"
	"runner/engine/module"
)

// A removal has to work when nothing is known of the creation: it may have
// been interrupted before its outputs were computed. So created.outputs.NAME
// may only be read with a value to fall back on (?? in an expression, default
// in a string) or where created.known is required beside it with "and": in the
// same expression, or in the when of the step or of a block around it.

// guard says how a place stands to a creation that is not known.
type guard int

const (
	unguarded    guard = iota // in a step that runs then, too
	known                     // runs only when the creation is known
	outsideSteps              // no when can stand before it
)

// createdRead is one place that reads what the creation hands on.
type createdRead struct {
	node   *lang.Node
	offset int
	what   string // outputs, params, vars or steps
	name   string // empty: all of them
	field  string // of a step; empty: all of it
}

// handed are the maps of created that the template of the creation fills.
var handed = []string{"outputs", "params", "vars", "steps"}

// HandsOn returns the types of what a template hands on to its removal: its
// outputs, params and vars, and the results of its steps. Secrets are not among
// them, nor results of steps with no_log.
func (t *Template) HandsOn(what string) map[string]lang.Type {
	types := map[string]lang.Type{}
	switch what {
	case "outputs":
		for _, o := range t.Outputs {
			types[o.Name] = o.Type
		}
	case "params":
		for _, p := range t.Params {
			types[p.Name] = p.Type
		}
	case "vars":
		for _, v := range t.Vars {
			types[v.Name] = v.Value.Type()
		}
	case "steps":
		for s := range registering(t.Steps) {
			if !s.NoLog {
				types[s.Register] = s.result()
			}
		}
	}
	maps.DeleteFunc(types, func(_ string, typ lang.Type) bool { return typ.Kind == lang.SecretKind })
	return types
}

// registering yields the steps that register a name which the whole template
// sees, so none of an included file.
func registering(steps []*Step) iter.Seq[*Step] {
	return func(yield func(*Step) bool) {
		for _, s := range steps {
			if s.Register != "" && !yield(s) {
				return
			}
			if s.Include != nil {
				continue
			}
			for inner := range registering(slices.Concat(s.Block, s.Rescue, s.Always)) {
				if !yield(inner) {
					return
				}
			}
		}
	}
}

// StepRead is a result of the creation that a removal reads. Without a Field it
// is all of the result, without a Step all results.
type StepRead struct {
	Step  string `json:"step,omitempty"`
	Field string `json:"field,omitempty"`
}

// ReadsCreated reports whether the removal reads anything that a creation hands on.
func (t *Template) ReadsCreated() bool { return len(t.reads) > 0 }

// StepsRead returns what the removal reads of created.steps, each once.
func (t *Template) StepsRead() []StepRead {
	var out []StepRead
	for _, r := range t.reads {
		if read := (StepRead{r.name, r.field}); r.what == "steps" && !slices.Contains(out, read) {
			out = append(out, read)
		}
	}
	return out
}

// expr compiles a bare expression, or returns nil after a problem.
func (l *loader) expr(n *lang.Node, want lang.Type, scope lang.Scope, guarded guard) *lang.Expr {
	e, ps := lang.CompileExpr(n, want, scope)
	return l.compiled(n, e, ps, guarded)
}

// compiled notes what a compiled expression reads, or its problems.
func (l *loader) compiled(n *lang.Node, e *lang.Expr, ps lang.Problems, guarded guard) *lang.Expr {
	l.Join(comparing(n.Text, ps))
	if len(ps) > 0 {
		return nil
	}
	l.uses(n, e.Refs())
	l.readsOf(n, 0, n.Text, reading{guard: guarded})
	return e
}

var bareName = regexp.MustCompile(`^\s*(not\s+|!)?([a-z_][\w.]*)\s*$`)

// comparing says how to make a condition of a name that is no bool: nothing is
// true or false by being empty.
func comparing(text string, ps lang.Problems) lang.Problems {
	m := bareName.FindStringSubmatch(text)
	if m == nil {
		return ps
	}
	equal, more := "!=", ">"
	if m[1] != "" {
		equal, more = "==", "=="
	}
	for i, p := range ps {
		_, found, ok := strings.Cut(p.Message, " bool, found ")
		switch {
		case !ok:
		case found == "string":
			ps[i].Message += fmt.Sprintf("; compare it: %s %s \"\"", m[2], equal)
		case found == "int":
			ps[i].Message += fmt.Sprintf("; compare it: %s %s 0", m[2], equal)
		case strings.HasPrefix(found, "list"):
			ps[i].Message += fmt.Sprintf("; compare its length: len(%s) %s 0", m[2], more)
		}
	}
	return ps
}

// value compiles a value, or returns nil after a problem.
func (l *loader) value(n *lang.Node, want lang.Type, scope lang.Scope, guarded guard) *lang.Value {
	v, ps := lang.CompileValue(n, want, scope)
	l.Join(ps)
	if len(ps) > 0 {
		return nil
	}
	l.uses(n, v.Refs())
	l.readsOfValue(n, reading{guard: guarded, want: want})
	return v
}

// script compiles a program of the author in the language of m, or returns nil
// after a problem.
func (l *loader) script(m *module.Module, n *lang.Node, scope lang.Scope, guarded guard) *Script {
	if n.Kind != lang.ScalarNode {
		l.Add(n, "wrong-type", "a script must be a text, not %s; write it after | on lines of their own", n.Kind)
		return nil
	}
	compile := lang.CompileScript
	if m.Ps != "" {
		compile = lang.CompilePowerShell
	}
	text, binds, ps := compile(n, scope)
	l.Join(ps)
	if errs, _ := ps.Split(); len(errs) > 0 {
		return nil
	}
	for _, b := range binds {
		l.uses(n, b.Refs())
	}
	l.readsOfValue(n, reading{guard: guarded})
	return &Script{Text: text, Binds: binds}
}

// readsOfValue looks into all strings and expressions of a value.
func (l *loader) readsOfValue(n *lang.Node, r reading) {
	for _, e := range n.Entries {
		l.readsOfValue(e.Value, reading{guard: r.guard})
	}
	for _, it := range n.Items {
		l.readsOfValue(it, reading{guard: r.guard})
	}
	if n.Kind != lang.ScalarNode {
		return
	}
	if n.Tag == "!expr" {
		l.readsOf(n, 0, n.Text, r)
		return
	}
	r.action = true
	rest, base := n.Text, 0
	for {
		i := strings.Index(rest, "{{")
		if i < 0 {
			return
		}
		j := strings.Index(rest[i:], "}}")
		if j < 0 {
			return
		}
		l.readsOf(n, base+i, rest[i:i+j], r)
		base, rest = base+i+j, rest[i+j:]
	}
}

var (
	createdPath = regexp.MustCompile(`\bcreated\s*\??\.\s*(outputs|params|vars|steps)\b(?:\s*\??\.\s*([A-Za-z_]\w*))?(?:\s*\??\.\s*([A-Za-z_]\w*))?`)
	fallExpr    = regexp.MustCompile(`^\s*\?\?`)
	fallPipe    = regexp.MustCompile(`^\s*\)?\s*\|\s*default\b`)
	fallCall    = regexp.MustCompile("\\bdefault\\s+(?:\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`|[^\\s|()]+)\\s+$")
	knowsRE     = regexp.MustCompile(`(?:^|\band\b|&&)\s*created\.known\s*(?:$|\band\b|&&)`)
	alternative = regexp.MustCompile(`\bor\b|\|\||\?`)
)

// knows reports whether a condition holds only when the creation is known.
func knows(text string) bool {
	return !alternative.MatchString(strings.ReplaceAll(text, "??", "")) && knowsRE.MatchString(text)
}

// reading is where a text stands that may read outputs of the creation.
type reading struct {
	guard  guard
	action bool // inside {{ }}
	want   lang.Type
}

// readsOf records what a part of n.Text, which starts at base, reads of what the
// creation hands on, and reports reads that fail when nothing is known.
func (l *loader) readsOf(n *lang.Node, base int, text string, r reading) {
	if !strings.Contains(text, "created") {
		return
	}
	for _, m := range createdPath.FindAllStringSubmatchIndex(text, -1) {
		read := createdRead{node: n, offset: base + m[0], what: text[m[2]:m[3]]}
		end := m[3]
		if m[4] >= 0 {
			read.name, end = text[m[4]:m[5]], m[5]
		}
		if m[6] >= 0 && read.what == "steps" {
			read.field, end = text[m[6]:m[7]], m[7]
		}
		l.t.reads = append(l.t.reads, read)
		width := end - m[0]
		switch {
		case r.guard == known:
		case read.name == "":
			l.Problems = append(l.Problems, n.ProblemAt(read.offset, width, "created-unknown", "created.%s is empty when the creation was interrupted, and the removal must still work; read one of them by name, and %s", read.what, r.fallback(read.example())))
		case !r.falls(text, m[0], end):
			l.Problems = append(l.Problems, n.ProblemAt(read.offset, width, "created-unknown", "%s is not there when the creation was interrupted, and the removal must still work; %s", read, r.fallback(read.String())))
		}
	}
}

// String returns the path that is read.
func (r createdRead) String() string {
	parts := []string{"created", r.what, r.name, r.field}
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), ".")
}

// example is a path that could be read in place of all.
func (r createdRead) example() string {
	if r.what == "steps" {
		return "created.steps.NAME.FIELD"
	}
	return "created." + r.what + ".NAME"
}

// falls reports whether the read from start to end of text has a value to fall
// back on, or is only made when the creation is known.
func (r reading) falls(text string, start, end int) bool {
	before, after := text[:start], text[end:]
	if r.action {
		return fallPipe.MatchString(after) || fallCall.MatchString(before)
	}
	return fallExpr.MatchString(after) || knows(text) && strings.Contains(before, "created.known")
}

// fallback says what would be right.
func (r reading) fallback(name string) string {
	s := "write " + name + " ?? VALUE"
	switch {
	case r.action && r.want.Kind != lang.StringKind && r.want.Kind != lang.AnyKind:
		s = "write !expr " + name + " ?? VALUE, without {{ }}"
	case r.action:
		s = "write {{ " + name + ` | default "VALUE" }}`
	}
	if r.guard == unguarded {
		s += ", or add when: created.known to the step"
	}
	return s
}
