package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/lang"
	"runner/engine/secret"
	"runner/engine/template"
)

// maxKept bounds one value of a step's result that is kept with a grant.
const maxKept = 64 << 10

// createdEnv is what a removal sees of the creation. forward is the template of
// the creation, which knows the types; nil: values have those of JSON. The names
// in reads are there in any case, so that what is read of them has a value or
// none, and is no error.
func createdEnv(g *grant.Grant, forward *template.Template, reads []template.StepRead) map[string]any {
	out := map[string]any{}
	ended := len(g.Outputs) > 0 && json.Unmarshal(g.Outputs, &out) == nil
	delete(out, elevationKey)
	pinned, err := readPins(g.Plan)
	if err != nil || len(g.Plan.Params) == 0 {
		pinned = pins{} // of an ad hoc run
	}
	steps := map[string]any{}
	for _, r := range reads {
		if r.Step != "" {
			steps[r.Step] = map[string]any{}
		}
	}
	types := map[string]map[string]lang.Type{}
	for _, what := range []string{"outputs", "params", "vars", "steps"} {
		if forward != nil {
			types[what] = forward.HandsOn(what)
		}
	}
	for name, fields := range pinned.Steps {
		steps[name] = typedMap(types["steps"][name].Fields, fields)
	}
	return map[string]any{
		"known":   ended && g.Failure == "",
		"outputs": typedMap(types["outputs"], out), "params": typedMap(types["params"], pinned.Forward),
		"vars": typedMap(types["vars"], pinned.Vars), "steps": steps,
		"started_at": g.Requested.UTC(),
	}
}

// typedMap gives the values of a map back the types that a JSON round trip took.
func typedMap(types map[string]lang.Type, m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		t, ok := types[k]
		if !ok {
			t = lang.Any
		}
		out[k] = typedJSON(t, v)
	}
	return out
}

// whole makes whole numbers of what JSON has read as floats.
func whole(v any) any {
	switch v := v.(type) {
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v)
		}
	case []any:
		for i, e := range v {
			v[i] = whole(e)
		}
	case map[string]any:
		for k, e := range v {
			v[k] = whole(e)
		}
	}
	return v
}

// created is what a part of the removal sees of the creation of the grant. The template
// of the creation is read when it reads any of that; what cannot be read any more
// leaves the values their types of JSON.
func (w *work) created(ctx context.Context, l rung) (map[string]any, error) {
	var forward *template.Template
	if l.tpl.ReadsCreated() {
		var err error
		if forward, err = w.e.pinned(ctx, l.grant.Plan.Forward); err != nil && ctx.Err() != nil {
			return nil, err
		}
	}
	return createdEnv(l.grant, forward, l.tpl.StepsRead()), nil
}

// handedOn is what a creation leaves for its removal.
type handedOn struct {
	outputs []byte // nil: it never began
	params  []byte // those that were pinned, with results of its steps
}

// handOn computes what a creation leaves for its removal, after a failure as much
// as there is. The error says which outputs cannot be computed.
func (w *work) handOn(tpl *template.Template, res *executor.Result) (handedOn, error) {
	if res == nil {
		return handedOn{}, nil
	}
	outputs, failed := outputsOf(tpl, res)
	said := handedOn{outputs: outputs}
	var err error
	if said.params, err = w.keepSteps(tpl, res.Env); err != nil {
		failed = errors.Join(failed, err)
	}
	return said, failed
}

// outputsOf computes the outputs of a template, as much as there is. The error says
// which cannot be.
func outputsOf(tpl *template.Template, res *executor.Result) ([]byte, error) {
	var failed error
	out := map[string]any{}
	for _, o := range tpl.Outputs {
		v, err := o.Value.Eval(res.Env)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("outputs.%s: %w", o.Name, err))
			continue
		}
		out[o.Name] = v
	}
	b, err := json.Marshal(out)
	if err != nil {
		return []byte("{}"), errors.Join(failed, fmt.Errorf("outputs: %w", err))
	}
	return b, failed
}

// keepSteps adds to the pinned parameters of a grant what its removal reads of
// the steps of the creation. What is too long, or holds a secret, is not kept:
// the removal then falls back on what it has for an unknown creation.
func (w *work) keepSteps(tpl *template.Template, env lang.Env) ([]byte, error) {
	pinned, err := readPins(w.c.Grant.Plan)
	if err != nil || len(pinned.Reads) == 0 {
		return w.c.Grant.Plan.Params, err
	}
	pinned.Steps = map[string]map[string]any{}
	for name, typ := range tpl.HandsOn("steps") {
		result, _ := env[name].(map[string]any)
		if result == nil {
			continue // the run did not come to it
		}
		for field := range typ.Fields {
			if !slices.ContainsFunc(pinned.Reads, func(r template.StepRead) bool {
				return r.Step == "" || r.Step == name && (r.Field == "" || r.Field == field)
			}) {
				continue
			}
			if why := w.unkept(result[field]); why != "" {
				w.log.Note(0, fmt.Sprintf("%s.%s is not kept for the removal: %s", name, field, why))
				continue
			}
			if pinned.Steps[name] == nil {
				pinned.Steps[name] = map[string]any{}
			}
			pinned.Steps[name][field] = result[field]
		}
	}
	return json.Marshal(pinned)
}

// unkept says why a value is not kept with the grant, or "".
func (w *work) unkept(v any) string {
	b, err := json.Marshal(v)
	switch {
	case err != nil:
		return "it cannot be written as JSON"
	case len(b) > maxKept:
		return "it is longer than 64 KiB"
	case holdsSecret(v) || w.mask.String(string(b)) != string(b):
		return "a secret is in it"
	}
	return ""
}

// holdsSecret reports whether a secret is in v.
func holdsSecret(v any) bool {
	switch v := v.(type) {
	case secret.Value:
		return true
	case []any:
		return slices.ContainsFunc(v, holdsSecret)
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(v)), holdsSecret)
	}
	return false
}
