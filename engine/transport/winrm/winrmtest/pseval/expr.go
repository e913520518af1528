package pseval

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"runner/engine/secret"
)

// expr evaluates an expression.
func (m *Machine) expr(ctx context.Context, n *node) (any, error) {
	switch n.kind {
	case "string":
		return n.text, nil
	case "number":
		return n.num, nil
	case "variable":
		return m.get(n.text), nil
	case "scriptblock":
		return &Block{Text: n.text}, nil
	case "paren":
		if n.kids[0].kind == "block" {
			l, err := m.collect(ctx, n.kids[0])
			return single(l), err
		}
		return m.value(ctx, n.kids[0])
	case "list":
		return m.collect(ctx, n.kids[0])
	case "array":
		return m.all(ctx, n.kids)
	case "hash":
		return m.hash(ctx, n)
	case "expand":
		parts, err := m.all(ctx, n.kids)
		var b strings.Builder
		for _, p := range parts {
			b.WriteString(text(p))
		}
		return b.String(), err
	case "not":
		v, err := m.expr(ctx, n.kids[0])
		return !truth(v), err
	case "binary":
		return m.binary(ctx, n)
	case "cast":
		return m.cast(ctx, n)
	case "static":
		return m.static(ctx, n)
	case "member", "index", "method":
		return m.part(ctx, n)
	case "command", "call", "pipe":
		return m.value(ctx, n)
	}
	return nil, unsupported("%s %s", n.kind, n.text)
}

func single(l []any) any {
	switch len(l) {
	case 0:
		return nil
	case 1:
		return l[0]
	}
	return l
}

