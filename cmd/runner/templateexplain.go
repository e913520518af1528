package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"runner/engine"
	"runner/engine/executor"
	"runner/engine/module"
	"runner/engine/template"
)

// explainJSON is what a run of a template would do.
type explainJSON struct {
	Template   string             `json:"template"` // kind/name@hash
	Device     string             `json:"device"`
	Credential string             `json:"credential"`
	Connected  bool               `json:"connected"` // the device was asked
	Params     []explainParamJSON `json:"params"`
	Vars       []explainParamJSON `json:"vars"`
	Facts      map[string]any     `json:"facts,omitempty"`

	planJSON
}

// planJSON is what steps would do.
type planJSON struct {
	Batches []batchJSON       `json:"batches"`
	Steps   []explainStepJSON `json:"steps"`
}

// explainParamJSON is a value and who set it.
type explainParamJSON struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Value string `json:"value"`
	From  string `json:"from"` // request, credential, template, generated, absent
}

// batchJSON is what goes to the device in one go.
type batchJSON struct {
	N       int    `json:"n"`
	Steps   []int  `json:"steps"`
	Account string `json:"account"` // that the steps run as; empty: the login account
	Program string `json:"program,omitempty"`
}

// explainStepJSON is what one step would do.
type explainStepJSON struct {
	N          int             `json:"n"`
	Name       string          `json:"name"`
	Module     string          `json:"module"`
	Within     string          `json:"within,omitempty"`
	Where      string          `json:"where"` // device, runner, nowhere
	Batch      int             `json:"batch,omitempty"`
	Why        string          `json:"why,omitempty"`
	Conditions []conditionJSON `json:"conditions"`
	Arguments  []argumentJSON  `json:"arguments"`
	Changes    []objectJSON    `json:"changes"`
	Undo       string          `json:"undo,omitempty"` // as written
	Probe      string          `json:"probe,omitempty"`
}

// conditionJSON is a condition of a step and who decides it.
type conditionJSON struct {
	Key    string `json:"key"`
	Text   string `json:"text"`
	By     string `json:"by"` // plan, device, runner
	Folded string `json:"folded"`
	Now    string `json:"now,omitempty"`
}

// argumentJSON is an argument of a step and who knows its value.
type argumentJSON struct {
	Name    string `json:"name"`
	Written string `json:"written"`
	Value   string `json:"value"`
	By      string `json:"by"`
}

// objectJSON is a thing on the device that a step may change.
type objectJSON struct {
	Object string       `json:"object"`
	Undo   *module.Undo `json:"undo,omitempty"`
	Now    string       `json:"now,omitempty"`
}

// templateExplain is an explanation that was asked for.
type templateExplain struct {
	templateRun

	facts, program bool
}

func (a *app) templateExplain() *cobra.Command {
	x := &templateExplain{templateRun: templateRun{app: a}}
	c := leaf{
		use: "explain TEMPLATE (--device DEVICE | --credential CREDENTIAL)", short: "tell what a run of a template would do, and send nothing",
		example: `runner template explain create/linux-user --device web-1 -p username=ana -p uid=71000
runner template explain create/linux-user --device web-1 -p username=ana -p uid=71000 --facts
runner template explain ./my-template.yaml --credential web-admin --program`,
		long: `It shows who set each value (a request beats the credential, which beats the template),
which conditions are decided already, what goes to the device in one go, what each step
may change there and how that would be undone. Nothing is connected to, unless --facts
says so: then the device is asked how things are now, and nothing is changed.`,
		args: needs("TEMPLATE"), exits: []int{exitFile, exitDenied, exitUnreached, exitInterrupted},
		run: func(ctx context.Context, args []string) error { return x.explain(ctx, args[0]) },
	}.command()
	x.where(c)
	fs := c.Flags()
	fs.BoolVar(&x.facts, "facts", false, "connect, and look at the device")
	fs.BoolVar(&x.program, "program", false, "also print the program that each batch is on the device, secrets masked")
	return c
}

