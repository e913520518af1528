package token

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"runner/engine/transport/winrm/krb/etype"
)

// MaxMessage is the largest plaintext, in bytes: many times of what WinRM takes for
// an envelope.
const MaxMessage = 16 << 20

// Why a message was refused.
var (
	ErrForm     = errors.New("not a sealed message")
	ErrTampered = errors.New("the message was changed on the way, or sealed with another key")
	ErrOrder    = errors.New("messages were replayed, lost or reordered")
	ErrLimit    = errors.New("the message is too large")
	ErrBroken   = errors.New("an earlier message on this connection was refused")
)

// Key usages of per-message tokens (RFC 4121 section 2), by sender.
const (
	acceptorSeal  = 22
	acceptorSign  = 23
	initiatorSeal = 24
	initiatorSign = 25
)

// Bits of the flags of a per-message token (RFC 4121 section 4.2.2).
const (
	byAcceptor     = 1
	sealed         = 2
	acceptorSubkey = 4
)

const headerSize = 16

// Keys are the keys of a context: what both sides agreed on.
type Keys struct {
	Initiator etype.Key // its sub-session key, or the session key
	Acceptor  etype.Key // KeyType 0: the acceptor chose none
}

// Channel seals and opens the messages of one side of a context in order. It is not
// safe for concurrent use. After an error in Open it opens nothing any more.
type Channel struct {
	acceptor   bool // we are it
	keys       Keys
	send, recv uint64
	broken     bool
	confounder func() [etype.Confounder]byte
}

// NewChannel makes the channel of the acceptor or of the initiator. send and recv
// are the first sequence numbers, as the dialogue set them.
func NewChannel(acceptor bool, keys Keys, send, recv uint64) (*Channel, error) {
	if err := etype.Check(keys.Initiator); err != nil {
		return nil, err
	}
	if keys.Acceptor.KeyType != 0 {
		if err := etype.Check(keys.Acceptor); err != nil {
			return nil, err
		}
	}
	return &Channel{acceptor: acceptor, keys: keys, send: send, recv: recv, confounder: etype.NewConfounder}, nil
}

// key returns what we send with, and the flags that say so.
func (c *Channel) key() (etype.Key, byte) {
	k, flags := c.keys.Initiator, byte(0)
	if c.keys.Acceptor.KeyType != 0 {
		k, flags = c.keys.Acceptor, acceptorSubkey
	}
	if c.acceptor {
		flags |= byAcceptor
	}
	return k, flags
}

// usage returns the key usage of what we, or the peer, send.
func usage(acceptor bool, ofAcceptor, ofInitiator uint32) uint32 {
	if acceptor {
		return ofAcceptor
	}
	return ofInitiator
}

// Seal encrypts plain the way Windows does: no filler (EC 0), rotated by the length
// of what follows the ciphertext of plain, so that body is as long as plain and
// header is all the rest.
func (c *Channel) Seal(plain []byte) (header, body []byte, err error) {
	if len(plain) > MaxMessage {
		return nil, nil, fmt.Errorf("%d bytes, the most is %d: %w", len(plain), MaxMessage, ErrLimit)
	}
	k, flags := c.key()
	h := [headerSize]byte{5, 4, flags | sealed, 0xff}
	binary.BigEndian.PutUint64(h[8:], c.send)
	text := make([]byte, 0, len(plain)+headerSize)
	text = append(append(text, plain...), h[:]...)
	ct, err := etype.EncryptWith(k, usage(c.acceptor, acceptorSeal, initiatorSeal), c.confounder(), text)
	if err != nil {
		return nil, nil, err
	}
	c.send++
	rrc := headerSize + etype.MAC(k.KeyType)
	binary.BigEndian.PutUint16(h[6:], uint16(rrc)) //nolint:gosec // at most 40
	cut := len(ct) - rrc
	tok := make([]byte, 0, headerSize+len(ct))
	tok = append(append(append(tok, h[:]...), ct[cut:]...), ct[:cut]...)
	n := len(tok) - len(plain)
	return tok[:n:n], tok[n:], nil
}

// Open decrypts the message that is header and body together; where they are split
// does not matter. It takes every rotation, and the filler of [MS-KILE] 3.4.5.4.1.
// The error is one of those above.
func (c *Channel) Open(header, body []byte) ([]byte, error) {
	if c.broken {
		return nil, ErrBroken
	}
	plain, err := c.open(header, body)
	c.broken = err != nil
	return plain, err
}

