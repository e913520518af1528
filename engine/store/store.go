// Package store keeps grants, jobs, executions, step results, changes, uids,
// nodes, template snapshots, verifications, audit rows and logs: in SQLite, in two files
// of one directory that any number of processes of one machine may use at once, or in
// a PostgreSQL that any number of machines may. The statements are the same.
//
// It owns what has to be true whoever writes: a grant and its jobs are stored
// in one transaction, one requester holds a credential once, a device has one
// running job, a late write of a worker that lost its job changes nothing, and
// the audit chain has no gap. It does not decide how grants move: callers hand
// it a function that does (package grant). It reads no clock, except to name
// nodes and to keep their leases, logs nothing, and never looks into sealed values.
//
// Times keep milliseconds and come back in UTC. Every method returns errors of
// package grant where callers branch on them (ErrNotFound, ErrLeaseLost,
// ErrBusy, ErrDiskFull, *ConflictError, *AmbiguousError, *ExhaustedError). A
// database that other processes hold is waited for until the context ends, a server
// that does not answer for some seconds. When the connection is lost while a change
// is committed, nobody knows whether it counts: the fence of a job tells its worker.
//
// [Memory] is the same in memory: the reference that the conformance suite
// holds the SQL to, and a fast store for tests of its users.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"runner/engine/grant"
)

// Store is an opened state directory or shared database. It is safe for concurrent
// use.
type Store struct {
	dir    string
	main   file // runner.db
	logs   file // logs.db
	leases *leases
	cfg    *pgx.ConnConfig // of PostgreSQL
}

// file is one database: a connection that writes and some that read.
type file struct {
	path        string
	write, read *sql.DB
	is          fs.FileInfo // the file that was opened; nil when shared
	shared      bool        // with other machines: PostgreSQL
	lock        int64       // there: the key of the lock that keeps other writers out
	bell        Bell        // and what wakes workers; nil: nothing
	group       *group      // of changes that share a transaction
	home        *home       // and what notices that it was put back; nil: nothing
}

// Open opens the store in dir, creates it where there is none (mode 0700) and
// brings its schema up to date; other processes that open it wait meanwhile.
// It refuses, with a sentence that says what to do, a directory that others
// than its owner may enter, one on a network or FUSE file system (locks and
// shared memory do not hold there), and one that a newer runner wrote
// (grant.ErrNewerSchema). The caller closes the store.
func Open(ctx context.Context, dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("store: open: %w", err)
	}
	if err := prepareDir(dir); err != nil {
		return nil, err
	}
	unlock, err := lockFile(ctx, filepath.Join(dir, "open.lock"))
	if err != nil {
		return nil, fmt.Errorf("store: open %s: %w", dir, err)
	}
	defer unlock()
	if err := complete(dir); err != nil {
		return nil, err
	}
	s := &Store{dir: dir}
	if s.main, err = openFile(ctx, filepath.Join(dir, "runner.db"), "FULL", "migrations/runner"); err != nil {
		return nil, err
	}
	if s.logs, err = openFile(ctx, filepath.Join(dir, "logs.db"), "NORMAL", "migrations/logs"); err != nil {
		return nil, errors.Join(err, s.main.close())
	}
	return s, nil
}

// Close closes the files or connections. Nodes that are still joined keep their
// locks until they leave or the process ends; leases are no longer renewed.
func (s *Store) Close() error {
	err := errors.Join(s.main.close(), s.logs.close())
	if s.leases != nil {
		err = errors.Join(err, s.leases.db.Close())
	}
	if err != nil {
		return fmt.Errorf("store: close %s: %w", s.main.path, err)
	}
	return nil
}

func (f file) close() error { return errors.Join(f.write.Close(), f.read.Close()) }

// complete refuses a directory out of which the grants were taken: an empty store
// in their place would know nothing of the accounts that are out there.
func complete(dir string) error {
	main, logs := filepath.Join(dir, "runner.db"), filepath.Join(dir, "logs.db")
	if exists(main) || !exists(logs) {
		return nil
	}
	return fmt.Errorf("store: %w: %s is missing and %s is there: restore a backup; or move %s away, too, and find on the devices what the lost file knew",
		grant.ErrStoreGone, main, filepath.Base(logs), filepath.Base(logs))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// there refuses to go on with a file that has no name any more, or whose name
// belongs to another: what is written to it is lost with the last process that has
// it open.
func (f file) there() error {
	if f.shared {
		return nil
	}
	info, err := os.Stat(f.path)
	if err == nil && os.SameFile(info, f.is) {
		return nil
	}
	return fmt.Errorf("%w: %s is another file now, or none: stop every runner of this workspace first", grant.ErrStoreGone, f.path)
}

// prepareDir creates what is missing and refuses what is not safe.
func prepareDir(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "nodes"), 0o700); err != nil {
		return fmt.Errorf("store: create %s: %w", dir, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("store: open %s: %w", dir, err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("store: %s holds secrets but others may enter it (mode %04o): run chmod 700 %s", dir, mode, dir)
	}
	return localOnly(dir)
}

// createFile makes sure that the file exists and is its owner's only, before
// SQLite would create it with the umask of the process. It never opens a file
// that exists: closing it again would drop the locks that SQLite holds on it
// in this process (fcntl(2), "Advisory record locking").
func createFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		return f.Close()
	case err != nil:
		return err
	case info.Mode().Perm()&0o077 != 0:
		return os.Chmod(path, 0o600)
	}
	return nil
}
