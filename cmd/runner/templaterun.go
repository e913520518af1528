package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"runner/engine"
	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/template"
	"runner/engine/transport"
)

// runJSON is what became of an ad hoc run.
type runJSON struct {
	executionJSON

	Outputs   map[string]any `json:"outputs"`
	Undone    []string       `json:"undone"`
	Conflicts []string       `json:"conflicts"`
	Diffs     []diffJSON     `json:"diffs"` // with --diff
}

// diffJSON is a thing on the device that a step changed, or would change.
type diffJSON struct {
	Step   int    `json:"step"`
	Object string `json:"object"`
	Before string `json:"before"`
	After  string `json:"after"`
	Hidden bool   `json:"hidden"`
}

// templateRun is an ad hoc run that was asked for.
type templateRun struct {
	app                  *app
	devices, credentials []string // names and patterns
	params               []string
	check, noFuse        bool
	diff                 bool
	fromStep             int
	only, except         []string
	account              string
	uid                  int64
	parallel             int
}

func (a *app) templateRun() *cobra.Command {
	r := &templateRun{app: a}
	c := leaf{
		use: "run TEMPLATE (--device DEVICE | --credential CREDENTIAL)", short: "run a template on devices, without a grant",
		example: `runner template run create/linux-user --device web-1 -p username=ana --check --diff
runner template run create/linux-user --device 'web-*,db-1' -p username=ana --parallel 20
runner template run ./templates/create/plain-user.yaml --credential web-admin --account ana --uid 71000`,
		long: `TEMPLATE is kind/name or the path of a file. There is no grant, so nothing removes
what the template makes; --account and --uid are what it reads as grant.account and
grant.uid. When a step fails, what the run changed is undone, unless the template says
on_failure: keep, or deletes. --diff shows files and accounts before and after, but
never a password, nor what a step with no_log does.
--device and --credential take several names and patterns. The devices are worked on
side by side, each by itself: one that fails holds up none of the others. The exit code
is that of the worst.`,
		args: needs("TEMPLATE"), exits: []int{exitFile, exitDenied, exitUnreached, exitUndone, exitLeft, exitInterrupted},
		run: func(ctx context.Context, args []string) error { return r.run(ctx, args[0]) },
	}.command()
	r.where(c)
	c.Flags().BoolVar(&r.check, "check", false, "change nothing, say what would be changed")
	c.Flags().BoolVar(&r.diff, "diff", false, "show what is changed, or with --check would be, before and after")
	c.Flags().IntVar(&r.parallel, "parallel", 50, "devices to work on at the same time, 1 to 1000")
	return c
}

// where adds the flags that say what to run, and on which device.
func (r *templateRun) where(c *cobra.Command) {
	fs := c.Flags()
	fs.StringSliceVar(&r.devices, "device", nil, "the device, with its only credential")
	fs.StringSliceVar(&r.credentials, "credential", nil, "the device of this credential, logged in as it says, with its params")
	fs.StringArrayVarP(&r.params, "param", "p", nil, "parameter of the template, key=value or key=@FILE")
	fs.StringVar(&r.account, "account", "", "what the template reads as grant.account (default: the param username)")
	fs.Int64Var(&r.uid, "uid", 0, "what it reads as grant.uid (default: the param uid)")
	fs.BoolVar(&r.noFuse, "no-fuse", false, "send each step by itself instead of all that can go together")
	fs.IntVar(&r.fromStep, "from-step", 0, "skip the steps before this one")
	fs.StringSliceVar(&r.only, "tags", nil, "run only the steps with one of these tags, and those tagged always")
	fs.StringSliceVar(&r.except, "skip-tags", nil, "skip the steps with one of these tags")
}

func (r *templateRun) run(ctx context.Context, name string) error {
	a := r.app
	given, err := readParams(r.params, a.stdin)
	if err != nil {
		return err
	}
	if err := a.operatorOnly("run templates without a grant"); err != nil {
		return err
	}
	if r.parallel < 1 || r.parallel > 1000 {
		return usagef("--parallel is %d: it goes from 1 to 1000", r.parallel)
	}
	resolve := sync.OnceValues(r.targets)
	w, err := a.workspace()
	if err != nil {
		return err
	}
	late := a.lazyStore()
	dialled := r.begin(ctx, w, resolve, late) // reads inventories and connects while the template is read
	t, err := a.findTemplate(name)
	if err != nil {
		return err
	}
	if err := given.fit(t); err != nil {
		return err
	}
	targets, err := resolve()
	if err != nil {
		return err
	}
	for _, at := range targets {
		if err := r.standIn(t, at, given); err != nil {
			return err
		}
	}
	e, err := a.wire(late)
	if err != nil {
		return err
	}
	e.Node = nodeName()
	run := engine.AdHoc{Template: t, Params: given.values, Account: r.account, UID: r.uid, NoFuse: r.noFuse, FromStep: r.fromStep, Only: r.only, Except: r.except, Diff: r.diff}
	if r.check {
		run.Mode = transport.Check
	}
	if len(targets) > 1 {
		return r.fleet(ctx, e, run, targets)
	}
	run.Connection, run.Defaults, run.Dialled = targets[0].conn, targets[0].params, dialled
	res, err := e.RunTemplate(ctx, run)
	return r.conclude(ctx, t, &res, err)
}

