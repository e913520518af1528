package krb

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/iana"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"runner/engine/transport"
	"runner/engine/transport/winrm/krb/etype"
)

// MaxCorrection is how far clocks may differ and still be brought together. What a
// KDC says about its clock is not proven until it answers to a login made with it.
const MaxCorrection = 24 * time.Hour

// maxHops bounds how many realms may send us on.
const maxHops = 10

// forever is the end of life that Windows asks for: the KDC's own limit holds.
var forever = time.Date(2037, 9, 13, 2, 48, 5, 0, time.UTC)

// held is a ticket as it is kept: End is by our clock.
type held struct {
	ticket messages.Ticket
	key    etype.Key
	realm  string // whose KDC takes it, for a ticket-granting ticket
	client types.PrincipalName
	crealm string
	start  time.Time
	end    time.Time
	renew  time.Time

	doubt time.Time // since when a host that it was shown to says nothing; the Client's mutex guards it
}

// login gets a ticket-granting ticket (RFC 4120 section 3.1), following a KDC that
// names another realm for the account (RFC 6806 section 7).
func (c *Client) login(ctx context.Context) (*held, error) {
	if c.cache != nil {
		return c.fromCache(ctx)
	}
	realm, seen := c.realm, map[string]bool{}
	for len(seen) < maxHops {
		seen[realm] = true
		t, err := c.loginAt(ctx, realm)
		a, ok := Cause(err)
		if !ok || a.Number != errorcode.KDC_ERR_WRONG_REALM || a.Realm == "" {
			return t, err
		}
		next := strings.ToUpper(a.Realm)
		trace(ctx, Event{What: "referral", Realm: realm, SPN: "krbtgt/" + next})
		if seen[next] {
			return nil, err
		}
		realm = next
	}
	return nil, &Error{Phase: transport.PhaseAuth, Code: "auth.realm", Err: fmt.Errorf("more than %d realms send %s on", maxHops, c.Principal())}
}

// loginAt asks without a password first: the KDC then says how the key is made and
// what time it is. That is no attempt.
func (c *Client) loginAt(ctx context.Context, realm string) (*held, error) {
	corrected := false
	for {
		req := c.asReq(realm)
		msg, err := req.Marshal()
		if err != nil {
			return nil, err
		}
		b, err := c.exchange(ctx, realm, msg)
		if err != nil {
			return nil, err
		}
		a, refused := ReadError(b)
		if !refused {
			return c.asRep(ctx, b, req, realm, nil)
		}
		moved, err := c.correct(ctx, realm, a.Time)
		if err != nil {
			return nil, err
		}
		switch a.Number {
		case errorcode.KDC_ERR_PREAUTH_REQUIRED:
			return c.preAuth(ctx, realm, a)
		case errorcode.KRB_AP_ERR_SKEW, errorcode.KDC_ERR_NEVER_VALID:
			if moved && !corrected {
				corrected = true
				continue
			}
		}
		return nil, explain(a, realm, c.Principal(), "login of "+c.Principal())
	}
}

// preAuth proves that we know the key, once.
func (c *Client) preAuth(ctx context.Context, realm string, a *PeerError) (*held, error) {
	var pas types.PADataSequence
	if err := unmarshal(a.data, &pas); err != nil {
		return nil, answerError(realm, fmt.Errorf("pre-authentication: %w", err))
	}
	switch {
	case !pas.Contains(patype.PA_ETYPE_INFO2): // Kerberos of before 2005, or no key that we could name
		return nil, &Error{
			Phase: transport.PhaseAuth, Code: "auth.etype", Err: fmt.Errorf("the KDC of %s has no AES key of %s", realm, c.Principal()), Hint: hintAES,
		}
	case !pas.Contains(patype.PA_ENC_TIMESTAMP):
		return nil, &Error{
			Phase: transport.PhaseAuth, Code: "auth.policy", Err: fmt.Errorf("the KDC of %s takes no password or key of %s", realm, c.Principal()),
			Hint: "the account may need a smart card: take that off, or use another account",
		}
	}
	key, kvno, err := c.longTerm(pas, 0)
	if err != nil {
		return nil, err
	}
	now := c.now()
	stamp, err := asn1.Marshal(types.PAEncTSEnc{PATimestamp: now, PAUSec: now.Nanosecond() / int(time.Microsecond)})
	if err != nil {
		return nil, err
	}
	ct, err := etype.Encrypt(key, keyusage.AS_REQ_PA_ENC_TIMESTAMP, stamp)
	if err != nil {
		return nil, err
	}
	pa, err := asn1.Marshal(types.EncryptedData{EType: key.KeyType, KVNO: kvno, Cipher: ct})
	if err != nil {
		return nil, err
	}
	req := c.asReq(realm)
	req.PAData = types.PADataSequence{{PADataType: patype.PA_ENC_TIMESTAMP, PADataValue: pa}}
	msg, err := req.Marshal()
	if err != nil {
		return nil, err
	}
	// What was sent is waited for even if nobody wants it any more: who asks next must
	// know whether the password was right.
	b, err := c.once(context.WithoutCancel(ctx), realm, msg)
	if err != nil {
		return nil, err
	}
	if a, refused := ReadError(b); refused {
		e := explain(a, realm, c.Principal(), "login of "+c.Principal())
		if a.Number == errorcode.KRB_AP_ERR_SKEW {
			e.Err = fmt.Errorf("%w; its clock was taken to be %s ahead of ours", e.Err, c.Skew().Round(time.Second))
		}
		return nil, e
	}
	return c.asRep(ctx, b, req, realm, pas)
}

