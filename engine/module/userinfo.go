package module

import (
	"runner/engine/lang"
)

// userInfo reads what there is of an account and changes nothing.
func userInfo() *Module {
	return &Module{
		Name:    "user_info",
		Summary: "Read what there is of an account, by name, by uid or by both",
		Examples: []string{
			`name: Look at the account
register: who
user_info: '{{ params.username }}'`,
		},
		ReadOnly: true,
		Free:     "name",
		Args: []Field{
			{Name: "name", Type: lang.String, Default: "", Doc: "account name", Example: "'{{ params.username }}'"},
			{Name: "uid", Type: lang.Int, Default: int64(0), Doc: "numeric id; alone: the account that has it; with name: by_uid_name says who has it", Example: "'{{ grant.uid }}'"},
			{Name: "brief", Type: lang.Bool, Default: false, Doc: "only what the account databases say: groups stays empty and logged_in false", Example: "true"},
		},
		Outputs: []Field{
			{Name: "exists", Type: lang.Bool, Doc: "the account is there"},
			{Name: "name", Type: lang.String, Doc: "its name"},
			{Name: "uid", Type: lang.Int, Doc: "its numeric id; the one asked for when it is not there"},
			{Name: "gid", Type: lang.Int, Doc: "its primary group"},
			{Name: "home", Type: lang.String, Doc: "its home directory"},
			{Name: "shell", Type: lang.String, Doc: "its login shell"},
			{Name: "comment", Type: lang.String, Doc: "its GECOS field"},
			{Name: "locked", Type: lang.Bool, Doc: "its password is locked"},
			{Name: "groups", Type: listOf, Doc: "its groups"},
			{Name: "expires", Type: lang.String, Doc: "never, or the UTC time from which it is expired; empty when it is not there"},
			{Name: "expired", Type: lang.Bool, Doc: "that time is over"},
			{Name: "logged_in", Type: lang.Bool, Doc: "processes of the uid are running"},
			{Name: "local", Type: lang.Bool, Doc: "it is in /etc/passwd, not in a directory"},
			{Name: "by_uid_name", Type: lang.String, Doc: "the local names that have the uid, with blanks between; empty when nobody has it"},
		},
		Check: func(a Args) error { return first(checkKnown(a, "name"), checkUID(a, "uid")) },
	}
}
