package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func newMask(tb testing.TB, secrets ...string) *Mask {
	tb.Helper()
	m := &Mask{}
	for _, s := range secrets {
		if err := m.Add(New(s)); err != nil {
			tb.Fatal(err)
		}
	}
	return m
}

// through sends text through a new stream in pieces that end at cuts.
func through(m *Mask, text string, cuts ...int) string {
	st := m.Stream()
	var out []byte
	from := 0
	for _, c := range cuts {
		out = append(out, st.Write([]byte(text[from:c]))...)
		from = c
	}
	out = append(out, st.Write([]byte(text[from:]))...)
	return string(append(out, st.Flush()...))
}

// slowly masks by looking for each pattern everywhere: what a Stream has to
// come to, whatever the cuts.
func slowly(patterns []string, text string) string {
	hidden := make([]bool, len(text))
	for _, p := range patterns {
		for i := 0; i+len(p) <= len(text); i++ {
			if text[i:i+len(p)] == p {
				for j := range len(p) {
					hidden[i+j] = true
				}
			}
		}
	}
	for at := range len(text) {
		rest := text[at:]
		if len(rest) >= MinMasked && slices.ContainsFunc(patterns, func(p string) bool {
			return len(rest) < len(p) && 2*len(rest) >= len(p) && strings.HasPrefix(p, rest)
		}) {
			for j := at; j < len(text); j++ {
				hidden[j] = true
			}
			break
		}
	}
	var b strings.Builder
	for i := range len(text) {
		switch {
		case !hidden[i]:
			b.WriteByte(text[i])
		case i == 0 || !hidden[i-1]:
			b.WriteString(Hidden)
		}
	}
	return b.String()
}

