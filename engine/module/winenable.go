package module

import (
	"errors"
	"regexp"

	"runner/engine/lang"
)

var disabledAs = regexp.MustCompile(`^(absent sid=S-[0-9-]+ on=(true|false)|enabled sid=S-[0-9-]+) expires=(never|[0-9TZ:.-]+)$`)

// winEnable is enable for Windows.
func winEnable() *Module {
	return &Module{
		Name:    "win_enable",
		Summary: "Let a disabled or expired local account of Windows be used: enable it and move its expiry; the undo puts both back",
		Examples: []string{
			"name: Let it in\nwin_enable:\n  name: '{{ grant.account }}'\n  expires: '{{ grant.backstop_at }}'",
		},
		Args: []Field{
			winNameField,
			{Name: "expires", Type: lang.String, Default: "never", Doc: "time in UTC at which the account expires at the earliest, or never. A later expiry of an account that can be used stays", Example: "'{{ grant.backstop_at }}'"},
			statePresent("present, or absent: disabled as was says"),
			{Name: "was", Type: lang.String, Default: "", Doc: "with state absent: the state that is put back, as the module told it", Example: "'absent sid=S-1-5-21-1-2-3-1001 on=false expires=never'"},
		},
		Outputs: []Field{
			{Name: "enabled", Type: lang.Bool, Doc: "it is enabled, and has not expired"},
			{Name: "sid", Type: lang.String, Doc: "SID of the account; empty when it is not there"},
		},
		Check: func(a Args) error {
			if was := a.String("was"); a.String("state") == "absent" && was != "" && !disabledAs.MatchString(was) {
				return errors.New("was has to be a state that the module told, such as: absent sid=S-1-5-21-1-2-3-1001 on=false expires=never")
			}
			return first(checkWinName(a, "name"), checkWinTime(a, "expires", "never"))
		},
		Objects: func(a Args) []Object {
			o := Object{ID: "windows:enabled:" + a.String("name")}
			if a.String("state") != "absent" {
				o.Shared = true
				o.Undo = &Undo{Module: "win_enable", Args: map[string]any{"name": a.String("name"), "state": "absent"}, Restore: "was"}
			}
			return []Object{o}
		},
	}
}
