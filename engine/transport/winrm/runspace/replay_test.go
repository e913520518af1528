package runspace_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"

	"runner/engine/transport/winrm/clixml"
	"runner/engine/transport/winrm/psrp"
	"runner/engine/transport/winrm/runspace"
	"runner/engine/transport/winrm/winrmtest/recordings"
)

// recorded is a Shell that answers as a Windows host answered another client:
// what was asked for and to whom chooses the answer, not how it was asked.
type recorded struct {
	mu       sync.Mutex
	queues   map[string][]runspace.Received // by recorded command, "" for the shell
	commands []clixml.GUID                  // as recorded, in order
	pool     clixml.GUID
	live     map[clixml.GUID]clixml.GUID // recorded to live
	byLive   map[string]string           // live command to recorded
	calls    []string
}

var (
	action     = regexp.MustCompile(`Action[^>]*>\s*[^<\s]*/(\w+)\s*<`)
	commandID  = regexp.MustCompile(`CommandId="([^"]+)"`)
	answerID   = regexp.MustCompile(`<rsp:CommandId>([^<]+)<`)
	shellXML   = regexp.MustCompile(`creationXml[^>]*>([A-Za-z0-9+/=\s]+)<`)
	streamText = regexp.MustCompile(`<rsp:Stream\b[^>]*>([A-Za-z0-9+/=\s]+)<`)
	done       = "CommandState/Done"
)

func unbase(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// load reads a recording.
func load(t *testing.T, name string) *recorded {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(recordings.Folder(t), "pypsrp", name+".yml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Messages []struct{ Request, Response string }
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	r := &recorded{queues: map[string][]runspace.Received{}, live: map[clixml.GUID]clixml.GUID{}, byLive: map[string]string{}}
	for _, m := range file.Messages {
		command := ""
		if id := commandID.FindStringSubmatch(m.Request); id != nil {
			command = strings.ToUpper(id[1])
		}
		switch action.FindStringSubmatch(m.Request)[1] {
		case "Create":
			if r.pool, _, err = psrp.ID(unbase(t, shellXML.FindStringSubmatch(m.Request)[1])); err != nil {
				t.Fatal(err)
			}
		case "Command":
			id, err := clixml.ParseGUID(strings.TrimSpace(answerID.FindStringSubmatch(m.Response)[1]))
			if err != nil {
				t.Fatal(err)
			}
			r.commands = append(r.commands, id)
		case "Receive":
			got := runspace.Received{Done: strings.Contains(m.Response, done)}
			for _, s := range streamText.FindAllStringSubmatch(m.Response, -1) {
				got.Data = append(got.Data, unbase(t, s[1])...)
			}
			r.queues[command] = append(r.queues[command], got)
		}
	}
	return r
}

func (r *recorded) note(call string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call)
}

// Open is the Opener: the shell is the recorder itself.
func (r *recorded) Open(_ context.Context, id string, _ []byte) (runspace.Shell, error) {
	live, err := clixml.ParseGUID(id)
	r.live[r.pool] = live
	return r, err
}

func (r *recorded) Command(_ context.Context, id string, _ []byte) error {
	r.note("Command")
	live, err := clixml.ParseGUID(id)
	if err != nil || len(r.commands) == 0 {
		return errors.Join(err, errors.New("no more commands were recorded"))
	}
	r.live[r.commands[0]], r.byLive[id] = live, r.commands[0].String()
	r.commands = r.commands[1:]
	return nil
}

func (r *recorded) Send(_ context.Context, _, stream string, _ []byte) error {
	r.note("Send " + stream)
	return nil
}

// mixed is the byte order of GUIDs in messages.
func mixed(g clixml.GUID) []byte {
	return []byte{g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]}
}

func (r *recorded) Receive(_ context.Context, id string) (runspace.Received, error) {
	r.note("Receive")
	q := r.queues[r.byLive[id]]
	if len(q) == 0 {
		return runspace.Received{}, errors.New("nothing more was recorded")
	}
	r.queues[r.byLive[id]] = q[1:]
	got := q[0]
	for was, is := range r.live { // the client of then wrote the ids of pipelines as they stand
		got.Data = bytes.ReplaceAll(bytes.ReplaceAll(got.Data, mixed(was), mixed(is)), was[:], mixed(is))
	}
	return got, nil
}

func (r *recorded) Signal(_ context.Context, _, signal string) error {
	r.note("Signal " + signal[strings.LastIndexByte(signal, '/')+1:])
	return nil
}

func (r *recorded) Close(context.Context) error { return nil }

// The whole way over what Windows Server 2016 and 2019 said: opening, in pieces
// as they came, one or more pipelines, and their ends.
func TestRecordingsOfWindows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		input []any
		runs  []string // what each pipeline says; "!" begins its error
	}{
		"test_psrp_stream_no_output_invocation": {nil, []string{
			"progress Preparing modules for first use.; debug debug stream; verbose verbose stream; error error stream; output output stream; warning warning stream; information information stream",
		}},
		"test_psrp_error_failed":         {nil, []string{"progress Preparing modules for first use.; output before!error"}},
		"test_psrp_with_input":           {[]any{"1"}, []string{"progress Preparing modules for first use.; debug Start Block; output 1; output 2; output System.Collections.Hashtable; output a b; debug End Block"}},
		"test_psrp_reset_runspace_state": {nil, []string{"progress Preparing modules for first use.; output hi", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := load(t, name)
			p, err := runspace.Open(t.Context(), r, runspace.Config{})
			if err != nil {
				t.Fatal(err)
			}
			if v := p.Server("PSVersion"); !strings.HasPrefix(v, "5.1.") {
				t.Errorf("PowerShell is %q", v)
			}
			for _, want := range c.runs {
				pl := script("x")
				pl.Input = c.input != nil
				got, err := run(t.Context(), p, pl, c.input...)
				if e, is := errors.AsType[*runspace.Error](err); is {
					got, err = got+"!"+e.Error(), nil
				}
				if err != nil || got != want {
					t.Errorf("a pipeline says %q, %v\nwant %q", got, err, want)
				}
			}
			if err := p.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			ends := 0
			for _, call := range r.calls {
				if call == "Signal terminate" {
					ends++
				}
			}
			if ends != len(c.runs) {
				t.Errorf("%d pipelines were released of %d: %v", ends, len(c.runs), r.calls)
			}
		})
	}
}
