package source

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unicode"

	"runner/engine/secret"
)

const (
	commandLimit = 30 * time.Second
	// pipeLimit is how long a process that the command left behind may keep
	// its output open before it is killed.
	pipeLimit = 2 * time.Second
	// maxStderr is how many last bytes of standard error are shown. More are
	// kept, so that a secret is known before it is cut.
	maxStderr  = 2 << 10
	keptStderr = 64 << 10
	// maxMasked is how many bytes of output are taken out of standard error;
	// beside more, standard error is not shown.
	maxMasked = 4 << 10
)

// errTooMuch stops a command that prints more than a secret.
var errTooMuch = errors.New("over 1 MiB")

// run returns what a command prints. The command leads a session of its own,
// so that it cannot ask on the terminal and can be killed with its children.
func run(ctx context.Context, argv []string, limit time.Duration) ([]byte, error) {
	timed, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("still running after %s", limit))
	defer cancel()
	cmd := exec.CommandContext(timed, argv[0], argv[1:]...)
	stdout, stderr := &bounded{cancel: cancel}, &tail{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = pipeLimit
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = kill
	err := cmd.Run()
	switch {
	case err == nil:
		return stdout.kept, nil
	case errors.Is(err, exec.ErrWaitDelay):
		_ = kill()
		err = errors.New("a process that it left behind kept its output open")
	case stdout.full:
		err = errTooMuch
	case timed.Err() != nil:
		err = context.Cause(timed)
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("source: command %q is not installed, or not in PATH: %w", argv[0], err)
	}
	return nil, &CommandError{Command: argv[0], Stderr: stderr.clean(string(stdout.kept)), Err: err}
}

// CommandError says why a command gave no secret.
type CommandError struct {
	Command string // the program, without its arguments
	Stderr  string // the end of its standard error, without what it printed
	Err     error
}

// Error holds no output of the command but standard error.
func (e *CommandError) Error() string {
	text := fmt.Sprintf("source: command %q: %v", e.Command, e.Err)
	if e.Stderr != "" {
		return text + ": " + e.Stderr
	}
	return text + "; it wrote nothing to standard error: try it by hand"
}

// Unwrap returns the cause.
func (e *CommandError) Unwrap() error { return e.Err }

// bounded keeps up to maxSecret bytes; more stop the command.
type bounded struct {
	kept   []byte
	full   bool
	cancel context.CancelFunc
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.kept)+len(p) > maxSecret {
		b.full = true
		b.cancel()
		return 0, errTooMuch
	}
	b.kept = append(b.kept, p...)
	return len(p), nil
}

// tail keeps the last bytes written.
type tail struct{ last []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.last = append(t.last, p...)
	if over := len(t.last) - keptStderr; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
	}
	return len(p), nil
}

// clean returns the text on one line, without control characters and without
// what the command printed: that may be the secret, or part of it.
func (t *tail) clean(output string) string {
	if len(output) > maxMasked {
		return "(standard error is not shown: it might repeat the output)"
	}
	text := string(t.last)
	var mask secret.Mask
	for word := range strings.FieldsSeq(output) {
		if mask.Add(secret.New(word)) != nil && len(word) > 2 {
			text = strings.ReplaceAll(text, word, secret.Hidden)
		}
	}
	_ = mask.Add(secret.New(strings.TrimSpace(output))) // too short: done above
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, mask.String(text))
	// Once more: what was apart may have come together.
	text = strings.Join(strings.Fields(mask.String(text)), " ")
	if over := len(text) - maxStderr; over > 0 {
		return "…" + strings.ToValidUTF8(text[over:], "")
	}
	return text
}
