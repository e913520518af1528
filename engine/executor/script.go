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
	it.objects = []module.Object{{ID: fmt.Sprintf("%s%d:%s", scriptObject, x.stepOf(it.n), it.name), Undo: &undo}}
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
