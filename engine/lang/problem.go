package lang

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Pos is a place in a file. Line and Col count from 1; Col counts runes.
type Pos struct {
	File string
	Line int
	Col  int
}

// String returns file:line:col.
func (p Pos) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col) }

// Problem is one thing that is wrong in a file, said to its author.
type Problem struct {
	Pos     Pos
	Code    string // stable word for the kind of problem, one of Codes
	Message string // what was found and what would have been right; no Go type names
	Suggest string // what was probably meant; printed as: did you mean "x"?
	Source  string // the source line, for the excerpt
	Width   int    // how many runes the caret underlines; 0 is 1
	// Warning says that the file can be used as it is: it is probably not what
	// its author meant.
	Warning bool
}

// String returns file:line:col: message, with the suggestion and the code.
func (p Problem) String() string {
	s := p.Pos.String() + ": "
	if p.Warning {
		s += "warning: "
	}
	s += p.Said()
	if p.Code != "" {
		s += " [" + p.Code + "]"
	}
	return s
}

// Said returns the message with the suggestion.
func (p Problem) Said() string {
	if p.Suggest == "" {
		return p.Message
	}
	return fmt.Sprintf("%s; did you mean %q?", p.Message, p.Suggest)
}

// Excerpt returns the source line with a caret below the place, or "".
func (p Problem) Excerpt() string {
	if p.Source == "" || p.Pos.Col < 1 {
		return ""
	}
	num := fmt.Sprintf("%5d", p.Pos.Line)
	var pad strings.Builder
	for i, r := range []rune(p.Source) {
		if i >= p.Pos.Col-1 {
			break
		}
		if r == '\t' {
			pad.WriteByte('\t')
		} else {
			pad.WriteByte(' ')
		}
	}
	return fmt.Sprintf("%s | %s\n%s | %s%s\n", num, p.Source, strings.Repeat(" ", len(num)),
		pad.String(), "^"+strings.Repeat("~", max(0, p.Width-1)))
}

// Problems is everything that is wrong, sorted by place. It is an error.
type Problems []Problem //nolint:errname // what a file has are problems

// Error lists the problems, one a line, each followed by its excerpt.
func (ps Problems) Error() string {
	var b strings.Builder
	for _, p := range ps {
		b.WriteString(p.String())
		b.WriteByte('\n')
		b.WriteString(p.Excerpt())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Err returns ps as an error, or nil when there is no problem.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	ps.Sort()
	return ps
}

// Split returns the errors and the warnings.
func (ps Problems) Split() (errs, warnings Problems) {
	for _, p := range ps {
		if p.Warning {
			warnings = append(warnings, p)
		} else {
			errs = append(errs, p)
		}
	}
	return errs, warnings
}

// Sort orders the problems by file, line and column.
func (ps Problems) Sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Pos.File, b.Pos.File), cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Col, b.Pos.Col))
	})
}
