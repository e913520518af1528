package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/lang"
	"runner/engine/transport"
)

// Retire ends the open grants of a device that is gone, as a person says and what
// answers at its address does not belie: nobody, or a machine with another identity
// on which nothing bears the name or the number of the account. A device that
// answers as it did is not gone, and an error. When it comes back, its grants are
// taken up again. Errors: *InputError, those of the store.
func (e *Engine) Retire(ctx context.Context, d Decision) ([]grant.Case, error) {
	if strings.TrimSpace(d.Reason) == "" {
		return nil, &InputError{Reason: "say with --reason what became of the device: it is the evidence that its accounts are gone"}
	}
	open, err := e.Store.Cases(ctx, grant.Filter{Device: d.Device, States: openStates, Limit: 1 << 20})
	if err != nil {
		return nil, err
	}
	if len(open) == 0 {
		return nil, &InputError{Reason: fmt.Sprintf("no grant on device %q is open, so there is nothing to end", d.Device)}
	}
	evidence := make([]string, len(open))
	asked := map[string]string{} // what answered, by the connection that a grant has pinned
	for i := range open {
		pin := string(open[i].Grant.Plan.Connection)
		if _, is := asked[pin]; !is {
			if asked[pin], err = e.absence(ctx, d, &open[i].Grant, open); err != nil {
				return nil, err
			}
		}
		evidence[i] = fmt.Sprintf("retired by %s: %s; %s", d.Actor, d.Reason, asked[pin])
	}
	var out []grant.Case
	for i := range open {
		c, err := e.change(ctx, open[i].Grant.ID, func(c *grant.Case) error { return c.Retire(e.Now(), d.Actor, evidence[i]) })
		if err != nil {
			return out, err
		}
		out = append(out, c)
	}
	return out, nil
}

// absence asks at the address of a grant's device, and says what speaks for its
// being gone. What speaks against it is an error.
func (e *Engine) absence(ctx context.Context, d Decision, g *grant.Grant, open []grant.Case) (string, error) {
	cn, err := pinnedConnection(g.Plan)
	if err != nil {
		return "", err
	}
	conn, err := e.Dialer.Dial(ctx, &cn.Connection)
	if err == nil {
		defer conn.Close()
		return "", &InputError{Reason: fmt.Sprintf("device %s is not gone: %s answers with %s, as it did; runner grant revoke ends its grants one by one", d.Device, conn.Peer().Address, identity(conn.Peer()))}
	}
	te, is := errors.AsType[*transport.Error](err)
	switch {
	case !is:
		return "", err
	case te.Code == secretCode:
		return "", err
	case te.Phase == transport.PhaseResolve, te.Phase == transport.PhaseDial:
		return "not reached: " + te.Error(), nil
	case te.Phase == transport.PhaseHostKey:
		return e.another(ctx, d, cn, open)
	}
	return "", &InputError{Reason: fmt.Sprintf("device %s is not gone: it answers, but runner cannot work there (%v)", d.Device, te)}
}

// another looks at the machine that answers in place of a device, as the inventory
// reaches it now: it may not bear anything of the grants.
func (e *Engine) another(ctx context.Context, d Decision, was *connection, open []grant.Case) (string, error) {
	evidence := "another machine answers at " + was.Address
	cred, err := e.lookBy(d.Device, d.Credential)
	if err != nil {
		return evidence + ", which the inventory does not know", nil
	}
	now, err := e.Inventory.Resolve(cred.Name)
	if err != nil {
		return "", badInput(err)
	}
	conn, err := e.Dialer.Dial(ctx, now)
	if err != nil {
		return evidence + fmt.Sprintf(", which runner cannot look at (%v)", err), nil
	}
	defer conn.Close()
	var machine string
	for i := range open {
		g := &open[i].Grant
		call := platforms[now.Platform].call(e.Modules, g, sidOf(g, nil))
		if len(call) == 0 {
			continue
		}
		res, err := executor.Do(ctx, executor.Run{
			Conn: conn, Modules: e.Modules, Become: platforms[now.Platform].become, Timeout: now.Step, ID: "retire", Scope: g.ID, Env: lang.Env{}, After: call,
		})
		if err != nil {
			return "", err
		}
		items := lines(res.Calls["surface"]["items"])
		if len(items) > 0 {
			return "", &InputError{Reason: fmt.Sprintf("device %s answers as another machine than for grant %s, and still bears %s: it is a copy, or has new keys only; put its old host key into the inventory's known hosts, or remove the account by hand",
				d.Device, g.ID, strings.ReplaceAll(strings.Join(items, ", "), "\t", " "))}
		}
		machine, _ = res.Calls["surface"]["machine"].(string)
		if old := g.Receipt; old != nil && old.Machine != "" && old.Machine == machine {
			return "", &InputError{Reason: fmt.Sprintf("device %s is not gone: it has another host key, but is the machine %s as before; put the new key into the inventory and let runner sweep remove its accounts", d.Device, machine)}
		}
	}
	evidence += " with " + identity(conn.Peer())
	if machine != "" {
		evidence += ", machine " + machine
	}
	return evidence + ", and nothing on it bears the name or the number of an account", nil
}

// recognise takes up again what was given up with a device that answers again with
// the same identity: who comes back has its accounts with it. What cannot be taken
// up does not keep the job from being done.
func (w *work) recognise(ctx context.Context, peer transport.Peer) error {
	gone, err := w.e.Store.GoneOn(ctx, w.c.Grant.Device)
	if err != nil {
		return err
	}
	for i := range gone {
		r := gone[i].Receipt
		if r == nil || peer.Identity == "" || !strings.HasSuffix(r.Peer, " "+peer.Identity) {
			continue
		}
		err := w.e.Store.Change(ctx, gone[i].ID, func(c *grant.Case) error {
			return c.Reopen(w.e.Now(), grant.Runner, "device "+c.Grant.Device+" answers again, with "+identity(peer))
		})
		if err != nil {
			w.e.Log.Error("a grant of a device that is back is not taken up again", slog.String("grant", gone[i].ID), slog.Any("error", err))
		}
	}
	return nil
}
