package module

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"runner/engine/lang"
)

var sudoersName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// sudoers writes and deletes one file of /etc/sudoers.d. Its object is the
// file; its state a digest.
func sudoers() *Module {
	return &Module{
		Name:    "sudoers",
		Summary: "Write or delete one file of /etc/sudoers.d, checked by visudo before and by sudo after",
		Examples: []string{
			`name: Allow one command as root
sudoers:
  file: 'runner-{{ params.username }}'
  user: '{{ params.username }}'
  rules: ['{{ params.username }} ALL=(root) NOPASSWD: /usr/bin/id']
  not_after: '{{ grant.backstop_at }}'`,
		},
		Args: []Field{
			{Name: "file", Type: lang.String, Required: true, Doc: "file name in /etc/sudoers.d: [A-Za-z0-9_-]+", Example: "runner-{{ grant.account }}"},
			{Name: "rules", Type: listOf, Default: []string{}, Doc: "lines of the file", Example: "['ops ALL=(ALL) NOPASSWD: /usr/bin/id']"},
			{Name: "comment", Type: lang.String, Default: "", Doc: "second line of the file, as a comment: a mark that says whose rule this is", Example: "runner {{ grant.id }}"},
			{Name: "not_after", Type: lang.String, Default: "", Doc: "time in UTC, written as NOTAFTER=…Z into each rule where sudo knows that (1.8.20)", Example: "'{{ grant.backstop_at }}'"},
			{Name: "user", Type: lang.String, Default: "", Doc: "account for which sudo -l has to show the rule, else the file is taken away again", Example: "'{{ params.username }}'"},
			statePresent("present, or absent: deletes exactly this file"),
		},
		Outputs: []Field{
			{Name: "exists", Type: lang.Bool, Doc: "the file is there now"},
			{Name: "not_after_supported", Type: lang.Bool, Doc: "this sudo knows NOTAFTER"},
		},
		Check: func(a Args) error {
			if f := a.String("file"); has(a, "file") && !sudoersName.MatchString(f) {
				return fmt.Errorf("file %q has a character other than letters, digits, _ and -; sudo ignores files with others, such as a dot", f)
			}
			if l, known := a["rules"].([]string); known && len(l) == 0 && a.String("state") == "present" {
				return errors.New("rules is empty; to delete the file say state: absent")
			}
			for _, r := range a.List("rules") {
				if strings.ContainsAny(r, "\n\x00") || strings.HasSuffix(r, `\`) {
					return fmt.Errorf("rules: %q must be one line", r)
				}
			}
			if strings.HasSuffix(a.String("comment"), `\`) {
				return errors.New(`comment ends with \, which would join it with the rule below`)
			}
			return first(checkTime(a, "not_after", "never"), checkKnown(a, "user"), checkLine(a, "comment"))
		},
		Unreached: func(a Args) []string {
			if a.String("state") == "absent" {
				return []string{"su_write"}
			}
			return nil
		},
		Objects: func(a Args) []Object {
			o := Object{ID: "linux:file:/etc/sudoers.d/" + a.String("file")}
			if a.String("state") != "absent" {
				o.Undo = &Undo{Module: "sudoers", Args: map[string]any{"file": a.String("file"), "state": "absent"}}
			}
			return []Object{o}
		},
	}
}
