package lang

import (
	"slices"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"
)

// Residual is what is left of an expression when some names are not known
// yet: RLit, RPath or ROp.
type Residual interface{ isResidual() }

// RLit is a known value: string, bool, int64, float64, time.Time,
// time.Duration, a secret, []any, []string, map[string]any or nil.
type RLit struct{ V any }

// RPath is a name that is not known yet, with its type.
type RPath struct {
	Path []string
	Type Type
}

// ROp is an operation: "and" "or" "not" "==" "!=" "<" "<=" ">" ">=" "in"
// (Args[1] is the list) or "concat" (two or more strings). "?" stands for
// anything else that a device cannot decide; it has no Args and is never part
// of another ROp.
type ROp struct {
	Op   string
	Args []Residual
}

func (RLit) isResidual()  {}
func (RPath) isResidual() {}
func (ROp) isResidual()   {}

// unknown is the residual that only a full evaluation can decide.
var unknown = ROp{Op: "?"}

func isUnknown(r Residual) bool {
	op, ok := r.(ROp)
	return ok && op.Op == "?"
}

// Fold computes what can be computed with env; names whose first part is
// later are not known yet and stay in the residual. An error means that e
// reads no later name and fails.
func (e *Expr) Fold(env Env, later func(root string) bool) (Residual, error) {
	f := &folder{e: e, env: env, later: later}
	if !f.readsLater(e.refs) {
		v, err := e.Eval(env)
		return RLit{v}, err
	}
	r := f.fold(e.tree)
	if lit, ok := r.(RLit); ok {
		v, err := normalize(lit.V, e.typ)
		if err != nil {
			return unknown, nil //nolint:nilerr // Eval will say it, with its place
		}
		return RLit{v}, nil
	}
	return r, nil
}

type folder struct {
	e     *Expr
	env   Env
	later func(string) bool
}

func (f *folder) readsLater(refs [][]string) bool {
	return slices.ContainsFunc(refs, func(p []string) bool { return f.later(p[0]) })
}

// rootsOf collects the first names of the paths that a subtree reads.
type rootsOf struct{ names map[string]bool }

// Visit implements ast.Visitor.
func (r *rootsOf) Visit(n *ast.Node) {
	if id, ok := (*n).(*ast.IdentifierNode); ok {
		r.names[id.Value] = true
	}
}

// refsOf are the refs of the expression that the subtree n reads.
func (f *folder) refsOf(n ast.Node) [][]string {
	r := &rootsOf{map[string]bool{}}
	ast.Walk(&n, r)
	var refs [][]string
	for _, p := range f.e.refs {
		if r.names[p[0]] {
			refs = append(refs, p)
		}
	}
	return refs
}

func (f *folder) fold(n ast.Node) Residual {
	refs := f.refsOf(n)
	if !f.readsLater(refs) {
		return f.known(n, refs)
	}
	if p, ok := f.path(n); ok {
		return p
	}
	switch x := n.(type) {
	case *ast.ChainNode:
		return f.fold(x.Node)
	case *ast.UnaryNode:
		if x.Operator == "not" || x.Operator == "!" {
			return foldNot(f.fold(x.Node))
		}
	case *ast.BinaryNode:
		return f.binary(x)
	case *ast.ConditionalNode:
		if c, ok := f.fold(x.Cond).(RLit); ok {
			if c.V == true {
				return f.fold(x.Exp1)
			}
			return f.fold(x.Exp2)
		}
	}
	return unknown
}

// known evaluates a subtree that reads no later name. One that fails is left
// to the full evaluation, which may never come to it.
func (f *folder) known(n ast.Node, refs [][]string) Residual {
	program := f.e.part(n)
	if program == nil {
		return unknown
	}
	vars, err := bind(f.env, refs, f.e.loops)
	if err != nil {
		return unknown
	}
	out, err := runProgram(program, vars)
	if err != nil {
		return unknown
	}
	v, err := normalize(out, typeOfNature(*n.Nature()))
	if err != nil {
		return unknown
	}
	return RLit{v}
}

// part is the program of a subtree, compiled when it is first asked for: a
// template is planned for many devices. nil: it does not stand by itself.
func (e *Expr) part(n ast.Node) *vm.Program {
	text := n.String()
	if p, ok := e.parts.Load(text); ok {
		return p.(*vm.Program)
	}
	p, err := compileProgram(text, e.scope)
	if err != nil {
		p = nil
	}
	e.parts.Store(text, p)
	return p
}

// path recognizes name.field.field.
func (f *folder) path(n ast.Node) (RPath, bool) {
	var words []string
	for {
		switch x := n.(type) {
		case *ast.ChainNode:
			n = x.Node
			continue
		case *ast.MemberNode:
			s, ok := x.Property.(*ast.StringNode)
			if !ok {
				return RPath{}, false
			}
			words = append(words, s.Value)
			n = x.Node
			continue
		case *ast.IdentifierNode:
			words = append(words, x.Value)
			slices.Reverse(words)
			return RPath{Path: words, Type: typeOfPath(f.e.scope, words)}, true
		}
		return RPath{}, false
	}
}

// typeOfPath is the type of a path that was checked before.
func typeOfPath(scope Scope, path []string) Type {
	t := scope[path[0]]
	for _, name := range path[1:] {
		t, _ = fieldOf(t, "", name)
	}
	return t
}

