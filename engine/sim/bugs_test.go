//go:build !race

// The search for planted bugs says nothing about races that the histories do not, and
// takes ten times as long with the race detector: make test runs it without.

package sim_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/sim"
	"runner/engine/transport"
	"runner/templates"
)

// spoiled is a store that does something wrong.
type spoiled struct {
	engine.Store

	create func(*grant.Case)                   // before it is stored
	change func(was grant.Case, c *grant.Case) // after the engine has decided
	ready  func(grant.Ready) bool              // reports whether it is left out
	stale  bool                                // what a worker asks and writes about its own job is not held against its lease
	deaf   bool                                // nobody ever dies
	holds  func([]grant.Hold) []grant.Hold
	open   func([]grant.Session) []grant.Session // what is told of sessions

	mu   sync.Mutex
	mine grant.Fence // of the latest job
}

func (s *spoiled) Create(ctx context.Context, c grant.Case, snaps []grant.Snapshot) error {
	if s.create != nil {
		s.create(&c)
	}
	return s.Store.Create(ctx, c, snaps)
}

func (s *spoiled) Change(ctx context.Context, id string, fn func(*grant.Case) error) error {
	return s.Store.Change(ctx, id, func(c *grant.Case) error {
		was := *c
		was.Jobs = append([]grant.Job{}, c.Jobs...)
		s.forge(c)
		if err := fn(c); err != nil {
			return err
		}
		if s.change != nil {
			s.change(was, c)
		}
		if c.Ran != nil {
			s.mu.Lock()
			s.mine = grant.Fence{Job: c.Ran.Execution.JobID, Attempt: c.Ran.Execution.Attempt, Node: c.Ran.Execution.Node}
			s.mu.Unlock()
		}
		return nil
	})
}

func (s *spoiled) Ready(ctx context.Context, w grant.Want) ([]grant.Ready, error) {
	list, err := s.Store.Ready(ctx, w)
	if s.ready != nil {
		list = slices.DeleteFunc(list, s.ready)
	}
	return list, err
}

func (s *spoiled) Case(ctx context.Context, id string) (grant.Case, error) {
	c, err := s.Store.Case(ctx, id)
	if err == nil {
		s.forge(&c)
	}
	return c, err
}

// forge has the latest job of the process look as if it were still its own.
func (s *spoiled) forge(c *grant.Case) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := c.Job(s.mine.Job); s.stale && j != nil && j.Attempt == s.mine.Attempt && (j.State == grant.Waiting || j.State == grant.JobCancelled) {
		j.State, j.Node, c.Grant.Ended = grant.Running, s.mine.Node, time.Time{}
	}
}

func (s *spoiled) Held(ctx context.Context, f grant.Fence) (bool, error) {
	ended, err := s.Store.Held(ctx, f)
	if s.stale && errors.Is(err, grant.ErrLeaseLost) {
		return false, nil
	}
	return ended, err
}

func (s *spoiled) PutChanges(ctx context.Context, f grant.Fence, id string, cs []grant.Change) error {
	err := s.Store.PutChanges(ctx, f, id, cs)
	if s.stale && errors.Is(err, grant.ErrLeaseLost) {
		return nil
	}
	return err
}

func (s *spoiled) Dead(ctx context.Context) ([]string, error) {
	if s.deaf {
		return nil, nil
	}
	return s.Store.Dead(ctx)
}

func (s *spoiled) Holds(ctx context.Context, id string) ([]grant.Hold, error) {
	hs, err := s.Store.Holds(ctx, id)
	if s.holds != nil {
		hs = s.holds(hs)
	}
	return hs, err
}

func (s *spoiled) Sessions(ctx context.Context, f grant.Filter) ([]grant.Session, error) {
	list, err := s.Store.Sessions(ctx, f)
	if s.open != nil {
		list = s.open(list)
	}
	return list, err
}

func (s *spoiled) Session(ctx context.Context, id string) (grant.Session, error) {
	x, err := s.Store.Session(ctx, id)
	if told := []grant.Session{x}; err == nil && s.open != nil && len(s.open(told)) == 1 {
		x = told[0]
	}
	return x, err
}

// store plants a bug into the store of every process.
func inStore(make func() *spoiled) sim.Bug {
	return sim.Bug{Store: func(s engine.Store) engine.Store {
		b := make()
		b.Store = s
		return b
	}}
}

