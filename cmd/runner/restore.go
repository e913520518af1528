package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"runner/engine/grant"
	"runner/engine/secret/seal"
	"runner/engine/store"
)

// restoreJSON is what restore did.
type restoreJSON struct {
	File    string    `json:"file"` // empty: others restored it
	Made    time.Time `json:"made"`
	State   string    `json:"state"`
	Aside   string    `json:"aside,omitempty"`
	Grants  int       `json:"grants"`
	Open    int       `json:"open"`
	Unknown []string  `json:"unknown"`
	// Withheld is how many grants were being made, or had a secret that nobody had.
	Withheld int    `json:"withheld"`
	KeyFrom  string `json:"key_from"`
}

func (a *app) restoreCommand() *cobra.Command {
	key, done := "", false
	c := leaf{
		use: "restore FILE", short: "put the state of the workspace back to a backup",
		example: `runner restore /backup/runner-monday.tar
runner restore /backup/runner-monday.tar --key /safe/runner-key
runner restore --done     # after the disk or the database server was put back by its own means`,
		long: `Nothing else may use the workspace meanwhile: stop runner serve first. FILE is read
and checked as a whole before anything is changed, and the state there was is kept beside
the new one.

The key is taken from --key, from FILE when it was made --with-key, or from the state
that is replaced; one that does not open what FILE holds is refused.

What was requested after the backup is unknown to the restored state, and so are its
accounts: runner device scan finds them on the devices, and runner device rebuild takes them over.
What may have happened to grants since does not happen twice: secrets that nobody had
collected are not handed out any more, and what was being made is removed.

A PostgreSQL notices by itself that it was loaded from a dump. What was put back in
another way, from a snapshot of a disk or by replaying a log, nobody can tell: --done says so.`,
		args: func(c *cobra.Command, args []string) error {
			if done {
				return noArgs(c, args)
			}
			return needs("FILE")(c, args)
		},
		exits: []int{exitFile, exitDenied, exitInterrupted},
		run: func(ctx context.Context, args []string) error {
			if done {
				return a.wasRestored(ctx)
			}
			return a.restore(ctx, args[0], key)
		},
	}.command()
	c.Flags().BoolVar(&done, "done", false, "only say that the store was put back by other means")
	c.Flags().StringVar(&key, "key", "", "file with the key of the state")
	return c
}

// wasRestored does what follows from a restoration that others made.
func (a *app) wasRestored(ctx context.Context) error {
	if err := a.operatorOnly("put the state back"); err != nil {
		return err
	}
	w, err := a.workspace()
	if err != nil {
		return err
	}
	s, err := a.store()
	if err != nil {
		return err
	}
	v := restoreJSON{Made: a.now().UTC(), State: w.state(), Unknown: []string{}}
	if v.Withheld, err = s.Restored(ctx, v.Made, "a person said that the store was put back"); err != nil {
		return err
	}
	return a.answer(v, func(out io.Writer) {
		_, _ = fmt.Fprintf(out, "noted: %s withheld or removed\n", plural(v.Withheld, "grant"))
		a.restoredHints(v.Withheld)
	})
}

// restoredHints say what is left to do after a restoration.
func (a *app) restoredHints(withheld int) {
	if withheld > 0 {
		a.hint("%s had a secret that nobody had collected, or were being made: who needs one ends it and requests a new one", plural(withheld, "grant"))
	}
	a.hint("accounts of what was requested after the backup are unknown now: runner device scan '*' finds them, runner device rebuild takes them over")
	a.hint("what was due since is removed by runner sweep, or runner serve")
}

// restoration is a restore under way.
type restoration struct {
	app  *app
	w    *workspace
	temp *store.Scratch // the new state
	m    manifest
	v    restoreJSON
}

