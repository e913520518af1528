package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/lang"
	"runner/engine/module"
)

// QuietEvery is how often grants are looked for whose credential has end_when_idle.
const QuietEvery = 15 * time.Second

// quietLook is the longest pause between two looks at a device; a shorter
// end_when_idle has four looks.
const quietLook = time.Minute

// quiet ends grants whose device has had no session of their account for as long as
// their credential says (end_when_idle). It remembers what it saw, so a process that
// starts anew counts anew: later, never too early.
type quiet struct {
	e *Engine

	mu   sync.Mutex
	seen map[string]seenQuiet
}

// seenQuiet is what is known of a grant's account.
type seenQuiet struct {
	looked time.Time
	since  time.Time // of looks without a session; zero: the last one saw one
}

// EndQuiet looks, again after a pause, at the accounts of grants whose credential has
// end_when_idle, until ctx ends, and ends the grants of those that nobody uses. Devices
// are only read. Grants with an open session are left to that.
func (e *Engine) EndQuiet(ctx context.Context, every time.Duration) {
	q := &quiet{e: e, seen: map[string]seenQuiet{}}
	for {
		if err := q.round(ctx); err != nil && ctx.Err() == nil {
			e.Log.Error("cannot look for accounts that nobody uses", slog.Any("error", err))
		}
		if wait(ctx, every) != nil {
			return
		}
	}
}

// round looks at those grants whose turn it is.
func (q *quiet) round(ctx context.Context) error {
	active, err := q.e.Store.Cases(ctx, grant.Filter{States: []string{string(grant.Active)}, Limit: 1 << 20})
	if err != nil {
		return err
	}
	open, err := q.e.Store.Sessions(ctx, grant.Filter{States: []string{"open"}, Limit: 1 << 20})
	if err != nil {
		return err
	}
	attended := map[string]bool{}
	for _, s := range open {
		attended[s.Grant] = true
	}
	var (
		wg    sync.WaitGroup
		slots = make(chan struct{}, SweepParallel)
		there = map[string]bool{}
	)
	for i := range active {
		c := active[i]
		limit := endWhenIdle(&c.Grant)
		if limit == 0 || attended[c.Grant.ID] {
			continue
		}
		there[c.Grant.ID] = true
		if q.e.Now().Sub(q.of(c.Grant.ID).looked) < min(quietLook, limit/4) {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			q.look(ctx, c, limit)
		})
	}
	wg.Wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	for id := range q.seen {
		if !there[id] {
			delete(q.seen, id)
		}
	}
	return nil
}

// endWhenIdle reads the pinned setting alone: of most grants there is none.
func endWhenIdle(g *grant.Grant) time.Duration {
	var pin struct {
		EndWhenIdle time.Duration `json:"end_when_idle_ns"`
	}
	if err := json.Unmarshal(g.Plan.Connection, &pin); err != nil {
		return 0 // its removal says so
	}
	return pin.EndWhenIdle
}

func (q *quiet) of(id string) seenQuiet {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.seen[id]
}

// look asks the device of a grant, and ends the grant when it has been quiet for
// long enough. A device that does not answer says nothing.
func (q *quiet) look(ctx context.Context, c grant.Case, limit time.Duration) {
	id, now := c.Grant.ID, q.e.Now()
	used, err := q.e.used(ctx, c)
	s := q.of(id)
	s.looked = now
	switch {
	case err != nil:
		s.since = time.Time{}
		q.e.Log.Debug("cannot see whether an account is in use", slog.String("grant", id), slog.Any("error", err))
	case used:
		s.since = time.Time{}
	case s.since.IsZero():
		s.since = now
	}
	q.mu.Lock()
	q.seen[id] = s
	q.mu.Unlock()
	if s.since.IsZero() || now.Sub(s.since) < limit {
		return
	}
	if _, err := q.e.End(ctx, id, grant.Runner, grant.EndedIdle); err != nil {
		q.e.Log.Error("a grant that nobody uses is not ended", slog.String("grant", id), slog.Any("error", err))
		return
	}
	q.e.Log.Info("ended a grant that nobody uses", slog.String("grant", id), slog.String("idle", now.Sub(s.since).Round(time.Second).String()))
}

// used reports whether processes of the grant's account run on its device.
func (e *Engine) used(ctx context.Context, c grant.Case) (bool, error) {
	cn, err := pinnedConnection(c.Grant.Plan)
	if err != nil {
		return false, err
	}
	conn, err := e.Dialer.Dial(ctx, &cn.Connection)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	args := module.Args{"name": c.Grant.Account}
	if c.Grant.UID != 0 {
		args["uid"] = c.Grant.UID
	}
	res, err := executor.Do(ctx, executor.Run{
		Conn: conn, Modules: e.Modules, Become: platforms[cn.Platform].become, Timeout: cn.Step, ID: "idle", Env: lang.Env{},
		After: []executor.Call{{Name: "account", Module: e.Modules.Lookup("user_info"), Args: args}},
	})
	if err != nil {
		return false, err
	}
	used, said := res.Calls["account"]["logged_in"].(bool)
	if !said {
		return false, fmt.Errorf("%s does not say whether %s is in use", cn.Device, c.Grant.Account)
	}
	return used, nil
}
