package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"runner/engine/schema/schematest"
)

var modeline = regexp.MustCompile(`^# yaml-language-server: \$schema=(\S+)\n`)

// What init writes fits the schemas that it writes beside it, and so does what
// is left when the comments of its examples are taken away.
func TestFilesOfANewWorkspaceFitItsSchemas(t *testing.T) {
	t.Parallel()
	p, _ := tempProcess(t)
	dir := filepath.Join(t.TempDir(), "w")
	if code := run([]string{"init", dir}, p); code != exitDone {
		t.Fatalf("init: %d", code)
	}
	const example = "# yaml-language-server: $schema=../schema.json\nschema: runner/v1\nkind: delete\nname: x\nplatform: linux\nsteps: [{name: Say, debug: x}]\n"
	if err := os.WriteFile(filepath.Join(dir, "templates", "delete", "x.yaml"), []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.yaml"))
	deeper, _ := filepath.Glob(filepath.Join(dir, "*", "*", "*.yaml"))
	if files = append(files, deeper...); err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		m := modeline.FindStringSubmatch(string(text))
		if m == nil {
			t.Fatalf("%s names no schema", f)
		}
		schema, err := os.ReadFile(filepath.Join(filepath.Dir(f), m[1]))
		if err != nil {
			t.Fatal(err)
		}
		s := schematest.Compile(t, schema)
		all := regexp.MustCompile(`(?m)^#([a-z -])`).ReplaceAllString(string(text), "$1")
		all = regexp.MustCompile(`(?m)^ [A-Za-z].*\n`).ReplaceAllString(all, "") // sentences
		for _, doc := range []string{string(text), all} {
			if err := s.Check([]byte(doc)); err != nil {
				t.Errorf("%s: %v\n%s", f, err, doc)
			}
		}
		if wrong := strings.Replace(all, "schema: runner/v1\n", "schema: runner/v1\nnonsense: 1\n", 1); s.Check([]byte(wrong)) == nil {
			t.Errorf("%s: the schema takes a key that does not exist:\n%s", f, wrong)
		}
	}
}
