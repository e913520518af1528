package template

import (
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"runner/engine/lang"
	"runner/engine/module"
)

// Bounds of what an author may write; keys.go has the defaults.
const (
	minTimeout = time.Second
	maxTimeout = 24 * time.Hour
	maxDelay   = time.Hour
	maxRetries = 1000
	maxBackoff = 10
)

var kinds = []string{string(Create), string(Delete), string(Elevate)}

// Load reads and checks one template that includes no files, or has them with
// it: the Body of a template. file is its name in messages; when its folder is
// create, delete or elevate, kind and name must be those of the path. All
// problems are returned at once, and with an error among them the Template is
// nil. Of a Template the warnings are in it.
func Load(file string, text []byte, reg *module.Registry) (*Template, lang.Problems) {
	return load(file, text, nil, reg, nil)
}

// LoadWith is Load of a template that may include files of from.
func LoadWith(file string, text []byte, from Source, reg *module.Registry) (*Template, lang.Problems) {
	return load(file, text, from, reg, nil)
}

// load is LoadWith; taken is told what the loader asks for.
func load(file string, text []byte, from Source, reg *module.Registry, taken func(t *lang.Table, variant, key string)) (*Template, lang.Problems) {
	main, files, err := unbundle(text)
	if err != nil {
		return nil, lang.Problems{{Pos: lang.Pos{File: file, Line: 1, Col: 1}, Code: "damaged", Message: err.Error()}}
	}
	if files != nil {
		from = func(name string) (string, []byte, error) {
			if files[name] == nil {
				return name, nil, fs.ErrNotExist
			}
			return name + " of " + file, files[name], nil
		}
	}
	l := &loader{
		Decoder: lang.Decoder{Taken: taken},
		reg:     reg,
		shared:  &included{source: from, texts: map[string][]byte{}},
		t:       &Template{File: file},
	}
	docs, ps := lang.Parse(file, main)
	l.Join(ps)
	switch {
	case len(ps) > 0:
	case len(docs) == 0:
		l.Problems = append(l.Problems, emptyFile(file))
	case isSteps(docs[0]):
		l.t.Kind = Steps
		l.stepsFile(main, &section{scope: Scope(Delete), registered: map[string]lang.Pos{}, shared: true}, unguarded)
	case len(docs) > 1:
		l.Add(docs[1], "too-many", "a file holds one template; put this document into a file of its own")
	default:
		l.template(docs[0])
	}
	errs, _ := l.Problems.Split()
	if len(errs) == 0 {
		l.lint()
	}
	l.Problems.Sort()
	l.Problems = slices.Compact(l.Problems)
	if errs, l.t.Warnings = l.Problems.Split(); len(errs) > 0 {
		return nil, l.Problems
	}
	l.t.Body = bundle(main, l.shared)
	l.t.Hash = hash(l.t.Body)
	return l.t, nil
}

// isSteps reports whether a document is a list of steps for others.
func isSteps(doc *lang.Node) bool {
	k := doc.Get("kind")
	return k != nil && k.Kind == lang.ScalarNode && k.Text == string(Steps)
}

// loader reads one template.
type loader struct {
	lang.Decoder
	reg        *module.Registry
	t          *Template
	paramNames []string // also of those that come later
	doc        *lang.Node
	whens      []string // conditions of the step that is read and the blocks around it
	used       []use
	results    map[string]*result // what steps register
	shared     *included
	chain      []string // the files that are being included
}

