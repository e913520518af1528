package gsstest

import (
	"bytes"
	"crypto/rand"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	forkasn1 "github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/iana"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/messages"

	"runner/engine/transport/winrm/gss"
	"runner/engine/transport/winrm/gss/token"
	"runner/engine/transport/winrm/krb/etype"
)

// MaxSkew is how far clocks may differ.
const MaxSkew = 5 * time.Minute

// Faults is what an acceptor does wrong. The zero value does everything right.
type Faults struct {
	Refuse      int32 // answers with this KRB-ERROR
	Silent      bool  // accepts, but sends no AP-REP
	WrongKey    bool  // cannot read tickets, and answers as if it could
	TamperAPRep bool  // changes a byte of its AP-REP
	WrongTime   bool  // sends the AP-REP of another request
	OtherMech   bool  // says that it chose NTLM
	Incomplete  bool  // wants another round
	NoSubkey    bool  // chooses no key of its own, which is allowed
	MIC         bool  // signs the list of mechanisms, which is allowed
	WrongMIC    bool  // signs another list

	TamperSeal bool // changes a byte of every message
	RepeatSeal bool // sends every message with the number of the first
	SkipSeal   bool // leaves a number out before every message
}

// Acceptor is the host's side of one connection.
type Acceptor struct {
	service *Service
	faults  Faults
	client  string
	flags   uint32
	channel *token.Channel
	keys    token.Keys
	send    uint64
	recv    uint64
}

// Accept makes the host's side of one connection.
func (s *Service) Accept(f Faults) *Acceptor { return &Acceptor{service: s, faults: f} }

// Done reports whether somebody was accepted.
func (a *Acceptor) Done() bool { return a.channel != nil }

// Client is who was accepted.
func (a *Acceptor) Client() string { return a.client }

// Confidential reports whether the client asked for sealed messages.
func (a *Acceptor) Confidential() bool { return a.flags&16 != 0 }

// Next takes the token of the client and returns the answer. With an error the
// client is refused: out may say why.
func (a *Acceptor) Next(in []byte) (out []byte, err error) {
	spnego := true
	tok := in
	var list []byte
	if init, err := token.ParseInit(in); err == nil {
		tok, list = init.Token, init.MechTypes
	} else {
		spnego = false
	}
	kind, body, err := token.Unframe(tok)
	if err != nil || kind != token.APReq {
		return nil, fmt.Errorf("not an AP-REQ: %w", err)
	}
	reply, refused := a.accept(body)
	if refused != nil && reply == nil {
		return nil, refused
	}
	resp := token.Resp{State: token.Completed, Mech: token.Kerberos, Token: reply}
	switch {
	case refused != nil:
		resp.State = token.Rejected
	case a.faults.OtherMech:
		resp.Mech = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 10}
	case a.faults.Incomplete:
		resp.State = token.Incomplete
	case a.faults.MIC || a.faults.WrongMIC:
		if a.faults.WrongMIC {
			list = token.MechTypes(token.MSKerberos)
		}
		if resp.MIC, err = a.channel.MIC(list); err != nil {
			return nil, err
		}
		a.send++
	}
	if !spnego {
		return reply, refused
	}
	return token.RespToken(resp), refused
}

