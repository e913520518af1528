package psrp

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"runner/engine/secret"
	"runner/engine/transport/winrm/clixml"
)

// testKey is one key pair for all tests: making them takes long.
var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, KeyBits)
	if err != nil {
		panic(err)
	}
	return k
})

// pair is a client and a server without anything between them.
type pair struct {
	t *testing.T
	c *Client
	s *Server
	// asked and told collect the events of the server and of the client.
	asked, told []Event
}

func newPair(t *testing.T, cc ClientConfig, sc ServerConfig) *pair {
	t.Helper()
	c := NewClient(cc)
	p := &pair{t: t, c: c, s: NewServer(c.ID(), sc)}
	b, err := c.Open()
	p.must(err)
	p.send(Packet{Data: b})
	if c.State() != PoolOpened || p.s.State() != PoolOpened {
		t.Fatalf("the pool is %s here and %s there", c.State(), p.s.State())
	}
	return p
}

func (p *pair) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// send hands packets to the server and its answers to the client.
func (p *pair) send(ps ...Packet) {
	p.t.Helper()
	for _, x := range ps {
		es, reply, err := p.s.Receive(x.Pipeline, x.Data)
		p.must(err)
		p.asked = append(p.asked, es...)
		p.tell(reply, nil)
	}
}

// tell hands packets of the server to the client.
func (p *pair) tell(ps []Packet, err error) {
	p.t.Helper()
	p.must(err)
	for _, x := range ps {
		es, err := p.c.Receive(x.Pipeline, x.Data)
		p.must(err)
		p.told = append(p.told, es...)
	}
}

// start runs a pipeline and returns how the server sees it.
func (p *pair) start(pl Pipeline) (clixml.GUID, Pipeline) {
	p.t.Helper()
	id, ps, err := p.c.Start(pl)
	p.must(err)
	p.asked = nil
	p.send(ps...)
	if len(p.asked) != 1 {
		p.t.Fatalf("the server was told %#v", p.asked)
	}
	return id, p.asked[0].(PipelineCreated).Pipeline
}

func (p *pair) keys() {
	p.t.Helper()
	ps, err := p.c.ExchangeKeys(testKey())
	p.must(err)
	p.send(ps...)
	if !p.c.HasKeys() {
		p.t.Fatal("no session key")
	}
}

var equal = cmp.Options{
	cmp.Comparer(func(a, b secret.Value) bool { return a.Reveal() == b.Reveal() }),
	cmpopts.AcyclicTransformer("plain", func(o *clixml.Object) any {
		if o == nil || o.Base == nil {
			return o
		}
		return o.Base
	}),
}

func script(text string, ps ...Parameter) Pipeline {
	return Pipeline{Commands: []Command{{Text: text, Script: true, Parameters: ps}}}
}

func TestOpening(t *testing.T) {
	t.Parallel()
	p := newPair(t, ClientConfig{Min: 2, Max: 5}, ServerConfig{PrivateData: clixml.Dict{{Key: "PSVersionTable", Value: clixml.Dict{{Key: "PSVersion", Value: clixml.Version("5.1.17763.1")}}}}})
	if lo, hi := p.c.Runspaces(); lo != 2 || hi != 5 || p.s.minimum != 2 || p.s.maximum != 5 {
		t.Errorf("the pool has %d to %d runspaces here, %d to %d there", lo, hi, p.s.minimum, p.s.maximum)
	}
	if p.c.Version() != "2.3" || len(p.told) != 2 {
		t.Fatalf("version %q, events %#v", p.c.Version(), p.told)
	}
	table, _ := clixml.Entries(p.told[0].(PrivateData).Data.Get("PSVersionTable"))
	if table.Get("PSVersion") != clixml.Version("5.1.17763.1") {
		t.Errorf("private data is %#v", p.told[0])
	}
	if p.told[1] != (PoolChanged{State: PoolOpened}) {
		t.Errorf("state is %#v", p.told[1])
	}
	if _, err := p.c.Open(); err == nil || err.Error() != "psrp: open a runspace pool: it is opened, not not open yet" {
		t.Errorf("opened twice: %v", err)
	}
}