// longTerm makes the key that the KDC has for us, of type want (0: the first that it
// offers and we have).
func (c *Client) longTerm(pas types.PADataSequence, want int32) (etype.Key, int, error) {
	infos, err := etypeInfo(pas)
	if err != nil {
		return etype.Key{}, 0, err
	}
	var offered []string
	for _, info := range infos {
		offered = append(offered, etype.Name(info.EType))
		if !slices.Contains(c.cfg.Etypes, info.EType) || want != 0 && info.EType != want {
			continue
		}
		if c.keytab != nil {
			if e := c.fromKeytab(info.EType); e != nil {
				return e.key, int(e.kvno), nil
			}
			continue
		}
		salt := info.Salt
		if salt == "" {
			salt = c.user.GetSalt(c.realm)
		}
		k, err := etype.FromPassword(info.EType, c.cfg.Password.Reveal(), salt, info.S2KParams)
		if err != nil {
			e := answerError(c.realm, err)
			e.Hint = "somebody may stand between this machine and the KDC"
			return etype.Key{}, 0, e
		}
		return k, 0, nil
	}
	e := &Error{Phase: transport.PhaseAuth, Code: "auth.etype", Err: fmt.Errorf("the KDC has only keys of %s for %s", strings.Join(offered, ", "), c.Principal()), Hint: hintAES}
	if c.keytab != nil {
		e.Err = fmt.Errorf("the keytab has no key of a type that the KDC offers for %s (%s)", c.Principal(), strings.Join(offered, ", "))
		e.Hint = "make the keytab again, with AES keys"
	}
	return etype.Key{}, 0, e
}

// etypeInfo finds ETYPE-INFO2 (RFC 4120 section 5.2.7.5).
func etypeInfo(pas types.PADataSequence) (types.ETypeInfo2, error) {
	for _, pa := range pas {
		if pa.PADataType == patype.PA_ETYPE_INFO2 {
			var infos types.ETypeInfo2
			if err := unmarshal(pa.PADataValue, &infos); err != nil {
				return nil, &Error{Phase: transport.PhaseAuth, Code: "kdc.answer", Err: fmt.Errorf("encryption types of a KDC: %w", err)}
			}
			return infos, nil
		}
	}
	return nil, nil
}

// fromKeytab returns the newest key of a type, or nil.
func (c *Client) fromKeytab(id int32) *keytabEntry {
	var best *keytabEntry
	for i := range c.keytab {
		e := &c.keytab[i]
		if e.key.KeyType == id && e.is(c.user, c.realm) && (best == nil || e.kvno >= best.kvno) {
			best = e
		}
	}
	return best
}

func (c *Client) asReq(realm string) messages.ASReq {
	return messages.ASReq{KDCReqFields: messages.KDCReqFields{
		PVNO: iana.PVNO, MsgType: msgtype.KRB_AS_REQ,
		ReqBody: c.body(realm, types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: []string{"krbtgt", realm}}),
	}}
}

// body is what requests to both services of a KDC have in common.
func (c *Client) body(realm string, server types.PrincipalName) messages.KDCReqBody {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	b := messages.KDCReqBody{
		KDCOptions: types.NewKrbFlags(), CName: c.user, Realm: realm, SName: server, Till: forever,
		Nonce: int(binary.BigEndian.Uint32(random[:]) >> 1), EType: c.cfg.Etypes,
	}
	types.SetFlag(&b.KDCOptions, flags.Canonicalize)
	return b
}

