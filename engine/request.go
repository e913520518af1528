package engine

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"
	"time"

	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/lang"
	"runner/engine/secret"
	"runner/engine/template"
	"runner/engine/transport"
)

// Ask is a request for a grant.
type Ask struct {
	Credential string
	Requester  string
	Caller     string // who really asks
	Operator   bool   // the caller may act for others
	Reason     string
	For        time.Duration // 0: the credential's default
	Params     map[string]any
	// GenerateKey makes a key pair for the grant instead of a password.
	GenerateKey bool
	// Session is what will be opened by the grant; nil: nothing, it just lasts.
	Session *SessionAsk
}

// handover is what is sealed with a grant until it is collected.
type handover struct {
	Secrets    map[string]string `json:"secrets,omitempty"` // secret params by name
	PrivateKey string            `json:"private_key,omitempty"`
}

// Request decides whether the grant may be and stores it with its jobs; the
// device is not touched. Errors: *DeniedError, *InputError, lang.Problems.
func (e *Engine) Request(ctx context.Context, a Ask) (grant.Case, error) {
	now := e.Now()
	q, g, err := e.consider(ctx, a, now)
	if err != nil {
		return grant.Case{}, err
	}
	if g.Creates && platforms[q.dev.Platform].numbered {
		if g.UID, err = e.Store.ReserveUID(ctx, q.dev.Name, q.dev.UIDs.First, q.dev.UIDs.Last, now); err != nil {
			return grant.Case{}, err
		}
	}
	if err := e.pin(&g, q, a); err != nil {
		return grant.Case{}, err
	}
	c := grant.New(g, e.newID("j"), e.newID("j"), now)
	if a.Session != nil {
		c.Open(grant.Session{ID: e.newID("s"), Kind: a.Session.Kind, Command: a.Session.Command, Node: e.Node, Client: a.Session.Client}, now)
	}
	login := e.Inventory.Login(q.cred)
	for i := range c.Jobs {
		c.Jobs[i].Login, c.Jobs[i].LoginLimit = login.Name, login.MaxConcurrent
	}
	var snaps []grant.Snapshot
	for _, t := range q.templates() {
		snaps = append(snaps, snapshot(t))
	}
	if err := e.Store.Create(ctx, c, snaps); err != nil {
		if conflict, ok := errors.AsType[*grant.ConflictError](err); ok && conflict.What == "requester" {
			return grant.Case{}, denyExisting(conflict.Existing)
		}
		return grant.Case{}, err
	}
	return c, nil
}

// asked is what a request is about.
type asked struct {
	cred             *inventory.Credential
	dev              *inventory.Device
	conn             *inventory.Connection
	forward, removal *template.Template
	// elevate and revert are there when the account that is made is elevated, too.
	elevate, revert *template.Template
}

func (q *asked) templates() []*template.Template {
	if q.elevate == nil {
		return []*template.Template{q.forward, q.removal}
	}
	return []*template.Template{q.forward, q.removal, q.elevate, q.revert}
}

