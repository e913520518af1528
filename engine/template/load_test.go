package template

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"runner/engine/lang"
	"runner/engine/module"
)

// registry is a small set of modules with one of each trait.
func registry(t *testing.T) *module.Registry {
	t.Helper()
	name := module.Field{Name: "name", Type: lang.String, Required: true, Example: "jit-x"}
	reg, err := module.NewRegistry(
		&module.Module{
			Name: "user", Platform: "linux",
			Args: []module.Field{
				name,
				{Name: "uid", Type: lang.Int},
				{Name: "shell", Type: lang.String},
				{Name: "comment", Type: lang.String},
				{Name: "password", Type: lang.Secret},
				{Name: "expires", Type: lang.Time},
				{Name: "locked", Type: lang.Bool},
				{Name: "state", Type: lang.String, Default: "present", Enum: []string{"present", "absent"}},
				{Name: "exists", Type: lang.String, Default: "fail", Enum: []string{"fail", "adopt", "update"}},
			},
			Outputs: []module.Field{{Name: "uid", Type: lang.Int}, {Name: "home", Type: lang.String}},
			Check: func(a module.Args) error {
				if strings.HasPrefix(a.String("name"), "-") {
					return errors.New("name starts with a hyphen, which commands would take for an option")
				}
				if a.Int("uid") < 0 {
					return errors.New("the uid is negative; leave uid out, or give 1000 or more")
				}
				return nil
			},
		},
		&module.Module{
			Name: "user_info", Platform: "linux", ReadOnly: true,
			Args:    []module.Field{name},
			Outputs: []module.Field{{Name: "exists", Type: lang.Bool}, {Name: "uid", Type: lang.Int}},
		},
		&module.Module{
			Name: "group_member", Platform: "linux",
			Args: []module.Field{
				{Name: "user", Type: lang.String, Required: true},
				{Name: "groups", Type: lang.ListOf(lang.String), Required: true, Example: "[wheel]"},
			},
		},
		&module.Module{
			Name: "shell", Platform: "linux", Free: "script", Script: "script", NeedsUndo: true,
			Args: []module.Field{{Name: "script", Type: lang.String, Required: true, Example: "id"}},
		},
		&module.Module{Name: "win_user", Platform: "windows", Args: []module.Field{name}},
		&module.Module{Name: "assert", ReadOnly: true, Args: []module.Field{{Name: "that", Type: lang.ListOf(lang.Any)}}},
		&module.Module{Name: "set_fact", ReadOnly: true},
		&module.Module{Name: "debug", ReadOnly: true, Free: "msg", Args: []module.Field{{Name: "msg", Type: lang.String, Required: true, Example: "hello"}}},
		&module.Module{
			Name: "revert",
			Args: []module.Field{
				{Name: "of", Type: lang.String, Required: true, Enum: []string{"created"}},
				{Name: "except", Type: lang.ListOf(lang.String)},
			},
			Check: func(module.Args) error { return nil },
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

// golden compares got with a file beside the case; UPDATE=1 rewrites it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; UPDATE=1 rewrites it):\n%s", path, diff)
	}
}

// testCase is one file of testdata/template.
type testCase struct {
	name, out string
	file      string // as Load is told
	text      []byte
	modules   string // linux or windows: those of the program; else a few of this test
}

// registry returns the modules that the case is about.
func (c *testCase) registry(t *testing.T) *module.Registry {
	t.Helper()
	var reg *module.Registry
	var err error
	switch c.modules {
	case "linux":
		reg, err = module.Linux()
	case "windows":
		reg, err = module.Windows()
	default:
		return registry(t)
	}
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

// shelf has the files that the cases include.
func shelf(file string) (string, []byte, error) {
	text, err := fs.ReadFile(os.DirFS(filepath.Join("..", "..", "testdata", "template")), file)
	return "templates/" + file, text, err
}

func cases(t *testing.T, folder string) []testCase {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", "template", folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s: %v", folder, err)
	}
	var cs []testCase
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		c := testCase{
			name: strings.TrimSuffix(filepath.Base(f), ".yaml"),
			out:  strings.TrimSuffix(f, ".yaml") + ".out",
			file: filepath.Base(f),
			text: text,
		}
		if rest, ok := strings.CutPrefix(string(text), "# file: "); ok {
			c.file, _, _ = strings.Cut(rest, "\n")
		}
		if rest, ok := strings.CutPrefix(string(text), "# modules: "); ok {
			c.modules, _, _ = strings.Cut(rest, "\n")
		}
		cs = append(cs, c)
	}
	return cs
}

