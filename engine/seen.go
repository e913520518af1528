package engine

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"runner/engine/grant"
	"runner/engine/module"
)

// Kinds of what a scan sees.
const (
	SeenAccount = "account"
	SeenSudoers = "sudoers"
	SeenKey     = "key"
)

// Seen is an object of a device that bears a mark, or one that the store asked for.
type Seen struct {
	Kind    string // account, sudoers or key
	Name    string // of the account or of the file in sudoers.d; path of authorized_keys
	Account string // whose it is, as far as the device says
	UID     int64
	SID     string
	State   string    // of an account: open, locked, or none where there is no shadow line
	Expires time.Time // of an account, by the device's clock; zero: never
	Shell   string
	Home    string
	Groups  []string
	Members []string // of the account's own group
	Text    string   // that bears the mark
	Mark    grant.Mark
	Marked  bool
}

// Object names what was seen for people.
func (s *Seen) Object() string { return s.Kind + " " + s.Name }

// marksArgs are the arguments of the module that lists what bears a mark.
func marksArgs(p platform, names, uids []string, first, last int64) module.Args {
	a := module.Args{"names": slices.DeleteFunc(names, func(n string) bool { return n == "" })}
	if p.numbered {
		a["uids"], a["first"], a["last"] = uids, first, last
	} else {
		a["sids"] = uids
	}
	return a
}

// seeLinux reads what the module marks says, and whether there was more of it.
func seeLinux(items []string) (out []Seen, more bool) {
	homes := map[string]string{}
	for _, it := range items {
		if it == "more" {
			more = true
			continue
		}
		f := strings.Split(it, "\t")
		for len(f) < 10 {
			f = append(f, "")
		}
		s := Seen{Kind: f[0], Name: f[1], Account: f[1]}
		switch f[0] {
		case SeenAccount:
			s.UID, _ = strconv.ParseInt(f[2], 10, 64)
			s.State, s.Shell, s.Groups, s.Members, s.Home, s.Text = f[3], f[5], list(f[6]), list(f[7]), f[8], f[9]
			if days, err := strconv.ParseInt(f[4], 10, 64); err == nil && days >= 0 && days < 1<<30 {
				s.Expires = time.Unix(days*86400, 0).UTC()
			}
			homes[s.Home] = s.Name
		case SeenSudoers:
			s.Account, s.Text = f[2], f[3]
		case SeenKey:
			path, line, _ := strings.Cut(f[1], ":")
			s.Name, s.Home = path, strings.TrimSuffix(path, "/.ssh/authorized_keys")
			s.Account = homes[s.Home]
			words := strings.Fields(line)
			if id, is := strings.CutPrefix(words[len(words)-1], "runner-"); is {
				s.Text = "runner " + id
			}
		default:
			continue // of a newer body
		}
		s.Mark, s.Marked = grant.MarkOf(s.Text)
		out = append(out, s)
	}
	return out, more
}

// seeWindows reads what the module win_marks says.
func seeWindows(items []string) (out []Seen, more bool) {
	for _, it := range items {
		f := strings.SplitN(it, "\t", 7)
		if f[0] != SeenAccount || len(f) < 7 {
			continue
		}
		s := Seen{Kind: SeenAccount, Name: f[1], Account: f[1], SID: f[2], State: f[3], Groups: list(f[5]), Text: f[6]}
		s.Expires, _ = time.Parse(time.RFC3339, f[4]) // or never
		s.Mark, s.Marked = grant.MarkOf(s.Text)
		out = append(out, s)
	}
	return out, false
}

// list takes names apart that commas separate.
func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}
