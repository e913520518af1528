package lang

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Decoder reads documents strictly, key by key, and collects everything that
// is wrong with them. Reading goes on after a problem: what is wrong reads as
// its default.
type Decoder struct {
	Problems Problems
	// Taken, when it is there, is told every key that is asked for in a map that
	// a table describes: tests hold the two against each other.
	Taken func(t *Table, variant, key string)
}

// Add records a problem at a node.
func (d *Decoder) Add(n *Node, code, format string, args ...any) {
	d.Problems = append(d.Problems, n.Problem(code, format, args...))
}

// Warn records at a node what is probably not meant, and yet can be used.
func (d *Decoder) Warn(n *Node, code, format string, args ...any) {
	p := n.Problem(code, format, args...)
	p.Warning = true
	d.Problems = append(d.Problems, p)
}

// AddNear is Add with the one of names that was probably meant by found.
func (d *Decoder) AddNear(n *Node, found string, names []string, code, format string, args ...any) {
	p := n.Problem(code, format, args...)
	p.Suggest = Similar(found, names)
	d.Problems = append(d.Problems, p)
}

// Join records problems that something else found.
func (d *Decoder) Join(ps Problems) { d.Problems = append(d.Problems, ps...) }

// Similar is Nearest for names that people write in several styles: hostKeys,
// host-keys and HOST_KEYS are all host_keys.
func Similar(name string, names []string) string {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", "-", "", ".", "").Replace(s))
	}
	for _, n := range names {
		if n != name && plain(n) == plain(name) {
			return n
		}
	}
	return Nearest(name, names)
}