func (a *app) restore(ctx context.Context, name, key string) (err error) {
	if err := a.operatorOnly("put the state back"); err != nil {
		return err
	}
	w, err := a.workspace()
	if err != nil {
		return err
	}
	if err := w.onServer("pg_restore --clean --if-exists --single-transaction --dbname="+w.named()+" "+name+" puts it back, with every runner stopped",
		"then put the key that belongs to it to "+filepath.Join(w.state(), "key")+", and run runner device scan '*': what was requested since is unknown"); err != nil {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return usagef("%v", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := &restoration{app: a, w: w, v: restoreJSON{File: name, State: w.state(), Unknown: []string{}}}
	a.sweepScratch(w.abs, scratchRestore, true)
	if r.temp, err = store.NewScratch(w.abs, scratchRestore); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.temp.Remove()) }()
	if r.m, err = unpack(ctx, f, r.temp.Dir); err != nil {
		return err
	}
	r.v.Made = r.m.Made
	for _, db := range []string{"runner.db", "logs.db"} {
		if !exists(filepath.Join(r.temp.Dir, db)) {
			return errArchive("the backup is not whole: it has no %s", db)
		}
		if _, err := store.CheckCopy(ctx, r.temp.Dir, db); errors.Is(err, grant.ErrNewerSchema) {
			return err
		} else if err != nil {
			return errArchive("the backup is damaged: %v", err)
		}
	}
	if err := r.key(key); err != nil {
		return err
	}
	if err := r.swap(ctx); err != nil {
		return err
	}
	return a.answer(r.v, func(out io.Writer) { r.describe(out) })
}

// key puts the key into the new state, and sees that it is the right one.
func (r *restoration) key(named string) error {
	to := filepath.Join(r.temp.Dir, "key")
	from := filepath.Join(r.w.state(), "key")
	switch {
	case named != "":
		from = named
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	case exists(to):
		from = r.v.File
	case len(r.m.Proof) == 0 && !exists(from):
		return nil // nothing was ever sealed
	case !exists(from):
		return &codeError{
			code: exitUsage, err: errors.New("the key is neither in the backup nor in the state folder, and without it secrets in the database cannot be opened"),
			hints: []string{"give the key that was kept apart: --key FILE"},
		}
	}
	if !exists(to) {
		if err := writeWhole(to, func(f io.Writer) error { return send(f, from) }); err != nil {
			return usagef("%v", err)
		}
	}
	r.v.KeyFrom = from
	k, err := seal.Open(to)
	if err != nil {
		return &codeError{code: exitFile, err: fmt.Errorf("%s holds no key: %w", from, err)}
	}
	if len(r.m.Proof) == 0 {
		return nil
	}
	if _, err := k.Unseal(r.m.Proof, proofOfKey); err != nil {
		return &codeError{
			code: exitFile, err: fmt.Errorf("%s is not the key that secrets in the backup are sealed with", from),
			hints: []string{"give the key that was kept apart when the backup was made: --key FILE"},
		}
	}
	return nil
}

