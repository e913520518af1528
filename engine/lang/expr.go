package lang

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"
)

// Limits of an expression.
const (
	maxExprText  = 8 << 10
	maxExprNodes = 500
	maxNesting   = 2       // predicates within predicates
	maxListArg   = 256     // elements of a list that a predicate may go over
	maxTicks     = 200_000 // calls of predicates in one evaluation
	maxTime      = time.Second
	maxString    = 1 << 20 // bytes of a computed string
)

// Env holds the values of the names in a scope: string, bool, int64 (or int),
// float64, time.Time, time.Duration, []any, []string, map[string]any and
// secrets. Under the reserved names success, failure, always and interrupted
// it holds func() bool.
type Env map[string]any

// statusNames are the functions about the run so far. Where a Scope has one of
// these names (with type Bool), conditions may call it: success().
var statusNames = []string{"success", "failure", "always", "interrupted"}

func isStatus(name string, scope Scope) bool {
	_, ok := scope[name]
	return ok && slices.Contains(statusNames, name)
}

// Expr is a compiled condition or computation (expr). It is immutable and may
// be used by several goroutines.
type Expr struct {
	node   *Node
	offset int // bytes of node.Text before text
	text   string
	typ    Type
	refs   [][]string
	scope  Scope
	tree   ast.Node // as written, with types
	loops  bool     // has predicates

	once    sync.Once
	program *vm.Program
	broken  error // why there is none

	parts sync.Map // text of a subtree: its *vm.Program
}

// CompileExpr checks the bare expression of a scalar against scope. want
// restricts its type (Any: no restriction). All unknown names are reported at
// once; of type errors the first.
func CompileExpr(n *Node, want Type, scope Scope) (*Expr, Problems) {
	switch n.Kind {
	case ScalarNode:
	case NullNode:
		return nil, Problems{n.Problem("no-expression", "an expression is missing here, such as %s", example(want))}
	case ListNode:
		if want.Kind == BoolKind && len(n.Items) > 0 {
			return nil, Problems{n.Problem("no-expression", "expected one expression, found a list; join its conditions with and")}
		}
		return nil, Problems{n.Problem("no-expression", "expected an expression such as %s, found %s", example(want), n.Kind)}
	case MapNode:
		return nil, Problems{n.Problem("no-expression", "expected an expression such as %s, found %s", example(want), n.Kind)}
	}
	return compileExpr(n, 0, n.Text, want, scope)
}

// example is an expression of a type, for messages.
func example(want Type) string {
	if want.Kind == BoolKind {
		return `params.sudo != ""`
	}
	return "params.name"
}

// compileExpr compiles the part text of n.Text that starts at byte offset.
func compileExpr(n *Node, offset int, text string, want Type, scope Scope) (*Expr, Problems) {
	e := &Expr{node: n, offset: offset, text: text, scope: scope}
	start := len(text) - len(strings.TrimLeft(text, " \t\n"))
	switch i := strings.Index(text, "{{"); {
	case strings.TrimSpace(text) == "":
		return nil, Problems{n.Problem("no-expression", "an expression is missing here, such as %s", example(want))}
	case len(text) > maxExprText:
		return nil, Problems{e.problem(start, 1, "too-large", "the expression is longer than 8 KiB")}
	case i >= 0:
		return nil, Problems{e.problem(i, 2, "braces-in-expression", "this is a bare expression: write the name without {{ }}")}
	}
	cfg := e.config()
	tree, err := parser.ParseWithConfig(text, cfg)
	if err != nil {
		return nil, Problems{e.wrong(err)}
	}
	w := &exprWalk{e: e}
	w.walk(tree.Node, nil, 0)
	if len(w.problems) > 0 {
		w.problems.Sort()
		return nil, w.problems
	}
	e.refs = uniquePaths(w.refs)
	e.loops = w.loops
	if _, err := checker.Check(tree, cfg); err != nil {
		return nil, Problems{e.wrong(err)}
	}
	e.tree = tree.Node
	e.typ = typeOfNature(*tree.Node.Nature())
	if !assignable(e.typ, want) {
		return nil, Problems{e.problem(start, len([]rune(strings.TrimSpace(text))), "wrong-type", "expected %s, found %s", want, e.typ)}
	}
	e.typ = narrow(e.typ, want)
	e.scope = scope.Narrow(text) // the whole one may get more names
	if len(e.refs) == 0 || strings.Contains(text, "%") {
		// Only what is computed out of constants can fail to compile now.
		if _, err := e.compiled(); err != nil {
			return nil, Problems{e.wrong(err)}
		}
	}
	return e, nil
}