var (
	templateName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
	identifier   = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	accountName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*\$?$`)
)

// template reads the document.
func (l *loader) template(doc *lang.Node) {
	l.doc, l.results = doc, map[string]*result{}
	f := l.Map(doc, "a template").By(&templateTable, "")
	kind := f.Header(kinds...)
	if kind == "" {
		return // what may follow depends on the kind
	}
	t := l.t
	t.Kind = Kind(kind)
	f.By(&templateTable, kind)
	f.What = article(t.Kind) + " template"
	t.Name = l.name(f)
	l.place(f)
	t.Description = f.String("description", "")
	t.Platform = l.platform(f)
	t.Enabled = f.Bool("enabled")
	t.Executor = f.Enum("executor")
	l.removal(f)
	t.Become, _ = l.become(f)
	t.Timeout = f.Duration("timeout")
	l.endings(f)

	scope := Scope(t.Kind)
	scope = l.params(f.Take("params"), scope)
	scope = l.vars(f.Take("vars"), &t.Vars, scope.With("vars", lang.MapOf(nil)), outsideSteps)
	sec := &section{scope: maps.Clone(scope), registered: map[string]lang.Pos{}, forward: t.Kind != Delete, removes: t.Kind == Delete}
	steps := f.Need("steps", "[{name: …, shell: …}]")
	t.Steps = l.steps(steps, "steps", sec, unguarded)
	l.outputs(f.Take("outputs"), sec.scope)
	l.revert(f, scope)
	l.renew(f, scope)
	l.strangeKeys(f)
	f.End()
}

// strangeKeys explains words of other systems at the top of a template.
func (l *loader) strangeKeys(f *lang.Fields) {
	for _, e := range f.Rest() {
		hint := map[string]string{
			"tasks":        "a template has steps",
			"handlers":     "write steps with when: NAME.changed",
			"hosts":        "the credential says where a template runs",
			"roles":        "a template has steps",
			"gather_facts": "a step that needs facts calls the module facts",
			"remote_user":  "the credential says who logs in; write become: for another account",
		}[e.Key.Text]
		if hint == "" {
			continue
		}
		f.Skip(e.Key.Text)
		p := e.Key.Problem("unknown-key", "unknown key %q in %s; %s", e.Key.Text, f.What, hint)
		if e.Key.Text == "tasks" {
			p.Suggest = "steps"
			f.Meant(p.Suggest)
		}
		l.Problems = append(l.Problems, p)
	}
}

func article(k Kind) string {
	if k == Elevate {
		return "an elevate"
	}
	return "a " + string(k)
}

func (l *loader) name(f *lang.Fields) string {
	name := f.NeedString("name", "linux-user")
	if name != "" && (len(name) > 100 || !templateName.MatchString(name)) {
		l.Add(f.Node.Get("name"), "bad-name", "the name %q is not possible: at most 100 lower-case letters, digits, dots, underscores and hyphens, starting with a letter or digit", name)
		return ""
	}
	return name
}

// place checks kind and name against the path of the file.
func (l *loader) place(f *lang.Fields) {
	dir, base := path.Split(filepath.ToSlash(l.t.File))
	folder := path.Base(dir)
	if !slices.Contains(kinds, folder) {
		return
	}
	if folder != string(l.t.Kind) {
		l.Add(f.Node.Get("kind"), "wrong-place", "kind is %s, but the file lies in the folder %s; move it to the folder %s or write kind: %s", l.t.Kind, folder, l.t.Kind, folder)
	}
	if want := strings.TrimSuffix(base, path.Ext(base)); l.t.Name != "" && l.t.Name != want {
		l.Add(f.Node.Get("name"), "wrong-place", "name is %q, but the file is %s; write name: %s or rename the file to %s.yaml", l.t.Name, base, want, l.t.Name)
	}
}

// platform reads for which devices the template is: those that modules exist for.
func (l *loader) platform(f *lang.Fields) string {
	var known []string
	for _, m := range l.reg.All() {
		if m.Platform != "" && !slices.Contains(known, m.Platform) {
			known = append(known, m.Platform)
		}
	}
	slices.Sort(known)
	n := f.Need("platform", "linux")
	if n == nil || len(known) > 0 && !l.OneOf(n, "platform", known) {
		return ""
	}
	return n.Text
}

// removal reads the name of the delete template of a create template.
func (l *loader) removal(f *lang.Fields) {
	n := f.Node.Get("removal")
	switch {
	case l.t.Kind == Create && n == nil:
		l.Add(f.First(), "missing-key", "a create template has no \"removal\"; name the delete template that takes away what it makes, for example: removal: linux-user")
		f.Take("removal")
	case l.t.Kind == Create:
		l.t.Removal, l.t.removalAt = f.String("removal", ""), n
	case n != nil:
		l.misplaced(f, "removal", "only a create template has a removal")
	}
}

// misplaced reports a key that belongs to templates of another kind.
func (l *loader) misplaced(f *lang.Fields, key, why string) {
	f.Skip(key)
	l.Add(f.Key(key), "misplaced-key", "%s has %s, but %s; leave it out", f.What, key, why)
}

// become reads the account that steps run as; false is the login account.
func (l *loader) become(f *lang.Fields) (string, bool) {
	n := f.Take("become")
	if n == nil {
		return "", false
	}
	if n.Kind == lang.ScalarNode && !n.Quoted {
		switch n.Text {
		case "false", "no":
			return "", true
		case "true", "yes":
			l.Add(n, "wrong-type", "become names the account; write become: root, or become: false for the login account")
			return "", true
		}
	}
	s, ok := l.Text(n, "become")
	if ok && !accountName.MatchString(s) {
		l.Add(n, "bad-name", "become is %q; that is no account name", s)
	}
	return s, true
}

// endings reads what happens when the connection or a step is lost.
func (l *loader) endings(f *lang.Fields) {
	t := l.t
	t.OnDisconnect = f.Enum("on_disconnect")
	if t.Kind == Delete {
		t.OnFailure = "keep"
		if f.Node.Get("on_failure") != nil {
			l.misplaced(f, "on_failure", "a removal is never reverted: it is retried until it succeeds")
		}
		return
	}
	if n := f.Node.Get("on_failure"); n != nil && n.Kind == lang.ListNode {
		f.Take("on_failure")
		l.Add(n, "wrong-type", "on_failure is revert or keep; steps for when one has failed stand at the end of steps, each with when: failure()")
		return
	}
	t.OnFailure = f.Enum("on_failure")
}

// ident checks a name that conditions and strings will read.
func (l *loader) ident(n *lang.Node, what string) bool {
	if identifier.MatchString(n.Text) {
		return true
	}
	p := n.Problem("bad-name", "the name of %s is %q; it must have only lower-case letters, digits and underscores, and start with a letter", what, n.Text)
	fixed := strings.ToLower(strings.NewReplacer("-", "_", ".", "_", " ", "_").Replace(n.Text))
	if identifier.MatchString(fixed) {
		p.Suggest = fixed
	}
	l.Problems = append(l.Problems, p)
	return false
}

// outputs reads what the template hands on.
func (l *loader) outputs(n *lang.Node, scope lang.Scope) {
	if n == nil {
		return
	}
	f := l.Map(n, "outputs")
	for _, e := range f.Rest() {
		if !l.ident(e.Key, "an output") {
			continue
		}
		out := Output{Name: e.Key.Text, Type: lang.Any, Pos: e.Key.Pos}
		if out.Value = l.expr(e.Value, lang.Any, scope, outsideSteps); out.Value != nil {
			out.Type = out.Value.Type()
		}
		l.t.Outputs = append(l.t.Outputs, out)
	}
}

// renew reads the steps that move the device's own expiries when a grant is
// extended. They see the same params and grant.backstop_at with its new value.
func (l *loader) renew(f *lang.Fields, scope lang.Scope) {
	if l.t.Kind == Delete {
		if f.Node.Get("renew") != nil {
			l.misplaced(f, "renew", "only a create or elevate template renews what it made")
		}
		return
	}
	sec := &section{scope: maps.Clone(scope), registered: map[string]lang.Pos{}, forward: true}
	l.t.Renew = l.steps(f.Take("renew"), "renew", sec, unguarded)
}

// revert reads the section of an elevate template that takes the elevation back.
func (l *loader) revert(f *lang.Fields, scope lang.Scope) {
	n := f.Node.Get("revert")
	switch {
	case l.t.Kind == Elevate && n == nil:
		l.Add(f.First(), "missing-key", "an elevate template has no \"revert\"; write the steps that take the elevation back, for example: revert: [{name: Undo, revert: {of: created}}]")
		f.Take("revert")
	case l.t.Kind == Elevate:
		sec := &section{scope: scope.With("created", createdType(l.t)), registered: map[string]lang.Pos{}, removes: true}
		l.t.Revert = l.steps(f.Take("revert"), "revert", sec, unguarded)
	case n != nil:
		l.misplaced(f, "revert", "only an elevate template has a revert section")
	}
}
