package keeper

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"runner/engine/inventory"
)

// golden compares got with a file; UPDATE=1 rewrites it.
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

func read(t *testing.T, folder string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[f] = text
	}
	return out
}

// written is everything that comes out of a conversion.
func written(r *Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "project %q\n", r.Project)
	for _, d := range r.Documents {
		fmt.Fprintf(&b, "document %s %s: %s\n", d.Kind, d.Name, d.Path)
	}
	for _, s := range r.Secrets {
		fmt.Fprintf(&b, "secret %s %s: %q for %v\n", s.Kind, s.File, s.Path, s.Credentials)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note %d %s: %s\n", n.Count, n.Path, n.Text)
	}
	for _, f := range r.Files {
		fmt.Fprintf(&b, "== %s\n%s", f.Name, f.Text)
	}
	return b.String()
}

// load reads what was written as a workspace would.
func load(t interface{ Fatalf(string, ...any) }, dir string, r *Result) *inventory.Set {
	more := map[string]string{}
	for _, f := range r.Files {
		more[f.Name] = f.Text
	}
	set, ps := inventory.LoadWith(dir, more)
	if len(ps) > 0 {
		t.Fatalf("what was written does not load: %v\n%s", ps, written(r))
	}
	return set
}

func TestProjectsBecomeDocumentsThatLoad(t *testing.T) {
	t.Parallel()
	for file, text := range read(t, "ok") {
		r, ps := Convert(text, Options{File: filepath.Base(file), Secrets: "/etc/runner/secrets"})
		if len(ps) > 0 {
			t.Fatal(ps)
		}
		got := written(r)
		if strings.Contains(got, "canary") {
			t.Errorf("%s: a secret came out:\n%s", file, got)
		}
		load(t, t.TempDir(), r)
		golden(t, strings.TrimSuffix(file, ".json")+".out", got)
	}
}

func TestWhatIsWrongIsSaidWithItsPath(t *testing.T) {
	t.Parallel()
	for file, text := range read(t, "err") {
		r, ps := Convert(text, Options{File: filepath.Base(file), Secrets: "/s"})
		if len(ps) == 0 || r != nil {
			t.Fatalf("%s was taken", file)
		}
		got := ps.Error() + "\n"
		if strings.Contains(got, "canary") {
			t.Errorf("%s: a message shows a secret:\n%s", file, got)
		}
		golden(t, strings.TrimSuffix(file, ".json")+".out", got)
	}
}

func TestWrongMachinesAreLeftOutWhenThatIsAskedFor(t *testing.T) {
	t.Parallel()
	text := `{"pam_data": {"resources": [
{"type": "pamMachine", "title": "good", "host": "web-1", "port": "22", "users": [{"login": "root"}], "pam_settings": {"connection": {"administrative_credentials": "root"}}},
{"type": "pamMachine", "title": "bad", "host": "web 2", "port": "22", "users": [{"login": "root"}], "pam_settings": {"connection": {"administrative_credentials": "root"}}}]}}`
	if _, ps := Convert([]byte(text), Options{File: "p.json", Secrets: "/s"}); len(ps) != 1 || !strings.Contains(ps[0].Message, "pam_data.resources[1]: address is") {
		t.Fatal(ps)
	}
	r, ps := Convert([]byte(text), Options{File: "p.json", Secrets: "/s", Skip: true})
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	set := load(t, t.TempDir(), r)
	if len(set.Devices) != 1 || len(set.Credentials) != 2 || len(r.Secrets) != 1 || len(r.Documents) != 4 {
		t.Errorf("%s", written(r))
	}
	if got := written(r); !strings.Contains(got, "pam_data.resources[1]: left out, for something is wrong with it: pam_data.resources[1]: address is") {
		t.Error(got)
	}
}

func TestNamesOfTheWorkspaceAreKept(t *testing.T) {
	t.Parallel()
	text := []byte(`{"pam_data": {"resources": [{"type": "pamMachine", "title": "web-1", "host": "web-1", "port": "22", "users": [{"login": "root"}], "pam_settings": {"connection": {"administrative_credentials": "root"}}}]}}`)
	o := Options{File: "p.json", Secrets: "/s"}
	r, ps := Convert(text, o)
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, r.Files[0].Name), []byte(r.Files[0].Text), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Existing = load(t, dir, &Result{})
	if _, ps = Convert(text, o); len(ps) != 3 || !strings.Contains(ps[0].Message, "device web-1 is there already, at ") {
		t.Fatal(ps)
	}
	o.Prefix = "east-"
	if r, ps = Convert(text, o); len(ps) > 0 {
		t.Fatal(ps)
	}
	if strings.Contains(r.Files[0].Text, "kind: inventory") {
		t.Error("the inventory was there and is written again")
	}
	r.Files[0].Name = "east.yaml"
	load(t, dir, r)
}

