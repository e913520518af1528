// Package seal owns the encryption of secrets that cross the store: AES-256-GCM
// under a key file that only its owner can read, bound to the row it is stored
// in. It refuses key files that others can read or that belong to somebody
// else, and its errors never hold plaintext.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// A box is: version (1 byte), key id (4), nonce (12), ciphertext and tag (16).
// Version, key id and row id are the associated data, so that a box opens only
// where it was put.
const (
	version  = 1
	keySize  = 32
	idSize   = 4
	header   = 1 + idSize
	nonceLen = 12
	tagLen   = 16
)

// Overhead is by how many bytes a box is longer than its contents.
const Overhead = header + nonceLen + tagLen

// ErrUnknownKey says that a box was sealed under a key that the key file does
// not hold: it was replaced, or the store belongs to another workspace.
var ErrUnknownKey = errors.New("seal: the box was sealed under a key that is not in the key file")

// ErrBroken says that a box is not what Seal returned for this row: it was
// changed, cut, or belongs to another row.
var ErrBroken = errors.New("seal: the box was changed or belongs to another row")

// Key seals and unseals. It is safe for use by several goroutines. It prints
// as "seal.Key", whatever the verb.
type Key struct {
	rings []ring // the first one seals, every one unseals
}

type ring struct {
	id   [idSize]byte
	aead cipher.AEAD
}

func newRing(key []byte) (ring, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return ring{}, fmt.Errorf("seal: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return ring{}, fmt.Errorf("seal: %w", err)
	}
	sum := sha256.Sum256(append([]byte("runner seal key id\x00"), key...))
	return ring{[idSize]byte(sum[:idSize]), aead}, nil
}

// Seal encrypts plain for the row with the given id. Two calls never return
// the same box. One key is good for 2^32 boxes (NIST SP 800-38D, 8.3).
func (k *Key) Seal(plain []byte, rowID string) ([]byte, error) {
	if rowID == "" {
		return nil, errors.New("seal: a box needs the id of its row")
	}
	r := k.rings[0]
	box := make([]byte, header+nonceLen, Overhead+len(plain))
	box[0] = version
	copy(box[1:], r.id[:])
	nonce := box[header:]
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	return r.aead.Seal(box, nonce, plain, associated(box, rowID)), nil
}

// Unseal decrypts a box of the row with the given id. It returns ErrUnknownKey
// or ErrBroken, possibly wrapped, when the box cannot be opened.
func (k *Key) Unseal(box []byte, rowID string) ([]byte, error) {
	if len(box) < Overhead {
		return nil, fmt.Errorf("%w (%d bytes are too few)", ErrBroken, len(box))
	}
	if box[0] != version {
		return nil, fmt.Errorf("seal: the box has format %d; this runner knows format %d", box[0], version)
	}
	for _, r := range k.rings {
		if [idSize]byte(box[1:header]) != r.id {
			continue
		}
		plain, err := r.aead.Open(nil, box[header:header+nonceLen], box[header+nonceLen:], associated(box, rowID))
		if err != nil {
			return nil, ErrBroken
		}
		return plain, nil
	}
	return nil, ErrUnknownKey
}

// Format prints no part of the key.
func (k *Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("seal.Key")) }

func associated(box []byte, rowID string) []byte {
	return append(append([]byte(nil), box[:header]...), rowID...)
}
