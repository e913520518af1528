package template

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"runner/engine/lang"
	"runner/engine/module"
)

// Coverage checks that each removal takes away what its creations make, always,
// and nothing else. It knows objects as modules name them; what scripts do only
// their undo knows. What depends on values that only the device has is given
// the benefit of the doubt. The problems are about templates that load, and
// none keeps one from being tried; they are sorted by place.
func Coverage(ts ...*Template) lang.Problems {
	var ps lang.Problems
	users := map[*Template][]*Template{}
	var removals []*Template
	for _, t := range ts {
		switch t.Kind {
		case Create:
		case Elevate:
			c := newCover(t, t, t.Revert, "its revert")
			ps = append(ps, c.uncovered()...)
			ps = append(ps, c.taken()...)
			continue
		case Delete, Steps:
			continue
		}
		at := slices.IndexFunc(ts, func(d *Template) bool { return d.Kind == Delete && d.Name == t.Removal })
		if at < 0 {
			continue
		}
		d := ts[at]
		ps = append(ps, Uncovered(t, d)...)
		if users[d] == nil {
			removals = append(removals, d)
		}
		users[d] = append(users[d], t)
	}
	for _, d := range removals {
		ps = append(ps, overreach(d, users[d])...)
	}
	ps.Sort()
	return ps
}

// Uncovered returns what a creation makes and a removal, which need not be the
// one that it names, does not always take away.
func Uncovered(create, removal *Template) lang.Problems { return coverOf(create, removal).uncovered() }

func coverOf(create, removal *Template) *cover {
	return newCover(create, removal, removal.Steps, removal.File)
}

// effect is an object that a step makes or takes away.
type effect struct {
	step   *Step
	whens  []string
	object module.Object
}

// cover holds a creation against its removal.
type cover struct {
	create, removal *Template
	from, back      side
	where           string // what takes away, in messages
	makes, takes    []effect
	reverts         []effect // steps with revert: {of: created}
	free            bool     // the removal runs a program of its author
	probes          map[string]string
}

func newCover(create, removal *Template, takes []*Step, where string) *cover {
	c := &cover{
		create: create, removal: removal, where: where, probes: map[string]string{},
		from: side{t: create, other: removal}, back: side{t: removal, other: create, removes: true},
	}
	c.from.eachStep(create.Steps, nil, func(from side, st *Step, whens []string) {
		for _, o := range from.objects(st) {
			if makes(st, o) {
				c.makes = append(c.makes, effect{st, whens, o})
			}
		}
	})
	c.back.eachStep(takes, nil, func(back side, st *Step, whens []string) {
		c.free = c.free || st.Module.NeedsUndo
		if st.Module.Name == "revert" {
			c.reverts = append(c.reverts, effect{step: st, whens: whens})
		}
		if args, _ := back.arguments(st); st.Module.ReadOnly && st.Register != "" && strings.HasSuffix(st.Module.Name, "user_info") {
			c.probes[st.Register] = ":user:" + args.String("name")
		}
		for _, o := range back.objects(st) {
			if args, _ := back.arguments(st); args.String("state") == "absent" {
				c.takes = append(c.takes, effect{st, whens, o})
			}
		}
	})
	return c
}

// eachStep calls f for the steps that call a module, with the conditions on the
// way to them. Steps of a rescue run only when something failed.
func (s side) eachStep(steps []*Step, whens []string, f func(side, *Step, []string)) {
	for _, st := range steps {
		on := whens
		if st.When != nil {
			for _, part := range conjunction.Split(st.When.Text(), -1) {
				on = append(slices.Clip(on), s.condition(part, st.Vars))
			}
		}
		in := s
		if st.Include != nil {
			in = s.with(st.Vars).into(st.Include)
		}
		if st.Module != nil {
			f(s.with(st.Vars), st, on)
		}
		in.eachStep(st.Block, on, f)
		in.eachStep(st.Rescue, append(slices.Clip(on), "failure()"), f)
		in.eachStep(st.Always, on, f)
	}
}

// condition writes a part of a condition. In a file that is included a param
// means another one than outside, and a variable of a step what it stands for.
func (s side) condition(part string, vars []Var) string {
	text := strings.Join(strings.Fields(part), " ")
	for _, v := range slices.Backward(vars) {
		text = regexp.MustCompile(`\bvars\.`+v.Name+`\b`).ReplaceAllLiteralString(text, "("+v.Value.Text()+")")
	}
	if s.given != nil {
		text = strings.ReplaceAll(text, "params.", "included.params.")
	}
	return text
}

// conjunction cuts a condition into what has to hold; one with an or in it, or
// with brackets, is cut into parts that no other condition is equal to.
var conjunction = regexp.MustCompile(`\s+and\s+|\s*&&\s*`)

// makes reports whether a step brings an object into being that has to go again.
func makes(st *Step, o module.Object) bool {
	return o.Undo != nil || slices.Contains([]string{"file", "copy", "win_file", "win_copy"}, st.Module.Name) && !strings.Contains(o.ID, unknownPart)
}

