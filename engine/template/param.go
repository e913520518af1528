package template

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"

	"runner/engine/lang"
	"runner/engine/secret"
)

// paramTypes are the words an author may write as a type.
var paramTypes = []string{"string", "int", "bool", "float", "duration", "time", "path", "list", "map", "secret", "enum"}

// Who alone may set a param.
const (
	fromCredential = "credential"
	fromRequest    = "request"
	fromGrant      = "grant" // nobody: it is its default
)

var simpleTypes = map[string]lang.Type{
	"string": lang.String, "int": lang.Int, "bool": lang.Bool, "float": lang.Float, "duration": lang.Duration,
	"time": lang.Time, "path": lang.String, "map": {Kind: lang.MapKind}, "secret": lang.Secret, "enum": lang.String,
}

var classes = []string{"lower", "upper", "digit", "symbol"}

// params reads the values that the template takes; the default of each sees
// those before it.
func (l *loader) params(n *lang.Node, scope lang.Scope) lang.Scope {
	known := map[string]lang.Type{}
	if n == nil {
		return scope.With("params", lang.MapOf(known))
	}
	f := l.Map(n, "params")
	if n.Kind != lang.MapNode {
		return scope.With("params", lang.Any) // they are a problem of their own
	}
	for _, e := range f.Rest() {
		l.paramNames = append(l.paramNames, e.Key.Text)
	}
	for _, e := range f.Rest() {
		if !l.ident(e.Key, "a param") {
			continue
		}
		p := l.param(e, scope.With("params", lang.MapOf(known)))
		l.t.Params = append(l.t.Params, p)
		known = lang.Scope(known).With(p.Name, p.Type)
	}
	return scope.With("params", lang.MapOf(known))
}

// param reads one param.
func (l *loader) param(e lang.Entry, scope lang.Scope) Param {
	p := Param{Name: e.Key.Text, Pos: e.Key.Pos}
	if e.Value.Kind == lang.ScalarNode && slices.Contains(paramTypes, e.Value.Text) {
		l.Add(e.Value, "wrong-type", "param %q must be a map; write %s: {type: %s}", p.Name, p.Name, e.Value.Text)
		p.Type = simpleTypes[e.Value.Text]
		return p
	}
	f := l.Map(e.Value, "param "+lang.Quoted([]string{p.Name})).By(&paramTable, "")
	before := len(l.Problems)
	word := l.paramType(f, &p)
	p.Doc = f.String("description", "")
	p.Optional = f.Bool("optional")
	l.limits(f, &p, word)
	l.generate(f, &p)
	p.From = f.Enum("from")
	if d := f.Take("default"); d != nil && e.Value.Kind == lang.MapNode {
		l.paramDefault(f, d, &p, scope, len(l.Problems) == before)
	}
	if p.From == fromGrant && f.Node.Get("default") == nil && p.Generate == nil {
		l.Add(f.Key("from"), "missing-key", "nobody sets %s (from: grant), so it needs a default, for example: default: '{{ grant.account }}'", f.What)
	}
	f.End()
	return p
}

// otherTypes are words of other systems for types.
var otherTypes = map[string]string{
	"str": "string", "text": "string", "integer": "int", "number": "int", "boolean": "bool", "array": "list", "dict": "map", "object": "map",
	"password": "secret", "choice": "enum", "datetime": "time", "date": "time", "double": "float", "file": "path",
}

// paramType reads type and of, and returns the word that was written.
func (l *loader) paramType(f *lang.Fields, p *Param) string {
	n := f.Need("type", "string")
	of := f.Take("of")
	before := len(l.Problems)
	if n == nil || !l.OneOf(n, "type", paramTypes) {
		for i := range l.Problems[before:] {
			if meant := otherTypes[strings.ToLower(n.Text)]; meant != "" {
				l.Problems[before+i].Suggest = meant
			}
		}
		return ""
	}
	if n.Text == "list" {
		elem := lang.String
		if word := f.Enum("of"); word != "" {
			elem = simpleTypes[word]
		}
		p.Type = lang.ListOf(elem)
		return n.Text
	}
	if of != nil {
		l.Add(f.Key("of"), "no-effect", "of says what a list holds; %s is of type %s", f.What, n.Text)
	}
	p.Type = simpleTypes[n.Text]
	p.Path = n.Text == "path"
	return n.Text
}

