package lang

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What readers of YAML 1.1 or 1.2 take a word without quotes for.
var (
	looksNull   = regexp.MustCompile(`^(~|null|Null|NULL)$`)
	looksBool   = regexp.MustCompile(`^(?i:yes|no|on|off|true|false)$`)
	looksNumber = regexp.MustCompile(`^[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|\.[0-9_]+([eE][-+]?[0-9]+)?|\.(?i:inf)|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)$|^\.(?i:nan)$`)
	looksDate   = regexp.MustCompile(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt]|[ \t]+[0-9]|$)`)

	isInt   = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	isFloat = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
)

// looksLike says what YAML may take a word for, or "".
func looksLike(s string) string {
	switch {
	case looksNull.MatchString(s):
		return "nothing"
	case looksBool.MatchString(s):
		return "a bool"
	case looksDate.MatchString(s):
		return "a date"
	case looksNumber.MatchString(s):
		return "a number"
	default:
		return ""
	}
}

// literal reads a scalar without {{ }} as a value of type want.
func literal(n *Node, want Type) (any, *Problem) {
	problem := func(code, format string, args ...any) (any, *Problem) {
		p := n.Problem(code, format, args...)
		return nil, &p
	}
	if n.Kind == NullNode {
		switch {
		case want.Kind == AnyKind:
			return nil, nil //nolint:nilnil // nothing is a value here
		case n.Text == "":
			return problem("missing-value", "a value is missing here; expected %s", want)
		case want.Kind == StringKind:
			return problem("needs-quotes", "%s without quotes is nothing in YAML; write it in quotes: %s", n.Text, strconv.Quote(n.Text))
		default:
			return problem("wrong-type", "expected %s, found nothing (%s)", want, n.Text)
		}
	}
	looks := ""
	if !n.Quoted {
		looks = looksLike(n.Text)
	}
	switch want.Kind {
	case StringKind:
		if looks != "" {
			return problem("needs-quotes", "%s without quotes is %s in YAML; write it in quotes: %s", n.Text, looks, strconv.Quote(n.Text))
		}
		return n.Text, nil
	case SecretKind:
		return problem("literal-secret", `a secret is not written into a file; take it from a param of type secret: "{{ params.password }}"`)
	case AnyKind:
		return literalAny(n, looks)
	case ListKind, MapKind:
		return problem("wrong-type", "expected %s, found a single value%s", want, listHint(n, want))
	case IntKind, BoolKind, FloatKind, DurationKind, TimeKind:
	}
	v, err := parseSingle(n.Text, want)
	if err != nil {
		return problem("wrong-type", "%s", err)
	}
	if n.Quoted && (want.Kind == IntKind || want.Kind == BoolKind || want.Kind == FloatKind) {
		return problem("needs-no-quotes", "expected %s, found a string; write %s without quotes", want, n.Text)
	}
	return v, nil
}

func listHint(n *Node, want Type) string {
	if want.Kind != ListKind || strings.Contains(n.Text, "\n") {
		return ""
	}
	if n.Quoted {
		return fmt.Sprintf("; write [%s]", strconv.Quote(n.Text))
	}
	return fmt.Sprintf("; write [%s]", n.Text)
}

// literalAny types a word where any type may stand; what YAML readers do not
// agree on must be in quotes.
func literalAny(n *Node, looks string) (any, *Problem) {
	switch {
	case looks == "":
		return n.Text, nil
	case n.Text == "true" || n.Text == "false":
		return n.Text == "true", nil
	case isInt.MatchString(n.Text):
		if i, err := strconv.ParseInt(n.Text, 10, 64); err == nil {
			return i, nil
		}
	case looks == "a number" && isFloat.MatchString(n.Text) && !strings.ContainsAny(n.Text, "eE"):
		if f, err := strconv.ParseFloat(n.Text, 64); err == nil {
			return f, nil
		}
	}
	p := n.Problem("needs-quotes", "%s without quotes is read by some as %s, by others as a string; write it in quotes: %s", n.Text, looks, strconv.Quote(n.Text))
	return nil, &p
}

// parseSingle reads a bool, number, duration or time.
func parseSingle(s string, want Type) (any, error) {
	switch want.Kind {
	case BoolKind:
		switch s {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		hint := ""
		switch strings.ToLower(s) {
		case "yes", "on", "true":
			hint = "; write true"
		case "no", "off", "false":
			hint = "; write false"
		}
		return nil, fmt.Errorf("expected true or false, found %q%s", cutText(s), hint)
	case IntKind:
		if !isInt.MatchString(s) {
			return nil, fmt.Errorf("expected a whole decimal number, such as 8, found %q", cutText(s))
		}
		i, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the number %s is too large", cutText(s))
		}
		return i, nil
	case FloatKind:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || !isFloat.MatchString(s) {
			return nil, fmt.Errorf("expected a number, such as 0.5, found %q", cutText(s))
		}
		return f, nil
	case DurationKind:
		return parseDuration(s)
	case TimeKind:
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return nil, fmt.Errorf("expected a time such as 2026-11-20T18:00:00Z, found %q", cutText(s))
		}
		return t.UTC(), nil
	case AnyKind, StringKind, SecretKind, ListKind, MapKind:
	}
	return s, nil
}

var daysOrWeeks = regexp.MustCompile(`^([0-9]{1,4})(d|w)$`)

func parseDuration(s string) (any, error) {
	if m := daysOrWeeks.FindStringSubmatch(s); m != nil {
		n, _ := strconv.Atoi(m[1])
		hours := map[string]int{"d": 24, "w": 24 * 7}[m[2]]
		return nil, fmt.Errorf("a duration is written in h, m and s: write %dh for %s", n*hours, s)
	}
	if isInt.MatchString(s) && s != "0" {
		return nil, fmt.Errorf("a duration needs a unit: write %ss for seconds", cutText(s))
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil || strings.HasPrefix(s, "+"):
		return nil, fmt.Errorf("expected a duration such as 90s or 1h30m, found %q", cutText(s))
	case d < 0:
		return nil, fmt.Errorf("a duration is not negative, found %q", cutText(s))
	}
	return d, nil
}

// ParseAs reads text (from a command line) as a value of type t, of the Go
// type that Kind documents. A list is written with commas, or as JSON where
// it starts with [; a map is written as JSON. Secrets are refused: a command
// line can be seen by others. Errors say what would have been right.
func ParseAs(text string, t Type) (any, error) {
	switch t.Kind {
	case AnyKind, StringKind:
		return text, nil
	case SecretKind:
		return nil, errors.New("a secret is not given on a command line, where others can see it")
	case ListKind:
		return parseList(text, t)
	case MapKind:
		v, err := fromJSON(text)
		if err != nil {
			return nil, fmt.Errorf(`expected a map written as JSON, such as {"key": "value"}, found %q`, cutText(text))
		}
		if _, ok := v.(map[string]any); !ok {
			return nil, fmt.Errorf(`expected a map written as JSON, such as {"key": "value"}, found %q`, cutText(text))
		}
		return shapeJSON(v, t)
	case IntKind, BoolKind, FloatKind, DurationKind, TimeKind:
	}
	return parseSingle(text, t)
}

func parseList(text string, t Type) (any, error) {
	elem := elemOf(t)
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		v, err := fromJSON(text)
		if err != nil {
			return nil, fmt.Errorf(`expected a list as JSON, such as ["a", "b"], found %q`, cutText(text))
		}
		return shapeJSON(v, t)
	}
	out := []any{}
	if text != "" {
		if elem.Kind == ListKind || elem.Kind == MapKind {
			return nil, fmt.Errorf("a %s is written as JSON", t)
		}
		for i, s := range strings.Split(text, ",") {
			v, err := ParseAs(strings.TrimSpace(s), elem)
			if err != nil {
				return nil, fmt.Errorf("element %d: %w", i+1, err)
			}
			out = append(out, v)
		}
	}
	return normalizeList(out, t)
}

// shapeJSON checks decoded JSON against a type and converts what JSON has no
// type for.
func shapeJSON(v any, t Type) (any, error) {
	switch t.Kind {
	case ListKind:
		l, ok := v.([]any)
		if !ok {
			break
		}
		out := make([]any, len(l))
		for i, e := range l {
			c, err := shapeJSON(e, elemOf(t))
			if err != nil {
				return nil, fmt.Errorf("element %d: %w", i+1, err)
			}
			out[i] = c
		}
		return normalizeList(out, t)
	case MapKind:
		m, ok := v.(map[string]any)
		if !ok {
			break
		}
		return shapeMap(m, t)
	case DurationKind, TimeKind:
		if s, ok := v.(string); ok {
			return parseSingle(s, t)
		}
	case AnyKind, StringKind, IntKind, BoolKind, FloatKind, SecretKind:
		if r, err := normalize(v, t); err == nil {
			return r, nil
		}
	}
	b, _ := json.Marshal(v)
	return nil, fmt.Errorf("expected %s, found %s", t, cutText(string(b)))
}

func shapeMap(m map[string]any, t Type) (any, error) {
	out := make(map[string]any, len(m))
	for k, e := range m {
		ft, ok := t.Fields[k]
		switch {
		case t.Fields == nil:
			ft = elemOf(t)
		case !ok:
			names := make([]string, 0, len(t.Fields))
			for n := range t.Fields {
				names = append(names, n)
			}
			slices.Sort(names)
			return nil, fmt.Errorf("unknown key %q; the keys are %s", k, listNames(names))
		}
		c, err := shapeJSON(e, ft)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
		out[k] = c
	}
	for n := range t.Fields {
		if _, ok := m[n]; !ok {
			return nil, fmt.Errorf("the key %q is missing", n)
		}
	}
	return out, nil
}
