package lang

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
)

// scalar converts a scalar that starts at byte off of the source.
func (r *reader) scalar(a ast.Node, off int) *Node {
	n := &Node{Pos: r.src.pos(off), src: r.src, start: off}
	r.checkIndent(off)
	switch x := a.(type) {
	case *ast.LiteralNode:
		n.Quoted = true
		n.Text = x.Value.Value
		r.block(n, off)
	case *ast.NullNode:
		n.Kind = NullNode
		if t := x.GetToken().Value; strings.HasPrefix(r.src.text[off:], t) {
			n.Text = t
		}
	case *ast.StringNode:
		n.Text = x.Value
		switch at := r.src.text[off:]; {
		case strings.HasPrefix(at, `"`):
			n.Quoted = true
			r.quoted(n, off, doubleQuoted)
		case strings.HasPrefix(at, "'"):
			n.Quoted = true
			r.quoted(n, off, singleQuoted)
		default:
			r.plain(n, off)
		}
	default:
		n.Text = a.GetToken().Value
		r.plain(n, off)
	}
	return n
}

// plain places a scalar without quotes, which may be folded over lines.
func (r *reader) plain(n *Node, off int) {
	if strings.HasPrefix(r.src.text[off:], n.Text) {
		return
	}
	r.follow(n, off, 0, true)
}

// quoted decodes the quoted scalar at off, so that each byte has its place.
func (r *reader) quoted(n *Node, off int, decode func(string) (string, []int32, bool)) {
	text, origin, ok := decode(r.src.text[off:])
	if !ok {
		r.follow(n, off+1, 0, true)
		return
	}
	for i := range origin {
		origin[i] += int32(off) //nolint:gosec // a file is at most 1 MiB
	}
	n.Text, n.origin = text, origin
}

// block places the text of a literal or folded scalar whose header is at off.
func (r *reader) block(n *Node, off int) {
	eol := strings.IndexByte(r.src.text[off:], '\n')
	if eol < 0 {
		n.origin = make([]int32, len(n.Text)+1)
		for i := range n.origin {
			n.origin[i] = int32(off) //nolint:gosec // a file is at most 1 MiB
		}
		return
	}
	body := off + eol + 1
	// The indentation is that of the first line with text, less what the
	// library left in front of it.
	indent := 0
	at := body
	for line := range strings.Lines(r.src.text[body:]) {
		if t := strings.TrimLeft(line, " "); strings.TrimSpace(t) != "" {
			if t[0] == '\t' { // the YAML library takes it for indentation
				r.problem(at+len(line)-len(t), 1, "yaml-tab", "the first line of a block cannot start with a tab; use spaces")
			}
			indent = len(line) - len(t) - firstIndent(n.Text)
			break
		}
		at += len(line)
	}
	r.follow(n, body, max(0, indent), false)
}

// firstIndent is the width of the spaces in front of the first text.
func firstIndent(s string) int {
	for line := range strings.Lines(s) {
		if t := strings.TrimLeft(line, " "); strings.TrimSpace(t) != "" {
			return len(line) - len(t)
		}
	}
	return 0
}

// follow finds the place of each byte of n.Text by walking the source beside
// it from byte off: equal characters go together, and of a line end in the
// source the text has a line feed, a space, or nothing. After a line end up
// to indent spaces (all when flow) are skipped.
func (r *reader) follow(n *Node, off, indent int, flow bool) {
	src := r.src.text
	origin := make([]int32, 0, len(n.Text)+1)
	s := skipIndent(src, off, indent, false)
	for i := 0; i < len(n.Text); {
		switch {
		case s < len(src) && src[s] == n.Text[i]:
			origin = append(origin, int32(s)) //nolint:gosec // a file is at most 1 MiB
			if src[s] == '\n' {
				s = skipIndent(src, s+1, indent, flow)
			} else {
				s++
			}
			i++
		case s < len(src) && src[s] == '\n':
			if n.Text[i] == ' ' || n.Text[i] == '\n' {
				origin = append(origin, int32(s)) //nolint:gosec // a file is at most 1 MiB
				i++
			}
			s = skipIndent(src, s+1, indent, flow)
		case n.Text[i] == '\n' && breakAt(src, s) > s:
			s = breakAt(src, s)
		case flow && s < len(src) && (src[s] == ' ' || src[s] == '\t'):
			s++
		default: // the library read something else: the last known place will do
			origin = append(origin, int32(min(s, len(src)))) //nolint:gosec // a file is at most 1 MiB
			i++
		}
	}
	origin = append(origin, int32(min(s, len(src)))) //nolint:gosec // a file is at most 1 MiB
	n.origin = origin
}

