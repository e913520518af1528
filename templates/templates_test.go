package templates_test

import (
	"testing"

	"runner/engine/module"
	"runner/engine/template"
	"runner/templates"
)

func TestShippedTemplatesLoad(t *testing.T) {
	t.Parallel()
	reg, err := module.All()
	if err != nil {
		t.Fatal(err)
	}
	if _, ps := template.Open("", templates.FS, reg); len(ps) > 0 {
		t.Fatal(ps.Err())
	}
}