func TestEnvelopesGrowWithTheVersion(t *testing.T) {
	t.Parallel()
	for version, want := range map[clixml.Version]int{"2.1": packetSize(smallEnvelope), "2.2": packetSize(largeEnvelope)} {
		if p := newPair(t, ClientConfig{}, ServerConfig{Version: version}); p.c.split.size != want {
			t.Errorf("packets of %d bytes for version %s, want %d", p.c.split.size, version, want)
		}
	}
	p := newPair(t, ClientConfig{MaxEnvelope: 40960}, ServerConfig{})
	_, ps, err := p.c.Start(script(strings.Repeat("x", 1<<20)))
	p.must(err)
	for _, x := range ps {
		if len(x.Data)*4/3+envelopeHead > 40960 {
			t.Errorf("a packet of %d bytes does not fit", len(x.Data))
		}
	}
	if len(ps) < 30 {
		t.Errorf("a megabyte went in %d packets", len(ps))
	}
}

func TestPipelineArrivesAsItWasSent(t *testing.T) {
	t.Parallel()
	p := newPair(t, ClientConfig{}, ServerConfig{})
	want := Pipeline{Input: true, Commands: []Command{
		{Text: "Get-LocalUser", MergeErrors: true, Parameters: []Parameter{{Name: "Name", Value: "jit-1"}, {Value: int32(3)}, {Name: "Force", Value: true}}},
		{Text: "param($x) $x\r\n", Script: true, Local: true, Parameters: []Parameter{{Name: "x", Value: secret.New("s3cret \U0001f511")}, {Name: "n"}}},
	}}
	if _, _, err := p.c.Start(want); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a secret without a key: %v", err)
	}
	if !want.NeedsKeys() || script("x").NeedsKeys() {
		t.Error("who needs keys?")
	}
	p.keys()
	_, got := p.start(want)
	if d := cmp.Diff(want, got, equal); d != "" {
		t.Errorf("the server sees (-want +got):\n%s", d)
	}
}

func TestStreamsOfAPipeline(t *testing.T) {
	t.Parallel()
	p := newPair(t, ClientConfig{}, ServerConfig{MaxFragment: 100})
	p.keys()
	id, _ := p.start(script("x"))
	p.told = nil
	failure := &ErrorRecord{
		Message: "no such user", ID: "UserNotFound,Get-LocalUser", Exception: "A.UserNotFoundException", Types: []string{"A.UserNotFoundException", "System.Exception"}, Code: -2146233087,
		Category: Category{13, "Get-LocalUser", "UserNotFoundException", "bob", "String", "ObjectNotFound: (bob:String)"}, Target: "bob", Position: "At line:3 char:1", Line: 3, Stack: "at <ScriptBlock>",
	}
	info := &InformationRecord{Data: clixml.Note(clixml.Member{Name: "Message", Value: "said"}), Source: "Write-Host", Tags: []string{"PSHOST"}, User: "me"}
	records := []Record{
		{id, Output, "text"},
		{id, Output, secret.New("hush")},
		{id, Output, strings.Repeat("long ", 1000)},
		{id, Error, failure},
		{id, Warning, "careful"},
		{id, Verbose, "by the way"},
		{id, Debug, "at line 3"},
		{id, Information, info},
		{id, Progress, &ProgressRecord{Activity: "copying", Status: "3 of 4", Operation: "c", Percent: 75, Completed: true}},
	}
	var want []Event
	for _, r := range records {
		p.tell(p.s.Write(r))
		want = append(want, r)
	}
	p.tell(p.s.End(id, Failed, failure))
	want = append(want, PipelineChanged{id, Failed, failure})
	if d := cmp.Diff(want, p.told, equal); d != "" {
		t.Errorf("the client is told (-want +got):\n%s", d)
	}
	var texts []string
	for _, r := range records {
		texts = append(texts, r.Stream.String()+" "+r.Text())
	}
	texts[2] = texts[2][:11]
	if got := strings.Join(texts, "; "); got != "output text; output ***; output long; error no such user; warning careful; verbose by the way; debug at line 3; information said; progress copying" {
		t.Errorf("texts are %q", got)
	}
	if !failure.IsA("System.Exception") || failure.IsA("System.IO.IOException") {
		t.Error("IsA does not look at the types")
	}
	if _, err := p.s.Write(records[0]); err == nil {
		t.Error("a pipeline that has ended still writes")
	}
	if _, err := p.s.End(id, Completed, nil); err == nil {
		t.Error("a pipeline ended twice")
	}
	if p.c.PipelineState(id) != Failed {
		t.Errorf("the pipeline is %s", p.c.PipelineState(id))
	}
	p.c.Forget(id)
	if p.c.PipelineState(id) != NotStarted || len(p.c.joins) != 1 {
		t.Error("the pipeline is not forgotten")
	}
}

