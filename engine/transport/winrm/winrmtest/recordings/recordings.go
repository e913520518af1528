// Package recordings finds exchanges with real Windows hosts, for tests. They are not
// part of this repository; it refuses to read them.
package recordings

import (
	"os"
	"path/filepath"
	"testing"
)

// Folder returns where they are: the folder that WINRM_RECORDINGS names, or
// shared/reference/exchange beside the repository. Without them the test is
// skipped; a folder that is named and not there is an error.
func Folder(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("WINRM_RECORDINGS"); dir != "" { //nolint:forbidigo // of a test
		if !isDir(dir) {
			t.Fatalf("WINRM_RECORDINGS names %s, which is no folder", dir)
		}
		return dir
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; here != filepath.Dir(here); here = filepath.Dir(here) {
		if dir := filepath.Join(here, "shared", "reference", "exchange"); isDir(dir) {
			return dir
		}
	}
	t.Skip("no recordings of Windows hosts here: they are not part of the repository; WINRM_RECORDINGS names their folder")
	return ""
}

func isDir(path string) bool {
	info, err := os.Stat(path) //nolint:gosec // who runs tests says where to look
	return err == nil && info.IsDir()
}
