package journal

import (
	"fmt"
	"io"
	"strings"
	"time"

	"runner/engine/grant"
)

// maxLine is how much of a line waits for its end, in bytes.
const maxLine = 64 << 10

// Style says how a log is shown.
type Style struct {
	Color bool  // keep the device's colours
	Times bool  // UTC, to the millisecond, when the line's first part arrived
	Bare  bool  // no step and stream before the lines
	From  int64 // the offset the reader asked for; what is missing after it is reported
}

// Formatter writes a log for people: whole lines, each with its step and
// stream, harmless for a terminal (see Cleaner). Where output was dropped a
// line says how much.
type Formatter struct {
	w     io.Writer
	style Style
	next  int64
	lines map[source]*line
}

// line is the unfinished line of a stream.
type line struct {
	cleaner Cleaner
	text    []byte
	at      time.Time // of its first byte
	sgr     string    // colours that are on at its start
}

// NewFormatter returns a Formatter that writes to w.
func NewFormatter(w io.Writer, style Style) *Formatter {
	return &Formatter{w: w, style: style, next: style.From, lines: map[source]*line{}}
}

// Format writes chunks to w.
func Format(w io.Writer, style Style, chunks ...grant.Chunk) error {
	f := NewFormatter(w, style)
	for _, c := range chunks {
		if err := f.Chunk(c); err != nil {
			return err
		}
	}
	return f.Close()
}

// Chunk writes the lines that the next chunk completes. Its errors are those
// of the writer.
func (f *Formatter) Chunk(c grant.Chunk) error {
	if c.Offset > f.next {
		if err := f.gap(c.Offset - f.next); err != nil {
			return err
		}
	}
	f.next = c.End()
	// Other steps are over, or their unfinished lines are old enough.
	if err := f.finish(func(s source) bool { return s.step != c.Step }); err != nil {
		return err
	}
	from := source{c.Step, c.Stream}
	l := f.lines[from]
	if l == nil {
		l = &line{cleaner: Cleaner{Color: f.style.Color}}
		f.lines[from] = l
	}
	if len(l.text) == 0 {
		l.at = c.At
	}
	return f.add(from, l, l.cleaner.Write(c.Data), c.At)
}

// Close writes the lines that were never ended. It does not close the writer.
func (f *Formatter) Close() error {
	return f.finish(func(source) bool { return true })
}

func (f *Formatter) gap(n int64) error {
	if err := f.Close(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(f.w, "… %d bytes of output are not kept …\n", n)
	return err
}

// finish writes and forgets the unfinished lines of some streams.
func (f *Formatter) finish(which func(source) bool) error {
	var ended []source
	for s := range f.lines {
		if which(s) {
			ended = append(ended, s)
		}
	}
	sortSources(ended)
	for _, s := range ended {
		l := f.lines[s]
		delete(f.lines, s)
		err := f.add(s, l, l.cleaner.Flush(), l.at)
		if err == nil && len(l.text) > 0 {
			err = f.put(s, l)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// add appends clean text to a line and writes the lines that it completes.
func (f *Formatter) add(s source, l *line, text []byte, at time.Time) error {
	for part := range strings.Lines(string(text)) {
		whole := strings.HasSuffix(part, "\n")
		l.text = append(l.text, strings.TrimSuffix(part, "\n")...)
		if !whole && len(l.text) < maxLine {
			continue
		}
		if err := f.put(s, l); err != nil {
			return err
		}
		l.at = at
	}
	return nil
}

// put writes one line.
func (f *Formatter) put(s source, l *line) error {
	var b strings.Builder
	if f.style.Times {
		b.WriteString(l.at.UTC().Format("2006-01-02T15:04:05.000Z "))
	}
	if !f.style.Bare {
		fmt.Fprintf(&b, "%2d %s | ", s.step, label(s.stream))
	}
	b.WriteString(l.sgr)
	b.Write(l.text)
	if l.sgr = after(l.sgr, string(l.text)); l.sgr != "" {
		b.WriteString("\x1b[0m")
	}
	b.WriteByte('\n')
	l.text = l.text[:0]
	_, err := io.WriteString(f.w, b.String())
	return err
}

// label is the short name of a stream.
func label(stream string) string {
	switch stream {
	case Stdout:
		return "out"
	case Stderr:
		return "err"
	case Runner:
		return "---"
	}
	return strings.Join(strings.Fields(string(Clean([]byte(stream), false))), " ")
}

// after returns the colours that are on after a clean text.
func after(sgr, text string) string {
	for {
		_, rest, found := strings.Cut(text, "\x1b[")
		if !found {
			return sgr
		}
		params, tail, _ := strings.Cut(rest, "m")
		switch {
		case params == "" || params == "0":
			sgr = ""
		case len(sgr) > 4*maxCSI:
			sgr = "\x1b[" + params + "m"
		default:
			sgr += "\x1b[" + params + "m"
		}
		text = tail
	}
}
