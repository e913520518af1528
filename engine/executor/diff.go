package executor

import (
	"strconv"
	"strings"
)

// diffArg tells a body to say was.I and is.I of what it changes, for people.
const diffArg = "_diff"

// secretObjects are those whose state is never shown: it says no more than that
// there is one.
var secretObjects = []string{"linux:password:"}

// diffs compares the objects of a step that has changed something. What a body
// does not tell of an object, its states tell.
func diffs(it *item, t *told, check bool) []Diff {
	var out []Diff
	for i, o := range it.objects {
		n := strconv.Itoa(i)
		d := Diff{Object: o.ID, Hidden: it.st.NoLog}
		for _, prefix := range secretObjects {
			d.Hidden = d.Hidden || strings.HasPrefix(o.ID, prefix)
		}
		before, told := t.facts["was."+n]
		d.Before, d.After = before, t.facts["is."+n]
		if !told {
			d.Before, d.After = t.first["state."+n], t.facts["state."+n]
			if check { // the state is what it still is
				d.After = "changed"
				if msg := t.facts["msg"]; msg != "" {
					d.After = msg
				}
			}
		}
		d.Before, d.After = strings.TrimRight(d.Before, "\n"), strings.TrimRight(d.After, "\n")
		switch {
		case d.Hidden:
			d.Before, d.After = "", ""
		case d.Before == d.After:
			continue
		}
		out = append(out, d)
	}
	return out
}
