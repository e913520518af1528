package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"runner/engine"
	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/journal"
	"runner/engine/lang"
	"runner/engine/transport"
)

// Exit codes are a contract: README.md tells them. 2 is never ours, a Go
// program that panics exits with it.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 3
	exitFile        = 4
	exitDenied      = 5
	exitApproval    = 6
	exitUnreached   = 7
	exitUndone      = 8
	exitLeft        = 9
	exitFuse        = 10
	exitInterrupted = 130
)

// exitMeanings is the table that help prints.
var exitMeanings = []struct {
	code    int
	meaning string
}{
	{exitDone, "done"},
	{exitFailed, "failed"},
	{exitUsage, "wrong usage, or something is asked for that cannot be"},
	{exitFile, "a file is wrong"},
	{exitDenied, "denied"},
	{exitApproval, "waiting for approval"},
	{exitUnreached, "the device was not reached, nothing was changed"},
	{exitUndone, "a step failed and was undone"},
	{exitLeft, "something is left behind, clean-up continues"},
	{exitFuse, "the fuse stopped a rebuild"},
	{exitInterrupted, "interrupted"},
}

// codeError ends the program with a code of its own. Hints follow the message,
// each on a line; without err the message was given already.
type codeError struct {
	code  int
	err   error
	hints []string
}

func (e *codeError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *codeError) Unwrap() error { return e.err }

// exitWith ends the program with a code after everything was said.
func exitWith(code int) error { return &codeError{code: code} }

// usageError says that a command was called in a way that it cannot be.
type usageError struct {
	reason string
	path   string // of the command, for the hint
}

func (e *usageError) Error() string { return e.reason }

func usagef(format string, args ...any) error {
	return &usageError{reason: fmt.Sprintf(format, args...)}
}

// codeOf is the one place that turns errors into exit codes.
func codeOf(err error) int {
	if err == nil {
		return exitDone
	}
	if e, is := errors.AsType[*codeError](err); is {
		return e.code
	}
	if _, is := errors.AsType[lang.Problems](err); is {
		return exitFile
	}
	if _, is := errors.AsType[*engine.DeniedError](err); is {
		return exitDenied
	}
	if _, is := errors.AsType[*engine.FuseError](err); is {
		return exitFuse
	}
	if isUsage(err) {
		return exitUsage
	}
	if _, is := errors.AsType[*executor.StepError](err); is {
		return exitFailed
	}
	if e, is := errors.AsType[*transport.Error](err); is {
		if e.SafeToRetry && !errors.Is(err, context.Canceled) {
			return exitUnreached
		}
		return exitFailed
	}
	return exitFailed
}

// isUsage reports errors that are about what was typed.
func isUsage(err error) bool {
	if _, is := errors.AsType[*usageError](err); is {
		return true
	}
	if _, is := errors.AsType[*engine.InputError](err); is {
		return true
	}
	if _, is := errors.AsType[*grant.AmbiguousError](err); is {
		return true
	}
	return errors.Is(err, grant.ErrNotFound)
}

// report says what went wrong and returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return exitDone
	}
	code := codeOf(err)
	if ce, is := errors.AsType[*codeError](err); is {
		if ce.err != nil {
			a.say("%s", problem(ce.err))
		}
		for _, h := range ce.hints {
			a.hint("%s", h)
		}
		return code
	}
	if ctx.Err() != nil && code == exitFailed {
		a.say("interrupted")
		return exitInterrupted
	}
	if ps, is := errors.AsType[lang.Problems](err); is {
		a.problems(ps)
		return code
	}
	a.say("%s", problem(err))
	a.advise(err)
	return code
}

// advise adds what a person can do about an error.
func (a *app) advise(err error) {
	if e, is := errors.AsType[*usageError](err); is && e.path != "" {
		a.hint("%s --help", e.path)
	}
	if e, is := errors.AsType[*transport.Error](err); is && e.Hint != "" {
		a.hint("%s", e.Hint)
	}
	if e, is := errors.AsType[*engine.DeniedError](err); is && e.Existing != nil {
		if e.Existing.State == grant.Active {
			a.hint("runner grant extend %s --for 1h makes it longer, runner grant end %s ends it", e.Existing.ID, e.Existing.ID)
		} else {
			a.hint("runner grant show %s says what happens to it next", e.Existing.ID)
		}
	}
	if e, is := errors.AsType[*engine.FuseError](err); is {
		a.hint("look at the list; --yes-remove %d says that all of it is to go when its time is over", e.Count)
	}
	if errors.Is(err, grant.ErrNotFound) {
		a.hint("ids of grants start with g-, of jobs with j-, of executions with x-; the lists show them")
	}
	if errors.Is(err, grant.ErrStoreGone) {
		a.hint("runner restore FILE brings a backup back; runner device scan finds the accounts that no store knows")
	}
	if errors.Is(err, grant.ErrNewerSchema) {
		a.hint("use the newer runner, or restore the store from a backup")
	}
}

// problem is the text of an error as a terminal may show it.
func problem(err error) string {
	return strings.TrimRight(string(journal.Clean([]byte(err.Error()), false)), "\n")
}

// problems shows what is wrong with files, each with file, line and column at
// the start of its line, and counts.
func (a *app) problems(ps lang.Problems) {
	_, _ = fmt.Fprintln(a.stderr, problem(ps))
	a.say("%s", counted(ps))
}

// counted says how many problems and warnings there are, and in how many files.
func counted(ps lang.Problems) string {
	files := map[string]bool{}
	for _, p := range ps {
		files[p.Pos.File] = true
	}
	errs, warnings := ps.Split()
	what := plural(len(errs), "problem")
	switch {
	case len(errs) == 0:
		what = plural(len(warnings), "warning")
	case len(warnings) > 0:
		what += " and " + plural(len(warnings), "warning")
	}
	return what + " in " + plural(len(files), "file")
}

// plural counts things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
