package main

import "io"

// escapes reads what a person types and takes out what is meant for runner: a tilde
// at the start of a line and a letter, as ssh has it.
type escapes struct {
	from  io.Reader
	typed func([]byte) // what goes to the device; may be nil
	do    func(key byte) bool

	begun bool // something was typed on this line
	tilde bool
	over  bool
	rest  []byte
}

// escapeHelp is what ~? says.
const escapeHelp = "~. ends the session, ~e extends it, ~~ types a tilde, ~? says this"

// Read returns what goes to the device.
func (e *escapes) Read(p []byte) (int, error) {
	for {
		if len(e.rest) > 0 {
			n := copy(p, e.rest)
			e.rest = e.rest[n:]
			return n, nil
		}
		if e.over {
			return 0, io.EOF
		}
		buf := make([]byte, max(1, min(len(p), 4096)))
		n, err := e.from.Read(buf)
		e.take(buf[:n])
		if e.typed != nil && len(e.rest) > 0 {
			e.typed(e.rest)
		}
		if err != nil && len(e.rest) == 0 {
			return 0, err
		}
		e.over = e.over || err != nil
	}
}

// take sorts out keys.
func (e *escapes) take(keys []byte) {
	for _, k := range keys {
		switch {
		case e.over:
			return
		case e.tilde:
			e.tilde = false
			switch {
			case k == '~':
				e.rest, e.begun = append(e.rest, k), true
			case e.do(k):
				e.over = e.over || k == '.'
			default:
				e.rest, e.begun = append(e.rest, '~', k), !newLine(k)
			}
		case k == '~' && !e.begun:
			e.tilde = true
		default:
			e.rest = append(e.rest, k)
			e.begun = !newLine(k)
		}
	}
}

// newLine reports keys after which most programs have an empty line: return, Ctrl-C,
// Ctrl-U.
func newLine(k byte) bool { return k == '\r' || k == '\n' || k == 0x03 || k == 0x15 }
