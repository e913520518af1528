// Package envelope is the SOAP of WS-Man for remote shells ([MS-WSMV]): it
// writes requests and reads answers and faults. Pure: it performs no I/O, starts
// no goroutine and reads no clock. It refuses to know what is in the streams,
// how a message travels, and answers that are deeper or longer than any host's.
package envelope

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Resources ([MS-WSMV] 3.1.1.1).
const (
	PowerShell = "http://schemas.microsoft.com/powershell/" // and the name of a session configuration
	Cmd        = nsShell + "/cmd"
)

const (
	nsEnvelope = "http://www.w3.org/2003/05/soap-envelope"
	nsAddress  = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
	nsTransfer = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
	nsWSMan    = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
	nsMS       = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"
	nsShell    = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
	nsIdentity = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"
	anonymous  = nsAddress + "/role/anonymous"
)

// MinMaxEnvelope is what every host takes, in bytes.
const MinMaxEnvelope = 153600

// Message is a request as it travels, and the id that its answer relates to.
type Message struct {
	ID  string
	XML []byte
}

// Client writes the requests of one client to one resource.
type Client struct {
	To       string // URL of the service
	Resource string
	Session  string        // id of this client: the same on every request
	Timeout  time.Duration // how long the host may work on a request
	// MaxEnvelope is the longest answer that is wanted, in bytes; 0: MinMaxEnvelope.
	MaxEnvelope int
}

// NewID returns a random id, as a GUID in upper case.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// option is one word of an OptionSet.
type option struct {
	name, value string
	must        bool
}

// request is what differs between requests.
type request struct {
	action  string
	shell   string // selector
	options []option
	body    string
}

// Create asks for a shell for a runspace pool ([MS-WSMV] 3.1.4.5.2). Without a
// CompressionType the host compresses nothing.
func (c Client) Create(id string, creationXML []byte) Message {
	return c.write(request{
		action: nsTransfer + "/Create", options: []option{{"protocolversion", "2.3", true}},
		body: `<rsp:Shell ShellId="` + escape(id) + `" Name="Runspace1"><rsp:InputStreams>stdin pr</rsp:InputStreams>` +
			`<rsp:OutputStreams>stdout</rsp:OutputStreams><creationXml xmlns="http://schemas.microsoft.com/powershell">` +
			base64.StdEncoding.EncodeToString(creationXML) + `</creationXml></rsp:Shell>`,
	})
}

// Command asks for a command with that id in a PowerShell shell ([MS-WSMV] 3.1.4.11).
func (c Client) Command(shell, id string, first []byte) Message {
	return c.write(request{
		action: nsShell + "/Command", shell: shell, options: []option{{"WINRS_SKIP_CMD_SHELL", "FALSE", false}},
		body: `<rsp:CommandLine CommandId="` + escape(id) + `"><rsp:Command/><rsp:Arguments>` +
			base64.StdEncoding.EncodeToString(first) + `</rsp:Arguments></rsp:CommandLine>`,
	})
}

// Send writes to a stream of a command, or of the shell ("") ([MS-WSMV] 3.1.4.13).
func (c Client) Send(shell, command, stream string, data []byte) Message {
	return c.write(request{
		action: nsShell + "/Send", shell: shell,
		body: `<rsp:Send><rsp:Stream Name="` + escape(stream) + `"` + commandID(command) + `>` +
			base64.StdEncoding.EncodeToString(data) + `</rsp:Stream></rsp:Send>`,
	})
}

// Receive asks for output of a command, or of the shell ("") ([MS-WSMV] 3.1.4.14).
func (c Client) Receive(shell, command, streams string) Message {
	return c.write(request{
		action: nsShell + "/Receive", shell: shell, options: []option{{"WSMAN_CMDSHELL_OPTION_KEEPALIVE", "TRUE", false}},
		body: `<rsp:Receive><rsp:DesiredStream` + commandID(command) + `>` + escape(streams) + `</rsp:DesiredStream></rsp:Receive>`,
	})
}

