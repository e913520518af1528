package lang

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template/parse"
)

// textWalk checks the parse tree of a string with {{ }} against a scope. It
// rewrites names into variables of the data and lets each action write
// through outName.
type textWalk struct {
	t        *text
	scope    Scope
	dot      *Type           // inside range and with
	vars     map[string]Type // $names
	refs     [][]string
	problems Problems
	depth    int
}

func (w *textWalk) problem(pos parse.Pos, width int, code, format string, args ...any) *Problem {
	w.problems = append(w.problems, w.t.problem(int(pos), width, code, format, args...))
	return &w.problems[len(w.problems)-1]
}

// topLevel checks the text and notes what its parts are.
func (w *textWalk) topLevel(root *parse.ListNode) {
	if root == nil {
		return
	}
	var all [][]string
	for _, n := range root.Nodes {
		var part textPart
		switch x := n.(type) {
		case *parse.CommentNode:
			continue
		case *parse.TextNode:
			w.t.parts = append(w.t.parts, textPart{literal: string(x.Text)})
			continue
		case *parse.ActionNode:
			part.path, part.typ = w.barePath(x)
			if part.path != nil && len(root.Nodes) == 1 {
				w.t.path, w.t.typ = part.path, part.typ
			}
		}
		wrong := len(w.problems)
		w.refs = nil
		w.node(n)
		all = append(all, w.refs...)
		part.refs = uniquePaths(slices.Clone(w.refs))
		if len(w.problems) == wrong {
			part.run = newTemplate(func() *parse.Tree {
				sub := w.t.tree.Copy()
				sub.Root = &parse.ListNode{NodeType: parse.NodeList, Nodes: []parse.Node{n}}
				return sub
			})
		}
		w.t.parts = append(w.t.parts, part)
	}
	w.refs = all
}

// barePath returns the path of an action that is nothing but a path.
func (w *textWalk) barePath(a *parse.ActionNode) ([]string, Type) {
	if len(a.Pipe.Decl) > 0 || len(a.Pipe.Cmds) != 1 || len(a.Pipe.Cmds[0].Args) != 1 {
		return nil, Any
	}
	root, fields := rootOf(a.Pipe.Cmds[0].Args[0])
	if root == nil {
		return nil, Any
	}
	t, ok := w.scope[root.Ident]
	if !ok || isStatus(root.Ident, w.scope) {
		return nil, Any
	}
	said := root.Ident
	for _, f := range fields {
		next, p := fieldOf(t, said, f)
		if p != nil {
			return nil, Any
		}
		t, said = next, said+"."+f
	}
	return append([]string{root.Ident}, fields...), t
}

// rootOf returns the name and fields of a path that starts with a name.
func rootOf(n parse.Node) (*parse.IdentifierNode, []string) {
	switch x := n.(type) {
	case *parse.IdentifierNode:
		return x, nil
	case *parse.ChainNode:
		if id, ok := x.Node.(*parse.IdentifierNode); ok {
			return id, x.Field
		}
	}
	return nil, nil
}

func (w *textWalk) list(l *parse.ListNode) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		w.node(n)
	}
}

// maxActionDepth is how deep if, range and with may be nested.
const maxActionDepth = 8

func (w *textWalk) node(n parse.Node) {
	switch x := n.(type) {
	case *parse.ActionNode:
		w.action(x)
	case *parse.IfNode:
		w.branch(&x.BranchNode, false)
	case *parse.WithNode:
		w.branch(&x.BranchNode, false)
	case *parse.RangeNode:
		w.branch(&x.BranchNode, true)
	case *parse.TemplateNode:
		w.problem(x.Position(), 1, "no-define", "template is not used here")
	}
}