func (x *templateExplain) explain(ctx context.Context, name string) error {
	a := x.app
	given, err := readParams(x.params, a.stdin)
	if err != nil {
		return err
	}
	if err := a.operatorOnly("explain templates on a device"); err != nil {
		return err
	}
	t, err := a.findTemplate(name)
	if err != nil {
		return err
	}
	if err := given.fit(t); err != nil {
		return err
	}
	at, err := x.target()
	if err != nil {
		return err
	}
	if err := x.standIn(t, at, given); err != nil {
		return err
	}
	w, err := a.workspace()
	if err != nil {
		return err
	}
	reg, err := a.reg()
	if err != nil {
		return err
	}
	e := &engine.Engine{Modules: reg, Now: a.now, Log: a.log, Dialer: a.dialer(w)}
	run := engine.AdHoc{Template: t, Connection: at.conn, Params: given.values, Defaults: at.params, Account: x.account, UID: x.uid, NoFuse: x.noFuse, FromStep: x.fromStep, Only: x.only, Except: x.except}
	got, err := e.Explain(ctx, run, x.facts)
	if err != nil {
		return err
	}
	v := explainJSON{
		Template: string(t.Kind) + "/" + t.Name + "@" + t.Hash[:12], Device: at.conn.Device, Credential: at.credential, Connected: x.facts,
		Params: viewValues(got.Params), Vars: viewValues(got.Vars), Facts: got.Facts, planJSON: viewPlan(got.Plan, got.Programs, x.program),
	}
	return a.answer(v, func(w io.Writer) { a.describeExplain(w, t, &v) })
}

func viewValues(vs []engine.ExplainedValue) []explainParamJSON {
	out := []explainParamJSON{}
	for _, v := range vs {
		out = append(out, explainParamJSON{Name: v.Name, Type: v.Type, Value: v.Value, From: v.From})
	}
	return out
}

func viewPlan(p *executor.Plan, programs []string, full bool) planJSON {
	v := planJSON{Batches: []batchJSON{}, Steps: []explainStepJSON{}}
	for i, b := range p.Batches {
		batch := batchJSON{N: i + 1, Steps: b.Steps, Account: b.Batch.Become}
		if full && i < len(programs) {
			batch.Program = programs[i]
		}
		v.Batches = append(v.Batches, batch)
	}
	for _, s := range p.Steps {
		j := explainStepJSON{
			N: s.N, Name: s.Name, Module: s.Module, Within: s.Within, Where: s.Where, Batch: s.Batch, Why: s.Why, Undo: s.Undo, Probe: s.Probe,
			Conditions: []conditionJSON{}, Arguments: []argumentJSON{}, Changes: []objectJSON{},
		}
		for _, c := range s.Conditions {
			j.Conditions = append(j.Conditions, conditionJSON(c))
		}
		for _, g := range s.Args {
			j.Arguments = append(j.Arguments, argumentJSON(g))
		}
		for _, o := range s.Objects {
			j.Changes = append(j.Changes, objectJSON{Object: o.ID, Undo: o.Undo, Now: o.Now})
		}
		v.Steps = append(v.Steps, j)
	}
	return v
}

// describeExplain prints what a run would do.
func (a *app) describeExplain(w io.Writer, t *template.Template, v *explainJSON) {
	asked := "nothing was sent to it"
	if v.Connected {
		asked = "it was only looked at"
	}
	_, _ = fmt.Fprintf(w, "%s on %s: %s in %s; %s\n", v.Template, v.Device, plural(len(v.Steps), "step"), plurals(len(v.Batches), "batch", "batches"), asked)
	if t.Become != "" {
		_, _ = fmt.Fprintf(w, "the steps run as %s\n", t.Become)
	}
	for _, name := range []string{"os_family", "version", "hostname", "sudo", "sshd"} {
		if f := v.Facts[name]; f != nil && f != "" {
			_, _ = fmt.Fprintf(w, "  %s: %s\n", name, oneLine(fmt.Sprint(f)))
		}
	}
	_, _ = fmt.Fprintln(w)
	a.values(w, v.Params, v.Vars)
	describePlan(w, &v.planJSON, t.Kind == template.Delete)
}

// values prints params and vars, and who set each.
func (a *app) values(w io.Writer, params, vars []explainParamJSON) {
	if len(params)+len(vars) == 0 {
		return
	}
	rows := table{head: []string{"VALUE", "IS", "SET BY"}}
	for _, p := range params {
		rows.add(false, "params."+p.Name, cut(oneLine(p.Value), 60), p.From)
	}
	for _, p := range vars {
		rows.add(false, "vars."+p.Name, cut(oneLine(p.Value), 60), p.From)
	}
	a.table(w, rows)
}

