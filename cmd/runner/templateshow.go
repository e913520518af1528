package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"runner/engine/store"
	"runner/engine/template"
)

// verifiedJSON is what the latest verification of a pair on a system came to.
type verifiedJSON struct {
	With    string    `json:"with"` // the other template
	OS      string    `json:"os"`
	At      time.Time `json:"at"`
	Runner  string    `json:"runner"`
	OK      bool      `json:"ok"`
	Cases   int       `json:"cases"`
	Failed  int       `json:"failed"`
	Changed bool      `json:"changed_since"` // one of the two is another text now
}

// showJSON is a template with its steps.
type showJSON struct {
	templateJSON

	Steps   []showStepJSON `json:"steps"`
	Revert  []showStepJSON `json:"revert,omitempty"`
	Renew   []showStepJSON `json:"renew,omitempty"`
	Outputs []outputJSON   `json:"outputs"`
}

// showStepJSON is a step; those of a block follow it.
type showStepJSON struct {
	N      int    `json:"n,omitempty"` // as executions count: blocks have none
	Name   string `json:"name"`
	Module string `json:"module,omitempty"`
	When   string `json:"when,omitempty"`
	Line   int    `json:"line"`
	// Of steps that the template includes, and of those that include them.
	File    string `json:"file,omitempty"`
	Include string `json:"include,omitempty"`
}

// outputJSON is a value that a template hands on.
type outputJSON struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

func (a *app) templateShow() *cobra.Command {
	return leaf{
		use: "show TEMPLATE", short: "tell what a template takes and does, and how it was verified",
		example: "runner template show create/linux-user\nrunner template show ./templates/create/my-user.yaml -o json",
		args:    needs("TEMPLATE"), exits: []int{exitFile},
		run: func(ctx context.Context, args []string) error {
			t, err := a.findTemplate(args[0])
			if err != nil {
				return err
			}
			v := showJSON{templateJSON: viewTemplate(t), Outputs: []outputJSON{}}
			v.Verified = a.verified(ctx, t)
			v.Steps, v.Revert, v.Renew = showSteps(t, t.Steps), showSteps(t, t.Revert), showSteps(t, t.Renew)
			for _, o := range t.Outputs {
				v.Outputs = append(v.Outputs, outputJSON{o.Name, o.Type.String()})
			}
			return a.answer(v, func(w io.Writer) { a.describeTemplate(w, &v) })
		},
	}.command()
}

// showSteps lists steps, those of blocks as well.
func showSteps(t *template.Template, steps []*template.Step) []showStepJSON {
	out := []showStepJSON{}
	n := 0
	for _, s := range everyStep(steps) {
		v := showStepJSON{Name: s.Name, Line: s.Pos.Line}
		if s.Pos.File != t.File {
			v.File = s.Pos.File
		}
		if s.Include != nil {
			v.Include = s.Include.File
		}
		if s.When != nil {
			v.When = s.When.Text()
		}
		if s.Module != nil {
			n++
			v.N, v.Module = n, s.Module.Name
		}
		out = append(out, v)
	}
	return out
}

