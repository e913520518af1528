package lang

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of a file.
const (
	maxFile  = 1 << 20
	maxDepth = 64
	maxNodes = 20_000
)

// Parse reads the YAML documents of a file, which is at most 1 MiB of UTF-8,
// 64 levels deep and 20,000 nodes large. Documents without content are left
// out. Anchors, aliases, merge keys, duplicate keys, keys that are not
// strings, tags other than !expr and tabs as indentation are problems. With
// problems the nodes are what could be read, which may be nothing.
func Parse(file string, text []byte) ([]*Node, Problems) {
	s, ps := readable(file, text)
	if len(ps) > 0 {
		return nil, ps
	}
	r := &reader{src: s}
	var docs []*Node
	for _, d := range r.split() {
		if n := r.document(d); n != nil {
			docs = append(docs, n)
		}
	}
	r.problems.Sort()
	return docs, r.problems
}

// readable checks size and characters and returns the text with LF line ends
// and without byte order mark.
func readable(file string, text []byte) (*source, Problems) {
	first := Pos{File: file, Line: 1, Col: 1}
	if len(text) > maxFile {
		return nil, Problems{{Pos: first, Code: "too-large", Message: "the file is larger than 1 MiB"}}
	}
	t := strings.TrimPrefix(string(text), "\ufeff")
	t = strings.ReplaceAll(t, "\r\n", "\n")
	s := newSource(file, t)
	for i, r := range t {
		var what string
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(t[i:], "\ufffd"):
			what = "this byte is not UTF-8 text; save the file as UTF-8"
		case r == '\r':
			what = "a carriage return without a line feed; save the file with LF or CRLF line ends"
		case r < ' ' && r != '\t' && r != '\n', r >= 0x7f && r < 0xa0 && r != 0x85, r == 0xfffe, r == 0xffff:
			what = fmt.Sprintf(`control character %U; write it as an escape in double quotes`, r)
		case r == '\ufeff':
			what = "a byte order mark may only stand at the start of the file"
		default:
			continue
		}
		p := s.pos(i)
		return nil, Problems{{Pos: p, Code: "bad-character", Message: what, Source: strings.ToValidUTF8(s.line(p.Line), "\ufffd"), Width: 1}}
	}
	return s, nil
}

// reader turns the documents of a source into nodes.
type reader struct {
	src      *source
	problems Problems
	nodes    int
	full     bool // a limit was reached and said
	skip     int  // lines before the current document
	places   map[*token.Token]int
}

// problem notes a problem at a byte of the source.
func (r *reader) problem(offset, width int, code, format string, args ...any) {
	p := r.src.pos(offset)
	line := r.src.line(p.Line)
	r.problems = append(r.problems, Problem{
		Pos: p, Code: code, Message: fmt.Sprintf(format, args...),
		Source: line, Width: clampWidth(line, p.Col, width),
	})
}

// part is a document: its text and the number of lines before it.
type part struct {
	text string
	skip int
}

// split cuts the source at the lines that start with ---. (The YAML library
// loses what follows an empty document.)
func (r *reader) split() []part {
	var parts []part
	start, skip := 0, 0
	for i, o := range r.src.starts {
		line := r.src.line(i + 1)
		mark, isMark := cutMark(line)
		switch {
		case isMark && mark == "...":
			r.problem(o, 3, "yaml-syntax", `"..." is not used here; documents are separated by "---"`)
		case isMark:
			if rest := strings.TrimSpace(line[3:]); rest != "" && rest[0] != '#' {
				r.problem(o+strings.Index(line, rest), utf8.RuneCountInString(rest), "yaml-syntax",
					`"---" stands alone on its line; write the document below it`)
			}
			parts = append(parts, part{r.src.text[start:o], skip})
			start, skip = min(o+len(line)+1, len(r.src.text)), i+1
		case strings.HasPrefix(line, "%"):
			r.problem(o, utf8.RuneCountInString(line), "yaml-syntax", "YAML directives are not used here; remove the line")
		}
	}
	if len(r.problems) > 0 {
		return nil
	}
	return append(parts, part{r.src.text[start:], skip})
}

// cutMark returns --- or ... where a line starts with it as a document mark.
func cutMark(line string) (string, bool) {
	if len(line) < 3 || len(line) > 3 && line[3] != ' ' && line[3] != '\t' {
		return "", false
	}
	return line[:3], line[:3] == "---" || line[:3] == "..."
}

