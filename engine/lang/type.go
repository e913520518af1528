// Package lang is the small language inside the YAML of runner: documents with
// positions, strings with {{ }} (text/template with an allow-list of sprig),
// bare conditions (expr), their types, and the problems found in them. It is
// the only importer of those libraries. It refuses to know templates,
// inventories or devices, and it never runs anything but its two pure,
// bounded languages.
package lang

import (
	"maps"
	"slices"
	"strings"
)

// Kind is the basic shape of a value.
type Kind int

// Kinds of values and the Go types that carry them.
const (
	AnyKind      Kind = iota // any of the below
	StringKind               // string
	IntKind                  // int64
	BoolKind                 // bool
	FloatKind                // float64
	DurationKind             // time.Duration, written 90s or 1h
	TimeKind                 // time.Time in UTC, written RFC 3339
	SecretKind               // secret.Value; may not be part of a condition or a longer string
	ListKind                 // []any, or []string where Elem is a string
	MapKind                  // map[string]any with the fields of Fields, or any when Fields is nil
)

// Type is the type of a value. The zero Type is any.
type Type struct {
	Kind   Kind
	Elem   *Type           // lists; maps without known fields: the type of all values, or nil for any
	Fields map[string]Type // maps with known fields
}

// Types without parameters.
var (
	Any      = Type{Kind: AnyKind}
	String   = Type{Kind: StringKind}
	Int      = Type{Kind: IntKind}
	Bool     = Type{Kind: BoolKind}
	Float    = Type{Kind: FloatKind}
	Duration = Type{Kind: DurationKind}
	Time     = Type{Kind: TimeKind}
	Secret   = Type{Kind: SecretKind}
)

// ListOf returns the type of lists of elem.
func ListOf(elem Type) Type { return Type{Kind: ListKind, Elem: &elem} }

// MapOf returns the type of maps that have exactly these fields.
func MapOf(fields map[string]Type) Type { return Type{Kind: MapKind, Fields: fields} }

// String returns the word an author knows: "list of string", "map", "int".
func (t Type) String() string {
	name := [...]string{"any", "string", "int", "bool", "float", "duration", "time", "secret", "list", "map"}[t.Kind]
	switch {
	case t.Kind == MapKind && t.Fields != nil:
		return "map with " + strings.Join(slices.Sorted(maps.Keys(t.Fields)), ", ")
	case (t.Kind == MapKind || t.Kind == ListKind) && t.Elem != nil:
		return name + " of " + t.Elem.String()
	default:
		return name
	}
}

// Scope is the set of names that are valid at a place, with their types.
type Scope map[string]Type

// With returns a copy of s with one more name.
func (s Scope) With(name string, t Type) Scope {
	c := make(Scope, len(s)+1)
	maps.Copy(c, s)
	c[name] = t
	return c
}
