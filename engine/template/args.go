package template

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"runner/engine/lang"
	"runner/engine/module"
)

// args reads what a step gives to its module.
func (l *loader) args(s *Step, key, n *lang.Node, sec *section, guarded guard) {
	switch m := s.Module; {
	case m.Name == "assert":
		l.asserts(s, n, sec.scope, guarded)
	case m.Name == "set_fact":
		l.facts(s, key, n, sec.scope, guarded)
	case m.Name == "revert" && !sec.removes:
		l.Add(key, "misplaced-key", "revert undoes what a creation changed; it belongs into a delete template, or under revert of an elevate template")
	default:
		l.moduleArgs(s, key, n, sec.scope, guarded)
	}
}

// equals matches arguments as other systems write them on one line.
var equals = regexp.MustCompile(`^[a-z_]+=\S`)

// moduleArgs reads the arguments that a module declares.
func (l *loader) moduleArgs(s *Step, key, n *lang.Node, scope lang.Scope, guarded guard) {
	m := s.Module
	before := len(l.Problems)
	var misspelt []string
	s.Args, s.Scripts = map[string]*lang.Value{}, map[string]Script{}
	written := map[string]*lang.Node{}
	what := m.Name + " of " + s.what
	switch {
	case n.Kind == lang.NullNode:
	case n.Kind != lang.MapNode && m.Free != "":
		written[m.Free] = n
	case n.Kind != lang.MapNode:
		found := n.Kind.String()
		if equals.MatchString(n.Text) {
			found = "in words with ="
		}
		l.Add(n, "wrong-type", "%s takes arguments as a map, not %s; write for example: %s: {%s}", what, found, m.Name, argExample(m))
		return
	default:
		f := l.Map(n, what)
		for _, a := range m.Args {
			if v := f.Take(a.Name); v != nil {
				written[a.Name] = v
			}
		}
		for _, e := range f.Rest() {
			if hint := m.Others[e.Key.Text]; hint != "" {
				f.Skip(e.Key.Text)
				l.Add(e.Key, "unknown-key", "unknown key %q in %s; %s", e.Key.Text, what, hint)
				continue
			}
			misspelt = append(misspelt, lang.Similar(e.Key.Text, f.Known()))
		}
		f.End()
	}
	for _, a := range m.Args {
		v := written[a.Name]
		switch {
		case v != nil:
			l.arg(s, a, v, scope, guarded)
		case a.Required && !slices.Contains(misspelt, a.Name):
			l.Add(key, "missing-argument", "%s has no %q; write for example: %s: %s", what, a.Name, a.Name, exampleOf(a))
		}
	}
	if len(l.Problems) == before {
		l.checkArgs(s, key, written)
	}
}

// arg reads one argument.
func (l *loader) arg(s *Step, a module.Field, n *lang.Node, scope lang.Scope, guarded guard) {
	if slices.Contains(strings.Fields(s.Module.Script), a.Name) {
		if script := l.script(s.Module, n, scope, guarded); script != nil {
			s.Scripts[a.Name] = *script
		}
		return
	}
	if a.Pairs {
		l.pairs(s, a, n, scope, guarded)
		return
	}
	if a.Type.Kind == lang.SecretKind && n.Kind == lang.ScalarNode && n.Tag == "" && !strings.Contains(n.Text, "{{") {
		l.Problems = append(l.Problems, literalSecret(n, a.Name))
		return
	}
	if a.Constant && n.Kind == lang.ScalarNode && (n.Tag != "" || strings.Contains(n.Text, "{{")) {
		l.Add(n, "not-constant", "%s is taken as it is: no value may become part of it, so {{ }} and !expr are not possible here", a.Name)
		return
	}
	v := l.value(n, a.Type, scope, guarded)
	if v == nil {
		return
	}
	s.Args[a.Name] = v
	if text, ok := fixed(v); ok && len(a.Enum) > 0 && !slices.Contains(a.Enum, text) {
		l.AddNear(n, text, a.Enum, "unknown-value", "%s is %q; it must be %s", a.Name, text, lang.Words(a.Enum))
	}
}

// pairs reads the variables of an environment.
func (l *loader) pairs(s *Step, a module.Field, n *lang.Node, scope lang.Scope, guarded guard) {
	if n.Kind != lang.MapNode {
		l.Add(n, "wrong-type", "%s must be a map of names and texts; write for example: %s: %s", a.Name, a.Name, exampleOf(a))
		return
	}
	for _, e := range l.Map(n, a.Name).Rest() {
		if why := module.CheckVariable(e.Key.Text); why != "" {
			l.Add(e.Key, "bad-name", "the name of a variable is %q; it %s", e.Key.Text, why)
			continue
		}
		before := len(l.Problems)
		if v := l.value(e.Value, lang.String, scope, guarded); v != nil {
			s.Env = append(s.Env, Given{Name: e.Key.Text, Value: v})
		}
		for i := range l.Problems[before:] {
			if p := &l.Problems[before+i]; p.Code == "secret" {
				p.Message += "; other programs of the account could read it: hand it over in stdin"
			}
		}
	}
}

// literalSecret is the problem of a secret that stands in a template; the
// secret is not shown.
func literalSecret(n *lang.Node, name string) lang.Problem {
	p := n.Problem("literal-secret", "a secret is never written into a template; declare a param of type secret and write %s: '{{ params.%s }}'", name, name)
	if r := []rune(p.Source); p.Pos.Col >= 1 && p.Pos.Col-1 <= len(r) {
		p.Source, p.Width = string(r[:p.Pos.Col-1])+"***", 3
	}
	return p
}

