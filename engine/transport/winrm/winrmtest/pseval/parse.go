// Package pseval evaluates the PowerShell that package winrm writes around the
// bodies of a batch, for tests: exactly that subset, with the semantics of
// Windows PowerShell 5.1 in ConstrainedLanguage. It refuses everything else, so
// that a new construct has to be looked at before a test passes again. It is no
// shell: commands are what the caller brings.
package pseval

import (
	"fmt"
	"strconv"
	"strings"
)

// node is a statement or an expression.
type node struct {
	kind string // see eval
	text string // name, operator, constant
	num  int64
	kids []*node
	at   int // offset in the source
}

// UnsupportedError says that a script uses what is not in the subset.
type UnsupportedError struct{ What string }

// Error says what.
func (e *UnsupportedError) Error() string { return "pseval: not in the subset: " + e.What }

func unsupported(format string, args ...any) error {
	return &UnsupportedError{What: fmt.Sprintf(format, args...)}
}

// parser reads a script. Its methods panic with *UnsupportedError.
type parser struct {
	src string
	i   int
	// nested counts the parentheses in which a line break is a blank.
	nested int
}

// parse reads a whole script.
func parse(src string) (n *node, err error) {
	p := &parser{src: src}
	defer func() {
		if r := recover(); r != nil {
			u, ok := r.(*UnsupportedError)
			if !ok {
				panic(r)
			}
			err = u
		}
	}()
	n = p.statements("")
	return n, nil
}

func (p *parser) fail(what string) {
	line := 1 + strings.Count(p.src[:min(p.i, len(p.src))], "\n")
	rest := p.src[min(p.i, len(p.src)):]
	panic(&UnsupportedError{What: fmt.Sprintf("%s at line %d near %.40q", what, line, rest)})
}

func (p *parser) peek() byte {
	if p.i < len(p.src) {
		return p.src[p.i]
	}
	return 0
}

func (p *parser) has(s string) bool { return strings.HasPrefix(p.src[p.i:], s) }

// blanks skips blanks and comments, and line breaks when lines is set.
func (p *parser) blanks(lines bool) {
	for p.i < len(p.src) {
		switch c := p.src[p.i]; {
		case c == ' ' || c == '\t' || c == '\r':
			p.i++
		case c == '\n' && (lines || p.nested > 0):
			p.i++
		case c == '#':
			for p.i < len(p.src) && p.src[p.i] != '\n' {
				p.i++
			}
		default:
			return
		}
	}
}

// take consumes s after blanks.
func (p *parser) take(s string) bool {
	p.blanks(false)
	if !p.has(s) {
		return false
	}
	p.i += len(s)
	return true
}

func (p *parser) need(s string) {
	if !p.take(s) {
		p.fail("want " + s)
	}
}

