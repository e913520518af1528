package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"runner/engine/inventory"
	"runner/engine/keeper"
)

// importJSON is what was imported, or would be.
type importJSON struct {
	Project   string           `json:"project"`
	DryRun    bool             `json:"dry_run"`
	Files     []importedFile   `json:"files"`
	Documents []importedDoc    `json:"documents"`
	Secrets   []importedSecret `json:"secrets"`
	Notes     []importedNote   `json:"notes"`
}

// importedFile is a file of the folder inventories.
type importedFile struct {
	File string `json:"file"`
	Text string `json:"text,omitempty"` // with --dry-run
}

// importedDoc is a document, and where it is from.
type importedDoc struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Path string `json:"path,omitempty"`
}

// importedSecret says what a person has to put where.
type importedSecret struct {
	File        string   `json:"file"`
	Kind        string   `json:"kind"`
	Path        string   `json:"path,omitempty"`
	Credentials []string `json:"credentials"`
}

// importedNote is what was not taken over.
type importedNote struct {
	Path  string `json:"path"`
	Text  string `json:"text"`
	Count int    `json:"count"`
}

// imports is what import keeper was asked for.
type imports struct {
	app                  *app
	out, prefix, secrets string
	dry, skip            bool
}

func (a *app) importCommand() *cobra.Command {
	return a.noun("import", "take over what other systems know about devices and credentials",
		"runner import keeper project.json --dry-run\nrunner import keeper project.json", a.importKeeper())
}

func (a *app) importKeeper() *cobra.Command {
	i := &imports{app: a}
	c := leaf{
		use: "keeper FILE", short: "make inventories, devices and credentials of a project of KeeperPAM",
		example: `runner import keeper project.json --dry-run
runner import keeper project.json
runner import keeper project.json --out ./inventories --prefix east-`,
		long: `FILE is the JSON of pam project import or pam project export of Keeper Commander. Its
machines become devices, each with a credential to request, which carries jit_settings
and workflow, and one for each of its users.

Secrets are never written: every secret_from names a file, and what is to be put there
is said. What has no counterpart is said with its place in FILE. No file and no name is
ever overwritten, and with something wrong in FILE nothing is written at all. The
settings are used when somebody asks for it (runner launch -j) and by grant request.`,
		args:  needs("FILE"),
		exits: []int{exitFile},
		run:   func(_ context.Context, args []string) error { return i.run(args[0]) },
	}.command()
	fs := c.Flags()
	fs.StringVar(&i.out, "out", "", "folder for the files (default: inventories of the workspace)")
	fs.StringVar(&i.prefix, "prefix", "", "what the names of devices and credentials begin with")
	fs.StringVar(&i.secrets, "secrets", "/etc/runner/secrets", "folder where you will put the secrets")
	fs.BoolVar(&i.dry, "dry-run", false, "write nothing, and show what would be written")
	fs.BoolVar(&i.skip, "skip-wrong", false, "leave machines out in which something is wrong")
	return c
}

func (i *imports) run(name string) error {
	a := i.app
	text, err := readBounded(name)
	if err != nil {
		return err
	}
	dir, err := i.folder()
	if err != nil {
		return err
	}
	existing := &inventory.Set{}
	if exists(dir) {
		set, ps := inventory.Load(dir)
		if err := ps.Err(); err != nil {
			return err
		}
		existing = set
	}
	res, ps := keeper.Convert(text, keeper.Options{File: name, Prefix: i.prefix, Secrets: i.secrets, Skip: i.skip, Existing: existing})
	if err := ps.Err(); err != nil {
		return err
	}
	more := map[string]string{}
	for _, f := range res.Files {
		more[f.Name] = f.Text
		if exists(filepath.Join(dir, f.Name)) {
			return &codeError{
				code: exitUsage, err: fmt.Errorf("%s is there already, and nothing is overwritten", filepath.Join(dir, f.Name)),
				hints: []string{"move it away, or give another folder with --out"},
			}
		}
	}
	if exists(dir) {
		if _, ps := inventory.LoadWith(dir, more); len(ps) > 0 {
			return ps.Err()
		}
	}
	if !i.dry {
		if err := writeAll(dir, res.Files); err != nil {
			return err
		}
	}
	if !i.dry {
		a.hint("runner inventory check checks them all; runner launch CREDENTIAL -j --plan says how a session would be opened")
	}
	v := viewImport(res, dir, i.dry)
	return a.answer(v, func(w io.Writer) { describeImport(w, v) })
}

