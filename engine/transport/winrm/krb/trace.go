package krb

import (
	"context"
	"time"
)

// Event is something that happened on the way to a ticket. It holds no secret.
type Event struct {
	What    string // kdcs, ask, clock, tgt, referral or ticket
	Realm   string
	KDC     string        // host:port that was asked
	Network string        // udp or tcp
	KDCs    []string      // kdcs: in the order in which they are asked
	Source  string        // kdcs: "given", "krb5.conf" or "DNS"
	SPN     string        // ticket, referral: what it is for
	Etype   string        // tgt, ticket: of the session key
	End     time.Time     // tgt, ticket: by our clock
	Skew    time.Duration // clock, tgt: how far the KDC is ahead of us
	Took    time.Duration
	Err     error // ask: why there is no answer, or what was refused
}

type traceKey struct{}

// WithTrace has what is done for ctx told to f, by one goroutine at a time. Somebody
// who waits for what another already asked for hears nothing. Who leaves before the end
// may hear more afterwards.
func WithTrace(ctx context.Context, f func(Event)) context.Context {
	return context.WithValue(ctx, traceKey{}, f)
}

func trace(ctx context.Context, e Event) {
	if f, ok := ctx.Value(traceKey{}).(func(Event)); ok {
		f(e)
	}
}
