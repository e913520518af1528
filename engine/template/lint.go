package template

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"runner/engine/lang"
	"runner/engine/module"
)

// What a template says is checked once more when all of it is known: for what
// can run and is probably not what its author meant. Those are warnings, and
// one that is sure to be wrong is an error.

// use is a place that reads a path.
type use struct {
	node  *lang.Node
	path  []string
	whens []string // conditions under which it is read
}

// result is what a step registers.
type result struct {
	step  *Step
	whens []string // conditions under which the step runs
	typ   lang.Type
}

// uses notes what a node reads.
func (l *loader) uses(n *lang.Node, refs [][]string) {
	for _, path := range refs {
		l.used = append(l.used, use{node: n, path: path, whens: l.whens})
	}
}

// lint looks at a template without errors.
func (l *loader) lint() {
	l.unusedParams()
	l.skippedResults()
	l.unmarked()
	for _, steps := range [][]*Step{l.t.Steps, l.t.Renew, l.t.Revert} {
		l.lintSteps(steps)
	}
	for _, key := range []string{"steps", "renew", "revert"} {
		if n := l.doc.Get(key); n != nil {
			l.localTimes(n)
		}
	}
}

// unusedParams warns of params that nothing reads.
func (l *loader) unusedParams() {
	read := map[string]bool{}
	for _, u := range l.used {
		switch {
		case u.path[0] != "params":
		case len(u.path) == 1:
			return // all of them
		default:
			read[u.path[1]] = true
		}
	}
	params := l.doc.Get("params")
	if params == nil {
		return
	}
	for _, e := range params.Entries {
		if !read[e.Key.Text] {
			l.Warn(e.Key, "unused-param", "nothing reads params.%s; take it out, or use it", e.Key.Text)
		}
	}
}

// says are the fields of a result that mean the same when the step was skipped.
var says = []string{"changed", "failed", "skipped", "ran", "attempts", "msg", "duration_ms", "started_at", "items"}

// skippedResults warns of outputs of steps that may have been skipped: they are
// empty then, 0 or "".
func (l *loader) skippedResults() {
	for _, u := range l.used {
		r := l.results[u.path[0]]
		if r == nil || len(r.whens) == 0 || len(u.path) < 2 || slices.Contains(says, u.path[1]) || r.typ.Fields[u.path[1]].Kind == lang.BoolKind {
			continue
		}
		if l.asked(u, r) {
			continue
		}
		name := strings.Join(u.path[:2], ".")
		offset := max(0, strings.Index(u.node.Text, name))
		p := u.node.ProblemAt(offset, utf8.RuneCountInString(name), "skipped-output", "%s is empty when step %q was skipped, which runs only when %s; ask for %s.ran, or give the step here the same when", name, r.step.Name, strings.Join(r.whens, " and "), u.path[0])
		p.Warning = true
		l.Problems = append(l.Problems, p)
	}
}

var fallsBack = regexp.MustCompile(`\?\?|\bdefault\b|\?[^.]`)

// asked reports whether a place is only reached when a step has run, or has
// something else for when it has not.
func (l *loader) asked(u use, r *result) bool {
	if fallsBack.MatchString(u.node.Text) {
		return true
	}
	missing := slices.ContainsFunc(r.whens, func(w string) bool { return !slices.Contains(u.whens, w) })
	return !missing || slices.ContainsFunc(append(u.whens, u.node.Text), func(w string) bool {
		return asksResult(w, u.path[0], r.typ)
	})
}

var resultField = regexp.MustCompile(`\b([a-z][a-z0-9_]*)\.([a-z_]+)`)

// asksResult reports whether a condition asks a yes or no of a result.
func asksResult(text, name string, typ lang.Type) bool {
	for _, m := range resultField.FindAllStringSubmatch(text, -1) {
		if m[1] == name && typ.Fields[m[2]].Kind == lang.BoolKind {
			return true
		}
	}
	return false
}

// lintSteps looks at each step of a list, and what it is followed by.
func (l *loader) lintSteps(steps []*Step) {
	ends := (*Step)(nil)
	for _, s := range steps {
		switch {
		case ends != nil && (s.When == nil || !s.When.Asks()):
			l.Warn(s.node, "unreachable", "nothing comes to this step: step %q before it always fails; give that a when", ends.Name)
			ends = nil
		case never(s.When):
			l.Warn(s.node.Get("when"), "never-runs", "this never holds; take the step out, or say when it runs")
		case s.Module != nil && s.Module.Name == "fail" && s.When == nil && s.OnError == "fail":
			ends = s
		}
		if !l.idleUndo(s) {
			l.unprobed(s)
		}
		l.longNames(s)
		if s.Include != nil {
			continue // its file was looked at
		}
		l.lintSteps(s.Block)
		l.lintSteps(s.Rescue)
		l.lintSteps(s.Always)
	}
}

// marked is where an account of a platform bears the mark of its grant, and the mark as
// an author writes it. A scan reads it there.
var marked = map[string]struct{ arg, mark string }{
	"user":     {"comment", `runner {{ grant.id }} until {{ grant.backstop_at | utc "20060102T150405Z" }}`},
	"win_user": {"description", "runner {{ grant.id }}"},
}

