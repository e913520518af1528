package clixml

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// maxNodes bounds how many elements one value may have.
const maxNodes = 1 << 18

// Decode reads one value. c may be nil; a SecureString is an error then. The
// size of b bounds the memory that is used, to a small multiple.
func Decode(b []byte, c Cipher) (any, error) {
	d := &decoder{x: xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")))), cipher: c, objects: map[string]*Object{}, types: map[string][]string{}}
	v, err := d.document()
	if err != nil {
		return nil, fmt.Errorf("clixml: at byte %d: %w", d.x.InputOffset(), err)
	}
	return v, nil
}

type decoder struct {
	x       *xml.Decoder
	cipher  Cipher
	objects map[string]*Object
	types   map[string][]string
	nodes   int
}

// document reads the only element of the input, which may stand in an <Objs>.
func (d *decoder) document() (any, error) {
	s, err := d.start()
	if err != nil {
		return nil, err
	}
	if s.Name.Local != "Objs" {
		v, err := d.value(s, 0)
		if err != nil {
			return nil, err
		}
		return v, d.end()
	}
	var out any
	n := 0
	err = d.children(func(s xml.StartElement) error {
		if n++; n > 1 {
			return errors.New("more than one object")
		}
		out, err = d.value(s, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, d.end()
}

// start finds the first element.
func (d *decoder) start() (xml.StartElement, error) {
	for {
		t, err := d.x.Token()
		if err != nil {
			return xml.StartElement{}, errIncomplete(err)
		}
		if s, ok := t.(xml.StartElement); ok {
			return s, nil
		}
	}
}

// end checks that nothing but blanks follows.
func (d *decoder) end() error {
	for {
		t, err := d.x.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			return fmt.Errorf("<%s> after the end", t.Name.Local)
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return errors.New("text after the end")
			}
		}
	}
}

func errIncomplete(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func attr(s xml.StartElement, name string) string {
	for _, a := range s.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// text reads the text of the current element up to its end.
func (d *decoder) text() (string, error) {
	var b strings.Builder
	for {
		t, err := d.x.Token()
		if err != nil {
			return "", errIncomplete(err)
		}
		switch t := t.(type) {
		case xml.CharData:
			b.Write(t)
		case xml.EndElement:
			return b.String(), nil
		case xml.StartElement:
			return "", fmt.Errorf("unexpected <%s>", t.Name.Local)
		}
	}
}

// children calls f for each element inside the current one.
func (d *decoder) children(f func(xml.StartElement) error) error {
	for {
		t, err := d.x.Token()
		if err != nil {
			return errIncomplete(err)
		}
		switch t := t.(type) {
		case xml.EndElement:
			return nil
		case xml.StartElement:
			if err := f(t); err != nil {
				return err
			}
		}
	}
}

func (d *decoder) value(s xml.StartElement, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("nested too deeply")
	}
	if d.nodes++; d.nodes > maxNodes {
		return nil, errors.New("too many elements")
	}
	switch s.Name.Local {
	case "Obj":
		return d.object(s, depth)
	case "Ref":
		o, ok := d.objects[attr(s, "RefId")]
		if !ok {
			return nil, errors.New("a reference to nothing")
		}
		_, err := d.text()
		return o, err
	case "LST", "STK", "QUE", "IE", "DCT":
		return d.container(s, depth)
	}
	t, err := d.text()
	if err != nil {
		return nil, err
	}
	v, err := d.primitive(s.Name.Local, t)
	if err != nil {
		return nil, fmt.Errorf("<%s>: %w", s.Name.Local, err)
	}
	return v, nil
}

// integers says how wide a whole number is, and whether it has a sign.
var integers = map[string]struct {
	bits   int
	signed bool
}{
	"SB": {8, true}, "I16": {16, true}, "I32": {32, true}, "I64": {64, true},
	"By": {8, false}, "U16": {16, false}, "U32": {32, false}, "U64": {64, false}, "C": {16, false},
}

func (d *decoder) primitive(tag, t string) (any, error) {
	if w, ok := integers[tag]; ok {
		return parseInt(tag, strings.TrimSpace(t), w.bits, w.signed)
	}
	switch tag {
	case "Nil":
		return nil, nil
	case "S":
		return unescape(t), nil
	case "B":
		switch strings.ToLower(strings.TrimSpace(t)) {
		case "true", "1":
			return true, nil
		case "false", "0":
			return false, nil
		}
		return nil, errors.New("neither true nor false")
	case "Sg", "Db":
		return parseFloat(tag, strings.TrimSpace(t))
	case "D":
		return Decimal(t), nil
	case "DT":
		return parseTime(strings.TrimSpace(t))
	case "TS":
		return parseSpan(strings.TrimSpace(t))
	case "BA":
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(t))
		if err != nil {
			return nil, errors.New("not base64")
		}
		return b, nil
	case "G":
		return ParseGUID(strings.TrimSpace(t))
	case "Version":
		return Version(t), nil
	case "URI":
		return URI(unescape(t)), nil
	case "XD":
		return XML(unescape(t)), nil
	case "SBK":
		return ScriptBlock(unescape(t)), nil
	case "SS":
		if d.cipher == nil {
			return nil, errNoKey
		}
		return d.cipher.Open(strings.TrimSpace(t))
	}
	return nil, errors.New("unknown element")
}

var errNumber = errors.New("not a number of that type")

func parseInt(tag, t string, bits int, signed bool) (any, error) {
	if signed {
		n, err := strconv.ParseInt(t, 10, bits)
		if err != nil {
			return nil, errNumber
		}
		switch tag {
		case "SB":
			return int8(n), nil //nolint:gosec // parsed for that width
		case "I16":
			return int16(n), nil //nolint:gosec // parsed for that width
		case "I32":
			return int32(n), nil //nolint:gosec // parsed for that width
		}
		return n, nil
	}
	n, err := strconv.ParseUint(t, 10, bits)
	if err != nil {
		return nil, errNumber
	}
	switch tag {
	case "By":
		return uint8(n), nil //nolint:gosec // parsed for that width
	case "U16":
		return uint16(n), nil //nolint:gosec // parsed for that width
	case "U32":
		return uint32(n), nil //nolint:gosec // parsed for that width
	case "C":
		return Char(n), nil //nolint:gosec // parsed for that width
	}
	return n, nil
}

func parseFloat(tag, t string) (any, error) {
	var f float64
	switch t {
	case "INF", "Infinity":
		f = math.Inf(1)
	case "-INF", "-Infinity":
		f = math.Inf(-1)
	case "NaN":
		f = math.NaN()
	default:
		bits := 64
		if tag == "Sg" {
			bits = 32
		}
		var err error
		if f, err = strconv.ParseFloat(t, bits); err != nil {
			return nil, errNumber
		}
	}
	if tag == "Sg" {
		return float32(f), nil
	}
	return f, nil
}

// container reads the inside of a list or dictionary.
func (d *decoder) container(s xml.StartElement, depth int) (any, error) {
	if s.Name.Local == "DCT" {
		return d.dict(depth)
	}
	l := List{Kind: map[string]Kind{"LST": Array, "STK": Stack, "QUE": Queue, "IE": Enumerable}[s.Name.Local]}
	err := d.children(func(c xml.StartElement) error {
		v, err := d.value(c, depth+1)
		l.Items = append(l.Items, v)
		return err
	})
	return l, err
}

func (d *decoder) dict(depth int) (any, error) {
	out := Dict{}
	err := d.children(func(en xml.StartElement) error {
		if en.Name.Local != "En" {
			return fmt.Errorf("unexpected <%s> in a dictionary", en.Name.Local)
		}
		var e Entry
		keys, values := 0, 0
		err := d.children(func(c xml.StartElement) error {
			v, err := d.value(c, depth+1)
			switch attr(c, "N") {
			case "Key":
				e.Key = v
				keys++
			case "Value":
				e.Value = v
				values++
			default:
				return errors.New("an entry is neither key nor value")
			}
			return err
		})
		if err == nil && (keys != 1 || values != 1) {
			err = errors.New("an entry is not one key and one value")
		}
		out = append(out, e)
		return err
	})
	return out, err
}

func (d *decoder) object(s xml.StartElement, depth int) (any, error) {
	o := &Object{}
	if id := attr(s, "RefId"); id != "" {
		d.objects[id] = o
	}
	err := d.children(func(c xml.StartElement) error {
		var err error
		switch c.Name.Local {
		case "TN":
			o.Types, err = d.typeNames(c)
		case "TNRef":
			names, ok := d.types[attr(c, "RefId")]
			if !ok {
				return errors.New("a reference to no type")
			}
			o.Types = names
			_, err = d.text()
		case "ToString":
			o.ToString, err = d.text()
			o.ToString = unescape(o.ToString)
		case "Props":
			o.Adapted, err = d.members(o.Adapted, depth)
		case "MS":
			o.Extended, err = d.members(o.Extended, depth)
		default:
			o.Base, err = d.value(c, depth+1)
			if inner, is := o.Base.(*Object); is && err == nil {
				return fmt.Errorf("an object wraps another (%s)", strings.Join(inner.Types, ", "))
			}
		}
		return err
	})
	return o, err
}

func (d *decoder) typeNames(s xml.StartElement) ([]string, error) {
	var names []string
	err := d.children(func(xml.StartElement) error {
		if d.nodes++; d.nodes > maxNodes {
			return errors.New("too many elements")
		}
		t, err := d.text()
		names = append(names, unescape(t))
		return err
	})
	d.types[attr(s, "RefId")] = names
	return names, err
}

func (d *decoder) members(ms []Member, depth int) ([]Member, error) {
	err := d.children(func(c xml.StartElement) error {
		v, err := d.value(c, depth+1)
		ms = append(ms, Member{unescape(attr(c, "N")), v})
		return err
	})
	return ms, err
}
