package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/secret/seal"
	"runner/engine/store"
	"runner/engine/template"
	"runner/engine/transport/ssh"
	"runner/engine/transport/winrm"
	"runner/templates"
)

// app is one run of the program. What it opens it opens when it is first asked
// for, and close closes it.
type app struct {
	process
	flags struct {
		workspace, output string
		verbose           bool
	}
	color    style // of stderr
	outColor style // of stdout
	log      *slog.Logger

	mu     sync.Mutex // of what is written to stderr
	bar    string     // the unfinished line on the terminal
	queues map[string]*stepQueue

	ws      *workspace
	reg     func() (*module.Registry, error)
	stored  func() (*store.Store, error)
	clock   atomic.Pointer[func() time.Time] // of a store that machines share
	opened  bool                             // somebody called stored
	node    *store.Node
	ssh     *ssh.Dialer
	windows *engine.WinRMDialer
	dialing sync.Once
	dialers *engine.Dialers
	sealing sync.Once
	key     *sealer
	pinned  engine.Pinned
	many    bool // progress is about more than one grant
}

func newApp(p process) *app {
	a := &app{process: p, reg: sync.OnceValues(module.All), ssh: &ssh.Dialer{}, windows: &engine.WinRMDialer{WinRM: &winrm.Dialer{}}, queues: map[string]*stepQueue{}}
	a.flags.output = outTable
	plain := p.env("NO_COLOR") != "" || p.env("TERM") == "dumb"
	a.color, a.outColor = style(p.errTTY && !plain), style(p.outTTY && !plain)
	a.log = slog.New(&logHandler{app: a, level: slog.LevelWarn})
	a.now = func() time.Time {
		if shared := a.clock.Load(); shared != nil {
			return (*shared)()
		}
		return p.now()
	}
	a.stored = sync.OnceValues(func() (*store.Store, error) { return a.openStore(context.Background()) })
	return a
}

// checkFlags refuses values that no command takes.
func (a *app) checkFlags() error {
	if !slices.Contains([]string{outTable, outJSON, outYAML}, a.flags.output) {
		return usagef("-o is %q: it can be table, json or yaml", a.flags.output)
	}
	if a.flags.verbose {
		a.log = slog.New(&logHandler{app: a, level: slog.LevelDebug})
	}
	return nil
}

// close gives back what was opened.
func (a *app) close() error {
	a.rest()
	err := errors.Join(a.windows.Close(), a.ssh.Close())
	if a.node != nil {
		if lerr := a.node.Leave(); !errors.Is(lerr, grant.ErrBusy) { // its jobs are taken over
			err = errors.Join(err, lerr)
		}
	}
	if a.opened {
		if s, serr := a.stored(); serr == nil {
			err = errors.Join(err, s.Close())
		}
	}
	return err
}

// store opens the state of the workspace.
func (a *app) store() (*store.Store, error) {
	if _, err := a.workspace(); err != nil {
		return nil, err
	}
	a.opened = true
	return a.stored()
}

// inventory loads what the workspace says about devices and credentials.
func (a *app) inventory() (*inventory.Set, error) {
	w, err := a.workspace()
	if err != nil {
		return nil, err
	}
	set, ps := inventory.Load(filepath.Join(w.dir, "inventories"))
	if err := ps.Err(); err != nil {
		return nil, err
	}
	return set, nil
}

// templates loads every template that can be used. The library holds those
// without problems; the problems of the others come with it.
func (a *app) templates() (*template.Library, lang.Problems, error) {
	reg, err := a.reg()
	if err != nil {
		return nil, nil, err
	}
	w, err := a.anyWorkspace()
	if err != nil {
		return nil, nil, err
	}
	dir := ""
	if w != nil {
		dir = w.dir
	}
	lib, ps := template.Open(dir, templates.FS, reg)
	return lib, ps, nil
}

// removing returns an engine for work that is pinned with its grants: it reads
// neither inventories nor templates, so that nothing in them keeps a removal.
func (a *app) removing(ctx context.Context) (*engine.Engine, error) {
	s, err := a.store()
	if err != nil {
		return nil, err
	}
	e, err := a.wire(s)
	if err != nil {
		return nil, err
	}
	if s.Shared() {
		if err := a.key.sameKey(ctx, s); err != nil {
			return nil, err
		}
		e.Until = s.Until
	}
	if a.node == nil {
		if a.node, err = s.Join(ctx, nodeName()); err != nil {
			return nil, err
		}
	}
	e.Node = a.node.ID()
	return e, nil
}

