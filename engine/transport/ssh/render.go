package ssh

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"runner/engine/transport"
)

// maxProgram bounds a rendered batch.
const maxProgram = 64 << 20

// words are the outputs that every step has.
var words = []string{"changed", "failed", "skipped", "ran", "rc", "attempts"}

// sent remembers which constant texts a coordinator has.
type sent map[string][sha256.Size]byte

// missing says whether text must be sent under that name, and notes that it was.
func (s sent) missing(name, text string) bool {
	sum := sha256.Sum256([]byte(text))
	old, ok := s[name]
	s[name] = sum
	return !ok || old != sum
}

// renderer writes a batch as a program for the coordinator. Values stand in it
// only as single-quoted words of assignments.
type renderer struct {
	strings.Builder
	have  sent
	keep  bool                    // the batch runs on when nobody listens
	refs  map[int]map[string]bool // outputs that are read later, by step
	temps int
}

// render returns the program of b for a coordinator that has the texts in have.
func render(b transport.Batch, have sent) (string, error) {
	if err := check(b); err != nil {
		return "", err
	}
	r := &renderer{have: have, keep: b.KeepGoing, refs: map[int]map[string]bool{}}
	for _, s := range b.Steps {
		r.collect(s)
	}
	keep := ""
	if b.KeepGoing {
		keep = "1"
	}
	r.f("__open %s %s %s\n", quote(keep), quote(b.ID), quote(b.Scope))
	r.forget()
	for _, s := range b.Steps {
		if slices.ContainsFunc([]transport.Pred{s.When, s.Until, s.ChangedWhen, s.FailedWhen}, compares) {
			r.once(comparing)
		}
		r.body(s.Body)
	}
	steps, end := b.Steps, ""
	if b.Takeover && b.Scope != "" {
		r.once(reaping)
		end = "__take " + quote(b.Scope) + "\n"
	}
	if b.Guarded { // what takes over later finds this batch, or it comes too late itself
		r.f("__file\n")
		r.step(steps[0])
		r.f("if [ -z \"$__stop\" ]; then :\n%sfi\n", end)
		steps = steps[1:]
	} else {
		r.f("%s__file\n", end)
	}
	for _, s := range steps {
		r.step(s)
	}
	r.shut()
	if r.Len() > maxProgram {
		return "", fmt.Errorf("the batch is %d bytes long, the limit is %d", r.Len(), maxProgram)
	}
	return r.String(), nil
}

// check refuses what cannot be rendered.
func check(b transport.Batch) error {
	if err := b.Check(); err != nil {
		return err
	}
	for _, s := range b.Steps {
		if i := strings.IndexByte(s.Body.Text+strings.Join(s.Body.Lib, ""), 0); i >= 0 {
			return fmt.Errorf("step %d: the body has a NUL byte", s.N)
		}
		for _, v := range s.Leaves() {
			text := ""
			switch v := v.(type) {
			case transport.Lit:
				text = transport.Text(v.V)
			case transport.Ref:
				text = v.Default
			}
			if strings.IndexByte(text, 0) >= 0 {
				return fmt.Errorf("step %d: %w", s.N, errNUL)
			}
		}
	}
	return nil
}

// compares reports whether numbers are compared in p.
func compares(p transport.Pred) bool {
	switch p := p.(type) {
	case transport.Less:
		return true
	case transport.Not:
		return compares(p.P)
	case transport.And:
		return slices.ContainsFunc(p, compares)
	case transport.Or:
		return slices.ContainsFunc(p, compares)
	case transport.Eq, transport.In, transport.True, transport.Const, nil:
	}
	return false
}

func (r *renderer) collect(s transport.Step) {
	for _, v := range s.Leaves() {
		if ref, ok := v.(transport.Ref); ok {
			if r.refs[ref.Step] == nil {
				r.refs[ref.Step] = map[string]bool{}
			}
			r.refs[ref.Step][mangle(ref.Key)] = true
		}
	}
}

// mangle turns the key of a fact into a part of a variable's name.
func mangle(key string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			return c
		}
		return '_'
	}, key)
}

func (r *renderer) f(format string, args ...any) { fmt.Fprintf(&r.Builder, format, args...) }

