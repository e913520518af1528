package lang

import (
	"regexp"
	"strings"
)

// CompilePowerShell does for a script of PowerShell what CompileScript does for
// one of a shell. There is no parser for it here: only strings, comments and
// brackets are known, so that a {{ }} which PowerShell would not expand, or
// would run, is found; the rest of the syntax shows on the device. A secret is
// a SecureString there.
func CompilePowerShell(n *Node, scope Scope) (string, []*Value, Problems) {
	s, ps := newScript(n, scope)
	if len(ps) > 0 {
		return "", nil, ps
	}
	s.replace()
	if len(s.problems) == 0 {
		w := &psWalk{s: s, src: s.out.String()}
		w.code(0)
	}
	if len(s.problems) > 0 {
		s.problems.Sort()
		return "", nil, s.problems
	}
	return s.out.String(), s.values, nil
}

// psWalk goes through a program of PowerShell.
type psWalk struct {
	s     *script
	src   string
	i     int
	begin int // of the statement or expression
	top   int // of the statement outside of all brackets
	next  int // the first spot that was not met yet
	stop  bool
}

// Quotes that PowerShell takes for straight ones.
const (
	singleQuotes = "'\u2018\u2019\u201a\u201b"
	doubleQuotes = "\"\u201c\u201d\u201e"
)

var psPartner = map[byte]byte{'(': ')', '{': '}', '[': ']'}

// quote returns the length of a quote of that kind at the current place, or 0.
func (w *psWalk) quote(kind string) int {
	for _, q := range kind {
		if strings.HasPrefix(w.src[w.i:], string(q)) {
			return len(string(q))
		}
	}
	return 0
}

func (w *psWalk) has(text string) bool { return strings.HasPrefix(w.src[w.i:], text) }

// problem reports what is wrong at a byte of the program.
func (w *psWalk) problem(at int, message string) {
	if !w.stop {
		w.s.problem(w.s.source(at), 1, "powershell-syntax", "PowerShell: %s", message)
	}
	w.stop = true
	w.i = len(w.src)
}

// misuse reports the spots between two places.
func (w *psWalk) misuse(from, to int, code, message string) {
	for i := range w.s.spots {
		if sp := &w.s.spots[i]; sp.start >= from && sp.start < to && !sp.misuseSaid {
			sp.misuseSaid = true
			w.s.problem(sp.from, sp.width(w.s), code, "%s", message)
		}
	}
}

// code reads up to the bracket that closes it, or to the end.
func (w *psWalk) code(closing byte) {
	outer := w.begin
	open := w.i - 1
	w.begin = w.i
	for w.i < len(w.src) {
		at := w.i
		switch c := w.src[w.i]; {
		case c == '`':
			w.escape()
		case w.comment():
		case w.hereString():
		case w.quote(singleQuotes) > 0:
			w.single()
		case w.quote(doubleQuotes) > 0:
			w.double()
		case w.has("--%") && w.word(w.i):
			w.line()
			w.misuse(at, w.i, "not-expanded", "PowerShell expands nothing after --%; write the arguments one by one")
		case w.spot():
		case c == '(' || c == '{' || c == '[':
			w.i++
			w.code(psPartner[c])
		case c == ')' || c == '}' || c == ']':
			if c != closing {
				w.problem(at, "this "+string(c)+" closes nothing")
				return
			}
			w.i++
			w.begin = outer
			return
		default:
			w.i++
			if c == ';' || c == '\n' || c == '|' || c == '&' {
				w.begin = w.i
				if closing == 0 {
					w.top = w.i
				}
			}
		}
	}
	if closing != 0 && !w.stop {
		w.problem(open, "this "+w.src[open:open+1]+" is not closed")
	}
}

// word reports whether a word begins at a place.
func (w *psWalk) word(at int) bool {
	return at == 0 || strings.ContainsRune(" \t\r\n;(){}|&,=", rune(w.src[at-1]))
}

// escape skips a backquote and what it escapes.
func (w *psWalk) escape() {
	w.misuse(w.i+1, w.i+2, "not-expanded", "PowerShell does not expand a {{ }} behind a backquote; remove the backquote")
	w.i = min(w.i+2, len(w.src))
}

