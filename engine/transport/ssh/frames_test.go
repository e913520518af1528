package ssh

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const nonce = "0123456789abcdef01234567"

func mark(s string) string { return "\x1e" + nonce + " " + s }

// corpus are streams and what they say; text is in quotes.
var corpus = []struct{ name, in, want string }{
	{"plain text", "hello\n", `"hello\n"`},
	{"noise before", "Welcome!\r\nLast login\n" + mark("B 1\n"), `"Welcome!\r\nLast login\n" B1`},
	{"no line end before a frame", "abc" + mark("E 1 0 false false 1\n") + "x", `"abc" E1,0,false,false,1 "x"`},
	{"forged with a wrong nonce", "\x1e0123456789abcdef0123456x B 9\n", `"\x1e0123456789abcdef0123456x B 9\n"`},
	{"forged without a nonce", "\x1e B 9\n" + mark("B 1\n"), `"\x1e B 9\n" B1`},
	{"marker begun and begun again", "\x1e0123\x1e" + nonce + " B 1\n", `"\x1e0123" B1`},
	{"binary", "\x00\xff\x1e\x1e\x00" + mark("B 2\n") + "\x80", `"\x00\xff\x1e\x1e\x00" B2 "\x80"`},
	{"a fact", mark("F 1 uid 3\n123\n") + "t", `F1,uid,3="123" "t"`},
	{"an empty fact", mark("F 1 uid 0\n\n"), `F1,uid,0=""`},
	{"a fact that holds a frame", mark(fmt.Sprintf("F 1 k %d\n%s\n", len(mark("B 9\n")), mark("B 9\n"))), fmt.Sprintf("F1,k,%d=%q", len(mark("B 9\n")), mark("B 9\n"))},
	{"a fact with line ends", mark("F 1 k 3\na\n\n\n"), `F1,k,3="a\n\n"`},
	{"a negative length", mark("F 1 k -3\nabc\n"), fmt.Sprintf("%q", mark("F 1 k -3\nabc\n"))},
	{"an endless header", mark(strings.Repeat("x", 600)), fmt.Sprintf("%q", mark(strings.Repeat("x", 600)))},
	{"a fact beyond the limit", mark("F 1 k 1048577\n"+strings.Repeat("y", 1048577)+"\n") + mark("Z\n"), `F1,k,1048577! Z`},
	{"cut in a marker", "ab\x1e01234", `"ab\x1e01234"`},
}

// parse feeds parts and joins what was said; adjacent text is one.
func parse(parts ...[]byte) string {
	var out []string
	var text []byte
	flush := func() {
		if len(text) > 0 {
			out = append(out, fmt.Sprintf("%q", text))
			text = nil
		}
	}
	p := newParser(0, nonce, func(it item) {
		switch {
		case it.eof:
			flush()
		case it.frame == nil:
			text = append(text, it.text...)
		default:
			flush()
			s := it.frame[0] + strings.Join(it.frame[1:], ",")
			if it.big {
				s += "!"
			} else if it.frame[0] == "F" {
				s += fmt.Sprintf("=%q", it.text)
			}
			out = append(out, s)
		}
	})
	for _, b := range parts {
		p.feed(b)
	}
	p.end()
	return strings.Join(out, " ")
}

func TestFramesAreFoundWhereverTheStreamIsCut(t *testing.T) {
	t.Parallel()
	for _, c := range corpus {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in := []byte(c.in)
			if got := parse(in); got != c.want {
				t.Fatalf("\n got %s\nwant %s", got, c.want)
			}
			for i := range len(in) {
				if i > 600 && i < len(in)-100 {
					continue // the middle of a long text
				}
				if got := parse(in[:i], in[i:]); got != c.want {
					t.Fatalf("cut at %d:\n got %s\nwant %s", i, got, c.want)
				}
			}
			if len(in) < 2000 {
				if got := parse(bytes.SplitAfter(in, nil)...); got != c.want {
					t.Fatalf("byte by byte:\n got %s\nwant %s", got, c.want)
				}
			}
		})
	}
}

func TestTextIsNotHeldBack(t *testing.T) {
	t.Parallel()
	var got []byte
	p := newParser(0, nonce, func(it item) { got = append(got, it.text...) })
	for _, part := range []string{"a", "\x1e", "b", "\x1e" + nonce[:5]} {
		p.feed([]byte(part))
	}
	if string(got) != "a\x1eb" {
		t.Errorf("handed on %q; only what may be a marker may wait", got)
	}
}

func FuzzFrames(f *testing.F) {
	for _, c := range corpus {
		if len(c.in) < 5000 {
			f.Add([]byte(c.in), 3)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, at int) {
		whole := parse(in)
		if at < 0 || at > len(in) {
			return
		}
		if cut := parse(in[:at], in[at:]); cut != whole {
			t.Errorf("cut at %d: %s, whole: %s", at, cut, whole)
		}
	})
}

// The streams are read apart, so their pieces may be interleaved in any way;
// the events of a stream stay within the step in which they were written.
func TestStreamsAreJoinedAtTheFrames(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var in [2][]item
		var want [2]string
		add := func(s int, text string) {
			in[s] = append(in[s], item{stream: s, text: []byte(text)})
			want[s] += text
		}
		for n := range rapid.IntRange(1, 6).Draw(t, "steps") {
			for _, kind := range []string{"B", "E"} {
				for s := range 2 {
					for range rapid.IntRange(0, 3).Draw(t, "texts") {
						add(s, fmt.Sprintf("%s%d;", kind, n))
					}
					in[s] = append(in[s], item{stream: s, frame: []string{kind, strconv.Itoa(n)}})
				}
			}
		}
		var got [2]string
		var open string
		m := &merger{out: func(it item) bool {
			if it.frame != nil {
				open = map[string]string{"B": "E", "E": "B"}[it.frame[0]]
				return true
			}
			if open != "" && !strings.HasPrefix(string(it.text), open) {
				t.Fatalf("%q was told when %s was due", it.text, open)
			}
			got[it.stream] += string(it.text)
			return true
		}}
		for len(in[0])+len(in[1]) > 0 {
			s := rapid.IntRange(0, 1).Draw(t, "stream")
			if len(in[s]) == 0 {
				s = 1 - s
			}
			if ok, bad := m.put(in[s][0]); !ok || bad != "" {
				t.Fatalf("put: %v %q", ok, bad)
			}
			in[s] = in[s][1:]
		}
		if got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func TestFramesThatDifferAreRefused(t *testing.T) {
	t.Parallel()
	m := &merger{out: func(item) bool { return true }}
	m.put(item{frame: []string{"B", "1"}})
	if _, bad := m.put(item{stream: 1, frame: []string{"B", "2"}}); bad == "" {
		t.Error("B 1 and B 2 were joined")
	}
	m = &merger{out: func(item) bool { return true }}
	m.put(item{frame: []string{"B", "1"}})
	for range 9 {
		if _, bad := m.put(item{text: make([]byte, 1<<20)}); bad != "" {
			return
		}
	}
	t.Error("a stream may run ahead without end")
}
