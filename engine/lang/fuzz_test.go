package lang

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// goTypeName are words of Go that authors must not see. What a file itself
// says is taken out of a message first.
var goTypeName = regexp.MustCompile(`interface \{\}|map\[string\]|\[\]interface|\bint64\b|float64\b|reflect\.|lang\.|text/template|runtime error|<nil>|\bnil\b|goroutine|0x[0-9a-f]{6}`)

func checkProblems(t *testing.T, text string, ps Problems) {
	t.Helper()
	for _, p := range ps {
		lines := strings.Count(text, "\n") + 1
		if p.Pos.Line < 1 || p.Pos.Line > lines+1 || p.Pos.Col < 1 || p.Message == "" || p.Code == "" {
			t.Errorf("%+v in %q", p, text)
		}
		if !utf8.ValidString(p.Message) || strings.Contains(p.Message, "\n") {
			t.Errorf("message %q", p.Message)
		}
		if w := goTypeName.FindString(p.Message); w != "" && !strings.Contains(text, w) {
			t.Errorf("message %q says %q", p.Message, w)
		}
		_ = p.Excerpt()
	}
}

func checkNode(t *testing.T, n *Node, depth int) {
	t.Helper()
	if n == nil || depth > maxDepth+1 {
		t.Fatal("a missing node, or too deep")
	}
	if n.Kind == ScalarNode {
		before := n.At(0)
		for i := range len(n.Text) + 1 {
			p := n.At(i)
			if p.Line < before.Line || p.Line == before.Line && p.Col < before.Col {
				t.Fatalf("%q: place of byte %d is %v, before %v", n.Text, i, p, before)
			}
			before = p
			if i < len(n.Text) && strings.TrimSpace(n.Text) != "" && !sameCharacter(n, i) {
				t.Fatalf("%q: byte %d is said to be at %v", n.Text, i, p)
			}
		}
	}
	for _, e := range n.Entries {
		checkNode(t, e.Key, depth+1)
		checkNode(t, e.Value, depth+1)
	}
	for _, i := range n.Items {
		checkNode(t, i, depth+1)
	}
}

// sameCharacter reports whether the place of a byte of a scalar holds it: the
// character itself, an escape, or a line break that was folded.
func sameCharacter(n *Node, i int) bool {
	p := n.At(i)
	src := []rune(n.src.line(p.Line) + "\n")
	if p.Col > len(src) {
		return n.Text[i] == ' ' || n.Text[i] == '\n'
	}
	r := src[p.Col-1]
	for start := i; start >= 0; start-- {
		if utf8.RuneStart(n.Text[start]) {
			text, _ := utf8.DecodeRuneInString(n.Text[start:])
			return text == r || r == '\\' || r == '\n' || text == '\n'
		}
	}
	return false
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"a: 1\nb: [x, 'y', \"z\\n\"]\n", "a: |\n  x\n\n   y\nb: >-\n  c\n  d\n", "---\n---\na: !expr x\n", "a: &x 1\nb: *x\n", "{{ x }}", "a: {{ x }}",
		"\ta: 1", "a: \"\\u00e9\\\n  b\"", "? a\n: b", "a:\n- b\n- c: d\n  e: f\n", "a: 'x\n\n y'", "[[[[", "a: |2\n    x\n  y\n", "- - - a", "a: # c\n  b: c", "\ufeffa: b\r\n",
		"a: >\n  x\n\n\n  y\n   z\n  w\n", "\"a\\x\": b", "a: b\n...\n", "%YAML 1.2\n", "<<: {a: b}", "a: \x00", "a: \xff", "a: |\n\n\n", "a: |", "a: >+\n\n  x\n\n", "!a b: c",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		docs, ps := Parse("f.yaml", text)
		checkProblems(t, string(text), ps)
		for _, d := range docs {
			checkNode(t, d, 1)
		}
		if len(ps) == 0 {
			for _, d := range docs {
				_, ps := CompileValue(d, Any, testScope())
				checkProblems(t, string(text), ps)
			}
		}
	})
}

func checkError(t *testing.T, text string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if w := goTypeName.FindString(err.Error()); w != "" && !strings.Contains(text, w) {
		t.Errorf("error %q says %q", err, w)
	}
	if strings.Contains(err.Error(), canary) {
		t.Errorf("error %q shows a secret", err)
	}
	if errors.Unwrap(err) != nil && strings.Contains(errors.Unwrap(err).Error(), canary) {
		t.Errorf("error in %q shows a secret", err)
	}
}