// twisted is a way to devices that does something wrong.
type twisted struct {
	engine.Dialer

	batch func(*transport.Batch)
	err   func(error) error
	event func(transport.Event) (transport.Event, bool)
}

func (d *twisted) Dial(ctx context.Context, c *inventory.Connection) (transport.Conn, error) {
	conn, err := d.Dialer.Dial(ctx, c)
	if err != nil {
		return nil, err
	}
	return &twistedConn{conn, d}, nil
}

type twistedConn struct {
	transport.Conn

	d *twisted
}

func (c *twistedConn) Run(ctx context.Context, b transport.Batch, sink transport.Sink) error {
	if c.d.batch != nil {
		c.d.batch(&b)
	}
	err := c.Conn.Run(ctx, b, func(e transport.Event) {
		if c.d.event != nil {
			var ok bool
			if e, ok = c.d.event(e); !ok {
				return
			}
		}
		sink(e)
	})
	if c.d.err != nil && err != nil {
		err = c.d.err(err)
	}
	return err
}

func wire(t twisted) sim.Bug {
	return sim.Bug{Dialer: func(d engine.Dialer) engine.Dialer {
		c := t
		c.Dialer = d
		return &c
	}}
}

// rewritten plants a template in which something is wrong.
func rewritten(t *testing.T, file string, pairs ...string) sim.Bug {
	t.Helper()
	text, err := templates.FS.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := string(text)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(changed, pairs[i]) {
			t.Fatalf("%s does not say %q any more", file, pairs[i])
		}
		changed = strings.Replace(changed, pairs[i], pairs[i+1], 1)
	}
	return sim.Bug{Kit: func(k sim.Kit) sim.Kit { return k.With(file, changed) }}
}

// enabledBefore has whoever enabled an account have found it in another state.
func enabledBefore(hs []grant.Hold, state string) []grant.Hold {
	for i := range hs {
		if strings.HasPrefix(hs[i].Object, "linux:enabled:") {
			hs[i].Before = state
		}
	}
	return hs
}

// rare are bugs that one in hundreds of histories finds, and the first of those that
// are tried: the many before it found nothing the last time.
var rare = map[string]uint64{
	"a removal is not run again after what may still arrive": 280,
	"devices begin what comes after the lease":               1600,
}

