package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"runner/engine"
	"runner/engine/executor"
)

// requestPlanJSON is what a request would do.
type requestPlanJSON struct {
	Credential       string           `json:"credential"`
	Device           string           `json:"device"`
	Address          string           `json:"address"`
	Peer             string           `json:"peer"`
	Requester        string           `json:"requester"`
	Caller           string           `json:"caller"`
	Because          string           `json:"because"`
	AccountPattern   string           `json:"account_pattern"`
	Account          string           `json:"account"`
	UID              int64            `json:"uid"`
	ForSeconds       int64            `json:"for_seconds"`
	ExpiresAt        time.Time        `json:"expires_at"`
	BackstopAt       time.Time        `json:"backstop_at,omitzero"`
	DeviceBackstopAt time.Time        `json:"device_backstop_at,omitzero"`
	SkewSeconds      int64            `json:"skew_seconds"`
	Secret           string           `json:"secret"`
	Problems         []string         `json:"problems"`
	Notes            []string         `json:"notes"`
	Create           templatePlanJSON `json:"create"`
	Remove           templatePlanJSON `json:"remove"`
}

// templatePlanJSON is what a template of the grant would do.
type templatePlanJSON struct {
	Template string             `json:"template"`
	Params   []explainParamJSON `json:"params"`
	Vars     []explainParamJSON `json:"vars"`
	Checked  []checkedJSON      `json:"checked"`
	Diffs    []diffJSON         `json:"diffs"`

	planJSON
}

// checkedJSON is what check mode said of a step.
type checkedJSON struct {
	N       int    `json:"n"`
	Name    string `json:"name"`
	Module  string `json:"module"`
	Status  string `json:"status"`
	Message string `json:"message,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// show prints what the request would do.
func (r *request) show(ctx context.Context) error {
	a := r.app
	p, err := r.eng.PlanRequest(ctx, r.ask)
	if err != nil {
		return err
	}
	v := requestPlanJSON{
		Credential: p.Credential, Device: p.Device, Address: p.Address, Peer: p.Peer, Requester: p.Requester, Caller: p.Caller, Because: p.Because,
		AccountPattern: p.Pattern, Account: p.Account, UID: p.UID, ForSeconds: int64(p.For / time.Second), ExpiresAt: p.Expires.UTC(), BackstopAt: p.Backstop.UTC(),
		DeviceBackstopAt: p.DeviceBackstop.UTC(), SkewSeconds: int64(p.Skew / time.Second), Secret: p.Secret,
		Problems: append([]string{}, p.Problems...), Notes: append([]string{}, p.Notes...),
		Create: viewTemplatePlan(p.Create), Remove: viewTemplatePlan(p.Remove),
	}
	if err := a.answer(v, func(w io.Writer) { a.describeRequestPlan(w, p, &v) }); err != nil {
		return err
	}
	if len(p.Problems) > 0 {
		return errors.New("the request would fail: " + strings.Join(p.Problems, "; "))
	}
	return nil
}

func viewTemplatePlan(p engine.TemplatePlan) templatePlanJSON {
	v := templatePlanJSON{
		Template: p.Template, Params: viewValues(p.Params), Vars: viewValues(p.Vars), Checked: []checkedJSON{}, Diffs: []diffJSON{},
		planJSON: viewPlan(p.Plan, nil, false),
	}
	for _, s := range p.Steps {
		v.Checked = append(v.Checked, checkedJSON{N: s.N, Name: s.Name, Module: s.Module, Status: string(s.Status), Message: s.Message, Reason: s.Reason})
	}
	for _, d := range p.Diffs {
		v.Diffs = append(v.Diffs, viewDiff(d))
	}
	return v
}

func (a *app) describeRequestPlan(w io.Writer, p *engine.RequestPlan, v *requestPlanJSON) {
	_, _ = fmt.Fprintf(w, "a grant of %s for %s; nothing was stored, and %s was only looked at\n\n", v.Credential, oneLine(v.Requester), v.Device)
	clock := "by its clock, too"
	if p.Skew != 0 {
		clock = fmt.Sprintf("%s by its clock, which is off by %s", stamp(p.DeviceBackstop), p.Skew)
	}
	uid := ""
	if v.UID != 0 {
		uid = fmt.Sprintf("%d, the next free one", v.UID)
	}
	account, ends := v.AccountPattern+", such as "+v.Account, "at the latest at "+stamp(p.Backstop)+" ("+clock+")"
	if !p.Creates {
		account = v.Account + ", which exists and stays"
	}
	if p.Backstop.IsZero() {
		ends = "not by itself: what " + v.Create.Template + " gives lasts until runner takes it back"
	}
	fields(w, field{"allowed", v.Because}, field{"account", account}, field{"uid", uid},
		field{"device", v.Device + ", " + v.Peer}, field{"for", span(p.For) + ", when it is made now until " + stamp(p.Expires)},
		field{"device ends it", ends}, field{"requester gets", v.Secret})
	for _, n := range v.Notes {
		_, _ = fmt.Fprintln(w, "note: "+oneLine(n))
	}
	section(w, "now: "+v.Create.Template)
	a.values(w, v.Create.Params, v.Create.Vars)
	_, _ = fmt.Fprintln(w)
	for _, s := range v.Create.Checked {
		what := map[string]string{string(executor.Changed): "would change", string(executor.OK): "nothing to do"}[s.Status]
		if what == "" {
			what = s.Status
		}
		if said := cmp.Or(s.Reason, s.Message); said != "" {
			what += ": " + oneLine(said)
		}
		_, _ = fmt.Fprintf(w, "%3d  %s (%s): %s\n", s.N, oneLine(s.Name), s.Module, what)
	}
	describeDiffs(w, v.Create.Diffs, true)
	section(w, "at the removal: "+v.Remove.Template)
	a.values(w, v.Remove.Params, v.Remove.Vars)
	describePlan(w, &v.Remove.planJSON, true)
}
