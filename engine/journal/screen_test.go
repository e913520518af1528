package journal_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"runner/engine/journal"
)

func TestAScreenLetsThroughOnlyWhatDraws(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, out string }{
		{"text", "héllo\r\nworld\t\b", "héllo\r\nworld\t\b"},
		{"colours", "\x1b[1;31mred\x1b[0m\x1b[38;5;12m\x1b[4:3m", "\x1b[1;31mred\x1b[0m\x1b[38;5;12m\x1b[4:3m"},
		{"the cursor and what is erased", "\x1b[2J\x1b[10;20H\x1b[K\x1b[3A\x1b7\x1b8\x1b[1;24r", "\x1b[2J\x1b[10;20H\x1b[K\x1b[3A\x1b7\x1b8\x1b[1;24r"},
		{"the other screen", "\x1b[?1049h\x1b[?25l", "\x1b[?1049h\x1b[?25l"},
		{"line drawing", "\x1b(0lqk\x1b(B", "\x1b(0lqk\x1b(B"},
		{"what is answered", "a\x1b[c\x1b[>c\x1b[6n\x1b[?6n\x1b[5n\x1bZ\x1b[x\x1b[?1$p\x05b", "ab"},
		{"titles", "a\x1b]0;evil\x07\x1b]2;evil\x1b\\\x1bkevil\x1b\\b", "aevilb"}, // the last is of screen(1): seen, not acted upon
		{"the clipboard", "a\x1b]52;c;ZXZpbA==\x07b", "ab"},
		{"links", "\x1b]8;;http://evil\x1b\\text\x1b]8;;\x1b\\", "text"},
		{"the window", "a\x1b[8;1;1t\x1b[21tb", "ab"},
		{"the mouse and pasting", "a\x1b[?1000h\x1b[?1006h\x1b[?2004h\x1b[?1hb", "ab"},
		{"of several modes the harmless ones", "\x1b[?25;1000;7h", "\x1b[?25h\x1b[?7h"},
		{"printing", "a\x1b[5i\x1b[?5ib", "ab"},
		{"device control strings", "a\x1bP$qm\x1b\\\x1b_G\x1b\\\x1b^x\x1b\\b", "ab"},
		{"eight bit controls", "a\u009b6n\u009d0;x\u009cb\x9bc", "a6n0;xb\ufffdc"},
		{"keys that a terminal is told", "a\x1b=\x1b>\x1b[>4;2m\x1b[>1ub", "ab"},
		{"bells and nulls", "a\x07\x00\x7fb", "ab"},
		{"a string without an end hides one line", "a\x1b]0;x\nb", "a\nb"},
		{"a sequence in a sequence", "a\x1b[3\x1b[31mb", "a\x1b[31mb"},
		{"too much repeating", "a\x1b[9b\x1b[999999999b", "a\x1b[9b"},
	} {
		var s journal.Screen
		if got := string(s.Write([]byte(c.in))); got != c.out {
			t.Errorf("%s: got %q, want %q", c.name, got, c.out)
		}
		// the same however it arrives
		var bytewise journal.Screen
		var got strings.Builder
		for i := range len(c.in) {
			got.Write(bytewise.Write([]byte{c.in[i]}))
		}
		if got.String() != c.out {
			t.Errorf("%s: byte by byte %q, want %q", c.name, got.String(), c.out)
		}
	}
}

func TestAScreenKnowsWhoHasIt(t *testing.T) {
	t.Parallel()
	var s journal.Screen
	for _, step := range []struct {
		in            string
		full, between bool
	}{
		{"prompt$ ", false, true},
		{"\x1b[?10", false, false},
		{"49hvim", true, true},
		{"\xc3", true, false},
		{"\xa9\x1b]0;t", true, false},
		{"\x07\x1b[?1049l", false, true},
	} {
		s.Write([]byte(step.in))
		if s.Full() != step.full || s.Between() != step.between {
			t.Errorf("after %q: full %v, between %v", step.in, s.Full(), s.Between())
		}
	}
}

// Whatever comes in, nothing comes out that a terminal answers or obeys.
func TestNoNoiseGetsThroughAScreen(t *testing.T) {
	t.Parallel()
	alphabet := []string{"\x1b", "[", "]", "P", "?", "0", "1", "5", "6", "9", ";", "$", "c", "n", "t", "h", "l", "i", "p", "q", "\x07", "\\", "\n", "x", "\x9b", "\u009b", "é", "\xc3"}
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var in strings.Builder
		for range 60 {
			in.WriteString(alphabet[rng.IntN(len(alphabet))])
		}
		var s, again journal.Screen
		out := string(s.Write([]byte(in.String())))
		if twice := string(again.Write([]byte(out))); twice != out {
			t.Fatalf("%q became %q, and that %q", in.String(), out, twice)
		}
		for _, bad := range []string{"\x1b]", "\x1bP", "\x1b[c", "\x1b[6n", "\x1b[5i", "\u009b", "\x1b[?1000"} {
			if strings.Contains(out, bad) {
				t.Fatalf("%q became %q, with %q", in.String(), out, bad)
			}
		}
	}
}
