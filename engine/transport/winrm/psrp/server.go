package psrp

import (
	"crypto/rand"
	"errors"
	"fmt"

	"runner/engine/transport/winrm/clixml"
)

// ServerConfig describes the server side of a runspace pool.
type ServerConfig struct {
	Version     clixml.Version // of the protocol; empty: 2.3
	PrivateData clixml.Dict    // what the server tells about itself
	MaxObject   int            // bytes of one message of the client; 0: DefaultMaxObject
	MaxFragment int            // bytes of one fragment; 0: 32 KiB, as Windows
}

// Server is the server side of a runspace pool. What its calls return is to be
// received by the client, in order, on the stream of the packet.
type Server struct {
	endpoint
	cfg      ServerConfig
	state    PoolState
	minimum  int
	maximum  int
	pipeline map[clixml.GUID]PipelineState
}

// NewServer returns a pool that no client has opened yet.
func NewServer(pool clixml.GUID, cfg ServerConfig) *Server {
	if cfg.Version == "" {
		cfg.Version = protocolVersion
	}
	if cfg.MaxFragment <= fragmentHeader {
		cfg.MaxFragment = 32 << 10
	}
	s := &Server{endpoint: newEndpoint(pool, toClient, cfg.MaxObject), cfg: cfg, pipeline: map[clixml.GUID]PipelineState{}}
	s.split.size = cfg.MaxFragment
	return s
}

// State returns the state of the pool.
func (s *Server) State() PoolState { return s.state }

func (s *Server) packets(typ messageType, pipeline clixml.GUID, v any) ([]Packet, error) {
	fragments, err := s.encode(typ, pipeline, v)
	var out []Packet
	for _, f := range fragments {
		out = append(out, Packet{Pipeline: pipeline, Data: f})
	}
	return out, err
}

// Receive takes the bytes of a client: creationXml and connectXml are of the
// pool (zero). reply is what the server answers by itself.
func (s *Server) Receive(stream clixml.GUID, b []byte) (events []Event, reply []Packet, err error) {
	ms, err := s.messages(stream, b)
	for _, m := range ms {
		es, ps, err := s.take(m)
		events, reply = append(events, es...), append(reply, ps...)
		if err != nil {
			return events, reply, err
		}
	}
	return events, reply, err
}

func (s *Server) take(m message) ([]Event, []Packet, error) {
	if m.typ == endOfInput {
		return []Event{InputEnded{m.pipeline}}, nil, nil
	}
	v, err := s.decode(m)
	if err != nil {
		return nil, nil, err
	}
	call, _ := clixml.Int(clixml.Get(v, "ci"))
	number := func(name string) int {
		n, _ := clixml.Int(clixml.Get(v, name))
		return int(n)
	}
	switch m.typ {
	case sessionCapability:
		ps, err := s.packets(sessionCapability, clixml.GUID{}, clixml.Note(
			member("protocolversion", s.cfg.Version), member("PSVersion", psVersion), member("SerializationVersion", serializationVersion)))
		return nil, ps, err
	case initRunspacePool:
		s.minimum, s.maximum = number("MinRunspaces"), number("MaxRunspaces")
		return s.open()
	case connectRunspacePool:
		ps, err := s.packets(runspacePoolInitData, clixml.GUID{}, clixml.Note(member("MinRunspaces", s.minimum), member("MaxRunspaces", s.maximum)))
		return nil, ps, err
	case publicKey:
		ps, err := s.exchange(clixml.Text(clixml.Get(v, "PublicKey")))
		return []Event{KeysExchanged{}}, ps, err
	case createPipeline:
		p, err := readPipeline(v)
		if err == nil && (m.pipeline.IsZero() || s.pipeline[m.pipeline] != NotStarted) {
			err = errors.New("psrp: a pipeline needs an id of its own")
		}
		s.pipeline[m.pipeline] = Running
		return []Event{PipelineCreated{ID: m.pipeline, Pipeline: p}}, nil, err
	case pipelineInput:
		return []Event{Input{Pipeline: m.pipeline, Value: v}}, nil, nil
	case setMaxRunspaces:
		return []Event{RunspacesAsked{Call: call, What: "max", N: number("MaxRunspaces")}}, nil, nil
	case setMinRunspaces:
		return []Event{RunspacesAsked{Call: call, What: "min", N: number("MinRunspaces")}}, nil, nil
	case getAvailable:
		return []Event{RunspacesAsked{Call: call, What: "available"}}, nil, nil
	case resetRunspaceState:
		return []Event{RunspacesAsked{Call: call, What: "reset"}}, nil, nil
	case poolHostResponse, pipelineHostResponse:
		return []Event{HostAnswered{Pipeline: m.pipeline, Call: call, Result: clixml.Get(v, "mr"), Err: readError(clixml.Get(v, "me"))}}, nil, nil
	case encryptedSessionKey, publicKeyRequest, runspaceAvailability, runspacePoolState, userEvent, privateData, runspacePoolInitData, poolHostCall,
		endOfInput, pipelineOutput, errorRecord, pipelineState, debugRecord, verboseRecord, warningRecord, progressRecord, informationRecord, pipelineHostCall:
		return nil, nil, fmt.Errorf("psrp: a client does not send messages of type %#x", uint32(m.typ))
	}
	return nil, nil, nil
}

