package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"runner/engine/inventory"
	"runner/engine/inventory/jit"
)

// ways are the flags that say how a session is opened.
func (l *launch) ways(c *cobra.Command) {
	fs := c.Flags()
	fs.BoolVarP(&l.way.JIT, "jit", "j", false, "with just-in-time access, where the credential leaves that open")
	fs.StringVar(&l.way.Credential, "credential", "", "-cr: as the account of another credential, where allow_supply_user allows it")
	fs.StringVarP(&l.way.Host, "host", "H", "", "on another host, where allow_supply_host allows it")
	fs.StringVar(&l.way.HostRecord, "host-record", "", "-hr: on another device, where allow_supply_host allows it")
	fs.BoolVar(&l.plan, "plan", false, "only say how the session would be opened, in the words of KeeperPAM; nothing is started")
}

// twoLetters are flags that people know from KeeperPAM and that are no flags here:
// -cr would be -c and -r.
var twoLetters = map[string]string{"-cr": "--credential", "-hr": "--host-record"}

// longFlags writes the flags of two letters of a launch in their long form.
func longFlags(root *cobra.Command, args []string) []string {
	c, _, err := root.Find(args)
	if err != nil || c.Name() != "launch" {
		return args
	}
	out := slices.Clone(args)
	for i, arg := range out {
		if arg == "--" {
			break
		}
		short, value, with := strings.Cut(arg, "=")
		long := twoLetters[short]
		if long == "" || i > 0 && wantsValue(c, out[i-1]) {
			continue
		}
		if with {
			long += "=" + value
		}
		out[i] = long
	}
	return out
}

// wantsValue reports whether what follows an argument is the value of a flag.
func wantsValue(c *cobra.Command, arg string) bool {
	f := c.Flags().Lookup(strings.TrimPrefix(arg, "--"))
	switch {
	case len(arg) == 2 && arg[0] == '-':
		if f = c.Flags().ShorthandLookup(arg[1:]); f == nil {
			f = c.InheritedFlags().ShorthandLookup(arg[1:])
		}
	case !strings.HasPrefix(arg, "--"):
		return false
	case f == nil:
		f = c.InheritedFlags().Lookup(arg[2:])
	}
	return f != nil && f.NoOptDefVal == ""
}

// decide returns the way that the session takes, and what decided.
func (l *launch) decide(set *inventory.Set) (jit.Record, jit.Way, error) {
	c := set.Credentials[l.ask.Credential]
	if c == nil {
		return jit.Record{}, "", unknownName("credential", l.ask.Credential, slices.Sorted(maps.Keys(set.Credentials)))
	}
	if other := l.way.Credential; other != "" && set.Credentials[other] == nil {
		return jit.Record{}, "", unknownName("credential", other, slices.Sorted(maps.Keys(set.Credentials)))
	}
	if other := l.way.HostRecord; other != "" && set.Devices[other] == nil {
		return jit.Record{}, "", unknownName("device", other, slices.Sorted(maps.Keys(set.Devices)))
	}
	r := set.Record(c)
	way, err := jit.Decide(r, l.way)
	if no, is := errors.AsType[*jit.RefusedError](err); is {
		code := exitUsage
		if no.Record {
			code = exitFile
		}
		return r, "", &codeError{code: code, err: errors.New(no.Reason), hints: []string{no.Change}}
	}
	return r, way, err
}

// provides refuses a session on what is there already: nothing of it would end.
func (l *launch) provides(set *inventory.Set) error {
	r, way, err := l.decide(set)
	if err != nil || way == jit.JustInTime {
		return err
	}
	whose := map[jit.Way]string{jit.LinkedUser: "of credential " + r.Linked, jit.SuppliedUser: "of credential " + l.way.Credential, jit.SuppliedHost: "on another host"}[way]
	change := "write jit_settings: {create_ephemeral: true} into credential " + r.Name
	if r.Settings.Mode() != jit.None {
		change = "add -j, or write jit: {policy: required} into credential " + r.Name
		if r.SupplyHost {
			change = "take allow_supply_host out of credential " + r.Name + " and add -j"
		}
	}
	return &codeError{
		code: exitUsage, hints: []string{change},
		err: fmt.Errorf("this would be a session as an account %s that is there already, and runner opens sessions only with access that it takes away again", whose),
	}
}

// say prints how the session would be opened.
func (l *launch) say() error {
	a := l.app
	set, err := a.inventory()
	if err != nil {
		return err
	}
	r, way, err := l.decide(set)
	if err != nil {
		return err
	}
	sent := r.Plan(way)
	return a.answer(sent, func(w io.Writer) {
		c := set.Credentials[r.Name]
		fields(w, field{"credential", r.Name}, field{"device", c.Device}, field{"way", string(way)},
			field{"credentialType", sent.CredentialType}, field{"userRecordUid", sent.UserRecordUID},
			field{"jitSettings", pairs(sent.JITSettings)}, field{"jitElevation", pairs(sent.JITElevation)})
		if way == jit.JustInTime {
			a.hint("runner grant request %s --plan shows the steps, and runs none of them either", r.Name)
		}
	})
}

// pairs writes a map on one line.
func pairs(m map[string]any) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s=%v", k, m[k]))
	}
	return strings.Join(out, " ")
}
