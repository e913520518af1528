package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/lang"
	"runner/engine/secret"
	"runner/engine/template"
	"runner/engine/transport"
)

// Secret is what a requester gets, once.
type Secret struct {
	Account    string `json:"account"`
	Password   string `json:"password,omitempty"`
	PrivateKey string `json:"private_key,omitempty"`
	Address    string `json:"address"`
	Port       int    `json:"port"`
	Platform   string `json:"platform"`

	hidden []string // whatever is secret about the grant
}

// Mask returns what takes the secrets of the grant out of text.
func (s *Secret) Mask() *secret.Mask {
	m := &secret.Mask{}
	for _, text := range s.hidden {
		if text != "" {
			_ = m.Add(secret.New(text)) // what is too short was refused when the grant was requested
		}
	}
	return m
}

// Collect hands out the secret of an active grant. The hand-over is committed
// before it returns, so that nobody gets it twice.
func (e *Engine) Collect(ctx context.Context, id, actor string) (grant.Case, *Secret, error) {
	var box []byte
	c, err := e.change(ctx, id, func(c *grant.Case) error {
		var err error
		box, err = c.Collect(e.Now(), actor)
		return err
	})
	if err != nil {
		return c, nil, err
	}
	plain, err := e.Key.Unseal(box, c.Grant.ID)
	if err != nil {
		return c, nil, fmt.Errorf("the grant's secret cannot be opened: %w", err)
	}
	var h handover
	if err := json.Unmarshal(plain, &h); err != nil {
		return c, nil, errors.New("the grant's secret cannot be read")
	}
	cn, err := pinnedConnection(c.Grant.Plan)
	if err != nil {
		return c, nil, err
	}
	return c, &Secret{
		Account: c.Grant.Account, Password: h.Secrets["password"], PrivateKey: h.PrivateKey, Address: cn.Address, Port: cn.Port, Platform: cn.Platform,
		hidden: append(slices.Collect(maps.Values(h.Secrets)), h.PrivateKey),
	}, nil
}

// End makes the removal due and returns the case; why is end or revoke.
func (e *Engine) End(ctx context.Context, id, actor, why string) (grant.Case, error) {
	return e.change(ctx, id, func(c *grant.Case) error { return c.End(e.Now(), actor, why) })
}

// Remove runs the due removal of a grant in this process. A removal that
// another worker runs is left to it.
func (e *Engine) Remove(ctx context.Context, c grant.Case) (grant.Case, error) {
	r := c.Removal()
	if r == nil || !r.DueAt(e.Now()) {
		return c, nil
	}
	out, _, err := e.runJob(ctx, c.Grant.ID, r.ID, func() {})
	if err != nil && passing(err) {
		return e.Store.Case(ctx, c.Grant.ID)
	}
	return out, err
}

// Pause keeps a removal from being tried until a time.
func (e *Engine) Pause(ctx context.Context, j grant.Job, until time.Time, actor string) error {
	return e.Store.Change(ctx, j.GrantID, func(c *grant.Case) error { return c.Pause(j.ID, e.Now(), until, actor) })
}

// Resume ends a pause.
func (e *Engine) Resume(ctx context.Context, j grant.Job, actor string) error {
	return e.Store.Change(ctx, j.GrantID, func(c *grant.Case) error { return c.Resume(j.ID, e.Now(), actor) })
}

// RunNow makes a job due and runs it in this process.
func (e *Engine) RunNow(ctx context.Context, j grant.Job, actor string) (grant.Case, error) {
	if err := e.Store.Change(ctx, j.GrantID, func(c *grant.Case) error { return c.RunNow(j.ID, e.Now(), actor) }); err != nil {
		return grant.Case{}, err
	}
	return e.runMine(ctx, j)
}

// runMine runs a job that this process has made due, or waits for the worker that
// was faster: it was woken at the same moment. What j says of the job is older.
func (e *Engine) runMine(ctx context.Context, j grant.Job) (grant.Case, error) {
	out, _, err := e.runJob(ctx, j.GrantID, j.ID, func() {})
	if err == nil || !passing(err) {
		return out, err
	}
	for {
		is, jerr := e.Store.Job(ctx, j.ID)
		switch {
		case jerr != nil:
			return out, jerr
		case is.State == grant.Running:
		case is.Attempt > j.Attempt, is.State == grant.Done, is.State == grant.JobCancelled:
			return e.Store.Case(ctx, j.GrantID)
		default: // nobody runs it: another job of the device does
			return out, err
		}
		if werr := wait(ctx, 100*time.Millisecond); werr != nil {
			return out, werr
		}
	}
}