func skipIndent(src string, s, indent int, flow bool) int {
	for n := 0; s < len(src) && (src[s] == ' ' || flow && src[s] == '\t') && (flow || n < indent); n++ {
		s++
	}
	return s
}

// fold reads the line break at src[i] within a quoted scalar: one break is a
// space, n+1 breaks are n line feeds. It returns the text and the next byte.
func fold(src string, i int) (string, int) {
	breaks := 0
	for i < len(src) && strings.IndexByte(" \t\n", src[i]) >= 0 {
		if src[i] == '\n' {
			breaks++
		}
		i++
	}
	if breaks == 1 {
		return " ", i
	}
	return strings.Repeat("\n", breaks-1), i
}

// decoder collects decoded text with the source byte of each byte.
type decoder struct {
	text   strings.Builder
	origin []int32
}

func (d *decoder) add(s string, from int) {
	d.text.WriteString(s)
	for range len(s) {
		d.origin = append(d.origin, int32(from)) //nolint:gosec // a file is at most 1 MiB
	}
}

func (d *decoder) done(end int) (string, []int32, bool) {
	return d.text.String(), append(d.origin, int32(end)), true //nolint:gosec // a file is at most 1 MiB
}

// breakAt returns the end of blanks before a line break at or after i, or -1.
func breakAt(src string, i int) int {
	for i < len(src) && (src[i] == ' ' || src[i] == '\t') {
		i++
	}
	if i < len(src) && src[i] == '\n' {
		return i
	}
	return -1
}

// singleQuoted decodes the 'scalar' at the start of src.
func singleQuoted(src string) (string, []int32, bool) {
	var d decoder
	for i := 1; i < len(src); {
		if br := breakAt(src, i); br >= 0 {
			t, next := fold(src, br)
			d.add(t, br)
			i = next
			continue
		}
		if src[i] == '\'' {
			if !strings.HasPrefix(src[i:], "''") {
				return d.done(i)
			}
			d.add("'", i)
			i += 2
			continue
		}
		_, size := utf8.DecodeRuneInString(src[i:])
		for k := range size {
			d.add(src[i+k:i+k+1], i+k)
		}
		i += size
	}
	return "", nil, false
}

// escapes are the one-letter escapes of YAML 1.2, section 5.7.
var escapes = map[byte]string{
	'0': "\x00", 'a': "\a", 'b': "\b", 't': "\t", '\t': "\t", 'n': "\n", 'v': "\v", 'f': "\f", 'r': "\r",
	'e': "\x1b", ' ': " ", '"': `"`, '/': "/", '\\': `\`, 'N': "\u0085", '_': "\u00a0", 'L': "\u2028", 'P': "\u2029",
}

// doubleQuoted decodes the "scalar" at the start of src.
func doubleQuoted(src string) (string, []int32, bool) {
	var d decoder
	if !strings.HasPrefix(src, `"`) {
		return "", nil, false
	}
	for i := 1; i < len(src); {
		if br := breakAt(src, i); br >= 0 {
			t, next := fold(src, br)
			d.add(t, br)
			i = next
			continue
		}
		switch src[i] {
		case '"':
			return d.done(i)
		case '\\':
			t, next := unescape(src, i)
			if next < 0 {
				return "", nil, false
			}
			d.add(t, i)
			i = next
		default:
			_, size := utf8.DecodeRuneInString(src[i:])
			for k := range size {
				d.add(src[i+k:i+k+1], i+k)
			}
			i += size
		}
	}
	return "", nil, false
}

// unescape reads the escape at src[i]; next is -1 when YAML has no such escape.
func unescape(src string, i int) (text string, next int) {
	if i+1 >= len(src) {
		return "", -1
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[src[i+1]]
	switch {
	case src[i+1] == '\n': // the break and the blanks behind it go away; empty lines stay
		i += 2
		empty := 0
		for ; breakAt(src, i) >= 0; empty++ {
			i = breakAt(src, i) + 1
		}
		for i < len(src) && (src[i] == ' ' || src[i] == '\t') {
			i++
		}
		return strings.Repeat("\n", empty), i
	case digits > 0 && i+2+digits <= len(src):
		v, err := strconv.ParseUint(src[i+2:i+2+digits], 16, 32)
		if err != nil || !utf8.ValidRune(rune(v)) { //nolint:gosec // 8 digits; a negative rune is invalid
			return "", -1
		}
		return string(rune(v)), i + 2 + digits //nolint:gosec // checked above
	default:
		t, ok := escapes[src[i+1]]
		if !ok {
			return "", -1
		}
		return t, i + 2
	}
}
