package executor

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/secret"
	"runner/engine/template"
	"runner/engine/transport"
)

// item is a step or a call as it goes into a batch.
type item struct {
	n       int
	index   int            // in the list it comes from
	st      *template.Step // nil for a call
	call    *Call
	module  *module.Module
	name    string
	account string // that it runs as; empty: the login account
	step    transport.Step
	args    module.Args // known ones
	late    bool        // some argument is known to the device only
	objects []module.Object
	first   int  // index of its first change in the run's changes
	post    bool // a condition on its result has to be decided here
	heard   bool // its objects were completed once
}

// errLater says that a step cannot be planned, which is told when those before
// it have run.
var errLater = errors.New("later")

// plan turns a step into an item that can join the batch made of pend. It
// returns no item and true when the step was decided here (skipped, or failed
// where that ends nothing), and false when it has to wait for the results of pend.
func (x *run) plan(st *template.Step, pend []*item) (*item, bool, error) {
	x.pending, x.gaveUp = len(pend) > 0 && !x.replanning, false
	it, ok, err := x.planStep(st, pend)
	x.pending = false
	switch {
	case errors.Is(err, errLater):
		return nil, false, nil
	case err == nil && x.gaveUp:
		return nil, true, nil
	}
	return it, ok, err
}

func (x *run) planStep(st *template.Step, pend []*item) (*item, bool, error) {
	defer x.in(st)()
	it := &item{n: x.num[st], st: st, module: st.Module, name: st.Name, account: x.accountOf(st)}
	if x.stepOf(it.n) < x.FromStep {
		x.skip(st, fmt.Sprintf("before step %d", x.FromStep))
		return nil, true, nil
	}
	if len(pend) > 0 && pend[0].account != it.account {
		return nil, false, nil // another account is another shell
	}
	waiting := map[string]bool{}
	for _, p := range pend {
		if p.st != nil && p.st.Register != "" && x.frames[p.st] == x.frames[st] {
			waiting[p.st.Register] = true
		}
	}
	x.view.begin(waiting)
	if awaits(st.Vars, func(root string) bool { return waiting[root] }) {
		return nil, false, nil
	}
	later := func(root string) bool { return waiting[root] || x.view.later(root) }
	it.step = transport.Step{
		N: it.n, Name: st.Name, Mode: x.Mode, Timeout: st.Timeout, Retries: st.Retries,
		Delay: st.Delay, Backoff: st.Backoff, MaxDelay: st.MaxDelay,
		Body:     transport.Body{Name: st.Module.Name, Text: st.Module.Body()},
		Continue: st.OnError == "continue" || x.Mode == transport.Check,
	}
	if it.step.Timeout == 0 {
		it.step.Timeout = x.Timeout
	}
	if ok, decided, err := x.planWhen(it, later); err != nil || !ok || decided {
		return nil, ok, err
	}
	ok, err := x.planArgs(it, later)
	if err != nil || !ok {
		return nil, ok, err
	}
	it.step.Body.Lib = st.Module.Lib(it.args)
	x.planOwn(it, later)
	if it.post && len(pend) > 0 {
		return nil, false, nil
	}
	if x.Diff && !st.Module.ReadOnly {
		it.step.Args = append(it.step.Args, transport.Arg{Name: diffArg, Value: transport.Lit{V: "1"}})
	}
	if st.Probe != nil {
		if ok, err := x.planProbe(it, later); err != nil || !ok {
			return nil, false, err
		}
	}
	if st.Undo != nil && x.Mode == transport.Apply {
		if ok, err := x.planUndo(it, later); err != nil || !ok {
			return nil, false, err
		}
	}
	if st.Module.Objects != nil && (x.Mode == transport.Apply || x.Diff) {
		if it.late && x.Record != nil && len(pend) > 0 {
			return nil, false, nil
		}
		it.objects = as(st.Become, st.Module.Objects(it.args))
	}
	return it, true, nil
}

// accountOf is the account that a step runs as.
func (x *run) accountOf(st *template.Step) string {
	if st.Become != nil {
		return *st.Become
	}
	return x.Become
}