func TestProblemsAreSaidToTheirAuthor(t *testing.T) {
	t.Parallel()
	for _, c := range cases(t, "err") {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tmpl, ps := LoadWith(c.file, c.text, shelf, c.registry(t))
			if len(ps) == 0 || tmpl != nil {
				t.Fatal("loaded although it is wrong")
			}
			got := ps.Error() + "\n"
			if strings.Contains(got, "hunter2") {
				t.Errorf("a message shows a secret:\n%s", got)
			}
			for _, p := range ps {
				if p.Code == "" || p.Pos.Line < 1 || p.Pos.Col < 1 || p.Pos.File != c.file && !strings.HasPrefix(p.Pos.File, "templates/common/") {
					t.Errorf("problem without code or place: %#v", p)
				}
			}
			lines := strings.Split(string(c.text), "\n")
			for _, p := range ps {
				if p.Pos.File == c.file && p.Source != "" && !strings.Contains(p.Source, "***") && strings.ToValidUTF8(lines[p.Pos.Line-1], "\ufffd") != p.Source {
					t.Errorf("%s is about another line: %q", p, p.Source)
				}
			}
			golden(t, c.out, got)
		})
	}
}

func TestWarningsAreSaidToTheirAuthor(t *testing.T) {
	t.Parallel()
	for _, c := range cases(t, "warn") {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tmpl, ps := Load(c.file, c.text, c.registry(t))
			if len(ps) > 0 || len(tmpl.Warnings) == 0 {
				t.Fatalf("%v, and the warnings are %v", ps, tmpl)
			}
			golden(t, c.out, tmpl.Warnings.Error()+"\n")
		})
	}
}

func TestTemplatesAreReadWhole(t *testing.T) {
	t.Parallel()
	for _, c := range cases(t, "ok") {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tmpl, ps := LoadWith(c.file, c.text, shelf, registry(t))
			if len(ps) > 0 {
				t.Fatal(ps)
			}
			if len(tmpl.Warnings) > 0 {
				t.Error(tmpl.Warnings)
			}
			golden(t, c.out, describe(tmpl))
		})
	}
}

// describe writes everything that Load found in a template.
func describe(t *Template) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s %s enabled=%t executor=%s removal=%q become=%q timeout=%s on_disconnect=%s on_failure=%s hash=%.8s\n",
		t.Kind, t.Name, t.Platform, t.Enabled, t.Executor, t.Removal, t.Become, t.Timeout, t.OnDisconnect, t.OnFailure, t.Hash)
	for _, p := range t.Params {
		fmt.Fprintf(&b, "param %s: %s default=%s optional=%t enum=%v pattern=%q path=%t", p.Name, p.Type, valueText(p.Default), p.Optional, p.Enum, p.Pattern, p.Path)
		if p.Min != nil && p.Max != nil {
			fmt.Fprintf(&b, " %d..%d", *p.Min, *p.Max)
		}
		if p.Generate != nil {
			fmt.Fprintf(&b, " generate %d of %v", p.Generate.Length, p.Generate.Classes)
		}
		fmt.Fprintln(&b)
	}
	for _, v := range t.Vars {
		fmt.Fprintf(&b, "var %s: %s = %s\n", v.Name, v.Value.Type(), valueText(v.Value))
	}
	describeSteps(&b, "", "step", t.Steps)
	for _, o := range t.Outputs {
		fmt.Fprintf(&b, "output %s: %s = %s\n", o.Name, o.Type, o.Value.Text())
	}
	describeSteps(&b, "", "renew", t.Renew)
	describeSteps(&b, "", "revert", t.Revert)
	return b.String()
}

