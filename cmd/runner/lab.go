package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"runner/engine/lab"
	"runner/engine/lang"
)

// labDir holds the machines that are not kept in the state of a workspace.
const labDir = "/run/runner-lab"

// labAccount is the account of a lab machine as which runner logs in.
const labAccount = "jitadm"

var labName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// labJSON is a throw-away machine.
type labJSON struct {
	Name    string `json:"name"`
	Running bool   `json:"running"`
	Address string `json:"address,omitempty"`
	Port    int    `json:"port,omitempty"`
	PID     int    `json:"pid,omitempty"`
	HostKey string `json:"host_key,omitempty"`
	KeyFile string `json:"key_file,omitempty"`
	Dir     string `json:"dir"`
	YAML    string `json:"yaml,omitempty"` // documents for the folder inventories
	File    string `json:"file,omitempty"` // where they were written
}

func (a *app) labCommand() *cobra.Command {
	return a.noun("lab", "throw-away machines to try runner on (Linux, root)",
		"runner lab up web --into ./access\nrunner lab shell web\nrunner lab list\nrunner lab down web",
		a.labUp(), a.labShell(), a.labDown(), a.labList())
}

func (a *app) labUp() *cobra.Command {
	var into, shell string
	c := leaf{
		use: "up NAME", short: "start a throw-away machine with a real sshd",
		example: "runner lab up web\nrunner lab up web --into ./access\nrunner lab up old --shell busybox",
		long: `It has its own /etc, /home, processes and accounts, and nothing written inside
reaches this host; its sshd listens on a free port of 127.0.0.1. It keeps accidents
in, not attackers. The documents of an inventory, a device and the credential
NAME-admin for it are printed, or written into a workspace with --into. The machine
ends with runner lab down or the host.`,
		args: needs("NAME"),
		run:  func(ctx context.Context, args []string) error { return a.startLab(ctx, args[0], shell, into) },
	}.command()
	c.Flags().StringVar(&into, "into", "", "workspace whose folder inventories gets the documents")
	c.Flags().StringVar(&shell, "shell", "", "program that is its /bin/sh: dash, bash, busybox (default: the host's)")
	return c
}

func (a *app) startLab(ctx context.Context, name, shell, into string) error {
	if !labName.MatchString(name) {
		return usagef("%q: the name of a machine has at most 32 characters of a-z, 0-9 and -", name)
	}
	if into != "" && !hasWorkspaceFile(into) {
		return usagef("--into %s is no workspace: it has no %s", into, workspaceFile)
	}
	if err := lab.Require(); err != nil { //nolint:contextcheck // takes no context, and 20 ms
		return usagef("%v", err)
	}
	dirs, err := a.labDirs(into)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dirs[0], 0o700); err != nil {
		return err
	}
	a.doing("starting " + name)
	m, err := lab.Up(ctx, lab.Config{Name: name, Shell: shell}, filepath.Join(dirs[0], name))
	if err != nil {
		return err
	}
	v := viewLab(m)
	v.YAML = labYAML(m)
	if into != "" {
		v.File = filepath.Join(into, "inventories", "lab-"+name+".yaml")
		if err := os.WriteFile(v.File, []byte(v.YAML), 0o644); err != nil { //nolint:gosec // holds no secret
			return errors.Join(err, m.Stop())
		}
	}
	return a.answer(v, func(w io.Writer) {
		if v.File == "" {
			_, _ = io.WriteString(w, v.YAML)
			return
		}
		fields(w, field{"machine", v.Name}, field{"sshd", fmt.Sprintf("%s port %d", v.Address, v.Port)}, field{"written", v.File},
			field{"try", "runner --workspace " + into + " grant request " + name + "-admin"}, field{"look around", "runner lab shell " + name}, field{"end it", "runner lab down " + name})
	})
}