// Signal sends a signal to a command ([MS-WSMV] 3.1.4.12).
func (c Client) Signal(shell, command, code string) Message {
	return c.write(request{
		action: nsShell + "/Signal", shell: shell,
		body: `<rsp:Signal` + commandID(command) + `><rsp:Code>` + escape(code) + `</rsp:Code></rsp:Signal>`,
	})
}

// Delete ends a shell and all that runs in it ([MS-WSMV] 3.1.4.4).
func (c Client) Delete(shell string) Message {
	return c.write(request{action: nsTransfer + "/Delete", shell: shell})
}

// Disconnect parks a shell ([MS-WSMV] 3.1.4.15).
func (c Client) Disconnect(shell string) Message {
	return c.write(request{action: nsShell + "/Disconnect", shell: shell, body: `<rsp:Disconnect/>`})
}

// Reconnect takes a shell up again ([MS-WSMV] 3.1.4.16).
func (c Client) Reconnect(shell string) Message {
	return c.write(request{action: nsShell + "/Reconnect", shell: shell})
}

// Identify asks who is there (DSP0226 11). It has no addressing.
func Identify() Message {
	return Message{XML: []byte(`<s:Envelope xmlns:s="` + nsEnvelope + `" xmlns:wsmid="` + nsIdentity + `"><s:Header/><s:Body><wsmid:Identify/></s:Body></s:Envelope>`)}
}

func commandID(id string) string {
	if id == "" {
		return ""
	}
	return ` CommandId="` + escape(id) + `"`
}

func (c Client) write(r request) Message {
	m := Message{ID: "uuid:" + NewID()}
	most := c.MaxEnvelope
	if most <= 0 {
		most = MinMaxEnvelope
	}
	var b strings.Builder
	b.Grow(len(r.body) + 2048)
	for _, s := range []string{
		`<s:Envelope xmlns:s="`, nsEnvelope, `" xmlns:a="`, nsAddress, `" xmlns:w="`, nsWSMan, `" xmlns:p="`, nsMS, `" xmlns:rsp="`, nsShell, `"><s:Header>`,
		`<a:To>`, escape(c.To), `</a:To><a:ReplyTo><a:Address s:mustUnderstand="true">`, anonymous, `</a:Address></a:ReplyTo>`,
		`<a:Action s:mustUnderstand="true">`, r.action, `</a:Action><a:MessageID>`, m.ID, `</a:MessageID>`,
		`<w:MaxEnvelopeSize s:mustUnderstand="true">`, strconv.Itoa(most), `</w:MaxEnvelopeSize>`,
		`<w:Locale xml:lang="en-US" s:mustUnderstand="false"/><p:DataLocale xml:lang="en-US" s:mustUnderstand="false"/>`,
		`<p:SessionId s:mustUnderstand="false">uuid:`, escape(c.Session), `</p:SessionId>`,
		`<w:OperationTimeout>`, Duration(c.Timeout), `</w:OperationTimeout>`,
		`<w:ResourceURI s:mustUnderstand="true">`, escape(c.Resource), `</w:ResourceURI>`,
	} {
		b.WriteString(s)
	}
	if r.shell != "" {
		b.WriteString(`<w:SelectorSet><w:Selector Name="ShellId">` + escape(r.shell) + `</w:Selector></w:SelectorSet>`)
	}
	if len(r.options) > 0 {
		b.WriteString(`<w:OptionSet s:mustUnderstand="true">`)
		for _, o := range r.options {
			must := ""
			if o.must {
				must = ` MustComply="true"`
			}
			b.WriteString(`<w:Option Name="` + o.name + `"` + must + `>` + o.value + `</w:Option>`)
		}
		b.WriteString(`</w:OptionSet>`)
	}
	b.WriteString(`</s:Header><s:Body>` + r.body + `</s:Body></s:Envelope>`)
	m.XML = []byte(b.String())
	return m
}

// Duration writes d as an xs:duration.
func Duration(d time.Duration) string {
	return "PT" + strconv.FormatFloat(d.Seconds(), 'f', 3, 64) + "S"
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
