package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"runner/engine"
	"runner/engine/journal"
)

func viewDiff(d engine.StepDiff) diffJSON {
	return diffJSON{Step: d.N, Object: d.Object, Before: d.Before, After: d.After, Hidden: d.Hidden}
}

// describeDiffs prints what objects were and are, or would be, as diff -u does.
func describeDiffs(w io.Writer, ds []diffJSON, check bool) {
	is := "is"
	if check {
		is = "would be"
	}
	for _, d := range ds {
		if d.Hidden {
			_, _ = fmt.Fprintf(w, "\nstep %d: %s %s another one; it is not shown\n", d.Step, oneLine(d.Object), is)
			continue
		}
		_, _ = fmt.Fprintf(w, "\nstep %d: %s\n", d.Step, oneLine(d.Object))
		text := string(diff.Diff("was", lines(d.Before), is, lines(d.After)))
		_, text, _ = strings.Cut(text, "\n") // "diff was is"
		for line := range strings.Lines(text) {
			_, _ = w.Write(journal.Clean([]byte(line), false))
		}
	}
}

// lines ends a text with a line break, if there is any.
func lines(s string) []byte {
	s = strings.TrimRight(s, "\n")
	if s == "" {
		return nil
	}
	return []byte(s + "\n")
}
