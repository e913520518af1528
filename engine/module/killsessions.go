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
		},
		Args: []Field{
			{Name: "uid", Type: lang.Int, Required: true, Doc: "numeric id; below 1000 only with allow_system, 0 never", Example: "'{{ grant.uid }}'"},
			{Name: "name", Type: lang.String, Default: "", Doc: "account name: processes of its subordinate uids are ended too", Example: "'{{ params.username }}'"},
			{Name: "grace", Type: lang.Duration, Doc: "time between TERM and KILL, in whole seconds; 2s when not given", Example: "5s"},
			{Name: "allow_system", Type: lang.Bool, Default: false, Doc: "allow a uid below 1000", Example: "true"},
		},
		Outputs: []Field{
			{Name: "killed", Type: listOf, Doc: "processes that were ended: pid and command"},
			{Name: "remaining", Type: listOf, Doc: "processes that did not end: pid and command"},
		},
		Check: func(a Args) error { return first(checkUID(a, "uid"), checkKnown(a, "name")) },
	}
}
