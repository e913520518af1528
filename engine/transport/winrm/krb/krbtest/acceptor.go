package krbtest

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

//go:embed acceptor.py
var acceptor string

// Acceptor is the host's side of one connection, by MIT Kerberos through Debian's
// python3-gssapi.
type Acceptor struct {
	tb  testing.TB
	in  io.WriteCloser
	out *bufio.Reader
}

// StartAcceptor starts a host with the keys of a keytab file, which ends with the test.
// env is that of MIT's programs. binding is the channel binding that it expects; nil:
// none.
func StartAcceptor(tb testing.TB, env []string, keytab string, binding []byte) *Acceptor {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), "/usr/bin/python3", "-c", acceptor, hex.EncodeToString(binding))
	cmd.Env = slices.Concat(env, []string{"KRB5_KTNAME=FILE:" + keytab})
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // killed, as its context ended before
		if tb.Failed() && stderr.Len() > 0 {
			tb.Logf("acceptor: %s", stderr.String())
		}
	})
	return &Acceptor{tb: tb, in: in, out: bufio.NewReader(out)}
}

// Ask has one thing done and returns the words of the answer: step TOKEN gives a token,
// whether it is over (1), who the client is and the flags, or the token, 0 and why not;
// unwrap TOKEN gives the text, its filler and its rotation; wrap TEXT gives a token; seal
// TEXT gives header and body. The error is what MIT says.
func (a *Acceptor) Ask(verb string, data []byte) ([]string, error) {
	a.tb.Helper()
	if _, err := fmt.Fprintf(a.in, "%s %x\n", verb, data); err != nil {
		a.tb.Fatal(err)
	}
	line, err := a.out.ReadString('\n')
	if err != nil {
		a.tb.Fatalf("%s: the acceptor ended: %v", verb, err)
	}
	state, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	if state != "ok" {
		return nil, fmt.Errorf("MIT: %s", rest)
	}
	return strings.Fields(rest), nil
}
