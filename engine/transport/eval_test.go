package transport_test

import (
	"testing"

	"runner/engine/secret"
	"runner/engine/transport"
)

func TestHolds(t *testing.T) {
	t.Parallel()
	lit := func(v any) transport.Lit { return transport.Lit{V: v} }
	less := func(a, b string) transport.Pred { return transport.Less{A: lit(a), B: lit(b)} }
	atMost := func(a, b string) transport.Pred { return transport.Less{A: lit(a), B: lit(b), OrEqual: true} }
	get := func(r transport.Ref) string {
		if r.Step == 1 && r.Key == "uid" {
			return "17"
		}
		return r.Default
	}
	uid, absent := transport.Ref{Step: 1, Key: "uid", Default: "0"}, transport.Ref{Step: 1, Key: "gid", Default: "true"}
	for _, c := range []struct {
		name string
		p    transport.Pred
		want bool
	}{
		{"nothing", nil, true},
		{"const", transport.Const(false), false},
		{"not", transport.Not{P: transport.Const(false)}, true},
		{"empty and", transport.And{}, true},
		{"empty or", transport.Or{}, false},
		{"and", transport.And{transport.Const(true), transport.Const(false)}, false},
		{"or", transport.Or{transport.Const(false), transport.Const(true)}, true},
		{"int equals its text", transport.Eq{A: lit(int64(17)), B: uid}, true},
		{"bool equals its text", transport.Eq{A: lit(true), B: lit("true")}, true},
		{"secret equals its text", transport.Eq{A: lit(secret.New("a")), B: lit("a")}, true},
		{"list equals its lines", transport.Eq{A: lit([]string{"a", "b"}), B: lit("a\nb")}, true},
		{"texts differ where numbers do not", transport.Eq{A: lit("07"), B: lit("7")}, false},
		{"concat", transport.Eq{A: transport.Concat{lit("u"), uid, transport.Concat{lit("x")}}, B: lit("u17x")}, true},
		{"default", transport.True{V: absent}, true},
		{"true is one word", transport.True{V: lit("True")}, false},
		{"in", transport.In{A: uid, Set: []transport.Value{lit("1"), lit(int64(17))}}, true},
		{"in nothing", transport.In{A: uid}, false},
		{"less by number, not by text", less("9", "10"), true},
		{"not less than itself", less("10", "10"), false},
		{"at most itself", atMost("10", "010"), true},
		{"negative", less("-10", "-9"), true},
		{"minus zero", less("-0", "0"), false},
		{"longer than 64 bits", less("99999999999999999998", "99999999999999999999"), true},
		{"plus sign", less("+1", "2"), false},
		{"blank", less(" 1", "2"), false},
		{"hexadecimal", less("0x1", "2"), false},
		{"no number", atMost("a", "a"), false},
		{"nothing at all", atMost("", ""), false},
		{"lone minus", atMost("-", "1"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := transport.Holds(c.p, get); got != c.want {
				t.Errorf("%#v holds: %t, want %t", c.p, got, c.want)
			}
		})
	}
}