func TestInput(t *testing.T) {
	t.Parallel()
	p := newPair(t, ClientConfig{}, ServerConfig{})
	id, _ := p.start(Pipeline{Input: true, Commands: []Command{{Text: "Set-Content"}}})
	ps, err := p.c.Input(id, true, "a", int32(2), clixml.Dict{{Key: "k", Value: "v"}})
	p.must(err)
	if len(ps) != 1 {
		t.Errorf("small values travel in %d packets", len(ps))
	}
	p.asked = nil
	p.send(ps...)
	want := []Event{Input{id, "a"}, Input{id, int32(2)}, Input{id, &clixml.Object{Base: clixml.Dict{{Key: "k", Value: "v"}}}}, InputEnded{id}}
	if d := cmp.Diff(want, p.asked, equal); d != "" {
		t.Errorf("the server is told (-want +got):\n%s", d)
	}
	if _, err := p.c.Input(id, false, "more"); err == nil {
		t.Error("input after its end")
	}
	if _, err := p.c.Input(clixml.GUID{1}, false, "x"); err == nil {
		t.Error("input for an unknown pipeline")
	}
	other, _ := p.start(script("x"))
	if _, err := p.c.Input(other, false, "x"); err == nil {
		t.Error("input for a pipeline that takes none")
	}
}

func TestStopping(t *testing.T) {
	t.Parallel()
	p := newPair(t, ClientConfig{}, ServerConfig{})
	id, _ := p.start(script("x"))
	p.c.Stop(id)
	if p.c.PipelineState(id) != Stopping {
		t.Errorf("the pipeline is %s", p.c.PipelineState(id))
	}
	p.told = nil
	p.tell(p.s.End(id, Stopped, &ErrorRecord{ID: "PipelineStopped"}))
	if len(p.told) != 1 || p.told[0].(PipelineChanged).Err.Text() != "PipelineStopped" {
		t.Errorf("the client is told %#v", p.told)
	}
}

