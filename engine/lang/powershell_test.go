package lang

import (
	"strings"
	"testing"
)

func TestPowerShellGetsVariablesInPlaceOfText(t *testing.T) {
	t.Parallel()
	scope := Scope{"v": String, "w": String, "s": Secret, "l": ListOf(String)}
	for script, want := range map[string]string{
		`New-Item -Path {{ v }}`:                        "New-Item -Path ${_r1}",
		`"a{{ v }}:b{{ w }}{{ v }}"`:                    `"a${_r1}:b${_r2}${_r1}"`,
		`Set-LocalUser -Name {{ v }} -Password {{ s }}`: "Set-LocalUser -Name ${_r1} -Password ${_r2}",
		`"$( if ({{ v }}) { 'x' } )"`:                   `"$( if (${_r1}) { 'x' } )"`,
		"@\"\n'{{ v }}'\n\"@":                           "@\"\n'${_r1}'\n\"@",
		"@'\nit's \"{ ( fine\n'@\n{{ v }}":              "@'\nit's \"{ ( fine\n'@\n${_r1}",
		`'it''s'; "say ""{{ v }}"""`:                    `'it''s'; "say ""${_r1}"""`,
		"\"a`\"{{ v }}\"":                               "\"a`\"${_r1}\"",
		"# it's\n<# \" #> Get-X#y {{ v }}":              "# it's\n<# \" #> Get-X#y ${_r1}",
		`cmd.exe /c dir; Get-Item {{ v }}`:              "cmd.exe /c dir; Get-Item ${_r1}",
		`& { param($x) $x[0] } {{ v }}`:                 "& { param($x) $x[0] } ${_r1}",
		"\u201ca {{ v }}\u201d":                         "\u201ca ${_r1}\u201d",
	} {
		got, _, ps := CompilePowerShell(block(t, script), scope)
		if len(ps) > 0 || got != want {
			t.Errorf("%s\n got %s %v\nwant %s", script, got, ps, want)
		}
	}
}

func TestPowerShellMisuse(t *testing.T) {
	t.Parallel()
	scope := Scope{"v": String, "l": ListOf(String)}
	for script, want := range map[string]string{
		`'{{ v }}'`:                               "nothing in single quotes",
		"\u2018{{ v }}\u2019":                     "nothing in single quotes",
		"@'\n{{ v }}\n'@":                         "begin it with @\"",
		"# {{ v }}":                               "in a comment does nothing",
		"<# {{ v }} #>":                           "in a comment does nothing",
		"\"`{{ v }}\"":                            "behind a backquote",
		"`{{ v }}":                                "behind a backquote",
		"icacls --% {{ v }}":                      "nothing after --%",
		`iex "Get-X {{ v }}"`:                     "would run what is in the value",
		`$x = Invoke-Expression {{ v }}`:          "would run what is in the value",
		`if ($true) { iex {{ v }} }`:              "would run what is in the value",
		`cmd /c "echo {{ v }}"`:                   "would run what is in the value",
		`Get-X | powershell.exe -Command {{ v }}`: "would run what is in the value",
		`& ([scriptblock]::Create("x {{ v }}"))`:  "would run what is in the value",
		"Invoke-Expression @\"\n{{ v }}\n\"@":     "would run what is in the value",
		`{{ l }}`:                                 "is a list",
		`{{ v `:                                   "this {{ has no }}",
		`$_r1 = {{ v }}`:                          "names such as _r1 are taken",
		`{{ if v }}x{{ end }}`:                    "not used in scripts",
		`if ($true) {`:                            "this { is not closed",
		`Get-X )`:                                 "this ) closes nothing",
		`foo ( ]`:                                 "this ] closes nothing",
		`"open`:                                   "this string has no end",
		`'open`:                                   "this string has no end",
		`"$( 'x' "`:                               "this string has no end",
		"@\"\nopen":                               "this here-string has no end",
		`<# open`:                                 "this comment has no end",
		``:                                        "the script is empty",
		`{{ nothing }}`:                           "nothing",
	} {
		_, _, ps := CompilePowerShell(block(t, script), scope)
		if len(ps) != 1 && script != `{{ if v }}x{{ end }}` || !strings.Contains(ps[0].Message, want) {
			t.Errorf("%s: %v, want %q", script, ps, want)
		}
	}
}

// Whatever the script, no action is left in it and none is lost.
func FuzzPowerShell(f *testing.F) {
	for _, s := range []string{`"a {{ v }}"`, "@\"\n{{ v }}\n\"@", "'{{ v }}", "$({{ v }})", "`", "\u2018'", "--%", "<# #>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script string) {
		n := &Node{Kind: ScalarNode, Text: script}
		got, values, ps := CompilePowerShell(n, Scope{"v": String})
		if len(ps) == 0 && (strings.Contains(got, "{{") || len(values) > 0 && !strings.Contains(got, "${_r1}")) {
			t.Fatalf("%q became %q", script, got)
		}
	})
}
