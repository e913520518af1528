// Package pscheck checks the syntax of PowerShell with tree-sitter's grammar, for
// tests. Node and npm bring the grammar, pinned by hash and without install
// scripts. It refuses to say that a script is right: it only finds what no
// PowerShell would read.
package pscheck

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Check fails the test when one of the sources, by name, is no PowerShell.
func Check(t *testing.T, sources map[string]string) {
	t.Helper()
	out, err := parse(t, sources)
	if err != nil {
		t.Errorf("no PowerShell (%v):\n%s", err, out)
	}
}

// Refused checks that a source is found to be wrong: a check that finds nothing
// checks nothing.
func Refused(t *testing.T, source string) {
	t.Helper()
	if out, err := parse(t, map[string]string{"source": source}); err == nil || len(out) == 0 {
		t.Errorf("%q passes for PowerShell (%v) %s", source, err, out)
	}
}

func parse(t *testing.T, sources map[string]string) ([]byte, error) {
	t.Helper()
	in, err := json.Marshal(sources)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "node", "--liftoff-only", "pscheck.mjs")
	c.Dir = installed(t)
	c.Stdin = bytes.NewReader(in)
	return c.CombinedOutput()
}

// files are what an installation starts from.
var files = []string{"package.json", "package-lock.json", "pscheck.mjs"}

var once sync.Mutex

// installed returns a folder in which the checker is ready. It is kept in the
// user's cache under the hash of its files.
func installed(t *testing.T) string {
	t.Helper()
	once.Lock()
	defer once.Unlock()
	sum := sha256.New()
	text := map[string][]byte{}
	for _, name := range files {
		b, err := os.ReadFile(filepath.Join(root(t), "testdata", "pscheck", name))
		if err != nil {
			t.Fatal(err)
		}
		text[name] = b
		_, _ = sum.Write(b)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "runner-pscheck-"+hex.EncodeToString(sum.Sum(nil)[:8]))
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err == nil {
		return dir
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	tmp, err := os.MkdirTemp(cache, "runner-pscheck-") //nolint:usetesting // it becomes the cache by renaming
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	for name, b := range text {
		if err := os.WriteFile(filepath.Join(tmp, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund")
	c.Dir = tmp
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if err := os.Rename(tmp, dir); err != nil { // another process may have been first
		if _, serr := os.Stat(filepath.Join(dir, "node_modules")); serr != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// root is the folder of go.mod.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}
