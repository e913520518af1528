package templates_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/template"
)

// reference is the part of README.md that is made from the tables of keys and
// from the registry.
func reference(reg *module.Registry) string {
	var b strings.Builder
	for _, t := range template.Tables() {
		fmt.Fprintf(&b, "\n### Keys of %s\n%s.\n\n| key | value | default | meaning |\n|---|---|---|---|\n", t.Name, t.Doc)
		for _, k := range t.Keys {
			name := "`" + k.Name + "`"
			if len(k.In) > 0 {
				name += " (" + strings.Join(k.In, ", ") + ")"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, k.Is, without(k), strings.ReplaceAll(k.Doc, "|", "\\|"))
		}
	}
	for _, m := range reg.All() {
		fmt.Fprintf(&b, "\n### %s\n%s.", m.Name, m.Summary)
		if m.Free != "" {
			fmt.Fprintf(&b, " `%s: …` alone is its `%s`.", m.Name, m.Free)
		}
		if m.NeedsUndo {
			b.WriteString(" In create and elevate templates it needs an `undo`, unless `changed_when` is false.")
		}
		b.WriteString("\n```yaml\n")
		for _, e := range m.Examples {
			b.WriteString("- " + strings.ReplaceAll(e, "\n", "\n  ") + "\n")
		}
		b.WriteString("```\n")
		for _, f := range m.Args {
			fmt.Fprintf(&b, "- `%s` (%s%s): %s\n", f.Name, f.Type, condition(f), f.Doc)
		}
		if len(m.Outputs) > 0 {
			b.WriteString("\nOutputs: ")
			for i, f := range m.Outputs {
				if i > 0 {
					b.WriteString("; ")
				}
				fmt.Fprintf(&b, "`%s` (%s) %s", f.Name, f.Type, f.Doc)
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("\n### Codes of problems\nIn brackets behind each message; a code never changes its meaning.\n\n| code | what is wrong |\n|---|---|\n")
	for _, code := range slices.Sorted(maps.Keys(lang.Codes)) {
		fmt.Fprintf(&b, "| `%s` | %s |\n", code, lang.Codes[code])
	}
	return b.String()
}

// without says what is taken when a key is not there.
func without(k lang.Key) string {
	switch {
	case k.Need:
		return "required"
	case k.Default != "":
		return "`" + k.Default + "`"
	case k.Else != "":
		return k.Else
	}
	return "none"
}

func condition(f module.Field) string {
	s := ""
	if f.Required {
		s += ", required"
	}
	if len(f.Enum) > 0 {
		s += ": " + strings.Join(f.Enum, ", ")
	}
	switch d := f.Default.(type) {
	case string:
		if d != "" {
			s += ", default " + d
		}
	case int64:
		if d != 0 {
			s += fmt.Sprintf(", default %d", d)
		}
	case bool:
		s += fmt.Sprintf(", default %v", d)
	case []string:
		if len(d) > 0 {
			s += ", default [" + strings.Join(d, ", ") + "]"
		}
	}
	return s
}

// kept compares a file of this folder with what it has to be; UPDATE=1 writes it.
func kept(t *testing.T, file, text string) {
	t.Helper()
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(old) != text {
		t.Errorf("%s is not what the registry says; run the test with UPDATE=1\n%s", file, diff(string(old), text))
	}
}

func TestReadmeShowsEveryModuleAndKey(t *testing.T) {
	t.Parallel()
	reg, err := module.All()
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	head, _, found := strings.Cut(string(old), "<!-- reference -->\n")
	if !found {
		t.Fatal("README.md has no reference")
	}
	kept(t, "README.md", head+"<!-- reference -->\n"+reference(reg))
}

func TestTheSchemaIsTheOneOfTheRegistry(t *testing.T) {
	t.Parallel()
	reg, err := module.All()
	if err != nil {
		t.Fatal(err)
	}
	text, err := template.Schema(reg)
	if err != nil {
		t.Fatal(err)
	}
	kept(t, "schema.json", string(text))
}

// Every argument that can be given has an example of its type.
func TestEveryFieldIsDocumented(t *testing.T) {
	t.Parallel()
	reg, err := module.All()
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	for _, m := range reg.All() {
		if m.Summary == "" || strings.HasSuffix(m.Summary, ".") {
			t.Errorf("%s: summary %q", m.Name, m.Summary)
		}
		for _, f := range m.Args {
			if f.Doc == "" || f.Example == "" || !name.MatchString(f.Name) {
				t.Errorf("%s.%s: doc %q, example %q", m.Name, f.Name, f.Doc, f.Example)
			}
			if !fits(f) {
				t.Errorf("%s.%s: the default %v is not of type %s", m.Name, f.Name, f.Default, f.Type)
			}
		}
		for _, f := range m.Outputs {
			if f.Doc == "" || !name.MatchString(f.Name) {
				t.Errorf("%s: output %s: doc %q", m.Name, f.Name, f.Doc)
			}
		}
	}
}

func fits(f module.Field) bool {
	if f.Type.Kind == lang.AnyKind {
		return true
	}
	switch f.Default.(type) {
	case nil:
		return true
	case string:
		return f.Type.Kind == lang.StringKind
	case bool:
		return f.Type.Kind == lang.BoolKind
	case int64:
		return f.Type.Kind == lang.IntKind
	case []string:
		return f.Type.Kind == lang.ListKind
	}
	return false
}
