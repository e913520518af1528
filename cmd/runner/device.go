package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"runner/engine"
	"runner/engine/executor"
	"runner/engine/inventory"
	"runner/engine/module"
	"runner/engine/transport"
	"runner/engine/transport/ssh"
)

// deviceJSON is a machine on which accounts live.
type deviceJSON struct {
	Name        string   `json:"name"`
	Address     string   `json:"address"`
	Port        int      `json:"port,omitempty"`
	Platform    string   `json:"platform"`
	Inventory   string   `json:"inventory,omitempty"`
	Tags        []string `json:"tags"`
	HostKeys    int      `json:"host_keys"`
	FirstUID    int64    `json:"first_uid"`
	LastUID     int64    `json:"last_uid"`
	Credentials []string `json:"credentials"`
	File        string   `json:"file"`
}

// checkJSON is how far runner came with one credential of a device.
type checkJSON struct {
	Device     string         `json:"device"`
	Credential string         `json:"credential"`
	Address    string         `json:"address"`
	User       string         `json:"user"`
	OK         bool           `json:"ok"`
	Stages     []stageJSON    `json:"stages"`
	Facts      map[string]any `json:"facts,omitempty"`
}

// stageJSON is one step on the way to a device.
type stageJSON struct {
	Stage  string  `json:"stage"`
	Status string  `json:"status"` // ok, failed, skipped
	MS     float64 `json:"ms"`
	Detail string  `json:"detail,omitempty"`
	Code   string  `json:"code,omitempty"` // of a failure
	Hint   string  `json:"hint,omitempty"`
}

// told is the detail with the code that a search finds.
func (s stageJSON) told() string {
	if s.Code == "" {
		return s.Detail
	}
	return s.Detail + " [" + s.Code + "]"
}

func (a *app) deviceCommand() *cobra.Command {
	return a.noun("device", "look at devices, try whether they can be reached, find what was left on them",
		"runner device list\nrunner device check web-1\nrunner device scan 'web-*'",
		a.deviceList(), a.deviceCheck(), a.deviceScan(), a.deviceAdopt(), a.deviceQuarantine(), a.deviceIgnore(), a.deviceRebuild(), a.deviceRetire())
}

func (a *app) deviceList() *cobra.Command {
	return leaf{
		use: "list", short: "list the devices",
		example: "runner device list\nrunner device list -o json",
		exits:   []int{exitFile},
		run: func(context.Context, []string) error {
			set, err := a.inventory()
			if err != nil {
				return err
			}
			views := []deviceJSON{}
			t := table{head: []string{"DEVICE", "ADDRESS", "PLATFORM", "INVENTORY", "CREDENTIALS", "TAGS"}}
			for _, name := range slices.Sorted(maps.Keys(set.Devices)) {
				d := set.Devices[name]
				names, err := credentialsOf(set, name)
				if err != nil {
					return err
				}
				v := deviceJSON{
					Name: d.Name, Address: d.Address, Port: d.Port, Platform: d.Platform, Inventory: d.Inventory, Tags: append([]string{}, d.Tags...),
					HostKeys: len(d.HostKeys), FirstUID: d.UIDs.First, LastUID: d.UIDs.Last, Credentials: append([]string{}, names...), File: d.Pos.File,
				}
				views = append(views, v)
				t.add(false, v.Name, v.Address, v.Platform, v.Inventory, strings.Join(names, ", "), strings.Join(v.Tags, ", "))
			}
			return a.answer(views, func(w io.Writer) { a.table(w, t) })
		},
	}.command()
}

