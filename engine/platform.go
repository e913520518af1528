package engine

import (
	"encoding/json"
	"slices"
	"strings"

	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/module"
)

// platform is what the story has to know of a kind of device. Everything else
// about it is said by templates and modules.
type platform struct {
	// numbered accounts get a number from runner before they are made; the
	// others one from the device, which is known afterwards only.
	numbered bool
	// keys says that an account can log in by a key pair.
	keys bool
	// surface is the module that lists what bears an account's name or identity.
	surface string
	// names are the kinds of its items that nobody else may have with the name
	// of a new account.
	names []string
	// prove is the module that logs in as the account; empty: the dialer does.
	prove string
	// session are outputs of removal steps that name what a person left behind.
	session []evidence
	// marks is the module that lists what bears a mark, as the account become, and
	// see reads what it says.
	marks, become string
	see           func(items []string) (seen []Seen, more bool)
	// removal is the template that removes accounts that were found, where the
	// credential names none.
	removal string
}

// evidence is what a step of a removal found: an output, and the word for what
// it lists.
type evidence struct{ module, output, word string }

var platforms = map[string]platform{
	"linux": {
		numbered: true, keys: true, surface: "surface", names: []string{"passwd", "shadow", "group", "gshadow"},
		session: []evidence{{"kill_sessions", "killed", "process "}, {"kill_sessions", "remaining", "still running: process "}, {"user_leftovers", "removed", ""}},
		marks:   "marks", become: "root", see: seeLinux, removal: "linux-user",
	},
	"windows": {
		surface: "win_surface", names: []string{"account", "group"}, prove: "win_logon_check",
		session: []evidence{{"win_sessions", "found", "process "}, {"win_profile", "deleted", "profile "}, {"win_scheduled_task", "removed", "task "}},
		marks:   "win_marks", see: seeWindows, removal: "windows-local-user",
	},
}

// call is the look at what bears the account's name or identity; nil when the
// platform has no such module.
func (p platform) call(r *module.Registry, g *grant.Grant, sid string) []executor.Call {
	m := r.Lookup(p.surface)
	if m == nil {
		return nil
	}
	args := module.Args{"name": g.Account}
	if p.numbered {
		args["uid"] = g.UID
	} else {
		args["sid"] = sid
	}
	return []executor.Call{{Name: "surface", Module: m, Args: args}}
}

// taken reports whether an item of the surface is an account or a group of name.
func (p platform) taken(item, name string) bool {
	kind, what, _ := strings.Cut(item, "\t")
	return slices.Contains(p.names, kind) && strings.EqualFold(strings.Split(what, ":")[0], name)
}

// left returns what the person left behind, as the steps of a removal tell it.
func (p platform) left(steps []executor.StepResult) []string {
	var out []string
	for _, s := range steps {
		for _, e := range p.session {
			if e.module != s.Module {
				continue
			}
			for _, what := range lines(s.Values[e.output]) {
				out = append(out, e.word+what)
			}
		}
	}
	return out
}

// sidOf returns the SID of the grant's account: as the creation handed it on,
// or as its changes recorded it; empty when neither knows it.
func sidOf(g *grant.Grant, changes []executor.Change) string {
	var out struct {
		SID string `json:"sid"`
	}
	if len(g.Outputs) > 0 && json.Unmarshal(g.Outputs, &out) == nil && out.SID != "" {
		return out.SID
	}
	for _, c := range slices.Backward(changes) {
		if sid, known := strings.CutPrefix(c.After, "sid="); known && c.Object == "windows:user:"+g.Account {
			return sid
		}
	}
	return ""
}
