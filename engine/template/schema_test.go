package template

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/schema/schematest"
)

// structural are the codes of mistakes that a schema can see, mostly: an unknown
// name of a step is one that it cannot.
var structural = []string{"unknown-key", "missing-key", "missing-argument", "wrong-type", "unknown-value", "literal-secret", "not-fixed", "needs-quotes", "needs-no-quotes"}

func TestTheSchemaAgreesWithTheLoader(t *testing.T) {
	t.Parallel()
	text, err := Schema(registry(t))
	if err != nil {
		t.Fatal(err)
	}
	s := schematest.Compile(t, text)
	for _, c := range cases(t, "ok") {
		if err := s.Check(c.text); err != nil {
			t.Errorf("%s loads, but the schema refuses it: %v", c.name, err)
		}
	}
	seen, all := 0, 0
	for _, c := range cases(t, "err") {
		if c.modules != "" {
			continue // the schema is that of a few modules
		}
		_, ps := Load(c.file, c.text, registry(t))
		if !slices.ContainsFunc(ps, func(p lang.Problem) bool { return slices.Contains(structural, p.Code) }) {
			continue
		}
		all++
		if s.Check(c.text) != nil {
			seen++
		} else {
			t.Logf("only the loader sees what is wrong with %s", c.name)
		}
	}
	if seen < all*9/10 || seen < 20 {
		t.Errorf("the schema sees %d of %d structural mistakes", seen, all)
	}
}

func TestExamplesFitTheSchema(t *testing.T) {
	t.Parallel()
	reg, err := module.All()
	if err != nil {
		t.Fatal(err)
	}
	text, err := Schema(reg)
	if err != nil {
		t.Fatal(err)
	}
	s := schematest.Compile(t, text)
	for _, table := range Tables() {
		for _, k := range table.Keys {
			for _, v := range kinds {
				if table.Name != "template" && v != "create" || len(k.In) > 0 && table.Name == "template" && !slices.Contains(k.In, v) {
					continue
				}
				if err := s.Check([]byte(around(table.Name, v, k.Example))); err != nil {
					t.Errorf("%s.%s: %v\n%s", table.Name, k.Name, err, around(table.Name, v, k.Example))
				}
			}
		}
	}
	files, err := filepath.Glob("../../templates/*/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(text); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}
