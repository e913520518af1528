package psrp

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"runner/engine/transport/winrm/clixml"
	"runner/engine/transport/winrm/winrmtest/recordings"
)

var (
	fragments = regexp.MustCompile(`<(rsp:Stream|(?:\w+:)?creationXml|(?:\w+:)?connectXml|(?:\w+:)?connectResponseXml|(?:\w+:)?Arguments)\b[^>]*>([A-Za-z0-9+/=\s\\]+)<`)
	blanks    = regexp.MustCompile(`[\s\\]+`)
)

// piece is the content of one element of fragments.
type piece struct {
	element string
	data    []byte
}

// exchange reads all pieces of a recording in order.
func exchange(t *testing.T, file string) []piece {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []piece
	for _, m := range fragments.FindAllStringSubmatch(string(text), -1) {
		b, err := base64.StdEncoding.DecodeString(blanks.ReplaceAllString(m[2], ""))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, piece{m[1], b})
	}
	return out
}

// replay feeds both sides with what was recorded and returns a line for each event.
func replay(t *testing.T, file string) []string {
	t.Helper()
	clients, servers := map[clixml.GUID]*Client{}, map[clixml.GUID]*Server{}
	var last clixml.GUID
	var out []string
	for i, p := range exchange(t, file) {
		m, err := parseMessage(p.data[fragmentHeader:])
		if err != nil {
			t.Fatalf("piece %d: %v", i, err)
		}
		switch p.element {
		case "creationXml":
			servers[m.pool] = NewServer(m.pool, ServerConfig{})
			fallthrough
		case "connectXml":
			clients[m.pool] = NewClient(ClientConfig{ID: m.pool})
			if _, err := clients[m.pool].Open(); err != nil {
				t.Fatal(err)
			}
		}
		if !m.pool.IsZero() {
			last = m.pool
		}
		c, s := clients[last], servers[last]
		if m.to == toServer {
			es, _, err := s.Receive(m.pipeline, p.data)
			if err != nil {
				t.Fatalf("piece %d to the server: %v", i, err)
			}
			for _, e := range es {
				switch e := e.(type) { // as if this client had asked
				case PipelineCreated:
					c.pipeline[e.ID] = &clientPipeline{state: Running, input: e.Pipeline.Input}
				case RunspacesAsked:
					c.calls[e.Call] = func(bool) {}
				}
				out = append(out, "> "+line(e))
			}
			continue
		}
		es, err := c.Receive(m.pipeline, p.data)
		if err != nil {
			t.Fatalf("piece %d to the client: %v", i, err)
		}
		for _, e := range es {
			out = append(out, "< "+line(e))
		}
	}
	return out
}

func line(e Event) string {
	switch e := e.(type) {
	case Record:
		return e.Stream.String() + " " + e.Text()
	case PipelineChanged:
		if e.Err != nil {
			return fmt.Sprintf("%s: %s [%s, %s, line %d]", e.State, e.Err.Message, e.Err.ID, e.Err.Exception, e.Err.Line)
		}
		return e.State.String()
	case PipelineCreated:
		var cmds []string
		for _, c := range e.Pipeline.Commands {
			cmds = append(cmds, strings.Join(strings.Fields(c.Text), " "))
		}
		return "run " + strings.Join(cmds, " | ")
	case PoolChanged:
		return "pool " + e.State.String()
	case PrivateData:
		table, _ := clixml.Entries(e.Data.Get("PSVersionTable"))
		return "PowerShell " + clixml.Text(table.Get("PSVersion"))
	case Input:
		return "input " + clixml.Text(e.Value)
	case HostCalled:
		return "host " + e.Call.Name
	case HostAnswered:
		return "answer " + clixml.Text(e.Result)
	case RunspacesAsked:
		return fmt.Sprintf("%s %d", e.What, e.N)
	case Answered:
		return fmt.Sprint("runspaces ", e.Value)
	}
	return fmt.Sprintf("%T", e)
}

// What Windows said to another client is what we read, and what another client
// said to Windows is what our server side reads.
func TestRecordingsOfWindows(t *testing.T) {
	t.Parallel()
	dir := recordings.Folder(t)
	files, err := filepath.Glob(filepath.Join(dir, "pypsrp", "test_psrp_*.yml"))
	if err != nil || len(files) < 10 {
		t.Fatalf("only %d recordings in %s: %v", len(files), dir, err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".yml")
		if name == "test_psrp_multiple_commands" || name == "test_psrp_pshost_ui_mocked_methods" {
			continue // with secrets under a key that was not recorded
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := replay(t, f)
			if !slices.Contains(got, "< pool opened") {
				t.Errorf("the pool was not opened:\n%s", strings.Join(got, "\n"))
			}
			for _, want := range recorded[name] {
				if !slices.Contains(got, want) {
					t.Errorf("missing %q in:\n%s", want, strings.Join(got, "\n"))
				}
			}
		})
	}
}

// recorded are lines that must be among those of a recording.
var recorded = map[string][]string{
	"test_psrp_error_failed": {
		"< PowerShell 5.1.14393.2248",
		"> run $ErrorActionPreference = 'Stop'; Write-Output before; Write-Error error; Write-Output after",
		"< output before",
		"< failed: error [Microsoft.PowerShell.Commands.WriteErrorException, Microsoft.PowerShell.Commands.WriteErrorException, line 1]",
	},
	"test_psrp_stream_no_output_invocation": {
		"< debug debug stream", "< verbose verbose stream", "< error error stream", "< output output stream", "< warning warning stream",
		"< information information stream", "< progress Preparing modules for first use.", "< completed",
	},
	"test_psrp_with_input":                   {"> input 1", "> input 2", "> input a b", "> psrp.InputEnded", "< output a b", "< completed"},
	"test_psrp_set_runspaces":                {"> max 5", "< runspaces 1", "< runspaces true", "< runspaces 5", "> min 2", "< runspaces false"},
	"test_psrp_reset_runspace_state":         {"> reset 0", "< runspaces true"},
	"test_psrp_disconnect_runspaces":         {"< pool opened"},
	"test_psrp_pshost_raw_ui_mocked_methods": {"< host SetWindowTitle"},
}
