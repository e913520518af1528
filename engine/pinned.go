package engine

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
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
	EndWhenIdle time.Duration      `json:"end_when_idle_ns,omitempty"`
}

func pinnedConnection(p grant.Plan) (*connection, error) {
	var c connection
	if err := json.Unmarshal(p.Connection, &c); err != nil {
		return nil, fmt.Errorf("engine: the grant's connection cannot be read: %w", err)
	}
	return &c, nil
}

// Pinned keeps templates by their hash: the grants of a credential share one, and
// reading it takes longer than all else that is done here for a removal. Its zero
// value is ready, and it may be shared by engines.
type Pinned struct {
	mu     sync.Mutex
	byHash map[string]*template.Template
}

// maxPinned is how many are kept.
const maxPinned = 64

func (p *Pinned) get(hash string) *template.Template {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byHash[hash]
}

func (p *Pinned) put(hash string, t *template.Template) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byHash == nil || len(p.byHash) >= maxPinned {
		p.byHash = map[string]*template.Template{}
	}
	p.byHash[hash] = t
}

// pinned returns a template as a grant pinned it.
func (e *Engine) pinned(ctx context.Context, hash string) (*template.Template, error) {
	if t := e.Pinned.get(hash); t != nil {
		return t, nil
	}
	s, err := e.Store.Snapshot(ctx, hash)
	if err != nil {
		return nil, fmt.Errorf("engine: template %.12s: %w", hash, err)
	}
	t, ps := template.Load(s.Kind+"/"+s.Name+".yaml@"+hash[:12], s.Body, e.Modules)
	if err := ps.Err(); err != nil {
		return nil, fmt.Errorf("engine: this runner cannot read the pinned template %s/%s: %w", s.Kind, s.Name, err)
	}
	e.Pinned.put(hash, t)
	return t, nil
}

// pins are the parameters that a grant pins: all of the creation's, and those
// of the removal that the creation shares or the credential sets. No secrets.
type pins struct {
	Forward map[string]any `json:"forward"`
	Removal map[string]any `json:"removal"`
	// Vars are the variables of the creation, from when it began.
	Vars map[string]any `json:"vars,omitempty"`
	// Reads is what the removal reads of the steps of the creation, Steps what there
	// is of that, from when it ended.
	Reads []template.StepRead       `json:"reads,omitempty"`
	Steps map[string]map[string]any `json:"steps,omitempty"`
	// Elevation is there when the account that is made is elevated, too.
	Elevation *elevation `json:"elevation,omitempty"`
}

func readPins(p grant.Plan) (pins, error) {
	var v pins
	if err := json.Unmarshal(p.Params, &v); err != nil {
		return v, errors.New("the grant's parameters cannot be read")
	}
	return v, nil
}

// removalPins picks what of the creation's parameters and of the credential's
// the removal template takes.
func removalPins(tpl *template.Template, forward map[string]any, defaults map[string]*lang.Value, env lang.Env) (map[string]any, error) {
	out := map[string]any{}
	for _, p := range tpl.Params {
		if v, ok := forward[p.Name]; ok {
			out[p.Name] = v
			continue
		}
		d := defaults[p.Name]
		if d == nil {
			continue
		}
		v, err := d.Eval(env)
		if err != nil {
			return nil, fmt.Errorf("param %s: %w", p.Name, err)
		}
		out[p.Name] = v
	}
	return out, nil
}

// pinnedParams puts the pinned parameters of a template and the secrets
// together. A secret that is not at hand is the empty secret.
func pinnedParams(tpl *template.Template, plan grant.Plan, secrets map[string]string) (map[string]any, error) {
	pinned, err := readPins(plan)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	for _, p := range tpl.Params {
		if p.Type.Kind == lang.SecretKind {
			out[p.Name] = secret.New(secrets[p.Name])
			continue
		}
		out[p.Name] = typedJSON(p.Type, pinned.Forward[p.Name])
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
	case lang.MapKind:
		if m, is := v.(map[string]any); is {
			return typedMap(t.Fields, m)
		}
	case lang.AnyKind:
		return whole(v)
	case lang.FloatKind, lang.SecretKind:
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

// keepVars computes the variables of the creation, once, and stores them with
// the grant before the device is touched: its later steps and its removal see
// the same values. Variables that hold secrets are computed again. of says where
// in the pins they are kept.
func (w *work) keepVars(ctx context.Context, tpl *template.Template, env lang.Env, of func(*pins) *map[string]any) error {
	if err := evalVars(tpl, env); err != nil || len(tpl.Vars) == 0 {
		return err
	}
	pinned, err := readPins(w.c.Grant.Plan)
	if err != nil {
		return err
	}
	kept := map[string]any{}
	for name, v := range env["vars"].(map[string]any) { //nolint:forcetypeassert // evalVars made it
		if !holdsSecret(v) {
			kept[name] = v
		}
	}
	*of(&pinned) = kept
	params, err := json.Marshal(pinned)
	if err != nil {
		return fmt.Errorf("engine: vars: %w", err)
	}
	c, err := w.e.change(ctx, w.c.Grant.ID, func(c *grant.Case) error {
		if err := c.Holds(w.fence); err != nil {
			return err
		}
		c.Grant.Plan.Params = params
		return nil
	})
	if err == nil {
		w.c = c
	}
	return err
}

// keptVars puts the variables of the creation into env, as they were kept.
func keptVars(tpl *template.Template, plan grant.Plan, env lang.Env) error {
	pinned, err := readPins(plan)
	if err != nil {
		return err
	}
	vars := map[string]any{}
	env["vars"] = vars
	for _, v := range tpl.Vars {
		if kept, is := pinned.Vars[v.Name]; is {
			vars[v.Name] = typedJSON(v.Value.Type(), kept)
			continue
		}
		if vars[v.Name], err = v.Value.Eval(env); err != nil {
			return fmt.Errorf("vars.%s: %w", v.Name, err)
		}
	}
	return nil
}
