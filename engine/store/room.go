package store

import (
	"context"
	"database/sql"
	"slices"

	"runner/engine/grant"
)

// nextLog looks at the key of the chunks only, however long the logs are.
const nextLog = `SELECT execution FROM chunks WHERE execution > $1 AND execution < $2 ORDER BY execution LIMIT 1`

// NextLog returns the first id of which output is stored that sorts behind after and in
// front of before; "": there is none.
func (s *Store) NextLog(ctx context.Context, after, before string) (string, error) {
	var id string
	err := s.logs.readTx(ctx, func(tx *sql.Tx) (err error) {
		id, err = scanText(tx.QueryRowContext(ctx, nextLog, after, before))
		if isNone(err) {
			id, err = "", nil
		}
		return err
	})
	return id, s.logs.explain("look for logs", err)
}

// Room tells how much of the disk the store takes.
func (s *Store) Room(ctx context.Context) (r grant.Room, err error) {
	for _, d := range []struct {
		f          file
		size, free *int64
	}{{s.main, &r.Grants, &r.GrantsFree}, {s.logs, &r.Logs, &r.LogsFree}} {
		if err := d.f.room(ctx, d.size, d.free); err != nil {
			return r, d.f.explain("how large it is", err)
		}
	}
	return r, nil
}

func (f file) room(ctx context.Context, size, free *int64) error {
	return f.readTx(ctx, func(tx *sql.Tx) error {
		if f.shared { // what is free there is the affair of the server
			return tx.QueryRowContext(ctx, `SELECT COALESCE(SUM(pg_total_relation_size(c.oid)), 0) FROM pg_class c
				WHERE c.relkind = 'r' AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())`).Scan(size)
		}
		var page, pages, unused int64
		if err := tx.QueryRowContext(ctx, `SELECT page_size, page_count, freelist_count FROM pragma_page_size, pragma_page_count, pragma_freelist_count`).Scan(&page, &pages, &unused); err != nil {
			return err
		}
		*size, *free = page*pages, page*unused
		return nil
	})
}

// NextLog does what [Store.NextLog] does.
func (m *Memory) NextLog(ctx context.Context, after, before string) (string, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	var ids []string
	for id, log := range m.logs {
		if id > after && id < before && len(log) > 0 {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return "", nil
	}
	return slices.Min(ids), nil
}

// Room does what [Store.Room] does: what is in memory takes no disk.
func (m *Memory) Room(ctx context.Context) (grant.Room, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return grant.Room{}, err
	}
	defer leave()
	return grant.Room{}, nil
}
