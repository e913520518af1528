package krb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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

// service gets a ticket for spn with a ticket-granting ticket, over the trusts that
// the KDCs point along (RFC 6806 section 8).
func (c *Client) service(ctx context.Context, tgt *held, spn string) (*held, error) {
	name, target, _ := strings.Cut(spn, "@")
	target = strings.ToUpper(target)
	server := types.NewPrincipalName(nametype.KRB_NT_SRV_INST, name)
	if target == "" && len(server.NameString) > 1 {
		target = c.cfg.Conf.realmOf(server.NameString[1])
	}
	seen := []string{tgt.realm}
	for {
		want := server
		if target != "" && target != tgt.realm {
			want = types.NewPrincipalName(nametype.KRB_NT_SRV_INST, "krbtgt/"+target)
		}
		t, err := c.tgs(ctx, tgt, want, name)
		if err != nil {
			return nil, err
		}
		got := t.ticket.SName
		if strings.EqualFold(got.PrincipalNameString(), name) {
			trace(ctx, Event{What: "ticket", SPN: spn, Realm: t.ticket.Realm, Etype: etype.Name(t.key.KeyType), End: t.end})
			return t, nil
		}
		if !isTGT(got) {
			return nil, answerError(tgt.realm, fmt.Errorf("its ticket is for %s, not for %s", printable(got.PrincipalNameString()), name))
		}
		trace(ctx, Event{What: "referral", Realm: tgt.realm, SPN: got.PrincipalNameString()})
		if slices.Contains(seen, t.realm) || len(seen) >= maxHops {
			return nil, &Error{
				Phase: transport.PhaseAuth, Code: "auth.realm", Err: fmt.Errorf("the way to %s goes round: %s, %s", name, strings.Join(seen, ", "), printable(t.realm)),
				Hint: "check the trusts between the domains, and [domain_realm] in krb5.conf",
			}
		}
		seen = append(seen, t.realm)
		tgt = t
	}
}

// tgs asks a KDC for one ticket (RFC 4120 section 3.3). what is the service that this
// is for.
func (c *Client) tgs(ctx context.Context, tgt *held, server types.PrincipalName, what string) (*held, error) {
	return c.tgsBody(ctx, tgt, c.body(tgt.realm, server), what)
}

// renewed has a ticket-granting ticket renewed (RFC 4120 section 2.3).
func (c *Client) renewed(ctx context.Context, tgt *held) (*held, error) {
	body := c.body(tgt.realm, tgt.ticket.SName)
	types.SetFlag(&body.KDCOptions, flags.Renew)
	return c.tgsBody(ctx, tgt, body, "renewal of a ticket")
}

func (c *Client) tgsBody(ctx context.Context, tgt *held, body messages.KDCReqBody, what string) (*held, error) {
	body.CName = types.PrincipalName{} // the ticket says who we are
	b, err := c.tgsExchange(ctx, tgt, body)
	if err != nil {
		return nil, err
	}
	a, refused := ReadError(b)
	if refused && a.Number == errorcode.KRB_AP_ERR_SKEW { // with a ticket cache nobody told us before
		if moved, err := c.correct(ctx, tgt.realm, a.Time); err != nil {
			return nil, err
		} else if moved {
			if b, err = c.tgsExchange(ctx, tgt, body); err != nil {
				return nil, err
			}
			a, refused = ReadError(b)
		}
	}
	if refused {
		return nil, explainTGS(a, tgt.realm, c.Principal(), what)
	}
	rep, err := readTGSRep(b)
	if err != nil {
		return nil, answerError(tgt.realm, err)
	}
	part, err := readPart(rep.EncPart, tgt.key, keyusage.TGS_REP_ENCPART_SESSION_KEY)
	switch {
	case err != nil:
		return nil, answerError(tgt.realm, err)
	case part.Nonce != body.Nonce || !part.SName.Equal(rep.Ticket.SName) || part.SRealm != rep.Ticket.Realm:
		return nil, answerError(tgt.realm, errors.New("its ticket is not the one that was asked for"))
	}
	if err := etype.Check(part.Key); err != nil {
		return nil, &Error{
			Phase: transport.PhaseAuth, Code: "auth.etype", Err: fmt.Errorf("session key for %s: %w", what, err),
			Hint: "set msDS-SupportedEncryptionTypes of the host's account to 24 (AES); RC4 and DES are refused",
		}
	}
	realm := ""
	if isTGT(rep.Ticket.SName) {
		realm = rep.Ticket.SName.NameString[1]
	}
	return c.hold(rep.Ticket, part, realm, tgt.client, tgt.crealm), nil
}