func TestMaskHidesEveryFormOfASecret(t *testing.T) {
	t.Parallel()
	const s = `Pa$s'w0"rd<&/+?=%\é-ω`
	wide := string(utf16le(s))
	jsonOf := func(v string) string { b, _ := json.Marshal(v); return string(b[1 : len(b)-1]) }
	forms := map[string]string{
		"raw":              s,
		"sh":               strings.ReplaceAll(s, "'", `'\''`),
		"sh, other style":  strings.ReplaceAll(s, "'", `'"'"'`),
		"PowerShell":       strings.ReplaceAll(s, "'", "''"),
		"URL query":        url.QueryEscape(s),
		"URL query, lower": "Pa%24s%27w0%22rd%3c%26%2f%2b%3f%3d%25%5c%c3%a9-%cf%89",
		"URL path":         url.PathEscape(s),
		"JSON":             jsonOf(s),
		"JSON, plain":      `Pa$s'w0\"rd<&/+?=%\\é-ω`,
		"JSON, ASCII":      `Pa$s'w0\"rd<&/+?=%\\\u00e9-\u03c9`,
		"XML":              `Pa$s&apos;w0&quot;rd&lt;&amp;/+?=%\é-ω`,
		"XML text":         `Pa$s'w0"rd&lt;&amp;/+?=%\é-ω`,
		"HTML":             html.EscapeString(s),
		"hex":              hex.EncodeToString([]byte(s)),
		"HEX":              strings.ToUpper(hex.EncodeToString([]byte(s))),
		"UTF-16":           wide,
		"base64":           base64.StdEncoding.EncodeToString([]byte(s)),
		"base64 of UTF-16": base64.StdEncoding.EncodeToString([]byte(wide)),
	}
	m := newMask(t, s)
	for name, form := range forms {
		if got, want := through(m, "<a>"+form+"<z>"), "<a>***<z>"; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestMaskHidesBase64InEveryAlignment(t *testing.T) {
	t.Parallel()
	const s = "hunter2-correct~horse"
	m := newMask(t, s)
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding} {
		for _, plain := range []string{s, string(utf16le(s))} {
			for before := range 7 {
				for after := range 4 {
					text := strings.Repeat("\xff", before) + plain + strings.Repeat("\xfe", after)
					got := m.String(enc.EncodeToString([]byte(text)))
					head := enc.EncodeToString([]byte(text[:before]))
					// At most the character on either side that the secret shares
					// with its neighbours, and padding, may be left.
					left := strings.TrimRight(strings.ReplaceAll(got, Hidden, ""), "=")
					if !strings.Contains(got, Hidden) || len(left) > len(strings.TrimRight(head, "="))+1+(8*after+5)/6+1 {
						t.Errorf("%d bytes before, %d after: %q", before, after, got)
					}
				}
			}
		}
	}
}

func TestMaskHidesLinesOfAMultiLineSecret(t *testing.T) {
	t.Parallel()
	key := "-----BEGIN KEY-----\nfirstlineofthekey\nsecondlineofthekey\nend\n-----END KEY-----\n"
	m := newMask(t, key)
	tests := map[string]string{
		"whole":     key,
		"crlf":      strings.ReplaceAll(key, "\n", "\r\n"),
		"one line":  "secondlineofthekey",
		"json":      strings.ReplaceAll(key, "\n", `\n`),
		"line, b64": base64.StdEncoding.EncodeToString([]byte("firstlineofthekey")),
	}
	for name, text := range tests {
		if got := m.String("[" + text + "]"); got != "[***]" {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := m.String("line 1: firstlineofthekey\nline 2: secondlineofthekey\nend"); got != "line 1: ***\nline 2: ***\nend" {
		t.Errorf("numbered lines: %q", got)
	}
	if got := m.String("-----BEGIN KEY----- is no secret"); got != "-----BEGIN KEY----- is no secret" {
		t.Errorf("armour was hidden: %q", got)
	}
	long := strings.Repeat("0123456789abcdef", 20)
	wrapped := base64.StdEncoding.EncodeToString([]byte(long))
	for _, width := range []int{64, 76} {
		var b strings.Builder
		for line := range slices.Chunk([]byte(wrapped), width) {
			b.Write(line)
			b.WriteByte('\n')
		}
		if got := newMask(t, long).String(b.String()); strings.Trim(got, "*\n") != "" {
			t.Errorf("wrapped at %d: %q", width, got)
		}
	}
}

func TestMaskRefusesValuesThatOccurByChance(t *testing.T) {
	t.Parallel()
	m := &Mask{}
	for _, s := range []string{"", "a", "cat07", "äöüßé", strings.Repeat("x", maxMasked+1)} {
		err := m.Add(New(s))
		if err == nil {
			t.Errorf("%d bytes were accepted", len(s))
		} else if s != "" && len(s) > 1 && strings.Contains(err.Error(), s) {
			t.Errorf("the error holds the value: %v", err)
		}
	}
	if got := m.String("cat07 stays"); got != "cat07 stays" {
		t.Errorf("got %q", got)
	}
	if err := m.Add(New("äöüßéñ")); err != nil {
		t.Errorf("six characters were refused: %v", err)
	}
}

func TestStreamHoldsBackOnlyTheStartOfASecret(t *testing.T) {
	t.Parallel()
	st := newMask(t, "topsecret").Stream()
	steps := []struct{ in, out string }{
		{"user ok\n", "user ok\n"},
		{"Password: t", "Password: "},
		{"op", ""},
		{"ography tops", "topography "},
		{"ecret", "***"},
		{"topsecret", ""}, // one run of hidden bytes
		{"!", "!"},
		{"topsecre", ""},
	}
	for _, s := range steps {
		if got := string(st.Write([]byte(s.in))); got != s.out {
			t.Errorf("Write(%q) = %q, want %q", s.in, got, s.out)
		}
	}
	if got := string(st.Flush()); got != Hidden {
		t.Errorf("a secret cut short by the end of the stream came out as %q", got)
	}
	st.Write([]byte("a top"))
	if got := string(st.Flush()); got != "top" {
		t.Errorf("harmless end of stream: %q", got)
	}
	if got := string(st.Write([]byte("secret!"))); got != "secret!" {
		t.Errorf("a flushed stream remembers: %q", got)
	}
}

func TestSecretAddedDuringAStreamIsHiddenFromThenOn(t *testing.T) {
	t.Parallel()
	m := newMask(t, "firstsecret")
	st := m.Stream()
	var out []byte
	out = append(out, st.Write([]byte("see fir"))...)
	if err := m.Add(New("first-rate")); err != nil {
		t.Fatal(err)
	}
	out = append(out, st.Write([]byte("st-rate and firstsecret."))...)
	if got := string(append(out, st.Flush()...)); got != "see *** and ***." {
		t.Errorf("got %q", got)
	}
}

func TestMaskAndStreamPrintNothingOfTheSecrets(t *testing.T) {
	t.Parallel()
	m := newMask(t, "topsecret")
	st := m.Stream()
	st.Write([]byte("topsec"))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if got := fmt.Sprintf(verb+verb, m, st); got != Hidden+Hidden {
			t.Errorf("%s: %s", verb, got)
		}
	}
}

// What takes long to build, and much memory, waits until there may be something to hide.
func TestWhatHidesIsBuiltWhenASecretBegins(t *testing.T) {
	t.Parallel()
	m := newMask(t, "topsecret")
	for _, c := range []struct {
		text, want string
		built      bool
	}{
		{"a topse", "a topse", false},
		{"a tops\netsec", "a tops\netsec", false},
		{"a topsecurity", "a topsecurity", true},
		{"a topsecret", "a ***", true},
	} {
		if got := m.String(c.text); got != c.want || (m.built.Load() != nil) != c.built {
			t.Errorf("%q became %q, built %v", c.text, got, !c.built)
		}
	}
}

func TestMaskIsSafeForSeveralGoroutines(t *testing.T) {
	t.Parallel()
	m := newMask(t, "secret-00")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s := fmt.Sprintf("secret-%02d", i)
			if err := m.Add(New(s)); err != nil {
				t.Error(err)
			}
			if got := m.String("x" + s + "y"); got != "x***y" {
				t.Errorf("got %q", got)
			}
		})
	}
	wg.Wait()
}

