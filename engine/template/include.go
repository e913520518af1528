package template

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"runner/engine/lang"
	"runner/engine/module"
)

// maxIncludes bounds how many files a template includes, directly or through
// others: files that include two of another kind grow fast.
const maxIncludes = 64

// Steps is the kind of a file that other templates include. No grant runs it.
const Steps Kind = "steps"

// Include makes a step run the steps of a file.
type Include struct {
	File    string  // below the folder templates
	Takes   []Param // params that the file declares
	Params  []Given // those that the step gives
	Outputs []Output
}

// Given is a param that a step gives to the file that it includes.
type Given struct {
	Name  string
	Value *lang.Value
}

// Source returns the text of a file below the folder templates, and what it is
// called in messages.
type Source func(file string) (shown string, text []byte, err error)

// Below returns a Source that reads below a folder templates, also through
// links never what is outside, and what is not there from the shipped ones.
// Either may be absent ("" and nil).
func Below(dir string, shipped fs.FS) Source {
	return func(file string) (string, []byte, error) {
		shown := filepath.Join(dir, file)
		if dir != "" {
			root, err := os.OpenRoot(dir)
			if err == nil {
				defer func() { _ = root.Close() }() // it was only read
				text, err := root.ReadFile(file)
				if err == nil || !errors.Is(err, fs.ErrNotExist) {
					return shown, text, err
				}
			}
		}
		if shipped == nil {
			return shown, nil, fs.ErrNotExist
		}
		text, err := fs.ReadFile(shipped, file)
		return path.Join("templates", file), text, err
	}
}

// Around returns the folder templates that a file belongs to: the nearest one
// of that name above it, else that above its folder create, delete or elevate,
// else its own folder.
func Around(file string) string {
	abs, err := filepath.Abs(file)
	if err != nil {
		return filepath.Dir(file)
	}
	own := filepath.Dir(abs)
	found := own
	if slices.Contains(kinds, filepath.Base(own)) {
		found = filepath.Dir(own)
	}
	for dir := own; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if filepath.Base(dir) == "templates" {
			found = dir
			break
		}
	}
	if here, err := filepath.Abs("."); err == nil && !filepath.IsAbs(file) {
		if rel, err := filepath.Rel(here, found); err == nil {
			return rel // as the file is named in messages
		}
	}
	return found
}

// Resolve computes the params of the file: those given, as env has it; the
// others by their defaults, which see what own has.
func (i *Include) Resolve(env, own lang.Env) (map[string]any, error) {
	out := map[string]any{}
	scope := maps.Clone(own)
	for n := range i.Takes {
		p := &i.Takes[n]
		v, err := p.zero(), error(nil)
		scope["params"] = maps.Clone(out)
		g := slices.IndexFunc(i.Params, func(g Given) bool { return g.Name == p.Name })
		switch {
		case g >= 0:
			v, err = i.Params[g].Value.Eval(env)
		case p.Default != nil:
			v, err = p.Default.Eval(scope)
		}
		if err != nil {
			return nil, fmt.Errorf("param %q of %s: %w", p.Name, i.File, err)
		}
		why := ""
		if g >= 0 || p.Default != nil {
			if v, why = convert(v, p.Type); why == "" {
				why = p.check(v)
			}
		}
		if why != "" {
			return nil, fmt.Errorf("param %q of %s %s", p.Name, i.File, why)
		}
		out[p.Name] = v
	}
	return out, nil
}

// included is what all loaders of one template share.
type included struct {
	source Source
	count  int
	texts  map[string][]byte
	order  []string
}

