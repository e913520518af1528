package engine_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The map of the program. A package imports only packages of layers above its own
// line here; those of one line do not know each other.
var layers = [][]string{
	{"engine/grant", "engine/secret", "engine/lang", "engine/meter"},
	{"engine/secret/seal", "engine/secret/source", "engine/schema", "engine/inventory/jit", "engine/store/pgtest"},
	{"engine/transport", "engine/store", "engine/journal", "templates"},
	{"engine/store/bell", "engine/transport/winrm/clixml", "engine/transport/winrm/krb/etype", "engine/transport/winrm/krb/krbtest"},
	{"engine/transport/winrm/psrp", "engine/transport/winrm/krb", "engine/transport/winrm/gss/token"},
	{"engine/transport/winrm/gss"},
	{"engine/transport/winrm/gsstest"},
	{"engine/transport/winrm/wsman/wire", "engine/transport/winrm/wsman/envelope"},
	{"engine/transport/winrm/runspace", "engine/transport/winrm/winrmtest/pseval", "engine/transport/winrm/winrmtest/pscheck", "engine/transport/winrm/winrmtest/recordings"},
	{"engine/transport/winrm/cmdshell"},
	{"engine/transport/winrm", "engine/transport/winrm/winrmtest", "engine/transport/winrm/wsman"},
	{"engine/transport/ssh", "engine/transport/winrm/wsmantest", "engine/transport/transporttest", "engine/module", "engine/inventory", "engine/lab"},
	{"engine/template", "engine/keeper", "engine/lab/labtest", "engine/schema/schematest"},
	{"engine/executor"},
	{"engine"},
	{"engine/verify", "engine/sim"},
	{"cmd/runner"},
}

// Who may import what is not ours: a package and everything below its path. What is
// from elsewhere and not listed here, nobody may.
var owners = map[string][]string{
	"github.com/Masterminds/sprig/v3":           {"engine/lang"},
	"github.com/expr-lang/expr":                 {"engine/lang"},
	"github.com/goccy/go-yaml":                  {"engine/lang", "engine/schema/schematest"},
	"mvdan.cc/sh/v3":                            {"engine/lang"},
	"text/template":                             {"engine/lang"},
	"golang.org/x/crypto/ssh":                   {"engine/transport/ssh", "engine/transport/transporttest"},
	"golang.org/x/sys":                          {"engine/lab", "engine/transport/ssh", "engine/store", "engine/transport/winrm/wsman/wire"},
	"golang.org/x/term":                         {"cmd/runner"},
	"github.com/masterzen/winrm":                {"engine/transport/winrm/cmdshell"},
	"golang.org/x/net/proxy":                    {"engine/transport/winrm/wsman/wire"},
	"github.com/jcmturner/gokrb5/v8/crypto":     {"engine/transport/winrm/krb/etype"},
	"github.com/jcmturner/gokrb5/v8/types":      {"engine/transport/winrm/krb/etype", "engine/transport/winrm/krb", "engine/transport/winrm/gss", "engine/transport/winrm/gsstest"},
	"github.com/jcmturner/gokrb5/v8/messages":   {"engine/transport/winrm/krb", "engine/transport/winrm/gss", "engine/transport/winrm/gsstest"},
	"github.com/jcmturner/gokrb5/v8/iana":       {"engine/transport/winrm/krb/etype", "engine/transport/winrm/krb", "engine/transport/winrm/gss", "engine/transport/winrm/gsstest"},
	"github.com/jcmturner/gokrb5/v8/asn1tools":  {"engine/transport/winrm/gsstest"},
	"github.com/jcmturner/gofork/encoding/asn1": {"engine/transport/winrm/krb", "engine/transport/winrm/gsstest"},
	"github.com/santhosh-tekuri/jsonschema/v6":  {"engine/schema/schematest"},
	"github.com/rogpeppe/go-internal/diff":      {"cmd/runner"},
	"database/sql":                              {"engine/store"},
	"github.com/jackc/pgx/v5":                   {"engine/store", "engine/store/pgtest", "engine/store/bell"},
	"github.com/riverqueue/river":               {"engine/store/bell"},
	"github.com/pressly/goose/v3":               {"engine/store"},
	"modernc.org/sqlite":                        {"engine/store"},
	"github.com/spf13/cobra":                    {"cmd/runner"},
	"pgregory.net/rapid":                        {"engine/transport/transporttest"},
	"testing":                                   {"engine/lab/labtest", "engine/transport/transporttest", "engine/transport/winrm/winrmtest/pscheck", "engine/transport/winrm/winrmtest/recordings", "engine/transport/winrm/krb/krbtest", "engine/schema/schematest"},
}

