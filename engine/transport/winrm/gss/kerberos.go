package gss

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"runner/engine/transport"
	"runner/engine/transport/winrm/krb"
)

// Tickets gives tickets of one identity: a *krb.Client.
type Tickets interface {
	// Ticket returns a ticket for a service principal, with a fresh Stamp. The
	// error is a *krb.Error.
	Ticket(ctx context.Context, spn string) (*krb.Ticket, error)
	// Principal is who the tickets are for.
	Principal() string
}

// Kerberos is the Mechanism of domains. Its zero value needs Tickets.
type Kerberos struct {
	Tickets Tickets
	// Bare leaves SPNEGO out: the scheme is then "Kerberos".
	Bare bool
}

// Scheme is "Negotiate", or "Kerberos" where SPNEGO is left out.
func (k *Kerberos) Scheme() string {
	if k.Bare {
		return "Kerberos"
	}
	return "Negotiate"
}

// Name says who logs in.
func (k *Kerberos) Name() string { return "Kerberos as " + k.Tickets.Principal() }

// services are the names under which a host's own account may be known, in the
// order in which they are tried where the target names none.
var services = []string{"HTTP", "WSMAN", "HOST"}

// Initiate gets a ticket for the first name of t that the KDC knows. The error is an
// *Error.
func (k *Kerberos) Initiate(ctx context.Context, t Target) (Context, error) {
	names, err := spns(t)
	if err != nil {
		return nil, err
	}
	var unknown error
	for _, spn := range names {
		tkt, err := k.Tickets.Ticket(ctx, spn)
		if err == nil {
			return newInitiator(tkt, t, k.Bare)
		}
		fault := of(err)
		if fault.Code != "auth.spn_unknown" {
			return nil, fault
		}
		if unknown == nil {
			unknown = fault
		}
	}
	return nil, unknown
}

// spns lists the service principals to ask for.
func spns(t Target) ([]string, error) {
	host := strings.ToLower(strings.TrimSuffix(t.Host, "."))
	switch {
	case t.SPN != "":
		service, rest, ok := strings.Cut(t.SPN, "/")
		if !ok || service == "" || rest == "" {
			return nil, &Error{
				Phase: transport.PhaseResolve, Code: "auth.spn_unknown",
				Err:  fmt.Errorf("%q is no service principal", t.SPN),
				Hint: "write SERVICE/host.domain, such as HTTP/srv1.corp.example",
			}
		}
		return []string{t.SPN}, nil
	case host == "" || net.ParseIP(host) != nil:
		return nil, &Error{
			Phase: transport.PhaseResolve, Code: "auth.spn_unknown",
			Err:  fmt.Errorf("%q is no name that a domain knows a host by", t.Host),
			Hint: "Kerberos needs the host's full DNS name; an address will do for the connection if the service principal is given besides",
		}
	case t.Service != "":
		return []string{t.Service + "/" + host}, nil
	default:
		var names []string
		for _, s := range services {
			names = append(names, s+"/"+host)
		}
		return names, nil
	}
}

// of makes the *Error that err stands for.
func of(err error) *Error {
	if e, ok := errors.AsType[*krb.Error](err); ok {
		return &Error{Phase: e.Phase, Code: e.Code, Err: e, Hint: e.Hint}
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Phase: transport.PhaseAuth, Code: "auth.refused", Err: err}
}

func fail(code string, err error, hint string) *Error {
	return &Error{Phase: transport.PhaseAuth, Code: code, Err: err, Hint: hint}
}
