package secret

import (
	"fmt"
	"slices"
)

// keptBuffer is how much memory a Stream keeps between writes.
const keptBuffer = 256 << 10

// Stream takes secrets out of one stream of bytes, also when they are split
// across writes. Each run of bytes that belongs to a secret becomes Hidden;
// all other bytes come through unchanged and in order. The result does not
// depend on how the stream was cut into writes. A Stream belongs to one
// goroutine.
type Stream struct {
	mask *Mask
	// auto is what runs: begins, or the whole automaton once a secret was seen to begin.
	begins, auto *automaton
	state        int32
	// held are the last bytes: they may be the start of a secret.
	held []byte
	// hidden are the parts of held that belong to a secret: ascending, apart.
	hidden []span
	// run is true when the byte before held was hidden.
	run bool
	out []byte
}

type span struct{ from, to int }

// Write takes the next bytes and returns what may be passed on now: all but
// the longest end that could be the start of a secret. The result is valid
// until the next call.
func (s *Stream) Write(p []byte) []byte {
	s.out = s.out[:0]
	if b := s.mask.beginnings(); b != s.begins {
		a := b
		if s.auto != s.begins {
			a = s.mask.automaton()
		}
		s.begins = b
		s.renew(a)
	}
	from := len(s.held)
	s.held = append(s.held, p...)
	hold := 0
	if s.auto != nil {
		s.scan(from)
		hold = int(s.auto.hold[s.state])
	}
	s.pass(len(s.held) - min(hold, len(s.held)))
	return s.out
}

// Flush ends the stream and returns what was held back; the Stream can be used
// for another one then. A start of a secret at the very end comes through
// unless it is at least MinMasked bytes and half of the secret: then the rest
// was cut off, and it is hidden too. The result is valid until the next call.
func (s *Stream) Flush() []byte {
	s.out = s.out[:0]
	if s.auto != nil {
		for f := s.state; f != 0; f = s.auto.fail[f] {
			d := int(s.auto.depth[f])
			if d <= len(s.held) && d >= MinMasked && 2*d >= int(s.auto.shortest[f]) {
				s.hide(span{len(s.held) - d, len(s.held)})
				break
			}
		}
	}
	s.pass(len(s.held))
	s.state, s.run = 0, false
	return s.out
}

// Format writes Hidden for every verb: a Stream holds parts of secrets.
func (s *Stream) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Hidden)) }

// scan runs the automaton over held from an index on.
func (s *Stream) scan(from int) {
	a, state := s.auto, s.state
	match, dense, rows, width := a.match, a.dense, a.rows, a.width
	for i := from; i < len(s.held); i++ {
		b := s.held[i]
		if state < rows {
			state = dense[state*width+int32(a.class[b])]
		} else {
			state = a.next(state, b)
		}
		if n := int(match[state]); n != 0 {
			if a == s.begins { // all of what begins here is held
				s.renew(s.mask.automaton())
				return
			}
			s.hide(span{max(0, i+1-n), i + 1})
		}
	}
	s.state = state
}

// hide adds a span whose end is not before that of any other.
func (s *Stream) hide(sp span) {
	n := len(s.hidden)
	for n > 0 && s.hidden[n-1].to >= sp.from {
		n--
		sp.from = min(sp.from, s.hidden[n].from)
	}
	s.hidden = append(s.hidden[:n], sp)
}

// pass moves the first n bytes of held to out.
func (s *Stream) pass(n int) {
	at := 0
	for _, h := range s.hidden {
		if h.from >= n {
			break
		}
		s.show(s.held[at:h.from])
		if !s.run {
			s.out = append(s.out, Hidden...)
			s.run = true
		}
		at = min(h.to, n)
	}
	s.show(s.held[at:n])
	rest := s.hidden[:0]
	for _, h := range s.hidden {
		if h.to > n {
			rest = append(rest, span{max(0, h.from-n), h.to - n})
		}
	}
	s.hidden = rest
	if cap(s.held) > keptBuffer {
		s.held = slices.Clone(s.held[n:])
	} else {
		s.held = s.held[:copy(s.held, s.held[n:])]
	}
}

func (s *Stream) show(p []byte) {
	if len(p) > 0 {
		s.out = append(s.out, p...)
		s.run = false
	}
}

// renew continues with the automaton of a set that has grown: what is held is
// looked at again.
func (s *Stream) renew(a *automaton) {
	all := slices.Clone(s.hidden)
	s.auto, s.state, s.hidden = a, 0, s.hidden[:0]
	if a == nil {
		return
	}
	s.scan(0)
	all = append(all, s.hidden...)
	slices.SortFunc(all, func(x, y span) int { return x.to - y.to })
	s.hidden = nil
	for _, h := range all {
		s.hide(h)
	}
}
