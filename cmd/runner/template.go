package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"runner/engine/lang"
	"runner/engine/template"
	"runner/templates"
)

// templateJSON is a template that can be used.
type templateJSON struct {
	Kind        string      `json:"kind"`
	Name        string      `json:"name"`
	Origin      string      `json:"origin"`
	Enabled     bool        `json:"enabled"`
	Platform    string      `json:"platform"`
	Executor    string      `json:"executor"`
	Description string      `json:"description,omitempty"`
	Removal     string      `json:"removal,omitempty"`
	File        string      `json:"file"`
	Hash        string      `json:"hash"`
	Params      []paramJSON `json:"params"`
	// Verified is what the latest verifications came to, one for each system.
	Verified []verifiedJSON `json:"verified"`
}

// paramJSON is a value that a template takes.
type paramJSON struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Doc       string `json:"doc,omitempty"`
	Required  bool   `json:"required"`
	Generated bool   `json:"generated"`
}

func (a *app) templateCommand() *cobra.Command {
	return a.noun("template", "look at templates, check them, try them, run one",
		"runner template list\nrunner template check\nrunner template verify create/linux-user\nrunner template run create/linux-user --device web-1 -p username=ana --check",
		a.templateList(), a.templateShow(), a.templateCheck(), a.templateVerify(), a.templateExplain(), a.templateRun(), a.templateDocs(), a.templateSchema())
}

func (a *app) templateSchema() *cobra.Command {
	return leaf{
		use: "schema", short: "print the JSON Schema of templates, for editors",
		example: "runner template schema > templates/schema.json",
		long: `It is JSON Schema draft-07, made of the tables by which templates are read and of the
modules. runner init writes it into a workspace; templates name it in their first line:
# yaml-language-server: $schema=../schema.json`,
		run: func(context.Context, []string) error {
			reg, err := a.reg()
			if err != nil {
				return err
			}
			text, err := template.Schema(reg)
			if err == nil {
				_, err = a.stdout.Write(text)
			}
			return err
		},
	}.command()
}

func (a *app) templateList() *cobra.Command {
	return leaf{
		use: "list", short: "list the templates that can be used, and where they come from",
		example: "runner template list\nrunner template list -o json",
		long:    "A template of the workspace beats a shipped one of the same kind and name.",
		exits:   []int{exitFile},
		run: func(ctx context.Context, _ []string) error {
			lib, ps, err := a.templates()
			if err != nil {
				return err
			}
			stamps := a.stamps(ctx)
			hash := func(kind template.Kind, name string) string {
				if t, err := lib.Get(kind, name); err == nil {
					return t.Hash
				}
				return ""
			}
			views := []templateJSON{}
			t := table{head: []string{"TEMPLATE", "ORIGIN", "PLATFORM", "ENABLED", "VERIFIED", "DESCRIPTION"}}
			for _, tpl := range lib.All() {
				v := viewTemplate(tpl)
				v.Verified = verifiedOf(tpl, stamps, hash)
				views = append(views, v)
				t.add(false, v.Kind+"/"+v.Name, v.Origin, v.Platform, strconv.FormatBool(v.Enabled), verifiedText(v.Verified), cut(oneLine(v.Description), 80))
			}
			if err := a.answer(views, func(w io.Writer) { a.table(w, t) }); err != nil {
				return err
			}
			return ps.Err()
		},
	}.command()
}

func viewTemplate(t *template.Template) templateJSON {
	v := templateJSON{
		Kind: string(t.Kind), Name: t.Name, Origin: t.Origin, Enabled: t.Enabled, Platform: t.Platform, Executor: t.Executor,
		Description: strings.TrimSpace(t.Description), Removal: t.Removal, File: t.File, Hash: t.Hash, Params: []paramJSON{},
	}
	for _, p := range t.Params {
		v.Params = append(v.Params, paramJSON{
			Name: p.Name, Type: p.Type.String(), Doc: p.Doc,
			Required: !p.Optional && p.Default == nil && p.Generate == nil, Generated: p.Generate != nil,
		})
	}
	return v
}

// findTemplate loads one template without reading the others: kind/name, or
// the path of a file.
func (a *app) findTemplate(name string) (*template.Template, error) {
	if ext := filepath.Ext(name); ext == ".yaml" || ext == ".yml" {
		text, err := os.ReadFile(name) //nolint:gosec // files that the user may read anyway
		if err != nil {
			return nil, usagef("%v", err)
		}
		return a.loadTemplate(name, "", text)
	}
	kind, base, found := strings.Cut(name, "/")
	if !found || !slices.Contains(templateKinds, kind) {
		return nil, usagef("template %q: name it by kind and name, such as create/linux-user, or by the path of its file", name)
	}
	w, err := a.anyWorkspace()
	if err != nil {
		return nil, err
	}
	shipped := true
	if w != nil {
		own := filepath.Join(w.dir, "templates", kind, base+".yaml")
		if text, err := os.ReadFile(own); err == nil { //nolint:gosec // files that the user may read anyway
			return a.loadTemplate(own, template.Workspace, text)
		}
		// Only a template that the workspace does not have at all is a shipped one.
		shipped = !exists(filepath.Join(w.dir, "templates", kind, base+".yml"))
	}
	if shipped {
		if text, err := fs.ReadFile(templates.FS, kind+"/"+base+".yaml"); err == nil {
			return a.loadTemplate("templates/"+kind+"/"+base+".yaml", template.Shipped, text)
		}
	}
	return a.searchTemplate(kind, base)
}

func (a *app) loadTemplate(file, origin string, text []byte) (*template.Template, error) {
	reg, err := a.reg()
	if err != nil {
		return nil, err
	}
	from := template.Below("", templates.FS)
	if origin != template.Shipped {
		from = template.Below(template.Around(file), templates.FS)
	}
	t, ps := template.LoadWith(file, text, from, reg)
	if err := ps.Err(); err != nil {
		return nil, err
	}
	t.Origin = origin
	return t, nil
}

var templateKinds = []string{string(template.Create), string(template.Delete), string(template.Elevate)}

// searchTemplate loads every template; its error suggests another name.
func (a *app) searchTemplate(kind, name string) (*template.Template, error) {
	lib, _, err := a.templates()
	if err != nil {
		return nil, err
	}
	t, err := lib.Get(template.Kind(kind), name)
	if _, is := errors.AsType[lang.Problems](err); err != nil && !is {
		return nil, usagef("%v", err)
	}
	return t, err
}
