package lang

import (
	"cmp"
	"crypto/sha1" //nolint:gosec // offered to templates as a checksum, not for security
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"math"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Masterminds/sprig/v3"
)

// fromSprig1 returns a function of sprig that takes and returns a string.
func fromSprig1(name string) func(string) string {
	f, ok := sprig.GenericFuncMap()[name].(func(string) string)
	if !ok {
		panic("sprig has no " + name)
	}
	return f
}

func dictFuncs() map[string]textFunc {
	open := Type{Kind: MapKind}
	return map[string]textFunc{
		"dict": {"a*", open, newDict},
		"get":  {"ms", Any, func(a []any) (any, error) { return index([]any{a[0], a[1]}) }},
		"hasKey": {"ms", Bool, func(a []any) (any, error) {
			_, ok := dict(a[0])[str(a[1])]
			return ok, nil
		}},
		"keys": {"m", ListOf(String), func(a []any) (any, error) { return slices.Sorted(maps.Keys(dict(a[0]))), nil }},
		"values": {"m", Type{Kind: ListKind}, func(a []any) (any, error) {
			out := []any{}
			for _, k := range slices.Sorted(maps.Keys(dict(a[0]))) {
				out = append(out, dict(a[0])[k])
			}
			return out, nil
		}},
		"pick": {"ms*", open, func(a []any) (any, error) {
			out := map[string]any{}
			for _, k := range a[1:] {
				v, ok := dict(a[0])[str(k)]
				if !ok {
					return nil, valueErrorf("pick: the map has no key %q", str(k))
				}
				out[str(k)] = v
			}
			return out, nil
		}},
		"omit": {"ms*", open, func(a []any) (any, error) {
			out := maps.Clone(dict(a[0]))
			for _, k := range a[1:] {
				delete(out, str(k))
			}
			return out, nil
		}},
	}
}

func newDict(a []any) (any, error) {
	m := make(map[string]any, len(a)/2)
	if len(a)%2 != 0 {
		return nil, valueErrorf("dict takes keys and values in turn")
	}
	for i := 0; i < len(a); i += 2 {
		k, ok := a[i].(string)
		if !ok {
			return nil, valueErrorf("dict: a key is a string, found %s", foundWord(a[i]))
		}
		m[k] = a[i+1]
	}
	return m, nil
}

func numberFuncs() map[string]textFunc {
	return map[string]textFunc{
		"add":   {"ii*", Int, fold2("add", addition)},
		"sub":   {"ii", Int, fold2("sub", func(x, y int64) (int64, bool) { return x - y, (x-y < x) == (y > 0) })},
		"mul":   {"ii*", Int, fold2("mul", multiply)},
		"div":   {"ii", Int, fold2("div", divide)},
		"mod":   {"ii", Int, fold2("mod", modulo)},
		"add1":  {"i", Int, func(a []any) (any, error) { return fold2("add1", addition)([]any{a[0], 1}) }},
		"max":   {"ii*", Int, fold2("max", func(x, y int64) (int64, bool) { return max(x, y), true })},
		"min":   {"ii*", Int, fold2("min", func(x, y int64) (int64, bool) { return min(x, y), true })},
		"floor": {"n", Float, func(a []any) (any, error) { return math.Floor(float(a[0])), nil }},
		"ceil":  {"n", Float, func(a []any) (any, error) { return math.Ceil(float(a[0])), nil }},
		"round": {"ni", Float, func(a []any) (any, error) {
			if num(a[1]) < 0 || num(a[1]) > 15 {
				return nil, valueErrorf("round: the digits must be 0 to 15, found %d", num(a[1]))
			}
			p := math.Pow10(num(a[1]))
			return math.Round(float(a[0])*p) / p, nil
		}},
		"int": {"a", Int, toInt}, "int64": {"a", Int, toInt}, "atoi": {"s", Int, toInt},
		"float64": {"a", Float, toFloat},
	}
}

func float(a any) float64 {
	switch x := a.(type) {
	case int:
		return float64(x)
	case float64:
		return x
	default:
		return 0
	}
}

// fold2 applies op from left to right; false from op is an overflow or a
// division by zero.
func fold2(name string, op func(x, y int64) (int64, bool)) func([]any) (any, error) {
	return func(a []any) (any, error) {
		x := int64(num(a[0]))
		for _, b := range a[1:] {
			var ok bool
			y := int64(num(b))
			if x, ok = op(x, y); !ok && y != 0 {
				return nil, valueErrorf("%s: the result is too large", name)
			} else if !ok {
				return nil, valueErrorf("%s: division by zero", name)
			}
		}
		return int(x), nil
	}
}

