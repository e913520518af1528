//go:build !race

package sim_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/sim"
	"runner/engine/transport"
)

// blind is a store that forgets a part of what scans and returns rest on.
type blind struct {
	engine.Store

	newest func() string
	gone   bool // there are no grants of devices that are gone
}

func (s *blind) Newest(ctx context.Context) (string, error) {
	if s.newest != nil {
		return s.newest(), nil
	}
	return s.Store.Newest(ctx)
}

func (s *blind) GoneOn(ctx context.Context, device string) ([]grant.Grant, error) {
	if s.gone {
		return nil, nil
	}
	return s.Store.GoneOn(ctx, device)
}

// marked twists what a device says of its marks.
func marked(twist func(items string) string) sim.Bug {
	return wire(twisted{event: func(e transport.Event) (transport.Event, bool) {
		if e.Key == "items" && strings.Contains(e.Value, "account\t") {
			e.Value = twist(e.Value)
		}
		return e, true
	}})
}

// Every one of these is found by histories of scans.
func TestPlantedBugsOfScans(t *testing.T) {
	t.Parallel()
	kit := newKit(t)
	id := grant.NewID("g", time.Unix(900000000, 0), [10]byte{7})
	padded := marked(func(items string) string {
		for i := range 100 {
			items += fmt.Sprintf("\nsudoers\tpad%d\tnobody\trunner %s", i, id)
		}
		return items
	})
	padded.Store = func(s engine.Store) engine.Store {
		return &blind{Store: s, newest: func() string { return grant.NewID("g", time.Now(), [10]byte{}) }}
	}
	for name, bug := range map[string]sim.Bug{
		"an account without a mark is taken for ours": marked(func(items string) string {
			return strings.ReplaceAll(items, "made by hand", "runner "+id+" until 20000101T000000Z")
		}),
		"the fuse does not trip":               padded,
		"what was gone is not looked at again": {Store: func(s engine.Store) engine.Store { return &blind{Store: s, gone: true} }},
		"lost accounts are not seen": marked(func(items string) string {
			var kept []string
			for line := range strings.SplitSeq(items, "\n") {
				if !strings.Contains(line, "jit-lost") {
					kept = append(kept, line)
				}
			}
			return strings.Join(kept, "\n")
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= 1000; seed++ {
				if wrong, _ := run(t, kit, seed, bug, (*sim.World).Scans); len(wrong) > 0 {
					t.Logf("found with seed %d: %s", seed, wrong[0])
					return
				}
			}
			t.Error("1000 histories did not find it")
		})
	}
}
