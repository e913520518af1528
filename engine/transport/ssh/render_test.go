package ssh

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"runner/engine/secret"
	"runner/engine/transport"
)

// texts are values that shells may read as something else.
func texts() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{
			"", "true", "false", "0", "1", "-1", "10", "9", "007", "-0", "+1", " 1", "1 ", "1\n", "-", "--1", "1-1", "0x10", "1e3", "9223372036854775807", "9223372036854775808",
			"-9223372036854775808", "-9223372036854775809", "99999999999999999999999", "(", ")", "!", "=", "-n", "-a", "x = y", "a b", "'", `"`, "`id`", "$(id)", "$x", "*", "\\", "\n", "a\n", "\xff\xfe", "é", "\x81\x82\x83", "\x01\x7f",
		}),
		rapid.StringOfN(rapid.Rune(), 0, 20, 60).Filter(func(s string) bool { return !strings.Contains(s, "\x00") }),
		rapid.Map(rapid.Int64(), func(n int64) string { return strconv.FormatInt(n, 10) }),
	)
}

func leaf() *rapid.Generator[transport.Value] {
	return rapid.Custom(func(t *rapid.T) transport.Value {
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			return transport.Lit{V: rapid.Bool().Draw(t, "bool")}
		case 1:
			return transport.Lit{V: rapid.Int64().Draw(t, "int")}
		case 2:
			return transport.Lit{V: secret.New(texts().Draw(t, "secret"))}
		case 3:
			return transport.Lit{V: rapid.SliceOfN(texts(), 0, 3).Draw(t, "list")}
		case 4:
			key := rapid.SampledFrom([]string{"k0", "k1", "k2", "absent", "rc", "changed", "failed", "skipped", "ran", "attempts"}).Draw(t, "key")
			return transport.Ref{Step: rapid.IntRange(0, 2).Draw(t, "step"), Key: key, Default: texts().Draw(t, "default")}
		}
		return transport.Lit{V: texts().Draw(t, "text")}
	})
}

func value() *rapid.Generator[transport.Value] {
	return rapid.Custom(func(t *rapid.T) transport.Value {
		if rapid.IntRange(0, 4).Draw(t, "concat") == 0 {
			return transport.Concat(rapid.SliceOfN(leaf(), 0, 3).Draw(t, "parts"))
		}
		return leaf().Draw(t, "leaf")
	})
}

func predicate(depth int) *rapid.Generator[transport.Pred] {
	return rapid.Custom(func(t *rapid.T) transport.Pred {
		kind := rapid.IntRange(0, 7).Draw(t, "kind")
		if depth == 0 {
			kind = rapid.IntRange(3, 7).Draw(t, "flat")
		}
		switch kind {
		case 0:
			return transport.Not{P: predicate(depth-1).Draw(t, "not")}
		case 1:
			return transport.And(rapid.SliceOfN(predicate(depth-1), 0, 3).Draw(t, "and"))
		case 2:
			return transport.Or(rapid.SliceOfN(predicate(depth-1), 0, 3).Draw(t, "or"))
		case 3:
			return transport.Const(rapid.Bool().Draw(t, "const"))
		case 4:
			v := value().Draw(t, "a")
			if rapid.Bool().Draw(t, "same") {
				return transport.Eq{A: v, B: v}
			}
			return transport.Eq{A: v, B: value().Draw(t, "b")}
		case 5:
			return transport.Less{A: value().Draw(t, "a"), B: value().Draw(t, "b"), OrEqual: rapid.Bool().Draw(t, "orequal")}
		case 6:
			return transport.In{A: value().Draw(t, "a"), Set: rapid.SliceOfN(value(), 0, 3).Draw(t, "set")}
		}
		return transport.True{V: value().Draw(t, "v")}
	})
}

// Whatever the condition and the values, the device decides as Holds does, and
// what is bound arrives as TextOf says.
func TestDeviceDecidesAsWeDo(t *testing.T) {
	t.Parallel()
	for name, sh := range shells(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := localConn(t, sh, "/bin/sh", "-c")
			rapid.Check(t, func(t *rapid.T) {
				known := map[string]string{}
				facts := transport.Step{N: 0, Body: transport.Body{Name: "facts", Text: `_out k0 "$a_k0"; _out k1 "$a_k1"; _out k2 "$a_k2"; _changed; return 7`}, Continue: true}
				for _, k := range []string{"k0", "k1", "k2"} {
					known["0."+k] = texts().Draw(t, k)
					facts.Args = append(facts.Args, transport.Arg{Name: k, Value: transport.Lit{V: known["0."+k]}})
				}
				maps.Copy(known, map[string]string{"0.rc": "7", "0.changed": "true", "0.failed": "true", "0.skipped": "false", "0.ran": "true", "0.attempts": "1", "1.rc": "0", "1.changed": "false", "1.failed": "false", "1.skipped": "true", "1.ran": "false", "1.attempts": "0"})
				get := func(r transport.Ref) string {
					if v, ok := known[fmt.Sprintf("%d.%s", r.Step, r.Key)]; ok {
						return v
					}
					return r.Default
				}
				steps := []transport.Step{facts, {N: 1, Body: transport.Body{Name: "never", Text: "_out k0 x"}, When: transport.Const(false)}}
				var preds []transport.Pred
				var vals []transport.Value
				for i := range rapid.IntRange(1, 12).Draw(t, "steps") {
					p, v := predicate(3).Draw(t, "pred"), value().Draw(t, "value")
					preds, vals = append(preds, p), append(vals, v)
					steps = append(steps, transport.Step{N: i + 3, When: p, Body: transport.Body{Name: "tell", Text: `_out v "$a_v"`}, Args: []transport.Arg{{Name: "v", Value: v}}})
				}
				var r record
				if err := c.Run(t.Context(), transport.Batch{Steps: steps}, r.sink); err != nil {
					t.Fatal(err)
				}
				for i, p := range preds {
					got, ran := r.fact(i+3, "v")
					if want := transport.Holds(p, get); ran != want {
						t.Fatalf("%#v\nheld on the device: %t, here: %t", p, ran, want)
					}
					if want := transport.TextOf(vals[i], get); ran && got != want {
						t.Fatalf("%#v\nis %q on the device, %q here", vals[i], got, want)
					}
				}
			})
		})
	}
}

