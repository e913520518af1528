package krb_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"runner/engine/secret"
	"runner/engine/transport/winrm/krb"
	"runner/engine/transport/winrm/krb/etype"
)

// fake is a KDC in this process, for what a real one does not do. It answers over
// pipes, so that time can be virtual.
type fake struct {
	realm   string
	life    time.Duration
	offers  types.ETypeInfo2
	refer   map[string]string                       // realm to send on to, by service principal or by user
	change  func(kind string, answer []byte) []byte // of an answer; nil: silence
	refuse  map[string]int32                        // what to refuse, by kind, once
	slow    time.Duration                           // before a login is answered
	ahead   time.Duration                           // of the clock in refusals
	session etype.Key
	twist   func(kind string, p *messages.EncKDCRepPart) // of what is for the client only

	mu   sync.Mutex
	seen []string // kinds of requests: ask, login, ticket
}

// opsKey is the key of the one user.
var opsKey = sync.OnceValue(func() etype.Key {
	k, err := etype.FromPassword(etype.AES256SHA1, password, "salt", nil)
	if err != nil {
		panic(err)
	}
	return k
})

// opsKeytab is a keytab of it.
func opsKeytab() secret.Value {
	text := func(b []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	e := text(text([]byte{0, 1}, realm), "ops")
	e = append(e, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, byte(opsKey().KeyType)) // type, time, version, type of the key
	e = text(e, string(opsKey().KeyValue))
	return secret.New("\x05\x02" + string(text([]byte{0, 0}, string(e))))
}

func newFake(realm string) *fake {
	return &fake{realm: realm, life: 10 * time.Hour, session: etype.New(etype.AES256SHA1), offers: types.ETypeInfo2{{EType: etype.AES256SHA1, Salt: "salt"}}, refuse: map[string]int32{}}
}

// count is how many requests of a kind came.
func (f *fake) count(kind string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, s := range f.seen {
		if s == kind {
			n++
		}
	}
	return n
}

// network connects to fakes by address. Whoever is not there never answers.
type network map[string]*fake

func (n network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	f := n[addr]
	if f == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ours, theirs := net.Pipe()
	go f.serve(theirs)
	return ours, nil
}

func (f *fake) serve(nc net.Conn) {
	defer nc.Close()
	var head [4]byte
	if _, err := io.ReadFull(nc, head[:]); err != nil {
		return
	}
	req := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(nc, req); err != nil {
		return
	}
	kind, answer := f.answer(req)
	f.mu.Lock()
	f.seen = append(f.seen, kind)
	f.mu.Unlock()
	if kind == "login" && f.slow > 0 {
		<-time.After(f.slow)
	}
	framed := append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...)
	if f.change != nil {
		framed = f.change(kind, framed)
	}
	if framed == nil {
		_, _ = io.Copy(io.Discard, nc) // until the other side gives up
		return
	}
	_, _ = nc.Write(framed)
}

func (f *fake) answer(b []byte) (kind string, answer []byte) {
	var as messages.ASReq
	if as.Unmarshal(b) == nil {
		if as.PAData.Contains(patype.PA_ENC_TIMESTAMP) {
			return "login", f.login(as)
		}
		return "ask", f.ask(as)
	}
	var tgs messages.TGSReq
	if err := tgs.Unmarshal(b); err != nil {
		return "garbage", nil
	}
	name := tgs.ReqBody.SName
	if code := f.once("ticket"); code != 0 {
		return "ticket", f.refusal(code, nil, "")
	}
	if to := f.refer[name.PrincipalNameString()]; to != "" {
		name = types.NewPrincipalName(nametype.KRB_NT_SRV_INST, "krbtgt/"+to)
	}
	return "ticket", f.ticket(tgs.ReqBody, name, f.session, keyusage.TGS_REP_ENCPART_SESSION_KEY, false)
}

// once returns the code to refuse a kind with, and forgets it.
func (f *fake) once(kind string) int32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	code := f.refuse[kind]
	delete(f.refuse, kind)
	return code
}