// accept reads an AP-REQ, and returns an AP-REP or a KRB-ERROR in its frame.
func (a *Acceptor) accept(body []byte) ([]byte, error) {
	if a.faults.Refuse != 0 {
		return a.refuse(a.faults.Refuse)
	}
	var req messages.APReq
	if err := req.Unmarshal(body); err != nil {
		return nil, err
	}
	s := a.service
	if req.Ticket.SName.PrincipalNameString() != s.Name {
		return a.refuse(errorcode.KRB_AP_ERR_NOT_US)
	}
	key := s.Key
	plain, err := etype.Decrypt(key, keyusage.KDC_REP_TICKET, req.Ticket.EncPart.Cipher)
	if err != nil {
		return a.refuse(errorcode.KRB_AP_ERR_MODIFIED)
	}
	var part messages.EncTicketPart
	if err := part.Unmarshal(plain); err != nil {
		return nil, err
	}
	if plain, err = etype.Decrypt(part.Key, keyusage.AP_REQ_AUTHENTICATOR, req.EncryptedAuthenticator.Cipher); err != nil {
		return a.refuse(errorcode.KRB_AP_ERR_BAD_INTEGRITY)
	}
	auth := &req.Authenticator
	if err := auth.Unmarshal(plain); err != nil {
		return nil, err
	}
	stamp := auth.CTime.Add(time.Duration(auth.Cusec) * time.Microsecond)
	now := s.now()
	sum := gss.BindingSum(s.Binding)
	switch {
	case !auth.CName.Equal(part.CName) || auth.CRealm != part.CRealm:
		return a.refuse(errorcode.KRB_AP_ERR_BADMATCH)
	case now.After(part.EndTime.Add(MaxSkew)):
		return a.refuse(errorcode.KRB_AP_ERR_TKT_EXPIRED)
	case now.Sub(stamp).Abs() > MaxSkew:
		return a.refuse(errorcode.KRB_AP_ERR_SKEW)
	case !s.fresh(stamp):
		return a.refuse(errorcode.KRB_AP_ERR_REPEAT)
	case len(auth.Cksum.Checksum) < 24:
		return a.refuse(errorcode.KRB_AP_ERR_INAPP_CKSUM)
	case s.Binding != nil && !bytes.Equal(auth.Cksum.Checksum[4:20], sum[:]):
		return nil, errors.New("the channel binding is another one")
	}
	a.client = part.CName.PrincipalNameString() + "@" + part.CRealm
	a.flags = binary.LittleEndian.Uint32(auth.Cksum.Checksum[20:])
	return a.answer(part.Key, auth.SubKey, auth.CTime, auth.Cusec, uint64(auth.SeqNumber)) //nolint:gosec // 30 bits
}

// answer makes the AP-REP and opens the channel.
func (a *Acceptor) answer(session, theirs etype.Key, ctime time.Time, cusec int, seq uint64) ([]byte, error) {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	a.send, a.recv = uint64(binary.BigEndian.Uint32(random[:])>>2), seq
	a.keys = token.Keys{Initiator: theirs}
	if !a.faults.NoSubkey {
		a.keys.Acceptor = etype.New(session.KeyType)
	}
	if a.faults.WrongKey {
		session = etype.New(session.KeyType)
	}
	if a.faults.WrongTime {
		ctime = ctime.Add(-time.Second)
	}
	var err error
	if a.channel, err = token.NewChannel(true, a.keys, a.send, a.recv); err != nil {
		return nil, err
	}
	part := messages.EncAPRepPart{CTime: ctime, Cusec: cusec, Subkey: a.keys.Acceptor, SequenceNumber: int64(a.send)} //nolint:gosec // 30 bits
	enc, err := seal(session, keyusage.AP_REP_ENCPART, asnAppTag.EncAPRepPart, part)
	if err != nil || a.faults.Silent {
		return nil, err
	}
	if a.faults.TamperAPRep {
		enc.Cipher[len(enc.Cipher)/2] ^= 1
	}
	b, err := forkasn1.Marshal(messages.APRep{PVNO: iana.PVNO, MsgType: msgtype.KRB_AP_REP, EncPart: enc})
	return token.Frame(token.APRep, asn1tools.AddASNAppTag(b, asnAppTag.APREP)), err
}

func (a *Acceptor) refuse(number int32) ([]byte, error) {
	b, err := a.service.refused(number)
	if err != nil {
		return nil, err
	}
	return token.Frame(token.KRBError, b), fmt.Errorf("refused: %s", errorcode.Lookup(number))
}

// fresh reports whether an authenticator of this time was never seen.
func (s *Service) fresh(stamp time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[time.Time]bool{}
	}
	known := s.seen[stamp.UTC()]
	s.seen[stamp.UTC()] = true
	return !known
}

// Seal encrypts a message for the client, wrongly where Faults say so.
func (a *Acceptor) Seal(plain []byte) (header, body []byte, err error) {
	if a.faults.RepeatSeal || a.faults.SkipSeal {
		if a.faults.SkipSeal {
			a.send++
		}
		if a.channel, err = token.NewChannel(true, a.keys, a.send, a.recv); err != nil {
			return nil, nil, err
		}
	}
	header, body, err = a.channel.Seal(plain)
	if a.faults.SkipSeal {
		a.send++
	}
	if a.faults.TamperSeal && err == nil && len(body) > 0 {
		body[len(body)/2] ^= 1
	}
	return header, body, err
}

// Open decrypts a message of the client.
func (a *Acceptor) Open(header, body []byte) ([]byte, error) {
	plain, err := a.channel.Open(header, body)
	if err == nil {
		a.recv++
	}
	return plain, err
}
