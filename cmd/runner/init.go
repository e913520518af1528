package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"runner/engine/inventory"
	"runner/engine/template"
)

// starterFile is a file or folder of a new workspace. Folders end with a slash.
type starterFile struct {
	path string
	mode os.FileMode
	text string
}

// starter is what a new workspace consists of, besides the schemas.
var starter = []starterFile{
	{"inventories/", 0o755, ""},
	{"templates/create/", 0o755, ""},
	{"templates/delete/", 0o755, ""},
	{"templates/elevate/", 0o755, ""},
	{"state/", 0o700, ""},
	{workspaceFile, 0o644, `# This file makes the folder a workspace of runner.
schema: runner/v1
kind: workspace

# Users who may request for others, revoke, pause and run templates without a
# grant. root always may. Default: nobody else.
#operators: [ana]

# A PostgreSQL database that several machines share, each with a copy of this folder
# and of state/key. Default: a database of this machine in state/.
#database:
#  url: postgres://runner@db.example/runner
#  secret_from: {file: /etc/runner/database-password}

# runner serve scans each device for accounts that should not be there. Default: all
# devices on which it makes accounts, each once in 24h.
#scan: {every: 24h, devices: ['web-*', db-1]}    # every: never

# What nobody needs for the work any more is deleted by serve and sweep: recordings of
# sessions, and what executions wrote. Default: nothing is. The audit is always kept.
retention: {recordings: 8760h, logs: 8760h}

# How runner launch gives the account to programs of this machine, beside those that
# it knows: by env, files (memory only, removed afterwards), stdin; args without secrets.
#profiles:
#  report:
#    commands: [report.sh]
#    files: {login: '{{ account }}:{{ password }}'}
#    env: {REPORT_LOGIN_FILE: '{{ files.login }}'}
`},
	{".gitignore", 0o644, "# The database, its key, logs: never part of a repository.\nstate/\n"},
	{"inventories/README.md", 0o644, `# inventories

Three kinds of documents, several to a file when they are parted by ---:

- inventory: how devices are reached (transport, login methods, sudo, jump hosts)
- device: where accounts live (address, host keys)
- credential: who may get what there, and for how long

runner inventory check reads them all and never connects; runner device check DEVICE
connects.
`},
	{"inventories/linux.yaml", 0o644, `# yaml-language-server: $schema=schema.json
# How Linux machines are reached: SSH with a key, then sudo without a password.
schema: runner/v1
kind: inventory
name: Linux-SSH
transport: ssh
methods: [publickey]
become: {method: sudo}
host_keys: {policy: strict}

# A device and a credential. Take the # away and write your own.
#---
#schema: runner/v1
#kind: device
#name: web-1
#address: web-1.example.com
#inventory: Linux-SSH
#host_keys: ["ssh-ed25519 AAAA..."]   # ssh-keyscan -t ed25519 web-1.example.com
#---
#schema: runner/v1
#kind: credential
#name: web-admin
#device: web-1
#account: jit-{{ id }}
#authentication:
#  user: runner
#  secret_from: {file: /etc/runner/id_ed25519, kind: private_key}
#requesters: [ana, "@admins"]         # without any only operators may request
#jit:
#  create: linux-user
#  delete: linux-user
#  duration: 1h
#  max_duration: 8h
`},
	{"templates/create/README.md", 0o644, "# templates/create\n\nTemplates that make an account, one a file: NAME.yaml. A file here beats the shipped\ntemplate of its name; runner template list shows where each one comes from, and\nrunner template docs explains modules and keys.\n\nWith # yaml-language-server: $schema=../schema.json as its first line an editor helps.\n"},
	{"templates/delete/README.md", 0o644, "# templates/delete\n\nTemplates that remove an account and what belongs to it. They have to work whether the\ncreation was finished or not, and more than once.\n"},
	{"templates/elevate/README.md", 0o644, "# templates/elevate\n\nTemplates that give an account that exists more rights, with the steps that revert it.\n"},
}

// initJSON is what init did.
type initJSON struct {
	Workspace string   `json:"workspace"`
	Written   []string `json:"written"`
	Crontab   string   `json:"crontab"`
	Service   string   `json:"systemd_service"`
	Timer     string   `json:"systemd_timer"`
}

