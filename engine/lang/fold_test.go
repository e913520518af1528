package lang

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// foldScope has one name of each type that a device knows, at the root and in
// a map.
func foldScope() Scope {
	one := map[string]Type{"b": Bool, "s": String, "n": Int, "l": ListOf(String)}
	return Scope{
		"b": Bool, "c": Bool, "s": String, "t": String, "n": Int, "m": Int, "l": ListOf(String),
		"x": MapOf(one), "y": MapOf(one), "success": Bool,
	}
}

// foldGen draws expressions of a type; small depths end in paths and literals.
type foldGen struct{ t *rapid.T }

func (g foldGen) pick(label string, choices ...func() string) string {
	return choices[rapid.IntRange(0, len(choices)-1).Draw(g.t, label)]()
}

func lit(s string) func() string { return func() string { return s } }

func (g foldGen) bool(depth int) string {
	leaves := []func() string{lit("b"), lit("c"), lit("x.b"), lit("y.b"), lit("true"), lit("false"), lit("success()")}
	if depth == 0 {
		return g.pick("bool", leaves...)
	}
	d := depth - 1
	two := func(format string, f func(int) string) func() string {
		return func() string { return fmt.Sprintf(format, f(d), f(d)) }
	}
	return g.pick("bool", append(leaves,
		func() string { return "not (" + g.bool(d) + ")" },
		two("(%s) and (%s)", g.bool), two("(%s) or (%s)", g.bool), two("(%s) == (%s)", g.bool),
		two("%s == %s", g.string), two("%s != %s", g.string), two("%s < %s", g.string),
		two("%s == %s", g.int), two("%s < %s", g.int), two("%s >= %s", g.int), two("%s != %s", g.int),
		func() string { return g.string(d) + " in " + g.list() },
		func() string { return g.string(d) + " not in " + g.list() },
		two("%s contains %s", g.string),
		func() string { return fmt.Sprintf("(%s) ? (%s) : (%s)", g.bool(d), g.bool(d), g.bool(d)) },
		func() string { return fmt.Sprintf("any(%s, # == %s)", g.list(), g.string(d)) },
	)...)
}

func (g foldGen) string(depth int) string {
	leaves := []func() string{lit("s"), lit("t"), lit("x.s"), lit("y.s"), lit(`"a"`), lit(`"ab"`), lit(`""`)}
	if depth == 0 {
		return g.pick("string", leaves...)
	}
	return g.pick("string", append(leaves,
		func() string { return fmt.Sprintf("(%s + %s)", g.string(depth-1), g.string(depth-1)) },
		func() string { return "upper(" + g.string(depth-1) + ")" })...)
}

func (g foldGen) int(depth int) string {
	leaves := []func() string{lit("n"), lit("m"), lit("x.n"), lit("y.n"), lit("0"), lit("2"), lit("-1")}
	if depth == 0 {
		return g.pick("int", leaves...)
	}
	return g.pick("int", append(leaves,
		func() string { return fmt.Sprintf("(%s + %s)", g.int(depth-1), g.int(depth-1)) },
		func() string { return "len(" + g.list() + ")" })...)
}

func (g foldGen) list() string {
	return g.pick("list", lit("l"), lit("x.l"), lit("y.l"), lit(`["a", "b"]`), lit(`[s, "a"]`))
}

func foldEnv(t *rapid.T) Env {
	str := rapid.SampledFrom([]string{"", "a", "ab", "A", "b"})
	num := rapid.Int64Range(-1, 3)
	lst := rapid.SliceOfN(str, 0, 3)
	one := func(name string) map[string]any {
		return map[string]any{
			"b": rapid.Bool().Draw(t, name+".b"), "s": str.Draw(t, name+".s"),
			"n": num.Draw(t, name+".n"), "l": lst.Draw(t, name+".l"),
		}
	}
	ok := rapid.Bool().Draw(t, "success")
	return Env{
		"b": rapid.Bool().Draw(t, "b"), "c": rapid.Bool().Draw(t, "c"), "s": str.Draw(t, "s"), "t": str.Draw(t, "t"),
		"n": num.Draw(t, "n"), "m": num.Draw(t, "m"), "l": lst.Draw(t, "l"), "x": one("x"), "y": one("y"),
		"success": func() bool { return ok },
	}
}

