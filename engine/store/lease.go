package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"runner/engine/grant"
)

const (
	// The clock of the database, in milliseconds: that of one machine, whoever asks.
	dbNow = `CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)`

	askClock    = `SELECT ` + dbNow
	insertLease = `INSERT INTO nodes (id, name, joined_at, lease_until) VALUES ($1, $2, ` + dbNow + `, ` + dbNow + ` + $3) RETURNING ` + dbNow
	// Who finds a lease that has ended takes its jobs over: it is never renewed.
	renewLease = `UPDATE nodes SET lease_until = ` + dbNow + ` + $2 WHERE id = $1 AND lease_until > ` + dbNow + ` RETURNING ` + dbNow
	endLease   = `UPDATE nodes SET lease_until = 0 WHERE id = $1`
	deadLeases = `SELECT id FROM nodes WHERE lease_until <= ` + dbNow + `
	UNION SELECT node FROM jobs WHERE state = 'running' AND NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.id = jobs.node) ORDER BY 1`
	liveLease = `SELECT COUNT(*) FROM nodes WHERE id = $1 AND lease_until > ` + dbNow
)

// beats is how often a lease is renewed while it lasts.
const beats = 5

// leases is what keeps nodes known to each other that share no file.
type leases struct {
	db  *sql.DB // a connection of its own: nothing keeps a lease from being renewed
	ttl time.Duration

	mu   sync.Mutex
	said time.Time         // what the clock of the database said
	at   time.Time         // when, by the clock of this process
	mine map[string]*lease // of the nodes that this process is, by id
}

// ask looks at the clock of the database.
func (l *leases) ask(ctx context.Context) error {
	return l.hear(ctx, askClock)
}

// hear runs a statement that returns the clock of the database.
func (l *leases) hear(ctx context.Context, stmt string, args ...any) error {
	before := time.Now()
	var said time.Time
	if err := l.db.QueryRowContext(ctx, stmt, args...).Scan(msTime{&said}); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// it was said at some moment between
	l.said, l.at = said, before.Add(time.Since(before)/2)
	return nil
}

// now is the time of the database, as well as this process can tell.
func (l *leases) now() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said.Add(time.Since(l.at))
}

// join makes this process a node.
func (l *leases) join(ctx context.Context, s *Store, name string) (*Node, error) {
	n := &Node{store: s, id: newNodeID(l.now()), lease: &lease{leases: l, lost: make(chan struct{}), done: make(chan struct{})}}
	n.lease.id = n.id
	sent := time.Now()
	err := retry(ctx, away, func() error {
		sent = time.Now()
		return l.hear(ctx, insertLease, n.id, name, l.ttl.Milliseconds())
	})
	if err != nil {
		return nil, s.main.explain("join", err)
	}
	n.lease.renewed(sent)
	l.mu.Lock()
	if l.mine == nil {
		l.mine = map[string]*lease{}
	}
	l.mine[n.id] = n.lease
	l.mu.Unlock()
	alive, stop := context.WithCancel(context.Background())
	n.lease.stop = stop
	go n.lease.keep(alive) //nolint:contextcheck // a node outlives the call that made it
	return n, nil
}

// dead returns the nodes whose lease has ended, and those of running jobs that are
// not known.
func (l *leases) dead(ctx context.Context) ([]string, error) {
	var ids []string
	err := retry(ctx, away, func() error {
		rows, err := l.db.QueryContext(ctx, deadLeases)
		ids, err = all(rows, err, scanText)
		return err
	})
	return ids, err
}

// forget removes a node whose lease has ended, once its jobs are taken over.
func (l *leases) forget(ctx context.Context, id string) error {
	return retry(ctx, away, func() error { return l.forgetOnce(ctx, id) })
}

func (l *leases) forgetOnce(ctx context.Context, id string) error {
	switch alive, err := scanInt(l.db.QueryRowContext(ctx, liveLease, id)); {
	case err != nil:
		return err
	case alive > 0:
		return fmt.Errorf("node %s is alive: %w", id, grant.ErrBusy)
	}
	// nothing can start to run on it any more
	switch runs, err := scanInt(l.db.QueryRowContext(ctx, nodeRuns, id)); {
	case err != nil:
		return err
	case runs > 0:
		return fmt.Errorf("node %s still has running jobs: %w", id, grant.ErrBusy)
	}
	_, err := l.db.ExecContext(ctx, deleteNode, id)
	return err
}

