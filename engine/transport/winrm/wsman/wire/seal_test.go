package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"
)

// bare is a context whose seal is a mark.
type bare struct{}

func (bare) Next([]byte) ([]byte, error) { return nil, nil }
func (bare) Done() bool                  { return true }
func (bare) Expires() time.Time          { return time.Time{} }
func (bare) Peer() string                { return "" }

func (bare) Seal(plain []byte) (header, body []byte, err error) { return []byte("SIG"), plain, nil }

func (bare) Open(header, body []byte) ([]byte, error) {
	if string(header) != "SIG" {
		return nil, errors.New("another mark")
	}
	return body, nil
}

func sealer(label string) *Conn { return &Conn{ctx: bare{}, label: label} }

// The bytes that hosts want, which are not those of RFC 1847.
func TestSealedBodyByteForByte(t *testing.T) {
	t.Parallel()
	got, err := sealer(labelSPNEGO).seal([]byte("<x/>"))
	want := "--Encrypted Boundary\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=4\r\n" +
		"--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n\x03\x00\x00\x00SIG<x/>--Encrypted Boundary--\r\n"
	if err != nil || string(got) != want {
		t.Errorf("the body is %q, %v", got, err)
	}
}

// part writes a sealed body with pieces replaced.
func part(size string, data string, replace ...string) string {
	s := "--Encrypted Boundary\r\n\tContent-Type: " + labelSPNEGO + "\r\n\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=" + size + "\r\n" +
		"--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n" + string(binary.LittleEndian.AppendUint32(nil, 3)) + data + "--Encrypted Boundary--\r\n"
	return strings.NewReplacer(replace...).Replace(s)
}

// What servers other than Windows write is read, too; what no server may write is
// refused, whatever the lengths say.
func TestSealedAnswers(t *testing.T) {
	t.Parallel()
	text := "<--Encrypted Boundary--\r\n>"
	for name, c := range map[string]struct {
		body string
		ok   bool
	}{
		"as Windows":          {part("26", "SIG"+text), true},
		"without tabs (OMI)":  {part("26", "SIG"+text, "\t", ""), true},
		"a line more (OMI)":   {part("26", "SIG"+text) + "\r\n", true},
		"a blank (Exchange)":  {part("26", "SIG"+text, "\r\n--Encrypted", "\r\n-- Encrypted", "<--Encrypted", "<--Encrypted"), true},
		"words in small":      {part("26", "SIG"+text, "Content-Type", "content-type", "Length", "length"), true},
		"empty":               {part("0", "SIG"), true},
		"too short":           {part("27", "SIG"+text), false},
		"too long":            {part("25", "SIG"+text), false},
		"negative":            {part("-1", "SIG"+text), false},
		"no number":           {part("x", "SIG"+text), false},
		"huge":                {part("99999999999999999999", "SIG"+text), false},
		"another mark":        {part("26", "GIS"+text), false},
		"another label":       {part("26", "SIG"+text, labelSPNEGO, labelKerberos), false},
		"no end":              {strings.TrimSuffix(part("26", "SIG"+text), "--\r\n"), false},
		"another header":      {part("26", "SIG"+text, "OriginalContent", "Other"), false},
		"length twice":        {part("26", "SIG"+text, "\tOriginal", "\tOriginalContent: type=x;Length=26\r\n\tOriginal"), false},
		"no lines":            {strings.Repeat("x", 1000), false},
		"signature too long":  {part("26", "SIG"+text, "\x03\x00\x00\x00", "\xff\xff\xff\xff"), false},
		"nothing":             {"", false},
		"cut after the label": {part("26", "SIG"+text)[:90], false},
	} {
		got, err := sealer(labelSPNEGO).unseal([]byte(c.body))
		if (err == nil) != c.ok || c.ok && name != "empty" && string(got) != text {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// Whatever the lengths say, nothing is read that is not there.
func FuzzUnseal(f *testing.F) {
	f.Add([]byte(part("5", "SIG<x/> ")))
	f.Add([]byte(part("5", "SIG<x/> ", "\t", "")))
	f.Add([]byte("OriginAlContent:\xffLength=\r\n")) // which is longer in lower case
	f.Fuzz(func(t *testing.T, b []byte) {
		plain, err := sealer(labelSPNEGO).unseal(b)
		if err == nil && !bytes.Contains(b, append([]byte("SIG"), plain...)) {
			t.Errorf("%q is not in %q", plain, b)
		}
	})
}
