package template

import (
	"maps"

	"runner/engine/lang"
	"runner/engine/module"
)

// Scope returns the names that every template of a kind may read, besides its
// params, vars and registered steps. Values for them come from the engine,
// complete and of these types.
func Scope(kind Kind) lang.Scope {
	s := lang.Scope{
		"grant": lang.MapOf(map[string]lang.Type{
			"id":           lang.String,
			"account":      lang.String,
			"requester":    lang.String,
			"credential":   lang.String,
			"reason":       lang.String,
			"uid":          lang.Int,
			"sid":          lang.String,
			"expires_at":   lang.Time,
			"backstop_at":  lang.Time,
			"requested_at": lang.Time,
		}),
		"device": lang.MapOf(map[string]lang.Type{
			"id":           lang.String,
			"name":         lang.String,
			"address":      lang.String,
			"platform":     lang.String,
			"skew_seconds": lang.Int,
		}),
	}
	if kind == Delete {
		s["created"] = createdType(nil)
	}
	return s
}

// createdType is the type of created: of any creation, or of what t hands on. All
// of it may be missing: outputs when the creation did not come to its end, steps
// also when theirs did not, vars when it never began. Secrets are not in it.
func createdType(t *Template) lang.Type {
	c := map[string]lang.Type{"known": lang.Bool, "started_at": lang.Time}
	for _, what := range handed {
		c[what] = lang.Type{Kind: lang.MapKind}
		if t != nil {
			c[what] = lang.MapOf(t.HandsOn(what))
		}
	}
	return lang.MapOf(c)
}

// fields returns the type of the result of a step that has these outputs.
func fields(outputs []module.Field) map[string]lang.Type {
	m := make(map[string]lang.Type, len(module.Common)+len(outputs))
	for _, f := range module.Common {
		m[f.Name] = f.Type
	}
	for _, f := range outputs {
		m[f.Name] = f.Type
	}
	return m
}

// statusFuncs are the functions about the run so far that a when may call.
var statusFuncs = lang.Scope{"success": lang.Bool, "failure": lang.Bool, "always": lang.Bool, "interrupted": lang.Bool}

// own returns what until, changed_when and failed_when of a step see besides
// what all see: its result, also as bare names.
func (s *Step) own() lang.Scope {
	own := lang.Scope(fields(s.Outputs))
	if s.Register != "" {
		own[s.Register] = lang.MapOf(fields(s.Outputs))
	}
	return own
}

// condition compiles a condition that sees more than a scope has. A scope grows
// with the steps, so it is only copied when a message needs all of its names.
func (l *loader) condition(n *lang.Node, scope, more lang.Scope, guarded guard) *lang.Expr {
	narrow := scope.Narrow(n.Text)
	maps.Copy(narrow, more.Narrow(n.Text))
	e, ps := lang.CompileExpr(n, lang.Bool, narrow)
	if len(ps) > 0 {
		all := maps.Clone(scope)
		maps.Copy(all, more)
		e, ps = lang.CompileExpr(n, lang.Bool, all)
	}
	return l.compiled(n, e, ps, guarded)
}

// reserved returns the names that no step may register, with the reason.
func reserved(name string) string {
	switch name {
	case "params", "vars", "grant", "device", "created":
		return "it is what every template can read"
	case "success", "failure", "always", "interrupted":
		return "it is a status function"
	case "true", "false", "nil", "not", "and", "or", "in", "let", "if", "else", "matches", "contains", "range", "with", "end", "define", "block", "template", "break", "continue":
		return "it is a word of the language"
	}
	for _, f := range module.Common {
		if f.Name == name {
			return "it is a field of every result"
		}
	}
	return ""
}
