package wsmantest

import (
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"net/http"
	"strings"

	"runner/engine/transport/winrm/runspace"
	"runner/engine/transport/winrm/winrmtest"
)

// message is a request of WS-Man.
type message struct {
	Operation string
	n         int
	envelope
}

// envelope is what is read of a request.
type envelope struct {
	XMLName xml.Name `xml:"http://www.w3.org/2003/05/soap-envelope Envelope"`
	Header  struct {
		Action    string `xml:"Action"`
		MessageID string `xml:"MessageID"`
		Resource  string `xml:"ResourceURI"`
		Session   string `xml:"SessionId"`
		Timeout   string `xml:"OperationTimeout"`
		Max       int    `xml:"MaxEnvelopeSize"`
		Selectors []struct {
			Name  string `xml:"Name,attr"`
			Value string `xml:",chardata"`
		} `xml:"SelectorSet>Selector"`
		Options []struct {
			Name  string `xml:"Name,attr"`
			Value string `xml:",chardata"`
		} `xml:"OptionSet>Option"`
	} `xml:"Header"`
	Body struct {
		Identify *struct{} `xml:"Identify"`
		Shell    struct {
			ID       string `xml:"ShellId,attr"`
			Name     string `xml:"Name,attr"`
			Creation string `xml:"creationXml"`
		} `xml:"Shell"`
		CommandLine struct {
			ID        string   `xml:"CommandId,attr"`
			Command   string   `xml:"Command"`
			Arguments []string `xml:"Arguments"`
		} `xml:"CommandLine"`
		Send []struct {
			Name    string `xml:"Name,attr"`
			Command string `xml:"CommandId,attr"`
			End     string `xml:"End,attr"`
			Data    string `xml:",chardata"`
		} `xml:"Send>Stream"`
		Receive struct {
			Command string `xml:"CommandId,attr"`
			Streams string `xml:",chardata"`
		} `xml:"Receive>DesiredStream"`
		Signal struct {
			Command string `xml:"CommandId,attr"`
			Code    string `xml:"Code"`
		} `xml:"Signal"`
	} `xml:"Body"`
}

func parse(b []byte) (*message, error) {
	m := &message{}
	if err := xml.Unmarshal(b, &m.envelope); err != nil {
		return nil, err
	}
	m.Operation = m.Header.Action[strings.LastIndexByte(m.Header.Action, '/')+1:]
	if m.Body.Identify != nil {
		m.Operation = "Identify"
	} else if m.Header.MessageID == "" || m.Header.Timeout == "" || m.Header.Resource == "" {
		return nil, errors.New("a header is missing")
	}
	return m, nil
}

func (m *message) shell() string {
	for _, s := range m.Header.Selectors {
		if s.Name == "ShellId" {
			return s.Value
		}
	}
	return ""
}

func (s *Server) arrived(m *message) int {
	n := s.count(m.Operation)
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.Operation != "Identify" {
		s.messages[m.Header.MessageID]++
	}
	if m.Operation == "Command" && m.Body.CommandLine.ID != "" {
		s.commands[m.Body.CommandLine.ID]++
	}
	return n
}

const (
	nsShell    = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
	nsTransfer = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
)

func wrap(action, relates, body string) []byte {
	return []byte(`<s:Envelope xml:lang="en-US" xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:x="` + nsTransfer +
		`" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:rsp="` + nsShell + `" xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"><s:Header><a:Action>` + action +
		`</a:Action><a:MessageID>uuid:` + "677EB664-036F-0001-13C7-7E676F03D401" + `</a:MessageID><a:RelatesTo>` + html.EscapeString(relates) + `</a:RelatesTo></s:Header><s:Body>` + body + `</s:Body></s:Envelope>`)
}

func fault(m *message, code uint32, subcode, text string) (int, []byte) {
	return http.StatusInternalServerError, wrap("http://schemas.dmtf.org/wbem/wsman/1/wsman/fault", m.Header.MessageID,
		fmt.Sprintf(`<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>%s</s:Value></s:Subcode></s:Code><s:Reason><s:Text xml:lang="en-US">%s</s:Text></s:Reason>`+
			`<s:Detail><f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="%d" Machine="test"><f:Message>%s</f:Message></f:WSManFault></s:Detail></s:Fault>`,
			subcode, html.EscapeString(text), code, html.EscapeString(text)))
}

func good(m *message, body string) (int, []byte) {
	return http.StatusOK, wrap(m.Header.Action+"Response", m.Header.MessageID, body)
}

// failed is the fault for an error of the host.
func failed(m *message, err error) (int, []byte) {
	switch {
	case errors.Is(err, runspace.ErrGone):
		return fault(m, 2150858843, "w:InvalidSelectors", "The request for the Windows Remote Shell with that ShellId failed because the shell was not found on the server.")
	case errors.Is(err, winrmtest.ErrQuota):
		return fault(m, 2150859174, "w:QuotaLimit", err.Error())
	}
	return fault(m, 2150858770, "w:InternalError", err.Error())
}