// action checks {{ pipeline }} and makes it write through outName.
func (w *textWalk) action(x *parse.ActionNode) {
	exact := w.t.path != nil
	t := w.pipe(x.Pipe, exact)
	if len(x.Pipe.Decl) > 0 {
		return
	}
	pos := x.Pipe.Position()
	switch {
	case exact: // keeps its type; CompileValue checks it
	case t.Kind == ListKind:
		w.problem(pos, w.pipeWidth(x.Pipe), "list-in-string", `a list cannot be part of a string; join it: {{ %s | join "," }}`, firstPath(x.Pipe))
	case t.Kind == MapKind:
		w.problem(pos, w.pipeWidth(x.Pipe), "map-in-string", "a map cannot be part of a string; write one of its fields, or toJson")
	}
	x.Pipe.Cmds = append(x.Pipe.Cmds, &parse.CommandNode{
		NodeType: parse.NodeCommand, Pos: pos,
		Args: []parse.Node{parse.NewIdentifier(outName).SetPos(pos)},
	})
}

// firstPath is the source of the first operand, for a message.
func firstPath(p *parse.PipeNode) string {
	return strings.ReplaceAll(p.Cmds[0].String(), "$.", "")
}

// pipeWidth is the length of the source of a pipeline.
func (w *textWalk) pipeWidth(p *parse.PipeNode) int {
	src := w.t.source[p.Position():]
	if i := strings.Index(src, "}}"); i >= 0 {
		src = src[:i]
	}
	return len([]rune(strings.TrimRight(src, " -")))
}

func (w *textWalk) branch(b *parse.BranchNode, isRange bool) {
	w.depth++
	defer func() { w.depth-- }()
	if w.depth > maxActionDepth {
		w.problem(b.Position(), 1, "too-nested", "if, range and with are nested more than %d deep", maxActionDepth)
		return
	}
	outer := maps.Clone(w.vars)
	dot := w.dot
	t := w.pipe(b.Pipe, false)
	if isRange {
		elem := w.rangeElem(b, t)
		for i, d := range b.Pipe.Decl {
			if i == 0 && len(b.Pipe.Decl) == 2 {
				w.vars[d.Ident[0]] = keyOf(t)
			} else {
				w.vars[d.Ident[0]] = elem
			}
		}
		w.dot = &elem
		// The empty text makes each turn write, so that it is counted.
		b.List.Nodes = append([]parse.Node{&parse.TextNode{NodeType: parse.NodeText, Pos: b.Pos}}, b.List.Nodes...)
	} else if b.NodeType == parse.NodeWith {
		w.dot = &t
	}
	w.list(b.List)
	w.dot = dot
	w.list(b.ElseList)
	w.vars = outer
}

func keyOf(t Type) Type {
	if t.Kind == MapKind {
		return String
	}
	if t.Kind == ListKind {
		return Int
	}
	return Any
}

// rangeElem is the type of the elements that a range goes over.
func (w *textWalk) rangeElem(b *parse.BranchNode, t Type) Type {
	if t.Kind != ListKind && t.Kind != MapKind && t.Kind != AnyKind {
		w.problem(b.Pipe.Position(), w.pipeWidth(b.Pipe), "wrong-type", "range goes over a list or map, found %s", t)
	}
	return elemOf(t)
}

// pipe checks a pipeline and returns its type. exact allows secrets: the
// pipeline is the whole scalar.
func (w *textWalk) pipe(p *parse.PipeNode, exact bool) Type {
	var t Type
	var final *Type
	for i, c := range p.Cmds {
		if i+1 < len(p.Cmds) && isDefault(p.Cmds[i+1], 2) && len(c.Args) == 1 {
			w.mayMiss(c.Args[0])
		}
		if isDefault(c, 3) {
			w.mayMiss(c.Args[2])
		}
		t = w.command(c, final, exact)
		final = &t
	}
	if !p.IsAssign {
		for _, d := range p.Decl {
			w.vars[d.Ident[0]] = t
			w.t.vars = true
		}
	} else {
		for _, d := range p.Decl {
			w.vars[d.Ident[0]] = Any
		}
	}
	return t
}

// isDefault reports whether c calls default with so many words.
func isDefault(c *parse.CommandNode, words int) bool {
	id, ok := c.Args[0].(*parse.IdentifierNode)
	return ok && id.Ident == "default" && len(c.Args) == words
}

