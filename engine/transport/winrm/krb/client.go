package krb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jcmturner/gokrb5/v8/types"

	"runner/engine/transport"
	"runner/engine/transport/winrm/krb/etype"
)

// How long things are remembered.
const (
	// HoldOff is how long a refused password is not tried again: longer than the time
	// in which directories count attempts by default.
	HoldOff = 30 * time.Minute
	// forget is how long an unknown service principal is not asked for again.
	forget = 5 * time.Minute
	// early is how long before its end a ticket is replaced, at most; a tenth of its
	// life where that is shorter.
	early = 5 * time.Minute
	// flightLimit bounds what is done for one asker or several.
	flightLimit = time.Minute
	// doubtful is how long a host may take to say whether it takes a ticket.
	doubtful = 15 * time.Second
	maxHeld  = 4096 // tickets of a client
)

// Client gets tickets for one identity and keeps them in memory. It is safe for
// concurrent use. Who asks at the same time shares one exchange. Close ends it.
type Client struct {
	cfg    Config
	user   types.PrincipalName
	realm  string
	keytab []keytabEntry // or
	cache  *ccache       // or the password of cfg

	mu      sync.Mutex
	skew    time.Duration // how far the KDC's clock is ahead of ours
	last    map[string]kdc
	found   map[string]located
	tgt     *held
	held    map[string]*held   // by service principal
	unknown map[string]refusal // by service principal
	off     refusal            // of logins
	stamped time.Time
	flights map[string]*flight
	closed  bool
	wg      sync.WaitGroup
}

// refusal is an error that is true for a while.
type refusal struct {
	err   *Error
	until time.Time
}

// flight is something that one goroutine does for all who ask for it.
type flight struct {
	cancel  context.CancelFunc
	waiting int
	done    chan struct{}
	t       *held
	err     error
}

// Skew is how far the KDC's clock is ahead of ours, as far as is known.
func (c *Client) Skew() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew
}

// now is the time by the KDC's clock.
func (c *Client) now() time.Time { return c.cfg.Clock().Add(c.Skew()).UTC() }

// stamp is the time by the KDC's clock, later than every stamp before.
func (c *Client) stamp() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.cfg.Clock().Add(c.skew).UTC().Truncate(time.Microsecond)
	if !t.After(c.stamped) {
		t = c.stamped.Add(time.Microsecond)
	}
	c.stamped = t
	return t
}

// Login gets a ticket-granting ticket, if there is none. The error is an *Error.
func (c *Client) Login(ctx context.Context) error {
	_, err := c.granting(ctx)
	return typed(err)
}

// Ticket returns a ticket for a service principal, SERVICE/host or
// SERVICE/host@REALM, with a Stamp of its own. The error is an *Error.
func (c *Client) Ticket(ctx context.Context, spn string) (*Ticket, error) {
	t, err := c.ticket(ctx, spn)
	if err != nil {
		return nil, typed(err)
	}
	skew := c.Skew()
	return &Ticket{Ticket: t.ticket, Key: t.key, Client: t.client, Realm: t.crealm, Stamp: c.stamp(), Skew: skew, End: t.end, client: c, held: t}, nil
}

// doubt notes that a ticket was shown.
func (c *Client) doubt(t *held) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.doubt.IsZero() {
		t.doubt = c.cfg.Clock()
	}
}

// settle notes what became of it.
func (c *Client) settle(t *held, taken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t.doubt = time.Time{}
	if !taken {
		t.doubt = c.cfg.Clock().Add(-doubtful)
	}
}

func (c *Client) ticket(ctx context.Context, spn string) (*held, error) {
	now := c.cfg.Clock()
	c.mu.Lock()
	t, no := c.held[spn], c.unknown[spn]
	trusted := t != nil && (t.doubt.IsZero() || now.Sub(t.doubt) < doubtful)
	c.mu.Unlock()
	switch {
	case trusted && t.fresh(now):
		return t, nil
	case no.err != nil && now.Before(no.until):
		return nil, no.err
	}
	got, err := c.share(ctx, "ticket "+spn, func(ctx context.Context) (*held, error) { return c.fetch(ctx, spn) })
	if err != nil && t.valid(now) && !errors.Is(err, context.Canceled) {
		return t, nil // a new one would have been better; the old one is still good
	}
	return got, err
}

// fetch gets a ticket for spn, with a new login if the KDC does not like our ticket.
func (c *Client) fetch(ctx context.Context, spn string) (*held, error) {
	for again := false; ; again = true {
		tgt, err := c.granting(ctx)
		if err != nil {
			return nil, err
		}
		t, err := c.service(ctx, tgt, spn)
		e, ok := errors.AsType[*Error](err)
		switch {
		case err == nil:
			c.mu.Lock()
			if len(c.held) >= maxHeld {
				clear(c.held)
			}
			c.held[spn] = t
			delete(c.unknown, spn)
			c.mu.Unlock()
			return t, nil
		case ok && e.Code == "auth.spn_unknown":
			c.mu.Lock()
			if len(c.unknown) >= maxHeld {
				clear(c.unknown)
			}
			c.unknown[spn] = refusal{e, c.cfg.Clock().Add(forget)}
			c.mu.Unlock()
			return nil, err
		case ok && e.Code == "auth.ticket_expired" && !again && c.cache == nil:
			c.mu.Lock()
			if c.tgt == tgt {
				c.tgt = nil
			}
			c.mu.Unlock()
		default:
			return nil, err
		}
	}
}

