package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A promotion begins a new timeline, whose number is higher.
const readLine = `SELECT current_setting('transaction_read_only'),
	CASE WHEN pg_is_in_recovery() THEN lpad(upper(to_hex((SELECT timeline_id FROM pg_control_checkpoint()))), 8, '0') ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END`

// several reports whether there are other hosts to turn to.
func several(cfg *pgx.ConnConfig) bool {
	return slices.ContainsFunc(cfg.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.Host != cfg.Host || f.Port != cfg.Port })
}

// line tells the primary from those that follow it, and from one that was the primary
// before and does not know that it is not any more.
type line struct {
	mu   sync.Mutex
	last string // the highest timeline that was seen
}

// primary refuses a connection to any other server: the next host is tried then.
func (l *line) primary(ctx context.Context, c *pgconn.PgConn) error {
	readOnly, timeline, err := asked(ctx, c)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.last
	l.last = max(l.last, timeline)
	switch {
	case readOnly:
		return errStandby
	case timeline < was:
		return fmt.Errorf("it was the primary until timeline %s and follows nobody: another one is the primary since; make it a standby of that one (pg_rewind) before it is started again", was)
	}
	return nil
}

func asked(ctx context.Context, c *pgconn.PgConn) (readOnly bool, timeline string, err error) {
	results, err := c.Exec(ctx, readLine).ReadAll()
	if err != nil {
		return false, "", err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 2 {
		return false, "", errors.New("it does not say whether it is the primary")
	}
	row := results[0].Rows[0]
	return string(row[0]) == "on", string(row[1]), nil
}

// survey asks all hosts before one of them is used, so that the one that was the primary
// before is known for what it is even by who has just started. Who does not answer soon
// is left out.
func survey(ctx context.Context, cfg *pgx.ConnConfig) {
	if !several(cfg) {
		return
	}
	ctx, stop := context.WithTimeout(ctx, hostWithin)
	defer stop()
	var wg sync.WaitGroup
	ask := func(f *pgconn.FallbackConfig) {
		one := cfg.Copy()
		one.Host, one.Port, one.TLSConfig, one.Fallbacks = f.Host, f.Port, f.TLSConfig, nil
		// ValidateConnect remembers what it sees; what it thinks of it does not matter here
		if c, err := pgx.ConnectConfig(ctx, one); err == nil {
			_ = c.Close(ctx)
		}
	}
	for _, f := range append([]*pgconn.FallbackConfig{{Host: cfg.Host, Port: cfg.Port, TLSConfig: cfg.TLSConfig}}, cfg.Fallbacks...) {
		wg.Go(func() { ask(f) })
	}
	wg.Wait()
}

// MayLose reports whether what is committed can be lost when another host of the URL
// takes over: nobody waits until a standby has it.
func (s *Store) MayLose(ctx context.Context) (bool, error) {
	if s.cfg == nil || !several(s.cfg) {
		return false, nil
	}
	waits, err := scanInt(s.main.read.QueryRowContext(ctx, `SELECT `+synced))
	return waits == 0, s.main.explain("look for standbys", err)
}
