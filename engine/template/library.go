package template

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"runner/engine/lang"
	"runner/engine/module"
)

// Where a template comes from.
const (
	Shipped   = "shipped"
	Workspace = "workspace"
)

// Library holds the templates that can be used: those of the workspace, and
// the shipped ones that the workspace does not replace. It is immutable.
type Library struct {
	templates map[key]*Template
	broken    map[key]lang.Problems
}

type key struct {
	kind Kind
	name string
}

// Open reads the templates of a workspace, below its folder templates, and the
// shipped ones. shipped holds the folders create, delete and elevate; either
// may be absent ("" and nil). All problems are returned at once. The Library
// is usable even so: it holds the templates without problems. A workspace
// template with a problem still hides the shipped one of its name.
func Open(workspaceDir string, shipped fs.FS, reg *module.Registry) (*Library, lang.Problems) {
	l := &Library{templates: map[key]*Template{}, broken: map[key]lang.Problems{}}
	var ps lang.Problems
	dir := ""
	if workspaceDir != "" {
		dir = filepath.Join(workspaceDir, "templates")
	}
	if shipped != nil {
		ps = append(ps, l.read(shipped, "templates", Shipped, Below("", shipped), reg)...)
	}
	if dir != "" {
		if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
			own := l.read(os.DirFS(dir), dir, Workspace, Below(dir, shipped), reg)
			ps = append(ps, own...)
		}
	}
	ps = append(ps, l.cross()...)
	ps.Sort()
	return l, ps
}

// read adds the templates of one file system; those already there are replaced. Files
// are read side by side: every command that makes something waits for them.
func (l *Library) read(fsys fs.FS, shown, origin string, from Source, reg *module.Registry) lang.Problems {
	var ps lang.Problems
	var all []*candidate
	var busy sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, kind := range []Kind{Create, Delete, Elevate} {
		entries, err := fs.ReadDir(fsys, string(kind))
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				ps = append(ps, unreadable(filepath.Join(shown, string(kind)), err))
			}
			continue
		}
		for _, e := range entries {
			file := filepath.Join(shown, string(kind), e.Name())
			ext := path.Ext(e.Name())
			switch {
			case e.IsDir() || strings.HasPrefix(e.Name(), "."):
			case ext == ".yml":
				ps = append(ps, lang.Problem{Pos: lang.Pos{File: file, Line: 1, Col: 1}, Code: "wrong-place", Message: "the file of a template ends in .yaml; rename it"})
			case ext == ".yaml":
				c := &candidate{key: key{kind, strings.TrimSuffix(e.Name(), ext)}}
				all = append(all, c)
				slots <- struct{}{}
				busy.Go(func() {
					defer func() { <-slots }()
					c.load(fsys, path.Join(string(kind), e.Name()), file, from, reg)
				})
			}
		}
	}
	busy.Wait()
	for _, c := range all {
		delete(l.templates, c.key)
		delete(l.broken, c.key)
		if len(c.problems) > 0 {
			l.broken[c.key] = c.problems
			ps = append(ps, c.problems...)
			continue
		}
		c.loaded.Origin = origin
		l.templates[c.key] = c.loaded
	}
	return ps
}

// candidate is one file on its way into a Library.
type candidate struct {
	key      key
	loaded   *Template // nil with problems
	problems lang.Problems
}

func (c *candidate) load(fsys fs.FS, name, file string, from Source, reg *module.Registry) {
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		c.problems = lang.Problems{unreadable(file, err)}
		return
	}
	c.loaded, c.problems = LoadWith(file, text, from, reg)
}

func unreadable(file string, err error) lang.Problem {
	why := err.Error()
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		why = pe.Err.Error()
	}
	return lang.Problem{Pos: lang.Pos{File: file, Line: 1, Col: 1}, Code: "unreadable", Message: "cannot be read: " + why}
}

// cross checks the templates against each other and takes out those that
// cannot be used.
func (l *Library) cross() lang.Problems {
	broken := map[string]string{}
	for k, ps := range l.broken {
		if k.kind == Delete {
			broken[k.name] = ps[0].Pos.File
		}
	}
	var ps lang.Problems
	for {
		// Taking out a delete template makes the create templates that name it
		// unusable as well.
		found := check(l.All(), broken)
		if len(found) == 0 {
			return ps
		}
		ps = append(ps, found...)
		for _, t := range l.All() {
			l.take(t, found, broken)
		}
	}
}

// take moves a template that has one of the problems to the broken ones.
func (l *Library) take(t *Template, found lang.Problems, broken map[string]string) {
	k := key{t.Kind, t.Name}
	for _, p := range found {
		if p.Pos.File != t.File && !slices.Contains(t.Includes, p.Pos.File) {
			continue
		}
		l.broken[k] = append(l.broken[k], p)
		delete(l.templates, k)
		if t.Kind == Delete {
			broken[t.Name] = t.File
		}
	}
}

// Get returns a template. The error says which name was probably meant; for a
// template that has problems it is its lang.Problems.
func (l *Library) Get(kind Kind, name string) (*Template, error) {
	k := key{kind, name}
	if t := l.templates[k]; t != nil {
		return t, nil
	}
	if ps := l.broken[k]; len(ps) > 0 {
		return nil, fmt.Errorf("%s template %q has problems:\n%w", kind, name, ps)
	}
	var names []string
	for other := range l.templates {
		if other.kind == kind {
			names = append(names, other.name)
		}
	}
	slices.Sort(names)
	switch near := lang.Similar(name, names); {
	case near != "":
		return nil, fmt.Errorf("there is no %s template %q; did you mean %q?", kind, name, near)
	case len(names) == 0:
		return nil, fmt.Errorf("there is no %s template %q, nor any other", kind, name)
	default:
		return nil, fmt.Errorf("there is no %s template %q; there is %s", kind, name, lang.Words(names))
	}
}

// All returns the templates without problems, by kind and name.
func (l *Library) All() []*Template {
	all := make([]*Template, 0, len(l.templates))
	for _, t := range l.templates {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *Template) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Name, b.Name))
	})
	return all
}

// Warnings returns what is probably not meant in the templates that can be
// used, sorted by place.
func (l *Library) Warnings() lang.Problems {
	var ps lang.Problems
	for _, t := range l.templates {
		ps = append(ps, t.Warnings...)
	}
	ps.Sort()
	return ps
}

// Coverage checks that the removals take away what their creations make; see
// the function Coverage.
func (l *Library) Coverage() lang.Problems { return Coverage(l.All()...) }

// Params returns, by the name of each param of a template, a check that says
// what is wrong with a fixed value of a credential, or "". Those of a create
// template include the params of its removal. A template that does not exist
// has none.
func (l *Library) Params(kind Kind, name string) map[string]func(*lang.Value) string {
	out := map[string]func(*lang.Value) string{}
	t := l.templates[key{kind, name}]
	if t == nil {
		return out
	}
	if t.Kind == Create {
		out = l.Params(Delete, t.Removal)
	}
	for i := range t.Params {
		p := &t.Params[i]
		out[p.Name] = func(v *lang.Value) string { return p.fixed(v) }
	}
	return out
}
