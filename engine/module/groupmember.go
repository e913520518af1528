package module

import (
	"fmt"

	"runner/engine/lang"
)

// groupMember adds and removes single edges. Each edge is an object, and each
// group that it may create is one that comes before its edge.
func groupMember() *Module {
	return &Module{
		Name:    "group_member",
		Summary: "Put an account into groups or take it out, edge by edge; other members and groups stay as they are",
		Examples: []string{
			`name: Join the groups
group_member:
  user: '{{ params.username }}'
  groups: [adm, jit-ops]
  missing_group: create`,
		},
		Args: []Field{
			{Name: "user", Type: lang.String, Required: true, Doc: "account name", Example: "'{{ params.username }}'"},
			{Name: "groups", Type: listOf, Required: true, Doc: "group names", Example: "[wheel]"},
			{Name: "missing_group", Type: lang.String, Default: "fail", Enum: []string{"fail", "create"}, Doc: "what to do when a group is not there", Example: "create"},
			statePresent("present, or absent"),
		},
		Outputs: []Field{
			{Name: "added", Type: listOf, Doc: "edges that this step changed"},
			{Name: "already", Type: listOf, Doc: "edges that were right before"},
			{Name: "missing", Type: listOf, Doc: "groups that were not there"},
			{Name: "created", Type: listOf, Doc: "groups that this step created"},
		},
		Check: func(a Args) error {
			for _, g := range a.List("groups") {
				if !knownName.MatchString(g) {
					return fmt.Errorf("groups: %q is no name of a group; one has at most 64 letters, digits, dots, underscores, hyphens and @, the first a letter or an underscore", g)
				}
			}
			return checkKnown(a, "user")
		},
		Objects: func(a Args) []Object {
			var os []Object
			u := a.String("user")
			for _, g := range a.List("groups") {
				if a.String("state") == "absent" {
					os = append(os, Object{ID: "linux:member:" + g + "/" + u})
					continue
				}
				if a.String("missing_group") == "create" {
					os = append(os, Object{ID: "linux:group:" + g, Undo: groupUndo(g, 0, false), Shared: true})
				}
				os = append(os, Object{ID: "linux:member:" + g + "/" + u, Shared: true, Undo: &Undo{
					Module: "group_member", Args: map[string]any{"user": u, "groups": []string{g}, "state": "absent"},
				}})
			}
			return os
		},
	}
}
