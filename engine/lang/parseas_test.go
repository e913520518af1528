package lang

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCommandLineValuesAreReadByType(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, typ string
		want      any
		err       string
	}{
		{"x", "string", "x", ""},
		{"0644", "string", "0644", ""},
		{"", "string", "", ""},
		{"8", "int", int64(8), ""},
		{"-8", "int", int64(-8), ""},
		{"08", "int", nil, `expected a whole decimal number, such as 8, found "08"`},
		{"1e3", "int", nil, `expected a whole decimal number, such as 8, found "1e3"`},
		{"", "int", nil, `expected a whole decimal number, such as 8, found ""`},
		{"9223372036854775808", "int", nil, "the number 9223372036854775808 is too large"},
		{"true", "bool", true, ""},
		{"yes", "bool", nil, `expected true or false, found "yes"; write true`},
		{"0", "bool", nil, `expected true or false, found "0"`},
		{"1.5", "float", 1.5, ""},
		{"2", "float", 2.0, ""},
		{"NaN", "float", nil, `expected a number, such as 0.5, found "NaN"`},
		{"1h30m", "duration", 90 * time.Minute, ""},
		{"90", "duration", nil, "a duration needs a unit: write 90s for seconds"},
		{"2d", "duration", nil, "a duration is written in h, m and s: write 48h for 2d"},
		{"-1h", "duration", nil, `a duration is not negative, found "-1h"`},
		{"soon", "duration", nil, `expected a duration such as 90s or 1h30m, found "soon"`},
		{"2026-11-20T18:00:00+01:00", "time", time.Date(2026, 11, 20, 17, 0, 0, 0, time.UTC), ""},
		{"tomorrow", "time", nil, `expected a time such as 2026-11-20T18:00:00Z, found "tomorrow"`},
		{"x", "secret", nil, "a secret is not given on a command line, where others can see it"},
		{"a,b", "list of string", []string{"a", "b"}, ""},
		{"a, b", "list of string", []string{"a", "b"}, ""},
		{"", "list of string", []string{}, ""},
		{`["a,b", "c"]`, "list of string", []string{"a,b", "c"}, ""},
		{`["a", 1]`, "list of string", nil, "element 2: expected string, found 1"},
		{`["a"`, "list of string", nil, `expected a list as JSON, such as ["a", "b"], found "[\"a\""`},
		{"1,x", "list of int", nil, `element 2: expected a whole decimal number, such as 8, found "x"`},
		{"[1, 2]", "list of int", []any{int64(1), int64(2)}, ""},
		{"[[1]]", "list of list of int", []any{[]any{int64(1)}}, ""},
		{"1", "list of list of int", nil, "a list of list of int is written as JSON"},
		{`{"a": 1, "b": [true]}`, "map", map[string]any{"a": int64(1), "b": []any{true}}, ""},
		{`{"a": "1h"}`, "map of duration", map[string]any{"a": time.Hour}, ""},
		{`{"name": "x"}`, "user", nil, `the key "uid" is missing`},
		{`{"name": "x", "uid": 1, "uidd": 2}`, "user", nil, `unknown key "uidd"; the keys are name, uid`},
		{`{"name": "x", "uid": "1"}`, "user", nil, `uid: expected int, found "1"`},
		{"x", "map", nil, `expected a map written as JSON, such as {"key": "value"}, found "x"`},
		{"[]", "map", nil, `expected a map written as JSON, such as {"key": "value"}, found "[]"`},
		{`{"a": 1} x`, "map", nil, `expected a map written as JSON, such as {"key": "value"}, found "{\"a\": 1} x"`},
	} {
		got, err := ParseAs(c.text, typeNamed(t, c.typ))
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%q as %s: got error %v, want %s", c.text, c.typ, err, c.err)
			}
			continue
		}
		if d := cmp.Diff(c.want, got); err != nil || d != "" {
			t.Errorf("%q as %s: %v %s", c.text, c.typ, err, d)
		}
	}
}

func TestNearestSuggestsWhatWasProbablyMeant(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		names []string
		want  string
	}{
		{"untl", []string{"until", "name"}, "until"},
		{"authorised_key", []string{"authorized_key", "user"}, "authorized_key"},
		{"usr", []string{"user", "use"}, "use"}, // equally near: the first in sort order
		{"usr", []string{"use", "user"}, "use"},
		{"abc", []string{"axx"}, ""}, // two changes are too many for three letters
		{"abcd", []string{"abxx"}, "abxx"},
		{"abcd", []string{"axxx"}, ""},
		{"x", []string{"y"}, ""}, // nothing would be left
		{"ab", []string{"ab", "abc"}, "abc"},
		{"", []string{"a"}, ""},
		{"nme", []string{"name"}, "name"},
		{"größe", []string{"größen"}, "größen"},
		{"name", nil, ""},
	} {
		if got := Nearest(c.name, c.names); got != c.want {
			t.Errorf("%q among %v: got %q, want %q", c.name, c.names, got, c.want)
		}
	}
}