// requesting returns an engine that also knows inventories and templates.
func (a *app) requesting(ctx context.Context) (*engine.Engine, error) {
	set, err := a.inventory()
	if err != nil {
		return nil, err
	}
	lib, _, err := a.templates()
	if err != nil {
		return nil, err
	}
	e, err := a.removing(ctx)
	if err != nil {
		return nil, err
	}
	e.Inventory, e.Templates = set, lib
	return e, nil
}

// planning returns an engine that only looks: it joins no node and runs no job.
func (a *app) planning() (*engine.Engine, error) {
	set, err := a.inventory()
	if err != nil {
		return nil, err
	}
	lib, _, err := a.templates()
	if err != nil {
		return nil, err
	}
	s, err := a.store()
	if err != nil {
		return nil, err
	}
	e, err := a.wire(s)
	if err != nil {
		return nil, err
	}
	e.Inventory, e.Templates = set, lib
	return e, nil
}

// wire puts an engine together around a store.
func (a *app) wire(s engine.Store) (*engine.Engine, error) {
	w, err := a.workspace()
	if err != nil {
		return nil, err
	}
	reg, err := a.reg()
	if err != nil {
		return nil, err
	}
	return &engine.Engine{
		Store: s, Modules: reg, Key: a.sealer(w), Now: a.now, Log: a.log,
		Inventory: &inventory.Set{}, Templates: &template.Library{}, Dialer: a.dialer(w), Progress: a.progress,
		Pinned: &a.pinned,
	}, nil
}

// dialer returns how devices are reached: always the same, also for those who ask
// at the same time.
func (a *app) dialer(w *workspace) *engine.Dialers {
	a.dialing.Do(func() {
		overSSH := &engine.SSHDialer{SSH: a.ssh, KnownHosts: filepath.Join(w.state(), "known_hosts"), AgentSocket: a.env("SSH_AUTH_SOCK")}
		a.windows.SSH = overSSH
		a.dialers = &engine.Dialers{SSH: overSSH, WinRM: a.windows}
	})
	return a.dialers
}

// sealer returns the key of the workspace, always the same.
func (a *app) sealer(w *workspace) *sealer {
	a.sealing.Do(func() { a.key = &sealer{path: filepath.Join(w.state(), "key")} })
	return a.key
}

// nodeName tells people who a worker is.
func nodeName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// sealer opens the key of the state folder when it is first needed.
type sealer struct {
	path string
	once sync.Once
	key  *seal.Key
	err  error
}

func (s *sealer) open() (*seal.Key, error) {
	s.once.Do(func() { s.key, s.err = seal.Open(s.path) })
	return s.key, s.err
}

// Seal makes plain unreadable but for the same row.
func (s *sealer) Seal(plain []byte, row string) ([]byte, error) {
	k, err := s.open()
	if err != nil {
		return nil, err
	}
	return k.Seal(plain, row)
}

// Unseal returns what was sealed for the row.
func (s *sealer) Unseal(box []byte, row string) ([]byte, error) {
	k, err := s.open()
	if err != nil {
		return nil, err
	}
	return k.Unseal(box, row)
}

// person is who runs the command.
type person struct {
	name     string
	operator bool
}

// who returns the caller. Root and the operators of the workspace are operators.
func (a *app) who() (person, error) {
	w, err := a.workspace()
	if err != nil {
		return person{}, err
	}
	name, err := a.caller()
	if err != nil {
		return person{}, err
	}
	return person{name, name == "root" || slices.Contains(w.operators, name)}, nil
}

// mine refuses callers who have nothing to do with a grant.
func (p person) mine(g *grant.Grant, what string) error {
	if p.operator || p.name == g.Requester || p.name == g.Caller {
		return nil
	}
	return &engine.DeniedError{Reason: fmt.Sprintf("grant %s belongs to %s: only they and operators may %s", g.ID, g.Requester, what)}
}

// asOperator refuses callers who are no operators.
func (p person) asOperator(what string) error {
	if p.operator {
		return nil
	}
	return &engine.DeniedError{Reason: fmt.Sprintf("%s is not an operator and may not %s", p.name, what)}
}

// operatorOnly refuses everybody else.
func (a *app) operatorOnly(what string) error {
	p, err := a.who()
	if err != nil {
		return err
	}
	return p.asOperator(what)
}
