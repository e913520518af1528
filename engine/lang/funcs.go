package lang

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A textFunc is a function that strings with {{ }} may call: pure, bounded,
// and loud when it fails. Its arguments are checked against sig before fn
// sees them.
type textFunc struct {
	// sig has a letter for each argument: s string, i int, n number (int or
	// float), b bool, l list, m map, t time, d duration, a anything; * at the
	// end repeats the last one, any number of times.
	sig string
	out Type
	fn  func(a []any) (any, error)
}

var argWords = map[byte]Type{
	's': String, 'i': Int, 'n': Float, 'b': Bool, 'l': {Kind: ListKind},
	'm': {Kind: MapKind}, 't': Time, 'd': Duration, 'a': Any,
}

// arg is the letter of argument i, or 0 when there is none.
func (f textFunc) arg(i int) byte {
	fixed := strings.TrimSuffix(f.sig, "*")
	switch {
	case i < len(fixed):
		return fixed[i]
	case len(fixed) < len(f.sig):
		return fixed[len(fixed)-1]
	default:
		return 0
	}
}

// checkCount says what is wrong with a number of arguments, or "".
func (f textFunc) checkCount(name string, n int) string {
	least, more := len(f.sig), strings.HasSuffix(f.sig, "*")
	if more {
		least -= 2
	}
	switch {
	case n < least || n > least && !more:
		words := make([]string, 0, len(f.sig))
		for i := range least {
			words = append(words, argWords[f.sig[i]].String())
		}
		if more {
			words = append(words, argWords[f.arg(least)].String()+"…")
		}
		return fmt.Sprintf("%s takes %s; found %d arguments", name, strings.Join(words, ", "), n)
	default:
		return ""
	}
}

// fits reports whether a value of type t may be an argument of that letter.
func fits(letter byte, t Type) bool {
	switch {
	case letter == 'a', t.Kind == AnyKind:
		return true
	case letter == 'n':
		return t.Kind == IntKind || t.Kind == FloatKind
	default:
		return argWords[letter].Kind == t.Kind
	}
}

// call checks and converts the arguments and runs the function.
func (f textFunc) call(name string, args []any) (any, error) {
	if bad := f.checkCount(name, len(args)); bad != "" {
		return nil, valueErrorf("%s", bad)
	}
	conv := make([]any, len(args))
	for i, a := range args {
		letter := f.arg(i)
		v, ok := convertArg(letter, a)
		if !ok {
			return nil, valueErrorf("%s takes %s as argument %d, found %s", name, argWords[letter], i+1, foundWord(a))
		}
		conv[i] = v
	}
	out, err := f.fn(conv)
	if err != nil {
		return nil, err
	}
	if s, ok := out.(string); ok && len(s) > maxString {
		return nil, tooLong(name)
	}
	return out, nil
}

// foundWord names the type of a value that is in the way.
func foundWord(v any) string {
	if v == nil {
		return "nothing"
	}
	return typeOfValue(v).String()
}

func convertArg(letter byte, a any) (any, bool) {
	if i, ok := a.(int64); ok {
		a = int(i)
	}
	switch letter {
	case 'a':
		return a, true
	case 'l':
		l, ok := anyList(a)
		return l, ok
	case 'n':
		switch a.(type) {
		case int, float64:
			return a, true
		}
		return nil, false
	}
	return a, a != nil && typeOfValue(a).Kind == argWords[letter].Kind
}

// The typed accessors below are only used after convertArg.

func str(a any) string { s, _ := a.(string); return s }
func num(a any) int    { i, _ := a.(int); return i }
func list(a any) []any { l, _ := a.([]any); return l }
func yes(a any) bool   { b, _ := a.(bool); return b }
func when(a any) (t time.Time) {
	t, _ = a.(time.Time)
	return t.UTC()
}

func dict(a any) map[string]any {
	m, _ := a.(map[string]any)
	return m
}

// s1 to s3 make functions of strings.
func s1[T any](f func(string) T) func([]any) (any, error) {
	return func(a []any) (any, error) { return f(str(a[0])), nil }
}

func s2[T any](f func(a, b string) T) func([]any) (any, error) {
	return func(a []any) (any, error) { return f(str(a[0]), str(a[1])), nil }
}

// textFuncs returns the allow-list.
func textFuncs() map[string]textFunc {
	all := make(map[string]textFunc, 120)
	for _, group := range []map[string]textFunc{stringFuncs(), listFuncs(), dictFuncs(), numberFuncs(), logicFuncs(), codeFuncs()} {
		maps.Copy(all, group)
	}
	return all
}

