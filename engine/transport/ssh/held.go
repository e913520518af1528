package ssh

import (
	"context"
	"errors"
	"sync"

	gossh "golang.org/x/crypto/ssh"

	"runner/engine/transport"
)

// Held is a connection of its own to a device as an account that need not be there
// yet: name, TCP and key exchange are done meanwhile, and nothing names the account
// before Login. Afterwards it carries one session. Its owner calls Close.
type Held struct {
	d    *Dialer
	cfg  Config
	gate *gate
	stop context.CancelFunc
	done chan struct{} // closed when the first dial has ended
	once sync.Once

	login *login // set before the gate opens
	lk    *link
	via   *entry
	err   error
	ent   *entry // once logged in
}

// Hold begins to connect as cfg says and returns at once; cfg.Auth is not used.
// What goes wrong is told by Login. ctx ends the connecting, not the session.
func (d *Dialer) Hold(ctx context.Context, cfg Config) *Held {
	cfg = cfg.withDefaults()
	d.init()
	h := &Held{d: d, cfg: cfg, gate: newGate(), done: make(chan struct{})}
	h.cfg.hold = h.gate
	ctx, h.stop = context.WithCancel(ctx)
	go func() {
		defer close(h.done)
		h.err = h.dial(ctx, h.cfg)
	}()
	return h
}

// dial connects and, when the gate is open, logs in.
func (h *Held) dial(ctx context.Context, cfg Config) error {
	via, err := h.d.gateway(ctx, cfg)
	if err != nil {
		return err
	}
	keys, err := newHostKeys(cfg, &h.d.learning)
	if err == nil {
		h.lk, err = h.d.throttled(ctx, cfg, func() (*link, error) { return h.d.connectAs(ctx, cfg, via, keys, h.next, h.explain) })
	}
	if err != nil {
		h.d.release(via, true)
		return err
	}
	h.via = via
	return nil
}

// errLost says that the connection ended before the login began.
var errLost = errors.New("the connection ended before the login")

// begun returns the login once it may go on.
func (h *Held) begun() *login {
	select {
	case <-h.gate.open:
		return h.login
	default:
		return nil
	}
}

func (h *Held) next(c *gossh.ClientAuthContext) (gossh.AuthMethod, error) {
	if l := h.begun(); l != nil {
		return l.next(c)
	}
	return nil, errLost // the library asks again when it could not send
}

func (h *Held) explain(err error) error {
	if l := h.begun(); l != nil {
		return l.explain(err)
	}
	return h.cfg.fail(transport.PhaseDial, "dial.dropped", errLost, "")
}

// Login logs in, once. A connection that was lost before anything was tried is
// replaced by another. Errors are *transport.Error, as those of Dial.
func (h *Held) Login(ctx context.Context, auth Auth) error {
	if h.login != nil {
		return h.cfg.fail(transport.PhaseAuth, "closed", errors.New("this connection has logged in already"), "")
	}
	cfg := h.cfg
	cfg.Auth = auth
	l, err := newLogin(ctx, cfg)
	if err != nil {
		return err
	}
	defer l.close()
	h.login = l
	h.gate.pass()
	select {
	case <-h.done:
	case <-ctx.Done():
		h.stop()
		<-h.done
	}
	err = h.err
	if te, is := errors.AsType[*transport.Error](err); is && lostBefore(te, l) && ctx.Err() == nil {
		cfg.hold = nil
		err = h.dial(ctx, cfg)
	}
	if err != nil {
		return err
	}
	h.ent = &entry{link: h.lk, group: &group{}, via: h.via, done: make(chan struct{})}
	h.d.wg.Add(2)
	go h.d.watch(h.ent)
	go h.d.keepalive(h.ent, cfg.Keepalive)
	return nil
}

// lostBefore reports that the server was lost before it answered anything of l.
func lostBefore(te *transport.Error, l *login) bool {
	return len(l.tried)+len(l.offered) == 0 && te.Phase != transport.PhaseHostKey && te.Code != "auth.nothing"
}

// Peer says who answered; it is known after Login.
func (h *Held) Peer() transport.Peer {
	if h.lk == nil {
		return transport.Peer{}
	}
	return h.lk.peer
}

// Close ends the connection and waits for what served it.
func (h *Held) Close() error {
	h.once.Do(func() {
		h.stop()
		<-h.done
		switch {
		case h.ent != nil:
			_ = h.ent.client.Close()
			<-h.ent.done
		case h.lk != nil:
			_ = h.lk.client.Close()
			h.d.release(h.via, true)
		}
	})
	return nil
}