// uncovered returns what the creation makes and the removal does not take away.
func (c *cover) uncovered() lang.Problems {
	var ps lang.Problems
	said := map[string]bool{}
	for _, m := range c.makes {
		if said[m.object.ID] {
			continue
		}
		if p := c.missing(m); p != nil {
			said[m.object.ID] = true
			ps = append(ps, *p)
		}
	}
	c.from.eachStep(c.create.Steps, nil, func(_ side, st *Step, _ []string) {
		if st.Module.NeedsUndo && st.Undo != nil && !c.free && !slices.ContainsFunc(c.reverts, func(r effect) bool { return c.undoes(r, st) && c.always(r, nil, "") }) {
			ps = append(ps, moduleKey(st).Problem("not-covered", "step %q is only undone by revert, and %s has none that is always run; add there: revert: {of: created}", st.Name, c.where))
		}
	})
	return ps
}

// taken returns what an elevation takes back although other grants may want it.
func (c *cover) taken() lang.Problems {
	var ps lang.Problems
	for i, t := range c.takes {
		if i > 0 && t.step == c.takes[i-1].step && len(ps) > 0 {
			continue // said once for a step
		}
		if slices.ContainsFunc(c.makes, func(m effect) bool { return m.object.Shared && same(m.object.ID, t.object.ID) }) {
			ps = append(ps, moduleKey(t.step).Problem("shared-object", "this takes %s from other grants that want it, too, and from who had it before; write revert: {of: created}, which counts who wants it", readable(t.object.ID)))
		}
	}
	return ps
}

// missing returns the problem of an object that the removal leaves, or nil.
func (c *cover) missing(m effect) *lang.Problem {
	var sometimes *effect
	for _, t := range c.takes {
		if !implies(t, m.object.ID) {
			continue
		}
		if c.always(t, m.whens, m.object.ID) {
			return nil
		}
		sometimes = &t
	}
	if m.object.Undo != nil {
		for _, r := range c.reverts {
			if !c.undoes(r, m.step) {
				continue
			}
			if c.always(r, m.whens, m.object.ID) {
				return nil
			}
			sometimes = &r
		}
	}
	what := readable(m.object.ID)
	if sometimes != nil {
		when := sometimes.step.node.Get("when")
		if when == nil {
			when = moduleKey(sometimes.step)
		}
		p := when.Problem("only-sometimes", "%s, which step %q of %s makes, is taken away only when %s; a removal must work whatever is known and left, so leave the condition out",
			what, m.step.Name, at(m.step), strings.Join(sometimes.whens, " and "))
		return &p
	}
	p := moduleKey(m.step).Problem("not-covered", "step %q makes %s, and nothing in %s takes it away%s; %s", m.step.Name, what, c.where, c.nearMiss(m), c.remedy(m))
	return &p
}

// always reports whether a step of the removal takes an object away whenever
// the creation can have made it.
func (c *cover) always(t effect, made []string, id string) bool {
	for _, w := range t.whens {
		probe, field, _ := strings.Cut(w, ".")
		owner := c.probes[probe]
		switch {
		case w == "always()" || w == "success()" || w == "true":
		case slices.Contains(made, w) && c.alike(w):
		case owner != "" && field == "exists" && id != "" && belongs(id, owner):
		default:
			return false
		}
	}
	return true
}

// alike reports whether a condition means the same on both sides.
func (c *cover) alike(when string) bool {
	for _, p := range anyPath.FindAllString(when, -1) {
		if x := c.from.read(p); x == unknownPart || x != c.back.read(p) {
			return false
		}
	}
	return true
}

// undoes reports whether a revert undoes what a step changed: its module is not
// left to other steps.
func (c *cover) undoes(r effect, st *Step) bool {
	args, _ := c.back.arguments(r.step) // except is fixed
	return !slices.Contains(args.List("except"), st.Module.Name)
}

