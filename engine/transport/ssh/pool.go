package ssh

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"runner/engine/transport"
)

// group is the connections that are alike.
type group struct {
	dialing chan struct{} // holds one token: who dials for the group
	entries []*entry
}

// entry is a pooled connection. Its fields below client are guarded by the
// Dialer's mutex.
type entry struct {
	*link
	group   *group
	via     *entry // the jump host it comes through
	dead    bool
	uses    int // session channels handed out
	tunnels int // connections through it
	limit   int
	idle    *time.Timer
	done    chan struct{} // closed when the connection ended
}

func (d *Dialer) init() {
	d.once.Do(func() {
		d.groups, d.hosts = map[string]*group{}, map[string]chan struct{}{}
		d.keySeed = make([]byte, 32)
		_, _ = rand.Read(d.keySeed) // never fails
	})
}

// poolKey identifies the connections that cfg may share.
func (d *Dialer) poolKey(cfg Config) string {
	m := hmac.New(sha256.New, d.keySeed)
	for _, c := range append(slices.Clone(cfg.Jump), cfg) {
		c = c.withDefaults()
		part := func(s ...string) {
			fmt.Fprintf(m, "%q;", s) // quoted: parts cannot run into each other
		}
		part(c.Address, c.User, c.HostKeys.Policy, c.HostKeys.File, c.Auth.AgentSocket, string(c.Auth.Certificate), c.Keepalive.String())
		part(c.Auth.Methods...)
		part(c.HostKeys.Known...)
		part(c.Auth.Password.Reveal(), c.Auth.PrivateKey.Reveal(), c.Auth.Passphrase.Reveal())
	}
	return string(m.Sum(nil))
}

// acquire returns a connection with a free channel, dialling when there is
// none; reused says that it was there before. anew asks for one that was not.
func (d *Dialer) acquire(ctx context.Context, cfg Config, anew bool) (e *entry, reused bool, err error) {
	return d.reserve(ctx, cfg, anew, func(e *entry) bool {
		if e.uses >= e.limit {
			return false
		}
		e.uses++
		return true
	})
}

// tunnel returns a connection to a jump host to come through.
func (d *Dialer) tunnel(ctx context.Context, cfg Config) (*entry, error) {
	e, _, err := d.reserve(ctx, cfg, false, func(e *entry) bool { e.tunnels++; return true })
	return e, err
}

func (d *Dialer) reserve(ctx context.Context, cfg Config, anew bool, take func(*entry) bool) (*entry, bool, error) {
	d.init()
	key := d.poolKey(cfg)
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, false, cfg.fail(transport.PhaseDial, "closed", errors.New("the dialer is closed"), "")
	}
	g := d.groups[key]
	if g == nil {
		g = &group{dialing: make(chan struct{}, 1)}
		d.groups[key] = g
	}
	e := g.pick(anew, take)
	d.mu.Unlock()
	if e != nil {
		return e, true, nil
	}
	select {
	case g.dialing <- struct{}{}:
		defer func() { <-g.dialing }()
	case <-ctx.Done():
		return nil, false, cfg.fail(transport.PhaseDial, "cancelled", ctx.Err(), "")
	}
	d.mu.Lock() // whoever dialled before may have left room
	e = g.pick(anew, take)
	d.mu.Unlock()
	if e != nil {
		return e, true, nil
	}
	e, err := d.dialEntry(ctx, cfg, g)
	if err != nil {
		return nil, false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	take(e)
	return e, false, nil
}

// pick reserves a place on a living connection. The mutex is held.
func (g *group) pick(anew bool, take func(*entry) bool) *entry {
	for _, e := range g.entries {
		if !e.dead && !anew && take(e) {
			e.stopIdle()
			return e
		}
	}
	return nil
}

func (e *entry) stopIdle() {
	if e.idle != nil {
		e.idle.Stop()
		e.idle = nil
	}
}