func (c *Client) tgsExchange(ctx context.Context, tgt *held, body messages.KDCReqBody) ([]byte, error) {
	msg, err := c.tgsReq(tgt, body)
	if err != nil {
		return nil, err
	}
	return c.exchange(ctx, tgt.realm, msg)
}

// tgsReq makes the request. The authenticator names the realm of the client, wherever
// the ticket is from: KDCs two trusts away look at it.
func (c *Client) tgsReq(tgt *held, body messages.KDCReqBody) ([]byte, error) {
	raw, err := body.Marshal()
	if err != nil {
		return nil, err
	}
	sum, kind, err := etype.Checksum(tgt.key, keyusage.TGS_REQ_PA_TGS_REQ_AP_REQ_AUTHENTICATOR_CHKSUM, raw)
	if err != nil {
		return nil, err
	}
	stamp := c.stamp()
	auth := types.Authenticator{
		AVNO: iana.PVNO, CRealm: tgt.crealm, CName: tgt.client, Cksum: types.Checksum{CksumType: kind, Checksum: sum},
		CTime: stamp, Cusec: stamp.Nanosecond() / int(time.Microsecond),
	}
	plain, err := auth.Marshal()
	if err != nil {
		return nil, err
	}
	ct, err := etype.Encrypt(tgt.key, keyusage.TGS_REQ_PA_TGS_REQ_AP_REQ_AUTHENTICATOR, plain)
	if err != nil {
		return nil, err
	}
	ap := messages.APReq{
		PVNO: iana.PVNO, MsgType: msgtype.KRB_AP_REQ, APOptions: types.NewKrbFlags(), Ticket: tgt.ticket,
		EncryptedAuthenticator: types.EncryptedData{EType: tgt.key.KeyType, Cipher: ct},
	}
	pa, err := ap.Marshal()
	if err != nil {
		return nil, err
	}
	req := messages.TGSReq{KDCReqFields: messages.KDCReqFields{
		PVNO: iana.PVNO, MsgType: msgtype.KRB_TGS_REQ, ReqBody: body,
		PAData: types.PADataSequence{{PADataType: patype.PA_TGS_REQ, PADataValue: pa}},
	}}
	return req.Marshal()
}

// explainTGS differs from explain where the ticket, and not the password, is at fault.
func explainTGS(a *PeerError, realm, user, what string) *Error {
	e := explain(a, realm, user, what)
	switch a.Number {
	case errorcode.KRB_AP_ERR_BAD_INTEGRITY, errorcode.KRB_AP_ERR_MODIFIED, errorcode.KRB_AP_ERR_BADKEYVER, errorcode.KRB_AP_ERR_NOKEY, errorcode.KDC_ERR_TGT_REVOKED:
		e.Code, e.Hint = "auth.ticket_expired", "get a new ticket"
		e.Err = fmt.Errorf("%s: the KDC of %s does not take our ticket: %w", what, realm, a)
	case errorcode.KRB_AP_ERR_BADMATCH, errorcode.KRB_AP_ERR_NOT_US:
		e.Code, e.Hint = "auth.realm", "check the trusts between the domains"
		e.Err = fmt.Errorf("%s: the KDC of %s does not trust where our ticket is from: %w", what, realm, a)
	}
	return e
}

func readTGSRep(b []byte) (rep messages.TGSRep, err error) {
	defer survive(&err)
	if rep.Unmarshal(b) != nil {
		err = errForm
	}
	return rep, err
}
