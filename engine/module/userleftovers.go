package module

import (
	"runner/engine/lang"
)

var commonPaths = []string{"/tmp", "/var/tmp", "/dev/shm"}

// userLeftovers removes what an account leaves outside its home. It undoes
// nothing.
func userLeftovers() *Module {
	return &Module{
		Name:    "user_leftovers",
		Summary: "Remove what an account leaves outside its home: crontab, at jobs, linger, IPC, files of its uid, sudo timestamps, mail",
		Examples: []string{
			`name: Remove what it left outside its home
user_leftovers:
  name: '{{ params.username }}'
  uid: '{{ grant.uid }}'`,
		},
		Args: []Field{
			{Name: "name", Type: lang.String, Required: true, Doc: "account name", Example: "'{{ params.username }}'"},
			{Name: "uid", Type: lang.Int, Required: true, Doc: "numeric id, at least 1000", Example: "'{{ grant.uid }}'"},
			{Name: "paths", Type: listOf, Default: commonPaths, Doc: "folders in which files of the uid are deleted, on their own file system only", Example: "[/tmp, /var/tmp, /dev/shm, /srv/share]"},
		},
		Outputs: []Field{{Name: "removed", Type: listOf, Doc: "what was removed: kind, tab, what; at most 1000 files"}},
		Check: func(a Args) error {
			for _, p := range a.List("paths") {
				if err := absolute("paths", p); err != nil {
					return err
				}
			}
			return first(checkName(a, "name"), checkUID(a, "uid"))
		},
	}
}
