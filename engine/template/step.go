package template

import (
	"fmt"
	"slices"
	"strings"

	"runner/engine/lang"
	"runner/engine/module"
)

// section is a list of steps that runs as a whole; names registered in it are
// visible to its later steps.
type section struct {
	scope      lang.Scope
	registered map[string]lang.Pos
	forward    bool // creates or elevates: what it does has to be undone
	removes    bool // takes away: created may be unknown
	shared     bool // of a file that others include, to create or to remove
}

// blockKeys mark a step as a block.
var blockKeys = []string{"block", "rescue", "always"}

// with returns the section with another scope, whose names it shares.
func (sec *section) with(scope lang.Scope) *section {
	again := *sec
	again.scope = scope
	return &again
}

// learn makes visible what was registered in a part of the section.
func (sec *section) learn(part *section) {
	for name := range sec.registered {
		if t, there := part.scope[name]; there {
			sec.scope[name] = t
		}
	}
}

// steps reads a list of steps; what names it.
func (l *loader) steps(n *lang.Node, what string, sec *section, guarded guard) []*Step {
	if n == nil {
		return nil
	}
	if n.Kind != lang.ListNode || len(n.Items) == 0 {
		l.Add(n, "wrong-type", "%s must be a list of steps, each starting with - name:", what)
		return nil
	}
	var out []*Step
	for i, it := range n.Items {
		if s := l.step(it, i+1, sec, guarded); s != nil {
			out = append(out, s)
		}
	}
	return out
}

// step reads one entry. guarded: a block around it runs only when the creation
// is known.
func (l *loader) step(n *lang.Node, number int, sec *section, guarded guard) *Step {
	f := l.Map(n, fmt.Sprintf("step %d", number))
	if n.Kind != lang.MapNode {
		return nil
	}
	if name := n.Get("name"); name != nil && name.Kind == lang.ScalarNode && strings.TrimSpace(name.Text) != "" {
		f.What = fmt.Sprintf("step %q", name.Text)
	}
	s := &Step{Pos: n.Pos, OnError: "fail", node: n, what: f.What}
	outer := l.whens
	defer func() { l.whens = outer }()
	f.By(&stepTable, moduleStep)
	if n.Get("include") != nil {
		f.By(&stepTable, includeStep)
		l.include(f, s, sec, guarded)
		return s
	}
	for _, key := range blockKeys {
		if n.Get(key) != nil {
			f.By(&stepTable, blockStep)
			l.block(f, s, sec, guarded)
			return s
		}
	}
	l.moduleStep(f, s, sec, guarded)
	return s
}

// frame reads the keys that blocks and module steps share.
func (l *loader) frame(f *lang.Fields, s *Step, sec *section, guarded guard) guard {
	if w := f.Take("when"); w != nil {
		s.When = l.condition(w, sec.scope, statusFuncs, guarded)
		l.whens = append(slices.Clip(l.whens), strings.TrimSpace(w.Text))
		if knows(w.Text) {
			guarded = known
		}
	}
	s.OnError = f.Enum("on_error")
	if b, written := l.become(f); written {
		s.Become = &b
	}
	s.NoLog = f.Bool("no_log")
	s.Tags = f.Strings("tags")
	return guarded
}

// block reads a step that groups others.
func (l *loader) block(f *lang.Fields, s *Step, sec *section, guarded guard) {
	s.Name = f.String("name", "")
	if s.Name == "" {
		f.What = "a block"
	}
	if outer := sec; f.Node.Get("vars") != nil {
		sec = sec.with(l.stepVars(f, s, sec.scope, guarded))
		defer func() { outer.learn(sec) }()
	}
	f.Take("vars")
	guarded = l.frame(f, s, sec, guarded)
	for i, to := range []*[]*Step{&s.Block, &s.Rescue, &s.Always} {
		if n := f.Take(blockKeys[i]); n != nil {
			*to = l.steps(n, blockKeys[i], sec, guarded)
		}
		s.handDown(*to)
		giveVars(*to, s.Vars)
	}
	if f.Node.Get("block") == nil {
		l.Add(f.First(), "missing-key", "%s has rescue or always, but no block", f.What)
	}
	for _, e := range f.Rest() {
		f.Skip(e.Key.Text)
		if e.Key.Text == "loop" {
			l.Add(e.Key, "misplaced-key", "a block has no loop; give each of its steps one")
			continue
		}
		if l.reg.Lookup(e.Key.Text) != nil {
			l.Add(e.Key, "too-many", "%s calls %s beside its block; make that a step of the block", f.What, e.Key.Text)
		} else {
			l.strange(f, e.Key, nil)
		}
	}
}

