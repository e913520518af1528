package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// help returns the help of a command: what it is for, examples, then the rest.
func help(c *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", c.CommandPath(), c.Short)
	if c.Example != "" {
		b.WriteString("\nExamples:\n" + indent(c.Example))
	}
	b.WriteString("\nUsage:\n  " + usageLine(c) + "\n")
	if c.Long != "" {
		b.WriteString("\n" + strings.TrimSpace(c.Long) + "\n")
	}
	if names := verbs(c); len(names) > 0 {
		b.WriteString("\nCommands:\n")
		for _, s := range c.Commands() {
			if !s.Hidden {
				fmt.Fprintf(&b, "  %-12s %s\n", s.Name(), s.Short)
			}
		}
	}
	if f := c.LocalFlags().FlagUsages(); f != "" && c.HasParent() {
		b.WriteString("\nFlags:\n" + f)
	}
	if f := c.Root().PersistentFlags().FlagUsages(); f != "" {
		b.WriteString("\nFlags of every command:\n" + f)
	}
	b.WriteString("\nExit codes:\n" + exitTable(exitsOf(c)))
	return b.String()
}

func usageLine(c *cobra.Command) string {
	use := c.CommandPath()
	if _, rest, found := strings.Cut(c.Use, " "); found {
		use += " " + rest
	}
	if c.HasAvailableSubCommands() {
		return use + " COMMAND"
	}
	if c.HasAvailableLocalFlags() {
		use += " [flags]"
	}
	return use
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(text) + "\n") {
		b.WriteString("  " + line)
	}
	return b.String()
}

// exitsOf returns the exit codes of a command; nil: all of them.
func exitsOf(c *cobra.Command) []int {
	s, known := c.Annotations[exitsKey]
	if !known {
		return nil
	}
	codes := []int{exitDone, exitFailed, exitUsage}
	for f := range strings.FieldsSeq(s) {
		if n, err := strconv.Atoi(f); err == nil {
			codes = append(codes, n)
		}
	}
	return codes
}

// exitTable returns the lines of the exit codes; nil: of all.
func exitTable(codes []int) string {
	var b strings.Builder
	for _, e := range exitMeanings {
		if codes == nil || slices.Contains(codes, e.code) {
			fmt.Fprintf(&b, "  %3d  %s\n", e.code, e.meaning)
		}
	}
	return b.String()
}

func (a *app) helpCommand() *cobra.Command {
	var c *cobra.Command
	c = leaf{
		use: "help [COMMAND]...", short: "help for a command, or for exit-codes",
		example: "runner help grant request\nrunner help exit-codes",
		args:    cobra.ArbitraryArgs,
		run: func(_ context.Context, args []string) error {
			if len(args) == 1 && args[0] == "exit-codes" {
				_, err := io.WriteString(a.stdout, exitTable(nil))
				return err
			}
			found, rest, err := c.Root().Find(args)
			if err != nil || found == nil || len(rest) > 0 {
				return usagef("there is no command %q", strings.Join(append([]string{"runner"}, args...), " "))
			}
			_, err = io.WriteString(a.stdout, help(found))
			return err
		},
	}.command()
	return c
}

func (a *app) completionCommand() *cobra.Command {
	var c *cobra.Command
	c = leaf{
		use: "completion SHELL", short: "print the completion script for bash, zsh, fish or powershell",
		example: "runner completion bash > /etc/bash_completion.d/runner\nrunner completion zsh > \"${fpath[1]}/_runner\"",
		args:    needs("SHELL"),
		run: func(_ context.Context, args []string) error {
			switch root := c.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.stdout)
			case "fish":
				return root.GenFishCompletion(a.stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.stdout)
			}
			return usagef("no completion for shell %q: there is bash, zsh, fish and powershell", args[0])
		},
	}.command()
	return c
}
