package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"runner/engine/secret/seal"
	"runner/engine/store"
)

// backupJSON is what backup made.
type backupJSON struct {
	File    string    `json:"file"`
	Made    time.Time `json:"made"`
	Size    int64     `json:"size"`
	SHA256  string    `json:"sha256"`
	Key     string    `json:"key"`
	WithKey bool      `json:"with_key"`
}

// proofOfKey is what a backup seals, so that a restoration knows the key again.
const proofOfKey = "key of this backup"

func (a *app) backupCommand() *cobra.Command {
	withKey := false
	c := leaf{
		use: "backup FILE", short: "save the state of the workspace into a new file, while it is used",
		example: `runner backup /backup/runner-monday.tar
runner backup --with-key /safe/runner.tar`,
		long: `The databases are saved as they are at one moment; runner serve and others go on
meanwhile. FILE has mode 0600 and gets its name when it is whole and was read back. It is
never overwritten.

state/key, with which secrets in the database are sealed, is not in FILE unless --with-key
says so: with both in one place, whoever has the file has the secrets. Keep the key apart:
install -m 600 state/key /safe/runner-key. Neither are inventories and templates, which
belong into a repository.

A store on PostgreSQL is saved by pg_dump.`,
		args:  needs("FILE"),
		exits: []int{exitDenied, exitFile, exitInterrupted},
		run:   func(ctx context.Context, args []string) error { return a.backup(ctx, args[0], withKey) },
	}.command()
	c.Flags().BoolVar(&withKey, "with-key", false, "put the key into the file, too: it opens the secrets in it")
	return c
}

// named is the database as its own tools take it. The URL has no password.
func (w *workspace) named() string {
	if w.database == nil {
		return ""
	}
	return "'" + strings.ReplaceAll(w.database.url, "'", "%27") + "'"
}

// onServer refuses what a database server has its own tools for.
func (w *workspace) onServer(lines ...string) error {
	if w.database == nil {
		return nil
	}
	return &codeError{code: exitUsage, err: errors.New("the store of this workspace is a PostgreSQL, which is saved and restored with its own tools"), hints: lines}
}

func (a *app) backup(ctx context.Context, name string, withKey bool) (err error) {
	if err := a.operatorOnly("save the state"); err != nil {
		return err
	}
	w, err := a.workspace()
	if err != nil {
		return err
	}
	if err := w.onServer("pg_dump --format=custom --schema=runner --schema=runner_logs --file="+name+" "+w.named()+" saves it", "install -m 600 "+filepath.Join(w.state(), "key")+" /safe/runner-key keeps the key, which is not in it"); err != nil {
		return err
	}
	if exists(name) {
		return usagef("%s: there is such a file already, and it is not overwritten", name)
	}
	dir := filepath.Dir(name)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return usagef("%s is no folder", dir)
	}
	s, err := a.store()
	if err != nil {
		return err
	}
	// What is not finished lies beside FILE in a folder that is easy to know.
	a.sweepScratch(dir, scratchBackup, true)
	scratch, err := store.NewScratch(dir, scratchBackup)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Remove()) }()
	temp := scratch.Dir
	m := manifest{Made: a.now().UTC(), Version: buildVersion().Version}
	if err := s.Backup(ctx, temp); err != nil {
		return err
	}
	if m.Proof, err = keepFiles(w.state(), temp, withKey); err != nil {
		return explainFull(err, dir)
	}
	packed := filepath.Join(temp, "backup")
	if err := writeWhole(packed, func(f io.Writer) error { return pack(f, temp, m) }); err != nil {
		return explainFull(err, dir)
	}
	if err := readBack(ctx, packed); err != nil {
		return err
	}
	if err := named(packed, name); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	v := backupJSON{File: name, Made: m.Made, Key: filepath.Join(w.state(), "key"), WithKey: withKey}
	if v.Size, v.SHA256, err = sumOf(name); err != nil {
		return err
	}
	return a.answer(v, func(out io.Writer) {
		_, _ = fmt.Fprintf(out, "%s  %s, sha256 %s\n", oneLine(v.File), bytesText(v.Size), v.SHA256)
		if withKey {
			a.hint("the file holds the key, too: whoever has it has the secrets in it")
		} else if len(m.Proof) > 0 {
			a.hint("the key is not in it; keep it apart: install -m 600 %s /safe/runner-key", v.Key)
		}
	})
}

// Beginnings of the names of folders that a backup and a restoration work in.
const (
	scratchBackup  = ".runner-backup-"
	scratchRestore = ".state-restored-"
)

// sweepScratch removes what killed ones left in a folder, and says so; all says to tell of
// what may be needed, too.
func (a *app) sweepScratch(dir, prefix string, all bool) {
	what := "backup"
	if prefix == scratchRestore {
		what = "restoration"
	}
	removed, left, err := store.SweepScratch(dir, prefix)
	for _, path := range removed {
		a.say("removed %s, which a %s that was killed left behind", path, what)
	}
	if !all {
		left = nil
	}
	for _, path := range left {
		a.warn("%s is left of a %s and may hold what you need: look at it, and move it away", path, what)
	}
	if err != nil {
		a.warn("what killed ones left cannot be removed: %v", err)
	}
}

// bytesText writes a size.
func bytesText(n int64) string {
	if n < 10<<20 {
		return fmt.Sprintf("%d KiB", (n+1023)>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// keepFiles copies what is no database into a backup, and returns the proof of the
// key where there is one.
func keepFiles(state, temp string, withKey bool) (proof []byte, err error) {
	names := []string{"known_hosts"}
	if path := filepath.Join(state, "key"); exists(path) {
		k, err := seal.Open(path)
		if err != nil {
			return nil, err
		}
		if proof, err = k.Seal([]byte(proofOfKey), proofOfKey); err != nil {
			return nil, err
		}
		if withKey {
			names = append(names, "key")
		}
	}
	for _, name := range names {
		if from := filepath.Join(state, name); exists(from) {
			if err := writeWhole(filepath.Join(temp, name), func(f io.Writer) error { return send(f, from) }); err != nil {
				return nil, err
			}
		}
	}
	return proof, nil
}

// writeWhole makes a new file of mode 0600 that is on disk when it returns.
func writeWhole(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Sync(), f.Close())
}

// readBack opens what was packed as a restoration would.
func readBack(ctx context.Context, packed string) error {
	f, err := os.Open(packed)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = unpack(ctx, f, "")
	return err
}

// syncDir makes the names in a folder last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// named gives a file its final name, which nothing has yet.
func named(from, to string) error {
	err := os.Link(from, to)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EOPNOTSUPP) { // disks without links
		if exists(to) {
			err = fs.ErrExist
		} else {
			err = os.Rename(from, to)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return usagef("%s: there is such a file already, and it is not overwritten", to)
	}
	return err
}

// explainFull says what to do when there is no room.
func explainFull(err error, dir string) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w: nothing was saved; make room on the disk of %s, for the databases twice", err, dir)
	}
	return err
}
