package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"
)

// syncBuffer is a buffer that several goroutines may use.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// eachCommand calls f with every command of the program.
func eachCommand(t *testing.T, f func(t *testing.T, root, c *cobra.Command)) {
	t.Helper()
	p, _ := tempProcess(t)
	root := newApp(p).root()
	n := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		n++
		t.Run(strings.ReplaceAll(c.CommandPath(), " ", "_"), func(t *testing.T) { f(t, root, c) })
		for _, s := range c.Commands() {
			walk(s)
		}
	}
	walk(root)
	if n < 40 {
		t.Errorf("found only %d commands", n)
	}
}

func TestHelpOfEveryCommandStartsWithExamples(t *testing.T) {
	t.Parallel()
	eachCommand(t, func(t *testing.T, _, c *cobra.Command) {
		t.Helper()
		text := help(c)
		examples, usage := strings.Index(text, "\nExamples:\n"), strings.Index(text, "\nUsage:\n")
		if examples < 0 || usage < examples {
			t.Errorf("no examples before the usage:\n%s", text)
		}
		if !strings.Contains(text, "\nExit codes:\n    0  done\n    1  failed\n    3  ") {
			t.Errorf("no exit codes:\n%s", text)
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || c.Short[:1] != strings.ToLower(c.Short[:1]) {
			t.Errorf("short help %q: want lower case and no full stop", c.Short)
		}
	})
}

// A line of an example that this program would refuse is worse than none.
func TestExamplesOfHelpCanBeTyped(t *testing.T) {
	t.Parallel()
	tried := 0
	eachCommand(t, func(t *testing.T, root, c *cobra.Command) {
		t.Helper()
		for line := range strings.Lines(c.Example) {
			_, line, _ = strings.Cut(strings.TrimSpace(line), "runner ")
			line, _, _ = strings.Cut(line, " # ")
			line, _, _ = strings.Cut(line, " > ")
			line, _, _ = strings.Cut(line, " && ")
			args := words(strings.TrimSpace(line))
			found, rest, err := root.Find(args)
			if err != nil || found == root && len(args) > 0 && args[0] != "help" && !strings.HasPrefix(args[0], "-") {
				t.Errorf("%q: no such command: %v", line, err)
				continue
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%q: %v", line, err)
				continue
			}
			if found.Args != nil && found.HasParent() {
				if err := found.Args(found, found.Flags().Args()); err != nil {
					t.Errorf("%q: %v", line, err)
				}
			}
			tried++
		}
	})
	if tried < 60 {
		t.Errorf("tried only %d examples", tried)
	}
}

// words splits a line as a shell does, but for escapes.
func words(line string) []string {
	var (
		out   []string
		word  strings.Builder
		quote rune
		open  bool
	)
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, open = r, true
		case quote == 0 && r == ' ':
			if open || word.Len() > 0 {
				out = append(out, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(r)
		}
	}
	if open || word.Len() > 0 {
		out = append(out, word.String())
	}
	return out
}

// Two codes with one meaning, or a code that no help tells, confuse scripts.
func TestExitCodesOfCommandsAreInTheTable(t *testing.T) {
	t.Parallel()
	known := map[int]string{}
	for _, e := range exitMeanings {
		if known[e.code] != "" {
			t.Errorf("code %d is in the table twice", e.code)
		}
		known[e.code] = e.meaning
	}
	if known[2] != "" {
		t.Error("2 is what a Go panic exits with")
	}
	eachCommand(t, func(t *testing.T, _, c *cobra.Command) {
		t.Helper()
		for _, code := range exitsOf(c) {
			if known[code] == "" {
				t.Errorf("code %d has no meaning", code)
			}
		}
	})
}