// consider decides whether the grant may be, and returns it without uid and
// params. Nothing is stored.
func (e *Engine) consider(ctx context.Context, a Ask, now time.Time) (q asked, g grant.Grant, err error) {
	if q.cred = e.Inventory.Credentials[a.Credential]; q.cred == nil {
		return q, g, &InputError{Reason: e.unknownCredential(a.Credential)}
	}
	if err := allowed(q.cred, a); err != nil {
		return q, g, err
	}
	if err := awaited(q.cred, a); err != nil {
		return q, g, err
	}
	length, err := duration(q.cred, a.For)
	if err != nil {
		return q, g, err
	}
	if err := e.alreadyHas(ctx, a); err != nil {
		return q, g, err
	}
	if err = e.slots(&q); err != nil {
		return q, g, err
	}
	if q.conn, err = e.Inventory.Resolve(q.cred.Name); err != nil {
		return q, g, badInput(err)
	}
	q.dev = e.Inventory.Devices[q.cred.Device]
	for _, t := range q.templates() {
		if t.Platform != q.dev.Platform {
			return q, g, &InputError{Reason: fmt.Sprintf("template %s/%s is for %s, and device %s of credential %s is %s", t.Kind, t.Name, t.Platform, q.dev.Name, q.cred.Name, q.dev.Platform)}
		}
	}
	if q.cred.JIT.EndWhenIdle > 0 && !platforms[q.dev.Platform].numbered {
		return q, g, &InputError{Reason: fmt.Sprintf("device %s is %s, which does not tell who uses an account: take end_when_idle out of credential %s", q.dev.Name, q.dev.Platform, q.cred.Name)}
	}
	if a.GenerateKey && !q.cred.JIT.Creates() {
		return q, g, &InputError{Reason: fmt.Sprintf("credential %s changes an account that exists, which keeps its own login: ask without a key", q.cred.Name)}
	}
	if a.GenerateKey && !platforms[q.dev.Platform].keys {
		return q, g, &InputError{Reason: fmt.Sprintf("device %s is %s, where accounts log in by password: ask without a key", q.dev.Name, q.dev.Platform)}
	}
	g = grant.Grant{
		ID: e.newID("g"), Requester: a.Requester, Caller: a.Caller, Reason: a.Reason, Credential: q.cred.Name,
		Device: q.cred.Device, Creates: q.cred.JIT.Creates(), For: length,
	}
	if enforced(q.forward) {
		// A creation may begin as late as one window from now, and end one after that.
		g.Backstop = now.Add(2*grant.CreationWindow + length + q.cred.JIT.Margin)
	}
	g.Account, err = accountName(q.cred, a.Requester)
	return q, g, err
}

// enforced reports whether the device itself ends what a template gives: a
// membership, for one, has no expiry.
func enforced(t *template.Template) bool { return bytes.Contains(t.Body, []byte("backstop_at")) }

func snapshot(t *template.Template) grant.Snapshot {
	return grant.Snapshot{Hash: t.Hash, Kind: string(t.Kind), Name: t.Name, Body: t.Body}
}

func (e *Engine) unknownCredential(name string) string {
	var names []string
	for n := range e.Inventory.Credentials {
		names = append(names, n)
	}
	slices.Sort(names)
	s := fmt.Sprintf("there is no credential %q", name)
	if near := lang.Nearest(name, names); near != "" {
		return s + fmt.Sprintf("; did you mean %q?", near)
	}
	if len(names) > 0 {
		s += "; there are " + strings.Join(names, ", ")
	}
	return s
}

// allowed applies the credential's requesters. Without any only operators may.
func allowed(cred *inventory.Credential, a Ask) error {
	if cred.JIT.Missing != "" {
		return &DeniedError{Reason: fmt.Sprintf("credential %s gives nothing: %s", cred.Name, cred.JIT.Missing)}
	}
	if !cred.JIT.Enabled {
		return &DeniedError{Reason: fmt.Sprintf("credential %s has no just-in-time access (jit.enabled is false)", cred.Name)}
	}
	if a.Requester != a.Caller && !a.Operator {
		return &DeniedError{Reason: fmt.Sprintf("%s is not an operator and cannot request for %s", a.Caller, a.Requester)}
	}
	if len(cred.Requesters) == 0 && a.Operator {
		return nil
	}
	for _, r := range cred.Requesters {
		if r == a.Requester {
			return nil
		}
		if group, is := strings.CutPrefix(r, "@"); is && inGroup(a.Requester, group) {
			return nil
		}
	}
	if len(cred.Requesters) == 0 {
		return &DeniedError{Reason: fmt.Sprintf("credential %s names no requesters, so only operators may request it", cred.Name)}
	}
	return &DeniedError{Reason: fmt.Sprintf("%s is not among the requesters of credential %s", a.Requester, cred.Name)}
}

// awaited refuses what the credential's workflow does not let happen yet. What
// this runner cannot ask for is not left out.
func awaited(cred *inventory.Credential, a Ask) error {
	switch w := cred.Workflow; {
	case w == nil:
	case len(w.Unmet()) > 0:
		return &DeniedError{Reason: fmt.Sprintf("the workflow of credential %s has %s, which this runner cannot ask for yet, and nothing is given without it", cred.Name, strings.Join(w.Unmet(), ", "))}
	case w.NeedReason && strings.TrimSpace(a.Reason) == "":
		return &DeniedError{Reason: fmt.Sprintf("the workflow of credential %s wants a reason: say it with --reason", cred.Name)}
	}
	return nil
}

