package wsmantest

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// Trouble is what goes wrong with a request.
type Trouble = int

// What can go wrong.
const (
	None         = iota
	DropBefore   // the connection ends when the request has arrived; it is not done
	DropAfter    // it is done, and the connection ends without an answer
	DropMidway   // it is done, and the connection ends in the middle of the answer
	Hang         // it is done, and no answer comes
	Trickle      // it is done, and the answer comes at a byte per second
	Endless      // the answer does not end
	Giant        // the answer announces more than anybody wants
	Interim      // the answer begins with 100 Continue, for ever
	Tamper       // a bit of the sealed answer is wrong
	TamperHeader // a bit of its signature is wrong
	WrongLabel   // the answer is labelled as sealed by another mechanism
	Plain        // the answer is not sealed
	Garbage      // the answer is not HTTP
	NoSOAP       // the answer is not SOAP
	Unauthorized // 401: the host forgot the login
	Unavailable  // 503
	EmptyError   // 500 without a body
	TimedOut     // it is done, and the host says that OperationTimeout is over
	Quota        // the host says that the quota is used up
	AccessDenied // the host says that access is denied
	Refuse       // of Login: the token is not accepted, without a reason
	Unproven     // of Login: the host does not prove who it is
)

func (s *Server) trouble(r Request) Trouble {
	if s.Trouble == nil {
		return None
	}
	return s.Trouble(r)
}

// answer does what a message asks for and answers it.
func (c *session) answer(ctx context.Context, soap []byte) error {
	m, err := parse(soap)
	if err != nil {
		return c.write(http.StatusBadRequest, nil)
	}
	m.n = c.s.arrived(m)
	t := c.s.trouble(Request{m.Operation, m.n})
	switch t {
	case DropBefore:
		return errDrop
	case Unauthorized:
		c.login, c.basic = nil, false
		return c.challenge("")
	case Unavailable:
		return c.write(http.StatusServiceUnavailable, nil)
	case EmptyError:
		return c.write(http.StatusInternalServerError, nil)
	}
	if t == TimedOut {
		_, _ = c.s.do(ctx, m)
	}
	status, out := c.fault(t, m)
	if out == nil {
		status, out = c.s.do(ctx, m)
	}
	switch t {
	case DropAfter:
		return errDrop
	case Hang:
		_, _ = c.r.Peek(1) // until the client gives up
		return errDrop
	case NoSOAP:
		status, out = http.StatusOK, []byte("<html>It works!</html>")
	}
	h := http.Header{"Content-Type": {"application/soap+xml;charset=UTF-8"}}
	if c.s.TLS == nil && t != Plain {
		kind, b, err := c.seal(out, t)
		if err != nil {
			return err
		}
		h.Set("Content-Type", kind)
		out = b
	}
	return c.deliver(ctx, t, response(status, h, out))
}

func (c *session) fault(t Trouble, m *message) (int, []byte) {
	switch t {
	case TimedOut:
		return fault(m, 2150858793, "w:TimedOut", "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.")
	case Quota:
		return fault(m, 2150859174, "w:QuotaLimit", "The WS-Management service cannot process the request. This user is allowed a maximum number of 1 concurrent shells.")
	case AccessDenied:
		return fault(m, 5, "w:AccessDenied", "Zugriff verweigert")
	}
	return 0, nil
}

// deliver sends an answer as trouble has it.
func (c *session) deliver(ctx context.Context, t Trouble, b []byte) error {
	switch t {
	case DropMidway:
		_, _ = c.c.Write(b[:len(b)/2])
		return errDrop
	case Trickle:
		for i := range b {
			if _, err := c.c.Write(b[i : i+1]); err != nil {
				return err
			}
			if err := pause(ctx, time.Second); err != nil {
				return err
			}
		}
		return nil
	case Endless:
		b = []byte("HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\nTransfer-Encoding: chunked\r\n\r\n")
		for {
			if _, err := c.c.Write(b); err != nil {
				return err
			}
			b = []byte("1000\r\n" + strings.Repeat("x", 4096) + "\r\n")
		}
	case Interim:
		for {
			if _, err := c.c.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n")); err != nil {
				return err
			}
		}
	case Giant:
		b = []byte("HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\nContent-Length: 1099511627776\r\n\r\n" + strings.Repeat("x", 1<<20))
		for {
			if _, err := c.c.Write(b); err != nil {
				return err
			}
			b = b[len(b)-4096:]
		}
	case Garbage:
		b = []byte("220 mail.example ESMTP\r\n\r\n")
	}
	_, err := c.c.Write(b)
	return err
}
