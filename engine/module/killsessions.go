package module

import (
	"runner/engine/lang"
)

// killSessions ends everything that runs as a uid. It undoes nothing.
func killSessions() *Module {
	return &Module{
		Name:    "kill_sessions",
		Summary: "End all sessions and processes of a uid, by uid: TERM, grace, KILL until none is left",
		Examples: []string{
			`name: End its sessions and processes
register: ended
kill_sessions:
  uid: '{{ grant.uid }}'
  grace: 1s`,
			`name: End the sessions that still have the groups
kill_sessions:
  uid: '{{ grant.uid }}'
  name: '{{ params.username }}'
  groups: [jit-ops]`,
		},
		Args: []Field{
			{Name: "uid", Type: lang.Int, Required: true, Doc: "numeric id; below 1000 only with allow_system, 0 never", Example: "'{{ grant.uid }}'"},
			{Name: "name", Type: lang.String, Default: "", Doc: "account name: processes of its subordinate uids are ended too", Example: "'{{ params.username }}'"},
			{Name: "grace", Type: lang.Duration, Doc: "time between TERM and KILL, in whole seconds; 2s when not given", Example: "5s"},
			{Name: "groups", Type: listOf, Default: []string{}, Doc: "only processes that have one of these groups although the account is not in it any more: they began while it was", Example: "[sudo]"},
			{Name: "end", Type: lang.Bool, Default: true, Doc: "false: end nothing, and tell in remaining what there is", Example: "false"},
			{Name: "allow_system", Type: lang.Bool, Default: false, Doc: "allow a uid below 1000", Example: "true"},
		},
		Outputs: []Field{
			{Name: "killed", Type: listOf, Doc: "processes that were ended: pid and command"},
			{Name: "remaining", Type: listOf, Doc: "processes that did not end, or with end: false were found: pid and command"},
		},
		Check: func(a Args) error { return first(checkUID(a, "uid"), checkKnown(a, "name")) },
	}
}
