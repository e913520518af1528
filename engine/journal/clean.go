package journal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxCSI    = 64   // characters of a control sequence
	maxString = 4096 // bytes of an operating system command and the like
)

// Clean returns p as a terminal may show it: see Cleaner.
func Clean(p []byte, color bool) []byte {
	c := Cleaner{Color: color}
	return append(c.Write(p), c.Flush()...)
}

// Cleaner makes output of a device harmless for the terminal of whoever reads
// it. What comes out is valid UTF-8 and holds no control character but newline
// and tab and, with Color, complete sequences that set colour and weight (SGR
// of ECMA-48, 8.3.117; without blinking and concealing). All other escape
// sequences are dropped. A carriage return becomes a newline, so that nothing
// is overwritten; NUL, BEL and backspace are dropped; every other control
// character, invalid bytes, and what reorders or hides text are shown as Go
// escapes. It works across writes. The zero Cleaner is ready, without colour.
type Cleaner struct {
	Color bool

	state  cleanState
	rest   []byte // start of a rune
	seq    []byte // of the escape sequence so far
	cr     bool   // a carriage return not passed on yet
	inLine bool   // something stands on the line
	out    []byte
}

type cleanState int

const (
	inText   cleanState = iota
	inEscape            // after ESC
	inShort             // after ESC and intermediate bytes
	inCSI               // after ESC [
	inString            // after ESC ], P, X, ^ or _
	inStringEscape
)

const esc = 0x1b

// Write returns the clean form of p; it keeps back the start of a rune or of
// an escape sequence at its end.
func (c *Cleaner) Write(p []byte) []byte {
	c.out = nil
	p = append(c.rest, p...)
	for len(p) > 0 && utf8.FullRune(p) {
		r, n := utf8.DecodeRune(p)
		if r == utf8.RuneError && n == 1 {
			c.invalid(p[0])
		} else {
			c.rune(r)
		}
		p = p[n:]
	}
	c.rest = slices.Clone(p)
	return c.out
}

// Flush ends the text and returns what was kept back.
func (c *Cleaner) Flush() []byte {
	c.out = nil
	if c.state == inString || c.state == inStringEscape || c.state == inCSI {
		c.abort()
	}
	for _, b := range c.rest {
		c.invalid(b)
	}
	if c.cr && c.inLine {
		c.out = append(c.out, '\n')
	}
	*c = Cleaner{Color: c.Color, out: c.out}
	return c.out
}

// rune takes the next character.
func (c *Cleaner) rune(r rune) {
	switch c.state {
	case inText:
		if r == esc {
			c.begin(inEscape)
			return
		}
		c.text(r)
	case inEscape, inShort:
		c.escape(r)
	case inCSI:
		c.csi(r)
	case inString, inStringEscape:
		c.str(r)
	}
}

func (c *Cleaner) begin(s cleanState) { c.state, c.seq = s, c.seq[:0] }

// escape takes a character after ESC.
func (c *Cleaner) escape(r rune) {
	switch {
	case r == esc:
		c.begin(inEscape)
	case c.state == inEscape && r == '[':
		c.begin(inCSI)
	case c.state == inEscape && strings.ContainsRune("]PX^_", r):
		c.begin(inString)
	case r >= 0x20 && r <= 0x2f && len(c.seq) < maxCSI:
		c.state = inShort
		c.seq = append(c.seq, byte(r))
	case r >= 0x30 && r <= 0x7e:
		c.begin(inText)
	default:
		c.begin(inText)
		c.text(r)
	}
}

// csi takes a character of a control sequence.
func (c *Cleaner) csi(r rune) {
	switch {
	case r >= 0x40 && r <= 0x7e:
		if r == 'm' && c.Color && harmlessSGR(string(c.seq)) {
			c.out = append(append(append(c.out, esc, '['), c.seq...), 'm')
		}
		c.begin(inText)
	case r >= 0x20 && r <= 0x3f && len(c.seq) < maxCSI:
		c.seq = append(c.seq, byte(r))
	default:
		c.abort()
		c.rune(r)
	}
}

