package template_test

import (
	"testing"

	"runner/engine/module"
	"runner/engine/template"
	"runner/templates"
)

// BenchmarkOpen is what every start of the program pays for its templates.
func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		reg, err := module.All()
		if err != nil {
			b.Fatal(err)
		}
		if _, ps := template.Open("", templates.FS, reg); len(ps) > 0 {
			b.Fatal(ps)
		}
	}
}