func TestHostCalls(t *testing.T) {
	t.Parallel()
	p := newPair(t, ClientConfig{}, ServerConfig{})
	id, _ := p.start(script("x"))
	for _, c := range []struct {
		call HostCall
		want bool
	}{
		{HostCall{id, 1, HostReadLine, "ReadLine", nil}, true},
		{HostCall{clixml.GUID{}, 2, 23, "Prompt", []any{"caption", "message"}}, true},
		{HostCall{id, -100, 16, "WriteLine2", []any{"hello"}}, false},
		{HostCall{id, -100, HostSetShouldExit, "SetShouldExit", []any{int32(3)}}, false},
		{HostCall{id, 3, 27, "GetForegroundColor", nil}, true},
		{HostCall{id, 4, 44, "GetMaxPhysicalWindowSize", nil}, true},
	} {
		p.told, p.asked = nil, nil
		p.tell(p.s.CallHost(c.call))
		got := p.told[0].(HostCalled).Call
		if d := cmp.Diff(c.call, got, equal); d != "" {
			t.Errorf("the client is called with (-want +got):\n%s", d)
		}
		if got.WantsAnswer() != c.want {
			t.Errorf("%s wants an answer: %t", got.Name, !c.want)
		}
		ps, err := p.c.Answer(got, "typed", nil)
		p.must(err)
		p.send(ps...)
		ps, err = p.c.Answer(got, nil, NotInteractive(got))
		p.must(err)
		p.send(ps...)
		yes, no := p.asked[0].(HostAnswered), p.asked[1].(HostAnswered)
		if yes.Result != "typed" || yes.Err != nil || yes.Pipeline != c.call.Pipeline || yes.Call != c.call.ID || ps[0].Stream != PromptResponse {
			t.Errorf("the answer is %#v on %s", yes, ps[0].Stream)
		}
		if no.Err == nil || !strings.Contains(no.Err.Message, "asks for input ("+c.call.Name+")") || !no.Err.IsA("System.Management.Automation.Host.HostException") {
			t.Errorf("the refusal is %#v", no.Err)
		}
	}
}

func TestRunspaceCalls(t *testing.T) {
	t.Parallel()
	p := newPair(t, ClientConfig{}, ServerConfig{})
	ask := func(id int64, ps []Packet, err error) func(answer, want any) {
		p.must(err)
		p.asked, p.told = nil, nil
		p.send(ps...)
		return func(answer, want any) {
			t.Helper()
			p.tell(p.s.AnswerRunspaces(p.asked[0].(RunspacesAsked), answer))
			if d := cmp.Diff([]Event{Answered{id, want}}, p.told); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		}
	}
	ask(p.c.SetMax(4))(true, true)
	ask(p.c.SetMin(2))(true, true)
	ask(p.c.SetMax(0))(false, false)
	ask(p.c.Reset())(true, true)
	ask(p.c.Available())(int64(3), int64(3))
	if lo, hi := p.c.Runspaces(); lo != 2 || hi != 4 || p.s.minimum != 2 || p.s.maximum != 4 {
		t.Errorf("the pool has %d to %d runspaces", lo, hi)
	}
}

func TestKeysAndEvents(t *testing.T) {
	t.Parallel()
	p := newPair(t, ClientConfig{}, ServerConfig{})
	p.told = nil
	p.tell(p.s.AskForKeys())
	p.keys()
	p.tell(p.s.Raise(UserEvent{Source: "watch", Data: "changed"}))
	p.tell(p.s.Write(Record{Stream: Warning, Value: "of the pool"}))
	p.tell(p.s.Break(&ErrorRecord{Message: "out of memory"}))
	want := []Event{KeysWanted{}, KeysExchanged{}, UserEvent{"watch", "changed"}, Record{Stream: Warning, Value: "of the pool"}}
	if d := cmp.Diff(want, p.told[:4]); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if e := p.told[4].(PoolChanged); e.State != PoolBroken || e.Err.Message != "out of memory" || p.c.State() != PoolBroken {
		t.Errorf("the pool is %#v", e)
	}
	if _, _, err := p.c.Start(script("x")); err == nil || err.Error() != "psrp: start a pipeline: it is broken, not opened" {
		t.Errorf("a broken pool runs scripts: %v", err)
	}
	p.c.Close()
	if p.c.State() != PoolBroken {
		t.Errorf("a broken pool is %s after it was closed", p.c.State())
	}
}

