package token_test

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"runner/engine/transport/winrm/gss/token"
	"runner/engine/transport/winrm/krb/etype"
)

// vector is a message that MIT Kerberos 1.20 sealed (from: acceptor) or opened
// (from: initiator).
type vector struct {
	From        string
	Etype       int32
	Key         string
	Seq         uint64
	HeaderBytes int `json:"header_bytes"`
	Confounder  string
	Plain       string
	Token       string
}

func vectors(tb testing.TB) []vector {
	tb.Helper()
	b, err := os.ReadFile("testdata/mit.json")
	if err != nil {
		tb.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(b, &vs); err != nil || len(vs) != 8 {
		tb.Fatalf("%d vectors, %v", len(vs), err)
	}
	return vs
}

func raw(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// channel is the sending or the receiving side of v.
func (v vector) channel(tb testing.TB, sender bool) *token.Channel {
	tb.Helper()
	k := etype.Key{KeyType: v.Etype, KeyValue: raw(tb, v.Key)}
	c, err := token.NewChannel((v.From == "acceptor") == sender, token.Keys{Initiator: k, Acceptor: k}, v.Seq, v.Seq)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestMessagesAreThoseOfMITByteForByte(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		tok := raw(t, v.Token)
		got, err := v.channel(t, false).Open(tok[:v.HeaderBytes], tok[v.HeaderBytes:])
		if err != nil || string(got) != v.Plain {
			t.Errorf("%s %d: opened %.40q, %v", v.From, v.Etype, got, err)
		}
		if v.From == "acceptor" && tok[2]&4 == 0 {
			t.Errorf("%d: the vector is not under the acceptor's key", v.Etype)
		}
		c := v.channel(t, true)
		c.Fix([etype.Confounder]byte(raw(t, v.Confounder)))
		header, body, err := c.Seal([]byte(v.Plain))
		if err != nil || len(header) != v.HeaderBytes || len(body) != len(v.Plain) {
			t.Fatalf("%s %d: sealed %d and %d bytes, %v", v.From, v.Etype, len(header), len(body), err)
		}
		if diff := cmp.Diff(tok, append(header, body...)); diff != "" {
			t.Errorf("%s %d: sealed differently (-MIT +ours):\n%s", v.From, v.Etype, diff)
		}
	}
}

// pair is an initiator and an acceptor that agreed.
func pair(tb testing.TB, id int32) (i, a *token.Channel) {
	tb.Helper()
	return pairOf(tb, token.Keys{Initiator: etype.New(id), Acceptor: etype.New(id)})
}

func pairOf(tb testing.TB, keys token.Keys) (i, a *token.Channel) {
	tb.Helper()
	i, err := token.NewChannel(false, keys, 100, 7)
	if err != nil {
		tb.Fatal(err)
	}
	a, err = token.NewChannel(true, keys, 7, 100)
	if err != nil {
		tb.Fatal(err)
	}
	return i, a
}

func TestEveryLengthTravelsBothWays(t *testing.T) {
	t.Parallel()
	for _, id := range etype.All() {
		i, a := pair(t, id)
		for n := range 100 {
			for _, c := range [][2]*token.Channel{{i, a}, {a, i}} {
				plain := bytes.Repeat([]byte{byte(n)}, n)
				h, b, err := c[0].Seal(plain)
				if err != nil || len(b) != n {
					t.Fatalf("%d bytes became %d: %v", n, len(b), err)
				}
				if got, err := c[1].Open(h, b); err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("%d bytes with %s: %v", n, etype.Name(id), err)
				}
			}
		}
	}
}

func TestAnyChangedBitIsNoticed(t *testing.T) {
	t.Parallel()
	for _, id := range etype.All() {
		keys := token.Keys{Initiator: etype.New(id), Acceptor: etype.New(id)}
		i, a := pairOf(t, keys)
		h, b, err := i.Seal([]byte("<s:Envelope/>"))
		if err != nil {
			t.Fatal(err)
		}
		tok := append(bytes.Clone(h), b...)
		if _, err := a.Open(tok, nil); err != nil {
			t.Fatal(err)
		}
		for bit := range len(tok) * 8 {
			bad := bytes.Clone(tok)
			bad[bit/8] ^= 1 << (bit % 8)
			_, a := pairOf(t, keys)
			if got, err := a.Open(bad, nil); err == nil {
				t.Fatalf("%s: bit %d of byte %d was not missed: %q", etype.Name(id), bit%8, bit/8, got)
			}
		}
	}
}

func TestMessagesTravelInOrderAndOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		order []int
	}{{"replayed", []int{0, 0}}, {"lost", []int{0, 2}}, {"reordered", []int{1, 0}}} {
		i, a := pair(t, etype.AES256SHA1)
		var msgs [3][2][]byte
		for n := range msgs {
			h, b, err := i.Seal([]byte{byte(n)})
			if err != nil {
				t.Fatal(err)
			}
			msgs[n] = [2][]byte{h, b}
		}
		var err error
		for _, n := range c.order {
			_, err = a.Open(msgs[n][0], msgs[n][1])
		}
		if err == nil {
			t.Errorf("a %s message was taken", c.name)
		}
		if _, err := a.Open(msgs[1][0], msgs[1][1]); !errors.Is(err, token.ErrBroken) {
			t.Errorf("%s: the channel goes on: %v", c.name, err)
		}
	}
}

