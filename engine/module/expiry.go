package module

import (
	"runner/engine/lang"
)

// expiry sets the day on which an account expires. Its object is that day; the
// former one is not restored.
func expiry() *Module {
	return &Module{
		Name:    "expiry",
		Summary: "Set when a local account expires",
		Examples: []string{
			`name: Let the account expire
expiry:
  user: '{{ params.username }}'
  expires: '{{ grant.backstop_at }}'`,
		},
		Args: []Field{
			{Name: "user", Type: lang.String, Required: true, Doc: "account name", Example: "'{{ params.username }}'"},
			{Name: "expires", Type: lang.String, Required: true, Doc: "time in UTC, never or past; rounded up to the next day boundary", Example: "'{{ grant.backstop_at }}'"},
		},
		Outputs: []Field{{Name: "expires", Type: lang.String, Doc: "never, or the UTC time from which the account is expired"}},
		Check:   func(a Args) error { return first(checkKnown(a, "user"), checkTime(a, "expires", "never", "past")) },
		Objects: func(a Args) []Object { return []Object{{ID: "linux:expiry:" + a.String("user")}} },
	}
}
