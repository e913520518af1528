// Package gsstest is a host's side of Kerberos for tests, without a KDC: an account
// with a key that issues tickets for itself and accepts them, and does it wrong where
// a test says so. It refuses to be used by programs.
package gsstest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/iana"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"runner/engine/transport"
	"runner/engine/transport/winrm/krb"
	"runner/engine/transport/winrm/krb/etype"
)

// Realm is where everybody lives.
const Realm = "CORP.TEST"

// Service is the account of a host.
type Service struct {
	Name    string // HTTP/srv1.corp.test
	Key     etype.Key
	Clock   func() time.Time // nil: time.Now
	Binding []byte           // channel binding that clients must have; nil: any

	mu   sync.Mutex
	seen map[time.Time]bool // authenticators
}

// NewService makes an account whose tickets are of type id (0: AES256 with SHA-1).
func NewService(name string, id int32) *Service {
	if id == 0 {
		id = etype.AES256SHA1
	}
	return &Service{Name: name, Key: etype.New(id)}
}

func (s *Service) now() time.Time {
	if s.Clock != nil {
		return s.Clock()
	}
	return time.Now()
}

// Tickets issues tickets to one user: it stands in for a *krb.Client. The zero
// values of its fields make good tickets.
type Tickets struct {
	Service *Service
	User    string
	Life    time.Duration // of tickets; 0: ten hours; negative: they are over
	Skew    time.Duration // how far the user's clock is ahead of the service's
	Session int32         // type of session keys; 0: as the service's key
	Stuck   bool          // every ticket has the same Stamp
	Unknown []string      // service principals that are not known
	Err     error         // instead of a ticket

	mu    sync.Mutex
	asked []string
	last  time.Time
}

// Principal names the user.
func (t *Tickets) Principal() string { return t.User + "@" + Realm }

// Asked lists the service principals that tickets were asked for.
func (t *Tickets) Asked() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.asked)
}

// Ticket issues a ticket for spn, whoever that is: it is always under the key of
// the service.
func (t *Tickets) Ticket(ctx context.Context, spn string) (*krb.Ticket, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = append(t.asked, spn)
	switch {
	case ctx.Err() != nil:
		return nil, &krb.Error{Phase: transport.PhaseAuth, Code: "auth.cancelled", Err: ctx.Err()}
	case t.Err != nil:
		return nil, t.Err
	case slices.Contains(t.Unknown, spn):
		return nil, &krb.Error{Phase: transport.PhaseAuth, Code: "auth.spn_unknown", Err: errors.New(spn + " is not known")}
	}
	if t.Session == 0 {
		t.Session = t.Service.Key.KeyType
	}
	life := t.Life
	if life == 0 {
		life = 10 * time.Hour
	}
	now := t.Service.now().UTC()
	user := types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, t.User)
	part := messages.EncTicketPart{
		Flags: types.NewKrbFlags(), Key: etype.Key{KeyType: t.Session, KeyValue: make([]byte, 16)},
		CRealm: Realm, CName: user, AuthTime: now, StartTime: now, EndTime: now.Add(life),
	}
	if etype.Supported(t.Session) {
		part.Key = etype.New(t.Session)
	}
	sealed, err := seal(t.Service.Key, keyusage.KDC_REP_TICKET, asnAppTag.EncTicketPart, part)
	if err != nil {
		return nil, err
	}
	stamp := now.Add(t.Skew).Truncate(time.Microsecond)
	switch {
	case t.Stuck && !t.last.IsZero():
		stamp = t.last
	case !stamp.After(t.last):
		stamp = t.last.Add(time.Microsecond)
	}
	t.last = stamp
	return &krb.Ticket{
		Ticket: messages.Ticket{
			TktVNO: iana.PVNO, Realm: Realm,
			SName: types.NewPrincipalName(nametype.KRB_NT_SRV_INST, spn), EncPart: sealed,
		},
		Key: part.Key, Client: user, Realm: Realm, Stamp: stamp, Skew: t.Skew, End: part.EndTime,
	}, nil
}

// seal encodes and encrypts one of the encrypted parts of RFC 4120.
func seal(k etype.Key, usage uint32, tag int, v any) (types.EncryptedData, error) {
	b, err := asn1.Marshal(v)
	if err != nil {
		return types.EncryptedData{}, err
	}
	ct, err := etype.Encrypt(k, usage, asn1tools.AddASNAppTag(b, tag))
	return types.EncryptedData{EType: k.KeyType, Cipher: ct}, err
}

// refused is a KRB-ERROR that the acceptor sends.
func (s *Service) refused(number int32) ([]byte, error) {
	now := s.now().UTC()
	k := messages.KRBError{
		PVNO: iana.PVNO, MsgType: 30, STime: now, Susec: now.Nanosecond() / 1000, ErrorCode: number,
		Realm: Realm, SName: types.NewPrincipalName(nametype.KRB_NT_SRV_INST, s.Name), EText: errorcode.Lookup(number),
	}
	return k.Marshal()
}
