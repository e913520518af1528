package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"runner/engine/lang"
)

// run is the program: a function of its arguments and its process.
func run(args []string, p process) int {
	if p.env("GOGC") == "" {
		// A command is over before a collection pays: the first comes at 16 MiB.
		debug.SetGCPercent(400)
	}
	ctx, stop := untilSignal()
	defer stop()
	return runUntil(ctx, args, p)
}

// runUntil is run until ctx ends, which stands for a request to stop.
func runUntil(ctx context.Context, args []string, p process) int {
	a := newApp(p)   //nolint:contextcheck // what it opens is open until close
	root := a.root() //nolint:contextcheck // commands get ctx when they run
	root.SetArgs(longFlags(root, args))
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	return a.report(ctx, errors.Join(err, a.close())) //nolint:contextcheck // closing is not interrupted
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "runner",
		Short: "give people privileged access for a while, and take it away again",
		Example: `runner init demo && cd demo
runner grant request web-admin --for 1h --reason "INC-42"
runner sweep`,
		Args:              cobra.ArbitraryArgs,
		RunE:              a.verbless,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.checkFlags() },
		SilenceErrors:     true,
		SilenceUsage:      true,
	}
	fs := root.PersistentFlags()
	fs.StringVar(&a.flags.workspace, "workspace", "", "folder of the workspace (default: $RUNNER_WORKSPACE, else the nearest folder upwards with a runner.yaml)")
	fs.StringVarP(&a.flags.output, "output", "o", outTable, "what is printed: table, json or yaml")
	fs.BoolVarP(&a.flags.verbose, "verbose", "v", false, "say more about what happens")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &usageError{reason: err.Error(), path: c.CommandPath()}
	})
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { _, _ = io.WriteString(a.stdout, help(c)) })
	root.SetUsageFunc(func(c *cobra.Command) error { _, err := io.WriteString(a.stderr, help(c)); return err })
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(a.helpCommand())
	root.AddCommand(a.grantCommand(), a.jobCommand(), a.executionCommand(), a.templateCommand(), a.inventoryCommand(),
		a.deviceCommand(), a.credentialCommand(), a.launchCommand(), a.sessionCommand(), a.sweepCommand(), a.serveCommand(), a.statusCommand(), a.initCommand(), a.importCommand(), a.backupCommand(), a.restoreCommand(), a.labCommand(),
		a.versionCommand(), a.completionCommand())
	return root
}

// exitsKey annotates a command with the exit codes it uses besides 0, 1 and 3.
const exitsKey = "exits"

// leaf is a command that does something.
type leaf struct {
	use, short, long, example string
	args                      cobra.PositionalArgs
	exits                     []int // besides 0, 1 and 3
	run                       func(ctx context.Context, args []string) error
}

func (l leaf) command() *cobra.Command {
	c := &cobra.Command{Use: l.use, Short: l.short, Long: l.long, Example: l.example, DisableFlagsInUseLine: true, Args: l.args}
	if c.Args == nil {
		c.Args = noArgs
	}
	c.Annotations = map[string]string{exitsKey: strings.Trim(fmt.Sprint(l.exits), "[]")}
	c.RunE = func(c *cobra.Command, args []string) error {
		err := l.run(c.Context(), args)
		if e, is := errors.AsType[*usageError](err); is && e.path == "" {
			e.path = c.CommandPath()
		}
		return err
	}
	return c
}

// noun is a command that only has commands below it.
func (a *app) noun(name, short, example string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: name, Short: short, Example: example, Args: cobra.ArbitraryArgs, RunE: a.verbless}
	c.AddCommand(verbs...)
	return c
}

// verbless runs when a command was named that only has commands below it.
func (a *app) verbless(c *cobra.Command, args []string) error {
	if len(args) == 0 && !c.HasParent() {
		_, err := io.WriteString(a.stdout, help(c))
		return err
	}
	names := verbs(c)
	if len(args) == 0 {
		return &usageError{reason: fmt.Sprintf("%s needs a command: %s", c.CommandPath(), lang.Words(names)), path: c.CommandPath()}
	}
	reason := fmt.Sprintf("%s has no command %q", c.CommandPath(), args[0])
	if near := lang.Similar(args[0], names); near != "" {
		reason += fmt.Sprintf("; did you mean %q?", near)
	} else {
		reason += "; there is " + lang.Words(names)
	}
	return &usageError{reason: reason, path: c.CommandPath()}
}

// verbs returns the names of the commands below c.
func verbs(c *cobra.Command) []string {
	var names []string
	for _, s := range c.Commands() {
		if !s.Hidden {
			names = append(names, s.Name())
		}
	}
	slices.Sort(names)
	return names
}

// noArgs refuses arguments.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &usageError{reason: fmt.Sprintf("%s takes no argument, but there is %q", c.CommandPath(), args[0]), path: c.CommandPath()}
	}
	return nil
}

// needs wants exactly the named arguments.
func needs(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return &usageError{reason: fmt.Sprintf("%s needs %s", c.CommandPath(), strings.Join(names[len(args):], " and ")), path: c.CommandPath()}
		case len(args) > len(names):
			return &usageError{reason: fmt.Sprintf("%s takes only %s, but there is %q too", c.CommandPath(), strings.Join(names, " and "), args[len(names)]), path: c.CommandPath()}
		}
		return nil
	}
}
