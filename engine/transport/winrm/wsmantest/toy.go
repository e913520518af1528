package wsmantest

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"runner/engine/transport"
	"runner/engine/transport/winrm/gss"
)

// Toy is message security for tests of what is around it: one shared key, AES-GCM
// with counted nonces, logins of one step. It proves nothing about Kerberos.
type Toy struct {
	Word     string // the scheme; empty: Negotiate
	Key      [16]byte
	Lifetime time.Duration // of a login; 0: for ever

	mu     sync.Mutex
	logins int
}

// Logins returns how many contexts were made.
func (t *Toy) Logins() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.logins
}

// Scheme is a gss.Mechanism's.
func (t *Toy) Scheme() string {
	if t.Word == "" {
		return "Negotiate"
	}
	return t.Word
}

// Name is a gss.Mechanism's.
func (t *Toy) Name() string { return "a toy" }

// Initiate makes the client's side.
func (t *Toy) Initiate(ctx context.Context, target gss.Target) (gss.Context, error) {
	if err := ctx.Err(); err != nil {
		return nil, &gss.Error{Phase: transport.PhaseAuth, Code: "auth.cancelled", Err: err}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.logins++
	c := newToy(t, "c", target.Binding)
	c.peer = "HTTP/" + target.Host
	if t.Lifetime > 0 {
		c.expires = time.Now().Add(t.Lifetime)
	}
	return c, nil
}

// Accept makes the host's side.
func (t *Toy) Accept(binding []byte) Login { return newToy(t, "s", binding) }

type toyContext struct {
	aead      cipher.AEAD
	side      string
	binding   []byte
	out, in   uint64
	done      bool
	asked     bool
	peer      string
	expires   time.Time
	otherSide string
}

func newToy(t *Toy, side string, binding []byte) *toyContext {
	block, _ := aes.NewCipher(t.Key[:]) // 16 bytes are a key
	aead, _ := cipher.NewGCM(block)
	other := "c"
	if side == "c" {
		other = "s"
	}
	return &toyContext{aead: aead, side: side, otherSide: other, binding: binding}
}

var errToy = &gss.Error{Phase: transport.PhaseAuth, Code: "auth.mutual", Err: errors.New("the host did not prove that it is who was asked for")}

// Next takes a step of the login.
func (c *toyContext) Next(in []byte) ([]byte, error) {
	seal := func(side string) []byte {
		return c.aead.Seal(nil, make([]byte, 12), []byte(side), c.binding)
	}
	switch {
	case c.side == "c" && !c.asked:
		c.asked = true
		return seal("c"), nil
	case bytes.Equal(in, seal(c.otherSide)):
		c.done = true
		if c.side == "s" {
			return seal("s"), nil
		}
		return nil, nil
	}
	return nil, errToy
}

func (c *toyContext) Done() bool         { return c.done }
func (c *toyContext) Expires() time.Time { return c.expires }

func (c *toyContext) Peer() string {
	if !c.done {
		return ""
	}
	return c.peer
}

func (c *toyContext) nonce(side string, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte("toy"+side), n)
}

func (c *toyContext) Seal(plain []byte) (header, body []byte, err error) {
	c.out++
	b := c.aead.Seal(nil, c.nonce(c.side, c.out), plain, nil)
	return b[len(plain):], b[:len(plain)], nil
}

func (c *toyContext) Open(header, body []byte) ([]byte, error) {
	c.in++
	b, err := c.aead.Open(nil, c.nonce(c.otherSide, c.in), append(append([]byte{}, body...), header...), nil)
	if err != nil {
		return nil, &gss.Error{Phase: transport.PhaseAuth, Code: "seal.tampered", Err: errors.New("a message was changed, or sealed with another key")}
	}
	return b, nil
}