// include reads a step that runs the steps of a file.
func (l *loader) include(f *lang.Fields, s *Step, sec *section, guarded guard) {
	s.Name = f.NeedString("name", "Say who may come in")
	l.register(f, s, sec)
	outer := sec
	sec = sec.with(l.loop(f, s, sec.scope, guarded))
	guarded = l.frame(f, s, sec, guarded)
	l.loopable(f, s)
	s.Include = &Include{}
	i := l.Map(f.Take("include"), "include of "+f.What).By(&includeTable, "")
	file := i.Need("file", "common/message.yaml")
	given := i.Take("params")
	if file != nil {
		if sub := l.file(file, sec, guarded); sub != nil {
			s.Include.File, s.Include.Takes, s.Include.Outputs, s.Block = file.Text, sub.t.Params, sub.t.Outputs, sub.t.Steps
			l.t.reads = append(l.t.reads, sub.t.reads...)
			l.t.Includes = append(append(l.t.Includes, sub.t.File), sub.t.Includes...)
			l.given(s, file, given, sec, guarded)
			s.handDown(s.Block)
		}
	}
	i.End()
	for _, o := range s.Include.Outputs {
		s.Outputs = append(s.Outputs, module.Field{Name: o.Name, Type: o.Type})
	}
	if s.Register != "" {
		t := s.result()
		if len(s.Block) == 0 {
			t = lang.Any // the file is a problem of its own
		}
		outer.scope[s.Register] = t
		l.results[s.Register] = &result{step: s, whens: l.whens, typ: t}
	}
	for _, e := range f.Rest() {
		f.Skip(e.Key.Text)
		switch {
		case e.Key.Text == "vars":
			l.Add(e.Key, "misplaced-key", "the steps of a file see no vars of the step that includes it; hand the values over as params of include")
		case l.reg.Lookup(e.Key.Text) != nil:
			l.Add(e.Key, "too-many", "%s calls %s beside its include; make two steps of it", f.What, e.Key.Text)
		default:
			l.strange(f, e.Key, nil)
		}
	}
}

// given reads the params that a step gives to a file.
func (l *loader) given(s *Step, file, n *lang.Node, sec *section, guarded guard) {
	written := map[string]bool{}
	var misspelt []string
	if n != nil {
		m := l.Map(n, "params of "+file.Text)
		for i := range s.Include.Takes {
			p := &s.Include.Takes[i]
			v := m.Take(p.Name)
			if v == nil {
				continue
			}
			written[p.Name] = true
			if p.Type.Kind == lang.SecretKind && v.Kind == lang.ScalarNode && v.Tag == "" && !strings.Contains(v.Text, "{{") {
				l.Problems = append(l.Problems, literalSecret(v, p.Name))
				continue
			}
			if val := l.value(v, p.Type, sec.scope, guarded); val != nil {
				s.Include.Params = append(s.Include.Params, Given{Name: p.Name, Value: val})
				if x, ok := constant(val); ok {
					if why := p.check(x); why != "" {
						l.Add(v, "wrong-value", "param %q of %s %s", p.Name, file.Text, why)
					}
				}
			}
		}
		for _, e := range m.Rest() {
			misspelt = append(misspelt, lang.Similar(e.Key.Text, m.Known()))
		}
		m.End()
	}
	for i := range s.Include.Takes {
		if p := &s.Include.Takes[i]; !written[p.Name] && p.Default == nil && !p.Optional && !slices.Contains(misspelt, p.Name) {
			l.Add(file, "missing-param", "%s needs the param %q; add %s: … to params, %s", file.Text, p.Name, p.Name, p.wants())
		}
	}
}

// file loads what a step includes, or returns nil after a problem.
func (l *loader) file(n *lang.Node, sec *section, guarded guard) *loader {
	name, ok := l.Text(n, "file")
	if !ok {
		return nil
	}
	if !fs.ValidPath(name) || name == "." || path.Ext(name) != ".yaml" {
		l.Add(n, "bad-path", "%q is no file below the folder templates; write its path from there, without .. and with .yaml, for example: common/message.yaml", name)
		return nil
	}
	if folder, _, _ := strings.Cut(name, "/"); slices.Contains(kinds, folder) {
		l.Add(n, "bad-path", "%s is a template of its own; only files of kind: steps are included, and lie in another folder, such as common", name)
		return nil
	}
	if i := slices.Index(l.chain, name); i >= 0 {
		l.Add(n, "cycle", "%s includes itself: %s", name, strings.Join(append(slices.Clone(l.chain[i:]), name), " includes "))
		return nil
	}
	if l.shared.count++; l.shared.count > maxIncludes {
		if l.shared.count == maxIncludes+1 {
			l.Add(n, "too-many", "the template includes more than %d files", maxIncludes)
		}
		return nil
	}
	if l.shared.source == nil {
		l.Add(n, "unknown-file", "%s cannot be read: this text has no folder templates around it", name)
		return nil
	}
	shown, text, err := l.shared.source(name)
	if err != nil {
		why := unreadable(shown, err).Message
		if errors.Is(err, fs.ErrNotExist) {
			why = "there is no such file below the folder templates"
		}
		l.Add(n, "unknown-file", "%s: %s", name, why)
		return nil
	}
	if l.shared.texts[name] == nil {
		l.shared.texts[name] = slices.Clone(text)
		l.shared.order = append(l.shared.order, name)
	}
	sub := &loader{
		Decoder: lang.Decoder{Taken: l.Taken}, reg: l.reg, shared: l.shared, chain: append(slices.Clone(l.chain), name),
		t: &Template{File: shown, Kind: l.t.Kind, Platform: l.t.Platform},
	}
	scope := Scope(l.t.Kind)
	if c, there := sec.scope["created"]; there {
		scope["created"] = c
	}
	sub.stepsFile(text, &section{scope: scope, registered: map[string]lang.Pos{}, forward: sec.forward, removes: sec.removes, shared: true}, guarded)
	if errs, _ := sub.Problems.Split(); len(errs) == 0 {
		sub.lint()
	}
	l.Join(sub.Problems)
	if errs, _ := sub.Problems.Split(); len(errs) > 0 || len(sub.t.Steps) == 0 {
		return nil
	}
	return sub
}

