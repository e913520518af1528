package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// Names inside the database. Everything of ours is in two schemas, so that it may
// be shared with others.
const (
	schemaMain = "runner"
	schemaLogs = "runner_logs"
)

// Keys of the advisory locks: who opens, and who writes. They mean nothing to others.
const (
	lockOpen  = 0x72756e6e6572_01
	lockWrite = 0x72756e6e6572_02
	lockLogs  = 0x72756e6e6572_03
)

// openWithin is how long a server that does not answer is waited for when the store
// is opened: a person waits.
const openWithin = time.Second

// away is how long a server that does not answer is waited for, when nothing was
// begun yet: a restart takes a few seconds.
const away = 10 * time.Second

// OpenPostgres opens the store that p names and brings its schema up to date; any
// number of machines may do so at once. It refuses a database that a newer runner
// wrote (grant.ErrNewerSchema) and connections on which others could read along.
// The caller closes the store.
//
// What holds on SQLite by its only writer holds here by a lock that every writing
// transaction takes first: nobody writes between what it reads and what it writes.
// It is given back with the transaction, and taken from a process that stands still
// in the middle of one.
func OpenPostgres(ctx context.Context, p Postgres) (*Store, error) {
	cfg, err := p.parse()
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	survey(ctx, cfg)
	s := p.pools(cfg)
	behind, err := s.main.pooled(ctx)
	if behind {
		err = s.Close()
		settle(cfg)
		if err == nil {
			err = s.main.explain("open", keepsSessions(ctx, cfg))
		}
		s = p.pools(cfg)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	err = errors.Join(s.main.upToDate(ctx, schemaMain, "migrations/runner"), s.logs.upToDate(ctx, schemaLogs, "migrations/logs"))
	if err == nil {
		err = s.main.hang(ctx, cfg)
	}
	if err == nil {
		err = s.main.explain("open", s.leases.ask(ctx))
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// pools returns the store that cfg leads to. Nothing is connected yet.
func (p Postgres) pools(cfg *pgx.ConnConfig) *Store {
	s := &Store{cfg: cfg, main: openFiles(cfg, schemaMain, lockWrite), logs: openFiles(cfg, schemaLogs, lockLogs)}
	s.main.bell = p.Bell
	s.leases = &leases{db: openPool(cfg, schemaMain, 1), ttl: p.lease()}
	s.main.home = &home{now: s.leases.now}
	return s
}

// openFiles returns one of the two parts of the store. Nothing is connected yet.
func openFiles(cfg *pgx.ConnConfig, schema string, lock int64) file {
	return file{
		path: place(cfg), shared: true, lock: lock, group: &group{},
		write: openPool(cfg, schema, 1), // more would only wait for each other
		read:  openPool(cfg, schema, readers),
	}
}

// openPool returns up to n connections whose names are looked up in one schema.
func openPool(cfg *pgx.ConnConfig, schema string, n int) *sql.DB {
	c := cfg.Copy()
	c.RuntimeParams["search_path"] = schema
	if schema == schemaLogs {
		c.RuntimeParams["synchronous_commit"] = "off" // as on SQLite: the end of a log may be lost with the machine
	}
	if cfg.AfterConnect != nil { // behind a pooler
		settle(c)
	}
	db := stdlib.OpenDB(*c)
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	db.SetConnMaxIdleTime(time.Minute)
	return db
}

// upToDate runs the migrations that are missing, while no other machine does.
func (f file) upToDate(ctx context.Context, schema, dir string) error {
	err := retry(ctx, openWithin, func() error { return f.migrateShared(ctx, schema, dir) })
	return f.explain("open", err)
}

func (f file) migrateShared(ctx context.Context, schema, dir string) error {
	sub, err := fs.Sub(migrations, dir)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, f.read, shared{sub}, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	sources := p.ListSources()
	knows := sources[len(sources)-1].Version
	if has, err := f.version(ctx); err != nil || has == knows {
		return err
	}
	return f.locked(ctx, lockOpen, func(c *sql.Conn) error {
		if _, err := c.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS `+schema); err != nil {
			return err
		}
		has, err := f.version(ctx)
		if err != nil {
			return err
		}
		if has > knows {
			return newerSchema(has, knows)
		}
		_, err = p.Up(ctx)
		return err
	})
}

// version returns the version of the schema; 0: there is none yet.
func (f file) version(ctx context.Context) (int64, error) {
	var table sql.NullString
	if err := f.read.QueryRowContext(ctx, `SELECT CAST(to_regclass('goose_db_version') AS TEXT)`).Scan(&table); err != nil || !table.Valid {
		return 0, err
	}
	return scanInt(f.read.QueryRowContext(ctx, `SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version`))
}

// locked calls fn while this is the only machine that holds the lock. The end of
// the connection gives it back.
func (f file) locked(ctx context.Context, key int64, fn func(*sql.Conn) error) error {
	c, err := f.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := c.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, key); err != nil {
		return err
	}
	err = fn(c)
	_, uerr := c.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, key)
	return errors.Join(err, uerr)
}

// shared is a folder of migrations in the words of PostgreSQL: text that is ordered
// by its bytes, as SQLite does, and its name for bytes.
type shared struct{ fs.FS }

var inPostgres = strings.NewReplacer(" TEXT", ` TEXT COLLATE "C"`, " BLOB", " BYTEA")

// Open returns a file of the folder.
func (s shared) Open(name string) (fs.File, error) {
	f, err := s.FS.Open(name)
	if err != nil || path.Ext(name) != ".sql" {
		return f, err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return reworded{f, strings.NewReader(inPostgres.Replace(string(text)))}, nil
}

// reworded is a file with another text.
type reworded struct {
	fs.File
	text io.Reader
}

// Read reads the other text.
func (r reworded) Read(b []byte) (int, error) { return r.text.Read(b) }

// place names a database for people.
func place(cfg *pgx.ConnConfig) string {
	name := func(host string, port uint16) string {
		if strings.HasPrefix(host, "/") {
			return host
		}
		return fmt.Sprintf("%s:%d", host, port)
	}
	hosts := []string{name(cfg.Host, cfg.Port)}
	for _, f := range cfg.Fallbacks {
		if other := name(f.Host, f.Port); !slices.Contains(hosts, other) {
			hosts = append(hosts, other)
		}
	}
	return "database " + cfg.Database + " on " + strings.Join(hosts, ", ")
}
