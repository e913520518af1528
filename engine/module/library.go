package module

import (
	"embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

//go:embed sh/*.sh ps/*.ps1
var bodies embed.FS

// library holds the definitions of functions and shared variables by name. A
// body is sent with those that it needs and no others: a shell takes a
// millisecond to read twenty kilobytes.
type library map[string]*definition

type definition struct {
	n     int // in the order of the files
	text  string
	calls func() []string // definitions that text names; found when they are asked for
}

// read adds the definitions of a file and returns what else is in it, both
// without comments and indentation, which would only be sent. A definition
// begins at the start of a line and ends with that line, or with one that is
// just "}" or "'".
func (l library) read(name string) (string, error) {
	b, err := bodies.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("module: the body of %s: %w", name, err)
	}
	var rest, text strings.Builder
	defines, end := "", ""
	for line := range strings.Lines(string(b)) {
		t := strings.TrimLeft(line, " \t")
		if t == "" || t == "\n" || strings.HasPrefix(t, "#") {
			continue
		}
		if defines == "" {
			if defines, end = begins(line); defines == "" {
				rest.WriteString(t)
				continue
			}
			if l[defines] != nil || end == "" && !strings.HasSuffix(line, "}\n") && !strings.HasSuffix(line, "=\n") && !strings.HasSuffix(line, "'\n") {
				return "", fmt.Errorf("module: %s is defined twice, or its first line ends in an unknown way", defines)
			}
		}
		text.WriteString(t)
		if end == "" || line == end {
			l[defines] = &definition{n: len(l), text: text.String()}
			defines = ""
			text.Reset()
		}
	}
	if defines != "" {
		return "", fmt.Errorf("module: %s has no end", defines)
	}
	return rest.String(), nil
}

// begins returns what line begins to define and the line that ends it, which is
// empty when that is line itself.
func begins(line string) (name, end string) {
	if f, ok := strings.CutPrefix(line, "function "); ok { // of PowerShell
		if name, rest, _ := strings.Cut(f, "("); word(name) || word(strings.TrimSuffix(name, " {\n")) {
			if name = strings.TrimSuffix(name, " {\n"); rest == "" || strings.HasSuffix(rest, ") {\n") {
				end = "}\n"
			}
			return name, end
		}
	}
	if name, rest, ok := strings.Cut(line, "() {"); ok && word(name) {
		if rest == "\n" {
			end = "}\n"
		}
		return name, end
	}
	if name, rest, ok := strings.Cut(line, "="); ok && word(name) && strings.HasPrefix(name, "lib_") {
		if rest == "'\n" {
			end = "'\n"
		}
		return name, end
	}
	return "", ""
}

func word(s string) bool {
	return s != "" && strings.IndexFunc(s, notWord) < 0
}

func notWord(r rune) bool { return r != '_' && (r < 'a' || r > 'z') && (r < '0' || r > '9') }

// naming is named, when it is first asked for: most bodies are never sent.
func (l library) naming(text string) func() []string {
	return sync.OnceValue(func() []string { return l.named(text) })
}

// named lists the definitions that text names.
func (l library) named(text string) []string {
	var names []string
	for w := range strings.FieldsFuncSeq(text, notWord) {
		if l[w] != nil && !slices.Contains(names, w) {
			names = append(names, w)
		}
	}
	return names
}

// Lib returns the definitions that a call of m with these arguments needs, in
// an order in which they can be read.
func (m *Module) Lib(a Args) []string {
	var but []string
	if m.Unreached != nil {
		but = m.Unreached(a)
	}
	need := map[*definition]bool{}
	var add func(names []string)
	add = func(names []string) {
		for _, n := range names {
			if d := m.library[n]; !need[d] && !slices.Contains(but, n) {
				need[d] = true
				add(d.calls())
			}
		}
	}
	if m.calls != nil {
		add(m.calls())
	}
	var out []string
	for _, d := range slices.SortedFunc(maps.Keys(need), func(a, b *definition) int { return a.n - b.n }) {
		out = append(out, d.text)
	}
	return out
}
