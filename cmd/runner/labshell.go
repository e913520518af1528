package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"runner/engine/lab"
	"runner/engine/lang"
)

func (a *app) labShell() *cobra.Command {
	var c *cobra.Command
	c = leaf{
		use: "shell [NAME] [-- COMMAND [ARG]...]", short: "look around inside a throw-away machine, as root",
		example: `runner lab shell web
runner lab shell web -- getent passwd ana
runner lab shell -- cat /etc/group > group`,
		long: `A login shell, or COMMAND, inside the machine: its files, its processes, its host name.
It does not come in through sshd, so it also works when that does not. Without NAME it
is the only machine of the workspace, or of this host. On a terminal the program gets a terminal of the
machine; otherwise the streams are passed on as they are. The exit status is that of
the program.`,
		args: func(*cobra.Command, []string) error { return nil }, exits: []int{exitInterrupted},
		run: func(ctx context.Context, args []string) error {
			dash := c.ArgsLenAtDash()
			if dash < 0 {
				dash = len(args)
			}
			if dash > 1 {
				return usagef("%s takes one machine; a command follows after --: runner lab shell %s -- %s", c.CommandPath(), args[0], args[1])
			}
			m, err := a.machineNamed(args[:dash])
			if err != nil {
				return err
			}
			return a.attach(ctx, m, args[dash:])
		},
	}.command()
	return c
}

// machineNamed returns a machine that runs: the one that is named, or else the
// only one of the workspace, or of this host.
func (a *app) machineNamed(name []string) (*lab.Machine, error) {
	dirs, err := a.labDirs("")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, parent := range dirs {
		entries, err := os.ReadDir(parent)
		if os.IsPermission(err) {
			return nil, usagef("throw-away machines are root's: %v", err)
		}
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		var here []*lab.Machine
		for _, e := range entries {
			m, err := lab.Load(filepath.Join(parent, e.Name()))
			if len(name) > 0 && e.Name() == name[0] {
				if errors.Is(err, lab.ErrNotRunning) {
					return nil, usagef("machine %s has ended; runner lab down %s tidies up, runner lab up %s starts it anew", name[0], name[0], name[0])
				}
				return m, err
			}
			if err == nil {
				names, here = append(names, e.Name()), append(here, m)
			}
		}
		if len(name) == 0 && len(here) == 1 {
			return here[0], nil
		}
	}
	switch {
	case len(names) == 0:
		return nil, usagef("no machine runs; runner lab up NAME starts one")
	case len(name) > 0:
		return nil, unknownName("machine", name[0], names)
	}
	return nil, usagef("%s run; say which: %s", plural(len(names), "machine"), lang.Words(names))
}

// attach runs a program in a machine with the streams of this process.
func (a *app) attach(ctx context.Context, m *lab.Machine, argv []string) error {
	s := lab.Session{Argv: argv, Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr, Term: a.env("TERM")}
	if in, is := a.stdin.(*os.File); is && term.IsTerminal(int(in.Fd())) && a.outTTY {
		out, _ := a.stdout.(*os.File)
		restore, err := raw(in)
		if err != nil {
			return err
		}
		defer restore()
		s.Size = func() (cols, rows int) {
			if out == nil {
				return 0, 0
			}
			cols, rows, _ = term.GetSize(int(out.Fd())) // unknown is 0
			return cols, rows
		}
	}
	if s.Stdin == nil {
		s.Stdin = io.MultiReader() // nothing
	}
	code, err := m.Attach(ctx, s)
	if err != nil {
		return err
	}
	if code != 0 {
		return exitWith(code)
	}
	return nil
}

// raw has a terminal pass on every key, until the returned function is called.
func raw(f *os.File) (restore func(), err error) {
	was, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	return func() { _ = term.Restore(int(f.Fd()), was) }, nil
}
