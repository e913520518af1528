package envelope_test

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"runner/engine/transport/winrm/winrmtest/recordings"
	"runner/engine/transport/winrm/wsman/envelope"
)

var client = envelope.Client{
	To: "http://win1:5985/wsman?a=1&b=<2>", Resource: envelope.PowerShell + "runner.jea", Session: "BCFA5359-ADFA-424F-B0B4-A22A543F102A", Timeout: 20 * time.Second,
}

// parsed is what a request says, element by element.
func parsed(t *testing.T, m envelope.Message) map[string]string {
	t.Helper()
	out := map[string]string{}
	d, path := xml.NewDecoder(strings.NewReader(string(m.XML))), []string{}
	for {
		tok, err := d.Token()
		if tok == nil {
			if err.Error() != "EOF" {
				t.Fatal(err)
			}
			return out
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			path = append(path, tok.Name.Local)
			for _, a := range tok.Attr {
				if a.Name.Space != "xmlns" && a.Name.Local != "mustUnderstand" && a.Name.Local != "lang" {
					out[strings.Join(path[1:], "/")+"@"+a.Name.Local] += a.Value
				}
			}
			out[strings.Join(path[1:], "/")] += ""
		case xml.CharData:
			out[strings.Join(path[1:], "/")] += string(tok)
		case xml.EndElement:
			path = path[:len(path)-1]
		}
	}
}

// Every value is where it belongs, whatever is in it.
func TestRequestsSayWhatIsMeant(t *testing.T) {
	t.Parallel()
	bad := `"><x a='&]]>` + "\n"
	for _, c := range []struct {
		m    envelope.Message
		want map[string]string
	}{
		{client.Create("ID", []byte("creation")), map[string]string{
			"Header/Action": "http://schemas.xmlsoap.org/ws/2004/09/transfer/Create", "Header/OptionSet/Option@Name": "protocolversion", "Header/OptionSet/Option": "2.3",
			"Body/Shell@ShellId": "ID", "Body/Shell@Name": "Runspace1", "Body/Shell/InputStreams": "stdin pr", "Body/Shell/OutputStreams": "stdout", "Body/Shell/creationXml": "Y3JlYXRpb24=",
		}},
		{client.Command("S", bad, []byte("first")), map[string]string{"Header/SelectorSet/Selector": "S", "Body/CommandLine@CommandId": bad, "Body/CommandLine/Arguments": "Zmlyc3Q="}},
		{client.Send(bad, "C", "stdin", []byte{0}), map[string]string{"Header/SelectorSet/Selector": bad, "Body/Send/Stream@CommandId": "C", "Body/Send/Stream@Name": "stdin", "Body/Send/Stream": "AA=="}},
		{client.Send("S", "", "pr", nil), map[string]string{"Body/Send/Stream@Name": "pr", "Body/Send/Stream@CommandId": ""}},
		{client.Receive("S", "C", "stdout"), map[string]string{"Body/Receive/DesiredStream": "stdout", "Body/Receive/DesiredStream@CommandId": "C", "Header/OptionSet/Option@Name": "WSMAN_CMDSHELL_OPTION_KEEPALIVE"}},
		{client.Signal("S", "C", bad), map[string]string{"Body/Signal@CommandId": "C", "Body/Signal/Code": bad}},
		{client.Delete("S"), map[string]string{"Header/Action": "http://schemas.xmlsoap.org/ws/2004/09/transfer/Delete", "Body": ""}},
		{client.Disconnect("S"), map[string]string{"Body/Disconnect": ""}},
		{client.Reconnect("S"), map[string]string{"Header/Action": "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Reconnect", "Body": ""}},
	} {
		got := parsed(t, c.m)
		c.want["Header/To"], c.want["Header/ResourceURI"] = client.To, client.Resource
		c.want["Header/OperationTimeout"], c.want["Header/MaxEnvelopeSize"] = "PT20.000S", "153600"
		c.want["Header/SessionId"], c.want["Header/MessageID"] = "uuid:"+client.Session, c.m.ID
		for k, want := range c.want {
			if got[k] != want {
				t.Errorf("%s: %s is %q, want %q", got["Header/Action"], k, got[k], want)
			}
		}
	}
	if a, b := client.Delete("S"), client.Delete("S"); a.ID == b.ID || !regexp.MustCompile(`^uuid:[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}$`).MatchString(a.ID) {
		t.Errorf("the ids are %s and %s", a.ID, b.ID)
	}
}

func wrap(body string) string {
	return `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header/><s:Body>` + body + `</s:Body></s:Envelope>`
}

func TestAnswersThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"empty":      {"", "it ends too early"},
		"cut":        {wrap("")[:80], "unexpected EOF"},
		"not SOAP":   {"<html/>", `it begins with "html"`},
		"foreign":    {`<Envelope xmlns="urn:x"/>`, `it begins with "Envelope"`},
		"two":        {wrap("") + wrap(""), `it begins with "Envelope"`},
		"trailer":    {wrap("") + "x", "text outside of the envelope"},
		"DTD":        {`<!DOCTYPE x [<!ENTITY a "b">]>` + wrap("&a;"), "a document type declaration"},
		"entity":     {wrap("&a;"), "invalid character entity"},
		"deep":       {wrap(strings.Repeat("<a>", 60)), "nested deeper than 48"},
		"many":       {wrap(strings.Repeat("<a/>", 100_001)), "more than 100000 elements"},
		"not base64": {wrap("<ReceiveResponse><Stream Name='stdout'>!</Stream></ReceiveResponse>"), "a stream is not base64"},
		"exit code":  {wrap("<CommandState><ExitCode>99999999999</ExitCode></CommandState>"), "exit code"},
		"fault code": {wrap("<Fault><WSManFault Code='x'/></Fault>"), "fault code"},
	} {
		if _, err := envelope.Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "xml.") {
			t.Errorf("%s: the error is %v, want %q", name, err, c.want)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	a, err := envelope.Parse([]byte(wrap(`<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>w:AccessDenied</s:Value></s:Subcode></s:Code>` +
		`<s:Reason><s:Text>Zugriff</s:Text></s:Reason><s:Detail><WSManFault Code="-2144108503"><Message><ProviderFault><WSManFault Code="5"><Message>inner</Message></WSManFault></ProviderFault></Message></WSManFault></s:Detail></s:Fault>`)))
	if err != nil {
		t.Fatal(err)
	}
	f := a.Fault
	if !f.TimedOut() || !f.Has(envelope.CodeAccessDenied) || f.Has(7) || f.Subcode != "AccessDenied" || f.Reason != "Zugriff" || f.Error() != "inner (fault 2150858793)" {
		t.Errorf("the fault is %+v: %v", f, f)
	}
	if f = (&envelope.FaultError{Subcode: "TimedOut"}); !f.TimedOut() || f.Error() != "no explanation (fault TimedOut)" {
		t.Errorf("the fault is %v", f)
	}
}

// Nothing that a host says makes the reader fail in another way than by an error.
func FuzzParse(f *testing.F) {
	f.Add(wrap(`<rsp:ReceiveResponse><rsp:Stream Name="stdout" End="true">QQ==</rsp:Stream><rsp:CommandState State="x/Done"><rsp:ExitCode>1</rsp:ExitCode></rsp:CommandState></rsp:ReceiveResponse>`))
	f.Add(wrap(`<s:Fault><s:Code><s:Subcode><s:Value>w:x</s:Value></s:Subcode></s:Code><s:Detail><WSManFault Code="5"/></s:Detail></s:Fault>`))
	f.Fuzz(func(t *testing.T, text string) {
		a, err := envelope.Parse([]byte(text))
		if (a == nil) == (err == nil) {
			t.Fatalf("%v, %v", a, err)
		}
		n := 0
		if a != nil {
			for _, s := range a.Streams {
				n += len(s.Data)
			}
		}
		if n > len(text) {
			t.Errorf("%d bytes out of %d", n, len(text))
		}
	})
}

// exchange is a request of another client and what Windows answered.
type exchange struct{ request, response string }