// dialEntry opens a connection of the group, through its jump hosts.
func (d *Dialer) dialEntry(ctx context.Context, cfg Config, g *group) (*entry, error) {
	via, err := d.gateway(ctx, cfg)
	if err != nil {
		return nil, err
	}
	lk, err := d.throttled(ctx, cfg, func() (*link, error) { return d.connect(ctx, cfg, via) })
	if err != nil {
		d.release(via, true)
		return nil, err
	}
	e := &entry{link: lk, group: g, via: via, limit: maxChannels, done: make(chan struct{})}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		_ = lk.client.Close()
		d.release(via, true)
		return nil, cfg.fail(transport.PhaseDial, "closed", errors.New("the dialer is closed"), "")
	}
	g.entries = append(g.entries, e)
	d.wg.Add(2)
	d.mu.Unlock()
	go d.watch(e)
	go d.keepalive(e, cfg.Keepalive)
	return e, nil
}

// gateway returns the connection to the last jump host, or nil.
func (d *Dialer) gateway(ctx context.Context, cfg Config) (*entry, error) {
	if len(cfg.Jump) == 0 {
		return nil, nil
	}
	hop := cfg.Jump[len(cfg.Jump)-1].withDefaults()
	hop.Jump = cfg.Jump[:len(cfg.Jump)-1]
	return d.tunnel(ctx, hop)
}

// throttled runs f when fewer than maxDials to the host are under way.
func (d *Dialer) throttled(ctx context.Context, cfg Config, f func() (*link, error)) (*link, error) {
	d.mu.Lock()
	sem := d.hosts[cfg.Address]
	if sem == nil {
		sem = make(chan struct{}, maxDials)
		d.hosts[cfg.Address] = sem
	}
	d.mu.Unlock()
	select {
	case sem <- struct{}{}:
		defer func() { <-sem }()
	case <-ctx.Done():
		return nil, cfg.fail(transport.PhaseDial, "cancelled", ctx.Err(), "")
	}
	return f()
}

// watch takes an ended connection out of the pool.
func (d *Dialer) watch(e *entry) {
	defer d.wg.Done()
	_ = e.client.Wait()
	d.mu.Lock()
	e.drop()
	d.mu.Unlock()
	close(e.done)
	d.release(e.via, true)
}

// drop makes e unavailable to others. The mutex is held.
func (e *entry) drop() {
	e.dead = true
	e.stopIdle()
	e.group.entries = slices.DeleteFunc(e.group.entries, func(x *entry) bool { return x == e })
}

// retire closes a connection that turned out to be of no use.
func (d *Dialer) retire(e *entry) {
	d.mu.Lock()
	e.drop()
	d.mu.Unlock()
	_ = e.client.Close()
}

// narrow lowers the number of sessions on e after the server refused one. It
// says whether another connection can help.
func (d *Dialer) narrow(e *entry) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.uses <= 1 {
		return false
	}
	e.limit = max(1, min(e.limit, e.uses-1))
	return true
}

// release gives a place on e back; e may be nil.
func (d *Dialer) release(e *entry, tunnel bool) {
	if e == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if tunnel {
		e.tunnels--
	} else {
		e.uses--
	}
	if e.uses+e.tunnels == 0 && !e.dead && !d.closed {
		e.stopIdle()
		e.idle = time.AfterFunc(d.idleTTL(), func() { d.expire(e) })
	}
}

func (d *Dialer) idleTTL() time.Duration {
	if d.IdleTTL > 0 {
		return d.IdleTTL
	}
	return idleTTL
}

func (d *Dialer) expire(e *entry) {
	d.mu.Lock()
	busy := e.dead || e.uses+e.tunnels > 0
	if !busy {
		e.drop()
	}
	d.mu.Unlock()
	if !busy {
		_ = e.client.Close()
	}
}

// keepalive closes the connection when the other side no longer answers: it
// asks after every interval and waits for two.
func (d *Dialer) keepalive(e *entry, every time.Duration) {
	defer d.wg.Done()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-e.done:
			return
		case <-tick.C:
		}
		late := time.AfterFunc(2*every, func() { _ = e.client.Close() })
		_, _, err := e.client.SendRequest("keepalive@openssh.com", true, nil)
		late.Stop()
		if err != nil {
			_ = e.client.Close()
			return
		}
	}
}

// Close ends every connection, also those in use, and waits for what served
// them. Later dials fail.
func (d *Dialer) Close() error {
	d.init()
	var all []*gossh.Client
	d.mu.Lock()
	d.closed = true
	for _, g := range d.groups {
		for _, e := range g.entries {
			e.dead = true
			e.stopIdle()
			all = append(all, e.client)
		}
	}
	d.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
	d.wg.Wait()
	return nil
}
