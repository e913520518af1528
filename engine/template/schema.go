package template

import (
	"slices"
	"strings"

	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/schema"
)

// Schema returns the JSON Schema of templates that call modules of reg. It
// knows the keys, the arguments and their types; what templates of each kind
// must not do, and every name, is for Load to say.
func Schema(reg *module.Registry) ([]byte, error) {
	var cases []schema.Case
	var defs schema.Members
	for _, kind := range kinds {
		cases = append(cases, schema.Case{Kind: kind, Definition: kind})
		defs = append(defs, schema.Member{Name: kind, Node: schema.Map(&templateTable, kind)})
	}
	cases = append(cases, schema.Case{Kind: string(Steps), Definition: "file"})
	defs = append(defs, schema.Member{Name: "file", Node: schema.Map(&fileTable, "")})
	defs = append(defs,
		schema.Member{Name: paramTable.Name, Node: schema.Map(&paramTable, "")},
		schema.Member{Name: generateTable.Name, Node: schema.Map(&generateTable, "")},
		schema.Member{Name: loopTable.Name, Node: schema.Map(&loopTable, "")},
		schema.Member{Name: includeTable.Name, Node: schema.Map(&includeTable, "")},
		schema.Member{Name: stepTable.Name, Node: &schema.Node{
			If:   &schema.Node{AnyOf: requires(blockKeys)},
			Then: schema.To(blockStep),
			Else: &schema.Node{
				If:   &schema.Node{AnyOf: requires([]string{"include"})},
				Then: schema.To("including"),
				Else: schema.To("call"),
			},
		}},
		schema.Member{Name: "including", Node: schema.Map(&stepTable, includeStep)},
		schema.Member{Name: blockStep, Node: schema.Map(&stepTable, blockStep)},
	)
	call := schema.Map(&stepTable, moduleStep)
	var modules schema.Members
	for _, m := range reg.All() {
		call.Properties = append(call.Properties, schema.Member{Name: m.Name, Node: schema.Described(schema.To("module."+m.Name), m.Summary)})
		modules = append(modules, schema.Member{Name: "module." + m.Name, Node: moduleSchema(m)})
	}
	defs = append(defs, schema.Member{Name: "call", Node: call})
	return schema.Text(schema.Document("A template of runner", cases, append(defs, modules...)))
}

func requires(keys []string) []*schema.Node {
	var ns []*schema.Node
	for _, k := range keys {
		ns = append(ns, &schema.Node{Required: []string{k}})
	}
	return ns
}

// moduleSchema is the schema of what stands at the name of a module.
func moduleSchema(m *module.Module) *schema.Node {
	switch m.Name {
	case "assert":
		return assertSchema(m)
	case "set_fact":
		return schema.Of(lang.Named(lang.ValueOf(lang.Any)))
	}
	args := &schema.Node{Type: "object", Additional: false}
	var free *schema.Node
	for _, a := range m.Args {
		n := argSchema(m, a)
		if a.Name == m.Free {
			free = argSchema(m, a)
		}
		if a.Required {
			args.Required = append(args.Required, a.Name)
		}
		n = schema.Described(n, a.Doc)
		n.Default = a.Default
		args.Properties = append(args.Properties, schema.Member{Name: a.Name, Node: n})
	}
	out := &schema.Node{AnyOf: []*schema.Node{args}}
	if free != nil {
		out.AnyOf = append(out.AnyOf, free)
	}
	if len(args.Required) == 0 {
		out.AnyOf = append(out.AnyOf, &schema.Node{Type: "null"})
	}
	if len(out.AnyOf) == 1 {
		return args
	}
	return out
}

func argSchema(m *module.Module, a module.Field) *schema.Node {
	if a.Pairs {
		return schema.Of(lang.Named(lang.ValueOf(lang.String)))
	}
	if a.Constant || slices.Contains(strings.Fields(m.Script), a.Name) {
		return schema.Of(lang.Program)
	}
	return schema.Value(a.Type, a.Enum)
}

// assertSchema is that of assert: a condition, a map of that and msg, or a list
// of both.
func assertSchema(m *module.Module) *schema.Node {
	condition := schema.Of(lang.Condition)
	some := &schema.Node{Type: "array", MinItems: 1, Items: condition}
	one := &schema.Node{Type: "object", Additional: false, Required: []string{"that"}, Properties: schema.Members{
		{Name: "that", Node: &schema.Node{AnyOf: append(slices.Clone(condition.AnyOf), some)}},
		{Name: "msg", Node: schema.Value(lang.String, nil)},
	}}
	either := append(slices.Clone(condition.AnyOf), one)
	return &schema.Node{
		Description: m.Summary,
		AnyOf:       append(slices.Clone(either), &schema.Node{Type: "array", MinItems: 1, Items: &schema.Node{AnyOf: either}}),
	}
}
