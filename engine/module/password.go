package module

import (
	"runner/engine/lang"
)

// password sets the password of an account. Its object is the stored hash,
// known by a digest; the former password is not kept, so nothing undoes it but
// the deletion of the account.
func password() *Module {
	return &Module{
		Name:    "password",
		Summary: "Set the password of a local account, through standard input only",
		Examples: []string{
			`name: Set its password
password:
  user: '{{ params.username }}'
  password: '{{ params.password }}'`,
		},
		Args: []Field{
			{Name: "user", Type: lang.String, Required: true, Doc: "account name", Example: "'{{ params.username }}'"},
			{Name: "password", Type: lang.Secret, Required: true, Doc: "the password, or with encrypted its crypt hash", Example: "'{{ params.password }}'"},
			{Name: "encrypted", Type: lang.Bool, Default: false, Doc: "password is a crypt hash; setting the one that is there changes nothing", Example: "true"},
		},
		Check:   func(a Args) error { return checkKnown(a, "user") },
		Objects: func(a Args) []Object { return []Object{{ID: "linux:password:" + a.String("user")}} },
	}
}
