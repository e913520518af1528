package lang

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func readCases(t *testing.T, file string) []*Node {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	docs, ps := Parse(filepath.Base(file), text)
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	return docs[0].Get("cases").Items
}

func TestFilesAreReadOrExplained(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/parse/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			docs, ps := Parse(filepath.Base(file), text)
			var b strings.Builder
			for _, d := range docs {
				b.WriteString("---\n")
				dumpNode(&b, d, "")
			}
			for _, p := range ps {
				fmt.Fprintf(&b, "%s\n%s", p, p.Excerpt())
			}
			golden(t, file, b.String())
		})
	}
}

// dumpNode writes a tree with places: kind, line:col, text and its last place.
func dumpNode(b *strings.Builder, n *Node, pad string) {
	place := func(p Pos) string { return fmt.Sprintf("%d:%d", p.Line, p.Col) }
	switch n.Kind {
	case MapNode:
		fmt.Fprintf(b, "%smap %s %s\n", pad, place(n.Pos), n.Tag)
		for _, e := range n.Entries {
			fmt.Fprintf(b, "%s  %s %s:\n", pad, place(e.Key.Pos), e.Key.Text)
			dumpNode(b, e.Value, pad+"    ")
		}
	case ListNode:
		fmt.Fprintf(b, "%slist %s %s\n", pad, place(n.Pos), n.Tag)
		for _, i := range n.Items {
			dumpNode(b, i, pad+"  ")
		}
	case NullNode:
		fmt.Fprintf(b, "%snothing %s %q\n", pad, place(n.Pos), n.Text)
	case ScalarNode:
		quoted := ""
		if n.Quoted {
			quoted = " quoted"
		}
		fmt.Fprintf(b, "%s%s%s %q to %s %s\n", pad, place(n.Pos), quoted, n.Text, place(n.At(len(n.Text))), n.Tag)
	}
}

func TestConditionsAreCheckedAndComputed(t *testing.T) {
	t.Parallel()
	const file = "testdata/check/expr.yaml"
	var b strings.Builder
	for _, c := range readCases(t, file) {
		fmt.Fprintf(&b, "%d: %s\n", c.Pos.Line, strings.TrimSpace(c.Text))
		e, ps := CompileExpr(c, Any, testScope())
		if len(ps) > 0 {
			b.WriteString(problemLines(ps))
			continue
		}
		v, err := e.Eval(testEnv())
		if err != nil {
			fmt.Fprintf(&b, "  %s, fails: %s\n", e.Type(), err)
			continue
		}
		fmt.Fprintf(&b, "  %s = %s, reads %v\n", e.Type(), shown(v), e.Refs())
	}
	if strings.Contains(b.String(), canary) {
		t.Error("a secret was shown")
	}
	golden(t, file, b.String())
}

func TestValuesAreTypedFromWhereTheyStand(t *testing.T) {
	t.Parallel()
	const file = "testdata/check/value.yaml"
	var b strings.Builder
	for _, c := range readCases(t, file) {
		want := c.Entries[0].Key.Text
		v := c.Entries[0].Value
		fmt.Fprintf(&b, "%d: %s: %s\n", v.Pos.Line, want, v.Text)
		val, ps := CompileValue(v, typeNamed(t, want), testScope())
		if len(ps) > 0 {
			b.WriteString(problemLines(ps))
			continue
		}
		r, err := val.Eval(testEnv())
		if err != nil {
			fmt.Fprintf(&b, "  %s, fails: %s\n", val.Type(), err)
			continue
		}
		fmt.Fprintf(&b, "  %s = %s, reads %v\n", val.Type(), shown(r), val.Refs())
	}
	golden(t, file, b.String())
}

func TestScriptsGetVariablesInPlaceOfText(t *testing.T) {
	t.Parallel()
	const file = "testdata/check/script.yaml"
	var b strings.Builder
	for _, c := range readCases(t, file) {
		fmt.Fprintf(&b, "%d: %q\n", c.Pos.Line, c.Text)
		out, values, ps := CompileScript(c, testScope())
		if len(ps) > 0 {
			b.WriteString(problemLines(ps))
			continue
		}
		fmt.Fprintf(&b, "  %q\n", out)
		for i, v := range values {
			r, err := v.Eval(testEnv())
			fmt.Fprintf(&b, "  _r%d %s %s = %s %v\n", i+1, v.Pos(), v.Type(), shown(r), err)
		}
	}
	golden(t, file, b.String())
}
