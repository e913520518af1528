package lang

import (
	"maps"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
)

// exprBuiltins are the functions of expr that conditions may call: pure, and
// loud when they fail.
var exprBuiltins = strings.Fields(`all any none one filter map find findIndex findLast findLastIndex count sum sortBy
	len abs ceil floor round int float trim trimPrefix trimSuffix upper lower split splitAfter indexOf lastIndexOf
	hasPrefix hasSuffix max min mean median toJSON fromJSON toBase64 fromBase64 duration date take reverse uniq
	concat flatten sort`)

// exprOperators are the binary operators that conditions may use.
var exprOperators = strings.Fields(`and && or || == != < <= > >= + - * / % ** ^ in matches contains startsWith endsWith .. ??`)

// exprWalk checks names, secrets and forms of an expression and collects what
// it reads.
type exprWalk struct {
	e        *Expr
	refs     [][]string
	problems Problems
	loops    bool
}

func (w *exprWalk) problem(n ast.Node, code, format string, args ...any) *Problem {
	loc := n.Location()
	w.problems = append(w.problems, w.e.problem(byteOffset(w.e.text, loc.From), loc.To-loc.From, code, format, args...))
	return &w.problems[len(w.problems)-1]
}

// walk checks n and returns its type as far as names need it. elems are the
// types of # in the predicates around n.
func (w *exprWalk) walk(n ast.Node, elems []Type, depth int) Type {
	switch x := n.(type) {
	case *ast.IdentifierNode, *ast.MemberNode:
		return w.path(n, elems, depth)
	case *ast.ChainNode:
		return w.walk(x.Node, elems, depth)
	case *ast.PointerNode:
		if x.Name != "" && x.Name != "index" {
			w.problem(n, "unknown-name", "unknown name #%s; in a predicate are # (the element) and #index", x.Name)
		}
		if len(elems) == 0 || x.Name != "" {
			return Any
		}
		return elems[len(elems)-1]
	case *ast.UnaryNode:
		w.walk(x.Node, elems, depth)
	case *ast.BinaryNode:
		if !slices.Contains(exprOperators, x.Operator) {
			w.problem(n, "unknown-operator", "the operator %s is not used here", x.Operator)
		}
		w.walk(x.Left, elems, depth)
		w.walk(x.Right, elems, depth)
	case *ast.SliceNode:
		t := w.walk(x.Node, elems, depth)
		w.optional(x.From, elems, depth)
		w.optional(x.To, elems, depth)
		return t
	case *ast.CallNode:
		w.call(x, elems, depth)
	case *ast.BuiltinNode:
		return w.builtin(x, elems, depth)
	case *ast.PredicateNode:
		return w.walk(x.Node, elems, depth)
	case *ast.ConditionalNode:
		w.walk(x.Cond, elems, depth)
		t := w.walk(x.Exp1, elems, depth)
		w.walk(x.Exp2, elems, depth)
		return t
	case *ast.VariableDeclaratorNode:
		w.problem(n, "no-let", "variables (let) are not used here; write the expression out, or use vars")
	case *ast.SequenceNode:
		w.problem(n, "no-let", "write one expression, without ;")
	case *ast.ArrayNode:
		for _, c := range x.Nodes {
			w.walk(c, elems, depth)
		}
	case *ast.MapNode:
		for _, c := range x.Pairs {
			w.walk(c, elems, depth)
		}
	case *ast.PairNode:
		w.walk(x.Key, elems, depth)
		w.walk(x.Value, elems, depth)
	}
	return Any
}

func (w *exprWalk) optional(n ast.Node, elems []Type, depth int) {
	if n != nil {
		w.walk(n, elems, depth)
	}
}

// path checks a name with its fields and indices.
func (w *exprWalk) path(n ast.Node, elems []Type, depth int) Type {
	var chain []*ast.MemberNode
	base := n
	for {
		if c, ok := base.(*ast.ChainNode); ok {
			base = c.Node
			continue
		}
		m, ok := base.(*ast.MemberNode)
		if !ok {
			break
		}
		chain = append(chain, m)
		base = m.Node
	}
	slices.Reverse(chain)
	id, isName := base.(*ast.IdentifierNode)
	var t Type
	var words []string
	if isName {
		var ok bool
		if t, ok = w.root(id); !ok {
			return Any
		}
		words = []string{id.Value}
	} else {
		t = w.walk(base, elems, depth)
	}
	said := base.String()
	open := isName // words still says the whole path
	for _, m := range chain {
		name, isField := m.Property.(*ast.StringNode)
		if !isField {
			w.walk(m.Property, elems, depth)
			open = false
			if t.Kind == MapKind && t.Fields != nil {
				w.problem(m.Property, "computed-field", "write the field of %s by its name: %s.name", said, said)
				return Any
			}
			said += "[…]"
			t = elemOf(t)
			continue
		}
		next, ok := w.field(m.Property, t, said, name.Value)
		if !ok {
			return Any
		}
		t = next
		said += "." + name.Value
		if open {
			words = append(words, name.Value)
		}
	}
	if isName {
		w.refs = append(w.refs, words)
	}
	if what, ok := holdsSecret(t); ok {
		w.problem(n, "secret", "a secret cannot be part of an expression: %s%s", said, what)
		return Any
	}
	return t
}

