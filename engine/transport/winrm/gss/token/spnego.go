package token

import (
	"encoding/asn1"
	"fmt"
)

// State is what a peer says about the negotiation (RFC 4178 section 4.2.2).
type State int

// States of a negotiation. NoState is what the standard allows in later tokens.
const (
	NoState    State = -1
	Completed  State = 0
	Incomplete State = 1
	Rejected   State = 2
	RequestMIC State = 3
)

// Init is the first token of the initiator.
type Init struct {
	Mechs     []asn1.ObjectIdentifier
	MechTypes []byte // the list as it was encoded: what a MIC covers
	Token     []byte // of the first mechanism
}

// Resp is every token after the first, of either side.
type Resp struct {
	State State
	Mech  asn1.ObjectIdentifier // empty: none was named
	Token []byte
	MIC   []byte
}

type derInit struct {
	MechTypes   asn1.RawValue  `asn1:"tag:0"`
	ReqFlags    asn1.BitString `asn1:"explicit,optional,tag:1"`
	Token       []byte         `asn1:"explicit,optional,omitempty,tag:2"`
	MechListMIC asn1.RawValue  `asn1:"optional,tag:3"`
}

type derResp struct {
	State asn1.Enumerated       `asn1:"explicit,optional,tag:0,default:-1"`
	Mech  asn1.ObjectIdentifier `asn1:"explicit,optional,omitempty,tag:1"`
	Token []byte                `asn1:"explicit,optional,omitempty,tag:2"`
	MIC   []byte                `asn1:"explicit,optional,omitempty,tag:3"`
}

// MechTypes encodes a list of mechanisms.
func MechTypes(mechs ...asn1.ObjectIdentifier) []byte { return der(mechs) }

// InitToken returns the first token of an initiator that offers mechTypes, with a
// token of the first of them.
func InitToken(mechTypes, tok []byte) []byte {
	inner := append(value(asn1.ClassContextSpecific, 0, mechTypes), value(asn1.ClassContextSpecific, 2, der(tok))...)
	seq := value(asn1.ClassUniversal, asn1.TagSequence, inner)
	return application(SPNEGO, value(asn1.ClassContextSpecific, 0, seq))
}

// ParseInit is the counterpart of InitToken.
func ParseInit(b []byte) (Init, error) {
	mech, rest, err := unwrapApplication(b)
	if err != nil {
		return Init{}, fmt.Errorf("first token of SPNEGO: %w", err)
	}
	if !mech.Equal(SPNEGO) {
		return Init{}, fmt.Errorf("a token of mechanism %s where one of SPNEGO belongs", mech)
	}
	inner, err := open(rest, asn1.ClassContextSpecific, 0)
	if err != nil {
		return Init{}, fmt.Errorf("first token of SPNEGO: %w", err)
	}
	var d derInit
	if err := decode(inner, &d); err != nil {
		return Init{}, fmt.Errorf("first token of SPNEGO: %w", err)
	}
	i := Init{MechTypes: d.MechTypes.Bytes, Token: d.Token}
	if err := decode(i.MechTypes, &i.Mechs); err != nil {
		return Init{}, fmt.Errorf("mechanisms of SPNEGO: %w", err)
	}
	return i, nil
}

// RespToken encodes r.
func RespToken(r Resp) []byte {
	d := derResp{State: asn1.Enumerated(r.State), Mech: r.Mech, Token: r.Token, MIC: r.MIC}
	var inner []byte
	if r.State != NoState {
		inner = append(inner, value(asn1.ClassContextSpecific, 0, der(d.State))...)
	}
	if len(r.Mech) > 0 {
		inner = append(inner, value(asn1.ClassContextSpecific, 1, der(d.Mech))...)
	}
	if r.Token != nil {
		inner = append(inner, value(asn1.ClassContextSpecific, 2, der(d.Token))...)
	}
	if r.MIC != nil {
		inner = append(inner, value(asn1.ClassContextSpecific, 3, der(d.MIC))...)
	}
	return value(asn1.ClassContextSpecific, 1, value(asn1.ClassUniversal, asn1.TagSequence, inner))
}

// ParseResp is the counterpart of RespToken.
func ParseResp(b []byte) (Resp, error) {
	inner, err := open(b, asn1.ClassContextSpecific, 1)
	if err != nil {
		return Resp{}, fmt.Errorf("answer of SPNEGO: %w", err)
	}
	var d derResp
	if err := decode(inner, &d); err != nil {
		return Resp{}, fmt.Errorf("answer of SPNEGO: %w", err)
	}
	if d.State < asn1.Enumerated(NoState) || d.State > asn1.Enumerated(RequestMIC) {
		return Resp{}, fmt.Errorf("answer of SPNEGO: there is no state %d", d.State)
	}
	return Resp{State: State(d.State), Mech: d.Mech, Token: d.Token, MIC: d.MIC}, nil
}
