package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"runner": main})
}

// The command line, for everything that needs no device.
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("..", "..", "testdata", "script"),
		UpdateScripts:       os.Getenv("UPDATE") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setupScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"expand": expand,
		},
	})
}

// setupScript gives a script its own runtime environment and the number of a
// port at which nobody listens.
func setupScript(env *testscript.Env) error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return err
	}
	env.Setenv("CLOSED", port)
	return l.Close()
}

// exits CODE PROGRAM [ARG]...: run it, and expect this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG]...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, is := errors.AsType[*exec.ExitError](err)
		if !is {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code is %d, want %d", got, want)
	}
}

// expand FILE: replace $NAME in a file by the value of the variable.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: expand FILE")
	}
	path := ts.MkAbs(args[0])
	text := os.Expand(ts.ReadFile(args[0]), func(name string) string {
		v := ts.Getenv(name)
		if v == "" {
			ts.Fatalf("%s: $%s is not set", args[0], name)
		}
		return v
	})
	ts.Check(os.WriteFile(path, []byte(text), 0o600))
}

// tempProcess is a process whose streams are buffers.
func tempProcess(t *testing.T) (process, *streams) {
	t.Helper()
	s := &streams{}
	p := thisProcess()
	p.stdin, p.stdout, p.stderr, p.outTTY, p.errTTY = nil, &s.out, &s.err, false, false
	p.env = func(string) string { return "" }
	return p, s
}

// streams is what a program wrote.
type streams struct{ out, err syncBuffer }

func (s *streams) String() string {
	return fmt.Sprintf("stdout:\n%s\nstderr:\n%s", s.out.String(), s.err.String())
}
