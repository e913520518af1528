package executor

import (
	"slices"
	"strings"

	"runner/engine/template"
)

// choose notes which steps are left out by their tags. around are the tags of
// the blocks around steps.
func (x *run) choose(steps []*template.Step, around []string) {
	if x.unchosen == nil {
		x.unchosen = map[*template.Step]string{}
	}
	if len(x.Only)+len(x.Except) == 0 {
		return
	}
	for _, st := range steps {
		tags := slices.Concat(around, st.Tags)
		x.choose(slices.Concat(st.Block, st.Rescue, st.Always), tags)
		if st.Module == nil {
			continue
		}
		has := func(tag string) bool { return slices.Contains(tags, tag) }
		switch i := slices.IndexFunc(x.Except, has); {
		case i >= 0:
			x.unchosen[st] = "its tag " + x.Except[i] + " is left out"
		case len(x.Only) > 0 && !slices.ContainsFunc(append(slices.Clone(x.Only), "always"), has):
			x.unchosen[st] = "it has not the tag " + strings.Join(x.Only, " or ")
		}
	}
}
