// Package psrp owns the PowerShell Remoting Protocol ([MS-PSRP]), client and
// server side of one codec: messages, fragments, the session key, the state
// machines of runspace pools and pipelines, streams, input and host calls. It
// turns bytes into events and calls into bytes. It performs no I/O, starts no
// goroutine and reads no clock; it refuses to know WS-Man and what scripts are
// for. Neither a Client nor a Server may be used by two goroutines at once.
package psrp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"runner/engine/transport/winrm/clixml"
)

// messageType is a message's type ([MS-PSRP] 2.2.1).
type messageType uint32

const (
	sessionCapability   messageType = 0x00010002
	initRunspacePool    messageType = 0x00010004
	publicKey           messageType = 0x00010005
	encryptedSessionKey messageType = 0x00010006
	publicKeyRequest    messageType = 0x00010007
	connectRunspacePool messageType = 0x00010008

	setMaxRunspaces      messageType = 0x00021002
	setMinRunspaces      messageType = 0x00021003
	runspaceAvailability messageType = 0x00021004
	runspacePoolState    messageType = 0x00021005
	createPipeline       messageType = 0x00021006
	getAvailable         messageType = 0x00021007
	userEvent            messageType = 0x00021008
	privateData          messageType = 0x00021009
	runspacePoolInitData messageType = 0x0002100B
	resetRunspaceState   messageType = 0x0002100C
	poolHostCall         messageType = 0x00021100
	poolHostResponse     messageType = 0x00021101

	pipelineInput        messageType = 0x00041002
	endOfInput           messageType = 0x00041003
	pipelineOutput       messageType = 0x00041004
	errorRecord          messageType = 0x00041005
	pipelineState        messageType = 0x00041006
	debugRecord          messageType = 0x00041007
	verboseRecord        messageType = 0x00041008
	warningRecord        messageType = 0x00041009
	progressRecord       messageType = 0x00041010
	informationRecord    messageType = 0x00041011
	pipelineHostCall     messageType = 0x00041100
	pipelineHostResponse messageType = 0x00041101
)

// Destinations of a message.
const (
	toClient uint32 = 1
	toServer uint32 = 2
)

const messageHeader = 40

var errMessage = errors.New("psrp: a message is shorter than its head")

// message is one unit of the protocol ([MS-PSRP] 2.2.1).
type message struct {
	to       uint32
	typ      messageType
	pool     clixml.GUID
	pipeline clixml.GUID // zero: the message is about the pool
	body     []byte      // CLIXML; empty in END_OF_PIPELINE_INPUT
}

// mixed returns g in the byte order of .NET's Guid.ToByteArray, which is its
// own inverse.
func mixed(g clixml.GUID) clixml.GUID {
	g[0], g[1], g[2], g[3] = g[3], g[2], g[1], g[0]
	g[4], g[5] = g[5], g[4]
	g[6], g[7] = g[7], g[6]
	return g
}

func (m message) bytes() []byte {
	b := make([]byte, 0, messageHeader+len(m.body))
	b = binary.LittleEndian.AppendUint32(b, m.to)
	b = binary.LittleEndian.AppendUint32(b, uint32(m.typ))
	pool, pipeline := mixed(m.pool), mixed(m.pipeline)
	b = append(append(b, pool[:]...), pipeline[:]...)
	return append(b, m.body...)
}

func parseMessage(b []byte) (message, error) {
	if len(b) < messageHeader {
		return message{}, errMessage
	}
	m := message{to: binary.LittleEndian.Uint32(b), typ: messageType(binary.LittleEndian.Uint32(b[4:]))}
	m.pool, m.pipeline = mixed(clixml.GUID(b[8:24])), mixed(clixml.GUID(b[24:40]))
	m.body = bytes.TrimPrefix(b[messageHeader:], []byte("\xef\xbb\xbf"))
	return m, nil
}

// ID reads the runspace pool and the pipeline that the first message of a
// stream of fragments is about. A server that has to tell pools apart before it
// has one needs it; the stream may hold more.
func ID(stream []byte) (pool, pipeline clixml.GUID, err error) {
	if len(stream) < fragmentHeader+messageHeader {
		return pool, pipeline, errMessage
	}
	m, err := parseMessage(stream[fragmentHeader:])
	if err != nil {
		return pool, pipeline, err
	}
	return m.pool, m.pipeline, nil
}

// endpoint is what both sides have.
type endpoint struct {
	pool    clixml.GUID
	peer    uint32 // destination of what is sent
	split   splitter
	joins   map[clixml.GUID]*joiner // one stream for the pool, one for each pipeline
	limit   int
	session session
}

// DefaultMaxObject bounds one message of a peer.
const DefaultMaxObject = 64 << 20

func newEndpoint(pool clixml.GUID, peer uint32, limit int) endpoint {
	if limit <= 0 {
		limit = DefaultMaxObject
	}
	return endpoint{pool: pool, peer: peer, limit: limit, joins: map[clixml.GUID]*joiner{}, split: splitter{size: packetSize(smallEnvelope)}}
}

// encode returns the fragments of a message about v.
func (e *endpoint) encode(typ messageType, pipeline clixml.GUID, v any) ([][]byte, error) {
	body := ""
	if typ != endOfInput {
		var err error
		if body, err = clixml.Encode(v, e.session.cipher()); err != nil {
			return nil, fmt.Errorf("psrp: %w", err)
		}
	}
	return e.split.cut(message{to: e.peer, typ: typ, pool: e.pool, pipeline: pipeline, body: []byte(body)}.bytes()), nil
}

// messages joins the bytes of one stream into the messages that are complete.
func (e *endpoint) messages(stream clixml.GUID, b []byte) ([]message, error) {
	j := e.joins[stream]
	if j == nil {
		j = &joiner{limit: e.limit}
		e.joins[stream] = j
	}
	objects, err := j.add(b)
	if err != nil {
		return nil, err
	}
	var out []message
	for _, o := range objects {
		m, err := parseMessage(o)
		if err != nil {
			return out, err
		}
		if m.to == e.peer {
			return out, errors.New("psrp: a message is addressed to its sender")
		}
		if m.pool != e.pool && !m.pool.IsZero() {
			return out, errors.New("psrp: a message is about another runspace pool")
		}
		out = append(out, m)
	}
	return out, nil
}

// decode reads the object of a message. Some peers send nothing for $null.
func (e *endpoint) decode(m message) (any, error) {
	if len(m.body) == 0 {
		return nil, nil
	}
	v, err := clixml.Decode(m.body, e.session.cipher())
	if err != nil {
		return nil, fmt.Errorf("psrp: message %#x: %w", uint32(m.typ), err)
	}
	return v, nil
}
