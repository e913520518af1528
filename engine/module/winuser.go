package module

import (
	"cmp"

	"runner/engine/lang"
)

// winUser makes, changes and deletes local accounts. Its object is the account;
// its state the SID.
func winUser() *Module {
	return &Module{
		Name:    "win_user",
		Summary: "Create, change or delete a local account of Windows; it is known by its SID, not by its name",
		Examples: []string{
			`name: Create the account
register: account
win_user:
  name: '{{ params.username }}'
  password: '{{ params.password }}'
  description: runner {{ grant.id }}
  expires: '{{ grant.backstop_at }}'
  password_never_expires: true`,
		},
		Args: []Field{
			winNameField,
			{Name: "sid", Type: lang.String, Default: "", Doc: "SID the account must have; another account of that name is a conflict and stays", Example: "'{{ created.outputs.sid }}'"},
			{Name: "password", Type: lang.Secret, Doc: "needed to create; for an account that exists it is set anew", Example: "'{{ params.password }}'"},
			{Name: "description", Type: lang.String, Default: "", Doc: "at most 48 characters. With state absent and no sid: only an account with exactly this description is deleted", Example: "runner {{ grant.id }}"},
			{Name: "full_name", Type: lang.String, Default: "", Doc: "full name", Example: "'{{ grant.requester }}'"},
			{Name: "expires", Type: lang.String, Default: "", Doc: "time in UTC to the second, or never; empty: never for a new account, else as it is", Example: "'{{ grant.backstop_at }}'"},
			{Name: "locked", Type: lang.Bool, Doc: "disable or enable the account; left as it is when not given", Example: "true"},
			{Name: "password_never_expires", Type: lang.Bool, Default: false, Doc: "of a new account: the password policy does not end it before its own expiry", Example: "true"},
			{Name: "fixed_password", Type: lang.Bool, Default: false, Doc: "of a new account: its user may not change the password", Example: "true"},
			statePresent("present, or absent"),
			{Name: "exists", Type: lang.String, Default: "fail", Enum: []string{"fail", "adopt", "update", "require"}, Doc: "when the account is there already: fail, adopt (take it as it is), update (change what is given); require is update that never creates", Example: "update"},
		},
		Outputs: []Field{
			{Name: "sid", Type: lang.String, Doc: "SID of the account; the one asked for when it is not there"},
			{Name: "exists", Type: lang.Bool, Doc: "the account is there now"},
			{Name: "enabled", Type: lang.Bool, Doc: "it is not disabled"},
			{Name: "expires", Type: lang.String, Doc: "never, or the UTC time from which it is expired; empty when it is not there"},
			{Name: "created", Type: lang.Bool, Doc: "this step created it"},
			{Name: "conflict", Type: lang.Bool, Doc: "the name has another SID, or the SID another name; nothing was changed"},
		},
		Check: func(a Args) error {
			return first(checkWinName(a, "name"), checkSID(a), checkLine(a, "description", "full_name"), checkShort(a, "description", 48),
				checkShort(a, "full_name", 256), checkWinTime(a, "expires", "never"))
		},
		Objects: func(a Args) []Object {
			o := Object{ID: "windows:user:" + a.String("name")}
			if a.String("state") != "absent" && a.String("exists") != "require" {
				o.Undo = &Undo{Module: "win_user", Args: map[string]any{
					"name": a.String("name"), "sid": a.String("sid"), "description": a.String("description"), "state": "absent",
				}}
			}
			return []Object{o}
		},
	}
}

// winProfile deletes profiles. Its object is the profile, also without its account.
func winProfile() *Module {
	return &Module{
		Name:    "win_profile",
		Summary: "Delete the profile of an account by SID, also when the account is gone; says honestly when that takes a reboot",
		Examples: []string{
			"name: Its profile\nwin_profile: {name: '{{ params.username }}', sid: '{{ created.outputs.sid }}', state: absent}",
		},
		Args: []Field{
			{Name: "sid", Type: lang.String, Default: "", Doc: "SID of the account", Example: "'{{ created.outputs.sid }}'"},
			{Name: "name", Type: lang.String, Default: "", Doc: "name of the account: folders of this name, or NAME.x, that are nobody's profile go, too", Example: "'{{ params.username }}'"},
			{Name: "path", Type: lang.String, Default: "", Doc: `folder to look for when Windows does not know the profile any more`, Example: `'C:\Users\jit-abc'`},
			{Name: "state", Type: lang.String, Default: "present", Enum: []string{"present", "absent"}, Doc: "present only looks; absent deletes", Example: "absent"},
		},
		Outputs: []Field{
			{Name: "exists", Type: lang.Bool, Doc: "the profile, its folder or its entry is there"},
			{Name: "path", Type: lang.String, Doc: "its folder"},
			{Name: "loaded", Type: lang.Bool, Doc: "it is in use"},
			{Name: "pending_reboot", Type: lang.Bool, Doc: "what is left is in use and goes after a reboot"},
			{Name: "deleted", Type: listOf, Doc: "folders that this step deleted"},
		},
		Check: func(a Args) error {
			return first(checkOne(a, "sid", "name"), checkSID(a), checkWinName(a, "name"), checkLine(a, "path"))
		},
		Objects: func(a Args) []Object {
			if a.String("state") != "absent" {
				return nil
			}
			return []Object{{ID: "windows:profile:" + cmp.Or(a.String("sid"), a.String("name"))}}
		},
	}
}

// winSessions ends everything that runs as an account. It undoes nothing.
func winSessions() *Module {
	return &Module{
		Name:    "win_sessions",
		Summary: "End all sessions and programs of a local account: sessions are logged off first, what is left is ended",
		Examples: []string{
			"name: End its sessions\nwin_sessions: {name: '{{ params.username }}', sid: '{{ created.outputs.sid }}', state: absent}",
		},
		Args: []Field{
			{Name: "name", Type: lang.String, Default: "", Doc: "account name", Example: "'{{ params.username }}'"},
			winSIDField,
			{Name: "state", Type: lang.String, Default: "present", Enum: []string{"present", "absent"}, Doc: "present only looks; absent ends them", Example: "absent"},
		},
		Outputs: []Field{
			{Name: "found", Type: listOf, Doc: "programs that ran as the account: number and name"},
			{Name: "remaining", Type: listOf, Doc: "programs that still run"},
		},
		Check: func(a Args) error {
			return first(checkOne(a, "name", "sid"), checkWinName(a, "name"), checkSID(a))
		},
	}
}
