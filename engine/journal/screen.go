package journal

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxPicture = 1 << 20 // bytes of a device control string, such as an image
	maxRepeat  = 1000    // how often a character is repeated at once
)

// Screen follows what a program draws on a terminal, and makes it fit to be drawn
// once more on another: text, colours, the cursor and parts that are erased or moved
// come through. What has a terminal answer, print, or change its title, clipboard,
// size, keys and mouse does not (ECMA-48; xterm's control sequences). It works across
// writes. The zero Screen is ready.
type Screen struct {
	state cleanState
	seq   []byte // of the sequence so far, without its introducer
	skip  int    // bytes of the control string so far
	long  bool   // the control string may be a picture
	rest  []byte // start of a rune
	out   []byte

	alternate bool
}

// Full reports whether a program has taken the whole screen, as editors do.
func (s *Screen) Full() bool { return s.alternate }

// Between reports whether the last sequence is complete, so that something else may
// be written to the terminal.
func (s *Screen) Between() bool { return s.state == inText && len(s.rest) == 0 }

// Write follows p and returns what may be drawn. It is valid until the next call.
func (s *Screen) Write(p []byte) []byte {
	s.out = s.out[:0]
	if len(s.rest) > 0 {
		p = append(s.rest, p...)
		s.rest = nil
	}
	for len(p) > 0 {
		if !utf8.FullRune(p) {
			s.rest = slices.Clone(p)
			break
		}
		r, n := utf8.DecodeRune(p)
		if r == utf8.RuneError && n == 1 {
			r = 0xfffd
		}
		s.take(r)
		p = p[n:]
	}
	return s.out
}

// Restore returns what brings a terminal back to how it is commonly used: colours
// off, character set, cursor, whole screen for scrolling, main screen.
func (s *Screen) Restore() []byte {
	*s = Screen{alternate: s.alternate}
	back := "\x1b[0m\x0f\x1b(B\x1b[?7h\x1b[?25h\x1b[?6l\x1b[4l"
	if s.alternate {
		back += "\x1b[?1049l"
		s.alternate = false
	}
	return []byte("\x1b7\x1b[r\x1b8" + back)
}

func (s *Screen) take(r rune) {
	switch s.state {
	case inText:
		s.draw(r)
	case inEscape:
		s.escape(r)
	case inShort:
		s.short(r)
	case inCSI:
		s.csi(r)
	case inString, inStringEscape:
		s.str(r)
	}
}

// draw takes a character outside of sequences.
func (s *Screen) draw(r rune) {
	switch {
	case r == esc:
		s.state, s.seq = inEscape, s.seq[:0]
	case r >= 0x20 && r != 0x7f && (r < 0x80 || r > 0x9f):
		s.out = utf8.AppendRune(s.out, r)
	case r >= '\b' && r <= '\r', r == 0x0e, r == 0x0f: // backspace to carriage return, character sets
		s.out = utf8.AppendRune(s.out, r)
	}
}

// escape takes the character after ESC.
func (s *Screen) escape(r rune) {
	s.state = inText
	switch {
	case r == esc:
		s.state = inEscape
	case r == '[':
		s.state = inCSI
	case strings.ContainsRune("]PX^_", r):
		s.state, s.skip, s.long = inString, 0, r == 'P'
	case r >= 0x20 && r <= 0x2f:
		s.state, s.seq = inShort, append(s.seq, byte(r))
	case strings.ContainsRune("78DEMH", r): // cursor kept and restored, lines, tab stops
		s.out = utf8.AppendRune(append(s.out, esc), r)
	case r == 'c': // a whole reset: of that, what is seen
		s.alternate = false
		s.out = append(s.out, "\x1b[0m\x1b[r\x1b[H\x1b[2J"...)
	}
}

// short takes what follows ESC and an intermediate byte.
func (s *Screen) short(r rune) {
	switch {
	case r >= 0x20 && r <= 0x2f && len(s.seq) < maxCSI:
		s.seq = append(s.seq, byte(r))
		return
	case len(s.seq) == 1 && strings.IndexByte("()*+", s.seq[0]) >= 0 && (r == '0' || r == 'A' || r == 'B'): // character sets
		s.out = append(append(append(s.out, esc), s.seq...), byte(r))
	case string(s.seq) == "#" && r == '8':
		s.out = append(s.out, "\x1b#8"...)
	}
	s.state = inText
	if r == esc {
		s.state, s.seq = inEscape, s.seq[:0]
	}
}

// csi takes a character of a control sequence.
func (s *Screen) csi(r rune) {
	switch {
	case r == esc:
		s.state, s.seq = inEscape, s.seq[:0]
	case r >= 0x20 && r <= 0x3f:
		if len(s.seq) <= maxCSI {
			s.seq = append(s.seq, byte(r))
		}
	case r >= 0x40 && r <= 0x7e:
		s.state = inText
		if len(s.seq) <= maxCSI {
			s.control(string(s.seq), byte(r))
		}
	case r < 0x20: // acted upon in the middle of a sequence
		s.draw(r)
	default:
		s.state = inText
	}
}

// control takes a whole control sequence.
func (s *Screen) control(params string, final byte) {
	pass := func() { s.out = append(append(append(s.out, esc, '['), params...), final) }
	plain := strings.Trim(params, "0123456789;") == ""
	switch {
	case final == 'm' && strings.Trim(params, "0123456789;:") == "",
		plain && strings.IndexByte("ABCDEFGHIJKLMPSTXZ@`adefgr", final) >= 0,
		params == "" && (final == 's' || final == 'u'),
		params == "!" && final == 'p':
		pass()
	case plain && final == 'b':
		if n, err := strconv.Atoi(params); params == "" || err == nil && n <= maxRepeat {
			pass()
		}
	case (final == 'h' || final == 'l') && params == "4":
		pass()
	case final == 'h' || final == 'l':
		s.modes(params, final)
	}
}

// Modes of DEC's terminals that only change what is seen: wrapping, origin, cursor,
// the other screen.
var seenModes = []string{"6", "7", "12", "25", "47", "1047", "1048", "1049"}

// modes takes what sets or resets modes.
func (s *Screen) modes(params string, final byte) {
	list, private := strings.CutPrefix(params, "?")
	if !private {
		return
	}
	for mode := range strings.SplitSeq(list, ";") {
		if !slices.Contains(seenModes, mode) {
			continue
		}
		if mode == "47" || mode == "1047" || mode == "1049" {
			s.alternate = final == 'h'
		}
		s.out = append(append(append(s.out, "\x1b[?"...), mode...), final)
	}
}

// str takes a character of a control string, none of which comes through. One that
// does not end hides nothing behind it: but for a picture it ends with its line.
func (s *Screen) str(r rune) {
	s.skip++
	switch {
	case s.state == inStringEscape:
		s.state = inText
		if r != '\\' {
			s.state, s.seq = inEscape, s.seq[:0]
			s.escape(r)
		}
	case r == esc:
		s.state = inStringEscape
	case r == 0x07 && !s.long, r == 0x9c, r == 0x18, r == 0x1a:
		s.state = inText
	case s.long && s.skip > maxPicture, !s.long && (s.skip > maxString || r == '\n'):
		s.state = inText
		s.draw(r)
	}
}
