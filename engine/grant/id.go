package grant

import (
	"encoding/base32"
	"encoding/binary"
	"strings"
	"time"
)

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewID returns prefix and a dash, followed by the lower-case base32 of a
// UUIDv7 (RFC 9562, section 5.7) made of at and random: ids sort by time and
// hold only [a-z0-9-], because they name files on devices.
func NewID(prefix string, at time.Time, random [10]byte) string {
	var u [16]byte
	binary.BigEndian.PutUint64(u[:8], uint64(at.UnixMilli())<<16)
	copy(u[6:], random[:])
	u[6] = u[6]&0x0f | 0x70
	u[8] = u[8]&0x3f | 0x80
	return prefix + "-" + strings.ToLower(idEncoding.EncodeToString(u[:]))
}
