package main

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"runner/engine/grant"
	"runner/engine/inventory/jit"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A field that is printed and not described is a contract that nobody knows.
func TestREADMETellsEveryFieldOfTheContract(t *testing.T) {
	t.Parallel()
	text := readme(t)
	seen := 0
	var walk func(typ reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct {
			return
		}
		for f := range typ.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name != "" && name != "-" {
				seen++
				if !strings.Contains(text, "`"+name+"`") {
					t.Errorf("%s.%s: README.md does not describe `%s`", typ, f.Name, name)
				}
			}
			if f.Type.String() != "time.Time" {
				walk(f.Type)
			}
		}
	}
	for _, v := range []any{
		caseJSON{},
		whyJSON{},
		secretJSON{},
		receiptJSON{},
		jobJSON{},
		sessionJSON{},
		executionJSON{},
		runJSON{},
		grant.Chunk{},
		sweepJSON{},
		templateJSON{},
		topicJSON{},
		explainJSON{},
		requestPlanJSON{},
		inventoryJSON{},
		deviceJSON{},
		checkJSON{},
		credentialJSON{},
		initJSON{},
		importJSON{},
		backupJSON{},
		restoreJSON{},
		jit.Sent{},
		labJSON{},
		versionJSON{},
		templatesCheckedJSON{},
	} {
		walk(reflect.TypeOf(v))
	}
	if seen < 150 {
		t.Errorf("found only %d fields", seen)
	}
}

func TestREADMETellsExitCodesAndCommands(t *testing.T) {
	t.Parallel()
	text := readme(t)
	for _, e := range exitMeanings {
		if row := fmt.Sprintf("\n| %d | %s |\n", e.code, e.meaning); !strings.Contains(text, row) {
			t.Errorf("README.md has no row %q", row)
		}
	}
	eachCommand(t, func(t *testing.T, _, c *cobra.Command) {
		t.Helper()
		name := strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), "runner"), " ")
		if name != "" && !c.HasSubCommands() && !strings.Contains(text, "`"+name) {
			t.Errorf("README.md does not tell of %s", name)
		}
	})
}
