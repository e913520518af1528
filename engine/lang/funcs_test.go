package lang

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/Masterminds/sprig/v3"
)

// funcExamples has an example of every function of the allow-list, and what
// it makes of testEnv; "! " is in front of the end of an error.
var funcExamples = map[string][][2]string{
	"upper": {{"upper params.name", "BOB"}}, "lower": {{"lower `ÉA`", "éa"}}, "title": {{"title `a b`", "A B"}}, "untitle": {{"untitle `A B`", "a b"}},
	"swapcase": {{"swapcase `aB`", "Ab"}}, "snakecase": {{"snakecase `aB c`", "a_b_c"}}, "camelcase": {{"camelcase `a_b`", "AB"}}, "kebabcase": {{"kebabcase `aB`", "a-b"}},
	"initials": {{"initials `ann bob`", "ab"}}, "nospace": {{"nospace ` a b `", "ab"}}, "trim": {{"trim ` a `", "a"}}, "trimAll": {{"trimAll `-` `-a-`", "a"}},
	"trimPrefix": {{"trimPrefix `a` `ab`", "b"}}, "trimSuffix": {{"trimSuffix `b` `ab`", "a"}}, "contains": {{"contains `o` `bob`", "true"}},
	"hasPrefix": {{"hasPrefix `b` `ab`", "false"}}, "hasSuffix": {{"hasSuffix `b` `ab`", "true"}}, "replace": {{"replace `b` `p` params.name", "pop"}},
	"repeat": {{"repeat 3 `ab`", "ababab"}, {"repeat -1 `a`", "! repeat: -1 is negative"}}, "trunc": {{"trunc 2 `äöü`", "äö"}, {"trunc -2 `abc`", "bc"}, {"trunc 9 `abc`", "abc"}},
	"abbrev": {{"abbrev 5 `abcdefg`", "ab..."}, {"abbrev 3 `abcdefg`", "! abbrev: the width must be at least 4, found 3"}},
	"substr": {{"substr 1 2 `äöü`", "ö"}, {"substr 1 9 `ab`", "! substr: 1 to 9 is out of range of a string of 2 characters"}},
	"cat":    {{"cat `a` 1 true", "a 1 true"}}, "indent": {{"indent 2 `a\nb`", "  a\n  b"}, {"indent 201 `a`", "! indent: the width must be 0 to 200, found 201"}},
	"nindent": {{"nindent 1 `a`", "\n a"}}, "wrap": {{"wrap 5 `ab cd efgh`", "ab cd\nefgh"}}, "wrapWith": {{"wrapWith 2 `|` `ab cd`", "ab|cd"}},
	"plural": {{"plural `one` `many` 1", "one"}, {"plural `one` `many` 2", "many"}}, "toString": {{"toString 5", "5"}, {"toString users", "! list cannot be part of a string"}},
	"printf": {{"printf `%s-%03d` `a` 7", "a-007"}, {"printf `%d` `a`", "! printf: the verbs of \"%d\" do not fit the values"}, {"printf `%s`", "! printf: the verbs of \"%s\" do not fit the values"}},
	"base":   {{"base `/a/b.c`", "b.c"}}, "dir": {{"dir `/a/b`", "/a"}}, "clean": {{"clean `/a/../b`", "/b"}}, "ext": {{"ext `a.b`", ".b"}}, "isAbs": {{"isAbs `/a`", "true"}},
	"utc":  {{"grant.expires_at | utc `20060102150405Z`", "20261120170000Z"}},
	"list": {{"list 1 `b` | join `,`", "1,b"}}, "splitList": {{"splitList `,` `a,b` | last", "b"}}, "join": {{"join `+` params.groups", "dev+ops"}, {"join `,` users", "! map cannot be part of a string"}},
	"sortAlpha": {{"list `b` `a` | sortAlpha | join ``", "ab"}}, "first": {{"first params.groups", "dev"}, {"first (list)", "! first: the list is empty"}},
	"last": {{"last params.groups", "ops"}, {"last (list)", "! last: the list is empty"}}, "rest": {{"rest params.groups | join ``", "ops"}, {"rest (list) | join ``", "! rest: 1 to 0 is out of range of a list of 0"}},
	"initial": {{"initial params.groups | join ``", "dev"}}, "reverse": {{"reverse params.groups | join ``", "opsdev"}}, "uniq": {{"list 1 2 1 | uniq | join ``", "12"}},
	"without": {{"without (list 1 2 3) 2 | join ``", "13"}}, "has": {{"has `ops` params.groups", "true"}}, "compact": {{"list `` `a` | compact | join `,`", "a"}},
	"append": {{"append params.groups `x` | join `,`", "dev,ops,x"}}, "prepend": {{"prepend params.groups `x` | join `,`", "x,dev,ops"}}, "concat": {{"concat params.groups (list 1) | join `,`", "dev,ops,1"}},
	"slice": {{"slice params.groups 1 2 | join ``", "ops"}, {"slice params.groups 1 9 | join ``", "! slice: 1 to 9 is out of range of a list of 2"}}, "toStrings": {{"toStrings (list 1 true) | join `,`", "1,true"}},
	"until": {{"until 3 | join ``", "012"}, {"until 10001 | join ``", "! until: the list has more than 10000 elements"}}, "untilStep": {{"untilStep 3 0 -1 | join ``", "321"}, {"untilStep 1 2 0 | join ``", "! untilStep: the step is 0"}},
	"seq": {{"seq 1 3", "1 2 3"}, {"seq 2 1", "2 1"}, {"seq 1 999999", "! seq: the list has more than 10000 elements"}}, "len": {{"len `äö`", "2"}, {"len users", "2"}, {"len 5", "! len takes a string, list or map, found int"}},
	"index": {{"index users 1 `name`", "bob"}, {"index users 5", "! index: 5 is out of range of a list of 2"}, {"index users 0 `x`", "! index: the map has no key x"}, {"index 5 1", "! index takes a list or map, found int"}},
	"dict":  {{"dict `a` 1 | toJson", `{"a":1}`}, {"dict `a`", "! dict takes keys and values in turn"}, {"dict 1 2", "! dict: a key is a string, found int"}},
	"get":   {{"get params.labels `tier`", "gold"}, {"get params.labels `x`", "! index: the map has no key x"}}, "hasKey": {{"hasKey params.labels `x`", "false"}},
	"keys": {{"keys params.labels | join `,`", "n,tier"}}, "values": {{"values params.labels | join `,`", "2,gold"}}, "pick": {{"pick params.labels `n` | toJson", `{"n":2}`}, {"pick params.labels `x`", "! pick: the map has no key \"x\""}},
	"omit": {{"omit params.labels `n` | toJson", `{"tier":"gold"}`}},
	"add":  {{"add 1 2 3", "6"}, {"add 9223372036854775807 1", "! add: the result is too large"}}, "sub": {{"sub 1 2", "-1"}, {"sub -9223372036854775807 2", "! sub: the result is too large"}}, "mul": {{"mul 2 3", "6"}, {"mul 9223372036854775807 2", "! mul: the result is too large"}},
	"div": {{"div 7 2", "3"}, {"div 1 0", "! div: division by zero"}}, "mod": {{"mod 7 2", "1"}, {"mod 1 0", "! mod: division by zero"}}, "add1": {{"add1 1", "2"}, {"add1 9223372036854775807", "! add1: the result is too large"}},
	"max": {{"max 1 3 2", "3"}}, "min": {{"min 2 1", "1"}}, "floor": {{"floor 1000000.7", "1000000"}}, "ceil": {{"ceil 1.2", "2"}}, "round": {{"round 1.256 2", "1.26"}, {"round 1.2 99", "! round: the digits must be 0 to 15, found 99"}},
	"int": {{"int `12`", "12"}, {"int `abc`", "! int: \"abc\" is not a whole number"}, {"int 1.5", "! int takes a whole number, found float"}}, "int64": {{"int64 3.0", "3"}}, "atoi": {{"atoi `x`", "! int: \"x\" is not a whole number"}, {"atoi `4`", "4"}},
	"float64": {{"float64 `1.5`", "1.5"}, {"float64 `NaN`", "! float64: \"NaN\" is not a number"}},
	"default": {{"default `x` ``", "x"}, {"default true false", "false"}, {"default 5 0", "0"}, {"default `x` any.none", "x"}}, "empty": {{"empty 0", "false"}, {"empty ``", "true"}},
	"coalesce": {{"coalesce `` `b`", "b"}, {"coalesce ``", "! coalesce: all values are empty"}}, "ternary": {{"ternary `y` `n` params.sudo", "y"}, {"ternary `y` `n` false", "n"}},
	"all": {{"all 1 ``", "false"}}, "any": {{"list ``", "! list cannot be part of a string"}}, "fail": {{"fail `no`", "! no"}}, "not": {{"not params.sudo", "false"}},
	"eq": {{"eq rc 0", "true"}, {"eq `b` `a` `b`", "true"}, {"eq rc 0.0", "true"}, {"eq rc `0`", "! cannot compare int with string"}, {"eq grant.expires_at grant.expires_at", "true"}, {"eq (list 1) (list 1)", "true"}},
	"ne": {{"ne `a` `b`", "true"}}, "lt": {{"lt 1 2", "true"}, {"lt 1 `a`", "! cannot compare int with string"}}, "le": {{"le 2 2", "true"}}, "gt": {{"gt `b` `a`", "true"}}, "ge": {{"ge grant.duration grant.duration", "true"}},
	"b64enc": {{"b64enc `a`", "YQ=="}}, "b64dec": {{"b64dec `YQ==`", "a"}, {"b64dec `!!!`", "! b64dec: the value is not valid"}}, "b32enc": {{"b32enc `a`", "ME======"}}, "b32dec": {{"b32dec `ME======`", "a"}, {"b32dec `1`", "! b32dec: the value is not valid"}},
	"sha1sum": {{"sha1sum `a` | trunc 8", "86f7e437"}}, "sha256sum": {{"sha256sum `a` | trunc 8", "ca978112"}}, "sha512sum": {{"sha512sum `a` | trunc 8", "1f40fc92"}},
	"toJson": {{"toJson params.groups", `["dev","ops"]`}, {"toJson (dict `d` grant.duration)", `{"d":"1h30m"}`}, {"toJson `<&>`", `"<&>"`}}, "toJSON": {{"toJSON 1", "1"}}, "toPrettyJson": {{"toPrettyJson (list 1)", "[\n  1\n]"}},
	"fromJson": {{"(fromJson `{\"a\":[1]}`).a | first", "1"}, {"fromJson `{`", "! \"{\" is not JSON"}}, "urlEscape": {{"urlEscape `a b&`", "a+b%26"}},
	"semverCompare": {{"semverCompare `^1.2` `1.9.0`", "true"}, {"semverCompare `!!` `1`", "! semverCompare: improper constraint: !!"}}, "unixEpoch": {{"unixEpoch grant.expires_at", "1795194000"}},
	"toDate":     {{"toDate `2006-01-02` `2026-03-04`", "2026-03-04T00:00:00Z"}, {"toDate `2006-01-02` `x`", "! toDate: \"x\" is not a time written as \"2006-01-02\""}},
	"dateModify": {{"dateModify `-1h` grant.expires_at", "2026-11-20T16:00:00Z"}, {"dateModify `x` grant.expires_at", "! dateModify: \"x\" is not a duration such as -1h or 90s"}},
	"regexMatch": {{"regexMatch `^b` params.name", "true"}, {"regexMatch `[` `a`", "! bad pattern: missing closing ]: `[`"}}, "regexFind": {{"regexFind `[0-9]+` `a12b`", "12"}, {"regexFind `x` `a`", "! regexFind: \"x\" does not occur"}},
	"regexFindAll": {{"regexFindAll `.` `abc` 2 | join `,`", "a,b"}}, "regexSplit": {{"regexSplit `,` `a,b` -1 | join `;`", "a;b"}}, "regexQuoteMeta": {{"regexQuoteMeta `a.b`", `a\.b`}},
	"regexReplaceAll": {{"regexReplaceAll `(b)` params.name `<$1>`", "<b>o<b>"}}, "regexReplaceAllLiteral": {{"regexReplaceAllLiteral `b` params.name `$1`", "$1o$1"}},
}

