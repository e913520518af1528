package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/template"
)

// topicJSON is what the documentation says about a module or a key.
type topicJSON struct {
	Name      string      `json:"name"`
	Of        string      `json:"of"` // module, template, param, generate, step
	In        []string    `json:"in"` // variants that have it: create, block, ...; none: all
	Doc       string      `json:"doc"`
	Examples  []string    `json:"examples"` // YAML
	Value     string      `json:"value,omitempty"`
	Required  bool        `json:"required"`
	Default   string      `json:"default,omitempty"`
	Otherwise string      `json:"otherwise,omitempty"` // what happens without it, in words
	Platform  string      `json:"platform,omitempty"`
	Free      string      `json:"free,omitempty"` // argument that may stand alone
	NeedsUndo bool        `json:"needs_undo,omitempty"`
	Arguments []fieldJSON `json:"arguments,omitempty"`
	Outputs   []fieldJSON `json:"outputs,omitempty"`
}

// fieldJSON is an argument or output of a module.
type fieldJSON struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Doc      string   `json:"doc"`
	Required bool     `json:"required"`
	Default  any      `json:"default,omitempty"`
	Words    []string `json:"words,omitempty"`
	Example  string   `json:"example,omitempty"`
}

func (a *app) templateDocs() *cobra.Command {
	return leaf{
		use: "docs [MODULE|KEY]", short: "explain a module or a key of templates, with examples",
		example: "runner template docs\nrunner template docs sudoers\nrunner template docs when\nrunner template docs step.timeout",
		long: `Without a name all modules and keys are listed. A key that several maps have is shown
for each; param.default names one.`,
		args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return needs("MODULE or KEY")(c, args)
			}
			return nil
		},
		run: func(_ context.Context, args []string) error {
			reg, err := a.reg()
			if err != nil {
				return err
			}
			all := topics(reg)
			if len(args) == 0 {
				return a.answer(all, func(w io.Writer) { listTopics(w, all) })
			}
			found := slices.DeleteFunc(slices.Clone(all), func(t topicJSON) bool { return t.Name != args[0] && t.Of+"."+t.Name != args[0] })
			if len(found) == 0 {
				var names []string
				for _, t := range all {
					names = append(names, t.Name, t.Of+"."+t.Name)
				}
				if near := lang.Similar(args[0], names); near != "" {
					return usagef("there is no module or key %q; did you mean %q?", args[0], near)
				}
				return usagef("there is no module or key %q; runner template docs lists them all", args[0])
			}
			return a.answer(found, func(w io.Writer) {
				for i := range found {
					if i > 0 {
						_, _ = fmt.Fprintln(w)
					}
					describeTopic(w, &found[i])
				}
			})
		},
	}.command()
}

// topics returns everything that templates may say, modules first.
func topics(reg *module.Registry) []topicJSON {
	var out []topicJSON
	for _, m := range reg.All() {
		t := topicJSON{
			Name: m.Name, Of: "module", In: []string{}, Doc: m.Summary, Examples: m.Examples, Platform: m.Platform,
			Free: m.Free, NeedsUndo: m.NeedsUndo, Arguments: viewFields(m.Args), Outputs: viewFields(m.Outputs),
		}
		out = append(out, t)
	}
	for _, table := range template.Tables() {
		for _, k := range table.Keys {
			out = append(out, topicJSON{
				Name: k.Name, Of: table.Name, In: append([]string{}, k.In...), Doc: k.Doc, Examples: []string{k.Example},
				Value: k.Is.String(), Required: k.Need, Default: k.Default, Otherwise: k.Else,
			})
		}
	}
	return out
}

func viewFields(fs []module.Field) []fieldJSON {
	var out []fieldJSON
	for _, f := range fs {
		out = append(out, fieldJSON{
			Name: f.Name, Type: f.Type.String(), Doc: f.Doc, Required: f.Required, Default: f.Default, Words: f.Enum, Example: f.Example,
		})
	}
	return out
}

// listTopics prints one line for each module and key.
func listTopics(w io.Writer, all []topicJSON) {
	of := ""
	for _, t := range all {
		if t.Of != of {
			if of != "" {
				_, _ = fmt.Fprintln(w)
			}
			of = t.Of
			title := "Keys of " + of
			if of == "module" {
				title = "Modules"
			}
			_, _ = fmt.Fprintln(w, title+":")
		}
		_, _ = fmt.Fprintf(w, "  %-15s %s\n", t.Name, t.doc())
	}
}

// doc is the line about a topic, with the variants that have it.
func (t *topicJSON) doc() string {
	if len(t.In) == 0 {
		return t.Doc
	}
	return t.Doc + " (" + strings.Join(t.In, ", ") + ")"
}

// describeTopic prints all there is about one, examples first.
func describeTopic(w io.Writer, t *topicJSON) {
	_, _ = fmt.Fprintf(w, "%s, %s: %s\n\n", t.Name, map[bool]string{true: "a module", false: "a key of " + t.Of}[t.Of == "module"], t.doc())
	dash := t.Of == "module" || t.Of == "step"
	for _, e := range t.Examples {
		if dash {
			e = "- " + strings.ReplaceAll(e, "\n", "\n  ")
		}
		_, _ = io.WriteString(w, indent(e)+"\n")
	}
	if t.Of != "module" {
		fields(w, field{"value", t.Value}, field{"without it", t.without()})
		return
	}
	if t.Platform != "" {
		_, _ = fmt.Fprintf(w, "For devices of platform %s.", t.Platform)
	} else {
		_, _ = fmt.Fprint(w, "For devices of every platform.")
	}
	if t.Free != "" {
		_, _ = fmt.Fprintf(w, " %s: … alone is its %s.", t.Name, t.Free)
	}
	if t.NeedsUndo {
		_, _ = fmt.Fprint(w, " In create and elevate templates it needs undo, unless changed_when is false.")
	}
	_, _ = fmt.Fprintln(w)
	if len(t.Arguments) > 0 {
		_, _ = fmt.Fprintln(w, "\nArguments:")
		describeFields(w, t.Arguments)
	}
	if len(t.Outputs) > 0 {
		_, _ = fmt.Fprintln(w, "\nOutputs, besides those of every step:")
		describeFields(w, t.Outputs)
	}
}

func (t *topicJSON) without() string {
	switch {
	case t.Required:
		return "it is required"
	case t.Default != "":
		return t.Default
	}
	return t.Otherwise
}

func describeFields(w io.Writer, fs []fieldJSON) {
	width := 0
	for _, f := range fs {
		width = max(width, len(f.Name))
	}
	for _, f := range fs {
		how := f.Type
		if len(f.Words) > 0 {
			how = strings.Join(f.Words, ", ")
		}
		if f.Required {
			how += "; required"
		}
		switch d := f.Default.(type) {
		case string:
			if d != "" {
				how += "; default " + d
			}
		case []string:
			if len(d) > 0 {
				how += "; default [" + strings.Join(d, ", ") + "]"
			}
		case bool:
			how += fmt.Sprintf("; default %v", d)
		}
		_, _ = fmt.Fprintf(w, "  %-*s  %s (%s)\n", width, f.Name, f.Doc, how)
	}
}