// refused says what to write in place of functions of sprig and of Go
// templates that are left out for a reason.
var refused = map[string]string{
	"date": `write utc: {{ grant.expires_at | utc "2006-01-02" }}`, "dateInZone": "write utc; times are always in UTC",
	"htmlDate": `write utc "2006-01-02"`, "now": "the time of day is not available; use the times of the grant",
	"ago":   "the time of day is not available; use the times of the grant",
	"quote": `write the quotes around {{ }}, or toJson for JSON`, "squote": "it does not escape; write the quotes around {{ }}",
	"env": "the environment is not available", "expandenv": "the environment is not available",
	"getHostByName": "the network is not available",
	"set":           "values cannot be changed", "unset": "values cannot be changed; use omit", "merge": "values cannot be changed",
	"mergeOverwrite": "values cannot be changed", "push": "write append", "tuple": "write list", "split": "write splitList",
	"call": "values have no functions", "html": "it is not needed here", "js": "write toJson", "print": "write cat or printf",
	"println": "write cat or printf", "urlquery": "write urlEscape", "raw": "values are always bound as variables; write {{ … }} without raw",
	"randAlphaNum": noRandom, "randAlpha": noRandom, "randAscii": noRandom, "randNumeric": noRandom, "randBytes": noRandom,
	"randInt": noRandom, "uuidv4": noRandom, "shuffle": noRandom, "genPrivateKey": noRandom, "bcrypt": noRandom, "htpasswd": noRandom,
	"derivePassword": noRandom, "encryptAES": noRandom, "genCA": noRandom, "genSelfSignedCert": noRandom,
}

const noRandom = "random values are made by params with generate"

func stringFuncs() map[string]textFunc {
	return map[string]textFunc{
		"upper": {"s", String, s1(strings.ToUpper)}, "lower": {"s", String, s1(strings.ToLower)},
		"title": {"s", String, s1(fromSprig1("title"))}, "untitle": {"s", String, s1(fromSprig1("untitle"))},
		"swapcase": {"s", String, s1(fromSprig1("swapcase"))}, "snakecase": {"s", String, s1(fromSprig1("snakecase"))},
		"camelcase": {"s", String, s1(fromSprig1("camelcase"))}, "kebabcase": {"s", String, s1(fromSprig1("kebabcase"))},
		"initials": {"s", String, s1(fromSprig1("initials"))}, "nospace": {"s", String, s1(fromSprig1("nospace"))},
		"trim":       {"s", String, s1(strings.TrimSpace)},
		"trimAll":    {"ss", String, s2(func(cut, s string) string { return strings.Trim(s, cut) })},
		"trimPrefix": {"ss", String, s2(func(p, s string) string { return strings.TrimPrefix(s, p) })},
		"trimSuffix": {"ss", String, s2(func(p, s string) string { return strings.TrimSuffix(s, p) })},
		"contains":   {"ss", Bool, s2(func(p, s string) bool { return strings.Contains(s, p) })},
		"hasPrefix":  {"ss", Bool, s2(func(p, s string) bool { return strings.HasPrefix(s, p) })},
		"hasSuffix":  {"ss", Bool, s2(func(p, s string) bool { return strings.HasSuffix(s, p) })},
		"replace":    {"sss", String, func(a []any) (any, error) { return replaceText(str(a[2]), str(a[0]), str(a[1])) }},
		"repeat":     {"is", String, func(a []any) (any, error) { return repeatText(str(a[1]), num(a[0])) }},
		"trunc":      {"is", String, func(a []any) (any, error) { return truncate(num(a[0]), str(a[1])), nil }},
		"abbrev":     {"is", String, abbreviate},
		"substr":     {"iis", String, substring},
		"cat":        {"a*", String, func(a []any) (any, error) { return joinText("cat", a, " ") }},
		"indent":     {"is", String, func(a []any) (any, error) { return indentText("", num(a[0]), str(a[1])) }},
		"nindent":    {"is", String, func(a []any) (any, error) { return indentText("\n", num(a[0]), str(a[1])) }},
		"wrap":       {"is", String, func(a []any) (any, error) { return wrapText(num(a[0]), "\n", str(a[1])) }},
		"wrapWith":   {"iss", String, func(a []any) (any, error) { return wrapText(num(a[0]), str(a[1]), str(a[2])) }},
		"plural":     {"ssi", String, plural},
		"toString":   {"a", String, func(a []any) (any, error) { return textOf(a[0]) }},
		"printf":     {"sa*", String, printf},
		"base":       {"s", String, s1(fromSprig1("base"))}, "dir": {"s", String, s1(fromSprig1("dir"))},
		"clean": {"s", String, s1(fromSprig1("clean"))}, "ext": {"s", String, s1(fromSprig1("ext"))},
		"isAbs": {"s", Bool, s1(func(s string) bool { return strings.HasPrefix(s, "/") })},
		"utc":   {"st", String, func(a []any) (any, error) { return when(a[1]).Format(str(a[0])), nil }},
	}
}

