package executor

import (
	"strings"
	"testing"
)

// A device may say what an object is called, and nothing else.
func TestADeviceNamesObjectsOfTheirKindOnly(t *testing.T) {
	t.Parallel()
	const id = "windows:member:Users/zora"
	for said, want := range map[string]string{
		"":                         id,
		"windows:member:S-1-5/S-1": "windows:member:S-1-5/S-1",
		"windows:group:Users":      id,
		"linux:member:S-1-5/S-1":   id,
		"windows:member":           id,
		"member":                   id,
		"windows:member:a\nb":      id,
		"windows:member:a\x1b[2Jb": id,
		"windows:member:" + strings.Repeat("a", maxObject): id,
	} {
		if got := nameOf(id, said); got != want {
			t.Errorf("%q is %q, want %q", said, got, want)
		}
	}
	if got := nameOf("shell3:make it", "shell3:other"); got != "shell3:make it" {
		t.Errorf("a script is %q", got)
	}
}
