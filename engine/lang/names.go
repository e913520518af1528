package lang

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// unknownName says that a scope has no such name and what it has.
func unknownName(name string, scope Scope) Problem {
	var names []string
	for n := range scope {
		if !slices.Contains(statusNames, n) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	p := Problem{Code: "unknown-name", Message: fmt.Sprintf("unknown name %q", name), Suggest: Nearest(name, names)}
	word, hint := foreignName(name)
	switch {
	case hint != "":
		p.Message, p.Suggest = p.Message+hint, ""
	case word != "":
		p.Suggest = word
	case p.Suggest != "":
	case len(names) == 0:
		p.Message += "; no names are known here"
	default:
		p.Message += "; here are " + listNames(names)
	}
	return p
}

// fieldOf returns the type of a field of a value of type t, which is written
// as of.
func fieldOf(t Type, of, name string) (Type, *Problem) {
	switch {
	case t.Kind == AnyKind:
		return Any, nil
	case t.Kind == MapKind && t.Fields == nil:
		return elemOf(t), nil
	case t.Kind != MapKind:
		return Any, &Problem{Code: "no-fields", Message: fmt.Sprintf("%s is of type %s and has no field %q%s", of, t, name, methodHint(name))}
	}
	f, ok := t.Fields[name]
	if ok {
		return f, nil
	}
	names := slices.Sorted(maps.Keys(t.Fields))
	p := &Problem{Code: "unknown-field", Message: fmt.Sprintf("%s has no field %q", of, name), Suggest: Nearest(name, names)}
	switch {
	case p.Suggest != "":
	case len(names) == 0:
		p.Message += "; it is empty"
	default:
		p.Message += "; it has " + listNames(names)
	}
	return Any, p
}

// listNames joins names for a message and cuts long lists.
func listNames(names []string) string {
	const most = 24
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// elemOf is the type of an element of a list, or of the values of a map
// without known fields.
func elemOf(t Type) Type {
	if (t.Kind == ListKind || t.Kind == MapKind && t.Fields == nil) && t.Elem != nil {
		return *t.Elem
	}
	return Any
}

// narrow is what is known about a value of type have that must be of type
// want, which it is assignable to.
func narrow(have, want Type) Type {
	switch {
	case have.Kind == AnyKind, have.Kind == IntKind && want.Kind == FloatKind:
		return want
	case have.Kind == ListKind && want.Kind == ListKind:
		return ListOf(narrow(elemOf(have), elemOf(want)))
	case have.Kind == MapKind && have.Fields == nil && want.Kind == MapKind:
		return want
	}
	return have
}

// holdsSecret reports whether a value of type t is a secret or has one in it,
// and where: "" or ".password".
func holdsSecret(t Type) (string, bool) {
	switch t.Kind {
	case SecretKind:
		return "", true
	case ListKind:
		if t.Elem != nil {
			if w, ok := holdsSecret(*t.Elem); ok {
				return "[…]" + w, true
			}
		}
	case MapKind:
		for _, name := range slices.Sorted(maps.Keys(t.Fields)) {
			if w, ok := holdsSecret(t.Fields[name]); ok {
				return "." + name + w, true
			}
		}
	case AnyKind, StringKind, IntKind, BoolKind, FloatKind, DurationKind, TimeKind:
	}
	return "", false
}

// assignable reports whether a value of type have may stand where want is
// wanted; what is not known before it runs may.
func assignable(have, want Type) bool {
	switch {
	case have.Kind == AnyKind || want.Kind == AnyKind:
		return true
	case have.Kind == IntKind && want.Kind == FloatKind:
		return true
	case have.Kind != want.Kind:
		return false
	case want.Kind == ListKind && want.Elem != nil && have.Elem != nil:
		return assignable(*have.Elem, *want.Elem)
	case want.Kind == MapKind && want.Fields != nil && have.Fields != nil:
		for name, t := range want.Fields {
			h, ok := have.Fields[name]
			if !ok || !assignable(h, t) {
				return false
			}
		}
	}
	return true
}
