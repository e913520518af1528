// Package clixml owns PowerShell's object notation, CLIXML ([MS-PSRP] 2.2.5),
// both ways: Go values to XML and back, within limits. It performs no I/O,
// keeps no state between calls, and refuses to know what the objects are for;
// sealing a SecureString is left to a Cipher.
//
// The values are:
//
//	nil                           <Nil>
//	string                        <S>
//	bool                          <B>
//	int8 … int64, uint8 … uint64  <SB> <I16> <I32> <I64>, <By> <U16> <U32> <U64>
//	float32, float64              <Sg> <Db>
//	Char, Decimal, TimeSpan       <C> <D> <TS>
//	time.Time, LocalTime          <DT> with and without a zone
//	[]byte, GUID, Version         <BA> <G> <Version>
//	URI, XML, ScriptBlock         <URI> <XD> <SBK>
//	secret.Value                  <SS>
//	*Object                       <Obj>; the same pointer again is a <Ref>
//	List, Dict, []string          <Obj> with <LST> or <DCT>; written only, they are read as *Object
package clixml

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"runner/engine/secret"
)

// Char is one UTF-16 code unit.
type Char uint16

// Decimal is a System.Decimal in its text form.
type Decimal string

// Version is a System.Version in its text form, such as 5.1.17763.1.
type Version string

// URI is a System.Uri in its text form.
type URI string

// XML is the text of an XmlDocument.
type XML string

// ScriptBlock is the text of a script block. It is never executed here.
type ScriptBlock string

// LocalTime is a DateTime without a zone: the time a wall clock of the device
// shows. Its location is UTC and means nothing.
type LocalTime struct{ time.Time }

// TimeSpan is a duration in units of 100 ns, which reach further than Go's.
type TimeSpan int64

// Duration returns t as far as Go's durations reach.
func (t TimeSpan) Duration() time.Duration {
	switch {
	case t > math.MaxInt64/100:
		return math.MaxInt64
	case t < math.MinInt64/100:
		return math.MinInt64
	}
	return time.Duration(t) * 100
}

// GUID is a UUID in the byte order in which it is written.
type GUID [16]byte

// String returns the usual form, in capitals as Windows prints it.
func (g GUID) String() string {
	s := strings.ToUpper(hex.EncodeToString(g[:]))
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// IsZero reports whether g is the empty GUID.
func (g GUID) IsZero() bool { return g == GUID{} }

var errGUID = errors.New("not a GUID")

// ParseGUID reads the usual form, with or without braces, in either case.
func ParseGUID(s string) (GUID, error) {
	var g GUID
	s = strings.TrimSuffix(strings.TrimPrefix(s, "{"), "}")
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return g, errGUID
	}
	if _, err := hex.Decode(g[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:])); err != nil {
		return GUID{}, errGUID
	}
	return g, nil
}

// Kind tells the containers apart.
type Kind int

// Kinds of a List.
const (
	Array      Kind = iota // LST: arrays and lists
	Stack                  // STK
	Queue                  // QUE
	Enumerable             // IE
)

// List is an ordered collection.
type List struct {
	Kind  Kind
	Items []any
}

// Entry is one pair of a Dict.
type Entry struct{ Key, Value any }

// Dict is a dictionary in the order in which it was written.
type Dict []Entry

// Get returns the value under a text key, or nil. Case matters.
func (d Dict) Get(key string) any {
	for _, e := range d {
		if s, ok := e.Key.(string); ok && s == key {
			return e.Value
		}
	}
	return nil
}

// Member is a named property.
type Member struct {
	Name  string
	Value any
}

// Object is an object with types, properties and maybe a value of its own.
// Objects that were read may be part of themselves.
type Object struct {
	Types    []string // names of its type and of the types that one derives from
	ToString string   // what ToString() said, or ""
	// Base is the value that the object wraps: a primitive value, a List, a
	// Dict, or nil when it has only properties.
	Base any
	// Adapted are the properties of the .NET type, Extended those that
	// PowerShell added.
	Adapted, Extended []Member
}

// Get returns the property of that name in any case, as PowerShell looks it
// up: an added one before one of the type. nil when there is none.
func (o *Object) Get(name string) any {
	v, _ := o.Lookup(name)
	return v
}

// Lookup returns the property of that name and whether there is one.
func (o *Object) Lookup(name string) (any, bool) {
	if o == nil {
		return nil, false
	}
	for _, ms := range [][]Member{o.Extended, o.Adapted} {
		for _, m := range ms {
			if strings.EqualFold(m.Name, name) {
				return m.Value, true
			}
		}
	}
	return nil, false
}

