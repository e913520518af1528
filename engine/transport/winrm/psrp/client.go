package psrp

import (
	"crypto/rsa"
	"errors"
	"fmt"

	"runner/engine/transport/winrm/clixml"
)

// Versions that a client shows ([MS-PSRP] 2.2.2.1), those of Windows 10 and
// Server 2016; older servers answer with theirs.
const (
	protocolVersion      = clixml.Version("2.3")
	serializationVersion = clixml.Version("1.1.0.1")
	psVersion            = clixml.Version("2.0")
)

// ClientConfig describes a runspace pool.
type ClientConfig struct {
	ID  clixml.GUID // zero: a random one
	Min int         // runspaces that are kept; 0: 1
	Max int         // runspaces at the same time; 0: 1
	// MaxObject bounds one message of the server in bytes; 0: DefaultMaxObject.
	MaxObject int
	// MaxEnvelope is the size of an envelope that the server takes, when it is
	// known; 0: what every server takes, and more once it has said its version.
	MaxEnvelope int
}

// Client is the client side of a runspace pool.
type Client struct {
	endpoint
	cfg      ClientConfig
	state    PoolState
	version  string // of the protocol, as the server says; empty: not known yet
	key      *rsa.PrivateKey
	call     int64
	calls    map[int64]func(ok bool)
	minimum  int
	maximum  int
	pipeline map[clixml.GUID]*clientPipeline
}

type clientPipeline struct {
	state PipelineState
	input bool
}

// NewClient returns a pool that is not open yet.
func NewClient(cfg ClientConfig) *Client {
	if cfg.ID.IsZero() {
		cfg.ID = newGUID()
	}
	cfg.Min = max(cfg.Min, 1)
	cfg.Max = max(cfg.Max, cfg.Min)
	c := &Client{
		endpoint: newEndpoint(cfg.ID, toServer, cfg.MaxObject), cfg: cfg, minimum: cfg.Min, maximum: cfg.Max,
		calls: map[int64]func(bool){}, pipeline: map[clixml.GUID]*clientPipeline{},
	}
	if cfg.MaxEnvelope >= minEnvelope {
		c.split.size = packetSize(cfg.MaxEnvelope)
	}
	return c
}

// ID returns the pool's id, which is its shell's id, too.
func (c *Client) ID() clixml.GUID { return c.pool }

// State returns the state of the pool.
func (c *Client) State() PoolState { return c.state }

// Version returns the version of the protocol that the server speaks, or "".
func (c *Client) Version() string { return c.version }

// HasKeys reports whether secrets can travel.
func (c *Client) HasKeys() bool { return c.session.cipher() != nil }

// Runspaces returns how many runspaces the pool may have, at least and at most.
func (c *Client) Runspaces() (minimum, maximum int) { return c.minimum, c.maximum }

// PipelineState returns the state of a pipeline that was started here.
func (c *Client) PipelineState(id clixml.GUID) PipelineState {
	if p := c.pipeline[id]; p != nil {
		return p.state
	}
	return NotStarted
}

func capability() *clixml.Object {
	return clixml.Note(member("protocolversion", protocolVersion), member("PSVersion", psVersion), member("SerializationVersion", serializationVersion))
}

// greeting joins SESSION_CAPABILITY and another message.
func (c *Client) greeting(typ messageType, v any) ([]byte, error) {
	hello, err := c.encode(sessionCapability, clixml.GUID{}, capability())
	if err != nil {
		return nil, err
	}
	second, err := c.encode(typ, clixml.GUID{}, v)
	if err != nil {
		return nil, err
	}
	var out []byte
	for _, f := range append(hello, second...) {
		out = append(out, f...)
	}
	return out, nil
}

// Open returns the creationXml of the shell ([MS-PSRP] 3.1.5.3.1).
func (c *Client) Open() ([]byte, error) {
	if c.state != PoolBeforeOpen {
		return nil, stateError("open a runspace pool", c.state, PoolBeforeOpen)
	}
	c.state = PoolOpening
	return c.greeting(initRunspacePool, clixml.Note(
		member("MinRunspaces", c.minimum), member("MaxRunspaces", c.maximum),
		member("PSThreadOptions", clixml.Enum("System.Management.Automation.Runspaces.PSThreadOptions", "Default", 0)),
		member("ApartmentState", apartment()), member("HostInfo", nullHost()), member("ApplicationArguments", nil),
	))
}