func TestAutomatonWorksWithoutCompleteRows(t *testing.T) {
	t.Parallel()
	patterns := []string{"abcabd", "bcabce", "cabcab", "abc\x00def", "zzzzzz"}
	full, bare := newAutomaton(patterns), newAutomaton(patterns)
	bare.rows = 1
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.SampledFrom([]rune("abcdez\x00f")), 0, 60, -1).Draw(t, "text")
		var x, y int32
		for i := range len(text) {
			x, y = full.next(x, text[i]), bare.next(y, text[i])
			if x != y {
				t.Fatalf("after %q: state %d with rows, %d without", text[:i+1], x, y)
			}
		}
	})
}

// Few characters make secrets overlap with themselves, each other and the text.
func TestRandomChunksLeakNothingAndLoseNothing(t *testing.T) {
	t.Parallel()
	word := rapid.StringOfN(rapid.SampledFrom([]rune("aab'\n$&é/")), 6, 14, -1)
	rapid.Check(t, func(t *rapid.T) {
		secrets := rapid.SliceOfN(word, 1, 3).Draw(t, "secrets")
		m := &Mask{}
		var patterns []string
		for _, s := range secrets {
			if err := m.Add(New(s)); err != nil {
				t.Skip(err)
			}
			patterns = append(patterns, variants(s)...)
		}
		pieces := rapid.SliceOfN(rapid.OneOf(
			rapid.SampledFrom(patterns),
			rapid.Custom(func(t *rapid.T) string {
				p := rapid.SampledFrom(patterns).Draw(t, "of")
				return p[:rapid.IntRange(0, len(p)).Draw(t, "cut")]
			}),
			rapid.StringOfN(rapid.SampledFrom([]rune("ab'\n$&é/ xY=%")), 0, 20, -1),
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 20), func(b []byte) string { return string(b) }),
		), 0, 8).Draw(t, "text")
		text := strings.Join(pieces, "")
		cuts := rapid.SliceOfN(rapid.IntRange(0, len(text)), 0, 12).Draw(t, "cuts")
		slices.Sort(cuts)
		got, want := through(m, text, cuts...), slowly(patterns, text)
		if got != want {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
		for _, p := range patterns {
			if strings.Contains(got, p) {
				t.Fatalf("leak of %q in %q", p, got)
			}
		}
	})
}