// Is reports whether the object is of that type, deserialised or not.
func (o *Object) Is(name string) bool {
	if o == nil {
		return false
	}
	for _, t := range o.Types {
		if strings.TrimPrefix(t, "Deserialized.") == name {
			return true
		}
	}
	return false
}

// Note returns an object that has only the given properties.
func Note(ms ...Member) *Object { return &Object{Extended: ms} }

// Enum returns a value of an enumeration that is stored in 32 bits.
func Enum(typ, name string, n int32) *Object {
	return &Object{Types: []string{typ, "System.Enum", "System.ValueType", "System.Object"}, ToString: name, Base: n}
}

// Get walks properties from v; nil when one is missing.
func Get(v any, path ...string) any {
	for _, name := range path {
		o, ok := v.(*Object)
		if !ok {
			return nil
		}
		v = o.Get(name)
	}
	return v
}

// base returns the value that objects wrap, or v itself.
func base(v any) any {
	if o, ok := v.(*Object); ok && o != nil && o.Base != nil {
		return o.Base
	}
	return v
}

// Items returns the elements of a list.
func Items(v any) ([]any, bool) {
	l, ok := base(v).(List)
	return l.Items, ok
}

// Entries returns a dictionary.
func Entries(v any) (Dict, bool) {
	d, ok := base(v).(Dict)
	return d, ok
}

// Int returns a whole number of any width.
func Int(v any) (int64, bool) {
	switch n := base(v).(type) {
	case int8:
		return int64(n), true
	case int16:
		return int64(n), true
	case int32:
		return int64(n), true
	case int64:
		return n, true
	case int:
		return int64(n), true
	case uint8:
		return int64(n), true
	case uint16:
		return int64(n), true
	case uint32:
		return int64(n), true
	case uint64:
		return int64(n), n <= math.MaxInt64 //nolint:gosec // checked beside it
	}
	return 0, false
}

// Bool returns a truth value; anything else is false.
func Bool(v any) bool {
	b, _ := base(v).(bool)
	return b
}

// HasSecret reports whether a secret is part of v.
func HasSecret(v any) bool { return hasSecret(v, map[*Object]bool{}) }

func hasSecret(v any, seen map[*Object]bool) bool {
	switch x := v.(type) {
	case secret.Value:
		return true
	case List:
		return slices.ContainsFunc(x.Items, func(item any) bool { return hasSecret(item, seen) })
	case Dict:
		return slices.ContainsFunc(x, func(e Entry) bool { return hasSecret(e.Key, seen) || hasSecret(e.Value, seen) })
	case *Object:
		if x == nil || seen[x] {
			return false
		}
		seen[x] = true
		part := func(m Member) bool { return hasSecret(m.Value, seen) }
		return hasSecret(x.Base, seen) || slices.ContainsFunc(x.Adapted, part) || slices.ContainsFunc(x.Extended, part)
	}
	return false
}

// maxText bounds how many parts Text joins; lists may hold themselves.
const maxText = 1 << 16

// Text returns v as PowerShell writes it into a string: what ToString() said,
// the elements of a list with blanks between them. A secret is secret.Hidden.
func Text(v any) string {
	w := writer{left: maxText}
	w.value(v, 4)
	return w.b.String()
}

type writer struct {
	b    strings.Builder
	left int
}

func (w *writer) value(v any, depth int) {
	if w.left--; w.left < 0 || depth < 0 {
		return
	}
	switch x := v.(type) {
	case *Object:
		if x == nil {
			return
		}
		if x.ToString != "" || x.Base == nil {
			w.b.WriteString(x.ToString)
			return
		}
		w.value(x.Base, depth-1)
	case List:
		for i, item := range x.Items {
			if w.left < 0 {
				return
			}
			if i > 0 {
				w.b.WriteByte(' ')
			}
			w.value(item, depth-1)
		}
	default:
		w.b.WriteString(primitiveText(v))
	}
}

func primitiveText(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	case bool:
		if x {
			return "True"
		}
		return "False"
	case []byte:
		return fmt.Sprintf("%X", x)
	case float32:
		return formatFloat(float64(x), 32)
	case float64:
		return formatFloat(x, 64)
	case Char:
		return fromUTF16([]uint16{uint16(x)})
	case time.Time:
		return x.Format(time.RFC3339Nano)
	case LocalTime:
		return x.Format("2006-01-02T15:04:05.9999999")
	case TimeSpan:
		return formatSpan(x)
	case Dict:
		return "System.Collections.Hashtable"
	}
	return fmt.Sprint(v) // of a secret: Hidden
}