// inGroup asks the controller's own user database.
func inGroup(name, group string) bool {
	u, err := user.Lookup(name)
	if err != nil {
		return false
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return false
	}
	ids, err := u.GroupIds()
	return err == nil && slices.Contains(ids, g.Gid)
}

func duration(cred *inventory.Credential, asked time.Duration) (time.Duration, error) {
	switch {
	case asked == 0:
		return cred.JIT.Duration, nil
	case asked < time.Minute:
		return 0, &InputError{Reason: fmt.Sprintf("--for %s is too short: one minute is the least", asked)}
	case asked > cred.JIT.MaxDuration:
		return 0, &DeniedError{Reason: fmt.Sprintf("--for %s is longer than credential %s allows (%s)", asked, cred.Name, cred.JIT.MaxDuration)}
	}
	return asked, nil
}

// alreadyHas gives the clear refusal early; the store enforces it in any case.
func (e *Engine) alreadyHas(ctx context.Context, a Ask) error {
	g, err := e.Store.Holding(ctx, a.Requester, a.Credential)
	if err == nil && g != nil {
		return denyExisting(*g)
	}
	return err
}

// openStates are the states of grants that are not over.
var openStates = []string{string(grant.Requested), string(grant.WaitingApproval), string(grant.Creating), string(grant.Active), string(grant.Ending)}

func denyExisting(g grant.Grant) error {
	return &DeniedError{Existing: &g, Reason: fmt.Sprintf("%s already has grant %s of credential %s: it is %s and expires at %s",
		g.Requester, g.ID, g.Credential, g.State, g.Expires.UTC().Format(time.RFC3339))}
}

// accountName renders the credential's pattern with a fresh id, or names the
// account that is changed.
func accountName(cred *inventory.Credential, requester string) (string, error) {
	v, err := cred.Account.Eval(lang.Env{"id": secret.NewID(), "requester": requester})
	if err != nil {
		return "", &InputError{Reason: fmt.Sprintf("account name of credential %s: %v", cred.Name, err)}
	}
	name := fmt.Sprint(v)
	if !cred.JIT.Creates() && !inventory.KnownAccount(name) {
		return "", &InputError{Reason: fmt.Sprintf("credential %s is for account %q of requester %s, and no account can have that name", cred.Name, name, requester)}
	}
	return name, nil
}

// values are the params of both templates.
type values struct {
	given   map[string]any // by the request, and what follows from it
	params  map[string]any // of the creation
	open    map[string]any // those without the secrets
	removal map[string]any // of the removal that are not its defaults
	hand    handover
	// elevation is there when the account that is made is elevated, too.
	elevation *elevation
}

// values resolves the params.
func (e *Engine) values(g *grant.Grant, q asked, a Ask, made template.Generator) (*values, error) {
	given, more, err := q.share(a)
	if err != nil {
		return nil, badInput(err)
	}
	v := &values{given: given, open: map[string]any{}}
	if g.Creates && (a.GenerateKey || q.cred.Password == "none" && v.given["public_key"] == nil) {
		private, public, err := newKeyPair(g.Account)
		if err != nil {
			return nil, err
		}
		v.hand.PrivateKey, v.given["public_key"] = private, public
	}
	if v.given["public_key"] != nil && takes(q.forward, "with_password") && v.given["with_password"] == nil {
		v.given["with_password"] = false
	}
	for _, own := range []string{"username", "uid", "sid"} {
		if v.given[own] != nil || q.cred.Params[own] != nil {
			return nil, &InputError{Reason: fmt.Sprintf("param %s cannot be given: every grant gets an account of its own, named by the credential's account pattern", own)}
		}
	}
	env := lang.Env{"grant": grantEnv(g, 0), "device": deviceEnv(q.conn, 0)}
	if v.params, err = q.forward.Resolve(q.cred.Params, v.given, env, made); err != nil {
		return nil, badInput(err)
	}
	v.hand.Secrets = map[string]string{}
	for name, p := range v.params {
		if s, is := p.(secret.Value); is {
			v.hand.Secrets[name] = s.Reveal()
			continue
		}
		v.open[name] = p
	}
	if v.open["with_password"] == false {
		delete(v.hand.Secrets, "password")
	}
	if v.removal, err = removalPins(q.removal, v.open, q.cred.Params, env); err != nil {
		return nil, &InputError{Reason: fmt.Sprintf("credential %s, template %s/%s: %v", q.cred.Name, q.removal.Kind, q.removal.Name, err)}
	}
	if q.elevate != nil {
		v.elevation, err = q.elevation(more, env)
	}
	return v, err
}