// handDown gives the steps of a block what it says for all of them.
func (s *Step) handDown(steps []*Step) {
	for _, c := range steps {
		if c.Become == nil {
			c.Become = s.Become
		}
		c.NoLog = c.NoLog || s.NoLog
		s.handDown(slices.Concat(c.Block, c.Rescue, c.Always))
	}
}

// moduleStep reads a step that calls a module.
func (l *loader) moduleStep(f *lang.Fields, s *Step, sec *section, guarded guard) {
	s.Name = f.NeedString("name", "Create the account")
	l.register(f, s, sec)
	outer := sec
	sec = sec.with(l.loop(f, s, sec.scope, guarded))
	sec.scope = l.stepVars(f, s, sec.scope, guarded)
	guarded = l.frame(f, s, sec, guarded)
	s.Timeout = f.Duration("timeout")
	conditions := []struct {
		key string
		to  **lang.Expr
	}{{"until", &s.Until}, {"changed_when", &s.ChangedWhen}, {"failed_when", &s.FailedWhen}}
	for _, c := range conditions {
		f.Take(c.key) // compiled when the outputs of the module are known
	}
	l.repeats(f, s)
	undo, probe := f.Take("undo"), f.Take("probe")

	key, args := l.module(f, s)
	if s.Module != nil {
		l.args(s, key, args, sec, guarded)
		if undo != nil {
			s.Undo = l.undo(f, s, undo, sec, guarded)
		}
		if probe != nil {
			s.Probe = l.probe(f, s, probe, sec, guarded)
		}
		for _, c := range conditions {
			if n := f.Node.Get(c.key); n != nil {
				*c.to = l.condition(n, sec.scope, s.own(), guarded)
			}
		}
		l.undoable(f, s, sec)
		l.loopable(f, s)
	}
	if s.Register != "" {
		t := s.result()
		if s.Module == nil {
			t = lang.Any // its module is a problem of its own
		}
		outer.scope[s.Register] = t
		l.results[s.Register] = &result{step: s, whens: l.whens, typ: t}
	}
}

// register reads the name of the step's result.
func (l *loader) register(f *lang.Fields, s *Step, sec *section) {
	s.Register = f.String("register", "")
	if s.Register == "" {
		return
	}
	n := f.Node.Get("register")
	if !l.ident(n, "a result") {
		s.Register = ""
		return
	}
	if why := reserved(s.Register); why != "" {
		l.Add(n, "reserved-name", "a step cannot register %q: %s; choose another name", s.Register, why)
		s.Register = ""
		return
	}
	if at, ok := sec.registered[s.Register]; ok {
		l.Add(n, "duplicate", "%q is registered twice; the first is at %s, and a result is never overwritten", s.Register, at)
		s.Register = ""
		return
	}
	sec.registered[s.Register] = n.Pos
}

