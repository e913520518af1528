package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"runner/engine/executor"
	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/secret"
	"runner/engine/template"
)

// Explained is what a run of a template would do.
type Explained struct {
	Params []ExplainedValue
	Vars   []ExplainedValue
	Plan   *executor.Plan
	// Programs are what each batch of Plan is on the device, secrets masked.
	Programs []string
	Facts    map[string]any // what the device says of itself, if it was asked
}

// ExplainedValue is a param or var with who set it.
type ExplainedValue struct {
	Name, Type, Value string // a secret is ***
	From              string // request, credential, template, generated, absent
	Doc               string
}

// Explain says what RunTemplate would do, and changes nothing. With facts it
// connects and asks the device how things are now.
func (e *Engine) Explain(ctx context.Context, a AdHoc, facts bool) (*Explained, error) {
	g := adHocGrant(a, e.Now())
	env := lang.Env{"grant": grantEnv(&g, 0), "device": deviceEnv(a.Connection, 0), "created": createdEnv(&g, nil, a.Template.StepsRead())}
	params, err := a.Template.Resolve(a.Defaults, a.Params, env, unmade)
	if err != nil {
		return nil, badInput(err)
	}
	env["params"] = params
	if err := evalVars(a.Template, env); err != nil {
		return nil, badInput(err)
	}
	run := executor.Run{
		Steps: a.Template.Steps, Become: a.Template.Become, Timeout: a.Template.Timeout, KeepGoing: a.Template.OnDisconnect == "continue",
		Env: env, Modules: e.Modules, ID: "explain", Mode: a.Mode, NoFuse: a.NoFuse, FromStep: a.FromStep, Only: a.Only, Except: a.Except,
	}
	if facts {
		conn, err := e.Dialer.Dial(ctx, a.Connection)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		run.Conn, run.ID = conn, e.newID("x")
		if m := e.Modules.Lookup("facts"); m != nil && m.Platform == a.Connection.Platform {
			run.Before = []executor.Call{{Name: "facts", Module: m, Args: module.Args{}}}
		}
	}
	x := &Explained{Params: explainParams(a.Template, a.Defaults, a.Params, params), Vars: explainVars(a.Template, env)}
	if x.Plan, err = executor.Explain(ctx, run); err != nil {
		return nil, err
	}
	x.Facts = x.Plan.Calls["facts"]
	for _, b := range x.Plan.Batches {
		text, err := e.Dialer.Program(a.Connection, b.Batch)
		if err != nil {
			return nil, fmt.Errorf("engine: explain: %w", err)
		}
		x.Programs = append(x.Programs, text)
	}
	return x, nil
}

// madeLater is a secret that is made when it is needed.
const madeLater = "***"

// unmade stands in for generate where nothing is made.
func unmade(template.Generate) (secret.Value, error) { return secret.New(madeLater), nil }

func explainParams(t *template.Template, defaults map[string]*lang.Value, given, resolved map[string]any) []ExplainedValue {
	var out []ExplainedValue
	for i := range t.Params {
		p := &t.Params[i]
		out = append(out, ExplainedValue{Name: p.Name, Type: p.Type.String(), Value: showValue(resolved[p.Name]), From: p.Origin(defaults, given), Doc: p.Doc})
	}
	return out
}

func explainVars(t *template.Template, env lang.Env) []ExplainedValue {
	var out []ExplainedValue
	vars, _ := env["vars"].(map[string]any)
	for _, v := range t.Vars {
		out = append(out, ExplainedValue{Name: v.Name, Type: v.Value.Type().String(), Value: showValue(vars[v.Name]), From: template.FromTemplate})
	}
	return out
}

// showValue writes a value as an author would; a secret prints as ***.
func showValue(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case time.Time:
		if v.IsZero() {
			return ""
		}
		return v.UTC().Format(time.RFC3339)
	case time.Duration:
		return lang.Span(v)
	case []string:
		return "[" + strings.Join(v, ", ") + "]"
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = showValue(e)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		var parts []string
		for name, e := range v {
			parts = append(parts, name+": "+showValue(e))
		}
		slices.Sort(parts)
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprint(v)
}