func FuzzStream(f *testing.F) {
	f.Add("topsecret", "a topsecret b", uint(3))
	f.Add("line one\nline two", "line oneline two", uint(1))
	f.Add("aaaaaa", "aaaaaaaaaaaaaaab", uint(7))
	f.Fuzz(func(t *testing.T, s, text string, size uint) {
		m := &Mask{}
		if m.Add(New(s)) != nil || len(s) > 64 || len(text) > 512 {
			return
		}
		st := m.Stream()
		var out []byte
		for piece := range slices.Chunk([]byte(text), int(size%31)+1) {
			out = append(out, st.Write(piece)...)
		}
		out = append(out, st.Flush()...)
		if want := slowly(variants(s), text); string(out) != want {
			t.Errorf("got %q, want %q", out, want)
		}
	})
}

// benchText looks like output of a package manager, with a secret now and then.
func benchText(size int, secret string) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "Get:%d http://deb.example.org/debian trixie/main amd64 package-%x amd64 %d.%d-%d [%d kB]\n", i, i*7919, i%9, i%13, i%5, i%4096)
		if i%1000 == 0 {
			fmt.Fprintf(&b, "echo %s | chpasswd\n", secret)
		}
	}
	return b.Bytes()[:size]
}

// The mask is compared with a plain copy of the same data in the same run:
// absolute figures depend on the machine.
func BenchmarkStream(b *testing.B) {
	const size = 8 << 20
	generated := func() string { v, _ := Generate(Spec{}); return v.Reveal() }
	secrets := []string{generated(), generated(), generated(), generated()}
	text := benchText(size, secrets[0])
	var key strings.Builder
	for range 40 {
		key.WriteString(base64.StdEncoding.EncodeToString([]byte(generated()+generated())) + "\n")
	}
	run := func(name string, write func(p []byte) int) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				for piece := range slices.Chunk(text, 16<<10) {
					write(piece)
				}
			}
		})
	}
	out := make([]byte, 0, 64<<10)
	run("copy", func(p []byte) int { out = append(out[:0], p...); return len(out) })
	four := newMask(b, secrets...).Stream()
	run("mask/4-passwords", func(p []byte) int { return len(four.Write(p)) })
	more := newMask(b, append(secrets, key.String())...).Stream()
	run("mask/4-passwords-and-a-key", func(p []byte) int { return len(more.Write(p)) })
	almost := newMask(b, key.String()).Stream()
	text = bytes.Repeat([]byte(key.String()), size/key.Len()+1)[:size]
	run("mask/nothing-but-a-key", func(p []byte) int { return len(almost.Write(p)) })
	text = bytes.Repeat([]byte(key.String()[:40]+"\n"+key.String()[40:70]), size/71+1)[:size]
	run("mask/almost-a-key", func(p []byte) int { return len(almost.Write(p)) })
}

func BenchmarkBuild(b *testing.B) {
	for name, size := range map[string]int{"password": 24, "key-3k": 3 << 10, "largest": maxMasked} {
		b.Run(name, func(b *testing.B) {
			text := strings.TrimSpace(strings.Repeat(pick(alphabets[Lower], 63)+"\n", size/64+1))[:size]
			patterns := variants(text)
			states := 0
			b.ReportAllocs()
			for b.Loop() {
				states = len(newAutomaton(patterns).label)
			}
			b.ReportMetric(float64(states), "states")
		})
	}
}
