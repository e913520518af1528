package lang

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/checker/nature"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/types"
)

// Names of guards; authors cannot write them.
const (
	tickName  = "$tick"
	limitText = "$limit_text"
	limitAny  = "$limit_any"
)

// exprFunc is a function that replaces one of expr that grows without bound
// or is silent about failures.
type exprFunc struct {
	fn    func(args ...any) (any, error)
	types []any
}

var exprFuncs = map[string]exprFunc{
	"join":    {exprJoin, []any{new(func([]any, string) string), new(func([]string, string) string), new(func([]any) string), new(func([]string) string)}},
	"replace": {exprReplace, []any{new(func(string, string, string) string)}},
	"repeat":  {exprRepeat, []any{new(func(string, int) string)}},
	"string":  {exprString, []any{new(func(any) string)}},
	"first":   {exprFirst, []any{new(func([]any) any), new(func([]string) string)}},
	"last":    {exprLast, []any{new(func([]any) any), new(func([]string) string)}},
	"keys":    {exprKeys, []any{new(func(map[string]any) []string)}},
}

func isExprFunc(name string) bool {
	return exprFuncs[name].fn != nil || slices.Contains(exprBuiltins, name)
}

func exprJoin(args ...any) (any, error) {
	sep := ""
	if len(args) > 1 {
		sep = args[1].(string) //nolint:forcetypeassert // the types of exprFuncs
	}
	items, ok := anyList(args[0])
	if !ok {
		return nil, valueErrorf("join() takes a list, found %s", typeOfValue(args[0]))
	}
	return joinText("join", items, sep)
}

func exprReplace(args ...any) (any, error) {
	s, ok := texts(args)
	if !ok || len(s) != 3 {
		return nil, valueErrorf("replace() takes three strings")
	}
	return replaceText(s[0], s[1], s[2])
}

func exprRepeat(args ...any) (any, error) {
	s, ok := args[0].(string)
	n, isInt := args[1].(int)
	if !ok || !isInt {
		return nil, valueErrorf("repeat() takes a string and an int")
	}
	return repeatText(s, n)
}

func exprString(args ...any) (any, error) { return textOf(args[0]) }

func exprFirst(args ...any) (any, error) {
	items, _ := anyList(args[0])
	if len(items) == 0 {
		return nil, valueErrorf("first() of an empty list")
	}
	return items[0], nil
}

func exprLast(args ...any) (any, error) {
	items, _ := anyList(args[0])
	if len(items) == 0 {
		return nil, valueErrorf("last() of an empty list")
	}
	return items[len(items)-1], nil
}

func exprKeys(args ...any) (any, error) {
	m, ok := args[0].(map[string]any)
	if !ok {
		return nil, valueErrorf("keys() takes a map, found %s", typeOfValue(args[0]))
	}
	return slices.Sorted(maps.Keys(m)), nil
}

// texts returns args as strings.
func texts(args []any) ([]string, bool) {
	s := make([]string, len(args))
	for i, a := range args {
		t, ok := a.(string)
		if !ok {
			return nil, false
		}
		s[i] = t
	}
	return s, true
}

func joinText(name string, items []any, sep string) (string, error) {
	var b strings.Builder
	for i, e := range items {
		t, err := textOf(e)
		if err != nil {
			return "", err
		}
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(t)
		if b.Len() > maxString {
			return "", tooLong(name)
		}
	}
	return b.String(), nil
}

func replaceText(s, old, by string) (string, error) {
	n := strings.Count(s, old)
	if n > 0 && (len(by)-len(old)) > (maxString-len(s))/n {
		return "", tooLong("replace")
	}
	return strings.ReplaceAll(s, old, by), nil
}

func repeatText(s string, n int) (string, error) {
	if n < 0 {
		return "", valueErrorf("repeat: %d is negative", n)
	}
	if len(s) > 0 && n > maxString/len(s) {
		return "", tooLong("repeat")
	}
	return strings.Repeat(s, n), nil
}

func tooLong(name string) error {
	return valueErrorf("%s: the result is longer than 1 MiB", name)
}

// textOf writes a single value as text: times as RFC 3339 in UTC, durations
// as 1h30m.
func textOf(v any) (string, error) {
	switch x := v.(type) {
	case string:
		return x, nil
	case time.Time:
		return x.UTC().Format(time.RFC3339), nil
	case time.Duration:
		return durationText(x), nil
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64), nil
	case bool, int, int64:
		return fmt.Sprint(x), nil
	case nil:
		return "", valueErrorf("a value is missing")
	default:
		return "", valueErrorf("%s cannot be part of a string", typeOfValue(v))
	}
}

// durationText writes 90 minutes as 1h30m, as authors do.
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func limited(args ...any) (any, error) {
	if s, ok := args[0].(string); ok && len(s) > maxString {
		return nil, tooLong("+")
	}
	return args[0], nil
}

// Narrow returns the names of a scope that a text can mean: those that stand in
// it as words.
func (s Scope) Narrow(text string) Scope {
	out := Scope{}
	for i := 0; i < len(text); {
		end := i
		for end < len(text) && wordByte(text[end]) {
			end++
		}
		if t, ok := s[text[i:end]]; ok {
			out[text[i:end]] = t
		}
		i = max(end, i+1)
	}
	return out
}

