package executor

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/secret"
	"runner/engine/transport"
)

// conditions describes all conditions of a step that goes to the device.
func (x *run) conditions(it *item, inside map[int]bool) []PlannedCondition {
	var cs []PlannedCondition
	inBatch := func(root string) bool { return x.names[root] != nil && inside[x.names[root].n] }
	if it.st.When != nil {
		cs = append(cs, x.condition("when", it.st.When, inBatch, it.step.When == nil))
	}
	own := map[string]bool{}
	for _, f := range slices.Concat(module.Common, outputsOf(it.st)) {
		own[f.Name] = true
	}
	for _, c := range []struct {
		key string
		e   *lang.Expr
		at  transport.Pred
	}{{"until", it.st.Until, it.step.Until}, {"changed_when", it.st.ChangedWhen, it.step.ChangedWhen}, {"failed_when", it.st.FailedWhen, it.step.FailedWhen}} {
		if c.e != nil {
			cs = append(cs, x.condition(c.key, c.e, func(root string) bool { return inBatch(root) || own[root] }, c.at == nil))
		}
	}
	return cs
}

// condition describes one condition. What is later is not known before the
// batch; here: the device does not decide it.
func (x *run) condition(key string, e *lang.Expr, later func(root string) bool, here bool) PlannedCondition {
	c := PlannedCondition{Key: key, Text: e.Text(), Folded: e.Text(), By: ByRunner}
	if strings.Contains(c.Text, "()") { // asks how the run stands
		return c
	}
	res, err := e.Fold(x.scope, func(root string) bool { return x.view.later(root) || later(root) })
	if err != nil {
		return c
	}
	if lit, is := res.(lang.RLit); is {
		c.By, c.Folded = ByPlan, fmt.Sprint(lit.V)
		return c
	}
	if text := left(res, false); text != "" {
		c.Folded = text
	}
	if !here {
		c.By = ByDevice
	}
	c.Now = x.now(e)
	return c
}

func never(string) bool { return false }

// now decides a condition by what the device says now.
func (x *run) now(e *lang.Expr) string {
	for _, p := range e.Refs() {
		if _, known := x.view.alive(x.view.scope)[p[0]]; x.names[p[0]] != nil && !known && x.scope[p[0]] == nil {
			return ""
		}
	}
	env := x.env(nil)
	maps.Copy(env, x.view.alive(x.view.scope))
	v, err := e.Eval(env)
	if err != nil {
		return ""
	}
	return fmt.Sprint(v)
}

// left writes what is left of a condition; "" when that cannot be written.
func left(r lang.Residual, nested bool) string {
	switch r := r.(type) {
	case lang.RLit:
		if s, is := r.V.(string); is {
			return strconv.Quote(s)
		}
		return fmt.Sprint(r.V)
	case lang.RPath:
		return strings.Join(r.Path, ".")
	case lang.ROp:
		if r.Op == "?" || r.Op == "concat" {
			return ""
		}
		var parts []string
		for _, a := range r.Args {
			t := left(a, true)
			if t == "" {
				return ""
			}
			parts = append(parts, t)
		}
		if r.Op == "not" {
			return "not " + strings.Join(parts, " ")
		}
		text := strings.Join(parts, " "+r.Op+" ")
		if nested && (r.Op == "and" || r.Op == "or") {
			text = "(" + text + ")"
		}
		return text
	}
	return ""
}

// planArgsText describes the written arguments of a step.
func (x *run) planArgsText(it *item, inside map[int]bool, names map[int]string) []PlannedArg {
	var out []PlannedArg
	for _, f := range it.module.Args {
		if f.Pairs {
			for i, e := range it.st.Env {
				for _, a := range it.step.Args {
					if a.Name == "_e"+strconv.Itoa(i+1) {
						a.Name = f.Name + "." + e.Name
						out = append(out, describeArg(a, e.Value.Text(), inside, names))
					}
				}
			}
			continue
		}
		v, script := it.st.Args[f.Name], it.st.Scripts[f.Name]
		if v == nil && script.Text == "" {
			continue
		}
		for _, a := range it.step.Args {
			if a.Name == f.Name {
				written := script.Text
				if v != nil {
					written = v.Text()
				}
				out = append(out, describeArg(a, written, inside, names))
			}
		}
		for i, b := range script.Binds {
			for _, a := range it.step.Args {
				if a.Name == "_r"+strconv.Itoa(i+1) {
					out = append(out, describeArg(a, b.Text(), inside, names))
				}
			}
		}
	}
	return out
}

func describeArg(a transport.Arg, written string, inside map[int]bool, names map[int]string) PlannedArg {
	p := PlannedArg{Name: a.Name, Written: written, By: ByPlan}
	p.Value = valueText(a.Value, inside, names, &p.By)
	return p
}

// argText describes an argument of a step on the controller.
func (x *run) argText(name string, v *lang.Value) PlannedArg {
	p := PlannedArg{Name: name, Written: v.Text(), By: ByPlan}
	res, err := v.Fold(x.scope, x.view.later)
	if lit, is := res.(lang.RLit); err == nil && is {
		p.Value = fmt.Sprint(lit.V)
		return p
	}
	p.By, p.Value = ByRunner, "<"+v.Text()+">"
	return p
}

// valueText writes a value: a secret as ***, what is not known as its name.
func valueText(v transport.Value, inside map[int]bool, names map[int]string, by *string) string {
	switch v := v.(type) {
	case transport.Lit:
		if l, is := v.V.([]string); is {
			return "[" + strings.Join(l, ", ") + "]"
		}
		return fmt.Sprint(v.V) // a secret prints as ***
	case transport.Ref:
		if inside[v.Step] && *by != ByRunner {
			*by = ByDevice
		} else {
			*by = ByRunner
		}
		return refText(v, names)
	case transport.Concat:
		var b strings.Builder
		for _, p := range v {
			b.WriteString(valueText(p, inside, names, by))
		}
		return b.String()
	}
	return ""
}

func refText(r transport.Ref, names map[int]string) string {
	if r.Step < 0 {
		return "<" + r.Key + ">"
	}
	return "<" + names[r.Step] + "." + r.Key + ">"
}

// namesOf returns what the results of steps are called, by number.
func (x *run) namesOf() map[int]string {
	names := map[int]string{}
	for name, n := range x.names {
		names[n.n] = name
	}
	for _, f := range x.opened {
		for name, n := range f.names {
			names[n.n] = name
		}
	}
	return names
}

// shown is a step as it would be sent, without its secrets.
func shown(s transport.Step, inside map[int]bool, names map[int]string) transport.Step {
	s.Args = slices.Clone(s.Args)
	for i := range s.Args {
		s.Args[i].Value = shownValue(s.Args[i].Value, inside, names)
	}
	return s
}

func shownValue(v transport.Value, inside map[int]bool, names map[int]string) transport.Value {
	switch v := v.(type) {
	case transport.Lit:
		if s, is := v.V.(secret.Value); is {
			return transport.Lit{V: s.String()}
		}
	case transport.Ref:
		if !inside[v.Step] {
			return transport.Lit{V: refText(v, names)}
		}
	case transport.Concat:
		c := make(transport.Concat, len(v))
		for i, p := range v {
			c[i] = shownValue(p, inside, names)
		}
		return c
	}
	return v
}