func truncate(n int, s string) string {
	r := []rune(s)
	switch {
	case n >= 0 && len(r) > n:
		return string(r[:n])
	case n < 0 && len(r)+n > 0:
		return string(r[len(r)+n:])
	default:
		return s
	}
}

func abbreviate(a []any) (any, error) {
	n, r := num(a[0]), []rune(str(a[1]))
	if n < 4 {
		return nil, valueErrorf("abbrev: the width must be at least 4, found %d", n)
	}
	if len(r) <= n {
		return string(r), nil
	}
	return string(r[:n-3]) + "...", nil
}

func substring(a []any) (any, error) {
	from, to, r := num(a[0]), num(a[1]), []rune(str(a[2]))
	if from < 0 || to < from || to > len(r) {
		return nil, valueErrorf("substr: %d to %d is out of range of a string of %d characters", from, to, len(r))
	}
	return string(r[from:to]), nil
}

func indentText(before string, n int, s string) (any, error) {
	if n < 0 || n > 200 {
		return nil, valueErrorf("indent: the width must be 0 to 200, found %d", n)
	}
	pad := strings.Repeat(" ", n)
	t, err := replaceText(s, "\n", "\n"+pad)
	return before + pad + t, err
}

// wrapText breaks lines at spaces so that they have at most n runes where
// words allow it.
func wrapText(n int, sep, s string) (any, error) {
	if n < 1 || len(sep) > 16 {
		return nil, valueErrorf("wrap: the width must be at least 1 and the separator at most 16 bytes")
	}
	var b strings.Builder
	for li, line := range strings.Split(s, "\n") {
		if li > 0 {
			b.WriteByte('\n')
		}
		width := 0
		for i, w := range strings.Fields(line) {
			l := len([]rune(w))
			switch {
			case i > 0 && width+1+l > n:
				b.WriteString(sep)
				width = 0
			case i > 0:
				b.WriteByte(' ')
				width++
			}
			b.WriteString(w)
			width += l
		}
	}
	return b.String(), nil
}

func plural(a []any) (any, error) {
	if num(a[2]) == 1 {
		return a[0], nil
	}
	return a[1], nil
}

func printf(a []any) (any, error) {
	for i, v := range a[1:] {
		if _, err := textOf(v); err != nil {
			return nil, valueErrorf("printf: argument %d: %s", i+2, err)
		}
		switch x := v.(type) {
		case time.Time, time.Duration:
			a[i+1], _ = textOf(x)
		}
	}
	s := fmt.Sprintf(str(a[0]), a[1:]...)
	if strings.Contains(s, "%!") && !strings.Contains(str(a[0]), "%%!") {
		return nil, valueErrorf("printf: the verbs of %q do not fit the values", str(a[0]))
	}
	return s, nil
}

func listFuncs() map[string]textFunc {
	anyList := Type{Kind: ListKind}
	stringList := ListOf(String)
	return map[string]textFunc{
		"list":      {"a*", anyList, func(a []any) (any, error) { return a, nil }},
		"splitList": {"ss", stringList, s2(func(sep, s string) []string { return strings.Split(s, sep) })},
		"join":      {"sl", String, func(a []any) (any, error) { return joinText("join", list(a[1]), str(a[0])) }},
		"sortAlpha": {"l", stringList, sortAlpha},
		"first":     {"l", Any, func(a []any) (any, error) { return element("first", list(a[0]), 0) }},
		"last":      {"l", Any, func(a []any) (any, error) { return element("last", list(a[0]), len(list(a[0]))-1) }},
		"rest":      {"l", anyList, func(a []any) (any, error) { return cut("rest", list(a[0]), 1, len(list(a[0]))) }},
		"initial":   {"l", anyList, func(a []any) (any, error) { return cut("initial", list(a[0]), 0, len(list(a[0]))-1) }},
		"reverse": {"l", anyList, func(a []any) (any, error) {
			l := slices.Clone(list(a[0]))
			slices.Reverse(l)
			return l, nil
		}},
		"uniq":    {"l", anyList, func(a []any) (any, error) { return without(list(a[0]), nil, true), nil }},
		"without": {"la*", anyList, func(a []any) (any, error) { return without(list(a[0]), a[1:], false), nil }},
		"has":     {"al", Bool, func(a []any) (any, error) { return slices.ContainsFunc(list(a[1]), same(a[0])), nil }},
		"compact": {"l", anyList, func(a []any) (any, error) {
			return slices.DeleteFunc(slices.Clone(list(a[0])), isEmpty), nil
		}},
		"append":    {"la", anyList, func(a []any) (any, error) { return append(slices.Clone(list(a[0])), a[1]), nil }},
		"prepend":   {"la", anyList, func(a []any) (any, error) { return append([]any{a[1]}, list(a[0])...), nil }},
		"concat":    {"l*", anyList, concat},
		"slice":     {"lii", anyList, func(a []any) (any, error) { return cut("slice", list(a[0]), num(a[1]), num(a[2])) }},
		"toStrings": {"l", stringList, toStrings},
		"until":     {"i", ListOf(Int), func(a []any) (any, error) { return counted("until", 0, num(a[0]), 1) }},
		"untilStep": {"iii", ListOf(Int), func(a []any) (any, error) { return counted("untilStep", num(a[0]), num(a[1]), num(a[2])) }},
		"seq":       {"ii", String, sequence},
		"len":       {"a", Int, length},
		"index":     {"aa*", Any, index},
	}
}

