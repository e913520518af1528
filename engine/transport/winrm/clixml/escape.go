package clixml

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const hexDigits = "0123456789ABCDEF"

// escape writes s as the text of an element or attribute. Control characters,
// both halves of what lies beyond the basic plane, and every underscore before
// an x become _xHHHH_ ([MS-PSRP] 2.2.5.3.2); the rest is XML's own.
func escape(b *strings.Builder, s string) {
	for i, r := range s {
		switch {
		case r == '_' && i+1 < len(s) && (s[i+1] == 'x' || s[i+1] == 'X'):
			unit(b, '_')
		case r < 0x20, r >= 0x7f && r <= 0x9f, r == 0xfffe, r == 0xffff:
			unit(b, uint16(r)) //nolint:gosec // a rune of the basic plane
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			unit(b, uint16(hi)) //nolint:gosec // half of a pair
			unit(b, uint16(lo)) //nolint:gosec // half of a pair
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r == '&':
			b.WriteString("&amp;")
		case r == '"':
			b.WriteString("&quot;")
		case r == utf8.RuneError:
			b.WriteRune(r) // also for a byte that is no UTF-8
		default:
			b.WriteRune(r)
		}
	}
}

func unit(b *strings.Builder, u uint16) {
	b.WriteString("_x")
	for shift := 12; shift >= 0; shift -= 4 {
		b.WriteByte(hexDigits[u>>shift&0xf])
	}
	b.WriteByte('_')
}

// unescape reads what escape writes. Half of a pair becomes U+FFFD.
func unescape(s string) string {
	if !strings.Contains(s, "_x") && !strings.Contains(s, "_X") {
		return s
	}
	var b strings.Builder
	var run []uint16
	for i := 0; i < len(s); {
		if u, ok := readUnit(s[i:]); ok {
			run = append(run, u)
			i += 7
			continue
		}
		if run != nil {
			b.WriteString(fromUTF16(run))
			run = nil
		}
		b.WriteByte(s[i])
		i++
	}
	b.WriteString(fromUTF16(run))
	return b.String()
}

// readUnit reads _xHHHH_ at the start of s.
func readUnit(s string) (uint16, bool) {
	if len(s) < 7 || s[0] != '_' || s[1]|0x20 != 'x' || s[6] != '_' {
		return 0, false
	}
	var u uint16
	for _, c := range []byte(s[2:6]) {
		switch {
		case c >= '0' && c <= '9':
			u = u<<4 | uint16(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			u = u<<4 | uint16(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return u, true
}

func fromUTF16(u []uint16) string { return string(utf16.Decode(u)) }
