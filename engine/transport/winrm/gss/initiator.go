package gss

import (
	"crypto/md5" //nolint:gosec // RFC 4121 section 4.1.1.2 wants it for channel bindings; what is hashed is a hash
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana"
	"github.com/jcmturner/gokrb5/v8/iana/chksumtype"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"runner/engine/transport/winrm/gss/token"
	"runner/engine/transport/winrm/krb"
	"runner/engine/transport/winrm/krb/etype"
)

// What is asked of the acceptor (RFC 4121 section 4.1.1.1). DCE style and delegation
// are never asked for.
const (
	flagMutual   = 2
	flagReplay   = 4
	flagSequence = 8
	flagConf     = 16
	flagInteg    = 32
)

// initiator is our side of a Kerberos context.
type initiator struct {
	ticket  *krb.Ticket
	bare    bool
	bound   bool // to a TLS connection
	conf    bool
	subkey  etype.Key
	seq     uint32
	out     []byte // the first token, until it is fetched
	list    []byte // mechanisms that we offered
	sent    bool
	broken  bool
	channel *token.Channel // nil until Done
}

// newInitiator prepares the AP-REQ.
func newInitiator(t *krb.Ticket, target Target, bare bool) (*initiator, error) {
	if err := etype.Check(t.Key); err != nil {
		return nil, fail("auth.etype", fmt.Errorf("session key for %s: %w", t.SPN(), err), "set msDS-SupportedEncryptionTypes of the host's account to 24 (AES); RC4 and DES are refused")
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	i := &initiator{
		ticket: t, bare: bare, bound: target.Binding != nil, conf: target.Confidential,
		subkey: etype.New(t.Key.KeyType),
		// 30 bits: some peers read the number as signed, and it grows
		seq: binary.BigEndian.Uint32(random[:]) >> 2,
	}
	req, err := i.apReq(target.Binding)
	if err != nil {
		return nil, fail("auth.refused", fmt.Errorf("make an AP-REQ for %s: %w", t.SPN(), err), "")
	}
	i.out = token.Frame(token.APReq, req)
	if !bare {
		i.list = token.MechTypes(token.Kerberos)
		i.out = token.InitToken(i.list, i.out)
	}
	return i, nil
}

// apReq makes the AP-REQ of RFC 4120 section 5.5.1 with the checksum of RFC 4121.
func (i *initiator) apReq(binding []byte) ([]byte, error) {
	auth := types.Authenticator{
		AVNO: iana.PVNO, CRealm: i.ticket.Realm, CName: i.ticket.Client,
		Cksum: types.Checksum{CksumType: chksumtype.GSSAPI, Checksum: i.checksum(binding)},
		CTime: i.ticket.Stamp, Cusec: cusec(i.ticket.Stamp),
		SubKey: i.subkey, SeqNumber: int64(i.seq),
	}
	plain, err := auth.Marshal()
	if err != nil {
		return nil, err
	}
	ct, err := etype.Encrypt(i.ticket.Key, keyusage.AP_REQ_AUTHENTICATOR, plain)
	if err != nil {
		return nil, err
	}
	req := messages.APReq{
		PVNO: iana.PVNO, MsgType: msgtype.KRB_AP_REQ, APOptions: types.NewKrbFlags(), Ticket: i.ticket.Ticket,
		EncryptedAuthenticator: types.EncryptedData{EType: i.ticket.Key.KeyType, Cipher: ct},
	}
	types.SetFlag(&req.APOptions, flags.APOptionMutualRequired)
	return req.Marshal()
}

// checksum is what RFC 4121 section 4.1.1 puts in a checksum's place.
func (i *initiator) checksum(binding []byte) []byte {
	b := make([]byte, 24)
	binary.LittleEndian.PutUint32(b, 16)
	sum := BindingSum(binding)
	copy(b[4:20], sum[:])
	ask := uint32(flagMutual | flagReplay | flagSequence | flagInteg)
	if i.conf {
		ask |= flagConf
	}
	binary.LittleEndian.PutUint32(b[20:], ask)
	return b
}

// BindingSum is the MD5 of a gss_channel_bindings_struct without addresses (RFC
// 4121 section 4.1.1.2), or zeros where there is no binding.
func BindingSum(binding []byte) (sum [md5.Size]byte) {
	if binding == nil {
		return sum
	}
	b := binary.LittleEndian.AppendUint32(make([]byte, 16), uint32(len(binding))) //nolint:gosec // a hash and its name
	return md5.Sum(append(b, binding...))                                         //nolint:gosec // see the import
}

func cusec(t time.Time) int { return t.Nanosecond() / int(time.Microsecond) }

// Next gives the AP-REQ first, and takes the answer then.
func (i *initiator) Next(in []byte) ([]byte, error) {
	switch {
	case i.broken || i.channel != nil || (i.sent == (in == nil)):
		i.broken = true
		return nil, fail("auth.refused", errors.New("the dialogue is over, or out of step"), "open a new connection")
	case !i.sent:
		i.sent = true
		i.ticket.Presented()
		return i.out, nil
	}
	err := i.answer(in)
	i.ticket.Settled(err == nil)
	if err != nil {
		i.broken, i.channel = true, nil
		return nil, of(err)
	}
	return nil, nil
}

// answer checks what the acceptor said to our AP-REQ.
func (i *initiator) answer(in []byte) error {
	if i.bare {
		return i.reply(in)
	}
	resp, err := token.ParseResp(in)
	if err != nil {
		return fail("auth.mutual", err, "")
	}
	if len(resp.Mech) > 0 && !token.IsKerberos(resp.Mech) {
		return fail("auth.refused", fmt.Errorf("the host wants mechanism %s, not Kerberos", resp.Mech), "Kerberos is switched off on the host, or its service account is none of the domain")
	}
	if resp.Token == nil {
		hint := hintRefused
		if i.bound {
			hint += "; over HTTPS also whatever stands between and intercepts TLS"
		}
		return fail("auth.refused", errors.New("the host refused the ticket without a reason"), hint)
	}
	if err := i.reply(resp.Token); err != nil {
		return err
	}
	// Incomplete and RequestMIC want another round, which one mechanism never needs.
	if resp.State != token.Completed {
		return fail("auth.refused", fmt.Errorf("the host accepted the ticket but not the negotiation (state %d)", resp.State), hintRefused)
	}
	if resp.MIC != nil {
		if err := i.channel.VerifyMIC(i.list, resp.MIC); err != nil {
			return fail("auth.mutual", fmt.Errorf("the list of mechanisms was changed on the way: %w", err), "")
		}
	}
	return nil
}

const hintRefused = "look at event 4625 in the host's security log; common causes are the service principal, the clock and the right to log on over the network"

// reply reads the Kerberos token of an answer: an AP-REP, or an error.
func (i *initiator) reply(tok []byte) error {
	kind, body, err := token.Unframe(tok)
	if err != nil {
		return fail("auth.mutual", err, "")
	}
	switch kind {
	case token.APRep:
		return i.apRep(body)
	case token.KRBError:
		a, ok := krb.ReadError(body)
		if !ok {
			return fail("auth.refused", errors.New("the host answered an error that cannot be read"), hintRefused)
		}
		return i.refusal(a)
	case token.APReq:
	}
	return fail("auth.mutual", fmt.Errorf("the host sent a token of kind %#04x, not an AP-REP", uint16(kind)), "")
}

// apRep checks that the host could read the ticket (RFC 4120 section 3.2.5), and
// opens the channel.
func (i *initiator) apRep(body []byte) error {
	rep, err := readAPRep(body, i.ticket.Key)
	if err != nil {
		return fail("auth.mutual", fmt.Errorf("the host did not prove that it is %s: %w", i.ticket.SPN(), err), "somebody may stand between this machine and the host")
	}
	if !rep.CTime.Equal(i.ticket.Stamp.Truncate(time.Second)) || rep.Cusec != cusec(i.ticket.Stamp) {
		return fail("auth.mutual", fmt.Errorf("the proof of %s is for another request", i.ticket.SPN()), "somebody may stand between this machine and the host")
	}
	keys := token.Keys{Initiator: i.subkey, Acceptor: rep.Subkey}
	i.channel, err = token.NewChannel(false, keys, uint64(i.seq), uint64(uint32(rep.SequenceNumber))) //nolint:gosec // 32 bits, written as signed by some
	if err != nil {
		return fail("auth.etype", fmt.Errorf("key that %s chose: %w", i.ticket.SPN(), err), "")
	}
	return nil
}

// readAPRep decrypts an AP-REP and survives what the decoder does not.
func readAPRep(body []byte, session etype.Key) (part messages.EncAPRepPart, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("its AP-REP is not in the form of the standard")
		}
	}()
	var rep messages.APRep
	if err := rep.Unmarshal(body); err != nil {
		return part, errors.New("its AP-REP is not in the form of the standard")
	}
	if rep.EncPart.EType != session.KeyType {
		return part, fmt.Errorf("its AP-REP is under %s where the session key is %s", etype.Name(rep.EncPart.EType), etype.Name(session.KeyType))
	}
	plain, err := etype.Decrypt(session, keyusage.AP_REP_ENCPART, rep.EncPart.Cipher)
	if err != nil {
		return part, err
	}
	if err := part.Unmarshal(plain); err != nil {
		return part, errors.New("its AP-REP is not in the form of the standard")
	}
	return part, nil
}