func (a *app) initCommand() *cobra.Command {
	return leaf{
		use: "init DIR", short: "write a small commented workspace",
		example: "runner init access\nrunner init /srv/access -o json",
		long: `In a folder that is a workspace already, only what is missing is written. Other
folders have to be empty. The lines for a timer that runs the sweep are printed. The files schema.json tell an editor with the YAML language server which
keys there are.`,
		args: needs("DIR"),
		run:  func(_ context.Context, args []string) error { return a.initialize(args[0]) },
	}.command()
}

// schemas are what editors read about the files of a workspace.
func (a *app) schemas() ([]starterFile, error) {
	reg, err := a.reg()
	if err != nil {
		return nil, err
	}
	templates, err := template.Schema(reg)
	if err != nil {
		return nil, err
	}
	inventories, err := inventory.Schema()
	if err != nil {
		return nil, err
	}
	return []starterFile{{"inventories/schema.json", 0o644, string(inventories)}, {"templates/schema.json", 0o644, string(templates)}}, nil
}

func (a *app) initialize(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return usagef("%v", err)
	}
	if len(entries) > 0 && !hasWorkspaceFile(dir) {
		return usagef("%s is not empty and no workspace: choose another folder", dir)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if strings.ContainsAny(abs, "\n%\"'\\") {
		return usagef("%q: a timer could not be given this name of a folder", abs)
	}
	v := initJSON{Workspace: abs, Written: []string{}}
	schemas, err := a.schemas()
	if err != nil {
		return err
	}
	for _, f := range slices.Concat(starter, schemas) {
		wrote, err := write(filepath.Join(abs, f.path), strings.HasSuffix(f.path, "/"), f.mode, f.text)
		if err != nil {
			return err
		}
		if wrote {
			v.Written = append(v.Written, f.path)
		}
	}
	v.timer()
	return a.answer(v, func(w io.Writer) { describeInit(w, &v) })
}

// write makes a folder or a file that is not there, and reports whether it did.
func write(path string, folder bool, mode os.FileMode, text string) (bool, error) {
	if exists(path) {
		return false, nil
	}
	if folder {
		err := os.MkdirAll(filepath.Dir(path), 0o755) //nolint:gosec // holds nothing secret
		if err == nil {
			err = os.Mkdir(path, mode)
		}
		return true, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return false, err
	}
	_, err = io.WriteString(f, text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return true, err
}

// timer fills in the lines that run the sweep every minute.
func (v *initJSON) timer() {
	program, err := os.Executable()
	if err != nil {
		program = "/usr/local/bin/runner"
	}
	v.Crontab = fmt.Sprintf("* * * * * '%s' --workspace '%s' sweep", program, v.Workspace)
	v.Service = fmt.Sprintf("[Unit]\nDescription=runner removes what is due\n\n[Service]\nType=oneshot\nExecStart=\"%s\" --workspace \"%s\" sweep\nSuccessExitStatus=%d\n",
		program, v.Workspace, exitLeft)
	v.Timer = fmt.Sprintf("[Unit]\nDescription=runner removes what is due, every %s\n\n[Timer]\nOnBootSec=%s\nOnUnitInactiveSec=%s\nAccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n",
		span(sweepEvery), span(sweepEvery), span(sweepEvery))
}

func describeInit(w io.Writer, v *initJSON) {
	if len(v.Written) == 0 {
		_, _ = fmt.Fprintf(w, "%s is a workspace already, nothing is missing\n", v.Workspace)
	} else {
		_, _ = fmt.Fprintf(w, "%s is a workspace now\n", v.Workspace)
		for _, f := range v.Written {
			_, _ = fmt.Fprintln(w, "  "+f)
		}
	}
	_, _ = fmt.Fprintf(w, "\nRun runner serve, or the sweep every minute, so that what expires is removed.\n")
	_, _ = fmt.Fprintf(w, "In a crontab:\n\n%s\nOr as /etc/systemd/system/runner-sweep.service\n\n%s\nand /etc/systemd/system/runner-sweep.timer\n\n%s\nthen: systemctl enable --now runner-sweep.timer\n",
		indent(v.Crontab), indent(v.Service), indent(v.Timer))
}