// swap brings the new state up to date and puts it where the old one is.
func (r *restoration) swap(ctx context.Context) error {
	state := r.w.state()
	if exists(state) {
		release, err := store.Quiet(ctx, state)
		if errors.Is(err, grant.ErrBusy) {
			return &codeError{
				code: exitUsage, err: fmt.Errorf("%s is in use: nothing was changed", state),
				hints: []string{"stop runner serve and every other runner of this workspace, then try again"},
			}
		}
		if err != nil {
			return err
		}
		defer release()
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if !exists(state) {
		return errors.Join(r.temp.Finish(), os.Rename(r.temp.Dir, state), syncDir(r.w.abs))
	}
	if exists(filepath.Join(state, "runner.db")) {
		r.v.Unknown = r.lost(ctx, state)
	}
	// There is always a state, whenever this is cut off: without one the next command
	// would begin with an empty store.
	aside := filepath.Join(r.w.abs, "state-before-"+r.app.now().UTC().Format("20060102T150405Z"))
	if exists(aside) {
		return usagef("%s is there already: wait a second, or move it away", aside)
	}
	folders, err := r.carry(state)
	if err != nil {
		return err
	}
	if err := r.temp.Finish(); err != nil {
		return err
	}
	if err := store.Exchange(r.temp.Dir, state); err != nil {
		return err
	}
	old := r.temp.Dir
	r.temp.Dir = "" // it is the old state now, and stays
	if err := os.Rename(old, aside); err != nil {
		return fmt.Errorf("the state is restored, and the old one is in %s: %w", old, err)
	}
	r.v.Aside = aside
	for _, name := range folders {
		if err := os.Rename(filepath.Join(aside, name), filepath.Join(state, name)); err != nil {
			return fmt.Errorf("the state is restored, but for the folder %s: %w", name, err)
		}
	}
	return syncDir(r.w.abs)
}

// ofStore is what a state folder holds of the store and its processes.
var ofStore = []string{"runner.db", "logs.db", "nodes", "open.lock", "key"}

// carry copies what else the old state has into the new one, such as the host keys
// that were learnt, and returns the folders that are to be moved over.
func (r *restoration) carry(state string) (folders []string, err error) {
	entries, err := os.ReadDir(state)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		from, to := filepath.Join(state, e.Name()), filepath.Join(r.temp.Dir, e.Name())
		base, _, _ := strings.Cut(e.Name(), "-") // runner.db-wal
		switch {
		case slices.Contains(ofStore, base), exists(to):
		case e.IsDir():
			folders = append(folders, e.Name())
		case e.Type().IsRegular():
			if err := writeWhole(to, func(f io.Writer) error { return send(f, from) }); err != nil {
				return nil, err
			}
		}
	}
	return folders, nil
}

// prepare brings the new state up to date and notes that it was restored.
func (r *restoration) prepare(ctx context.Context) error {
	s, err := store.Open(ctx, r.temp.Dir)
	if err != nil {
		return err
	}
	cases, err := s.Cases(ctx, grant.Filter{Limit: math.MaxInt32})
	if err == nil {
		r.v.Withheld, err = s.Restored(ctx, r.app.now(), "the state was put back to a backup")
	}
	r.v.Grants = len(cases)
	for i := range cases {
		if !cases[i].Grant.State.Final() {
			r.v.Open++
		}
	}
	return errors.Join(err, s.Close())
}

// lost returns the grants of the old state that are not in the backup and not over.
// A state that cannot be read any more says nothing.
func (r *restoration) lost(ctx context.Context, state string) []string {
	out := []string{}
	old, err := store.OpenAside(state)
	if err != nil {
		r.app.warn("what was requested after the backup cannot be told: %v", err)
		return out
	}
	cases, err := old.Cases(ctx, grant.Filter{Limit: math.MaxInt32})
	for i := range cases {
		g := &cases[i].Grant
		if at, _ := grant.IDTime(g.ID); at.After(r.m.Made) && !g.State.Final() {
			out = append(out, fmt.Sprintf("%s %s on %s", g.ID, g.Account, g.Device))
		}
	}
	if err := errors.Join(err, old.Close()); err != nil {
		r.app.warn("what was requested after the backup cannot be told: %v", err)
	}
	return out
}

func (r *restoration) describe(out io.Writer) {
	a, v := r.app, &r.v
	_, _ = fmt.Fprintf(out, "%s is as it was at %s: %s, %d of them open\n", v.State, v.Made.Format(time.RFC3339), plural(v.Grants, "grant"), v.Open)
	if v.Aside != "" {
		_, _ = fmt.Fprintf(out, "the state there was is in %s\n", v.Aside)
	}
	if len(v.Unknown) > 0 {
		_, _ = fmt.Fprintf(out, "%s of the state there was, open and unknown now:\n  %s\n", plural(len(v.Unknown), "grant"), strings.Join(v.Unknown, "\n  "))
	}
	a.restoredHints(v.Withheld)
}