// as has objects undone by the account that made them. nil: the template's.
func as(account *string, objects []module.Object) []module.Object {
	for i := range objects {
		if u := objects[i].Undo; u != nil && account != nil {
			again := *u
			again.Become = account
			objects[i].Undo = &again
		}
	}
	return objects
}

// planWhen decides the condition or hands it to the device. decided is true
// when the step was skipped.
func (x *run) planWhen(it *item, later func(string) bool) (ok, decided bool, err error) {
	st := it.st
	if st.When == nil || onFailure(st) { // the latter was decided by alone
		return true, false, nil
	}
	res, err := st.When.Fold(x.scope, later)
	if err != nil {
		return false, false, x.broken(st, "when: "+err.Error())
	}
	if lit, is := res.(lang.RLit); is {
		if lit.V == true {
			return true, false, nil
		}
		x.skip(st, "when: "+st.When.Text()+" was false")
		return true, true, nil
	}
	it.step.When, ok = x.pred(res, nil)
	if x.view.waits(st.When.Refs()) {
		ok, it.step.When = true, nil // decided here, when those before it have answered
	}
	return ok, false, nil
}

// planArgs evaluates what is known and binds the rest on the device.
func (x *run) planArgs(it *item, later func(string) bool) (bool, error) {
	st := it.st
	it.args = module.Args{}
	for _, f := range st.Module.Args {
		v := st.Args[f.Name]
		if script, is := st.Scripts[f.Name]; is {
			it.args[f.Name] = script.Text
			it.step.Args = append(it.step.Args, transport.Arg{Name: f.Name, Value: transport.Lit{V: script.Text}})
			for i, b := range script.Binds {
				val, ok, err := x.value(b, later)
				if err != nil {
					return false, x.broken(st, err.Error())
				}
				if !ok {
					return false, nil
				}
				it.step.Args = append(it.step.Args, transport.Arg{Name: "_r" + strconv.Itoa(i+1), Value: val})
			}
			continue
		}
		if f.Pairs {
			if ok, err := x.planPairs(it, f.Name, later); err != nil || !ok {
				return false, err
			}
			continue
		}
		if v == nil {
			if f.Default != nil {
				it.args[f.Name] = f.Default
			}
			it.step.Args = append(it.step.Args, transport.Arg{Name: f.Name, Value: transport.Lit{V: plain(f.Default)}})
			continue
		}
		val, ok, err := x.value(v, later)
		if err != nil {
			return false, x.broken(st, f.Name+": "+err.Error())
		}
		if !ok {
			return false, nil
		}
		if lit, is := val.(transport.Lit); is {
			it.args[f.Name] = lit.V
		} else {
			it.late = true
		}
		it.step.Args = append(it.step.Args, transport.Arg{Name: f.Name, Value: val})
	}
	if st.Module.Check != nil {
		if err := st.Module.Check(it.args); err != nil {
			return false, x.broken(st, err.Error())
		}
	}
	return true, nil
}

// planPairs binds the variables of an environment: their names, which are fixed,
// and each value by itself.
func (x *run) planPairs(it *item, arg string, later func(string) bool) (bool, error) {
	var names []string
	for i, e := range it.st.Env {
		val, ok, err := x.value(e.Value, later)
		if err != nil {
			return false, x.broken(it.st, arg+"."+e.Name+": "+err.Error())
		}
		if !ok {
			return false, nil
		}
		names = append(names, e.Name)
		it.step.Args = append(it.step.Args, transport.Arg{Name: "_e" + strconv.Itoa(i+1), Value: val})
	}
	it.step.Args = append(it.step.Args, transport.Arg{Name: arg, Value: transport.Lit{V: strings.Join(names, " ")}})
	return true, nil
}