func addition(x, y int64) (int64, bool) { return x + y, (x+y > x) == (y > 0) }

func multiply(x, y int64) (int64, bool) {
	if x == 0 || y == 0 {
		return 0, true
	}
	p := x * y
	return p, p/y == x && (x != -1 || y != math.MinInt64) && (y != -1 || x != math.MinInt64)
}

func divide(x, y int64) (int64, bool) {
	if y == 0 || x == math.MinInt64 && y == -1 {
		return 0, false
	}
	return x / y, true
}

func modulo(x, y int64) (int64, bool) {
	if y == 0 {
		return 0, false
	}
	if y == -1 {
		return 0, true
	}
	return x % y, true
}

func toInt(a []any) (any, error) {
	switch x := a[0].(type) {
	case int:
		return x, nil
	case int64:
		return int(x), nil
	case float64:
		if x == math.Trunc(x) && math.Abs(x) < 1<<53 {
			return int(x), nil
		}
	case string:
		if i, err := strconv.Atoi(strings.TrimSpace(x)); err == nil {
			return i, nil
		}
		return nil, valueErrorf("int: %q is not a whole number", cutText(x))
	}
	return nil, valueErrorf("int takes a whole number, found %s", foundWord(a[0]))
}

func toFloat(a []any) (any, error) {
	switch x := a[0].(type) {
	case int:
		return float64(x), nil
	case float64:
		return x, nil
	case string:
		if f, err := strconv.ParseFloat(strings.TrimSpace(x), 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f, nil
		}
		return nil, valueErrorf("float64: %q is not a number", cutText(x))
	}
	return nil, valueErrorf("float64 takes a number, found %s", foundWord(a[0]))
}

// cutText shortens a value for a message.
func cutText(s string) string { return truncate(40, s) }

func logicFuncs() map[string]textFunc {
	return map[string]textFunc{
		"default": {"aa", Any, func(a []any) (any, error) {
			if isEmpty(a[1]) {
				return a[0], nil
			}
			return a[1], nil
		}},
		"empty":    {"a", Bool, func(a []any) (any, error) { return isEmpty(a[0]), nil }},
		"coalesce": {"a*", Any, coalesce},
		"ternary": {"aab", Any, func(a []any) (any, error) {
			if yes(a[2]) {
				return a[0], nil
			}
			return a[1], nil
		}},
		"all": {"a*", Bool, func(a []any) (any, error) { return !slices.ContainsFunc(a, isEmpty), nil }},
		"any": {"a*", Bool, func(a []any) (any, error) {
			return slices.ContainsFunc(a, func(v any) bool { return !isEmpty(v) }), nil
		}},
		"fail": {"s", String, func(a []any) (any, error) { return nil, valueErrorf("%s", str(a[0])) }},
		"not":  {"b", Bool, func(a []any) (any, error) { return !yes(a[0]), nil }},
		"eq": {"aaa*", Bool, func(a []any) (any, error) {
			for _, b := range a[1:] {
				if eq, err := equal(a[0], b); err != nil || eq {
					return eq, err
				}
			}
			return false, nil
		}},
		"ne": {"aa", Bool, func(a []any) (any, error) {
			eq, err := equal(a[0], a[1])
			return !eq, err
		}},
		"lt": {"aa", Bool, ordered(func(c int) bool { return c < 0 })}, "le": {"aa", Bool, ordered(func(c int) bool { return c <= 0 })},
		"gt": {"aa", Bool, ordered(func(c int) bool { return c > 0 })}, "ge": {"aa", Bool, ordered(func(c int) bool { return c >= 0 })},
	}
}

// isEmpty reports whether v says nothing. Unlike in sprig, false and 0 are
// values.
func isEmpty(v any) bool {
	switch x := v.(type) {
	case nil:
		return true
	case string:
		return x == ""
	case map[string]any:
		return len(x) == 0
	case time.Time:
		return x.IsZero()
	}
	l, ok := anyList(v)
	return ok && len(l) == 0
}

func coalesce(a []any) (any, error) {
	for _, v := range a {
		if !isEmpty(v) {
			return v, nil
		}
	}
	return nil, valueErrorf("coalesce: all values are empty")
}