// root returns the type of the first name of a path.
func (w *exprWalk) root(id *ast.IdentifierNode) (Type, bool) {
	if isStatus(id.Value, w.e.scope) {
		w.problem(id, "status-call", "%s is a function; write %s()", id.Value, id.Value)
		return Any, false
	}
	t, ok := w.e.scope[id.Value]
	if ok {
		return t, true
	}
	if isExprFunc(id.Value) {
		w.problem(id, "unknown-name", "%s is a function; write %s(…)", id.Value, id.Value)
		return Any, false
	}
	p := unknownName(id.Value, w.e.scope)
	w.problem(id, "unknown-name", "%s", p.Message).Suggest = p.Suggest
	return Any, false
}

// field returns the type of a field of a value of type t.
func (w *exprWalk) field(n ast.Node, t Type, of, name string) (Type, bool) {
	next, p := fieldOf(t, of, name)
	if p != nil {
		w.problem(n, p.Code, "%s", p.Message).Suggest = p.Suggest
		return Any, false
	}
	return next, true
}

func (w *exprWalk) call(x *ast.CallNode, elems []Type, depth int) {
	for _, a := range x.Arguments {
		w.walk(a, elems, depth)
	}
	id, ok := x.Callee.(*ast.IdentifierNode)
	switch {
	case !ok:
		hint := "; functions are written in front: upper(params.name)"
		if m, is := x.Callee.(*ast.MemberNode); is {
			if name, is := m.Property.(*ast.StringNode); is && methodHint(name.Value) != "" {
				hint = methodHint(name.Value)
			}
		}
		w.problem(x, "no-method", "values have no methods here%s", hint)
	case isStatus(id.Value, w.e.scope):
		w.refs = append(w.refs, []string{id.Value})
		if len(x.Arguments) > 0 {
			w.problem(x, "wrong-arguments", "%s() takes no arguments", id.Value)
		}
	case exprFuncs[id.Value].fn != nil:
	case w.e.scope[id.Value].Kind != AnyKind || slices.Contains(slices.Collect(maps.Keys(w.e.scope)), id.Value):
		w.problem(id, "not-callable", "%s is a value, not a function", id.Value)
	default:
		names := slices.Concat(exprBuiltins, slices.Collect(maps.Keys(exprFuncs)))
		for _, s := range statusNames {
			if isStatus(s, w.e.scope) {
				names = append(names, s)
			}
		}
		hint := foreignFuncs[id.Value]
		if slices.Contains(statusNames, id.Value) {
			hint = "; it may only be called in when"
		}
		w.problem(id, "unknown-function", "unknown function %q%s", id.Value, hint).Suggest = Nearest(id.Value, names)
	}
}

// builtin checks a call of a function of expr.
func (w *exprWalk) builtin(x *ast.BuiltinNode, elems []Type, depth int) Type {
	if !slices.Contains(exprBuiltins, x.Name) {
		w.problem(x, "unknown-function", "the function %s() is not used here%s", x.Name, foreignFuncs[x.Name])
		return Any
	}
	var coll Type
	for i, a := range x.Arguments {
		p, ok := a.(*ast.PredicateNode)
		if !ok {
			t := w.walk(a, elems, depth)
			if i == 0 {
				coll = t
			}
			continue
		}
		w.loops = true
		if depth == maxNesting {
			w.problem(x, "too-nested", "predicates may be nested %d deep at most", maxNesting)
			return Any
		}
		w.walk(p, append(slices.Clone(elems), elemOf(coll)), depth+1)
	}
	switch x.Name {
	case "filter", "sortBy", "sort", "reverse", "uniq", "take":
		return coll
	case "find", "findLast":
		return elemOf(coll)
	default:
		return Any
	}
}