func (r *renderer) shut() {
	r.forget()
	r.f("__shut\n")
}

func (r *renderer) forget() {
	for _, n := range slices.Sorted(maps.Keys(r.refs)) {
		r.f("unset%s\n", r.vars(n, nil))
	}
}

// vars lists the variables of the outputs of step n that are read later.
func (r *renderer) vars(n int, but []string) string {
	var out strings.Builder
	for _, k := range slices.Sorted(maps.Keys(r.refs[n])) {
		if !slices.Contains(but, k) {
			fmt.Fprintf(&out, " o%d_%s", n, k)
		}
	}
	return out.String()
}

// once sends a text that the coordinator does not have.
func (r *renderer) once(text string) {
	if sum := sha256.Sum256([]byte(text)); r.have.missing(string(sum[:]), text) {
		r.f("%s\n", text)
	}
}

// body sends the constant texts that the coordinator does not have.
func (r *renderer) body(b transport.Body) {
	for _, text := range b.Lib {
		r.once(text)
	}
	if name := "m_" + mangle(b.Name); r.have.missing(name, b.Text) {
		r.f("%s() {\n:\n%s\n}\n", name, b.Text)
	}
}

// step writes one step.
func (r *renderer) step(s transport.Step) {
	n := s.N
	r.f("__i=%d __want=%s\nif [ -n \"$__stop\" ]; then __skip failed\nelse\n", n, quote(r.wanted(n)))
	when := ":"
	if s.When != nil {
		when = r.pred(s.When)
	}
	r.f("if %s; then\n__begin\n", when)
	if s.Until != nil {
		r.f("while :; do\n")
	}
	r.attempt(s)
	if s.Until != nil {
		r.f("if %s; then break; fi\n", r.pred(s.Until))
		r.f("if [ \"$__k\" -gt %d ]; then __f=true; break; fi\n", max(s.Retries, 0))
		r.f("%s\ndone\n", again(s))
		r.word(n, "failed", "$__f")
	}
	r.f("__end\n")
	if !s.Continue {
		r.f("[ \"$__f\" = false ] || __stop=1\n")
	}
	r.f("else\n")
	for _, w := range words {
		r.word(n, w, map[string]string{"rc": "0", "attempts": "0", "skipped": "true"}[w])
	}
	r.f("__skip when\nfi\nfi\n")
}

// wanted lists the facts of step n that later steps read.
func (r *renderer) wanted(n int) string {
	var ks []string
	for _, k := range slices.Sorted(maps.Keys(r.refs[n])) {
		if !slices.Contains(words, k) {
			ks = append(ks, k)
		}
	}
	return strings.Join(ks, " ")
}

// attempt runs the body once and decides what became of it.
func (r *renderer) attempt(s transport.Step) {
	if old := r.vars(s.N, words); old != "" {
		r.f("unset%s\n", old)
	}
	if r.keep { // what failed because its output had no reader runs once more
		r.f("while :; do\n")
	}
	var names []string
	for _, a := range s.Args {
		name := a.Name
		if !strings.HasPrefix(name, "_") {
			name = "a_" + name
		}
		r.assign(name, a.Value)
		names = append(names, name)
	}
	r.f("M=%s; __try\nm_%s </dev/null\n__rc=$?\n__env\n", s.Mode, mangle(s.Body.Name))
	if len(names) > 0 {
		r.f("unset %s\n", strings.Join(names, " "))
	}
	if r.keep {
		r.f("__anew || break\ndone\n")
	}
	r.f("case $__rc in 0) __f=false;; *) __f=true;; esac\n")
	for i, v := range []string{"$__c", "$__f", "false", "true", "$__rc", "$__k"} {
		r.word(s.N, words[i], v)
	}
	if s.ChangedWhen != nil {
		r.f("if %s; then __c=true; else __c=false; fi\n", r.pred(s.ChangedWhen))
		r.word(s.N, "changed", "$__c")
	}
	if s.FailedWhen != nil {
		r.f("if %s; then __f=true; else __f=false; fi\n", r.pred(s.FailedWhen))
		r.word(s.N, "failed", "$__f")
	}
}

// word sets one of the outputs that every step has, when it is read later.
func (r *renderer) word(n int, name, value string) {
	if value == "" {
		value = "false"
	}
	if r.refs[n][name] {
		r.f("o%d_%s=%s\n", n, name, value)
	}
}