func TestOurOwnMessageIsNotTheirs(t *testing.T) {
	t.Parallel()
	k := etype.New(etype.AES256SHA1)
	c, err := token.NewChannel(false, token.Keys{Initiator: k}, 5, 5)
	if err != nil {
		t.Fatal(err)
	}
	h, b, err := c.Seal([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Open(h, b); !errors.Is(err, token.ErrOrder) {
		t.Errorf("reflected: %v", err)
	}
}

// OMI, and the filler of MS-KILE: other forms of the same message.
func TestOtherRotationsAndFillersAreRead(t *testing.T) {
	t.Parallel()
	for _, ec := range []int{0, 16} {
		for _, rrc := range []int{0, 1, 16, 28, 44, 1000} {
			k := etype.New(etype.AES256SHA1)
			plain := []byte("<s:Envelope/>")
			h := []byte{5, 4, 3, 0xff, 0, byte(ec), 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}
			text := append(append(bytes.Clone(plain), make([]byte, ec)...), h...)
			ct, err := etype.Encrypt(k, 22, text)
			if err != nil {
				t.Fatal(err)
			}
			h[6], h[7] = byte(rrc>>8), byte(rrc)
			n := (rrc + ec) % len(ct)
			tok := append(append(h, ct[len(ct)-n:]...), ct[:len(ct)-n]...)
			c, err := token.NewChannel(false, token.Keys{Initiator: k}, 0, 9)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.Open(tok[:20], tok[20:]); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("filler %d, rotation %d: %q, %v", ec, rrc, got, err)
			}
		}
	}
}

func TestAMICCoversTheListOfMechanisms(t *testing.T) {
	t.Parallel()
	i, a := pair(t, etype.AES128SHA256)
	list := token.MechTypes(token.Kerberos)
	mic, err := a.MIC(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.VerifyMIC(token.MechTypes(token.MSKerberos), mic); !errors.Is(err, token.ErrTampered) {
		t.Errorf("another list: %v", err)
	}
	if err := i.VerifyMIC(list, mic); err != nil {
		t.Error(err)
	}
	// it counts as a message
	h, b, err := a.Seal([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Open(h, b); err != nil {
		t.Error(err)
	}
}

func TestTheDialogueIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	list := token.MechTypes(token.Kerberos, token.MSKerberos)
	i, err := token.ParseInit(token.InitToken(list, token.Frame(token.APReq, []byte("req"))))
	if err != nil {
		t.Fatal(err)
	}
	kind, body, err := token.Unframe(i.Token)
	if kind != token.APReq || string(body) != "req" || err != nil || !bytes.Equal(i.MechTypes, list) || len(i.Mechs) != 2 {
		t.Errorf("got %v %q %v, mechanisms %v", kind, body, err, i.Mechs)
	}
	for _, want := range []token.Resp{
		{State: token.NoState},
		{State: token.Completed, Mech: token.MSKerberos, Token: []byte{1}, MIC: []byte{2, 3}},
		{State: token.Rejected},
		{State: token.RequestMIC, Token: make([]byte, 3000)},
	} {
		got, err := token.ParseResp(token.RespToken(want))
		if diff := cmp.Diff(want, got, cmp.Comparer(asn1.ObjectIdentifier.Equal)); diff != "" || err != nil {
			t.Errorf("%v:\n%s", err, diff)
		}
	}
	long := token.RespToken(token.Resp{Token: make([]byte, token.MaxToken)})
	trailing := append(token.RespToken(token.Resp{}), 1)
	for _, bad := range [][]byte{nil, {0xa1}, {0xa1, 0x80, 0, 0}, long, trailing, token.RespToken(token.Resp{State: 9})} {
		if r, err := token.ParseResp(bad); err == nil {
			t.Errorf("%.20x was taken: %v", bad, r)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, id := range etype.All() {
		b.Run(etype.Name(id), func(b *testing.B) {
			i, _ := pair(b, id)
			plain := make([]byte, 500_000)
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				if _, _, err := i.Seal(plain); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
