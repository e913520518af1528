package module

import (
	"cmp"
	"fmt"
	"strings"

	"runner/engine/lang"
)

// winScheduledTask looks for scheduled tasks and takes them away. Its object is
// the task, or what runs as the account.
func winScheduledTask() *Module {
	return &Module{
		Name:    "win_scheduled_task",
		Summary: "Find scheduled tasks, by path or by the local account they run as, or take them away",
		Examples: []string{
			"name: No tasks of its own\nwin_scheduled_task: {user: '{{ params.username }}', sid: '{{ created.outputs.sid }}', state: absent}",
		},
		Args: []Field{
			{Name: "path", Type: lang.String, Default: "", Doc: "folder and name of one task", Example: `'\JIT\nightly'`},
			{Name: "user", Type: lang.String, Default: "", Doc: "name of the local account that the tasks run as", Example: "'{{ params.username }}'"},
			{Name: "sid", Type: lang.String, Default: "", Doc: "SID of that account", Example: "'{{ created.outputs.sid }}'"},
			{Name: "state", Type: lang.String, Default: "present", Enum: []string{"present", "absent"}, Doc: "present only looks; absent ends and deletes them", Example: "absent"},
		},
		Outputs: []Field{
			{Name: "found", Type: listOf, Doc: "paths of the tasks that were there"},
			{Name: "removed", Type: listOf, Doc: "those that this step deleted"},
		},
		Check: func(a Args) error {
			if p := a.String("path"); has(a, "path") && (!strings.HasPrefix(p, `\`) || strings.HasSuffix(p, `\`) || strings.ContainsAny(p, "*?\x00\n")) {
				return fmt.Errorf(`path %q is no path of a task; write folder and name, such as \JIT\nightly`, p)
			}
			return first(checkOne(a, "path", "user", "sid"), checkWinName(a, "user"), checkSID(a))
		},
		Objects: func(a Args) []Object {
			if a.String("state") != "absent" {
				return nil
			}
			what := a.String("path")
			if what == "" {
				what = "of " + cmp.Or(a.String("user"), a.String("sid"))
			}
			return []Object{{ID: "windows:task:" + what}}
		},
	}
}
