package krb

import (
	"errors"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"runner/engine/secret"
	"runner/engine/transport/winrm/krb/etype"
)

// ccache is a ticket cache: whose it is, and tickets.
type ccache struct {
	user    types.PrincipalName
	realm   string
	tickets []cached
}

type cached struct {
	server types.PrincipalName
	ticket messages.Ticket
	key    etype.Key
	start  time.Time
	end    time.Time
	renew  time.Time
}

// readCCache reads a file of version 3 or 4, as MIT documents it (file formats:
// credential cache). Errors hold nothing of it.
func readCCache(v secret.Value) (*ccache, error) {
	r := &reader{b: []byte(v.Reveal())}
	version := r.u16()
	if len(r.b) > maxFile || version != 0x0503 && version != 0x0504 {
		return nil, errors.New("this is no ticket cache in a file (FILE:, version 3 or 4)")
	}
	if version == 0x0504 {
		r.take(int(r.u16()))
	}
	c := &ccache{}
	c.user, c.realm = r.principal()
	for len(r.b) > 0 && !r.bad {
		if t, ok := r.credential(version); ok {
			c.tickets = append(c.tickets, t)
		}
	}
	switch {
	case r.bad:
		return nil, errors.New("the ticket cache is damaged")
	case len(c.tickets) == 0:
		return nil, errors.New("the ticket cache holds no ticket under AES")
	}
	return c, nil
}

func (r *reader) principal() (types.PrincipalName, string) {
	p := types.PrincipalName{NameType: int32(r.u32())} //nolint:gosec // as it is on disk
	n := r.u32()
	realm := string(r.data())
	if n > 16 {
		r.take(-1)
		n = 0
	}
	for range n {
		p.NameString = append(p.NameString, string(r.data()))
	}
	return p, realm
}

// credential reads one entry; ok is false for what is no ticket that can be used.
func (r *reader) credential(version uint16) (c cached, ok bool) {
	r.principal()
	server, realm := r.principal()
	c.server = server
	c.key.KeyType = int32(r.u16())
	if version == 0x0503 {
		r.u16() // again
	}
	c.key.KeyValue = r.data()
	auth := r.u32()
	c.start = time.Unix(int64(max(auth, r.u32())), 0)
	c.end = time.Unix(int64(r.u32()), 0)
	c.renew = time.Unix(int64(r.u32()), 0)
	r.take(1 + 4) // is_skey, flags
	for range 2 { // addresses, authorization data
		for n := r.u32(); n > 0 && !r.bad; n-- {
			r.u16()
			r.data()
		}
	}
	raw := r.data()
	r.data() // second ticket
	if r.bad || strings.HasPrefix(realm, "X-CACHECONF:") || etype.Check(c.key) != nil {
		return c, false
	}
	var err error
	c.ticket, err = readTicket(raw)
	return c, err == nil
}

func readTicket(b []byte) (t messages.Ticket, err error) {
	defer survive(&err)
	err = t.Unmarshal(b)
	return t, err
}
