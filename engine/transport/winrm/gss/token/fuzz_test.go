package token_test

import (
	"bytes"
	"testing"

	"runner/engine/transport/winrm/gss/token"
	"runner/engine/transport/winrm/krb/etype"
)

func FuzzDialogue(f *testing.F) {
	f.Add(token.RespToken(token.Resp{State: token.Completed, Mech: token.Kerberos, Token: token.Frame(token.APRep, []byte("rep")), MIC: []byte{4, 4}}))
	f.Add(token.InitToken(token.MechTypes(token.Kerberos), token.Frame(token.APReq, []byte("req"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := token.ParseResp(b); err == nil {
			again, err := token.ParseResp(token.RespToken(r))
			if err != nil || again.State != r.State || !bytes.Equal(again.Token, r.Token) || !bytes.Equal(again.MIC, r.MIC) {
				t.Errorf("%x read as %v, then as %v: %v", b, r, again, err)
			}
			_, _, _ = token.Unframe(r.Token)
		}
		if i, err := token.ParseInit(b); err == nil {
			_, _, _ = token.Unframe(i.Token)
		}
	})
}

func FuzzOpen(f *testing.F) {
	vs := vectors(f)
	for _, v := range vs {
		f.Add(raw(f, v.Token), 60)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		cut = min(max(cut, 0), len(b))
		for _, v := range vs {
			got, err := v.channel(t, false).Open(b[:cut], b[cut:])
			if err == nil && string(got) != v.Plain {
				t.Errorf("%x opened as %q", b, got)
			}
			c, err := token.NewChannel(v.From == "initiator", token.Keys{Initiator: etype.New(v.Etype)}, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			if c.VerifyMIC([]byte("list"), b) == nil {
				t.Errorf("%x is a MIC under a random key", b)
			}
		}
	})
}