// Every one of these is found, by histories alone.
func TestPlantedBugs(t *testing.T) {
	t.Parallel()
	kit := newKit(t)
	ends := func(was grant.Case, c *grant.Case) bool {
		return was.Grant.State != c.Grant.State && c.Grant.State == grant.Ending
	}
	bugs := map[string]sim.Bug{
		"an elevation is taken back without counting who else wants it": inStore(func() *spoiled {
			return &spoiled{holds: func(hs []grant.Hold) []grant.Hold {
				for i := range hs {
					hs[i].Others = nil
				}
				return hs
			}}
		}),
		"an elevation takes away what was there before": inStore(func() *spoiled {
			return &spoiled{holds: func(hs []grant.Hold) []grant.Hold {
				for i := range hs {
					hs[i].Before = "absent"
				}
				return hs
			}}
		}),
		"who finds a membership does not know that a grant made it": inStore(func() *spoiled {
			return &spoiled{holds: func([]grant.Hold) []grant.Hold { return nil }}
		}),
		"nobody looks after sessions whose program is gone": inStore(func() *spoiled {
			return &spoiled{open: func([]grant.Session) []grant.Session { return nil }}
		}),
		"a session that is abandoned ends without its grant": inStore(func() *spoiled {
			return &spoiled{change: func(was grant.Case, c *grant.Case) {
				if ends(was, c) && c.Grant.EndedBy == "disconnect" {
					*c = was
				}
			}}
		}),
		"a session is taken for abandoned too soon": inStore(func() *spoiled {
			return &spoiled{open: func(list []grant.Session) []grant.Session {
				for i := range list {
					list[i].Beat = list[i].Beat.Add(-grant.SessionPatience * 3 / 4)
				}
				return list
			}}
		}),
		"an account that was disabled counts as one that was not": inStore(func() *spoiled {
			return &spoiled{holds: func(hs []grant.Hold) []grant.Hold { return enabledBefore(hs, "enabled uid=1002 expires=") }}
		}),
		"an account is disabled again in another way than it was": inStore(func() *spoiled {
			return &spoiled{holds: func(hs []grant.Hold) []grant.Hold { return enabledBefore(hs, "absent uid=1002 lock=hash expires=1") }}
		}),
		"a grant is stored with its removal done": inStore(func() *spoiled {
			return &spoiled{create: func(c *grant.Case) { c.Removal().State = grant.Done }}
		}),
		"dead workers are never noticed": inStore(func() *spoiled { return &spoiled{deaf: true} }),
		"what expired is overlooked by sweeps": inStore(func() *spoiled {
			return &spoiled{ready: func(r grant.Ready) bool { return r.Removal && r.Attempt == 0 }}
		}),
		"a removal is given up after three attempts": inStore(func() *spoiled {
			return &spoiled{change: func(_ grant.Case, c *grant.Case) {
				if r := c.Removal(); r.LastError != "" && r.Attempt >= 3 && r.State == grant.Waiting {
					r.State = grant.JobCancelled
				}
			}}
		}),
		"a removal is not run again after what may still arrive": inStore(func() *spoiled {
			return &spoiled{change: func(_ grant.Case, c *grant.Case) { c.Removal().Again = time.Time{} }}
		}),
		"a creation that failed half way counts as never begun": inStore(func() *spoiled {
			return &spoiled{change: func(was grant.Case, c *grant.Case) {
				if ends(was, c) && c.Grant.EndedBy == "failed" {
					c.Grant.State = grant.Cancelled
					c.Removal().State = grant.JobCancelled
				}
			}}
		}),
		"a worker goes on after its lease was taken away": inStore(func() *spoiled { return &spoiled{stale: true} }),
		"devices begin what comes after the lease":        {NoWatch: true},
		"a secret stays after it was collected": inStore(func() *spoiled {
			return &spoiled{change: func(was grant.Case, c *grant.Case) {
				if len(was.Grant.Sealed) > 0 && len(c.Grant.Sealed) == 0 && c.Grant.State == grant.Active {
					c.Grant.Sealed, c.Grant.Collected = was.Grant.Sealed, time.Time{}
				}
			}}
		}),
		"a lost connection counts as nothing sent": wire(twisted{err: func(err error) error {
			return &transport.Error{Phase: transport.PhaseExec, SafeToRetry: true, Step: -1, Err: err}
		}}),
		"the proof of a removal sees nothing, and deletion does nothing": wire(twisted{batch: func(b *transport.Batch) {
			for i := range b.Steps {
				s := &b.Steps[i]
				if s.Mode == transport.Apply && s.Body.Name == "user" && b.KeepGoing {
					s.Mode = transport.Check
				}
			}
		}, event: func(e transport.Event) (transport.Event, bool) {
			if e.Key == "items" || e.Key == "exists" {
				e.Value = map[string]string{"items": "", "exists": "false"}[e.Key]
			}
			return e, true
		}}),
		"accounts never expire by themselves": rewritten(t, "create/linux-user.yaml",
			"      expires: '{{ grant.backstop_at }}'\n", ""),
		"a removal goes by the name alone": rewritten(t, "delete/linux-user.yaml",
			"    failed_when: failed or exists and uid != params.uid or by_uid_name != \"\" and by_uid_name != params.username\n", "",
			"      uid: '{{ params.uid }}'\n      exists: require\n      locked: true", "      exists: require\n      locked: true",
			"      uid: '{{ params.uid }}'\n      state: absent", "      state: absent"),
		"a removal forgets the sudo rule": rewritten(t, "delete/linux-user.yaml",
			"  - name: Take the sudo rule away\n    sudoers:\n      file: 'runner-{{ params.username }}'\n      state: absent\n", ""),
	}
	sudo := []string{"elevate/linux-sudo.yaml"}
	for range 3 { // when it is given, moved and taken away
		sudo = append(sudo, "'runner-{{ grant.id }}'", "'runner-{{ params.username }}'")
	}
	bugs["grants that elevate one account share a sudoers file"] = rewritten(t, sudo[0], sudo[1:]...)
	for name, bug := range bugs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := max(1, rare[name])
			for seed := first; seed < first+2000; seed++ {
				wrong, _ := live(t, kit, seed, bug)
				if len(wrong) > 0 {
					t.Logf("found with seed %d: %s", seed, wrong[0])
					return
				}
			}
			t.Error("2000 histories did not find it")
		})
	}
}
