package envelope

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Limits of an answer, far above what a host sends.
const (
	maxDepth    = 48
	maxElements = 100_000
	maxText     = 4096 // bytes of a text that is not a stream
)

// Answer is what a host said. What it did not say is empty.
type Answer struct {
	Action    string
	RelatesTo string
	ShellID   string
	CommandID string
	Streams   []Stream
	State     string // of the command that output was asked of: Running, Done, Pending
	ExitCode  *int64 // of a program, with State Done
	Fault     *FaultError
	Product   Product
}

// Stream is a piece of output.
type Stream struct {
	Name, CommandID string
	Data            []byte
	End             bool
}

// Product is what a host says of itself to Identify.
type Product struct{ Protocol, Vendor, Version string }

// FaultError is a SOAP fault. The codes say what happened; the texts are in the
// language of the host.
type FaultError struct {
	Code    uint32   // of the outermost WSManFault; 0: none
	Inner   []uint32 // of the WSManFaults within it
	Subcode string   // without its prefix, such as TimedOut
	Reason  string
	Message string // of the innermost WSManFault
}

// Codes of WSManFault.
const (
	CodeAccessDenied = 5
	CodeTimedOut     = 2150858793 // the host has nothing to say yet
	CodeNoShell      = 2150858843 // no shell or command of that id
	CodeQuota        = 2150859174 // shells or commands of a user
)

// Has reports whether the fault or one within it has that code.
func (f *FaultError) Has(code uint32) bool {
	return f.Code == code || slices.Contains(f.Inner, code)
}

// TimedOut reports whether the fault only says that OperationTimeout is over.
func (f *FaultError) TimedOut() bool {
	return f.Code == CodeTimedOut || f.Code == 0 && f.Subcode == "TimedOut"
}

// Refused reports whether the fault says that the host did not begin with what it
// was asked for. Of any other it is not known.
func (f *FaultError) Refused() bool {
	switch f.Subcode {
	case "AccessDenied", "InvalidSelectors", "QuotaLimit", "DestinationUnreachable", "InvalidResourceURI":
		return true
	}
	return f.Has(CodeAccessDenied) || f.Has(CodeNoShell) || f.Has(CodeQuota)
}

// Error says what the host said.
func (f *FaultError) Error() string {
	text := f.Message
	if text == "" {
		text = f.Reason
	}
	if text = strings.TrimSpace(text); text == "" {
		text = "no explanation"
	}
	switch {
	case f.Code != 0:
		return fmt.Sprintf("%s (fault %d)", text, f.Code)
	case f.Subcode != "":
		return text + " (fault " + f.Subcode + ")"
	}
	return text
}

// errShape is the reason for refusing an answer.
var errShape = errors.New("the answer is no SOAP envelope")

// Parse reads an answer.
func Parse(b []byte) (*Answer, error) {
	p := &parser{d: xml.NewDecoder(bytes.NewReader(b))}
	for {
		t, err := p.d.Token()
		switch {
		case errors.Is(err, io.EOF) && p.done:
			return &p.a, nil
		case err != nil:
			return nil, fmt.Errorf("%w: %w", errShape, plain(err))
		}
		switch t := t.(type) {
		case xml.StartElement:
			err = p.start(t)
		case xml.EndElement:
			err = p.end()
		case xml.CharData:
			err = p.chars(t)
		case xml.Directive:
			err = errors.New("a document type declaration")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errShape, err)
		}
	}
}

// plain removes the name of a Go type from a syntax error.
func plain(err error) error {
	if e, is := errors.AsType[*xml.SyntaxError](err); is {
		return fmt.Errorf("line %d: %s", e.Line, e.Msg)
	}
	if errors.Is(err, io.EOF) {
		return errors.New("it ends too early")
	}
	return err
}

// frame is an open element.
type frame struct {
	name   string
	text   []byte
	stream *Stream
}

type parser struct {
	d        *xml.Decoder
	a        Answer
	stack    []frame
	elements int
	done     bool
}

