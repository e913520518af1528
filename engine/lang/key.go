package lang

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Table describes one kind of map in a document: the keys it may have. Decoding
// takes words, limits and defaults from it, and JSON Schema and reference are
// made from it, so none of them can say something else.
type Table struct {
	Name string // step, param, inventory, ...: what Shape.Table refers to
	Doc  string // one line
	Keys []Key
}

// Key describes one key of a map.
type Key struct {
	Name string
	Is   Shape  // what may stand there
	Doc  string // one line, without full stop
	// Default is what is taken without the key, as an author would write it.
	// Where no constant is, Else says in words what happens.
	Default, Else string
	// Example is the key with a value, and what else it needs beside it, as it
	// stands in the map. It may have several lines.
	Example string
	Need    bool // it has to be there
	// In names the variants of the map that may have the key; none: all. A key
	// may be described once for each variant.
	In []string
}

// ShapeKind is the kind of what may stand at a key.
type ShapeKind int

// Kinds of shapes.
const (
	AnyShape    ShapeKind = iota
	TextShape             // a fixed text; of Words when there are any
	FlagShape             // true or false
	WholeShape            // a whole number from Min to Max
	SpanShape             // a duration from Min to Max, in nanoseconds
	ExprShape             // a bare expression of type Type
	ValueShape            // a value of type Type, in which {{ }} and !expr are possible
	ScriptShape           // a program text, in which {{ }} is possible
	ListShape             // a list of Of
	MapShape              // a map described by the table of that name
	NamesShape            // a map of names that the author chooses to Of
	EitherShape           // any of Any
)

// Shape is what may stand at a key.
type Shape struct {
	Kind     ShapeKind
	Words    []string
	Pattern  string // of a text or of the names of a map, for editors; the words are only told then
	Min, Max int64
	Type     Type
	Of       *Shape
	Table    string
	Any      []Shape
	// Filled lists must have an entry.
	Filled bool
}

// OneWord is a fixed text that is one of words.
func OneWord(words ...string) Shape { return Shape{Kind: TextShape, Words: words} }

// Whole is a whole number from lo to hi.
func Whole(lo, hi int64) Shape { return Shape{Kind: WholeShape, Min: lo, Max: hi} }

// Within is a duration from lo to hi.
func Within(lo, hi time.Duration) Shape {
	return Shape{Kind: SpanShape, Min: int64(lo), Max: int64(hi)}
}

// ExprOf is a bare expression of a type.
func ExprOf(t Type) Shape { return Shape{Kind: ExprShape, Type: t} }

// ValueOf is a value of a type.
func ValueOf(t Type) Shape { return Shape{Kind: ValueShape, Type: t} }

// Each is a list of what is described by of.
func Each(of Shape) Shape { return Shape{Kind: ListShape, Of: &of} }

// Named is a map of names that the author chooses.
func Named(of Shape) Shape { return Shape{Kind: NamesShape, Of: &of} }

// MapBy is a map that a table describes.
func MapBy(table string) Shape { return Shape{Kind: MapShape, Table: table} }

// Either is what one of shapes describes.
func Either(shapes ...Shape) Shape { return Shape{Kind: EitherShape, Any: shapes} }

// Shapes without parameters.
var (
	FixedText = Shape{Kind: TextShape}
	Flag      = Shape{Kind: FlagShape}
	Condition = ExprOf(Bool)
	Program   = Shape{Kind: ScriptShape}
	Anything  = Shape{Kind: AnyShape}
)

// Unbounded is any whole number.
var Unbounded = Whole(math.MinInt64, math.MaxInt64)

// String says in a few words what may stand there.
func (s Shape) String() string {
	switch s.Kind {
	case TextShape:
		if s.Pattern != "" && len(s.Words) > 0 {
			return Quoted(s.Words)
		}
		if len(s.Words) > 0 {
			return strings.Join(s.Words, ", ")
		}
		return "text"
	case FlagShape:
		return "true or false"
	case WholeShape:
		return "int" + bounds(strconv.FormatInt(s.Min, 10), strconv.FormatInt(s.Max, 10), s.Min == math.MinInt64, s.Max == math.MaxInt64)
	case SpanShape:
		return "duration" + bounds(Span(time.Duration(s.Min)), Span(time.Duration(s.Max)), false, false)
	case ExprShape:
		if s.Type.Kind == BoolKind {
			return "condition"
		}
		return "expression"
	case ValueShape:
		return s.Type.String()
	case ScriptShape:
		return "script"
	case ListShape:
		return "list of " + s.Of.String()
	case MapShape:
		return s.Table
	case NamesShape:
		return "map of " + s.Of.String()
	case EitherShape:
		words := make([]string, len(s.Any))
		for i, o := range s.Any {
			words[i] = o.String()
		}
		return strings.Join(words, ", or ")
	case AnyShape:
	}
	return "anything"
}

// entry returns what describes the entries of a list.
func (s Shape) entry() Shape {
	if s.Of == nil {
		return Shape{}
	}
	return *s.Of
}

// bounds writes the limits of a shape; most of the int64 are no limits.
func bounds(lo, hi string, noLo, noHi bool) string {
	switch {
	case noLo && noHi:
		return ""
	case noHi:
		return ", at least " + lo
	case noLo:
		return ", at most " + hi
	}
	return " from " + lo + " to " + hi
}

// For returns the keys of a variant, in order; "": all.
func (t *Table) For(variant string) []Key {
	var out []Key
	for _, k := range t.Keys {
		if variant == "" || len(k.In) == 0 || slices.Contains(k.In, variant) {
			out = append(out, k)
		}
	}
	return out
}

// key returns the description of a key, or nil.
func (t *Table) key(name, variant string) *Key {
	if t == nil {
		return nil
	}
	for i := range t.Keys {
		k := &t.Keys[i]
		if k.Name == name && (variant == "" || len(k.In) == 0 || slices.Contains(k.In, variant)) {
			return k
		}
	}
	return nil
}

// By says which table, and which variant of it, describes the map.
func (f *Fields) By(t *Table, variant string) *Fields {
	f.table, f.variant = t, variant
	return f
}

// describes returns the description of a key; without one it is a text.
func (f *Fields) describes(name string) Key {
	if k := f.table.key(name, f.variant); k != nil {
		return *k
	}
	return Key{Name: name}
}

// span returns the default of a duration.
func (k Key) span() time.Duration {
	d, err := time.ParseDuration(k.Default)
	if err != nil {
		return 0
	}
	return d
}

// whole returns the default of a number.
func (k Key) whole() int64 {
	n, err := strconv.ParseInt(k.Default, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// words returns the default of a list of words: [a, b].
func (k Key) words() []string {
	var out []string
	for w := range strings.SplitSeq(strings.Trim(k.Default, "[]"), ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}
