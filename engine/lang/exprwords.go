package lang

import (
	"os"
	"regexp"
	"strings"
	"sync"
)

// goWords are the type names of Go that expr says, and ours.
var goWords = map[string]string{
	"map[string]interface {}": "map", "map[string]any": "map", "[]interface {}": "list", "[]any": "list",
	"[]string": "list of string", "[]int": "list of int", "[]uint8": "bytes", "interface {}": "any",
	"time.Time": "time", "time.Duration": "duration", "int64": "int", "float64": "float", "lang.secretMark": "secret",
	"<nil>": "nothing", "nil": "nothing", "unknown": "any", "array": "list", "integer": "int", "slice": "list",
}

var goWord = regexp.MustCompile(`map\[string\]interface \{\}|\[\](interface \{\}|any|string|int|uint8)|interface \{\}|time\.(Time|Duration)|float64|int64|lang\.secretMark|<nil>`)

// plainWords says the Go types in a part of a message in our words.
func plainWords(s string) string {
	if w, ok := goWords[s]; ok {
		return w
	}
	return goWord.ReplaceAllStringFunc(s, func(w string) string { return goWords[w] })
}

// said is how a message of expr is said to authors.
type said struct {
	re   *regexp.Regexp
	code string
	to   string
}

// exprSaid is made when the first mistake is found: most runs find none.
var exprSaid = sync.OnceValue(func() []said {
	return []said{
		{regexp.MustCompile(`^compilation failed: expression exceeds maximum allowed nodes`), "too-large", "the expression has more than 500 parts; split it"},
		{regexp.MustCompile(`^memory budget exceeded`), "too-large", "the expression makes too large a value"},
		{regexp.MustCompile(`^invalid operation: (not|!) \(mismatched type (.+)\)`), "wrong-type", "$1 takes a bool, found $2"},
		{regexp.MustCompile(`^invalid operation: (\S+) \(mismatched type (.+)\)`), "wrong-type", "$1 takes a number, found $2"},
		{regexp.MustCompile(`^invalid operation: (and|or|&&|\|\|) \(mismatched types (.+) and (.+)\)`), "wrong-type", "$1 takes two bools, found $2 and $3"},
		{regexp.MustCompile(`^invalid operation: (==|!=|<|>|<=|>=) \(mismatched types (.+) and (.+)\)`), "wrong-type", "cannot compare $2 with $3"},
		{regexp.MustCompile(`^invalid operation: in \(mismatched types string and string\)`), "wrong-type", `"in" looks into a list or map; for a part of a string write: text contains "part"`},
		{regexp.MustCompile(`^invalid operation: in \(mismatched types (.+) and (.+)\)`), "wrong-type", `"in" does not find $1 in $2`},
		{regexp.MustCompile(`^invalid operation: (\S+) \(mismatched types (.+) and (.+)\)`), "wrong-type", "$1 does not go with $2 and $3"},
		{regexp.MustCompile(`^invalid operation: (.+) (==|!=|<|>|<=|>=) (.+)$`), "wrong-type", "cannot compare $1 with $3"},
		{regexp.MustCompile(`^invalid operation: int\((.*)\)`), "wrong-value", "int() takes a number, found $1"},
		{regexp.MustCompile(`^invalid operation: float\((.*)\)`), "wrong-value", "float() takes a number, found $1"},
		{regexp.MustCompile(`^invalid operation: (.+) (\S+) (.+)$`), "wrong-type", "$2 does not go with $1 and $3"},
		{regexp.MustCompile(`^cannot use (.+) as argument \(type (.+)\) to call (\S+)`), "wrong-type", "$3() takes $2 here, found $1"},
		{regexp.MustCompile(`^invalid argument for (\S+) \(type (.+)\)`), "wrong-type", "$1() does not take $2"},
		{regexp.MustCompile(`^(not enough|too many) arguments to call (\S+)`), "wrong-arguments", "$1 arguments for $2()"},
		{regexp.MustCompile(`^invalid number of arguments \((.+)\)`), "wrong-arguments", "wrong number of arguments ($1)"},
		{regexp.MustCompile(`^builtin (\S+) takes only array \(got (.+)\)`), "wrong-type", "$1() takes a list, found $2"},
		{regexp.MustCompile(`^predicate should return boolean \(got (.+)\)`), "wrong-type", "the predicate must be a bool, found $1"},
		{regexp.MustCompile(`^non-bool expression \(type (.+)\) used as condition`), "wrong-type", "the condition must be a bool, found $1"},
		{regexp.MustCompile(`^type (.+) has no (?:field|method) (\S+)`), "unknown-field", `$1 has no field "$2"`},
		{regexp.MustCompile(`^unknown field (\S+)`), "unknown-field", `unknown field "$1"`},
		{regexp.MustCompile(`^unknown name (\S+)`), "unknown-name", `unknown name "$1"`},
		{regexp.MustCompile(`^array elements can only be selected using an integer \(got (.+)\)`), "wrong-type", "the index of a list is an int, found $1"},
		{regexp.MustCompile(`^non-integer slice index (.+)`), "wrong-type", "the bounds of a slice are ints, found $1"},
		{regexp.MustCompile(`^cannot use (.+) to get an element from (.+)`), "wrong-type", "$1 cannot be a key of $2"},
		{regexp.MustCompile(`^(?:runtime error: )?(?:index out of range|array index out of range|slice bounds out of range).*`), "out-of-range", "the index is out of range"},
		{regexp.MustCompile(`^cannot fetch (.+) from (.+)`), "wrong-value", "$2 has no element $1"},
		{regexp.MustCompile(`(?:interface conversion|reflect): .*`), "wrong-value", "a value is missing or of the wrong type"},
		{regexp.MustCompile(`^(?:runtime error: )?integer divide by zero`), "wrong-value", "division by zero"},
		{regexp.MustCompile(`^unexpected token EOF`), "expr-syntax", "the expression ends too early"},
		{regexp.MustCompile(`^unexpected token \w+\("="\)`), "expr-syntax", `unexpected "="; to compare write ==`},
		{regexp.MustCompile(`^unexpected token \w+\("is"\)`), "expr-syntax", `unexpected "is"; what is not there is found when the file is read, and a step that did not run has .skipped`},
		{regexp.MustCompile(`^unexpected token \w+\((".*")\)`), "expr-syntax", "unexpected $1"},
		{regexp.MustCompile(`^literal not terminated`), "expr-syntax", "a closing quote is missing"},
		{regexp.MustCompile(`^unclosed "(.*)"`), "expr-syntax", `"$1" is not closed`},
		{regexp.MustCompile(`^unrecognized character: (.+)`), "expr-syntax", "the character $1 does not belong into an expression"},
		{regexp.MustCompile("(?s)^error parsing regexp: (.*)"), "bad-regexp", "bad pattern: $1"},
	}
})

// reword says a message of expr in words for authors, with a code.
func reword(msg string) (code, text string) {
	msg, _, _ = strings.Cut(msg, "\n")
	for _, s := range exprSaid() {
		if m := s.re.FindStringSubmatch(msg); m != nil {
			return s.code, os.Expand(s.to, func(n string) string { return plainWords(m[n[0]-'0']) })
		}
	}
	return "expr-error", plainWords(msg)
}
