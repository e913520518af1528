// Package secret owns values that must not be seen: a type that prints as ***,
// a generator, and a mask that takes secrets out of streams. It refuses to
// format, marshal or compare a secret in clear; Reveal is the only way out and
// only transports, modules and the hand-over to the requester may call it.
package secret

import (
	"encoding/json"
	"fmt"
)

// Hidden is what a secret prints as, whatever the verb or encoding.
const Hidden = "***"

// Value is a secret string. The zero Value is "no secret". Its contents never
// appear through fmt, encoding/json, log/slog or text/template.
type Value struct{ text *string }

// New returns s as a secret.
func New(s string) Value { return Value{text: &s} }

// IsZero reports whether v holds no secret or an empty one.
func (v Value) IsZero() bool { return v.text == nil || *v.text == "" }

// Reveal returns the secret in clear.
func (v Value) Reveal() string {
	if v.text == nil {
		return ""
	}
	return *v.text
}

// String returns Hidden.
func (v Value) String() string { return Hidden }

// GoString returns Hidden.
func (v Value) GoString() string { return Hidden }

// Format writes Hidden for every verb.
func (v Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Hidden)) }

// MarshalJSON returns Hidden as a JSON string.
func (v Value) MarshalJSON() ([]byte, error) { return json.Marshal(Hidden) }

// MarshalText returns Hidden.
func (v Value) MarshalText() ([]byte, error) { return []byte(Hidden), nil }
