package executor

import (
	"maps"
	"slices"

	"runner/engine/template"
)

// with computes the variables of a step, beside those around it, and takes them
// away again when the returned func is called. One that cannot be computed is not
// there: whoever reads it fails, or has something to fall back on. What it needs
// of results that are not known makes all variables of the step unknown to a plan.
func (x *run) with(st *template.Step) (leave func()) {
	if len(st.Vars) == 0 {
		return func() {}
	}
	scope, unknown := x.scope, ""
	around, there := scope["vars"]
	vars := map[string]any{}
	if m, is := around.(map[string]any); is {
		maps.Copy(vars, m)
	}
	for _, v := range st.Vars {
		if slices.ContainsFunc(v.Value.Refs(), func(ref []string) bool { return x.view.later(ref[0]) }) {
			unknown = x.view.scope + "vars"
			break
		}
		scope["vars"] = vars
		if val, err := v.Value.Eval(x.env(nil)); err == nil {
			vars = maps.Clone(vars)
			vars[v.Name] = val
		}
	}
	scope["vars"] = vars
	was := unknown != "" && x.view.unknown[unknown]
	if unknown != "" {
		x.view.unknown[unknown] = true
	}
	return func() {
		if delete(scope, "vars"); there {
			scope["vars"] = around
		}
		if unknown != "" {
			x.view.unknown[unknown] = was
		}
	}
}

// awaits reports whether a variable of a step needs a result that is pending.
func awaits(vars []template.Var, pending func(root string) bool) bool {
	return slices.ContainsFunc(vars, func(v template.Var) bool {
		return slices.ContainsFunc(v.Value.Refs(), func(ref []string) bool { return pending(ref[0]) })
	})
}

// missing explains an error about a variable of a step that could not be computed.
func (x *run) missing(st *template.Step, msg string) string {
	vars, _ := x.scope["vars"].(map[string]any)
	for _, v := range st.Vars {
		if _, there := vars[v.Name]; there {
			continue
		}
		if _, err := v.Value.Eval(x.env(nil)); err != nil {
			return "vars." + v.Name + ": " + err.Error()
		}
	}
	return msg
}