// Connect returns the connectXml for a pool of that id that another client
// disconnected from ([MS-PSRP] 3.1.5.3.3).
func (c *Client) Connect() ([]byte, error) {
	if c.state != PoolBeforeOpen {
		return nil, stateError("connect to a runspace pool", c.state, PoolBeforeOpen)
	}
	c.state = PoolConnecting
	return c.greeting(connectRunspacePool, "")
}

// Disconnect notes that the server was told to keep the pool for later.
func (c *Client) Disconnect() error {
	if c.state != PoolOpened {
		return stateError("disconnect a runspace pool", c.state, PoolOpened)
	}
	c.state = PoolDisconnected
	return nil
}

// Reconnect notes that the server was told that we are back. Fragments that
// were cut off by the disconnection are forgotten.
func (c *Client) Reconnect() error {
	if c.state != PoolDisconnected {
		return stateError("reconnect a runspace pool", c.state, PoolDisconnected)
	}
	c.state = PoolOpened
	clear(c.joins)
	return nil
}

// Close notes that the shell was deleted or is lost.
func (c *Client) Close() {
	if c.state != PoolBroken {
		c.state = PoolClosed
	}
	for _, p := range c.pipeline {
		if !p.state.final() {
			p.state = Stopped
		}
	}
}

func (c *Client) opened(what string) error {
	if c.state != PoolOpened {
		return stateError(what, c.state, PoolOpened)
	}
	return nil
}

// packets encodes a message for a stream.
func (c *Client) packets(typ messageType, pipeline clixml.GUID, stream string, v any) ([]Packet, error) {
	fragments, err := c.encode(typ, pipeline, v)
	if err != nil {
		return nil, err
	}
	var out []Packet
	for _, b := range c.split.pack(fragments) {
		out = append(out, Packet{Pipeline: pipeline, Stream: stream, Data: b})
	}
	return out, nil
}

// ExchangeKeys sends the public half of key, which has KeyBits bits. The server
// answers on the stream of the pool; KeysExchanged says so.
func (c *Client) ExchangeKeys(key *rsa.PrivateKey) ([]Packet, error) {
	if err := c.opened("exchange keys"); err != nil {
		return nil, err
	}
	if key.N.BitLen() != KeyBits {
		return nil, fmt.Errorf("psrp: a key of %d bits, want %d", key.N.BitLen(), KeyBits)
	}
	c.key = key
	return c.packets(publicKey, clixml.GUID{}, PromptResponse, clixml.Note(member("PublicKey", publicBlob(key))))
}

// ask sends a call whose answer is an Answered event. done is told whether the
// server agreed.
func (c *Client) ask(typ messageType, what string, done func(bool), ms ...clixml.Member) (int64, []Packet, error) {
	if err := c.opened(what); err != nil {
		return 0, nil, err
	}
	c.call++
	c.calls[c.call] = done
	ps, err := c.packets(typ, clixml.GUID{}, Stdin, clixml.Note(append(ms, member("ci", c.call))...))
	return c.call, ps, err
}

// SetMax asks for another upper limit of runspaces; the answer is a bool.
func (c *Client) SetMax(n int) (int64, []Packet, error) {
	return c.ask(setMaxRunspaces, "set the limit of runspaces", func(ok bool) {
		if ok {
			c.maximum = n
		}
	}, member("MaxRunspaces", n))
}

// SetMin asks for another lower limit of runspaces; the answer is a bool.
func (c *Client) SetMin(n int) (int64, []Packet, error) {
	return c.ask(setMinRunspaces, "set the limit of runspaces", func(ok bool) {
		if ok {
			c.minimum = n
		}
	}, member("MinRunspaces", n))
}

// Available asks how many more pipelines may run; the answer is a number.
func (c *Client) Available() (int64, []Packet, error) {
	return c.ask(getAvailable, "ask for free runspaces", func(bool) {})
}