// Words joins alternatives for a message: "a, b or c".
func Words(words []string) string {
	switch len(words) {
	case 0:
		return "nothing"
	case 1:
		return words[0]
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// Fields is a map of a document that is read key by key. The keys that were
// asked for are the keys that exist; End reports the others.
type Fields struct {
	// Node is the map, or what stands in its place.
	Node *Node
	// What names the map in messages: `step "x"`.
	What string

	d       *Decoder
	table   *Table // describes the map; nil: nothing does
	variant string // of the table
	known   []string
	skipped []string
	missing map[string]Problem
}

// Map starts to read n, which messages call what. When n is not a map that is
// a problem, and all keys read as absent.
func (d *Decoder) Map(n *Node, what string) *Fields {
	f := &Fields{Node: n, What: what, d: d}
	switch n.Kind {
	case MapNode:
	case NullNode:
		d.Add(n, "wrong-type", "%s is empty; it must be a map of keys and values", what)
	case ListNode:
		hint := ""
		if len(n.Items) > 0 && n.Items[0].Kind == MapNode && len(n.Items[0].Entries) == 1 {
			hint = "; leave the - out"
		}
		d.Add(n, "wrong-type", "%s must be a map of keys and values, not %s%s", what, shape(n), hint)
	case ScalarNode:
		d.Add(n, "wrong-type", "%s must be a map of keys and values, not %s", what, shape(n))
	}
	return f
}

// Part is Map for a map that may be absent: nil reads as an empty one.
func (d *Decoder) Part(n *Node, what string) *Fields {
	if n == nil {
		n = &Node{Kind: MapNode}
	}
	return d.Map(n, what)
}

// shape says what a node is: "a list", "the string "x"".
func shape(n *Node) string {
	if n.Kind == ScalarNode {
		return strconv.Quote(clip(n.Text))
	}
	return n.Kind.String()
}

// clip shortens a text for a message.
func clip(s string) string {
	s, _, cut := strings.Cut(s, "\n")
	if r := []rune(s); len(r) > 40 {
		s, cut = string(r[:40]), true
	}
	if cut {
		s += "…"
	}
	return s
}

// Take returns the value of a key, or nil.
func (f *Fields) Take(key string) *Node {
	f.known = append(f.known, key)
	if f.d.Taken != nil && f.table != nil {
		f.d.Taken(f.table, f.variant, key)
	}
	return f.Node.Get(key)
}

// Need is Take for a key that has to be there; example says what it could be.
func (f *Fields) Need(key, example string) *Node {
	n := f.Take(key)
	if n == nil && f.Node.Kind == MapNode {
		p := f.First().Problem("missing-key", "%s has no %q; write for example: %s: %s", f.What, key, key, example)
		if f.missing == nil {
			f.missing = map[string]Problem{}
		}
		f.missing[key] = p
		f.d.Problems = append(f.d.Problems, p)
	}
	return n
}

// Meant takes back that a key is missing: it is there, misspelt, and that is
// reported.
func (f *Fields) Meant(key string) {
	gone, ok := f.missing[key]
	if !ok {
		return
	}
	delete(f.missing, key)
	f.d.Problems = slices.DeleteFunc(f.d.Problems, func(p Problem) bool { return p == gone })
}

// First returns the node at which what is missing is reported: the first key.
func (f *Fields) First() *Node {
	if len(f.Node.Entries) > 0 {
		return f.Node.Entries[0].Key
	}
	return f.Node
}

// Key returns the key itself as it stands in the document, for problems that
// are about it and not about its value; without it the map.
func (f *Fields) Key(key string) *Node {
	for _, e := range f.Node.Entries {
		if e.Key.Text == key {
			return e.Key
		}
	}
	return f.Node
}

// Skip leaves a key that does not exist out of Rest and End: what is wrong with
// it has been said already.
func (f *Fields) Skip(key string) { f.skipped = append(f.skipped, key) }

// Known returns the keys asked for so far.
func (f *Fields) Known() []string { return f.known }

// Rest returns the entries whose keys nobody asked for.
func (f *Fields) Rest() []Entry {
	var rest []Entry
	for _, e := range f.Node.Entries {
		if !slices.Contains(f.known, e.Key.Text) && !slices.Contains(f.skipped, e.Key.Text) {
			rest = append(rest, e)
		}
	}
	return rest
}

// End reports the keys that nobody asked for.
func (f *Fields) End() {
	for _, e := range f.Rest() {
		f.Unknown(e.Key)
	}
}

// Unknown reports one key that does not exist.
func (f *Fields) Unknown(key *Node) {
	names := slices.Compact(slices.Sorted(slices.Values(f.known)))
	near := Similar(key.Text, names)
	if near == "" {
		f.d.Add(key, "unknown-key", "unknown key %q in %s; it may have %s", key.Text, f.What, Words(names))
		return
	}
	f.Meant(near)
	f.d.AddNear(key, key.Text, names, "unknown-key", "unknown key %q in %s", key.Text, f.What)
}

// String reads a fixed text.
func (f *Fields) String(key, def string) string {
	n := f.Take(key)
	if n == nil {
		return def
	}
	s, ok := f.d.Text(n, key)
	if !ok {
		return def
	}
	return s
}

// NeedString is String for a key that has to be there.
func (f *Fields) NeedString(key, example string) string {
	n := f.Need(key, example)
	if n == nil {
		return ""
	}
	s, _ := f.d.Text(n, key)
	return s
}

// typed matches plain scalars that YAML readers disagree about.
var typed = regexp.MustCompile(`^(?i:[-+]?[0-9][0-9_]*(\.[0-9]*)?(e[-+]?[0-9]+)?|0[xob][0-9a-f]+|\.[0-9]+|[-+]?\.inf|\.nan|true|false|yes|no|on|off|y|n)$`)

// Text reads a node as a fixed, non-empty text; what names it in messages.
func (d *Decoder) Text(n *Node, what string) (string, bool) {
	switch {
	case n.Kind == NullNode:
		d.Add(n, "wrong-type", "%s is empty; it must be a text", what)
	case n.Kind != ScalarNode:
		d.Add(n, "wrong-type", "%s must be a text, not %s", what, n.Kind)
	case n.Tag != "":
		d.Add(n, "wrong-type", "%s is a fixed text; %s is not possible here", what, n.Tag)
	case !n.Quoted && typed.MatchString(n.Text):
		d.Add(n, "wrong-type", "%s must be a text; write it in quotes: %q", what, n.Text)
	case strings.Contains(n.Text, "{{"):
		d.Add(n, "not-fixed", "%s is a fixed text; {{ }} is not possible here", what)
	case strings.TrimSpace(n.Text) == "":
		d.Add(n, "wrong-value", "%s is empty; it must be a text", what)
	default:
		return n.Text, true
	}
	return "", false
}

// Bool reads true or false; the default is that of the table.
func (f *Fields) Bool(key string) bool {
	def := f.describes(key).Default == "true"
	n := f.Take(key)
	if n == nil {
		return def
	}
	if n.Kind == ScalarNode && !n.Quoted && n.Tag == "" && (n.Text == "true" || n.Text == "false") {
		return n.Text == "true"
	}
	f.d.Add(n, "wrong-type", "%s must be true or false, not %s", key, shape(n))
	return def
}

// Int reads a whole number; default and limits are those of the table.
func (f *Fields) Int(key string) int64 {
	k := f.describes(key)
	return f.IntFrom(key, k.Is.Min)
}

// IntFrom is Int with another lower limit.
func (f *Fields) IntFrom(key string, lo int64) int64 {
	k := f.describes(key)
	def, hi := k.whole(), k.Is.Max
	n := f.Take(key)
	if n == nil {
		return def
	}
	v, ok := f.d.Number(n, key)
	if !ok {
		return def
	}
	if v < lo || v > hi {
		f.d.Add(n, "out-of-range", "%s is %d; it must be from %d to %d", key, v, lo, hi)
		return def
	}
	return v
}

// Number reads a node as a whole number.
func (d *Decoder) Number(n *Node, what string) (int64, bool) {
	if n.Kind == ScalarNode && n.Tag == "" && !n.Quoted {
		if v, err := strconv.ParseInt(n.Text, 10, 64); err == nil && (n.Text == "0" || strings.TrimLeft(n.Text, "-+0") == strings.TrimLeft(n.Text, "-+")) {
			return v, true
		}
	}
	if _, err := strconv.ParseInt(n.Text, 10, 64); err == nil && n.Quoted {
		d.Add(n, "wrong-type", "%s must be a whole number; write it without quotes: %s", what, n.Text)
		return 0, false
	}
	d.Add(n, "wrong-type", "%s must be a whole number, not %s", what, shape(n))
	return 0, false
}

// Duration reads a time span; default and limits are those of the table.
func (f *Fields) Duration(key string) time.Duration {
	k := f.describes(key)
	def, lo, hi := k.span(), time.Duration(k.Is.Min), time.Duration(k.Is.Max)
	n := f.Take(key)
	if n == nil {
		return def
	}
	if n.Kind != ScalarNode || n.Tag != "" {
		f.d.Add(n, "wrong-type", "%s must be a duration such as 90s, 5m or 1h, not %s", key, shape(n))
		return def
	}
	v, err := ParseAs(n.Text, Duration)
	t, ok := v.(time.Duration)
	switch {
	case (err != nil || !ok) && typed.MatchString(n.Text):
		f.d.Add(n, "wrong-type", "%s is %s without a unit; write %ss, %sm or %sh", key, n.Text, n.Text, n.Text, n.Text)
	case err != nil || !ok:
		f.d.Add(n, "wrong-type", "%s must be a duration such as 90s, 5m or 1h, not %s", key, shape(n))
	case t < lo || t > hi:
		f.d.Add(n, "out-of-range", "%s is %s; it must be from %s to %s", key, n.Text, Span(lo), Span(hi))
	default:
		return t
	}
	return def
}

// Span writes a duration as an author does: 90s, 5m, 1h, without zero parts.
func Span(t time.Duration) string {
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Enum reads one of the words of the table; so is the default.
func (f *Fields) Enum(key string) string {
	k := f.describes(key)
	n := f.Take(key)
	if n != nil && f.d.OneOf(n, key, k.Is.Words) {
		return n.Text
	}
	return k.Default
}

// OneOf reports whether a node is one of words, and records a problem if not.
func (d *Decoder) OneOf(n *Node, what string, words []string) bool {
	if n.Kind != ScalarNode || n.Tag != "" {
		d.Add(n, "wrong-type", "%s must be %s, not %s", what, Words(words), shape(n))
		return false
	}
	if slices.Contains(words, n.Text) {
		return true
	}
	d.AddNear(n, n.Text, words, "unknown-value", "%s is %q; it must be %s", what, clip(n.Text), Words(words))
	return false
}

// Items reads a list; a single value stands for a list of one only when it is
// written as a list.
func (f *Fields) Items(key string) []*Node {
	n := f.Take(key)
	if n == nil {
		return nil
	}
	if n.Kind != ListNode {
		f.d.Add(n, "wrong-type", "%s must be a list, not %s; write %s: [%s]", key, shape(n), key, listExample(n))
		return nil
	}
	return n.Items
}

func listExample(n *Node) string {
	if n.Kind == ScalarNode && len(n.Text) < 40 && !strings.ContainsAny(n.Text, "\n,") {
		return n.Text
	}
	return "…"
}

// Strings reads a list of fixed texts without repeats.
func (f *Fields) Strings(key string) []string {
	var out []string
	for _, it := range f.Items(key) {
		s, ok := f.d.Text(it, "an entry of "+key)
		switch {
		case !ok:
		case slices.Contains(out, s):
			f.d.Add(it, "duplicate", "%s has %q twice", key, s)
		default:
			out = append(out, s)
		}
	}
	return out
}

// Enums reads a list of words of the table without repeats; so is the default.
func (f *Fields) Enums(key string) []string {
	k := f.describes(key)
	def, words := k.words(), k.Is.entry().Words
	if f.Take(key) == nil {
		return def
	}
	var out []string
	for _, it := range f.Items(key) {
		switch {
		case !f.d.OneOf(it, "an entry of "+key, words):
		case slices.Contains(out, it.Text):
			f.d.Add(it, "duplicate", "%s has %q twice", key, it.Text)
		default:
			out = append(out, it.Text)
		}
	}
	if n := f.Node.Get(key); n.Kind == ListNode && len(n.Items) == 0 {
		f.d.Add(n, "wrong-value", "%s is an empty list; leave it out for %s", key, Words(def))
	}
	return out
}

// schemaWord is the only schema there is.
const schemaWord = "runner/v1"

// Header reads the two keys that every document starts with and returns its
// kind, or "" when that is not one of kinds.
func (f *Fields) Header(kinds ...string) string {
	if f.Node.Kind != MapNode {
		return ""
	}
	schema := f.Need("schema", schemaWord)
	if schema != nil {
		switch {
		case schema.Text != schemaWord && strings.HasPrefix(schema.Text, "runner/"):
			f.d.AddNear(schema, schema.Text, nil, "schema", "schema is %q; this runner reads %s", clip(schema.Text), schemaWord)
		case schema.Text != schemaWord:
			f.d.OneOf(schema, "schema", []string{schemaWord})
		case f.Node.Entries[0].Value != schema:
			f.d.Add(f.Key("schema"), "schema", "schema must be the first key of a document")
		}
	}
	kind := f.Need("kind", kinds[0])
	if kind == nil || !f.d.OneOf(kind, "kind", kinds) {
		return ""
	}
	return kind.Text
}

// Hidden returns a problem at a key whose value must not be shown: the source
// line is cut off after the key, and the message must not quote the value.
func Hidden(key *Node, code, format string, args ...any) Problem {
	p := key.Problem(code, format, args...)
	r := []rune(p.Source)
	end := min(len(r), p.Pos.Col-1+len([]rune(key.Text)))
	if end >= 0 && end < len(r) {
		p.Source = string(r[:end]) + ": " + strings.Repeat("*", 3)
	}
	return p
}

// Quoted lists names for a message: "a", "b".
func Quoted(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(q, ", ")
}