// refusal explains a KRB-ERROR of the host.
func (i *initiator) refusal(a *krb.PeerError) error {
	spn := i.ticket.SPN()
	cause := fmt.Errorf("the host refused the ticket for %s: %w", spn, a)
	switch a.Number {
	case errorcode.KRB_AP_ERR_SKEW, errorcode.KRB_AP_ERR_TKT_NYV:
		ahead := a.Time.Sub(i.ticket.Stamp).Round(time.Second)
		return fail("auth.clock", fmt.Errorf("the host's clock differs by %s from the KDC's: %w", ahead, cause), "set the host's clock by NTP (w32tm /resync)")
	case errorcode.KRB_AP_ERR_MODIFIED, errorcode.KRB_AP_ERR_BAD_INTEGRITY, errorcode.KRB_AP_ERR_BADKEYVER, errorcode.KRB_AP_ERR_NOKEY:
		return fail("auth.spn_account", cause, "the name belongs to another account than the one that WinRM runs as (an IIS pool has HTTP/ often): try the service principal WSMAN/ instead, and look with setspn -Q "+spn)
	case errorcode.KRB_AP_ERR_NOT_US, errorcode.KRB_AP_ERR_BADMATCH:
		return fail("auth.spn_host", cause, "the connection reaches another machine than the one that the name stands for")
	case errorcode.KRB_AP_ERR_TKT_EXPIRED:
		return fail("auth.ticket_expired", cause, "the host's clock is ahead, or the ticket was kept too long")
	default:
		return fail("auth.refused", cause, hintRefused)
	}
}

