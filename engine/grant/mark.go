package grant

import (
	"encoding/binary"
	"strings"
	"time"
)

// Mark is what an object on a device says of the grant that made it.
type Mark struct {
	Grant string    `json:"grant_id"`
	Until time.Time `json:"until,omitzero"` // when the device ends the access, by its own clock; zero: not said
}

// markTime is how marks say a moment, in UTC: without the colons that account
// databases cannot hold.
const markTime = "20060102T150405Z"

// MarkOf reads the mark of an account or of a file: "runner g-…", which may go on
// with " until 20261121T120000Z". It stands first, where the owner of an account
// cannot put it. Whatever else is there belongs to others.
func MarkOf(text string) (Mark, bool) {
	rest, is := strings.CutPrefix(text, "runner ")
	if !is {
		return Mark{}, false
	}
	id, rest, _ := strings.Cut(rest, " ")
	if _, valid := IDTime(id); !valid || !strings.HasPrefix(id, "g-") {
		return Mark{}, false
	}
	m := Mark{Grant: id}
	if rest, is = strings.CutPrefix(rest, "until "); is {
		when, _, _ := strings.Cut(rest, " ")
		m.Until, _ = time.Parse(markTime, when) // what is no time is not said
	}
	return m, true
}

// IDTime returns when an id of NewID was made; false for other texts.
func IDTime(id string) (time.Time, bool) {
	prefix, code, is := strings.Cut(id, "-")
	if !is || prefix == "" || len(code) != idEncoding.EncodedLen(16) {
		return time.Time{}, false
	}
	u, err := idEncoding.DecodeString(code)
	if err != nil || u[6]>>4 != 7 || u[8]>>6 != 2 {
		return time.Time{}, false
	}
	var ms [8]byte
	copy(ms[2:], u[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:]))).UTC(), true //nolint:gosec // 48 bits
}
