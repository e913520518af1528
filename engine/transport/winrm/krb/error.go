package krb

import (
	"fmt"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/messages"

	"runner/engine/transport"
)

// Error says why there is no ticket.
type Error struct {
	Phase transport.Phase // resolve, dial or auth
	Code  string          // a stable word, see gss/README.md
	Err   error
	Hint  string // what a person can do, or empty
}

// Error returns the cause.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// PeerError is a KRB-ERROR (RFC 4120 section 5.9.1): of a KDC, or of a service. It is
// not authenticated.
type PeerError struct {
	Number int32
	Text   string // printable and short
	Time   time.Time
	Realm  string // of the client, where the sender corrects it
	Status uint32 // NTSTATUS of Active Directory, or 0
	data   []byte
}

// Error names the error as the standard does.
func (a *PeerError) Error() string {
	s := strings.TrimSpace(strings.TrimPrefix(errorcode.Lookup(a.Number), fmt.Sprintf("(%d) ", a.Number)))
	name, text, _ := strings.Cut(s, " ")
	if a.Text != "" && !strings.EqualFold(a.Text, text) {
		text += " (" + a.Text + ")"
	}
	if why := ntstatus[a.Status]; why != "" {
		text += ": " + why
	}
	return fmt.Sprintf("%s [%s %d]", text, name, a.Number)
}

// ntstatus says what Active Directory means by the refusals that one Kerberos code
// stands for ([MS-ERREF] 2.3.1).
var ntstatus = map[uint32]string{
	0xC000006F: "not at this hour",
	0xC0000070: "not from this machine",
	0xC0000071: "the password has expired",
	0xC0000072: "the account is disabled",
	0xC0000193: "the account has expired",
	0xC0000224: "the password has to be changed first",
	0xC0000234: "the account is locked",
	0xC0000413: "an authentication policy forbids it",
}

const maxText = 200

// ReadError reads a KRB-ERROR. ok is false for everything else.
func ReadError(b []byte) (_ *PeerError, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	var k messages.KRBError
	if len(b) > maxAnswer || k.Unmarshal(b) != nil {
		return nil, false
	}
	a := &PeerError{Number: k.ErrorCode, Text: printable(k.EText), Realm: printable(k.CRealm), data: k.EData}
	a.Time = k.STime.Add(time.Duration(k.Susec) * time.Microsecond)
	a.Status = status(k.EData)
	return a, true
}

// printable makes what a stranger sent fit for a message.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	return s[:min(len(s), maxText)]
}

// status finds the NTSTATUS in the data of an error: [MS-KILE] 2.2.1 in 2.2.2.
func status(data []byte) uint32 {
	var e struct {
		Type  int    `asn1:"explicit,tag:1"`
		Value []byte `asn1:"explicit,optional,tag:2"`
	}
	const extended = 3
	if unmarshal(data, &e) != nil || e.Type != extended || len(e.Value) != 12 {
		return 0
	}
	return uint32(e.Value[0]) | uint32(e.Value[1])<<8 | uint32(e.Value[2])<<16 | uint32(e.Value[3])<<24
}