// equal compares plain values; values of different types are an error.
func equal(a, b any) (bool, error) {
	if ta, ok := a.(time.Time); ok {
		if tb, ok := b.(time.Time); ok {
			return ta.Equal(tb), nil
		}
	}
	if c, err := compare(a, b); err == nil {
		return c == 0, nil
	}
	ka, kb := typeOfValue(a).Kind, typeOfValue(b).Kind
	if ka != kb && a != nil && b != nil {
		return false, valueErrorf("cannot compare %s with %s", foundWord(a), foundWord(b))
	}
	if la, ok := anyList(a); ok {
		lb, _ := anyList(b)
		return reflect.DeepEqual(la, lb), nil
	}
	return reflect.DeepEqual(a, b), nil
}

// compare orders numbers, strings, times and durations.
func compare(a, b any) (int, error) {
	switch x := a.(type) {
	case int, int64, float64:
		switch b.(type) {
		case int, int64, float64:
			ia, oka := whole(a)
			ib, okb := whole(b)
			if oka && okb {
				return cmp.Compare(ia, ib), nil
			}
			return cmp.Compare(float(plainValue(a)), float(plainValue(b))), nil
		}
	case string:
		if y, ok := b.(string); ok {
			return strings.Compare(x, y), nil
		}
	case time.Time:
		if y, ok := b.(time.Time); ok {
			return x.Compare(y), nil
		}
	case time.Duration:
		if y, ok := b.(time.Duration); ok {
			return cmp.Compare(x, y), nil
		}
	}
	return 0, valueErrorf("cannot compare %s with %s", foundWord(a), foundWord(b))
}

func whole(a any) (int64, bool) {
	switch x := a.(type) {
	case int:
		return int64(x), true
	case int64:
		return x, true
	default:
		return 0, false
	}
}

func ordered(ok func(int) bool) func([]any) (any, error) {
	return func(a []any) (any, error) {
		c, err := compare(a[0], a[1])
		return ok(c), err
	}
}

func codeFuncs() map[string]textFunc {
	return map[string]textFunc{
		"b64enc": {"s", String, s1(func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) })},
		"b64dec": {"s", String, decode("b64dec", base64.StdEncoding.DecodeString)},
		"b32enc": {"s", String, s1(func(s string) string { return base32.StdEncoding.EncodeToString([]byte(s)) })},
		"b32dec": {"s", String, decode("b32dec", base32.StdEncoding.DecodeString)},
		"sha1sum": {"s", String, s1(func(s string) string {
			h := sha1.Sum([]byte(s)) //nolint:gosec // a checksum
			return hex.EncodeToString(h[:])
		})},
		"sha256sum": {"s", String, s1(func(s string) string {
			h := sha256.Sum256([]byte(s))
			return hex.EncodeToString(h[:])
		})},
		"sha512sum": {"s", String, s1(func(s string) string {
			h := sha512.Sum512([]byte(s))
			return hex.EncodeToString(h[:])
		})},
		"toJson":       {"a", String, func(a []any) (any, error) { return toJSON(a[0], "") }},
		"toJSON":       {"a", String, func(a []any) (any, error) { return toJSON(a[0], "") }},
		"toPrettyJson": {"a", String, func(a []any) (any, error) { return toJSON(a[0], "  ") }},
		"fromJson":     {"s", Any, func(a []any) (any, error) { return fromJSON(str(a[0])) }},
		"urlEscape":    {"s", String, s1(url.QueryEscape)},
		"semverCompare": {"ss", Bool, func(a []any) (any, error) {
			f, _ := sprig.GenericFuncMap()["semverCompare"].(func(string, string) (bool, error))
			ok, err := f(str(a[0]), str(a[1]))
			if err != nil {
				return nil, valueErrorf("semverCompare: %s", err)
			}
			return ok, nil
		}},
		"unixEpoch": {"t", Int, func(a []any) (any, error) { return int(when(a[0]).Unix()), nil }},
		"toDate": {"ss", Time, func(a []any) (any, error) {
			t, err := time.Parse(str(a[0]), str(a[1]))
			if err != nil {
				return nil, valueErrorf("toDate: %q is not a time written as %q", cutText(str(a[1])), str(a[0]))
			}
			return t.UTC(), nil
		}},
		"dateModify": {"st", Time, func(a []any) (any, error) {
			d, err := time.ParseDuration(str(a[0]))
			if err != nil {
				return nil, valueErrorf("dateModify: %q is not a duration such as -1h or 90s", cutText(str(a[0])))
			}
			return when(a[1]).Add(d), nil
		}},
		"regexMatch":     {"ss", Bool, withRegexp(func(re *regexp.Regexp, a []any) (any, error) { return re.MatchString(str(a[1])), nil })},
		"regexFind":      {"ss", String, withRegexp(regexFind)},
		"regexFindAll":   {"ssi", ListOf(String), withRegexp(func(re *regexp.Regexp, a []any) (any, error) { return re.FindAllString(str(a[1]), num(a[2])), nil })},
		"regexSplit":     {"ssi", ListOf(String), withRegexp(func(re *regexp.Regexp, a []any) (any, error) { return re.Split(str(a[1]), num(a[2])), nil })},
		"regexQuoteMeta": {"s", String, s1(regexp.QuoteMeta)},
		"regexReplaceAll": {"sss", String, withRegexp(func(re *regexp.Regexp, a []any) (any, error) {
			if strings.Count(str(a[2]), "$")*len(str(a[1])) > 16*maxString {
				return nil, tooLong("regexReplaceAll")
			}
			return replaceRegexp(re, str(a[1]), func(m []int) string { return string(re.ExpandString(nil, str(a[2]), str(a[1]), m)) })
		})},
		"regexReplaceAllLiteral": {"sss", String, withRegexp(func(re *regexp.Regexp, a []any) (any, error) {
			return replaceRegexp(re, str(a[1]), func([]int) string { return str(a[2]) })
		})},
	}
}

