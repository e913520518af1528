package inventory

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"runner/engine/lang"
)

const folder = "../../inventories"

func TestSampleInventoriesAreRight(t *testing.T) {
	t.Parallel()
	set, ps := Load(folder)
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	conn, err := set.Resolve("db-admin")
	if err != nil {
		t.Fatal(err)
	}
	if len(conn.Jump) != 1 || conn.Jump[0].Address != "bastion.example.com" || conn.Jump[0].Port != 2222 || conn.Jump[0].User != "hop" {
		t.Errorf("db-1 is reached through %+v, want hop@bastion.example.com:2222", conn.Jump)
	}
	if conn, err = set.Resolve("web-admin"); err != nil || len(conn.Jump) != 0 {
		t.Errorf("web-1 is reached through %v (%v), want directly", conn, err)
	}
	if conn, err = set.Resolve("win-admin"); err != nil || conn.WinRM == nil || conn.Port != 5985 || conn.WinRM.SPN != "" || conn.WinRM.Realm != "CORP.EXAMPLE" {
		t.Errorf("win-1 is reached through %+v (%v)", conn, err)
	}
	for _, name := range []string{"Linux-SSH", "Linux-SSH-Jump", "Windows-PSRP-Kerberos", "SNC-Windows-PSRP-Kerberos", "Windows-WinRM-Kerberos", "Windows-PSRP-HTTPS"} {
		if set.Inventories[name] == nil {
			t.Errorf("no inventory %s", name)
		}
	}
	if len(set.Notices) > 0 {
		t.Errorf("notices: %v", set.Notices)
	}
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestExamplesOfTheReadmeAreRight(t *testing.T) {
	t.Parallel()
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(readme(t), -1)
	if len(blocks) < 5 {
		t.Fatalf("found %d examples", len(blocks))
	}
	l := newLoader()
	for _, b := range blocks {
		l.file("README.md", []byte(b[1]))
	}
	if _, ps := l.finish(); len(ps) > 0 {
		t.Fatal(ps)
	}
}

// rows are the lines of a table of README.md. The maps in a document are shown
// with it, but for secrets, which have a table of their own.
func rows(t *lang.Table, prefix string) string {
	var b strings.Builder
	for _, k := range t.Keys {
		if k.Name == "schema" || k.Name == "kind" && k.Need {
			continue
		}
		in, dots := k.Is, "."
		if in.Kind == lang.ListShape {
			in, dots = *in.Of, "[]."
		}
		if in.Kind != lang.MapShape || in.Table == "secret_from" {
			fmt.Fprintf(&b, "| `%s%s` | %s | %s | %s |\n", prefix, k.Name, k.Is, without(k), k.Doc)
			continue
		}
		fmt.Fprintf(&b, "| `%s%s` | | %s | %s |\n", prefix, k.Name, without(k), k.Doc)
		for _, sub := range Tables() {
			if sub.Name == in.Table {
				b.WriteString(rows(sub, prefix+k.Name+dots))
			}
		}
	}
	return b.String()
}

// without says what is taken when a key is not there.
func without(k lang.Key) string {
	switch {
	case k.Need:
		return "required"
	case k.Default != "":
		return "`" + k.Default + "`"
	case k.Else != "":
		return k.Else
	}
	return "none"
}

func TestReadmeShowsEveryKey(t *testing.T) {
	t.Parallel()
	text := readme(t)
	shown := 0
	for _, table := range Tables() {
		before, rest, found := strings.Cut(text, "<!-- keys "+table.Name+" -->\n")
		if !found {
			continue
		}
		_, after, _ := strings.Cut(rest, "<!-- end -->")
		text = before + "<!-- keys " + table.Name + " -->\n| key | value | default | meaning |\n|---|---|---|---|\n" + rows(table, "") + "<!-- end -->" + after
		shown++
	}
	if shown != 5 {
		t.Errorf("README.md has %d tables, want those of the three kinds, of secrets and of jit_settings", shown)
	}
	golden(t, filepath.Join(folder, "README.md"), text)
}

func TestTheSchemaIsTheOneOfTheTables(t *testing.T) {
	t.Parallel()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join(folder, "schema.json"), string(text))
}
