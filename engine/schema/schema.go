// Package schema makes JSON Schema (draft-07) out of the tables by which
// documents are decoded, so that an editor knows the same keys as the loader.
// It is pure, and its output is the same for the same tables. It refuses to
// read documents: what a schema cannot say (names that exist, types of
// expressions) the loader says.
package schema

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"runner/engine/lang"
)

// Node is a schema. Only what is set is written.
type Node struct {
	Schema      string   `json:"$schema,omitempty"`
	Title       string   `json:"title,omitempty"`
	Description string   `json:"description,omitempty"`
	Ref         string   `json:"$ref,omitempty"`
	Type        string   `json:"type,omitempty"`
	Const       any      `json:"const,omitempty"`
	Enum        []string `json:"enum,omitempty"`
	Pattern     string   `json:"pattern,omitempty"`
	Minimum     *int64   `json:"minimum,omitempty"`
	Maximum     *int64   `json:"maximum,omitempty"`
	Default     any      `json:"default,omitempty"`
	Required    []string `json:"required,omitempty"`
	Properties  Members  `json:"properties,omitempty"`
	Names       *Node    `json:"propertyNames,omitempty"`
	Additional  any      `json:"additionalProperties,omitempty"` // false or *Node
	MinItems    int      `json:"minItems,omitempty"`
	Items       *Node    `json:"items,omitempty"`
	AnyOf       []*Node  `json:"anyOf,omitempty"`
	AllOf       []*Node  `json:"allOf,omitempty"`
	If          *Node    `json:"if,omitempty"`
	Then        *Node    `json:"then,omitempty"`
	Else        *Node    `json:"else,omitempty"`
	Definitions Members  `json:"definitions,omitempty"`
}

// Members are named schemas in a fixed order.
type Members []Member

// Member is a named schema.
type Member struct {
	Name string
	Node *Node
}

// MarshalJSON writes an object that keeps the order.
func (m Members) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, e := range m {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(e.Name)
		if err != nil {
			return nil, err
		}
		node, err := json.Marshal(e.Node)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name, err)
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(node)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Case says which definition describes the documents of a kind.
type Case struct{ Kind, Definition string }

// Document returns the schema of a file whose documents start with schema and
// kind; the definitions follow.
func Document(title string, cases []Case, definitions Members) *Node {
	n := &Node{
		Schema: "http://json-schema.org/draft-07/schema#", Title: title, Type: "object", Required: []string{"schema", "kind"},
		Definitions: definitions,
	}
	kinds := make([]string, len(cases))
	for i, c := range cases {
		kinds[i] = c.Kind
		n.AllOf = append(n.AllOf, &Node{
			If:   &Node{Required: []string{"kind"}, Properties: Members{{"kind", &Node{Const: c.Kind}}}},
			Then: To(c.Definition),
		})
	}
	n.Properties = Members{{"schema", &Node{Const: "runner/v1"}}, {"kind", &Node{Enum: kinds}}}
	return n
}

// Text writes a schema for a file.
func Text(n *Node) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(n); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return b.Bytes(), nil
}

// To refers to a definition.
func To(definition string) *Node { return &Node{Ref: "#/definitions/" + definition} }

// Described adds a description. What stands beside $ref does not count in
// draft-07, so a reference is wrapped.
func Described(n *Node, doc string) *Node {
	if n.Ref != "" {
		return &Node{Description: doc, AllOf: []*Node{n}}
	}
	n.Description = doc
	return n
}

// Map returns the schema of the maps that a variant of a table describes.
func Map(t *lang.Table, variant string) *Node {
	n := &Node{Description: t.Doc, Type: "object", Additional: false}
	for _, k := range t.For(variant) {
		if k.Need {
			n.Required = append(n.Required, k.Name)
		}
		v := Described(Of(k.Is), k.Doc)
		v.Default = constant(k)
		n.Properties = append(n.Properties, Member{k.Name, v})
	}
	return n
}

