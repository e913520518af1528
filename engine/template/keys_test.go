package template

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/secret"
)

// What the loader asks for and what the tables describe is the same.
func TestEveryKeyThatIsReadIsDescribed(t *testing.T) {
	t.Parallel()
	type place struct{ table, variant, key string }
	taken := map[place]bool{}
	note := func(t *lang.Table, variant, key string) { taken[place{t.Name, variant, key}] = true }
	for _, c := range append(cases(t, "ok"), cases(t, "err")...) {
		_, _ = load(c.file, c.text, shelf, registry(t), note)
	}
	described := map[place]bool{}
	variants := map[string][]string{"template": kinds, "step": {moduleStep, blockStep, includeStep}}
	for _, table := range Tables() {
		vs := variants[table.Name]
		if vs == nil {
			vs = []string{""}
		}
		for _, v := range vs {
			for _, k := range table.For(v) {
				p := place{table.Name, v, k.Name}
				described[p] = true
				if !taken[p] && k.Name != "schema" && k.Name != "kind" {
					t.Errorf("%s %s: %q is described, but the loader never asks for it", v, p.table, p.key)
				}
			}
		}
	}
	for p := range taken {
		misplaced := p.table == "template" && slices.ContainsFunc(templateTable.Keys, func(k lang.Key) bool { return k.Name == p.key })
		if !described[p] && !misplaced {
			t.Errorf("%s %s: the loader asks for %q, which keys.go does not describe: give it a line there", p.variant, p.table, p.key)
		}
	}
}

// An example is the lines of a map; around puts them where they can be loaded.
func around(table, variant, example string) string {
	head := "schema: runner/v1\nkind: create\nname: x\nplatform: linux\nremoval: x\nbecome: root\nparams:\n  username: {type: string, default: root}\n"
	look := "  - name: Look\n    register: account\n    user_info: '{{ params.username }}'\n"
	in := func(pad string) string {
		return pad + strings.ReplaceAll(strings.TrimSpace(example), "\n", "\n"+pad) + "\n"
	}
	switch table {
	case "template":
		doc := map[string]string{"schema": "schema: runner/v1", "kind": "kind: " + variant, "name": "name: x", "platform": "platform: linux", "steps": "steps: [{name: Look, user_info: root}]"}
		if variant == "create" {
			doc["removal"] = "removal: x"
		}
		if variant == "elevate" {
			doc["revert"] = "revert: [{name: Undo, revert: {of: created}}]"
		}
		if key, _, _ := strings.Cut(example, ":"); key != "kind" { // which is the variant
			doc[key] = example
		}
		var text strings.Builder
		first := []string{"schema", "kind", "name"}
		rest := slices.DeleteFunc(slices.Sorted(maps.Keys(doc)), func(k string) bool { return slices.Contains(first, k) })
		for _, k := range slices.Concat(first, rest) {
			text.WriteString(doc[k] + "\n")
		}
		return text.String()
	case "param":
		return head + "  example:\n" + in("    ") + "steps:\n" + look
	case "generate":
		return head + "  example:\n    type: secret\n    generate:\n" + in("      ") + "steps:\n" + look
	case "include":
		return head + "steps:\n" + look + "  - name: Include\n    include:\n" + in("      ")
	case "steps file":
		return stepsDoc(example)
	case "loop_control":
		return head + "steps:\n" + look + "  - name: Look at both\n    loop: [root, daemon]\n    debug: both\n    loop_control:\n" + in("      ")
	}
	return head + "steps:\n" + look + "  - " + strings.TrimSpace(in("    ")) + "\n"
}

// stepsDoc is a file of steps that has the key of example.
func stepsDoc(example string) string {
	doc := map[string]string{"schema": "schema: runner/v1", "kind": "kind: steps", "platform": "platform: linux", "steps": "steps: [{name: Look, user_info: root}]"}
	key, _, _ := strings.Cut(example, ":")
	doc[key] = example
	text := doc["schema"] + "\n"
	delete(doc, "schema")
	for _, k := range slices.Sorted(maps.Keys(doc)) {
		text += doc[k] + "\n"
	}
	return text
}

func TestExamplesOfKeysAreRight(t *testing.T) {
	t.Parallel()
	reg, err := module.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range Tables() {
		variants := []string{"create"}
		if table.Name == "template" {
			variants = kinds
		}
		for _, v := range variants {
			for _, k := range table.Keys {
				if table.Name == "template" && len(k.In) > 0 && !slices.Contains(k.In, v) {
					continue
				}
				if !strings.Contains("\n"+k.Example, "\n"+k.Name+":") {
					t.Errorf("%s.%s: the example does not have the key:\n%s", table.Name, k.Name, k.Example)
				}
				text := around(table.Name, v, k.Example)
				tpl, ps := LoadWith("example.yaml", []byte(text), shelf, reg)
				if len(ps) > 0 {
					t.Errorf("%s.%s: %v\n%s", table.Name, k.Name, ps, text)
					continue
				}
				resolves(t, tpl)
			}
		}
	}
}

// resolves checks that the defaults of a template fit its params. The value of
// one that has none is a text.
func resolves(t *testing.T, tpl *Template) {
	t.Helper()
	given := map[string]any{}
	for _, p := range tpl.Params {
		if p.Default == nil && !p.Optional && p.Generate == nil {
			given[p.Name] = "x"
		}
	}
	env := lang.Env{"grant": map[string]any{"account": "jit-x", "id": "g-1"}, "device": map[string]any{}}
	made := func(g Generate) (secret.Value, error) { return secret.New(strings.Repeat("x", g.Length)), nil }
	if _, err := tpl.Resolve(nil, given, env, made); err != nil {
		t.Errorf("%v\n%s", err, tpl.Body)
	}
}

func TestKeysAreDocumented(t *testing.T) {
	t.Parallel()
	for _, table := range Tables() {
		for _, k := range table.Keys {
			if k.Doc == "" || strings.HasSuffix(k.Doc, ".") || strings.Contains(k.Doc, "\n") {
				t.Errorf("%s.%s: doc %q", table.Name, k.Name, k.Doc)
			}
		}
	}
}
