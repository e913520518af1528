package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/term"
)

// process is everything that the program takes from the process it runs in.
type process struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	outTTY, errTTY bool                // the stream is a terminal
	env            func(string) string // value of a variable, or ""
	now            func() time.Time
	caller         func() (string, error) // name of the user who runs it
}

func thisProcess() process {
	return process{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		outTTY: term.IsTerminal(int(os.Stdout.Fd())), errTTY: term.IsTerminal(int(os.Stderr.Fd())),
		env: os.Getenv, now: time.Now, caller: effectiveUser,
	}
}

// effectiveUser returns the name that the user database has for the effective
// uid. What the environment says about it does not count.
func effectiveUser() (string, error) {
	uid := os.Geteuid()
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return "", fmt.Errorf("uid %d has no name in this machine's user database: %w", uid, err)
	}
	return u.Username, nil
}

// sameSignal is how long further signals count as the first one: some senders
// signal a process and then its group.
const sameSignal = time.Second

// untilSignal returns a context that ends at the first request to stop. A
// second one, a while later, ends the process in the usual way.
func untilSignal() (context.Context, func()) {
	stops := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		stops = append(stops, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), stops...)
	context.AfterFunc(ctx, func() { time.AfterFunc(sameSignal, stop) })
	return ctx, stop
}