// constant is the default of a key as JSON, or nil.
func constant(k lang.Key) any {
	switch k.Is.Kind {
	case lang.FlagShape:
		if b, err := strconv.ParseBool(k.Default); err == nil {
			return b
		}
	case lang.WholeShape:
		if n, err := strconv.ParseInt(k.Default, 10, 64); err == nil {
			return n
		}
	case lang.TextShape, lang.SpanShape:
		if k.Default != "" {
			return k.Default
		}
	case lang.AnyShape, lang.ExprShape, lang.ValueShape, lang.ScriptShape, lang.ListShape, lang.MapShape, lang.NamesShape, lang.EitherShape:
	}
	return nil
}

// name is how authors name params, vars, outputs and facts.
const name = "^[a-z][a-z0-9_]*$"

// Of returns the schema of what may stand at a key.
func Of(s lang.Shape) *Node {
	switch s.Kind {
	case lang.TextShape:
		if len(s.Words) == 1 && (s.Words[0] == "true" || s.Words[0] == "false") {
			return &Node{Type: "boolean"} // the word as YAML reads it
		}
		if s.Pattern != "" {
			return &Node{Type: "string", Pattern: s.Pattern}
		}
		return &Node{Type: "string", Enum: s.Words}
	case lang.FlagShape:
		return &Node{Type: "boolean"}
	case lang.WholeShape:
		return &Node{Type: "integer", Minimum: limit(s.Min, math.MinInt64), Maximum: limit(s.Max, math.MaxInt64)}
	case lang.SpanShape:
		return span(s)
	case lang.ExprShape:
		if s.Type.Kind == lang.BoolKind {
			return either("string", "boolean")
		}
		return either("string", "boolean", "number")
	case lang.ValueShape:
		return Value(s.Type, nil)
	case lang.ScriptShape:
		return &Node{Type: "string"}
	case lang.ListShape:
		n := &Node{Type: "array", Items: Of(*s.Of)}
		if s.Filled {
			n.MinItems = 1
		}
		return n
	case lang.MapShape:
		return To(s.Table)
	case lang.NamesShape:
		return &Node{Type: "object", Names: &Node{Pattern: cmp.Or(s.Pattern, name)}, Additional: Of(*s.Of)}
	case lang.EitherShape:
		n := &Node{}
		for _, o := range s.Any {
			n.AnyOf = append(n.AnyOf, Of(o))
		}
		return n
	case lang.AnyShape:
	}
	return &Node{}
}

// span is a duration; 0 needs no unit.
func span(s lang.Shape) *Node {
	n := &Node{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`}
	if s.Min > 0 {
		return n
	}
	return &Node{AnyOf: []*Node{n, {Const: 0}}}
}

func limit(v, none int64) *int64 {
	if v == none {
		return nil
	}
	return &v
}

func either(types ...string) *Node {
	n := &Node{}
	for _, t := range types {
		n.AnyOf = append(n.AnyOf, &Node{Type: t})
	}
	return n
}

// computed is a text with {{ }} or, as an editor sees it, an !expr. It is never
// a word alone, which catches most texts that stand in the wrong place.
const computed = `\{\{|[^A-Za-z_]`

// Value returns the schema of a value of a type, which may be computed. words
// are the ones that a text may be, if not all.
func Value(t lang.Type, words []string) *Node {
	var n *Node
	switch t.Kind {
	case lang.StringKind:
		if len(words) == 0 {
			return &Node{Type: "string"}
		}
		n = &Node{Type: "string", Enum: words}
	case lang.IntKind:
		n = &Node{Type: "integer"}
	case lang.BoolKind:
		n = &Node{Type: "boolean"}
	case lang.FloatKind:
		n = &Node{Type: "number"}
	case lang.DurationKind, lang.TimeKind:
		return &Node{Type: "string", Pattern: computed}
	case lang.SecretKind:
		return &Node{Type: "string", Pattern: `\{\{|^[a-z_]+(\.[a-z_0-9]+)+$`}
	case lang.ListKind:
		n = &Node{Type: "array"}
		if t.Elem != nil {
			n.Items = Value(*t.Elem, words)
		}
	case lang.MapKind:
		n = &Node{Type: "object"}
	case lang.AnyKind:
		return &Node{}
	}
	return &Node{AnyOf: []*Node{n, {Type: "string", Pattern: computed}}}
}
