package winrm

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"

	"runner/engine/secret"
	"runner/engine/transport"
	"runner/engine/transport/winrm/clixml"
	"runner/engine/transport/winrm/cmdshell"
	"runner/engine/transport/winrm/psrp"
)

// Words of Config.Shell.
const (
	ShellPSRP = "psrp"
	ShellCmd  = "cmd"
)

// Programs is a Device that has a cmd shell.
type Programs interface {
	OpenCmd(ctx context.Context) (*cmdshell.Shell, error)
}

//go:embed cmd.ps1
var cmdSource string

// cmdLine starts PowerShell in a cmd shell; it is the same for every batch.
func cmdLine() string {
	var b []byte
	for _, u := range utf16.Encode([]rune(compact(cmdSource))) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return "powershell.exe -NoLogo -NoProfile -NonInteractive -InputFormat Text -OutputFormat Text -EncodedCommand " + base64.StdEncoding.EncodeToString(b)
}

// cmdConn is a Conn over the cmd shell: a batch is one program.
type cmdConn struct {
	d      *Dialer
	cfg    Config
	device Programs
	shell  *cmdshell.Shell // nil after a batch that did not come to its end
	peer   transport.Peer
	closed bool
}

// dialCmd opens a cmd shell.
func (d *Dialer) dialCmd(ctx context.Context, cfg Config) (transport.Conn, error) {
	device, ok := cfg.Device.(Programs)
	if !ok {
		return nil, cfg.fail(transport.PhaseShell, "shell.no_cmd", errors.New("this device has no cmd shell"), "")
	}
	d.mu.Lock()
	closed := d.closed
	d.mu.Unlock()
	if closed {
		return nil, cfg.fail(transport.PhaseDial, "closed", errors.New("the dialer is closed"), "")
	}
	conn := &cmdConn{d: d, cfg: cfg, device: device}
	if err := conn.open(ctx); err != nil {
		_ = conn.Close() //nolint:contextcheck // what waits for the device does not wait for ctx
		return nil, err
	}
	return conn, nil
}

// open makes a shell when there is none.
func (c *cmdConn) open(ctx context.Context) error {
	if c.shell != nil {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout)
	defer cancel()
	s, err := c.device.OpenCmd(limited)
	if err != nil {
		if ctx.Err() != nil {
			return c.cfg.fail(transport.PhaseDial, "cancelled", ctx.Err(), "")
		}
		return c.cfg.opening(err)
	}
	c.shell, c.peer = s, c.cfg.Device.Peer()
	return nil
}

// Peer says who answered.
func (c *cmdConn) Peer() transport.Peer { return c.peer }

// Close has the shell deleted; who closes the Dialer waits for that.
func (c *cmdConn) Close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	shell, device := c.shell, c.cfg.Device
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	c.d.wg.Go(func() {
		if shell != nil {
			_ = shell.Close(context.Background()) // at most its grace; the host ends what is idle
		}
		device.Release()
	})
	return nil
}

// Run sends a batch and delivers its events.
func (c *cmdConn) Run(ctx context.Context, b transport.Batch, sink transport.Sink) error {
	return c.cfg.send(ctx, b, c.closed, c.open, func(mark string, p psrp.Pipeline) error { return c.exec(ctx, b, mark, input(p), sink) })
}

// exec runs the program of a batch and reads its events.
func (c *cmdConn) exec(ctx context.Context, b transport.Batch, mark string, stdin []byte, sink transport.Sink) error {
	live, end := context.WithCancelCause(ctx)
	defer end(nil)
	r := newReader(b, mark, c.cfg, sink, end)
	defer r.stop()
	l := &lines{r: r, mark: "#" + mark + " "}
	code, err := c.shell.Run(live, cmdLine(), stdin, l.take)
	r.stop()
	if err == nil {
		if err = r.complete(); err == nil {
			return nil
		}
		return c.cfg.lost(r, "exec.framing", fmt.Errorf("%w; PowerShell ended with %d%s", err, code, l.said()))
	}
	c.shell = nil // whatever it was, the next batch has a shell of its own
	cause := context.Cause(live)
	confirmed := !errors.Is(err, cmdshell.ErrUnconfirmed)
	switch {
	case ctx.Err() != nil:
		te := c.cfg.lost(r, "cancelled", fmt.Errorf("%w%s", ctx.Err(), unconfirmed(confirmed)))
		te.Stopped = confirmed
		return te
	case cause != nil && confirmed && r.cut(cause):
		return nil
	case cause != nil && !confirmed:
		return c.cfg.lost(r, "exec.not_stopped", err)
	case cause != nil:
		return c.cfg.lost(r, cutCode(cause), cause)
	}
	if te, is := errors.AsType[*transport.Error](err); is && te.SafeToRetry {
		return te
	}
	return c.cfg.lost(r, "exec.lost", err)
}