func (a *app) deviceCheck() *cobra.Command {
	var credential string
	c := leaf{
		use: "check DEVICE", short: "connect to a device as its credentials say, and tell how far that came",
		example: "runner device check web-1\nrunner device check web-1 --credential web-admin -o json",
		long: `The stages are secret, connect, host key, authentication, sudo and facts, with the
time each took. The host key is checked during authentication, which has the time of
both. Nothing is changed on the device; each credential logs in once.

Of a Windows device they are secret, name, tcp, kdc, tgt, ticket, authentication,
identify, shell, pipeline, language and rights. With -o json the result can be put into
a support case: it holds no secret.`,
		args: needs("DEVICE"), exits: []int{exitFile, exitUnreached},
		run: func(ctx context.Context, args []string) error {
			set, err := a.inventory()
			if err != nil {
				return err
			}
			names, err := credentialsOf(set, args[0])
			if err != nil {
				return err
			}
			if credential != "" {
				if !slices.Contains(names, credential) {
					return unknownName("credential of "+args[0], credential, names)
				}
				names = []string{credential}
			}
			if len(names) == 0 {
				return usagef("no credential names device %s, so nothing says how to log in there", args[0])
			}
			return a.checkDevice(ctx, set, names)
		},
	}.command()
	c.Flags().StringVar(&credential, "credential", "", "only with this credential")
	return c
}

func (a *app) checkDevice(ctx context.Context, set *inventory.Set, names []string) error {
	views := []checkJSON{}
	bad := 0
	for _, name := range names {
		conn, err := set.Resolve(name)
		if err != nil {
			return usagef("%v", err)
		}
		a.doing("checking " + conn.Device + " with credential " + name)
		v, err := a.checkOne(ctx, name, conn)
		if err != nil {
			return err
		}
		if !v.OK {
			bad++
		}
		views = append(views, *v)
	}
	if err := a.answer(views, func(w io.Writer) { a.describeChecks(w, views) }); err != nil {
		return err
	}
	if bad > 0 {
		return exitWith(exitUnreached)
	}
	return nil
}

// stages are the steps on the way to a device, in order.
var stages = []string{"secret", "connect", "host key", "authentication", "sudo", "facts"}

// stageOf says at which stage an error happened.
func stageOf(err error) string {
	te, is := errors.AsType[*transport.Error](err)
	if !is {
		return "facts"
	}
	if te.Code == "auth.secret" {
		return "secret"
	}
	switch te.Phase {
	case transport.PhaseResolve, transport.PhaseDial:
		return "connect"
	case transport.PhaseHostKey:
		return "host key"
	case transport.PhaseAuth:
		return "authentication"
	case transport.PhaseBecome:
		return "sudo"
	case transport.PhaseShell:
		return "shell"
	case transport.PhaseExec:
	}
	return "facts"
}

// probe measures one way to a device.
type probe struct {
	app        *app
	view       *checkJSON
	began      time.Time
	dial, open time.Time // of the first TCP connection
}

// checkOne goes all the way to a device with one credential.
func (a *app) checkOne(ctx context.Context, name string, cn *inventory.Connection) (*checkJSON, error) {
	w, err := a.workspace()
	if err != nil {
		return nil, err
	}
	if cn.WinRM != nil {
		return a.checkWindows(ctx, w, name, cn)
	}
	p := &probe{app: a, began: a.now(), view: &checkJSON{
		Device: cn.Device, Credential: name, User: cn.User,
		Address: net.JoinHostPort(cn.Address, strconv.Itoa(cn.Port)), Stages: []stageJSON{},
	}}
	for _, s := range stages {
		p.view.Stages = append(p.view.Stages, stageJSON{Stage: s, Status: "skipped"})
	}
	own := &ssh.Dialer{DialContext: p.tcp} // no connection is at hand
	defer own.Close()                      //nolint:errcheck // nothing was written that could be lost
	dialer := &engine.SSHDialer{SSH: own, KnownHosts: filepath.Join(w.state(), "known_hosts"), AgentSocket: a.env("SSH_AUTH_SOCK")}
	conn, err := dialer.Dial(ctx, cn)
	if err != nil {
		p.failed(err)
		return p.view, nil
	}
	defer conn.Close()
	now := a.now()
	p.passed("secret", p.dial.Sub(p.began), sourceText(cn.Secret))
	p.passed("connect", p.open.Sub(p.dial), "")
	p.passed("host key", 0, conn.Peer().Identity)
	p.passed("authentication", now.Sub(p.open), "as "+cn.User+" on "+conn.Peer().Software)
	if err := p.commands(ctx, conn, cn); err != nil {
		p.failed(err)
		return p.view, nil
	}
	p.view.OK = true
	return p.view, nil
}