func TestDisconnectAndComeBack(t *testing.T) {
	t.Parallel()
	p := newPair(t, ClientConfig{Max: 3}, ServerConfig{})
	id, _ := p.start(script("x"))
	p.must(p.c.Disconnect())
	if _, _, err := p.c.Start(script("x")); err == nil {
		t.Error("a disconnected pool runs scripts")
	}
	p.must(p.c.Reconnect())
	p.tell(p.s.End(id, Completed, nil))

	p.must(p.c.Disconnect())
	other := NewClient(ClientConfig{ID: p.c.ID()})
	b, err := other.Connect()
	p.must(err)
	_, reply, err := p.s.Receive(clixml.GUID{}, b)
	p.must(err)
	var told []Event
	for _, x := range reply {
		es, err := other.Receive(x.Pipeline, x.Data)
		p.must(err)
		told = append(told, es...)
	}
	if lo, hi := other.Runspaces(); other.State() != PoolOpened || lo != 1 || hi != 3 || len(told) != 1 {
		t.Errorf("the other client has a pool that is %s with %d to %d runspaces, and was told %#v", other.State(), lo, hi, told)
	}
	if err := other.Reconnect(); err == nil {
		t.Error("reconnected what was not disconnected")
	}
	if err := NewClient(ClientConfig{}).Disconnect(); err == nil {
		t.Error("disconnected what is not open")
	}
	other.Close()
	if other.State() != PoolClosed {
		t.Errorf("a closed pool is %s", other.State())
	}
}

func TestMessagesThatMakeNoSense(t *testing.T) {
	t.Parallel()
	pool := clixml.GUID{1}
	cut := func(m message) []byte {
		s := splitter{size: 1 << 16}
		return slices.Concat(s.cut(m.bytes())...)
	}
	obj := func(ms ...clixml.Member) []byte {
		s, err := clixml.Encode(clixml.Note(ms...), nil)
		if err != nil {
			t.Fatal(err)
		}
		return []byte(s)
	}
	for name, b := range map[string][]byte{
		"short":                {0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 9},
		"to the server":        cut(message{to: toServer, typ: runspacePoolState, pool: pool, body: obj()}),
		"of another pool":      cut(message{to: toClient, typ: runspacePoolState, pool: clixml.GUID{2}, body: obj()}),
		"no state":             cut(message{to: toClient, typ: runspacePoolState, pool: pool, body: obj()}),
		"unknown state":        cut(message{to: toClient, typ: runspacePoolState, pool: pool, body: obj(member("RunspaceState", 77))}),
		"no pipeline state":    cut(message{to: toClient, typ: pipelineState, pool: pool, body: obj()}),
		"no version":           cut(message{to: toClient, typ: sessionCapability, pool: pool, body: obj()}),
		"key nobody asked for": cut(message{to: toClient, typ: encryptedSessionKey, pool: pool, body: obj(member("EncryptedSessionKey", "x"))}),
		"what clients send":    cut(message{to: toClient, typ: createPipeline, pool: pool, body: obj()}),
		"no XML":               cut(message{to: toClient, typ: pipelineOutput, pool: pool, body: []byte("hello")}),
		"out of order":         {0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 9},
		"no start":             {0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 9},
		"giant":                {0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 3, 255, 255, 255, 255},
	} {
		c := NewClient(ClientConfig{ID: pool})
		if es, err := c.Receive(clixml.GUID{}, b); err == nil || c.State() != PoolBroken {
			t.Errorf("%s: the client takes it for %#v and is %s", name, es, c.State())
		}
	}
	c := NewClient(ClientConfig{ID: pool})
	for name, m := range map[string]message{
		"message of a later version": {to: toClient, typ: 0x00091234, pool: pool, body: obj()},
		"answer nobody waits for":    {to: toClient, typ: runspaceAvailability, pool: pool, body: obj(member("ci", int64(9)))},
		"state of another pipeline":  {to: toClient, typ: pipelineState, pool: pool, pipeline: clixml.GUID{7}, body: obj(member("PipelineState", 4))},
	} {
		c.join()
		if es, err := c.Receive(clixml.GUID{}, cut(m)); err != nil || len(es) > 0 {
			t.Errorf("%s: %#v, %v", name, es, err)
		}
	}
	empty, err := NewClient(ClientConfig{ID: pool}).Receive(clixml.GUID{}, cut(message{to: toClient, typ: pipelineOutput, pool: pool}))
	if d := cmp.Diff([]Event{Record{Stream: Output}}, empty); err != nil || d != "" {
		t.Errorf("nothing in the place of $null: %v\n%s", err, d)
	}
	for name, b := range map[string][]byte{
		"to the client":     cut(message{to: toClient, typ: createPipeline, pool: pool, body: obj()}),
		"no commands":       cut(message{to: toServer, typ: createPipeline, pool: pool, pipeline: clixml.GUID{3}, body: obj()}),
		"no key":            cut(message{to: toServer, typ: publicKey, pool: pool, body: obj(member("PublicKey", "AAAA"))}),
		"what servers send": cut(message{to: toServer, typ: pipelineOutput, pool: pool, body: obj()}),
	} {
		if es, _, err := NewServer(pool, ServerConfig{}).Receive(clixml.GUID{}, b); err == nil {
			t.Errorf("%s: the server takes it for %#v", name, es)
		}
	}
	if _, _, err := ID([]byte("short")); err == nil {
		t.Error("an id was read from five bytes")
	}
	if got, _, err := ID(cut(message{to: toServer, typ: createPipeline, pool: pool, body: obj()})); err != nil || got != pool {
		t.Errorf("the id is %s, %v", got, err)
	}
}

