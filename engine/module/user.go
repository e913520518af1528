package module

import (
	"errors"
	"strings"

	"runner/engine/lang"
)

// user makes, changes and deletes accounts of the device's own databases. Its
// object is the account; its state is the uid.
func user() *Module {
	return &Module{
		Name:    "user",
		Summary: "Create, change or delete a local account; deletion also heals what killed useradd and userdel runs left",
		Examples: []string{
			`name: Create the account
register: made
user:
  name: '{{ params.username }}'
  uid: '{{ grant.uid }}'
  comment: 'runner {{ grant.id }}'
  expires: '{{ grant.backstop_at }}'`,
			`name: Lock the account
user:
  name: '{{ params.username }}'
  exists: require
  locked: true
  shell: nologin`,
			`name: Delete the account
user:
  name: '{{ params.username }}'
  uid: '{{ grant.uid }}'
  state: absent`,
		},
		Others: map[string]string{ //nolint:gosec // hints, no credentials
			"password": "the module password sets it", "groups": "the module group_member puts the account into groups", "group": "the account gets a group of its own; group_member puts it into others",
			"append": "group_member adds to the groups that there are, always", "generate_ssh_key": "the module authorized_key lets a key in", "ssh_key_file": "the module authorized_key lets a key in",
			"remove": "write remove_home: true", "force": "the module kill_sessions ends what runs, before", "password_lock": "write locked: true", "createhome": "write create_home: true",
			"update_password": "the module password sets it whenever it runs",
		},
		Args: []Field{
			{Name: "name", Type: lang.String, Required: true, Doc: "account name: ^[a-z_][a-z0-9_-]{0,31}$", Example: "'{{ params.username }}'"},
			{Name: "uid", Type: lang.Int, Default: int64(0), Doc: "numeric id; 0 lets the system pick. With state absent: an account of that name with another uid is a conflict and stays", Example: "'{{ grant.uid }}'"},
			{Name: "comment", Type: lang.String, Default: "", Doc: "GECOS field, without colons", Example: "runner {{ grant.id }}"},
			{Name: "shell", Type: lang.String, Default: "", Doc: "login shell, which has to exist; nologin takes the one the device has; empty: /bin/bash, else /bin/sh", Example: "/bin/bash"},
			{Name: "home", Type: lang.String, Default: "", Doc: "home directory; empty: the device's default for the name", Example: "/home/ops"},
			{Name: "create_home", Type: lang.Bool, Default: true, Doc: "make the home, mode 0700; one that exists already is refused", Example: "false"},
			{Name: "expires", Type: lang.String, Default: "", Doc: "time in UTC, never or past; rounded up to the next day boundary, so never earlier than asked", Example: "'{{ grant.backstop_at }}'"},
			{Name: "locked", Type: lang.Bool, Doc: "lock or unlock the password; left as it is when not given", Example: "true"},
			statePresent("present, or absent"),
			{Name: "exists", Type: lang.String, Default: "fail", Enum: []string{"fail", "adopt", "update", "require"}, Doc: "when the account is there already: fail, adopt (take it as it is), update (change what is given); require is update that never creates", Example: "update"},
			{Name: "remove_home", Type: lang.Bool, Default: true, Doc: "with state absent: delete the home if it is the account's own", Example: "false"},
			{Name: "system", Type: lang.Bool, Default: false, Doc: "allow an account with a uid below 1000", Example: "true"},
		},
		Outputs: []Field{
			{Name: "uid", Type: lang.Int, Doc: "numeric id of the account; the one asked for when it is not there"},
			{Name: "gid", Type: lang.Int, Doc: "primary group; 0 when the account is not there"},
			{Name: "home", Type: lang.String, Doc: "home directory"},
			{Name: "exists", Type: lang.Bool, Doc: "the account is there now"},
			{Name: "locked", Type: lang.Bool, Doc: "its password is locked"},
			{Name: "created", Type: lang.Bool, Doc: "this step created it"},
			{Name: "conflict", Type: lang.Bool, Doc: "the name has another uid, or the uid another name; nothing was changed"},
		},
		Check: func(a Args) error {
			if strings.Contains(a.String("comment"), ":") {
				return errors.New("comment cannot contain a colon; write a time as 20261121T120000Z")
			}
			return first(checkName(a, "name"), checkUID(a, "uid"), checkLine(a, "comment", "shell", "home"), checkPath(a, "home"), checkTime(a, "expires", "never", "past"))
		},
		Unreached: func(a Args) []string {
			// Moments are not worked out for the words.
			if e := a.String("expires"); e == "past" || e == "never" {
				return append(unreachedByState(a), "lib_epoch")
			}
			return unreachedByState(a)
		},
		Objects: func(a Args) []Object {
			o := Object{ID: "linux:user:" + a.String("name")}
			if a.String("state") != "absent" && a.String("exists") != "require" {
				o.Undo = &Undo{Module: "user", Args: map[string]any{"name": a.String("name"), "uid": a.Int("uid"), "state": "absent"}}
			}
			return []Object{o}
		},
	}
}

// unreachedByState names what a call does not come to that makes, changes or
// deletes only.
func unreachedByState(a Args) []string {
	switch a.String("state") {
	case "absent":
		return []string{"user_create", "user_update"}
	case "present":
		switch a.String("exists") {
		case "fail", "adopt":
			return []string{"user_remove", "user_update"}
		case "require":
			return []string{"user_remove", "user_create"}
		}
		return []string{"user_remove"}
	}
	return nil
}
