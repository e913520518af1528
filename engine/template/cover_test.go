package template

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"runner/engine/lang"
	"runner/engine/module"
	"runner/templates"
)

func linux(t *testing.T) *module.Registry {
	t.Helper()
	reg, err := module.All()
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

func codes(ps lang.Problems) string {
	out := make([]string, 0, len(ps))
	for _, p := range ps {
		out = append(out, p.Code)
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), " ")
}

func TestNothingIsSaidAboutTheShippedTemplates(t *testing.T) {
	t.Parallel()
	lib, ps := Open("", templates.FS, linux(t))
	if all := slices.Concat(ps, lib.Coverage(), lib.Warnings()); len(all) > 0 {
		t.Error(all)
	}
}

func TestNothingIsSaidAboutPairsThatGoTogether(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob("../../testdata/template/together/*")
	if err != nil || len(dirs) < 5 {
		t.Fatal(dirs, err)
	}
	for _, dir := range dirs {
		lib, ps := Open("", os.DirFS(dir), linux(t))
		if all := slices.Concat(ps, lib.Coverage(), lib.Warnings()); len(all) > 0 {
			t.Errorf("%s: %v", filepath.Base(dir), all)
		}
	}
}

// The pairs of testdata/verify are wrong in ways that a removal shows on a
// machine; most show in the text as well.
func TestWrongPairsShowInTheirText(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"by-name-only":      "by-name-only",
		"forgets-sudoers":   "only-sometimes",
		"leaves-process":    "no-undo",
		"not-idempotent":    "no-probe", // that it adds a line each time it runs
		"not-resumable":     "only-sometimes",
		"relies-on-outputs": "only-sometimes",
		"removes-group":     "shared-object",
	}
	dirs, err := filepath.Glob("../../testdata/verify/*/templates")
	if err != nil || len(dirs) < len(want) {
		t.Fatal(dirs, err)
	}
	for _, dir := range dirs {
		name := filepath.Base(filepath.Dir(dir))
		lib, ps := Open("", os.DirFS(dir), linux(t))
		if len(ps) > 0 {
			t.Errorf("%s does not load, and verify could not try it: %v", name, ps)
		}
		found := append(lib.Coverage(), lib.Warnings()...)
		if w, ok := want[name]; !ok || codes(found) != w {
			t.Errorf("%s: %q, want %q\n%v", name, codes(found), w, found)
		}
	}
}