func (m *Machine) all(ctx context.Context, ns []*node) ([]any, error) {
	out := []any{}
	for _, n := range ns {
		v, err := m.expr(ctx, n)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (m *Machine) hash(ctx context.Context, n *node) (any, error) {
	h := &Hash{}
	for _, e := range n.kids {
		v, err := m.value(ctx, e.kids[0])
		if err != nil {
			return nil, err
		}
		if _, twice := h.Get(e.text); twice {
			return nil, unsupported("the key %s twice", e.text)
		}
		h.Set(e.text, v)
	}
	return h, nil
}

func (m *Machine) cast(ctx context.Context, n *node) (any, error) {
	v, err := m.expr(ctx, n.kids[0])
	if err != nil {
		return nil, err
	}
	i, isInt := v.(int64)
	c, isChar := v.(Char)
	switch {
	case n.text == "char" && isInt && i >= 0 && i < 1<<16:
		return Char(i), nil
	case n.text == "string" && isChar:
		return text(c), nil
	case n.text == "datetime":
		if t, err := time.Parse("2006-01-02T15:04:05Z", text(v)); err == nil {
			return t, nil
		}
	case n.text == "long":
		if i, err := strconv.ParseInt(text(v), 10, 64); err == nil {
			return i, nil
		}
	}
	return nil, unsupported("a cast of %T to %s", v, n.text)
}

func (m *Machine) static(ctx context.Context, n *node) (any, error) {
	args, err := m.all(ctx, n.kids)
	if err != nil {
		return nil, err
	}
	if n.text == "string::compareordinal" && len(args) == 2 {
		a, okA := args[0].(string)
		b, okB := args[1].(string)
		if okA && okB {
			return ordinal(a, b), nil
		}
	}
	if body, ok := only[string](args); ok && n.text == "scriptblock::create" {
		return &Block{Text: body}, nil
	}
	return nil, unsupported("%s of %T", n.text, args)
}

// part evaluates a property, an element or a method.
func (m *Machine) part(ctx context.Context, n *node) (any, error) {
	o, err := m.expr(ctx, n.kids[0])
	if err != nil {
		return nil, err
	}
	args, err := m.all(ctx, n.kids[1:])
	if err != nil {
		return nil, err
	}
	switch x := o.(type) {
	case *Hash:
		return hashPart(x, n, args)
	case string:
		return stringPart(x, n, args)
	case time.Time:
		return timePart(x, n, args)
	case []any:
		if n.kind == "member" && n.text == "count" {
			return int64(len(x)), nil
		}
		if i, is := only[int64](args); is && n.kind == "index" {
			if i < 0 || i >= int64(len(x)) {
				return nil, nil
			}
			return x[i], nil
		}
	case *ThrownError:
		switch n.text {
		case "fullyqualifiederrorid":
			return x.ID, nil
		case "invocationinfo":
			return &Object{Properties: map[string]any{"scriptlinenumber": x.Line}}, nil
		}
	case *Object:
		if f := x.Methods[n.text]; f != nil && n.kind == "method" {
			return f(), nil
		}
		if v, ok := x.Properties[n.text]; ok && n.kind == "member" {
			return v, nil
		}
	case nil:
		if n.kind == "member" {
			return nil, nil
		}
	}
	return nil, unsupported("%s %s of %T", n.kind, n.text, o)
}

// timePart is of a DateTime in UTC.
func timePart(t time.Time, n *node, args []any) (any, error) {
	switch format, _ := only[string](args); {
	case n.kind == "method" && n.text == "touniversaltime" && len(args) == 0:
		return t.UTC(), nil
	case n.kind == "method" && n.text == "tostring" && format == "s":
		return t.Format("2006-01-02T15:04:05"), nil
	case n.kind == "member" && n.text == "ticks":
		return (t.Unix()+62135596800)*10_000_000 + int64(t.Nanosecond()/100), nil
	}
	return nil, unsupported("%s %s of a time", n.kind, n.text)
}

// only returns the only argument when it is of that type.
func only[T any](args []any) (T, bool) {
	var none T
	if len(args) != 1 {
		return none, false
	}
	v, ok := args[0].(T)
	return v, ok
}

// plainSeparator is a separator that -split takes as it is: it would take others
// for a pattern, and letters of either case.
var plainSeparator = regexp.MustCompile(`^([ \n,]|[a-z]+=)$`)

func hashPart(h *Hash, n *node, args []any) (any, error) {
	key, text := only[string](args)
	switch {
	case n.kind == "member":
		v, ok := h.Get(n.text)
		if !ok && (n.text == "count" || n.text == "keys" || n.text == "values") {
			return nil, unsupported("%s of a hash table", n.text)
		}
		return v, nil
	case n.kind == "index" && text:
		v, _ := h.Get(key)
		return v, nil
	case n.kind == "method" && n.text == "containskey" && text:
		_, ok := h.Get(key)
		return ok, nil
	}
	return nil, unsupported("%s %s of a hash table", n.kind, n.text)
}

func stringPart(s string, n *node, args []any) (any, error) {
	switch n.kind + " " + n.text {
	case "member length":
		return int64(len([]rune(s))), ascii(s)
	case "method trimstart":
		if c, ok := only[string](args); ok && len(c) == 1 {
			return strings.TrimLeft(s, c), nil
		}
	case "method substring":
		from, ok := args[0].(int64)
		to := int64(len(s))
		if len(args) == 2 {
			n, is := args[1].(int64)
			ok, to = ok && is, from+n
		}
		if err := ascii(s); err != nil {
			return nil, err
		}
		if !ok || from < 0 || from > to || to > int64(len(s)) {
			return nil, &ThrownError{Message: "Exception calling Substring", ID: "ArgumentOutOfRangeException"}
		}
		return s[from:to], nil
	}
	return nil, unsupported("%s %s of a string", n.kind, n.text)
}

// ascii refuses what UTF-16 and cultures would count or compare differently.
func ascii(s string) error {
	for i := range len(s) {
		if s[i] > 0x7e || s[i] < ' ' {
			return unsupported("the length or culture of %q", s)
		}
	}
	return nil
}

func (m *Machine) binary(ctx context.Context, n *node) (any, error) {
	a, err := m.expr(ctx, n.kids[0])
	if err != nil {
		return nil, err
	}
	switch n.text {
	case "-and":
		if !truth(a) {
			return false, nil
		}
	case "-or":
		if truth(a) {
			return true, nil
		}
	case "-is":
		return is(a, n.kids[1])
	}
	b, err := m.expr(ctx, n.kids[1])
	if err != nil {
		return nil, err
	}
	switch n.text {
	case "-and", "-or":
		return truth(b), nil
	case "-eq":
		return same(a, b)
	case "-ne":
		eq, err := same(a, b)
		return !eq, err
	case "-contains", "-notcontains":
		list, isList := a.([]any)
		if !isList {
			list = []any{a}
		}
		for _, x := range list {
			if eq, err := same(x, b); err != nil || eq {
				return n.text == "-contains", err
			}
		}
		return n.text != "-contains", nil
	case "-cmatch", "-cnotmatch":
		s, okA := a.(string)
		p, okB := b.(string)
		if !okA || !okB {
			return nil, unsupported("a match of %T", a)
		}
		ok, err := match(s, p)
		return ok == (n.text == "-cmatch"), err
	case "-join", "-split":
		return split(n.text, a, b)
	}
	return arithmetic(n.text, a, b)
}

func is(v any, typ *node) (any, error) {
	var ok bool
	switch typ.text {
	case "string":
		_, ok = v.(string)
	case "bool":
		_, ok = v.(bool)
	case "securestring":
		_, ok = v.(secret.Value)
	default:
		return nil, unsupported("-is %s", typ.text)
	}
	return ok, nil
}

// same is -eq for what is the same in every culture.
func same(a, b any) (bool, error) {
	switch x := a.(type) {
	case nil:
		return b == nil, nil
	case int64, bool:
		if y, ok := b.(int64); ok || b == nil {
			return a == any(y) && b != nil, nil
		}
		if _, ok := b.(bool); ok {
			return a == b, nil
		}
	case string:
		if y, ok := b.(string); ok {
			if err := ascii(x); err != nil {
				return false, err
			}
			return strings.EqualFold(x, y), ascii(y)
		}
	}
	return false, unsupported("%T -eq %T", a, b)
}

func split(op string, a, b any) (any, error) {
	sep, ok := b.(string)
	if c, is := b.(Char); is {
		sep, ok = text(c), true
	}
	s, isText := a.(string)
	switch {
	case !ok:
	case op == "-split" && isText && plainSeparator.MatchString(sep):
		out := []any{}
		for part := range strings.SplitSeq(s, sep) {
			out = append(out, part)
		}
		return out, nil
	case op == "-join":
		parts := []string{}
		for _, x := range items(a) {
			parts = append(parts, text(x))
		}
		return strings.Join(parts, sep), nil
	}
	return nil, unsupported("%T %s %T", a, op, b)
}

func arithmetic(op string, a, b any) (any, error) {
	if s, is := a.(string); is && op == "+" {
		return s + text(b), nil
	}
	if l, is := a.([]any); is && op == "+" {
		return append(slices.Clone(l), items(b)...), nil
	}
	x, okA := a.(int64)
	y, okB := b.(int64)
	if !okA || !okB {
		return nil, unsupported("%T %s %T", a, op, b)
	}
	switch op {
	case "+":
		return x + y, nil
	case "-":
		return x - y, nil
	case "-lt":
		return x < y, nil
	case "-gt":
		return x > y, nil
	case "-le":
		return x <= y, nil
	case "-ge":
		return x >= y, nil
	}
	return nil, unsupported("%s", op)
}
