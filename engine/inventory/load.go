package inventory

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"runner/engine/lang"
)

// Load reads every .yaml and .yml file of the folder dir, not of folders below
// it. All problems of all files are returned at once, and with one the Set is
// nil. A folder without such files is an empty Set.
func Load(dir string) (*Set, lang.Problems) { return LoadWith(dir, nil) }

// LoadWith is Load as if the folder had more files: texts by their names.
func LoadWith(dir string, more map[string]string) (*Set, lang.Problems) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, lang.Problems{unreadable(dir, err)}
	}
	l := newLoader()
	for _, f := range files {
		ext := filepath.Ext(f.Name())
		if f.IsDir() || ext != ".yaml" && ext != ".yml" || strings.HasPrefix(f.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, f.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			l.Problems = append(l.Problems, unreadable(path, err))
			continue
		}
		l.file(path, text)
	}
	for _, name := range slices.Sorted(maps.Keys(more)) {
		l.file(filepath.Join(dir, name), []byte(more[name]))
	}
	return l.finish()
}

func unreadable(path string, err error) lang.Problem {
	why := err.Error()
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		why = pe.Err.Error()
	}
	return lang.Problem{Pos: lang.Pos{File: path, Line: 1, Col: 1}, Code: "unreadable", Message: "cannot be read: " + why}
}

// loader reads documents one by one; what needs all of them is kept for later.
type loader struct {
	lang.Decoder
	set   *Set
	later []func()
	names map[string]*lang.Node // kind/name: where it was defined
}

func newLoader() *loader {
	return &loader{
		set: &Set{
			Inventories: map[string]*Inventory{},
			Devices:     map[string]*Device{},
			Credentials: map[string]*Credential{},
		},
		names: map[string]*lang.Node{},
	}
}

var secretLine = regexp.MustCompile(`(?i)(pass|secret|token|key)[a-z_]*["']?\s*:`)

// file reads the documents of one file.
func (l *loader) file(name string, text []byte) {
	docs, ps := lang.Parse(name, text)
	for i := range ps {
		if secretLine.MatchString(ps[i].Source) {
			ps[i].Source = "" // what is no YAML may still hold a secret
		}
	}
	l.Join(ps)
	for _, doc := range docs {
		if doc.Kind == lang.NullNode {
			continue
		}
		l.document(doc)
	}
}

func (l *loader) document(doc *lang.Node) {
	f := l.Map(doc, "a document")
	switch f.Header(kindKey.Is.Words...) {
	case "inventory":
		l.inventory(f.By(&inventoryTable, ""))
	case "device":
		l.device(f.By(&deviceTable, ""))
	case "credential":
		l.credential(f.By(&credentialTable, ""))
	}
}

// finish checks what lies between the documents.
func (l *loader) finish() (*Set, lang.Problems) {
	for _, check := range l.later {
		check()
	}
	l.cycles()
	if len(l.Problems) > 0 {
		hideLines(l.Problems, "literal-secret", "environment-secret")
		l.Problems.Sort()
		return nil, l.Problems
	}
	return l.set, nil
}

// hideLines takes the source out of every problem that stands on a line on
// which somebody wrote a secret; only the first of those that are about one,
// which is cut off at its key, keeps it.
func hideLines(ps lang.Problems, codes ...string) {
	type line struct {
		file string
		n    int
	}
	first := map[line]int{} // column of the first secret
	for _, p := range ps {
		at := line{p.Pos.File, p.Pos.Line}
		if col, ok := first[at]; slices.Contains(codes, p.Code) && (!ok || p.Pos.Col < col) {
			first[at] = p.Pos.Col
		}
	}
	for i, p := range ps {
		col, ok := first[line{p.Pos.File, p.Pos.Line}]
		if ok && (p.Pos.Col != col || !slices.Contains(codes, p.Code)) {
			ps[i].Source = ""
		}
	}
}

// maxName is how long a name may be. It is not in the patterns, because a
// counted repeat makes a large program that every start would compile.
const maxName = 100

var (
	lowerName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
	anyName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
)

// name reads the name of a document and notes where it is; "" when it cannot
// be used.
func (l *loader) name(f *lang.Fields, kind string, pattern *regexp.Regexp, example string) string {
	name := f.NeedString("name", example)
	if name == "" {
		return ""
	}
	f.What = kind + " " + name
	n := f.Take("name")
	if len(name) > maxName || !pattern.MatchString(name) {
		letters := "lower-case letters"
		if pattern == anyName {
			letters = "letters"
		}
		l.Add(n, "bad-name", "the name %q is not possible: at most 100 %s, digits, dots, underscores and hyphens, starting with a letter or digit", name, letters)
		return ""
	}
	if first := l.names[kind+"/"+name]; first != nil {
		l.Add(n, "duplicate", "%s %q is defined twice; the first is at %s", kind, name, first.Pos)
		return ""
	}
	l.names[kind+"/"+name] = n
	return name
}

// refer reads the name of a document of another kind; whether it exists is
// checked when all documents are known.
func (l *loader) refer(f *lang.Fields, key, kind string) string {
	name := f.String(key, "")
	if n := f.Take(key); n != nil && name != "" {
		l.later = append(l.later, func() { l.exists(n, kind, name) })
	}
	return name
}

// exists reports a name that no document has.
func (l *loader) exists(n *lang.Node, kind, name string) {
	prefix := kind + "/"
	if l.names[prefix+name] != nil {
		return
	}
	var names []string
	for key := range l.names {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	switch {
	case len(names) == 0:
		l.Add(n, "unknown-name", "there is no %s %q; none is defined yet", kind, name)
	case lang.Similar(name, names) == "" && len(names) <= 8:
		l.Add(n, "unknown-name", "there is no %s %q; there is %s", kind, name, lang.Words(names))
	default:
		l.AddNear(n, name, names, "unknown-name", "there is no %s %q", kind, name)
	}
}

// Read reads documents out of memory, as Load reads those of a file.
func Read(name, text string) (*Set, lang.Problems) {
	l := newLoader()
	l.file(name, []byte(text))
	return l.finish()
}
