package template

import (
	"regexp"
	"slices"
	"strings"

	"runner/engine/lang"
	"runner/engine/module"
)

// Whether a removal takes away what a creation makes can be told before either
// runs, when both name it in the same way. So arguments are written as symbols:
// {{params.username}} is the same in both when both take that param with the
// same default, and created.outputs.username is what the creation said it is.

// unknownPart stands for a part of a name that only the device knows.
const unknownPart = "\x00"

// side is one of the two: its template, and that of the other side.
type side struct {
	t, other *Template
	removes  bool              // the steps take away; else they make
	given    map[string]string // params of the file that is included, in place of the template's
	vars     map[string]string // of the step and the blocks around it
}

// into returns the side as the steps of a file see it.
func (s side) into(i *Include) side {
	in := side{t: s.t, other: s.other, removes: s.removes, given: map[string]string{}}
	for n := range i.Takes {
		p := &i.Takes[n]
		in.given[p.Name] = unknownPart
		if at := slices.IndexFunc(i.Params, func(g Given) bool { return g.Name == p.Name }); at >= 0 {
			in.given[p.Name] = s.symbol(i.Params[at].Value)
		} else if p.Default != nil {
			in.given[p.Name] = in.symbol(p.Default)
		}
	}
	return in
}

// with returns the side as a step sees it that has variables of its own.
func (s side) with(vars []Var) side {
	if len(vars) == 0 {
		return s
	}
	in := s
	in.vars = map[string]string{}
	for _, v := range vars {
		text := unknownPart
		if v.Value.Type().Kind == lang.StringKind {
			text = in.symbol(v.Value)
		}
		in.vars[v.Name] = text
	}
	return in
}

// param returns a param of a template, or nil.
func (t *Template) param(name string) *Param {
	for i := range t.Params {
		if t.Params[i].Name == name {
			return &t.Params[i]
		}
	}
	return nil
}

// symbol writes a text value.
func (s side) symbol(v *lang.Value) string {
	if x, ok := constant(v); ok {
		text, _ := x.(string)
		return text
	}
	text := v.Text()
	if !strings.Contains(text, "{{") { // !expr
		return s.read(strings.TrimSpace(text))
	}
	return action.ReplaceAllStringFunc(text, func(a string) string {
		return s.read(strings.TrimSpace(strings.Trim(strings.TrimSuffix(strings.TrimPrefix(a, "{{"), "}}"), "-")))
	})
}

var (
	purePath = regexp.MustCompile(`^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*$`)
	handedBy = regexp.MustCompile(`^\(?\s*(created\.[a-z]+\.[a-z0-9_]+)\s*(?:\|\s*default\s|\?\?)`)
	anyPath  = regexp.MustCompile(`[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)+`)
)

// read writes what is between {{ and }}.
func (s side) read(text string) string {
	if m := handedBy.FindStringSubmatch(text); m != nil {
		text = m[1] // what it falls back on is for a creation that was cut off
	}
	if !purePath.MatchString(text) {
		for _, p := range anyPath.FindAllString(text, -1) {
			if root, _, _ := strings.Cut(p, "."); !slices.Contains([]string{"grant", "device", "params"}, root) {
				return unknownPart
			}
		}
		return "{{" + strings.Join(strings.Fields(text), " ") + "}}"
	}
	path := strings.Split(text, ".")
	switch {
	case path[0] == "grant" || path[0] == "device":
		return "{{" + text + "}}"
	case path[0] == "params" && len(path) == 2:
		return s.readParam(path[1])
	case path[0] == "vars" && len(path) == 2 && s.vars[path[1]] != "":
		return s.vars[path[1]]
	case path[0] == "vars" && len(path) == 2 && s.given == nil:
		for _, v := range s.t.Vars {
			if v.Name == path[1] && v.Value.Type().Kind == lang.StringKind {
				return s.symbol(v.Value)
			}
		}
	case path[0] == "created" && len(path) == 3 && s.removes:
		return side{t: s.other, other: s.t}.handedOn(path[1], path[2])
	}
	return unknownPart
}

// handedOn writes what a creation hands on under a name.
func (s side) handedOn(kind, name string) string {
	switch kind {
	case "params", "vars":
		return s.read(kind + "." + name)
	case "outputs":
		for _, o := range s.t.Outputs {
			if o.Name == name {
				return s.read(strings.TrimSpace(o.Value.Text()))
			}
		}
	}
	return unknownPart
}

// readParam writes a param: by its name when both sides take it alike. One that
// only a removal takes has its default: nobody gives it to a creation.
func (s side) readParam(name string) string {
	if s.given != nil {
		if text, ok := s.given[name]; ok {
			return text
		}
		return unknownPart
	}
	own, theirs := s.t.param(name), s.other.param(name)
	switch {
	case own == nil:
		return unknownPart
	case theirs != nil && defaultText(own) == defaultText(theirs):
		return "{{params." + name + "}}"
	case theirs == nil && s.removes && own.Default != nil:
		return s.symbol(own.Default)
	}
	if s.removes {
		return "{{params." + name + " of delete}}"
	}
	return "{{params." + name + " of create}}"
}

func defaultText(p *Param) string {
	if p.Default == nil {
		return ""
	}
	return strings.Join(strings.Fields(p.Default.Text()), "")
}

// arguments writes the arguments of a step, with the defaults of its module.
// Those that are not known are absent; state has to be known.
func (s side) arguments(st *Step) (module.Args, bool) {
	args := module.Args{}
	for _, f := range st.Module.Args {
		v := st.Args[f.Name]
		switch {
		case v == nil:
			if f.Default != nil {
				args[f.Name] = f.Default
			}
		case f.Type.Kind == lang.StringKind:
			args[f.Name] = s.symbol(v)
		case f.Type.Kind == lang.ListKind:
			args[f.Name] = s.list(v)
		default:
			if x, ok := constant(v); ok {
				args[f.Name] = x
			}
		}
	}
	state := args.String("state")
	return args, !strings.ContainsAny(state, unknownPart+"{")
}

// list writes a list: a computed one as if it had one entry.
func (s side) list(v *lang.Value) []string {
	if x, ok := constant(v); ok {
		if l, ok := x.([]string); ok {
			return l
		}
	}
	if v.Items() == nil {
		return []string{s.symbol(v)}
	}
	var out []string
	for _, it := range v.Items() {
		out = append(out, s.symbol(it))
	}
	return out
}

// objects returns what a step may change, by names made of symbols.
func (s side) objects(st *Step) []module.Object {
	if st.Module == nil || st.Module.Objects == nil || st.Module.ReadOnly {
		return nil
	}
	args, known := s.arguments(st)
	if !known {
		return nil
	}
	return st.Module.Objects(args)
}

// reading names for a message: symbols as an author writes them.
func readable(id string) string {
	_, name, _ := strings.Cut(id, ":")
	kind, name, _ := strings.Cut(name, ":")
	if kind == "member" {
		group, who, _ := strings.Cut(name, "/")
		kind, name = "membership of", who+" in group "+group
	}
	name = strings.NewReplacer("{{", "{{ ", "}}", " }}", " of create", "", " of delete", "").Replace(name)
	return kind + " " + strings.ReplaceAll(name, unknownPart, "…")
}