func foldNot(r Residual) Residual {
	if lit, ok := r.(RLit); ok {
		if b, ok := lit.V.(bool); ok {
			return RLit{!b}
		}
		return unknown
	}
	if isUnknown(r) {
		return unknown
	}
	return ROp{"not", []Residual{r}}
}

func (f *folder) binary(x *ast.BinaryNode) Residual {
	switch x.Operator {
	case "and", "&&":
		return foldLogic("and", f.fold(x.Left), f.fold(x.Right), true)
	case "or", "||":
		return foldLogic("or", f.fold(x.Left), f.fold(x.Right), false)
	case "==", "!=", "<", "<=", ">", ">=":
		return foldCompare(x.Operator, f.fold(x.Left), f.fold(x.Right))
	case "in":
		if t := typeOfNature(*x.Right.Nature()); t.Kind != ListKind {
			return unknown
		}
		return foldIn(f.fold(x.Left), f.fold(x.Right))
	case "+":
		if t := typeOfNature(*x.Nature()); t.Kind == StringKind {
			return foldConcat([]Residual{f.fold(x.Left), f.fold(x.Right)})
		}
	}
	return unknown
}

// foldLogic folds and (neutral true) and or (neutral false).
func foldLogic(op string, a, b Residual, neutral bool) Residual {
	for _, pair := range [][2]Residual{{a, b}, {b, a}} {
		lit, ok := pair[0].(RLit)
		if !ok {
			continue
		}
		if lit.V == neutral {
			return pair[1]
		}
		if lit.V == !neutral {
			return RLit{!neutral}
		}
		return unknown
	}
	if isUnknown(a) || isUnknown(b) {
		return unknown
	}
	return ROp{op, []Residual{a, b}}
}

func foldCompare(op string, a, b Residual) Residual {
	la, oka := a.(RLit)
	lb, okb := b.(RLit)
	switch {
	case isUnknown(a) || isUnknown(b):
		return unknown
	case !oka || !okb:
		return ROp{op, []Residual{a, b}}
	}
	if op == "==" || op == "!=" {
		eq, err := equal(la.V, lb.V)
		if err != nil {
			return unknown
		}
		return RLit{eq == (op == "==")}
	}
	c, err := compare(la.V, lb.V)
	if err != nil {
		return unknown
	}
	switch op {
	case "<":
		return RLit{c < 0}
	case "<=":
		return RLit{c <= 0}
	case ">":
		return RLit{c > 0}
	default:
		return RLit{c >= 0}
	}
}

func foldIn(elem, list Residual) Residual {
	if isUnknown(elem) || isUnknown(list) {
		return unknown
	}
	if l, ok := list.(RLit); ok {
		items, ok := anyList(l.V)
		if !ok {
			return unknown
		}
		if len(items) == 0 {
			return RLit{false}
		}
		if e, ok := elem.(RLit); ok {
			return RLit{slices.ContainsFunc(items, same(e.V))}
		}
	}
	return ROp{"in", []Residual{elem, list}}
}

// foldConcat joins strings: parts that are known and side by side become one.
func foldConcat(parts []Residual) Residual {
	var out []Residual
	add := func(r Residual) {
		lit, ok := r.(RLit)
		if ok && lit.V == "" {
			return
		}
		if n := len(out); ok && n > 0 {
			if before, ok := out[n-1].(RLit); ok {
				a, _ := before.V.(string)
				b, _ := lit.V.(string)
				out[n-1] = RLit{a + b}
				return
			}
		}
		out = append(out, r)
	}
	for _, p := range parts {
		if isUnknown(p) {
			return unknown
		}
		if op, ok := p.(ROp); ok && op.Op == "concat" {
			for _, a := range op.Args {
				add(a)
			}
			continue
		}
		add(p)
	}
	switch len(out) {
	case 0:
		return RLit{""}
	case 1:
		return out[0]
	}
	return ROp{"concat", out}
}

// Fold is like Expr.Fold. A text with {{ }} becomes a concat where all that
// is later are bare {{ path }} of strings.
func (v *Value) Fold(env Env, later func(root string) bool) (Residual, error) {
	late := slices.ContainsFunc(v.refs, func(p []string) bool { return later(p[0]) })
	switch {
	case !late:
		r, err := v.Eval(env)
		return RLit{r}, err
	case v.expr != nil:
		return v.expr.Fold(env, later)
	case v.text == nil || v.text.vars:
		return unknown, nil
	case v.text.path != nil:
		if v.text.typ.Kind != v.typ.Kind && v.typ.Kind != AnyKind && v.text.typ.Kind != AnyKind {
			return unknown, nil
		}
		return RPath{Path: v.text.path, Type: v.text.typ}, nil
	case v.typ.Kind != StringKind:
		return unknown, nil
	}
	return v.text.fold(env, later)
}

func (t *text) fold(env Env, later func(root string) bool) (Residual, error) {
	parts := make([]Residual, 0, len(t.parts))
	for _, p := range t.parts {
		isLate := slices.ContainsFunc(p.refs, func(r []string) bool { return later(r[0]) })
		switch {
		case p.run == nil:
			parts = append(parts, RLit{p.literal})
		case !isLate:
			s, err := t.evalTemplate(p.run, p.refs, env)
			if err != nil {
				return nil, err
			}
			parts = append(parts, RLit{s})
		case p.path != nil && p.typ.Kind == StringKind:
			parts = append(parts, RPath{Path: p.path, Type: p.typ})
		default:
			return unknown, nil
		}
	}
	return foldConcat(parts), nil
}
