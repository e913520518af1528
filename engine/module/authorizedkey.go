package module

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"

	"runner/engine/lang"
)

// authorizedKey adds or removes one line of ~/.ssh/authorized_keys. Its object
// is the key in that account; its state the options of the line.
func authorizedKey() *Module {
	return &Module{
		Name:    "authorized_key",
		Summary: "Add or remove one public key of an account, with an expiry that its sshd knows",
		Examples: []string{
			`name: Add its key
authorized_key:
  user: '{{ params.username }}'
  key: '{{ params.public_key }}'
  expires: '{{ grant.backstop_at }}'`,
		},
		Args: []Field{
			{Name: "user", Type: lang.String, Required: true, Doc: "account name", Example: "'{{ params.username }}'"},
			{Name: "key", Type: lang.String, Required: true, Doc: "public key line; its own comment is dropped", Example: "'{{ params.public_key }}'"},
			{Name: "options", Type: lang.String, Default: "", Doc: "options before the key, as in sshd(8)", Example: "no-agent-forwarding"},
			{Name: "expires", Type: lang.String, Default: "", Doc: "time in UTC, becomes expiry-time= in the form that the device's sshd knows (OpenSSH 7.7, UTC from 9.1)", Example: "'{{ grant.backstop_at }}'"},
			{Name: "comment", Type: lang.String, Default: "runner", Doc: "comment of the line; it marks the line as ours, other lines are never touched", Example: "runner-{{ grant.id }}"},
			{Name: "allow_root", Type: lang.Bool, Default: false, Doc: "allow uid 0", Example: "true"},
			statePresent("present, or absent"),
		},
		Outputs: []Field{{Name: "expiry_form", Type: lang.String, Doc: "utc, local, or none when the key does not expire by itself"}},
		Check: func(a Args) error {
			if k := a.String("key"); has(a, "key") && len(strings.Fields(k)) < 2 {
				return errors.New("key is no public key line such as \"ssh-ed25519 AAAA…\"")
			}
			return first(checkKnown(a, "user"), checkLine(a, "key", "options", "comment"), checkTime(a, "expires", "never"))
		},
		Objects: func(a Args) []Object {
			o := Object{ID: "linux:key:" + a.String("user") + "/" + fingerprint(a.String("key"))}
			if a.String("state") != "absent" {
				o.Undo = &Undo{Module: "authorized_key", Args: map[string]any{
					"user": a.String("user"), "key": a.String("key"), "comment": a.String("comment"), "state": "absent", "allow_root": a.Bool("allow_root"),
				}}
			}
			return []Object{o}
		},
	}
}

// fingerprint names a key as ssh-keygen -l does.
func fingerprint(key string) string {
	words := strings.Fields(key)
	if len(words) < 2 {
		return "?"
	}
	blob, err := base64.StdEncoding.DecodeString(words[1])
	if err != nil {
		blob = []byte(words[1])
	}
	sum := sha256.Sum256(blob)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}