// planOwn places the conditions on the step's own result: on the device where
// it can decide them, else here after the batch.
func (x *run) planOwn(it *item, later func(string) bool) {
	own := map[string]bool{}
	for _, f := range slices.Concat(module.Common, outputsOf(it.st)) {
		own[f.Name] = true
	}
	if it.st.Register != "" {
		own[it.st.Register] = true
	}
	put := func(e *lang.Expr) transport.Pred {
		if e == nil {
			return nil
		}
		res, err := e.Fold(x.scope, func(root string) bool { return own[root] || later(root) })
		if err != nil {
			it.post = true
			return nil
		}
		p, ok := x.pred(res, it)
		if !ok {
			it.post = true
			return nil
		}
		return p
	}
	it.step.Until, it.step.ChangedWhen, it.step.FailedWhen = put(it.st.Until), put(it.st.ChangedWhen), put(it.st.FailedWhen)
	if it.post { // all of them are decided here then, so that they see one result
		it.step.Until, it.step.ChangedWhen, it.step.FailedWhen, it.step.Retries = nil, nil, nil, 0
		it.step.Continue = true
	}
}

// evalArgs computes all arguments of a step that runs on the controller.
func (x *run) evalArgs(st *template.Step, env lang.Env) (module.Args, error) {
	args := module.Args{}
	for _, f := range st.Module.Args {
		if f.Default != nil {
			args[f.Name] = f.Default
		}
	}
	for name, v := range st.Args {
		val, err := v.Eval(env)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		args[name] = val
	}
	return args, nil
}

// value folds v into what a transport can bind.
func (x *run) value(v *lang.Value, later func(string) bool) (transport.Value, bool, error) {
	res, err := v.Fold(x.scope, later)
	if err != nil {
		return nil, false, err
	}
	val, ok := x.bind(res, nil)
	if !ok && x.view.waits(v.Refs()) {
		return unheard(v.Text()), true, nil
	}
	return val, ok, nil
}

// bind turns a residual into a value of the transport.
func (x *run) bind(res lang.Residual, own *item) (transport.Value, bool) {
	switch r := res.(type) {
	case lang.RLit:
		return transport.Lit{V: plain(r.V)}, true
	case lang.RPath:
		return x.ref(r, own)
	case lang.ROp:
		if r.Op != "concat" {
			return nil, false
		}
		var c transport.Concat
		for _, a := range r.Args {
			v, ok := x.bind(a, own)
			if !ok {
				return nil, false
			}
			c = append(c, v)
		}
		return c, true
	}
	return nil, false
}

// ref names an output of a step of the batch. Output streams and messages stay
// on this side, so they cannot be referred to.
func (x *run) ref(p lang.RPath, own *item) (transport.Value, bool) {
	var (
		n       int
		outputs []module.Field
		key     string
	)
	switch {
	case own != nil && len(p.Path) == 1:
		n, outputs, key = own.n, outputsOf(own.st), p.Path[0]
	case len(p.Path) == 2 && x.names[p.Path[0]] != nil:
		n, outputs, key = x.names[p.Path[0]].n, x.names[p.Path[0]].outputs, p.Path[1]
	default:
		return nil, false
	}
	switch key {
	case "changed", "failed", "skipped", "ran":
		return transport.Ref{Step: n, Key: key, Default: "false"}, true
	case "rc", "attempts":
		return transport.Ref{Step: n, Key: key, Default: "0"}, true
	}
	for _, f := range outputs {
		if f.Name != key {
			continue
		}
		switch f.Type.Kind {
		case lang.BoolKind:
			return transport.Ref{Step: n, Key: key, Default: "false"}, true
		case lang.IntKind:
			return transport.Ref{Step: n, Key: key, Default: "0"}, true
		case lang.StringKind, lang.ListKind:
			return transport.Ref{Step: n, Key: key}, true
		case lang.AnyKind, lang.FloatKind, lang.DurationKind, lang.TimeKind, lang.SecretKind, lang.MapKind:
			return nil, false
		}
	}
	return nil, false
}

// pred turns a residual into a condition that the device can decide.
func (x *run) pred(res lang.Residual, own *item) (transport.Pred, bool) {
	switch r := res.(type) {
	case lang.RLit:
		b, ok := r.V.(bool)
		return transport.Const(b), ok
	case lang.RPath:
		v, ok := x.ref(r, own)
		return transport.True{V: v}, ok && r.Type.Kind == lang.BoolKind
	case lang.ROp:
		return x.predOp(r, own)
	}
	return nil, false
}

