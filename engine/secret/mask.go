package secret

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// MinMasked is the length in characters below which a value is refused as a
// secret to mask: it would occur by chance all over a log.
const MinMasked = 6

// maxMasked bounds one secret, in bytes: an RSA key of 16384 bits takes 13 KiB.
const maxMasked = 16 << 10

// Mask is a set of secrets that are taken out of text. It looks for each of
// them as it is, line by line, in base64 (standard and URL, in each alignment),
// as UTF-16LE and its base64, in hex, and as URL, JSON, XML, sh and PowerShell
// escape it. The zero Mask hides nothing; so does a nil one. Safe for use by
// several goroutines.
type Mask struct {
	mu       sync.Mutex
	secrets  map[string]bool
	patterns []string
	// Nil while patterns wait to be built in. Most text holds no secret, and the whole
	// automaton of a private key takes 8 ms to build: what the patterns begin with is
	// looked for first.
	begins, built atomic.Pointer[automaton]
}

// Add puts a secret into the set; streams that exist already hide it from
// their next write on. It returns an error for values of fewer than MinMasked
// characters or more than 16 KiB; the error does not hold the value.
func (m *Mask) Add(v Value) error {
	text := v.Reveal()
	if n := utf8.RuneCountInString(text); n < MinMasked {
		return fmt.Errorf("secret: a value of %d characters is too short to be masked in logs: at least %d", n, MinMasked)
	}
	if len(text) > maxMasked {
		return fmt.Errorf("secret: a value of %d bytes is too long to be masked in logs: at most %d", len(text), maxMasked)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.secrets[text] {
		return nil
	}
	if m.secrets == nil {
		m.secrets = map[string]bool{}
	}
	m.secrets[text] = true
	m.patterns = append(m.patterns, variants(text)...)
	m.begins.Store(nil)
	m.built.Store(nil)
	return nil
}

// String returns s with every secret replaced by Hidden. The end of s is
// treated as Stream.Flush treats the end of a stream.
func (m *Mask) String(s string) string {
	st := m.Stream()
	out := string(st.Write([]byte(s)))
	return out + string(st.Flush())
}

// Stream returns a mask for one stream of bytes that arrives in pieces.
func (m *Mask) Stream() *Stream { return &Stream{mask: m} }

// Format writes Hidden for every verb: a Mask is made of secrets.
func (m *Mask) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Hidden)) }

// beginnings returns the automaton of the first MinMasked bytes of all patterns, nil if
// there are none. Where it finds nothing, automaton would not either.
func (m *Mask) beginnings() *automaton {
	if m == nil {
		return nil
	}
	return m.build(&m.begins, MinMasked)
}

// automaton returns the automaton of the secrets so far.
func (m *Mask) automaton() *automaton { return m.build(&m.built, math.MaxInt) }

// build returns what is in to, or makes it of the first bytes of each pattern.
func (m *Mask) build(to *atomic.Pointer[automaton], length int) *automaton {
	if a := to.Load(); a != nil {
		return a
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.patterns) == 0 {
		return nil
	}
	if a := to.Load(); a != nil {
		return a
	}
	patterns := make([]string, len(m.patterns))
	for i, p := range m.patterns {
		patterns[i] = p[:min(len(p), length)]
	}
	a := newAutomaton(patterns)
	to.Store(a)
	return a
}
