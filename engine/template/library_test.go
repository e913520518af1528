package template

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"runner/engine/lang"
)

const createText = `schema: runner/v1
kind: create
name: NAME
platform: linux
removal: REMOVAL
steps:
  - name: Make
    register: account
    user: {name: "{{ grant.account }}"}
outputs:
  uid: account.uid
`

const deleteText = `schema: runner/v1
kind: delete
name: NAME
platform: linux
steps:
  - name: Remove
    user: {name: "{{ grant.account }}", uid: !expr created.outputs.uid ?? grant.uid, state: absent}
`

func createOf(name, removal string) string {
	return strings.NewReplacer("NAME", name, "REMOVAL", removal).Replace(createText)
}

func deleteOf(name string) string { return strings.ReplaceAll(deleteText, "NAME", name) }

// shippedFS returns templates by their path below templates/.
func shippedFS(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

// workspaceDir writes templates by their path below templates/.
func workspaceDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, "templates", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func names(ts []*Template) []string {
	var out []string
	for _, t := range ts {
		out = append(out, string(t.Kind)+"/"+t.Name+" "+t.Origin)
	}
	return out
}

// said returns the messages without excerpts.
func said(ps lang.Problems) []string {
	var out []string
	for _, p := range ps {
		out = append(out, p.Pos.String()+": "+p.Said())
	}
	return out
}

func TestAWorkspaceTemplateBeatsAShippedOne(t *testing.T) {
	t.Parallel()
	shipped := shippedFS(map[string]string{
		"create/a.yaml": createOf("a", "a"), "delete/a.yaml": deleteOf("a"),
		"create/README.md": "not a template", "schema.json": "{}",
	})
	dir := workspaceDir(t, map[string]string{
		"create/a.yaml": strings.Replace(createOf("a", "b"), "name: Make", "name: Ours", 1), "delete/b.yaml": deleteOf("b"),
	})
	lib, ps := Open(dir, shipped, registry(t))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	want := []string{"create/a workspace", "delete/a shipped", "delete/b workspace"}
	if got := names(lib.All()); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	a, err := lib.Get(Create, "a")
	if err != nil || a.Steps[0].Name != "Ours" || a.File != filepath.Join(dir, "templates/create/a.yaml") {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestABrokenWorkspaceTemplateNeverFallsBackToTheShippedOne(t *testing.T) {
	t.Parallel()
	shipped := shippedFS(map[string]string{"create/a.yaml": createOf("a", "a"), "delete/a.yaml": deleteOf("a")})
	dir := workspaceDir(t, map[string]string{"create/a.yaml": strings.Replace(createOf("a", "a"), "user:", "usr:", 1)})
	lib, ps := Open(dir, shipped, registry(t))
	if len(ps) != 1 || ps[0].Suggest != "user" {
		t.Fatalf("problems: %q", said(ps))
	}
	_, err := lib.Get(Create, "a")
	if _, ok := errors.AsType[lang.Problems](err); !ok || !strings.Contains(err.Error(), `did you mean "user"?`) {
		t.Errorf("got %v", err)
	}
	if _, err := lib.Get(Delete, "a"); err != nil {
		t.Errorf("the delete template beside it: %v", err)
	}
}

func TestAnUnknownTemplateSaysTheNearest(t *testing.T) {
	t.Parallel()
	shipped := shippedFS(map[string]string{"create/linux-user.yaml": createOf("linux-user", "d"), "delete/d.yaml": deleteOf("d")})
	lib, ps := Open("", shipped, registry(t))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	for _, c := range []struct {
		kind       Kind
		name, want string
	}{
		{Create, "linux-usr", `there is no create template "linux-usr"; did you mean "linux-user"?`},
		{Create, "oracle", `there is no create template "oracle"; there is linux-user`},
		{Elevate, "linux-user", `there is no elevate template "linux-user", nor any other`},
	} {
		if _, err := lib.Get(c.kind, c.name); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestOpenWithoutAnyFolderIsAnEmptyLibrary(t *testing.T) {
	t.Parallel()
	lib, ps := Open(t.TempDir(), nil, registry(t))
	if len(ps) > 0 || len(lib.All()) > 0 {
		t.Errorf("got %v, %v", lib.All(), ps)
	}
}

func TestTemplatesAreCheckedAgainstEachOther(t *testing.T) {
	t.Parallel()
	disabled := strings.Replace(deleteOf("gone"), "platform", "enabled: false\nplatform", 1)
	reads := func(name, output string) string {
		return strings.Replace(deleteOf(name), "created.outputs.uid", "created.outputs."+output, 1)
	}
	other := strings.Replace(deleteOf("other"), "platform: linux", "platform: windows", 1)
	other, _, _ = strings.Cut(other, "steps:")
	other += "steps:\n  - name: Say\n    debug: {msg: x}\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []string
		left  []string
	}{
		{
			"misspelt",
			map[string]string{"create/a.yaml": createOf("a", "lunix"), "delete/linux.yaml": deleteOf("linux")},
			[]string{`templates/create/a.yaml:5:10: there is no delete template "lunix"; did you mean "linux"?`},
			[]string{"delete/linux shipped"},
		},
		{
			"none",
			map[string]string{"create/a.yaml": createOf("a", "x")},
			[]string{`templates/create/a.yaml:5:10: there is no delete template "x"; write one in the folder templates/delete`},
			nil,
		},
		{
			"disabled",
			map[string]string{"create/a.yaml": createOf("a", "gone"), "delete/gone.yaml": disabled},
			[]string{`templates/create/a.yaml:5:10: the delete template "gone" is disabled (enabled: false in templates/delete/gone.yaml); what this template makes could not be removed`},
			[]string{"delete/gone shipped"},
		},
		{
			"platform",
			map[string]string{"create/a.yaml": createOf("a", "other"), "delete/other.yaml": other},
			[]string{`templates/create/a.yaml:5:10: the delete template "other" is for windows, and this template is for linux`},
			[]string{"delete/other shipped"},
		},
		{
			"the removal cannot be loaded",
			map[string]string{"create/a.yaml": createOf("a", "d"), "delete/d.yaml": "kind: delete\n"},
			[]string{
				`templates/create/a.yaml:5:10: the removal "d" has problems of its own; see templates/delete/d.yaml`,
				`templates/delete/d.yaml:1:1: a template has no "schema"; write for example: schema: runner/v1`,
				`templates/delete/d.yaml:1:1: a delete template has no "name"; write for example: name: linux-user`,
				`templates/delete/d.yaml:1:1: a delete template has no "platform"; write for example: platform: linux`,
				`templates/delete/d.yaml:1:1: a delete template has no "steps"; write for example: steps: [{name: …, shell: …}]`,
			},
			nil,
		},
		{
			"an output that nobody hands on",
			map[string]string{"create/a.yaml": createOf("a", "d"), "delete/d.yaml": reads("d", "iud")},
			[]string{
				`templates/create/a.yaml:5:10: the removal "d" has problems of its own; see templates/delete/d.yaml`,
				`templates/delete/d.yaml:7:52: created.outputs has no "iud": create template a, removed by this template, has no such output; there is uid`,
			},
			nil,
		},
		{
			"an output that only one hands on",
			map[string]string{
				"create/a.yaml": createOf("a", "d"), "delete/d.yaml": reads("d", "home"),
				"create/b.yaml": createOf("b", "d") + "  home: account.home\n",
			},
			[]string{`templates/create/a.yaml:5:10: the delete template "d" reads created.outputs.home, which is not among the outputs of this template; add home: … to outputs`},
			[]string{"create/b shipped", "delete/d shipped"},
		},
		{
			"the ending",
			map[string]string{"delete/d.yml": deleteOf("d")},
			[]string{`templates/delete/d.yml:1:1: the file of a template ends in .yaml; rename it`},
			nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lib, ps := Open("", shippedFS(c.files), registry(t))
			if got := said(ps); !slices.Equal(got, c.want) {
				t.Errorf("problems:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			if got := names(lib.All()); !slices.Equal(got, c.left) {
				t.Errorf("usable: %q, want %q", got, c.left)
			}
		})
	}
}

func TestFixedParamsAreHeldAgainstBothTemplatesOfAPair(t *testing.T) {
	t.Parallel()
	create := strings.Replace(createOf("a", "d"), "steps:", "params:\n  quota: {type: int, max: 10, default: 5}\n  password: {type: secret, generate: {length: 24}}\nsteps:", 1)
	remove := strings.Replace(deleteOf("d"), "steps:", "params:\n  keep: {type: enum, enum: [home, nothing], default: nothing}\nsteps:", 1)
	lib, ps := Open("", shippedFS(map[string]string{"create/a.yaml": create, "delete/d.yaml": remove}), registry(t))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	params := lib.Params(Create, "a")
	for _, c := range []struct {
		param string
		value any
		want  string
	}{
		{"quota", int64(7), ""},
		{"quota", "7", ""},
		{"quota", int64(11), "is 11; at most 10"},
		{"quota", "many", `is "many"; give an int`},
		{"keep", "home", ""},
		{"keep", "homes", `is "homes"; it must be home or nothing; did you mean "home"?`},
		{"password", "canary", inClear},
	} {
		check := params[c.param]
		if check == nil {
			t.Errorf("%s is not known", c.param)
			continue
		}
		if got := check(lang.Constant(c.value)); got != c.want {
			t.Errorf("%s = %v: %q, want %q", c.param, c.value, got, c.want)
		}
	}
	if len(params) != 3 || len(lib.Params(Create, "nobody")) != 0 {
		t.Errorf("params of a: %d, of a template that does not exist: %d", len(params), len(lib.Params(Create, "nobody")))
	}
}

func TestLoadedTemplatesCanBeCheckedTogether(t *testing.T) {
	t.Parallel()
	reg := registry(t)
	load := func(file, text string) *Template {
		tmpl, ps := Load(file, []byte(text), reg)
		if len(ps) > 0 {
			t.Fatal(ps)
		}
		return tmpl
	}
	create, remove := load("create/a.yaml", createOf("a", "d")), load("delete/d.yaml", deleteOf("d"))
	if ps := Check(create, remove); len(ps) > 0 {
		t.Errorf("a right pair: %q", said(ps))
	}
	want := []string{`create/a.yaml:5:10: there is no delete template "d"; write one in the folder templates/delete`}
	if got := said(Check(create)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What a removal reads of the params and vars of its creation has to be there,
// and secrets are not handed on.
func TestARemovalReadsParamsAndVarsThatAreHandedOn(t *testing.T) {
	t.Parallel()
	read := func(path string) fstest.MapFS {
		return fstest.MapFS{
			"create/a.yaml": {Data: []byte("schema: runner/v1\nkind: create\nname: a\nplatform: linux\nremoval: a\nparams:\n  size: {type: int, default: 1}\n  key: {type: secret, generate: {}}\nvars: {place: '/srv/{{ params.size }}'}\nsteps:\n  - {name: One, debug: '{{ vars.place }}'}\n")},
			"delete/a.yaml": {Data: []byte("schema: runner/v1\nkind: delete\nname: a\nplatform: linux\nsteps:\n  - {name: One, when: created.known, debug: '{{ " + path + " }}'}\n")},
		}
	}
	for path, want := range map[string]string{
		"created.params.size": "", "created.vars.place": "",
		"created.params.siez": `created.params has no "siez": create template a, removed by this template, has no such param; did you mean "size"?`,
		"created.params.key":  `created.params.key is a secret, and secrets are not handed on to a removal`,
		"created.vars.plaice": `created.vars has no "plaice": create template a, removed by this template, has no such var; did you mean "place"?`,
	} {
		_, ps := Open("", read(path), registry(t))
		errs, _ := ps.Split()
		if want == "" && len(errs) > 0 || want != "" && (len(errs) == 0 || !strings.Contains(errs.Error(), want)) {
			t.Errorf("%s: %v", path, ps)
		}
	}
}
