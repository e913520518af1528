package lang

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// maxScript is the size of a script in bytes; the shell parser is recursive.
const maxScript = 64 << 10

// script is a shell body on its way to a program.
type script struct {
	node     *Node
	scope    Scope
	out      strings.Builder
	spots    []spot
	values   []*Value
	problems Problems
}

// spot is a place where ${_rN} stands for an action.
type spot struct {
	name       string // _rN
	from, end  int    // bytes of the script as written
	start      int    // byte of the program
	value      *Value
	found      bool // the shell expands it
	misuseSaid bool
}

// CompileScript replaces every {{ }} of a scalar by ${_r1}, ${_r2}, ... and
// returns the values they are bound to, in that order; the same action text
// is bound once. A value is a string when it is evaluated, or a secret. The
// result is parsed as POSIX shell (as bash behind a bash shebang). Problems
// are syntax errors, actions that the shell would not expand (in single
// quotes, comments, quoted here-documents), that it would split (not in
// double quotes), that it would run (eval, sh -c, arithmetic) or show to other
// accounts (a secret as an argument), and lists. With warnings only there is a
// program.
func CompileScript(n *Node, scope Scope) (string, []*Value, Problems) {
	s, ps := newScript(n, scope)
	if len(ps) > 0 {
		return "", nil, ps
	}
	s.replace()
	if len(s.problems) == 0 {
		s.check()
	}
	s.problems.Sort()
	if errs, _ := s.problems.Split(); len(errs) > 0 {
		return "", nil, s.problems
	}
	return s.out.String(), s.values, s.problems
}

// newScript refuses what is no script of any language.
func newScript(n *Node, scope Scope) (*script, Problems) {
	switch {
	case n.Kind != ScalarNode:
		return nil, Problems{n.Problem("wrong-type", "expected a script, found %s", n.Kind)}
	case strings.TrimSpace(n.Text) == "":
		return nil, Problems{n.Problem("missing-value", "the script is empty")}
	case len(n.Text) > maxScript:
		return nil, Problems{n.Problem("too-large", "the script is longer than 64 KiB")}
	case n.Tag != "":
		return nil, Problems{n.Problem("yaml-tag", "a script has no tag")}
	}
	return &script{node: n, scope: scope}, nil
}

func (s *script) problem(offset, width int, code, format string, args ...any) {
	s.problems = append(s.problems, s.node.ProblemAt(offset, width, code, format, args...))
}

var (
	reservedName  = regexp.MustCompile(`\b_r[0-9]+\b`)
	controlAction = regexp.MustCompile(`^\{\{-?\s*(if|else|end|range|with|break|continue|define|block|template)\b`)
)

// replace writes the program with variables in place of actions.
func (s *script) replace() {
	src := s.node.Text
	seen := map[string]*Value{}
	names := map[string]string{}
	for i := 0; i < len(src); {
		next := strings.Index(src[i:], "{{")
		if next < 0 {
			s.plain(i, len(src))
			return
		}
		at := i + next
		s.plain(i, at)
		end := actionEnd(src, at)
		if end < 0 {
			s.problem(at, 2, "template-syntax", "this {{ has no }}")
			return
		}
		i = end
		action := src[at:end]
		width := len([]rune(action))
		switch m := controlAction.FindStringSubmatch(action); {
		case m != nil:
			s.problem(at, width, "no-control", "{{ %s }} is not used in scripts; write it in shell, or as when: of the step", m[1])
			continue
		case strings.HasPrefix(action, "{{-") || strings.HasSuffix(action, "-}}"):
			s.problem(at, width, "no-trim", "{{- and -}} are not used in scripts; write {{ }}")
			continue
		}
		key := strings.TrimSpace(action[2 : len(action)-2])
		v, ok := seen[key]
		if !ok {
			if v = s.compile(at, action, width); v == nil {
				continue
			}
			seen[key] = v
			s.values = append(s.values, v)
			names[key] = fmt.Sprintf("_r%d", len(s.values))
		}
		s.spots = append(s.spots, spot{name: names[key], from: at, end: end, start: s.out.Len(), value: v})
		s.out.WriteString("${" + names[key] + "}")
	}
}

// plain copies shell text.
func (s *script) plain(from, to int) {
	if m := reservedName.FindStringIndex(s.node.Text[from:to]); m != nil {
		s.problem(from+m[0], m[1]-m[0], "reserved-name", "names such as _r1 are taken for the values of {{ }}; use another name")
	}
	s.out.WriteString(s.node.Text[from:to])
}

