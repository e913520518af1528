// Package schematest holds files against a JSON Schema with a validator and a
// YAML reader that are not runner's own, as an editor does. It is apart from
// schema so that programs link neither of them, nor package testing.
package schematest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Schema is a compiled schema.
type Schema struct{ s *jsonschema.Schema }

// Compile reads a schema and fails the test unless it is one of draft-07.
func Compile(tb testing.TB, text []byte) *Schema {
	tb.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		tb.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.AssertFormat()
	if err := c.AddResource("schema.json", doc); err != nil {
		tb.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		tb.Fatal(err)
	}
	return &Schema{s}
}

// Check returns what is wrong with each document of a YAML file; documents
// without content are left out. Text that is no YAML is an error.
func (s *Schema) Check(text []byte) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	for n := 1; ; n++ {
		var doc any
		if err := d.Decode(&doc); err != nil {
			if err.Error() == "EOF" {
				return nil
			}
			return err
		}
		if doc == nil {
			continue
		}
		if err := s.s.Validate(doc); err != nil {
			return fmt.Errorf("document %d: %w", n, err)
		}
	}
}
