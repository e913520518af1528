// Package wsmantest is the listener of a Windows host for tests: HTTP, logins,
// sealed bodies and WS-Man in front of a winrmtest.Host, with everything that
// goes wrong on the way at hand. Its message security can be a toy. It is not
// Windows, and strict where http.sys and WinRM are. Programs do not use it.
package wsmantest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"runner/engine/transport/winrm/runspace"
	"runner/engine/transport/winrm/winrmtest"
)

// Login is the host's side of a security context; see gss.Context.
type Login interface {
	Next(in []byte) (out []byte, err error)
	Done() bool
	Seal(plain []byte) (header, body []byte, err error)
	Open(header, body []byte) ([]byte, error)
}

// Server is a listener. Close ends it.
type Server struct {
	Host *winrmtest.Host
	// Scheme and Login make security contexts; binding is that of the TLS
	// connection or nil. Login nil: none is offered.
	Scheme string
	Login  func(binding []byte) Login
	// User and Password are what Basic accepts; empty: it is not offered.
	User, Password string
	// TLS makes it HTTPS; Binding is the channel binding of its certificate.
	TLS     *tls.Config
	Binding []byte
	// Program runs what a cmd shell is asked for.
	Program func(ctx context.Context, line string, stdin []byte, stdout, stderr io.Writer) int
	// Trouble, when it is set, is asked for each request.
	Trouble func(r Request) Trouble
	// Latency is added to each request and each login, and to each connection
	// that is made: one round trip.
	Latency time.Duration

	mu        sync.Mutex
	listeners []net.Listener
	conns     map[net.Conn]context.CancelFunc
	shells    map[string]runspace.Shell
	made      int // cmd shells so far
	cmds      map[string]*cmdShell
	messages  map[string]int // by MessageID
	commands  map[string]int // by CommandId, of Command
	counts    map[string]int // by operation, and Connection, Login
	done      map[string]int // operations that were done
	work      sync.WaitGroup
}

// Request is a message as it arrived.
type Request struct {
	Operation string // Login, Identify, Create, Command, Send, Receive, Signal, Delete, Disconnect, Reconnect
	N         int    // how many of this operation were there, with this one
}

// Dial connects to the server in memory: a wire.DialFunc.
func (s *Server) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if err := pause(ctx, s.Latency); err != nil {
		return nil, err
	}
	here, there := net.Pipe()
	s.serve(context.WithoutCancel(ctx), there)
	return here, nil
}

// Listen serves a port of the loopback until Close, or until ctx ends, and returns its address.
func (s *Server) Listen(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, func() { _ = l.Close() })
	s.mu.Lock()
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	s.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.serve(context.WithoutCancel(ctx), c)
		}
	})
	return l.Addr().String(), nil
}

func (s *Server) serve(ctx context.Context, c net.Conn) {
	s.count("Connection")
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	if s.conns == nil {
		s.conns = map[net.Conn]context.CancelFunc{}
	}
	s.conns[c] = cancel
	s.mu.Unlock()
	s.work.Go(func() {
		defer func() {
			cancel()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
			_ = c.Close()
		}()
		over := c
		if s.TLS != nil {
			over = tls.Server(c, s.TLS)
		}
		(&session{s: s, c: over, r: bufio.NewReader(over)}).loop(ctx)
	})
}

// Close ends listeners and connections and waits for what they did.
func (s *Server) Close() {
	s.mu.Lock()
	for _, l := range s.listeners {
		_ = l.Close()
	}
	s.mu.Unlock()
	s.Drop()
	s.work.Wait()
}

// Drop ends all connections, as a service does that is restarted.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, cancel := range s.conns {
		cancel()
		_ = c.Close()
	}
}

// Connections returns how many connections are open.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *Server) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts, s.done, s.messages, s.commands = map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	}
	s.counts[what]++
	return s.counts[what]
}

// Count returns how often an operation arrived.
func (s *Server) Count(operation string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[operation]
}

// Done returns how often an operation was done.
func (s *Server) Done(operation string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done[operation]
}

// Requests returns how many HTTP requests arrived.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for what, c := range s.counts {
		if what != "Connection" {
			n += c
		}
	}
	return n
}

// Twice returns the messages and commands that arrived more than once.
func (s *Server) Twice() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, m := range []map[string]int{s.messages, s.commands} {
		for id, n := range m {
			if n > 1 {
				out = append(out, id)
			}
		}
	}
	return out
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// session is one connection.
type session struct {
	s     *Server
	c     net.Conn
	r     *bufio.Reader
	login Login
	basic bool
}

// errDrop ends a connection.
var errDrop = errors.New("the connection is dropped")

func (c *session) loop(ctx context.Context) {
	for {
		req, err := http.ReadRequest(c.r)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil || pause(ctx, c.s.Latency) != nil {
			return
		}
		if err := c.request(ctx, req, body); err != nil {
			return
		}
	}
}

