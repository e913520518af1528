package lang

import (
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"text/template/parse"
	"time"
)

// outName is the function that writes a value into the text; authors cannot
// call it.
const outName = "runnerOut"

// goTemplates holds what is the same for all templates: the allow-list, and
// its form for text/template.
var goTemplates = sync.OnceValues(func() (map[string]textFunc, template.FuncMap) {
	all := textFuncs()
	fm := template.FuncMap{outName: textOf}
	for name, f := range all {
		fm[name] = func(args ...any) (any, error) { return f.call(name, args) }
	}
	return all, fm
})

// text is a compiled string with {{ }}.
type text struct {
	node   *Node
	offset int // bytes of node.Text before source
	source string
	tree   *parse.Tree
	run    runnable
	refs   [][]string
	path   []string // the text is exactly {{ path }}
	typ    Type     // type of the path
	vars   bool     // declares variables
	// optional are the paths that are handed to default.
	optional [][]string
	parts    []textPart
}

// textPart is a piece of the top level: written text, or an action.
type textPart struct {
	literal string
	path    []string // the action is a bare path
	typ     Type     // type of the path
	refs    [][]string
	run     runnable // nil for a literal
}

// compileText compiles the part source of n.Text at byte offset.
func compileText(n *Node, offset int, source string, scope Scope) (*text, Problems) {
	t := &text{node: n, offset: offset, source: source}
	if m := forbiddenAction.FindStringSubmatchIndex(source); m != nil {
		return nil, Problems{t.problem(m[2], m[3]-m[2], "no-define", "%q is not used here; a string holds values, if, range and with", source[m[2]:m[3]])}
	}
	if p := t.parse(); p != nil {
		return nil, Problems{*p}
	}
	w := &textWalk{t: t, scope: scope, vars: map[string]Type{}}
	w.topLevel(t.tree.Root)
	if len(w.problems) > 0 {
		w.problems.Sort()
		return nil, w.problems
	}
	t.refs = uniquePaths(w.refs)
	t.run = newTemplate(func() *parse.Tree { return t.tree })
	return t, nil
}

var forbiddenAction = regexp.MustCompile(`\{\{-?\s*(define|block|template)\b`)

// runnable makes a template when it is first run: most strings of a program's
// templates never are, and handing the functions to each costs more than all
// the rest of loading.
type runnable func() (*template.Template, error)

func newTemplate(tree func() *parse.Tree) runnable {
	return sync.OnceValues(func() (*template.Template, error) {
		_, fm := goTemplates()
		return template.New("").Option("missingkey=error").Funcs(fm).AddParseTree("", tree())
	})
}

func parseText(source string) (*parse.Tree, error) {
	t := parse.New("")
	t.Mode = parse.SkipFuncCheck
	return t.Parse(source, "", "", map[string]*parse.Tree{})
}

// parse sets t.tree. text/template knows only the line of a mistake, so the
// first action that the text cannot be parsed up to is its place.
func (t *text) parse() *Problem {
	tree, err := parseText(t.source)
	if err == nil {
		t.tree = tree
		return nil
	}
	starts, ends, last := t.actions()
	// A mistake in an action stays one however much text follows it.
	bad := sort.Search(len(ends), func(i int) bool {
		_, upTo := parseText(t.source[:ends[i]])
		return upTo != nil && !strings.Contains(upTo.Error(), "unexpected EOF")
	})
	at := last
	switch {
	case bad < len(ends):
		at = starts[bad]
		_, err = parseText(t.source[:ends[bad]])
	case strings.Contains(err.Error(), "unexpected EOF"):
		at = t.unclosed(starts, ends)
	}
	p := t.problem(at, 2, "template-syntax", "%s", templateWords(err.Error()))
	return &p
}

// actions returns where the complete actions start and end, and where the
// last one starts, complete or not.
func (t *text) actions() (starts, ends []int, last int) {
	for i := 0; ; {
		next := strings.Index(t.source[i:], "{{")
		if next < 0 {
			return starts, ends, last
		}
		last = i + next
		end := actionEnd(t.source, last)
		if end < 0 {
			return starts, ends, last
		}
		starts, ends = append(starts, last), append(ends, end)
		i = end
	}
}

// unclosed returns the start of the innermost if, range or with without end.
func (t *text) unclosed(starts, ends []int) int {
	var open []int
	for i, at := range starts {
		switch word, _, _ := strings.Cut(strings.Trim(t.source[at+2:ends[i]-2], "- \t\n"), " "); word {
		case "if", "range", "with":
			open = append(open, at)
		case "end":
			open = open[:max(0, len(open)-1)]
		}
	}
	if len(open) == 0 {
		return 0
	}
	return open[len(open)-1]
}

// actionEnd returns the byte behind the }} of the action at start, or -1.
func actionEnd(s string, start int) int {
	for i := start + 2; i < len(s); i++ {
		switch s[i] {
		case '"', '`':
			j := closingQuote(s, i)
			if j < 0 {
				return -1
			}
			i = j
		case '}':
			if strings.HasPrefix(s[i:], "}}") {
				return i + 2
			}
		}
	}
	return -1
}

func closingQuote(s string, open int) int {
	for i := open + 1; i < len(s); i++ {
		switch {
		case s[i] == s[open]:
			return i
		case s[i] == '\\' && s[open] == '"':
			i++
		case s[i] == '\n' && s[open] == '"':
			return -1
		}
	}
	return -1
}

var templatePrefix = regexp.MustCompile(`^template: :\d+(:\d+)?: `)

