package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The layout of sealed bodies: [MS-WSMV] 2.2.9.1 and what hosts accept, which is
// stricter: the tabs, and no empty line.
const (
	boundary      = "Encrypted Boundary"
	labelSPNEGO   = "application/HTTP-SPNEGO-session-encrypted"
	labelKerberos = "application/HTTP-Kerberos-session-encrypted"
)

// label is the word for what a scheme seals.
func label(scheme string) string {
	if strings.EqualFold(scheme, "Kerberos") {
		return labelKerberos
	}
	return labelSPNEGO
}

// seal makes a sealed body.
func (c *Conn) seal(plain []byte) ([]byte, error) {
	header, body, err := c.ctx.Seal(plain)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(len(header) + len(body) + 300)
	fmt.Fprintf(&b, "--"+boundary+"\r\n\tContent-Type: %s\r\n\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=%d\r\n--"+
		boundary+"\r\n\tContent-Type: application/octet-stream\r\n", c.label, len(plain))
	b.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(header)))) //nolint:gosec // some 70 bytes
	b.Write(header)
	b.Write(body)
	b.WriteString("--" + boundary + "--\r\n")
	return b.Bytes(), nil
}

var (
	errForm  = errors.New("a malformed sealed answer")
	errLabel = errors.New("the answer is sealed in another way than the login")
)

// unseal opens a sealed body. It goes by the lengths: a boundary could be in the
// sealed bytes, too. Hosts other than Windows leave the tabs out, or write a
// blank after the dashes, or an empty line at the end.
func (c *Conn) unseal(b []byte) ([]byte, error) {
	size := -1
	for octets := false; !octets; {
		line, rest, ok := bytes.Cut(b, []byte("\r\n"))
		if !ok || len(line) > 512 {
			return nil, errForm
		}
		b = rest
		word, value, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
		value = strings.TrimSpace(value)
		switch {
		case strings.HasPrefix(word, "--"):
		case strings.EqualFold(word, "OriginalContent"):
			_, length, ok := strings.Cut(strings.ToLower(value), "length=")
			if !ok || size >= 0 {
				return nil, errForm
			}
			n, err := strconv.Atoi(length)
			if err != nil || n < 0 {
				return nil, errForm
			}
			size = n
		case !strings.EqualFold(word, "Content-Type"):
			return nil, errForm
		case strings.EqualFold(value, "application/octet-stream"):
			octets = true
		case !strings.EqualFold(value, c.label):
			return nil, fmt.Errorf("%w: %s", errLabel, Clean(value, 100))
		}
	}
	if size < 0 || len(b) < 4 {
		return nil, errForm
	}
	n := int64(binary.LittleEndian.Uint32(b))
	b = b[4:]
	if n > int64(len(b)) || n+int64(size) > int64(len(b)) {
		return nil, errForm
	}
	header, body, tail := b[:n], b[n:n+int64(size)], bytes.TrimSpace(b[n+int64(size):])
	if !bytes.HasPrefix(tail, []byte("--")) || !bytes.HasSuffix(tail, []byte(boundary+"--")) || len(tail) > len(boundary)+8 {
		return nil, errForm
	}
	plain, err := c.ctx.Open(header, body)
	if err != nil {
		return nil, err
	}
	if len(plain) != size {
		return nil, fmt.Errorf("%w: %d bytes, announced were %d", errForm, len(plain), size)
	}
	return plain, nil
}