// What only tests import.
var testOnly = []string{"github.com/google/go-cmp", "github.com/rogpeppe/go-internal", "pgregory.net/rapid"}

// pkg is what the sources of one folder say.
type pkg struct {
	imports map[string]bool // without tests
	tests   map[string]bool
	docs    int // files with a package comment
	files   int // without tests
}

func TestImportsPointDown(t *testing.T) {
	t.Parallel()
	rank := map[string]int{}
	for i, layer := range layers {
		for _, name := range layer {
			rank[name] = i
		}
	}
	for name, p := range sources(t) {
		if p.files == 0 {
			continue
		}
		from, known := rank[name]
		if !known {
			t.Errorf("package %s is not on the map: give it a line in layers", name)
			continue
		}
		for imp := range p.imports {
			path, ours := strings.CutPrefix(imp, "runner/")
			if to, known := rank[path]; ours && known && to >= from {
				t.Errorf("%s (layer %d) imports %s (layer %d): imports point down", name, from, path, to)
			}
		}
	}
}

func TestForeignPackagesHaveAnOwner(t *testing.T) {
	t.Parallel()
	for name, p := range sources(t) {
		for imp := range p.imports {
			owner, by := ownerOf(imp)
			switch {
			case owner == "" && foreign(imp):
				t.Errorf("%s imports %s, which nobody owns: give it a line in owners", name, imp)
			case owner != "" && !slices.Contains(by, name):
				t.Errorf("%s imports %s, which belongs to %s", name, imp, strings.Join(by, ", "))
			}
		}
		for imp := range p.tests {
			owner, _ := ownerOf(imp)
			if owner == "" && foreign(imp) && !slices.ContainsFunc(testOnly, func(o string) bool { return within(imp, o) }) {
				t.Errorf("a test of %s imports %s, which is neither owned nor in testOnly", name, imp)
			}
		}
	}
}

func TestEveryPackageHasOneDocComment(t *testing.T) {
	t.Parallel()
	for name, p := range sources(t) {
		if p.files > 0 && p.docs != 1 {
			t.Errorf("package %s has %d package comments, want one that says what it owns and what it refuses", name, p.docs)
		}
	}
}

func TestTheMapHoldsOnlyWhatExists(t *testing.T) {
	t.Parallel()
	found := sources(t)
	used := map[string]bool{}
	for _, p := range found {
		for imp := range p.imports {
			owner, _ := ownerOf(imp)
			used[owner] = true
		}
	}
	for _, name := range slices.Concat(layers...) {
		if found[name] == nil {
			t.Errorf("layers names %s, which does not exist", name)
		}
	}
	for owner := range owners {
		if !used[owner] {
			t.Errorf("owners names %s, which nobody imports", owner)
		}
	}
}

// foreign tells a module from the standard library: its first element is a host.
func foreign(imp string) bool {
	host, _, _ := strings.Cut(imp, "/")
	return strings.Contains(host, ".")
}

func ownerOf(imp string) (owner string, by []string) {
	for o, by := range owners {
		if within(imp, o) {
			return o, by
		}
	}
	return "", nil
}

func within(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

// sources reads the imports and package comments of every package of the module.
func sources(t *testing.T) map[string]*pkg {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*pkg{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); path != root && (n == "testdata" || n[0] == '.' || n[0] == '_') {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		name := filepath.ToSlash(dir)
		if found[name] == nil {
			found[name] = &pkg{imports: map[string]bool{}, tests: map[string]bool{}}
		}
		found[name].add(f, strings.HasSuffix(path, "_test.go"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 10 {
		t.Fatalf("found only %v", slices.Sorted(maps.Keys(found)))
	}
	return found
}

func (p *pkg) add(f *ast.File, test bool) {
	into := p.tests
	if !test {
		into = p.imports
		p.files++
		if f.Doc != nil {
			p.docs++
		}
	}
	for _, spec := range f.Imports {
		if path, err := strconv.Unquote(spec.Path.Value); err == nil {
			into[path] = true
		}
	}
}
