package lang

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// valueError is an error about a value, in words for people.
type valueError struct{ text string }

func (e *valueError) Error() string { return e.text }

func valueErrorf(format string, args ...any) error {
	return &valueError{fmt.Sprintf(format, args...)}
}

// hidden stands for a value that the languages may not see.
type hidden struct{}

// bind copies the roots of refs out of env as plain data: maps, lists,
// strings, numbers, bools and times without anything that has methods of its
// own. A secret that refs read is an error; other secrets are left out.
func bind(env Env, refs [][]string, loops bool) (map[string]any, error) {
	vars := make(map[string]any, len(refs)+2)
	for _, path := range refs {
		root := path[0]
		v, ok := env[root]
		if !ok || v == nil && len(path) > 1 {
			return nil, valueErrorf("%s has no value yet", root)
		}
		if f, ok := statusFunc(root, v); ok {
			vars[root] = f
			continue
		}
		if _, ok := vars[root]; !ok {
			vars[root] = plainValue(v)
		}
		if err := checkBound(vars[root], path, loops); err != nil {
			return nil, err
		}
	}
	for k, v := range vars {
		vars[k] = withoutHidden(v)
	}
	return vars, nil
}

// statusFunc returns the function that a reserved name is bound to.
func statusFunc(name string, v any) (func() bool, bool) {
	for _, s := range statusNames {
		if s != name {
			continue
		}
		switch x := v.(type) {
		case func() bool:
			return x, true
		case bool:
			return func() bool { return x }, true
		}
	}
	return nil, false
}

// checkBound checks the value at a path: no secret, no list too long to loop over.
func checkBound(v any, path []string, loops bool) error {
	for _, name := range path[1:] {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	said := strings.Join(path, ".")
	if holdsHidden(v) {
		return valueErrorf("%s is or holds a secret; a secret cannot be part of an expression or a longer string", said)
	}
	if n := longest(v); loops && n > maxListArg {
		return valueErrorf("%s has a list of %d elements; expressions go over at most %d", said, n, maxListArg)
	}
	return nil
}

// plainValue copies v as plain data; what is none becomes hidden.
func plainValue(v any) any {
	switch x := v.(type) {
	case nil, string, bool, int, float64, time.Duration:
		return x
	case int64:
		return int(x)
	case int32:
		return int(x)
	case uint32:
		return int(x)
	case float32:
		return float64(x)
	case time.Time:
		return x.UTC().Round(0)
	case []string:
		return x
	case []any:
		l := make([]any, len(x))
		for i := range x {
			l[i] = plainValue(x[i])
		}
		return l
	case []int64:
		l := make([]any, len(x))
		for i := range x {
			l[i] = int(x[i])
		}
		return l
	case map[string]any:
		return plainMap(x)
	case Env:
		return plainMap(x)
	case map[string]string:
		m := make(map[string]any, len(x))
		for k := range x {
			m[k] = x[k]
		}
		return m
	default:
		return hidden{}
	}
}

func plainMap(x map[string]any) map[string]any {
	m := make(map[string]any, len(x))
	for k, e := range x {
		m[k] = plainValue(e)
	}
	return m
}

func holdsHidden(v any) bool {
	switch x := v.(type) {
	case hidden:
		return true
	case []any:
		return slices.ContainsFunc(x, holdsHidden)
	case map[string]any:
		for _, e := range x {
			if holdsHidden(e) {
				return true
			}
		}
	}
	return false
}

// withoutHidden takes hidden values out of a copy that plainValue made.
func withoutHidden(v any) any {
	switch x := v.(type) {
	case hidden:
		return nil
	case []any:
		for i := range x {
			x[i] = withoutHidden(x[i])
		}
	case map[string]any:
		for k, e := range x {
			if _, ok := e.(hidden); ok {
				delete(x, k)
			} else {
				x[k] = withoutHidden(e)
			}
		}
	}
	return v
}

// longest is the length of the longest list in v.
func longest(v any) int {
	n := 0
	switch x := v.(type) {
	case []string:
		return len(x)
	case []any:
		n = len(x)
		for _, e := range x {
			n = max(n, longest(e))
		}
	case map[string]any:
		for _, e := range x {
			n = max(n, longest(e))
		}
	}
	return n
}

// normalize turns a computed value into the Go type that Kind documents and
// checks that it is of type t.
func normalize(v any, t Type) (any, error) {
	switch x := v.(type) {
	case int:
		v = int64(x)
	case float64:
		if math.IsInf(x, 0) || math.IsNaN(x) {
			return nil, valueErrorf("the result is not a number; is it divided by zero?")
		}
	case time.Time:
		v = x.UTC()
	case nil:
		if t.Kind == AnyKind {
			return nil, nil //nolint:nilnil // nothing is a value
		}
		return nil, valueErrorf("expected %s, found nothing", t)
	}
	switch t.Kind {
	case ListKind:
		return normalizeList(v, t)
	case MapKind:
		m, ok := v.(map[string]any)
		if !ok {
			return nil, valueErrorf("expected %s, found %s", t, typeOfValue(v))
		}
		out := make(map[string]any, len(m))
		for k, e := range m {
			f, ok := t.Fields[k]
			if !ok {
				f = elemOf(t)
			}
			n, err := normalize(e, f)
			if err != nil {
				return nil, err
			}
			out[k] = n
		}
		return out, nil
	case AnyKind:
		return normalizeAny(v)
	case FloatKind:
		if i, ok := v.(int64); ok {
			return float64(i), nil
		}
	case IntKind:
		if f, ok := v.(float64); ok && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			return int64(f), nil
		}
	case StringKind, BoolKind, DurationKind, TimeKind, SecretKind:
	}
	if have := typeOfValue(v); have.Kind != t.Kind {
		return nil, valueErrorf("expected %s, found %s", t, have)
	}
	return v, nil
}

