package lang

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestParseRefusesFilesThatAreNoPlainText(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for name, c := range map[string]struct{ text, want string }{
		"latin-1":         {"a: 1\nb: caf\xe9\n", "f.yaml:2:7: this byte is not UTF-8 text; save the file as UTF-8"},
		"control":         {"a: x\x07y\n", "f.yaml:1:5: control character U+0007; write it as an escape in double quotes"},
		"nul":             {"\x00", "f.yaml:1:1: control character U+0000; write it as an escape in double quotes"},
		"carriage return": {"a: 1\rb: 2\n", "f.yaml:1:5: a carriage return without a line feed; save the file with LF or CRLF line ends"},
		"second bom":      {"a: 1\n\ufeffb: 2\n", "f.yaml:2:1: a byte order mark may only stand at the start of the file"},
		"large":           {strings.Repeat("#", maxFile+1), "f.yaml:1:1: the file is larger than 1 MiB"},
		"deep":            {"a: " + deep(65), "f.yaml:1:68: lists and maps are nested more than 64 levels deep"},
		"very deep":       {"a: " + deep(40_000), "f.yaml:1:68: lists and maps are nested more than 64 levels deep"},
		"deep lists":      {strings.Repeat("- ", 40_000) + "x", "f.yaml:1:1025: lists and maps are nested more than 64 levels deep"},
		"deep maps":       {nested(70), "f.yaml:65:66: lists and maps are nested more than 64 levels deep"},
		"many":            {strings.Repeat("- a\n", 20_001), "f.yaml:1:1: the file has more than 20000 values"},
		"far too many":    {"- [" + strings.Repeat("a,", 60_000) + "]\n", "f.yaml:1:1: the file has more than 20000 values"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			_, ps := Parse("f.yaml", []byte(c.text))
			if len(ps) != 1 || ps[0].Pos.String()+": "+ps[0].Said() != c.want {
				t.Errorf("got %.300v, want %s", ps, c.want)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}

// nested returns maps within maps.
func nested(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%sa:\n", strings.Repeat(" ", i))
	}
	return b.String()
}

func TestParseTakesWindowsLineEndsAndAByteOrderMark(t *testing.T) {
	t.Parallel()
	docs, ps := Parse("f.yaml", []byte("\ufeffa: 1\r\nb: |\r\n  x\r\n  y\r\n"))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	b := docs[0].Get("b")
	if b.Text != "x\ny\n" || b.At(2) != (Pos{"f.yaml", 4, 3}) || docs[0].Pos.Col != 1 {
		t.Errorf("%q, y at %v, map at %v", b.Text, b.At(2), docs[0].Pos)
	}
}

func TestEndlessWorkIsStopped(t *testing.T) {
	t.Parallel()
	scope := Scope{"l": ListOf(String), "s": String, "any": Any}
	long := make([]string, 300)
	env := Env{"l": long[:250], "s": strings.Repeat("x", 1000), "any": int64(2_000_000_000)}
	big := Env{"l": long, "s": "x", "any": long}
	for name, c := range map[string]struct {
		src  string
		env  Env
		want string
	}{
		"loops in loops":  {"all(1..150000, all(l, # != 'y'))", env, "all(1..150000, all(l, # != 'y')): the expression takes too long"},
		"long list":       {"all(l, # == '')", big, "t.yaml:2:3: all(l, # == ''): l has a list of 300 elements; expressions go over at most 256"},
		"range":           {"len(1..1000000000)", env, "t.yaml:2:8: len(1..1000000000): the expression makes too large a value"},
		"doubled string":  {"map([s], # + # + # + #) | map(# + # + # + #) | map(# + # + # + #) | map(# + # + # + #) | map(# + # + # + # + #)", env, "+: the result is longer than 1 MiB"},
		"doubled list":    {"len(map(1..200, l) | map(concat(#, #, #, #)) | map(concat(#, #, #, #)))", env, "the expression makes too large a value"},
		"replaced string": {"len(replace(s, '', s + s))", env, "replace: the result is longer than 1 MiB"},
		"joined string":   {"len(join(map(1..2000, s)))", env, "join: the result is longer than 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, ps := CompileExpr(block(t, c.src), Any, scope)
			if len(ps) > 0 {
				t.Fatal(ps)
			}
			start := time.Now()
			_, err := e.Eval(c.env)
			if err == nil || !strings.HasSuffix(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
	for name, c := range map[string]struct{ src, want string }{
		"int of unknown type": {"{{ range any }}{{ end }}", "t.yaml:2:3: the text takes too long to make"},
		"loops in loops":      {"{{ range until 9999 }}{{ range until 9999 }}{{ end }}{{ end }}", "the text takes too long to make"},
		"long text":           {"{{ range until 9999 }}{{ s }}{{ end }}", "the text is longer than 1 MiB"},
		"doubled string":      {"{{ $a := repeat 900 s }}{{ $b := cat $a $a }}{{ len $b }}", "cat: the result is longer than 1 MiB"},
		"long list":           {"{{ until 10001 | join `` }}", "until: the list has more than 10000 elements"},
	} {
		t.Run("text "+name, func(t *testing.T) {
			t.Parallel()
			v, ps := CompileValue(block(t, c.src), String, scope)
			if len(ps) > 0 {
				t.Fatal(ps)
			}
			start := time.Now()
			_, err := v.Eval(env)
			if err == nil || !strings.HasSuffix(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}

func TestLargeSourcesAreRefusedNotParsed(t *testing.T) {
	t.Parallel()
	for _, open := range []string{"(", "not ", "[", "a ? ", "-", "f("} {
		_, ps := CompileExpr(&Node{Text: strings.Repeat(open, maxExprText/len(open)), Quoted: true}, Any, Scope{"a": Bool})
		if len(ps) != 1 {
			t.Errorf("%s: %v", open, ps)
		}
	}
	_, ps := CompileExpr(&Node{Text: strings.Repeat("(", maxExprText+1), Quoted: true}, Any, nil)
	if len(ps) != 1 || ps[0].Code != "too-large" {
		t.Errorf("%v", ps)
	}
	_, ps = CompileExpr(&Node{Text: strings.Repeat("1+", 600) + "1", Quoted: true}, Any, nil)
	if len(ps) != 1 || ps[0].Message != "the expression has more than 500 parts; split it" {
		t.Errorf("%v", ps)
	}
	for _, open := range []string{"(", `"$(`, "if ", "${x:-", "<<a "} {
		if _, _, ps := CompileScript(&Node{Text: strings.Repeat(open, maxScript/4/len(open)), Quoted: true}, nil); len(ps) == 0 {
			t.Errorf("%s is no problem", open)
		}
	}
	_, _, ps = CompileScript(&Node{Text: strings.Repeat("x", maxScript+1), Quoted: true}, nil)
	if len(ps) != 1 || ps[0].Code != "too-large" {
		t.Errorf("%v", ps)
	}
	for _, open := range []string{"{{ if a }}", "{{ (((((((((((((((", "{{ a | "} {
		if _, ps := CompileValue(&Node{Text: strings.Repeat(open, 3000), Quoted: true}, String, Scope{"a": Bool}); len(ps) != 1 {
			t.Errorf("%s: %v", open, ps)
		}
	}
}

func TestCompiledThingsMayBeSharedByGoroutines(t *testing.T) {
	t.Parallel()
	e, ps := CompileExpr(block(t, "all(users, .uid > 0) and params.name + 'x' == 'bobx'"), Bool, testScope())
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	v, ps := CompileValue(block(t, "{{ range users }}{{ .name | upper }}{{ end }} {{ params.name }}"), String, testScope())
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	env := testEnv()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if got, err := e.Eval(env); err != nil || got != true {
					t.Errorf("%v, %v", got, err)
				}
				if got, err := v.Eval(env); err != nil || got != "ANNBOB bob" {
					t.Errorf("%v, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
}