// Reset asks for a clean runspace, which takes PowerShell 5; the answer is a bool.
func (c *Client) Reset() (int64, []Packet, error) {
	return c.ask(resetRunspaceState, "reset a runspace", func(bool) {})
}

// Start asks the server to run p. The first packet belongs into the Command that
// creates the pipeline, the others are sent to it. It fails when p carries
// secrets and the keys were not exchanged.
func (c *Client) Start(p Pipeline) (clixml.GUID, []Packet, error) {
	if err := c.opened("start a pipeline"); err != nil {
		return clixml.GUID{}, nil, err
	}
	if len(p.Commands) == 0 {
		return clixml.GUID{}, nil, errPipeline
	}
	id := newGUID()
	ps, err := c.packets(createPipeline, id, Stdin, p.object())
	if err != nil {
		return clixml.GUID{}, nil, err
	}
	c.pipeline[id] = &clientPipeline{state: Running, input: p.Input}
	return id, ps, nil
}

// Input sends values to a pipeline that takes input; end closes its input.
func (c *Client) Input(id clixml.GUID, end bool, values ...any) ([]Packet, error) {
	p := c.pipeline[id]
	if p == nil {
		return nil, errUnknownPipeline
	}
	if !p.input || p.state != Running {
		return nil, fmt.Errorf("psrp: the pipeline takes no input: it is %s", p.state)
	}
	var all [][]byte
	for _, v := range values {
		fragments, err := c.encode(pipelineInput, id, v)
		if err != nil {
			return nil, err
		}
		all = append(all, fragments...)
	}
	if end {
		fragments, err := c.encode(endOfInput, id, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, fragments...)
		p.input = false
	}
	var out []Packet
	for _, b := range c.split.pack(all) {
		out = append(out, Packet{Pipeline: id, Stream: Stdin, Data: b})
	}
	return out, nil
}

// Stop notes that the server was told to stop a pipeline; its last words still
// come.
func (c *Client) Stop(id clixml.GUID) {
	if p := c.pipeline[id]; p != nil && p.state == Running {
		p.state = Stopping
	}
}

// Forget ends the book-keeping of a pipeline whose command is gone.
func (c *Client) Forget(id clixml.GUID) {
	delete(c.pipeline, id)
	delete(c.joins, id)
}

// Answer answers a host call: with result, or with refused when that is not nil.
func (c *Client) Answer(call HostCall, result any, refused *ErrorRecord) ([]Packet, error) {
	if err := c.opened("answer a host call"); err != nil {
		return nil, err
	}
	typ := poolHostResponse
	if !call.Pipeline.IsZero() {
		typ = pipelineHostResponse
	}
	return c.packets(typ, call.Pipeline, PromptResponse, hostAnswer(call, result, refused))
}

// Receive takes the bytes that came on the stream of a pipeline, or of the pool
// (zero), and returns what they say. After an error the pool is of no use.
func (c *Client) Receive(stream clixml.GUID, b []byte) ([]Event, error) {
	ms, err := c.messages(stream, b)
	var out []Event
	for _, m := range ms {
		es, err := c.take(m)
		out = append(out, es...)
		if err != nil {
			c.state = PoolBroken
			return out, err
		}
	}
	if err != nil {
		c.state = PoolBroken
	}
	return out, err
}