// known is env without the late names.
func known(env Env, late map[string]bool) Env {
	out := Env{}
	for k, v := range env {
		if !late[k] {
			out[k] = v
		}
	}
	return out
}

// decide evaluates a residual as a device would: by the late names alone.
func decide(t *rapid.T, r Residual, env Env, late map[string]bool) any {
	switch x := r.(type) {
	case RLit:
		return x.V
	case RPath:
		if !late[x.Path[0]] {
			t.Fatalf("the residual has the known name %v", x.Path)
		}
		var v any = map[string]any(env)
		for _, p := range x.Path {
			v = v.(map[string]any)[p]
		}
		return v
	case ROp:
		args := make([]any, len(x.Args))
		for i, a := range x.Args {
			args[i] = decide(t, a, env, late)
		}
		return decideOp(t, x.Op, args)
	}
	t.Fatalf("%T", r)
	return nil
}

func decideOp(t *rapid.T, op string, args []any) any {
	cmpOf := func() int {
		switch a := args[0].(type) {
		case string:
			return strings.Compare(a, args[1].(string))
		case int64:
			return int(a - args[1].(int64))
		case bool:
			if a == args[1].(bool) {
				return 0
			}
			return 1
		}
		t.Fatalf("cannot compare %T", args[0])
		return 0
	}
	switch op {
	case "and":
		return args[0].(bool) && args[1].(bool)
	case "or":
		return args[0].(bool) || args[1].(bool)
	case "not":
		return !args[0].(bool)
	case "==":
		return cmpOf() == 0
	case "!=":
		return cmpOf() != 0
	case "<":
		return cmpOf() < 0
	case "<=":
		return cmpOf() <= 0
	case ">":
		return cmpOf() > 0
	case ">=":
		return cmpOf() >= 0
	case "in":
		items, ok := anyList(args[1])
		if !ok {
			t.Fatalf("in %T", args[1])
		}
		return slices.Contains(items, args[0])
	case "concat":
		var b strings.Builder
		for _, a := range args {
			b.WriteString(a.(string))
		}
		return b.String()
	}
	t.Fatalf("operation %q within a residual", op)
	return nil
}

func TestFoldingAndDecidingLaterIsEvaluating(t *testing.T) {
	t.Parallel()
	decided := 0
	rapid.Check(t, func(rt *rapid.T) {
		g := foldGen{rt}
		src := g.bool(3)
		env := foldEnv(rt)
		late := map[string]bool{}
		for _, name := range []string{"b", "s", "n", "l", "x"} {
			late[name] = rapid.Bool().Draw(rt, "late "+name)
		}
		e, ps := CompileExpr(&Node{Text: src, Quoted: true}, Bool, foldScope())
		if len(ps) > 0 {
			rt.Fatalf("%s: %v", src, ps)
		}
		want, err := e.Eval(env)
		if err != nil {
			rt.Fatalf("%s: %v", src, err)
		}
		r, err := e.Fold(known(env, late), func(root string) bool { return late[root] })
		if err != nil {
			rt.Fatalf("%s: %v", src, err)
		}
		if isUnknown(r) {
			return
		}
		decided++
		if got := decide(rt, r, env, late); got != want {
			rt.Fatalf("%s folds to %v, which is %v, but it is %v", src, r, got, want)
		}
	})
	if decided < 20 {
		t.Errorf("only %d of the expressions were decided", decided)
	}
}

func TestFoldingATextAndDecidingLaterIsEvaluating(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{"{{ s }}", "{{ x.s }}", "{{ t }}", "-", " ", "{{ y.s | upper }}", "{{ y.n }}", "{{ if y.b }}q{{ end }}"}), 1, 5).Draw(rt, "parts")
		env := foldEnv(rt)
		late := map[string]bool{"s": rapid.Bool().Draw(rt, "late s"), "x": rapid.Bool().Draw(rt, "late x")}
		v, ps := CompileValue(&Node{Text: strings.Join(parts, ""), Quoted: true}, String, foldScope())
		if len(ps) > 0 {
			rt.Fatal(ps)
		}
		want, err := v.Eval(env)
		if err != nil {
			rt.Fatal(err)
		}
		r, err := v.Fold(known(env, late), func(root string) bool { return late[root] })
		if err != nil {
			rt.Fatal(err)
		}
		if got := decide(rt, r, env, late); got != want {
			rt.Fatalf("%v folds to %v, which is %q, but it is %q", parts, r, got, want)
		}
	})
}