// tcp notes when the first connection was asked for and made.
func (p *probe) tcp(ctx context.Context, network, address string) (net.Conn, error) {
	first := p.dial.IsZero()
	if first {
		p.dial = p.app.now()
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if first {
		p.open = p.app.now()
	}
	return c, err
}

// commands asks for the facts of the device, as root where the inventory says
// how: the first time shows what starting commands takes.
func (p *probe) commands(ctx context.Context, conn transport.Conn, cn *inventory.Connection) error {
	reg, err := p.app.reg()
	if err != nil {
		return err
	}
	become := ""
	if cn.Become.Method == "sudo" && cn.User != "root" {
		become = "root"
	}
	for _, stage := range []string{"sudo", "facts"} {
		if stage == "sudo" && become == "" {
			continue
		}
		start := p.app.now()
		run := executor.Run{
			Conn: conn, Modules: reg, Become: become, Timeout: cn.Step, ID: "device-check",
			After: []executor.Call{{Name: "facts", Module: reg.Lookup("facts"), Args: module.Args{}}},
		}
		res, err := executor.Do(ctx, run)
		if err != nil {
			return err
		}
		detail := "to root"
		if stage == "facts" {
			p.view.Facts = res.Calls["facts"]
			detail = factsText(p.view.Facts)
		}
		p.passed(stage, p.app.now().Sub(start), detail)
	}
	return nil
}

// factsText says in one line what a device is.
func factsText(facts map[string]any) string {
	var s []string
	for _, k := range slices.Sorted(maps.Keys(facts)) {
		if slices.ContainsFunc(module.Common, func(f module.Field) bool { return f.Name == k }) {
			delete(facts, k) // about the call, not about the device
			continue
		}
		if text, is := facts[k].(string); is && text != "" && len(text) < 40 {
			s = append(s, k+"="+text)
		}
	}
	return strings.Join(s, " ")
}

func (p *probe) stage(name string) *stageJSON {
	return &p.view.Stages[slices.Index(stages, name)]
}

func (p *probe) passed(name string, took time.Duration, detail string) {
	s := p.stage(name)
	s.Status, s.Detail, s.MS = "ok", oneLine(detail), float64(took.Microseconds())/1000
}

// failed marks the stage of an error; the ones before it were passed.
func (p *probe) failed(err error) {
	at := stageOf(err)
	for _, name := range stages[:slices.Index(stages, at)] {
		if p.stage(name).Status == "skipped" && name != "sudo" {
			p.passed(name, 0, "")
		}
	}
	s := p.stage(at)
	s.Status, s.Detail = "failed", oneLine(err.Error())
	if te, is := errors.AsType[*transport.Error](err); is {
		s.Code, s.Hint = te.Code, oneLine(te.Hint)
	}
}

func (a *app) describeChecks(w io.Writer, views []checkJSON) {
	for i, v := range views {
		if i > 0 {
			_, _ = fmt.Fprintln(w)
		}
		_, _ = fmt.Fprintf(w, "%s with credential %s (%s@%s)\n", v.Device, v.Credential, v.User, v.Address)
		t := table{head: []string{"STAGE", "STATUS", "MS", ""}}
		for _, s := range v.Stages {
			ms := ""
			if s.MS > 0 {
				ms = fmt.Sprintf("%.1f", s.MS)
			}
			t.rows = append(t.rows, row{cells: clean(s.Stage, s.Status, ms, s.told()), alarm: false})
		}
		a.table(w, t)
		for _, s := range v.Stages {
			if s.Hint != "" {
				a.hint("%s", s.Hint)
			}
		}
	}
}
