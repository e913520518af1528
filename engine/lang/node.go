package lang

import (
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"
)

// NodeKind is the shape of a YAML node.
type NodeKind int

// Kinds of nodes.
const (
	ScalarNode NodeKind = iota
	MapNode
	ListNode
	NullNode // nothing, ~ or null
)

// String returns the word that messages use: "a value", "a map", "a list", "nothing".
func (k NodeKind) String() string {
	switch k {
	case MapNode:
		return "a map"
	case ListNode:
		return "a list"
	case NullNode:
		return "nothing"
	case ScalarNode:
	}
	return "a value"
}

// Node is a YAML value with its place.
type Node struct {
	Kind    NodeKind
	Pos     Pos     // first character; of a quoted scalar the quote, of a block scalar its | or >
	Text    string  // scalars: the decoded text, before any typing; of a plain scalar what is written (0644, no, 1e3)
	Quoted  bool    // scalars: written in quotes or as a block, so a string whatever it looks like
	Tag     string  // explicit tag: "!expr", or ""
	Entries []Entry // maps, in the order of the file
	Items   []*Node // lists

	src *source
	// origin maps each byte of Text, and its end, to a byte of the source;
	// nil where Text stands in the source as it is.
	origin []int32
	start  int // byte of the source where Text starts, when origin is nil
}

// Entry is a key of a map with its value. Key is a scalar; Value is never nil.
type Entry struct {
	Key   *Node
	Value *Node
}

// Get returns the value of a key, or nil when n is nil, no map, or has no such key.
func (n *Node) Get(key string) *Node {
	if n == nil {
		return nil
	}
	for _, e := range n.Entries {
		if e.Key.Text == key {
			return e.Value
		}
	}
	return nil
}

// At returns the place of the byte at offset of Text, also inside quoted and
// block scalars. An offset outside of Text means its nearest end; of a node
// that is not a scalar it is Pos.
func (n *Node) At(offset int) Pos {
	offset = max(0, min(offset, len(n.Text)))
	switch {
	case n.Kind != ScalarNode:
		return n.Pos
	case n.src == nil:
		p := n.Pos
		p.Col += utf8.RuneCountInString(n.Text[:offset])
		return p
	case n.origin != nil:
		return n.src.pos(int(n.origin[offset]))
	default:
		return n.src.pos(n.start + offset)
	}
}

// Problem returns a problem at the node, with its source line. code is a
// stable word; the message follows the rules of Problem.Message.
func (n *Node) Problem(code, format string, args ...any) Problem {
	width := 1
	if n.Kind == ScalarNode {
		width = utf8.RuneCountInString(n.Text)
	}
	return n.problem(n.Pos, width, code, fmt.Sprintf(format, args...))
}

// ProblemAt is Problem at a byte offset of Text; width is in runes.
func (n *Node) ProblemAt(offset, width int, code, format string, args ...any) Problem {
	return n.problem(n.At(offset), width, code, fmt.Sprintf(format, args...))
}

func (n *Node) problem(pos Pos, width int, code, message string) Problem {
	p := Problem{Pos: pos, Code: code, Message: message}
	if n.src != nil {
		p.Source = n.src.line(pos.Line)
	}
	p.Width = clampWidth(p.Source, pos.Col, width)
	return p
}

// clampWidth keeps the underlined part within the line.
func clampWidth(line string, col, width int) int {
	return max(1, min(width, utf8.RuneCountInString(line)-col+1))
}

// source is the text of a file, for places and excerpts.
type source struct {
	file   string
	text   string
	starts []int // byte offset of each line
}

func newSource(file, text string) *source {
	s := &source{file: file, text: text, starts: []int{0}}
	for i := range len(text) {
		if text[i] == '\n' {
			s.starts = append(s.starts, i+1)
		}
	}
	return s
}

// line returns a line (from 1) without its end.
func (s *source) line(n int) string {
	if n < 1 || n > len(s.starts) {
		return ""
	}
	l := s.text[s.starts[n-1]:]
	if i := strings.IndexByte(l, '\n'); i >= 0 {
		l = l[:i]
	}
	return l
}

// pos returns the place of a byte; within a character, of the character.
func (s *source) pos(offset int) Pos {
	offset = max(0, min(offset, len(s.text)))
	for offset > 0 && offset < len(s.text) && !utf8.RuneStart(s.text[offset]) {
		offset--
	}
	i := sort.SearchInts(s.starts, offset+1) - 1
	return Pos{File: s.file, Line: i + 1, Col: utf8.RuneCountInString(s.text[s.starts[i]:offset]) + 1}
}

// offset returns the byte at a line and column (runes), both from 1; places
// outside of the text are moved to its nearest end.
func (s *source) offset(line, col int) int {
	line = max(1, min(line, len(s.starts)))
	l := s.line(line)
	o := s.starts[line-1]
	for i := range l {
		if col <= 1 {
			return o + i
		}
		col--
	}
	return o + len(l)
}
