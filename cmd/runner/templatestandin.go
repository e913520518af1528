package main

import (
	"maps"
	"slices"
	"strings"

	"runner/engine/lang"
	"runner/engine/template"
)

// standIn refuses a run that has no grant for what the template needs of one,
// and one that would end badly whatever the device says.
func (r *templateRun) standIn(t *template.Template, at runTarget, given givenParams) error {
	name := string(t.Kind) + "/" + t.Name
	if n := len(numbered(t.Steps)); r.fromStep < 0 || r.fromStep > n {
		return usagef("--from-step is %d: %s has %s", r.fromStep, name, plural(n, "step"))
	}
	if err := r.knownTags(t, name); err != nil {
		return err
	}
	account, _ := given.values["username"].(string)
	if r.account != "" {
		account = r.account
	}
	if t.Kind == template.Delete && account != "" && account == at.conn.User {
		return usagef("%s is the account that runner itself logs in as on %s: it would lock itself out", account, at.conn.Device)
	}
	if slices.ContainsFunc(given.names(), func(p string) bool { return !hasParam(t, p) }) {
		return nil // a name that was mistyped is told of with the others
	}
	reads := grantReads(t, func(param string) bool { return given.values[param] != nil || at.params[param] != nil })
	var lack, give []string
	if account == "" && slices.Contains(reads, "account") {
		lack, give = append(lack, "grant.account"), append(give, "--account NAME")
	}
	if r.uid == 0 && given.values["uid"] == nil && slices.Contains(reads, "uid") {
		lack, give = append(lack, "grant.uid"), append(give, "--uid NUMBER")
	}
	if len(lack) > 0 {
		return usagef("%s reads %s, and without a grant there is none: give %s", name, strings.Join(lack, " and "), strings.Join(give, " "))
	}
	return nil
}

// knownTags refuses tags that no step has: they would select nothing, or leave
// nothing out.
func (r *templateRun) knownTags(t *template.Template, name string) error {
	known := []string{"always"}
	for _, s := range everyStep(t.Steps) {
		known = append(known, s.Tags...)
	}
	slices.Sort(known)
	known = slices.Compact(known)
	for _, tag := range slices.Concat(r.only, r.except) {
		if slices.Contains(known, tag) {
			continue
		}
		if near := lang.Similar(tag, known); near != "" {
			return usagef("no step of %s has the tag %q; did you mean %q?", name, tag, near)
		}
		return usagef("no step of %s has the tag %q; there is %s", name, tag, lang.Words(known))
	}
	return nil
}

// grantReads returns which fields of the grant a run of t reads. set reports
// params whose default is not needed.
func grantReads(t *template.Template, set func(param string) bool) []string {
	var fields []string
	read := func(refs [][]string) {
		for _, path := range refs {
			if len(path) > 1 && path[0] == "grant" {
				fields = append(fields, path[1])
			}
		}
	}
	value := func(v *lang.Value) {
		if v != nil {
			read(v.Refs())
		}
	}
	for i := range t.Params {
		if !set(t.Params[i].Name) {
			value(t.Params[i].Default)
		}
	}
	for _, v := range t.Vars {
		value(v.Value)
	}
	for _, s := range everyStep(t.Steps) {
		for _, v := range s.Args {
			value(v)
		}
		for _, script := range slices.Concat(slices.Collect(maps.Values(s.Scripts)), scripts(s.Undo, s.Probe)) {
			for _, v := range script.Binds {
				value(v)
			}
		}
		for _, e := range s.Env {
			value(e.Value)
		}
		if s.Loop != nil {
			value(s.Loop.Over)
			value(s.Loop.Label)
		}
		if s.Include != nil {
			includeReads(s.Include, value)
		}
		for _, e := range []*lang.Expr{s.When, s.Until, s.ChangedWhen, s.FailedWhen} {
			if e != nil {
				read(e.Refs())
			}
		}
		for _, x := range s.Asserts {
			read(x.That.Refs())
			value(x.Msg)
		}
	}
	return fields
}

func scripts(of ...*template.Script) (out []template.Script) {
	for _, s := range of {
		if s != nil {
			out = append(out, *s)
		}
	}
	return out
}

// includeReads tells of the values that a file gets: those given, and the
// defaults of the others.
func includeReads(i *template.Include, value func(*lang.Value)) {
	for _, g := range i.Params {
		value(g.Value)
	}
	for n := range i.Takes {
		if !slices.ContainsFunc(i.Params, func(g template.Given) bool { return g.Name == i.Takes[n].Name }) {
			value(i.Takes[n].Default)
		}
	}
}

// everyStep returns steps and those of their blocks, in the order in which
// executions count.
func everyStep(steps []*template.Step) []*template.Step {
	var out []*template.Step
	for _, s := range steps {
		out = append(out, s)
		out = append(out, everyStep(slices.Concat(s.Block, s.Rescue, s.Always))...)
	}
	return out
}

// numbered returns the steps that executions count: all but blocks.
func numbered(steps []*template.Step) []*template.Step {
	return slices.DeleteFunc(everyStep(steps), func(s *template.Step) bool { return s.Module == nil })
}

// plainObject is the id of an object as people say it: user ana.
func plainObject(id string) string {
	kind, what, found := strings.Cut(strings.TrimPrefix(id, "linux:"), ":")
	if !found {
		return id
	}
	return kind + " " + what
}
