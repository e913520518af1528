package keeper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"runner/engine/lang"
)

// Bounds of a file.
const (
	maxSize  = 32 << 20
	maxDepth = 64
	maxNodes = 500_000
	maxItems = 20_000 // resources, users
)

// tree is a JSON document with the path of each of its values and keys.
type tree struct {
	root  *lang.Node
	paths map[*lang.Node]string
}

// parser reads JSON into nodes, within bounds.
type parser struct {
	tree
	name  string
	text  []byte
	dec   *json.Decoder
	nodes int // that may still come
	line  int // of the byte seen
	col   int // of it, from 0, in runes
	seen  int // byte up to which lines and columns are counted
}

// boundError is what a file is too much of.
type boundError struct{ what string }

func (e *boundError) Error() string { return e.what }

// parse reads one JSON document.
func parse(name string, text []byte) (tree, lang.Problems) { return parseWithin(name, text, maxNodes) }

// parseWithin is parse for at most so many values and keys.
func parseWithin(name string, text []byte, nodes int) (tree, lang.Problems) {
	p := &parser{name: name, text: text, dec: json.NewDecoder(bytes.NewReader(text)), line: 1, nodes: nodes}
	p.paths = map[*lang.Node]string{}
	p.dec.UseNumber()
	problem := func(code, format string, args ...any) lang.Problems {
		return lang.Problems{{Pos: p.pos(), Code: code, Message: fmt.Sprintf(format, args...)}}
	}
	if len(text) > maxSize {
		return p.tree, lang.Problems{{Pos: lang.Pos{File: name, Line: 1, Col: 1}, Code: "too-large", Message: fmt.Sprintf("the file is larger than %d MiB, which is the most that is read", maxSize>>20)}}
	}
	var err error
	if p.root, err = p.value("", 0); err == nil {
		if _, more := p.dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something stands behind the end of the document")
		}
	}
	if bound, is := errors.AsType[*boundError](err); is {
		return p.tree, problem("too-large", "%s", bound.what)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends too early")
	}
	if err != nil {
		return p.tree, problem("bad-json", "this is no JSON: %s", err)
	}
	return p.tree, nil
}

// pos is the place of the next token.
func (p *parser) pos() lang.Pos {
	at := min(int(p.dec.InputOffset()), len(p.text))
	for at < len(p.text) && strings.IndexByte(" \t\r\n,:", p.text[at]) >= 0 {
		at++
	}
	for ; p.seen < at; p.seen++ {
		switch b := p.text[p.seen]; {
		case b == '\n':
			p.line, p.col = p.line+1, 0
		case utf8.RuneStart(b):
			p.col++
		}
	}
	return lang.Pos{File: p.name, Line: p.line, Col: p.col + 1}
}

// node makes a node at a place.
func (p *parser) node(kind lang.NodeKind, pos lang.Pos, path string) (*lang.Node, error) {
	if p.nodes--; p.nodes < 0 {
		return nil, &boundError{fmt.Sprintf("the file has more than %d values", maxNodes)}
	}
	n := &lang.Node{Kind: kind, Pos: pos}
	p.paths[n] = path
	return n, nil
}

func (p *parser) value(path string, depth int) (*lang.Node, error) {
	if depth > maxDepth {
		return nil, &boundError{fmt.Sprintf("%s: more than %d objects and lists within each other", path, maxDepth)}
	}
	pos := p.pos()
	t, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	n, err := p.node(lang.ScalarNode, pos, path)
	if err != nil {
		return nil, err
	}
	switch v := t.(type) {
	case json.Delim:
		if v == '{' {
			n.Kind = lang.MapNode
			return n, p.object(n, path, depth)
		}
		n.Kind = lang.ListNode
		return n, p.list(n, path, depth)
	case string:
		n.Text, n.Quoted = v, true
	case json.Number:
		n.Text = v.String()
	case bool:
		n.Text = strconv.FormatBool(v)
	case nil:
		n.Kind = lang.NullNode
	}
	return n, nil
}

func (p *parser) list(n *lang.Node, path string, depth int) error {
	for i := 0; p.dec.More(); i++ {
		it, err := p.value(fmt.Sprintf("%s[%d]", path, i), depth+1)
		if err != nil {
			return err
		}
		n.Items = append(n.Items, it)
	}
	_, err := p.dec.Token()
	return err
}

func (p *parser) object(n *lang.Node, path string, depth int) error {
	seen := map[string]bool{}
	for p.dec.More() {
		pos := p.pos()
		t, err := p.dec.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		at := member(path, name)
		if seen[name] {
			return fmt.Errorf("%s is there twice", at)
		}
		seen[name] = true
		key, err := p.node(lang.ScalarNode, pos, at)
		if err != nil {
			return err
		}
		key.Text, key.Quoted = name, true
		v, err := p.value(at, depth+1)
		if err != nil {
			return err
		}
		n.Entries = append(n.Entries, lang.Entry{Key: key, Value: v})
	}
	_, err := p.dec.Token()
	return err
}

var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,60}$`)

// member is the path of a member of an object.
func member(path, key string) string {
	if !plainKey.MatchString(key) {
		if r := []rune(key); len(r) > 60 {
			key = string(r[:60]) + "…"
		}
		return path + "[" + strconv.QuoteToASCII(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
