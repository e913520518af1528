package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"runner/engine/lab"
	"runner/engine/store"
	"runner/engine/template"
	"runner/engine/verify"
)

// verifyJSON is what came of a verification.
type verifyJSON struct {
	Template    string     `json:"template"`
	Hash        string     `json:"hash"`
	Removal     string     `json:"removal"`
	RemovalHash string     `json:"removal_hash"`
	Platform    string     `json:"platform"`
	OS          string     `json:"os"`
	Runner      string     `json:"runner"`
	At          time.Time  `json:"at"`
	OK          bool       `json:"ok"`
	Failed      int        `json:"failed"`
	TookMS      int64      `json:"duration_ms"`
	Cases       []caseTold `json:"cases"`
	Untried     string     `json:"untried,omitempty"`
	NotRun      []string   `json:"not_run"`
	Machine     string     `json:"machine,omitempty"` // that goes on running
	Stamped     bool       `json:"stamped"`
}

// caseTold is one case of a verification.
type caseTold struct {
	Name   string     `json:"name"`
	Step   string     `json:"step,omitempty"`
	OK     bool       `json:"ok"`
	Reason string     `json:"reason,omitempty"`
	Left   []leftJSON `json:"left"`
	TookMS int64      `json:"duration_ms"`
}

// leftJSON is one thing in which a machine is not what it has to be.
type leftJSON struct {
	Change string `json:"change"` // added, missing, changed
	Kind   string `json:"kind"`
	Where  string `json:"where,omitempty"`
	What   string `json:"what,omitempty"`
}

// templateVerify is a verification that was asked for.
type templateVerify struct {
	app    *app
	params []string
	only   string
	keep   bool
}

func (a *app) templateVerify() *cobra.Command {
	x := &templateVerify{app: a}
	c := leaf{
		use: "verify CREATE", short: "try a create template and its removal on throw-away machines (Linux, root)",
		example: `runner template verify create/linux-user
runner template verify create/linux-user -p groups=adm -p "sudo=ALL=(ALL) NOPASSWD: /usr/bin/id"
runner template verify ./templates/create/my-user.yaml --only "two grants" --keep`,
		long: `The account is created and deleted as grants do it, on machines that are started for
it and a store that is thrown away: once, with a session in between, twice, in the
wrong order, cut off at each step of both templates, two at once, beside somebody who
has the name or the uid. After each case the whole machine is compared with what it
was: files, lines of files, processes. What is left is named.

The result is kept with the hashes of both templates, and runner template list shows
it. Steps that never ran are named: give the -p that has them run. Params of the
delete template may be given, too.`,
		args: needs("CREATE"), exits: []int{exitFile, exitInterrupted},
		run: func(ctx context.Context, args []string) error { return x.run(ctx, args[0]) },
	}.command()
	fs := c.Flags()
	fs.StringArrayVarP(&x.params, "param", "p", nil, "parameter of the templates, key=value or key=@FILE")
	fs.StringVar(&x.only, "only", "", "only the cases whose name or step holds this text; the result is not kept then")
	fs.BoolVar(&x.keep, "keep", false, "leave a machine running, that of the first case that failed; runner lab shell looks around there")
	return c
}

func (x *templateVerify) run(ctx context.Context, name string) error {
	a := x.app
	given, err := readParams(x.params, a.stdin)
	if err != nil {
		return err
	}
	create, removal, err := a.pair(name)
	if err != nil {
		return err
	}
	for _, t := range []*template.Template{removal, create} {
		if err := given.fit(t); err != nil {
			return err
		}
	}
	for _, key := range given.names() {
		if !hasParam(create, key) && !hasParam(removal, key) {
			return usagef("neither create/%s nor delete/%s has a param %q", create.Name, removal.Name, key)
		}
	}
	reg, err := a.reg()
	if err != nil {
		return err
	}
	cfg := verify.Config{Create: create, Delete: removal, Modules: reg, Params: given.values, Only: x.only, Tell: a.tellCase}
	if err := cfg.Check(); err != nil {
		return usagef("%v", err)
	}
	if err := lab.Require(); err != nil { //nolint:contextcheck // takes no context, and 20 ms
		return usagef("%v", err)
	}
	if x.keep {
		dirs, err := a.labDirs("")
		if err != nil {
			return err
		}
		cfg.Keep = dirs[0]
	}
	a.doing("starting throw-away machines")
	r, err := verify.Run(ctx, cfg)
	if ue, is := errors.AsType[*verify.UsageError](err); is {
		return usagef("%s", ue.Reason)
	}
	if err != nil {
		return err
	}
	return x.conclude(ctx, create, removal, r)
}

func hasParam(t *template.Template, name string) bool {
	return slices.ContainsFunc(t.Params, func(p template.Param) bool { return p.Name == name })
}

// pair loads a create template and the delete template that it names: beside
// it when it was named by its file, else one of the workspace or a shipped one.
func (a *app) pair(name string) (create, removal *template.Template, err error) {
	if create, err = a.findTemplate(name); err != nil {
		return nil, nil, err
	}
	if create.Kind == template.Elevate {
		return nil, nil, usagef("%s/%s is an elevate template, which is rehearsed on the device before each grant; verified on throw-away machines are create templates", create.Kind, create.Name)
	}
	if create.Kind != template.Create {
		return nil, nil, usagef("%s/%s is a %s template: name the create template, and its removal is verified with it", create.Kind, create.Name, create.Kind)
	}
	if removal, err = a.removalOf(create, name); err != nil {
		return nil, nil, err
	}
	return create, removal, template.Check(create, removal).Err()
}

