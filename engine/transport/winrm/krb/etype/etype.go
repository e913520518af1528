// Package etype owns the encryption types of Kerberos that are used here: the four
// of AES (RFC 3962, RFC 8009). It guards the crypto below it against short input,
// and refuses every other type: RC4 and DES are broken. Pure: no I/O, no clock.
package etype

import (
	"crypto/aes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/crypto/common"
	crypt "github.com/jcmturner/gokrb5/v8/crypto/etype"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/types"
)

// Key is a key with its encryption type.
type Key = types.EncryptionKey

// The encryption types, by their numbers (RFC 3961 section 8, RFC 8009 section 8).
const (
	AES128SHA1   = etypeID.AES128_CTS_HMAC_SHA1_96
	AES256SHA1   = etypeID.AES256_CTS_HMAC_SHA1_96
	AES128SHA256 = etypeID.AES128_CTS_HMAC_SHA256_128
	AES256SHA384 = etypeID.AES256_CTS_HMAC_SHA384_192
)

// Confounder is the random prefix of a plaintext, in bytes.
const Confounder = 16

// Bounds of PBKDF2 for keys made of passwords. Who asks for fewer iterations than
// the standard's default is after the password; who asks for more than the
// largest wants to keep us busy.
const (
	minSHA1       = 4096  // RFC 3962 section 4
	minSHA2       = 32768 // RFC 8009 section 4
	maxIterations = 1 << 20
)

// Errors of this package that callers tell apart.
var (
	ErrIntegrity = errors.New("the key is not the one it was encrypted with, or the data was changed")
	ErrWeak      = errors.New("key derivation that is weaker than the standard allows")
)

// kind is what differs between the types.
type kind struct {
	name     string
	key, mac int // bytes
	min      uint32
}

var kinds = map[int32]kind{
	AES128SHA1:   {"aes128-cts-hmac-sha1-96", 16, 12, minSHA1},
	AES256SHA1:   {"aes256-cts-hmac-sha1-96", 32, 12, minSHA1},
	AES128SHA256: {"aes128-cts-hmac-sha256-128", 16, 16, minSHA2},
	AES256SHA384: {"aes256-cts-hmac-sha384-192", 32, 24, minSHA2},
}

// All returns the supported types, the preferred one first: what Active Directory
// has before what it may have one day.
func All() []int32 { return []int32{AES256SHA1, AES128SHA1, AES256SHA384, AES128SHA256} }

// Supported reports whether id is one of All.
func Supported(id int32) bool { _, ok := kinds[id]; return ok }

// Name returns the name of id that administrators know, also of refused types.
func Name(id int32) string {
	if k, ok := kinds[id]; ok {
		return k.name
	}
	switch id {
	case 1, 2, 3:
		return "des"
	case etypeID.DES3_CBC_SHA1_KD:
		return "des3"
	case etypeID.RC4_HMAC, etypeID.RC4_HMAC_EXP:
		return "rc4-hmac"
	default:
		return fmt.Sprintf("encryption type %d", id)
	}
}

// Check says what is wrong with a key: its type, or its length.
func Check(k Key) error {
	kd, ok := kinds[k.KeyType]
	switch {
	case !ok:
		return fmt.Errorf("%s is refused: only AES is allowed", Name(k.KeyType))
	case len(k.KeyValue) != kd.key:
		return fmt.Errorf("a key of %s has %d bytes, not %d", kd.name, kd.key, len(k.KeyValue))
	default:
		return nil
	}
}

// MAC returns the length of the integrity check that ends a ciphertext of id.
func MAC(id int32) int { return kinds[id].mac }

// New returns a random key of type id, which is one of All.
func New(id int32) Key {
	b := make([]byte, kinds[id].key)
	_, _ = rand.Read(b) // never fails
	return Key{KeyType: id, KeyValue: b}
}

