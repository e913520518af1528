// Package gss proves who we are to a Windows host, and who it is to us, on one
// HTTP connection, and seals the messages that follow. It owns the tokens of
// GSS-API Kerberos (RFC 4121) and SPNEGO (RFC 4178) and the layout of sealed
// messages in [MS-WSMV]. It refuses HTTP, sockets, anything but the AES types of
// Kerberos, and peers that do not prove that they are who we asked for.
package gss

import (
	"context"
	"fmt"
	"time"

	"runner/engine/transport"
)

// Mechanism makes security contexts for one identity. It is safe for concurrent
// use.
type Mechanism interface {
	// Scheme is the word in the Authorization header: "Negotiate" or "Kerberos".
	// Sealed messages are labelled by it: application/HTTP-SPNEGO-session-encrypted
	// for the first, application/HTTP-Kerberos-session-encrypted for the second.
	Scheme() string
	// Name says for messages who logs in and how, such as "Kerberos as ops@CORP.EXAMPLE".
	Name() string
	// Initiate makes a context towards t. It may ask a KDC; ctx bounds that. The
	// error is an *Error.
	Initiate(ctx context.Context, t Target) (Context, error)
}

// Target is what a context is made for.
type Target struct {
	Host    string // name of the host, as its service principal has it
	Service string // "HTTP" or "WSMAN"; empty: HTTP
	SPN     string // whole service principal (SERVICE/host or SERVICE/host@REALM) instead of the two above
	// Binding ties the context to a TLS connection: "tls-server-end-point:" and
	// the hash of the server's certificate (RFC 5929 section 4). nil: no TLS.
	Binding []byte
	// Confidential asks for a context that can Seal.
	Confidential bool
}

// Context is one security context: a dialogue until Done, then messages that are
// sealed and opened in the order in which they travel. It belongs to one
// connection and is not safe for concurrent use. After an error it is of no use
// any more.
type Context interface {
	// Next takes what the peer said (nil at first) and returns what to say, nil
	// when there is nothing. The error is an *Error.
	Next(in []byte) (out []byte, err error)
	// Done reports whether both sides have proven who they are.
	Done() bool
	// Seal encrypts a message. header is the signature and body the data of
	// [MS-WSMV] 2.2.9.1: on the wire the length of header goes before them as 32
	// bits, little endian. body is as long as plain.
	Seal(plain []byte) (header, body []byte, err error)
	// Open checks and decrypts a message of the peer: the counterpart of Seal. It
	// accepts each message once, in order. The error is an *Error.
	Open(header, body []byte) ([]byte, error)
	// Expires is when the peer may refuse messages: the end of the ticket.
	Expires() time.Time
	// Peer is the principal that answered; empty until Done.
	Peer() string
}

// Error says why there is no context or no message. What it stands for changed
// nothing on the device.
type Error struct {
	Phase transport.Phase // resolve, dial (of a KDC) or auth
	Code  string          // a stable word, such as "auth.password"; see Codes in README.md
	Err   error
	Hint  string // what a person can do, or empty
}

// Error says the phase and the cause.
func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Phase, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