// open says that the pool is there.
func (s *Server) open() ([]Event, []Packet, error) {
	if s.state != PoolBeforeOpen {
		return nil, nil, stateError("open a runspace pool", s.state, PoolBeforeOpen)
	}
	s.state = PoolOpened
	types := []string{"System.Management.Automation.PSPrimitiveDictionary", "System.Collections.Hashtable", "System.Object"}
	data, err := s.packets(privateData, clixml.GUID{}, clixml.Note(member("ApplicationPrivateData", &clixml.Object{Types: types, Base: s.cfg.PrivateData})))
	if err != nil {
		return nil, nil, err
	}
	state, err := s.packets(runspacePoolState, clixml.GUID{}, clixml.Note(member("RunspaceState", int(PoolOpened))))
	return []Event{PoolChanged{State: PoolOpened}}, append(data, state...), err
}

// exchange answers a public key with a new session key.
func (s *Server) exchange(blob string) ([]Packet, error) {
	k, err := parsePublicBlob(blob)
	if err != nil {
		return nil, err
	}
	key := make([]byte, sessionBytes)
	_, _ = rand.Read(key) // never fails
	sealed, err := sealKey(k, key)
	if err != nil {
		return nil, err
	}
	if err := s.session.set(key); err != nil {
		return nil, err
	}
	return s.packets(encryptedSessionKey, clixml.GUID{}, clixml.Note(member("EncryptedSessionKey", sealed)))
}

// AskForKeys asks the client for a public key.
func (s *Server) AskForKeys() ([]Packet, error) {
	return s.packets(publicKeyRequest, clixml.GUID{}, "")
}

// Write writes a record of a running pipeline; see Record for its Value.
func (s *Server) Write(r Record) ([]Packet, error) {
	if !r.Pipeline.IsZero() && s.pipeline[r.Pipeline] != Running {
		return nil, stateError("write to a pipeline", s.pipeline[r.Pipeline], Running)
	}
	typ := map[Stream]messageType{
		Output: pipelineOutput, Error: errorRecord, Warning: warningRecord, Verbose: verboseRecord, Debug: debugRecord,
		Information: informationRecord, Progress: progressRecord,
	}[r.Stream]
	v := r.Value
	switch x := v.(type) {
	case *ErrorRecord:
		v = x.object()
	case *InformationRecord:
		v = x.object()
	case *ProgressRecord:
		v = x.object()
	case string:
		if r.Stream != Output {
			v = messageObject(r.Stream, x)
		}
	}
	return s.packets(typ, r.Pipeline, v)
}

// End says that a pipeline has come to a final state; why may be nil.
func (s *Server) End(id clixml.GUID, state PipelineState, why *ErrorRecord) ([]Packet, error) {
	if is := s.pipeline[id]; is != Running {
		return nil, stateError("end a pipeline", is, Running)
	}
	s.pipeline[id] = state
	return s.packets(pipelineState, id, stateObject("PipelineState", int32(state), why))
}

// Break says that the pool is of no use any more.
func (s *Server) Break(why *ErrorRecord) ([]Packet, error) {
	s.state = PoolBroken
	return s.packets(runspacePoolState, clixml.GUID{}, stateObject("RunspaceState", int32(PoolBroken), why))
}

func stateObject(name string, n int32, why *ErrorRecord) *clixml.Object {
	o := clixml.Note(member(name, n))
	if why != nil {
		o.Extended = append(o.Extended, member("ExceptionAsErrorRecord", why.object()))
	}
	return o
}

// CallHost makes a call to the client's host.
func (s *Server) CallHost(c HostCall) ([]Packet, error) {
	typ := poolHostCall
	if !c.Pipeline.IsZero() {
		typ = pipelineHostCall
	}
	return s.packets(typ, c.Pipeline, c.object())
}

// AnswerRunspaces answers a call about runspaces with a bool or a number.
func (s *Server) AnswerRunspaces(a RunspacesAsked, answer any) ([]Packet, error) {
	if answer == true {
		switch a.What {
		case "max":
			s.maximum = a.N
		case "min":
			s.minimum = a.N
		}
	}
	return s.packets(runspaceAvailability, clixml.GUID{}, clixml.Note(member("SetMinMaxRunspacesResponse", answer), member("ci", a.Call)))
}

// Raise forwards an event that a script registered.
func (s *Server) Raise(e UserEvent) ([]Packet, error) {
	return s.packets(userEvent, clixml.GUID{}, clixml.Note(
		member("PSEventArgs.SourceIdentifier", e.Source), member("PSEventArgs.MessageData", e.Data)))
}
