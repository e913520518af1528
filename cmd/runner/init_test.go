package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// What packages do before main is paid by every command, also by version. One
// pattern with a class of letters 255 times took 10 MB and seven milliseconds.
func TestPackagesDoLittleBeforeMain(t *testing.T) {
	t.Parallel()
	self := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	self.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	var trace bytes.Buffer
	self.Stderr = &trace
	if err := self.Run(); err != nil {
		t.Fatal(err)
	}
	ours := 0
	for lines := bufio.NewScanner(&trace); lines.Scan(); {
		// init runner/engine/module @1.5 ms, 0.1 ms clock, 135728 bytes, 1681 allocs
		w := strings.Fields(lines.Text())
		if len(w) != 11 || w[0] != "init" || !strings.HasPrefix(w[1], "runner/") {
			continue
		}
		ours++
		if n, err := strconv.Atoi(w[7]); err != nil || n > 1<<20 {
			t.Errorf("%s allocates %s bytes before main: %v", w[1], w[7], err)
		}
	}
	if ours < 3 {
		t.Fatalf("%d packages of ours in the trace:\n%s", ours, trace.String())
	}
}
