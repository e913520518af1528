package lang

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Value is a compiled YAML value: a scalar with {{ }}, a list, a map, or a
// computed value (tag !expr). It is immutable and may be used by several
// goroutines.
type Value struct {
	node  *Node
	typ   Type
	refs  [][]string
	known bool // constant holds the value
	// One of these says how the value is made when it is not known.
	constant any
	text     *text
	expr     *Expr
	items    []*Value
	keys     []string // with items: a map
	bound    bool     // a variable of a script: single values become text
}

// CompileValue checks a node against the wanted type and scope and reports
// all that is wrong. A scalar that is exactly one {{ path }} keeps the type
// of the path, also where that is a secret; single values other than secrets
// may stand where a string is wanted. A text with {{ }} is a string, and is
// read as a duration or time where one is wanted.
func CompileValue(n *Node, want Type, scope Scope) (*Value, Problems) {
	v := &Value{node: n, typ: want}
	var ps Problems
	switch {
	case n.Kind == ScalarNode && n.Tag == "!expr":
		if v.expr, ps = CompileExpr(n, want, scope); len(ps) == 0 {
			v.typ, v.refs = v.expr.typ, v.expr.refs
		}
	case n.Kind == ScalarNode && strings.Contains(n.Text, "{{"):
		ps = v.compileText(want, scope)
	case n.Kind == ListNode:
		ps = v.compileList(want, scope)
	case n.Kind == MapNode:
		ps = v.compileMap(want, scope)
	default:
		ps = v.compileLiteral(want)
	}
	if len(ps) > 0 {
		ps.Sort()
		return nil, ps
	}
	v.refs = uniquePaths(v.refs)
	return v, nil
}

func (v *Value) compileText(want Type, scope Scope) Problems {
	t, ps := compileText(v.node, 0, v.node.Text, scope)
	if len(ps) > 0 {
		return ps
	}
	v.text, v.refs = t, t.refs
	width := utf8.RuneCountInString(v.node.Text)
	if t.path == nil {
		switch want.Kind {
		case AnyKind:
			v.typ = String
		case StringKind, DurationKind, TimeKind:
		case SecretKind:
			return Problems{v.node.Problem("wrong-type", "expected a secret, found a string; write a single {{ path }} of type secret")}
		case ListKind:
			if want.Elem == nil || want.Elem.Kind == StringKind {
				return Problems{v.node.Problem("wrong-type", "expected %s, found a string; put it into [ ], or for a computed list write !expr", want)}
			}
			return Problems{v.node.Problem("wrong-type", "expected %s, found a string; a computed list is written with !expr", want)}
		case IntKind, BoolKind, FloatKind, MapKind:
			return Problems{v.node.Problem("wrong-type", "expected %s, found a string; a computed %s is written with !expr", want, kindWord(want))}
		}
		return nil
	}
	path := strings.Join(t.path, ".")
	switch {
	case want.Kind == SecretKind && t.typ.Kind == AnyKind, assignable(t.typ, want):
		v.typ = narrow(t.typ, want)
	case want.Kind == StringKind && isSingle(t.typ):
	case want.Kind == SecretKind:
		return Problems{v.node.ProblemAt(0, width, "wrong-type", "expected a secret, but %s is of type %s; declare it with type secret", path, t.typ)}
	case t.typ.Kind == SecretKind:
		return Problems{v.node.ProblemAt(0, width, "secret", "expected %s, but %s is a secret, which may not be shown here", want, path)}
	default:
		return Problems{v.node.ProblemAt(0, width, "wrong-type", "expected %s, but %s is of type %s", want, path, t.typ)}
	}
	return nil
}

// kindWord is the name of a type without what is in it.
func kindWord(t Type) string { return Type{Kind: t.Kind}.String() }

// isSingle reports whether values of type t can be written as text.
func isSingle(t Type) bool {
	switch t.Kind {
	case AnyKind, StringKind, IntKind, BoolKind, FloatKind, DurationKind, TimeKind:
		return true
	case SecretKind, ListKind, MapKind:
	}
	return false
}

