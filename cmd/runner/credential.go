package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"runner/engine/inventory"
	"runner/engine/lang"
)

// credentialJSON is a credential. It says where secrets are and holds none.
type credentialJSON struct {
	Name        string         `json:"name"`
	Device      string         `json:"device"`
	Inventory   string         `json:"inventory,omitempty"`
	Account     string         `json:"account"`
	Password    string         `json:"password"`
	Domain      string         `json:"domain,omitempty"`
	UseKerberos bool           `json:"use_kerberos"`
	Additional  map[string]any `json:"additional_information,omitempty"`
	Requesters  []string       `json:"requesters"`
	JIT         jitJSON        `json:"jit"`
	Params      []string       `json:"params"`
	Linked      string         `json:"linked,omitempty"`
	RecordUID   string         `json:"record_uid,omitempty"`
	Login       *loginJSON     `json:"login,omitempty"`
	File        string         `json:"file"`
}

// jitJSON holds the just-in-time settings of a credential.
type jitJSON struct {
	Enabled     bool   `json:"enabled"`
	Type        string `json:"type"`
	Duration    int64  `json:"duration_seconds"`
	MaxDuration int64  `json:"max_duration_seconds"`
	Margin      int64  `json:"margin_seconds"`
	Create      string `json:"create,omitempty"`
	Delete      string `json:"delete,omitempty"`
	Elevate     string `json:"elevate,omitempty"`
	Revert      string `json:"revert,omitempty"`
	Policy      string `json:"policy"`            // required or opt_in
	Missing     string `json:"missing,omitempty"` // of jit_settings
}

// loginJSON is how runner itself reaches the device.
type loginJSON struct {
	Inventory string   `json:"inventory"`
	Transport string   `json:"transport"`
	Address   string   `json:"address"`
	Port      int      `json:"port"`
	User      string   `json:"user"`
	Methods   []string `json:"methods"`
	Secret    string   `json:"secret_from"`
	Become    string   `json:"become"`
	Jump      []string `json:"jump"`
	// With transport winrm.
	Shell string   `json:"shell,omitempty"`
	Auth  string   `json:"auth,omitempty"` // kerberos or basic
	Realm string   `json:"realm,omitempty"`
	KDCs  []string `json:"kdcs,omitempty"`
}

func (a *app) credentialCommand() *cobra.Command {
	return a.noun("credential", "look at credentials: who may have what where",
		"runner credential list\nrunner credential show web-admin", a.credentialList(), a.credentialShow())
}

func (a *app) credentialList() *cobra.Command {
	return leaf{
		use: "list", short: "list the credentials",
		example: "runner credential list\nrunner credential list -o json",
		exits:   []int{exitFile},
		run: func(context.Context, []string) error {
			set, err := a.inventory()
			if err != nil {
				return err
			}
			views := []credentialJSON{}
			t := table{head: []string{"CREDENTIAL", "DEVICE", "ACCOUNT", "FOR", "AT MOST", "TEMPLATES", "REQUESTERS"}}
			for _, name := range slices.Sorted(maps.Keys(set.Credentials)) {
				c := set.Credentials[name]
				views = append(views, viewCredential(set, c))
				t.add(false, c.Name, c.Device, c.AccountText, lang.Span(c.JIT.Duration), lang.Span(c.JIT.MaxDuration), slots(c), requesters(c))
			}
			return a.answer(views, func(w io.Writer) { a.table(w, t) })
		},
	}.command()
}

func slots(c *inventory.Credential) string {
	if !c.JIT.Enabled {
		return "not enabled"
	}
	var s []string
	for _, slot := range []string{c.JIT.Create, c.JIT.Delete, c.JIT.Elevate, c.JIT.Revert} {
		if slot != "" && !slices.Contains(s, slot) {
			s = append(s, slot)
		}
	}
	return strings.Join(s, ", ")
}

func requesters(c *inventory.Credential) string {
	if len(c.Requesters) == 0 {
		return "operators"
	}
	return strings.Join(c.Requesters, ", ")
}

