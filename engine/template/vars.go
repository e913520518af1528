package template

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"runner/engine/lang"
)

// vars reads values that have names, each of which sees those before it, and
// those that the scope has. It returns the scope with them.
func (l *loader) vars(n *lang.Node, to *[]Var, scope lang.Scope, guarded guard) lang.Scope {
	if n == nil {
		return scope
	}
	around := scope["vars"].Fields
	known := maps.Clone(around)
	if known == nil {
		known = map[string]lang.Type{}
	}
	for _, e := range l.Map(n, "vars").Rest() {
		if !l.ident(e.Key, "a var") {
			continue
		}
		if _, taken := around[e.Key.Text]; taken {
			l.Add(e.Key, "duplicate", "there is a var %q around this step already; a value is never overwritten: choose another name", e.Key.Text)
			continue
		}
		before := len(l.Problems)
		v := l.value(e.Value, lang.Any, scope.With("vars", lang.MapOf(known)), guarded)
		typ := lang.Any
		if v == nil {
			l.laterVar(n, "vars.%s is not known yet: a var sees only those before it; move %[1]q above \""+e.Key.Text+`"`, l.Problems[before:])
		} else {
			*to = append(*to, Var{Name: e.Key.Text, Value: v})
			typ = v.Type()
		}
		known = lang.Scope(known).With(e.Key.Text, typ)
	}
	return scope.With("vars", lang.MapOf(known))
}

var noVar = regexp.MustCompile(`^vars has no field "([^"]*)"`)

// laterVar explains problems about names that n gives to values, but too late.
func (l *loader) laterVar(n *lang.Node, why string, ps lang.Problems) {
	for i, p := range ps {
		if m := noVar.FindStringSubmatch(p.Message); m != nil && n.Get(m[1]) != nil {
			ps[i].Suggest, ps[i].Message = "", fmt.Sprintf(why, m[1])
		}
	}
}

// stepVars reads the values of one step or block. They are computed when its when
// holds, or before, when that reads them.
func (l *loader) stepVars(f *lang.Fields, s *Step, scope lang.Scope, guarded guard) lang.Scope {
	n := f.Take("vars")
	if n == nil {
		return scope
	}
	outer := l.whens
	defer func() { l.whens = outer }()
	if w := f.Node.Get("when"); w != nil && !strings.Contains(w.Text, "vars.") {
		l.whens = append(slices.Clip(l.whens), strings.TrimSpace(w.Text))
		if knows(w.Text) {
			guarded = known
		}
	}
	return l.vars(n, &s.Vars, scope, guarded)
}

// giveVars gives the steps of a block what it says for all of them: also those
// that include a file, for their params, but not the steps of that file.
func giveVars(steps []*Step, vars []Var) {
	if len(vars) == 0 {
		return
	}
	for _, s := range steps {
		s.Vars = append(slices.Clip(vars), s.Vars...)
		for _, part := range [][]*Step{s.Block, s.Rescue, s.Always} {
			if s.Include == nil {
				giveVars(part, vars)
			}
		}
	}
}