// repeats reads retries and what the pauses are, which belong to until.
func (l *loader) repeats(f *lang.Fields, s *Step) {
	if f.Node.Get("until") == nil {
		for _, key := range []string{"retries", "delay", "backoff", "max_delay"} {
			f.Take(key)
			if f.Node.Get(key) != nil {
				l.Add(f.Key(key), "missing-key", "%s has %s and no until; say what to wait for, for example: until: rc == 0", f.What, key)
			}
		}
		return
	}
	s.Retries = int(f.Int("retries"))
	s.Delay = f.Duration("delay")
	s.Backoff = int(f.Int("backoff"))
	s.MaxDelay = f.Duration("max_delay")
	switch {
	case s.Backoff == 1 && f.Node.Get("max_delay") != nil:
		l.Add(f.Key("max_delay"), "missing-key", "%s has max_delay and no backoff, so its pauses do not grow; add backoff: 2, or leave max_delay out", f.What)
	case s.Backoff > 1 && s.Delay > s.MaxDelay:
		l.Add(f.Key("delay"), "out-of-range", "delay is %s, which is longer than max_delay, which is %s", lang.Span(s.Delay), lang.Span(s.MaxDelay))
	}
}

// module finds the module of a step and reports every other key.
func (l *loader) module(f *lang.Fields, s *Step) (key, args *lang.Node) {
	stepKeys := slices.Concat(f.Known(), blockKeys)
	var names []string
	for _, m := range l.reg.All() {
		if l.usable(m) {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	unknownModule := false
	for _, e := range f.Rest() {
		m := l.reg.Lookup(e.Key.Text)
		switch {
		case m == nil:
			if lang.Similar(e.Key.Text, stepKeys) == "" {
				unknownModule = true
			}
			l.strange(f, e.Key, names)
		case !l.usable(m):
			unknownModule = true
			l.AddNear(e.Key, e.Key.Text, names, "wrong-platform", "module %q is for %s, and this template is for %s", m.Name, m.Platform, l.t.Platform)
		case s.Module != nil:
			l.Add(e.Key, "too-many", "%s calls two modules, %s and %s; make two steps of it", f.What, s.Module.Name, m.Name)
		default:
			s.Module, key, args = m, e.Key, e.Value
			s.Outputs = m.Outputs
		}
	}
	if s.Module == nil && !unknownModule {
		l.Add(f.First(), "no-module", "%s calls no module; add one, for example: shell: id", f.What)
	}
	return key, args
}

func (l *loader) usable(m *module.Module) bool {
	return m.Platform == "" || l.t.Platform == "" || m.Platform == l.t.Platform
}

// elsewhere are words of other systems, and how the same is said here.
var elsewhere = map[string]string{
	"ignore_errors":    "write on_error: continue",
	"become_user":      "write become: NAME",
	"become_method":    "the inventory says how; write only become: NAME",
	"with_items":       "write loop: with the list",
	"with_list":        "write loop: with the list",
	"with_dict":        "write loop: with a list of maps, and item.key",
	"loop_var":         "write loop_control: {var: …}",
	"notify":           "write register: NAME here and when: NAME.changed in the later step",
	"check_mode":       "every module knows check mode by itself",
	"delegate_to":      "a template runs on one device; assert, debug, fail and set_fact run on the controller anyway",
	"action":           "write the module as the key, for example: shell: id",
	"local_action":     "write the module as the key, for example: assert: …",
	"environment":      "write env: {NAME: value} below the module",
	"env":              "write it below the module, for example: shell: {cmd: env, env: {NAME: value}}",
	"stdin":            "write it below the module, for example: shell: {cmd: cat, stdin: '{{ params.text }}'}",
	"creates":          "write it below the module, for example: shell: {cmd: touch /run/made, creates: /run/made}",
	"removes":          "write it below the module, for example: shell: {cmd: rm /run/made, removes: /run/made}",
	"include_tasks":    "write include: {file: common/message.yaml}",
	"import_tasks":     "write include: {file: common/message.yaml}",
	"include_role":     "write include: {file: common/message.yaml}",
	"args":             "write all arguments below the module",
	"any_errors_fatal": "a step that fails ends the template unless it has on_error: continue",
}

// strange reports a key that is neither of the step nor a module.
func (l *loader) strange(f *lang.Fields, key *lang.Node, modules []string) {
	words := slices.Concat(f.Known(), blockKeys)
	what := "key"
	if modules != nil {
		words = slices.Concat(words, modules)
		what = "key or module"
	}
	if hint := elsewhere[key.Text]; hint != "" {
		l.Add(key, "unknown-key", "unknown %s %q in %s; %s", what, key.Text, f.What, hint)
		return
	}
	near := key.Text
	if i := strings.LastIndexByte(near, '.'); i >= 0 && slices.Contains(modules, near[i+1:]) {
		near = near[i+1:] // ansible.builtin.user
	}
	p := key.Problem("unknown-key", "unknown %s %q in %s", what, key.Text, f.What)
	if p.Suggest = lang.Similar(near, words); slices.Contains(modules, near) {
		p.Suggest = near
	}
	f.Meant(p.Suggest)
	if p.Suggest == "" && len(modules) > 0 {
		p.Message += "; the modules are " + strings.Join(modules, ", ")
	}
	l.Problems = append(l.Problems, p)
}

// undo reads the script that takes back what the module cannot.
func (l *loader) undo(f *lang.Fields, s *Step, n *lang.Node, sec *section, guarded guard) *Script {
	switch {
	case !sec.forward && sec.shared:
		return nil // the same file may create
	case !sec.forward:
		l.Add(f.Key("undo"), "no-effect", "undo has no effect here: a removal is never undone; leave it out")
		return nil
	case !s.Module.NeedsUndo:
		l.Add(f.Key("undo"), "no-effect", "undo has no effect with %s, which records by itself how to undo what it does; leave it out", s.Module.Name)
		return nil
	}
	undo := l.script(s.Module, n, sec.scope, guarded)
	if undo != nil && slices.ContainsFunc(undo.Binds, func(b *lang.Value) bool { return b.Type().Kind == lang.SecretKind }) {
		l.Add(n, "secret", "undo is stored with the grant, so it cannot use a secret; take back what was made by its name")
		return nil
	}
	return undo
}

// probe reads the script that says whether what the module makes is there.
func (l *loader) probe(f *lang.Fields, s *Step, n *lang.Node, sec *section, guarded guard) *Script {
	switch {
	case !sec.forward && sec.shared:
		return nil
	case !sec.forward:
		l.Add(f.Key("probe"), "no-effect", "probe has no effect here: it says whether what a creation makes is there; use creates or removes")
		return nil
	case !s.Module.NeedsUndo:
		l.Add(f.Key("probe"), "no-effect", "probe has no effect with %s, which looks by itself; leave it out", s.Module.Name)
		return nil
	case f.Node.Get("undo") == nil:
		l.Add(f.Key("probe"), "missing-key", "%s has probe and no undo; add undo: with the script that takes back what the probe finds", f.What)
		return nil
	}
	probe := l.script(s.Module, n, sec.scope, guarded)
	if probe != nil && slices.ContainsFunc(probe.Binds, func(b *lang.Value) bool { return b.Type().Kind == lang.SecretKind }) {
		l.Add(n, "secret", "probe is stored with the grant, so it cannot use a secret; look for what was made by its name")
		return nil
	}
	return probe
}

// undoable refuses effects that nobody could take back.
func (l *loader) undoable(f *lang.Fields, s *Step, sec *section) {
	if !sec.forward || !s.Module.NeedsUndo || f.Node.Get("undo") != nil || never(s.ChangedWhen) || s.ChangedWhen == nil && f.Node.Get("changed_when") != nil {
		return // what is wrong with changed_when is said
	}
	l.Add(f.Key(s.Module.Name), "no-undo", "nobody could undo what %s does; add undo: with the script that takes it back, or changed_when: false if it changes nothing", s.Module.Name)
}

// never reports whether a condition is the constant false.
func never(e *lang.Expr) bool {
	if e == nil || len(e.Refs()) > 0 {
		return false
	}
	v, err := e.Eval(lang.Env{})
	return err == nil && v == false
}
