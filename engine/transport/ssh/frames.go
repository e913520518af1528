package ssh

import (
	"bytes"
	"strconv"
	"strings"
)

// A frame is RS, the nonce of the coordinator, a blank and its fields up to the
// end of the line. It may stand anywhere in a stream. The frames:
//
//	H pid pgid sid start     a program begins                     stdout
//	B step                   a step begins                        both streams
//	F step key length        a fact; length bytes and LF follow   stdout
//	K                        says nothing; is anybody there?      stdout
//	R step attempt           the attempt did not do               stdout
//	E step rc changed failed attempts                             both
//	S step reason            skipped                              both
//	Z                        the program has ended                both
const rs = 0x1e

// Limits of what a peer may say.
const (
	maxHeader = 512
	maxFact   = 1 << 20
	maxFacts  = 4096 // per step
	maxHeld   = 8 << 20
)

// item is a piece of a stream: text, or a frame.
type item struct {
	stream int // 0: stdout, 1: stderr
	text   []byte
	frame  []string // fields; the value of a fact is in text
	big    bool     // a fact beyond maxFact, without its value
	eof    bool
}

// parser takes a stream apart. It holds back nothing but what may be the start
// of a marker, an unfinished header or an unfinished fact.
type parser struct {
	stream int
	marker []byte
	buf    []byte
	fact   []string // the header of the fact that is being read
	need   int      // bytes of its value
	skip   int      // bytes still to drop
	emit   func(item)
}

func newParser(stream int, nonce string, emit func(item)) *parser {
	return &parser{stream: stream, marker: []byte(string(rune(rs)) + nonce + " "), emit: emit}
}

// feed takes the next bytes of the stream; b is not kept.
func (p *parser) feed(b []byte) {
	p.buf = append(p.buf, b...)
	for p.step() {
	}
	if len(p.buf) == 0 && cap(p.buf) > 1<<17 {
		p.buf = nil
	}
}

// step consumes what it can and says whether there may be more.
func (p *parser) step() bool {
	switch {
	case p.skip > 0:
		n := min(p.skip, len(p.buf))
		p.buf, p.skip = p.buf[n:], p.skip-n
		return n > 0 && p.skip == 0
	case p.fact != nil:
		if len(p.buf) < p.need+1 {
			return false
		}
		p.emit(item{stream: p.stream, frame: p.fact, text: bytes.Clone(p.buf[:p.need])})
		p.buf, p.fact = p.buf[p.need+1:], nil
		return true
	}
	i := bytes.Index(p.buf, p.marker)
	if i < 0 {
		p.text(len(p.buf) - p.partial())
		return false
	}
	rest := p.buf[i+len(p.marker):]
	end := bytes.IndexByte(rest[:min(len(rest), maxHeader)], '\n')
	if end < 0 {
		p.text(i)
		if len(rest) >= maxHeader { // not one of ours
			p.text(len(p.marker))
			return true
		}
		return false
	}
	p.text(i)
	p.header(string(rest[:end]), len(p.marker)+end+1)
	return true
}

// header takes a frame of size bytes at the start of the buffer.
func (p *parser) header(line string, size int) {
	f := strings.Fields(line)
	if len(f) == 0 {
		p.text(size)
		return
	}
	if f[0] != "F" {
		p.buf = p.buf[size:]
		p.emit(item{stream: p.stream, frame: f})
		return
	}
	n, err := 0, error(nil)
	if len(f) == 4 {
		n, err = strconv.Atoi(f[3])
	}
	if len(f) != 4 || err != nil || n < 0 || n > 1<<40 {
		p.text(size)
		return
	}
	p.buf = p.buf[size:]
	if n > maxFact {
		p.skip = n + 1
		p.emit(item{stream: p.stream, frame: f, big: true})
		return
	}
	p.fact, p.need = f, n
}

// text hands on the first n bytes of the buffer.
func (p *parser) text(n int) {
	if n <= 0 {
		return
	}
	p.emit(item{stream: p.stream, text: bytes.Clone(p.buf[:n])})
	p.buf = p.buf[n:]
}

// partial returns how many bytes at the end may be the start of a marker.
func (p *parser) partial() int {
	from := max(0, len(p.buf)-len(p.marker)+1)
	i := bytes.LastIndexByte(p.buf[from:], rs)
	if i < 0 || !bytes.HasPrefix(p.marker, p.buf[from+i:]) {
		return 0
	}
	return len(p.buf) - from - i
}

// end hands on what was held back and says that the stream has ended.
func (p *parser) end() {
	if p.fact == nil && p.skip == 0 {
		p.text(len(p.buf))
	}
	p.buf = nil
	p.emit(item{stream: p.stream, eof: true})
}

// merger joins the two streams of a coordinator: a frame that is on both counts
// when both have it, and what one stream says beyond it waits for the other.
type merger struct {
	single bool // there is one stream only (a terminal)
	ahead  [2]string
	held   [2][]item
	bytes  int // in held
	out    func(item) bool
}

// errFraming says what is wrong with the frames, or "".
type framing string

// put takes the next item. It returns false when out did, and a complaint when
// the frames of the streams do not belong together.
func (m *merger) put(it item) (bool, framing) {
	if m.ahead[it.stream] != "" {
		m.held[it.stream] = append(m.held[it.stream], it)
		if m.bytes += len(it.text) + 64; m.bytes > maxHeld {
			return false, "one output stream ran ahead of the other"
		}
		return true, ""
	}
	if it.frame == nil || m.single || !onBoth(it.frame[0]) {
		return m.out(it), ""
	}
	line := strings.Join(it.frame, " ")
	other := 1 - it.stream
	if m.ahead[other] == "" {
		m.ahead[it.stream] = line
		return true, ""
	}
	if m.ahead[other] != line {
		return false, "the frames of the two output streams differ"
	}
	m.ahead[other] = ""
	if !m.out(it) {
		return false, ""
	}
	waiting := m.held[other]
	m.held[other], m.bytes = nil, 0
	for i, w := range waiting {
		if ok, bad := m.put(w); !ok {
			m.held[other] = append(m.held[other], waiting[i+1:]...)
			return ok, bad
		}
	}
	return true, ""
}

func onBoth(kind string) bool {
	return kind == "B" || kind == "E" || kind == "S" || kind == "Z"
}