func TestLargeProjectsBecomeFilesThatLoad(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`{"project": "Large", "pam_data": {"resources": [`)
	const machines = 320
	for i := range machines {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"type": "pamMachine", "title": "same", "host": "web-%d", "port": "22", "pam_settings": {"connection": {"administrative_credentials": "root"}, "options": {"jit_settings": {"create_ephemeral": true}}}, "users": [{"login": "root"}]}`, i)
	}
	b.WriteString(`]}}`)
	r, ps := Convert([]byte(b.String()), Options{File: "l.json", Secrets: "/s"})
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	if set := load(t, t.TempDir(), r); len(set.Devices) != machines || len(set.Credentials) != 2*machines || len(r.Files) < 2 {
		t.Errorf("%d devices, %d credentials, %d files", len(set.Devices), len(set.Credentials), len(r.Files))
	}
}

func TestFilesHaveBounds(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"deep":  `{"project": ` + strings.Repeat("[", 100_000),
		"large": strings.Repeat(" ", maxSize+1),
		"wide":  `{"pam_data": {"resources": [` + strings.Repeat("0,", maxItems) + `0]}}`,
	} {
		if _, ps := Convert([]byte(text), Options{File: name, Secrets: "/s"}); len(ps) != 1 || ps[0].Code != "too-large" {
			t.Errorf("%s: %v", name, ps)
		}
	}
	if _, ps := parseWithin("many", []byte(`{"a": [0, 0]}`), 5); len(ps) > 0 {
		t.Error(ps)
	}
	if _, ps := parseWithin("many", []byte(`{"a": [0, 0]}`), 4); len(ps) != 1 || ps[0].Code != "too-large" {
		t.Error(ps)
	}
}

// Whatever stands in a file, what is written loads, and names are no paths.
func TestHostileTextsStayTexts(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(
		rapid.String(),
		rapid.SampledFrom([]string{"../../etc/passwd", "..", "a\n---\nkind: credential", "a\nname: x", "{{ .x }}", "!expr 1", "*a", "\u0085\u2028\ufeff", "- x", "#", "a'\"\\", "0x10", "yes", "null", strings.Repeat("x", 400)}),
	)
	empty := t.TempDir()
	quote := func(s string) string { return fmt.Sprintf("%q", strings.ToValidUTF8(s, "")) }
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) string {
			s := quote(text.Draw(t, name))
			return strings.NewReplacer(`\a`, `\u0007`, `\v`, `\u000b`, `\x`, `\u00`, `\U`, `u`).Replace(s)
		}
		doc := `{"project": ` + draw("project") + `, "pam_data": {"resources": [{"type": "pamMachine", "title": ` + draw("title") + `, "host": "web-1", "port": "22", "uid": ` + draw("uid") + `, ` +
			draw("key") + `: 1, "pam_settings": {"options": {"jit_settings": {"create_ephemeral": true, "base_distinguished_name": ` + draw("dn") + `, ` + draw("other") + `: {` + draw("inner") + `: ` + draw("value") + `}}}, ` +
			`"connection": {"administrative_credentials": ` + draw("admin") + `}}, "users": [{"login": ` + draw("login") + `, "title": ` + draw("user") + `}]}]}}`
		r, ps := Convert([]byte(doc), Options{File: "p.json", Secrets: "/s"})
		if len(ps) > 0 {
			return // refused, with its reasons
		}
		load(t, empty, r)
		for _, f := range r.Files {
			if filepath.Base(f.Name) != f.Name || strings.HasPrefix(f.Name, ".") || len(f.Name) > 100 {
				t.Fatalf("file %q", f.Name)
			}
		}
		for _, s := range r.Secrets {
			if filepath.Dir(s.File) != "/s" {
				t.Fatalf("secret %q", s.File)
			}
		}
	})
}
