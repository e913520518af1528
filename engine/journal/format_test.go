package journal

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"runner/engine/grant"
)

func TestFormatShowsWholeLinesWithStepAndStream(t *testing.T) {
	t.Parallel()
	chunks := []grant.Chunk{
		chunk(0, 0, Runner, "connected\n"),
		chunk(10, 1, Stdout, "one\ntw"),
		chunk(16, 1, Stderr, "warn"),
		chunk(20, 1, Stdout, "o\r\n\x1b[2Jthree"),
		chunk(32, 1, Stderr, "ing\n"),
		chunk(36, 2, Stdout, "\x1b[31mred\nstill\x1b[0m\nplain\n"),
		chunk(100, 2, Stdout, "after \u202e"),
		chunk(109, 12, "std\n\x1b[1mx\n", "end"),
	}
	tests := map[string]struct {
		style Style
		want  string
	}{
		"plain": {Style{}, ` 0 --- | connected
 1 out | one
 1 out | two
 1 err | warning
 1 out | three
 2 out | red
 2 out | still
 2 out | plain
… 39 bytes of output are not kept …
 2 out | after \u202e
12 std x | end
`},
		"bare": {Style{Bare: true}, "connected\none\ntwo\nwarning\nthree\nred\nstill\nplain\n… 39 bytes of output are not kept …\nafter \\u202e\nend\n"},
		"colour": {Style{Bare: true, Color: true}, "connected\none\ntwo\nwarning\nthree\n\x1b[31mred\x1b[0m\n\x1b[31mstill\x1b[0m\nplain\n" +
			"… 39 bytes of output are not kept …\nafter \\u202e\nend\n"},
	}
	for name, tt := range tests {
		var b strings.Builder
		if err := Format(&b, tt.style, chunks...); err != nil {
			t.Fatal(err)
		}
		if b.String() != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, b.String(), tt.want)
		}
	}
}

func TestFormatStampsLinesWithTheTimeOfTheirStart(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	err := Format(&b, Style{Times: true, From: 5}, chunk(5, 1, Stdout, "a"), chunk(6, 1, Stdout, "b\nc\n"))
	want := "2026-11-20T12:00:00.005Z  1 out | ab\n2026-11-20T12:00:00.006Z  1 out | c\n"
	if err != nil || b.String() != want {
		t.Errorf("got %q, %v", b.String(), err)
	}
}

func TestFormatBoundsLinesAndReportsTheWriter(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	var chunks []grant.Chunk
	for i := range 20 {
		chunks = append(chunks, chunk(int64(i)*maxChunk, 1, Stdout, strings.Repeat("x", maxChunk)))
	}
	if err := Format(&b, Style{Bare: true}, chunks...); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n != 5 || len(b.String()) != 20*maxChunk+n {
		t.Errorf("%d lines, %d bytes", n, b.Len())
	}
	if err := Format(failing{}, Style{}, chunks...); !errors.Is(err, errDiskFull) {
		t.Errorf("got %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errDiskFull }

func FuzzFormat(f *testing.F) {
	f.Add([]byte("\x1b[31mx\r\ny\x1b]0;a\x07\n\u202e"), uint(3), true)
	f.Fuzz(func(t *testing.T, p []byte, size uint, color bool) {
		var chunks []grant.Chunk
		var at int64
		for piece := range slices.Chunk(p, int(size%17)+1) {
			chunks = append(chunks, chunk(at, 1, []string{Stdout, Stderr}[len(chunks)%2], string(piece)))
			at += int64(len(piece))
		}
		var b strings.Builder
		if err := Format(&b, Style{Color: color}, chunks...); err != nil {
			t.Fatal(err)
		}
		if bad := unsafe(b.String(), color); bad != "" {
			t.Errorf("from %q came %q", p, bad)
		}
		for line := range strings.Lines(b.String()) {
			if !strings.HasPrefix(line, " 1 ") || !strings.HasSuffix(line, "\n") {
				t.Errorf("line %q", line)
			}
			all := sgr.FindAllString(line, -1)
			if n := len(all); n > 0 && all[n-1] != "\x1b[0m" && all[n-1] != "\x1b[m" {
				t.Errorf("colour runs on after %q", line)
			}
		}
	})
}