// implies reports whether taking one object away takes id away.
func implies(t effect, id string) bool {
	own := t.object.ID
	if same(own, id) || belongs(id, strings.TrimPrefix(strings.TrimPrefix(own, "linux"), "windows")) {
		return true
	}
	if (!isTrue(t.step, "recursive") && !isTrue(t.step, "recurse")) || kindOf(own) != kindOf(id) {
		return false
	}
	folder := strings.TrimRight(own, `/\`)
	return strings.HasPrefix(id, folder+"/") || strings.HasPrefix(id, folder+`\`)
}

// isTrue reports whether an argument is written as true.
func isTrue(st *Step, name string) bool {
	if st.Args[name] == nil {
		return false
	}
	x, ok := constant(st.Args[name])
	return ok && x == true
}

// same compares names of objects; with parts that only the device knows the
// kind has to do.
func same(a, b string) bool {
	if strings.Contains(a+b, unknownPart) {
		return kindOf(a) == kindOf(b)
	}
	return a == b
}

// kindOf is linux:user of linux:user:jit-x.
func kindOf(id string) string {
	parts := strings.SplitN(id, ":", 3)
	return strings.Join(parts[:min(2, len(parts))], ":")
}

// belongs reports whether an object goes with the account owner, which is
// :user:NAME.
func belongs(id, owner string) bool {
	name, isUser := strings.CutPrefix(owner, ":user:")
	if !isUser {
		return false
	}
	_, rest, _ := strings.Cut(id, ":")
	kind, object, _ := strings.Cut(rest, ":")
	if strings.Contains(object, unknownPart) || strings.Contains(name, unknownPart) {
		return slices.Contains([]string{"user", "member", "key", "password", "expiry"}, kind)
	}
	switch kind {
	case "user", "password", "expiry":
		return object == name
	case "key":
		return strings.HasPrefix(object, name+"/")
	case "member":
		return strings.HasSuffix(object, "/"+name)
	case "file":
		return strings.HasPrefix(object, "/home/"+name+"/")
	}
	return false
}

// nearMiss names what the removal takes away of the same kind.
func (c *cover) nearMiss(m effect) string {
	for _, t := range c.takes {
		if kindOf(t.object.ID) == kindOf(m.object.ID) && !slices.ContainsFunc(c.makes, func(o effect) bool { return same(o.object.ID, t.object.ID) }) {
			return fmt.Sprintf(" (step %q at %s takes %s away)", t.step.Name, at(t.step), readable(t.object.ID))
		}
	}
	return ""
}

var ownParam = regexp.MustCompile(`\{\{params\.([a-z0-9_]+) of create\}\}`)

// remedy says what would be right.
func (c *cover) remedy(m effect) string {
	if p := ownParam.FindStringSubmatch(m.object.ID); p != nil && slices.ContainsFunc(c.takes, func(t effect) bool { return kindOf(t.object.ID) == kindOf(m.object.ID) }) {
		if c.removal.param(p[1]) != nil {
			return fmt.Sprintf("params.%s has another default there; make the two the same", p[1])
		}
		return fmt.Sprintf("a request can give params.%s another value than its default; declare it there with the same default, and use it", p[1])
	}
	if m.object.Undo == nil {
		return fmt.Sprintf("add there: %s: {path: '%s', state: absent}", strings.Replace(m.step.Module.Name, "copy", "file", 1), strings.TrimPrefix(readable(m.object.ID), "file "))
	}
	return "add there: revert: {of: created}, or a step of " + m.object.Undo.Module + " with state: absent"
}

// overreach returns what a removal takes away although none of its creations
// made it, or although it may belong to others as well.
func overreach(d *Template, creates []*Template) lang.Problems {
	var ps lang.Problems
	var covers []*cover
	for _, t := range creates {
		covers = append(covers, coverOf(t, d))
	}
	for i, t := range covers[0].takes {
		made := slices.ContainsFunc(covers, func(c *cover) bool {
			return slices.ContainsFunc(c.makes, func(m effect) bool { return same(m.object.ID, c.takes[i].object.ID) })
		})
		what := readable(t.object.ID)
		switch shared := !ofGrant(t.object.ID, covers[0]); {
		case anonymous(t.step):
			ps = append(ps, moduleKey(t.step).Problem("by-name-only", "this removes %s, whoever it is by then; say which one is meant, for example: %s", what, identity(t.step)))
		case !shared:
		case !made:
			ps = append(ps, moduleKey(t.step).Problem("not-created", "this removes %s, which no creation that is removed by this template makes", what))
		default:
			ps = append(ps, moduleKey(t.step).Problem("shared-object", "%s has the same name for every grant: others may use it, and it may have been there before; write revert: {of: created}, which takes away only what this grant made", what))
		}
	}
	return ps
}

// ofGrant reports whether an object is one of its own for each grant.
func ofGrant(id string, c *cover) bool {
	if strings.Contains(id, unknownPart) {
		return true
	}
	for _, own := range []string{"grant.account", "grant.id", "grant.uid"} {
		if strings.Contains(id, own) {
			return true
		}
	}
	for _, p := range c.create.Params {
		if strings.Contains(id, "params."+p.Name) && (p.Default == nil || strings.Contains(p.Default.Text(), "grant.")) {
			return true
		}
	}
	return false
}

// anonymous reports whether a step deletes an account by its name alone.
func anonymous(st *Step) bool {
	switch st.Module.Name {
	case "user":
		return st.Args["uid"] == nil
	case "win_user":
		return st.Args["sid"] == nil && st.Args["description"] == nil
	}
	return false
}

// identity is what else an account is known by.
func identity(st *Step) string {
	if st.Module.Name == "win_user" {
		return "sid: '{{ created.outputs.sid }}', or the description that the creation wrote"
	}
	return "uid: '{{ grant.uid }}'"
}

// moduleKey is the key that calls the module of a step.
func moduleKey(st *Step) *lang.Node {
	for _, e := range st.node.Entries {
		if e.Key.Text == st.Module.Name {
			return e.Key
		}
	}
	return st.node
}

func at(st *Step) string { return fmt.Sprintf("%s:%d", st.Pos.File, st.Pos.Line) }