// limits reads enum, pattern, min and max and checks that they fit the type.
func (l *loader) limits(f *lang.Fields, p *Param, word string) {
	enum, pattern := f.Take("enum"), f.Take("pattern")
	if enum != nil {
		p.Enum = f.Strings("enum")
		if word != "" && word != "string" && word != "enum" {
			l.Add(f.Key("enum"), "no-effect", "enum is for type string or enum; %s is of type %s", f.What, word)
		}
	} else if word == "enum" {
		l.Add(f.Key("type"), "missing-key", "%s is of type enum and has no enum; write for example: enum: [one, two]", f.What)
	}
	if pattern != nil {
		p.Pattern = f.String("pattern", "")
		if word != "" && word != "string" && word != "path" {
			l.Add(f.Key("pattern"), "no-effect", "pattern is for type string or path; %s is of type %s", f.What, word)
		}
		if _, err := syntax.Parse(p.Pattern, syntax.Perl); err != nil {
			l.Add(pattern, "bad-pattern", "pattern is not a regular expression of the kind RE2: %s", regexpReason(err))
			p.Pattern = ""
		}
		p.regexp = sync.OnceValues(func() (*regexp.Regexp, error) { // most commands hold no value against it
			return regexp.Compile(`\A(?:` + p.Pattern + `)\z`)
		})
	}
	p.Min, p.Max = l.limit(f, "min", word), l.limit(f, "max", word)
	if p.Min != nil && p.Max != nil && *p.Min > *p.Max {
		l.Add(f.Key("min"), "out-of-range", "min is %d, which is more than max, which is %d", *p.Min, *p.Max)
	}
}

// limit reads min or max.
func (l *loader) limit(f *lang.Fields, key, word string) *int64 {
	if f.Take(key) == nil {
		return nil
	}
	switch word {
	case "int", "string", "path", "list", "":
	default:
		l.Add(f.Key(key), "no-effect", "%s is for type int, and for the length of a string or list; %s is of type %s", key, f.What, word)
	}
	lo := int64(0)
	if word == "int" {
		lo = math.MinInt64
	}
	v := f.IntFrom(key, lo)
	return &v
}

// generate reads how a secret is made.
func (l *loader) generate(f *lang.Fields, p *Param) {
	n := f.Take("generate")
	if n == nil {
		return
	}
	switch {
	case p.Type.Kind != lang.SecretKind:
		l.Add(f.Key("generate"), "no-effect", "generate is for type secret; %s is of type %s", f.What, p.Type)
	case l.t.Kind == Delete:
		l.Add(f.Key("generate"), "no-effect", "a delete template makes no secrets: nobody is there to receive them")
	}
	g := l.Map(n, "generate of "+f.What).By(&generateTable, "")
	p.Generate = &Generate{
		Length:  int(g.Int("length")),
		Classes: g.Enums("classes"),
		Exclude: g.String("exclude", ""),
	}
	if n.Get("exclude") != nil {
		spec := secret.Spec{Length: max(p.Generate.Length, secret.MinLength), Classes: p.Generate.Classes, Exclude: p.Generate.Exclude}
		if _, err := secret.Generate(spec); err != nil {
			l.Add(g.Key("exclude"), "wrong-value", "%s", strings.TrimPrefix(err.Error(), "secret: "))
		}
	}
	g.End()
	if p.Optional {
		l.Add(f.Key("optional"), "no-effect", "%s is made when it is not given, so optional has no effect; leave out one of the two", f.What)
	}
}

// paramDefault reads a default and tries it when it is constant.
func (l *loader) paramDefault(f *lang.Fields, n *lang.Node, p *Param, scope lang.Scope, sound bool) {
	if p.Type.Kind == lang.SecretKind {
		l.Problems = append(l.Problems, lang.Hidden(f.Key("default"), "literal-secret", "a secret has no default: whoever reads the template would know it; write generate: {length: 24}, or leave it to the request"))
		return
	}
	if p.Optional {
		l.Add(f.Key("optional"), "no-effect", "%s has a default, so optional has no effect; leave out one of the two", f.What)
	}
	if !sound {
		return
	}
	before := len(l.Problems)
	p.Default = l.value(n, p.Type, scope, outsideSteps)
	if p.Default == nil {
		l.tooEarly(p.Name, l.Problems[before:])
		return
	}
	v, ok := constant(p.Default)
	if !ok {
		return
	}
	if why := p.check(v); why != "" {
		l.Add(n, "wrong-value", "the default of %s %s", f.What, why)
	}
}

var noParam = regexp.MustCompile(`^params has no field "([^"]*)"`)

// tooEarly explains problems of a default that reads a param which comes later.
func (l *loader) tooEarly(name string, ps lang.Problems) {
	for i, p := range ps {
		m := noParam.FindStringSubmatch(p.Message)
		if m == nil || !slices.Contains(l.paramNames, m[1]) {
			continue
		}
		ps[i].Suggest = ""
		ps[i].Message = fmt.Sprintf("params.%s is not known yet: a default sees only the params before it; move %q above %q", m[1], m[1], name)
		if m[1] == name {
			ps[i].Message = fmt.Sprintf("the default of %q reads itself", name)
		}
	}
}

// constant evaluates a value that reads nothing.
func constant(v *lang.Value) (any, bool) {
	if len(v.Refs()) > 0 {
		return nil, false
	}
	x, err := v.Eval(lang.Env{})
	return x, err == nil
}

// regexpReason says in a few words what is wrong with a pattern.
func regexpReason(err error) string {
	if se, ok := errors.AsType[*syntax.Error](err); ok {
		return fmt.Sprintf("%s in %q", se.Code, se.Expr)
	}
	return err.Error()
}
