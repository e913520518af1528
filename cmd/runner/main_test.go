package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"runner/engine/lab"
	"runner/engine/store/pgtest"
)

func TestMain(m *testing.M) {
	testscript.Main(withDatabases{m}, map[string]func(){"runner": main})
}

// withDatabases ends what tests of this process started beside it.
type withDatabases struct{ tests testscript.TestingM }

func (m withDatabases) Run() int {
	code := m.tests.Run()
	if err := pgtest.Close(); err != nil {
		panic(err)
	}
	return code
}

// The command line; what needs a device starts one with machine.
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("..", "..", "testdata", "script"),
		UpdateScripts:       os.Getenv("UPDATE") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setupScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"expand":   expand,
			"machine":  machine,
			"database": emptyDatabase,
			"inside":   inside,
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
	env.Values[machines{}] = map[string]*lab.Machine{}
	env.Defer(func() { // what a script that failed did not end
		dirs, _ := filepath.Glob(filepath.Join(env.WorkDir, "*", "state", "lab", "*"))
		for _, d := range dirs {
			_ = lab.Down(context.Background(), d)
		}
	})
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

// machines is the key of the machines of a script.
type machines struct{}

// machine NAME FILE: start a throw-away machine that ends with the script, and
// write its inventory, device and credential. $KEY is the key of its accounts.
func machine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: machine NAME FILE")
	}
	m, err := lab.Start(context.Background(), lab.Config{Name: args[0]})
	ts.Check(err)
	ts.Defer(func() {
		if err := m.Stop(); err != nil {
			ts.Logf("machine %s: %v", args[0], err)
		}
	})
	ts.Value(machines{}).(map[string]*lab.Machine)[args[0]] = m
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(labYAML(m)), 0o600))
	ts.Setenv("KEY", m.KeyFile())
}

// database NAME: set $NAME to the URL of an empty database.
func emptyDatabase(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: database NAME")
	}
	ts.Setenv(args[0], pgtest.Database(scriptTB{ts}))
}

// scriptTB is a script as pgtest sees it.
type scriptTB struct{ ts *testscript.TestScript }

func (s scriptTB) Helper()                  {}
func (s scriptTB) Fatal(args ...any)        { s.ts.Fatalf("%s", fmt.Sprint(args...)) }
func (s scriptTB) Context() context.Context { return context.Background() }

// inside NAME WANT SCRIPT: run a script in a machine; its output has to match
// the pattern WANT, or with ! must not.
func inside(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: [!] inside NAME PATTERN SCRIPT")
	}
	out, err := ts.Value(machines{}).(map[string]*lab.Machine)[args[0]].Shell(context.Background(), args[2])
	ts.Check(err)
	ts.Logf("%s", out)
	if regexp.MustCompile("(?m)"+args[1]).MatchString(out) == neg {
		ts.Fatalf("the output matches %q: %v", args[1], neg)
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