// granting returns a ticket-granting ticket of our realm.
func (c *Client) granting(ctx context.Context) (*held, error) {
	now := c.cfg.Clock()
	c.mu.Lock()
	t, off := c.tgt, c.off
	c.mu.Unlock()
	switch {
	case t.fresh(now):
		return t, nil
	case off.err != nil && now.Before(off.until):
		return nil, &Error{
			Phase: off.err.Phase, Code: off.err.Code, Hint: off.err.Hint,
			Err: fmt.Errorf("%w (not tried again before %s)", off.err.Err, off.until.UTC().Format(time.RFC3339)),
		}
	}
	got, err := c.share(ctx, "login", c.relogin)
	if err != nil && t.valid(now) && !errors.Is(err, context.Canceled) {
		return t, nil
	}
	return got, err
}

// relogin logs in and remembers how that went.
func (c *Client) relogin(ctx context.Context) (*held, error) {
	before := c.Skew()
	t, err := c.login(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.tgt, c.off = t, refusal{}
		return t, nil
	}
	if c.tgt != nil {
		c.skew = before // proven once; what was said since then was not
	}
	if e, ok := errors.AsType[*Error](err); ok {
		switch e.Code {
		case "auth.password", "auth.locked", "auth.password_expired":
			c.off = refusal{e, c.cfg.Clock().Add(HoldOff)}
		}
	}
	return nil, err
}

// fresh reports whether t is good for some time more.
func (t *held) fresh(now time.Time) bool {
	return t != nil && now.Before(t.end.Add(-min(early, t.end.Sub(t.start)/10)))
}

// valid reports whether t is good.
func (t *held) valid(now time.Time) bool { return t != nil && now.Before(t.end) }

// share does something once for all who ask for it at the same time. It ends when
// nobody waits any more.
func (c *Client) share(ctx context.Context, key string, do func(context.Context) (*held, error)) (*held, error) {
	for {
		f, err := c.board(ctx, key, do)
		if err != nil {
			return nil, err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			c.mu.Lock()
			if f.waiting--; f.waiting == 0 {
				f.cancel()
			}
			c.mu.Unlock()
			return nil, cancelled(ctx, "a KDC of "+c.realm)
		}
		// others may have left together just before we came: then it was not for us
		if ctx.Err() == nil && errors.Is(f.err, context.Canceled) && !c.isClosed() {
			continue
		}
		return f.t, f.err
	}
}

// board joins the flight of a key, or starts it.
func (c *Client) board(ctx context.Context, key string, do func(context.Context) (*held, error)) (*flight, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	f := c.flights[key]
	if f == nil {
		run, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightLimit)
		f = &flight{cancel: cancel, done: make(chan struct{})}
		c.flights[key] = f
		c.wg.Go(func() {
			defer cancel()
			t, err := do(run)
			c.mu.Lock()
			f.t, f.err = t, err
			delete(c.flights, key)
			c.mu.Unlock()
			close(f.done)
		})
	}
	f.waiting++
	return f, nil
}

var errClosed = &Error{Phase: transport.PhaseAuth, Code: "auth.cancelled", Err: errors.New("the Kerberos client is closed")}

func (c *Client) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Close ends what is under way, waits for it, and forgets all tickets.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	for _, f := range c.flights {
		f.cancel()
	}
	c.mu.Unlock()
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tgt, c.held = nil, map[string]*held{}
}

// unpack takes over the tickets of the ticket cache.
func (c *Client) unpack() {
	for _, t := range c.cache.tickets {
		h := &held{ticket: t.ticket, key: t.key, client: c.cache.user, crealm: c.cache.realm, start: t.start, end: t.end, renew: t.renew}
		switch name := t.server.PrincipalNameString(); {
		case name == "krbtgt/"+c.cache.realm:
			h.realm = c.cache.realm
			c.tgt = h
		case !isTGT(t.server):
			c.held[name] = h
		}
	}
}

// fromCache returns the ticket-granting ticket of the ticket cache, renewed where that
// is possible.
func (c *Client) fromCache(ctx context.Context) (*held, error) {
	now := c.cfg.Clock()
	c.mu.Lock()
	tgt := c.tgt
	c.mu.Unlock()
	old := &Error{
		Phase: transport.PhaseAuth, Code: "auth.ticket_expired", Err: fmt.Errorf("the ticket cache of %s holds no ticket-granting ticket that is still good", c.Principal()),
		Hint: "get new tickets by kinit, or use a password or a keytab, which runner can use again by itself",
	}
	if !tgt.valid(now) {
		return nil, old
	}
	if !tgt.fresh(now) && now.Add(early).Before(tgt.renew) {
		if t, err := c.renewed(ctx, tgt); err == nil {
			tgt = t
		}
	}
	trace(ctx, Event{What: "tgt", Realm: tgt.realm, Etype: etype.Name(tgt.key.KeyType), End: tgt.end})
	return tgt, nil
}

// typed makes sure of what New and Ticket promise.
func typed(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Phase: transport.PhaseAuth, Code: "kdc.answer", Err: err}
}
