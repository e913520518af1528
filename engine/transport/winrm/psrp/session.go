package psrp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"
	"unicode/utf16"

	"runner/engine/secret"
	"runner/engine/transport/winrm/clixml"
)

// KeyBits is the size of the key pairs that protect the session key.
const KeyBits = 2048

const (
	keyBytes     = KeyBits / 8
	sessionBytes = 32
	// maxSecret is how many UTF-16 units a SecureString of .NET can hold.
	maxSecret = 65536
)

// Heads of the blobs of CryptoAPI ([MS-PSRP] 2.2.2.3 and 2.2.2.4).
var (
	publicHead  = []byte{6, 2, 0, 0, 0, 0xa4, 0, 0, 'R', 'S', 'A', '1', 0, 8, 0, 0}
	sessionHead = []byte{1, 2, 0, 0, 0x10, 0x66, 0, 0, 0, 0xa4, 0, 0}
)

var (
	errSessionKey = errors.New("psrp: the session key cannot be opened")
	errPublicKey  = errors.New("psrp: the public key is malformed")
	errSealed     = errors.New("a SecureString cannot be opened")
	errLong       = errors.New("a secret is longer than 65536 characters, which no SecureString can hold")
)

// session seals secrets with the session key, once there is one.
type session struct{ block cipher.Block }

// cipher returns s for clixml, or nil while there is no key.
func (s *session) cipher() clixml.Cipher {
	if s.block == nil {
		return nil
	}
	return s
}

func (s *session) set(key []byte) error {
	if len(key) != sessionBytes {
		return errSessionKey
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return errSessionKey
	}
	s.block = block
	return nil
}

// Seal encrypts with AES-256-CBC, a zero IV and PKCS #7 padding, as [MS-PSRP]
// 2.2.5.1.24 has it: equal secrets of one pool are seen to be equal.
func (s *session) Seal(v secret.Value) (string, error) {
	u := utf16.Encode([]rune(v.Reveal()))
	if len(u) > maxSecret {
		return "", errLong
	}
	b := make([]byte, 0, 2*len(u)+aes.BlockSize)
	for _, c := range u {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	n := aes.BlockSize - len(b)%aes.BlockSize
	b = append(b, bytes.Repeat([]byte{byte(n)}, n)...)
	cipher.NewCBCEncrypter(s.block, make([]byte, aes.BlockSize)).CryptBlocks(b, b) //nolint:gosec // the protocol has no other IV
	return base64.StdEncoding.EncodeToString(b), nil
}

// Open decrypts what Seal made.
func (s *session) Open(text string) (secret.Value, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) == 0 || len(b)%aes.BlockSize != 0 {
		return secret.Value{}, errSealed
	}
	cipher.NewCBCDecrypter(s.block, make([]byte, aes.BlockSize)).CryptBlocks(b, b)
	n := int(b[len(b)-1])
	if n < 1 || n > aes.BlockSize || n%2 != 0 || !bytes.Equal(b[len(b)-n:], bytes.Repeat([]byte{byte(n)}, n)) {
		return secret.Value{}, errSealed
	}
	u := make([]uint16, (len(b)-n)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return secret.New(string(utf16.Decode(u))), nil
}

// publicBlob returns the public half of k.
func publicBlob(k *rsa.PrivateKey) string {
	b := binary.LittleEndian.AppendUint32(slices.Clone(publicHead), uint32(k.E)) //nolint:gosec // 65537
	n := k.N.FillBytes(make([]byte, keyBytes))
	slices.Reverse(n)
	return base64.StdEncoding.EncodeToString(append(b, n...))
}

func parsePublicBlob(s string) (*rsa.PublicKey, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != len(publicHead)+4+keyBytes || !bytes.Equal(b[:len(publicHead)], publicHead) {
		return nil, errPublicKey
	}
	e := binary.LittleEndian.Uint32(b[len(publicHead):])
	n := b[len(publicHead)+4:]
	slices.Reverse(n)
	k := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(e)}
	if k.N.BitLen() != KeyBits || e < 3 || e%2 == 0 || e > 1<<31-1 {
		return nil, errPublicKey
	}
	return k, nil
}

// sealKey encrypts the session key for the owner of k.
func sealKey(k *rsa.PublicKey, key []byte) (string, error) {
	c, err := rsa.EncryptPKCS1v15(rand.Reader, k, key) //nolint:staticcheck // the protocol has no other padding
	if err != nil {
		return "", errPublicKey
	}
	slices.Reverse(c)
	return base64.StdEncoding.EncodeToString(append(slices.Clone(sessionHead), c...)), nil
}

// openKey decrypts the session key.
func openKey(k *rsa.PrivateKey, text string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) != len(sessionHead)+keyBytes || !bytes.Equal(b[:len(sessionHead)], sessionHead) {
		return nil, errSessionKey
	}
	c := b[len(sessionHead):]
	slices.Reverse(c)
	key, err := rsa.DecryptPKCS1v15(nil, k, c) //nolint:staticcheck // the protocol has no other padding
	if err != nil || len(key) != sessionBytes {
		return nil, errSessionKey
	}
	return key, nil
}

// newGUID draws a random GUID.
func newGUID() clixml.GUID {
	var g clixml.GUID
	_, _ = rand.Read(g[:]) // never fails
	g[6], g[8] = g[6]&0x0f|0x40, g[8]&0x3f|0x80
	return g
}
