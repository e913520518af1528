package module

import (
	"errors"
	"regexp"
	"strings"

	"runner/engine/lang"
)

var winPath = regexp.MustCompile(`^([A-Za-z]:\\|HKLM:\\|HKCU:\\)[^\x00-\x1f*?"<>|]*$`)

// checkWinPath refuses paths that are not absolute or climb.
func checkWinPath(a Args, args ...string) error {
	for _, arg := range args {
		p := a.String(arg)
		if has(a, arg) && (!winPath.MatchString(p) || strings.Contains(p+`\`, `\..\`)) {
			return errors.New(arg + ` must be an absolute path such as C:\Windows\Temp\x, without wildcards and ..`)
		}
	}
	return nil
}

func winRunFields(fs ...Field) []Field {
	return append(fs,
		Field{Name: "creates", Type: lang.String, Default: "", Doc: "do nothing when this path is there", Example: `'C:\JIT\done'`},
		Field{Name: "env", Type: lang.Type{Kind: lang.MapKind}, Pairs: true, Doc: "variables of its environment; one with an empty text is taken away; not for secrets, which a script has as variables", Example: "{HTTPS_PROXY: 'http://proxy:3128'}"},
		Field{Name: "removes", Type: lang.String, Default: "", Doc: "do nothing when this path is not there", Example: `'C:\JIT\done'`},
	)
}

// powershell runs a script of the author.
func powershell() *Module {
	return &Module{
		Name:    "powershell",
		Summary: "Run a script of PowerShell; {{ }} in it becomes a variable and is never executed, a secret becomes a SecureString",
		Examples: []string{
			"name: A folder of its own\npowershell: |\n  New-Item -ItemType Directory -Force -Path \"C:\\JIT\\{{ params.username }}\"",
		},
		NeedsUndo: true,
		Free:      "script",
		Script:    "script",
		Args: winRunFields(
			Field{Name: "script", Type: lang.String, Required: true, Doc: "the script", Example: `Get-Service -Name "{{ params.service }}"`},
			Field{Name: "errors", Type: lang.String, Default: "stop", Enum: []string{"stop", "continue"}, Doc: "what an error does that nobody catches: stop fails the step, continue only shows it; for programs that write to standard error when nothing is wrong", Example: "continue"},
		),
		Check: func(a Args) error { return checkWinPath(a, "creates", "removes") },
	}
}

// winCommand runs a program without a shell.
func winCommand() *Module {
	return &Module{
		Name:      "win_command",
		Summary:   "Run a program of Windows with its arguments, without a shell",
		Examples:  []string{"name: Read the policy again\nwin_command: [gpupdate.exe, /target:computer]"},
		NeedsUndo: true,
		Free:      "argv",
		Args: winRunFields(
			Field{Name: "argv", Type: listOf, Required: true, Doc: "program and arguments; not for secrets, other accounts can see them", Example: "[gpupdate.exe, /force]"},
		),
		Check: func(a Args) error {
			if l, known := a["argv"].([]string); known && (len(l) == 0 || l[0] == "") {
				return errors.New("argv is empty")
			}
			return first(checkWords(a, "argv"), checkWinPath(a, "creates", "removes"))
		},
	}
}