func TestEveryByteArrives(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for a := 1; a < 256; a++ {
		all.WriteByte(byte(a))
		all.WriteByte('\'')
		all.WriteByte(byte(a))
		all.WriteByte(byte(a))
	}
	values := []string{all.String(), strings.Repeat(all.String(), 64), "ends in CR\r", "\r\n\r\n", strings.Repeat("\n", 1000), strings.Repeat("\\", 1001), strings.Repeat("'", 65536)}
	for name, sh := range shells(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := localConn(t, sh, "/bin/sh", "-c")
			var steps []transport.Step
			for i, v := range values {
				steps = append(steps, transport.Step{N: i, Body: transport.Body{Name: "tell", Text: `_out v "$a_v$_r1"`}, Args: []transport.Arg{arg("v", v), arg("_r1", secret.New(v))}})
			}
			var r record
			if err := c.Run(t.Context(), transport.Batch{Steps: steps}, r.sink); err != nil {
				t.Fatal(err)
			}
			for i, v := range values {
				if got, _ := r.fact(i, "v"); got != v+v {
					t.Errorf("value %d: %d bytes arrived of %d: %.80q", i, len(got), 2*len(v), got)
				}
			}
		})
	}
}

// The exec line is the only text that the login shell reads.
func TestExecLineInEveryLoginShell(t *testing.T) {
	t.Parallel()
	all := shells(t)
	all["yash"] = yash(t)
	for _, name := range []string{"fish", "tcsh"} {
		need(t, name)
		all[name] = name
	}
	for name, login := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := localConn(t, "/bin/sh", append(strings.Fields(login), "-c")...)
			var r record
			if err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{sh(1, `printf %s "$a_v"`, arg("v", "!! $x `y` \\"))}}, r.sink); err != nil {
				t.Fatal(err)
			}
			if got := r.output(1, transport.Stdout); got != "!! $x `y` \\" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestStepsDoNotLeakIntoEachOther(t *testing.T) {
	t.Parallel()
	for name, interpreter := range shells(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := localConn(t, interpreter, "/bin/sh", "-c")
			spoil := sh(1, `cat; cd /tmp; IFS=x; umask 000; set -f; PATH=/nowhere; LC_ALL=C.UTF-8; echo "$a_secret"; set -e`, arg("secret", secret.New("hush")))
			spoil.Continue = true
			look := sh(2, `echo "$(pwd) $(umask) <$IFS> ${a_secret-unset} ${a_mine} $LC_ALL" /et[c]; case $- in *e*) echo "set -e";; esac`, arg("mine", "here"))
			var r record
			if err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{spoil, look}}, r.sink); err != nil {
				t.Fatal(err)
			}
			if got, want := r.output(2, transport.Stdout), "/ 0077 < \t\n> unset here C /etc\n"; got != want && got != strings.Replace(want, "0077", "077", 1) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestBatchesThatCannotBeSentAreRefused(t *testing.T) {
	t.Parallel()
	c := localConn(t, "/bin/sh", "/bin/sh", "-c")
	for name, b := range map[string]transport.Batch{
		"NUL in a value":        {Steps: []transport.Step{sh(1, ":", arg("x", "a\x00b"))}},
		"NUL in a body":         {Steps: []transport.Step{sh(1, "a\x00b")}},
		"a path as id":          {ID: "../x"},
		"a blank in the scope":  {ID: "x", Scope: "a b"},
		"a number used twice":   {Steps: []transport.Step{sh(2, ":"), sh(1, ":"), sh(2, ":")}},
		"a negative number":     {Steps: []transport.Step{sh(-1, ":")}},
		"code as argument name": {Steps: []transport.Step{sh(1, ":", arg("x=;id", "a"))}},
		"a name of ours":        {Steps: []transport.Step{sh(1, ":", arg("__n", "a"))}},
		"an unknown type":       {Steps: []transport.Step{sh(1, ":", arg("x", 1.5))}},
		"NUL in a default":      {Steps: []transport.Step{sh(1, ":", arg("x", transport.Ref{Step: 0, Key: "k", Default: "\x00"}))}},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.Run(t.Context(), b, func(transport.Event) { t.Error("an event") })
			if code(err) != "exec.bad_batch" || !transport.SafeToRetry(err) {
				t.Errorf("error is %v", err)
			}
		})
	}
}