// input is what the program reads: the script and the values, a line each.
func input(p psrp.Pipeline) []byte {
	var b bytes.Buffer
	line := func(kind, text string) { b.WriteString(kind + text + "\n") }
	base := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	line("", base(p.Commands[0].Text))
	values, _ := clixml.Items(p.Commands[0].Parameters[0].Value)
	for _, v := range values {
		switch v := v.(type) {
		case bool:
			line("b", map[bool]string{true: "1", false: "0"}[v])
		case int64:
			line("i", strconv.FormatInt(v, 10))
		case secret.Value:
			line("s", base(v.Reveal()))
		case []string:
			if len(v) == 0 {
				line("n", "")
				continue
			}
			parts := make([]string, len(v))
			for i, s := range v {
				parts[i] = base(s)
			}
			line("l", strings.Join(parts, ","))
		default:
			line("t", base(transport.Text(v)))
		}
	}
	return b.Bytes()
}

// maxLine bounds a line of output.
const maxLine = 4 << 20

// lines turns the output of a program into events.
type lines struct {
	r    *reader
	mark string
	rest []byte // of standard output, up to the next line
	errs []byte // the end of the error output
}

// take handles output.
func (l *lines) take(stream transport.Stream, b []byte) {
	if l.r.bad != nil {
		return
	}
	if stream == transport.Stderr {
		l.errs = append(l.errs, b...)
		l.errs = l.errs[max(0, len(l.errs)-2000):]
		l.r.text(transport.Stderr, string(b))
		return
	}
	l.rest = append(l.rest, b...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			if len(l.rest) > maxLine {
				l.r.fail("a line without an end")
			}
			return
		}
		l.rest = rest
		l.line(string(line))
	}
}

// said is what went wrong in the words of the host, for an error.
func (l *lines) said() string {
	if s := clean(string(l.errs), 400); s != "" {
		return ": " + s
	}
	return ""
}

// line handles a line of output: an event, or what a program wrote past PowerShell.
func (l *lines) line(s string) {
	words, ours := strings.CutPrefix(strings.TrimRight(s, "\r"), l.mark)
	if !ours {
		l.r.text(transport.Stdout, s+"\n")
		return
	}
	var d clixml.Dict
	for word := range strings.FieldsSeq(words) {
		key, v, err := value(word)
		if err != nil {
			l.r.fail("an event that cannot be read")
			return
		}
		d = append(d, clixml.Entry{Key: key, Value: v})
	}
	switch {
	case len(d) == 1 && d[0].Key == "o":
		l.r.text(transport.Stdout, clixml.Text(d[0].Value)+"\n")
	case len(d) == 1 && d[0].Key == "w":
		l.r.text(transport.Stderr, clixml.Text(d[0].Value)+"\n")
	default:
		l.r.event(d)
	}
}

// value reads key=TYPEtext.
func value(word string) (key string, v any, err error) {
	key, text, ok := strings.Cut(word, "=")
	if !ok || text == "" {
		return "", nil, errFrames
	}
	switch kind, text := text[0], text[1:]; kind {
	case 'b':
		return key, text == "1", nil
	case 'i':
		v, err = strconv.ParseInt(text, 10, 64)
		return key, v, err
	case 't':
		var b []byte
		b, err = base64.StdEncoding.DecodeString(text)
		return key, string(b), err
	}
	return "", nil, errFrames
}
