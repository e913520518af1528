package module

import (
	"runner/engine/lang"
)

// surface lists everything on a device that bears the name or the uid of an
// account: before a creation, and as the proof of a removal.
func surface() *Module {
	return &Module{
		Name:    "surface",
		Summary: "List everything on the device that bears the name or the uid of an account",
		Examples: []string{
			`name: List what bears its name
register: left
surface: {name: '{{ grant.account }}'}`,
		},
		ReadOnly: true,
		Args: []Field{
			{Name: "name", Type: lang.String, Required: true, Doc: "account name", Example: "'{{ grant.account }}'"},
			{Name: "uid", Type: lang.Int, Default: int64(0), Doc: "numeric id; 0 when it is not known", Example: "'{{ grant.uid }}'"},
			{Name: "home", Type: lang.String, Default: "", Doc: "home directory; empty: that of the account, else /home/NAME", Example: "/srv/home/ops"},
			{Name: "paths", Type: listOf, Default: commonPaths, Doc: "folders in which files of the uid are looked for", Example: "[/tmp]"},
		},
		Outputs: []Field{
			{Name: "items", Type: listOf, Doc: "what was found, sorted: kind, tab, what; at most 1000 files"},
			{Name: "uid_free", Type: lang.Bool, Doc: "no local account, process, file or IPC object has the uid"},
			{Name: "clock", Type: lang.Int, Doc: "the device's clock, seconds since 1970"},
			{Name: "machine", Type: lang.String, Doc: "the device's own id, from /etc/machine-id; empty when it has none"},
		},
		Check: func(a Args) error { return first(checkKnown(a, "name"), checkUID(a, "uid"), checkPath(a, "home")) },
	}
}
