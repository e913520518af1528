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
		var all []string
		var without []*Template
		for _, c := range creates {
			names := slices.Collect(maps.Keys(c.open(r.what)))
			all = append(all, names...)
			if !slices.Contains(names, r.name) {
				without = append(without, c)
			}
		}
		switch {
		case len(without) == len(creates):
			ps = append(ps, noSuchOutput(r, creates, all))
		case len(without) > 0 && !said[r.what+r.name]:
			said[r.what+r.name] = true
			for _, c := range without {
				ps = append(ps, c.removalAt.Problem("missing-output", "the delete template %q reads created.%s.%s, which is not among the %s of this template; add %s: … to %s", t.Name, r.what, r.name, r.what, r.name, r.what))
			}
		}
	}
	return ps
}

// noSuchOutput says that no creation hands on what a removal reads.
func noSuchOutput(r createdRead, creates []*Template, outputs []string) lang.Problem {
	var by []string
	for _, c := range creates {
		by = append(by, c.Name)
	}
	outputs = slices.Compact(slices.Sorted(slices.Values(outputs)))
	verb := "has"
	if len(by) > 1 {
		verb = "have"
	}
	p := r.node.ProblemAt(r.offset, len("created."+r.what+".")+len(r.name), "unknown-output", "created.%s has no %q: %s, removed by this template, %s no such %s", r.what, r.name, "create template "+strings.Join(by, " and "), verb, strings.TrimSuffix(r.what, "s"))
	if slices.ContainsFunc(creates, func(c *Template) bool { return c.hides(r) }) {
		p.Message = fmt.Sprintf("created.%s.%s is a secret, and secrets are not handed on to a removal", r.what, r.name)
		return p
	}
	if p.Suggest = lang.Similar(r.name, outputs); p.Suggest == "" {
		p.Message += "; there is " + lang.Words(outputs)
	}
	return p
}

// hides reports whether what is read is a secret, which is not handed on.
func (t *Template) hides(r createdRead) bool {
	switch r.what {
	case "params":
		return slices.ContainsFunc(t.Params, func(p Param) bool { return p.Name == r.name && p.Type.Kind == lang.SecretKind })
	case "vars":
		return slices.ContainsFunc(t.Vars, func(v Var) bool { return v.Name == r.name && v.Value.Type().Kind == lang.SecretKind })
	}
	return false
}
