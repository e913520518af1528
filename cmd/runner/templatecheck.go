package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"runner/engine/lang"
	"runner/engine/template"
	"runner/templates"
)

// templatesCheckedJSON is what came of a check. problems is there with --format json.
type templatesCheckedJSON struct {
	Checked  int            `json:"checked"`
	Problems *[]problemJSON `json:"problems,omitempty"`
}

// templateCheck is a check that was asked for.
type templateCheck struct {
	app    *app
	format string
	strict bool
}

func (a *app) templateCheck() *cobra.Command {
	x := &templateCheck{app: a}
	c := leaf{
		use: "check [PATH]...", short: "check templates and say what is wrong with them, and where",
		example: `runner template check
runner template check --strict templates/create/my-user.yaml
runner template check --format sarif >templates.sarif`,
		long: `Without PATH every template of the workspace and every shipped one is checked,
each by itself and against its removal. PATH is a file, or a folder that is searched.
Nothing is connected to.

Problems in a file keep it from being used; what a removal leaves is one of the pair,
which template verify can still try. Warnings are about what is probably not meant; with
--strict they count. Each has a code in brackets: templates/README.md has the list.

--format says how they are written: text on standard error; json, sarif (SARIF 2.1.0)
or github (workflow commands, which GitHub shows beside the lines) on standard output.`,
		args: func(*cobra.Command, []string) error { return nil }, exits: []int{exitFile},
		run: func(_ context.Context, args []string) error {
			if err := x.flags(); err != nil {
				return err
			}
			n, ps, err := x.check(args)
			if err != nil {
				return err
			}
			return x.tell(n, ps)
		},
	}.command()
	c.Flags().StringVar(&x.format, "format", formatText, "how problems are written: text, json, sarif or github")
	c.Flags().BoolVar(&x.strict, "strict", false, "count warnings as problems")
	return c
}

func (x *templateCheck) flags() error {
	switch {
	case !slices.Contains(problemFormats, x.format):
		hint := ""
		if near := lang.Similar(x.format, problemFormats); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		return usagef("--format is %q; it must be %s%s", x.format, lang.Words(problemFormats), hint)
	case x.format != formatText && x.app.machine():
		return usagef("--format %s and -o %s are two forms of one answer; leave one out", x.format, x.app.flags.output)
	}
	return nil
}

// check returns how many templates were looked at, and all that was found.
func (x *templateCheck) check(paths []string) (int, lang.Problems, error) {
	if len(paths) > 0 {
		return x.files(paths)
	}
	lib, ps, err := x.app.templates()
	if err != nil {
		return 0, nil, err
	}
	return len(lib.All()), slices.Concat(ps, lib.Coverage(), lib.Warnings()), nil
}

// tell writes what was found; with an error among it the exit code is that of
// wrong files.
func (x *templateCheck) tell(n int, ps lang.Problems) error {
	ps.Sort()
	errs, _ := ps.Split()
	wrong := len(errs) > 0 || x.strict && len(ps) > 0
	if x.format != formatText {
		if err := x.app.writeProblems(x.format, n, ps); err != nil || !wrong {
			return err
		}
		return &codeError{code: exitFile, err: fmt.Errorf("%s", counted(ps))}
	}
	if wrong {
		return ps.Err()
	}
	if len(ps) > 0 {
		x.app.problems(ps)
	}
	return x.app.answer(templatesCheckedJSON{Checked: n}, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "%s checked, no problem\n", plural(n, "template"))
	})
}

// files checks single files and the files of folders, and each create template
// against its removal.
func (x *templateCheck) files(paths []string) (int, lang.Problems, error) {
	reg, err := x.app.reg()
	if err != nil {
		return 0, nil, err
	}
	var files []string
	for _, p := range paths {
		found, err := yamlFiles(p)
		if err != nil {
			return 0, nil, usagef("%v", err)
		}
		files = append(files, found...)
	}
	var all lang.Problems
	var loaded []*template.Template
	var from []string // their files
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return 0, nil, usagef("%v", err)
		}
		t, ps := template.LoadWith(f, text, template.Below(template.Around(f), templates.FS), reg)
		all = append(all, ps...)
		if t != nil {
			all = append(all, t.Warnings...)
			loaded, from = append(loaded, t), append(from, f)
		}
	}
	for i, t := range loaded {
		if t.Kind == template.Create {
			removal, ps := x.removal(t, from[i], loaded)
			all = append(all, ps...)
			if removal != nil {
				loaded = append(loaded, removal)
			}
		}
	}
	return len(files), slices.Concat(all, template.Check(loaded...), template.Coverage(loaded...)), nil
}

// removal finds the removal of a create template that is not checked too: the
// one that would be used.
func (x *templateCheck) removal(create *template.Template, file string, loaded []*template.Template) (*template.Template, lang.Problems) {
	if slices.ContainsFunc(loaded, func(t *template.Template) bool { return t.Kind == template.Delete && t.Name == create.Removal }) {
		return nil, nil
	}
	t, err := x.app.removalOf(create, file)
	if ps, is := errors.AsType[lang.Problems](err); is {
		return nil, ps
	}
	return t, nil // without one the check of them together says so
}

// removalOf loads the delete template that a create template names: beside it
// when it was named by its file, else one of the workspace or a shipped one.
func (a *app) removalOf(create *template.Template, file string) (*template.Template, error) {
	from := "delete/" + create.Removal
	if beside := filepath.Join(filepath.Dir(file), "..", from+".yaml"); filepath.Ext(file) != "" && exists(beside) {
		from = beside
	}
	return a.findTemplate(from)
}

// yamlFiles returns path, or the YAML files below it when it is a folder.
func yamlFiles(path string) ([]string, error) {
	st, err := os.Stat(path)
	if err != nil || !st.IsDir() {
		return []string{path}, err
	}
	var files []string
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if ext := filepath.Ext(p); err == nil && !d.IsDir() && (ext == ".yaml" || ext == ".yml") {
			files = append(files, p)
		}
		return err
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s holds no .yaml file", path)
	}
	return files, err
}