// plurals is plural for words with a plural of their own.
func plurals(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// describePlan prints steps, batch by batch. A removal is never undone.
func describePlan(w io.Writer, p *planJSON, removal bool) {
	batch := -1
	within := ""
	for _, s := range p.Steps {
		if s.Where == executor.OnDevice && s.Batch != batch {
			batch = s.Batch
			section(w, fmt.Sprintf("batch %d of %d%s", batch, len(p.Batches), otherAccount(p.Batches, batch)))
		} else if batch == -1 {
			batch = 0
			_, _ = fmt.Fprintln(w)
		}
		if s.Within != within {
			within = s.Within
			if within != "" {
				_, _ = fmt.Fprintf(w, "  in %s\n", oneLine(within))
			}
		}
		describePlanned(w, &s, removal)
	}
	for _, b := range p.Batches {
		if b.Program != "" {
			section(w, fmt.Sprintf("program of batch %d", b.N))
			_, _ = io.WriteString(w, b.Program)
		}
	}
}

// otherAccount says as whom a batch runs when not all run as the same.
func otherAccount(batches []batchJSON, n int) string {
	own := batches[n-1].Account
	switch {
	case !slices.ContainsFunc(batches, func(b batchJSON) bool { return b.Account != own }):
		return ""
	case own == "":
		return ", as the login account"
	}
	return ", as " + own
}

func describePlanned(out io.Writer, s *explainStepJSON, removal bool) {
	w := &strings.Builder{}
	defer func() {
		text := w.String()
		if s.Within != "" {
			text = "  " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n  ") + "\n"
		}
		_, _ = io.WriteString(out, text)
	}()
	head := fmt.Sprintf("%3d  %s (%s)", s.N, oneLine(s.Name), s.Module)
	switch {
	case s.Where == executor.Nowhere:
		_, _ = fmt.Fprintf(w, "%s: skipped, %s\n", head, oneLine(s.Why))
		return
	case s.Where == executor.OnRunner && s.Why != "":
		head += ", decided now: " + oneLine(s.Why)
	case s.Where == executor.OnRunner:
		head += ", by runner itself"
	}
	_, _ = fmt.Fprintln(w, head)
	for _, c := range s.Conditions {
		_, _ = fmt.Fprintf(w, "       %s: %s\n", c.Key, describeCondition(c))
	}
	for _, g := range s.Arguments {
		_, _ = fmt.Fprintf(w, "       %s\n", describeArgument(g))
	}
	for _, o := range s.Changes {
		_, _ = fmt.Fprintf(w, "       may change %s\n", describeObject(o, removal))
	}
	if s.Probe != "" {
		_, _ = fmt.Fprintf(w, "       looked at by the script: %s\n", cut(oneLine(s.Probe), 80))
	}
	if s.Undo != "" {
		_, _ = fmt.Fprintf(w, "       undone by the script: %s\n", cut(oneLine(s.Undo), 80))
	}
}

func describeCondition(c conditionJSON) string {
	text := oneLine(c.Text)
	switch c.By {
	case executor.ByPlan:
		return text + " is " + c.Folded
	case executor.ByDevice:
		text += ", decided on the device"
	default:
		text += ", decided by runner when the device has answered"
	}
	if c.Folded != c.Text {
		text += "; left of it: " + oneLine(c.Folded)
	}
	if c.Now != "" {
		text += "; now it is " + c.Now
	}
	return text
}

func describeArgument(g argumentJSON) string {
	value := cut(oneLine(g.Value), 80)
	if g.Value == "" {
		value = "''"
	}
	if g.Written == g.Value || g.By != executor.ByPlan && "<"+strings.Trim(g.Written, "{} ")+">" == g.Value {
		return g.Name + ": " + value
	}
	return g.Name + ": " + value + "   # " + cut(oneLine(g.Written), 60)
}

func describeObject(o objectJSON, removal bool) string {
	text := oneLine(o.Object)
	if o.Now != "" {
		text += ", now " + cut(oneLine(o.Now), 40)
	}
	switch {
	case o.Undo == nil && removal:
		return text
	case o.Undo == nil:
		return text + "; not undone"
	}
	var args []string
	for _, name := range slices.Sorted(maps.Keys(o.Undo.Args)) {
		if name == "_want" || strings.HasPrefix(name, "_probe") {
			continue // the probe has a line of its own
		}
		args = append(args, name+": "+oneLine(fmt.Sprint(o.Undo.Args[name])))
	}
	return text + "; if it was absent before, undone by " + o.Undo.Module + " {" + strings.Join(args, ", ") + "}"
}