func (w *psWalk) line() {
	if n := strings.IndexByte(w.src[w.i:], '\n'); n >= 0 {
		w.i += n
		return
	}
	w.i = len(w.src)
}

// comment skips a comment.
func (w *psWalk) comment() bool {
	at := w.i
	switch {
	case w.has("<#"):
		n := strings.Index(w.src[w.i:], "#>")
		if n < 0 {
			w.problem(at, "this comment has no end; write #>")
			return true
		}
		w.i += n + 2
	case w.has("#") && w.word(w.i):
		w.line()
	default:
		return false
	}
	w.misuse(at, w.i, "comment", "a {{ }} in a comment does nothing; remove it")
	return true
}

var hereStart = regexp.MustCompile("^@(['\"])[ \t]*\r?\n")

// hereString skips a string of several lines.
func (w *psWalk) hereString() bool {
	m := hereStart.FindStringSubmatch(w.src[w.i:])
	if m == nil {
		return false
	}
	at := w.i
	n := strings.Index(w.src[w.i+len(m[0])-1:], "\n"+m[1]+"@")
	if n < 0 {
		w.problem(at, "this here-string has no end; write "+m[1]+"@ at the start of a line")
		return true
	}
	w.i += len(m[0]) - 1 + n + 3
	if m[1] == "'" {
		w.misuse(at, w.i, "single-quotes", "PowerShell expands nothing in this here-string; begin it with @\"")
		return true
	}
	w.run(at, w.i)
	return true
}

// single skips a string in single quotes; two of them are one.
func (w *psWalk) single() {
	at := w.i
	w.i += w.quote(singleQuotes)
	for w.i < len(w.src) {
		n := w.quote(singleQuotes)
		if n == 0 {
			w.i++
			continue
		}
		w.i += n
		if n = w.quote(singleQuotes); n == 0 {
			w.misuse(at, w.i, "single-quotes", "PowerShell expands nothing in single quotes; put the {{ }} in double quotes")
			return
		}
		w.i += n
	}
	w.problem(at, "this string has no end")
}

// double reads a string in double quotes, with programs in it.
func (w *psWalk) double() {
	at := w.i
	w.i += w.quote(doubleQuotes)
	for w.i < len(w.src) {
		n := w.quote(doubleQuotes)
		switch {
		case w.src[w.i] == '`':
			w.escape()
		case w.has("$("):
			w.i += 2
			w.code(')')
		case w.spot():
		case n == 0:
			w.i++
		default:
			w.i += n
			if n = w.quote(doubleQuotes); n == 0 {
				return
			}
			w.i += n
		}
	}
	w.problem(at, "this string has no end")
}

// spot skips a variable that stands for an action, and looks who gets its value.
func (w *psWalk) spot() bool {
	for w.next < len(w.s.spots) && w.s.spots[w.next].start < w.i {
		w.next++
	}
	if w.next == len(w.s.spots) || w.s.spots[w.next].start != w.i {
		return false
	}
	end := w.i + len("${}") + len(w.s.spots[w.next].name)
	w.run(w.i, end)
	w.i = end
	return true
}

// runners are commands that take text for a program, makers are methods that do.
var (
	runners = regexp.MustCompile(`(?i)^[\s&.=]*(?:\$\w+\s*=\s*)?(iex|invoke-expression|powershell|powershell\.exe|pwsh|pwsh\.exe|cmd|cmd\.exe|wsl|wsl\.exe|add-type)\b`)
	makers  = regexp.MustCompile(`(?i)\[(?:system\.management\.automation\.)?scriptblock\]::create|invokescript|executecommand|newscriptblock`)
)

// run reports values between two places whose statement would run them.
func (w *psWalk) run(from, to int) {
	const back = 4096 // a statement that is longer hides nothing by it but its start
	if runners.MatchString(w.src[max(w.begin, from-back):from]) || makers.MatchString(w.src[max(w.top, from-back):from]) {
		w.misuse(from, to, "runs-value", "this would run what is in the value; hand it to a command as an argument instead")
	}
}
