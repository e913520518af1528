package krb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/jcmturner/gokrb5/v8/types"

	"runner/engine/secret"
	"runner/engine/transport/winrm/krb/etype"
)

// maxFile bounds keytabs and ticket caches, in bytes.
const maxFile = 4 << 20

// keytabEntry is a key of a principal.
type keytabEntry struct {
	user, realm string
	kvno        uint32
	key         etype.Key
}

func (e keytabEntry) is(user types.PrincipalName, realm string) bool {
	return strings.EqualFold(e.user, user.PrincipalNameString()) && strings.EqualFold(e.realm, realm)
}

// readKeytab reads a keytab of version 2, as MIT documents it (file formats: keytab).
// Errors hold nothing of it.
func readKeytab(v secret.Value) ([]keytabEntry, error) {
	r := reader{b: []byte(v.Reveal())}
	if len(r.b) > maxFile || r.u16() != 0x0502 {
		return nil, errors.New("this is no keytab of version 2")
	}
	var entries []keytabEntry
	weak := 0
	for len(r.b) >= 4 {
		n := int32(r.u32()) //nolint:gosec // negative: a hole
		if n < 0 {
			r.take(-int(n))
			continue
		}
		e, err := readKeytabEntry(r.take(int(n)))
		if r.bad || err != nil {
			return nil, errors.New("the keytab is damaged")
		}
		if etype.Check(e.key) != nil {
			weak++
			continue
		}
		entries = append(entries, e)
	}
	switch {
	case len(entries) == 0 && weak > 0:
		return nil, fmt.Errorf("the keytab has %d keys and none of them is AES: make it again with AES", weak)
	case len(entries) == 0:
		return nil, errors.New("the keytab is empty")
	}
	return entries, nil
}

func readKeytabEntry(b []byte) (keytabEntry, error) {
	r := reader{b: b}
	var e keytabEntry
	parts := make([]string, min(int(r.u16()), 16))
	e.realm = string(r.take(int(r.u16())))
	for i := range parts {
		parts[i] = string(r.take(int(r.u16())))
	}
	e.user = strings.Join(parts, "/")
	r.u32() // type of the name
	r.u32() // time
	e.kvno = uint32(r.u8())
	e.key.KeyType = int32(r.u16())
	e.key.KeyValue = r.take(int(r.u16()))
	if r.bad {
		return e, errForm
	}
	if len(r.b) >= 4 { // the version number in full
		if n := r.u32(); n != 0 {
			e.kvno = n
		}
	}
	return e, nil
}

// reader takes big endian numbers and bytes; after the end it gives zeros and is bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// data is a length of 32 bits and as many bytes.
func (r *reader) data() []byte { return r.take(int(r.u32())) }