// mayMiss notes that default stands in for a path.
func (w *textWalk) mayMiss(n parse.Node) {
	if root, fields := rootOf(n); root != nil && len(fields) > 0 {
		w.t.optional = append(w.t.optional, append([]string{root.Ident}, fields...))
	}
}

// command checks one call or value; final is the type of the value that is
// piped into it.
func (w *textWalk) command(c *parse.CommandNode, final *Type, exact bool) Type {
	if id, ok := c.Args[0].(*parse.IdentifierNode); ok {
		if _, isName := w.scope[id.Ident]; !isName || isStatus(id.Ident, w.scope) {
			return w.function(id, c, final)
		}
	}
	t := w.operand(&c.Args[0], exact)
	if len(c.Args) > 1 || final != nil {
		w.problem(c.Args[0].Position(), 1, "not-callable", "%s is a value, not a function", strings.ReplaceAll(c.Args[0].String(), "$.", ""))
	}
	return t
}

// operand checks a value and rewrites names into variables.
func (w *textWalk) operand(n *parse.Node, exact bool) Type {
	switch x := (*n).(type) {
	case *parse.IdentifierNode:
		if _, ok := w.scope[x.Ident]; !ok || isStatus(x.Ident, w.scope) {
			return w.function(x, &parse.CommandNode{Args: []parse.Node{x}}, nil)
		}
		return w.path(n, x, nil, exact)
	case *parse.ChainNode:
		if id, ok := x.Node.(*parse.IdentifierNode); ok {
			return w.path(n, id, x.Field, exact)
		}
		t := w.operand(&x.Node, false)
		return w.fields(t, "the value", x.Field, int(x.Position()))
	case *parse.PipeNode:
		return w.pipe(x, false)
	case *parse.FieldNode:
		return w.dotField(x)
	case *parse.DotNode:
		if w.dot == nil {
			w.problem(x.Position(), 1, "no-dot", `"." has no meaning here; write a name, such as params.name`)
			return Any
		}
		return *w.dot
	case *parse.VariableNode:
		return w.variable(x)
	case *parse.StringNode:
		return String
	case *parse.NumberNode:
		if strings.HasPrefix(x.Text, "'") {
			w.problem(x.Position(), len([]rune(x.Text)), "template-syntax", "strings inside {{ }} stand in double quotes or backquotes")
		}
		if x.IsInt {
			return Int
		}
		return Float
	case *parse.BoolNode:
		return Bool
	case *parse.NilNode:
		w.problem(x.Position(), 3, "no-nil", "nil is not used here")
	}
	return Any
}

// path checks name.field.field and turns it into a variable of the data.
func (w *textWalk) path(n *parse.Node, id *parse.IdentifierNode, fields []string, exact bool) Type {
	start := w.start(id)
	t, ok := w.scope[id.Ident]
	switch {
	case isStatus(id.Ident, w.scope):
		w.problem(start, len(id.Ident), "unknown-function", "%s() is for conditions; it cannot be part of a string", id.Ident)
		return Any
	case !ok:
		p := unknownName(id.Ident, w.scope)
		w.problem(start, len(id.Ident), p.Code, "%s", p.Message).Suggest = p.Suggest
		return Any
	}
	before := len(w.problems)
	t = w.fields(t, id.Ident, fields, int(start)+len(id.Ident))
	words := append([]string{id.Ident}, fields...)
	w.refs = append(w.refs, words)
	if what, bad := holdsSecret(t); bad && !exact && len(w.problems) == before {
		said := strings.Join(words, ".")
		w.problem(start, len(said), "secret", "a secret cannot be part of a longer string: %s%s", said, what)
		return Any
	}
	*n = &parse.VariableNode{NodeType: parse.NodeVariable, Pos: start, Ident: append([]string{"$"}, words...)}
	return t
}

// start is where an identifier stands; text/template notes its end for some.
func (w *textWalk) start(id *parse.IdentifierNode) parse.Pos {
	p := int(id.Position())
	for _, at := range []int{p, p - len(id.Ident)} {
		if at >= 0 && at <= len(w.t.source) && strings.HasPrefix(w.t.source[at:], id.Ident) {
			return parse.Pos(at)
		}
	}
	return id.Position()
}