var prefixes = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,19}$`)

// maxImport is the largest file that is read.
const maxImport = 32 << 20

// readBounded reads a file that somebody else wrote.
func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, usagef("%v", err)
	}
	defer func() { _ = f.Close() }()
	if st, err := f.Stat(); err != nil || st.IsDir() {
		return nil, usagef("%s is no file", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxImport+1))
	if err != nil {
		return nil, usagef("%v", err)
	}
	return text, nil
}

// folder returns where the files go.
func (i *imports) folder() (string, error) {
	if strings.ContainsAny(i.secrets, "$~\n") || !filepath.IsAbs(i.secrets) {
		return "", usagef("--secrets is %q: write the full path of a folder, without ~ and $", i.secrets)
	}
	if i.prefix != "" && !prefixes.MatchString(i.prefix) {
		return "", usagef("--prefix is %q: at most 20 lower-case letters, digits, dots, underscores and hyphens, starting with a letter or digit", i.prefix)
	}
	if i.out != "" {
		if st, err := os.Stat(i.out); err != nil || !st.IsDir() {
			return "", usagef("--out %s is no folder", i.out)
		}
		return i.out, nil
	}
	w, err := i.app.workspace()
	if err != nil {
		return "", err
	}
	return filepath.Join(w.dir, "inventories"), nil
}

// writeAll writes files of which none is there: all of them, or none. A file gets
// its name when it is whole.
func writeAll(dir string, files []keeper.File) (err error) {
	var named []string
	defer func() {
		for _, f := range named {
			if err != nil {
				err = errors.Join(err, os.Remove(f))
			}
		}
	}()
	for _, f := range files {
		t, err := os.CreateTemp(dir, ".import-*")
		if err != nil {
			return err
		}
		_, err = io.WriteString(t, f.Text)
		err = errors.Join(err, t.Chmod(0o644), t.Sync(), t.Close())
		final := filepath.Join(dir, f.Name)
		if err == nil {
			if err = os.Link(t.Name(), final); errors.Is(err, fs.ErrExist) {
				err = fmt.Errorf("%s is there already, and nothing is overwritten", final)
			} else if err == nil {
				named = append(named, final)
			}
		}
		if err = errors.Join(err, os.Remove(t.Name())); err != nil {
			return err
		}
	}
	return nil
}

func viewImport(res *keeper.Result, dir string, dry bool) *importJSON {
	v := &importJSON{Project: res.Project, DryRun: dry, Files: []importedFile{}, Documents: []importedDoc{}, Secrets: []importedSecret{}, Notes: []importedNote{}}
	for _, f := range res.Files {
		file := importedFile{File: filepath.Join(dir, f.Name)}
		if dry {
			file.Text = f.Text
		}
		v.Files = append(v.Files, file)
	}
	for _, d := range res.Documents {
		v.Documents = append(v.Documents, importedDoc(d))
	}
	for _, s := range res.Secrets {
		v.Secrets = append(v.Secrets, importedSecret(s))
	}
	for _, n := range res.Notes {
		v.Notes = append(v.Notes, importedNote(n))
	}
	return v
}

func describeImport(w io.Writer, v *importJSON) {
	count := map[string]int{}
	for _, d := range v.Documents {
		count[d.Kind]++
	}
	_, _ = fmt.Fprintf(w, "project %s: %s, %s\n", oneLine(v.Project), plural(count["device"], "device"), plural(count["credential"], "credential"))
	verb := "written"
	if v.DryRun {
		verb = "would be written"
	}
	for _, f := range v.Files {
		_, _ = fmt.Fprintf(w, "  %s  %s\n", oneLine(f.File), verb)
	}
	if len(v.Secrets) > 0 {
		_, _ = fmt.Fprintf(w, "\nPut these secrets into files of mode 0600; none of them was written:\n")
	}
	for _, s := range v.Secrets {
		from := "not in the file"
		if s.Path != "" {
			from = s.Path
		}
		_, _ = fmt.Fprintf(w, "  %s  %s, %s\n", oneLine(s.File), strings.ReplaceAll(s.Kind, "_", " "), oneLine(from))
	}
	if len(v.Notes) > 0 {
		_, _ = fmt.Fprintf(w, "\nNot taken over, or to be looked at:\n")
	}
	for _, n := range v.Notes {
		times := ""
		if n.Count > 1 {
			times = fmt.Sprintf(" (%d times, first here)", n.Count)
		}
		_, _ = fmt.Fprintf(w, "  %s: %s%s\n", oneLine(n.Path), oneLine(n.Text), times)
	}
	for _, f := range v.Files {
		if f.Text != "" {
			_, _ = fmt.Fprintf(w, "\n%s:\n\n%s", oneLine(f.File), indent(f.Text))
		}
	}
}
