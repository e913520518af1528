package engine

import (
	"context"
	"errors"
	"sync"

	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/transport/ssh"
)

// Keeping reaches devices as Dialers do, and keeps the login that proves an account
// for a session as that account: nobody logs in twice. Its connection is dialled
// while the account is being made. It is for one grant; its owner calls Close.
type Keeping struct {
	*Dialers

	mu   sync.Mutex
	held *ssh.Held
	own  ssh.Auth // of an account that was there before
	in   bool     // logged in
}

var _ Dialer = (*Keeping)(nil)

// ErrNoLogin says that there is no login that a session could use.
var ErrNoLogin = errors.New("the template gives the account neither a key nor a password, so nobody can log in as it")

// Begin connects to where the grant's account will be, in the background.
func (k *Keeping) Begin(ctx context.Context, g *grant.Grant) error {
	cn, err := pinnedConnection(g.Plan)
	if err != nil {
		return err
	}
	return k.begin(ctx, &cn.Connection, g.Account)
}

// BeginAs is Begin for an account that was there before, by its own login. It logs in
// with UseOwn only, when the grant is active: what an account may is settled when it
// logs in.
func (k *Keeping) BeginAs(ctx context.Context, c *inventory.Connection) error {
	cfg, err := k.SSH.config(ctx, c)
	if err != nil {
		return err
	}
	k.own = cfg.Auth
	return k.begin(ctx, c, c.User)
}

// UseOwn logs in as BeginAs said.
func (k *Keeping) UseOwn(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held.Login(ctx, k.own)
}

func (k *Keeping) begin(ctx context.Context, c *inventory.Connection, account string) error {
	cfg, err := k.SSH.config(ctx, c)
	if err != nil {
		return err
	}
	cfg.User, cfg.Auth, cfg.Become = account, ssh.Auth{}, ssh.Become{}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held == nil {
		k.held = k.SSH.SSH.Hold(context.WithoutCancel(ctx), cfg)
	}
	return nil
}

// Prove logs in as the account of the grant, and keeps the connection. A key that
// the requester has is only asked about.
func (k *Keeping) Prove(ctx context.Context, c *inventory.Connection, l Login) error {
	if l.PublicKey != "" {
		return k.Dialers.Prove(ctx, c, l)
	}
	if err := k.begin(ctx, c, l.Account); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.held.Login(ctx, l.auth())
	k.in = err == nil
	return err
}

// Use is Prove for an account that another process has made.
func (k *Keeping) Use(ctx context.Context, g *grant.Grant, l Login) error {
	k.mu.Lock()
	in := k.in
	k.mu.Unlock()
	if in {
		return nil
	}
	if l.PrivateKey.IsZero() && l.Password.IsZero() {
		return ErrNoLogin
	}
	cn, err := pinnedConnection(g.Plan)
	if err != nil {
		return err
	}
	return k.Prove(ctx, &cn.Connection, l)
}

// Run runs a session on the connection that logged in: see [ssh.Held.Run].
func (k *Keeping) Run(ctx context.Context, s ssh.Session) (int, error) {
	return k.held.Run(ctx, s)
}

// Close ends the connection.
func (k *Keeping) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held == nil {
		return nil
	}
	return k.held.Close()
}