func TestFoldLeavesWhatADeviceDecides(t *testing.T) {
	t.Parallel()
	env := Env{"b": true, "c": false, "s": "a", "n": int64(2), "l": []string{"a"}, "success": func() bool { return true }}
	x := func(name string, t Type) RPath { return RPath{[]string{"x", name}, t} }
	for _, c := range []struct {
		src  string
		want Residual
	}{
		{"x.b", x("b", Bool)},
		{"not x.b", ROp{"not", []Residual{x("b", Bool)}}},
		{"c and x.b", RLit{false}},
		{"x.b and c", RLit{false}},
		{"b or x.b", RLit{true}},
		{"b and x.b", x("b", Bool)},
		{"success() and x.n == 0", ROp{"==", []Residual{x("n", Int), RLit{int64(0)}}}},
		{"x.s in l", ROp{"in", []Residual{x("s", String), RLit{[]string{"a"}}}}},
		{"x.s in []", RLit{false}},
		{`"a" + s + x.s`, ROp{"concat", []Residual{RLit{"aa"}, x("s", String)}}},
		{"x.n + n == 3", unknown},
		{"x.b or x.n + n == 3", unknown},
		{"c and x.n + n == 3", RLit{false}},
		{"b ? x.b : x.n > 1", x("b", Bool)},
		{"x.b ? b : c", unknown},
		{"len(x.l) == 1", unknown},
		{"x.b and l[7] == s", unknown}, // fails only where x.b is true
	} {
		e, ps := CompileExpr(&Node{Text: c.src, Quoted: true}, Any, foldScope())
		if len(ps) > 0 {
			t.Fatalf("%s: %v", c.src, ps)
		}
		got, err := e.Fold(env, func(root string) bool { return root == "x" })
		if err != nil {
			t.Errorf("%s: %v", c.src, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", c.src, d)
		}
	}
}

func TestFoldOfAFailingKnownExpressionIsAnError(t *testing.T) {
	t.Parallel()
	e, ps := CompileExpr(block(t, "l[7] == s"), Bool, foldScope())
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	_, err := e.Fold(Env{"l": []string{"a"}, "s": "a"}, func(string) bool { return false })
	const want = `t.yaml:2:4: l[7] == s: the index is out of range`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestValuesFoldByTheirShape(t *testing.T) {
	t.Parallel()
	env := Env{"s": "a", "y": map[string]any{"s": "q", "n": int64(4)}}
	for _, c := range []struct {
		yaml string
		want Type
		r    Residual
	}{
		{"w: '{{ x.s }}'", String, RPath{[]string{"x", "s"}, String}},
		{"w: '{{ x.n }}'", String, unknown}, // a device has no decimal writing
		{"w: '{{ x.n }}'", Int, RPath{[]string{"x", "n"}, Int}},
		{"w: 'a{{ x.s }}{{ y.n }}'", String, ROp{"concat", []Residual{RLit{"a"}, RPath{[]string{"x", "s"}, String}, RLit{"4"}}}},
		{"w: 'a{{ x.s | upper }}'", String, unknown},
		{"w: ['{{ x.s }}']", ListOf(String), unknown},
		{"w: ['{{ s }}']", ListOf(String), RLit{[]string{"a"}}},
		{"w: !expr x.n", Int, RPath{[]string{"x", "n"}, Int}},
		{"w: plain", String, RLit{"plain"}},
		{"w: '{{ $v := x.s }}{{ $v }}'", String, unknown},
	} {
		v, ps := CompileValue(parseOne(t, c.yaml+"\n").Get("w"), c.want, foldScope())
		if len(ps) > 0 {
			t.Fatalf("%s: %v", c.yaml, ps)
		}
		got, err := v.Fold(env, func(root string) bool { return root == "x" })
		if err != nil {
			t.Errorf("%s: %v", c.yaml, err)
		}
		if d := cmp.Diff(c.r, got); d != "" {
			t.Errorf("%s: %s", c.yaml, d)
		}
	}
}