func (a *app) describeTemplate(w io.Writer, v *showJSON) {
	about := []field{
		{"template", v.Kind + "/" + v.Name},
		{"description", v.Description},
		{"origin", v.Origin},
		{"file", v.File},
		{"hash", v.Hash[:12]},
		{"platform", v.Platform},
		{"enabled", strconv.FormatBool(v.Enabled)},
		{"removal", v.Removal},
	}
	for _, x := range v.Verified {
		about = append(about, field{"verified", x.text() + ", with " + x.With + ", by runner " + x.Runner})
	}
	fields(w, about...)
	if len(v.Params) > 0 {
		section(w, "Params")
		t := table{head: []string{"NAME", "TYPE", "NEEDED", "WHAT"}}
		for _, p := range v.Params {
			need := "no"
			if p.Required {
				need = "yes"
			} else if p.Generated {
				need = "made"
			}
			t.add(false, p.Name, p.Type, need, p.Doc)
		}
		a.table(w, t)
	}
	for _, part := range []struct {
		title string
		steps []showStepJSON
	}{{"Steps", v.Steps}, {"Revert", v.Revert}, {"Renew", v.Renew}} {
		if len(part.steps) == 0 {
			continue
		}
		section(w, part.title)
		t := table{head: []string{"N", "STEP", "MODULE", "WHEN", "LINE"}}
		for _, s := range part.steps {
			n, module := strconv.Itoa(s.N), s.Module
			switch {
			case s.Include != "":
				n, module = "", "include "+s.Include
			case s.N == 0:
				n, module = "", "block"
			}
			line := strconv.Itoa(s.Line)
			if s.File != "" {
				line += " of " + s.File
			}
			t.add(false, n, s.Name, module, s.When, line)
		}
		a.table(w, t)
	}
	if len(v.Outputs) > 0 {
		section(w, "Outputs")
		for _, o := range v.Outputs {
			_, _ = fmt.Fprintf(w, "%s (%s)\n", o.Name, o.Type)
		}
	}
}

// stamps returns the verifications that the workspace keeps; without one, or
// when they cannot be read, there are none.
func (a *app) stamps(ctx context.Context) []store.Verification {
	w, err := a.anyWorkspace()
	if err != nil || w == nil || !exists(filepath.Join(w.state(), "runner.db")) {
		return nil
	}
	s, err := a.store()
	if errors.Is(err, fs.ErrPermission) {
		return nil // the state is not for everybody who may read templates
	}
	if err != nil {
		a.warn("what was verified is not shown: %v", err)
		return nil
	}
	list, err := s.Verifications(ctx)
	if err != nil {
		a.warn("what was verified is not shown: %v", err)
	}
	return list
}

// verified tells how a template was verified, as a creation or as a removal.
func (a *app) verified(ctx context.Context, t *template.Template) []verifiedJSON {
	other := func(kind template.Kind, name string) string {
		if o, err := a.findTemplate(string(kind) + "/" + name); err == nil {
			return o.Hash
		}
		return ""
	}
	return verifiedOf(t, a.stamps(ctx), other)
}

// verifiedOf picks what is about t. hash returns the hash of another template
// as it is now.
func verifiedOf(t *template.Template, stamps []store.Verification, hash func(kind template.Kind, name string) string) []verifiedJSON {
	out := []verifiedJSON{}
	for _, s := range stamps {
		v := verifiedJSON{OS: s.OS, At: s.At, Runner: s.Runner, OK: s.Failed == 0, Cases: s.Cases, Failed: s.Failed}
		switch {
		case t.Kind == template.Create && s.Template == t.Name:
			v.With = "delete/" + s.Removal
			v.Changed = s.Hash != t.Hash || s.Removal != t.Removal || hash(template.Delete, s.Removal) != s.RemovalHash
		case t.Kind == template.Delete && s.Removal == t.Name:
			v.With = "create/" + s.Template
			v.Changed = s.RemovalHash != t.Hash || hash(template.Create, s.Template) != s.Hash
		default:
			continue
		}
		out = append(out, v)
	}
	return out
}

// text says it in a few words.
func (v *verifiedJSON) text() string {
	day := v.At.Format(time.DateOnly)
	switch {
	case v.Changed:
		return "changed since " + day
	case !v.OK:
		return fmt.Sprintf("failed %s on %s (%d of %d)", day, v.OS, v.Failed, v.Cases)
	}
	return day + " on " + v.OS
}

// verifiedText is the cell of a list.
func verifiedText(vs []verifiedJSON) string {
	var texts []string
	for i := range vs {
		if t := vs[i].text(); !slices.Contains(texts, t) { // a removal may be that of several
			texts = append(texts, t)
		}
	}
	return strings.Join(texts, ", ")
}
