package template

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"runner/engine/lang"
	"runner/engine/module"
)

// noting are the functions that note a problem; the code is the first text
// among what they are given.
var noting = []string{"Problem", "ProblemAt", "problem", "misuse", "unexpanded", "Add", "AddNear", "Hidden", "Warn"}

var codeWord = regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)

// codesOf returns the codes that a package notes, each with a place in its source.
func codesOf(t *testing.T, dir string) map[string]token.Position {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	found, set := map[string]token.Position{}, token.NewFileSet()
	note := func(e ast.Expr) bool {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return false
		}
		code, err := strconv.Unquote(lit.Value)
		if err == nil && codeWord.MatchString(code) {
			found[code] = set.Position(lit.Pos())
		}
		return true
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.CallExpr:
				for i := 0; slices.Contains(noting, called(x)) && i < len(x.Args) && !note(x.Args[i]); i++ {
				}
			case *ast.KeyValueExpr:
				if id, ok := x.Key.(*ast.Ident); ok && id.Name == "Code" {
					note(x.Value)
				}
			case *ast.CompositeLit: // {regexp, code, words}
				if len(x.Elts) == 3 {
					if c, ok := x.Elts[0].(*ast.CallExpr); ok && called(c) == "MustCompile" {
						note(x.Elts[1])
					}
				}
			}
			return true
		})
	}
	return found
}

func called(x *ast.CallExpr) string {
	switch f := x.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// TestEveryKindOfProblemHasACase holds the source, the list of codes and the
// corpora against each other.
func TestEveryKindOfProblemHasACase(t *testing.T) {
	t.Parallel()
	shown := ""
	for _, pattern := range []string{"../../testdata/template/*/*.out", "../../testdata/template/pairs/*/problems.out", "../inventory/testdata/err/*.out"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			shown += string(text)
		}
	}
	noted := map[string]token.Position{}
	for _, dir := range []string{"../lang", ".", "../inventory"} {
		for code, at := range codesOf(t, dir) {
			noted[code] = at
			if lang.Codes[code] == "" {
				t.Errorf("%s: %q is not in lang.Codes", at, code)
			}
			if !strings.Contains(shown, "["+code+"]\n") && !slices.Contains(noCase, code) {
				t.Errorf("%s: no case of testdata/template shows %q", at, code)
			}
		}
	}
	for code := range lang.Codes {
		if _, ok := noted[code]; !ok && !strings.Contains(shown, "["+code+"]\n") && !slices.Contains(noCase, code) {
			t.Errorf("lang.Codes has %q, which nothing says", code)
		}
	}
	if files, _ := filepath.Glob("../../testdata/template/err/*.yaml"); len(files) < 80 {
		t.Errorf("%d cases, and there were at least 80", len(files))
	}
}

// noCase are codes that no file of a corpus can have: of evaluations, of what
// inventories only tell, of inventories and templates together, and of
// operators that a later version of the expression language may bring.
var noCase = []string{"expr-error", "notice", "unknown-param", "unknown-operator"}

func TestTemplatesThatDoNotGoTogetherAreExplained(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob("../../testdata/template/pairs/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal(dirs, err)
	}
	reg, err := module.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			lib, ps := Open("", os.DirFS(dir), reg)
			ps = append(ps, lib.Coverage()...)
			if len(ps) == 0 {
				t.Fatal("nothing is said about them")
			}
			golden(t, filepath.Join(dir, "problems.out"), ps.Error()+"\n")
		})
	}
}