func TestEveryFunctionDoesWhatItsExampleShows(t *testing.T) {
	t.Parallel()
	for _, name := range slices.Sorted(maps.Keys(textFuncs())) {
		if len(funcExamples[name]) == 0 {
			t.Errorf("%s has no example", name)
		}
	}
	for name, examples := range funcExamples {
		for _, ex := range examples {
			if _, ok := textFuncs()[name]; !ok {
				t.Errorf("%s is no function", name)
			}
			scope := maps.Clone(testScope())
			v, ps := CompileValue(&Node{Text: "{{ toString (" + ex[0] + ") }}", Quoted: true}, String, scope)
			if len(ps) > 0 {
				t.Errorf("%s: %v", ex[0], ps)
				continue
			}
			got, err := v.Eval(testEnv())
			if want, fails := strings.CutPrefix(ex[1], "! "); fails {
				if err == nil || !strings.HasSuffix(err.Error(), want) {
					t.Errorf("%s: got %v, %v, want the error %s", ex[0], got, err, want)
				}
			} else if err != nil || got != ex[1] {
				t.Errorf("%s: got %q, %v, want %q", ex[0], got, err, ex[1])
			}
		}
	}
}

// impure are the functions of sprig that leak, change data, depend on chance
// or on the time of day, or are slow.
var impure = []string{
	"env", "expandenv", "getHostByName", "now", "ago", "date", "htmlDate", "dateInZone", "randAlpha", "randAlphaNum", "randAscii", "randBytes", "randInt", "randNumeric", "shuffle", "uuidv4",
	"genPrivateKey", "genCA", "genCAWithKey", "genSelfSignedCert", "genSignedCert", "buildCustomCert", "derivePassword", "bcrypt", "htpasswd", "encryptAES", "decryptAES",
	"set", "unset", "merge", "mergeOverwrite", "mustMerge", "osBase", "osDir", "squote", "quote", "deepCopy", "hello",
}

