package lang

import (
	"regexp"
	"strings"
)

// What people write who come from other languages, and how the same is said here.

// foreignFuncs are functions.
var foreignFuncs = map[string]string{
	"length": "; write len(…)", "size": "; write len(…)",
	"now": "; the time of day is not available, use the times of the grant", "default": "; write VALUE ?? OTHER",
	"defined": "; what is not there is found when the file is read", "regex_match": "; write TEXT matches \"PATTERN\"",
	"startsWith": "; write hasPrefix(text, part)", "contains": "; write TEXT contains PART",
	"lookup": "; give the value as a param", "env": "; give the value as a param", "bool": "; params of type bool are bools",
	"range": "; write 1..5 for the numbers from 1 to 5", "str": "; write string(…)",
}

// foreignMethods are methods and properties of texts and lists.
var foreignMethods = map[string]string{
	"startswith": `TEXT startsWith "part"`, "startsWith": `TEXT startsWith "part"`, "endswith": `TEXT endsWith "part"`, "endsWith": `TEXT endsWith "part"`,
	"find": `TEXT contains "part"`, "indexOf": `TEXT contains "part"`, "includes": `TEXT contains "part"`, "contains": `TEXT contains "part"`, "count": `TEXT contains "part"`,
	"match": `TEXT matches "pattern"`, "search": `TEXT matches "pattern"`, "strip": "trim(TEXT)", "trim": "trim(TEXT)", "lower": "lower(TEXT)", "toLowerCase": "lower(TEXT)",
	"upper": "upper(TEXT)", "split": `split(TEXT, ",")`, "length": "len(TEXT)", "size": "len(LIST)", "get": `MAP.key ?? "other"`,
}

// methodHint says how a method or property of another language is written.
func methodHint(name string) string {
	if h := foreignMethods[name]; h != "" {
		return "; write " + h
	}
	return ""
}

// foreignNames are words for values.
var foreignNames = map[string]string{
	"True": "true", "TRUE": "true", "yes": "true", "Yes": "true", "on": "true", "False": "false", "FALSE": "false", "no": "false", "No": "false", "off": "false",
	"None": "", "none": "", "null": "", "NULL": "", "undefined": "",
}

// foreignName returns what is meant by a word for a value, or a hint.
func foreignName(name string) (suggest, hint string) {
	word, is := foreignNames[name]
	if is && word == "" {
		return "", "; nothing is nothing here: a text that nobody gave is \"\", a number 0, a list has len 0"
	}
	return word, ""
}

var (
	filtered = regexp.MustCompile(`([A-Za-z_][\w.]*)\s*\|\s*([A-Za-z_]\w*)`)
	tested   = regexp.MustCompile(`([A-Za-z_][\w.]*)\s+is\s+(not\s+)?([A-Za-z_]\w*)`)
	// outcomes are tests of other languages that are fields of results here.
	outcomes = map[string]string{"failed": "failed", "changed": "changed", "skipped": "skipped", "success": "ran and not %s.failed", "succeeded": "ran and not %s.failed"}
)

// foreignForm explains a form of another language in an expression that cannot be
// read, with where it starts and how long it is; "": there is none.
func foreignForm(text string) (say string, offset, width int) {
	outcome := func(of, word string) string {
		field := outcomes[word]
		return of + "." + strings.ReplaceAll(field, "%s", of)
	}
	if m := tested.FindStringSubmatchIndex(text); m != nil {
		of, word := text[m[2]:m[3]], text[m[6]:m[7]]
		switch {
		case outcomes[word] != "":
			return "there are no tests with is; write " + outcome(of, word), m[0], m[1] - m[0]
		case word == "match" || word == "search":
			return `there are no tests with is; write ` + of + ` matches "pattern"`, m[0], m[1] - m[0]
		case word != "defined" && word != "undefined" && word != "none":
			return "there are no tests with is; compare with == or ask a field", m[0], m[1] - m[0]
		}
	}
	if m := filtered.FindStringSubmatchIndex(text); m != nil && !strings.HasPrefix(text[m[1]:], "(") {
		of, word := text[m[2]:m[3]], text[m[4]:m[5]]
		if outcomes[word] != "" {
			return "there are no filters here; write " + outcome(of, word), m[0], m[1] - m[0]
		}
		if word == "length" || word == "count" {
			word = "len"
		}
		return "there are no filters here; write " + word + "(" + of + ")", m[0], m[1] - m[0]
	}
	return "", 0, 0
}
