package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/lab"
	"runner/engine/secret"
	"runner/engine/secret/seal"
	"runner/engine/store"
	"runner/engine/template"
)

// stage is a throw-away machine with a throw-away store: where cases are
// tried, one after the other. A stage on which one went wrong is not used again.
type stage struct {
	cfg     *Config
	machine *lab.Machine
	kept    string // folder of a machine that may stay; "": it ends with this process
	dir     string // key and inventory
	store   *store.Memory
	set     *inventory.Set
	key     *seal.Key
	log     *slog.Logger
	masks   []*secret.Mask // of the grants that were asked for
	started time.Time
	base    *look // the machine before anything
	workers int
	asked   int
	last    point // the last step of a removal
	spoilt  bool  // the machine is not what it was before, though nothing is wrong
}

// newStage starts a machine and takes its first look at it.
func newStage(ctx context.Context, cfg *Config) (s *stage, err error) {
	s = &stage{cfg: cfg, store: store.NewMemory(), log: slog.New(slog.DiscardHandler)}
	defer func() {
		if err != nil {
			s.end()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "runner-verify-"); err != nil {
		return s, err
	}
	if err := s.start(ctx); err != nil {
		return s, err
	}
	s.started = time.Now()
	if s.key, err = seal.Open(filepath.Join(s.dir, "key")); err != nil {
		return s, err
	}
	inv := filepath.Join(s.dir, "inventories")
	if err := os.Mkdir(inv, 0o700); err != nil {
		return s, err
	}
	if err := os.WriteFile(filepath.Join(inv, "machine.yaml"), []byte(s.yaml()), 0o600); err != nil {
		return s, err
	}
	set, ps := inventory.Load(inv)
	if err := ps.Err(); err != nil {
		return s, err
	}
	s.set = set
	s.base, err = s.look(ctx)
	return s, err
}

// start starts the machine: one that outlives this process only when it may be kept.
func (s *stage) start(ctx context.Context) (err error) {
	if s.cfg.Keep == "" {
		s.machine, err = lab.Start(ctx, lab.Config{Name: "verify"})
		return err
	}
	if err := os.MkdirAll(s.cfg.Keep, 0o700); err != nil {
		return err
	}
	for n := 1; ; n++ {
		dir := filepath.Join(s.cfg.Keep, "verify-"+number(n))
		if err := os.Mkdir(dir, 0o700); errors.Is(err, os.ErrExist) {
			continue
		} else if err != nil {
			return err
		}
		s.kept = dir
		s.machine, err = lab.Up(ctx, lab.Config{Name: filepath.Base(dir)}, dir)
		return err
	}
}

// end ends the machine and removes its files.
func (s *stage) end() {
	if s.machine != nil {
		_ = s.machine.Stop() // nothing can be done about one that does not end
	}
	if s.kept != "" {
		_ = os.RemoveAll(s.kept)
	}
	s.tidy()
}

// tidy removes what this process needs besides the machine.
func (s *stage) tidy() {
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

// Names in the throw-away inventory, and an account that each machine has.
const (
	labAccount = "jitadm"
	credential = "verify"
	operator   = "verify"
)

// yaml describes the machine. Templates that do not become anybody run as the
// account that logs in, so that has to be root then.
func (s *stage) yaml() string {
	user := labAccount
	if s.cfg.Create.Become == "" && s.cfg.Delete.Become == "" {
		user = "root"
	}
	return fmt.Sprintf(`schema: runner/v1
kind: inventory
name: verify
transport: ssh
methods: [publickey]
become: {method: sudo}
host_keys: {policy: strict}
---
schema: runner/v1
kind: device
name: machine
address: %s
port: %d
platform: linux
inventory: verify
host_keys: ["%s"]
---
schema: runner/v1
kind: credential
name: %s
device: machine
authentication:
  user: %s
  secret_from: {file: %s, kind: private_key}
jit: {create: %s, delete: %s}
params: %s
`, s.machine.Host, s.machine.Port, s.machine.HostKey, credential, user, s.machine.KeyFile(), s.cfg.Create.Name, s.cfg.Delete.Name, s.removalParams())
}

// removalParams are the params that only the deletion takes, as YAML.
func (s *stage) removalParams() string {
	own := map[string]any{}
	for name, v := range s.cfg.Params {
		if !takes(s.cfg.Create, name) && takes(s.cfg.Delete, name) {
			own[name] = v
		}
	}
	text, err := json.Marshal(own)
	if err != nil {
		return "{}" // nothing that cannot be marshalled comes from a command line
	}
	return string(text)
}

// Get returns one of the two templates.
func (s *stage) Get(kind template.Kind, name string) (*template.Template, error) {
	for _, t := range []*template.Template{s.cfg.Create, s.cfg.Delete} {
		if t.Kind == kind && t.Name == name {
			return t, nil
		}
	}
	return nil, fmt.Errorf("there is no %s template %q here", kind, name)
}

// request asks for a grant, each time for somebody else.
func (s *stage) request(ctx context.Context, w *worker) (grant.Case, error) {
	s.asked++
	a := engine.Ask{Credential: credential, Requester: "verify-" + number(s.asked), Caller: operator, Operator: true, Params: map[string]any{}}
	for name, v := range s.cfg.Params {
		if takes(s.cfg.Create, name) || !takes(s.cfg.Delete, name) {
			a.Params[name] = v
		}
	}
	if takes(s.cfg.Create, "public_key") && a.Params["public_key"] == nil {
		// Key and password: as many steps as can be are tried.
		a.GenerateKey = true
		if takes(s.cfg.Create, "with_password") && a.Params["with_password"] == nil {
			a.Params["with_password"] = true
		}
	}
	c, err := w.Request(ctx, a)
	if err != nil {
		return c, &finding{reason: "the grant was not accepted: " + err.Error(), usage: true}
	}
	m, err := w.Mask(c)
	s.masks = append(s.masks, m)
	return c, err
}

// hide takes the secrets of all grants out of what was found.
func (s *stage) hide(f *finding) {
	for _, m := range s.masks {
		f.reason = m.String(f.reason)
		for i := range f.left {
			f.left[i].What = m.String(f.left[i].What)
		}
	}
}

func takes(t *template.Template, name string) bool {
	return slices.ContainsFunc(t.Params, func(p template.Param) bool { return p.Name == name })
}

// create makes an account that has to work in the end.
func (s *stage) create(ctx context.Context, w *worker) (grant.Case, error) {
	c, err := s.request(ctx, w)
	if err != nil {
		return c, err
	}
	if c, err = w.RunJob(ctx, c.Forward().ID); err != nil {
		return c, err
	}
	if c.Grant.State != grant.Active {
		return c, &finding{reason: "the account was not created: " + c.Grant.Failure}
	}
	return c, nil
}

// removals is how often a removal is tried here. In earnest it would be for ever.
const removals = 4

// takeAway ends a grant and runs its removal until nothing of the grant is
// left, as a worker that was not there before.
func (s *stage) takeAway(ctx context.Context, id string) (grant.Case, error) {
	w := s.worker(nil)
	defer w.close()
	if _, err := w.Reap(ctx); err != nil {
		return grant.Case{}, err
	}
	c, err := s.store.Case(ctx, id)
	if err != nil {
		return c, err
	}
	if c.Grant.State == grant.Active {
		if c, err = w.End(ctx, id, operator, "end"); err != nil {
			return c, err
		}
	}
	for range removals {
		if c.Grant.State.Final() {
			return c, nil
		}
		// RunNow does not wait for the pause between two attempts, nor for the
		// longest step of a dead worker.
		if c, err = w.RunNow(ctx, *c.Removal(), operator); err != nil {
			return c, err
		}
	}
	if c.Grant.State.Final() {
		return c, nil
	}
	return c, s.blocked(&c)
}

// blocked says why a removal does not come to an end.
func (s *stage) blocked(c *grant.Case) *finding {
	r := c.Removal()
	f := &finding{reason: "the removal does not come to an end: " + r.LastError}
	if r.BlockedBy != "" && !strings.Contains(r.LastError, r.BlockedBy) {
		f.reason += " (" + r.BlockedBy + ")"
	}
	return f
}

// patience is how long a machine may take to be as it has to be: sessions and
// processes take a moment to end.
const patience = 3 * time.Second

// look waits until logins are over and tells what there is on the machine.
func (s *stage) look(ctx context.Context) (*look, error) {
	return s.when(ctx, func(l *look) bool { return !l.loggedIn() })
}

// when waits for processes until quiet holds, within patience, and then reads
// the files.
func (s *stage) when(ctx context.Context, quiet func(*look) bool) (*look, error) {
	root, end := s.machine.RootDir(), time.Now().Add(patience)
	for {
		l := newLook()
		if err := l.processes(root); err != nil {
			return nil, err
		}
		if quiet(l) || time.Now().After(end) {
			return l, l.read(root, s.base)
		}
		if err := wait(ctx, 5*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// same returns nil when the machine is as it was, and otherwise in what it is not.
func (s *stage) same(ctx context.Context, was *look, reason string) error {
	_ = os.Remove(s.machine.RootDir() + goOn) // ours, if it is there
	end := time.Now().Add(patience)
	for {
		now, err := s.when(ctx, func(l *look) bool { return maps.Equal(l.procs, was.procs) })
		if err != nil {
			return err
		}
		left := diff(was, now)
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return &finding{reason: reason, left: left}
		}
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// cleaned runs the removal of a grant and compares the machine with what it was.
func (s *stage) cleaned(ctx context.Context, id string, was *look) error {
	c, err := s.takeAway(ctx, id)
	if f, is := errors.AsType[*finding](err); is {
		if also, is := errors.AsType[*finding](s.same(ctx, was, "")); is {
			f.left = also.left
		}
		return f
	}
	if err != nil {
		return err
	}
	if c.Grant.State == grant.Removed && !c.Grant.Receipt.Empty() {
		return &finding{reason: "the grant counts as removed though its receipt is not empty"}
	}
	reason := "the receipt is empty, but the machine is not what it was"
	if c.Grant.State != grant.Removed {
		reason = "nothing was created, but the machine is not what it was"
	}
	return s.same(ctx, was, reason)
}

// system names the machine's system: its id and version.
func (s *stage) system() string {
	b, err := os.ReadFile(s.machine.RootDir() + "/usr/lib/os-release")
	if err != nil {
		return "linux"
	}
	var id, version string
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch name {
		case "ID":
			id = value
		case "VERSION_ID":
			version = value
		}
	}
	return strings.TrimSpace(id + " " + version)
}

// programs tells what was added or changed among the packages of the machine
// since it started; not what was deleted there. It is looked at once: there are
// too many files. What the host installs meanwhile shows, too.
func (s *stage) programs(ctx context.Context) []Left {
	argv := []string{"find", "/usr", "/var/lib/dpkg", "/var/lib/apt", "/var/cache"}
	for _, l := range local {
		argv = append(argv, "-path", l, "-prune", "-o")
	}
	argv = append(argv, "!", "-type", "d", "-newerct", fmt.Sprintf("@%d.%09d", s.started.Unix(), s.started.Nanosecond()), "-print")
	out, err := s.machine.Exec(ctx, argv...)
	if err != nil {
		return nil // ctx is over: nobody asks any more
	}
	var left []Left
	for line := range strings.Lines(out) {
		left = append(left, Left{Added, "file", strings.TrimSuffix(line, "\n"), "added or changed"})
	}
	return left
}

// finding is something that went wrong with the templates.
type finding struct {
	reason string
	left   []Left
	usage  bool // it is what was asked for that cannot be
}

// Error returns the reason.
func (f *finding) Error() string { return f.reason }

func number(n int) string { return strconv.Itoa(n) }

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