// document parses one document; nil when it is empty or broken.
func (r *reader) document(d part) (n *Node) {
	defer func() {
		// The YAML library is fed by authors; a crash in it is a syntax error.
		if recover() != nil {
			r.problem(r.src.offset(d.skip+1, 1), 1, "yaml-syntax", "this document is not valid YAML")
			n = nil
		}
	}()
	r.skip = d.skip
	tokens := lexer.Tokenize(d.text)
	r.place(tokens, r.src.offset(d.skip+1, 1))
	if !r.checkTokens(tokens) {
		return nil
	}
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err)
		return nil
	}
	for _, doc := range f.Docs {
		if doc.Body != nil && n == nil {
			n = r.node(doc.Body, 1)
		}
	}
	return n
}

// checkTokens refuses what must not reach the recursive parser.
func (r *reader) checkTokens(tokens token.Tokens) bool {
	before := len(r.problems)
	depth, scalars := 0, 0
	for _, t := range tokens {
		if t.Indicator == token.NotIndicator || t.Indicator == token.QuotedScalarIndicator {
			scalars++
		}
		//exhaustive:ignore
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.AnchorType:
			r.anchor(t, 1, "anchors (&) are not used here; write the value out")
		case token.AliasType:
			r.anchor(t, 1, "aliases (*) are not used here; write the value out, or put it in quotes")
		case token.MergeKeyType:
			r.anchor(t, 2, "merge keys (<<) are not used here; write the keys out")
		case token.MappingKeyType:
			r.problem(r.at(t), 1, "yaml-syntax", `keys that start with "? " are not used here; write "key: value"`)
		}
		if depth > maxDepth || t.Type == token.SequenceEntryType && t.Position.Column > 16*maxDepth {
			r.problem(r.at(t), 1, "too-deep", "lists and maps are nested more than %d levels deep", maxDepth)
			return false
		}
	}
	// The time that the YAML library takes grows with the square of a map.
	if scalars+r.nodes > maxNodes || len(tokens) > 5*maxNodes {
		r.tooMany(r.src.offset(r.skip+1, 1))
	}
	return len(r.problems) == before
}

// anchor notes a way of YAML to use a value again, once a line.
func (r *reader) anchor(t *token.Token, width int, message string) {
	off := r.at(t)
	if last := len(r.problems) - 1; last < 0 || r.problems[last].Code != "yaml-anchor" || r.problems[last].Pos.Line != r.src.pos(off).Line {
		r.problem(off, width, "yaml-anchor", "%s", message)
	}
}

func (r *reader) tooMany(offset int) {
	if !r.full {
		r.problem(offset, 1, "too-large", "the file has more than %d values", maxNodes)
	}
	r.full = true
}

// place finds the byte of each token of a document that starts at byte off.
// The columns of the YAML library are too small behind a tag, so the source is
// followed by what the tokens say they were made of.
func (r *reader) place(tokens token.Tokens, off int) {
	r.places = make(map[*token.Token]int, len(tokens))
	src := r.src.text
	for _, t := range tokens {
		for off < len(src) && strings.IndexByte(" \t\n", src[off]) >= 0 {
			off++
		}
		origin := strings.Trim(t.Origin, " \t\n")
		if t.Type == token.InvalidType {
			continue
		}
		end := matchLoose(src, off, origin)
		if t.Type == token.DoubleQuoteType { // its origin has no escapes
			if _, places, ok := doubleQuoted(src[off:]); ok {
				end = off + int(places[len(places)-1]) + 1
			}
		}
		if end >= 0 {
			r.places[t] = off
			off = end
			continue
		}
		off = r.src.offset(r.skip+t.Position.Line, t.Position.Column)
	}
}

// matchLoose returns the end of origin in src from byte off, or -1. Blanks do
// not count: an origin lacks those at the ends of lines.
func matchLoose(src string, off int, origin string) int {
	for i := range len(origin) {
		if strings.IndexByte(" \t\n", origin[i]) >= 0 {
			continue
		}
		for off < len(src) && strings.IndexByte(" \t\n", src[off]) >= 0 {
			off++
		}
		if off >= len(src) || src[off] != origin[i] {
			return -1
		}
		off++
	}
	return off
}

