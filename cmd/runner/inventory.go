package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"runner/engine/inventory"
	"runner/engine/lang"
	"runner/engine/template"
)

// inventoryJSON is a connection profile.
type inventoryJSON struct {
	Name          string    `json:"name"`
	Transport     string    `json:"transport"`
	Methods       []string  `json:"methods"`
	Port          int       `json:"port"`
	Become        string    `json:"become"`
	HostKeyPolicy string    `json:"host_key_policy,omitempty"`
	KnownHosts    string    `json:"known_hosts,omitempty"`
	Jump          []hopJSON `json:"jump"`
	Shell         string    `json:"shell,omitempty"`  // psrp or cmd; this and the rest with transport winrm
	Scheme        string    `json:"scheme,omitempty"` // http or https
	Auth          string    `json:"auth,omitempty"`   // kerberos or basic
	SOCKS5        string    `json:"socks5,omitempty"`
	DialSeconds   float64   `json:"dial_timeout_seconds"`
	StepSeconds   float64   `json:"step_timeout_seconds"`
	File          string    `json:"file"`
}

// hopJSON is a jump host.
type hopJSON struct {
	Device     string `json:"device"`
	Credential string `json:"credential,omitempty"`
}

func (a *app) inventoryCommand() *cobra.Command {
	return a.noun("inventory", "look at connection profiles, check the folder inventories",
		"runner inventory list\nrunner inventory check", a.inventoryList(), a.inventoryCheck(), a.inventorySchema())
}

func (a *app) inventorySchema() *cobra.Command {
	return leaf{
		use: "schema", short: "print the JSON Schema of inventories, devices and credentials, for editors",
		example: "runner inventory schema > inventories/schema.json",
		long: `It is JSON Schema draft-07, made of the tables by which documents are read. runner init
writes it into a workspace; files name it in their first line:
# yaml-language-server: $schema=schema.json`,
		run: func(context.Context, []string) error {
			text, err := inventory.Schema()
			if err == nil {
				_, err = a.stdout.Write(text)
			}
			return err
		},
	}.command()
}

func (a *app) inventoryList() *cobra.Command {
	return leaf{
		use: "list", short: "list the connection profiles",
		example: "runner inventory list\nrunner inventory list -o json",
		exits:   []int{exitFile},
		run: func(context.Context, []string) error {
			set, err := a.inventory()
			if err != nil {
				return err
			}
			views := []inventoryJSON{}
			t := table{head: []string{"INVENTORY", "TRANSPORT", "METHODS", "PORT", "BECOME", "HOST KEYS", "JUMP"}}
			for _, name := range slices.Sorted(maps.Keys(set.Inventories)) {
				v := viewInventory(set.Inventories[name])
				views = append(views, v)
				var hops []string
				for _, h := range v.Jump {
					hops = append(hops, h.Device)
				}
				if v.SOCKS5 != "" {
					hops = append(hops, "socks5 "+v.SOCKS5)
				}
				t.add(false, v.Name, strings.TrimSpace(v.Transport+" "+v.Shell), strings.Join(v.Methods, ",")+v.Auth, strconv.Itoa(v.Port), v.Become, v.HostKeyPolicy, strings.Join(hops, " > "))
			}
			return a.answer(views, func(w io.Writer) { a.table(w, t) })
		},
	}.command()
}

func viewInventory(inv *inventory.Inventory) inventoryJSON {
	v := inventoryJSON{
		Name: inv.Name, Transport: inv.Transport, Methods: inv.Methods, Port: inv.Port, Become: inv.Become.Method,
		HostKeyPolicy: inv.HostKeys.Policy, KnownHosts: inv.HostKeys.KnownHosts, Jump: []hopJSON{},
		DialSeconds: inv.Timeouts.Dial.Seconds(), StepSeconds: inv.Timeouts.Step.Seconds(), File: inv.Pos.File,
	}
	for _, h := range inv.Jump {
		v.Jump = append(v.Jump, hopJSON{h.Device, h.Credential})
	}
	if inv.Transport == "winrm" {
		v.HostKeyPolicy = ""
		v.Shell, v.Scheme, v.Auth, v.SOCKS5 = inv.WinRM.Shell, inv.WinRM.Scheme, inv.WinRM.Auth, inv.SOCKS5
	}
	return v
}

func (a *app) inventoryCheck() *cobra.Command {
	return leaf{
		use: "check", short: "check inventories, devices and credentials; never connects",
		example: "runner inventory check\nrunner --workspace /srv/access inventory check",
		long:    "Also checked is that the templates that credentials name can be used, take their params, and take away what they create.",
		exits:   []int{exitFile},
		run: func(context.Context, []string) error {
			set, err := a.inventory()
			if err != nil {
				return err
			}
			lib, _, err := a.templates()
			if err != nil {
				return err
			}
			for _, n := range set.Notices {
				a.warn("%s", n.String())
			}
			has := func(kind, name string) bool {
				_, err := lib.Get(template.Kind(kind), name)
				return err == nil
			}
			platform := func(kind, name string) string {
				if t, err := lib.Get(template.Kind(kind), name); err == nil {
					return t.Platform
				}
				return ""
			}
			params := func(kind, name string) map[string]func(*lang.Value) string {
				return lib.Params(template.Kind(kind), name)
			}
			if err := slices.Concat(set.CheckTemplates(has), set.CheckPlatforms(platform), set.CheckParams(params), uncovered(set, lib)).Err(); err != nil {
				return err
			}
			v := struct {
				Inventories int `json:"inventories"`
				Devices     int `json:"devices"`
				Credentials int `json:"credentials"`
			}{len(set.Inventories), len(set.Devices), len(set.Credentials)}
			return a.answer(v, func(w io.Writer) {
				inventories := "1 inventory"
				if v.Inventories != 1 {
					inventories = fmt.Sprintf("%d inventories", v.Inventories)
				}
				_, _ = fmt.Fprintf(w, "%s, %s, %s checked, no problem\n", inventories, plural(v.Devices, "device"), plural(v.Credentials, "credential"))
			})
		},
	}.command()
}

// uncovered returns what the create templates of credentials make and their
// delete templates leave.
func uncovered(set *inventory.Set, lib *template.Library) lang.Problems {
	var ps lang.Problems
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(set.Credentials)) {
		jit := set.Credentials[name].JIT
		create, err := lib.Get(template.Create, jit.Create)
		if err != nil {
			continue // none, or a problem of its own
		}
		removal, err := lib.Get(template.Delete, cmp.Or(jit.Delete, create.Removal))
		if pair := create.Name + "/" + jit.Delete; err == nil && !seen[pair] {
			seen[pair] = true
			ps = append(ps, template.Uncovered(create, removal)...)
		}
	}
	return ps
}