func letter(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

// word reads a name.
func (p *parser) word() string {
	start := p.i
	for p.i < len(p.src) && (letter(p.src[p.i]) || digit(p.src[p.i])) {
		p.i++
	}
	return p.src[start:p.i]
}

// keyword consumes a whole word.
func (p *parser) keyword(w string) bool {
	p.blanks(false)
	if !p.has(w) || p.i+len(w) < len(p.src) && (letter(p.src[p.i+len(w)]) || digit(p.src[p.i+len(w)]) || p.src[p.i+len(w)] == '-') {
		return false
	}
	p.i += len(w)
	return true
}

// statements reads up to end, which is consumed; "" is the end of the script.
func (p *parser) statements(end string) *node {
	nested := p.nested
	p.nested = 0
	defer func() { p.nested = nested }()
	out := &node{kind: "block", at: p.i}
	for {
		p.blanks(true)
		for p.peek() == ';' {
			p.i++
			p.blanks(true)
		}
		switch {
		case p.i == len(p.src) && end == "":
			return out
		case p.i == len(p.src):
			p.fail("want " + end)
		case end != "" && p.has(end):
			p.i += len(end)
			return out
		}
		out.kids = append(out.kids, p.statement())
		p.blanks(false)
		if c := p.peek(); c != '\n' && c != ';' && c != 0 && (end == "" || !p.has(end)) {
			p.fail("want the end of the statement")
		}
	}
}

func (p *parser) block() *node {
	p.blanks(true)
	p.need("{")
	return p.statements("}")
}

func (p *parser) paren() *node {
	p.need("(")
	p.nested++
	n := p.pipeline()
	p.need(")")
	p.nested--
	return n
}

func (p *parser) statement() *node {
	at := p.i
	switch {
	case p.keyword("param"):
		return &node{kind: "param", kids: p.params(), at: at}
	case p.keyword("function"):
		p.blanks(false)
		n := &node{kind: "function", text: strings.ToLower(p.word()), at: at}
		var params []*node
		if p.take("(") {
			p.i--
			params = p.params()
		}
		n.kids = append([]*node{p.block()}, params...)
		return n
	case p.keyword("if"):
		n := &node{kind: "if", kids: []*node{p.paren(), p.block()}, at: at}
		for p.follows("elseif") {
			n.kids = append(n.kids, p.paren(), p.block())
		}
		if p.follows("else") {
			n.kids = append(n.kids, p.block())
		}
		return n
	case p.keyword("while"):
		return &node{kind: "while", kids: []*node{p.paren(), p.block()}, at: at}
	case p.keyword("do"):
		body := p.block()
		if !p.follows("while") {
			p.fail("want while")
		}
		return &node{kind: "do", kids: []*node{body, p.paren()}, at: at}
	case p.keyword("foreach"):
		p.need("(")
		p.need("$")
		n := &node{kind: "foreach", text: strings.ToLower(p.word()), at: at}
		if !p.keyword("in") {
			p.fail("want in")
		}
		p.nested++
		list := p.pipeline()
		p.need(")")
		p.nested--
		n.kids = []*node{list, p.block()}
		return n
	case p.keyword("try"):
		body := p.block()
		switch {
		case p.follows("catch"):
			return &node{kind: "try", kids: []*node{body, p.block()}, at: at}
		case p.follows("finally"):
			return &node{kind: "finally", kids: []*node{body, p.block()}, at: at}
		}
		p.fail("want catch or finally")
	case p.keyword("return"), p.keyword("throw"):
		n := &node{kind: strings.TrimSpace(p.src[at:p.i]), at: at}
		p.blanks(false)
		if c := p.peek(); c != '\n' && c != ';' && c != '}' && c != 0 {
			n.kids = append(n.kids, p.pipeline())
		} else if n.kind == "throw" {
			p.fail("throw without a value")
		}
		return n
	case p.keyword("break"), p.keyword("continue"):
		return &node{kind: strings.TrimSpace(p.src[at:p.i]), at: at}
	}
	return p.assignment()
}

// follows consumes a keyword that may stand on the next line.
func (p *parser) follows(w string) bool {
	start := p.i
	p.blanks(true)
	if p.keyword(w) {
		return true
	}
	p.i = start
	return false
}

func (p *parser) params() []*node {
	p.need("(")
	p.nested++
	defer func() { p.nested-- }()
	var out []*node
	for !p.take(")") {
		if len(out) > 0 {
			p.need(",")
		}
		p.need("$")
		out = append(out, &node{kind: "name", text: strings.ToLower(p.word())})
	}
	return out
}

func (p *parser) assignment() *node {
	at := p.i
	left := p.pipeline()
	if left.kind == "variable" || left.kind == "member" || left.kind == "index" {
		p.blanks(false)
		if p.has("=") {
			p.i++
			p.blanks(true)
			return &node{kind: "assign", kids: []*node{left, p.pipeline()}, at: at}
		}
	}
	return left
}

// pipeline reads a command or an expression. There are no pipes.
func (p *parser) pipeline() *node {
	p.blanks(false)
	at := p.i
	switch {
	case p.take("&"):
		p.blanks(false)
		n := &node{kind: "call", kids: []*node{p.postfix()}, at: at}
		p.words(n)
		return p.pipe(n)
	case letter(p.peek()):
		return p.pipe(p.command())
	}
	return p.pipe(p.expr(0))
}

// pipe reads the only pipe of the subset: into Out-String -Stream.
func (p *parser) pipe(n *node) *node {
	p.blanks(false)
	if !p.has("|") {
		return n
	}
	p.i++
	p.blanks(true)
	to := p.command()
	if to.text != "out-string" || len(to.kids) == 0 || to.kids[0].text != "stream" {
		p.fail("a pipe")
	}
	return &node{kind: "pipe", kids: []*node{n}, at: n.at}
}

// command reads a command and its arguments.
func (p *parser) command() *node {
	n := &node{kind: "command", at: p.i}
	start := p.i
	for letter(p.peek()) || digit(p.peek()) || p.peek() == '-' || p.peek() == '.' {
		p.i++
	}
	n.text = strings.ToLower(p.src[start:p.i])
	p.words(n)
	return n
}

// words reads the arguments of a command into n.
func (p *parser) words(n *node) {
	for {
		p.blanks(false)
		switch c := p.peek(); {
		case c == 0 || c == '\n' || c == ';' || c == ')' || c == '}' || c == '|':
			return
		case c == '-' && p.i+1 < len(p.src) && letter(p.src[p.i+1]):
			p.i++
			n.kids = append(n.kids, &node{kind: "parameter", text: strings.ToLower(p.word())})
		case c == '@' && p.i+1 < len(p.src) && letter(p.src[p.i+1]):
			p.i++
			n.kids = append(n.kids, &node{kind: "splat", text: strings.ToLower(p.word())})
		default:
			n.kids = append(n.kids, p.argument())
		}
	}
}

// argument reads one argument, which may be a list with commas.
func (p *parser) argument() *node {
	var list []*node
	for {
		p.blanks(false)
		if letter(p.peek()) { // a bare word is text
			list = append(list, &node{kind: "string", text: p.word()})
		} else {
			list = append(list, p.postfix())
		}
		if p.blanks(false); p.peek() != ',' {
			break
		}
		p.i++
	}
	if len(list) == 1 {
		return list[0]
	}
	return &node{kind: "array", kids: list}
}

// binary operators by precedence, as in about_Operator_Precedence.
var binary = [][]string{
	{"-and", "-or"},
	{"-eq", "-ne", "-gt", "-lt", "-ge", "-le", "-cmatch", "-cnotmatch", "-contains", "-notcontains", "-is", "-join", "-split"},
	{"+", "-"},
}

func (p *parser) expr(level int) *node {
	if level == len(binary) {
		return p.unary()
	}
	left := p.expr(level + 1)
	for {
		p.blanks(false)
		op := ""
		for _, o := range binary[level] {
			if p.operator(o) {
				op = o
				break
			}
		}
		if op == "" {
			return left
		}
		p.blanks(true)
		left = &node{kind: "binary", text: op, kids: []*node{left, p.expr(level + 1)}, at: p.i}
	}
}

func (p *parser) operator(o string) bool {
	if len(o) == 1 {
		if p.has(o) && (o != "-" || p.i+1 == len(p.src) || !letter(p.src[p.i+1])) {
			p.i++
			return true
		}
		return false
	}
	return p.keyword(o)
}

func (p *parser) unary() *node {
	p.blanks(false)
	at := p.i
	switch {
	case p.keyword("-not"):
		return &node{kind: "not", kids: []*node{p.unary()}, at: at}
	case p.peek() == '[':
		p.i++
		name := strings.ToLower(p.word())
		if p.peek() != ']' {
			p.fail("a type")
		}
		p.i++
		if p.has("::") {
			p.i += 2
			n := &node{kind: "static", text: name + "::" + strings.ToLower(p.word()), at: at}
			n.kids = p.arguments()
			return n
		}
		if c := p.peek(); c == '[' || c == '$' || c == '(' || c == '\'' || digit(c) {
			return &node{kind: "cast", text: name, kids: []*node{p.unary()}, at: at}
		}
		return &node{kind: "type", text: name, at: at}
	}
	return p.postfix()
}

// arguments reads those of a method.
func (p *parser) arguments() []*node {
	if p.peek() != '(' {
		p.fail("a static property")
	}
	p.i++
	p.nested++
	defer func() { p.nested-- }()
	var out []*node
	for !p.take(")") {
		if len(out) > 0 {
			p.need(",")
		}
		out = append(out, p.expr(0))
	}
	return out
}

func (p *parser) postfix() *node {
	n := p.primary()
	for {
		at := p.i
		switch c := p.peek(); {
		case c == '.' && p.i+1 < len(p.src) && letter(p.src[p.i+1]):
			p.i++
			name := strings.ToLower(p.word())
			if p.peek() == '(' {
				n = &node{kind: "method", text: name, kids: append([]*node{n}, p.arguments()...), at: at}
				continue
			}
			n = &node{kind: "member", text: name, kids: []*node{n}, at: at}
		case c == '[':
			p.i++
			p.nested++
			index := p.expr(0)
			p.need("]")
			p.nested--
			n = &node{kind: "index", kids: []*node{n, index}, at: at}
		default:
			return n
		}
	}
}

func (p *parser) primary() *node {
	p.blanks(false)
	at := p.i
	switch c := p.peek(); {
	case c == '$':
		p.i++
		return p.variable()
	case c == '\'':
		return &node{kind: "string", text: p.single(), at: at}
	case c == '"':
		return p.double()
	case digit(c), c == '-' && p.i+1 < len(p.src) && digit(p.src[p.i+1]):
		p.i++
		for digit(p.peek()) {
			p.i++
		}
		n, err := strconv.ParseInt(p.src[at:p.i], 10, 64)
		if err != nil {
			p.fail("a number")
		}
		return &node{kind: "number", num: n, at: at}
	case p.has("@("):
		p.i++
		return &node{kind: "list", kids: []*node{p.inner()}, at: at}
	case p.has("@{"):
		p.i += 2
		return p.hash()
	case c == '(':
		return &node{kind: "paren", kids: []*node{p.paren()}, at: at}
	case c == '{':
		return &node{kind: "scriptblock", text: p.raw(), at: at}
	}
	p.fail("an expression")
	return nil
}

// inner reads the statements in parentheses.
func (p *parser) inner() *node {
	p.need("(")
	return p.statements(")")
}

// variable reads what follows a dollar sign.
func (p *parser) variable() *node {
	braced := p.take("{")
	name := strings.ToLower(p.word())
	if braced && !p.take("}") {
		p.fail("a name in ${ }")
	}
	if p.peek() == ':' && (name == "global" || name == "env") {
		p.i++
		name += ":" + strings.ToLower(p.word())
	}
	if name == "" {
		p.fail("a variable")
	}
	return &node{kind: "variable", text: name, at: p.i}
}

func (p *parser) single() string {
	var b strings.Builder
	for p.i++; p.i < len(p.src); p.i++ {
		if p.src[p.i] == '\'' {
			if p.i+1 < len(p.src) && p.src[p.i+1] == '\'' {
				p.i++
			} else {
				p.i++
				return b.String()
			}
		}
		b.WriteByte(p.src[p.i])
	}
	p.fail("a string without an end")
	return ""
}

// double reads a string with $name and $( ) in it.
func (p *parser) double() *node {
	n := &node{kind: "expand", at: p.i}
	var b strings.Builder
	flush := func() {
		n.kids = append(n.kids, &node{kind: "string", text: b.String()})
		b.Reset()
	}
	for p.i++; p.i < len(p.src); {
		switch c := p.src[p.i]; {
		case c == '"':
			p.i++
			flush()
			return n
		case c == '`':
			p.fail("a backquote")
		case p.has("$("):
			flush()
			p.i++
			n.kids = append(n.kids, &node{kind: "paren", kids: []*node{p.inner()}})
		case c == '$':
			flush()
			p.i++
			n.kids = append(n.kids, p.variable())
		default:
			b.WriteByte(c)
			p.i++
		}
	}
	p.fail("a string without an end")
	return nil
}

func (p *parser) hash() *node {
	n := &node{kind: "hash", at: p.i}
	nested := p.nested
	p.nested = 0
	defer func() { p.nested = nested }()
	for {
		p.blanks(true)
		for p.peek() == ';' {
			p.i++
			p.blanks(true)
		}
		if p.take("}") {
			return n
		}
		var key string
		if p.peek() == '\'' {
			key = p.single()
		} else if key = p.word(); key == "" {
			p.fail("a key")
		}
		p.need("=")
		p.blanks(true)
		n.kids = append(n.kids, &node{kind: "entry", text: key, kids: []*node{p.pipeline()}})
	}
}

// raw reads a script block without looking into it: it may be a body in full
// PowerShell. Strings, here-strings and comments hide braces.
func (p *parser) raw() string {
	start := p.i + 1
	depth := 0
	for p.i < len(p.src) {
		switch c := p.src[p.i]; {
		case c == '{':
			depth++
		case c == '}':
			if depth--; depth == 0 {
				p.i++
				return p.src[start : p.i-1]
			}
		case c == '`':
			p.i++
		case p.has("@'\n"), p.has("@\"\n"):
			end := strings.Index(p.src[p.i:], "\n"+p.src[p.i+1:p.i+2]+"@")
			if end < 0 {
				p.fail("a here-string without an end")
			}
			p.i += end + 2
		case c == '\'' || c == '"':
			p.skipString(c)
			continue
		case p.has("<#"):
			end := strings.Index(p.src[p.i:], "#>")
			if end < 0 {
				p.fail("a comment without an end")
			}
			p.i += end + 1
		case c == '#':
			for p.i < len(p.src) && p.src[p.i] != '\n' {
				p.i++
			}
		}
		p.i++
	}
	p.fail("a block without an end")
	return ""
}

func (p *parser) skipString(quote byte) {
	for p.i++; p.i < len(p.src); p.i++ {
		switch {
		case p.src[p.i] == '`' && quote == '"':
			p.i++
		case p.src[p.i] == quote:
			p.i++
			return
		}
	}
	p.fail("a string without an end")
}
