package inventory

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzLoad looks for a file that the loader does not survive, or about which it
// says something without a place.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"../../inventories/*.yaml", "testdata/*/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatal(pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(text))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 64<<10 {
			return
		}
		set, ps := Read("fuzz.yaml", text)
		if (set == nil) == (len(ps) == 0) {
			t.Errorf("%d problems, and a set: %t", len(ps), set != nil)
		}
		for _, p := range ps {
			if p.Pos.File == "" || p.Pos.Line < 1 || p.Pos.Col < 1 || p.Code == "" || p.Message == "" || strings.Contains(p.Message, "\n") || !utf8.ValidString(p.Message) {
				t.Errorf("%+v", p)
			}
			_ = p.Excerpt()
		}
	})
}
