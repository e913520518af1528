// Package source reads secrets from where an inventory says they are: a file
// or the output of a command. It refuses files that others may have read or
// planted and commands by way of a shell, and its errors hold no secret.
package source

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"runner/engine/secret"
)

// maxSecret bounds what a file holds or a command prints, in bytes.
const maxSecret = 1 << 20

// Spec says where a secret is: exactly one of the two is given.
type Spec struct {
	File    string   // 0600 or stricter, of the caller or root
	Command []string // program and arguments; its standard output is the secret
	Exact   bool     // not a text: a newline at the end belongs to it
}

// Read returns the secret, without one newline at its end unless it is Exact. A command may take
// 30 seconds and has no terminal and no input. Errors say what to do about
// them; they show what a command wrote to standard error, never its output.
func Read(ctx context.Context, spec Spec) (secret.Value, error) {
	var text []byte
	var err error
	var from string
	switch {
	case spec.File != "" && len(spec.Command) > 0:
		return secret.Value{}, errors.New("source: a secret comes from a file or a command, not from both")
	case spec.File != "":
		from = spec.File
		text, err = readFile(spec.File)
	case len(spec.Command) > 0:
		from = "the output of " + spec.Command[0]
		text, err = run(ctx, spec.Command, commandLimit)
	default:
		return secret.Value{}, errors.New("source: it is not said where the secret is: give a file or a command")
	}
	if err != nil {
		return secret.Value{}, err
	}
	s, ok := strings.CutSuffix(string(text), "\r\n")
	if !ok {
		s = strings.TrimSuffix(s, "\n")
	}
	if spec.Exact {
		s = string(text)
	}
	if s == "" {
		return secret.Value{}, fmt.Errorf("source: %s is empty: it has to hold the secret", from)
	}
	return secret.New(s), nil
}