// FromPassword derives the key of type id. params are those of ETYPE-INFO2 (RFC
// 4120 section 5.2.7.5): the number of PBKDF2 iterations in 4 bytes, or nothing
// for the type's default. Fewer iterations than that are refused with ErrWeak.
func FromPassword(id int32, password, salt string, params []byte) (_ Key, err error) {
	defer recovered(&err)
	k, ok := kinds[id]
	if !ok {
		return Key{}, Check(Key{KeyType: id})
	}
	et, err := crypto.GetEtype(id)
	if err != nil {
		return Key{}, err
	}
	text := et.GetDefaultStringToKeyParams()
	switch len(params) {
	case 0:
	case 4:
		n := uint32(params[0])<<24 | uint32(params[1])<<16 | uint32(params[2])<<8 | uint32(params[3])
		if n < k.min {
			return Key{}, fmt.Errorf("%d iterations for %s, the least is %d: %w", n, k.name, k.min, ErrWeak)
		}
		if n > maxIterations {
			return Key{}, fmt.Errorf("%d iterations for %s, the most is %d", n, k.name, maxIterations)
		}
		text = hex.EncodeToString(params)
	default:
		return Key{}, fmt.Errorf("parameters of %d bytes for a key of %s, 4 are right", len(params), k.name)
	}
	v, err := et.StringToKey(password, salt, text)
	return Key{KeyType: id, KeyValue: v}, err
}

// Encrypt returns E(confounder | plain) | MAC.
func Encrypt(k Key, usage uint32, plain []byte) ([]byte, error) {
	return EncryptWith(k, usage, NewConfounder(), plain)
}

// NewConfounder returns what makes two encryptions of a text differ.
func NewConfounder() [Confounder]byte {
	var c [Confounder]byte
	_, _ = rand.Read(c[:]) // never fails
	return c
}

// EncryptWith is Encrypt with a given confounder, which is never used twice.
func EncryptWith(k Key, usage uint32, confounder [Confounder]byte, plain []byte) ([]byte, error) {
	et, err := use(k)
	if err != nil {
		return nil, err
	}
	text := make([]byte, 0, Confounder+len(plain))
	text = append(append(text, confounder[:]...), plain...)
	ke, err := et.DeriveKey(k.KeyValue, common.GetUsageKe(usage))
	if err != nil {
		return nil, err
	}
	_, ct, err := et.EncryptData(ke, text)
	if err != nil {
		return nil, err
	}
	covered := text // RFC 3961 section 5.3
	if k.KeyType == AES128SHA256 || k.KeyType == AES256SHA384 {
		covered = append(make([]byte, aes.BlockSize, aes.BlockSize+len(ct)), ct...) // RFC 8009 section 5: the zero IV and the ciphertext
	}
	mac, err := common.GetIntegrityHash(covered, k.KeyValue, usage, et)
	return append(ct, mac...), err
}

// Decrypt is the counterpart of Encrypt. It returns ErrIntegrity for what was not
// encrypted with k for this usage.
func Decrypt(k Key, usage uint32, data []byte) (_ []byte, err error) {
	defer recovered(&err)
	et, err := use(k)
	if err != nil {
		return nil, err
	}
	if least := Confounder + MAC(k.KeyType); len(data) < least {
		return nil, fmt.Errorf("%d bytes are too few for data that is encrypted with %s", len(data), Name(k.KeyType))
	}
	b, err := et.DecryptMessage(k.KeyValue, data, usage)
	if err != nil {
		return nil, ErrIntegrity
	}
	return b, nil
}

// Checksum returns the keyed checksum of data, and its type's number.
func Checksum(k Key, usage uint32, data []byte) (sum []byte, kind int32, err error) {
	et, err := use(k)
	if err != nil {
		return nil, 0, err
	}
	sum, err = et.GetChecksumHash(k.KeyValue, data, usage)
	return sum, et.GetHashID(), err
}

// Verify reports whether sum is the checksum of data under k.
func Verify(k Key, usage uint32, data, sum []byte) bool {
	et, err := use(k)
	return err == nil && et.VerifyChecksum(k.KeyValue, data, sum, usage)
}

func use(k Key) (crypt.EType, error) {
	if err := Check(k); err != nil {
		return nil, err
	}
	return crypto.GetEtype(k.KeyType)
}

// recovered turns a panic over hostile input into an error.
func recovered(err *error) {
	if recover() != nil {
		*err = ErrIntegrity
	}
}