// templateWords says an error of the parser of text/template in plain words.
func templateWords(msg string) string {
	msg = templatePrefix.ReplaceAllString(msg, "")
	for _, w := range []struct{ part, say string }{
		{"unclosed action", "this {{ has no }}"},
		{"unclosed comment", "this comment has no */}}"},
		{"unexpected EOF", "{{ end }} is missing for this"},
		{"unexpected {{end}}", "this {{ end }} closes nothing"},
		{"unexpected {{else", "this {{ else }} belongs to no {{ if }}"},
		{"missing value for", "{{ }} is empty; write a name into it"},
		{"unterminated", `a closing " is missing`},
		{"malformed character", `strings inside {{ }} stand in double quotes or backquotes`},
		{"bad character U+005B", "an element is taken with index, a part with slice: index params.list 0"},
		{"bad character U+0027", `strings inside {{ }} stand in double quotes or backquotes`},
		{`unexpected "("`, `a function takes its arguments without brackets, one after the other: default "x" params.name`},
		{`unexpected "="`, "to compare write eq: {{ if eq a b }}"},
		{`unexpected "!"`, "to compare write ne: {{ if ne a b }}"},
		{`unexpected "<"`, "to compare write lt or le"},
		{`unexpected ">"`, "to compare write gt or ge"},
		{`U+003D`, "to compare write eq: {{ if eq a b }}"},
		{`U+0021`, "to compare write ne: {{ if ne a b }}"},
		{`number syntax: "+"`, "to add numbers write add; to join strings write them side by side"},
		{"U+002B", "to add numbers write add; to join strings write them side by side"},
		{"undefined variable", msg},
	} {
		if strings.Contains(msg, w.part) {
			return w.say
		}
	}
	return "this is not a valid {{ }}: " + strings.NewReplacer(" in operand", "", " in command", "", "<", "", ">", "").Replace(msg)
}

func (t *text) problem(offset, width int, code, format string, args ...any) Problem {
	return t.node.ProblemAt(t.offset+offset, width, code, format, args...)
}

// eval runs the text.
func (t *text) eval(env Env) (string, error) { return t.evalTemplate(t.run, t.refs, env) }

func (t *text) evalTemplate(run runnable, refs [][]string, env Env) (string, error) {
	vars, err := bind(env, refs, false)
	if err != nil {
		return "", t.failed(err)
	}
	fillMissing(vars, t.optional)
	tpl, err := run()
	if err != nil {
		return "", t.failed(err)
	}
	w := &limitedWriter{deadline: time.Now().Add(maxTime)}
	if err := tpl.Execute(w, vars); err != nil {
		return "", t.failed(err)
	}
	return w.b.String(), nil
}

// fillMissing puts nothing where the last name of a path is not there, so that
// default can stand in for it. vars are copies that bind made.
func fillMissing(vars map[string]any, paths [][]string) {
	for _, path := range paths {
		m := vars
		for _, name := range path[:len(path)-1] {
			m, _ = m[name].(map[string]any)
		}
		if _, ok := m[path[len(path)-1]]; !ok && m != nil {
			m[path[len(path)-1]] = nil
		}
	}
}

// limitedWriter collects the text and stops what is too long or takes too
// long; each turn of a range writes at least nothing.
type limitedWriter struct {
	b        strings.Builder
	writes   int
	deadline time.Time
}

// Write implements io.Writer.
func (w *limitedWriter) Write(p []byte) (int, error) {
	w.writes++
	switch {
	case w.b.Len()+len(p) > maxString:
		return 0, valueErrorf("the text is longer than 1 MiB")
	case w.writes > maxTicks, w.writes%64 == 0 && time.Now().After(w.deadline):
		return 0, valueErrorf("the text takes too long to make")
	}
	return w.b.Write(p)
}

var (
	execPlace = regexp.MustCompile(`^template: :(\d+):(\d+): executing "" at <([^>]*)>`)
	noKey     = regexp.MustCompile(`map has no entry for key "([^"]*)"`)
	noField   = regexp.MustCompile(`can't evaluate field (\S+) in type`)
)

// failed says an error of an evaluation with its place.
func (t *text) failed(err error) error {
	pos := t.node.At(t.offset)
	msg, what := err.Error(), ""
	if m := execPlace.FindStringSubmatch(msg); m != nil {
		line, _ := strconv.Atoi(m[1])
		col, _ := strconv.Atoi(m[2])
		pos = t.node.At(t.offset + lineStart(t.source, line) + col)
		what = strings.TrimPrefix(m[3], "$.")
	}
	ve, isValue := errors.AsType[*valueError](err)
	switch {
	case isValue:
		msg = ve.text
	case noKey.MatchString(msg):
		msg = noValue(what, noKey.FindStringSubmatch(msg)[1])
	case noField.MatchString(msg):
		msg = noValue(what, noField.FindStringSubmatch(msg)[1])
	case strings.Contains(msg, "range can't iterate"):
		msg = "range goes over lists and maps"
	default:
		msg = "a value is missing or of the wrong type"
	}
	return fmt.Errorf("%s: %s", pos, msg)
}

// noValue says that a path, or only its last name, has no value.
func noValue(path, name string) string {
	if strings.HasPrefix(path, ".") || !strings.HasSuffix(path, "."+name) {
		path = name
	}
	return "there is no value " + path
}

// lineStart is the byte at which a line (from 1) starts.
func lineStart(s string, line int) int {
	at := 0
	for ; line > 1; line-- {
		i := strings.IndexByte(s[at:], '\n')
		if i < 0 {
			break
		}
		at += i + 1
	}
	return at
}
