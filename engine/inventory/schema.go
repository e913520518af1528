package inventory

import "runner/engine/schema"

// Schema returns the JSON Schema of the documents of the folder inventories. It
// knows keys and types; which names exist and what fits together is for Load to
// say.
func Schema() ([]byte, error) {
	var defs schema.Members
	for _, t := range Tables() {
		defs = append(defs, schema.Member{Name: t.Name, Node: schema.Map(t, "")})
	}
	var cases []schema.Case
	for _, kind := range kindKey.Is.Words {
		cases = append(cases, schema.Case{Kind: kind, Definition: kind})
	}
	return schema.Text(schema.Document("Inventories, devices and credentials of runner", cases, defs))
}
