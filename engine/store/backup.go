package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"

	"runner/engine/grant"
)

// ErrShared says that the store is a database server, which has its own backups.
var ErrShared = errors.New("the store is a PostgreSQL")

// copied is how many pages are copied between two looks at the context.
const copied = 1000

// quietWithin is how long Quiet waits for others that are about to leave.
const quietWithin = time.Second

// Databases are the files of a store in a state folder, with their migrations.
var databases = map[string]string{"runner.db": "migrations/runner", "logs.db": "migrations/logs"} //nolint:gochecknoglobals // a table

// Backup writes copies of the databases into the folder dir, both as they are at one
// moment, while others go on writing. The copies are whole: they were opened and
// checked. Errors: ErrShared, grant.ErrDiskFull.
func (s *Store) Backup(ctx context.Context, dir string) error {
	if s.main.shared {
		return ErrShared
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("store: backup: %w", err)
	}
	main, err := s.main.read.Conn(ctx)
	if err != nil {
		return s.main.explain("backup", err)
	}
	defer func() { _ = main.Close() }()
	logs, err := s.logs.read.Conn(ctx)
	if err != nil {
		return s.logs.explain("backup", err)
	}
	defer func() { _ = logs.Close() }()
	// Nobody writes while both views begin, and everybody may while they are copied.
	err = s.main.writeTx(ctx, func(*txn) error {
		return s.logs.writeTx(ctx, func(*txn) error {
			return errors.Join(begin(ctx, main), begin(ctx, logs))
		})
	})
	if err != nil {
		return s.main.explain("backup", err)
	}
	for name, conn := range map[string]*sql.Conn{"runner.db": main, "logs.db": logs} {
		path := filepath.Join(dir, name)
		err := copyTo(ctx, conn, path)
		if _, end := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK"); err == nil {
			err = end
		}
		if err == nil {
			_, err = CheckCopy(ctx, dir, name)
		}
		if err != nil {
			return file{path: path}.explain("backup", err)
		}
	}
	return nil
}

// begin starts a view of a database that lasts until ROLLBACK.
func begin(ctx context.Context, c *sql.Conn) error {
	if _, err := c.ExecContext(ctx, "BEGIN DEFERRED"); err != nil {
		return err
	}
	var n int
	return c.QueryRowContext(ctx, "SELECT COUNT(*) FROM sqlite_schema").Scan(&n)
}

// copyTo copies the view of a connection into a new file.
func copyTo(ctx context.Context, c *sql.Conn, path string) error {
	if err := createFile(path); err != nil {
		return err
	}
	return c.Raw(func(dc any) error {
		from, is := dc.(interface {
			NewBackup(uri string) (*sqlite.Backup, error)
		})
		if !is {
			return errors.New("this SQLite makes no copies")
		}
		b, err := from.NewBackup(dsn(path, nil))
		if err != nil {
			return err
		}
		for more := true; more && err == nil; {
			if err = ctx.Err(); err == nil {
				more, err = b.Step(copied)
			}
		}
		return errors.Join(err, b.Finish())
	})
}

// CheckCopy opens the copy of a database in dir, makes one file of it, and reads all
// of it. It returns the version of its schema. Errors: grant.ErrNewerSchema.
func CheckCopy(ctx context.Context, dir, name string) (version int64, err error) {
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		return 0, fmt.Errorf("store: check %s: %w", dir, err)
	}
	db, err := sql.Open("sqlite", dsn(path, url.Values{"_pragma": {"busy_timeout(2000)"}, "_dqs": {"0"}, "_defensive": {"1"}}))
	if err != nil {
		return 0, fmt.Errorf("store: check %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "PRAGMA journal_mode=DELETE"); err != nil {
		return 0, fmt.Errorf("store: %s is no whole database: %w", path, err)
	}
	rows, err := db.QueryContext(ctx, "PRAGMA integrity_check")
	found, err := all(rows, err, scanText)
	if err != nil {
		return 0, fmt.Errorf("store: %s is no whole database: %w", path, err)
	}
	if len(found) != 1 || found[0] != "ok" {
		return 0, fmt.Errorf("store: %s is no whole database: %s", path, found[0])
	}
	rows, err = db.QueryContext(ctx, `SELECT "table" FROM pragma_foreign_key_check`)
	if found, err = all(rows, err, scanText); err != nil || len(found) > 0 {
		return 0, fmt.Errorf("store: %s is no whole database: rows of %v belong to nothing (%w)", path, found, err)
	}
	if err := db.QueryRowContext(ctx, "SELECT MAX(version_id) FROM goose_db_version").Scan(&version); err != nil {
		return 0, fmt.Errorf("store: %s is no database of runner: %w", path, err)
	}
	knows, err := latest(databases[name])
	if err == nil && version > knows {
		err = newerSchema(version, knows)
	}
	return version, err
}

// latest returns the version that the migrations of a folder lead to.
func latest(dir string) (version int64, err error) {
	files, err := migrations.ReadDir(dir)
	for _, f := range files {
		number, _, _ := strings.Cut(f.Name(), "_")
		v, perr := strconv.ParseInt(number, 10, 64)
		version, err = max(version, v), errors.Join(err, perr)
	}
	return version, err
}

// Quiet makes sure that nobody uses the state folder dir, and that nobody begins to
// until release. Errors: grant.ErrBusy.
func Quiet(ctx context.Context, dir string) (release func(), err error) {
	wait, stop := context.WithTimeout(ctx, quietWithin)
	defer stop()
	unlock, err := lockFile(wait, filepath.Join(dir, "open.lock"))
	if err != nil {
		return nil, fmt.Errorf("store: %s is being opened: %w", dir, grant.ErrBusy)
	}
	for name := range databases {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := alone(wait, path); err != nil {
			unlock()
			if c := code(err); c == codeBusy || wait.Err() != nil {
				return nil, fmt.Errorf("store: %s is in use: %w", dir, grant.ErrBusy)
			}
			// A damaged database is what people restore over.
		}
	}
	return unlock, nil
}

// alone fails with codeBusy when another connection has the database open: in WAL
// mode each of them keeps a shared lock (sqlite.org/wal.html).
func alone(ctx context.Context, path string) (err error) {
	db, err := sql.Open("sqlite", dsn(path, url.Values{"_pragma": {"busy_timeout(200)", "locking_mode(EXCLUSIVE)"}, "_txlock": {"exclusive"}}))
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	return tx.Rollback()
}

// OpenAside opens the store of a state folder only to look into it, as it is: Quiet
// keeps others out meanwhile. One of another schema may fail at every question.
func OpenAside(dir string) (*Store, error) {
	s := &Store{dir: dir}
	for name, f := range map[string]*file{"runner.db": &s.main, "logs.db": &s.logs} {
		f.path = filepath.Join(dir, name)
		var err error
		if f.is, err = os.Stat(f.path); err == nil {
			f.read, err = sql.Open("sqlite", dsn(f.path, url.Values{"_query_only": {"1"}, "mode": {"rw"}}))
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("store: open %s: %w", f.path, err), closeAll(s.main.read, s.logs.read))
		}
		f.write = f.read
	}
	return s, nil
}

func closeAll(dbs ...*sql.DB) error {
	var err error
	for _, db := range dbs {
		if db != nil {
			err = errors.Join(err, db.Close())
		}
	}
	return err
}

// Exchange gives two folders each other's name at once, so that there is always one
// of each name.
func Exchange(a, b string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("store: exchange %s and %s: %w", a, b, err)
	}
	return nil
}