// at returns the byte where a token starts.
func (r *reader) at(t *token.Token) int {
	if off, ok := r.places[t]; ok {
		return off
	}
	return r.src.offset(r.skip+t.Position.Line, t.Position.Column)
}

// node converts a node and what is below it.
func (r *reader) node(a ast.Node, depth int) *Node {
	off := r.at(a.GetToken())
	r.nodes++
	switch {
	case r.nodes > maxNodes:
		r.tooMany(off)
		return &Node{Kind: NullNode, Pos: r.src.pos(off), src: r.src}
	case depth > maxDepth:
		if !r.full {
			r.problem(off, 1, "too-deep", "lists and maps are nested more than %d levels deep", maxDepth)
		}
		r.full = true
		return &Node{Kind: NullNode, Pos: r.src.pos(off), src: r.src}
	}
	switch x := a.(type) {
	case *ast.MappingNode:
		n := r.mapping(x.Values, depth)
		if len(n.Entries) == 0 {
			n.Pos = r.src.pos(off)
		}
		return n
	case *ast.MappingValueNode:
		return r.mapping([]*ast.MappingValueNode{x}, depth)
	case *ast.SequenceNode:
		n := &Node{Kind: ListNode, Pos: r.src.pos(off), src: r.src}
		r.checkIndent(off)
		for _, v := range x.Values {
			n.Items = append(n.Items, r.child(v, off, depth))
		}
		return n
	case *ast.TagNode:
		return r.tagged(x, off, depth)
	default:
		return r.scalar(a, off)
	}
}

// child is node for a value that may be missing.
func (r *reader) child(a ast.Node, parent, depth int) *Node {
	if a == nil {
		return &Node{Kind: NullNode, Pos: r.src.pos(parent), src: r.src}
	}
	return r.node(a, depth+1)
}

func (r *reader) mapping(values []*ast.MappingValueNode, depth int) *Node {
	n := &Node{Kind: MapNode, src: r.src}
	seen := make(map[string]Pos, len(values))
	for _, v := range values {
		key := r.key(v.Key)
		if len(n.Entries) == 0 {
			n.Pos = key.Pos
		}
		if first, ok := seen[key.Text]; ok {
			r.problems = append(r.problems, key.Problem("duplicate-key", "key %q is already set in line %d", key.Text, first.Line))
		} else {
			seen[key.Text] = key.Pos
		}
		n.Entries = append(n.Entries, Entry{Key: key, Value: r.child(v.Value, r.at(v.GetToken()), depth)})
	}
	return n
}

func (r *reader) key(k ast.MapKeyNode) *Node {
	off := r.at(k.GetToken())
	r.nodes++
	switch k.(type) {
	case *ast.StringNode:
		return r.scalar(k, off)
	case *ast.LiteralNode, *ast.TagNode, *ast.MappingKeyNode, *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		r.problem(off, 1, "yaml-key", "a key is a plain word, such as name")
		return &Node{Pos: r.src.pos(off), src: r.src, start: off}
	default:
		n := r.scalar(k, off)
		n.Kind = ScalarNode
		r.problems = append(r.problems, n.Problem("yaml-key", "a key must be a string; write %q in quotes", n.Text))
		return n
	}
}

func (r *reader) tagged(x *ast.TagNode, off, depth int) *Node {
	tag := x.Start.Value
	var n *Node
	if x.Value == nil {
		n = &Node{Kind: NullNode, Pos: r.src.pos(off), src: r.src}
	} else {
		n = r.node(x.Value, depth)
	}
	switch {
	case tag != "!expr":
		r.problem(off, utf8.RuneCountInString(tag), "yaml-tag", "unknown tag %s; the only tag is !expr", tag)
	case n.Kind != ScalarNode:
		r.problem(off, len(tag), "yaml-tag", "!expr stands before an expression, such as !expr params.uid + 1; here is %s", n.Kind)
	}
	n.Tag = tag
	return n
}

// checkIndent refuses a tab in the indentation of the line of a byte.
func (r *reader) checkIndent(off int) {
	start := r.src.starts[r.src.pos(off).Line-1]
	for i := start; i < off; i++ {
		switch r.src.text[i] {
		case ' ':
		case '\t':
			r.problem(i, 1, "yaml-tab", "a tab cannot indent YAML; use spaces")
			return
		default:
			return
		}
	}
}