// Extend lets an active grant last longer: the device's own expiries are moved
// first; only when that worked does the removal move. A device that cannot be
// reached refuses the extension.
func (e *Engine) Extend(ctx context.Context, id string, by time.Duration, actor string) (grant.Case, error) {
	c, err := e.Store.Case(ctx, id)
	if err != nil {
		return c, err
	}
	cn, err := pinnedConnection(c.Grant.Plan)
	if err != nil {
		return c, err
	}
	job := e.newID("j")
	c, err = e.change(ctx, id, func(c *grant.Case) error {
		to, err := c.Extension(by, cn.MaxDuration)
		if err != nil {
			return &DeniedError{Reason: err.Error()}
		}
		return c.AddRenew(job, e.Now(), actor, to)
	})
	if err != nil {
		return c, err
	}
	c, err = e.runMine(ctx, grant.Job{ID: job, GrantID: id})
	if err != nil {
		return c, err
	}
	if j := c.Job(job); j != nil && j.LastError != "" {
		return c, fmt.Errorf("not extended: %s; the grant ends at %s as before", j.LastError, c.Grant.Expires.UTC().Format(time.RFC3339))
	}
	return c, nil
}

// renew runs the renew steps of the creation's template with the new backstop.
func (w *work) renew(ctx context.Context) error {
	g := &w.c.Grant
	to := w.job.Until
	cn, err := pinnedConnection(g.Plan)
	if err != nil {
		return err
	}
	var backstop time.Time
	if !g.Backstop.IsZero() {
		backstop = to.Add(cn.Margin)
	}
	cause := w.renewOnDevice(ctx, to, backstop)
	outcome, why := "ok", ""
	if cause != nil {
		outcome, why = "failed", w.log.Text(cause.Error())
		if _, is := errors.AsType[*transport.Error](cause); is {
			outcome = "unreachable"
		}
	}
	w.ended(ctx, outcome, why)
	return w.settle(ctx, func(c *grant.Case) error {
		return c.Extend(w.fence, w.e.Now(), backstop, cause == nil, why)
	})
}

func (w *work) renewOnDevice(ctx context.Context, to, backstop time.Time) error {
	tpl, err := w.e.pinned(ctx, w.c.Grant.Plan.Forward)
	if err != nil {
		return err
	}
	w.exec.Template = string(tpl.Kind) + "/" + tpl.Name + "@" + tpl.Hash[:12]
	parts := []*second{{tpl: tpl, grant: w.c.Grant}}
	more, err := w.second(ctx, false)
	if err != nil {
		return err
	}
	if more != nil {
		parts = append(parts, more)
	}
	for _, p := range parts {
		if len(p.tpl.Renew) == 0 && (enforced(p.tpl) || p.tpl.Kind != template.Elevate) {
			return fmt.Errorf("template %s/%s has no renew steps, so the expiries on the device cannot be moved", p.tpl.Kind, p.tpl.Name)
		}
	}
	conn, cn, err := w.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, p := range parts {
		p.grant.Expires, p.grant.Backstop = to, backstop
		if err := w.renewPart(ctx, p, conn, cn); err != nil {
			return err
		}
	}
	return nil
}

// renewPart runs the renew steps of one template of the grant.
func (w *work) renewPart(ctx context.Context, p *second, conn transport.Conn, cn *connection) error {
	tpl, g := p.tpl, &p.grant
	params, err := pinnedParams(tpl, g.Plan, nil)
	if err != nil {
		return err
	}
	have, err := w.e.Store.Changes(ctx, g.ID)
	if err != nil {
		return err
	}
	env := lang.Env{"params": params, "grant": grantEnv(g, 0), "device": deviceEnv(&cn.Connection, 0), "created": createdEnv(g, nil, nil)}
	if err := keptVars(tpl, g.Plan, env); err != nil {
		return err
	}
	record := w.newRecorder(have)
	record.step = p.base
	run := executor.Run{
		Steps: tpl.Renew, Become: tpl.Become, Timeout: tpl.Timeout, Env: env, Conn: conn, Modules: w.e.Modules,
		ID: w.exec.ID, Scope: g.ID, Record: record, Observe: w.obs, Lease: w.lease, Until: w.until(),
	}
	if run.Before = platforms[cn.Platform].call(w.e.Modules, g, sidOf(g, nil)); run.Before != nil {
		sent := w.e.Now()
		run.Probed = func(_ context.Context, calls map[string]map[string]any) error {
			skew, err := skewOf(calls["surface"], sent, w.e.Now())
			if err == nil {
				env["grant"], env["device"] = grantEnv(g, skew), deviceEnv(&cn.Connection, skew)
			}
			return err
		}
	}
	w.nextPart(&run, tpl.Renew)
	defer func() { w.obs.base = 0 }()
	w.say(fmt.Sprintf("extending what %s has on %s to %s", g.Account, cn.Device, g.Expires.UTC().Format(time.RFC3339)))
	_, err = executor.Do(ctx, run)
	return err
}

// nextPart numbers the steps of one more list of an execution after those before it.
func (w *work) nextPart(run *executor.Run, steps []*template.Step) {
	w.obs.base = w.exec.Steps
	if w.exec.Steps > 0 {
		run.ID += "-" + strconv.Itoa(w.exec.Steps)
	}
	w.exec.Steps += count(steps)
}
