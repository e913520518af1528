package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// Forms of the answer.
const (
	outTable = "table"
	outJSON  = "json"
	outYAML  = "yaml"
)

// machine reports whether the answer is for a program.
func (a *app) machine() bool { return a.flags.output != outTable }

// answer prints v, whose JSON fields are a contract (README.md), or what human
// writes for people.
func (a *app) answer(v any, human func(w io.Writer)) error {
	a.rest()
	var b bytes.Buffer
	switch a.flags.output {
	case outTable:
		human(&b)
	default:
		text, err := asJSON(v)
		if err != nil {
			return err
		}
		if a.flags.output == outYAML {
			if text, err = asYAML(text); err != nil {
				return err
			}
		}
		b.Write(text)
	}
	_, err := a.stdout.Write(b.Bytes())
	return err
}

// asJSON marshals v so that a terminal that shows it cannot be misled by it.
func asJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, r := range b.String() {
		if r >= 0x7f && r < 0xa0 || r > 0xa0 && unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
			if r > 0xffff {
				r = unicode.ReplacementChar // no invisible character beyond the first plane means anything here
			}
			fmt.Fprintf(&out, `\u%04x`, r)
			continue
		}
		out.WriteRune(r)
	}
	return out.Bytes(), nil
}

// asYAML writes JSON as block YAML with the same keys in the same order. Every
// string that could be read as anything else is in double quotes, which YAML
// reads as JSON does.
func asYAML(text []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var b strings.Builder
	if err := yamlValue(&b, d, 0, false); err != nil {
		return nil, err
	}
	return []byte(strings.TrimPrefix(b.String(), "\n")), nil
}

// plain matches strings that need no quotes.
var plain = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./@+-]*$`)

// yamlValue writes the next value after "key:" or "-".
func yamlValue(b *strings.Builder, d *json.Decoder, depth int, inList bool) error {
	tok, err := d.Token()
	if err != nil {
		return err
	}
	switch v := tok.(type) {
	case json.Delim:
		if !d.More() {
			b.WriteString(map[json.Delim]string{'{': " {}\n", '[': " []\n"}[v])
			_, err := d.Token()
			return err
		}
		return yamlBlock(b, d, v, depth, inList)
	case string:
		b.WriteString(" " + yamlString(v) + "\n")
	case nil:
		b.WriteString(" null\n")
	default:
		fmt.Fprintf(b, " %v\n", v)
	}
	return nil
}

// yamlBlock writes the entries of an object or an array. The first entry of
// an object in a list stands on the line of its dash.
func yamlBlock(b *strings.Builder, d *json.Decoder, open json.Delim, depth int, inList bool) error {
	pad := strings.Repeat("  ", depth)
	first := true
	for d.More() {
		switch {
		case first && inList && open == '{':
			b.WriteString(" ")
		case first:
			b.WriteString("\n" + pad)
		default:
			b.WriteString(pad)
		}
		first = false
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			name, is := key.(string)
			if !is {
				return errors.New("a key is no string")
			}
			b.WriteString(yamlString(name) + ":")
		} else {
			b.WriteString("-")
		}
		if err := yamlValue(b, d, depth+1, open == '['); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// yamlString writes a string that every YAML reader takes for one.
func yamlString(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "y", "n", "null":
	default:
		if plain.MatchString(s) {
			return s
		}
	}
	text, err := asJSON(s)
	if err != nil { // a string can always be marshalled
		return `""`
	}
	return strings.TrimSuffix(string(text), "\n")
}

// table is rows of cells under a head. Rows with alarm come first in red.
type table struct {
	head []string
	rows []row
}

type row struct {
	cells []string
	alarm bool
}

func (t *table) add(alarm bool, cells ...string) {
	for i, c := range cells {
		if cells[i] = oneLine(c); cells[i] == "" {
			cells[i] = "-"
		}
	}
	t.rows = append(t.rows, row{cells, alarm})
}

// table writes rows in columns.
func (a *app) table(w io.Writer, t table) {
	var rows []row
	for _, alarm := range []bool{true, false} {
		for _, r := range t.rows {
			if r.alarm == alarm {
				rows = append(rows, r)
			}
		}
	}
	var b bytes.Buffer
	tw := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(tw, strings.Join(t.head, "\t"))
	for _, r := range rows {
		_, _ = fmt.Fprintln(tw, strings.Join(r.cells, "\t"))
	}
	_ = tw.Flush() // into memory
	i := -1
	for line := range strings.Lines(b.String()) {
		line = strings.TrimRight(line, " \n")
		switch {
		case i < 0:
			line = a.outColor.dim(line)
		case rows[i].alarm:
			line = a.outColor.red(line)
		}
		i++
		_, _ = fmt.Fprintln(w, line)
	}
}

// noteEmpty says to people that a list is empty because of what is left out.
func (a *app) noteEmpty(n int, whole bool, text string) {
	if n == 0 && !whole && !a.machine() {
		a.say("%s", text)
	}
}

// field is a line of a description.
type field struct{ name, text string }

// passwordField is written as it is: it is ours, and every character counts.
const passwordField = "password"

// fields writes "name   text" lines; empty ones are left out.
func fields(w io.Writer, fs ...field) {
	width := 0
	for _, f := range fs {
		if f.text != "" {
			width = max(width, len(f.name))
		}
	}
	for _, f := range fs {
		if f.text == "" {
			continue
		}
		if f.name != passwordField {
			f.text = oneLine(f.text)
		}
		_, _ = fmt.Fprintf(w, "%-*s  %s\n", width, f.name, f.text)
	}
}

// section writes a title between parts of a description.
func section(w io.Writer, title string) { _, _ = fmt.Fprintf(w, "\n%s\n", title) }

// stamp writes a time for people: UTC, to the second.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// when writes a time and how far it is away.
func (a *app) when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return stamp(t) + " (" + a.away(t) + ")"
}

// away writes how far a time is away: "in 59m", "2h5m ago".
func (a *app) away(t time.Time) string {
	d := t.Sub(a.now())
	switch {
	case d >= time.Second:
		return "in " + span(d)
	case d <= -time.Second:
		return span(-d) + " ago"
	}
	return "now"
}

// span writes a duration to two units: 59m3s, 2h5m, 3d4h.
func span(d time.Duration) string {
	d = d.Round(time.Second)
	days := d / (24 * time.Hour)
	h, m, s := d/time.Hour%24, d/time.Minute%60, d/time.Second%60
	parts := []struct {
		n    time.Duration
		unit string
	}{{days, "d"}, {h, "h"}, {m, "m"}, {s, "s"}}
	for i, p := range parts {
		if p.n == 0 && i < len(parts)-1 {
			continue
		}
		text := fmt.Sprintf("%d%s", p.n, p.unit)
		if i+1 < len(parts) && parts[i+1].n > 0 {
			text += fmt.Sprintf("%d%s", parts[i+1].n, parts[i+1].unit)
		}
		return text
	}
	return "0s"
}
