package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/lang"
	"runner/engine/transport"
)

// Live is what is true on the device of a grant now.
type Live struct {
	At   time.Time
	Peer transport.Peer
	Skew time.Duration // how far the device's clock is ahead
	// Items bear the account's name or number, one a line: kind, blank, what. Of an
	// elevation they are the objects that it changed, as they are now.
	Items []string
	// Left are those of them that were not so before the grant.
	Left []string
	// Account says how the account is: "there", "locked", "expires …"; empty when
	// the platform does not tell.
	Account []string
}

// Live looks at the device of a grant, by what the grant pinned. Nothing is
// changed, neither there nor in the store. Errors: *transport.Error, those of the
// store.
func (e *Engine) Live(ctx context.Context, c grant.Case) (*Live, error) {
	cn, err := pinnedConnection(c.Grant.Plan)
	if err != nil {
		return nil, err
	}
	sent := e.Now()
	conn, err := e.Dialer.Dial(ctx, &cn.Connection)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	l := &Live{At: sent, Peer: conn.Peer()}
	p := platforms[cn.Platform]
	run := executor.Run{Conn: conn, Modules: e.Modules, Become: p.become, Timeout: cn.Step, ID: "explain", Env: lang.Env{}}
	if !c.Grant.Creates {
		w := &work{e: e, c: c}
		if run.Recorded, err = w.changes(ctx); err != nil {
			return nil, err
		}
		seen, err := executor.Look(ctx, run)
		l.objects(seen)
		return l, err
	}
	g := &c.Grant
	changes, err := (&work{e: e, c: c}).changes(ctx)
	if err != nil {
		return nil, err
	}
	run.After = p.call(e.Modules, g, sidOf(g, changes))
	if m := e.Modules.Lookup("user_info"); m != nil && p.numbered {
		run.After = append(run.After, executor.Call{Name: "account", Module: m, Args: map[string]any{"name": g.Account, "uid": g.UID}})
	}
	res, err := executor.Do(ctx, run)
	if err != nil {
		return nil, err
	}
	l.surface(res, g)
	l.Skew, err = anySkew(res.Calls["surface"], sent, e.Now())
	return l, err
}

// objects takes in what an elevation changed.
func (l *Live) objects(seen []executor.Seen) {
	for _, s := range seen {
		now := s.Now
		if !s.Known {
			now = "the device does not say what it is"
		}
		item := s.Change.Object + " " + oneLine(now)
		l.Items = append(l.Items, item)
		if s.Now != s.Change.Before && len(s.Change.Others) == 0 {
			l.Left = append(l.Left, item)
		}
	}
}

// surface takes in what bears the account's name or number.
func (l *Live) surface(res *executor.Result, g *grant.Grant) {
	var before []string
	if g.Receipt != nil {
		before = g.Receipt.Before
	}
	for _, it := range lines(res.Calls["surface"]["items"]) {
		text := oneLine(it)
		l.Items = append(l.Items, text)
		if !slices.Contains(before, it) {
			l.Left = append(l.Left, text)
		}
	}
	who := res.Calls["account"]
	if exists, known := who["exists"].(bool); !known {
		return
	} else if !exists {
		l.Account = []string{"not there"}
		return
	}
	l.Account = []string{"there"}
	if uid, is := who["uid"].(int64); is && uid != g.UID {
		l.Account = append(l.Account, fmt.Sprintf("with uid %d, which is not that of the grant (%d)", uid, g.UID))
	}
	for _, k := range []struct{ key, yes, no string }{{"locked", "its password is locked", ""}, {"logged_in", "processes of it are running", "no process of it is running"}} {
		switch is, known := who[k.key].(bool); {
		case known && is:
			l.Account = append(l.Account, k.yes)
		case known && k.no != "":
			l.Account = append(l.Account, k.no)
		}
	}
	if until, _ := who["expires"].(string); until != "" {
		l.Account = append(l.Account, "its own expiry is "+until)
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