func normalizeList(v any, t Type) (any, error) {
	elem := elemOf(t)
	if s, ok := v.([]string); ok && (elem.Kind == StringKind || elem.Kind == AnyKind) {
		return s, nil
	}
	items, ok := anyList(v)
	if !ok {
		return nil, valueErrorf("expected %s, found %s", t, typeOfValue(v))
	}
	out := make([]any, len(items))
	texts := make([]string, 0, len(items))
	for i, e := range items {
		n, err := normalize(e, elem)
		if err != nil {
			return nil, valueErrorf("element %d: %s", i+1, err.Error())
		}
		out[i] = n
		if s, ok := n.(string); ok {
			texts = append(texts, s)
		}
	}
	if elem.Kind == StringKind {
		return texts, nil
	}
	return out, nil
}

// normalizeAny is normalize without a wanted type.
func normalizeAny(v any) (any, error) {
	switch x := v.(type) {
	case map[string]any:
		return normalize(x, Type{Kind: MapKind})
	case []string:
		return x, nil
	}
	if _, ok := anyList(v); ok {
		return normalizeList(v, Type{Kind: ListKind})
	}
	return v, nil
}

// anyList returns the elements of the kinds of lists that occur.
func anyList(v any) ([]any, bool) {
	switch x := v.(type) {
	case []any:
		return x, true
	case []string:
		return anys(x), true
	case []int:
		return anys(x), true
	case []float64:
		return anys(x), true
	default:
		return nil, false
	}
}

func anys[T any](x []T) []any {
	l := make([]any, len(x))
	for i := range x {
		l[i] = x[i]
	}
	return l
}

// typeOfValue is the type of a value as authors know it.
func typeOfValue(v any) Type {
	switch v.(type) {
	case string:
		return String
	case bool:
		return Bool
	case int, int64:
		return Int
	case float64:
		return Float
	case time.Time:
		return Time
	case time.Duration:
		return Duration
	case map[string]any:
		return Type{Kind: MapKind}
	case []string:
		return ListOf(String)
	case []any, []int, []float64:
		return Type{Kind: ListKind}
	case nil:
		return Any
	default:
		return Secret
	}
}