func describeSteps(b *strings.Builder, in, what string, steps []*Step) {
	for _, s := range steps {
		fmt.Fprintf(b, "%s%s %q", in, what, s.Name)
		if s.Module != nil {
			fmt.Fprintf(b, " %s", s.Module.Name)
		}
		fmt.Fprintf(b, " register=%q on_error=%s no_log=%t tags=%v", s.Register, s.OnError, s.NoLog, s.Tags)
		if s.Become != nil {
			fmt.Fprintf(b, " become=%q", *s.Become)
		}
		for _, c := range []struct {
			name string
			e    *lang.Expr
		}{{"when", s.When}, {"until", s.Until}, {"changed_when", s.ChangedWhen}, {"failed_when", s.FailedWhen}} {
			if c.e != nil {
				fmt.Fprintf(b, " %s=(%s)", c.name, c.e.Text())
			}
		}
		if s.Until != nil {
			fmt.Fprintf(b, " retries=%d delay=%s", s.Retries, s.Delay)
		}
		fmt.Fprintf(b, " timeout=%s\n", s.Timeout)
		if s.Module != nil {
			for _, a := range append(s.Module.Args, s.Outputs...) {
				if v := s.Args[a.Name]; v != nil {
					fmt.Fprintf(b, "%s  %s: %s = %s\n", in, a.Name, v.Type(), valueText(v))
				}
				if sc, ok := s.Scripts[a.Name]; ok {
					fmt.Fprintf(b, "%s  %s: %q with %d values\n", in, a.Name, sc.Text, len(sc.Binds))
				}
			}
		}
		for _, a := range s.Asserts {
			fmt.Fprintf(b, "%s  that %s msg %s\n", in, a.That.Text(), valueText(a.Msg))
		}
		if s.Undo != nil {
			fmt.Fprintf(b, "%s  undo: %q with %d values\n", in, s.Undo.Text, len(s.Undo.Binds))
		}
		if s.Include != nil {
			fmt.Fprintf(b, "%s  include %s\n", in, s.Include.File)
			for _, g := range s.Include.Params {
				fmt.Fprintf(b, "%s  param %s: %s = %s\n", in, g.Name, g.Value.Type(), valueText(g.Value))
			}
			for _, o := range s.Include.Outputs {
				fmt.Fprintf(b, "%s  output %s: %s = %s\n", in, o.Name, o.Type, o.Value.Text())
			}
		}
		describeSteps(b, in+"  ", "block", s.Block)
		describeSteps(b, in+"  ", "rescue", s.Rescue)
		describeSteps(b, in+"  ", "always", s.Always)
	}
}

func valueText(v *lang.Value) string {
	if v == nil {
		return "-"
	}
	if x, ok := constant(v); ok {
		return fmt.Sprintf("%#v", x)
	}
	return v.Text()
}

func TestNoDamageToATemplateBreaksTheReader(t *testing.T) {
	t.Parallel()
	reg := registry(t)
	for _, c := range append(cases(t, "err"), cases(t, "ok")...) {
		lines := strings.SplitAfter(string(c.text), "\n")
		for i := 0; i < len(lines); i += 3 {
			without := strings.Join(lines[:i], "") + strings.Join(lines[i+1:], "")
			cut := strings.Join(lines[:i], "") + lines[i][:len(lines[i])/2]
			for _, text := range []string{without, cut} {
				if tmpl, ps := Load(c.file, []byte(text), reg); (tmpl == nil) != (len(ps) > 0) {
					t.Errorf("%s without line %d: template %v, %d problems", c.name, i+1, tmpl, len(ps))
				}
			}
		}
	}
}

func TestLoadKeepsTheBytesItRead(t *testing.T) {
	t.Parallel()
	for _, c := range cases(t, "ok") {
		text := append([]byte(nil), c.text...)
		tmpl, ps := LoadWith(c.file, text, shelf, registry(t))
		if len(ps) > 0 {
			t.Fatal(ps)
		}
		text[0] = '!'
		if diff := cmp.Diff(string(c.text), string(tmpl.Body)); diff != "" && len(tmpl.Includes) == 0 {
			t.Errorf("%s: %s", c.name, diff)
		}
		if again, _ := Load(c.file, tmpl.Body, registry(t)); again == nil || again.Hash != tmpl.Hash {
			t.Errorf("%s: a pinned body does not load to the same template", c.name)
		}
	}
}