func load(t *testing.T) map[string][]exchange {
	t.Helper()
	out := map[string][]exchange{}
	dir := recordings.Folder(t)
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.yml"))
	if err != nil || len(files) < 30 {
		t.Fatalf("%d recordings in %s: %v", len(files), dir, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		if filepath.Base(filepath.Dir(file)) == "winrmsharp" {
			var list []struct{ Request, Response struct{ Body string } }
			if err := yaml.Unmarshal(text, &list); err != nil {
				t.Fatal(err)
			}
			for _, x := range list {
				out[name] = append(out[name], exchange{x.Request.Body, x.Response.Body})
			}
			continue
		}
		var list struct {
			Messages []struct{ Request, Response string }
		}
		if err := yaml.Unmarshal(text, &list); err != nil {
			t.Fatal(err)
		}
		for _, x := range list.Messages {
			out[name] = append(out[name], exchange{x.Request, x.Response})
		}
	}
	return out
}

var (
	relates    = regexp.MustCompile(`<a:RelatesTo>\s*([^<\s]+)\s*<`)
	shellID    = regexp.MustCompile(`<w:Selector Name="ShellId">\s*([^<\s]+)\s*<`)
	commandID  = regexp.MustCompile(`<rsp:CommandId>\s*([^<\s]+)\s*<`)
	exitCode   = regexp.MustCompile(`<rsp:ExitCode>\s*(\d+)\s*<`)
	faultCode  = regexp.MustCompile(`<f:WSManFault[^>]*\sCode="(\d+)"`)
	oneStream  = regexp.MustCompile(`<rsp:Stream\b`)
	actionText = regexp.MustCompile(`<a:Action[^>]*>\s*([^<\s]+)\s*<`)
)

func first(re *regexp.Regexp, text string) string {
	if m := re.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

// Every answer of the recorded hosts is read, and says what stands in it.
func TestRecordedAnswersOfWindows(t *testing.T) {
	t.Parallel()
	answers, faults := 0, map[uint32]int{}
	for name, list := range load(t) {
		for i, x := range list {
			if !strings.Contains(x.response, "Envelope") {
				continue
			}
			a, err := envelope.Parse([]byte(strings.TrimSpace(x.response)))
			if err != nil {
				t.Errorf("%s, answer %d: %v", name, i, err)
				continue
			}
			answers++
			got := []string{a.Action, a.RelatesTo, a.ShellID, a.CommandID}
			want := []string{first(actionText, x.response), first(relates, x.response), first(shellID, x.response), first(commandID, x.response)}
			if a.Action == "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/ReceiveResponse" {
				want[3] = a.CommandID // of the state
				if n := len(oneStream.FindAllString(x.response, -1)); n != len(a.Streams) {
					t.Errorf("%s, answer %d: %d streams of %d", name, i, len(a.Streams), n)
				}
			}
			if want[2] == "" {
				want[2] = a.ShellID // from other elements
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s, answer %d (-want +got):\n%s", name, i, d)
			}
			if (first(exitCode, x.response) != "") != (a.ExitCode != nil) {
				t.Errorf("%s, answer %d: the exit code is %v", name, i, a.ExitCode)
			}
			if c := first(faultCode, x.response); (c != "") != (a.Fault != nil && a.Fault.Code != 0) {
				t.Errorf("%s, answer %d: the fault is %v, recorded is %q", name, i, a.Fault, c)
			}
			if a.Fault != nil {
				faults[a.Fault.Code]++
				if a.Fault.Error() == "" || a.Fault.Code == envelope.CodeTimedOut != a.Fault.TimedOut() {
					t.Errorf("%s, answer %d: the fault is %v", name, i, a.Fault)
				}
			}
		}
	}
	if answers < 300 || faults[envelope.CodeNoShell] == 0 {
		t.Errorf("%d answers, faults %v", answers, faults)
	}
	t.Logf("%d answers, faults %v", answers, faults)
	text, err := os.ReadFile(filepath.Join(recordings.Folder(t), "masterzen-fixtures", "operationTimeoutResponse.xml"))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := envelope.Parse(text); err != nil || a.Fault == nil || !a.Fault.TimedOut() || a.Fault.Subcode != "TimedOut" {
		t.Errorf("an operation time-out is read as %+v, %v", a, err)
	}
}

// What we ask for names the same actions, resources, options and elements as what
// Windows was asked for by another client, and took.
func TestRequestsAgainstRecordedOnes(t *testing.T) {
	t.Parallel()
	ours := map[string]map[string]string{}
	for _, m := range []envelope.Message{
		client.Create("S", []byte("x")), client.Command("S", "C", []byte("x")), client.Send("S", "C", "stdin", []byte("x")), client.Receive("S", "C", "stdout"),
		client.Signal("S", "C", "x"), client.Delete("S"), client.Disconnect("S"), client.Reconnect("S"),
	} {
		p := parsed(t, m)
		ours[p["Header/Action"]] = p
	}
	seen := map[string]bool{}
	for name, list := range load(t) {
		for _, x := range list {
			if !strings.Contains(x.request, "/powershell/Microsoft.PowerShell<") || !strings.Contains(x.response, "Response</a:Action>") {
				continue
			}
			theirs := parsed(t, envelope.Message{XML: []byte(strings.TrimSpace(x.request))})
			mine := ours[theirs["Header/Action"]]
			if mine == nil {
				continue
			}
			seen[theirs["Header/Action"]] = true
			for k := range theirs {
				base, _, _ := strings.Cut(k, "@")
				if _, ok := mine[k]; !ok && !strings.HasPrefix(k, "Body/Shell/IdleTimeOut") && !strings.HasPrefix(base, "Header/OptionSet") && k != "Body/Receive/DesiredStream@CommandId" && k != "Body/Send/Stream@CommandId" {
					t.Errorf("%s, %s: no %s", name, theirs["Header/Action"], k)
				}
			}
		}
	}
	if len(seen) != len(ours) {
		t.Errorf("only %v were recorded", seen)
	}
}
