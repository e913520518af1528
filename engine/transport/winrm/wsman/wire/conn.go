package wire

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"runner/engine/transport"
	"runner/engine/transport/winrm/gss"
)

// Conn is a connection that is logged in. One request at a time: its owner sees
// to that. After an error it is closed.
type Conn struct {
	cfg    Config
	raw    net.Conn    // under TLS
	nc     net.Conn    // raw, or TLS on it
	basic  string      // Authorization of every request, or empty
	ctx    gss.Context // nil with basic
	sealed bool
	label  string // of sealed bodies
	// fingerprint is that of the certificate, or empty.
	fingerprint string

	mu     sync.Mutex
	wanted chan *answer // who waits for the next answer
	dead   error
	server string        // what the listener says it is
	gone   chan struct{} // closed when nothing is read any more
}

// answer is what came as answer to a request.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error
}

func newConn(cfg Config, raw, nc net.Conn, fingerprint string) *Conn {
	c := &Conn{cfg: cfg, raw: raw, nc: nc, fingerprint: fingerprint, gone: make(chan struct{})}
	go c.read()
	return c
}

// errClosed says that this side ended the connection.
var errClosed = errors.New("the connection was closed")

// Close ends the connection, and a request that is under way, and waits until
// nothing of it is left.
func (c *Conn) Close() error {
	c.kill(errClosed)
	<-c.gone
	return nil
}

// kill ends the connection because of err; the first reason stays. Only one that
// is put aside says good-bye: who must stop waits for nobody.
func (c *Conn) kill(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead != nil {
		return
	}
	if c.dead = err; c.wanted == nil && errors.Is(err, errClosed) {
		_ = c.nc.Close()
	}
	_ = c.raw.Close()
}

// Usable reports whether a request could be sent at that time, with some room
// before the login is over.
func (c *Conn) Usable(at time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead == nil && (c.ctx == nil || c.ctx.Expires().IsZero() || at.Before(c.ctx.Expires()))
}

// Peer is the principal that proved who it is, or the fingerprint of its
// certificate, or empty.
func (c *Conn) Peer() string {
	if c.ctx != nil && c.ctx.Peer() != "" {
		return c.ctx.Peer()
	}
	return c.fingerprint
}

// Server is what the listener says it is.
func (c *Conn) Server() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server
}

// read takes answers for as long as the connection lives. That it always reads
// is how it notices that an idle connection was ended by the other side.
func (c *Conn) read() {
	defer close(c.gone)
	limit := &limitedReader{r: c.nc}
	br := bufio.NewReader(limit)
	for {
		limit.left = maxHead + c.cfg.MaxAnswer
		if _, err := br.Peek(1); err != nil {
			c.deliver(&answer{err: err}, true)
			return
		}
		a := c.answer(br)
		if !c.deliver(a, a.err != nil) || a.err != nil {
			return
		}
	}
}

// deliver hands an answer to who waits for it. It reports whether somebody did;
// what nobody asked for ends the connection.
func (c *Conn) deliver(a *answer, last bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	to := c.wanted
	c.wanted = nil
	if last || to == nil {
		if c.dead == nil {
			if c.dead = a.err; a.err == nil {
				c.dead = errors.New("the host said something that nobody asked for")
			}
			_ = c.nc.Close()
		}
		a.err = c.dead
	}
	if to != nil {
		to <- a
	}
	return to != nil
}

// errTooMuch says that an answer was above its limit.
var errTooMuch = errors.New("the answer is longer than any that was asked for")

// answer reads one answer.
func (c *Conn) answer(br *bufio.Reader) *answer {
	for range maxInterim {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			return &answer{err: reading(err)}
		}
		if resp.StatusCode/100 == 1 {
			continue
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, c.cfg.MaxAnswer+1))
		_ = resp.Body.Close()
		switch {
		case err != nil:
			return &answer{err: reading(err)}
		case int64(len(body)) > c.cfg.MaxAnswer:
			return &answer{err: errTooMuch}
		}
		return &answer{status: resp.StatusCode, header: resp.Header, body: body}
	}
	return &answer{err: errors.New("the host keeps saying that it will answer")}
}

