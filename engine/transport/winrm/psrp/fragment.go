package psrp

import (
	"encoding/binary"
	"errors"
)

const (
	fragmentHeader = 21 // object id, fragment id, flags, length ([MS-PSRP] 2.2.4)
	flagStart      = 1
	flagEnd        = 2

	// Envelopes of servers: before their version is known and after it, in bytes
	// ([MS-WSMV] 3.1.4.1.13 and the default of MaxEnvelopeSizekb).
	smallEnvelope = 153600
	largeEnvelope = 512000

	// envelopeHead is room for everything in an envelope but the base64 of a packet.
	envelopeHead = 4096
	minEnvelope  = envelopeHead + 1024
)

// packetSize returns how many bytes may travel in an envelope.
func packetSize(envelope int) int { return (envelope - envelopeHead) / 4 * 3 }

// splitter cuts messages into fragments of at most size bytes each.
type splitter struct {
	size int
	last uint64 // object id
}

func (s *splitter) cut(object []byte) [][]byte {
	s.last++
	var out [][]byte
	for id := uint64(0); ; id++ {
		n := min(len(object), s.size-fragmentHeader)
		b := make([]byte, 0, fragmentHeader+n)
		b = binary.BigEndian.AppendUint64(b, s.last)
		b = binary.BigEndian.AppendUint64(b, id)
		var flags byte
		if id == 0 {
			flags |= flagStart
		}
		if n == len(object) {
			flags |= flagEnd
		}
		b = binary.BigEndian.AppendUint32(append(b, flags), uint32(n)) //nolint:gosec // at most an envelope
		out = append(out, append(b, object[:n]...))
		if object = object[n:]; len(object) == 0 {
			return out
		}
	}
}

// pack joins fragments into packets of at most size bytes each, in order.
func (s *splitter) pack(fragments [][]byte) [][]byte {
	var out [][]byte
	for _, f := range fragments {
		if n := len(out); n > 0 && len(out[n-1])+len(f) <= s.size {
			out[n-1] = append(out[n-1], f...)
			continue
		}
		out = append(out, f)
	}
	return out
}

// maxOpen bounds how many objects a peer may send at the same time.
const maxOpen = 64

var (
	errOrder     = errors.New("psrp: a fragment is out of order")
	errTooLarge  = errors.New("psrp: a message is larger than the limit")
	errFragments = errors.New("psrp: too many messages are open at the same time")
)

// joiner puts the fragments of one stream together. A piece of the stream may
// hold several fragments, or a part of one.
type joiner struct {
	limit int
	buf   []byte
	open  map[uint64]*partial
	held  int // bytes in open
}

type partial struct {
	next uint64
	data []byte
}

// add returns the objects that are complete now. After an error the stream is
// of no use any more.
func (j *joiner) add(b []byte) ([][]byte, error) {
	j.buf = append(j.buf, b...)
	var out [][]byte
	for len(j.buf) >= fragmentHeader {
		object, id := binary.BigEndian.Uint64(j.buf), binary.BigEndian.Uint64(j.buf[8:])
		flags, n := j.buf[16], uint64(binary.BigEndian.Uint32(j.buf[17:]))
		if n > uint64(j.limit) { //nolint:gosec // positive
			return nil, errTooLarge
		}
		size := fragmentHeader + int(n) //nolint:gosec // checked
		if len(j.buf) < size {
			break
		}
		done, err := j.take(object, id, flags, j.buf[fragmentHeader:size])
		if err != nil {
			return nil, err
		}
		if done != nil {
			out = append(out, done)
		}
		j.buf = j.buf[size:]
	}
	if len(j.buf) == 0 {
		j.buf = nil
	}
	return out, nil
}

// take adds one fragment and returns its object when that is complete.
func (j *joiner) take(object, id uint64, flags byte, blob []byte) ([]byte, error) {
	p := j.open[object]
	if start := flags&flagStart != 0; start != (p == nil) || start != (id == 0) || p != nil && p.next != id {
		return nil, errOrder
	}
	if p == nil {
		if len(j.open) >= maxOpen {
			return nil, errFragments
		}
		if j.open == nil {
			j.open = map[uint64]*partial{}
		}
		p = &partial{}
		j.open[object] = p
	}
	if j.held += len(blob); j.held > j.limit {
		return nil, errTooLarge
	}
	p.next++
	p.data = append(p.data, blob...)
	if flags&flagEnd == 0 {
		return nil, nil
	}
	delete(j.open, object)
	j.held -= len(p.data)
	if p.data == nil {
		p.data = []byte{}
	}
	return p.data, nil
}