// lease is that of one node.
type lease struct {
	*leases
	id   string
	stop context.CancelFunc
	lost chan struct{} // closed when it can no longer be relied on
	done chan struct{} // closed when it is no longer renewed

	mu    sync.Mutex
	since time.Time // when the renewal that counts was sent
}

// renewed notes a renewal that was asked for at a time of this process: the database
// counts from a later one.
func (l *lease) renewed(sent time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = sent
}

// left is for how long the lease surely holds. A fifth of it is left to clocks that
// do not run alike. A machine that slept has a clock that did not run at all.
func (l *lease) left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	wall := now.Round(0).Sub(l.since.Round(0))
	return l.ttl*4/5 - max(wall, now.Sub(l.since))
}

// keep renews the lease until it is lost or ctx ends.
func (l *lease) keep(ctx context.Context) {
	defer close(l.done)
	tick := time.NewTicker(l.ttl / beats)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := l.beat(ctx); ctx.Err() == nil && (isNone(err) || l.left() <= 0) {
			l.renewed(time.Time{}) // never: others may have taken its jobs already
			close(l.lost)
			return
		}
	}
}

// beat renews the lease, or waits for the database until the lease is over.
func (l *lease) beat(ctx context.Context) error {
	left := l.left()
	if left <= 0 {
		return nil // it may be over for the others, who then rely on that
	}
	ctx, stop := context.WithTimeout(ctx, left)
	defer stop()
	sent := time.Now()
	err := l.hear(ctx, renewLease, l.id, l.ttl.Milliseconds())
	if err == nil {
		l.renewed(sent)
	}
	return err
}

// leave ends the lease, so that others need not wait for its end.
func (l *lease) leave(n *Node) error {
	l.stop()
	<-l.done
	l.leases.mu.Lock()
	delete(l.mine, n.id)
	l.leases.mu.Unlock()
	ctx, stop := context.WithTimeout(context.Background(), leaveWithin)
	defer stop()
	err := n.store.removeNode(ctx, n.id)
	if errors.Is(err, grant.ErrBusy) {
		_, eerr := l.db.ExecContext(ctx, endLease, n.id)
		err = errors.Join(err, eerr)
	}
	if err != nil {
		return n.store.main.explain("leave", err)
	}
	return nil
}

// Until returns the moment, by the clock of time.Now, until which nobody takes a node
// of this process for dead, whatever happens to it. It lies in the past when the node
// is none any more. Only nodes of a shared store have such a moment: see [Store.Shared].
func (s *Store) Until(node string) time.Time {
	s.leases.mu.Lock()
	l := s.leases.mine[node]
	s.leases.mu.Unlock()
	if l == nil {
		return time.Time{}
	}
	return time.Now().Add(l.left())
}

// outlived returns grant.ErrLeaseLost, without asking the database, for a job of a node
// of this process whose lease is over: what such a worker writes counts no more, and it
// is not to wait for a database that is away before it stops.
func (s *Store) outlived(f grant.Fence) error {
	if s.leases == nil {
		return nil
	}
	s.leases.mu.Lock()
	l := s.leases.mine[f.Node]
	s.leases.mu.Unlock()
	if l == nil || l.left() > 0 {
		return nil
	}
	return fmt.Errorf("store: job %s: the lease of node %s is over: %w", f.Job, f.Node, grant.ErrLeaseLost)
}

// Shared reports whether other machines may use the store: then nodes have leases.
func (s *Store) Shared() bool { return s.leases != nil }

// Lost is closed when the node can no longer be sure that others take it for alive.
// What it runs has to stop; it does not come back to life. nil: that cannot happen.
func (n *Node) Lost() <-chan struct{} {
	if n.lease == nil {
		return nil
	}
	return n.lease.lost
}

// Now returns the time: on PostgreSQL that of the database, which all machines
// share, as it was heard last and has gone on since.
func (s *Store) Now() time.Time {
	if s.leases == nil {
		return time.Now()
	}
	return s.leases.now()
}
