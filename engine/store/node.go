package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"runner/engine/grant"
)

// leaveWithin is how long Leave waits for other writers.
const leaveWithin = 5 * time.Second

const (
	insertNode = `INSERT INTO nodes (id, name, joined_at) VALUES ($1, $2, $3)`
	deleteNode = `DELETE FROM nodes WHERE id = $1`
	// A running job names its node even when the row of the node is lost.
	knownNodes = `SELECT id FROM nodes UNION SELECT node FROM jobs WHERE state = 'running' ORDER BY 1`
	isKnown    = `SELECT COUNT(*) FROM (SELECT id FROM nodes WHERE id = $1 UNION SELECT node FROM jobs WHERE state = 'running' AND node = $1) AS known`
	nodeRuns   = `SELECT COUNT(*) FROM jobs WHERE state = 'running' AND node = $1`
)

// Node is a process that runs jobs. On SQLite it is alive exactly as long as it
// holds the lock of its file under nodes/, which the kernel takes away from a
// process that ends in any way; on PostgreSQL as long as it renews its lease.
type Node struct {
	store *Store
	id    string
	lock  *os.File
	lease *lease
}

// ID returns the node's id, which no other node ever has.
func (n *Node) ID() string { return n.id }

// Join makes this process a node; name (for example its host and pid) is for
// people. The node lasts until Leave or the end of the process.
func (s *Store) Join(ctx context.Context, name string) (*Node, error) {
	if s.leases != nil {
		return s.leases.join(ctx, s, name)
	}
	now := time.Now()
	// The lock comes before the row: whoever sees the row finds it locked.
	n, err := s.newNode(now)
	if err != nil {
		return nil, fmt.Errorf("store: join: %w", err)
	}
	err = s.main.writeTx(ctx, func(tx *txn) error {
		_, err := tx.ExecContext(ctx, insertNode, n.id, name, now.UnixMilli())
		return err
	})
	if err != nil {
		return nil, errors.Join(s.main.explain("join", err), os.Remove(n.lock.Name()), release(n.lock))
	}
	return n, nil
}

func (s *Store) lockPath(id string) string { return filepath.Join(s.dir, "nodes", id+".lock") }

// newNode creates a lock file and takes its lock. Who clears away the files of
// nodes that never got a row may come between; then it starts again with
// another id, so that a path never names two files one after the other.
func (s *Store) newNode(now time.Time) (*Node, error) {
	for {
		n := &Node{store: s, id: newNodeID(now)}
		var err error
		if n.lock, err = os.OpenFile(s.lockPath(n.id), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
			return nil, err
		}
		ok, err := tryLock(n.lock, unix.LOCK_EX)
		if ok && isStill(n.lock) {
			return n, nil
		}
		if err = errors.Join(err, n.lock.Close()); err != nil {
			return nil, err
		}
	}
}

func newNodeID(now time.Time) string {
	var random [10]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	return grant.NewID("n", now, random)
}

// isStill reports whether f is still the file at its path.
func isStill(f *os.File) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(f.Name())
	return err == nil && os.SameFile(a, b)
}

// Leave ends the node. One that still has running jobs stays known, so that
// others find it dead and take them over; Leave then returns grant.ErrBusy. It
// waits a few seconds for other writers at most.
func (n *Node) Leave() error {
	if n.lease != nil {
		return n.lease.leave(n)
	}
	ctx, stop := context.WithTimeout(context.Background(), leaveWithin)
	defer stop()
	err := n.store.removeNode(ctx, n.id)
	if err == nil {
		err = os.Remove(n.lock.Name())
	}
	if err = errors.Join(err, release(n.lock)); err != nil {
		return fmt.Errorf("store: leave: %w", err)
	}
	return nil
}

