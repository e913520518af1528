package template

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"runner/engine/lang"
	"runner/engine/module"
	"runner/templates"
)

// goWords are words of Go that authors must not see.
var goWords = regexp.MustCompile(`interface \{\}|map\[string\]|\[\]interface|\bint64\b|float64\b|reflect\.|lang\.|template\.|text/template|runtime error|<nil>|%!|goroutine|0x[0-9a-f]{6}`)

// FuzzLoad looks for a file that the loader does not survive, or about which it
// says something without a place, or in words of Go.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"../../templates/*/*.yaml", "../../testdata/template/*/*.yaml", "../../testdata/template/*/*/*/*.yaml", "testdata/*/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) {
				continue // the case of a file that cannot be read
			}
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	reg, err := module.All()
	if err != nil {
		f.Fatal(err)
	}
	lib, ps := Open("", templates.FS, reg)
	if len(ps) > 0 {
		f.Fatal(ps)
	}
	shipped := lib.All()
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 64<<10 {
			return
		}
		for _, kind := range []string{"create", "delete"} {
			tpl, ps := Load(kind+"/fuzz.yaml", text, reg)
			if (tpl == nil) == (len(ps) == 0) {
				t.Errorf("%d problems, and a template: %t", len(ps), tpl != nil)
			}
			sound(t, string(text), ps)
			if tpl != nil {
				pair(tpl, shipped)
			}
		}
	})
}

// pair holds a template against those that it could go with.
func pair(tpl *Template, shipped []*Template) {
	for _, other := range shipped {
		switch {
		case tpl.Kind == Create && other.Kind == Delete:
			Uncovered(tpl, other)
		case tpl.Kind == Delete && other.Kind == Create:
			named := *other
			named.Removal = tpl.Name
			Coverage(tpl, &named)
		}
	}
	Coverage(tpl)
}

// sound checks what every problem has to have.
func sound(t *testing.T, text string, ps lang.Problems) {
	t.Helper()
	lines := strings.Count(text, "\n") + strings.Count(text, "\r") + 2
	for _, p := range ps {
		if p.Pos.File == "" || p.Pos.Line < 1 || p.Pos.Line > lines || p.Pos.Col < 1 || p.Message == "" || p.Code == "" {
			t.Errorf("%+v", p)
		}
		if !utf8.ValidString(p.Message) || strings.Contains(p.Message, "\n") {
			t.Errorf("message %q", p.Message)
		}
		if w := goWords.FindString(p.Message); w != "" && !strings.Contains(text, w) {
			t.Errorf("message %q says %q", p.Message, w)
		}
		_ = p.Excerpt()
	}
}
