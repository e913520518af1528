package journal

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCleanKeepsTheTerminalOfTheReaderSafe(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ in, plain, color string }{
		"text":               {"a\tb\nß €\n", "a\tb\nß €\n", ""},
		"colour":             {"\x1b[1;31mred\x1b[0m \x1b[38;5;8mx\x1b[48;2;1;2;3my\x1b[4:3mz\x1b[m", "red xyz", "\x1b[1;31mred\x1b[0m \x1b[38;5;8mx\x1b[48;2;1;2;3my\x1b[4:3mz\x1b[m"},
		"concealed":          {"\x1b[8mhidden\x1b[0;8mtoo\x1b[5mblink\x1b[38;5mx\x1b[99999999999999999999my", "hiddentooblinkxy", ""},
		"private m":          {"\x1b[>4;2mx\x1b[?1my\x1b[1 mz", "xyz", ""},
		"cursor and erase":   {"evil\x1b[2K\x1b[1A\x1b[H\x1b[2Jok", "evilok", ""},
		"title":              {"a\x1b]0;rm -rf\x07b\x1b]2;x\x1b\\c", "abc", ""},
		"link":               {"\x1b]8;;http://evil.example/\x1b\\text\x1b]8;;\x1b\\", "text", ""},
		"clipboard":          {"\x1b]52;c;cm0gLXJmIC8K\x07x", "x", ""},
		"device strings":     {"a\x1bP1;2|x\x1b\\b\x1b_x\x1b\\c\x1b^y\x1b\\d\x1bXz\x1b\\e", "abcde", ""},
		"string never ended": {"a\x1b]0;all the rest\nis seen", "a0;all the rest\nis seen", ""},
		"string, then end":   {"a\x1bPall the rest", "aall the rest", ""},
		"string, then ESC":   {"a\x1b]0;x\x1b[31mb", "ab", "a\x1b[31mb"},
		"CSI never ended":    {"\x1b[31", "[31", ""},
		"CSI broken off":     {"\x1b[31\nx\x1b[3\x1b[1my", "[31\nx[3y", "[31\nx[3\x1b[1my"},
		"CSI too long":       {"\x1b[" + strings.Repeat("1", 80) + "mx", "[" + strings.Repeat("1", 80) + "mx", ""},
		"charset and reset":  {"\x1b(0\x1bc\x1b#8\x1b7x\x1b=y", "xy", ""},
		"ESC ESC":            {"\x1b\x1b[31mx\x1b\ny\x1b", "x\ny", "\x1b[31mx\ny"},
		"C1 as UTF-8":        {"a\u009b31mb\u0085c\u009d0;x\u009c", `a\u009b31mb\u0085c\u009d0;x\u009c`, ""},
		"C1 as bytes":        {"a\x9b2Jb\xe9", `a\x9b2Jb\xe9`, ""},
		"C0":                 {"a\x00b\x07c\bd\x0ee\x0bf\x7fg", `abcd\x0ee\x0bf\x7fg`, ""},
		"crlf":               {"a\r\nb\r\r\nc\n\rd", "a\nb\nc\nd", ""},
		"overwriting":        {"rm -rf /\rls      \n10%\r20%\r\x1b[Kdone\r", "rm -rf /\nls      \n10%\n20%\ndone\n", ""},
		"bidi":               {"user\u202e nimda\u2066x\u200fy", `user\u202e nimda\u2066x\u200fy`, ""},
		"invisible":          {"a\u200bb\ufeffc\u2028d\U000e0041", `a\u200bb\ufeffc\u2028d\U000e0041`, ""},
		"joined emoji":       {"👩‍💻 שלום", "👩‍💻 שלום", ""},
		"half a rune":        {"a\xe2\x82", `a\xe2\x82`, ""},
	}
	for name, tt := range tests {
		if tt.color == "" {
			tt.color = tt.plain
		}
		if got := string(Clean([]byte(tt.in), false)); got != tt.plain {
			t.Errorf("%s: got %q, want %q", name, got, tt.plain)
		}
		if got := string(Clean([]byte(tt.in), true)); got != tt.color {
			t.Errorf("%s, colour: got %q, want %q", name, got, tt.color)
		}
	}
}

var sgr = regexp.MustCompile(`\x1b\[[0-9;:]*m`)

// unsafe returns what of a clean text could drive a terminal.
func unsafe(text string, color bool) string {
	if !utf8.ValidString(text) {
		return "not UTF-8"
	}
	if color {
		text = sgr.ReplaceAllString(text, "")
	}
	i := strings.IndexFunc(text, func(r rune) bool {
		return r < 0x20 && r != '\n' && r != '\t' || r == 0x7f || r != utf8.RuneError && misleading(r)
	})
	if i < 0 {
		return ""
	}
	return text[i:]
}

func FuzzClean(f *testing.F) {
	f.Add([]byte("\x1b[31mx\x1b]0;a\x07\r\n\u202e\x9b\xc2"), uint(1), true)
	f.Add([]byte("\x1bP\x1b\\\x1b[8;1m\x1b[38;5;8m\x18\x1a"), uint(5), false)
	f.Fuzz(func(t *testing.T, p []byte, size uint, color bool) {
		whole := Clean(p, color)
		if bad := unsafe(string(whole), color); bad != "" {
			t.Fatalf("from %q came %q", p, bad)
		}
		c := Cleaner{Color: color}
		var pieces []byte
		for piece := range slices.Chunk(p, int(size%17)+1) {
			out := c.Write(piece)
			pieces = append(pieces, out...)
			if bad := unsafe(string(pieces), color); bad != "" {
				t.Fatalf("a part of %q came out as %q", p, bad)
			}
		}
		pieces = append(pieces, c.Flush()...)
		if string(pieces) != string(whole) {
			t.Fatalf("in pieces %q, at once %q", pieces, whole)
		}
		if again := Clean(whole, color); string(again) != string(whole) {
			t.Fatalf("cleaned twice %q, once %q", again, whole)
		}
	})
}
