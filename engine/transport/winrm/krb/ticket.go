package krb

import (
	"fmt"
	"time"

	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"runner/engine/transport/winrm/krb/etype"
)

// Ticket is a ticket for a service, with what an AP-REQ needs besides.
type Ticket struct {
	Ticket messages.Ticket
	Key    etype.Key           // session key: one of etype.All
	Client types.PrincipalName // who we are, as the KDC writes it
	Realm  string              // of the client
	// Stamp is the time for the authenticator: the KDC's clock, to the microsecond.
	// No two tickets of a Client have the same one, or a host takes the second for a
	// replay.
	Stamp time.Time
	Skew  time.Duration // how far the KDC's clock is ahead of ours
	End   time.Time     // by our clock

	client *Client // nil: nobody wants to know
	held   *held
}

// Presented says that the ticket was shown to the host.
func (t *Ticket) Presented() {
	if t.client != nil {
		t.client.doubt(t.held)
	}
}

// Settled says whether the host took the ticket. One that it did not take, or about
// which it said nothing in doubtful, is not given out again: the host may have another
// key by now, or another account the name.
func (t *Ticket) Settled(taken bool) {
	if t.client != nil {
		t.client.settle(t.held, taken)
	}
}

// SPN returns the service principal that the ticket is for.
func (t *Ticket) SPN() string { return t.Ticket.SName.PrincipalNameString() + "@" + t.Ticket.Realm }

// Format says what the ticket is for, whatever the verb: its key is a secret.
func (t *Ticket) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("ticket for " + t.SPN())) }