// assign binds the text of v to a variable.
func (r *renderer) assign(name string, v transport.Value) {
	parts := transport.Concat{v}
	if c, ok := v.(transport.Concat); ok {
		parts = transport.Flatten(c)
	}
	var pre, out strings.Builder
	for i, p := range parts {
		switch p := p.(type) {
		case transport.Lit:
			out.WriteString(quote(transport.Text(p.V)))
		case transport.Ref:
			variable := fmt.Sprintf("o%d_%s", p.Step, mangle(p.Key))
			if p.Default == "" {
				out.WriteString("\"${" + variable + "-}\"")
				continue
			}
			d := "__d" + strconv.Itoa(i)
			pre.WriteString(d + "=" + quote(p.Default) + "\n")
			out.WriteString("\"${" + variable + "-$" + d + "}\"")
		}
	}
	r.WriteString(pre.String() + name + "=" + out.String() + "\n")
}

// temp binds the text of v to a variable of its own and returns its name.
func (r *renderer) temp(v transport.Value) string {
	r.temps++
	name := "__v" + strconv.Itoa(r.temps)
	r.assign(name, v)
	return name
}

// pred writes the assignments that p needs and returns p as a condition. It
// forks nothing.
func (r *renderer) pred(p transport.Pred) string {
	r.temps = 0
	return r.cond(p)
}

func (r *renderer) cond(p transport.Pred) string {
	switch p := p.(type) {
	case transport.Const:
		if p {
			return ":"
		}
		return "! :"
	case transport.Not:
		return "! { " + r.cond(p.P) + "; }"
	case transport.And:
		return r.join(p, " && ", ":")
	case transport.Or:
		return r.join(p, " || ", "! :")
	case transport.Eq:
		return r.equal(r.temp(p.A), r.temp(p.B))
	case transport.Less:
		op := "-lt"
		if p.OrEqual {
			op = "-le"
		}
		a, b := r.temp(p.A), r.temp(p.B)
		return fmt.Sprintf("__less \"$%s\" %s \"$%s\"", a, op, b)
	case transport.In:
		if len(p.Set) == 0 {
			return "! :"
		}
		a := r.temp(p.A)
		var alts []string
		for _, v := range p.Set {
			alts = append(alts, r.equal(a, r.temp(v)))
		}
		return "{ " + strings.Join(alts, " || ") + "; }"
	case transport.True:
		return fmt.Sprintf("[ \"x$%s\" = xtrue ]", r.temp(p.V))
	}
	return ":"
}

func (r *renderer) equal(a, b string) string {
	return fmt.Sprintf("[ \"x$%s\" = \"x$%s\" ]", a, b)
}

func (r *renderer) join(ps []transport.Pred, op, none string) string {
	if len(ps) == 0 {
		return none
	}
	parts := make([]string, len(ps))
	for i, p := range ps {
		parts[i] = r.cond(p)
	}
	// Each part is a group, so that `!` and the operators bind as in the tree.
	return "{ { " + strings.Join(parts, "; }"+op+"{ ") + "; }; }"
}

// again writes the pause between two attempts.
func again(s transport.Step) string {
	ps := s.Pauses()
	last := "__again " + delay(ps[len(ps)-1])
	if len(ps) == 1 {
		return last
	}
	var b strings.Builder
	b.WriteString("case $__k in\n")
	for i, p := range ps[:len(ps)-1] {
		fmt.Fprintf(&b, "%d) __again %s;;\n", i+1, delay(p))
	}
	b.WriteString("*) " + last + ";;\nesac")
	return b.String()
}

// delay writes a pause as arguments of __again: exact, and in whole seconds for
// devices whose sleep knows no fractions.
func delay(d time.Duration) string {
	if d <= 0 {
		return "0 0"
	}
	whole := int64((d + time.Second - 1) / time.Second)
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " " + strconv.FormatInt(whole, 10)
}

// quote returns s as one word of sh; s has no NUL.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Program returns what a connection that has sent nothing yet would send for b:
// the functions that its bodies need, the bodies, and the steps.
func Program(b transport.Batch) (string, error) { return render(b, sent{}) }