func (x *run) predOp(r lang.ROp, own *item) (transport.Pred, bool) {
	switch r.Op {
	case "and", "or", "not":
		var ps []transport.Pred
		for _, a := range r.Args {
			p, ok := x.pred(a, own)
			if !ok {
				return nil, false
			}
			ps = append(ps, p)
		}
		switch {
		case r.Op == "and":
			return transport.And(ps), true
		case r.Op == "or":
			return transport.Or(ps), true
		case len(ps) == 1:
			return transport.Not{P: ps[0]}, true
		}
		return nil, false
	case "==", "!=", "<", "<=", ">", ">=":
		return x.compare(r, own)
	case "in":
		return x.member(r, own)
	}
	return nil, false
}

func (x *run) compare(r lang.ROp, own *item) (transport.Pred, bool) {
	if len(r.Args) != 2 {
		return nil, false
	}
	a, ok1 := x.bind(r.Args[0], own)
	b, ok2 := x.bind(r.Args[1], own)
	if !ok1 || !ok2 || !comparable2(r.Args[0], r.Args[1]) {
		return nil, false
	}
	switch r.Op {
	case "==":
		return transport.Eq{A: a, B: b}, true
	case "!=":
		return transport.Not{P: transport.Eq{A: a, B: b}}, true
	}
	if !isInt(r.Args[0]) || !isInt(r.Args[1]) {
		return nil, false
	}
	switch r.Op {
	case "<":
		return transport.Less{A: a, B: b}, true
	case "<=":
		return transport.Less{A: a, B: b, OrEqual: true}, true
	case ">":
		return transport.Less{A: b, B: a}, true
	default:
		return transport.Less{A: b, B: a, OrEqual: true}, true
	}
}

func (x *run) member(r lang.ROp, own *item) (transport.Pred, bool) {
	if len(r.Args) != 2 {
		return nil, false
	}
	a, ok := x.bind(r.Args[0], own)
	lit, is := r.Args[1].(lang.RLit)
	if !ok || !is {
		return nil, false
	}
	var set []transport.Value
	switch l := lit.V.(type) {
	case []string:
		for _, s := range l {
			set = append(set, transport.Lit{V: s})
		}
	case []any:
		for _, e := range l {
			switch e.(type) {
			case string, int64, int, bool:
				set = append(set, transport.Lit{V: plain(e)})
			default:
				return nil, false
			}
		}
	default:
		return nil, false
	}
	return transport.In{A: a, Set: set}, true
}

// comparable2 reports whether the texts of two sides are equal exactly when
// the sides are: strings, integers and booleans, never floats, times or lists.
func comparable2(a, b lang.Residual) bool { return scalar(a) && scalar(b) }

func scalar(r lang.Residual) bool {
	switch r := r.(type) {
	case lang.RLit:
		switch r.V.(type) {
		case string, int64, int, bool:
			return true
		}
		return false
	case lang.RPath:
		k := r.Type.Kind
		return k == lang.StringKind || k == lang.IntKind || k == lang.BoolKind
	case lang.ROp:
		return r.Op == "concat"
	}
	return false
}

func isInt(r lang.Residual) bool {
	switch r := r.(type) {
	case lang.RLit:
		switch r.V.(type) {
		case int64, int:
			return true
		}
	case lang.RPath:
		return r.Type.Kind == lang.IntKind
	}
	return false
}

// plain turns a value into one of the types that transport.Lit may hold.
func plain(v any) any {
	switch v := v.(type) {
	case nil:
		return ""
	case string, bool, int64, []string, secret.Value:
		return v
	case int:
		return int64(v)
	case time.Time:
		if v.IsZero() {
			return ""
		}
		return v.UTC().Format(time.RFC3339)
	case time.Duration:
		return strconv.FormatFloat(v.Seconds(), 'f', -1, 64)
	case []any:
		l := make([]string, len(v))
		for i, e := range v {
			l[i] = transport.Text(plain(e))
		}
		return l
	default:
		return fmt.Sprint(v)
	}
}

// outputsOf returns what a step puts out besides the common fields.
func outputsOf(st *template.Step) []module.Field {
	if st == nil || st.Module == nil {
		return nil
	}
	if st.Loop != nil || len(st.Outputs) > 0 {
		return st.Results()
	}
	return st.Module.Outputs
}
