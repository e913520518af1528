package module

import (
	"fmt"

	"runner/engine/lang"
)

// group makes and deletes groups. Its object is the group; its state the gid.
func group() *Module {
	return &Module{
		Name:    "group",
		Summary: "Create or delete a local group",
		Examples: []string{
			`name: Create the group
group: {name: jit-ops}`,
		},
		Args: []Field{
			{Name: "name", Type: lang.String, Required: true, Doc: "group name", Example: "ops"},
			{Name: "gid", Type: lang.Int, Default: int64(0), Doc: "numeric id; 0 lets the system pick. With state absent: a group with another gid stays", Example: "7000"},
			statePresent("present, or absent"),
			{Name: "if_empty", Type: lang.Bool, Default: false, Doc: "with state absent: keep a group that has members, without failing", Example: "true"},
			{Name: "system", Type: lang.Bool, Default: false, Doc: "allow a gid below 1000", Example: "true"},
		},
		Outputs: []Field{
			{Name: "gid", Type: lang.Int, Doc: "numeric id, 0 when the group is not there"},
			{Name: "exists", Type: lang.Bool, Doc: "the group is there now"},
		},
		Check: func(a Args) error {
			if n := a.String("name"); len(n) > 32 && a.String("state") == "present" {
				return fmt.Errorf("name %q is too long for a new group: it has %d characters, Linux takes 32", n, len(n))
			}
			return first(checkKnown(a, "name"), checkUID(a, "gid"))
		},
		Objects: func(a Args) []Object {
			o := Object{ID: "linux:group:" + a.String("name")}
			if a.String("state") != "absent" {
				o.Undo, o.Shared = groupUndo(a.String("name"), a.Int("gid"), a.Bool("system")), true
			}
			return []Object{o}
		},
	}
}

func groupUndo(name string, gid int64, system bool) *Undo {
	return &Undo{Module: "group", Args: map[string]any{"name": name, "gid": gid, "state": "absent", "if_empty": true, "system": system}}
}
