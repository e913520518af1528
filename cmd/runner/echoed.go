package main

import (
	"sync"

	"runner/engine/journal"
)

// maxUnechoed bounds the keys that wait for their echo.
const maxUnechoed = 4096

// echoed records what a person types as far as the device shows it: keys that are
// typed blindly, such as passwords, are not, because nothing is recorded as typed
// that was not also shown. Keys that print nothing, such as return, always are.
type echoed struct {
	rec *journal.Recording

	mu      sync.Mutex
	keys    []byte // not decided yet; the first one prints
	matched []byte // of the same run of printing keys, shown already
	inSeq   byte   // of the output: escape sequence it is in
}

func prints(b byte) bool { return b >= 0x20 && b != 0x7f }

// typed takes keys on their way to the device.
func (e *echoed) typed(keys []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(keys) > 1 && keys[0] == 0x1b && len(e.keys)+len(e.matched) == 0 { // a key such as an arrow
		e.rec.Type(keys)
		return
	}
	e.keys = append(e.keys, keys...)
	if len(e.keys) > maxUnechoed {
		e.keys, e.matched = nil, nil
	}
	e.settle()
}

// settle records what is decided: runs of printing keys that were shown whole, and
// what ends them.
func (e *echoed) settle() {
	for len(e.keys) > 0 && !prints(e.keys[0]) {
		e.rec.Type(append(e.matched, e.keys[0]))
		e.matched, e.keys = nil, e.keys[1:]
	}
}

// shown takes what the device shows.
func (e *echoed) shown(p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range p {
		if len(e.keys) == 0 && e.inSeq == 0 && b != 0x1b {
			continue
		}
		if e.escape(b) || len(e.keys) == 0 {
			continue
		}
		if b == e.keys[0] {
			e.matched, e.keys = append(e.matched, b), e.keys[1:]
		} else {
			e.matched = nil
			for len(e.keys) > 0 && prints(e.keys[0]) {
				e.keys = e.keys[1:]
			}
		}
		e.settle()
	}
}

// escape reports whether b belongs to an escape sequence.
func (e *echoed) escape(b byte) bool {
	switch {
	case e.inSeq == 0 && b == 0x1b:
		e.inSeq = b
	case e.inSeq == 0:
		return false
	case e.inSeq == 0x1b && (b == '[' || b == ']'):
		e.inSeq = b
	case e.inSeq == '[' && b < 0x40, e.inSeq == ']' && b != 0x07 && b != '\\':
	default:
		e.inSeq = 0
	}
	return true
}