// join forgets half-read fragments.
func (c *Client) join() { clear(c.joins) }

func TestLimitsOfFragments(t *testing.T) {
	t.Parallel()
	s := splitter{size: 1000}
	j := joiner{limit: 5000}
	if _, err := j.add(slices.Concat(s.cut(make([]byte, 6000))...)); err == nil {
		t.Error("an object beyond the limit was joined")
	}
	j = joiner{limit: 5000}
	var err error
	for range maxOpen + 1 {
		_, err = j.add(s.cut(make([]byte, 2000))[0][:fragmentHeader+979])
		if err != nil {
			break
		}
	}
	if err == nil {
		t.Error("any number of objects may be open")
	}
}

func TestSecretsTheKeyCannotOpen(t *testing.T) {
	t.Parallel()
	var s session
	if s.cipher() != nil || s.set(make([]byte, 16)) == nil {
		t.Error("a session without a key seals")
	}
	if err := s.set(bytes.Repeat([]byte{7}, sessionBytes)); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"", "a", "1234567", "12345678", "\U0001f511 é\x00", strings.Repeat("x", maxSecret)} {
		text, err := s.Seal(secret.New(v))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Open(text); err != nil || got.Reveal() != v {
			t.Errorf("%d characters came back as %d, %v", len(v), len(got.Reveal()), err)
		}
	}
	if _, err := s.Seal(secret.New(strings.Repeat("x", maxSecret+1))); err == nil {
		t.Error("a secret was sealed that no SecureString can hold")
	}
	for _, text := range []string{"", "%", "AAAA", "AAAAAAAAAAAAAAAAAAAAAA=="} {
		if v, err := s.Open(text); err == nil {
			t.Errorf("%q was opened: %q", text, v.Reveal())
		}
	}
	for _, blob := range []string{"", "%", strings.Repeat("A", 368)} {
		if _, err := openKey(testKey(), blob); err == nil {
			t.Errorf("%q is a session key", blob)
		}
		if _, err := parsePublicBlob(blob); err == nil {
			t.Errorf("%q is a public key", blob)
		}
	}
	if _, err := NewClient(ClientConfig{}).ExchangeKeys(testKey()); err == nil {
		t.Error("keys were exchanged with nobody")
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p := newPair(t, ClientConfig{}, ServerConfig{})
	if _, err := p.c.ExchangeKeys(small); err == nil {
		t.Error("a short key was sent")
	}
}