// compiled returns the program, which is made when it is needed first.
func (e *Expr) compiled() (*vm.Program, error) {
	e.once.Do(func() { e.program, e.broken = compileProgram(e.text, e.scope) })
	return e.program, e.broken
}

// config returns the settings of expr for e, without patches.
func (e *Expr) config() *conf.Config {
	cfg := *exprConfig()
	cfg.WithEnv(exprEnv(e.text, e.scope))
	return &cfg
}

// compileProgram compiles text with the guards against endless work.
func compileProgram(text string, scope Scope) (*vm.Program, error) {
	return expr.Compile(text, append(exprOptions(text, scope), expr.Patch(&guard{done: map[ast.Node]bool{}}))...)
}

// Type returns the type of the result.
func (e *Expr) Type() Type { return e.typ }

// Text returns the source.
func (e *Expr) Text() string { return e.text }

// Pos returns where the expression is written.
func (e *Expr) Pos() Pos { return e.node.At(e.offset) }

// Refs returns the paths that e reads, such as {"account","uid"}, sorted; a
// called status function is a path of one name.
func (e *Expr) Refs() [][]string { return e.refs }

// Asks reports whether e calls a status function.
func (e *Expr) Asks() bool {
	return slices.ContainsFunc(e.refs, func(p []string) bool { return len(p) == 1 && isStatus(p[0], e.scope) })
}

// Eval computes e; the result has the Go type that Kind documents. It is
// bounded in time (1 s) and memory, and has no effects. The error says the
// place in the file and never holds a secret.
func (e *Expr) Eval(env Env) (any, error) {
	vars, err := bind(env, e.refs, e.loops)
	if err != nil {
		return nil, e.failed(err)
	}
	program, err := e.compiled()
	if err != nil {
		return nil, e.failed(err)
	}
	out, err := runProgram(program, vars)
	if err != nil {
		return nil, e.failed(err)
	}
	v, err := normalize(out, e.typ)
	if err != nil {
		return nil, e.failed(err)
	}
	return v, nil
}

// failed puts the place in front of an error of an evaluation.
func (e *Expr) failed(err error) error {
	p := e.wrong(err)
	return fmt.Errorf("%s: %s: %s", p.Pos, strings.TrimSpace(e.text), p.Message)
}

// runProgram runs a program with a budget of time and memory.
func runProgram(p *vm.Program, vars map[string]any) (out any, err error) {
	deadline := time.Now().Add(maxTime)
	ticks := 0
	vars[tickName] = func() bool {
		ticks++
		if ticks > maxTicks || ticks%256 == 0 && time.Now().After(deadline) {
			panic(errEndless)
		}
		return true
	}
	defer func() {
		// The machine of expr recovers its own panics, but not all of those
		// of the functions it calls.
		if r := recover(); r != nil {
			out, err = nil, fmt.Errorf("%v", r)
		}
	}()
	machine := vm.VM{MemoryBudget: 200_000}
	return machine.Run(p, vars)
}

var errEndless = valueErrorf("the expression takes too long")

// problem is a problem at a byte of the expression.
func (e *Expr) problem(offset, width int, code, format string, args ...any) Problem {
	return e.node.ProblemAt(e.offset+offset, width, code, format, args...)
}

// wrong says an error of expr as a problem.
func (e *Expr) wrong(err error) Problem {
	offset, width, msg := 0, 1, err.Error()
	if fe, ok := errors.AsType[*file.Error](err); ok {
		offset = byteOffset(e.text, fe.From)
		width = fe.To - fe.From
		msg = fe.Message
	}
	if offset >= len(e.text) {
		offset = len(strings.TrimRight(e.text, " \t\n"))
	}
	code, said := reword(msg)
	if inner, ok := errors.AsType[*valueError](err); ok {
		code, said = "wrong-value", inner.text
	}
	if code == "expr-syntax" {
		if say, from, long := foreignForm(e.text); say != "" {
			said, offset, width = say, from, long
		}
	}
	return e.problem(offset, width, code, "%s", said)
}

// byteOffset turns a count of runes into one of bytes.
func byteOffset(s string, runes int) int {
	for i := range s {
		if runes <= 0 {
			return i
		}
		runes--
	}
	return len(s)
}

// uniquePaths sorts paths and removes doubles.
func uniquePaths(paths [][]string) [][]string {
	slices.SortFunc(paths, slices.Compare[[]string])
	return slices.CompactFunc(paths, slices.Equal[[]string])
}
