package store

import (
	"context"
	"database/sql"
	"strings"

	"runner/engine/grant"
)

const (
	ownHold   = `SELECT before, after FROM holds WHERE device = $1 AND object = $2 AND grant_id = $3`
	openHold  = `SELECT before, after FROM holds WHERE device = $1 AND object = $2 AND grant_id IN (SELECT id FROM grants WHERE device = $1 AND ` + open + `) ORDER BY grant_id LIMIT 1`
	otherHold = `SELECT 1 FROM holds WHERE device = $1 AND object = $2 AND grant_id <> $3 AND grant_id IN (SELECT id FROM grants WHERE device = $1 AND ` + open + `) LIMIT 1`
	takeHold  = `INSERT INTO holds (device, object, grant_id, before, after) VALUES ($1, $2, $3, $4, $5)`
	newBefore = `UPDATE holds SET before = $3, after = '' WHERE device = $1 AND object = $2`
	newAfter  = `UPDATE holds SET after = $3 WHERE device = $1 AND object = $2`
	anyHold   = `SELECT 1 FROM holds WHERE grant_id = $1 LIMIT 1`
	holdsOf   = `SELECT device, object, before, after FROM holds WHERE grant_id = $1 ORDER BY object`
	// Who is being created or active needs the object; who is ending does not.
	holders = `SELECT h.grant_id FROM holds h, grants g WHERE h.device = $1 AND h.object = $2 AND h.grant_id <> $3
	AND g.id = h.grant_id AND g.state IN ('creating', 'active') ORDER BY h.grant_id`
)

// hold counts the grant among those that want the object of c, as PutChanges
// says. device is that of the grant.
func hold(ctx context.Context, tx *sql.Tx, device, grantID string, c *grant.Change) error {
	var h grant.Hold
	err := tx.QueryRowContext(ctx, ownHold, device, c.Object, grantID).Scan(&h.Before, &h.After)
	switch {
	case err == nil:
		return holdDone(ctx, tx, device, grantID, h, c)
	case !isNone(err) || c.State != "intended":
		return noneIsFine(err)
	}
	err = tx.QueryRowContext(ctx, openHold, device, c.Object).Scan(&h.Before, &h.After)
	first := isNone(err)
	if err != nil && !first {
		return err
	}
	next := joinHold(h, first, c.Before)
	if !first && next.Before != h.Before {
		if _, err := tx.ExecContext(ctx, newBefore, device, c.Object, next.Before); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, takeHold, device, c.Object, grantID, next.Before, next.After)
	return err
}

// holdDone notes what the grant, which holds the object of c, made of it.
func holdDone(ctx context.Context, tx *sql.Tx, device, grantID string, h grant.Hold, c *grant.Change) error {
	after, known := heldAfter(c)
	if !known {
		return nil
	}
	alone := false
	if h.After == "" {
		var one int
		err := tx.QueryRowContext(ctx, otherHold, device, c.Object, grantID).Scan(&one)
		if alone = isNone(err); !alone && err != nil {
			return err
		}
	}
	if next := joinHold(h, alone, c.Before); next.Before != h.Before {
		if _, err := tx.ExecContext(ctx, newBefore, device, c.Object, next.Before); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, newAfter, device, c.Object, after)
	return err
}

func noneIsFine(err error) error {
	if isNone(err) {
		return nil
	}
	return err
}

// heldAfter returns what a change that is complete came to.
func heldAfter(c *grant.Change) (string, bool) {
	switch c.State {
	case "done":
		return c.After, true
	case "unchanged":
		return c.After, c.After != ""
	}
	return "", false
}

// joinHold is the hold of one more grant that found the object as found: what
// was there before the first stays what counts, unless the object is no longer
// what the holders made of it. Then somebody else decided about it, and what
// they made of it counts. That nothing is there no holder can have made.
func joinHold(h grant.Hold, first bool, found string) grant.Hold {
	gone := strings.HasPrefix(found, "absent") && !strings.HasPrefix(h.Before, "absent")
	if first || gone || h.After != "" && found != h.After && found != h.Before {
		return grant.Hold{Before: found}
	}
	return h
}

// Holds returns the objects that a grant holds, by their names.
func (s *Store) Holds(ctx context.Context, grantID string) ([]grant.Hold, error) {
	var list []grant.Hold
	none := false
	err := s.main.readOne(ctx, func(db *sql.DB) error {
		_, err := scanInt(db.QueryRowContext(ctx, anyHold, grantID))
		if none = isNone(err); none {
			return nil
		}
		return err
	})
	if none || err != nil {
		return nil, s.main.explain("holds of "+grantID, err)
	}
	err = s.main.readTx(ctx, func(tx *sql.Tx) error {
		var device string
		rows, err := tx.QueryContext(ctx, holdsOf, grantID)
		list, err = all(rows, err, func(r scanner) (h grant.Hold, err error) {
			return h, r.Scan(&device, &h.Object, &h.Before, &h.After)
		})
		for i := range list {
			if err != nil {
				return err
			}
			var others *sql.Rows
			others, err = tx.QueryContext(ctx, holders, device, list[i].Object, grantID)
			list[i].Others, err = all(others, err, func(r scanner) (id string, err error) { return id, r.Scan(&id) })
		}
		return err
	})
	return list, s.main.explain("holds of "+grantID, err)
}