func sortAlpha(a []any) (any, error) {
	s, err := toStrings(a)
	if err != nil {
		return nil, err
	}
	l, _ := s.([]string)
	slices.Sort(l)
	return l, nil
}

func element(name string, l []any, i int) (any, error) {
	if i < 0 || i >= len(l) {
		return nil, valueErrorf("%s: the list is empty", name)
	}
	return l[i], nil
}

func cut(name string, l []any, from, to int) (any, error) {
	if from < 0 || to < from || to > len(l) {
		return nil, valueErrorf("%s: %d to %d is out of range of a list of %d", name, from, to, len(l))
	}
	return l[from:to:to], nil
}

// same reports equality of plain values; lists and maps by what is in them.
func same(a any) func(any) bool {
	return func(b any) bool {
		eq, err := equal(a, b)
		return err == nil && eq
	}
}

func without(l, drop []any, uniq bool) []any {
	var out []any
	for _, e := range l {
		if slices.ContainsFunc(drop, same(e)) || uniq && slices.ContainsFunc(out, same(e)) {
			continue
		}
		out = append(out, e)
	}
	return out
}

func concat(a []any) (any, error) {
	var out []any
	for _, l := range a {
		out = append(out, list(l)...)
	}
	return out, tooMany("concat", len(out))
}

func toStrings(a []any) (any, error) {
	out := make([]string, 0, len(list(a[0])))
	for _, e := range list(a[0]) {
		s, err := textOf(e)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// maxCount limits the lists that functions make.
const maxCount = 10_000

func tooMany(name string, n int) error {
	if n > maxCount {
		return valueErrorf("%s: the list has more than %d elements", name, maxCount)
	}
	return nil
}

func counted(name string, from, to, step int) (any, error) {
	out := []any{}
	if step == 0 {
		return nil, valueErrorf("%s: the step is 0", name)
	}
	for i := from; step > 0 && i < to || step < 0 && i > to; i += step {
		out = append(out, i)
		if err := tooMany(name, len(out)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func sequence(a []any) (any, error) {
	step := 1
	if num(a[0]) > num(a[1]) {
		step = -1
	}
	l, err := counted("seq", num(a[0]), num(a[1])+step, step)
	if err != nil {
		return nil, err
	}
	return joinText("seq", list(l), " ")
}

func length(a []any) (any, error) {
	switch x := a[0].(type) {
	case string:
		return len([]rune(x)), nil
	case map[string]any:
		return len(x), nil
	}
	if l, ok := anyList(a[0]); ok {
		return len(l), nil
	}
	return nil, valueErrorf("len takes a string, list or map, found %s", foundWord(a[0]))
}

func index(a []any) (any, error) {
	v := a[0]
	for _, key := range a[1:] {
		if m, ok := v.(map[string]any); ok {
			k, isString := key.(string)
			e, has := m[k]
			if !isString || !has {
				return nil, valueErrorf("index: the map has no key %v", key)
			}
			v = e
			continue
		}
		l, ok := anyList(v)
		if !ok {
			return nil, valueErrorf("index takes a list or map, found %s", foundWord(v))
		}
		if i64, ok := key.(int64); ok {
			key = int(i64)
		}
		i, isInt := key.(int)
		if !isInt || i < 0 || i >= len(l) {
			return nil, valueErrorf("index: %v is out of range of a list of %d", key, len(l))
		}
		v = l[i]
	}
	return v, nil
}
