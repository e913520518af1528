package transport

import (
	"errors"
	"fmt"
	"regexp"

	"runner/engine/secret"
)

var (
	idPattern  = regexp.MustCompile(`^[a-z0-9-]*$`)
	argPattern = regexp.MustCompile(`^(_[a-z0-9][a-z0-9_]*|[a-z][a-z0-9_]*)$`)
)

// Check refuses batches that no transport can send.
func (b Batch) Check() error {
	if max(len(b.ID), len(b.Scope)) > 64 || !idPattern.MatchString(b.ID+b.Scope) {
		return fmt.Errorf("batch %q of scope %q: only a-z, 0-9 and -, at most 64 characters", b.ID, b.Scope)
	}
	if b.Guarded && (len(b.Steps) == 0 || b.Steps[0].Continue) {
		return errors.New("a guarded batch begins with a step whose failure ends it")
	}
	numbers := map[int]bool{}
	for _, s := range b.Steps {
		if s.N < 0 || numbers[s.N] {
			return fmt.Errorf("step %d: a number is used once, and none is negative", s.N)
		}
		numbers[s.N] = true
		for _, a := range s.Args {
			if !argPattern.MatchString(a.Name) {
				return fmt.Errorf("step %d: argument name %q", s.N, a.Name)
			}
		}
		for _, v := range s.Leaves() {
			l, ok := v.(Lit)
			if !ok {
				continue
			}
			switch l.V.(type) {
			case nil, string, bool, int64, int, secret.Value, []string:
			default:
				return fmt.Errorf("step %d: a literal of type %T cannot be sent", s.N, l.V)
			}
		}
	}
	return nil
}

// Leaves lists the literals and references of all arguments and conditions.
func (s Step) Leaves() []Value {
	var out []Value
	for _, a := range s.Args {
		out = appendLeaves(out, a.Value)
	}
	for _, p := range []Pred{s.When, s.Until, s.ChangedWhen, s.FailedWhen} {
		out = appendPred(out, p)
	}
	return out
}

func appendLeaves(out []Value, v Value) []Value {
	if c, ok := v.(Concat); ok {
		return append(out, Flatten(c)...)
	}
	return append(out, v)
}

func appendPred(out []Value, p Pred) []Value {
	switch p := p.(type) {
	case Not:
		return appendPred(out, p.P)
	case And:
		for _, q := range p {
			out = appendPred(out, q)
		}
	case Or:
		for _, q := range p {
			out = appendPred(out, q)
		}
	case Eq:
		return appendLeaves(appendLeaves(out, p.A), p.B)
	case Less:
		return appendLeaves(appendLeaves(out, p.A), p.B)
	case In:
		out = appendLeaves(out, p.A)
		for _, v := range p.Set {
			out = appendLeaves(out, v)
		}
	case True:
		return appendLeaves(out, p.V)
	case Const, nil:
	}
	return out
}

// Flatten returns the parts of c, those of nested ones in their place.
func Flatten(c Concat) Concat {
	var out Concat
	for _, v := range c {
		if inner, ok := v.(Concat); ok {
			out = append(out, Flatten(inner)...)
			continue
		}
		out = append(out, v)
	}
	return out
}