// begin connects in the background when there is one device, and opens the store
// meanwhile. What it returns waits for the connection; one that nobody asks for
// is closed with the dialer.
func (r *templateRun) begin(ctx context.Context, w *workspace, resolve func() ([]runTarget, error), late *lazyStore) func() (transport.Conn, error) {
	type dialled struct {
		conn transport.Conn
		err  error
	}
	done := make(chan dialled, 1)
	go func() {
		var d dialled
		targets, err := resolve()
		late.begin()
		if d.err = err; len(targets) == 1 {
			d.conn, d.err = r.app.dialer(w).Dial(ctx, targets[0].conn)
		}
		done <- d
	}()
	return func() (transport.Conn, error) {
		d := <-done
		return d.conn, d.err
	}
}

// conclude prints what became of the run.
func (r *templateRun) conclude(ctx context.Context, t *template.Template, res *engine.AdHocResult, err error) error {
	a := r.app
	if isUsage(err) {
		return err
	}
	v := r.view(res, err)
	perr := a.answer(v, func(w io.Writer) {
		fields(w, field{"execution", v.ID}, field{"outcome", v.Outcome}, field{"device", v.Device}, field{"steps", stepCounts(res.Steps)},
			field{"took", short(took(&res.Execution, a.now())) + ", " + short(res.Execution.Connect) + " of it to connect"})
		for _, name := range slices.Sorted(maps.Keys(res.Outputs)) {
			_, _ = fmt.Fprintf(w, "output %s: %s\n", name, oneLine(fmt.Sprint(res.Outputs[name])))
		}
		describeDiffs(w, v.Diffs, r.check)
	})
	if err == nil || perr != nil {
		return perr
	}
	return r.explain(ctx, t, res, err)
}

// view is what became of a run, for programs.
func (r *templateRun) view(res *engine.AdHocResult, err error) runJSON {
	if err != nil || r.check {
		res.Outputs = map[string]any{} // what they are made of did not come about, or was undone
	}
	v := runJSON{
		executionJSON: viewExecution(&res.Execution, res.Steps, r.app.now()), Outputs: res.Outputs,
		Undone: append([]string{}, res.Undone...), Conflicts: append([]string{}, res.Conflicts...), Diffs: []diffJSON{},
	}
	for _, d := range res.Diffs {
		v.Diffs = append(v.Diffs, viewDiff(d))
	}
	return v
}

// stepCounts says how many steps ended how: ok=3 changed=2.
func stepCounts(steps []grant.StepResult) string {
	n := map[string]int{}
	for _, s := range steps {
		n[s.Status]++
	}
	var words []string
	for _, word := range []string{"ok", "changed", "skipped", "failed", "unreachable", "interrupted"} {
		if n[word] > 0 {
			words = append(words, fmt.Sprintf("%s=%d", word, n[word]))
		}
	}
	return strings.Join(words, " ")
}

// explain says what is left after a run that failed, and returns the code.
func (r *templateRun) explain(ctx context.Context, t *template.Template, res *engine.AdHocResult, err error) *codeError {
	a := r.app
	out := &codeError{code: codeOf(err), err: fmt.Errorf("%s: %w", res.Execution.Device, err)}
	if te, is := errors.AsType[*transport.Error](err); is {
		if te.Hint != "" {
			out.hints = append(out.hints, te.Hint)
		}
		if !te.SafeToRetry {
			out.code = exitLeft
			out.hints = append(out.hints, "it is not known how far the device came; nothing cleans up after an ad hoc run")
		}
	}
	_, step := errors.AsType[*executor.StepError](err)
	switch {
	case !step || r.check:
	case t.Kind == template.Delete:
		out.code = exitLeft
		out.hints = append(out.hints, "what a delete template does is never undone; run it again when the cause is mended")
	case t.OnFailure == "keep":
		out.code = exitLeft
		out.hints = append(out.hints, "the template says on_failure: keep, so what it changed was left")
	case stepErrors(err) > 1: // the second one is of the undo
		out.code = exitLeft
		out.hints = append(out.hints, "not all of it could be undone; nothing cleans up after an ad hoc run")
	case len(res.Conflicts) > 0:
		out.code = exitLeft
		for _, c := range res.Conflicts {
			a.say("left on %s: %s, which somebody else changed since", res.Execution.Device, oneLine(plainObject(c)))
		}
	default:
		out.code = exitUndone
	}
	for _, u := range res.Undone {
		a.say("undone on %s: %s", res.Execution.Device, oneLine(plainObject(u)))
	}
	if ctx.Err() != nil {
		out.code = exitInterrupted
	}
	if len(res.Steps) > 0 {
		out.hints = append(out.hints, "runner execution show "+res.Execution.ID+" --failed")
	}
	return out
}

// stepErrors counts the steps that failed in err.
func stepErrors(err error) int {
	if _, is := err.(*executor.StepError); is { //nolint:errorlint // the tree is walked here
		return 1
	}
	n := 0
	switch e := err.(type) { //nolint:errorlint // likewise
	case interface{ Unwrap() []error }:
		for _, sub := range e.Unwrap() {
			n += stepErrors(sub)
		}
	case interface{ Unwrap() error }:
		n = stepErrors(e.Unwrap())
	}
	return n
}