func FuzzString(f *testing.F) {
	for _, s := range []string{
		"{{ params.name }}", "x{{ params.name | upper }}", "{{ range users }}{{ .name }}{{ end }}", "{{ if params.sudo }}a{{ else if rc }}b{{ else }}c{{ end }}",
		"{{ with params.labels }}{{ .tier }}{{ end }}", "{{ $x := 1 }}{{ $x }}", "{{ $x := 1 }}{{ $x = params.name }}{{ $x }}", "{{ (index users 0).name }}", "{{ params.password }}",
		"{{ repeat 99999999 `x` }}", "{{ range until 100 }}{{ range until 100 }}{{ end }}{{ end }}", "{{/* c */}}", "{{- 1 -}}", "{{ define `x` }}{{ end }}", "{{ break }}", "{{ 'x' }}",
		"{{ printf `%[5]*d` 1 }}", "{{ nil }}", "{{ . }}", "{{ $ }}", "{{ .x }}", "{{ (.x).y }}", "{{ any.a.b.c }}", "{{ eq any params }}", "{{ $x }}", "{{", "}}", "{{}}", "{{ x", "{{ `}}` }}", "{{ \"}}\" }}",
		"{{ div 1 0 }}", "{{ substr -1 9 `é` }}", "{{ wrap 0 `x` }}", "{{ regexReplaceAll `(a)` params.name `$1$1` }}", "{{ len 3 }}", "{{ index params `name` }}", "{{ break }}{{ continue }}",
		"{{ mul 9223372036854775807 2 }}", "{{ slice users 1 0 }}", "{{ round 1.5 99 }}", "{{ indent 500 `x` }}", "{{ toJson grant }}", "{{ and }}", "{{ or 1 2 3 }}", "{{ not 1 }}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || len(s) > 4096 {
			return
		}
		n := &Node{Text: s, Quoted: true, Pos: Pos{File: "f", Line: 1, Col: 1}}
		for _, want := range []Type{String, Any, Int} {
			v, ps := CompileValue(n, want, testScope())
			for _, p := range ps {
				checkProblems(t, s, Problems{p})
			}
			if len(ps) > 0 {
				continue
			}
			start := time.Now()
			out, err := v.Eval(testEnv())
			checkError(t, s, err)
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("%q takes %v", s, d)
			}
			if text, ok := out.(string); ok && (len(text) > maxString || strings.Contains(text, canary) || strings.Contains(text, "<no value>") && !strings.Contains(s, "<no value>")) {
				t.Errorf("%q is %.100q", s, text)
			}
			if _, err := v.Fold(testEnv(), func(root string) bool { return root == "users" || root == "rc" }); err != nil {
				checkError(t, s, err)
			}
		}
		_, _, ps := CompileScript(n, testScope())
		checkProblems(t, s, ps)
	})
}

func FuzzExpr(f *testing.F) {
	for _, s := range []string{
		"rc == 0", "params.name + 'x'", "all(users, .uid > 0)", "map(users, #.name)", "filter(users, .uid > 0)[0].name", "1..100000000", "repeat('x', 99999999)", "any.a.b", "params.password", "users[-1]",
		"success() and not failure()", "let x = 1; x", "params?.name", "{'a': 1}", "[1, 2][5]", "rc ?? 1", "params.name matches '['", "$env", "#", "sum(1..10)", "map(1..100, map(1..100, # + #))",
		"grant.expires_at + grant.duration", "fromJSON('{')", "duration('x')", "date('x')", "sort(any)", "sortBy(users, .name)", "concat(users, users)", "flatten([[1]])", "join(users)", "int('9')", "keys(params.labels)",
		"rc % 0", "rc / 0", "2 ** 1000", "params.name[0:99]", "first([])", "-params.name", "not rc", "if rc == 0 {1} else {2}", "reduce(users, #acc)", "((((((", "'", "\"\\u12\"", "é", "max()", "uniq(users)", "1 < 2 < 3", "split('a', '')", "any | len()",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || len(s) > 4096 {
			return
		}
		n := &Node{Text: s, Quoted: true, Pos: Pos{File: "f", Line: 1, Col: 1}}
		e, ps := CompileExpr(n, Any, testScope())
		checkProblems(t, s, ps)
		if len(ps) > 0 {
			return
		}
		start := time.Now()
		out, err := e.Eval(testEnv())
		checkError(t, s, err)
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%q takes %v", s, d)
		}
		if text, ok := out.(string); ok && strings.Contains(text, canary) {
			t.Errorf("%q shows a secret", s)
		}
		if _, err := e.Fold(testEnv(), func(root string) bool { return root == "users" || root == "rc" }); err != nil {
			checkError(t, s, err)
		}
	})
}