func (c *Channel) open(header, body []byte) ([]byte, error) {
	if len(header)+len(body) > MaxMessage+256 {
		return nil, fmt.Errorf("%d bytes, the most is %d: %w", len(header)+len(body), MaxMessage, ErrLimit)
	}
	tok := make([]byte, 0, len(header)+len(body))
	tok = append(append(tok, header...), body...)
	if len(tok) < headerSize || tok[0] != 5 || tok[1] != 4 || tok[3] != 0xff {
		return nil, ErrForm
	}
	key, err := c.peerKey(tok[2], sealed)
	if err != nil {
		return nil, err
	}
	ec, rrc := int(binary.BigEndian.Uint16(tok[4:])), int(binary.BigEndian.Uint16(tok[6:]))
	text := tok[headerSize:]
	if len(text) < etype.Confounder+ec+headerSize+etype.MAC(key.KeyType) {
		return nil, fmt.Errorf("%d bytes: %w", len(tok), ErrForm)
	}
	use := usage(!c.acceptor, acceptorSeal, initiatorSeal)
	pt, err := etype.Decrypt(key, use, rotateLeft(text, rrc))
	if err != nil && ec != 0 {
		pt, err = etype.Decrypt(key, use, rotateLeft(text, rrc+ec))
	}
	if err != nil {
		return nil, ErrTampered
	}
	end := len(pt) - headerSize
	in := pt[end:] // the header again, with any rotation
	if subtle.ConstantTimeCompare(in[:6], tok[:6])&subtle.ConstantTimeCompare(in[8:], tok[8:headerSize]) != 1 {
		return nil, ErrTampered
	}
	if err := c.next(tok[8:headerSize]); err != nil {
		return nil, err
	}
	return pt[: end-ec : end-ec], nil
}

// peerKey checks the flags of a token of the peer and returns the key they name.
func (c *Channel) peerKey(flags, want byte) (etype.Key, error) {
	if flags&^(byAcceptor|sealed|acceptorSubkey) != 0 || flags&sealed != want {
		return etype.Key{}, fmt.Errorf("flags %#02x: %w", flags, ErrForm)
	}
	if (flags&byAcceptor != 0) == c.acceptor {
		return etype.Key{}, fmt.Errorf("our own message came back: %w", ErrOrder)
	}
	if flags&acceptorSubkey == 0 {
		return c.keys.Initiator, nil
	}
	if c.keys.Acceptor.KeyType == 0 {
		return etype.Key{}, fmt.Errorf("a key that was never agreed on: %w", ErrForm)
	}
	return c.keys.Acceptor, nil
}

// next takes a sequence number, which must be the expected one.
func (c *Channel) next(b []byte) error {
	if seq := binary.BigEndian.Uint64(b); seq != c.recv {
		return fmt.Errorf("message %d where %d belongs: %w", seq, c.recv, ErrOrder)
	}
	c.recv++
	return nil
}

// MIC returns the integrity token of msg.
func (c *Channel) MIC(msg []byte) ([]byte, error) {
	k, flags := c.key()
	h := [headerSize]byte{4, 4, flags, 0xff, 0xff, 0xff, 0xff, 0xff}
	binary.BigEndian.PutUint64(h[8:], c.send)
	sum, _, err := etype.Checksum(k, usage(c.acceptor, acceptorSign, initiatorSign), signed(msg, h[:]))
	if err != nil {
		return nil, err
	}
	c.send++
	return append(h[:], sum...), nil
}

// VerifyMIC checks the peer's integrity token of msg.
func (c *Channel) VerifyMIC(msg, mic []byte) error {
	if len(mic) < headerSize || [2]byte(mic) != [2]byte{4, 4} || [5]byte(mic[3:]) != [5]byte{0xff, 0xff, 0xff, 0xff, 0xff} {
		return ErrForm
	}
	key, err := c.peerKey(mic[2], 0)
	if err != nil {
		return err
	}
	if !etype.Verify(key, usage(!c.acceptor, acceptorSign, initiatorSign), signed(msg, mic[:headerSize]), mic[headerSize:]) {
		return ErrTampered
	}
	return c.next(mic[8:headerSize])
}

func signed(msg, header []byte) []byte {
	return append(append(make([]byte, 0, len(msg)+headerSize), msg...), header...)
}

func rotateLeft(b []byte, n int) []byte {
	n %= len(b)
	return append(append(make([]byte, 0, len(b)), b[n:]...), b[:n]...)
}