// take handles one message.
func (c *Client) take(m message) ([]Event, error) {
	v, err := c.decode(m)
	if err != nil {
		return nil, err
	}
	if s, ok := streamOf[m.typ]; ok {
		return []Event{Record{Pipeline: m.pipeline, Stream: s, Value: readRecord(s, v)}}, nil
	}
	switch m.typ {
	case sessionCapability:
		c.version = clixml.Text(clixml.Get(v, "protocolversion"))
		if c.version == "" {
			return nil, errors.New("psrp: the server does not say which version it speaks")
		}
		if c.cfg.MaxEnvelope == 0 && c.version != "2.0" && c.version != "2.1" {
			c.split.size = packetSize(largeEnvelope)
		}
		return nil, nil
	case privateData:
		d, _ := clixml.Entries(clixml.Get(v, "ApplicationPrivateData"))
		return []Event{PrivateData{d}}, nil
	case runspacePoolInitData:
		lo, _ := clixml.Int(clixml.Get(v, "MinRunspaces"))
		hi, _ := clixml.Int(clixml.Get(v, "MaxRunspaces"))
		c.minimum, c.maximum = int(lo), int(hi)
		return c.change(PoolOpened, nil), nil
	case runspacePoolState:
		n, ok := clixml.Int(clixml.Get(v, "RunspaceState"))
		if !ok || n < 0 || n > int64(PoolDisconnected) {
			return nil, errNoState
		}
		return c.change(PoolState(n), readError(clixml.Get(v, "ExceptionAsErrorRecord"))), nil
	case pipelineState:
		return c.pipelineState(m.pipeline, v)
	case encryptedSessionKey:
		return c.sessionKey(v)
	case publicKeyRequest:
		return []Event{KeysWanted{}}, nil
	case runspaceAvailability:
		return c.answered(v), nil
	case poolHostCall, pipelineHostCall:
		return []Event{HostCalled{readHostCall(m, v)}}, nil
	case userEvent:
		source := clixml.Text(clixml.Get(v, "PSEventArgs.SourceIdentifier"))
		return []Event{UserEvent{Source: source, Data: clixml.Get(v, "PSEventArgs.MessageData")}}, nil
	case initRunspacePool, publicKey, connectRunspacePool, setMaxRunspaces, setMinRunspaces, createPipeline, getAvailable, resetRunspaceState,
		poolHostResponse, pipelineInput, endOfInput, pipelineHostResponse, pipelineOutput, errorRecord, debugRecord, verboseRecord, warningRecord,
		progressRecord, informationRecord:
		return nil, fmt.Errorf("psrp: a server does not send messages of type %#x", uint32(m.typ))
	}
	return nil, nil // of a later version: what nobody asked for is not missed
}

// change notes the state that the server says the pool is in.
func (c *Client) change(s PoolState, why *ErrorRecord) []Event {
	if s == PoolOpened && c.state == PoolBroken || s == c.state {
		return nil
	}
	switch s {
	case PoolOpened, PoolClosed, PoolBroken:
		c.state = s
	case PoolBeforeOpen, PoolOpening, PoolClosing, PoolNegotiationSent, PoolNegotiationSucceeded, PoolConnecting, PoolDisconnected:
	}
	return []Event{PoolChanged{State: s, Err: why}}
}

func (c *Client) pipelineState(id clixml.GUID, v any) ([]Event, error) {
	n, ok := clixml.Int(clixml.Get(v, "PipelineState"))
	if !ok || n < 0 || n > int64(Disconnected) {
		return nil, errNoState
	}
	s := PipelineState(n)
	p := c.pipeline[id]
	if p == nil || p.state.final() {
		return nil, nil // of one that nobody waits for any more
	}
	p.state = s
	return []Event{PipelineChanged{Pipeline: id, State: s, Err: readError(clixml.Get(v, "ExceptionAsErrorRecord"))}}, nil
}

func (c *Client) sessionKey(v any) ([]Event, error) {
	if c.key == nil {
		return nil, errors.New("psrp: a session key that was not asked for")
	}
	key, err := openKey(c.key, clixml.Text(clixml.Get(v, "EncryptedSessionKey")))
	if err != nil {
		return nil, err
	}
	c.key = nil
	if err := c.session.set(key); err != nil {
		return nil, err
	}
	return []Event{KeysExchanged{}}, nil
}

func (c *Client) answered(v any) []Event {
	id, _ := clixml.Int(clixml.Get(v, "ci"))
	done, ok := c.calls[id]
	if !ok {
		return nil
	}
	delete(c.calls, id)
	answer := clixml.Get(v, "SetMinMaxRunspacesResponse")
	yes, _ := answer.(bool)
	done(yes)
	if n, is := clixml.Int(answer); is {
		answer = n
	}
	return []Event{Answered{Call: id, Value: answer}}
}
