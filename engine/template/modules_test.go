package template

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"runner/engine/lang"
	"runner/engine/module"
)

// Names that the examples of modules read.
const exampleFrame = `schema: runner/v1
kind: KIND
name: x
platform: linux
HEAD
params:
  username: {type: string}
  password: {type: secret, optional: true}
  public_key: {type: string, optional: true}
  groups: {type: list, default: []}
steps:
  - name: Look
    register: who
    user_info: {name: "{{ params.username }}"}
  - name: Make
    register: account
    user: {name: "{{ params.username }}"}
`

// frame returns a template that calls m with these arguments.
func frame(m *module.Module, args string) string {
	kind, head, extra := "create", "removal: x", ""
	switch {
	case m.Name == "revert":
		kind, head = "delete", ""
	case m.NeedsUndo:
		extra = "    changed_when: false\n"
	}
	text := strings.NewReplacer("KIND", kind, "HEAD\n", head+"\n").Replace(exampleFrame)
	return text + "  - name: Example\n" + extra + "    " + m.Name + ":" + args + "\n"
}

func TestExamplesOfTheModulesAreRight(t *testing.T) {
	t.Parallel()
	reg, err := module.Linux()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range reg.All() {
		if m.Name == "set_fact" {
			continue // its arguments are the author's
		}
		required := ""
		for _, a := range m.Args {
			if a.Required {
				required += fmt.Sprintf("\n      %s: %s", a.Name, a.Example)
			}
		}
		for _, a := range m.Args {
			if a.Example == "" {
				t.Errorf("%s: argument %s has no example", m.Name, a.Name)
				continue
			}
			args := required
			if !a.Required {
				args += fmt.Sprintf("\n      %s: %s", a.Name, a.Example)
			}
			_, ps := Load("example.yaml", []byte(frame(m, args)), reg)
			ps = slices.DeleteFunc(ps, func(p lang.Problem) bool {
				return p.Code == "wrong-arguments" // needs another argument beside it
			})
			if len(ps) > 0 {
				t.Errorf("%s: the example of %s is wrong:\n%s", m.Name, a.Name, ps.Error())
			}
		}
	}
}