func viewCredential(set *inventory.Set, c *inventory.Credential) credentialJSON {
	v := credentialJSON{
		Name: c.Name, Device: c.Device, Inventory: c.Inventory, Account: c.AccountText, Password: c.Password, Domain: c.Domain,
		UseKerberos: c.UseKerberos, Additional: c.Additional, Linked: c.Linked, RecordUID: c.RecordUID, Requesters: append([]string{}, c.Requesters...),
		Params: append([]string{}, slices.Sorted(maps.Keys(c.Params))...), File: c.Pos.File,
		JIT: jitJSON{
			Enabled: c.JIT.Enabled, Type: c.JIT.Type, Duration: seconds(c.JIT.Duration), MaxDuration: seconds(c.JIT.MaxDuration),
			Margin: seconds(c.JIT.Margin), Create: c.JIT.Create, Delete: c.JIT.Delete, Elevate: c.JIT.Elevate, Revert: c.JIT.Revert,
			Policy: c.JIT.Policy, Missing: c.JIT.Missing,
		},
	}
	conn, err := set.Resolve(c.Name)
	if err != nil {
		return v
	}
	v.Inventory = conn.Inventory
	v.Login = &loginJSON{
		Inventory: conn.Inventory, Transport: conn.Transport, Address: conn.Address, Port: conn.Port, User: conn.User,
		Methods: conn.Methods, Secret: sourceText(conn.Secret), Become: conn.Become.Method, Jump: []string{},
	}
	if w := conn.WinRM; w != nil {
		v.Login.Shell, v.Login.Auth, v.Login.Realm, v.Login.KDCs = w.Shell, w.Auth, w.Realm, w.KDCs
		if w.SOCKS5 != "" {
			v.Login.Jump = append(v.Login.Jump, "socks5 "+w.SOCKS5)
		}
	}
	for _, h := range conn.Jump {
		v.Login.Jump = append(v.Login.Jump, h.Device)
	}
	return v
}

// sourceText says where a secret is.
func sourceText(s *inventory.Source) string {
	switch {
	case s == nil:
		return "agent"
	case s.File != "":
		return "file " + s.File
	case len(s.Command) > 0:
		return "command " + s.Command[0]
	case s.Keytab != "":
		return "keytab " + s.Keytab
	case s.CCache != "":
		return "ccache " + s.CCache
	}
	return "agent " + s.Agent
}

func (a *app) credentialShow() *cobra.Command {
	return leaf{
		use: "show CREDENTIAL", short: "show a credential, and how its device is reached",
		example: "runner credential show web-admin\nrunner credential show web-admin -o yaml",
		long:    "It is said where secrets are; they are not read.",
		args:    needs("CREDENTIAL"), exits: []int{exitFile},
		run: func(_ context.Context, args []string) error {
			set, err := a.inventory()
			if err != nil {
				return err
			}
			c := set.Credentials[args[0]]
			if c == nil {
				return unknownName("credential", args[0], slices.Sorted(maps.Keys(set.Credentials)))
			}
			v := viewCredential(set, c)
			return a.answer(v, func(w io.Writer) { describeCredential(w, c, &v) })
		},
	}.command()
}

func describeCredential(w io.Writer, c *inventory.Credential, v *credentialJSON) {
	login := ""
	if l := v.Login; l != nil {
		login = fmt.Sprintf("%s@%s port %d by %s, %s, secret from %s", l.User, l.Address, l.Port, strings.TrimSpace(l.Transport+" "+l.Shell), strings.Join(l.Methods, ",")+l.Auth, l.Secret)
		if len(l.KDCs) > 0 {
			login += ", tickets of " + l.Realm + " from " + strings.Join(l.KDCs, ", ")
		}
		if l.Become != "none" {
			login += ", then " + l.Become
		}
		if len(l.Jump) > 0 {
			login += ", by way of " + strings.Join(l.Jump, " > ")
		}
	}
	account := v.Account
	if c.JIT.Create != "" {
		account += ", password " + v.Password
	}
	fields(w,
		field{"credential", v.Name}, field{"device", v.Device}, field{"inventory", v.Inventory}, field{"runner logs in", login},
		field{"account", account}, field{"domain", v.Domain}, field{"requesters", requesters(c)},
		field{"for", lang.Span(c.JIT.Duration) + ", at most " + lang.Span(c.JIT.MaxDuration)}, field{"templates", slots(c)},
		field{"params", strings.Join(v.Params, ", ")}, field{"gives nothing", v.JIT.Missing}, field{"linked", v.Linked},
		field{"file", v.File})
}