func (v *Value) compileList(want Type, scope Scope) Problems {
	if want.Kind != ListKind && want.Kind != AnyKind {
		return Problems{v.node.Problem("wrong-type", "expected %s, found a list", want)}
	}
	var ps Problems
	elem := elemOf(want)
	for _, item := range v.node.Items {
		c, bad := CompileValue(item, elem, scope)
		ps = append(ps, bad...)
		v.add(c)
	}
	v.typ = ListOf(elem)
	if want.Kind == AnyKind && len(v.items) > 0 && !slices.ContainsFunc(v.items, func(c *Value) bool { return c == nil || c.typ.Kind != StringKind }) {
		v.typ = ListOf(String)
	}
	v.settle()
	return ps
}

func (v *Value) add(c *Value) {
	v.items = append(v.items, c)
	if c != nil {
		v.refs = append(v.refs, c.refs...)
	}
}

// settle makes a list or map of constants a constant.
func (v *Value) settle() {
	for _, c := range v.items {
		if c == nil || !c.known {
			return
		}
	}
	v.constant, v.known = v.gather(func(c *Value) any { return c.constant }), true
}

// gather builds the list or map out of its parts.
func (v *Value) gather(get func(*Value) any) any {
	if v.keys != nil {
		m := make(map[string]any, len(v.keys))
		for i, k := range v.keys {
			m[k] = get(v.items[i])
		}
		return m
	}
	if elemOf(v.typ).Kind == StringKind {
		l := make([]string, 0, len(v.items))
		for _, c := range v.items {
			s, _ := get(c).(string)
			l = append(l, s)
		}
		return l
	}
	l := make([]any, 0, len(v.items))
	for _, c := range v.items {
		l = append(l, get(c))
	}
	return l
}

func (v *Value) compileMap(want Type, scope Scope) Problems {
	if want.Kind != MapKind && want.Kind != AnyKind {
		return Problems{v.node.Problem("wrong-type", "expected %s, found a map", want)}
	}
	var ps Problems
	v.keys = []string{}
	v.typ = want
	if want.Kind == AnyKind {
		v.typ = Type{Kind: MapKind}
	}
	for _, e := range v.node.Entries {
		t := elemOf(want)
		if strings.Contains(e.Key.Text, "{{") {
			ps = append(ps, e.Key.Problem("yaml-key", "a key cannot hold {{ }}"))
		}
		if want.Fields != nil {
			f, ok := want.Fields[e.Key.Text]
			if !ok {
				names := slices.Sorted(maps.Keys(want.Fields))
				p := e.Key.Problem("unknown-key", "unknown key %q; the keys are %s", e.Key.Text, listNames(names))
				p.Suggest = Nearest(e.Key.Text, names)
				ps = append(ps, p)
				continue
			}
			t = f
		}
		c, bad := CompileValue(e.Value, t, scope)
		ps = append(ps, bad...)
		v.keys = append(v.keys, e.Key.Text)
		v.add(c)
	}
	for _, name := range slices.Sorted(maps.Keys(want.Fields)) {
		if v.node.Get(name) == nil {
			ps = append(ps, v.node.Problem("missing-key", "the key %q is missing here", name))
		}
	}
	v.settle()
	return ps
}

func (v *Value) compileLiteral(want Type) Problems {
	c, p := literal(v.node, want)
	if p != nil {
		return Problems{*p}
	}
	v.constant, v.known = c, true
	if want.Kind == AnyKind && c != nil {
		v.typ = typeOfValue(c)
	}
	return nil
}

// Constant returns a value that is always v, of the Go types that Kind
// documents. It has no place.
func Constant(v any) *Value {
	if i, ok := v.(int); ok {
		v = int64(i)
	}
	t := Any
	if v != nil {
		t = typeOfValue(v)
	}
	return &Value{typ: t, known: true, constant: v}
}

// Type returns the type of the result.
func (v *Value) Type() Type { return v.typ }