// pin resolves the params and pins everything that running and removing the
// grant needs.
func (e *Engine) pin(g *grant.Grant, q asked, a Ask) error {
	v, err := e.values(g, q, a, generate)
	if err != nil {
		return err
	}
	plain, err := json.Marshal(v.hand) //nolint:gosec // on its way into the seal
	if err != nil {
		return fmt.Errorf("engine: hand-over: %w", err)
	}
	if g.Sealed, err = e.Key.Seal(plain, g.ID); err != nil {
		return err
	}
	if g.Plan.Params, err = json.Marshal(pins{Forward: v.open, Removal: v.removal, Elevation: v.elevation, Reads: q.removal.StepsRead()}); err != nil {
		return fmt.Errorf("engine: params: %w", err)
	}
	pin := connection{Connection: *q.conn, UIDs: q.dev.UIDs, Margin: q.cred.JIT.Margin, MaxDuration: q.cred.JIT.MaxDuration, EndWhenIdle: q.cred.JIT.EndWhenIdle}
	if g.Plan.Connection, err = json.Marshal(pin); err != nil {
		return fmt.Errorf("engine: connection: %w", err)
	}
	g.Plan.Forward, g.Plan.Removal = q.forward.Hash, q.removal.Hash
	for _, t := range q.templates() {
		g.Plan.Longest = max(g.Plan.Longest, longest(t))
	}
	g.Plan.Longest = max(g.Plan.Longest, underWay(q.conn))
	return nil
}

// underWay is how long what was sent to a device may arrive late. The kernels of
// jump hosts and proxies are not ours: they go on for a quarter of an hour
// (tcp_retries2).
func underWay(c *inventory.Connection) time.Duration {
	if len(c.Jump) > 0 || c.WinRM != nil && c.WinRM.SOCKS5 != "" {
		return 16 * time.Minute
	}
	return transport.Undelivered
}

// takes reports whether a template has a parameter.
func takes(t *template.Template, name string) bool {
	return slices.ContainsFunc(t.Params, func(p template.Param) bool { return p.Name == name })
}

// longest returns the longest time a step of t may take on the device.
func longest(t *template.Template) time.Duration {
	most := cmp.Or(t.Timeout, executor.DefaultTimeout)
	var walk func([]*template.Step)
	walk = func(ss []*template.Step) {
		for _, s := range ss {
			most = max(most, s.Timeout)
			walk(s.Block)
			walk(s.Rescue)
			walk(s.Always)
		}
	}
	walk(t.Steps)
	return most
}

// generate makes a secret as a template's parameter asks for.
func generate(g template.Generate) (secret.Value, error) {
	return secret.Generate(secret.Spec{Length: g.Length, Classes: g.Classes, Exclude: g.Exclude})
}

// grantEnv is what templates see as grant. skew is added to the times that
// the device itself is to enforce, which it reads on its own clock.
func grantEnv(g *grant.Grant, skew time.Duration) map[string]any {
	return map[string]any{
		"id": g.ID, "account": g.Account, "requester": g.Requester, "credential": g.Credential, "reason": g.Reason, "uid": g.UID, "sid": sidOf(g, nil),
		"expires_at": g.Expires.UTC(), "backstop_at": g.Backstop.Add(skew).UTC().Truncate(time.Second), "requested_at": g.Requested.UTC(),
	}
}

func deviceEnv(c *inventory.Connection, skew time.Duration) map[string]any {
	return map[string]any{"id": c.Device, "name": c.Device, "address": c.Address, "platform": c.Platform, "skew_seconds": int64(skew / time.Second)}
}
