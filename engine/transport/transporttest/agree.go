package transporttest

import (
	"fmt"
	"maps"
	"strconv"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"runner/engine/secret"
	"runner/engine/transport"
)

// Deciding are the programs that Agree needs, in the language of a transport.
type Deciding struct {
	Facts transport.Body // reports facts k0, k1, k2 with the arguments of those names, says that it changed something, fails with rc 7
	Tell  transport.Body // reports fact "v" with the text of argument "v"
	Never transport.Body // reports fact "k0"
	// Holds says which texts values of the transport can hold.
	Holds func(string) bool
}

// Agree checks that, whatever the condition and the values, the device decides
// as transport.Holds does, and that what is bound arrives as transport.TextOf says.
func Agree(t *testing.T, c transport.Conn, d Deciding) {
	t.Helper()
	rapid.Check(t, func(t *rapid.T) {
		g := generator{texts(d.Holds)}
		known := map[string]string{}
		facts := transport.Step{N: 0, Body: d.Facts, Continue: true}
		for _, k := range []string{"k0", "k1", "k2"} {
			known["0."+k] = g.text.Draw(t, k)
			facts.Args = append(facts.Args, transport.Arg{Name: k, Value: transport.Lit{V: known["0."+k]}})
		}
		maps.Copy(known, map[string]string{
			"0.rc": "7", "0.changed": "true", "0.failed": "true", "0.skipped": "false", "0.ran": "true", "0.attempts": "1",
			"1.rc": "0", "1.changed": "false", "1.failed": "false", "1.skipped": "true", "1.ran": "false", "1.attempts": "0",
		})
		get := func(r transport.Ref) string {
			if v, ok := known[fmt.Sprintf("%d.%s", r.Step, r.Key)]; ok {
				return v
			}
			return r.Default
		}
		steps := []transport.Step{facts, {N: 1, Body: d.Never, When: transport.Const(false)}}
		var preds []transport.Pred
		var vals []transport.Value
		for i := range rapid.IntRange(1, 12).Draw(t, "steps") {
			p, v := g.predicate(3).Draw(t, "pred"), g.value().Draw(t, "value")
			preds, vals = append(preds, p), append(vals, v)
			steps = append(steps, transport.Step{N: i + 3, When: p, Body: d.Tell, Args: []transport.Arg{{Name: "v", Value: v}}})
		}
		got := map[int]string{}
		ran := map[int]bool{}
		var mu sync.Mutex
		err := c.Run(t.Context(), transport.Batch{Steps: steps}, func(e transport.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind == transport.Fact && e.Key == "v" {
				got[e.Step], ran[e.Step] = e.Value, true
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range preds {
			if want := transport.Holds(p, get); ran[i+3] != want {
				t.Fatalf("%#v\nheld on the device: %t, here: %t", p, ran[i+3], want)
			}
			if want := transport.TextOf(vals[i], get); ran[i+3] && got[i+3] != want {
				t.Fatalf("%#v\nis %q on the device, %q here", vals[i], got[i+3], want)
			}
		}
	})
}

// texts are values that devices may read as something else.
func texts(holds func(string) bool) *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{
			"", "true", "True", "false", "0", "1", "-1", "10", "9", "007", "-0", "-00", "+1", " 1", "1 ", "1\n", "-", "--1", "1-1", "0x10", "1e3", "9223372036854775807",
			"9223372036854775808", "-9223372036854775808", "-9223372036854775809", "99999999999999999999999", "\u0661", "(", ")", "!", "=", "-n", "-a", "x = y", "a b", "'", `"`,
			"`id`", "$(id)", "$x", "*", "\\", "\n", "a\n", "\r\n", "\xff\xfe", "é", "e\u0301", "ss", "ß", "a\u00adb", "ab", "\u200dab", "\x81\x82\x83", "\x01\x7f", "\x00", "_x0041_", "]]>",
		}),
		rapid.StringOfN(rapid.Rune(), 0, 20, 60),
		rapid.Map(rapid.Int64(), func(n int64) string { return strconv.FormatInt(n, 10) }),
	).Filter(holds)
}

type generator struct{ text *rapid.Generator[string] }

func (g generator) leaf() *rapid.Generator[transport.Value] {
	return rapid.Custom(func(t *rapid.T) transport.Value {
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			return transport.Lit{V: rapid.Bool().Draw(t, "bool")}
		case 1:
			return transport.Lit{V: rapid.Int64().Draw(t, "int")}
		case 2:
			return transport.Lit{V: secret.New(g.text.Draw(t, "secret"))}
		case 3:
			return transport.Lit{V: rapid.SliceOfN(g.text, 0, 3).Draw(t, "list")}
		case 4:
			key := rapid.SampledFrom([]string{"k0", "k1", "k2", "absent", "rc", "changed", "failed", "skipped", "ran", "attempts"}).Draw(t, "key")
			return transport.Ref{Step: rapid.IntRange(0, 2).Draw(t, "step"), Key: key, Default: g.text.Draw(t, "default")}
		}
		return transport.Lit{V: g.text.Draw(t, "text")}
	})
}

func (g generator) value() *rapid.Generator[transport.Value] {
	return rapid.Custom(func(t *rapid.T) transport.Value {
		if rapid.IntRange(0, 4).Draw(t, "concat") == 0 {
			return transport.Concat(rapid.SliceOfN(g.leaf(), 0, 3).Draw(t, "parts"))
		}
		return g.leaf().Draw(t, "leaf")
	})
}

// number draws numbers that are near each other, and anything else.
func (g generator) number() *rapid.Generator[transport.Value] {
	near := rapid.Custom(func(t *rapid.T) transport.Value {
		sign := rapid.SampledFrom([]string{"", "-", "0", "-0", "-00"}).Draw(t, "sign")
		return transport.Lit{V: sign + strconv.Itoa(rapid.IntRange(0, 12).Draw(t, "digits"))}
	})
	return rapid.OneOf(near, near, g.value())
}

func (g generator) predicate(depth int) *rapid.Generator[transport.Pred] {
	return rapid.Custom(func(t *rapid.T) transport.Pred {
		kind := rapid.IntRange(0, 7).Draw(t, "kind")
		if depth == 0 {
			kind = rapid.IntRange(3, 7).Draw(t, "flat")
		}
		switch kind {
		case 0:
			return transport.Not{P: g.predicate(depth-1).Draw(t, "not")}
		case 1:
			return transport.And(rapid.SliceOfN(g.predicate(depth-1), 0, 3).Draw(t, "and"))
		case 2:
			return transport.Or(rapid.SliceOfN(g.predicate(depth-1), 0, 3).Draw(t, "or"))
		case 3:
			return transport.Const(rapid.Bool().Draw(t, "const"))
		case 4:
			v := g.value().Draw(t, "a")
			if rapid.Bool().Draw(t, "same") {
				return transport.Eq{A: v, B: v}
			}
			return transport.Eq{A: v, B: g.value().Draw(t, "b")}
		case 5:
			return transport.Less{A: g.number().Draw(t, "a"), B: g.number().Draw(t, "b"), OrEqual: rapid.Bool().Draw(t, "orequal")}
		case 6:
			return transport.In{A: g.value().Draw(t, "a"), Set: rapid.SliceOfN(g.value(), 0, 3).Draw(t, "set")}
		}
		return transport.True{V: g.value().Draw(t, "v")}
	})
}