// compile checks one action.
func (s *script) compile(at int, action string, width int) *Value {
	t, ps := compileText(s.node, at, action, s.scope)
	if len(ps) > 0 {
		s.problems = append(s.problems, ps...)
		return nil
	}
	v := &Value{node: s.node, text: t, typ: String, refs: t.refs, bound: true}
	if t.vars {
		s.problem(at, width, "no-control", "variables are not used in {{ }} of scripts; write a shell variable")
		return nil
	}
	if t.path == nil {
		return v
	}
	path := strings.Join(t.path, ".")
	switch t.typ.Kind {
	case SecretKind, AnyKind:
		v.typ = t.typ
	case ListKind:
		s.problem(at, width, "list-in-string", `%s is a list; join it: {{ %s | join " " }}`, path, path)
		return nil
	case MapKind:
		s.problem(at, width, "map-in-string", "%s is a map; write one of its fields, or toJson", path)
		return nil
	case StringKind, IntKind, BoolKind, FloatKind, DurationKind, TimeKind:
	}
	return v
}

// check parses the program and looks at how the shell uses the variables.
func (s *script) check() {
	lang, ok := s.variant()
	if !ok {
		return
	}
	program := s.out.String()
	f, err := syntax.NewParser(syntax.Variant(lang), syntax.KeepComments(true)).Parse(strings.NewReader(program), "")
	if err != nil {
		s.syntax(err)
		return
	}
	w := &shellWalk{s: s, bash: lang == syntax.LangBash}
	syntax.Walk(f, w.visit)
	for i := range s.spots {
		if sp := &s.spots[i]; !sp.found && !sp.misuseSaid {
			s.problem(sp.from, sp.width(s), "not-expanded", "the shell does not expand a {{ }} here; is it behind a backslash or $?")
		}
	}
}

func (sp *spot) width(s *script) int { return len([]rune(s.node.Text[sp.from:sp.end])) }

var shebang = regexp.MustCompile(`^#![ \t]*(?:\S*/)?([^/\s]+)(?:[ \t]+(\S+))?`)

// variant returns the language of the script from its first line.
func (s *script) variant() (syntax.LangVariant, bool) {
	m := shebang.FindStringSubmatch(s.node.Text)
	if m == nil {
		return syntax.LangPOSIX, true
	}
	name := m[1]
	if name == "env" {
		name = m[2]
	}
	switch name {
	case "sh", "dash", "ash":
		return syntax.LangPOSIX, true
	case "bash":
		return syntax.LangBash, true
	}
	s.problem(0, len([]rune(m[0])), "unknown-shell", "a script is written for sh or bash, not %q", name)
	return syntax.LangPOSIX, false
}

// source turns a byte of the program into one of the text as written.
func (s *script) source(offset int) int {
	shift := 0
	for _, sp := range s.spots {
		length := len("${}") + len(sp.name)
		switch {
		case offset < sp.start:
			return offset - shift
		case offset < sp.start+length:
			return sp.from
		}
		shift = sp.start + length - sp.end
	}
	return offset - shift
}

func (s *script) syntax(err error) {
	offset, msg := uint(0), err.Error()
	if pe, ok := errors.AsType[syntax.ParseError](err); ok {
		offset, msg = pe.Pos.Offset(), pe.Text
	}
	if le, ok := errors.AsType[syntax.LangError](err); ok {
		offset = le.Pos.Offset()
		msg = le.Feature + ": this is not POSIX shell; put #!/bin/bash in the first line where bash is meant"
	}
	at := s.source(int(offset))
	s.problem(at, 1, "shell-syntax", "shell: %s", msg)
}

// shellWalk finds out how the shell uses each variable.
type shellWalk struct {
	s     *script
	bash  bool
	stack []syntax.Node
}

func (w *shellWalk) visit(n syntax.Node) bool {
	if n == nil {
		w.stack = w.stack[:len(w.stack)-1]
		return true
	}
	switch x := n.(type) {
	case *syntax.ParamExp:
		w.param(x)
	case *syntax.SglQuoted:
		w.unexpanded(x, "single-quotes", "the shell expands nothing in single quotes; put the {{ }} in double quotes")
	case *syntax.Comment:
		w.unexpanded(x, "comment", "a {{ }} in a comment does nothing; remove it")
	case *syntax.Redirect:
		if x.Hdoc != nil && quotedWord(x.Word) {
			w.unexpanded(x.Hdoc, "quoted-heredoc", "the shell expands nothing in this here-document, whose end word is quoted; write the end word without quotes")
		}
	case *syntax.CallExpr:
		w.code(x)
		w.argv(x)
	}
	w.stack = append(w.stack, n)
	return true
}