// do does what a message asks for.
func (s *Server) do(ctx context.Context, m *message) (int, []byte) {
	s.mu.Lock()
	s.done[m.Operation]++
	sh, cmd := s.shells[m.shell()], s.cmds[m.shell()]
	s.mu.Unlock()
	switch {
	case m.Operation == "Identify":
		return http.StatusOK, wrap("", "", `<wsmid:IdentifyResponse xmlns:wsmid="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd">`+
			`<wsmid:ProtocolVersion>http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd</wsmid:ProtocolVersion><wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor>`+
			`<wsmid:ProductVersion>OS: 10.0.20348 SP: 0.0 Stack: 3.0</wsmid:ProductVersion></wsmid:IdentifyResponse>`)
	case m.Operation == "Create" && strings.HasSuffix(m.Header.Resource, "/shell/cmd"):
		return s.createCmd(m)
	case m.Operation == "Create":
		return s.create(ctx, m)
	case cmd != nil:
		return s.doCmd(ctx, cmd, m)
	case sh == nil:
		return failed(m, runspace.ErrGone)
	}
	return s.doShell(ctx, sh, m)
}

func unbase(text string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(strings.TrimSpace(text))
}

func created(m *message, id string) (int, []byte) {
	return good(m, `<x:ResourceCreated><a:Address>http://test/wsman</a:Address><a:ReferenceParameters><w:ResourceURI>`+html.EscapeString(m.Header.Resource)+
		`</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">`+id+`</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated><rsp:Shell><rsp:ShellId>`+id+`</rsp:ShellId></rsp:Shell>`)
}

func (s *Server) create(ctx context.Context, m *message) (int, []byte) {
	if m.Body.Shell.ID == "" || m.Body.Shell.Name == "" {
		return http.StatusInternalServerError, nil // as OMI does
	}
	if m.Header.Resource != "http://schemas.microsoft.com/powershell/Microsoft.PowerShell" {
		return fault(m, 2150859114, "a:DestinationUnreachable", "Cannot find the session configuration in the WSMan: drive.")
	}
	b, err := unbase(m.Body.Shell.Creation)
	if err != nil {
		return failed(m, err)
	}
	sh, err := s.Host.Open(ctx, m.Body.Shell.ID, b)
	if err != nil {
		return failed(m, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shells == nil {
		s.shells = map[string]runspace.Shell{}
	}
	s.shells[m.Body.Shell.ID] = sh
	return created(m, m.Body.Shell.ID)
}

func (s *Server) doShell(ctx context.Context, sh runspace.Shell, m *message) (int, []byte) {
	body, err := "", errors.New("the action is not supported")
	switch m.Operation {
	case "Command":
		body, err = command(ctx, sh, m)
	case "Send":
		for _, p := range m.Body.Send {
			var b []byte
			if b, err = unbase(p.Data); err == nil {
				err = sh.Send(ctx, p.Command, p.Name, b)
			}
			if err != nil {
				break
			}
		}
		body = `<rsp:SendResponse/>`
	case "Receive":
		var got runspace.Received
		if got, err = sh.Receive(ctx, m.Body.Receive.Command); err == nil {
			if len(got.Data) == 0 && !got.Done {
				return fault(m, 2150858793, "w:TimedOut", "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.")
			}
			body = received(m, got)
		}
	case "Signal":
		err = sh.Signal(ctx, m.Body.Signal.Command, m.Body.Signal.Code)
		body = `<rsp:SignalResponse/>`
	case "Delete":
		s.mu.Lock()
		delete(s.shells, m.shell())
		s.mu.Unlock()
		body, err = "", sh.Close(ctx)
	case "Disconnect", "Reconnect":
		p, _ := sh.(runspace.Parker)
		if body = ""; m.Operation == "Disconnect" {
			err = p.Disconnect(ctx)
		} else {
			err = p.Reconnect(ctx)
		}
	}
	if err != nil {
		return failed(m, err)
	}
	return good(m, body)
}

func command(ctx context.Context, sh runspace.Shell, m *message) (string, error) {
	b, err := unbase(strings.Join(m.Body.CommandLine.Arguments, ""))
	if err == nil {
		err = sh.Command(ctx, m.Body.CommandLine.ID, b)
	}
	return `<rsp:CommandResponse><rsp:CommandId>` + m.Body.CommandLine.ID + `</rsp:CommandId></rsp:CommandResponse>`, err
}

// received writes output in two pieces where it can, as Windows does at times.
func received(m *message, got runspace.Received) string {
	id := ""
	if c := m.Body.Receive.Command; c != "" {
		id = ` CommandId="` + c + `"`
	}
	var b strings.Builder
	b.WriteString(`<rsp:ReceiveResponse>`)
	for _, part := range [][]byte{got.Data[:len(got.Data)/3], got.Data[len(got.Data)/3:]} {
		if len(part) > 0 {
			b.WriteString(`<rsp:Stream Name="stdout"` + id + `>` + base64.StdEncoding.EncodeToString(part) + `</rsp:Stream>`)
		}
	}
	if id != "" {
		state := "Running"
		if got.Done {
			state = "Done"
		}
		b.WriteString(`<rsp:CommandState` + id + ` State="` + nsShell + `/CommandState/` + state + `"/>`)
	}
	b.WriteString(`</rsp:ReceiveResponse>`)
	return b.String()
}
