package module

import (
	"runner/engine/lang"
)

// enable lets a disabled account be used for a while. Its object is whether the
// account can be used; a state that begins with absent says that it cannot, and
// how it was disabled, which is what its undo puts back.
func enable() *Module {
	return &Module{
		Name:    "enable",
		Summary: "Let a disabled local account be used: unlock its password and move its expiry; the undo disables it again as it was",
		Examples: []string{
			`name: Enable the account
enable:
  user: '{{ params.username }}'
  expires: '{{ grant.backstop_at }}'`,
		},
		Args: []Field{
			{Name: "user", Type: lang.String, Required: true, Doc: "account name", Example: "'{{ params.username }}'"},
			{Name: "uid", Type: lang.Int, Default: int64(0), Doc: "numeric id; an account of that name with another one is refused. 0: any but that of root", Example: "'{{ who.uid }}'"},
			{Name: "expires", Type: lang.String, Default: "never", Doc: "time in UTC at which the account expires at the earliest, or never; rounded up to the next day boundary. A later expiry of an account that can be used stays", Example: "'{{ grant.backstop_at }}'"},
			statePresent("present, or absent: disabled as was says"),
			{Name: "was", Type: lang.String, Default: "", Doc: "with state absent: the state that is put back, as the module told it", Example: "'absent uid=1001 lock=hash expires=1'"},
		},
		Outputs: []Field{
			{Name: "enabled", Type: lang.Bool, Doc: "its password is not locked, and it is not expired"},
		},
		Check: func(a Args) error {
			return first(checkKnown(a, "user"), checkUID(a, "uid"), checkTime(a, "expires", "never"))
		},
		Objects: func(a Args) []Object {
			o := Object{ID: "linux:enabled:" + a.String("user")}
			if a.String("state") != "absent" {
				o.Shared = true
				o.Undo = &Undo{Module: "enable", Args: map[string]any{"user": a.String("user"), "state": "absent"}, Restore: "was"}
			}
			return []Object{o}
		},
	}
}
