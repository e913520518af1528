package clixml

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"runner/engine/secret"
)

// Cipher seals and opens SecureStrings with a session key.
type Cipher interface {
	Seal(secret.Value) (string, error)
	Open(string) (secret.Value, error)
}

// errNoKey is what happens to a secret before the keys were exchanged.
var errNoKey = errors.New("a secret cannot travel before the session key was exchanged")

// maxDepth bounds how deep values may be nested, in both directions.
const maxDepth = 64

// Encode writes v. c may be nil when v holds no secret. It fails on values of
// other types than those of the package comment, on text that is not UTF-8 and
// on deeper nesting than readers accept; the error never holds a value.
func Encode(v any, c Cipher) (string, error) {
	e := &encoder{cipher: c, objects: map[*Object]int{}, types: map[string]int{}}
	e.value("", v, 0)
	if e.err != nil {
		return "", fmt.Errorf("clixml: %w", e.err)
	}
	return e.b.String(), nil
}

type encoder struct {
	b       strings.Builder
	cipher  Cipher
	objects map[*Object]int
	refs    int
	types   map[string]int
	err     error
}

func (e *encoder) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

// open writes the start of an element.
func (e *encoder) open(tag, name, more string) {
	e.b.WriteString("<" + tag)
	if name != "" {
		e.b.WriteString(` N="`)
		e.text(name)
		e.b.WriteByte('"')
	}
	e.b.WriteString(more + ">")
}

func (e *encoder) text(s string) {
	if !utf8.ValidString(s) {
		e.fail(errors.New("a text is not UTF-8"))
		return
	}
	escape(&e.b, s)
}

func (e *encoder) leaf(tag, name, s string) {
	e.open(tag, name, "")
	e.text(s)
	e.b.WriteString("</" + tag + ">")
}

func (e *encoder) value(name string, v any, depth int) {
	if depth > maxDepth {
		e.fail(errors.New("a value is nested too deeply"))
		return
	}
	switch x := v.(type) {
	case nil:
		e.open("Nil", name, " /")
	case *Object:
		e.object(name, x, depth)
	case List:
		e.object(name, &Object{Types: listTypes(x.Kind), Base: x}, depth)
	case Dict:
		e.object(name, &Object{Types: []string{"System.Collections.Hashtable", "System.Object"}, Base: x}, depth)
	case []string:
		l := List{Items: make([]any, len(x))}
		for i, s := range x {
			l.Items[i] = s
		}
		e.object(name, &Object{Types: []string{"System.String[]", "System.Array", "System.Object"}, Base: l}, depth)
	case secret.Value:
		e.secret(name, x)
	default:
		e.primitive(name, v)
	}
}

func listTypes(k Kind) []string {
	switch k {
	case Stack:
		return []string{"System.Collections.Stack", "System.Object"}
	case Queue:
		return []string{"System.Collections.Queue", "System.Object"}
	case Array, Enumerable:
	}
	return []string{"System.Object[]", "System.Array", "System.Object"}
}

func (e *encoder) secret(name string, v secret.Value) {
	if e.cipher == nil {
		e.fail(errNoKey)
		return
	}
	s, err := e.cipher.Seal(v)
	if err != nil {
		e.fail(err)
		return
	}
	e.leaf("SS", name, s)
}

func (e *encoder) primitive(name string, v any) {
	switch x := v.(type) {
	case string:
		e.leaf("S", name, x)
	case bool:
		e.leaf("B", name, strconv.FormatBool(x))
	case int8, int16, int32, int64, uint8, uint16, uint32, uint64:
		e.leaf(intTags[fmt.Sprintf("%T", x)], name, fmt.Sprint(x))
	case int:
		if int(int32(x)) == x { //nolint:gosec // that is the question
			e.leaf("I32", name, strconv.Itoa(x))
		} else {
			e.leaf("I64", name, strconv.Itoa(x))
		}
	case float32:
		e.leaf("Sg", name, formatFloat(float64(x), 32))
	case float64:
		e.leaf("Db", name, formatFloat(x, 64))
	case Char:
		e.leaf("C", name, strconv.Itoa(int(x)))
	case Decimal:
		e.leaf("D", name, string(x))
	case time.Time:
		e.leaf("DT", name, x.Format(zoned))
	case LocalTime:
		e.leaf("DT", name, x.Format(unzoned))
	case TimeSpan:
		e.leaf("TS", name, formatSpan(x))
	case []byte:
		e.leaf("BA", name, base64.StdEncoding.EncodeToString(x))
	case GUID:
		e.leaf("G", name, strings.ToLower(x.String()))
	case Version:
		e.leaf("Version", name, string(x))
	case URI:
		e.leaf("URI", name, string(x))
	case XML:
		e.leaf("XD", name, string(x))
	case ScriptBlock:
		e.leaf("SBK", name, string(x))
	default:
		e.fail(fmt.Errorf("a value of type %T cannot be written", v))
	}
}

var intTags = map[string]string{
	"int8": "SB", "int16": "I16", "int32": "I32", "int64": "I64",
	"uint8": "By", "uint16": "U16", "uint32": "U32", "uint64": "U64",
}

func formatFloat(f float64, bits int) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "INF"
	case math.IsInf(f, -1):
		return "-INF"
	}
	return strconv.FormatFloat(f, 'g', -1, bits)
}

func (e *encoder) object(name string, o *Object, depth int) {
	if o == nil {
		e.open("Nil", name, " /")
		return
	}
	if id, ok := e.objects[o]; ok {
		e.open("Ref", name, fmt.Sprintf(` RefId="%d" /`, id))
		return
	}
	e.objects[o] = e.refs
	e.open("Obj", name, fmt.Sprintf(` RefId="%d"`, e.refs))
	e.refs++
	e.typeNames(o.Types)
	if o.ToString != "" {
		e.leaf("ToString", "", o.ToString)
	}
	e.base(o.Base, depth)
	e.members("Props", o.Adapted, depth)
	e.members("MS", o.Extended, depth)
	e.b.WriteString("</Obj>")
}

func (e *encoder) typeNames(names []string) {
	if len(names) == 0 {
		return
	}
	key := strings.Join(names, "\x00")
	if id, ok := e.types[key]; ok {
		e.open("TNRef", "", fmt.Sprintf(` RefId="%d" /`, id))
		return
	}
	id := len(e.types)
	e.types[key] = id
	e.open("TN", "", fmt.Sprintf(` RefId="%d"`, id))
	for _, n := range names {
		e.leaf("T", "", n)
	}
	e.b.WriteString("</TN>")
}

func (e *encoder) base(v any, depth int) {
	switch x := v.(type) {
	case nil:
	case List:
		tag := [...]string{"LST", "STK", "QUE", "IE"}[x.Kind]
		e.open(tag, "", "")
		for _, item := range x.Items {
			e.value("", item, depth+1)
		}
		e.b.WriteString("</" + tag + ">")
	case Dict:
		e.open("DCT", "", "")
		for _, en := range x {
			e.open("En", "", "")
			e.value("Key", en.Key, depth+1)
			e.value("Value", en.Value, depth+1)
			e.b.WriteString("</En>")
		}
		e.b.WriteString("</DCT>")
	case secret.Value:
		e.secret("", x)
	default:
		e.primitive("", v)
	}
}

func (e *encoder) members(tag string, ms []Member, depth int) {
	if len(ms) == 0 {
		return
	}
	e.open(tag, "", "")
	for _, m := range ms {
		e.value(m.Name, m.Value, depth+1)
	}
	e.b.WriteString("</" + tag + ">")
}
