package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"runner/engine/lang"
)

// Check checks templates against each other: the removal of a create template
// must be an enabled delete template for the same platform, and what a delete
// template reads of created.outputs must be outputs of the create templates
// that name it. The problems are sorted by place.
func Check(ts ...*Template) lang.Problems { return check(ts, nil) }

// check is Check with the files of delete templates that could not be loaded.
func check(ts []*Template, broken map[string]string) lang.Problems {
	var ps lang.Problems
	deletes := map[string]*Template{}
	var names []string
	for _, t := range ts {
		if t.Kind == Delete {
			deletes[t.Name] = t
			names = append(names, t.Name)
		}
	}
	users := map[*Template][]*Template{}
	for _, t := range ts {
		if t.Kind != Create {
			continue
		}
		if p := removalProblem(t, deletes[t.Removal], names, broken); p != nil {
			ps = append(ps, *p)
			continue
		}
		users[deletes[t.Removal]] = append(users[deletes[t.Removal]], t)
	}
	for _, t := range ts {
		if len(users[t]) > 0 {
			ps = append(ps, handedOn(t, users[t])...)
		}
	}
	ps.Sort()
	return ps
}

// removalProblem says what is wrong with the removal of a create template.
func removalProblem(t, removal *Template, names []string, broken map[string]string) *lang.Problem {
	n := t.removalAt
	var p lang.Problem
	switch file := broken[t.Removal]; {
	case file != "":
		p = n.Problem("unknown-template", "the removal %q has problems of its own; see %s", t.Removal, file)
	case removal == nil && len(names) == 0:
		p = n.Problem("unknown-template", "there is no delete template %q; write one in the folder templates/delete", t.Removal)
	case removal == nil:
		p = n.Problem("unknown-template", "there is no delete template %q", t.Removal)
		if p.Suggest = lang.Similar(t.Removal, names); p.Suggest == "" {
			p.Message += "; there is " + lang.Words(slices.Sorted(slices.Values(names)))
		}
	case !removal.Enabled:
		p = n.Problem("disabled-template", "the delete template %q is disabled (enabled: false in %s); what this template makes could not be removed", t.Removal, removal.File)
	case removal.Platform != t.Platform:
		p = n.Problem("wrong-platform", "the delete template %q is for %s, and this template is for %s", t.Removal, removal.Platform, t.Platform)
	default:
		return nil
	}
	return &p
}

// handedOn checks what a delete template reads against what its creates hand on.
func handedOn(t *Template, creates []*Template) lang.Problems {
	var ps lang.Problems
	said := map[string]bool{}
	for _, r := range t.reads {
		if r.name == "" {
			continue
		}
		var all []string
		var without []*Template
		for _, c := range creates {
			names, want := c.offers(r.what, ""), r.name
			if slices.Contains(names, r.name) && r.field != "" {
				names, want = c.offers(r.what, r.name), r.field
			}
			all = append(all, names...)
			if !slices.Contains(names, want) {
				without = append(without, c)
			}
		}
		switch {
		case len(without) == len(creates):
			ps = append(ps, noSuchOutput(r, creates, all))
		case len(without) > 0 && !said[r.String()]:
			said[r.String()] = true
			for _, c := range without {
				ps = append(ps, c.removalAt.Problem("missing-output", "the delete template %q reads %s, which is not among the %s of this template; %s", t.Name, r, r.what, r.amends()))
			}
		}
	}
	return ps
}

// offers returns the names of what a template hands on, or of the fields of the
// result of one of its steps.
func (t *Template) offers(what, step string) []string {
	types := t.HandsOn(what)
	if step != "" {
		types = types[step].Fields
	}
	return slices.Sorted(maps.Keys(types))
}

// amends says what a creation needs so that it can be read.
func (r createdRead) amends() string {
	if r.what == "steps" {
		return "add register: " + r.name + " to the step that is meant"
	}
	return "add " + r.name + ": … to " + r.what
}

// noSuchOutput says that no creation hands on what a removal reads.
func noSuchOutput(r createdRead, creates []*Template, names []string) lang.Problem {
	var by []string
	for _, c := range creates {
		by = append(by, c.Name)
	}
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	of, name, lacks := "created."+r.what, r.name, "has no such "+strings.TrimSuffix(r.what, "s")
	if r.what == "steps" {
		lacks = "has no step that registers this"
	}
	if r.field != "" && !slices.ContainsFunc(creates, func(c *Template) bool { return !slices.Contains(c.offers(r.what, ""), r.name) }) {
		of, name, lacks = of+"."+r.name, r.field, "has no such field in the result of that step"
	}
	if len(by) > 1 {
		lacks = "have" + strings.TrimPrefix(lacks, "has")
	}
	p := r.node.ProblemAt(r.offset, len(of)+1+len(name), "unknown-output", "%s has no %q: %s, removed by this template, %s", of, name, "create template "+strings.Join(by, " and "), lacks)
	for _, c := range creates {
		if why := c.hides(r); why != "" {
			p.Message = fmt.Sprintf("created.%s.%s %s", r.what, r.name, why)
			return p
		}
	}
	if p.Suggest = lang.Similar(name, names); p.Suggest == "" {
		p.Message += "; there is " + lang.Words(names)
	}
	return p
}

// hides says why what is read is not handed on although it is there, or "".
func (t *Template) hides(r createdRead) string {
	const secret = "is a secret, and secrets are not handed on to a removal"
	switch r.what {
	case "params":
		if slices.ContainsFunc(t.Params, func(p Param) bool { return p.Name == r.name && p.Type.Kind == lang.SecretKind }) {
			return secret
		}
	case "vars":
		if slices.ContainsFunc(t.Vars, func(v Var) bool { return v.Name == r.name && v.Value.Type().Kind == lang.SecretKind }) {
			return secret
		}
	case "steps":
		for s := range registering(t.Steps) {
			if s.Register == r.name && s.NoLog {
				return "is the result of a step with no_log, which is not kept; hand on what the removal needs of it in outputs"
			}
		}
	}
	return ""
}