func decode(name string, f func(string) ([]byte, error)) func([]any) (any, error) {
	return func(a []any) (any, error) {
		b, err := f(str(a[0]))
		if err != nil {
			return nil, valueErrorf("%s: the value is not valid", name)
		}
		return string(b), nil
	}
}

func toJSON(v any, indent string) (any, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(jsonValue(v)); err != nil {
		return nil, valueErrorf("toJson: the value cannot be written as JSON")
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// jsonValue writes the durations in v as text; JSON has none.
func jsonValue(v any) any {
	switch x := v.(type) {
	case time.Duration:
		return durationText(x)
	case []any:
		out := make([]any, len(x))
		for i := range x {
			out[i] = jsonValue(x[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(x))
		for k := range x {
			out[k] = jsonValue(x[k])
		}
		return out
	default:
		return v
	}
}

// fromJSON reads JSON; whole numbers become ints.
func fromJSON(s string) (any, error) {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || d.More() {
		return nil, valueErrorf("%q is not JSON", cutText(s))
	}
	return jsonNumbers(v), nil
}

func jsonNumbers(v any) any {
	switch x := v.(type) {
	case json.Number:
		if i, err := strconv.Atoi(x.String()); err == nil {
			return i
		}
		f, _ := x.Float64()
		return f
	case []any:
		for i := range x {
			x[i] = jsonNumbers(x[i])
		}
	case map[string]any:
		for k := range x {
			x[k] = jsonNumbers(x[k])
		}
	}
	return v
}

// withRegexp compiles the first argument.
func withRegexp(f func(re *regexp.Regexp, a []any) (any, error)) func([]any) (any, error) {
	return func(a []any) (any, error) {
		re, err := compileRegexp(str(a[0]))
		if err != nil {
			return nil, err
		}
		return f(re, a)
	}
}

func compileRegexp(s string) (*regexp.Regexp, error) {
	if len(s) > 1000 {
		return nil, valueErrorf("the pattern is longer than 1000 characters")
	}
	re, err := regexp.Compile(s)
	if err != nil {
		return nil, valueErrorf("bad pattern: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return re, nil
}

func regexFind(re *regexp.Regexp, a []any) (any, error) {
	m := re.FindString(str(a[1]))
	if m == "" && !re.MatchString(str(a[1])) {
		return nil, valueErrorf("regexFind: %q does not occur", str(a[0]))
	}
	return m, nil
}

// replaceRegexp replaces all matches and stops when the result grows too long.
func replaceRegexp(re *regexp.Regexp, s string, by func(m []int) string) (any, error) {
	var b strings.Builder
	last := 0
	for _, m := range re.FindAllStringSubmatchIndex(s, -1) {
		b.WriteString(s[last:m[0]])
		b.WriteString(by(m))
		last = m[1]
		if b.Len() > maxString {
			return nil, tooLong("regexReplaceAll")
		}
	}
	b.WriteString(s[last:])
	return b.String(), nil
}