// request answers one request.
func (c *session) request(ctx context.Context, req *http.Request, body []byte) error {
	if req.Method != http.MethodPost || req.URL.Path != "/wsman" {
		return c.write(http.StatusNotFound, nil)
	}
	scheme, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	switch {
	case strings.EqualFold(scheme, "Basic") && c.s.User != "":
		b, _ := base64.StdEncoding.DecodeString(token)
		if c.basic = string(b) == c.s.User+":"+c.s.Password; !c.basic {
			c.s.count("Login")
			return c.challenge("")
		}
	case scheme != "" && c.s.Login != nil && strings.EqualFold(scheme, c.s.Scheme):
		return c.authenticate(token, body)
	}
	if !c.basic && (c.login == nil || !c.login.Done()) {
		return c.challenge("")
	}
	if c.s.TLS != nil {
		return c.answer(ctx, body)
	}
	plain, err := c.unseal(req.Header.Get("Content-Type"), body)
	if err != nil {
		return c.write(http.StatusBadRequest, nil)
	}
	if plain == nil {
		return c.write(http.StatusInternalServerError, nil) // AllowUnencrypted is false
	}
	return c.answer(ctx, plain)
}

// authenticate takes a step of a login, which has an empty body.
func (c *session) authenticate(token string, body []byte) error {
	t := c.s.trouble(Request{"Login", c.s.count("Login")})
	if t == DropBefore {
		return errDrop
	}
	b, err := base64.StdEncoding.DecodeString(token)
	if err != nil || len(body) > 0 {
		return c.write(http.StatusBadRequest, nil)
	}
	if c.login == nil || c.login.Done() {
		c.login = c.s.Login(c.s.Binding)
	}
	out, err := c.login.Next(b)
	if err != nil {
		c.login = nil
		return c.challenge(base64.StdEncoding.EncodeToString(out))
	}
	switch t {
	case DropAfter:
		return errDrop
	case Refuse:
		c.login = nil
		return c.challenge("")
	case Unproven:
		return c.write(http.StatusOK, nil)
	}
	if !c.login.Done() {
		return c.challenge(base64.StdEncoding.EncodeToString(out))
	}
	h := http.Header{}
	if len(out) > 0 {
		h.Set("Www-Authenticate", c.s.Scheme+" "+base64.StdEncoding.EncodeToString(out))
	}
	return c.write(http.StatusOK, h)
}

// challenge is a 401.
func (c *session) challenge(token string) error {
	h := http.Header{}
	if c.s.Login != nil {
		h.Add("Www-Authenticate", strings.TrimSpace(c.s.Scheme+" "+token))
	}
	if c.s.User != "" {
		h.Add("Www-Authenticate", `Basic realm="WSMAN"`)
	}
	return c.write(http.StatusUnauthorized, h)
}

// write sends an answer without a body.
func (c *session) write(status int, h http.Header) error {
	_, err := c.c.Write(response(status, h, nil))
	return err
}

func response(status int, h http.Header, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nServer: Microsoft-HTTPAPI/2.0\r\n", status, http.StatusText(status))
	_ = h.Write(&b)
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(body))
	b.Write(body)
	return b.Bytes()
}

func (c *session) label() string {
	if c.s.Scheme == "Kerberos" {
		return "application/HTTP-Kerberos-session-encrypted"
	}
	return "application/HTTP-SPNEGO-session-encrypted"
}

var sealedHead = regexp.MustCompile(`\A--Encrypted Boundary\r\n\tContent-Type: ([\w/-]+)\r\n` +
	`\tOriginalContent: type=application/soap\+xml;charset=UTF-8;Length=(\d+)\r\n` +
	`--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n`)

const sealedEnd = "--Encrypted Boundary--\r\n"

// unseal opens a sealed body: every byte around it counts. It returns nil for a
// body that is not sealed.
func (c *session) unseal(kind string, body []byte) ([]byte, error) {
	if !strings.HasPrefix(kind, "multipart/encrypted") {
		return nil, nil
	}
	if kind != `multipart/encrypted;protocol="`+c.label()+`";boundary="Encrypted Boundary"` {
		return nil, errors.New("another content type")
	}
	m := sealedHead.FindSubmatch(body[:min(len(body), 400)])
	if m == nil || string(m[1]) != c.label() || !bytes.HasSuffix(body, []byte(sealedEnd)) {
		return nil, errors.New("another form")
	}
	size, _ := strconv.Atoi(string(m[2]))
	body = body[len(m[0]) : len(body)-len(sealedEnd)]
	if len(body) < 4 || uint64(binary.LittleEndian.Uint32(body))+4 > uint64(len(body)) {
		return nil, errors.New("another length")
	}
	n := binary.LittleEndian.Uint32(body)
	plain, err := c.login.Open(body[4:4+n], body[4+n:])
	if err == nil && len(plain) != size {
		err = errors.New("another length")
	}
	return plain, err
}

// seal makes a sealed body.
func (c *session) seal(plain []byte, t Trouble) (string, []byte, error) {
	header, body, err := c.login.Seal(plain)
	if err != nil {
		return "", nil, err
	}
	label := c.label()
	switch t {
	case Tamper:
		body = slices.Clone(body)
		body[len(body)/2] ^= 1
	case TamperHeader:
		header = slices.Clone(header)
		header[len(header)-1] ^= 1
	case WrongLabel:
		label = "application/HTTP-NTLM-session-encrypted"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "--Encrypted Boundary\r\n\tContent-Type: %s\r\n\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=%d\r\n"+
		"--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n", label, len(plain))
	b.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(header)))) //nolint:gosec // some 70 bytes
	b.Write(header)
	b.Write(body)
	b.WriteString("--Encrypted Boundary--\r\n")
	return `multipart/encrypted;protocol="` + label + `";boundary="Encrypted Boundary"`, b.Bytes(), nil
}