// Done reports whether the host proved who it is.
func (i *initiator) Done() bool { return i.channel != nil }

// Seal encrypts a message for the host.
func (i *initiator) Seal(plain []byte) (header, body []byte, err error) {
	if err := i.ready(); err != nil {
		return nil, nil, err
	}
	header, body, err = i.channel.Seal(plain)
	if err != nil {
		return nil, nil, sealError(err)
	}
	return header, body, nil
}

// Open decrypts a message of the host.
func (i *initiator) Open(header, body []byte) ([]byte, error) {
	if err := i.ready(); err != nil {
		return nil, err
	}
	plain, err := i.channel.Open(header, body)
	if err != nil {
		return nil, sealError(err)
	}
	return plain, nil
}

func (i *initiator) ready() error {
	if i.channel == nil || !i.conf {
		return fail("seal.form", errors.New("this context does not seal: it is not finished, or was made without confidentiality"), "")
	}
	return nil
}

func sealError(err error) error {
	code := "seal.tampered"
	switch {
	case errors.Is(err, token.ErrOrder), errors.Is(err, token.ErrBroken):
		code = "seal.order"
	case errors.Is(err, token.ErrForm):
		code = "seal.form"
	case errors.Is(err, token.ErrLimit):
		code = "seal.limit"
	}
	return fail(code, err, "")
}

// Expires is the end of the ticket.
func (i *initiator) Expires() time.Time { return i.ticket.End }

// Peer is the service that proved itself.
func (i *initiator) Peer() string {
	if i.channel == nil {
		return ""
	}
	return i.ticket.SPN()
}
