package template

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"runner/engine/lang"
	"runner/engine/secret"
)

// Generator makes a secret as a param says.
type Generator func(Generate) (secret.Value, error)

// ParamsError is everything that is wrong with the params given to a template.
type ParamsError struct {
	Template string // kind/name
	Problems []ParamProblem
}

// ParamProblem is what is wrong with one param. Message is a sentence that
// starts with its name and never holds a secret.
type ParamProblem struct {
	Param   string
	Message string
}

// Error lists the problems, one a line.
func (e *ParamsError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Message
	}
	if len(lines) == 1 {
		return "template " + e.Template + ": " + lines[0]
	}
	return "template " + e.Template + ":\n  " + strings.Join(lines, "\n  ")
}

// Resolve returns the value of every param. A value of the request (given)
// beats one of the credential (defaults), which beats the default of the
// template; an optional param without any is the zero value of its type.
// Strings are read as the type of the param, so given may come from a command
// line; it may also come from JSON. Names in given must be params of t;
// defaults may hold those of other templates too. env holds the names of
// Scope. generate makes the secrets that nobody gave; nil: that is a problem.
// The error is a *ParamsError with all problems.
func (t *Template) Resolve(defaults map[string]*lang.Value, given map[string]any, env lang.Env, generate Generator) (map[string]any, error) {
	r := &resolver{t: t, defaults: defaults, given: given, env: maps.Clone(env), generate: generate}
	if r.env == nil {
		r.env = lang.Env{}
	}
	var names []string
	for _, p := range t.Params {
		names = append(names, p.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(names, name) {
			r.unknown(name, names)
		}
	}
	out := make(map[string]any, len(t.Params))
	for i := range t.Params {
		p := &t.Params[i]
		r.env["params"] = maps.Clone(out)
		v, why := r.param(p)
		if why != "" {
			r.problems = append(r.problems, ParamProblem{p.Name, fmt.Sprintf("param %q %s", p.Name, why)})
			v = p.zero() // so that later defaults can be tried
		}
		out[p.Name] = v
	}
	if len(r.problems) > 0 {
		return nil, &ParamsError{Template: string(t.Kind) + "/" + t.Name, Problems: r.problems}
	}
	return out, nil
}

// Where the value of a param comes from.
const (
	FromRequest    = "request"
	FromCredential = "credential"
	FromTemplate   = "template"
	Generated      = "generated"
	Absent         = "absent" // optional, and nobody gave it
)

// Origin says where Resolve takes the value of a param from.
func (p *Param) Origin(defaults map[string]*lang.Value, given map[string]any) string {
	r := &resolver{defaults: defaults, given: given}
	switch {
	case r.asked(p):
		return FromRequest
	case given[p.Name] != nil && p.Generate != nil:
		return Generated
	case given[p.Name] != nil:
		return Absent
	case defaults[p.Name] != nil && p.From != fromRequest && p.From != fromGrant:
		return FromCredential
	case p.Default != nil:
		return FromTemplate
	case p.Generate != nil:
		return Generated
	}
	return Absent
}

// asked reports whether the request gives a param. An empty text is no value
// for one that may be absent.
func (r *resolver) asked(p *Param) bool {
	v, ok := r.given[p.Name]
	if !ok || v == nil {
		return false
	}
	s, isText := v.(string)
	return !isText || s != "" || !p.Optional && p.Generate == nil
}

// resolver works out the params of one request.
type resolver struct {
	t        *Template
	defaults map[string]*lang.Value
	given    map[string]any
	env      lang.Env
	generate Generator
	problems []ParamProblem
}

func (r *resolver) unknown(name string, names []string) {
	msg := fmt.Sprintf("there is no param %q", name)
	switch near := lang.Similar(name, names); {
	case near != "":
		msg += fmt.Sprintf("; did you mean %q?", near)
	case len(names) == 0:
		msg += "; the template takes none"
	default:
		msg += "; there is " + strings.Join(names, ", ")
	}
	r.problems = append(r.problems, ParamProblem{name, msg})
}

// param returns the value of one param, or what is wrong with it.
func (r *resolver) param(p *Param) (v any, why string) {
	v, found, why := r.source(p)
	if why != "" {
		return nil, why
	}
	if !found {
		switch {
		case p.Generate != nil && r.generate == nil:
			return nil, "is a secret that has to be given: none can be made here"
		case p.Generate != nil:
			s, err := r.generate(*p.Generate)
			if err != nil {
				return nil, "could not be made: " + err.Error()
			}
			return s, ""
		case p.Optional:
			return p.zero(), ""
		default:
			return nil, "is missing; give " + p.wants()
		}
	}
	if v, why = convert(v, p.Type); why != "" {
		return nil, fmt.Sprintf("%s; give %s", why, p.wants())
	}
	if why := p.check(v); why != "" {
		return nil, why
	}
	return v, ""
}

// source finds the value with the highest precedence.
func (r *resolver) source(p *Param) (v any, found bool, why string) {
	if r.asked(p) {
		return r.given[p.Name], true, ""
	}
	if v, ok := r.given[p.Name]; ok && v != nil {
		return nil, false, ""
	}
	if d := r.defaults[p.Name]; d != nil && p.From != fromRequest && p.From != fromGrant {
		if p.Type.Kind == lang.SecretKind {
			return nil, false, inClear
		}
		v, err := d.Eval(r.env)
		return v, true, reason(err)
	}
	if p.Default != nil {
		v, err := p.Default.Eval(r.env)
		return v, true, reason(err)
	}
	return nil, false, ""
}

// MaySet says which of the params in given a request may not set. What is the
// credential's an operator, who could write the credential, may set, too.
func (t *Template) MaySet(given map[string]any, operator bool) error {
	var ps []ParamProblem
	for i := range t.Params {
		p := &t.Params[i]
		if given[p.Name] == nil {
			continue
		}
		switch {
		case p.From == fromCredential && !operator:
			ps = append(ps, ParamProblem{p.Name, fmt.Sprintf("param %q is set by the credential or an operator; leave it out", p.Name)})
		case p.From == fromGrant:
			ps = append(ps, ParamProblem{p.Name, fmt.Sprintf("param %q is made from the grant; leave it out", p.Name)})
		}
	}
	if len(ps) == 0 {
		return nil
	}
	return &ParamsError{Template: string(t.Kind) + "/" + t.Name, Problems: ps}
}

// inClear is what is wrong with a secret that a credential holds.
const inClear = "is a secret and stands in the credential in clear; take it out there, and give it with the request"

// fixed says what is wrong with a value that a credential gives to p, or "".
func (p *Param) fixed(v *lang.Value) string {
	if p.Type.Kind == lang.SecretKind {
		return inClear
	}
	switch p.From {
	case fromRequest:
		return "is given with the request alone; take it out of the credential"
	case fromGrant:
		return "is made from the grant; take it out of the credential"
	}
	x, ok := constant(v)
	if !ok {
		return ""
	}
	x, why := convert(x, p.Type)
	if why != "" {
		return fmt.Sprintf("%s; give %s", why, p.wants())
	}
	return p.check(x)
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return "has a default that cannot be computed: " + err.Error()
}

// zero is the value of an optional param that nobody gave.
func (p *Param) zero() any {
	switch p.Type.Kind {
	case lang.StringKind:
		return ""
	case lang.IntKind:
		return int64(0)
	case lang.BoolKind:
		return false
	case lang.FloatKind:
		return float64(0)
	case lang.DurationKind:
		return time.Duration(0)
	case lang.TimeKind:
		return time.Time{}
	case lang.SecretKind:
		return secret.Value{}
	case lang.ListKind:
		if p.Type.Elem != nil && p.Type.Elem.Kind == lang.StringKind {
			return []string{}
		}
		return []any{}
	case lang.MapKind:
		return map[string]any{}
	case lang.AnyKind:
	}
	return nil
}

// wants says what would be right: "a string that matches …".
func (p *Param) wants() string {
	var s string
	switch {
	case len(p.Enum) > 0:
		s = lang.Words(p.Enum)
	case p.Path:
		s = "an absolute path"
	default:
		s = map[lang.Kind]string{
			lang.IntKind: "an int", lang.BoolKind: "true or false", lang.DurationKind: "a duration such as 90s or 1h",
			lang.TimeKind: "a time such as 2026-01-31T18:00:00Z",
		}[p.Type.Kind]
		if s == "" {
			s = "a " + p.Type.String()
		}
	}
	if p.Pattern != "" {
		s += " that matches " + p.Pattern
	}
	if p.Doc != "" {
		s += " (" + p.Doc + ")"
	}
	return s
}

// check says what is wrong with a value of the right type, or "".
func (p *Param) check(v any) string {
	switch x := v.(type) {
	case string:
		return p.checkText(x)
	case int64:
		return p.within(x, "is %d", x)
	case []string:
		return p.within(int64(len(x)), "has %d entries", len(x))
	case []any:
		return p.within(int64(len(x)), "has %d entries", len(x))
	}
	return ""
}

func (p *Param) checkText(s string) string {
	if len(p.Enum) > 0 && !slices.Contains(p.Enum, s) {
		why := fmt.Sprintf("is %q; it must be %s", s, lang.Words(p.Enum))
		if near := lang.Similar(s, p.Enum); near != "" {
			why += fmt.Sprintf("; did you mean %q?", near)
		}
		return why
	}
	if p.Path && (!path.IsAbs(s) || strings.ContainsAny(s, "\x00\n\r") || slices.Contains(strings.Split(s, "/"), "..")) {
		return fmt.Sprintf("is %q; it must be an absolute path without ..", s)
	}
	if p.Pattern != "" {
		if re, err := p.regexp(); err != nil || !re.MatchString(s) {
			return fmt.Sprintf("is %q, which does not match %s", s, p.Pattern)
		}
	}
	n := utf8.RuneCountInString(s)
	return p.within(int64(n), "has %d characters", n)
}

// within checks min and max.
func (p *Param) within(n int64, format string, arg any) string {
	is := fmt.Sprintf(format, arg)
	switch {
	case p.Min != nil && p.Max != nil && (n < *p.Min || n > *p.Max):
		return fmt.Sprintf("%s; from %d to %d are possible", is, *p.Min, *p.Max)
	case p.Min != nil && n < *p.Min:
		return fmt.Sprintf("%s; at least %d", is, *p.Min)
	case p.Max != nil && n > *p.Max:
		return fmt.Sprintf("%s; at most %d", is, *p.Max)
	}
	return ""
}

// convert turns a value of a command line, of YAML or of JSON into one of
// type t, or says why not.
func convert(v any, t lang.Type) (any, string) {
	if s, ok := v.(string); ok && t.Kind != lang.StringKind {
		return convertText(s, t)
	}
	switch t.Kind {
	case lang.StringKind:
		if s, ok := v.(string); ok {
			return s, ""
		}
	case lang.IntKind:
		if n, ok := whole(v); ok {
			return n, ""
		}
	case lang.FloatKind:
		if f, ok := v.(float64); ok {
			return f, ""
		}
		if n, ok := whole(v); ok {
			return float64(n), ""
		}
	case lang.BoolKind:
		if b, ok := v.(bool); ok {
			return b, ""
		}
	case lang.DurationKind:
		if d, ok := v.(time.Duration); ok {
			return d, ""
		}
	case lang.TimeKind:
		if at, ok := v.(time.Time); ok {
			return at.UTC(), ""
		}
	case lang.SecretKind:
		if s, ok := v.(secret.Value); ok {
			return s, ""
		}
		return nil, "is not a string" // and not shown
	case lang.ListKind:
		return convertList(v, t)
	case lang.MapKind:
		if m, ok := v.(map[string]any); ok {
			return m, ""
		}
	case lang.AnyKind:
		return v, ""
	}
	return nil, "is " + show(v)
}

func convertText(s string, t lang.Type) (any, string) {
	if t.Kind == lang.SecretKind {
		return secret.New(s), ""
	}
	if t.Kind == lang.AnyKind {
		return s, ""
	}
	v, err := lang.ParseAs(s, t)
	if err != nil {
		return nil, fmt.Sprintf("is %q", s)
	}
	return v, ""
}

func convertList(v any, t lang.Type) (any, string) {
	elem := lang.Any
	if t.Elem != nil {
		elem = *t.Elem
	}
	var items []any
	switch x := v.(type) {
	case []any:
		items = x
	case []string:
		for _, s := range x {
			items = append(items, s)
		}
	default:
		return nil, "is " + show(v)
	}
	texts, values := make([]string, 0, len(items)), make([]any, 0, len(items))
	for i, it := range items {
		c, why := convert(it, elem)
		if why != "" {
			return nil, fmt.Sprintf("has a wrong entry: number %d %s", i+1, why)
		}
		if s, ok := c.(string); ok {
			texts = append(texts, s)
		}
		values = append(values, c)
	}
	if elem.Kind == lang.StringKind {
		return texts, ""
	}
	return values, ""
}

// whole returns an integer of any of the types that carry one.
func whole(v any) (int64, bool) {
	switch n := v.(type) {
	case int64:
		return n, true
	case int:
		return int64(n), true
	case float64:
		if n == math.Trunc(n) && math.Abs(n) < 1<<53 {
			return int64(n), true
		}
	case json.Number:
		i, err := n.Int64()
		return i, err == nil
	}
	return 0, false
}

// show writes a value of the wrong type for a message.
func show(v any) string {
	switch x := v.(type) {
	case string:
		return strconv.Quote(x)
	case int, int64, float64, bool:
		return fmt.Sprint(x)
	case []any, []string:
		return "a list"
	case map[string]any:
		return "a map"
	case time.Duration:
		return "the duration " + lang.Span(x)
	case time.Time:
		return "a time"
	}
	return "of another type"
}
