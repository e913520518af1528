// Package journal owns the log of an execution: what the device and runner
// itself wrote, masked before anything is kept, as append-only chunks addressed
// by offset. It bounds what is kept, reads it back, follows it, and formats it
// for people. It refuses to let output past the mask, to let a failing store
// stop an execution, and to let a device drive the reader's terminal.
package journal

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"runner/engine/grant"
	"runner/engine/secret"
)

// Streams of a log.
const (
	Stdout = "stdout"
	Stderr = "stderr"
	Runner = "runner" // runner's own lines
)

// Chunks keeps the chunks of logs. The stores implement it.
type Chunks interface {
	// AppendLog stores chunks, all or none, and returns soon after ctx ends.
	// Storing the same chunk again changes nothing and is no error.
	AppendLog(ctx context.Context, chunks []grant.Chunk) error
	// ReadLog returns up to maxBytes of an execution's log that come at or
	// after an offset, by offset. None is no error: there is no more, yet.
	ReadLog(ctx context.Context, exec string, from int64, maxBytes int) ([]grant.Chunk, error)
	// DropLog removes the chunks of an execution that lie within from and to.
	// After an error some may be gone; it is called again.
	DropLog(ctx context.Context, exec string, from, to int64) error
}

// maxText bounds one string that is kept, in bytes.
const maxText = 64 << 10

// Redact makes a string fit to be kept: secrets are taken out, control
// characters cleaned, and what is over 64 KiB cut. Step messages, facts and
// errors go through it, by way of Log.Text. A nil mask hides nothing.
func Redact(mask *secret.Mask, s string) string {
	// Twice: cleaning may put together what an escape sequence kept apart.
	s = mask.String(string(Clean([]byte(mask.String(s)), false)))
	if len(s) <= maxText {
		return s
	}
	cut := maxText
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s… (%d bytes more)", s[:cut], len(s)-cut)
}

// lines ends text with exactly one newline.
func lines(text string) string { return strings.TrimRight(text, "\n") + "\n" }