// unmarked warns of an account that is made without the mark of its grant. What is
// computed may hold it.
func (l *loader) unmarked() {
	if l.t.Kind != Create {
		return
	}
	has := map[string]bool{}
	var without []*Step
	names := map[*Step]string{}
	in := side{t: l.t, other: l.t}
	in.eachStep(l.t.Steps, nil, func(at side, s *Step, _ []string) {
		m, makes := marked[s.Module.Name]
		if !makes || !slices.ContainsFunc(s.Module.Args, func(f module.Field) bool { return f.Name == m.arg }) {
			return
		}
		args, known := at.arguments(s)
		name, text := args.String("name"), args.String(m.arg)
		_, rest, is := strings.Cut(text, "runner {{grant.id}}")
		switch {
		case !known || args.String("state") == "absent" || !strings.Contains(name, "{{"):
		case strings.HasPrefix(text, "{{") && !strings.HasPrefix(text, "{{grant."), strings.HasPrefix(text, unknownPart), is && strings.HasPrefix(text, "runner {{") && (rest == "" || rest[0] == ' ' || rest[0] == '{'):
			has[name] = true
		default:
			without, names[s] = append(without, s), name
		}
	})
	for _, s := range without {
		if !has[names[s]] {
			m := marked[s.Module.Name]
			l.Warn(moduleKey(s), "no-mark", "nothing on the device says of which grant this account is, so a scan cannot know it, nor take it over when the state of runner is lost; add %s: '%s'", m.arg, m.mark)
			has[names[s]] = true // once is enough
		}
	}
}

var idle = regexp.MustCompile(`^(?:\s|;|#[^\n]*|\b(?:true|exit|exit 0|return)\b|:)*$`)

// idleUndo warns of an undo that undoes nothing, and reports whether it did.
func (l *loader) idleUndo(s *Step) bool {
	is := s.Undo != nil && idle.MatchString(s.Undo.Text)
	if is {
		l.Warn(s.node.Get("undo"), "no-undo", "this takes nothing back; write what does, or changed_when: false if the step changes nothing")
	}
	return is
}

// unprobed warns of a script that makes something which nobody can look for.
func (l *loader) unprobed(s *Step) {
	asks := s.When != nil && slices.ContainsFunc(s.When.Refs(), func(ref []string) bool { return l.results[ref[0]] != nil })
	if s.Undo == nil || s.Probe != nil || s.ChangedWhen != nil || asks || s.Args["creates"] != nil || s.Args["removes"] != nil {
		return
	}
	says := "exits 0"
	if s.Module.Ps != "" {
		says = "says True"
	}
	l.Warn(moduleKey(s), "no-probe", "nobody can tell whether what this %s makes is there: it runs again although it is, and is undone although it was there before; add probe: with a script that %s when it is there, or creates: with the path that it makes", s.Module.Name, says)
}

// Names of accounts that a grant has by default: jit- and ten characters.
const accountLength = 14

// nameLimits are the longest names of what modules make.
var nameLimits = map[string]int{"user": 32, "group": 32, "win_user": 20}

var action = regexp.MustCompile(`\{\{.*?\}\}`)

// longNames warns of names that become too long with the name of an account in
// them. Modules refuse fixed ones.
func (l *loader) longNames(s *Step) {
	if s.Module == nil || s.Args["name"] == nil || nameLimits[s.Module.Name] == 0 {
		return
	}
	v, limit := s.Args["name"], nameLimits[s.Module.Name]
	if _, known := constant(v); known {
		return
	}
	length := utf8.RuneCountInString(action.ReplaceAllString(v.Text(), ""))
	if slices.ContainsFunc(v.Refs(), func(p []string) bool { return slices.Equal(p, []string{"grant", "account"}) }) {
		length += accountLength
	}
	if length > limit {
		p := v.Problem("name-too-long", "this name gets %d characters and more, and %s has names of at most %d", length, map[string]string{"windows": "Windows", "linux": "Linux"}[s.Module.Platform], limit)
		p.Warning = true
		l.Problems = append(l.Problems, p)
	}
}

// timeHere matches times that a device reads in its own zone: those of sudoers
// and of authorized_keys that do not end in Z. A {{ }} that writes the Z itself
// has it in its layout.
var timeHere = regexp.MustCompile(`(NOTAFTER=|NOTBEFORE=|expiry-time="?)([0-9]{8,14}|\{\{[^}]*\}\})(Z?)`)

// otherBlock matches what steers a text in other systems.
var otherBlock = regexp.MustCompile(`\{%[-+]?\s*(?:if|elif|else|endif|for|endfor|set|macro|block|raw)\b[^\n]*?%\}`)

// withZone says how a time is written so that it is UTC everywhere.
func withZone(at string) string {
	if strings.HasPrefix(at, "{{") {
		return `{{ grant.backstop_at | utc "20060102150405Z" }}`
	}
	return at + "Z"
}

// localTimes refuses such times.
func (l *loader) localTimes(n *lang.Node) {
	for _, e := range n.Entries {
		l.localTimes(e.Value)
	}
	for _, it := range n.Items {
		l.localTimes(it)
	}
	if n.Kind != lang.ScalarNode {
		return
	}
	if strings.Contains(n.Text, "{%") {
		for _, m := range otherBlock.FindAllStringIndex(n.Text, -1) {
			l.Problems = append(l.Problems, n.ProblemAt(m[0], utf8.RuneCountInString(n.Text[m[0]:m[1]]), "template-syntax", "this would be taken as it is; write {{ if … }} and {{ end }} in a string, and when: or shell in a script"))
		}
	}
	if !strings.Contains(n.Text, "NOT") && !strings.Contains(n.Text, "expiry-time") {
		return // regular expressions are slow
	}
	for _, m := range timeHere.FindAllStringSubmatchIndex(n.Text, -1) {
		if at := n.Text[m[4]:m[5]]; m[6] == m[7] && !strings.Contains(at, "Z") {
			l.Problems = append(l.Problems, n.ProblemAt(m[4], utf8.RuneCountInString(at), "local-time", "without a Z behind it the device reads this time in its own zone; write %s", withZone(at)))
		}
	}
}
