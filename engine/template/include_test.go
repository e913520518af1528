package template

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

const includer = "schema: runner/v1\nkind: create\nname: a\nplatform: linux\nremoval: a\nsteps:\n  - name: Include\n    include: {file: common/x.yaml}\n"

const shared = "schema: runner/v1\nkind: steps\nplatform: linux\nsteps:\n  - {name: One, debug: one}\n"

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What a grant pinned is what its removal runs, whatever became of the files.
func TestAPinnedTemplateHoldsWhatItIncludes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "common/x.yaml"), shared)
	from := Below(dir, nil)
	first, ps := LoadWith("create/a.yaml", []byte(includer), from, registry(t))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	write(t, filepath.Join(dir, "common/x.yaml"), strings.Replace(shared, "debug: one", "debug: two", 1))
	second, ps := LoadWith("create/a.yaml", []byte(includer), from, registry(t))
	if len(ps) > 0 || second.Hash == first.Hash {
		t.Fatalf("the hash does not cover what is included (%v)", ps)
	}
	pinned, ps := Load("create/a.yaml@"+first.Hash[:12], first.Body, registry(t))
	if len(ps) > 0 || pinned.Hash != first.Hash {
		t.Fatalf("%v", ps)
	}
	if got := pinned.Steps[0].Block[0].Args["msg"].Text(); got != "one" {
		t.Errorf("it says %q", got)
	}
	for _, damaged := range []string{string(first.Body[:len(first.Body)-5]), strings.Replace(string(first.Body), "# 1", "# 9", 1), strings.Replace(string(first.Body), "# 1", "% 1", 1), bundleMark + "# -1 x\n"} {
		if tpl, ps := Load("create/a.yaml", []byte(damaged), registry(t)); tpl != nil || len(ps) == 0 {
			t.Errorf("loaded although it is damaged:\n%s", damaged)
		}
	}
}

func TestFilesOutsideOfTheTemplatesAreNotIncluded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret.yaml"), shared)
	write(t, filepath.Join(dir, "templates/common/y.yaml"), shared)
	if err := os.Symlink("../../secret.yaml", filepath.Join(dir, "templates/common/x.yaml")); err != nil {
		t.Fatal(err)
	}
	_, ps := LoadWith("create/a.yaml", []byte(includer), Below(filepath.Join(dir, "templates"), fstest.MapFS{"common/x.yaml": {Data: []byte(shared)}}), registry(t))
	if len(ps) != 1 || ps[0].Code != "unknown-file" {
		t.Errorf("%v", ps)
	}
}

func TestFilesOfTheWorkspaceBeatThoseShipped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	shipped := fstest.MapFS{"common/x.yaml": {Data: []byte(shared)}, "common/z.yaml": {Data: []byte(shared)}}
	write(t, filepath.Join(dir, "common/x.yaml"), strings.Replace(shared, "debug: one", "debug: two", 1))
	for file, want := range map[string]string{"common/x.yaml": "two", "common/z.yaml": "one"} {
		tpl, ps := LoadWith("create/a.yaml", []byte(strings.Replace(includer, "common/x.yaml", file, 1)), Below(dir, shipped), registry(t))
		if len(ps) > 0 || tpl.Steps[0].Block[0].Args["msg"].Text() != want {
			t.Errorf("%s: %v", file, ps)
		}
	}
}

// Files that include several others are a bomb that is refused.
func TestTooManyFilesAreRefused(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{}
	head := "schema: runner/v1\nkind: steps\nplatform: linux\nsteps:\n"
	for _, at := range []string{"x", "b", "c", "d", "e", "f", "g"} {
		next := map[string]string{"x": "b", "b": "c", "c": "d", "d": "e", "e": "f", "f": "g", "g": ""}[at]
		text := head + "  - {name: One, debug: one}\n"
		if next != "" {
			text = head + strings.Repeat("  - {name: Next, include: {file: common/"+next+".yaml}}\n", 10)
		}
		files["common/"+at+".yaml"] = &fstest.MapFile{Data: []byte(text)}
	}
	_, ps := LoadWith("create/a.yaml", []byte(includer), Below("", files), registry(t))
	if len(ps) == 0 || ps[0].Code != "too-many" {
		t.Errorf("%v", ps)
	}
}

// A file that reads an output which no creation hands on makes the templates
// that include it unusable, and nothing else.
func TestACrossProblemOfAnIncludedFileEnds(t *testing.T) {
	t.Parallel()
	lib, ps := Open("", fstest.MapFS{
		"create/a.yaml": {Data: []byte("schema: runner/v1\nkind: create\nname: a\nplatform: linux\nremoval: a\nsteps:\n  - {name: One, debug: one}\n")},
		"delete/a.yaml": {Data: []byte("schema: runner/v1\nkind: delete\nname: a\nplatform: linux\nsteps:\n  - {name: Include, include: {file: common/x.yaml}}\n")},
		"delete/b.yaml": {Data: []byte("schema: runner/v1\nkind: delete\nname: b\nplatform: linux\nsteps:\n  - {name: One, debug: one}\n")},
		"common/x.yaml": {Data: []byte("schema: runner/v1\nkind: steps\nplatform: linux\nsteps:\n  - {name: One, when: created.known, debug: '{{ created.outputs.no }}'}\n")},
	}, registry(t))
	if len(ps) != 2 || ps[1].Pos.File != "templates/create/a.yaml" && ps[0].Pos.File != "templates/create/a.yaml" {
		t.Errorf("%v", ps)
	}
	if all := lib.All(); len(all) != 1 || all[0].Name != "b" {
		t.Errorf("%v can be used", all)
	}
}
