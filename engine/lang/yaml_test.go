package lang

import (
	"strings"
	"testing"
)

func TestEveryByteOfAScalarKnowsItsPlace(t *testing.T) {
	t.Parallel()
	src := "# c\na: é 1 plain  # c\nb: \"é\\tx\\\n   fo\\u00e9o\"\nc: |\n  lit é\n   x\n\n  y\nd: >-\n  fold\n  ed\n\n  para\ne:\n  f: |2-\n      four\n    y\n  g: multi\n    line plain\nl: 'it''s\n\n  far'\nm: |\n\n  z\n"
	docs, ps := Parse("f.yaml", []byte(src))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	d := docs[0]
	for _, c := range []struct {
		key       string
		sub, text string
		line, col int
	}{
		{"a", "1", "é 1 plain", 2, 6},
		{"b", "x", "é\txfoéo", 3, 8},
		{"b", "é", "é\txfoéo", 3, 5},
		{"b", "foé", "é\txfoéo", 4, 4},
		{"b", "éo", "é\txfoéo", 4, 6},
		{"c", "y", "lit é\n x\n\ny\n", 9, 3},
		{"c", "x", "lit é\n x\n\ny\n", 7, 4},
		{"c", "é", "lit é\n x\n\ny\n", 6, 7},
		{"d", "ed", "fold ed\npara", 12, 3},
		{"d", "ara", "fold ed\npara", 14, 4},
		{"e.f", "four", "  four\ny", 17, 7},
		{"e.f", "y", "  four\ny", 18, 5},
		{"e.g", "line", "multi line plain", 20, 5},
		{"l", "s", "it's\nfar", 21, 9},
		{"l", "far", "it's\nfar", 23, 3},
		{"m", "z", "\nz\n", 26, 3},
	} {
		n := lookup(d, c.key)
		if n == nil || n.Text != c.text {
			t.Errorf("%s: got %q, want %q", c.key, n.Text, c.text)
			continue
		}
		i := strings.Index(n.Text, c.sub)
		if p := n.At(i); p.Line != c.line || p.Col != c.col {
			t.Errorf("%s: %q is at %v, want %d:%d", c.key, c.sub, p, c.line, c.col)
		}
	}
}
