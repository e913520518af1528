// Package token owns the forms of GSS-API tokens on the wire: the frame of RFC
// 2743 section 3.1, SPNEGO (RFC 4178) and the per-message tokens of Kerberos (RFC
// 4121 section 4.2) for both sides. Everything it reads may be hostile: lengths are
// bounded and what follows a token is refused. Pure: no I/O, no clock, no goroutine.
package token

import (
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxToken is the largest token of a dialogue that is read: an AP-REQ whose ticket
// is in a few thousand groups has half of that.
const MaxToken = 128 << 10

// Identifiers of mechanisms.
var (
	SPNEGO   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 2}
	Kerberos = asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2}
	// MSKerberos is what Windows 2000 wrote for Kerberos, and later ones still may
	// ([MS-SPNG] 1.9).
	MSKerberos = asn1.ObjectIdentifier{1, 2, 840, 48018, 1, 2, 2}
)

// Kind is the identifier of a Kerberos token (RFC 4121 section 4.1).
type Kind uint16

// The tokens of the dialogue.
const (
	APReq    Kind = 0x0100
	APRep    Kind = 0x0200
	KRBError Kind = 0x0300
)

// Frame returns a Kerberos token as GSS-API sends it.
func Frame(k Kind, body []byte) []byte {
	return application(Kerberos, append(binary.BigEndian.AppendUint16(nil, uint16(k)), body...))
}

// Unframe is the counterpart of Frame.
func Unframe(b []byte) (Kind, []byte, error) {
	mech, rest, err := unwrapApplication(b)
	if err != nil {
		return 0, nil, fmt.Errorf("token of Kerberos: %w", err)
	}
	if !IsKerberos(mech) || len(rest) < 2 {
		return 0, nil, fmt.Errorf("a token of mechanism %s where one of Kerberos belongs", mech)
	}
	return Kind(binary.BigEndian.Uint16(rest)), rest[2:], nil
}

// IsKerberos reports whether mech is Kerberos by one of its two identifiers.
func IsKerberos(mech asn1.ObjectIdentifier) bool {
	return mech.Equal(Kerberos) || mech.Equal(MSKerberos)
}

// application returns [APPLICATION 0] of mech and inner.
func application(mech asn1.ObjectIdentifier, inner []byte) []byte {
	return value(asn1.ClassApplication, 0, append(der(mech), inner...))
}

func unwrapApplication(b []byte) (asn1.ObjectIdentifier, []byte, error) {
	inner, err := open(b, asn1.ClassApplication, 0)
	if err != nil {
		return nil, nil, err
	}
	var mech asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(inner, &mech)
	if err != nil {
		return nil, nil, errors.New("no identifier of a mechanism")
	}
	return mech, rest, nil
}

// open returns the contents of the one constructed value that b is.
func open(b []byte, class, tag int) ([]byte, error) {
	if len(b) > MaxToken {
		return nil, fmt.Errorf("%d bytes, the most is %d", len(b), MaxToken)
	}
	var raw asn1.RawValue
	rest, err := asn1.Unmarshal(b, &raw)
	if err != nil || raw.Class != class || raw.Tag != tag || !raw.IsCompound {
		return nil, errors.New("not in the form of the standard")
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes behind the token", len(rest))
	}
	return raw.Bytes, nil
}

func value(class, tag int, inner []byte) []byte {
	return der(asn1.RawValue{Class: class, Tag: tag, IsCompound: true, Bytes: inner})
}

// der encodes what can always be encoded.
func der(v any) []byte {
	b, err := asn1.Marshal(v)
	if err != nil {
		panic(err) // only constants and byte strings come here
	}
	return b
}

// decode reads v, which is all that b holds.
func decode(b []byte, v any) error {
	rest, err := asn1.Unmarshal(b, v)
	if err != nil {
		return errors.New("not in the form of the standard")
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes too many", len(rest))
	}
	return nil
}
