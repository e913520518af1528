package lang

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// lookup follows keys joined by dots.
func lookup(n *Node, path string) *Node {
	for key := range strings.SplitSeq(path, ".") {
		n = n.Get(key)
	}
	return n
}

// golden compares got with the .out file beside file; UPDATE=1 rewrites it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	out := strings.TrimSuffix(file, filepath.Ext(file)) + ".out"
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(out, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got; UPDATE=1 rewrites it):\n%s", out, d)
	}
}

// parseOne returns the only document of a text that has no problems.
func parseOne(tb testing.TB, text string) *Node {
	tb.Helper()
	docs, ps := Parse("t.yaml", []byte(text))
	if len(ps) > 0 || len(docs) != 1 {
		tb.Fatalf("%d documents, %v", len(docs), ps)
	}
	return docs[0]
}

// block returns text as a block scalar at line 2, column 3 of t.yaml.
func block(tb testing.TB, text string) *Node {
	tb.Helper()
	return parseOne(tb, "w: |2-\n  "+strings.ReplaceAll(text, "\n", "\n  ")+"\n").Get("w")
}

// concealed stands for a secret: a type that the language does not know.
type concealed struct{ text string }

func (concealed) String() string { return "***" }

const canary = "canary-53cr3t"

// testScope and testEnv are what the cases in testdata are checked against.
func testScope() Scope {
	return Scope{
		"params": MapOf(map[string]Type{
			"name": String, "uid": Int, "groups": ListOf(String), "sudo": Bool, "password": Secret, "labels": {Kind: MapKind},
		}),
		"grant": MapOf(map[string]Type{"id": String, "expires_at": Time, "duration": Duration}),
		"rc":    Int, "ratio": Float, "any": Any,
		"users":   ListOf(MapOf(map[string]Type{"name": String, "uid": Int})),
		"success": Bool, "failure": Bool,
	}
}

func testEnv() Env {
	return Env{
		"params": map[string]any{
			"name": "bob", "uid": int64(1003), "groups": []string{"dev", "ops"}, "sudo": true,
			"password": concealed{canary}, "labels": map[string]any{"tier": "gold", "n": int64(2)},
		},
		"grant": map[string]any{"id": "g-1", "expires_at": time.Date(2026, 11, 20, 18, 0, 0, 0, time.FixedZone("", 3600)), "duration": 90 * time.Minute},
		"rc":    int64(0), "ratio": 0.5, "any": map[string]any{"a": int64(1), "hidden": concealed{canary}},
		"users":   []any{map[string]any{"name": "ann", "uid": int64(1)}, map[string]any{"name": "bob", "uid": int64(1003)}},
		"success": func() bool { return true }, "failure": func() bool { return false },
	}
}

// problemLines writes problems as an author sees them, with their codes.
func problemLines(ps Problems) string {
	var b strings.Builder
	for _, p := range ps {
		fmt.Fprintf(&b, "  %s (%d wide)\n", p, p.Width)
	}
	return b.String()
}

// shown writes a value with its Go type.
func shown(v any) string {
	if s, ok := v.(string); ok {
		return fmt.Sprintf("string %q", s)
	}
	return fmt.Sprintf("%T %v", v, v)
}

// typeNamed reads the words that Type.String writes.
func typeNamed(tb testing.TB, word string) Type {
	tb.Helper()
	if elem, ok := strings.CutPrefix(word, "list of "); ok {
		return ListOf(typeNamed(tb, elem))
	}
	if elem, ok := strings.CutPrefix(word, "map of "); ok {
		e := typeNamed(tb, elem)
		return Type{Kind: MapKind, Elem: &e}
	}
	all := map[string]Type{
		"any": Any, "string": String, "int": Int, "bool": Bool, "float": Float, "duration": Duration, "time": Time, "secret": Secret,
		"map": {Kind: MapKind}, "user": MapOf(map[string]Type{"name": String, "uid": Int}),
	}
	found, ok := all[word]
	if !ok {
		tb.Fatalf("no type %q", word)
	}
	return found
}
