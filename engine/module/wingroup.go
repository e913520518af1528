package module

import (
	"fmt"

	"runner/engine/lang"
)

// winGroup makes and deletes local groups. Its object is the group; its state
// the SID.
func winGroup() *Module {
	return &Module{
		Name:    "win_group",
		Summary: "Create or delete a local group of Windows",
		Examples: []string{
			"name: Create the group\nwin_group: {name: jit-ops, description: runner}",
		},
		Args: []Field{
			{Name: "name", Type: lang.String, Required: true, Doc: "group name", Example: "jit-ops"},
			winSIDField,
			{Name: "description", Type: lang.String, Default: "", Doc: "at most 48 characters. With state absent and no sid: only a group with exactly this description is deleted", Example: "runner"},
			statePresent("present, or absent"),
			{Name: "if_empty", Type: lang.Bool, Default: false, Doc: "with state absent: keep a group that has members, without failing", Example: "true"},
		},
		Outputs: []Field{
			{Name: "sid", Type: lang.String, Doc: "SID of the group; the one asked for when it is not there"},
			{Name: "exists", Type: lang.Bool, Doc: "the group is there now"},
		},
		Check: func(a Args) error {
			if n := a.String("name"); has(a, "name") && !winGroupName(n) {
				return fmt.Errorf("name %q is no name of a local group; it has at most 256 letters, digits, blanks, dots, dashes and underscores, the first a letter or digit", n)
			}
			return first(checkSID(a), checkLine(a, "description"), checkShort(a, "description", 48))
		},
		Objects: func(a Args) []Object {
			o := Object{ID: "windows:group:" + a.String("name")}
			if a.String("state") != "absent" {
				o.Shared = true
				o.Undo = &Undo{Module: "win_group", Args: map[string]any{
					"name": a.String("name"), "sid": a.String("sid"), "description": a.String("description"), "state": "absent", "if_empty": true,
				}}
			}
			return []Object{o}
		},
	}
}

// winGroupMember adds and removes single edges; each edge is an object.
func winGroupMember() *Module {
	return &Module{
		Name:    "win_group_member",
		Summary: "Put an account into local groups or take it out, edge by edge; groups by name or by SID, which is the same in every language",
		Examples: []string{
			"name: Allow remote desktop\nwin_group_member: {user: '{{ params.username }}', groups: [S-1-5-32-555]}",
		},
		Args: []Field{
			{Name: "user", Type: lang.String, Default: "", Doc: "name of the local account", Example: "'{{ params.username }}'"},
			{Name: "sid", Type: lang.String, Default: "", Doc: "SID of the account, also of one that is gone or of a domain", Example: "'{{ account.sid }}'"},
			{Name: "groups", Type: listOf, Required: true, Doc: "names or SIDs; Administrators is S-1-5-32-544, Users S-1-5-32-545, Remote Desktop Users S-1-5-32-555", Example: "[S-1-5-32-544]"},
			statePresent("present, or absent"),
		},
		Outputs: []Field{
			{Name: "added", Type: listOf, Doc: "edges that this step changed"},
			{Name: "already", Type: listOf, Doc: "edges that were right before"},
			{Name: "missing", Type: listOf, Doc: "groups that were not there"},
		},
		Check: func(a Args) error {
			for _, g := range a.List("groups") {
				if err := checkWinGroup(g); err != nil {
					return fmt.Errorf("groups: %w", err)
				}
			}
			return first(checkOne(a, "user", "sid"), checkWinName(a, "user"), checkSID(a))
		},
		Objects: func(a Args) []Object {
			var os []Object
			user, id := a.String("user"), a.String("sid")
			who := user
			if who == "" {
				who = id
			}
			for _, g := range a.List("groups") {
				o := Object{ID: "windows:member:" + g + "/" + who}
				if a.String("state") != "absent" {
					o.Shared = true
					o.Undo = &Undo{Module: "win_group_member", Args: map[string]any{"user": user, "sid": id, "groups": []string{g}, "state": "absent"}}
				}
				os = append(os, o)
			}
			return os
		},
	}
}
