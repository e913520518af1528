package templates_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/template"
)

// reference is the part of README.md that is made from the registry.
func reference(reg *module.Registry) string {
	var b strings.Builder
	for _, m := range reg.All() {
		fmt.Fprintf(&b, "\n### %s\n%s.", m.Name, m.Summary)
		if m.Free != "" {
			fmt.Fprintf(&b, " `%s: …` alone is its `%s`.", m.Name, m.Free)
		}
		if m.NeedsUndo {
			b.WriteString(" In create and elevate templates it needs an `undo`.")
		}
		b.WriteString("\n```yaml\n" + example(m) + "```\n")
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
	return b.String()
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

// example is a step that gives what is required.
func example(m *module.Module) string {
	s := "- name: Example\n  " + m.Name + ":"
	n := 0
	for _, f := range m.Args {
		if f.Required || m.Name == "sudoers" && f.Name == "rules" {
			s += "\n    " + f.Name + ": " + f.Example
			n++
		}
	}
	switch {
	case m.Name == "set_fact":
		return s + "\n    base: /srv/{{ grant.account }}\n  register: names\n"
	case n == 0 && len(m.Args) > 0:
		s += "\n    " + m.Args[0].Name + ": " + m.Args[0].Example
	case n == 0:
		return s + " {}\n"
	}
	if m.NeedsUndo {
		return s + "\n  undo: 'true'\n"
	}
	return s + "\n"
}

// document is a template around a step, with the names that examples read.
func document(m *module.Module) string {
	head := "name: example\nplatform: linux\nbecome: root\nparams:\n  username: {type: string, default: '{{ grant.account }}'}\n  public_key: {type: string, default: ''}\n"
	step := "steps:\n  - {name: First, register: account, user_info: '{{ params.username }}'}\n  " + strings.ReplaceAll(strings.TrimSuffix(example(m), "\n"), "\n", "\n  ") + "\n"
	if m.Name == "revert" {
		return "schema: runner/v1\nkind: delete\n" + head + step
	}
	return "schema: runner/v1\nkind: create\nremoval: example\n" + head + "  password: {type: secret, generate: {length: 24}}\n" + step
}

func TestReadmeShowsEveryModule(t *testing.T) {
	t.Parallel()
	reg, err := module.Linux()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range reg.All() {
		if _, ps := template.Load("example.yaml", []byte(document(m)), reg); len(ps) > 0 {
			t.Errorf("the example of %s does not load: %v\n%s", m.Name, ps.Err(), document(m))
		}
	}
	old, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	head, _, found := strings.Cut(string(old), "<!-- reference -->\n")
	if !found {
		t.Fatal("README.md has no reference")
	}
	text := head + "<!-- reference -->\n" + reference(reg)
	if text == string(old) {
		return
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile("README.md", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Error("README.md is not what the registry says; run the test with UPDATE=1")
}

// Every argument that can be given has an example of its type.
func TestEveryFieldIsDocumented(t *testing.T) {
	t.Parallel()
	reg, err := module.Linux()
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