// Text returns the source of a scalar, of a value of a script the {{ }}, and
// "" of anything else.
func (v *Value) Text() string {
	switch {
	case v.bound:
		return v.text.source
	case v.node == nil || v.node.Kind != ScalarNode:
		return ""
	default:
		return v.node.Text
	}
}

// Pos returns where the value is written; the zero Pos for a Constant.
func (v *Value) Pos() Pos {
	switch {
	case v.bound:
		return v.node.At(v.text.offset)
	case v.node == nil:
		return Pos{}
	default:
		return v.node.Pos
	}
}

// Problem returns a problem where the value is written, which is not a Constant.
func (v *Value) Problem(code, format string, args ...any) Problem {
	if v.bound {
		return v.node.ProblemAt(v.text.offset, utf8.RuneCountInString(v.text.source), code, format, args...)
	}
	return v.node.Problem(code, format, args...)
}

// Items returns the values of a list that is written as one, or nil.
func (v *Value) Items() []*Value {
	if v.keys != nil {
		return nil
	}
	return v.items
}

// Refs returns the paths that v reads, such as {"account","uid"}, sorted.
func (v *Value) Refs() [][]string { return v.refs }

// Path returns the path of a value that is exactly one {{ path }}, or nil.
func (v *Value) Path() []string {
	if v.text == nil {
		return nil
	}
	return v.text.path
}

// Eval computes v; the result has the Go type that Kind documents. It is
// bounded in time (1 s a scalar) and memory. The error says the place in the
// file and never holds a secret.
func (v *Value) Eval(env Env) (any, error) {
	switch {
	case v.known:
		return v.constant, nil
	case v.expr != nil:
		return v.expr.Eval(env)
	case v.text != nil && v.text.path != nil:
		return v.evalPath(env)
	case v.text != nil:
		s, err := v.text.eval(env)
		if err != nil {
			return nil, err
		}
		return v.fromText(s)
	}
	made := make(map[*Value]any, len(v.items))
	for _, c := range v.items {
		r, err := c.Eval(env)
		if err != nil {
			return nil, err
		}
		made[c] = r
	}
	return v.gather(func(c *Value) any { return made[c] }), nil
}

// fromText reads a computed text as what is wanted.
func (v *Value) fromText(s string) (any, error) {
	switch v.typ.Kind {
	case DurationKind, TimeKind:
		r, err := ParseAs(s, v.typ)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.node.Pos, err)
		}
		return r, nil
	case AnyKind, StringKind, IntKind, BoolKind, FloatKind, SecretKind, ListKind, MapKind:
	}
	return s, nil
}

// evalPath looks a path up; what is there keeps its type.
func (v *Value) evalPath(env Env) (any, error) {
	var at any = map[string]any(env)
	path := v.text.path
	for i, name := range path {
		m, ok := at.(map[string]any)
		if !ok {
			return nil, v.text.failed(valueErrorf("%s is %s and has no value %q", strings.Join(path[:i], "."), typeOfValue(at), name))
		}
		if at, ok = m[name]; !ok {
			return nil, v.text.failed(valueErrorf("there is no value %s", strings.Join(path[:i+1], ".")))
		}
	}
	plain := plainValue(at)
	if holdsHidden(plain) {
		if _, ok := plain.(hidden); ok && (v.typ.Kind == SecretKind || v.typ.Kind == AnyKind) {
			return at, nil
		}
		if _, declared := holdsSecret(v.typ); declared || v.typ.Kind == AnyKind {
			return at, nil
		}
		return nil, v.text.failed(valueErrorf("expected %s, but %s is a secret", v.typ, strings.Join(path, ".")))
	}
	if v.typ.Kind == StringKind || v.bound {
		s, err := textOf(plain)
		if err != nil {
			return nil, v.text.failed(err)
		}
		return s, nil
	}
	if s, ok := plain.(string); ok && (v.typ.Kind == DurationKind || v.typ.Kind == TimeKind) {
		return v.fromText(s)
	}
	r, err := normalize(plain, v.typ)
	if err != nil {
		return nil, v.text.failed(err)
	}
	return r, nil
}
