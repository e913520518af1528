package engine

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/lang"
	"runner/engine/secret"
	"runner/engine/template"
	"runner/engine/transport/ssh"
)

// connection is what a grant pins of inventory, device and credential.
type connection struct {
	inventory.Connection

	UIDs        inventory.UIDRange `json:"uids"`
	Margin      time.Duration      `json:"margin_ns"`
	MaxDuration time.Duration      `json:"max_duration_ns"`
}

func pinnedConnection(p grant.Plan) (*connection, error) {
	var c connection
	if err := json.Unmarshal(p.Connection, &c); err != nil {
		return nil, fmt.Errorf("engine: the grant's connection cannot be read: %w", err)
	}
	return &c, nil
}

// pinnedParams puts the pinned parameters of a template and the secrets
// together. A secret that is not at hand is the empty secret.
func pinnedParams(tpl *template.Template, pinned []byte, secrets map[string]string) (map[string]any, error) {
	var open map[string]any
	if err := json.Unmarshal(pinned, &open); err != nil {
		return nil, errors.New("the grant's parameters cannot be read")
	}
	out := map[string]any{}
	for _, p := range tpl.Params {
		if p.Type.Kind == lang.SecretKind {
			out[p.Name] = secret.New(secrets[p.Name])
			continue
		}
		out[p.Name] = typedJSON(p.Type, open[p.Name])
	}
	return out, nil
}

// typedJSON gives a value back the type that a JSON round trip took.
func typedJSON(t lang.Type, v any) any {
	switch t.Kind {
	case lang.IntKind:
		if f, is := v.(float64); is {
			return int64(f)
		}
	case lang.DurationKind:
		if f, is := v.(float64); is {
			return time.Duration(f)
		}
	case lang.TimeKind:
		if s, is := v.(string); is {
			if at, err := time.Parse(time.RFC3339Nano, s); err == nil {
				return at
			}
		}
	case lang.ListKind:
		l, _ := v.([]any)
		out := make([]any, 0, len(l))
		for _, e := range l {
			if t.Elem != nil {
				e = typedJSON(*t.Elem, e)
			}
			out = append(out, e)
		}
		return out
	case lang.StringKind:
		if v == nil {
			return ""
		}
	case lang.BoolKind:
		if v == nil {
			return false
		}
	case lang.AnyKind, lang.FloatKind, lang.SecretKind, lang.MapKind:
	}
	return v
}

// newKeyPair makes an Ed25519 key pair for one grant: the private key in
// OpenSSH's format, the public key as a line of authorized_keys.
func newKeyPair(comment string) (private, public string, err error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("engine: key pair: %w", err)
	}
	block, line, err := ssh.MarshalKey(key, comment)
	if err != nil {
		return "", "", err
	}
	return string(pem.EncodeToMemory(block)), line, nil
}