// stepsFile reads a file of kind steps.
func (l *loader) stepsFile(text []byte, sec *section, guarded guard) {
	docs, ps := lang.Parse(l.t.File, text)
	l.Join(ps)
	switch {
	case len(ps) > 0:
		return
	case len(docs) == 0:
		l.Problems = append(l.Problems, emptyFile(l.t.File))
		return
	case len(docs) > 1:
		l.Add(docs[1], "too-many", "a file holds one list of steps; put this document into a file of its own")
		return
	}
	l.doc, l.results = docs[0], map[string]*result{}
	f := l.Map(docs[0], "a file of steps").By(&fileTable, "")
	if f.Header(string(Steps)) == "" {
		return
	}
	want := l.t.Platform
	l.t.Name = f.String("name", "")
	l.t.Description = f.String("description", "")
	l.t.Platform = l.platform(f)
	if n := f.Node.Get("platform"); want != "" && l.t.Platform != "" && l.t.Platform != want {
		l.Add(n, "wrong-platform", "the file is for %s, and the template that includes it is for %s", l.t.Platform, want)
	}
	sec.scope = l.params(f.Take("params"), sec.scope)
	for i := range l.t.Params {
		if p := &l.t.Params[i]; p.Generate != nil {
			l.Problems = append(l.Problems, lang.Problem{Pos: p.Pos, Code: "no-effect", Message: fmt.Sprintf("a file of steps makes no secrets: have the template make it and give it as param %q; leave generate out", p.Name)})
		}
	}
	l.t.Steps = l.steps(f.Need("steps", "[{name: …, shell: …}]"), "steps", sec, guarded)
	l.outputs(f.Take("outputs"), sec.scope)
	f.End()
}

func emptyFile(file string) lang.Problem {
	return lang.Problem{Pos: lang.Pos{File: file, Line: 1, Col: 1}, Code: "empty", Message: "the file is empty; a template starts with schema: runner/v1"}
}

// A template that includes files is kept, pinned and hashed with their texts in
// one: this line, and for each file its name and size before its text.
const bundleMark = "# runner/v1 bundle\n"

// bundle puts a template and what it includes together.
func bundle(text []byte, files *included) []byte {
	if len(files.order) == 0 {
		return slices.Clone(text)
	}
	var b strings.Builder
	b.WriteString(bundleMark)
	put := func(name string, text []byte) { fmt.Fprintf(&b, "# %d %s\n%s", len(text), name, text) }
	put("", text)
	for _, name := range files.order {
		put(name, files.texts[name])
	}
	return []byte(b.String())
}

// unbundle takes a bundle apart. A text that is none is returned as it is.
func unbundle(text []byte) (main []byte, files map[string][]byte, err error) {
	rest, is := strings.CutPrefix(string(text), bundleMark)
	if !is {
		return text, nil, nil
	}
	files = map[string][]byte{}
	for n := 0; rest != ""; n++ {
		var (
			size int
			head string
			ok   bool
		)
		if head, rest, ok = strings.Cut(rest, "\n"); !ok {
			return nil, nil, errBundle
		}
		words := strings.SplitN(head, " ", 3)
		if len(words) != 3 {
			return nil, nil, errBundle
		}
		if _, err := fmt.Sscanf(words[1], "%d", &size); err != nil || words[0] != "#" || size < 0 || size > len(rest) {
			return nil, nil, errBundle
		}
		if n == 0 {
			main = []byte(rest[:size])
		} else {
			files[words[2]] = []byte(rest[:size])
		}
		rest = rest[size:]
	}
	return main, files, nil
}

var errBundle = errors.New("the stored template is damaged: its parts do not have the sizes that it says")

func hash(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