func (p *parser) start(t xml.StartElement) error {
	if p.elements++; p.elements > maxElements {
		return fmt.Errorf("more than %d elements", maxElements)
	}
	if len(p.stack) >= maxDepth {
		return fmt.Errorf("elements nested deeper than %d", maxDepth)
	}
	if len(p.stack) == 0 && (p.done || t.Name.Local != "Envelope" || t.Name.Space != nsEnvelope) {
		return fmt.Errorf("it begins with %.80q", t.Name.Local)
	}
	f := frame{name: t.Name.Local}
	switch f.name {
	case "Stream":
		if p.in("ReceiveResponse") {
			f.stream = &Stream{Name: attr(t, "Name"), CommandID: attr(t, "CommandId"), End: strings.EqualFold(attr(t, "End"), "true")}
		}
	case "CommandState":
		if p.in("ReceiveResponse") {
			state := attr(t, "State")
			p.a.State = state[strings.LastIndexByte(state, '/')+1:]
			p.a.CommandID = attr(t, "CommandId")
		}
	case "Fault":
		if p.in("Body") && p.a.Fault == nil {
			p.a.Fault = &FaultError{}
		}
	case "WSManFault":
		if p.a.Fault != nil {
			if err := p.code(attr(t, "Code")); err != nil {
				return err
			}
		}
	}
	p.stack = append(p.stack, f)
	return nil
}

// code notes the code of a WSManFault: hosts write it unsigned and, at times, signed.
func (p *parser) code(s string) error {
	if s == "" {
		return nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > 1<<32-1 || n < -1<<31 {
		return fmt.Errorf("fault code %.20q", s)
	}
	c := uint32(n) // both forms of 32 bits are meant
	if p.a.Fault.Code == 0 {
		p.a.Fault.Code = c
		return nil
	}
	p.a.Fault.Inner = append(p.a.Fault.Inner, c)
	return nil
}

// in reports whether the innermost open element has that name.
func (p *parser) in(name string) bool {
	return len(p.stack) > 0 && p.stack[len(p.stack)-1].name == name
}

func attr(t xml.StartElement, name string) string {
	for _, a := range t.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func (p *parser) chars(b []byte) error {
	if len(p.stack) == 0 {
		if len(bytes.TrimSpace(b)) > 0 {
			return errors.New("text outside of the envelope")
		}
		return nil
	}
	f := &p.stack[len(p.stack)-1]
	if f.stream == nil && len(f.text)+len(b) > maxText {
		b = b[:maxText-len(f.text)]
	}
	f.text = append(f.text, b...)
	return nil
}

func (p *parser) end() error {
	f := p.stack[len(p.stack)-1]
	p.stack = p.stack[:len(p.stack)-1]
	if len(p.stack) == 0 {
		p.done = true
		return nil
	}
	if f.stream != nil {
		data, err := unbase(f.text)
		if err != nil {
			return err
		}
		f.stream.Data = data
		p.a.Streams = append(p.a.Streams, *f.stream)
		return nil
	}
	return p.text(f.name, strings.TrimSpace(string(f.text)))
}

// text notes the text of an element that has ended.
func (p *parser) text(name, s string) error {
	if fault := p.a.Fault; fault != nil {
		switch {
		case name == "Value" && p.in("Subcode"):
			fault.Subcode = s[strings.LastIndexByte(s, ':')+1:]
		case name == "Text" && p.in("Reason") && fault.Reason == "":
			fault.Reason = s
		case (name == "Message" || name == "ProviderFault") && s != "" && fault.Message == "":
			fault.Message = s
		}
		return nil
	}
	switch {
	case p.in("Header") && name == "Action":
		p.a.Action = s
	case p.in("Header") && name == "RelatesTo":
		p.a.RelatesTo = s
	case name == "Selector" && p.in("SelectorSet") && p.a.ShellID == "", name == "ShellId" && p.in("Shell"):
		p.a.ShellID = s
	case name == "CommandId" && p.in("CommandResponse"):
		p.a.CommandID = s
	case name == "ExitCode" && p.in("CommandState"):
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < -1<<31 || n > 1<<32-1 {
			return fmt.Errorf("exit code %.20q", s)
		}
		p.a.ExitCode = &n
	case p.in("IdentifyResponse"):
		switch name {
		case "ProtocolVersion":
			p.a.Product.Protocol = s
		case "ProductVendor":
			p.a.Product.Vendor = s
		case "ProductVersion":
			p.a.Product.Version = s
		}
	}
	return nil
}

// unbase decodes base64 that may have white space in it.
func unbase(b []byte) ([]byte, error) {
	b = bytes.Join(bytes.Fields(b), nil)
	out := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	n, err := base64.StdEncoding.Decode(out, b)
	if err != nil {
		return nil, errors.New("a stream is not base64")
	}
	return out[:n], nil
}