// tellCase shows that a case is over.
func (a *app) tellCase(c verify.Case, n, total int) {
	text := fmt.Sprintf("%d/%d %s", n, total, c.Name)
	if c.Step != "" {
		text += fmt.Sprintf(" %q", oneLine(c.Step))
	}
	if c.OK() && a.errTTY {
		a.doing(text)
		return
	}
	a.say("%s: %s (%s)", text, a.color.status(c.Result()), short(c.Took))
}

// conclude keeps the result, prints it, and returns the code.
func (x *templateVerify) conclude(ctx context.Context, create, removal *template.Template, r *verify.Report) error {
	a := x.app
	v := verifyJSON{
		Template: create.Name, Hash: create.Hash, Removal: removal.Name, RemovalHash: removal.Hash, Platform: create.Platform,
		OS: r.OS, Runner: buildVersion().Version, At: a.now().UTC().Truncate(time.Second), OK: r.Failed() == 0, Failed: r.Failed(), TookMS: r.Took.Milliseconds(),
		Cases: []caseTold{}, Untried: r.Untried, NotRun: append([]string{}, r.NotRun...),
	}
	if r.Machine != "" {
		v.Machine = filepath.Base(r.Machine)
	}
	for _, c := range r.Cases {
		told := caseTold{Name: c.Name, Step: c.Step, OK: c.OK(), Reason: c.Reason, Left: []leftJSON{}, TookMS: c.Took.Milliseconds()}
		for _, l := range c.Left {
			told.Left = append(told.Left, leftJSON(l))
		}
		v.Cases = append(v.Cases, told)
	}
	var serr error
	if v.Stamped, serr = x.stamp(ctx, create, &v); serr != nil {
		a.warn("the result is not kept: %v", serr)
	}
	if err := a.answer(v, func(w io.Writer) { a.describeVerify(w, r, &v) }); err != nil {
		return err
	}
	if v.Machine != "" {
		a.hint("runner lab shell %s looks around on the machine, runner lab down %s ends it", v.Machine, v.Machine)
	}
	if v.OK {
		return nil
	}
	out := &codeError{code: exitFailed, err: fmt.Errorf("create/%s with delete/%s: %s of %d went wrong", create.Name, removal.Name, plural(v.Failed, "case"), len(v.Cases))}
	for _, c := range v.Cases {
		if !c.OK && v.Machine == "" {
			out.hints = append(out.hints, fmt.Sprintf("with --only %q --keep the machine stays, and runner lab shell looks around there", c.Name))
			break
		}
	}
	return out
}

// describeVerify prints the cases, and what went wrong.
func (a *app) describeVerify(w io.Writer, r *verify.Report, v *verifyJSON) {
	t := table{head: []string{"CASE", "STEP", "RESULT", "TOOK"}}
	for _, c := range r.Cases {
		t.add(false, c.Name, c.Step, c.Result(), short(c.Took))
	}
	a.table(w, t)
	for _, c := range r.Cases {
		if c.OK() {
			continue
		}
		title := c.Name
		if c.Step != "" {
			title += fmt.Sprintf(" %q", c.Step)
		}
		_, _ = fmt.Fprintf(w, "\n%s\n  %s\n", a.outColor.red(oneLine(title)), oneLine(c.Reason))
		for _, l := range c.Left {
			_, _ = fmt.Fprintf(w, "  %-8s %s\n", l.Change, oneLine(l.String()))
		}
	}
	_, _ = fmt.Fprintln(w)
	for _, s := range v.NotRun {
		_, _ = fmt.Fprintln(w, "never ran: "+oneLine(s))
	}
	if v.Untried != "" {
		_, _ = fmt.Fprintln(w, v.Untried)
	}
	wrong := "all went well"
	if v.Failed > 0 {
		wrong = fmt.Sprintf("%d went wrong", v.Failed)
	}
	_, _ = fmt.Fprintf(w, "create/%s with delete/%s on %s: %s in %s, %s\n", v.Template, v.Removal, v.OS, plural(len(v.Cases), "case"), short(r.Took), wrong)
}

// stamp keeps the result in the workspace, if there is one whose template this is.
func (x *templateVerify) stamp(ctx context.Context, t *template.Template, v *verifyJSON) (bool, error) {
	a := x.app
	if w, err := a.anyWorkspace(); err != nil || w == nil || x.only != "" {
		return false, err
	}
	if own, err := a.findTemplate("create/" + t.Name); err != nil || own.Hash != t.Hash {
		return false, nil //nolint:nilerr // a file that nobody else would find
	}
	s, err := a.store()
	if err != nil {
		return false, err
	}
	return true, s.PutVerification(ctx, store.Verification{
		Template: v.Template, OS: v.OS, Platform: v.Platform, Hash: v.Hash, Removal: v.Removal, RemovalHash: v.RemovalHash,
		At: v.At, Runner: v.Runner, Cases: len(v.Cases), Failed: v.Failed,
	})
}
