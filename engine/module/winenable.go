package module

import "runner/engine/lang"

// winEnable enables an account that exists, and disables it again. Its object is
// that the account is enabled; its state whose account that is.
func winEnable() *Module {
	return &Module{
		Name:    "win_enable",
		Summary: "Enable a local account of Windows that is disabled, or disable it",
		Examples: []string{
			"name: Let it in\nwin_enable: {name: '{{ grant.account }}'}",
		},
		Args: []Field{
			winNameField,
			statePresent("present: enabled; absent: disabled"),
		},
		Outputs: []Field{
			{Name: "enabled", Type: lang.Bool, Doc: "the account is there and enabled now"},
			{Name: "sid", Type: lang.String, Doc: "SID of the account; empty when it is not there"},
		},
		Check: func(a Args) error { return checkWinName(a, "name") },
		Objects: func(a Args) []Object {
			o := Object{ID: "windows:enabled:" + a.String("name")}
			if a.String("state") != "absent" {
				o.Shared = true
				o.Undo = &Undo{Module: "win_enable", Args: map[string]any{"name": a.String("name"), "state": "absent"}}
			}
			return []Object{o}
		},
	}
}