// asRep opens the KDC's answer to a login. pas is what it said before; nil: it asked
// for no proof.
func (c *Client) asRep(ctx context.Context, b []byte, req messages.ASReq, realm string, pas types.PADataSequence) (*held, error) {
	rep, err := readASRep(b)
	if err != nil {
		return nil, answerError(realm, err)
	}
	proven := pas != nil
	if infos, err := etypeInfo(rep.PAData); err == nil && len(infos) > 0 {
		pas = rep.PAData
	}
	if pas == nil { // no word about it: RFC 4120 section 5.2.7.5 has defaults
		info, err := asn1.Marshal(types.ETypeInfo2{{EType: rep.EncPart.EType}})
		if err != nil {
			return nil, err
		}
		pas = types.PADataSequence{{PADataType: patype.PA_ETYPE_INFO2, PADataValue: info}}
	}
	key, _, err := c.longTerm(pas, rep.EncPart.EType)
	if err != nil {
		return nil, err
	}
	part, err := readPart(rep.EncPart, key, keyusage.AS_REP_ENCPART)
	switch {
	case errors.Is(err, etype.ErrIntegrity) && !proven:
		e := explain(&PeerError{Number: errorcode.KDC_ERR_PREAUTH_FAILED}, realm, c.Principal(), "login of "+c.Principal())
		e.Err = fmt.Errorf("the ticket for %s cannot be read: the password or key is wrong", c.Principal())
		return nil, e
	case err != nil:
		return nil, answerError(realm, err)
	case part.Nonce != req.ReqBody.Nonce || !isTGT(part.SName) || !part.SName.Equal(rep.Ticket.SName) || part.SRealm != rep.Ticket.Realm:
		return nil, answerError(realm, errors.New("its ticket is not the one that was asked for"))
	}
	if err := etype.Check(part.Key); err != nil {
		return nil, &Error{Phase: transport.PhaseAuth, Code: "auth.etype", Err: fmt.Errorf("session key of %s: %w", realm, err), Hint: hintAES}
	}
	if _, err := c.correct(ctx, realm, part.AuthTime); err != nil { // now it is proven
		return nil, err
	}
	t := c.hold(rep.Ticket, part, part.SName.NameString[1], rep.CName, rep.CRealm)
	c.mu.Lock()
	if _, known := c.found[t.realm]; !known { // the domain has two names (CORP, CORP.EXAMPLE), and its KDCs one
		c.found[t.realm] = c.found[realm]
	}
	c.mu.Unlock()
	trace(ctx, Event{What: "tgt", Realm: t.realm, Etype: etype.Name(t.key.KeyType), End: t.end, Skew: c.Skew()})
	return t, nil
}

// hold makes what is kept of an answer, with times by our clock.
func (c *Client) hold(t messages.Ticket, p messages.EncKDCRepPart, realm string, client types.PrincipalName, crealm string) *held {
	skew := c.Skew()
	return &held{
		ticket: t, key: p.Key, realm: realm, client: client, crealm: crealm,
		start: c.cfg.Clock(), end: p.EndTime.Add(-skew), renew: p.RenewTill.Add(-skew),
	}
}

func isTGT(n types.PrincipalName) bool { return len(n.NameString) == 2 && n.NameString[0] == "krbtgt" }

// correct takes over the clock of a KDC. moved is true when that changed something.
func (c *Client) correct(ctx context.Context, realm string, theirs time.Time) (moved bool, err error) {
	if theirs.IsZero() {
		return false, nil
	}
	skew := theirs.Sub(c.cfg.Clock()).Truncate(time.Microsecond)
	if skew.Abs() > MaxCorrection {
		return false, &Error{
			Phase: transport.PhaseAuth, Code: "auth.clock",
			Err:  fmt.Errorf("the clock of the KDC of %s says %s, ours %s", realm, theirs.UTC().Format(time.RFC3339), c.cfg.Clock().UTC().Format(time.RFC3339)),
			Hint: fmt.Sprintf("set both by NTP: a difference of more than %s is not corrected", MaxCorrection),
		}
	}
	c.mu.Lock()
	moved = (skew - c.skew).Abs() > 2*time.Second // what answers need to come, and seconds that are cut off
	if moved {
		c.skew, c.stamped = skew, time.Time{}
	}
	c.mu.Unlock()
	if moved {
		trace(ctx, Event{What: "clock", Realm: realm, Skew: skew})
	}
	return moved, nil
}

func answerError(realm string, err error) *Error {
	return &Error{Phase: transport.PhaseAuth, Code: "kdc.answer", Err: fmt.Errorf("answer of the KDC of %s: %w", realm, err)}
}

func readASRep(b []byte) (rep messages.ASRep, err error) {
	defer survive(&err)
	if rep.Unmarshal(b) != nil {
		err = errForm
	}
	return rep, err
}

// readPart decrypts the part of an answer that is for us.
func readPart(ed types.EncryptedData, key etype.Key, usage uint32) (p messages.EncKDCRepPart, err error) {
	defer survive(&err)
	if ed.EType != key.KeyType {
		return p, fmt.Errorf("it is under %s, not under %s", etype.Name(ed.EType), etype.Name(key.KeyType))
	}
	plain, err := etype.Decrypt(key, usage, ed.Cipher)
	if err != nil {
		return p, err
	}
	if p.Unmarshal(plain) != nil {
		return p, errForm
	}
	return p, nil
}