// exprEnv tells expr the names that a text can mean: most of the time of a
// check would go into the types of the others.
func exprEnv(text string, scope Scope) types.Map {
	env := types.Map{tickName: exprAsks}
	for name, t := range scope.Narrow(text) {
		env[name] = exprType(t)
		if isStatus(name, scope) {
			env[name] = exprAsks
		}
	}
	return env
}

// exprOptions returns the settings of expr for a text.
func exprOptions(text string, scope Scope) []expr.Option {
	return append([]expr.Option{expr.Env(exprEnv(text, scope))}, exprSettings()...)
}

// exprConfig is the same without names; it is copied, and its maps are only read.
var exprConfig = sync.OnceValue(func() *conf.Config {
	cfg := conf.CreateNew()
	for _, o := range exprSettings() {
		o(cfg)
	}
	for name := range cfg.Disabled {
		delete(cfg.Builtins, name)
	}
	return cfg
})

func wordByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

var exprAsks = types.TypeOf(func() bool { return true })

// exprSettings are the settings that are the same for every expression.
var exprSettings = sync.OnceValue(func() []expr.Option {
	opts := []expr.Option{
		expr.MaxNodes(maxExprNodes),
		expr.Function(limitText, limited, new(func(string) string)),
		expr.Function(limitAny, limited, new(func(any) any)),
	}
	for _, b := range builtin.Builtins {
		if !slices.Contains(exprBuiltins, b.Name) {
			opts = append(opts, expr.DisableBuiltin(b.Name))
		}
	}
	for name, f := range exprFuncs {
		opts = append(opts, expr.Function(name, f.fn, f.types...))
	}
	return opts
})

// secretMark is the type of secrets in expr; no operator takes it.
type secretMark struct{}

func exprType(t Type) types.Type {
	switch t.Kind {
	case StringKind:
		return types.String
	case IntKind:
		return types.Int
	case BoolKind:
		return types.Bool
	case FloatKind:
		return types.Float64
	case DurationKind:
		return types.TypeOf(time.Duration(0))
	case TimeKind:
		return types.TypeOf(time.Time{})
	case SecretKind:
		return types.TypeOf(secretMark{})
	case ListKind:
		return types.Array(exprType(elemOf(t)))
	case MapKind:
		if t.Fields == nil {
			return types.Map{types.Extra: exprType(elemOf(t))}
		}
		m := types.Map{}
		for name, f := range t.Fields {
			m[name] = exprType(f)
		}
		return m
	case AnyKind:
	}
	return types.Any
}

// typeOfNature is the type that expr found for a node.
func typeOfNature(n nature.Nature) Type {
	switch {
	case n.Type == nil:
		return Any
	case n.Type == reflect.TypeFor[time.Time]():
		return Time
	case n.Type == reflect.TypeFor[time.Duration]():
		return Duration
	}
	//exhaustive:ignore
	switch n.Kind {
	case reflect.String:
		return String
	case reflect.Bool:
		return Bool
	case reflect.Int, reflect.Int64:
		return Int
	case reflect.Float64:
		return Float
	case reflect.Slice, reflect.Array:
		switch {
		case n.Ref != nil:
			return ListOf(typeOfNature(*n.Ref))
		case n.Type.Elem().Kind() == reflect.String:
			return ListOf(String)
		}
		return ListOf(Any)
	case reflect.Map:
		if n.TypeData == nil || n.Fields == nil || !n.Strict {
			return Type{Kind: MapKind}
		}
		fields := make(map[string]Type, len(n.Fields))
		for name, f := range n.Fields {
			fields[name] = typeOfNature(f)
		}
		return MapOf(fields)
	default:
		return Any
	}
}

// guard patches a program so that each turn of a predicate is counted and
// joined strings stay short.
type guard struct{ done map[ast.Node]bool }

// Visit implements ast.Visitor.
func (g *guard) Visit(node *ast.Node) {
	if g.done[*node] {
		return
	}
	g.done[*node] = true
	switch x := (*node).(type) {
	case *ast.BuiltinNode:
		for _, a := range x.Arguments {
			if p, ok := a.(*ast.PredicateNode); ok {
				p.Node = tick(x.Name, p.Node)
			}
		}
	case *ast.BinaryNode:
		if x.Operator != "+" {
			return
		}
		name := limitAny
		t := typeOfNature(*x.Nature())
		if t.Kind == StringKind {
			name = limitText
		} else if t.Kind != AnyKind {
			return
		}
		c := &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: []ast.Node{x}}
		g.done[c] = true
		ast.Patch(node, c)
	}
}

// tick lets a predicate count its turns first.
func tick(name string, body ast.Node) ast.Node {
	call := &ast.CallNode{Callee: &ast.IdentifierNode{Value: tickName}}
	call.SetLocation(body.Location())
	call.Callee.SetLocation(body.Location())
	var n ast.Node
	switch name {
	case "map", "sortBy", "sum":
		n = &ast.ConditionalNode{Cond: call, Exp1: body, Exp2: &ast.NilNode{}}
	default:
		n = &ast.BinaryNode{Operator: "and", Left: call, Right: body}
	}
	n.SetLocation(body.Location())
	return n
}
