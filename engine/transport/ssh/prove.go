package ssh

import (
	"context"
	"errors"
	"io"

	gossh "golang.org/x/crypto/ssh"

	"runner/engine/transport"
)

// Prove logs in with a connection of its own and logs out: one authentication,
// no session, no command, so that accounts without a shell can be proven too.
// A nil error means that the device accepted the login.
func (d *Dialer) Prove(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	d.init()
	via, err := d.gateway(ctx, cfg)
	if err != nil {
		return err
	}
	defer d.release(via, true)
	lk, err := d.throttled(ctx, cfg, func() (*link, error) { return d.connect(ctx, cfg, via) })
	if err != nil {
		return err
	}
	_ = lk.client.Close()
	return nil
}

// ProveKey asks whether the device would accept a key for cfg.User, without
// having the private key; line is the key as in an authorized_keys file, and
// cfg.Auth is not used. A nil error means that the device would. Nothing is
// signed: the connection ends after the answer.
func (d *Dialer) ProveKey(ctx context.Context, cfg Config, line string) error {
	cfg = cfg.withDefaults()
	d.init()
	pub, _, _, _, err := gossh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return cfg.fail(transport.PhaseAuth, "auth.bad_key", errors.New("the public key cannot be read"), "write it as in an authorized_keys file")
	}
	h, err := newHostKeys(cfg, &d.learning)
	if err != nil {
		return err
	}
	via, err := d.gateway(ctx, cfg)
	if err != nil {
		return err
	}
	defer d.release(via, true)
	l := &login{cfg: cfg, methods: []string{MethodPublicKey}}
	q := &query{key: pub}
	l.signer = q
	next := func(c *gossh.ClientAuthContext) (gossh.AuthMethod, error) {
		if q.accepted {
			return nil, errAccepted
		}
		return l.next(c)
	}
	lk, err := d.throttled(ctx, cfg, func() (*link, error) {
		return d.connectAs(ctx, cfg, via, h, next, func(err error) error {
			if q.accepted {
				return errAccepted
			}
			return l.explain(err)
		})
	})
	switch {
	case errors.Is(err, errAccepted):
		return nil
	case err != nil:
		return err
	}
	_ = lk.client.Close()
	return cfg.fail(transport.PhaseAuth, "auth.open", errors.New("the device lets this account in without any key"), "forbid empty logins on the device")
}

var errAccepted = errors.New("the key would be accepted")

// query is a signer without a private key. The library asks it to sign only
// after the server has accepted the public key (RFC 4252, section 7).
type query struct {
	key      gossh.PublicKey
	accepted bool
}

func (q *query) PublicKey() gossh.PublicKey { return q.key }

func (q *query) Sign(io.Reader, []byte) (*gossh.Signature, error) {
	q.accepted = true
	return nil, errAccepted
}

// SignWithAlgorithm lets RSA keys be asked for with SHA-2.
func (q *query) SignWithAlgorithm(io.Reader, []byte, string) (*gossh.Signature, error) {
	return q.Sign(nil, nil)
}
