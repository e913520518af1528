package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"

	"runner/engine/grant"
)

//go:embed migrations
var migrations embed.FS

// readers is how many connections of a file read at once.
const readers = 4

// Result codes of SQLite (sqlite.org/rescode.html) that mean something here.
const (
	codeBusy     = 5
	codeIO       = 10 // also when there is no room for the file of shared memory
	codeFull     = 13
	codeProtocol = 15 // lost the race for a lock of the WAL too often: busy

	codeForeignKey = 787  // extended
	codeUnique     = 2067 // extended: a unique index, not a primary key
)

// openFile opens one database and brings its schema up to date. The caller
// holds the open lock: changing to WAL mode and migrating need the file alone.
func openFile(ctx context.Context, path, synchronous, dir string) (file, error) {
	f := file{path: path, group: &group{}}
	if err := createFile(path); err != nil {
		return f, fmt.Errorf("store: create %s: %w", path, err)
	}
	var err error
	if f.is, err = os.Stat(path); err != nil {
		return f, fmt.Errorf("store: open %s: %w", path, err)
	}
	q := url.Values{"_pragma": {
		"busy_timeout(20)", // short, because SQLite waits without looking at the context; retry does the rest
		"journal_mode(WAL)",
		"synchronous(" + synchronous + ")",
		"foreign_keys(1)",
		"journal_size_limit(67108864)",
	}, "_txlock": {"immediate"}, "_dqs": {"0"}, "_defensive": {"1"}}
	f.write = sql.OpenDB(prepares{dsn(path, q)})
	f.write.SetMaxOpenConns(1)
	q.Set("_query_only", "1")
	q.Del("_txlock")
	f.read = sql.OpenDB(prepares{dsn(path, q)})
	f.read.SetMaxOpenConns(readers)
	f.read.SetMaxIdleConns(readers)
	if err := retry(ctx, 0, func() error { return f.migrate(ctx, dir) }); err != nil {
		return f, errors.Join(f.explain("open", err), f.close())
	}
	return f, nil
}

func dsn(path string, q url.Values) string {
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	return u.String()
}

// migrate runs the migrations that are missing.
func (f file) migrate(ctx context.Context, dir string) error {
	sub, err := fs.Sub(migrations, dir)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, f.write, sub)
	if err != nil {
		return err
	}
	has, knows, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if has > knows {
		return newerSchema(has, knows)
	}
	if has < knows {
		_, err = p.Up(ctx)
	}
	return err
}

// code returns SQLite's primary result code, or 0 for other errors and nil.
func code(err error) int { return extended(err) & 0xff }

// extended returns SQLite's extended result code, or 0.
func extended(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()
	}
	return 0
}

// newerSchema refuses a database that a newer runner wrote.
func newerSchema(has, knows int64) error {
	return fmt.Errorf("%w: it has schema %d and this runner knows up to %d: use that runner, or restore a backup from before the upgrade",
		grant.ErrNewerSchema, has, knows)
}

// explain wraps err with what was done, and says it when the disk is full.
func (f file) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	if f.shared {
		return fmt.Errorf("store: %s: %w", what, f.explainState(err))
	}
	if code(err) == codeFull || code(err) == codeIO && noRoom(filepath.Dir(f.path)) {
		return fmt.Errorf("store: %s: %w: nothing was written; make room on the disk of %s", what, grant.ErrDiskFull, filepath.Dir(f.path))
	}
	return fmt.Errorf("store: %s: %w", what, err)
}
