package template

import (
	"maps"
	"slices"

	"runner/engine/lang"
	"runner/engine/module"
)

// Loop makes a step run once for each element of a list.
type Loop struct {
	Over  *lang.Value // a list
	Var   string      // name of the element: item
	Label *lang.Value // what an element is called in messages; nil: its own text, or its number
}

// MaxLoop is how many elements a loop may have.
const MaxLoop = 256

// loop reads loop and loop_control. It returns the scope of the step, in which
// the element has its name.
func (l *loader) loop(f *lang.Fields, s *Step, scope lang.Scope, guarded guard) lang.Scope {
	n, control := f.Take("loop"), f.Take("loop_control")
	if n == nil {
		if control != nil {
			l.Add(f.Key("loop_control"), "missing-key", "%s has loop_control and no loop; say what to go over, for example: loop: '{{ params.groups }}'", f.What)
		}
		return scope
	}
	before := len(l.Problems)
	s.Loop = &Loop{Var: "item", Over: l.value(n, lang.Type{Kind: lang.ListKind}, scope, guarded)}
	if own := f.Node.Get("vars"); s.Loop.Over == nil && own != nil {
		l.laterVar(own, "vars.%s of a step is computed for each element, so the loop cannot go over it; move it to the vars of the template, or of a block around the step", l.Problems[before:])
	}
	if n.Kind == lang.ListNode && len(n.Items) > MaxLoop {
		l.Add(n, "too-large", "the list has %d elements; a loop goes over at most %d", len(n.Items), MaxLoop)
	}
	if s.Loop.Over == nil {
		return scope.With(s.Loop.Var, lang.Any)
	}
	elem := lang.Any
	if t := s.Loop.Over.Type().Elem; t != nil {
		elem = *t
	}
	if elem.Kind == lang.SecretKind || slices.ContainsFunc(n.Items, func(it *lang.Node) bool { return l.isSecret(it, scope) }) {
		l.Add(n, "secret", "a loop over secrets would show them; make a step for each")
	}
	if control == nil {
		l.elementName(n, s, scope)
		return scope.With(s.Loop.Var, elem)
	}
	c := l.Map(control, "loop_control of "+f.What).By(&loopTable, "")
	at := n
	if v := c.Take("var"); v != nil && l.ident(v, "an element") {
		s.Loop.Var, at = v.Text, v
	}
	l.elementName(at, s, scope)
	scope = scope.With(s.Loop.Var, elem)
	if label := c.Take("label"); label != nil {
		s.Loop.Label = l.value(label, lang.String, scope, guarded)
	}
	if control.Get("parallel") != nil {
		c.Skip("parallel")
		l.Add(c.Key("parallel"), "no-effect", "the elements of a loop are done one after the other: a device has one shell for the steps, and one writer for its accounts; leave parallel out, all of them go there in one batch in any case")
	}
	c.End()
	return scope
}

// isSecret reports whether a node is a {{ path }} of a secret.
func (l *loader) isSecret(n *lang.Node, scope lang.Scope) bool {
	v, ps := lang.CompileValue(n, lang.Any, scope)
	return len(ps) == 0 && v.Type().Kind == lang.SecretKind
}

// elementName refuses a name that would hide another one.
func (l *loader) elementName(n *lang.Node, s *Step, scope lang.Scope) {
	if why := reserved(s.Loop.Var); why != "" {
		l.Add(n, "reserved-name", "the element of a loop cannot be named %q: %s; choose another name with loop_control: {var: …}", s.Loop.Var, why)
	} else if _, taken := scope[s.Loop.Var]; taken {
		l.Add(n, "duplicate", "the element of the loop is named %q, as a result above; choose another name with loop_control: {var: …}", s.Loop.Var)
	}
}

// loopable refuses loops over what cannot be repeated.
func (l *loader) loopable(f *lang.Fields, s *Step) {
	if s.Loop == nil {
		return
	}
	if s.Module != nil && s.Module.Name == "revert" {
		l.Add(f.Key("loop"), "no-effect", "revert undoes all changes at once; leave the loop out")
	}
	if s.When != nil && s.When.Asks() {
		l.Add(f.Key("when"), "misplaced-key", "when of a loop is asked for each element; put the step into a block with when: %s", s.When.Text())
	}
}

// result returns the type of what a step registers: of a loop what all its
// rounds came to, and each of them in items.
func (s *Step) result() lang.Type {
	if s.Loop == nil {
		return lang.MapOf(fields(s.Outputs))
	}
	t := maps.Clone(fields(nil))
	t["items"] = lang.ListOf(lang.MapOf(fields(s.Outputs)))
	return lang.MapOf(t)
}

// Results returns the outputs of the step beside those that every step has.
func (s *Step) Results() []module.Field {
	if s.Loop != nil {
		return []module.Field{{Name: "items", Type: lang.ListOf(lang.MapOf(fields(s.Outputs)))}}
	}
	return s.Outputs
}