// removeNode deletes a node's row unless it has running jobs (grant.ErrBusy).
func (s *Store) removeNode(ctx context.Context, id string) error {
	return s.main.writeTx(ctx, func(tx *txn) error {
		switch runs, err := scanInt(tx.QueryRowContext(ctx, nodeRuns, id)); {
		case err != nil:
			return err
		case runs > 0:
			return fmt.Errorf("node %s still has running jobs: %w", id, grant.ErrBusy)
		}
		_, err := tx.ExecContext(ctx, deleteNode, id)
		return err
	})
}

// Dead returns the nodes that are known, by their row or by a running job, and
// whose process or lease has ended, in ascending order. Several processes may find the
// same node dead at once: what they then do has to be right when done twice.
func (s *Store) Dead(ctx context.Context) ([]string, error) {
	if s.leases != nil {
		ids, err := s.leases.dead(ctx)
		return ids, s.main.explain("dead nodes", err)
	}
	ids, err := s.nodeIDs(ctx)
	if err != nil {
		return nil, s.main.explain("dead nodes", err)
	}
	var dead []string
	for _, id := range ids {
		alive, err := s.alive(id)
		if err != nil {
			return nil, s.main.explain("dead nodes", err)
		}
		if alive {
			continue
		}
		known, err := s.stillKnown(ctx, id) // or has it left since?
		if err != nil {
			return nil, s.main.explain("dead nodes", err)
		}
		if known {
			dead = append(dead, id)
		}
	}
	return dead, s.clearStray(ids)
}

func (s *Store) nodeIDs(ctx context.Context) (ids []string, err error) {
	err = s.main.readOne(ctx, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, knownNodes)
		ids, err = all(rows, err, scanText)
		return err
	})
	return ids, err
}

func (s *Store) stillKnown(ctx context.Context, id string) (known bool, err error) {
	err = s.main.readOne(ctx, func(db *sql.DB) error {
		n, err := scanInt(db.QueryRowContext(ctx, isKnown, id))
		known = n > 0
		return err
	})
	return known, err
}

// alive reports whether somebody holds the lock of a node. It asks with a
// shared lock, so that those who ask at the same time do not take each other
// for the node.
func (s *Store) alive(id string) (bool, error) {
	if !validID(id) {
		return false, nil // never joined; and it could name a file elsewhere
	}
	f, err := os.Open(s.lockPath(id))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	free, err := tryLock(f, unix.LOCK_SH)
	return !free, errors.Join(err, release(f))
}

// clearStray removes lock files that nobody holds and no row belongs to: those
// of processes that ended while they joined or were forgotten.
func (s *Store) clearStray(known []string) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "nodes"))
	if err != nil {
		return fmt.Errorf("store: dead nodes: %w", err)
	}
	keep := map[string]bool{}
	for _, id := range known {
		keep[id] = true
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".lock")
		if !ok || keep[id] {
			continue
		}
		if err := s.removeLock(id); err != nil {
			return fmt.Errorf("store: dead nodes: %w", err)
		}
	}
	return nil
}

// removeLock removes the lock file of a node unless the node is alive. It too
// holds a shared lock only, and that until the file is gone: whoever else looks
// must not take this for the node, and the node must not get its lock now.
func (s *Store) removeLock(id string) error {
	f, err := os.Open(s.lockPath(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	free, err := tryLock(f, unix.LOCK_SH)
	if free {
		if err = os.Remove(f.Name()); errors.Is(err, os.ErrNotExist) {
			err = nil // another was faster
		}
	}
	return errors.Join(err, release(f))
}

// Forget removes a dead node once its jobs are taken over. It returns
// grant.ErrBusy while the node lives or still has running jobs; a node that is
// not known is no error.
func (s *Store) Forget(ctx context.Context, id string) error {
	if s.leases != nil {
		return s.main.explain("forget node "+id, s.leases.forget(ctx, id))
	}
	alive, err := s.alive(id)
	if err == nil && alive {
		err = fmt.Errorf("node %s is alive: %w", id, grant.ErrBusy)
	}
	if err == nil {
		err = s.removeNode(ctx, id)
	}
	if err == nil && validID(id) {
		err = s.removeLock(id)
	}
	return s.main.explain("forget node "+id, err)
}