func TestNoImpureFunctionIsCallable(t *testing.T) {
	t.Parallel()
	all := textFuncs()
	for _, name := range impure {
		if _, ok := sprig.TxtFuncMap()[name]; !ok && name != "quote" {
			t.Errorf("%s is not in sprig any more", name)
		}
		if _, ok := all[name]; ok {
			t.Errorf("%s is allowed", name)
		}
		_, ps := CompileValue(&Node{Text: "{{ " + name + " `x` }}", Quoted: true}, String, Scope{})
		if len(ps) != 1 || ps[0].Code != "unknown-function" {
			t.Errorf("%s: %v", name, ps)
		}
	}
}

func TestFunctionsLeaveTheirArgumentsAlone(t *testing.T) {
	t.Parallel()
	env := testEnv()
	src := "{{ reverse params.groups | join `,` }}{{ sortAlpha (append params.groups `a`) | join `,` }}{{ omit params.labels `n` | toJson }}{{ concat params.groups params.groups | uniq | len }}"
	v, ps := CompileValue(&Node{Text: src, Quoted: true}, String, testScope())
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	first, err := v.Eval(env)
	if err != nil {
		t.Fatal(err)
	}
	second, err := v.Eval(env)
	if err != nil || first != second || first != `ops,deva,dev,ops{"tier":"gold"}2` {
		t.Errorf("%q, then %q, %v", first, second, err)
	}
	params := env["params"].(map[string]any)
	if groups := params["groups"].([]string); !slices.Equal(groups, []string{"dev", "ops"}) {
		t.Errorf("groups are now %v", groups)
	}
	if labels := params["labels"].(map[string]any); len(labels) != 2 || labels["n"] != int64(2) {
		t.Errorf("labels are now %v", labels)
	}
}
