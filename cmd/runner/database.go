package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"runner/engine/lang"
	"runner/engine/secret/seal"
	"runner/engine/secret/source"
	"runner/engine/store"
	"runner/engine/store/bell"
)

// database is where runner.yaml says that the store is: a PostgreSQL that machines
// share. nil: in the state folder of this one.
type database struct {
	url    string
	secret source.Spec // of the password; nothing: the server asks for none, or libpq's file has it
}

// readDatabase reads the key database of runner.yaml.
func readDatabase(d *lang.Decoder, n *lang.Node, dir string) *database {
	f := d.Map(n, "database")
	db := &database{url: f.NeedString("url", "postgres://runner@db.example/runner")}
	if s := f.Take("secret_from"); s != nil {
		db.secret = readDatabaseSecret(d, s, dir)
	}
	f.End()
	if db.url != "" {
		if err := (store.Postgres{URL: db.url}).Check(); err != nil {
			d.Join(lang.Problems{unseen(n.Get("url"), err)})
		}
	}
	return db
}

// unseen is a problem of a value that may hold a secret: its line is not shown whole.
func unseen(n *lang.Node, err error) lang.Problem {
	p := n.Problem("wrong-value", "%s", err)
	if r := []rune(p.Source); p.Pos.Col >= 1 && p.Pos.Col-1 <= len(r) {
		p.Source, p.Width = string(r[:p.Pos.Col-1])+"***", 3
	}
	return p
}

func readDatabaseSecret(d *lang.Decoder, n *lang.Node, dir string) (spec source.Spec) {
	f := d.Map(n, "secret_from")
	spec.File = f.String("file", "")
	spec.Command = f.Strings("command")
	f.End()
	if (spec.File == "") == (len(spec.Command) == 0) {
		d.Add(n, "missing-key", "secret_from says where the password is: write {file: /etc/runner/database-password}, or {command: [/usr/bin/get, password]}")
	}
	if spec.File != "" && !filepath.IsAbs(spec.File) {
		spec.File = filepath.Join(dir, spec.File)
	}
	return spec
}

// openStore opens the store of the workspace.
func (a *app) openStore(ctx context.Context) (*store.Store, error) {
	w, err := a.workspace()
	if err != nil {
		return nil, err
	}
	if w.database == nil {
		return store.Open(ctx, w.state())
	}
	if a.env("PGPASSWORD") != "" {
		return nil, usagef("PGPASSWORD is set, where other programs can read it: put the password into a file of mode 0600, and into runner.yaml database: {secret_from: {file: FILE}}")
	}
	bells, err := bell.New()
	if err != nil {
		return nil, err
	}
	p := store.Postgres{URL: w.database.url, Bell: bells}
	if w.database.secret.File != "" || len(w.database.secret.Command) > 0 {
		if p.Password, err = source.Read(ctx, w.database.secret); err != nil {
			return nil, fmt.Errorf("the password of the database: %w", err)
		}
	}
	if err := os.MkdirAll(w.state(), 0o700); err != nil { // of the key, and of known hosts
		return nil, err
	}
	s, err := store.OpenPostgres(ctx, p)
	if err != nil {
		return nil, err
	}
	clock := s.Now
	a.clock.Store(&clock) // one clock for all machines
	return s, nil
}

// proofRow is what a box is sealed for by which machines see that they have one key.
const proofRow = "key of this store"

// sameKey makes sure that this machine seals as the others do. The first one of a
// store makes the key, the others are given it by a person.
func (s *sealer) sameKey(ctx context.Context, db *store.Store) error {
	proof, err := db.Proof(ctx)
	if err != nil {
		return err
	}
	if proof == nil {
		box, err := s.Seal([]byte(proofRow), proofRow)
		if err != nil {
			return err
		}
		if proof, err = db.KeepProof(ctx, box); err != nil {
			return err
		}
	} else if !exists(s.path) {
		return fmt.Errorf("this machine has no %s, and secrets in the database are sealed with the key of the machine that used it first: copy that file here, with mode 0600", s.path)
	}
	if _, err := s.Unseal(proof, proofRow); errors.Is(err, seal.ErrUnknownKey) {
		return fmt.Errorf("%s is not the key that secrets in the database are sealed with: copy that file here from a machine that uses it already", s.path)
	} else if err != nil {
		return err
	}
	return nil
}