// str takes a character of a control string. It ends with BEL or ST; one that
// does not end on its line is shown, so that it cannot hide the rest.
func (c *Cleaner) str(r rune) {
	switch {
	case c.state == inStringEscape && r == '\\', r == 0x07, r == 0x9c:
		c.begin(inText)
	case c.state == inStringEscape:
		c.begin(inEscape)
		c.escape(r)
	case r == esc:
		c.state = inStringEscape
	case r == '\n', r == 0x18, r == 0x1a, len(c.seq) >= maxString:
		c.abort()
		c.text(r)
	default:
		c.seq = utf8.AppendRune(c.seq, r)
	}
}

// abort shows a sequence that is none.
func (c *Cleaner) abort() {
	text := string(c.seq)
	if c.state == inCSI {
		text = "[" + text
	}
	c.begin(inText)
	for _, r := range text {
		c.text(r)
	}
}

// invalid shows a byte that is not UTF-8.
func (c *Cleaner) invalid(b byte) {
	if c.state != inText {
		c.abort()
	}
	c.visible(fmt.Sprintf(`\x%02x`, b))
}

// text passes one character of text on.
func (c *Cleaner) text(r rune) {
	switch {
	case r == '\r':
		c.cr = true
	case r == '\n':
		c.cr, c.inLine = false, false
		c.out = append(c.out, '\n')
	case r == '\t':
		c.visible("\t")
	case r == 0x00, r == 0x07, r == 0x08:
	case r < 0x20 || r == 0x7f:
		c.visible(fmt.Sprintf(`\x%02x`, r))
	case misleading(r):
		c.visible(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
	default:
		c.visible(string(r))
	}
}

// visible passes text on; after a carriage return it starts a new line.
func (c *Cleaner) visible(text string) {
	if c.cr && c.inLine {
		c.out = append(c.out, '\n')
	}
	c.cr, c.inLine = false, true
	c.out = append(c.out, text...)
}

// misleading reports whether r is a C1 control, reorders text, breaks lines
// where none is seen, or is invisible (Unicode TR 36, Trojan Source).
func misleading(r rune) bool {
	switch {
	case r >= 0x80 && r <= 0x9f, // C1
		r == 0x061c, r == 0x200e, r == 0x200f, // bidi marks
		r >= 0x2028 && r <= 0x202e, // separators, bidi embeddings and overrides
		r >= 0x2060 && r <= 0x206f, // invisible operators, bidi isolates
		r == 0x200b, r == 0xfeff,
		r >= 0xfff9 && r <= 0xfffb,
		r >= 0xe0000 && r <= 0xe0fff: // tags
		return true
	}
	return false
}

// harmlessSGR reports whether the parameters of an SGR sequence set only
// colour, weight, slant and underline: nothing that blinks or conceals.
func harmlessSGR(params string) bool {
	if strings.Trim(params, "0123456789;:") != "" {
		return false
	}
	parts := strings.Split(params, ";")
	for i := 0; i < len(parts); i++ {
		word, sub, colon := strings.Cut(parts[i], ":")
		n, err := strconv.Atoi(word)
		switch {
		case word == "" && !colon:
		case err != nil, colon && n != 4 && n != 38 && n != 48 && n != 58, strings.Count(sub, ":") > 6:
			return false
		case (n == 38 || n == 48 || n == 58) && !colon:
			skip := 0
			if i+1 < len(parts) {
				skip = map[string]int{"5": 2, "2": 4}[parts[i+1]]
			}
			if skip == 0 || i+skip >= len(parts) {
				return false
			}
			i += skip
		case n <= 4, n == 7, n == 9, n >= 21 && n <= 24, n == 27, n == 29, n >= 30 && n <= 49, n == 58, n == 59, n >= 90 && n <= 107:
		default:
			return false
		}
	}
	return true
}