func quotedWord(word *syntax.Word) bool {
	for _, p := range word.Parts {
		switch x := p.(type) {
		case *syntax.SglQuoted, *syntax.DblQuoted:
			return true
		case *syntax.Lit:
			if strings.Contains(x.Value, `\`) {
				return true
			}
		}
	}
	return false
}

// within calls f for the spots between two places.
func (w *shellWalk) within(from, to syntax.Pos, f func(*spot)) {
	for i := range w.s.spots {
		if sp := &w.s.spots[i]; uint(sp.start) >= from.Offset() && uint(sp.start) < to.Offset() {
			f(sp)
		}
	}
}

func (w *shellWalk) misuse(sp *spot, code, format string, args ...any) {
	if !sp.misuseSaid {
		w.s.problem(sp.from, sp.width(w.s), code, format, args...)
	}
	sp.misuseSaid = true
}

func (w *shellWalk) unexpanded(n syntax.Node, code, message string) {
	w.within(n.Pos(), n.End(), func(sp *spot) { w.misuse(sp, code, "%s", message) })
}

// param checks the place of an expansion that stands for an action.
func (w *shellWalk) param(x *syntax.ParamExp) {
	var sp *spot
	for i := range w.s.spots {
		if uint(w.s.spots[i].start) == x.Pos().Offset() {
			sp = &w.s.spots[i]
		}
	}
	if sp == nil || x.Param == nil || x.Param.Value != sp.name {
		w.splits(x)
		return
	}
	sp.found = true
	isInt := sp.value.text.path != nil && sp.value.text.typ.Kind == IntKind
	switch {
	case isInt: // nothing in it to run or to split
	case w.counted(x):
		w.misuse(sp, "runs-value", "arithmetic may run what is in a value; only an int may stand here")
	case !w.quoted(x):
		src := w.s.node.Text[sp.from:sp.end]
		w.misuse(sp, "unquoted", `the shell would split this value at spaces and expand its *; write "%s"`, src)
	}
}

// counted reports whether x stands where the shell computes numbers: bash
// runs command substitutions in the subscripts it finds in the value.
func (w *shellWalk) counted(x *syntax.ParamExp) bool {
	for _, outer := range slices.Backward(w.stack) {
		switch n := outer.(type) {
		case *syntax.ArithmExp, *syntax.ArithmCmd, *syntax.LetClause:
			return true
		case *syntax.BinaryTest:
			if n.Op >= syntax.TsEql && n.Op <= syntax.TsGtr {
				return true
			}
		case *syntax.UnaryTest:
			if n.Op == syntax.TsVarSet || n.Op == syntax.TsRefVar {
				return true
			}
		case *syntax.Assign:
			if under(n.Index, x) {
				return true
			}
		case *syntax.ParamExp:
			if under(n.Index, x) || n.Slice != nil && (under(n.Slice.Offset, x) || under(n.Slice.Length, x)) {
				return true
			}
		case *syntax.Stmt:
			return false
		}
	}
	return false
}

// quoted reports whether x stands where its value stays one word.
func (w *shellWalk) quoted(x *syntax.ParamExp) bool {
	for i, outer := range slices.Backward(w.stack) {
		switch n := outer.(type) {
		case *syntax.DblQuoted:
			return true
		case *syntax.Redirect:
			if n.Hdoc != nil && within(n.Hdoc, x) {
				return true
			}
		case *syntax.Assign: // not split in front of a command; export is one
			if _, inCall := w.parent(i).(*syntax.CallExpr); inCall && n.Value != nil && within(n.Value, x) {
				return true
			}
		case *syntax.CaseClause:
			if within(n.Word, x) {
				return true
			}
		case *syntax.Stmt:
			return false
		}
	}
	return false
}

// splits warns of a variable of the author that is split into words.
func (w *shellWalk) splits(x *syntax.ParamExp) {
	if x.Param == nil || x.Length || len(w.stack) < 2 || !splittable.MatchString(x.Param.Value) {
		return
	}
	word, inWord := w.stack[len(w.stack)-1].(*syntax.Word)
	call, inCall := w.stack[len(w.stack)-2].(*syntax.CallExpr)
	if !inWord || !inCall || !slices.Contains(call.Args, word) {
		return
	}
	holds := false
	w.within(x.Pos(), x.End(), func(*spot) { holds = true })
	if holds {
		return // what it holds is a problem of its own
	}
	from, to := w.s.source(int(x.Pos().Offset())), w.s.source(int(x.End().Offset()))
	text := w.s.node.Text[from:to]
	p := w.s.node.ProblemAt(from, len([]rune(text)), "unquoted-variable", `the shell splits %s at spaces and expands its *; write "%s", or use set -- and "$@" where words are meant`, text, text)
	p.Warning = true
	w.s.problems = append(w.s.problems, p)
}

// splittable are the names of variables that can hold spaces: neither $? nor $#.
var splittable = regexp.MustCompile(`^([A-Za-z_]\w*|[1-9]|[@*])$`)

func (w *shellWalk) parent(i int) syntax.Node {
	if i == 0 {
		return nil
	}
	return w.stack[i-1]
}

// under is within for a node that may be missing.
func under(outer syntax.ArithmExpr, inner syntax.Node) bool {
	return outer != nil && within(outer, inner)
}

func within(outer, inner syntax.Node) bool {
	return outer.Pos().Offset() <= inner.Pos().Offset() && inner.End().Offset() <= outer.End().Offset()
}

// inShell are commands that start no program, so that nobody sees their arguments.
var inShell = []string{"echo", "printf", "[", "test", ":", "true", "set", "export", "readonly", "local", "case"}

// argv refuses secrets among the arguments of programs.
func (w *shellWalk) argv(x *syntax.CallExpr) {
	if len(x.Args) == 0 || slices.Contains(inShell, x.Args[0].Lit()) {
		return
	}
	for _, arg := range x.Args {
		for _, part := range arg.Parts {
			if _, command := part.(*syntax.CmdSubst); command {
				continue // a program of its own
			}
			w.within(part.Pos(), part.End(), func(sp *spot) {
				if sp.value.typ.Kind == SecretKind && !w.substituted(arg, sp) {
					w.misuse(sp, "secret", "other accounts can see the arguments of programs; hand the secret over on standard input: printf '%%s' \"%s\" | %s …", w.s.node.Text[sp.from:sp.end], cmp.Or(x.Args[0].Lit(), "COMMAND"))
				}
			})
		}
	}
}

// substituted reports whether a spot of a word is within $( ) of it.
func (w *shellWalk) substituted(arg *syntax.Word, sp *spot) bool {
	found := false
	syntax.Walk(arg, func(n syntax.Node) bool {
		if c, ok := n.(*syntax.CmdSubst); ok && c.Pos().Offset() <= uint(sp.start) && uint(sp.start) < c.End().Offset() {
			found = true
		}
		return !found
	})
	return found
}

// The options behind which interpreters take a program.
var (
	optC = regexp.MustCompile(`^-[a-z]*c$`)
	optE = regexp.MustCompile(`^-[a-zA-Z]*[eEr]$`)
)

// programOption is the option of a command that takes a program, or nil.
func programOption(command string) *regexp.Regexp {
	switch command {
	case "sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "yash", "su", "runuser", "busybox", "script":
		return optC
	case "perl", "ruby", "node", "php":
		return optE
	}
	if strings.HasPrefix(command, "python") {
		return optC
	}
	return nil
}

// code refuses actions in words that a command runs as a program.
func (w *shellWalk) code(x *syntax.CallExpr) {
	var option *regexp.Regexp
	var command string
	for i, arg := range x.Args {
		lit := arg.Lit()
		if i == 0 && (lit == "eval" || lit == "trap") {
			for _, a := range x.Args[1:] {
				w.within(a.Pos(), a.End(), func(sp *spot) {
					w.misuse(sp, "runs-value", "%s would run what is in the value; put it into a variable first: v=\"%s\"", lit, w.s.node.Text[sp.from:sp.end])
				})
			}
			return
		}
		if option != nil && i > 0 && option.MatchString(x.Args[i-1].Lit()) {
			w.within(arg.Pos(), arg.End(), func(sp *spot) {
				w.misuse(sp, "runs-value", "%s %s would run what is in the value; hand it over as an argument behind the program", command, x.Args[i-1].Lit())
			})
			return
		}
		if o := programOption(path.Base(lit)); o != nil && lit != "" {
			option, command = o, path.Base(lit)
		}
	}
}
