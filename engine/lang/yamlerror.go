package lang

import (
	"errors"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// plainSyntax says the messages of the YAML library in words for authors; the
// first entry that is part of the message wins.
var plainSyntax = []struct{ part, say string }{
	{"tab", "a tab cannot indent YAML; use spaces"},
	{"character '\t'", "a tab cannot indent YAML; use spaces"},
	{"double-quoted", `the string that starts here has no closing "`},
	{"single-quoted", "the string that starts here has no closing '"},
	{"reserved character", "a value cannot start with this character; put it in quotes"},
	{"sequence end token", "the list that starts here has no closing ]"},
	{"mapping end token", "the map that starts here has no closing }"},
	{"corresponding to ']'", "this ] closes no list"},
	{"corresponding to '}'", "this } closes no map"},
	{"',' or '}'", "a , or } is missing before this"},
	{"',' or ']'", "a , or ] is missing before this"},
	{"mapping value is not allowed", `a second ": " in this value; put the value in quotes, or indent the next line like the key`},
	{"pre-defined", "this does not belong to the key above; is it indented wrongly?"},
	{"value is not allowed in this context", "this does not belong here; is it indented wrongly?"},
	{"non-map value", `this is not "key: value"; is a colon missing, or is it indented wrongly?`},
	{"block sequence entries", "a list starts on a line of its own; put the - below the key, indented"},
	{"unexpected key name", `this is not "key: value"; is a colon missing, or is it indented wrongly?`},
	{"implicit line break", "a key must stand on one line"},
	{"could not find flow map content", "a string that starts with { must stand in quotes"},
	{"found an invalid key", "a key is a plain word, such as name"},
	{"found ','", "a value is missing before this comma"},
	{"multi-line header", "the first line of the block is indented by another width than | or > says"},
	{"space only", "the first line of the block is indented by another width than | or > says"},
	{"header option", "after | or > stands at most one of + and -, and a digit"},
	{"escape", `this is no escape that YAML knows; write \\ for a backslash, or use single quotes`},
	{"hexadecimal", `this is no escape that YAML knows; write \\ for a backslash, or use single quotes`},
	{"tag is not allowed", "a tag does not belong here"},
	{"scalar tag", "this tag does not fit the value behind it"},
}

// syntax notes an error of the YAML library.
func (r *reader) syntax(err error) {
	say, off := "this document is not valid YAML", r.src.offset(r.skip+1, 1)
	if e, ok := errors.AsType[interface {
		error
		GetToken() *token.Token
		GetMessage() string
	}](err); ok {
		for _, p := range plainSyntax {
			if strings.Contains(e.GetMessage(), p.part) {
				say = p.say
				break
			}
		}
		if t := e.GetToken(); t != nil && t.Position != nil && t.Position.Line > 0 {
			off = r.at(t)
		}
	}
	line := r.src.line(r.src.pos(off).Line)
	code := "yaml-syntax"
	if strings.HasPrefix(say, "a tab") {
		code = "yaml-tab"
	}
	col := off - r.src.starts[r.src.pos(off).Line-1]
	if i := strings.Index(line, "{{"); i >= 0 && i <= col && !strings.Contains(line[:i], `"`) && !strings.Contains(line[:i], "'") {
		say, off, code = `a string that starts with {{ must stand in quotes: "{{ … }}"`, off-col+i, "unquoted-template"
	}
	if at := r.bareInFlow(r.src.pos(off).Line); code == "yaml-syntax" && at >= 0 {
		say, off, code = `inside { } a value with {{ }} must stand in quotes: '… {{ }} …'`, at, "unquoted-template"
	}
	r.problem(off, 1, code, "%s", say)
}

var bareValue = regexp.MustCompile(`\{[^{"'].*?:\s+([^"'\[{\s!|>&*][^,"']*["']?[^,"']*\{\{)`)

// bareInFlow returns where, in the line of an error or the one before it, a value
// in a { } starts that has {{ }} and no quotes, or -1: what is wrong with it shows
// only later.
func (r *reader) bareInFlow(line int) int {
	for n := line; n >= max(1, line-1); n-- {
		if m := bareValue.FindStringSubmatchIndex(r.src.line(n)); m != nil {
			return r.src.starts[n-1] + m[2]
		}
	}
	return -1
}