// reading words what is wrong with an answer.
func reading(err error) error {
	_, network := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, errTooMuch):
		return errTooMuch
	case network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed):
		return err
	}
	return fmt.Errorf("%w: %s", errHTTP, Clean(err.Error(), 200))
}

var errHTTP = errors.New("the answer is not HTTP")

// limitedReader fails when more is read than is left.
type limitedReader struct {
	r    io.Reader
	left int64
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooMuch
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	return n, err
}

// exchange sends one request and waits for its answer. sent reports whether the
// host may have seen any of it.
func (c *Conn) exchange(ctx context.Context, header string, body []byte) (a *answer, sent bool, err error) {
	if ctx.Err() != nil {
		return nil, false, context.Cause(ctx)
	}
	to := make(chan *answer, 1)
	c.mu.Lock()
	switch {
	case c.dead != nil:
		err = c.dead
	case c.wanted != nil:
		err = errors.New("a request is under way already")
	}
	if err != nil {
		c.mu.Unlock()
		return nil, false, err
	}
	c.wanted = to
	c.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { c.kill(context.Cause(ctx)) })
	n, werr := c.nc.Write(c.request(header, body))
	if werr != nil {
		c.kill(werr)
	}
	a = <-to // the reader always answers: at the latest, that the connection has ended
	if !stop() {
		c.kill(context.Cause(ctx)) // the answer was faster, but the end of ctx comes, and would hit the next request
	}
	if a.err != nil && n == 0 && werr != nil {
		return nil, false, a.err
	}
	if who := Clean(a.header.Get("Server"), 100); who != "" {
		c.mu.Lock()
		c.server = who
		c.mu.Unlock()
	}
	return a, true, a.err
}

func (c *Conn) request(header string, body []byte) []byte {
	var b bytes.Buffer
	b.Grow(len(header) + len(body) + 512)
	b.WriteString("POST " + c.cfg.Path + " HTTP/1.1\r\nHost: " + hostHeader(c.cfg) + "\r\nUser-Agent: runner\r\nAccept-Encoding: identity\r\nConnection: Keep-Alive\r\n")
	b.WriteString(header)
	b.WriteString("Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n")
	b.Write(body)
	return b.Bytes()
}

// hostHeader is the name and port of the listener.
func hostHeader(c Config) string {
	_, port, _ := net.SplitHostPort(c.Address)
	return net.JoinHostPort(c.Host, port)
}

// Do sends a SOAP message and returns the answer. Whatever happens it is sent at
// most once. phase is what the message is for, limit how long the answer may
// take to its last byte. The error is a *transport.Error, safe to retry when no byte of the message was written; the connection is
// closed then.
func (c *Conn) Do(ctx context.Context, phase transport.Phase, limit time.Duration, soap []byte) (Reply, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errLate)
	defer cancel()
	header, body := "Content-Type: application/soap+xml;charset=UTF-8\r\n", soap
	if c.basic != "" {
		header += "Authorization: " + c.basic + "\r\n"
	}
	if c.sealed {
		var err error
		if body, err = c.seal(soap); err != nil {
			c.kill(err)
			return Reply{}, c.security(phase, err, true)
		}
		header = "Content-Type: multipart/encrypted;protocol=\"" + c.label + "\";boundary=\"" + boundary + "\"\r\n"
	}
	a, sent, err := c.exchange(ctx, header, body)
	if err != nil {
		return Reply{}, c.lost(ctx, phase, err, !sent)
	}
	reply, err := c.reply(phase, a)
	if err != nil {
		c.kill(err)
	}
	return reply, err
}

// reply checks an answer.
func (c *Conn) reply(phase transport.Phase, a *answer) (Reply, error) {
	kind := strings.ToLower(a.header.Get("Content-Type"))
	isSealed := strings.HasPrefix(kind, "multipart/encrypted")
	ok := a.status == http.StatusOK || a.status == http.StatusInternalServerError
	switch {
	case ok && c.sealed && isSealed:
		plain, err := c.unseal(a.body)
		if err != nil {
			return Reply{}, c.security(phase, err, false)
		}
		return Reply{a.status, plain}, nil
	case ok && !c.sealed && !isSealed && len(a.body) > 0 && strings.Contains(kind, "xml"):
		return Reply{a.status, a.body}, nil
	}
	return Reply{}, c.refused(phase, a)
}