// fields follows fields from a value of type t; at is the byte of the first dot.
func (w *textWalk) fields(t Type, said string, fields []string, at int) Type {
	for _, f := range fields {
		next, p := fieldOf(t, said, f)
		if p != nil {
			pos := at + 1
			if i := strings.Index(w.t.source[min(at, len(w.t.source)):], "."+f); i >= 0 {
				pos = at + i + 1
			}
			w.problem(parse.Pos(pos), len(f), p.Code, "%s", p.Message).Suggest = p.Suggest
			return Any
		}
		t, said, at = next, said+"."+f, at+1+len(f)
	}
	return t
}

func (w *textWalk) dotField(x *parse.FieldNode) Type {
	at := int(x.Position())
	if w.dot != nil {
		t := w.fields(*w.dot, "the element", x.Ident, at)
		return t
	}
	path := strings.Join(x.Ident, ".")
	p := w.problem(x.Position(), len(path)+1, "leading-dot", "write the name without the leading dot: %s", path)
	if _, ok := w.scope[x.Ident[0]]; !ok {
		u := unknownName(x.Ident[0], w.scope)
		p.Message, p.Suggest = u.Message, u.Suggest
	}
	return Any
}

func (w *textWalk) variable(x *parse.VariableNode) Type {
	t, ok := w.vars[x.Ident[0]]
	if !ok {
		w.problem(x.Position(), 1, "no-dot", `%s has no meaning here; write a name, such as params.name`, x.Ident[0])
		return Any
	}
	return w.fields(t, x.Ident[0], x.Ident[1:], int(x.Position())+len(x.Ident[0]))
}

// function checks a call against the allow-list.
func (w *textWalk) function(id *parse.IdentifierNode, c *parse.CommandNode, final *Type) Type {
	pos := w.start(id)
	args := make([]Type, 0, len(c.Args))
	for i := range c.Args[1:] {
		args = append(args, w.operand(&c.Args[i+1], false))
	}
	if final != nil {
		args = append(args, *final)
	}
	if id.Ident == "and" || id.Ident == "or" {
		if len(args) == 0 {
			w.problem(pos, len(id.Ident), "wrong-arguments", "%s takes at least one value", id.Ident)
		}
		return Any
	}
	all, _ := goTemplates()
	f, ok := all[id.Ident]
	if !ok {
		w.unknown(pos, id.Ident, len(args) == 0, all)
		return Any
	}
	if bad := f.checkCount(id.Ident, len(args)); bad != "" {
		w.problem(pos, len(id.Ident), "wrong-arguments", "%s", bad)
		return f.out
	}
	for i, t := range args {
		if letter := f.arg(i); !fits(letter, t) {
			at := pos
			if i+1 < len(c.Args) {
				at = c.Args[i+1].Position()
			}
			w.problem(at, 1, "wrong-type", "%s takes %s here, found %s", id.Ident, argWords[letter], t)
		}
	}
	return f.out
}

// unknown says that a word is neither a name nor a function.
func (w *textWalk) unknown(pos parse.Pos, name string, bare bool, all map[string]textFunc) {
	if isStatus(name, w.scope) {
		w.problem(pos, len(name), "unknown-function", "%s() is for conditions; it cannot be part of a string", name)
		return
	}
	if why, ok := refused[name]; ok {
		w.problem(pos, len(name), "unknown-function", "the function %s is not used here: %s", name, why)
		return
	}
	funcs := append(slices.Sorted(maps.Keys(all)), "and", "or")
	if bare {
		p := unknownName(name, w.scope)
		if p.Suggest == "" {
			p.Suggest = Nearest(name, funcs)
		}
		if p.Suggest != "" {
			p.Message = fmt.Sprintf("unknown name %q", name)
		}
		w.problem(pos, len(name), p.Code, "%s", p.Message).Suggest = p.Suggest
		return
	}
	w.problem(pos, len(name), "unknown-function", "unknown function %q", name).Suggest = Nearest(name, funcs)
}
