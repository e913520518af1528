package module

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"runner/engine/lang"
)

func runFields(fs ...Field) []Field {
	return append(fs,
		Field{Name: "chdir", Type: lang.String, Default: "", Doc: "folder to run in; /", Example: "/srv"},
		Field{Name: "creates", Type: lang.String, Default: "", Doc: "do nothing when this path is there", Example: "/etc/jit.done"},
		Field{Name: "env", Type: lang.Type{Kind: lang.MapKind}, Pairs: true, Doc: "variables of its environment; not for secrets, which go through stdin", Example: "{HTTPS_PROXY: 'http://proxy:3128'}"},
		Field{Name: "removes", Type: lang.String, Default: "", Doc: "do nothing when this path is not there", Example: "/etc/jit.done"},
	)
}

// stdinField is what a program is given to read.
var stdinField = Field{Name: "stdin", Type: lang.Any, Default: "", Doc: "what it reads from standard input: a text as it is, or a secret; empty: nothing", Example: "'{{ params.password }}'"} //nolint:gochecknoglobals // a constant

func checkStdin(a Args) error {
	switch a["stdin"].(type) {
	case []any, []string, map[string]any:
		return errors.New("stdin must be a text or a secret")
	}
	return nil
}

var (
	variable = regexp.MustCompile(`^([A-Z][A-Z0-9_]*|[a-z]+_proxy)$`)
	// taken are variables that shells keep for themselves, or that change what a
	// script means.
	taken = []string{"BASHOPTS", "BASH_ENV", "ENV", "EUID", "IFS", "LINENO", "M", "OPTIND", "PPID", "RANDOM", "SECONDS", "SHELLOPTS", "UID"}
)

// CheckVariable says what is wrong with the name of a variable of the
// environment, or "".
func CheckVariable(name string) string {
	switch {
	case !variable.MatchString(name):
		return "must have only capitals, digits and underscores and start with a letter, such as HTTPS_PROXY"
	case slices.Contains(taken, name):
		return "belongs to the shell; choose another one"
	}
	return ""
}

func checkRun(a Args) error {
	return first(checkPath(a, "chdir"), checkPath(a, "creates"), checkPath(a, "removes"))
}

func checkWords(a Args, arg string) error {
	for _, w := range a.List(arg) {
		if strings.ContainsAny(w, "\n\x00") {
			return fmt.Errorf("%s: a word cannot contain a line break: %q", arg, w)
		}
	}
	return nil
}

// command runs a program without a shell.
func command() *Module {
	return &Module{
		Name:    "command",
		Summary: "Run a program with its arguments, without a shell",
		Examples: []string{
			`name: Make a folder
command:
  argv: [mkdir, '/srv/{{ grant.account }}']
  creates: '/srv/{{ grant.account }}'
undo: rmdir "/srv/{{ grant.account }}"`,
		},
		NeedsUndo: true,
		Free:      "argv",
		Args:      runFields(stdinField, Field{Name: "argv", Type: listOf, Required: true, Doc: "program and arguments; not for secrets, other accounts can see them", Example: "[systemctl, reload, nginx]"}),
		Check: func(a Args) error {
			if l, known := a["argv"].([]string); known && (len(l) == 0 || l[0] == "") {
				return errors.New("argv is empty")
			}
			return first(checkWords(a, "argv"), checkStdin(a), checkRun(a))
		},
	}
}

// shell runs a script of the author.
func shell() *Module {
	return &Module{
		Name:    "shell",
		Summary: "Run a script of POSIX sh; {{ }} in it becomes a variable and is never executed",
		Examples: []string{
			`name: Note who came
shell:
  cmd: |
    printf '%s\n' "{{ grant.requester }}" >"/srv/{{ grant.account }}.who"
  creates: '/srv/{{ grant.account }}.who'
undo: rm -f "/srv/{{ grant.account }}.who"`,
			`name: Count the processes
register: count
shell: ps -e | wc -l
changed_when: false`,
			`name: Hand over a secret and a setting
register: length
shell:
  cmd: printf '%s %s' "$GREETING" "$(wc -c)"
  env: {GREETING: 'hello {{ grant.requester }}'}
  stdin: '{{ params.password }}'
changed_when: false`,
		},
		NeedsUndo: true,
		Free:      "cmd",
		Script:    "cmd",
		Args:      runFields(stdinField, Field{Name: "cmd", Type: lang.String, Required: true, Doc: "the script", Example: `id -u "{{ params.username }}"`}),
		Check:     func(a Args) error { return first(checkStdin(a), checkRun(a)) },
	}
}

// script runs a program text by an interpreter of the device.
func script() *Module {
	return &Module{
		Name:    "script",
		Summary: "Run a fixed program text by an interpreter of the device, which reads it from standard input, or with stdin from /dev/fd/3",
		Examples: []string{
			`name: Run a fixed text
script:
  text: |
    printf 'for %s\n' "$1" >"/srv/$1.note"
  args: ['{{ grant.account }}']
  creates: '/srv/{{ grant.account }}.note'
undo: rm -f "/srv/{{ grant.account }}.note"`,
			`name: Hand over a secret
register: length
script:
  interpreter: /usr/bin/perl
  text: print length(<STDIN>)
  stdin: '{{ params.password }}'
changed_when: false`,
		},
		NeedsUndo: true,
		Args: runFields(stdinField,
			Field{Name: "text", Type: lang.String, Required: true, Constant: true, Doc: "the program, without {{ }}; hand values over in args", Example: `'import sys; print(sys.argv[1])'`},
			Field{Name: "interpreter", Type: lang.String, Default: "/bin/sh", Doc: "program that reads it", Example: "/usr/bin/python3"},
			Field{Name: "args", Type: listOf, Default: []string{}, Doc: "arguments; not for secrets", Example: "['{{ params.username }}']"},
		),
		Check: func(a Args) error {
			return first(checkStdin(a), checkPath(a, "interpreter"), checkWords(a, "args"), checkRun(a))
		},
	}
}

// waitFor waits on the device.
func waitFor() *Module {
	return &Module{
		Name:    "wait_for",
		Summary: "Wait on the device until a path is there, is gone, or a local port listens; the step's timeout ends it",
		Examples: []string{
			`name: Wait for the folder of sockets
wait_for: {path: /run}
timeout: 30s`,
		},
		ReadOnly: true,
		Args: []Field{
			{Name: "port", Type: lang.Int, Default: int64(0), Doc: "TCP port that has to listen on the device", Example: "5432"},
			{Name: "path", Type: lang.String, Default: "", Doc: "path that has to be there", Example: "/run/app.sock"},
			{Name: "gone", Type: lang.String, Default: "", Doc: "path that has to be gone", Example: "/run/lock/apt"},
		},
		Check: func(a Args) error {
			if n := a.Int("port"); n < 0 || n > 65535 {
				return errors.New("port must be between 1 and 65535")
			}
			return first(checkPath(a, "path"), checkPath(a, "gone"))
		},
	}
}