// fixed returns the text of a value that is a constant string.
func fixed(v *lang.Value) (string, bool) {
	x, ok := constant(v)
	if !ok {
		return "", false
	}
	s, ok := x.(string)
	return s, ok
}

// checkArgs lets the module look at what is known already.
func (l *loader) checkArgs(s *Step, key *lang.Node, written map[string]*lang.Node) {
	m := s.Module
	if m.Check == nil {
		return
	}
	known := module.Args{}
	for _, a := range m.Args {
		switch v := s.Args[a.Name]; {
		case v != nil:
			if x, ok := constant(v); ok {
				known[a.Name] = x
			}
		case written[a.Name] == nil && a.Default != nil:
			known[a.Name] = a.Default
		}
	}
	if err := m.Check(known); err != nil {
		l.Add(blamed(err.Error(), m, key, written), "wrong-arguments", "%s of %s: %s", m.Name, s.what, err)
	}
	if m.Name == "revert" {
		l.checkExcept(known, written["except"])
	}
}

var word = regexp.MustCompile(`[a-z_][a-z0-9_]*`)

// blamed returns the argument that a message names first, or the module's key
// when that is not written.
func blamed(message string, m *module.Module, key *lang.Node, written map[string]*lang.Node) *lang.Node {
	for _, w := range word.FindAllString(message, -1) {
		if slices.ContainsFunc(m.Args, func(a module.Field) bool { return a.Name == w }) {
			return within(cmp.Or(written[w], key), message)
		}
	}
	return key
}

// within returns the entry of a list that a message quotes, or the list.
func within(n *lang.Node, message string) *lang.Node {
	for _, it := range n.Items {
		if it.Kind == lang.ScalarNode && strings.Contains(message, strconv.Quote(it.Text)) {
			return it
		}
	}
	return n
}

// checkExcept checks the names of modules that a revert leaves alone.
func (l *loader) checkExcept(known module.Args, n *lang.Node) {
	if n == nil || n.Kind != lang.ListNode {
		return
	}
	var names []string
	for _, m := range l.reg.All() {
		if !m.ReadOnly && l.usable(m) {
			names = append(names, m.Name)
		}
	}
	for i, name := range known.List("except") {
		if !slices.Contains(names, name) && i < len(n.Items) {
			l.AddNear(n.Items[i], name, names, "unknown-value", "except names %q, which is no module that changes something", name)
		}
	}
}

func argExample(m *module.Module) string {
	for _, a := range m.Args {
		if a.Required {
			return a.Name + ": " + exampleOf(a)
		}
	}
	if len(m.Args) > 0 {
		return m.Args[0].Name + ": " + exampleOf(m.Args[0])
	}
	return ""
}

func exampleOf(a module.Field) string {
	switch {
	case a.Example != "":
		return a.Example
	case len(a.Enum) > 0:
		return a.Enum[0]
	}
	return "…"
}

// asserts reads conditions that have to hold: an expression, a map with that
// and msg, or a list of both. that may itself be a list; msg counts for those
// of it that have none.
func (l *loader) asserts(s *Step, n *lang.Node, scope lang.Scope, guarded guard) {
	if n.Kind == lang.NullNode || n.Kind == lang.ListNode && len(n.Items) == 0 {
		l.Add(n, "wrong-value", "assert has no condition; write for example: assert: {that: [account.uid >= 1000]}")
		return
	}
	switch n.Kind {
	case lang.ListNode:
		for _, it := range n.Items {
			if it.Kind == lang.ListNode {
				l.Add(it, "wrong-type", "a condition of assert must be an expression or a map with that and msg, not a list")
				continue
			}
			l.asserts(s, it, scope, guarded)
		}
	case lang.MapNode:
		f := l.Map(n, "assert")
		before := len(s.Asserts)
		if that := f.Need("that", "account.uid >= 1000"); that != nil {
			l.asserts(s, that, scope, guarded)
		}
		if msg := f.Take("msg"); msg != nil {
			v := l.value(msg, lang.String, scope, guarded)
			for i := range s.Asserts[before:] {
				if a := &s.Asserts[before+i]; a.Msg == nil {
					a.Msg = v
				}
			}
		}
		f.End()
	case lang.ScalarNode, lang.NullNode:
		s.Asserts = append(s.Asserts, Assert{That: l.expr(n, lang.Bool, scope, guarded)})
	}
}

// facts reads the values that a step of set_fact computes; its outputs are
// the names the author chose.
func (l *loader) facts(s *Step, key, n *lang.Node, scope lang.Scope, guarded guard) {
	s.Args = map[string]*lang.Value{}
	s.Outputs = nil
	f := l.Map(n, "set_fact")
	if s.Register == "" {
		l.Add(key, "missing-key", "set_fact keeps its values under the name of the step, and it has none; add register: facts, and read facts.NAME")
	}
	for _, e := range f.Rest() {
		if !l.ident(e.Key, "a fact") {
			continue
		}
		if slices.ContainsFunc(module.Common, func(c module.Field) bool { return c.Name == e.Key.Text }) {
			l.Add(e.Key, "reserved-name", "a fact cannot be named %q: it is a field of every result; choose another name", e.Key.Text)
			continue
		}
		v := l.value(e.Value, lang.Any, scope, guarded)
		if v == nil {
			continue
		}
		s.Args[e.Key.Text] = v
		s.Outputs = append(s.Outputs, module.Field{Name: e.Key.Text, Type: v.Type()})
	}
}
