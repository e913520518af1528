package executor

import (
	"fmt"
	"strconv"
	"strings"

	"runner/engine/module"
	"runner/engine/secret"
	"runner/engine/transport"
)

// What a script did is known to its author only. It is recorded as an object of
// its own, whose undo is the script that the author wrote. Nothing can look at
// such an object, so its undo runs whenever the script may have done something.
const scriptObject = "script:"

// What a script made that has a probe can be looked at like any other object.
const madeObject = "made:"

func isScript(object string) bool { return strings.HasPrefix(object, scriptObject) }

// unlooked is what an object was before when nothing could look at it.
func unlooked(object string) string {
	if isScript(object) {
		return "absent"
	}
	return "?"
}

// planUndo records what takes a script back: its text, and the values that its
// {{ }} have now. It returns false when those have to wait for results.
func (x *run) planUndo(it *item, later func(string) bool) (bool, error) {
	undo := module.Undo{Module: "shell", Args: map[string]any{}, Become: it.st.Become}
	if it.module.Platform == "windows" {
		undo.Module = "powershell"
	}
	m := x.Modules.Lookup(undo.Module)
	if m == nil {
		return false, x.broken(it.st, "undo: there is no module "+undo.Module+" to run it")
	}
	undo.Args[m.Script] = it.st.Undo.Text
	for i, b := range it.st.Undo.Binds {
		v, ok, err := x.value(b, later)
		if err != nil {
			return false, x.broken(it.st, "undo: "+err.Error())
		}
		lit, known := v.(transport.Lit)
		if !ok || !known && x.view == nil {
			return false, nil
		}
		if _, is := lit.V.(secret.Value); is {
			return false, x.broken(it.st, "undo: it is stored with the grant and cannot hold a secret")
		}
		undo.Args["_r"+strconv.Itoa(i+1)] = lit.V
	}
	kind := scriptObject
	if it.st.Probe != nil {
		kind = madeObject
		for _, a := range it.step.Args {
			if strings.HasPrefix(a.Name, probeArg) {
				undo.Args[a.Name] = a.Value.(transport.Lit).V //nolint:forcetypeassert // planProbe made it
			}
		}
		undo.Args[wantArg] = "absent"
	}
	it.objects = []module.Object{{ID: fmt.Sprintf("%s%d:%s", kind, x.stepOf(it.n), it.name), Undo: &undo}}
	return true, nil
}

// Variables that bodies of scripts read: the author's probe, the values of its
// {{ }} behind their numbers, and what it should find when the script has run.
const (
	probeArg = "_probe"
	wantArg  = "_want"
)

// planProbe hands the author's probe to the body of a script. It returns false
// when its values have to wait for results.
func (x *run) planProbe(it *item, later func(string) bool) (bool, error) {
	text := it.st.Probe.Text
	var args []transport.Arg
	for i, b := range it.st.Probe.Binds {
		v, ok, err := x.value(b, later)
		if err != nil {
			return false, x.broken(it.st, "probe: "+err.Error())
		}
		lit, known := v.(transport.Lit)
		if !ok || !known && x.view == nil {
			return false, nil
		}
		if _, is := lit.V.(secret.Value); is {
			return false, x.broken(it.st, "probe: it is stored with the grant and cannot hold a secret")
		}
		n := strconv.Itoa(i + 1)
		text = strings.ReplaceAll(text, "${_r"+n+"}", "${"+probeArg+n+"}") // no author can write these
		args = append(args, transport.Arg{Name: probeArg + n, Value: transport.Lit{V: lit.V}})
	}
	it.step.Args = append(append(it.step.Args, args...),
		transport.Arg{Name: probeArg, Value: transport.Lit{V: text}}, transport.Arg{Name: wantArg, Value: transport.Lit{V: "present"}})
	return true, nil
}

// scriptBecame notes what became of a script. One that failed or was cut off
// may have done a part: it stays intended, and is undone, too.
func scriptBecame(c *Change, t *told, heard bool) bool {
	switch {
	case t.done && !t.failed && !t.changed && (t.attempts > 1 || heard && c.State != Unchanged):
		c.State, c.After = Done, "present" // what it did before it was tried again, if not now
	case t.skipped != "", t.done && !t.failed && !t.changed:
		c.State, c.After = Unchanged, c.Before
	case t.done && !t.failed:
		c.State, c.After = Done, "present"
	default:
		return false
	}
	return true
}
