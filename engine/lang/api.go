package lang

// Fold computes what can be computed with env; names for which later(root) is true are not known yet and stay in the residual.
func (e *Expr) Fold(env Env, later func(root string) bool) (Residual, error) { panic("being written") }

// Value is a compiled YAML value: a scalar with {{ }}, a list, a map, or a computed value (tag !expr).
type Value struct{}

// CompileValue checks a node against the wanted type and scope.
// A scalar that is exactly one {{ path }} keeps the type of the path.
func CompileValue(n *Node, want Type, scope Scope) (*Value, Problems) { panic("being written") }

// Constant returns a value that is always v.
func Constant(v any) *Value { panic("being written") }

// Type returns the type of the result.
func (v *Value) Type() Type { panic("being written") }

// Text returns the source of a scalar.
func (v *Value) Text() string { panic("being written") }

// Pos returns where the value is written.
func (v *Value) Pos() Pos { panic("being written") }

// Refs returns the paths that v reads.
func (v *Value) Refs() [][]string { panic("being written") }

// Eval computes v, of the Go type that Kind documents.
func (v *Value) Eval(env Env) (any, error) { panic("being written") }

// Fold is like Expr.Fold.
func (v *Value) Fold(env Env, later func(root string) bool) (Residual, error) { panic("being written") }

// CompileScript replaces every {{ }} of a scalar by ${_r1}, ${_r2}, ... and returns the values they are bound to.
// It parses the result as POSIX shell and reports syntax errors, and actions inside single quotes or comments.
func CompileScript(n *Node, scope Scope) (string, []*Value, Problems) { panic("being written") }

// ParseAs reads text (from a command line) as a value of type t.
func ParseAs(text string, t Type) (any, error) { panic("being written") }

// Residual is what is left of an expression when some names are not known yet: RLit, RPath or ROp.
type Residual interface{ isResidual() }

// RLit is a known value: string, bool, int64, float64, time.Time, secret.Value, []any, []string, map[string]any or nil.
type RLit struct{ V any }

// RPath is a name that is not known yet, with its type.
type RPath struct {
	Path []string
	Type Type
}

// ROp is an operation: "and" "or" "not" "==" "!=" "<" "<=" ">" ">=" "in" (Args[1] is the list), "concat" (strings),
// or "?" for anything else that a device cannot decide (Args is empty then).
type ROp struct {
	Op   string
	Args []Residual
}

func (RLit) isResidual()  {}
func (RPath) isResidual() {}
func (ROp) isResidual()   {}