// labDirs returns the folders that hold machines: that of the workspace, if
// there is one, and that of the host.
func (a *app) labDirs(into string) ([]string, error) {
	if into != "" {
		abs, err := filepath.Abs(into)
		return []string{filepath.Join(abs, "state", "lab")}, err
	}
	w, err := a.anyWorkspace()
	if err != nil {
		return nil, err
	}
	if w == nil {
		return []string{labDir}, nil
	}
	return []string{filepath.Join(w.state(), "lab"), labDir}, nil
}

func viewLab(m *lab.Machine) labJSON {
	return labJSON{
		Name: m.Name, Running: true, Address: m.Host, Port: m.Port, PID: m.Pid(), HostKey: m.HostKey, KeyFile: m.KeyFile(), Dir: m.Dir,
	}
}

// labYAML returns the documents with which runner reaches a machine.
func labYAML(m *lab.Machine) string {
	return fmt.Sprintf(`# The throw-away machine %[1]s; runner lab down %[1]s ends it.
schema: runner/v1
kind: inventory
name: lab-%[1]s
transport: ssh
methods: [publickey]
become: {method: sudo}
host_keys: {policy: strict}
---
schema: runner/v1
kind: device
name: %[1]s
address: %[2]s
port: %[3]d
platform: linux
inventory: lab-%[1]s
host_keys: ["%[4]s"]
---
schema: runner/v1
kind: credential
name: %[1]s-admin
device: %[1]s
authentication:
  user: %[5]s
  secret_from: {file: %[6]s, kind: private_key}
jit:
  create: linux-user
  delete: linux-user
  duration: 1h
  max_duration: 8h
`, m.Name, m.Host, m.Port, m.HostKey, labAccount, m.KeyFile())
}

func (a *app) labDown() *cobra.Command {
	return leaf{
		use: "down NAME", short: "end a throw-away machine",
		example: "runner lab down web",
		long:    "What is about the machine in the files of a workspace stays there.",
		args:    needs("NAME"),
		run: func(ctx context.Context, args []string) error {
			dirs, err := a.labDirs("")
			if err != nil {
				return err
			}
			i := slices.IndexFunc(dirs, func(d string) bool { return exists(filepath.Join(d, args[0])) })
			if !labName.MatchString(args[0]) || i < 0 {
				return usagef("there is no machine %q in %s; runner lab list shows those there are", args[0], lang.Words(dirs))
			}
			dir := filepath.Join(dirs[i], args[0])
			if err := lab.Down(ctx, dir); err != nil {
				return err
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			v := labJSON{Name: args[0], Dir: dir}
			return a.answer(v, func(w io.Writer) { _, _ = fmt.Fprintf(w, "machine %s is gone\n", args[0]) })
		},
	}.command()
}

func (a *app) labList() *cobra.Command {
	return leaf{
		use: "list", short: "list the throw-away machines of this host",
		example: "runner lab list\nrunner lab list -o json",
		run: func(context.Context, []string) error {
			dirs, err := a.labDirs("")
			if err != nil {
				return err
			}
			views := []labJSON{}
			t := table{head: []string{"MACHINE", "RUNNING", "SSHD", "DIR"}}
			for _, parent := range dirs {
				entries, err := os.ReadDir(parent)
				if err != nil && !os.IsNotExist(err) {
					return err
				}
				for _, e := range entries {
					v := labAt(filepath.Join(parent, e.Name()))
					views = append(views, v)
					t.add(false, v.Name, strconv.FormatBool(v.Running), sshdText(v), v.Dir)
				}
			}
			return a.answer(views, func(w io.Writer) { a.table(w, t) })
		},
	}.command()
}

// labAt tells about the machine in a folder, which may have ended.
func labAt(dir string) labJSON {
	m, err := lab.Load(dir)
	if err != nil {
		return labJSON{Name: filepath.Base(dir), Dir: dir}
	}
	return viewLab(m)
}

func sshdText(v labJSON) string {
	if !v.Running {
		return ""
	}
	return fmt.Sprintf("%s port %d", v.Address, v.Port)
}
