package template_test

import (
	"strings"
	"testing"

	"runner/engine/module"
	"runner/engine/template"
)

// A script for Windows is read as PowerShell, not as a shell.
func TestScriptsForWindowsArePowerShell(t *testing.T) {
	t.Parallel()
	reg, err := module.Windows()
	if err != nil {
		t.Fatal(err)
	}
	load := func(script string) (*template.Template, error) {
		text := "schema: runner/v1\nkind: delete\nname: t\nplatform: windows\nparams:\n  x: {type: string}\nsteps:\n  - name: Look\n    powershell: |\n      " + script + "\n"
		tpl, ps := template.Load("delete/t.yaml", []byte(text), reg)
		return tpl, ps.Err()
	}
	tpl, err := load(`if (Test-Path -LiteralPath {{ params.x }}) { "it's there" }`)
	if err != nil {
		t.Fatal(err)
	}
	s := tpl.Steps[0].Scripts["script"]
	if s.Text != "if (Test-Path -LiteralPath ${_r1}) { \"it's there\" }\n" || len(s.Binds) != 1 {
		t.Errorf("the script is %q with %d values", s.Text, len(s.Binds))
	}
	for script, want := range map[string]string{
		`iex "Get-Item {{ params.x }}"`: "would run what is in the value",
		`Get-Item '{{ params.x }}'`:     "nothing in single quotes",
		`if ($true) {`:                  "is not closed",
	} {
		if _, err := load(script); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", script, err, want)
		}
	}
}
