package inventory

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

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

// cases returns the files of a folder of testdata.
func cases(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s: %v", folder, err)
	}
	return files
}

func TestProblemsAreSaidToTheirAuthor(t *testing.T) {
	t.Parallel()
	for _, file := range cases(t, "err") {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			set, ps := Read("inventories/"+filepath.Base(file), string(text))
			if len(ps) == 0 || set != nil {
				t.Fatalf("loaded although it is wrong")
			}
			got := ps.Error() + "\n"
			if strings.Contains(got, "hunter2") {
				t.Errorf("a message shows a secret:\n%s", got)
			}
			for _, p := range ps {
				if p.Code == "" || p.Pos.Line < 1 || p.Pos.Col < 1 || p.Pos.File == "" {
					t.Errorf("problem without code or place: %#v", p)
				}
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".out", got)
		})
	}
}

func TestCredentialsResolveToWholeConnections(t *testing.T) {
	t.Parallel()
	for _, file := range cases(t, "ok") {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			set, ps := Read("inventories/"+filepath.Base(file), string(text))
			if len(ps) > 0 {
				t.Fatal(ps)
			}
			var b strings.Builder
			for _, n := range set.Notices {
				fmt.Fprintln(&b, n)
			}
			for _, name := range slices.Sorted(maps.Keys(set.Credentials)) {
				conn, err := set.Resolve(name)
				if err != nil {
					t.Fatal(err)
				}
				out, err := json.MarshalIndent(conn, "", "  ")
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "%s: %s\n", name, out)
				var back Connection
				if err := json.Unmarshal(out, &back); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(*conn, back); diff != "" {
					t.Errorf("%s is not the same after JSON:\n%s", name, diff)
				}
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".out", b.String())
		})
	}
}

func TestNoDamageToADocumentBreaksTheReader(t *testing.T) {
	t.Parallel()
	for _, file := range append(cases(t, "err"), cases(t, "ok")...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(string(text), "\n")
		for i := 0; i < len(lines); i += 3 {
			without := strings.Join(lines[:i], "") + strings.Join(lines[i+1:], "")
			cut := strings.Join(lines[:i], "") + lines[i][:len(lines[i])/2]
			for _, text := range []string{without, cut} {
				set, ps := Read("x.yaml", text)
				if (set == nil) != (len(ps) > 0) {
					t.Errorf("%s without line %d: %v, %d problems", file, i+1, set, len(ps))
				}
				if set == nil {
					continue
				}
				for name := range set.Credentials {
					if _, err := set.Resolve(name); err != nil {
						t.Errorf("%s without line %d: %v", file, i+1, err)
					}
				}
			}
		}
	}
}