func (f *fake) ask(req messages.ASReq) []byte {
	if to := f.refer[req.ReqBody.CName.PrincipalNameString()]; to != "" {
		return f.refusal(errorcode.KDC_ERR_WRONG_REALM, nil, to)
	}
	if code := f.once("ask"); code != 0 {
		return f.refusal(code, nil, "")
	}
	info, _ := asn1.Marshal(f.offers)
	data, _ := asn1.Marshal(types.PADataSequence{{PADataType: patype.PA_ETYPE_INFO2, PADataValue: info}, {PADataType: patype.PA_ENC_TIMESTAMP, PADataValue: []byte{}}})
	return f.refusal(errorcode.KDC_ERR_PREAUTH_REQUIRED, data, "")
}

func (f *fake) login(req messages.ASReq) []byte {
	key := opsKey()
	var ed types.EncryptedData
	for _, pa := range req.PAData {
		if pa.PADataType == patype.PA_ENC_TIMESTAMP {
			_ = ed.Unmarshal(pa.PADataValue)
		}
	}
	if _, err := etype.Decrypt(key, keyusage.AS_REQ_PA_ENC_TIMESTAMP, ed.Cipher); err != nil {
		return f.refusal(errorcode.KDC_ERR_PREAUTH_FAILED, nil, "")
	}
	return f.ticket(req.ReqBody, types.NewPrincipalName(nametype.KRB_NT_SRV_INST, "krbtgt/"+f.realm), key, keyusage.AS_REP_ENCPART, true)
}

func (f *fake) refusal(code int32, data []byte, crealm string) []byte {
	k := messages.NewKRBError(types.NewPrincipalName(nametype.KRB_NT_SRV_INST, "krbtgt/"+f.realm), f.realm, code, "")
	k.EData, k.CRealm, k.STime = data, crealm, k.STime.Add(f.ahead)
	b, _ := k.Marshal()
	return b
}

func (f *fake) ticket(body messages.KDCReqBody, server types.PrincipalName, key etype.Key, usage uint32, login bool) []byte {
	now := time.Now().UTC()
	part := messages.EncKDCRepPart{
		Key: f.session, Nonce: body.Nonce, Flags: types.NewKrbFlags(), AuthTime: now, StartTime: now, EndTime: now.Add(f.life),
		SRealm: f.realm, SName: server,
	}
	if kind := map[bool]string{true: "login", false: "ticket"}[login]; f.twist != nil {
		f.twist(kind, &part)
	}
	plain, _ := part.Marshal()
	ct, _ := etype.Encrypt(key, usage, plain)
	fields := messages.KDCRepFields{
		PVNO: 5, CRealm: f.realm, CName: types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, "ops"),
		Ticket:  messages.Ticket{TktVNO: 5, Realm: f.realm, SName: server, EncPart: types.EncryptedData{EType: key.KeyType, Cipher: []byte("for the host")}},
		EncPart: types.EncryptedData{EType: key.KeyType, Cipher: ct},
	}
	if login {
		fields.MsgType = 11
		b, _ := (&messages.ASRep{KDCRepFields: fields}).Marshal()
		return b
	}
	fields.MsgType = 13
	b, _ := (&messages.TGSRep{KDCRepFields: fields}).Marshal()
	return b
}

// user is a client of fakes.
func user(t *testing.T, n network, change func(*krb.Config)) *krb.Client {
	t.Helper()
	cfg := krb.Config{
		Realm: realm, User: "ops", Password: secret.New(password), Dial: n.dial, KDCs: []string{"dc1", "dc2"},
		LookupSRV: func(context.Context, string, string, string) (string, []*net.SRV, error) {
			return "", nil, errors.New("there is no DNS here")
		},
	}
	if change != nil {
		change(&cfg)
	}
	return client(t, cfg)
}

func TestTheFakeIsAKDC(t *testing.T) {
	t.Parallel()
	f := newFake(realm)
	tkt, err := user(t, network{"dc1:88": f}, nil).Ticket(t.Context(), spn)
	if err != nil || tkt.SPN() != spn+"@"+realm || strings.Join(f.seen, " ") != "ask login ticket" {
		t.Errorf("%v, %v after %v", tkt, err, f.seen)
	}
}
