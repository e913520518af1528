package transport

import (
	"math/big"
	"slices"
	"strings"
)

// TextOf returns the text of v as a device sees it. get answers for a Ref: what
// the step said, or the Ref's Default when it said nothing or was skipped.
func TextOf(v Value, get func(Ref) string) string {
	switch v := v.(type) {
	case nil:
		return ""
	case Lit:
		return Text(v.V)
	case Ref:
		return get(v)
	case Concat:
		var b strings.Builder
		for _, p := range v {
			b.WriteString(TextOf(p, get))
		}
		return b.String()
	}
	return ""
}

// Holds decides p as devices do; a nil p holds. A Less of which one side is
// not a decimal integer (an optional minus and digits, nothing else, of any
// length) does not hold.
func Holds(p Pred, get func(Ref) string) bool {
	holds := func(q Pred) bool { return Holds(q, get) }
	switch p := p.(type) {
	case nil:
		return true
	case Const:
		return bool(p)
	case Not:
		return !holds(p.P)
	case And:
		return !slices.ContainsFunc(p, func(q Pred) bool { return !holds(q) })
	case Or:
		return slices.ContainsFunc(p, holds)
	case Eq:
		return TextOf(p.A, get) == TextOf(p.B, get)
	case Less:
		a, okA := decimal(TextOf(p.A, get))
		b, okB := decimal(TextOf(p.B, get))
		return okA && okB && (a.Cmp(b) < 0 || p.OrEqual && a.Cmp(b) == 0)
	case In:
		a := TextOf(p.A, get)
		return slices.ContainsFunc(p.Set, func(v Value) bool { return TextOf(v, get) == a })
	case True:
		return TextOf(p.V, get) == "true"
	}
	return false
}

// decimal reads what every shell's test reads alike: no plus sign, no blanks.
func decimal(s string) (*big.Int, bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return nil, false
	}
	return new(big.Int).SetString(s, 10)
}
